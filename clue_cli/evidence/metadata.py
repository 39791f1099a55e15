"""What a picture's file says about itself: EXIF in brief, and findings that a reader should know.

All of it is the file's own word, easily changed or forged; the wording of the findings keeps to that. It runs in the
decoder's process, under its time and memory limits.
"""

from __future__ import annotations

import io
import logging
import re
import zlib
from collections.abc import Mapping
from itertools import islice
from typing import Any

import exifread

from clue_cli.evidence.jpeg import APP13, SEGMENTS, Structure, structure
from clue_cli.evidence.locator import clean_text
from clue_cli.evidence.png_chunks import chunks
from clue_cli.records import ExifBrief, Finding, Origin

_READS = 100_000  # an honest EXIF block is read in a few thousand steps; a loop of overlapping folders never ends
_BYTES = 16 << 20

# Programs whose name in a file means that it passed through an editor. Cameras name their firmware in that field.
_EDITORS = re.compile(
    r"photoshop|lightroom|gimp|affinity|paint\.net|pixelmator|snapseed|picsart|facetune|faceapp|luminar|capture one|"
    r"canva|corel|paintshop|acdsee|photoscape|picasa|darktable|rawtherapee|krita|photopea|photoroom|meitu|beautyplus|"
    r"firefly|midjourney|dall|stable diffusion|imagemagick|fotor|polarr|vsco|remini|topaz",
    re.IGNORECASE,
)
_ALSO = ". Such programs also import, resize and convert pictures without changing what they show."
_CREATOR_TOOL = re.compile(rb"xmp:CreatorTool(?:\s*=\s*[\"']([^\"'<>]{1,400})|>([^<]{1,400})<)")


class _Bounded(io.BytesIO):
    """A file with a limit on how often, and how much, exifread may read."""

    def __init__(self, data: bytes) -> None:
        super().__init__(data)
        self._reads, self._bytes = _READS, _BYTES

    def read(self, size: int | None = -1, /) -> bytes:
        data = super().read(size)
        self._reads -= 1
        self._bytes -= len(data)
        if self._reads < 0 or self._bytes < 0:
            raise ValueError("it does not end")
        return data


def read_exif(block: bytes) -> tuple[ExifBrief, list[Finding]]:
    """EXIF in brief, and what was wrong with it.

    Args:
        block: EXIF as it stands in a file, from its TIFF header on (a TIFF file is such a block itself).
    """
    block = block.removeprefix(b"Exif\0\0")
    if block[:4] not in (b"II*\0", b"MM\0*"):
        return ExifBrief(), ([_claim("exif_damaged", "The EXIF block is damaged.")] if block.strip(b"\0") else [])
    logging.getLogger("exifread").disabled = True  # it logs what hostile files contain
    try:
        tags = exifread.process_file(_Bounded(block), details=False, extract_thumbnail=False)
    except Exception as error:  # exifread fed with hostile bytes raises whatever it likes
        return ExifBrief(), [_claim("exif_damaged", f"The EXIF block is damaged ({type(error).__name__}).")]
    return _brief(tags), []


def _brief(tags: Mapping[str, Any]) -> ExifBrief:
    def text(*names: str) -> str | None:
        found = (tags[name].values for name in names if name in tags)
        return next((shown for value in found if (shown := clean_text(value))), None)

    return ExifBrief(
        camera_make=text("Image Make"),
        camera_model=text("Image Model"),
        software=text("Image Software"),
        date_time_original=text("EXIF DateTimeOriginal", "Image DateTimeOriginal"),
        date_time_digitized=text("EXIF DateTimeDigitized", "Image DateTimeDigitized"),
        date_time_modified=text("Image DateTime"),
        gps_present=any(name.startswith("GPS ") for name in tags),
        thumbnail_present="Thumbnail JPEGInterchangeFormat" in tags or "Thumbnail StripOffsets" in tags,
    )


def file_findings(
    data: bytes, sniffed_type: str, exif: ExifBrief, xmp: bytes, jpeg: Structure | None = None
) -> list[Finding]:
    """Findings about the file as a whole: programs it names, provenance data, its end and bytes after it.

    What follows a JPEG is in `trailing`.
    """
    findings = []
    if exif.software and _EDITORS.search(exif.software):
        findings.append(_claim("editing_software", f"EXIF says it was last saved by {exif.software}{_ALSO}"))
    tool = _CREATOR_TOOL.search(xmp)
    if tool and (name := clean_text(tool[1] or tool[2])) and _EDITORS.search(name) and name != exif.software:
        findings.append(_claim("editing_software", f"XMP says it was made with {name}{_ALSO}"))
    if sniffed_type == "jpeg":
        findings += _jpeg_findings(data, structure(data) if jpeg is None else jpeg)
    elif sniffed_type == "png":
        findings += _png_findings(data)
    elif sniffed_type == "gif" and not data.rstrip(b"\0").endswith(b";"):
        statement = "The GIF lacks its end mark: it may have been cut, and hold fewer frames than it did."
        findings.append(file_finding("end_missing", statement))
    return findings


def _png_findings(data: bytes) -> list[Finding]:
    """Walk from chunk to chunk: wrong checksums, a missing end, and what follows the first IEND."""
    wrong, view, kind, end = list[str](), memoryview(data), b"", 0
    for kind, start, end in islice(chunks(data), SEGMENTS):
        if zlib.crc32(view[start + 4 : end - 4]) != int.from_bytes(data[end - 4 : end], "big"):
            wrong.append(clean_text(kind) or "")
        if kind == b"IEND":
            break
    findings = []
    if wrong:
        names = ", ".join(dict.fromkeys(wrong[:50]))
        statement = f"The checksums of {len(wrong)} chunks of the PNG are wrong ({names})"
        if len(wrong) == 1:
            statement = f"The checksum of a chunk of the PNG is wrong ({names})"
        findings.append(file_finding("checksum_wrong", f"{statement}: it was changed or damaged after it was written."))
    if kind == b"IEND":
        return findings + _trailing(data[end:], "PNG")
    statement = "The PNG lacks its end mark (IEND): it may have been cut."
    return [*findings, file_finding("end_missing", statement)]


def _jpeg_findings(data: bytes, found: Structure) -> list[Finding]:
    if not any(marker == APP13 and data.startswith(b"Photoshop 3.0", start) for marker, start, _ in found.segments):
        return []
    statement = "It carries a Photoshop resource block (APP13), as Photoshop and some other programs write."
    return [_claim("photoshop_resources", statement)]


def _trailing(rest: bytes, name: str) -> list[Finding]:
    if not rest:
        return []
    what = "bytes of other data" if rest.strip(b"\0") else "zero bytes"
    return [file_finding("trailing_data", f"{len(rest):,} {what} follow the end of the {name}.")]


def file_finding(kind: str, statement: str) -> Finding:
    """A finding about the file itself, for information."""
    return Finding(kind=kind, source=Origin.FILE, statement=statement)


def _claim(kind: str, statement: str) -> Finding:
    """What the metadata say: anybody can set them, so a claim points neither way."""
    return Finding(kind=kind, source=Origin.METADATA, statement=statement)
