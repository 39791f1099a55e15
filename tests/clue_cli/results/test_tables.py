"""Parquet: every field of a record comes back, whatever an attacker put into it, and a file is whole or not there."""

from __future__ import annotations

import io
import json
import resource
from collections.abc import Iterator
from datetime import date, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clue_cli import __version__
from clue_cli.records import (
    RECORD,
    SCHEMA_VERSION,
    BoundingBox,
    ExifBrief,
    FailureRecord,
    Finding,
    ImageRecord,
    MatchingPlace,
    NotExamined,
    Origin,
    Question,
    Region,
    Verdict,
)
from clue_cli.results.export.parquet import write, write_partitioned
from clue_cli.results.tables import ADDED, schema
from tests.clue_cli.results.made import SHA, answer, failure, image

pytest.importorskip("pyarrow", reason="the extra tables brings it")
pytest.importorskip("duckdb", reason="the extra tables brings it")
from pyarrow import parquet

RUN = "20260131T235959.123456Z-abcdef"
BOX = BoundingBox(x=1, y=2, width=3, height=4)


def full(locator: str = "case/a.jpg", **changes: Any) -> ImageRecord:
    """A record with something in every field."""
    place = MatchingPlace(box=BOX, likeness=0.5, scale=1.5, turned=-90, mirrored=True)
    region = {"box": BOX, "area": 12, "area_ratio": 0.5, "mean_probability": 0.6, "peak_probability": 0.7}
    data = {"text": 'a"\0é', "number": 2**70, "share": 0.1, "whole": 1.0, "yes": True, "none": None}
    second = answer(
        verdict=Verdict.GENERATED, method="traces", method_digest=SHA, parts={"vae": 0.25, "": 1e-300}, p_value=0.01
    )
    record = image(
        locator,
        verdicts={Question.LOCALIZATION: answer(confidence=0.9), Question.SYNTHETIC: second},
        findings=[Finding(kind="note", source=Origin.FILE, statement="A note.", data=data)],
        not_examined=[NotExamined(rows=[1, 3], box=BOX, reason="cut")],
        regions=[Region(**region, matching_place=place), Region(**region)],
        region_count=2,
        exif=ExifBrief(camera_make="Canon", date_time_original="2024:02:29 12:00:01", gps_present=True),
        decoding=["turned"],
        run_id=RUN,
        settings_digest="d",
    )
    model = record.model.model_copy(update={"seed": 2**64 - 1})
    return record.model_copy(update={"model": model, **changes})


def parquet_of(*records: ImageRecord | FailureRecord) -> parquet.ParquetFile:
    stream = io.BytesIO()
    write(stream, records)
    return parquet.ParquetFile(io.BytesIO(stream.getvalue()))


def back(row: dict[str, Any]) -> ImageRecord | FailureRecord:
    """The record of a row, from what is in the file alone."""
    model = ImageRecord if row["kind"] == "image" else FailureRecord
    document = {name: row[name] for name in model.model_fields}
    if model is ImageRecord:
        document["verdicts"] = {name: one for name, one in document["verdicts"].items() if one is not None}
        for one in document["verdicts"].values():
            one["parts"] = dict(one["parts"])
        for finding in document["findings"]:
            finding["data"] = json.loads(finding["data"])
    return RECORD.validate_python(document)


RECORDS = [
    full(),
    image("b", page=2**31, page_count=2**31 + 1),
    image("c", verdict=Verdict.NO_EVIDENCE, score=0.1),
    failure("d", page=None, advice="Ask.", run_id=RUN),
    failure("e", page=3, page_count=4, other_pages=None, file=None),
    image("nul\0 \U0001f600 ‮ 'quoted'\n;--"),
]


def test_every_field_comes_back() -> None:
    records = [back(row) for row in parquet_of(*RECORDS).read().to_pylist()]
    assert records == RECORDS
    assert [record.model_dump_json() for record in records] == [record.model_dump_json() for record in RECORDS]


TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
SHARE, WHOLE = st.floats(0, 1), st.integers(1, 2**63 - 1)
VALUE = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXT
FINDING = st.builds(
    Finding,
    kind=st.from_regex("[a-z0-9_]{1,60}", fullmatch=True),
    source=st.sampled_from(Origin),
    statement=TEXT,
    data=st.dictionaries(TEXT, VALUE, max_size=4),
)
REGION = st.builds(
    Region,
    box=st.builds(BoundingBox, x=WHOLE, y=WHOLE, width=WHOLE, height=WHOLE),
    area=WHOLE,
    area_ratio=SHARE,
    mean_probability=SHARE,
    peak_probability=SHARE,
    matching_place=st.none(),
)
IMAGE = st.builds(
    full,
    locator=TEXT,
    width=WHOLE,
    forged_area_ratio=SHARE,
    regions=st.lists(REGION, max_size=3),
    findings=st.lists(FINDING, max_size=3),
    decoding=st.lists(TEXT, max_size=2),
    exif=st.builds(ExifBrief, camera_make=st.none() | TEXT, date_time_original=st.none() | TEXT),
    run_id=TEXT,
)
FAILURE = st.builds(failure, locator=TEXT, page=st.none() | st.integers(0, 2**31), message=TEXT, run_id=TEXT)


@settings(max_examples=40, deadline=None)
@given(st.lists(IMAGE | FAILURE, max_size=4))
def test_any_record_comes_back(records: list[ImageRecord | FailureRecord]) -> None:
    found = [back(row) for row in parquet_of(*records).read().to_pylist()]
    assert [record.model_dump_json() for record in found] == [record.model_dump_json() for record in records]


def test_columns_have_types_and_those_that_are_computed_agree() -> None:
    table = parquet_of(*RECORDS).read()
    assert table.schema.equals(schema())
    types = {name: str(schema().field(name).type) for name in schema().names}
    assert types["score"] == "double" and types["page"] == "int64" and types["day"] == "date32[day]"
    assert types["date_time_original"] == "timestamp[ms]" and types["regions"].startswith(
        "list<item: struct<box: struct"
    )
    first, failed = table.to_pylist()[0], table.to_pylist()[3]
    assert (first["verdict"], first["score"], first["confidence"]) == ("forged", 0.75, 0.9)
    assert {name: first[name] for name in ADDED} == {
        "synthetic_verdict": "generated",
        "synthetic_score": 0.75,
        "synthetic_confidence": None,
        "date_time_original": datetime(2024, 2, 29, 12, 0, 1),
        "run_started": datetime(2026, 1, 31, 23, 59, 59, 123456),
        "day": date(2026, 1, 31),
    }
    assert (failed["kind"], failed["verdict"], failed["code"], failed["day"]) == (
        "failure", None, "corrupt_image", date(2026, 1, 31),
    )  # fmt: skip


def test_the_metadata_name_schema_version_and_runs() -> None:
    file = parquet_of(*RECORDS)
    found = file.metadata.metadata
    assert found[b"clue.schema_version"].decode() == SCHEMA_VERSION
    assert found[b"clue.version"].decode() == __version__
    assert json.loads(found[b"clue.run_ids"]) == [RUN]
    group = file.metadata.row_group(0)
    assert {group.column(number).compression for number in range(group.num_columns)} == {"ZSTD"}


def test_a_string_of_10_mb() -> None:
    record = image("big", reason="x" * 10_000_000)
    (row,) = parquet_of(record).read().to_pylist()
    assert back(row) == record


def test_the_record_is_named_with_a_number_that_no_column_holds() -> None:
    with pytest.raises(ValueError, match="that of b/1 has a value that no column holds"):
        parquet_of(image("a"), image("b/1", region_count=2**80), image("c"))


def test_partitions_hold_all_rows_and_read_as_one_table(tmp_path: Path) -> None:
    write_partitioned(tmp_path, RECORDS)
    names = {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*.parquet")}
    null = "__HIVE_DEFAULT_PARTITION__"
    assert names == {
        "verdict=forged/day=2026-01-31/part-0001.parquet",
        f"verdict=forged/day={null}/part-0001.parquet",
        f"verdict=no_evidence/day={null}/part-0001.parquet",
        f"verdict={null}/day=2026-01-31/part-0001.parquet",
        f"verdict={null}/day={null}/part-0001.parquet",
    }
    table = parquet.read_table(tmp_path)
    assert set(table.column_names) == set(schema().names)
    rows = sorted(table.to_pylist(), key=lambda row: str(row["locator"]))
    assert [back(row) for row in rows] == sorted(RECORDS, key=lambda record: record.locator)
    assert [row["verdict"] for row in rows if row["kind"] == "failure"] == [None, None]


def test_more_partitions_than_files_may_be_open(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("clue_cli.results.export.parquet._OPEN", 2)
    days = [f"202601{day:02}T000000.000000Z-a" for day in (1, 2, 3, 1, 2)]
    records = [image(str(number), run_id=run_id) for number, run_id in enumerate(days)]
    write_partitioned(tmp_path, records)
    assert len(list(tmp_path.rglob("part-0002.parquet"))) == 2
    assert sorted(parquet.read_table(tmp_path)["locator"].to_pylist()) == list("01234")


@pytest.mark.slow
def test_20_000_records_in_flat_memory_and_several_row_groups(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("clue_cli.results.export.parquet._ROWS", 4000)
    template = full()

    def many() -> Iterator[ImageRecord]:
        for number in range(20_000):
            yield template.model_copy(update={"locator": f"case/{number:06}.jpg"})
            peaks.append(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)

    peaks: list[int] = []
    with (tmp_path / "x").open("wb") as stream:
        write(stream, many())
    found = parquet.ParquetFile(tmp_path / "x").metadata
    assert (found.num_rows, found.num_row_groups) == (20_000, 5)
    assert (peaks[-1] - peaks[8000]) / 1024 < 50  # MiB; from the second row group on
