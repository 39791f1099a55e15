"""What is computed again, and what is not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from clue_cli.records import FailureRecord, ImageRecord, OutputPaths
from clue_cli.results.pictures import PANELS
from clue_cli.results.record_log import RecordLog
from clue_cli.scan import GifFrames, ScanOptions
from tests.clue_cli.results.made import MODEL, OTHER_SHA, SHA, failure, identity, image, open_store, put

Records = list[ImageRecord | FailureRecord]


def first_run(out: Path, records: Records, **options: Any) -> None:
    with open_store(out, **options) as store:
        for record in records:
            if isinstance(record, ImageRecord):
                put(store, record)
            else:
                store.write_failure(record)


def pages(out: Path, sha256: str = SHA, *, retry_failed: bool = False, **options: Any) -> list[int | None] | None:
    """What a second run gets for the locator `x`."""
    with open_store(out, **options) as store:
        found = store.resume(retry_failed=retry_failed).lookup("x", sha256)
        assert store.not_met() == 0 or found is None
    return None if found is None else [record.page for record in found]


@pytest.mark.parametrize(
    ("records", "expected"),
    [
        ([], None),
        ([image("other")], None),
        ([image("x")], [0]),
        ([failure("x")], [None]),
        ([image("x", 1, 2), image("x", 0, 2)], [0, 1]),
        ([image("x", 0, 2)], None),
        ([image("x", 1, 2)], None),
        # One page failed.
        ([image("x", 0, 2), failure("x", page=1)], [0, 1]),
        ([failure("x", page=0, page_count=1)], [0]),
        ([failure("x", page=0, page_count=2)], None),
        ([failure("x", page=0)], None),
        ([image("x", 0, 1), failure("x", page=1, page_count=2)], None),
        # The file failed after some pages: none of them may be missing.
        ([failure("x", other_pages=2), image("x", 0, 9), image("x", 1, 9)], [None, 0, 1]),
        ([failure("x", other_pages=2), image("x", 0, 9)], None),
        ([failure("x", other_pages=2)], None),
        ([failure("x", other_pages=None)], None),
        # Nobody knows which bytes.
        ([failure("x", file=None)], None),
    ],
)
def test_a_file_is_finished_if_all_its_pages_are(
    tmp_path: Path, records: Records, expected: list[int | None] | None
) -> None:
    first_run(tmp_path, records)
    assert pages(tmp_path) == expected


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        ({}, {}, [0]),
        ({}, {"sha256": OTHER_SHA}, None),
        ({}, {"model": "d" * 64}, None),
        ({}, {"threshold": 0.3}, None),
        ({}, {"heatmaps": False}, None),
        ({}, {"previews": False}, None),
        # What cannot change an image's result does not make it outdated.
        ({}, {"max_megapixels": 1.0}, [0]),
        ({}, {"batch": 7, "workers": 3, "device": "cuda:1"}, [0]),
        ({"hidden": True}, {"follow_links": True, "archive_depth": 0}, [0]),
    ],
)
def test_images_depend_on_content_model_and_settings(
    tmp_path: Path, first: dict[str, Any], second: dict[str, Any], expected: list[int] | None
) -> None:
    first_run(tmp_path, [image("x")], **first)
    assert pages(tmp_path, **second) == expected


@pytest.mark.parametrize(
    ("second", "expected"),
    [
        ({}, [None]),
        ({"hidden": True, "follow_links": True}, [None]),
        ({"retry_failed": True}, None),
        ({"sha256": OTHER_SHA}, None),
        ({"max_megapixels": 999.0}, None),
        ({"max_pages": 5}, None),
        ({"threshold": 0.3}, None),
        ({"model": "d" * 64}, None),
    ],
)
def test_failures_depend_on_the_limits_too(
    tmp_path: Path, second: dict[str, Any], expected: list[int | None] | None
) -> None:
    first_run(tmp_path, [failure("x")])
    assert pages(tmp_path, **second) == expected


@pytest.mark.parametrize(
    ("sniffed", "first", "second", "expected"),
    [
        ("gif", GifFrames.FIRST, GifFrames.FIRST, [0]),
        ("gif", GifFrames.FIRST, GifFrames.ALL, None),
        ("gif", GifFrames.ALL, GifFrames.FIRST, None),
        ("webp", GifFrames.FIRST, GifFrames.ALL, None),
        ("png", GifFrames.ALL, GifFrames.FIRST, None),
        ("jpeg", GifFrames.FIRST, GifFrames.ALL, [0]),
    ],
)
def test_which_frames_matters_to_what_can_be_animated(
    tmp_path: Path, sniffed: str, first: GifFrames, second: GifFrames, expected: list[int] | None
) -> None:
    first_run(tmp_path, [image("x", file=identity(sniffed=sniffed))], gif_frames=first)
    assert pages(tmp_path, gif_frames=second) == expected


@pytest.mark.parametrize(
    "name", [name for name in OutputPaths.model_fields if name not in (*PANELS, "embedded_thumbnail")]
)
@pytest.mark.parametrize("how", ["missing", "empty", "a folder"])
def test_pictures_that_are_gone_are_made_again(tmp_path: Path, name: str, how: str) -> None:
    with open_store(tmp_path) as store:
        record = put(store, image("x"), synthetic=True)
    path = tmp_path / getattr(record.outputs, name)
    path.unlink()
    if how == "empty":
        path.touch()
    elif how == "a folder":
        path.mkdir()
    assert pages(tmp_path) is None


def test_of_a_million_pages_no_more_are_in_memory_than_can_be_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first_run(tmp_path, [image("x", number, 30) for number in range(30)])
    read: list[int] = []
    at = RecordLog._at

    def counted(log: RecordLog, start: int, length: int) -> ImageRecord | FailureRecord:
        read.append(start)
        return at(log, start, length)

    monkeypatch.setattr(RecordLog, "_at", counted)
    with open_store(tmp_path) as store:
        resume = store.resume()
        assert resume.lookup("x", OTHER_SHA) is None
        assert resume.holds_other_bytes("x", OTHER_SHA)
        assert len(read) == 2
        store.write_failure(failure("x"))


def test_records_without_previews_need_none(tmp_path: Path) -> None:
    with open_store(tmp_path, heatmaps=False, previews=False) as store:
        store.write_image(image("x"), {"mask": b"PNG"})
    assert pages(tmp_path, heatmaps=False, previews=False) == [0]


def test_another_version_of_clue_computes_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first_run(tmp_path, [image("x")])
    monkeypatch.setattr("clue_cli.scan.__version__", "999")
    assert pages(tmp_path) is None


class TestOptions:
    def test_every_setting_is_told(self) -> None:
        settings = ScanOptions(threshold=0.25, max_pages=7, batch=3).settings()
        assert settings["threshold"] == 0.25
        assert settings["max_pages"] == 7
        assert settings["batch"] == 3
        assert settings["model"] == "mini"

    def test_the_dtype_that_is_used_counts_not_the_one_asked_for(self) -> None:
        auto, asked = ScanOptions(), ScanOptions(dtype="float32")  # type: ignore[arg-type]
        assert auto.stamp(MODEL, "float32").image_digest == asked.stamp(MODEL, "float32").image_digest
        assert auto.stamp(MODEL, "float32").image_digest != auto.stamp(MODEL, "bfloat16").image_digest

    def test_what_no_option_shows_can_be_added(self) -> None:
        options = ScanOptions()
        plain, with_tiles = options.stamp(MODEL, "float32"), options.stamp(MODEL, "float32", {"tile": 512})
        assert plain.image_digest != with_tiles.image_digest
        assert plain.failure_digest != with_tiles.failure_digest
