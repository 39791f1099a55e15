"""Lists of files with their hashes, in hashdeep's format and in DFXML, written and read line by line.

hashdeep's format escapes nothing: a name is the rest of its line, as bytes. A name with a line break cannot stand in
it, and is in the DFXML file alone. DFXML says of a file that was observed twice what it was before in
`delta:original_fileobject`, as differential DFXML does.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, BinaryIO
from xml.etree import ElementTree
from xml.sax.saxutils import escape

from clue_cli import __version__

HASHES = ("md5", "sha1", "sha256")
"""In the order of the columns."""

DIGITS = {"md5": 32, "sha1": 40, "sha256": 64}
DFXML = "http://www.forensicswiki.org/wiki/Category:Digital_Forensics_XML"
DELTA = "http://www.forensicswiki.org/wiki/Forensic_Disk_Differencing"
_REGULAR = "<name_type>r</name_type>"
_LONGEST = 1 << 20
"""Bytes of a line, and of the text of an XML element: a manifest may be an attacker's."""

_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


class ListingError(Exception):
    """A list is not as clue writes it: where and why, in words."""


@dataclass(frozen=True, slots=True)
class Observation:
    """A file at one time.

    Attributes:
        byte_size: None if it is not known.
        modified: time of the last change, ISO 8601 in UTC; None if it is not known or has none.
        hashes: by algorithm, hex.
    """

    byte_size: int | None
    hashes: dict[str, str]
    modified: str | None = None


@dataclass(frozen=True, slots=True)
class Listed:
    """A file of a list, as it was when it was read, and before that if it was observed twice."""

    name: str
    now: Observation
    before: Observation | None = None


@dataclass(slots=True)
class Hashing:
    """A stream that hashes what is written to it."""

    stream: BinaryIO
    digest: hashlib._Hash = field(default_factory=hashlib.sha256)

    def write(self, content: bytes) -> None:
        """Write and hash."""
        self.digest.update(content)
        self.stream.write(content)


class HashdeepWriter:
    """Writes a list as `hashdeep -c ALGORITHMS -l` does, with what it is about in comments."""

    def __init__(self, stream: BinaryIO | Hashing, algorithms: Sequence[str], about: Iterable[str]) -> None:
        self._stream, self._algorithms = stream, algorithms
        head = ["%%%% HASHDEEP-1.0", f"%%%% size,{','.join(algorithms)},filename", *(f"## {line}" for line in about)]
        stream.write("".join(f"{line}\n" for line in [*head, "## "]).encode())

    def add(self, name: str, observation: Observation) -> bool:
        """Add a file; False if the format cannot hold it, or a hash or its size is not known."""
        hashes = [observation.hashes.get(algorithm) for algorithm in self._algorithms]
        if observation.byte_size is None or None in hashes or "\n" in name or "\r" in name:
            return False
        self._stream.write(
            f"{observation.byte_size},{','.join(map(str, hashes))},".encode()
            + name.encode("utf-8", "surrogateescape")
            + b"\n"
        )
        return True


class DfxmlWriter:
    """Writes a list as DFXML; to be ended with `end`."""

    def __init__(self, stream: BinaryIO | Hashing, about: Iterable[str]) -> None:
        self._stream = stream
        comments = "".join(f"  <!-- {_xml(line).replace('--', '- -')} -->\n" for line in about)
        stream.write(
            (
                "<?xml version='1.0' encoding='UTF-8'?>\n"
                f"<dfxml xmlns='{DFXML}' xmlns:dc='http://purl.org/dc/elements/1.1/' xmlns:delta='{DELTA}' "
                f"version='1.2.0'>\n{comments}"
                "  <metadata><dc:type>Hash List</dc:type></metadata>\n"
                f"  <creator><program>clue</program><version>{_xml(__version__)}</version></creator>\n"
                "  <source/>\n"
            ).encode()
        )

    def add(self, listed: Listed) -> None:
        """Add a file."""
        before = listed.before
        now = _content(listed.now)
        if before is None:
            text = f"  <fileobject><filename>{_xml(listed.name)}</filename>{_REGULAR}{now}</fileobject>\n"
        else:
            name = _xml(listed.name)
            text = (
                f"  <fileobject>\n    <filename>{name}</filename>{_REGULAR}{now}\n"
                f"    <delta:original_fileobject><filename>{name}</filename>{_REGULAR}{_content(before)}"
                "</delta:original_fileobject>\n  </fileobject>\n"
            )
        self._stream.write(text.encode())

    def end(self) -> None:
        """Write what closes the file."""
        self._stream.write(b"</dfxml>\n")


def _content(observation: Observation) -> str:
    size = "" if observation.byte_size is None else f"<filesize>{observation.byte_size}</filesize>"
    modified = "" if observation.modified is None else f"<mtime>{_xml(observation.modified)}</mtime>"
    hashes = (
        f"<hashdigest type='{name}'>{observation.hashes[name]}</hashdigest>"
        for name in HASHES
        if name in observation.hashes
    )
    return f"{size}{modified}{''.join(hashes)}"


def _xml(text: str) -> str:
    """Text in XML, which cannot hold control characters: names have none, since locators escape them."""
    return escape(_NOT_XML.sub("\ufffd", text), {"\r": "&#13;"})


def read_hashdeep(stream: BinaryIO) -> Iterator[tuple[int, Listed | str]]:
    """The files of a list in hashdeep's format, with the numbers of their lines; a text says what is wrong with a line.

    Raises:
        ListingError: it is no such list.
    """
    if stream.readline(_LONGEST) != b"%%%% HASHDEEP-1.0\n":
        raise ListingError("it does not begin as a list of hashdeep does")
    columns = stream.readline(_LONGEST).decode("ascii", "replace").removeprefix("%%%% ").rstrip("\n").split(",")
    algorithms = columns[1:-1]
    if columns[:1] != ["size"] or columns[-1:] != ["filename"] or not set(algorithms) <= set(HASHES):
        raise ListingError("its second line does not name the columns that clue writes")
    number, ended = 2, True
    while line := stream.readline(_LONGEST):
        number += 1
        if not line.endswith(b"\n"):
            ended = False
            yield number, "the line does not end, or is too long"
            while line and not line.endswith(b"\n"):
                line = stream.readline(_LONGEST)
            continue
        ended = True
        if line.startswith(b"##") and number < 12:
            continue
        yield number, _of_line(line[:-1], algorithms)
    if not ended:
        yield number, "the last line is cut off"


def _is_hash(name: str, value: str) -> bool:
    return re.fullmatch(rf"[0-9a-f]{{{DIGITS[name]}}}", value) is not None


def _of_line(line: bytes, algorithms: Sequence[str]) -> Listed | str:
    size, *rest = line.split(b",", len(algorithms) + 1)
    if len(rest) != len(algorithms) + 1 or not re.fullmatch(rb"0|[1-9][0-9]{0,18}", size):
        return "the line is not one of a list of hashdeep"
    hashes = {name: value.decode("ascii", "replace") for name, value in zip(algorithms, rest, strict=False)}
    if not all(_is_hash(name, value) for name, value in hashes.items()):
        return "the line holds something else than hashes"
    return Listed(rest[-1].decode("utf-8", "surrogateescape"), Observation(int(size), hashes))


def read_dfxml(stream: BinaryIO) -> Iterator[Listed]:
    """The files of a list in DFXML.

    Raises:
        ListingError: it is not well-formed, or not such a list.
    """
    parser: Any = ElementTree.XMLPullParser(("start", "end"))
    root: Any = None
    depth = 0
    waiting, end = 0, b""  # bytes without the end of a file; the last ones of the piece before
    try:
        while True:
            data = stream.read(1 << 16)
            if b"<!DOCTYPE" in end + data:
                raise ListingError("it declares a document type, which clue never writes")
            end = data[-16:]
            waiting += len(data)
            parser.feed(data) if data else parser.close()
            events: Iterator[Any] = parser.read_events()
            for event, element in events:
                depth += 1 if event == "start" else -1
                if root is None:
                    root = element
                    if element.tag != f"{{{DFXML}}}dfxml":
                        raise ListingError("it is no DFXML")
                if event == "end" and depth == 1:
                    waiting = 0
                    if element.tag == f"{{{DFXML}}}fileobject":
                        yield _of_element(element)
                    root.clear()
            if waiting > 64 * _LONGEST:
                raise ListingError("it holds something else than a list of files")
            if not data:
                return
    except (ElementTree.ParseError, LookupError, ValueError) as error:  # the latter two: of an encoding it names
        raise ListingError(f"it is not well-formed XML ({error})") from error


def _of_element(element: ElementTree.Element) -> Listed:
    name = element.findtext(f"{{{DFXML}}}filename")
    if name is None:
        raise ListingError("a file in it has no name")
    original = element.find(f"{{{DELTA}}}original_fileobject")
    return Listed(name, _observed(element), None if original is None else _observed(original))


def _observed(element: ElementTree.Element) -> Observation:
    size = element.findtext(f"{{{DFXML}}}filesize")
    hashes = {one.get("type", ""): one.text or "" for one in element.findall(f"{{{DFXML}}}hashdigest")}
    if not all(name in DIGITS and _is_hash(name, value) for name, value in hashes.items()):
        raise ListingError("it holds something else than hashes")
    if size is not None and not re.fullmatch("0|[1-9][0-9]{0,18}", size):
        raise ListingError(f"a size in it is no number: {size[:40]!r}")
    return Observation(None if size is None else int(size), hashes, element.findtext(f"{{{DFXML}}}mtime"))
