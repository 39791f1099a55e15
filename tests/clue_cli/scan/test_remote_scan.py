"""A scan of a bucket writes what a scan of the same folder writes, resumes, and shows no credentials."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from clue_cli.errors import UsageError
from clue_cli.records import RECORD, FailureRecord, RunRecord
from clue_cli.remote import RemoteError, parse
from clue_cli.scan import ScanOptions, pipeline
from model.reporter import SILENT
from tests.faults.pictures import jpeg
from tests.object_store import ACCESS_KEY, SECRET_KEY, ObjectStore

PLACES = {"locator", "outputs", "seconds", "run_id"}
"""Fields of a record that say where and when."""


def scanned(paths: list[Any], out: Path, model: Path, **options: Any) -> RunRecord:
    return pipeline.scan(paths, out, ScanOptions(model=str(model), device="cpu", **options), SILENT)


def lines(out: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (out / "records.jsonl").read_text().splitlines()]


def test_a_bucket_and_a_folder_give_the_same_records_and_masks(
    object_store: ObjectStore, sample_case: Path, model: Path, tmp_path: Path
) -> None:
    case, urls, files = tmp_path / "case", tmp_path / "urls", tmp_path / "files"
    for name in ("DCIM", "damaged", "documents", "odd names"):
        shutil.copytree(sample_case / name, case / name)
    shutil.copy(sample_case / "export.zip", case)
    object_store.bucket("case")
    object_store.upload(case, "case", "2026/case/")
    run = scanned([parse("s3://case/2026/case")], urls, model, previews=False)
    local = scanned([case], files, model, previews=False)
    assert run.counts == local.counts and run.counts.images > 10
    assert (run.evidence_unchanged, local.evidence_unchanged) == (None, True)
    assert any("read once" in warning for warning in run.warnings)
    assert list(run.archives.values()) == list(local.archives.values())
    remote_records = {(r["locator"].removeprefix("s3://case/2026/"), r["page"]): r for r in lines(urls)}
    local_records = {(r["locator"], r["page"]): r for r in lines(files)}
    assert remote_records.keys() == local_records.keys()
    for key, record in remote_records.items():
        other = local_records[key]
        for one in (record, other):
            (one["file"] or {}).pop("modified", None)  # which a store does not say
        assert {k: v for k, v in record.items() if k not in PLACES} == {
            k: v for k, v in other.items() if k not in PLACES
        }
        for kind, path in (record.get("outputs") or {}).items():  # the verdict file is the record once more
            assert kind == "verdict" or (path and (urls / path).read_bytes()) == (
                path and (files / other["outputs"][kind]).read_bytes()
            )

    again = scanned([parse("s3://case/2026/case")], urls, model, previews=False)
    assert again.counts.resumed == run.counts.images + run.counts.failures
    for path in urls.rglob("*"):
        if path.is_file():
            content = path.read_bytes()
            assert ACCESS_KEY.encode() not in content and SECRET_KEY.encode() not in content


def test_a_store_that_is_lost_ends_the_run_which_resumes(
    object_store: ObjectStore, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    object_store.bucket("case")
    for number in range(6):
        object_store.put("case", f"{number}.jpg", jpeg(32, 24, quality=70 + number))
    object_store.front.rule = lambda method, path, query: (400, "ExpiredToken") if path == "/case/3.jpg" else None
    with pytest.raises(RemoteError, match="the credentials have expired"):
        scanned([parse("s3://case")], tmp_path / "out", model)
    run = json.loads((tmp_path / "out" / "run.json").read_text())
    assert run["status"] == "failed" and run["exit_code"] == RemoteError.exit_code
    object_store.front.rule = None
    assert scanned([parse("s3://case")], tmp_path / "out", model).counts.images == 6
    latest = {record["locator"]: RECORD.validate_python(record) for record in lines(tmp_path / "out")}
    assert len(latest) == 6 and not any(isinstance(record, FailureRecord) for record in latest.values())


def test_urls_in_a_list_and_one_that_is_gone(object_store: ObjectStore, model: Path, tmp_path: Path) -> None:
    from clue_cli.commands.options import listed_paths

    object_store.bucket("case")
    object_store.put("case", "a b.jpg", jpeg(32, 24))
    (tmp_path / "here.jpg").write_bytes(jpeg(32, 24))
    listing = tmp_path / "list"
    listing.write_text(f"s3://case/a b.jpg\n{tmp_path / 'here.jpg'}\n's3://case/gone.jpg'\n")
    run = scanned([], tmp_path / "out", model, listed=tuple(listed_paths(listing)))
    assert (run.counts.images, run.counts.failures) == (2, 1)
    failed = next(record for record in lines(tmp_path / "out") if record["kind"] == "failure")
    assert (failed["locator"], failed["message"]) == ("s3://case/gone.jpg", "It does not exist.")
    listing.write_bytes(b"s3://case/a\0s3://me:hidden@case/b\0")
    with pytest.raises(UsageError, match="has a user or a password") as caught:
        listed_paths(listing)
    assert "hidden" not in str(caught.value)
