"""Archives in processes of their own: what goes wrong there costs what is left of one archive, and nothing else."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from clue_cli.evidence.item import ArchiveOpened
from clue_cli.evidence.sandbox.archives import ArchiveReader
from clue_cli.evidence.streams import ArchiveLimits
from clue_cli.evidence.walk import walk
from clue_cli.records import FailureCode
from tests.clue_cli.evidence.collect import Found, collect
from tests.faults import archives, pictures

PHOTO = pictures.jpeg()
CRASHED, TIMEOUT = FailureCode.DECODER_CRASHED, FailureCode.DECODER_TIMEOUT


@pytest.fixture(scope="module")
def bad_reader() -> Iterator[ArchiveReader]:
    with ArchiveReader("tests.faults.crashing_container") as reader:
        yield reader


def scan(folder: Path, reader: ArchiveReader) -> Found:
    (folder / "after.zip").write_bytes(archives.zip_of({"sound.jpg": PHOTO}))
    found = collect(folder, limits=ArchiveLimits(seconds=2), reader=reader)
    name = folder.name
    assert found.pictures.pop(f"{name}/after.zip!/sound.jpg") == PHOTO
    return found


@pytest.mark.parametrize(
    ("what", "code", "word"),
    [
        ("abort", CRASHED, "crashed (signal SIGABRT)"),
        ("hang", TIMEOUT, "took longer than 2 seconds and was stopped"),
        ("circle", TIMEOUT, "went round in circles and was stopped"),
    ],
)
@pytest.mark.parametrize("inside", [False, True])
def test_a_container_that_misbehaves_costs_what_is_left_of_its_archive(
    bad_reader: ArchiveReader, tmp_path: Path, what: str, code: FailureCode, word: str, inside: bool
) -> None:
    bad = f"{what} inside.jpg" if inside else f"{what}.jpg"
    (tmp_path / "a.zip").write_bytes(archives.zip_of({"first.jpg": PHOTO, bad: PHOTO, "lost.jpg": PHOTO}))
    found = scan(tmp_path, bad_reader)
    archive = f"{tmp_path.name}/a.zip"
    assert found.pictures == {f"{archive}!/first.jpg": PHOTO}
    assert found.failures == {archive: code, **({f"{archive}!/{bad}": code} if inside else {})}
    count = 2 if inside else 1
    assert found.messages[archive] == (
        f"The archive's reader {word} after {count} members; the rest of the archive was not read."
    )
    if inside:
        assert found.messages[f"{archive}!/{bad}"] == f"The archive's reader {word}."


@pytest.mark.parametrize("outer", [archives.zip_of, archives.tar_of, archives.seven_zip_of])
def test_an_archive_in_another_one_does_not_take_it_along(
    bad_reader: ArchiveReader, tmp_path: Path, outer: object
) -> None:
    inner = archives.zip_of({"abort.jpg": PHOTO})
    (tmp_path / "a.bin").write_bytes(outer({"in.zip": inner, "z.jpg": PHOTO}))  # type: ignore[operator]
    found = scan(tmp_path, bad_reader)
    archive = f"{tmp_path.name}/a.bin"
    assert found.failures == {f"{archive}!/in.zip": CRASHED}
    assert found.pictures == {f"{archive}!/z.jpg": PHOTO}


def test_a_reader_that_makes_bytes_up_is_stopped(bad_reader: ArchiveReader, tmp_path: Path) -> None:
    (tmp_path / "a.zip").write_bytes(archives.zip_of({"lie inside.zip": bytes(100), "z.jpg": PHOTO}))
    found = scan(tmp_path, bad_reader)
    assert set(found.failures.values()) == {CRASHED}
    assert all("sent nonsense" in message for message in found.messages.values())


def test_what_a_walk_leaves_unread_ends_with_it(tmp_path: Path) -> None:
    before = len(psutil.Process().children())
    path = tmp_path / "a.zip"
    path.write_bytes(archives.zip_of({"a.jpg": PHOTO, "b.jpg": PHOTO}))
    events = walk([path])
    assert isinstance(next(events), ArchiveOpened)
    next(events)
    assert len(psutil.Process().children()) == before + 1
    events.close()  # type: ignore[attr-defined]
    assert len(psutil.Process().children()) == before


def test_a_closed_reader_reads_nothing(tmp_path: Path) -> None:
    path = tmp_path / "a.zip"
    path.write_bytes(archives.zip_of({"a.jpg": PHOTO}))
    with ArchiveReader() as reader:
        reader.close()
        found = collect(path, reader=reader)
    assert found.failures == {"a.zip": CRASHED}
    assert "was closed" in found.messages["a.zip"]


def test_a_full_temporary_folder_costs_one_member(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.zip"
    path.write_bytes(archives.zip_of({"in.zip": archives.zip_of({"a.jpg": PHOTO}), "z.jpg": PHOTO}))

    def full(**_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(tempfile, "SpooledTemporaryFile", full)
    found = collect(path)
    assert found.failures == {"a.zip!/in.zip": FailureCode.UNREADABLE}
    assert found.pictures == {"a.zip!/z.jpg": PHOTO}
