"""From an item to its bytes: what is a picture, what is none, and what cannot be read."""

from __future__ import annotations

import hashlib
import io
import os
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO, cast

import pytest

from clue_cli.evidence import reader
from clue_cli.evidence.item import Item, NotAPicture, Unreadable
from clue_cli.evidence.reader import identify, read_item, sha256_file, type_finding
from clue_cli.evidence.streams import ReadFailure
from clue_cli.evidence.walk import open_file
from clue_cli.records import FailureCode, Step
from tests.faults import broken_pictures, pictures

PHOTO = pictures.jpeg()


def item_of(data: bytes, name: str, size: int | None = None) -> Item:
    """An archive member."""
    return Item(name, size, None, lambda: io.BytesIO(data))


def file_item(path: Path, opener: Callable[[], BinaryIO] | None = None) -> Item:
    return Item(path.name, path.stat().st_size, path, opener or (lambda: open_file(path)))


def failed(item: Item, max_file_mib: float = 2048) -> Unreadable:
    failure = read_item(item, max_file_mib)
    assert isinstance(failure, Unreadable)
    assert failure.locator == item.locator
    return failure


@pytest.mark.parametrize(("name", "data"), pictures.one_of_each().items(), ids=list(pictures.one_of_each()))
def test_a_picture_is_read_and_identified(tmp_path: Path, name: str, data: bytes) -> None:
    path = tmp_path / "picture.dat"
    path.write_bytes(data)
    content = read_item(file_item(path))
    assert isinstance(content, tuple)
    assert content[0] == data
    identity = content[1]
    assert identity.sha256 == hashlib.sha256(data).hexdigest() == sha256_file(path)
    assert (identity.byte_size, identity.sniffed_type, identity.claimed_type) == (len(data), name, None)


@pytest.mark.parametrize(
    ("name", "data", "extension", "holder"),
    [
        ("notes.txt", b"text", "txt", None),
        ("README", b"text", "", None),
        ("film.MP4", b"\0\0\0\x18ftypisom", "mp4", "video"),
        ("empty.txt", b"", "txt", None),
        ("drawing.svg", b"<svg/>", "svg", None),
        ("paper.pdf", b"%PDF-1.7", "pdf", "PDF"),
    ],
)
def test_what_is_no_picture_is_counted_by_extension(name: str, data: bytes, extension: str, holder: str | None) -> None:
    assert read_item(item_of(data, name)) == NotAPicture(name, extension, holder)


def test_a_read_that_would_block_is_a_failure() -> None:
    class Blocked(io.BytesIO):
        def read(self, size: int | None = -1, /) -> bytes:
            return super().read(4096) or None  # type: ignore[return-value]

    item = Item("a.jpg", None, None, lambda: Blocked(pictures.jpeg(600, 400, quality=100)))
    found = read_item(item)
    assert isinstance(found, Unreadable)
    assert (found.code, found.message) == (
        FailureCode.UNREADABLE,
        "Reading it would block: it has no bytes to give now.",
    )


def test_what_is_no_picture_is_not_read_beyond_its_head() -> None:
    stream = io.BytesIO(bytes(1 << 20))
    read_item(Item("film.mp4", None, None, lambda: cast(BinaryIO, Unclosed(stream))))
    assert stream.tell() <= 4096


class Unclosed(io.BufferedReader):
    """Lets the test look at the stream below."""

    def __init__(self, stream: io.BytesIO) -> None:
        self.stream = stream
        super().__init__(cast(io.RawIOBase, stream))

    def read(self, size: int | None = -1, /) -> bytes:
        return self.stream.read(-1 if size is None else size)

    def close(self) -> None:
        return None


@pytest.mark.parametrize(
    ("name", "data", "code", "word"),
    [
        ("a.jpg", broken_pictures.text_named_jpg(), FailureCode.NOT_AN_IMAGE, "text"),
        ("a.png", b"\0\1\2", FailureCode.NOT_AN_IMAGE, "unknown"),
        ("a.jpg", b"", FailureCode.EMPTY_FILE, "empty"),
        ("a.xcf", b"gimp xcf v011\0", FailureCode.UNSUPPORTED_FORMAT, "xcf"),
        ("a.jpg", b"\x76\x2f\x31\x01\2\0", FailureCode.UNSUPPORTED_FORMAT, "exr"),
        ("a.dat", b"II\xbc\x01\x08\0", FailureCode.UNSUPPORTED_FORMAT, "jxr"),
        ("a.psd", b"text", FailureCode.NOT_AN_IMAGE, "text"),
        ("a.tga", b"\xff\xfe\xfd binary, and no picture", FailureCode.NOT_AN_IMAGE, "unknown"),
    ],
)
def test_what_claims_or_is_a_picture_and_cannot_be_decoded_is_told(
    name: str, data: bytes, code: FailureCode, word: str
) -> None:
    failure = failed(item_of(data, name))
    assert (failure.code, failure.step) == (code, Step.READ)
    assert word in failure.message
    assert failure.file is not None
    assert failure.file.sha256 == hashlib.sha256(data).hexdigest()
    assert (failure.advice is not None) == (code is FailureCode.UNSUPPORTED_FORMAT)


@pytest.mark.parametrize("size", [None, len(PHOTO)])
def test_a_file_above_the_limit_names_the_option(size: int | None) -> None:
    limit = (len(PHOTO) - 1) / (1 << 20)
    failure = failed(item_of(PHOTO, "a.jpg", size), limit)
    assert failure.code is FailureCode.FILE_TOO_LARGE
    assert "--max-file-mib" in str(failure.advice)
    assert isinstance(read_item(item_of(PHOTO, "a.jpg", size), len(PHOTO) / (1 << 20)), tuple)


def test_a_file_that_changes_while_it_is_read_is_told(tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    path.write_bytes(PHOTO)

    class Growing(io.FileIO):
        def read(self, size: int | None = -1, /) -> bytes:  # type: ignore[override]
            os.utime(path, ns=(0, os.stat(path).st_mtime_ns + 1000))  # noqa: PTH116
            return super().read(-1 if size is None else size) or b""

    failure = failed(file_item(path, lambda: cast(BinaryIO, Growing(path))))
    assert failure.code is FailureCode.CHANGED_DURING_SCAN


def _raise(error: Exception) -> BinaryIO:
    raise error


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (FileNotFoundError(2, "No such file or directory"), FailureCode.UNREADABLE),
        (PermissionError(13, "Permission denied"), FailureCode.UNREADABLE),
        (ReadFailure(FailureCode.ARCHIVE_CORRUPT, "damaged"), FailureCode.ARCHIVE_CORRUPT),
        (MemoryError(), FailureCode.OUT_OF_MEMORY),
    ],
)
def test_what_cannot_be_opened_is_told(tmp_path: Path, error: Exception, code: FailureCode) -> None:
    path = tmp_path / "a.jpg"
    path.write_bytes(PHOTO)
    on_disk = failed(file_item(path, lambda: _raise(error)))
    assert (on_disk.code, on_disk.step) == (code, Step.READ)
    member = failed(Item("z!/a.jpg", None, None, lambda: _raise(error)))
    assert member.step is Step.ARCHIVE


def test_a_large_file_is_read_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reader, "_CHUNK", 7)
    content = read_item(item_of(PHOTO * 9, "a.jpg"))
    assert isinstance(content, tuple)
    assert content[0] == PHOTO * 9


def test_a_stream_is_identified_like_its_bytes() -> None:
    assert identify(io.BytesIO(PHOTO), "a.png") == identify(PHOTO, "a.png")


@pytest.mark.parametrize(
    ("name", "finding"),
    [("a.jpg", None), ("a", None), ("a.png", "The name says png, the content is jpeg.")],
)
def test_a_lying_extension_is_a_finding(name: str, finding: str | None) -> None:
    found = type_finding(identify(PHOTO, name))
    assert (found and found.statement) == finding


def test_hashing_what_is_no_file_any_more_is_an_os_error(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.jpg")
    with pytest.raises(OSError, match="no longer is"):
        sha256_file(tmp_path / "a.jpg")
    with pytest.raises(FileNotFoundError):
        sha256_file(tmp_path / "gone.jpg")
