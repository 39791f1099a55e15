"""Videos as containers of keyframes."""

from __future__ import annotations

import io
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from clue_cli.evidence.item import VIDEO_FRAME, Item, NotAPicture, Unreadable
from clue_cli.evidence.reader import read_item
from clue_cli.evidence.streams import ArchiveLimits
from clue_cli.evidence.walk import WalkOptions, walk
from clue_cli.records import ImageRecord
from clue_cli.results.reader import ResultsReader
from clue_cli.scan import ScanOptions, pipeline
from model.reporter import SILENT
from tests.faults import archives


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """Five seconds of 25 frames each, with a keyframe at every 0.48 s, brighter with time."""
    cv2 = pytest.importorskip("cv2")
    path = tmp_path_factory.mktemp("video") / "made.mp4"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"mp4v"), 25, (320, 240))
    noise = np.random.default_rng(0).integers(0, 40, (240, 320, 3))
    for frame in range(125):
        writer.write((noise + frame).astype(np.uint8))
    writer.release()
    return path.read_bytes()


def events(folder: Path, step: float | None = 2.0) -> dict[str, Item | Unreadable]:
    options = WalkOptions(limits=ArchiveLimits(video_step=step))
    found: dict[str, Item | Unreadable] = {}
    for event in walk([folder], options):
        if isinstance(event, Item):
            content = read_item(event)
            if isinstance(content, tuple):
                with Image.open(io.BytesIO(content[0])) as image:
                    assert image.size == (320, 240)
            found[event.locator] = event
        elif isinstance(event, Unreadable):
            found[event.locator] = event
    return found


def test_keyframes_at_every_step_are_pages(clip: bytes, tmp_path: Path) -> None:
    (tmp_path / "clip.mp4").write_bytes(clip)
    (tmp_path / "in.zip").write_bytes(archives.zip_of({"a/clip.mov": clip}))
    found = events(tmp_path)
    times = ["t=0.00s", "t=2.40s", "t=4.32s"]
    root = tmp_path.name
    assert list(found) == [f"{root}/{name}!/{time}" for name in ("clip.mp4", "in.zip!/a/clip.mov") for time in times]
    assert all(isinstance(item, Item) and item.findings[-1].kind == VIDEO_FRAME for item in found.values())


def test_without_the_option_a_video_is_counted(clip: bytes, tmp_path: Path) -> None:
    (tmp_path / "clip.mp4").write_bytes(clip)
    (item,) = events(tmp_path, None).values()
    assert isinstance(item, Item)
    read = read_item(item)
    assert isinstance(read, NotAPicture)
    assert read.holder == "video"


@pytest.mark.parametrize("share", [0.1, 0.3, 0.5, 0.7, 0.9, 0.99])
def test_a_cut_video_costs_a_failure_at_most(clip: bytes, tmp_path: Path, share: float) -> None:
    (tmp_path / "cut.mp4").write_bytes(clip[: int(len(clip) * share)])
    failures = [event for event in events(tmp_path).values() if isinstance(event, Unreadable)]
    assert failures
    assert all(failure.code in ("unsupported_format", "corrupt_image") for failure in failures)


def test_a_playlist_is_not_followed(clip: bytes, tmp_path: Path) -> None:
    (tmp_path.parent / "secret.mp4").write_bytes(clip)
    lines = f"#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:5,\nfile://{tmp_path.parent}/secret.mp4\n#EXT-X-ENDLIST\n"
    (tmp_path / "list.mp4").write_text(lines)
    (tmp_path / "box.mp4").write_bytes(b"\0\0\0\x08free" + lines.encode())
    found = events(tmp_path)
    assert not any("!/" in locator for locator in found)


def test_without_the_extra_it_is_named(clip: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from clue_cli.evidence.containers import Archive, video
    from clue_cli.evidence.streams import Budget, HeadedStream, ReadFailure

    monkeypatch.setitem(sys.modules, "cv2", None)
    archive = Archive("video", "clip.mp4", HeadedStream(io.BytesIO(clip)), io.BytesIO(clip))
    with pytest.raises(ReadFailure, match="extra `video`"):
        next(video.members(archive, Budget(ArchiveLimits(video_step=1.0))))


def test_no_verdict_of_a_frame_is_more_than_inconclusive(clip: bytes, model: Path, tmp_path: Path) -> None:
    (tmp_path / "evidence").mkdir()
    (tmp_path / "evidence" / "clip.mp4").write_bytes(clip)
    options = ScanOptions(model=str(model), device="cpu", video=2.0, previews=False)
    run = pipeline.scan([tmp_path / "evidence"], tmp_path / "out", options, SILENT)
    assert run.counts.images == 3
    with ResultsReader(tmp_path / "out") as reader:
        records = [record for record in reader.records() if isinstance(record, ImageRecord)]
    assert {record.verdict for record in records} == {"inconclusive"}
    assert all("video" in record.reason for record in records)


def test_a_long_video_in_a_7z_is_read_to_its_end(tmp_path: Path) -> None:
    pytest.importorskip("py7zr")
    cv2 = pytest.importorskip("cv2")
    path = tmp_path / "made.mp4"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"mp4v"), 25, (320, 240))
    noise = np.random.default_rng(0).integers(0, 256, (60, 240, 320, 3), dtype=np.uint8)
    for frame in noise:
        writer.write(frame)
    writer.release()
    assert path.stat().st_size > 1 << 20  # what py7zr writes at once
    path.with_suffix(".7z").write_bytes(archives.seven_zip_of({"clip.mp4": path.read_bytes()}))
    path.unlink()
    assert next(iter(events(tmp_path))) == f"{tmp_path.name}/made.7z!/clip.mp4!/t=0.00s"
