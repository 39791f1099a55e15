"""How a JPEG is built: its segments and scans, whether they are whole, and how to find the rows that are not.

Nothing is decoded here. libjpeg fills what it has no data for with grey and says so to nobody; two decodings of the
file, as it is and with other data put where its own end (`mended`, `padded`), differ just there.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

SEGMENTS = 20_000
"""Most segments that are looked at: an honest JPEG has some dozens, a hostile one could be made of nothing else."""
_HEADER = 1000  # segments before the first scan

SOI, EOI = b"\xff\xd8", b"\xff\xd9"
APP1, APP2, APP13 = 0xE1, 0xE2, 0xED
SOS = 0xDA
_SOI, _EOI, _DRI = 0xD8, 0xD9, 0xDD
FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_ARITHMETIC = frozenset(range(0xC9, 0xD0))
_AFTER_SCAN = frozenset({0xC4, _EOI, _SOI, SOS, 0xDB, 0xDC, _DRI, *range(0xE0, 0xF0), 0xFE})
_MARKER = re.compile(rb"\xff[^\x00\x01\xd0-\xd7\xff]")
_RESTART = re.compile(rb"\xff[\xd0-\xd7]")
# No marker in it, and like no picture's own data. It begins with ones: where data end, libjpeg goes on with zeros.
_PAD = b"\xfe" * 8 + bytes((73 * index + 41) % 251 for index in range(96))
_REPLACED = 8  # bytes of the last scan; a picture that does without them had data left over


@dataclass(slots=True)
class Scan:
    """One scan: where its entropy-coded data lie, and which coefficients of which components they hold."""

    start: int
    end: int
    components: tuple[int, ...]
    first: int
    last: int
    low: int


@dataclass(slots=True)
class Structure:
    """What a walk from marker to marker finds.

    Attributes:
        start, end: where the JPEG begins, and where what follows its end mark begins; None: there is no end mark.
        cut: without an end mark, where the last of it ends that can be used.
        frame: marker of the frame header, 0 if there is none.
        sampling: horizontal and vertical factor of each component, by its number.
        restart: MCUs of a restart interval, 0 if there are none.
        segments: marker, start and end of the content of each segment that has one.
        strange: where in the entropy-coded data a marker stands that has no business there.
    """

    start: int
    end: int | None = None
    cut: int = 0
    frame: int = 0
    width: int = 0
    height: int = 0
    sampling: dict[int, tuple[int, int]] = field(default_factory=dict)
    restart: int = 0
    scans: list[Scan] = field(default_factory=list)
    segments: list[tuple[int, int, int]] = field(default_factory=list)
    strange: int | None = None

    @property
    def arithmetic(self) -> bool:
        """Whether the data are coded arithmetically, and so may end before they are all read."""
        return self.frame in _ARITHMETIC

    @property
    def mcu(self) -> tuple[int, int]:
        """Width and height in pixels of what is coded together, in a scan of all components."""
        if len(self.sampling) <= 1:
            return 8, 8
        across, down = zip(*self.sampling.values(), strict=True)
        return 8 * max(across), 8 * max(down)

    @property
    def refined(self) -> bool:
        """Whether the scans hold every bit of every coefficient, so far as their headers say."""
        levels = {number: [99] * 64 for number in self.sampling}
        for scan in self.scans:
            for number in scan.components:
                for index in range(scan.first, scan.last + 1):
                    if number in levels:
                        levels[number][index] = scan.low
        return not any(level for those in levels.values() for level in those)

    def box_of_interval(self, number: int) -> tuple[int, int, int, int]:
        """Left, top, right and bottom of the pixels of a restart interval, without the rows that upsampling mixes.

        Of one that is not within one row of MCUs, all its rows.
        """
        wide, high = self.mcu
        across, down = -(-self.width // wide), -(-self.height // high)
        size = self.restart or across * down
        first, last = number * size, min((number + 1) * size, across * down) - 1
        top, bottom = first // across * high, min(self.height, (last // across + 1) * high)
        above, below = (high > 8 and top > 0), (high > 8 and bottom < self.height)
        left, right = (first % across * wide, (last % across + 1) * wide) if last - first < across else (0, self.width)
        if right <= left:
            left, right = 0, self.width
        return left, top + above, min(right, self.width), bottom - below

    def rows_of_intervals(self, row: int) -> tuple[int, int]:
        """First and last row of the restart intervals that an MCU row's pixels belong to."""
        wide, high = self.mcu
        across = -(-self.width // wide)
        first = row // high * across
        begin, last = first // self.restart * self.restart, (first + across - 1) // self.restart * self.restart
        return begin // across * high, min(self.height, ((last + self.restart - 1) // across + 1) * high) - 1


def structure(data: bytes, start: int = 0, stop: int | None = None) -> Structure:
    """Walk a JPEG that starts with its SOI at `start`; nothing is raised, whatever the bytes hold."""
    stop = len(data) if stop is None else stop
    found, position, in_scan = Structure(start), start + 2, False
    found.cut = min(position, stop)
    for _ in range(SEGMENTS):
        match = _MARKER.search(data, position, stop)
        if in_scan:
            found.scans[-1].end = found.cut = stop if match is None else match.start()
        if match is None:
            break
        marker, after = match[0][1], match.end()
        if in_scan and marker not in _AFTER_SCAN:
            found.strange = match.start() if found.strange is None else found.strange
            ends = data.find(EOI, after, stop)
            found.end = ends + 2 if ends >= 0 else None
            break
        if marker == _EOI:
            found.end = after
            break
        if marker == _SOI:
            if found.scans:
                break
            position = after
            continue
        length = int.from_bytes(data[after : min(after + 2, stop)], "big")
        content, position = after + 2, after + max(length, 2)
        if position > stop:
            break
        found.segments.append((marker, content, position))
        if not (in_scan := marker == SOS):
            found.cut = position
        _read(found, marker, data[content : min(position, content + 1024)], position)
    if found.end is None:
        _end_before_video(found, data)
    return found


def header_segments(data: bytes, start: int = 0) -> Iterator[tuple[int, int, int]]:
    """Marker, start and end of the content of each segment down to the header of the first scan.

    It ends where one does not follow the other, so it is no JPEG if none of them is `SOS`.
    """
    position = start + 2
    for _ in range(_HEADER):  # there may be as many starts as bytes
        if data[position : position + 1] != b"\xff" or position + 4 > len(data):
            return
        marker, content = data[position + 1], position + 4
        if marker == 0xFF:  # a byte that fills
            position += 1
            continue
        position += 2 + max(int.from_bytes(data[content - 2 : content], "big"), 2)
        yield marker, content, position
        if marker == SOS:
            return


def _read(found: Structure, marker: int, content: bytes, position: int) -> None:
    if marker in FRAMES and len(content) >= 6 and not found.frame:
        found.frame = marker
        found.height, found.width = int.from_bytes(content[1:3], "big"), int.from_bytes(content[3:5], "big")
        each = (content[index : index + 3] for index in range(6, 6 + 3 * min(content[5], 4), 3))
        found.sampling = {part[0]: (part[1] >> 4 or 1, part[1] & 15 or 1) for part in each if len(part) == 3}
    elif marker == _DRI and len(content) >= 2:
        found.restart = int.from_bytes(content[:2], "big")
    elif marker == SOS:
        count = content[0] if content else 0
        rest = content[1 + 2 * count : 4 + 2 * count]
        first, last, bits = rest if len(rest) == 3 else (0, 63, 0)
        found.scans.append(
            Scan(position, position, tuple(content[1 : 1 + 2 * count : 2]), min(first, 63), min(last, 63), bits & 15)
        )


def _end_before_video(found: Structure, data: bytes) -> None:
    """Without an end mark, let the data end where a video begins, as in some panoramas."""
    if found.scans and (at := video_at(data, found.scans[-1].start, found.scans[-1].end)) is not None:
        found.scans[-1].end = found.cut = at


_FTYP = re.compile(rb"\0\0[\0-\x0f].ftyp[\x20-\x7e]{4}", re.DOTALL)


def video_at(data: bytes, start: int, stop: int) -> int | None:
    """Where an MP4 or QuickTime file begins between two places, by its first box."""
    match = _FTYP.search(data, start, stop)
    return None if match is None else match.start()


def mended(data: bytes, found: Structure) -> bytes:
    """The JPEG alone, with an end mark."""
    if found.end is not None:
        return data[found.start : found.end]
    return data[found.start : found.cut].rstrip(b"\xff") + EOI


def padded(data: bytes, found: Structure) -> bytes:
    """The same with other data after those of each scan and each restart interval.

    A decoder that had enough does not look at them. One that had not decodes them, where it filled with grey before.
    """
    pieces, position = [], found.start
    for scan in found.scans:
        own = data[scan.start : scan.end].rstrip(b"\xff")
        if found.restart:
            own = _RESTART.sub(lambda match: _PAD + match[0], own)
        pieces += [data[position : scan.start], own, _PAD]
        position = scan.end
    if found.end is not None:
        return b"".join([*pieces, data[position : found.end]])
    if found.restart and found.scans:
        count = len(_RESTART.findall(data, found.scans[-1].start, found.scans[-1].end))
        for number in range(count, count + 3):
            pieces += [bytes((0xFF, 0xD0 + number % 8)), _PAD]
    return b"".join([*pieces, EOI])


def with_other_ends(data: bytes, found: Structure) -> tuple[bytes, list[int]] | None:
    """The JPEG with the last bytes of each restart interval replaced, and the numbers of those intervals.

    MCUs of an interval that stay the same all the same had data left over. None where that cannot be asked: several
    scans, or arithmetic coding, which leaves bytes out.
    """
    if len(found.scans) != 1 or found.arithmetic or found.end is None or found.strange is not None:
        return None
    scan = found.scans[0]
    ends = [match.start() for match in _RESTART.finditer(data, scan.start, scan.end)] if found.restart else []
    pieces, numbers, start = [data[found.start : scan.start]], [], scan.start
    for number, end in enumerate([*ends, scan.end]):
        own, mark = data[start:end], data[end : end + 2] if end < scan.end else b""
        if len(own) >= 3 * _REPLACED and b"\xff" not in own[-_REPLACED - 1 :]:
            own = own[:-_REPLACED] + bytes(1 + (byte ^ 0x5A) % 250 for byte in own[-_REPLACED:])
            numbers.append(number)
        pieces += [own, _PAD, mark]
        start = end + 2
    return b"".join([*pieces, data[scan.end : found.end]]), numbers
