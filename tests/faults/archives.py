"""Archives with something wrong: encrypted, cut, damaged, exploding, or with members that must not be believed."""

from __future__ import annotations

import io
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from unittest import mock

from tests.faults import pictures


def zip_of(members: Mapping[str, bytes], compression: int = zipfile.ZIP_DEFLATED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as archive:
        for name, content in members.items():
            archive.writestr(zipfile.ZipInfo(name), content, compression)
    return buffer.getvalue()


def zip_with_duplicates(name: str, contents: list[bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for content in contents:
            archive.writestr(zipfile.ZipInfo(name), content)
    return buffer.getvalue()


def tar_of(members: Mapping[str, bytes], mode: str = "w") -> bytes:
    """A tar; mode `w:gz`, `w:bz2` or `w:xz` compresses it."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=mode) as archive:  # type: ignore[call-overload]
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def tar_with_devices(content: bytes) -> bytes:
    """A tar with a device, a pipe, a symbolic link, a hard link and one file."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, kind in (("disk", tarfile.BLKTYPE), ("tty", tarfile.CHRTYPE), ("pipe", tarfile.FIFOTYPE)):
            info = tarfile.TarInfo(name)
            info.type = kind
            archive.addfile(info)
        for name, kind in (("soft", tarfile.SYMTYPE), ("hard", tarfile.LNKTYPE)):
            info = tarfile.TarInfo(name)
            info.type, info.linkname = kind, "/etc/passwd"
            archive.addfile(info)
        info = tarfile.TarInfo("photo.jpg")
        info.size = len(content)
        archive.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def tar_with_huge_header() -> bytes:
    """A tar whose pax header claims 8 GiB, which tarfile would read into memory."""
    info = tarfile.TarInfo("x")
    info.type, info.size = tarfile.XHDTYPE, 8 << 30
    content = pictures.jpeg()
    end = 512 + -(-len(content) // 512) * 512
    return tar_of({"a.jpg": content})[:end] + info.tobuf(tarfile.GNU_FORMAT) + bytes(2048)


def seven_zip_of(members: Mapping[str, bytes], password: str | None = None, *, hide_names: bool = False) -> bytes:
    """A 7z, also with member paths that py7zr itself would not write."""
    import py7zr

    buffer = io.BytesIO()
    with (
        mock.patch("py7zr.py7zr.check_archive_path", return_value=True),
        py7zr.SevenZipFile(buffer, "w", password=password, header_encryption=hide_names) as archive,
    ):
        for name, content in members.items():
            archive.writestr(content, name)
    return buffer.getvalue()


def encrypted_zip(members: Mapping[str, bytes]) -> bytes:
    """A zip whose members carry the flag of encryption (the key does not matter: nobody has it)."""
    data = bytearray(zip_of(members))
    for signature, flags_at in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        at = data.find(signature)
        while at >= 0:
            data[at + flags_at] |= 0x1
            at = data.find(signature, at + 4)
    return bytes(data)


def zip_bomb(mib: int = 160) -> bytes:
    """A zip with a BMP of so many MiB of zeros in a thousandth of the size, and a sound picture after it."""
    buffer = io.BytesIO()
    header = b"BM" + struct.pack("<IIIIiiHHIIIIII", (mib << 20), 0, 54, 40, 4096, 4096, 1, 24, 0, 0, 0, 0, 0, 0)
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        with archive.open("bomb.bmp", "w") as member:
            member.write(header)
            for _ in range(mib):
                member.write(bytes(1 << 20))
        archive.writestr("photo.jpg", pictures.jpeg())
    return buffer.getvalue()


def raw_zip(
    entries: Sequence[tuple[bytes, bytes]],
    directory: Sequence[tuple[bytes, int]],
    *,
    flags: int = 0,
    made_by: int = 0,
    extra: bytes = b"",
) -> bytes:
    """A zip of stored members with names and contents, and a directory of names and numbers of members.

    Args:
        flags: in the directory only.
        made_by: the system, 0 for DOS and 3 for Unix.
        extra: extra field of each of the directory's entries.
    """
    out, places, listed = b"", [], b""
    for name, content in entries:
        places.append(len(out))
        fields = 20, 0, 0, 0, 33, zlib.crc32(content), len(content), len(content), len(name), 0
        out += struct.pack("<4s5H3L2H", b"PK\x03\x04", *fields) + name + content
    for name, number in directory:
        content = entries[number][1]
        entry = flags, 0, 0, 33, zlib.crc32(content), len(content), len(content), len(name), len(extra), 0, 0, 0
        system = 20 | made_by << 8
        listed += struct.pack("<4s6H3L5H2L", b"PK\x01\x02", system, 20, *entry, 0, places[number]) + name + extra
    count = len(directory)
    return out + listed + struct.pack("<4s4H2LH", b"PK\x05\x06", 0, 0, count, count, len(listed), len(out), 0)


def overlapping_zip(copies: int = 4) -> bytes:
    """A zip whose members each hold all of those that follow (quoted in a stored member), as in a zip bomb."""
    content = b""
    names = [f"{index}.bmp".encode() for index in range(copies)]
    for name in reversed(names):
        content = raw_zip([(name, content or pictures.encoded(pictures.photo(), "BMP"))], [])[:-22]
    data = bytearray(raw_zip([(names[0], content[35:])], [(name, 0) for name in names]))
    at, start = data.find(b"PK\x01\x02"), 0
    for _ in names:
        packed = len(content) - start - 35
        crc = zlib.crc32(content[start + 35 :])
        data[at + 16 : at + 28] = struct.pack("<3L", crc, packed, packed)
        data[at + 42 : at + 46] = struct.pack("<L", start)
        at, start = at + 51, start + 35
    return bytes(data)


def nested(levels: int, content: bytes, name: str = "photo.jpg") -> bytes:
    """A zip in a zip in a zip …, so many of them, around one file."""
    for level in range(levels):
        content = zip_of({name: content}, zipfile.ZIP_STORED)
        name = f"level{level}.zip"
    return content
