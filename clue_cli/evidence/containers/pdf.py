"""What is in a PDF: the pictures of its pages, in their original streams, and its attachments.

A JPEG comes out as it was put in, byte for byte, and so does a JPEG 2000; a fax keeps its data within a TIFF, and what
was deflated with a PNG's predictors within a PNG. Other pixels become those of an uncompressed TIFF. pikepdf (qpdf)
reads the PDF, and repairs one that was cut.
"""

from __future__ import annotations

import hashlib
import io
import re
import struct
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from collections.abc import Set as AbstractSet
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import chain, islice
from typing import Any, BinaryIO, cast

from clue_cli.evidence.containers import Archive, Member, oddity, refused, stray
from clue_cli.evidence.containers.compressed import Decompressed, Inflater
from clue_cli.evidence.streams import CHUNK, UNPACK_ADVICE, Budget, ByteSource, ReadFailure, Slice, rfind
from clue_cli.records import FailureCode, Finding

_LARGEST = 1 << 30
"""Most bytes of pixels that one picture may have."""

_IN_MEMORY = 256 << 20
"""Up to how many bytes a PDF is held in memory."""

_STEPS = 1_000_000
"""How many entries of resources are looked at, over all pages."""

_PAGES_SHOWN = 50
_REPAIRED = re.compile("damaged|reconstruct|recover")
_INLINE = re.compile(rb"\bID\s")
_VERSION_END = re.compile(rb"startxref\s+[0-9]+\s+%%EOF")
_VERSIONS = 100
_OBJECT = re.compile(rb"(?<![0-9])([0-9]{1,9})[ \r\n]([0-9]{1,5})[ \r\n]obj\b")
_ORIGINAL = {"DCTDecode": "jpg", "JPXDecode": "jp2"}
_SHORT = {
    "A85": "ASCII85Decode",
    "AHx": "ASCIIHexDecode",
    "CCF": "CCITTFaxDecode",
    "DCT": "DCTDecode",
    "Fl": "FlateDecode",
    "LZW": "LZWDecode",
    "RL": "RunLengthDecode",
}
_GREY, _RGB, _CMYK, _INDEXED, _INK = "grey", "rgb", "cmyk", "indexed", "ink"
_SPACES = {"DeviceGray": _GREY, "CalGray": _GREY, "G": _GREY, "DeviceRGB": _RGB, "CalRGB": _RGB, "RGB": _RGB}
_SPACES |= {"DeviceCMYK": _CMYK, "CMYK": _CMYK, "Separation": _INK}
_CHANNELS = {_GREY: 1, _RGB: 3, _CMYK: 4, _INDEXED: 1, _INK: 1}
_PHOTOMETRIC = {_GREY: 1, _RGB: 2, _CMYK: 5, _INDEXED: 3, _INK: 0}  # of TIFF


@dataclass(slots=True)
class _Picture:
    """A picture of the PDF: its stream, where it is shown, and what it is called."""

    stream: Any
    inline: int = 0
    pages: list[int] = field(default_factory=list)


def members(archive: Archive, budget: Budget) -> Iterator[Member]:
    """The pictures of a PDF, then its attachments; raises ReadFailure if it is damaged or encrypted."""
    try:
        import pikepdf
    except ImportError as error:
        raise ReadFailure(
            FailureCode.MISSING_EXTRA,
            "PDF files need the package pikepdf, which is not installed.",
            "pip install pikepdf",
        ) from error
    damage: ReadFailure | None = None
    mended: _Mended | None = None
    with archive.seekable() as stream:
        total = stream.seek(0, 2)
        stream.seek(0)
        stream = body = io.BytesIO(stream.read()) if total <= _IN_MEMORY else stream  # qpdf jumps about
        end = rfind(stream, b"%%EOF", total)
        if isinstance(stream, io.BytesIO) and end >= 0 and not _OBJECT.search(stream.getbuffer(), end):
            body = io.BytesIO(stream.getbuffer()[: end + 5])  # qpdf looks for its end in the last 1,000 bytes
        try:
            document = pikepdf.open(body)
        except pikepdf.PasswordError as error:
            raise ReadFailure(
                FailureCode.ARCHIVE_ENCRYPTED,
                "The PDF is encrypted.",
                "Save it without its password (qpdf --decrypt --password=… IN.pdf OUT.pdf) and scan that.",
            ) from error
        except Exception as error:  # qpdf fed with hostile bytes raises whatever it likes
            damage, mended = _failure(error), _Mended(stream)
            try:
                document = pikepdf.open(cast(BinaryIO, mended))
            except Exception:
                raise damage from error
        with document:
            reading = _Reading(document, budget, damage, mended)
            yield from reading.members()
            if isinstance(stream, io.BytesIO):
                yield from _earlier_versions(stream.getvalue(), body is not stream, reading, budget)
        if end >= 0:
            place = "after the end of the PDF"
            tail = cast(BinaryIO, Slice(stream, end + 5, total - end - 5))
            yield from stray(tail, "(after the end)", place, skipped=b"\0\r\n\t ", quiet=True)
        if reading.damage is not None:
            raise reading.damage


def _earlier_versions(data: bytes, complete: bool, last: _Reading, budget: Budget) -> Iterator[Member]:
    """What a PDF held before programs replaced or removed it: each wrote its changes behind what was there.

    Args:
        complete: whether the last version has its end, and is `last`.
    """
    import pikepdf

    ends = [match.end() for match in islice(_VERSION_END.finditer(data), _VERSIONS + 2)]
    ends = ends[:-1] if complete else ends
    if len(ends) > _VERSIONS:
        message = f"The PDF has more than {_VERSIONS} earlier versions; not all were looked at."
        last.damage = last.damage or ReadFailure(FailureCode.ARCHIVE_LIMIT, message)
    known = last.digests() if ends else set()
    for number, end in enumerate(ends[:_VERSIONS], 1):
        with suppress(pikepdf.PdfError), pikepdf.open(io.BytesIO(data[:end]), attempt_recovery=False) as document:
            reading = _Reading(document, budget, None, None, known)
            finding = oddity(
                "pdf_earlier",
                f"It is in version {number} of the PDF and not in the last one: it was replaced or removed.",
            )
            for member in reading.members():
                yield replace(member, name=f"version-{number}/{member.name}", findings=(*member.findings, finding))
            known |= reading.digests()


class _Reading:
    """One PDF, opened."""

    def __init__(
        self,
        document: Any,
        budget: Budget,
        damage: ReadFailure | None,
        mended: _Mended | None,
        known: AbstractSet[bytes] = frozenset(),
    ) -> None:
        self._document, self._budget, self._mended, self._known = document, budget, mended, known
        self._inlines: Counter[int | None] = Counter()
        self._pictures: dict[tuple[int, int], _Picture] = {}
        self._masks: set[tuple[int, int]] = set()
        self._original: set[tuple[int, int]] = set()
        self._drawings: set[tuple[int, int]] = set()
        self._attached: dict[tuple[int, int], tuple[str, Any]] = {}
        self._steps = 0
        self.damage = damage

    def members(self) -> Iterator[Member]:
        """Each picture once, in the order of the pages; those that no page shows; the attachments."""
        streams = list(self._streams())
        self._original = {stream.objgen for stream in streams}
        with self._noting():
            for number, page in enumerate(self._document.pages, 1):
                with self._noting():
                    self._look_at(page, number)
        for stream in streams:
            if stream.objgen not in self._pictures and _text(stream.get("/Subtype")) == "Image":
                self._add(stream, None)
        for key, picture in self._pictures.items():
            if (picture.pages or key not in self._masks) and self._is_new(picture.stream):
                yield self._member(key, picture)
        warnings = [str(warning) for warning in self._document.get_warnings()]
        if self.damage is None and any(_REPAIRED.search(words) or not self._pictures for words in warnings):
            self.damage = _damaged(warnings[0])
        with self._noting():
            for name, attached in self._document.attachments.items():
                with self._noting():
                    content = attached.get_file().obj
                    self._attached.setdefault(content.objgen, (name, content))
        for stream in streams:
            if _text(stream.get("/Type")) == "EmbeddedFile":
                self._attached.setdefault(stream.objgen, (f"object-{stream.objgen[0]}", stream))
        for name, attached in filter(lambda pair: self._is_new(pair[1]), self._attached.values()):
            yield Member(f"attachment/{name}", None, self._opener(partial(_read, attached)))

    def digests(self) -> set[bytes]:
        """Of the data of each picture and attachment, as they lie in the file."""
        streams = [
            *(picture.stream for picture in self._pictures.values()),
            *(pair[1] for pair in self._attached.values()),
        ]
        return {self._digest(stream) for stream in streams}

    def _is_new(self, stream: Any) -> bool:
        return not self._known or self._digest(stream) not in self._known

    def _digest(self, stream: Any) -> bytes:
        with suppress(Exception):
            return hashlib.sha256(self._raw(stream)).digest()
        return b""

    def _streams(self) -> Iterator[Any]:
        import pikepdf

        with self._noting():
            for thing in self._document.objects:
                if isinstance(thing, pikepdf.Stream):
                    yield thing

    def _noting(self) -> _Noting:
        return _Noting(self)

    def _look_at(self, page: Any, number: int) -> None:
        seen: set[tuple[int, int]] = set()
        drawings, resources = _listed(page.obj.get("/Contents")), page.resources
        todo = [(picture, None) for picture in self._inline(drawings, resources)] + [(resources, resources)]
        if (thumbnail := page.obj.get("/Thumb")) is not None:
            self._add(thumbnail, number)
        for annotation in _values(page.obj.get("/Annots")):
            self._note_attached(annotation.get("/FS"))
            for look in _values(annotation.get("/AP")):
                todo += [(look, resources)] if _is_stream(look) else [(value, resources) for value in _values(look)]
        while todo:
            thing, resources = todo.pop(0)
            self._steps += 1
            if self._steps > _STEPS:
                raise ReadFailure(FailureCode.ARCHIVE_LIMIT, "The PDF has too many resources; not all were looked at.")
            if thing.objgen != (0, 0):
                if thing.objgen in seen:
                    continue
                seen.add(thing.objgen)
            if _is_stream(thing):
                if _text(thing.get("/Subtype")) == "Image":
                    self._add(thing, number)
                    continue
                resources = _dictionary(thing.get("/Resources")) or resources
                todo += [(picture, None) for picture in self._inline([thing], resources)]
                thing = resources
            for kind in ("/XObject", "/Pattern"):
                todo += [(value, thing) for value in _values(_get(thing, kind)) if _is_stream(value)]
            for state in _values(_get(thing, "/ExtGState")):
                todo += [(value, thing) for value in [_get(_get(state, "/SMask"), "/G")] if _is_stream(value)]
            for font in _values(_get(thing, "/Font")):  # one of type 3 draws its letters
                own = _dictionary(font.get("/Resources")) or thing
                todo += [(value, own) for value in _values(font.get("/CharProcs")) if _is_stream(value)]
                todo += [] if own is thing else [(own, own)]

    def _inline(self, drawings: list[Any], resources: Any) -> list[Any]:
        """The inline pictures of a page, a form, a pattern or a letter, as objects in their order."""
        import pikepdf

        new = []
        for drawing in drawings:
            with suppress(Exception):  # a drawing that makes no sense does not cost the others
                if drawing.objgen not in self._drawings:
                    self._drawings.add(drawing.objgen)
                    new += [drawing] if _INLINE.search(bytes(drawing.read_bytes())) else []
        with suppress(Exception):
            if new:
                spaces = pikepdf.Dictionary() if (held := _get(resources, "/ColorSpace")) is None else held
                page = {"/Type": pikepdf.Name.Page, "/Contents": pikepdf.Array(new)}
                page["/Resources"] = pikepdf.Dictionary({"/ColorSpace": spaces, "/XObject": pikepdf.Dictionary()})
                scratch = pikepdf.Page(self._document.make_indirect(pikepdf.Dictionary(page)))
                scratch.externalize_inline_images(shallow=True)
                found = _values(scratch.obj["/Resources"]["/XObject"])
                return sorted(found, key=lambda picture: cast("tuple[int, int]", picture.objgen))
        return []

    def _note_attached(self, specification: Any) -> None:
        """Remember the name of a file that is attached to a place on a page."""
        for attached in _values(_get(specification, "/EF")):
            name = _get(specification, "/UF") or _get(specification, "/F") or ""
            self._attached.setdefault(attached.objgen, (_text(name), attached))

    def _add(self, stream: Any, page: int | None) -> None:
        picture = self._pictures.setdefault(stream.objgen, _Picture(stream))
        if page is not None:
            picture.pages.append(page)
        if stream.objgen not in self._original and not picture.inline:
            self._inlines[page] += 1
            picture.inline = self._inlines[page]
        for name in ("/SMask", "/Mask"):
            # A mask has no mask: else two pictures could hide each other.
            if _is_stream(mask := stream.get(name)) and not (
                _is_stream(mask.get("/SMask")) or _is_stream(mask.get("/Mask"))
            ):
                self._masks.add(mask.objgen)

    def _member(self, key: tuple[int, int], picture: _Picture) -> Member:
        folder = f"page-{picture.pages[0]}" if picture.pages else "no-page"
        name = f"inline-{picture.inline}" if picture.inline else f"object-{key[0]}" + (f"-{key[1]}" if key[1] else "")
        try:
            ending, opener = self._content(picture.stream)
            findings = _findings(picture, pageless=self._mended is not None)
        except Exception as error:  # its dictionary makes no sense
            failure = _failure(error)
            return Member(f"{folder}/{name}", None, refused(failure.code, failure.message, failure.advice))
        return Member(f"{folder}/{name}.{ending}", None, self._opener(opener), findings=findings)

    def _content(self, stream: Any) -> tuple[str, Callable[[], bytes]]:
        """The ending that a picture's name shall have, and what makes its file."""
        filters = [_SHORT.get(name, name) for name in map(_text, _listed(stream.get("/Filter")))]
        last = filters[-1] if filters else ""
        if last in _ORIGINAL:
            return _ORIGINAL[last], lambda: self._undone(stream, len(filters) - 1)
        width, height = int(stream.get("/Width")), int(stream.get("/Height"))
        if not (0 < width < 1 << 31 and 0 < height < 1 << 31):
            raise ValueError(f"{width}×{height} pixels")
        parameters = (_listed(stream.get("/DecodeParms")) or [None])[-1]
        if last == "CCITTFaxDecode":
            return "tif", lambda: _fax(self._undone(stream, len(filters) - 1), width, height, parameters, stream)
        if last == "JBIG2Decode":
            raise ReadFailure(
                FailureCode.UNSUPPORTED_FORMAT,
                "clue does not decode JBIG2 pictures.",
                "Extract it (pdfimages -png IN.pdf OUT) and scan that.",
            )
        stencil = bool(stream.get("/ImageMask", False))
        bits = 1 if stencil else int(stream.get("/BitsPerComponent", 8))
        space, palette = (_GREY, b"") if stencil else _colours(stream.get("/ColorSpace"))
        channels = _CHANNELS[space]
        size = (width * channels * bits + 7) // 8 * height
        if size > _LARGEST or bits not in (1, 2, 4, 8, 16):
            raise ReadFailure(
                FailureCode.ARCHIVE_LIMIT, f"{width}×{height} pixels of {bits} bits are more than one picture may have."
            )
        shape = width, height, bits, space, palette
        predicted = int(_get(parameters, "/Predictor") or 1) >= 10 and filters == ["FlateDecode"]
        said = [
            int(_get(parameters, key) or usual)
            for key, usual in (("/Colors", 1), ("/Columns", 1), ("/BitsPerComponent", 8))
        ]
        if predicted and said == [channels, width, bits] and space in (_GREY, _RGB, _INDEXED):
            return "png", lambda: _png(self._raw(stream), *shape)
        return "tif", lambda: _tiff(self._pixels(stream, filters, parameters, size), *shape)

    def _raw(self, stream: Any) -> bytes:
        try:
            return bytes(stream.read_raw_bytes())
        except Exception:
            if self._mended is None or (cut := self._mended.cut_stream(stream.objgen[0])) is None:
                raise
            return cut

    def _undone(self, stream: Any, count: int) -> bytes:
        """The stream with its first `count` filters undone."""
        if not count:
            return self._raw(stream)
        import pikepdf

        filters, parameters = _listed(stream.get("/Filter")), _listed(stream.get("/DecodeParms"))
        stream.Filter = pikepdf.Array(filters[:count])
        if parameters:
            stream.DecodeParms = pikepdf.Array(parameters[:count])
        return bytes(stream.read_bytes(pikepdf.StreamDecodeLevel.generalized))

    def _pixels(self, stream: Any, filters: list[str], parameters: Any, size: int) -> bytes:
        """At most `size` bytes of pixels."""
        if filters != ["FlateDecode"] or int(_get(parameters, "/Predictor") or 1) > 1:
            return self._undone(stream, len(filters))[:size]
        inflated = Decompressed(io.BytesIO(self._raw(stream)), lambda: Inflater(wbits=15))
        pixels = bytearray()
        with suppress(EOFError, zlib.error):  # the picture is cut there
            while len(pixels) < size and (piece := inflated.read(min(size - len(pixels), 1 << 20))):
                pixels += piece
        return bytes(pixels)

    def _opener(self, make: Callable[[], bytes]) -> Callable[[], BinaryIO]:
        def open_member() -> BinaryIO:
            try:
                content = bytes(make())
                self._budget.charge_bytes(len(content))
            except Exception as error:
                raise _failure(error) from error
            return io.BytesIO(content)

        return open_member


class _Mended(ByteSource):
    """A PDF that lost its table of objects or its list of pages, with a new table and no pages."""

    def __init__(self, source: BinaryIO) -> None:
        self._source, self._position, self._total = source, 0, source.seek(0, 2)
        self._last = 0, 0
        places: dict[int, tuple[int, int]] = {}
        for at, number, generation in self._objects():
            places[number] = at, generation
            self._last = at, number
        top = max(places, default=0) + 1
        added = [b"\nendstream\nendobj\n"]
        for number, thing in (
            (top, b"<</Type/Pages/Kids[]/Count 0>>"),
            (top + 1, b"<</Type/Catalog/Pages %d 0 R>>" % top),
        ):
            places[number] = self._total + sum(map(len, added)), 0
            added.append(b"%d 0 obj\n%b\nendobj\n" % (number, thing))
        table = b"".join(b"%d 1\n%010d %05d n \n" % (number, *place) for number, place in sorted(places.items()))
        at = self._total + sum(map(len, added))
        end = b"trailer\n<</Size %d/Root %d 0 R>>\nstartxref\n%d\n%%%%EOF\n" % (top + 2, top + 1, at)
        self._added = b"".join([*added, b"xref\n0 1\n0000000000 65535 f \n", table, end])

    def cut_stream(self, number: int) -> bytes | None:
        """What is left of a stream, if it is the file's last object."""
        if number != self._last[1]:
            return None
        self._source.seek(self._last[0])
        _, found, data = self._source.read(_LARGEST).partition(b"stream")
        return data.removeprefix(b"\r").removeprefix(b"\n") if found else None

    def _objects(self) -> Iterator[tuple[int, int, int]]:
        """Position, number and generation of each object, in the order of the file."""
        position, overlap = 0, b""
        while True:
            self._source.seek(position)
            if not (data := self._source.read(CHUNK)):
                return
            text = overlap + data
            for match in _OBJECT.finditer(text):
                if match.end() > len(overlap):
                    yield position - len(overlap) + match.start(1), int(match[1]), int(match[2])
            position, overlap = position + len(data), text[-40:]

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = 0, /) -> int:
        self._position = offset + (0, self._position, self._total + len(self._added))[whence]
        return self._position

    def _next(self, size: int) -> bytes:
        if self._position < self._total:
            self._source.seek(self._position)
            data = self._source.read(min(size, self._total - self._position))
        else:
            data = self._added[self._position - self._total :][:size]
        self._position += len(data)
        return data


class _Noting:
    """Notes the first failure inside it, and continues after it."""

    def __init__(self, reading: _Reading) -> None:
        self._reading = reading

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> bool:
        if not isinstance(error, Exception):
            return False
        self._reading.damage = self._reading.damage or _failure(error)
        return True


def _failure(error: Exception) -> ReadFailure:
    if isinstance(error, ReadFailure):
        return error
    if isinstance(error, MemoryError):
        return ReadFailure(FailureCode.ARCHIVE_LIMIT, "Unpacking needs more memory than allowed.", UNPACK_ADVICE)
    return _damaged(str(error) if type(error).__module__.startswith("pikepdf") else "an object makes no sense")


def _damaged(words: str) -> ReadFailure:
    words = re.sub(r"(stream )?<[^>]*>(, |: )?", "", words).strip() or "it makes no sense"  # a memory address
    return ReadFailure(FailureCode.ARCHIVE_CORRUPT, f"The PDF is damaged ({words.splitlines()[0][:300]}).")


def _findings(picture: _Picture, *, pageless: bool) -> tuple[Finding, ...]:
    stream, found = picture.stream, []
    if pageless:
        found.append(("pdf_unused", "The list of pages is lost: which page of the PDF shows it is not known."))
    elif not picture.pages:
        found.append(("pdf_unused", "No page of the PDF shows it: it may be left from an earlier version."))
    elif len(picture.pages) > 1:
        pages = ", ".join(map(str, picture.pages[:_PAGES_SHOWN])) + (", …" if picture.pages[_PAGES_SHOWN:] else "")
        found.append(("pdf_pages", f"The PDF shows it on {len(picture.pages)} pages: {pages}."))
    for key, kind in (("/SMask", "soft mask"), ("/Mask", "mask")):
        if _is_stream(mask := stream.get(key)):
            statement = (
                f"Object {mask.objgen[0]} of the PDF is its {kind}: it hides parts of the picture, and "
                "is not judged unless a page shows it."
            )
            found.append(("pdf_mask", statement))
    if bool(stream.get("/ImageMask", False)):
        found.append(("pdf_stencil", "It is a stencil: the page shows it in one colour."))
    decode = [float(value) for value in _listed(stream.get("/Decode"))]
    if any(low > high for low, high in zip(decode[::2], decode[1::2], strict=False)):
        found.append(("pdf_inverted", "The page shows it with its levels inverted."))
    return tuple(oddity(kind, statement) for kind, statement in found)


def _read(stream: Any) -> bytes:
    return bytes(stream.read_bytes())


def _text(value: Any) -> str:
    try:
        return "" if value is None else str(value).removeprefix("/")
    except UnicodeDecodeError:  # a name of other bytes means nothing here
        return ""


def _is_stream(thing: Any) -> bool:
    import pikepdf

    return isinstance(thing, pikepdf.Stream)


def _get(thing: Any, key: str) -> Any:
    import pikepdf

    return thing.get(key) if isinstance(thing, pikepdf.Dictionary | pikepdf.Stream) else None


def _dictionary(thing: Any) -> Any:
    """The thing if it is a dictionary, else None."""
    import pikepdf

    return thing if isinstance(thing, pikepdf.Dictionary) else None


def _values(thing: Any) -> Iterator[Any]:
    """The dictionaries and streams that an array or a dictionary holds."""
    import pikepdf

    held = (
        thing if isinstance(thing, pikepdf.Array) else thing.values() if isinstance(thing, pikepdf.Dictionary) else ()
    )
    return (value for value in cast("Any", held) if isinstance(value, pikepdf.Dictionary | pikepdf.Stream))


def _listed(thing: Any) -> list[Any]:
    """An array's values; another thing as a list of one."""
    import pikepdf

    return [] if thing is None else list(cast("Any", thing)) if isinstance(thing, pikepdf.Array) else [thing]


def _colours(space: Any) -> tuple[str, bytes]:
    """The kind of a colour space, and of an indexed one the palette, three bytes a colour; raises ReadFailure."""
    parts = _listed(space)
    name = _text(parts[0]) if parts else "DeviceGray"
    if name in ("Indexed", "I"):
        base, _ = _colours(parts[1])
        lookup = bytes(parts[3].read_bytes()) if _is_stream(parts[3]) else bytes(parts[3])
        return _INDEXED, b"".join(_as_rgb(base, lookup))
    if name == "ICCBased":
        name = {1: "DeviceGray", 3: "DeviceRGB", 4: "DeviceCMYK"}.get(int(parts[1].get("/N")), name)
    if name == "DeviceN" and len(_listed(parts[1])) == 1:
        name = "Separation"
    if name not in _SPACES:
        message = f"clue does not read pictures of the colour space {name[:60]}."
        raise ReadFailure(FailureCode.UNSUPPORTED_FORMAT, message, "Export the page as TIFF or PNG and scan that.")
    return _SPACES[name], b""


def _as_rgb(base: str, lookup: bytes) -> Iterator[bytes]:
    step = _CHANNELS[base]
    for at in range(0, min(len(lookup), 256 * step) // step * step, step):
        colour = lookup[at : at + step]
        if base == _CMYK:
            colour = bytes((255 - ink) * (255 - colour[3]) // 255 for ink in colour[:3])
        elif base != _RGB:
            colour = 3 * (colour if base == _GREY else bytes([255 - colour[0]]))
        yield colour


def _png(deflated: bytes, width: int, height: int, bits: int, space: str, palette: bytes) -> bytes:
    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(data, zlib.crc32(name)))

    kind = {_GREY: 0, _RGB: 2, _INDEXED: 3}[space]
    colours = [chunk(b"PLTE", palette[: 3 << bits])] if space == _INDEXED else []
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, bits, kind, 0, 0, 0))
    return b"".join([b"\x89PNG\r\n\x1a\n", header, *colours, chunk(b"IDAT", deflated), chunk(b"IEND", b"")])


def _tiff(pixels: bytes, width: int, height: int, bits: int, space: str, palette: bytes) -> bytes:
    more: dict[int, list[int]] = {}
    if space == _INDEXED:
        colours = palette[: 3 << bits].ljust(3 << bits, b"\0")
        more[320] = [257 * level for level in chain(colours[::3], colours[1::3], colours[2::3])]
    return _tiff_file(pixels, width, height, [bits] * _CHANNELS[space], 1, _PHOTOMETRIC[space], more)


def _fax(data: bytes, width: int, height: int, parameters: Any, stream: Any) -> bytes:
    k = int(_get(parameters, "/K") or 0)
    width = int(_get(parameters, "/Columns") or 1728)
    black_is_1 = bool(_get(parameters, "/BlackIs1") or False)
    options = {} if k < 0 else {292: [int(k > 0)]}
    return _tiff_file(data, width, height, [1], 4 if k < 0 else 3, int(black_is_1), options)


def _tiff_file(
    data: bytes,
    width: int,
    height: int,
    bits: list[int],
    compression: int,
    photometric: int,
    more: dict[int, list[int]],
) -> bytes:
    """A big-endian TIFF of one strip, which is the data as they are."""
    tags = {256: [width], 257: [height], 258: bits, 259: [compression], 262: [photometric], 273: [0]}
    tags |= {277: [len(bits)], 278: [height], 279: [len(data)], 284: [1]} | more
    behind = 8 + 2 + 12 * len(tags) + 4
    arrays = b""
    for tag, values in tags.items():
        if tag not in (256, 257, 273, 278, 279, 292) and len(values) > 2:
            arrays += struct.pack(f">{len(values)}H", *values)
    tags[273] = [behind + len(arrays)]
    entries = []
    for tag, values in sorted(tags.items()):
        long = tag in (256, 257, 273, 278, 279, 292)
        packed = struct.pack(f">{len(values)}{'I' if long else 'H'}", *values)
        if len(packed) > 4:
            place, behind = behind, behind + len(packed)
            packed = struct.pack(">I", place)
        entries.append(struct.pack(">HHI", tag, 4 if long else 3, len(values)) + packed.ljust(4, b"\0"))
    return b"".join([b"MM\0*\0\0\0\x08", struct.pack(">H", len(entries)), *entries, bytes(4), arrays, data])
