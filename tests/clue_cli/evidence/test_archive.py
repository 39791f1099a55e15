"""Archives: every kind, nested, damaged, encrypted, exploding; nothing lost and nothing left behind."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import os
import re
import shutil
import struct
import subprocess
import sys
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from clue_cli.evidence import streams
from clue_cli.evidence.containers import Archive, compressed, members, zip
from clue_cli.evidence.item import Item, Unreadable
from clue_cli.evidence.locator import unescape_name
from clue_cli.evidence.streams import ArchiveLimits, Budget, HeadedStream, ReadFailure, failure_from, spool
from clue_cli.evidence.walk import walk
from clue_cli.records import FailureCode
from tests.clue_cli.evidence.collect import Found, collect
from tests.faults import archives, broken_pictures, pictures

PHOTO = pictures.jpeg()
OTHER = pictures.jpeg(40)
MEMBERS = {"a/1.jpg": PHOTO, "b.txt": b"a note\n", "c.jpg": OTHER}


def scan(tmp_path: Path, data: bytes, name: str = "case.bin", **options: object) -> Found:
    path = tmp_path / name
    path.write_bytes(data)
    return collect(path, **options)  # type: ignore[arg-type]


def read_here(data: bytes, type_name: str) -> list[bytes]:
    """The members of an archive, read in this process, which a test can change."""
    stream = HeadedStream(io.BytesIO(data))
    archive = Archive(type_name, "case.bin", stream, io.BytesIO(data))
    return [member.open().read() for member in members(archive, Budget(ArchiveLimits()))]


def zstd_tar() -> bytes:
    zstd = pytest.importorskip("compression.zstd" if sys.version_info >= (3, 14) else "backports.zstd")
    return bytes(zstd.compress(archives.tar_of(MEMBERS)))


KINDS: dict[str, Callable[[], bytes]] = {
    "zip": lambda: archives.zip_of(MEMBERS),
    "zip-stored": lambda: archives.zip_of(MEMBERS, zipfile.ZIP_STORED),
    "zip-bzip2": lambda: archives.zip_of(MEMBERS, zipfile.ZIP_BZIP2),
    "zip-lzma": lambda: archives.zip_of(MEMBERS, zipfile.ZIP_LZMA),
    "tar": lambda: archives.tar_of(MEMBERS),
    "tar.gz": lambda: archives.tar_of(MEMBERS, "w:gz"),
    "tar.bz2": lambda: archives.tar_of(MEMBERS, "w:bz2"),
    "tar.xz": lambda: archives.tar_of(MEMBERS, "w:xz"),
    "tar.zst": zstd_tar,
    "7z": lambda: archives.seven_zip_of(MEMBERS),
}


@pytest.mark.parametrize("make", KINDS.values(), ids=KINDS)
def test_every_kind_of_archive_is_read_whatever_its_name(tmp_path: Path, make: Callable[[], bytes]) -> None:
    found = scan(tmp_path, make())
    assert found.pictures == {"case.bin!/a/1.jpg": PHOTO, "case.bin!/c.jpg": OTHER}
    assert found.others == ["case.bin!/b.txt"]
    assert found.archives == ["case.bin"]
    assert found.failures == {}


@pytest.mark.parametrize("make", KINDS.values(), ids=KINDS)
@pytest.mark.parametrize("outer", ["zip", "tar.gz", "7z"])
def test_every_kind_of_archive_is_read_inside_another(
    tmp_path: Path, outer: str, make: Callable[[], bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streams, "SPOOL_IN_MEMORY", 64)  # so that the copies go through a file
    wrap = {
        "zip": archives.zip_of,
        "tar.gz": lambda members: archives.tar_of(members, "w:gz"),
        "7z": archives.seven_zip_of,
    }[outer]
    found = scan(tmp_path, wrap({"in.bin": make(), "z.jpg": PHOTO}))
    assert found.pictures == {
        "case.bin!/in.bin!/a/1.jpg": PHOTO,
        "case.bin!/in.bin!/c.jpg": OTHER,
        "case.bin!/z.jpg": PHOTO,
    }
    assert found.archives == ["case.bin", "case.bin!/in.bin"]


@pytest.mark.parametrize(
    ("name", "data", "member"),
    [
        ("photo.jpg.gz", gzip.compress(PHOTO), "photo.jpg"),
        ("photo.jpg.bz2", bz2.compress(PHOTO), "photo.jpg"),
        ("photo.jpg.xz", lzma.compress(PHOTO), "photo.jpg"),
        ("photo", gzip.compress(PHOTO), "photo"),
        ("two.gz", gzip.compress(PHOTO[:99]) + gzip.compress(PHOTO[99:]), "two"),
        ("padded.gz", gzip.compress(PHOTO) + bytes(512), "padded"),
        ("pieces.xz", lzma.compress(PHOTO[:99]) + bytes(8) + lzma.compress(PHOTO[99:]), "pieces"),
    ],
)
def test_a_single_compressed_picture_is_an_archive_of_one(tmp_path: Path, name: str, data: bytes, member: str) -> None:
    assert scan(tmp_path, data, name).pictures == {f"{name}!/{member}": PHOTO}


def test_a_document_is_an_archive_of_its_pictures(tmp_path: Path) -> None:
    document = archives.zip_of({"[Content_Types].xml": b"<x/>", "word/media/image1.png": PHOTO})
    found = scan(tmp_path, document, "report.docx")
    assert list(found.pictures) == ["report.docx!/word/media/image1.png"]


@pytest.mark.parametrize(("depth", "readable"), [(0, 0), (1, 1), (2, 2), (3, 3), (4, 3)])
def test_archives_are_opened_to_the_stated_depth(tmp_path: Path, depth: int, readable: int) -> None:
    found = scan(tmp_path, archives.nested(3, PHOTO), depth=depth)
    assert len(found.archives) == readable
    if depth < 3:
        assert list(found.failures.values()) == [FailureCode.ARCHIVE_TOO_DEEP]
        assert "--archive-depth" in str(next(iter(found.advice.values())))
    else:
        assert list(found.pictures.values()) == [PHOTO]


def test_members_of_one_name_are_all_read(tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match="Duplicate"):
        data = archives.zip_with_duplicates("a.jpg", [PHOTO, OTHER, b"no picture"])
    found = scan(tmp_path, data)
    assert found.pictures == {"case.bin!/a.jpg": PHOTO, "case.bin!/a.jpg~2": OTHER}
    assert found.failures == {"case.bin!/a.jpg~3": FailureCode.NOT_AN_IMAGE}


@pytest.mark.parametrize("wrap", [archives.zip_of, archives.tar_of, archives.seven_zip_of], ids=["zip", "tar", "7z"])
def test_a_member_with_a_hostile_path_is_scanned_and_the_path_is_a_finding(
    tmp_path: Path, wrap: Callable[[dict[str, bytes]], bytes]
) -> None:
    evidence = tmp_path / "evidence"
    evidence.mkdir()
    data = wrap({"../../evil.jpg": PHOTO, "good.jpg": PHOTO})
    found = scan(evidence, data)
    evil = r"case.bin!/\u002e\u002e/\u002e\u002e/evil.jpg"
    assert set(found.pictures) == {evil, "case.bin!/good.jpg"}
    assert "'..'" in found.findings[evil][0].statement
    assert found.findings["case.bin!/good.jpg"] == ()
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["case.bin", "evidence"]


def test_hidden_members_are_an_option(tmp_path: Path) -> None:
    data = archives.zip_of({"__MACOSX/._a.jpg": PHOTO, ".cache/b.jpg": PHOTO, "c.jpg": PHOTO})
    assert set(scan(tmp_path, data).skipped.values()) == {"hidden"}
    assert len(scan(tmp_path, data).pictures) == 1
    assert len(scan(tmp_path, data, hidden=True).pictures) == 3


def test_devices_and_links_in_a_tar_are_told_and_never_made(tmp_path: Path) -> None:
    found = scan(tmp_path, archives.tar_with_devices(PHOTO))
    assert set(found.failures) == {"case.bin!/disk", "case.bin!/tty", "case.bin!/pipe"}
    assert found.skipped == {"case.bin!/soft": "archive link", "case.bin!/hard": "archive link"}
    assert list(found.pictures) == ["case.bin!/photo.jpg"]


def test_a_link_in_a_zip_is_not_followed(tmp_path: Path) -> None:
    info = zipfile.ZipInfo("soft.jpg")
    info.external_attr = 0o120777 << 16
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr(info, "/etc/passwd")
    assert scan(tmp_path, buffer.getvalue()).skipped == {"case.bin!/soft.jpg": "archive link"}


def test_encrypted_members_are_told_one_by_one(tmp_path: Path) -> None:
    found = scan(tmp_path, archives.encrypted_zip({"a.jpg": PHOTO, "b.jpg": PHOTO}))
    assert found.failures == dict.fromkeys(["case.bin!/a.jpg", "case.bin!/b.jpg"], FailureCode.ARCHIVE_ENCRYPTED)
    assert "password" in str(found.advice["case.bin!/a.jpg"])


@pytest.mark.parametrize("hide_names", [False, True])
def test_an_encrypted_7z_is_told(tmp_path: Path, hide_names: bool) -> None:
    found = scan(tmp_path, archives.seven_zip_of({"a.jpg": PHOTO}, "secret", hide_names=hide_names))
    assert found.failures == {"case.bin": FailureCode.ARCHIVE_ENCRYPTED}


@pytest.mark.parametrize(
    ("type_name", "missing", "data", "advice"),
    [
        ("7z", ["py7zr"], archives.seven_zip_of({"a.jpg": PHOTO}), "pip install 'clue-forensics[7z]'"),
        ("zstd", ["compression.zstd", "backports.zstd"], b"\x28\xb5\x2f\xfd" + bytes(64), "pip install backports.zstd"),
    ],
)
def test_an_archive_whose_decoder_is_missing_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, type_name: str, missing: list[str], data: bytes, advice: str
) -> None:
    for module in missing:
        monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ReadFailure) as caught:
        read_here(data, type_name)
    assert caught.value.code is FailureCode.MISSING_EXTRA
    assert caught.value.advice == advice


BIG = {f"{number}.png": pictures.encoded(pictures.photo(200, 150, seed=number), "PNG") for number in range(6)}


@pytest.mark.parametrize("kind", ["zip", "tar", "tar.gz", "tar.bz2", "tar.xz", "7z"])
@pytest.mark.parametrize("part", [0.3, 0.6, 0.95])
def test_a_cut_archive_is_told_and_the_members_before_the_cut_come_out(tmp_path: Path, kind: str, part: float) -> None:
    make = {
        "zip": archives.zip_of,
        "tar": archives.tar_of,
        "tar.gz": lambda members: archives.tar_of(members, "w:gz"),
        "tar.bz2": lambda members: archives.tar_of(members, "w:bz2"),
        "tar.xz": lambda members: archives.tar_of(members, "w:xz"),
        "7z": archives.seven_zip_of,
    }[kind]
    found = scan(tmp_path, broken_pictures.truncated(make(BIG), part))
    assert found.failures["case.bin"] is FailureCode.ARCHIVE_CORRUPT
    assert all(BIG[locator.rsplit("/", 1)[1]] == data for locator, data in found.pictures.items())
    if kind in ("zip", "tar"):  # the others are cut in blocks that hold several members, or have their index at the end
        assert len(found.pictures) == int(6 * part)


def test_a_damaged_member_does_not_cost_the_others(tmp_path: Path) -> None:
    data = bytearray(archives.zip_of(BIG, zipfile.ZIP_STORED))
    data[data.find(b"IDAT", 30000) + 40] ^= 0xFF
    found = scan(tmp_path, bytes(data))
    assert list(found.failures.values()) == [FailureCode.ARCHIVE_CORRUPT]
    assert len(found.pictures) == 5


def test_a_damaged_7z_gives_what_comes_before_the_damage(tmp_path: Path) -> None:
    data = bytearray(archives.seven_zip_of(BIG))
    data[len(data) * 2 // 3] ^= 0xFF
    found = scan(tmp_path, bytes(data))
    assert found.failures == {"case.bin": FailureCode.ARCHIVE_CORRUPT}
    assert all(BIG[locator.rsplit("/", 1)[1]] == content for locator, content in found.pictures.items())
    assert len(found.pictures) < 6


@pytest.mark.parametrize(
    ("name", "data", "code"),
    [
        ("a.zip", b"", FailureCode.EMPTY_FILE),
        ("a.7z", b"", FailureCode.EMPTY_FILE),
        ("a.zip", b"just text", FailureCode.ARCHIVE_CORRUPT),
        ("a.tar.gz", b"just text", FailureCode.ARCHIVE_CORRUPT),
        ("a.7z", b"7z\xbc\xaf\x27\x1c" + bytes(99), FailureCode.ARCHIVE_CORRUPT),
        ("a.gz", b"\x1f\x8b\x08" + b"\xff" * 99, FailureCode.ARCHIVE_CORRUPT),
        ("a.xz", b"\xfd7zXZ\0" + b"\xff" * 99, FailureCode.ARCHIVE_CORRUPT),
        ("a.rar", b"Rar!\x1a\x07\0" + bytes(99), FailureCode.UNSUPPORTED_FORMAT),
        ("a.iso", bytes(5000), FailureCode.UNSUPPORTED_FORMAT),
        ("a.dd", b"anything", FailureCode.UNSUPPORTED_FORMAT),
        ("a.doc", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(999), FailureCode.UNSUPPORTED_FORMAT),
        ("a.e01", b"EVF\x09\x0d\x0a\xff\0" + bytes(99), FailureCode.UNSUPPORTED_FORMAT),
    ],
)
def test_what_only_claims_to_be_an_archive_is_told(tmp_path: Path, name: str, data: bytes, code: FailureCode) -> None:
    found = scan(tmp_path, data, name)
    assert found.failures == {name: code}
    assert found.advice[name] or code is not FailureCode.UNSUPPORTED_FORMAT, "it says what to do"


def test_a_zip_behind_another_program_is_read(tmp_path: Path) -> None:
    data = b"MZ this could be a self-extracting program" + archives.zip_of(MEMBERS)
    assert len(scan(tmp_path, data, "sfx.zip").pictures) == 2


def test_an_archive_named_like_a_picture_is_a_finding(tmp_path: Path) -> None:
    found = scan(tmp_path, archives.zip_of({"a.jpg": PHOTO}), "innocent.jpg")
    ((where, (finding,)),) = found.findings.items()
    assert where == "innocent.jpg!/a.jpg"
    assert finding.statement == "The archive it is in is named like a picture (jpeg)."


def test_a_picture_named_like_an_archive_is_a_picture(tmp_path: Path) -> None:
    assert scan(tmp_path, PHOTO, "photo.zip").pictures == {"photo.zip": PHOTO}


@pytest.mark.parametrize("wrap", [lambda data: data, gzip.compress], ids=["alone", "in a gz"])
def test_a_zip_bomb_costs_only_itself(tmp_path: Path, wrap: Callable[[bytes], bytes]) -> None:
    found = scan(tmp_path, wrap(archives.zip_bomb()), limits=ArchiveLimits(ratio_floor_mib=8))
    assert list(found.failures.values()) == [FailureCode.ARCHIVE_LIMIT]
    assert next(iter(found.failures)).endswith("bomb.bmp")
    assert list(found.pictures.values()) == [PHOTO]


def test_a_compressed_bomb_is_stopped(tmp_path: Path) -> None:
    bomb = archives.tar_of({"zeros.bmp": b"BM" + bytes(24 << 20), "a.jpg": PHOTO}, "w:xz")
    found = scan(tmp_path, bomb, limits=ArchiveLimits(ratio_floor_mib=8))
    assert FailureCode.ARCHIVE_LIMIT in found.failures.values()


def test_a_7z_bomb_is_not_even_started(tmp_path: Path) -> None:
    bomb = archives.seven_zip_of({"zeros.bmp": b"BM" + bytes(24 << 20)})
    found = scan(tmp_path, bomb, limits=ArchiveLimits(ratio_floor_mib=8))
    assert found.failures == {"case.bin": FailureCode.ARCHIVE_LIMIT}


def test_overlapping_members_are_refused(tmp_path: Path) -> None:
    found = scan(tmp_path, archives.overlapping_zip(4))
    assert list(found.failures.values()) == [FailureCode.ARCHIVE_LIMIT] * 4
    assert len(scan(tmp_path, archives.overlapping_zip(1)).pictures) == 1


@pytest.mark.parametrize("kind", ["zip", "tar.gz", "7z"])
def test_members_are_counted_across_nested_archives(tmp_path: Path, kind: str) -> None:
    inner = archives.zip_of({f"{number}.jpg": PHOTO for number in range(5)})
    make = {"zip": archives.zip_of, "tar.gz": lambda m: archives.tar_of(m, "w:gz"), "7z": archives.seven_zip_of}[kind]
    found = scan(tmp_path, make({"in.zip": inner, "z.jpg": PHOTO}), limits=ArchiveLimits(members=4))
    assert len(found.pictures) == 3
    assert found.failures["case.bin!/in.zip"] is FailureCode.ARCHIVE_LIMIT
    assert found.failures["case.bin"] is FailureCode.ARCHIVE_LIMIT


@pytest.mark.parametrize("kind", ["zip", "tar.gz", "7z"])
def test_the_size_of_an_archive_is_limited(tmp_path: Path, kind: str) -> None:
    make = {"zip": archives.zip_of, "tar.gz": lambda m: archives.tar_of(m, "w:gz"), "7z": archives.seven_zip_of}[kind]
    limit = sum(map(len, BIG.values())) / 2 / (1 << 30)
    found = scan(tmp_path, make(BIG), limits=ArchiveLimits(gib=limit))
    assert FailureCode.ARCHIVE_LIMIT in found.failures.values()
    assert len(found.pictures) < 6


def test_a_directory_too_large_for_its_members_is_not_read(tmp_path: Path) -> None:
    members = {f"{number}{'x' * 300}.jpg": b"" for number in range(4)}
    found = scan(tmp_path, archives.zip_of(members), limits=ArchiveLimits(members=2))
    assert found.failures == {"case.bin": FailureCode.ARCHIVE_LIMIT}
    assert found.pictures == {}


def test_a_tar_header_that_claims_gigabytes_is_refused(tmp_path: Path) -> None:
    found = scan(tmp_path, archives.tar_with_huge_header())
    assert found.failures == {"case.bin": FailureCode.ARCHIVE_CORRUPT}
    assert len(found.pictures) == 1


def test_a_tar_without_its_end_mark_is_told(tmp_path: Path) -> None:
    whole = archives.tar_of({"a.jpg": PHOTO})
    end = 512 + -(-len(PHOTO) // 512) * 512
    assert scan(tmp_path, whole[: end + 1024]).failures == {}
    found = scan(tmp_path, whole[:end])
    assert "end mark" in found.messages["case.bin"]
    assert len(found.pictures) == 1


def test_names_in_a_tar_need_not_be_utf8(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.GNU_FORMAT, encoding="latin-1") as archive:
        info = tarfile.TarInfo("café.jpg")
        info.size = len(PHOTO)
        archive.addfile(info, io.BytesIO(PHOTO))
    assert set(scan(tmp_path, buffer.getvalue()).pictures) == {r"case.bin!/caf\xe9.jpg"}


def test_a_recovered_member_with_a_wrong_checksum_is_told(tmp_path: Path) -> None:
    data = bytearray(archives.zip_of(BIG, zipfile.ZIP_STORED))
    data[data.find(b"IDAT", 30000) + 40] ^= 0xFF
    found = scan(tmp_path, bytes(data[: data.rfind(b"PK\x05\x06")]))
    assert found.failures["case.bin"] is FailureCode.ARCHIVE_CORRUPT
    assert "6 members" in found.messages["case.bin"]
    assert len(found.pictures) == 5
    assert len(found.failures) == 2


def test_a_recovered_member_may_have_its_size_behind_it(tmp_path: Path) -> None:
    class Pipe(io.RawIOBase):
        """Cannot seek, so zipfile writes the sizes after the content."""

        def __init__(self) -> None:
            self.data = b""

        def writable(self) -> bool:
            return True

        def write(self, data: object, /) -> int:
            self.data += bytes(data)  # type: ignore[call-overload]
            return len(data)  # type: ignore[arg-type]

    pipe = Pipe()
    with zipfile.ZipFile(pipe, "w", zipfile.ZIP_DEFLATED) as archive:  # type: ignore[arg-type]
        for name, content in BIG.items():
            archive.writestr(name, content)
    found = scan(tmp_path, pipe.data[: pipe.data.find(b"PK\x01\x02")])
    assert {locator.rsplit("/", 1)[1]: data for locator, data in found.pictures.items()} == BIG


def open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def test_a_folder_with_content_hides_nothing(tmp_path: Path) -> None:
    found = scan(tmp_path, archives.zip_of({"evil.jpg/": PHOTO, "folder/": b""}))
    assert found.pictures == {"case.bin!/evil.jpg": PHOTO}
    assert found.others == []


def test_local_headers_are_found_wherever_they_lie(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(zip, "CHUNK", 7)
    chance = b"PK\x03\x04 is no header here"
    data = chance + archives.zip_of({"a.jpg": PHOTO, "b/": b"", "c.jpg": OTHER}, zipfile.ZIP_STORED)
    archive = io.BytesIO(data[: data.find(b"PK\x01\x02")] + b"PK\x03\x04")
    found = members(Archive("zip", "case.bin", HeadedStream(archive), archive), Budget(ArchiveLimits()))
    assert [next(found).open().read() for _ in range(2)] == [PHOTO, OTHER]
    with pytest.raises(ReadFailure, match="2 members were found"):
        next(found)


@pytest.mark.skipif(sys.platform != "linux", reason="counts open files in /proc")
def test_nothing_is_left_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(scratch))
    monkeypatch.setattr(streams, "SPOOL_IN_MEMORY", 16)
    path = tmp_path / "case.7z"
    path.write_bytes(archives.seven_zip_of({f"{number}.zip": archives.nested(2, PHOTO) for number in range(3)}))
    assert len(collect(path).pictures) == 3
    before = open_files()
    events = walk([path])
    while not isinstance(next(events), Item):
        pass
    events.close()  # type: ignore[attr-defined]
    assert list(scratch.iterdir()) == []
    assert open_files() == before


def test_a_full_temporary_folder_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    class Full(io.BytesIO):
        def write(self, data: object, /) -> int:
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(tempfile, "SpooledTemporaryFile", lambda **_: Full())
    with pytest.raises(ReadFailure, match="No space left") as caught:
        spool(io.BytesIO(b"content"))
    assert "TMPDIR" in str(caught.value.advice)


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (MemoryError(), FailureCode.ARCHIVE_LIMIT),
        (lzma.LZMAError("Memory usage limit exceeded"), FailureCode.ARCHIVE_LIMIT),
        (OSError(5, "Input/output error"), FailureCode.UNREADABLE),
        (NotImplementedError("That compression method is not supported"), FailureCode.UNSUPPORTED_FORMAT),
        (EOFError(), FailureCode.ARCHIVE_CORRUPT),
        (KeyError("x"), FailureCode.ARCHIVE_CORRUPT),
        (KeyError("x"), FailureCode.ARCHIVE_CORRUPT),
        (ReadFailure(FailureCode.LINK_LOOP, "x"), FailureCode.LINK_LOOP),
    ],
)
def test_what_an_archive_reader_raises_gets_a_name(error: Exception, code: FailureCode) -> None:
    assert failure_from(error).code is code


def test_an_xz_that_wants_gigabytes_of_memory_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compressed, "XZ_MEMORY", 1 << 16)
    with pytest.raises(ReadFailure, match="more memory than allowed"):
        read_here(lzma.compress(PHOTO), "xz")


def test_a_budget_is_for_one_archive(tmp_path: Path) -> None:
    for name in ("a.zip", "b.zip"):
        (tmp_path / name).write_bytes(archives.zip_of({"1.jpg": PHOTO, "2.jpg": PHOTO}))
    assert len(collect(tmp_path, limits=ArchiveLimits(members=2)).pictures) == 4
    budget = Budget(ArchiveLimits(ratio=10, ratio_floor_mib=1))
    budget.check_ratio(1 << 20, 1)
    with pytest.raises(ReadFailure, match="zip bomb"):
        budget.check_ratio((1 << 20) + 1, 1)


def statement(found: Found, locator: str, kind: str) -> str:
    return next(finding.statement for finding in found.findings[locator] if finding.kind == kind)


def unzip_names(data: bytes, tmp_path: Path) -> list[str]:
    """What `unzip -Z1` lists."""
    path = tmp_path / "named.zip"
    path.write_bytes(data)
    environment = {**os.environ, "LC_ALL": "C.UTF-8"}
    listing = subprocess.run(["unzip", "-Z1", str(path)], capture_output=True, env=environment).stdout
    path.unlink()
    return os.fsdecode(listing).splitlines()


CAFE = "café.jpg"
UNICODE_PATH = struct.pack("<HHBL", 0x7075, 5 + len(CAFE.encode()), 1, zlib.crc32(b"caf_.jpg")) + CAFE.encode()


@pytest.mark.parametrize(
    ("local", "listed", "options", "shown", "own"),
    [
        (rb"DCIM\a.jpg", b"DCIM/a.jpg", {}, "DCIM/a.jpg", r"DCIM\a.jpg"),
        (b"a.jpg", b"a/very/long/folder/name/a.jpg", {}, "a/very/long/folder/name/a.jpg", "a.jpg"),
        (rb"DCIM\a.jpg", rb"DCIM\a.jpg", {}, r"DCIM\\a.jpg", None),
        (CAFE.encode("cp437"), CAFE.encode(), {"flags": 0x800}, CAFE, None),
        (CAFE.encode(), CAFE.encode(), {"made_by": 3}, CAFE, None),
        (b"caf_.jpg", b"caf_.jpg", {"extra": UNICODE_PATH, "made_by": 3}, CAFE, None),
        (b"caf\xe9.jpg", b"caf\xe9.jpg", {"made_by": 3}, r"caf\xe9.jpg", None),
        (b"a\x1b[2J.jpg", b"a\x1b[2J.jpg", {}, r"a\u001b[2J.jpg", None),
        (b"a.jpg\0.txt", b"a.jpg\0.txt", {}, "a.jpg", None),
    ],
)
def test_a_member_of_a_zip_has_the_name_that_unzip_prints(
    tmp_path: Path, local: bytes, listed: bytes, options: dict[str, Any], shown: str, own: str | None
) -> None:
    data = archives.raw_zip([(local, PHOTO)], [(listed, 0)], **options)
    found = scan(tmp_path, data)
    locator = f"case.bin!/{shown}"
    assert found.pictures == {locator: PHOTO} and not found.failures
    two = [finding for finding in found.findings[locator] if finding.kind == "two_names"]
    assert bool(two) == (own is not None)
    if own is not None:
        assert own in two[0].statement
    if shutil.which("unzip") and listed.isascii() and b"\x1b" not in listed and not options.get("flags"):
        assert unzip_names(data, tmp_path) == [unescape_name(shown)]


def test_a_zip_in_the_code_page_of_dos_is_read_in_it(tmp_path: Path) -> None:
    raw = CAFE.encode("cp437")
    assert set(scan(tmp_path, archives.raw_zip([(raw, PHOTO)], [(raw, 0)])).pictures) == {f"case.bin!/{CAFE}"}


def test_what_a_directory_lists_twice_is_judged_once(tmp_path: Path) -> None:
    found = scan(tmp_path, archives.raw_zip([(b"a.jpg", PHOTO)], [(b"a.jpg", 0), (b"a.jpg", 0)]))
    assert found.pictures == {"case.bin!/a.jpg": PHOTO} and not found.failures
    assert "2 times" in statement(found, "case.bin!/a.jpg", "duplicate_member")
    entries = [(b"a.jpg", PHOTO), (b"b.jpg", OTHER)]
    found = scan(tmp_path, archives.raw_zip(entries, [(b".a.jpg", 0), (b"b.jpg", 1), (b"a.jpg", 0), (b"z.jpg", 0)]))
    assert found.pictures == {"case.bin!/a.jpg": PHOTO, "case.bin!/b.jpg": OTHER}, "under a name that is not hidden"
    assert "3 times, also as .a.jpg, z.jpg" in statement(found, "case.bin!/a.jpg", "duplicate_member")


def test_a_member_that_the_directory_does_not_list_is_read(tmp_path: Path) -> None:
    found = scan(
        tmp_path,
        archives.raw_zip([(b"a.jpg", PHOTO), (b"b.jpg", OTHER), (b"c.jpg", PHOTO)], [(b"a.jpg", 0), (b"c.jpg", 2)]),
    )
    assert found.pictures == {"case.bin!/a.jpg": PHOTO, "case.bin!/c.jpg": PHOTO, "case.bin!/b.jpg": OTHER}
    assert "does not list it" in statement(found, "case.bin!/b.jpg", "unlisted_member")


@pytest.mark.parametrize("behind", ["", "<4L", "<2L2Q"])
def test_a_picture_between_a_member_and_the_directory_is_read(tmp_path: Path, behind: str) -> None:
    data = archives.raw_zip([(b"a.jpg", PHOTO)], [(b"a.jpg", 0)])
    at = data.index(b"PK\x01\x02")
    descriptor = struct.pack(behind, 0x08074B50, 7, len(PHOTO), len(PHOTO)) if behind else b""
    hidden = descriptor + pictures.jpeg(80)
    end = bytearray(data[at:])
    end[-6:-2] = struct.pack("<L", at + len(hidden))
    found = scan(tmp_path, data[:at] + hidden + bytes(end))
    assert found.pictures == {"case.bin!/a.jpg": PHOTO, "case.bin!/(between members)": pictures.jpeg(80)}


def test_a_damaged_directory_costs_no_member(tmp_path: Path) -> None:
    data = bytearray(archives.zip_of(BIG, zipfile.ZIP_STORED))
    at = [match.start() for match in re.finditer(b"PK\x01\x02", bytes(data))][3]
    data[at] ^= 0xFF
    found = scan(tmp_path, bytes(data))
    assert sorted(found.pictures.values()) == sorted(BIG.values())
    assert "directory is damaged after 3 members" in found.messages["case.bin"]


def test_a_zip_whose_start_was_cut_off_gives_what_is_left(tmp_path: Path) -> None:
    data = archives.zip_of(BIG, zipfile.ZIP_STORED)
    found = scan(tmp_path, data[len(data) // 2 :], "case.zip")
    assert 0 < len(found.pictures) < 6
    assert len(found.pictures) + sum("!/" in locator for locator in found.failures) >= 6


def first_and_second() -> tuple[dict[str, bytes], dict[str, bytes]]:
    return {"a.jpg": PHOTO}, {"b.jpg": OTHER}


WRAPPED: dict[str, Callable[[dict[str, bytes]], bytes]] = {
    "zip": archives.zip_of,
    "tar": archives.tar_of,
    "tar.gz": lambda members: archives.tar_of(members, "w:gz"),
    "tar.bz2": lambda members: archives.tar_of(members, "w:bz2"),
    "tar.xz": lambda members: archives.tar_of(members, "w:xz"),
    "7z": archives.seven_zip_of,
}


@pytest.mark.parametrize("kind", WRAPPED)
def test_concatenated_archives_are_all_read(tmp_path: Path, kind: str) -> None:
    first, second = ((WRAPPED[kind])(members) for members in first_and_second())
    found = scan(tmp_path, first + second)
    assert sorted(found.pictures.values()) == sorted([PHOTO, OTHER]) and not found.failures
    if kind.startswith("tar"):
        assert set(found.pictures) == {"case.bin!/a.jpg", "case.bin!/b.jpg"}
        assert found.findings["case.bin!/a.jpg"] == ()
        assert "--ignore-zeros" in statement(found, "case.bin!/b.jpg", "outside_archive")


@pytest.mark.parametrize("kind", WRAPPED)
@pytest.mark.parametrize("inside", [False, True])
def test_what_follows_an_archive_is_read_or_told(tmp_path: Path, kind: str, inside: bool) -> None:
    archive = WRAPPED[kind]({"a.jpg": PHOTO})

    def scanned(data: bytes) -> tuple[str, Found]:
        if not inside:
            return "case.bin", scan(tmp_path, data)
        return "case.bin!/in.bin", scan(tmp_path, archives.tar_of({"in.bin": data}, "w:gz"))

    where, found = scanned(archive + bytes(3000) + OTHER)
    rest = f"{where}!/(after the end)"
    assert found.pictures == {f"{where}!/a.jpg": PHOTO, rest: OTHER} and not found.failures
    assert "where an unpacker does not look" in statement(found, rest, "outside_archive")
    where, found = scanned(archive + b"evil" * 30_000)
    assert found.pictures == {f"{where}!/a.jpg": PHOTO}
    assert found.failures == {rest: FailureCode.UNSUPPORTED_FORMAT}
    assert "120,000 bytes" in found.messages[rest]
    where, found = scanned(archive + bytes(5000))
    assert found.pictures and not found.failures, "zeros are the padding of tapes"


def test_a_zip_between_other_data_loses_nothing(tmp_path: Path) -> None:
    found = scan(tmp_path, b"x" * 5000 + archives.zip_of({"a.jpg": PHOTO}) + b"y" * 200_000, "case.zip")
    assert found.pictures == {"case.zip!/a.jpg": PHOTO}
    assert {locator: message.split(" ")[0] for locator, message in found.messages.items()} == {
        "case.zip!/(before the start)": "5,000",
        "case.zip!/(after the end)": "200,000",
    }


def test_a_zip_behind_a_picture_is_read_with_it(tmp_path: Path) -> None:
    found = scan(tmp_path, OTHER + archives.zip_of({"a.jpg": PHOTO}), "case.zip")
    assert found.pictures == {"case.zip!/a.jpg": PHOTO, "case.zip!/(before the start)": OTHER}


def test_a_damaged_header_in_a_tar_costs_a_name_only(tmp_path: Path) -> None:
    data = bytearray(archives.tar_of({"a.jpg": PHOTO, "b.jpg": OTHER, "c.jpg": PHOTO}))
    data[512 + -(-len(PHOTO) // 512) * 512 + 3] ^= 0xFF
    for damaged in (bytes(data), gzip.compress(bytes(data))):
        found = scan(tmp_path, damaged)
        assert set(found.pictures) == {"case.bin!/a.jpg", "case.bin!/(behind the damage)", "case.bin!/c.jpg"}
        assert "no header is at byte" in found.messages["case.bin"]


def tar_with(members: list[tuple[str, bytes | str, dict[str, Any]]], mode: str = "w") -> bytes:
    """A tar of files with content, and hard links (a name in the place of it), their headers changed."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=mode, format=tarfile.PAX_FORMAT) as archive:  # type: ignore[call-overload]
        for name, content, changes in members:
            info = tarfile.TarInfo(name)
            if isinstance(content, str):
                info.type, info.linkname = tarfile.LNKTYPE, content
            else:
                info.size = len(content)
            for key, value in changes.items():
                setattr(info, key, value)
            archive.addfile(info, io.BytesIO(content) if isinstance(content, bytes) else None)
    return buffer.getvalue()


@pytest.mark.parametrize("mode", ["w", "w:gz"])
def test_a_hard_link_to_a_skipped_member_is_judged_under_its_own_name(tmp_path: Path, mode: str) -> None:
    links = [(".Trash/a.jpg", PHOTO, {}), ("kept/a.jpg", ".Trash/a.jpg", {}), ("kept/b.jpg", "./.Trash/a.jpg", {})]
    data = tar_with([*links, ("c.jpg", OTHER, {}), ("d.jpg", "c.jpg", {})], mode)
    found = scan(tmp_path, data)
    assert found.pictures == {"case.bin!/c.jpg": OTHER, "case.bin!/kept/a.jpg": PHOTO}
    link = "archive link"
    assert found.skipped == {
        "case.bin!/.Trash/a.jpg": "hidden",
        "case.bin!/kept/b.jpg": link,
        "case.bin!/d.jpg": link,
    }
    assert len(scan(tmp_path, data, hidden=True).pictures) == 2
    nested = scan(tmp_path, archives.zip_of({"in.tar": data}))
    advice = "Unpack the archive that the tar is in, and scan the tar."
    assert nested.advice["case.bin!/in.tar!/kept/a.jpg"] == advice, "cannot be read a second time"


@pytest.mark.parametrize("size", [3 << 20, 20 << 20])
def test_a_large_pax_header_does_not_end_its_tar(tmp_path: Path, size: int) -> None:
    data = tar_with(
        [("a.jpg", PHOTO, {}), ("b.jpg", OTHER, {"pax_headers": {"comment": "x" * size}}), ("c.jpg", PHOTO, {})]
    )
    found = scan(tmp_path, data)
    assert list(found.pictures) == ["case.bin!/a.jpg", "case.bin!/b.jpg", "case.bin!/c.jpg"] and not found.failures
    assert [finding.kind for finding in found.findings["case.bin!/b.jpg"]] == ["header_too_large"] * (size > 16 << 20)


def gnu_tar(folder: Path, *options: str) -> bytes:
    subprocess.run(
        ["tar", *options, "-cf", "made.tar", *sorted(path.name for path in folder.iterdir())], cwd=folder, check=True
    )
    data = (folder / "made.tar").read_bytes()
    (folder / "made.tar").unlink()
    return data


@pytest.mark.skipif(shutil.which("tar") is None or sys.platform != "linux", reason="needs GNU tar")
@pytest.mark.parametrize(
    "options",
    [["-g", "../snapshot"], ["-V", "label", "--format=gnu"], ["-S"], ["-S", "--format=posix"], ["--format=v7"]],
)
def test_names_in_a_tar_are_those_that_tar_prints(tmp_path: Path, options: list[str]) -> None:
    folder = tmp_path / "source"
    (folder / "sub").mkdir(parents=True)
    (folder / "p.jpg").write_bytes(PHOTO)
    sparse = folder / "sub" / ("n" * 60 + ".jpg")
    sparse.write_bytes(OTHER)
    os.truncate(sparse, 1 << 20)
    data = gnu_tar(folder, *options)
    (tmp_path / "case.tar").write_bytes(data)
    listing = subprocess.run(["tar", "-tf", "case.tar"], cwd=tmp_path, capture_output=True, text=True).stdout.split(
        "\n"
    )
    found = scan(tmp_path, data, "case.tar")
    assert {locator.partition("!/")[2] for locator in found.pictures} == {name for name in listing if ".jpg" in name}
    assert not found.failures
    assert any(finding.kind == "sparse_member" for each in found.findings.values() for finding in each) == (
        "-S" in options
    )


def test_the_end_of_a_file_from_another_volume_is_named(tmp_path: Path) -> None:
    found = scan(tmp_path, tar_with([("a.jpg", PHOTO, {"type": b"M"}), ("b.jpg", OTHER, {})]))
    assert "the volume before" in found.messages["case.bin!/a.jpg"]
    assert list(found.pictures) == ["case.bin!/b.jpg"]


def test_an_archive_that_cannot_be_copied_is_not_called_damaged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Full(io.BytesIO):
        def write(self, data: object, /) -> int:
            raise OSError(28, "No space left on device")

    path = tmp_path / "outer.tar"
    path.write_bytes(archives.tar_of({"inner.zip": archives.zip_of({"a.jpg": PHOTO}), "b.jpg": PHOTO}))
    monkeypatch.setattr(tempfile, "SpooledTemporaryFile", lambda **_: Full())
    events = list(walk([path]))
    (failure,) = [event for event in events if isinstance(event, Unreadable)]
    assert (failure.locator, failure.code) == ("outer.tar!/inner.zip", FailureCode.UNREADABLE)
    assert "TMPDIR" in str(failure.advice)
    assert [event.locator for event in events if isinstance(event, Item)] == ["outer.tar!/b.jpg"]
