"""What follows a JPEG in its file: further views, gain and depth maps, previews, videos, Samsung's trailer, other data.

All that a file says of its parts (MPF, XMP) is its own word. It names a part; whether a part is examined as a picture
depends on its size and on nothing but a gain or depth map's own label.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass

from clue_cli.evidence.formats import tiff_directories
from clue_cli.evidence.jpeg import APP1, APP2, SEGMENTS, SOI, Structure, structure, video_at
from clue_cli.evidence.locator import clean_text
from clue_cli.evidence.metadata import file_finding
from clue_cli.records import Finding

_PARTS = 100  # looked at in one file
_XMP = b"http://ns.adobe.com/xap/1.0/\0"
_GAIN_MAP = re.compile(rb"hdrgm:Version|HDRGainMap|hdrgainmap")
_DEPTH_MAP = re.compile(rb"AuxiliaryImageType[^<]{0,60}(?:depth|disparity)")
_ISO_GAIN_MAP = b"urn:iso:std:iso:ts:21496:-1"
_ITEM = re.compile(rb"<(?:G?Container:)Item\b[^>]{0,2000}>")
_ATTRIBUTE = re.compile(rb"Item:(Mime|Semantic)\s*=\s*[\"']([^\"']{1,100})[\"']")
_MPF_TYPES = {
    0x010001: "preview",
    0x010002: "preview",
    0x020001: "part of a panorama",
    0x020002: "view of a stereo pair",
    0x020003: "view from another angle",
}


@dataclass(frozen=True, slots=True)
class View:
    """A further picture of the file that is examined: where it lies, and what it is in words."""

    start: int
    end: int
    name: str


@dataclass(frozen=True, slots=True)
class Trailing:
    """What follows a JPEG: statements about it, and the views that are examined as pages."""

    findings: list[Finding]
    views: list[View]


def after_jpeg(data: bytes, main: Structure) -> Trailing:
    """Look at what follows the end of a JPEG, or the place where the next file begins if it has no end mark."""
    start = main.end if main.end is not None else main.cut if main.scans else len(data)
    look = _Look(data, main)
    trailer, stop = _samsung(data, start)
    look.over(start, stop)
    if trailer:
        look.say("samsung_trailer", f"Samsung's trailer follows ({len(data) - stop:,} bytes): {trailer}.")
        for begin, end in _samsung_blocks(data, start):
            if begin >= stop:
                look.over(begin, end, others=False)
    return Trailing(look.finished(), look.views)


class _Look:
    """The parts that follow, one after the other."""

    def __init__(self, data: bytes, main: Structure) -> None:
        self.data, self.main = data, main
        self.findings: list[Finding] = []
        self.views: list[View] = []
        self.other = self.zeros = 0
        self.types = _mpf(data, main)
        self.semantics = iter(_semantics(data, main))
        self.parts = self.tried = 0

    def say(self, kind: str, statement: str) -> None:
        self.findings.append(file_finding(kind, statement))

    def over(self, position: int, stop: int, others: bool = True) -> None:
        while position < stop:
            begin, end, found = self._next(position, stop)
            between = self.data[position:begin]
            if others and between:
                if between.strip(b"\0"):
                    self.other += len(between)
                else:
                    self.zeros += len(between)
            if isinstance(found, Structure):
                self._jpeg(found, end)
            elif found:
                self.say("video_follows", f"A video ({found}, {end - begin:,} bytes) follows, as in a motion photo.")
            position = end

    def _next(self, position: int, stop: int) -> tuple[int, int, Structure | str | None]:
        """The next part that is recognised: where it begins and ends, and what it is; None: nothing up to `stop`."""
        video = video_at(self.data, position, stop)
        jpeg = position - 1
        while self.parts < _PARTS and self.tried < _PARTS:
            jpeg = self.data.find(SOI + b"\xff", jpeg + 1, stop if video is None else video)
            if jpeg < 0:
                break
            self.tried += 1
            found = structure(self.data, jpeg, stop)
            if found.frame and found.scans and found.width and found.height:
                self.parts += 1
                return jpeg, found.cut if found.end is None else found.end, found
        if video is not None and self.parts < _PARTS:
            self.parts += 1
            return video, *_video(self.data, video, stop)
        return stop, stop, None

    def _jpeg(self, found: Structure, end: int) -> None:
        own = b"".join(_xmp(self.data, found))
        semantic = next(self.semantics, "")
        mpf = self.types.get(found.start, "")
        facts = f"JPEG, {found.width} × {found.height} pixels, {end - found.start:,} bytes"
        if _GAIN_MAP.search(own) or semantic == "GainMap" or _has(self.data, found, APP2, _ISO_GAIN_MAP):
            self.say("gain_map_follows", f"An HDR gain map follows, as phones write ({facts}).")
        elif _DEPTH_MAP.search(own) or semantic in ("Depth", "DepthMap", "Confidence"):
            self.say("depth_map_follows", f"A depth map follows, as phones write for portraits ({facts}).")
        elif 2 * min(found.width, found.height) >= min(self.main.width, self.main.height) and (
            2 * max(found.width, found.height) >= max(self.main.width, self.main.height)
        ):
            label = mpf or (semantic and f"named “{semantic}”") or "further view"
            self.views.append(View(found.start, end, label))
            statement = f"A further picture follows ({label}; {facts}); it is examined as page {len(self.views) + 1}."
            self.say("picture_follows", statement)
        else:
            self.say("preview_follows", f"A smaller picture follows, as cameras write for previews ({facts}).")

    def finished(self) -> list[Finding]:
        missing = sum(position >= len(self.data) for position in self.types)
        if missing:
            pictures = "a picture" if missing == 1 else f"{missing} pictures"
            self.say("pictures_missing", f"The file's list of pictures (MPF) names {pictures} beyond its end.")
        if self.other:
            self.say("trailing_data", f"{self.other:,} bytes of other data follow the end of the JPEG.")
        elif self.zeros:
            self.say("trailing_data", f"{self.zeros:,} zero bytes follow the end of the JPEG.")
        return self.findings


def _video(data: bytes, start: int, stop: int) -> tuple[int, str]:
    """Where a video of boxes ends, and what it is."""
    brand, position = data[start + 8 : start + 12], start
    for _ in range(SEGMENTS):
        size, kind, header = int.from_bytes(data[position : position + 4], "big"), data[position + 4 : position + 8], 8
        if not re.fullmatch(rb"[\x20-\x7e\xa9]{4}", kind):
            break
        if size == 1:
            size, header = int.from_bytes(data[position + 8 : position + 16], "big"), 16
        if size == 0 or size > stop - position:
            position = stop
        elif size < header:
            break
        else:
            position += size
        if position >= stop:
            break
    return max(position, start + 8), "QuickTime" if brand == b"qt  " else "MP4"


def _mpf(data: bytes, main: Structure) -> dict[int, str]:
    """What the pictures after the main one are by MPF, by their place."""
    for marker, start, end in main.segments:
        block = data[start + 4 : end] if marker == APP2 and data.startswith(b"MPF\0", start) else b""
        count, at = next(tiff_directories(block), {}).get(0xB002, (0, 0))
        if count:
            rows = block[at : at + 16 * min(count // 16, _PARTS)]
            listed = struct.iter_unpack("<4I" if block[:2] == b"II" else ">4I", rows[: len(rows) // 16 * 16])
            return {start + 4 + place: _MPF_TYPES.get(kind & 0xFFFFFF, "") for kind, _, place, _ in listed if place}
    return {}


def _semantics(data: bytes, main: Structure) -> Iterator[str]:
    """What the JPEGs after the main one are by the XMP container directory, in order."""
    for xmp in _xmp(data, main):
        for item in _ITEM.findall(xmp)[:_PARTS]:
            said = {name: clean_text(value) or "" for name, value in _ATTRIBUTE.findall(item)}
            if said.get(b"Semantic") != "Primary" and said.get(b"Mime") == "image/jpeg":
                yield said.get(b"Semantic", "")


def _xmp(data: bytes, found: Structure) -> Iterator[bytes]:
    return (data[start:end] for marker, start, end in found.segments if marker == APP1 and data.startswith(_XMP, start))


def _has(data: bytes, found: Structure, marker: int, content: bytes) -> bool:
    return any(kind == marker and data.startswith(content, start) for kind, start, _ in found.segments)


def _samsung(data: bytes, start: int) -> tuple[str, int]:
    """The names in Samsung's trailer, and where it begins; empty, and the end of the data, if there is none."""
    blocks = list(_samsung_blocks(data, start))
    named = []
    for begin, _ in blocks:
        length = int.from_bytes(data[begin + 4 : begin + 8], "little")
        named.append(clean_text(data[begin + 8 : begin + 8 + min(length, 60)]) or "unnamed")
    return ", ".join(dict.fromkeys(named)), min((begin for begin, _ in blocks), default=len(data))


def _samsung_blocks(data: bytes, start: int) -> Iterator[tuple[int, int]]:
    if not data.endswith(b"SEFT"):
        return
    directory = len(data) - 8 - int.from_bytes(data[-8:-4], "little")
    if directory < start or data[directory : directory + 4] != b"SEFH":
        return
    count = int.from_bytes(data[directory + 8 : directory + 12], "little")
    for number in range(min(count, _PARTS)):
        entry = directory + 12 + 12 * number
        begin = directory - int.from_bytes(data[entry + 4 : entry + 8], "little")
        size = int.from_bytes(data[entry + 8 : entry + 12], "little")
        if start <= begin and begin + size <= directory:
            yield begin, begin + size
