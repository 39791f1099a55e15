"""From bytes to pixels, with Pillow: 8-bit RGB as stored, and a word on everything that was done to get there.

This runs in the decoder's own process (see `sandbox`), since the bytes are an attacker's. The type was sniffed
before; Pillow gets exactly that one decoder and never tries others. Sizes are checked from the header before
anything is decompressed.
"""

from __future__ import annotations

import importlib
import io
import warnings
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from typing import Any

from PIL import AvifImagePlugin, Image, ImageFile

from clue_cli.evidence.formats import FORMATS
from clue_cli.evidence.jpeg import structure
from clue_cli.evidence.metadata import clean_text, file_finding, file_findings, read_exif
from clue_cli.evidence.salvage import NothingLeftError, Salvaged, missing_end, salvage, salvage_jpeg, whole_jpeg
from clue_cli.evidence.thumbnail import compare, embedded
from clue_cli.evidence.trailing import View, after_jpeg
from clue_cli.records import ExifBrief, FailureCode, Finding
from model.images.pixels import orientation_of, to_rgb

_SUBFILE_TYPE = 254  # TIFF tag
_WARNINGS = 5  # at most so many of Pillow's own warnings are passed on


@dataclass(frozen=True, slots=True)
class DecodeLimits:
    """What one picture may cost.

    Attributes:
        max_megapixels: width × height of a page, millions of pixels.
        max_pages: pages (frames) of one file.
        seconds: wall-clock time of one page.
        memory_mib: address space of a decoder's process, MiB; None: generous for `max_megapixels`.
    """

    max_megapixels: float = 250.0
    max_pages: int = 1000
    seconds: float = 60.0
    memory_mib: int | None = None

    def address_space(self) -> int:
        """Bytes of address space a decoder may use.

        Pillow keeps 4 bytes a pixel; with alpha or a turn there are three such copies, beside the file's bytes.
        """
        if self.memory_mib is not None:
            return self.memory_mib << 20
        return (4 << 30) + int(self.max_megapixels * 1e6 * 16)


@dataclass(frozen=True, slots=True)
class PageCount:
    """Comes before the pages of a file that holds several, so that a crash costs one of them only."""

    page_count: int


@dataclass(frozen=True, slots=True)
class Page:
    """One decoded page; `image` is 8-bit RGB as stored, until the next page is asked for. Else as in `Photo`."""

    page: int
    page_count: int
    image: Image.Image
    orientation: int
    decoding: tuple[str, ...]
    findings: tuple[Finding, ...]
    exif: ExifBrief
    rows: tuple[int, int] | None = None
    missing: str = ""
    doubt: str | None = None
    thumbnail: tuple[str, Image.Image] | None = None


@dataclass(frozen=True, slots=True)
class PageFailure:
    """One page that could not be decoded; `page` is None if it is the whole file, or all pages beyond the limit."""

    page: int | None
    page_count: int | None
    code: FailureCode
    message: str
    advice: str | None = None

    def as_message(self) -> dict[str, Any]:
        """Plain JSON types."""
        return asdict(self)


Decoded = PageCount | Page | PageFailure
"""What decoding a file yields."""


def decode_pages(
    data: bytes,
    sniffed_type: str,
    limits: DecodeLimits,
    gif_all_frames: bool = False,
    first_page: int = 0,
    as_evidence: bool = False,
) -> Iterator[Decoded]:
    """Decode a picture page by page.

    Args:
        data: the file.
        sniffed_type: a type of kind PICTURE.
        limits: what a page may cost; the clock is the caller's.
        gif_all_frames: each frame of a GIF is a page; else only the first one.
        first_page: pages before this one are passed over.
        as_evidence: a cut or damaged picture is decoded as far as it goes, and further views in a JPEG are pages; else
            the one is a failure, and the others are not decoded.

    Yields:
        `PageCount` if there are several, then one `Page` or `PageFailure` per page, in order. Whatever the bytes
        hold, nothing is raised.
    """
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            image = _open(data, sniffed_type)
        except Exception as error:  # Pillow fed with hostile bytes raises whatever it likes
            yield _failure(None, None, error, missing_end(data, sniffed_type))
            return
        with image:
            pages = _Pages(data, sniffed_type, image, limits, gif_all_frames, caught, as_evidence)
            yield from pages.decode(first_page)


class _Refused(Exception):
    """A picture that is not decoded, for a reason that is known."""

    def __init__(self, code: FailureCode, message: str, advice: str | None = None) -> None:
        super().__init__(message)
        self.code, self.message, self.advice = code, message, advice


def _failure(page: int | None, page_count: int | None, error: Exception, cut: str | None = None) -> PageFailure:
    if isinstance(error, _Refused):
        return PageFailure(page, page_count, error.code, error.message, error.advice)
    if isinstance(error, NothingLeftError):
        cut = str(error)
    if isinstance(error, MemoryError):
        advice = "Lower --max-megapixels, or use a machine with more memory."
        message = "Decoding needs more memory than it was given."
        return PageFailure(page, page_count, FailureCode.OUT_OF_MEMORY, message, advice)
    reason = clean_text(error) or type(error).__name__
    message = cut or f"The picture is damaged or cut: {reason}."
    return PageFailure(page, page_count, FailureCode.CORRUPT_IMAGE, message)


def _open(data: bytes, sniffed_type: str) -> ImageFile.ImageFile:
    Image.MAX_IMAGE_PIXELS = None  # ours is checked for each page, and its message names the option
    AvifImagePlugin.DEFAULT_MAX_THREADS = 1  # the pool is the parallelism
    plugin = FORMATS[sniffed_type].pillow
    assert plugin is not None, sniffed_type
    if plugin == "HEIF":
        try:
            importlib.import_module("pillow_heif").register_heif_opener()
        except ImportError as error:
            raise _Refused(
                FailureCode.MISSING_EXTRA,
                "HEIC pictures need the extra `heic`, which is not installed.",
                "pip install 'clue-forensics[heic]'",
            ) from error
    return Image.open(io.BytesIO(data), formats=[plugin])


class _Pages:
    """The pages of one opened file."""

    def __init__(
        self,
        data: bytes,
        sniffed_type: str,
        image: ImageFile.ImageFile,
        limits: DecodeLimits,
        gif_all_frames: bool,
        caught: list[warnings.WarningMessage],
        as_evidence: bool,
    ) -> None:
        self._data, self._type, self._image = data, sniffed_type, image
        self._limits, self._gif_all_frames, self._caught = limits, gif_all_frames, caught
        self._as_evidence = as_evidence
        self._jpeg = structure(data) if sniffed_type == "jpeg" else None
        self._views: list[View] = []

    def decode(self, first_page: int) -> Iterator[Decoded]:
        count, surplus = 1, False
        findings: list[Finding] = []
        exif = ExifBrief()
        try:
            self._check_size()
            exif, findings = self._about_file()
            if self._type == "tiff" or (self._type == "gif" and self._gif_all_frames):
                count, surplus = self._count_pages()
            if self._as_evidence and self._views:
                count = min(1 + len(self._views), self._limits.max_pages)
                surplus = count <= len(self._views)
        except Exception as error:  # as above
            yield _failure(None, None, error)
            return
        if count > 1:
            yield PageCount(count)
        for page in range(first_page, count):
            if page and self._views:
                yield self._view(page, count)
                continue
            try:
                yield self._page(page, count, exif, findings)
            except Exception as error:  # as above; the other pages go on
                yield _failure(page, count, error, missing_end(self._data, self._type))
        if surplus:
            yield PageFailure(
                None,
                count,
                FailureCode.TOO_MANY_PAGES,
                f"The file holds more than {count} pages; the rest was not examined.",
                "Raise --max-pages.",
            )

    def _view(self, page: int, count: int) -> Decoded:
        """A further view in a JPEG, which is a JPEG of its own."""
        view = self._views[page - 1]
        data = self._data[view.start : view.end]
        decoded = next(iter(decode_pages(data, "jpeg", replace(self._limits, max_pages=1), as_evidence=True)))
        if not isinstance(decoded, Page):
            return replace(decoded, page=page, page_count=count) if isinstance(decoded, PageFailure) else decoded
        said = file_finding("further_view", f"It lies in the file behind its main picture, as a {view.name}.")
        return replace(decoded, page=page, page_count=count, findings=(said, *decoded.findings))

    def _count_pages(self) -> tuple[int, bool]:
        """How many pages there are, at most the limit, and whether there are more."""
        count = 1
        while count <= self._limits.max_pages:
            try:
                self._image.seek(count)
            except EOFError:
                return count, False
            except Exception:  # as above; a page that cannot even be found is reported when its turn comes
                return count + 1, False
            count += 1
        return self._limits.max_pages, True

    def _check_size(self) -> None:
        width, height = self._image.size
        megapixels = width * height / 1e6
        if megapixels > self._limits.max_megapixels:
            raise _Refused(
                FailureCode.TOO_MANY_PIXELS,
                f"{width} × {height} are {megapixels:.1f} megapixels; the limit is {self._limits.max_megapixels:g}.",
                "Raise --max-megapixels.",
            )
        if not megapixels:
            raise _Refused(FailureCode.CORRUPT_IMAGE, f"The picture is {width} × {height} pixels large.")

    def _about_file(self) -> tuple[ExifBrief, list[Finding]]:
        info = self._image.info
        block = self._data if self._type == "tiff" else info.get("exif", b"")
        exif, findings = read_exif(block) if isinstance(block, bytes) else (ExifBrief(), [])
        if self._type == "tiff":  # what exifread takes for a thumbnail there is the second page
            exif = exif.model_copy(update={"thumbnail_present": False})
        xmp = info.get("xmp") or info.get("XML:com.adobe.xmp") or b""
        xmp = xmp.encode("utf-8", "replace") if isinstance(xmp, str) else bytes(xmp)
        findings += file_findings(self._data, self._type, exif, xmp, self._jpeg)
        if self._jpeg is not None:
            trailing = after_jpeg(self._data, self._jpeg)
            self._views, findings = trailing.views, findings + trailing.findings
        return exif, findings + self._unseen_frames()

    def _unseen_frames(self) -> list[Finding]:
        frames = getattr(self._image, "n_frames", 1) if self._type in ("png", "webp", "avif", "heic") else 1
        if self._type == "gif" and not self._gif_all_frames and getattr(self._image, "is_animated", False):
            statement = "It is animated; only its first frame was examined (--gif-frames all examines each)."
        elif frames > 1:
            what = "main picture" if self._type == "heic" else "first frame"
            statement = f"It holds {frames} pictures; only the {what} was examined."
        else:
            return []
        return [file_finding("pictures_not_examined", statement)]

    def _page(self, page: int, count: int, exif: ExifBrief, findings: list[Finding]) -> Page:
        if self._image.tell() != page and self._type in ("tiff", "gif"):
            self._image.seek(page)
        self._check_size()
        image = self._image
        if page and self._is_reduced():
            statement = "This page is a reduced-size version of another one."
            findings = [*findings, file_finding("reduced_size_page", statement)]
        orientation = orientation_of(image)
        found = self._decoded(page, image)
        decoding = found.decoding
        if orientation != 1:
            if found.rows is not None:
                note = "Rows are those of the picture as stored, before it is turned for display."
                found.findings.append(file_finding("rows_as_stored", note))
            decoding.append(f"EXIF orientation {orientation} applied")
        if image.info.get("icc_profile"):
            decoding.append("ICC profile present, not applied")
        said = [f"Pillow: {clean_text(entry.message)}" for entry in self._caught[:_WARNINGS]]
        messages = (file_finding("decoder_message", text) for text in dict.fromkeys(said))
        thumbnail, unread = self._other_thumbnail(image, found) if self._as_evidence and not page else (None, [])
        about = (*found.findings, *findings, *messages, *unread)
        left = found.rows, found.reason, found.doubt
        return Page(page, count, found.image, orientation, tuple(decoding), about, exif, *left, thumbnail)

    def _other_thumbnail(
        self, image: ImageFile.ImageFile, found: Salvaged
    ) -> tuple[tuple[str, Image.Image] | None, list[Finding]]:
        """A thumbnail in the file that shows something else, and where it is; findings about others."""
        block, unread = image.info.get("exif", b""), []
        if found.rows is not None or not isinstance(block, bytes):  # it would show what is lost
            return None, []
        for where, thumbnail in embedded(self._data, block, self._jpeg):
            try:
                compared = compare(thumbnail, found.image)
            except MemoryError:
                raise
            except Exception:  # as above
                statement = f"The thumbnail that the file holds ({where}) cannot be read."
                unread.append(file_finding("thumbnail_unread", statement))
                continue
            if compared.differs:
                return (where, compared.image), unread
        return None, unread

    def _decoded(self, page: int, image: ImageFile.ImageFile) -> Salvaged:
        """The pixels, all of them or as far as they go."""
        jpeg = self._jpeg if self._as_evidence else None
        if jpeg is None or jpeg.end is not None:
            try:
                if self._type in ("gif", "heic"):  # a frame or a picture may turn out larger than the header said
                    image.load()
                    self._check_size()
                found = Salvaged(*to_rgb(image))
            except (MemoryError, _Refused):
                raise
            except Exception as error:  # as above
                if not self._as_evidence:
                    raise
                return self._salvaged(page, error)
            if jpeg is None:
                return found
            said = whole_jpeg(self._data, jpeg, found.image)
            if said is not None:
                found.findings += said
                if said:
                    found.doubt = "the compressed data are damaged, and rows may be displaced"
                return found
        return self._salvaged(page, None)

    def _salvaged(self, page: int, error: Exception | None) -> Salvaged:
        if self._jpeg is not None:
            return salvage_jpeg(self._data, self._jpeg)
        if self._type in ("heic", "avif", "webp"):  # their decoders give all or nothing
            assert error is not None
            raise error

        def opened() -> ImageFile.ImageFile:
            image = _open(self._data, self._type)
            if page:
                image.seek(page)
            return image

        try:
            return salvage(opened)
        except (MemoryError, NothingLeftError):
            raise
        except Exception:
            raise error from None  # type: ignore[misc]  # the first one says more

    def _is_reduced(self) -> bool:
        kind = self._image.tag_v2.get(_SUBFILE_TYPE, 0) if self._type == "tiff" else 0  # type: ignore[attr-defined]
        return isinstance(kind, int) and bool(kind & 1)
