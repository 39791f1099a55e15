"""From bytes to pixels, with Pillow: 8-bit RGB as stored, and a word on everything that was done to get there.

This runs in the decoder's own process (see `sandbox`), since the bytes are an attacker's. The type was sniffed
before; Pillow gets exactly that one decoder and never tries others. Sizes are checked from the header before
anything is decompressed.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from typing import Any

from PIL import Image

from clue_cli.evidence.claims import claim_findings
from clue_cli.evidence.compression import compression_findings
from clue_cli.evidence.content_credentials import credential_findings
from clue_cli.evidence.jpeg import structure
from clue_cli.evidence.metadata import file_finding, file_findings, read_exif
from clue_cli.evidence.opening import DEVELOPED, Opened, Refused, check_size, explained, open_picture, words
from clue_cli.evidence.salvage import NothingLeftError, Salvaged, missing_end, salvage, salvage_jpeg, whole_jpeg
from clue_cli.evidence.streams import DecodeLimits
from clue_cli.evidence.thumbnail import compare, embedded
from clue_cli.evidence.trailing import View, after_jpeg
from clue_cli.records import ExifBrief, FailureCode, Finding
from model.images.pixels import orientation_of, to_rgb

_SUBFILE_TYPE = 254  # TIFF tag
_PAGED = ("tiff", "heic")
_ANIMATED = ("gif", "png", "webp", "avif")
_WARNINGS = 5  # most of Pillow's own warnings that are passed on


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
            opened = open_picture(data, sniffed_type, limits.max_megapixels)
        except Exception as error:  # Pillow fed with hostile bytes raises whatever it likes
            yield _failure(None, None, explained(error, data, sniffed_type), missing_end(data, sniffed_type))
            return
        with opened.image:
            yield from _Pages(opened, limits, gif_all_frames, caught, as_evidence).decode(first_page)


def _failure(page: int | None, page_count: int | None, error: Exception, cut: str | None = None) -> PageFailure:
    if isinstance(error, Refused):
        return PageFailure(page, page_count, error.code, error.message, error.advice)
    if isinstance(error, NothingLeftError):
        cut = str(error)
    if isinstance(error, MemoryError):
        advice = "Lower --max-megapixels, or use a machine with more memory."
        message = "Decoding needs more memory than it was given."
        return PageFailure(page, page_count, FailureCode.OUT_OF_MEMORY, message, advice)
    reason = words(error) or type(error).__name__
    message = cut or f"The picture is damaged or cut: {reason}."
    return PageFailure(page, page_count, FailureCode.CORRUPT_IMAGE, message)


class _Pages:
    """The pages of one opened file."""

    def __init__(
        self,
        opened: Opened,
        limits: DecodeLimits,
        gif_all_frames: bool,
        caught: list[warnings.WarningMessage],
        as_evidence: bool,
    ) -> None:
        self._data, self._type, self._image = opened.data, opened.type, opened.image
        self._opened, self._main = opened, opened.image.tell()
        self._limits, self._gif_all_frames, self._caught = limits, gif_all_frames, caught
        self._as_evidence = as_evidence
        self._jpeg = structure(opened.data) if opened.type == "jpeg" else None
        self._views: list[View] = []

    def decode(self, first_page: int) -> Iterator[Decoded]:
        count, surplus = 1, False
        findings: list[Finding] = []
        exif = ExifBrief()
        try:
            self._check_size()
            exif, findings = self._about_file()
            if self._type in _PAGED or (self._type in _ANIMATED and self._gif_all_frames):
                count, surplus = self._count_pages()
                self._image.seek(self._main)  # a page that could not be set up would pass for the one at hand
            if self._as_evidence and self._views:
                count = min(1 + len(self._views), self._limits.max_pages)
                surplus = count <= len(self._views)
        except Exception as error:  # as above
            yield _failure(None, None, explained(error, self._data, self._type))
            return
        if self._opened.developed is not None:
            count, self._views = 2, []
        if count > 1:
            yield PageCount(count)
        for page in range(first_page, count):
            if page and self._views:
                yield self._view(page, count)
                continue
            try:
                yield self._page(page, count, exif, findings)
            except Exception as error:  # as above; the other pages go on
                explanation = explained(error, self._data, self._type, page)
                yield _failure(page, count, explanation, missing_end(self._data, self._type))
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
        if self._type not in ("tiff", "gif"):  # to seek a frame is to decode it there
            frames = getattr(self._image, "n_frames", 1)
            return min(frames, self._limits.max_pages), frames > self._limits.max_pages
        count = 1
        while count <= self._limits.max_pages:
            try:
                self._image.seek(count)
            except EOFError:
                return count, False
            except Exception:  # as above; the page is reported when its turn comes
                if self._image.tell() != count:  # nothing leads on from it
                    return count + 1, False
            count += 1
        return self._limits.max_pages, True

    def _check_size(self) -> None:
        check_size(self._image.size, self._limits.max_megapixels)

    def _about_file(self) -> tuple[ExifBrief, list[Finding]]:
        info = self._image.info
        block = self._data if self._type == "tiff" else info.get("exif", b"")
        if self._type == "tiff" and self._data[2:4] in (b"+\0", b"\0+"):
            block = b""  # exifread knows no BigTIFF
        exif, findings = read_exif(block) if isinstance(block, bytes) else (ExifBrief(), [])
        if self._type == "tiff":  # what exifread takes for a thumbnail there is the second page
            exif = exif.model_copy(update={"thumbnail_present": False})
        xmp = info.get("xmp") or info.get("XML:com.adobe.xmp") or b""
        xmp = xmp.encode("utf-8", "replace") if isinstance(xmp, str) else bytes(xmp)
        findings += file_findings(self._data, self._type, exif, xmp, self._jpeg)
        if self._as_evidence:
            findings += claim_findings(self._image, self._data, xmp, sized=not self._opened.preview)
            findings += credential_findings(self._data, f"image/{self._type}")
        if self._jpeg is not None:
            trailing = after_jpeg(self._data, self._jpeg)
            self._views, findings = trailing.views, findings + trailing.findings
        return exif, [*findings, *self._opened.findings, *self._unseen_frames()]

    def _unseen_frames(self) -> list[Finding]:
        kind, statement = "pictures_not_examined", ""
        if self._type in _ANIMATED and not self._gif_all_frames and getattr(self._image, "is_animated", False):
            holds = "is animated" if self._type == "gif" else f"holds {self._image.n_frames} frames"  # type: ignore[attr-defined]
            statement = f"It {holds}; only its first frame was examined (--gif-frames all examines each)."
        elif self._type == "ico" and (count := len(self._image.info.get("sizes", ()))) > 1:
            statement = f"It holds icons of {count} sizes; only the largest was examined."
        elif self._type == "psd" and (count := _layers(self._image)):
            kind, statement = "layers", f"It has {count} layers; their composite, as the file holds it, was examined."
        return [file_finding(kind, statement)] if statement else []

    def _page(self, page: int, count: int, exif: ExifBrief, findings: list[Finding]) -> Page:
        if page and self._opened.developed is not None:
            image, orientation = self._opened.developed(), orientation_of(self._image)
            return Page(page, count, image, orientation, (DEVELOPED,), (), exif)
        if not page and (error := getattr(self._image, "first_error", None)) is not None:
            raise error
        if self._type in _PAGED or self._type in _ANIMATED:
            frame = self._frame(page)
            if self._image.tell() != frame:
                self._image.seek(frame)
        self._check_size()
        image = self._image
        if page and self._is_reduced():
            statement = "This page is a reduced-size version of another one."
            findings = [*findings, file_finding("reduced_size_page", statement)]
        orientation = orientation_of(image)
        found = self._decoded(page, image)
        decoding = [*self._opened.decoding, *found.decoding]
        if orientation != 1:
            if found.rows is not None:
                note = "Rows are those of the picture as stored, before it is turned for display."
                found.findings.append(file_finding("rows_as_stored", note))
            decoding.append(f"EXIF orientation {orientation} applied")
        camera = bool(exif.camera_make) and not any(finding.kind == "editing_software" for finding in findings)
        if self._type == "jpeg" and self._as_evidence and found.rows is None:
            findings = [*findings, *compression_findings(image, found.image, camera)]
        if image.info.get("icc_profile"):
            decoding.append("ICC profile present, not applied")
        said = [f"Pillow: {words(entry.message)}" for entry in self._caught[:_WARNINGS]]
        messages = (file_finding("decoder_message", text) for text in dict.fromkeys(said))
        thumbnail, unread = self._other_thumbnail(image, found) if self._as_evidence and not page else (None, [])
        about = (*found.findings, *findings, *messages, *unread)
        left = found.rows, found.reason, found.doubt
        return Page(page, count, found.image, orientation, tuple(decoding), about, exif, *left, thumbnail)

    def _other_thumbnail(
        self, image: Image.Image, found: Salvaged
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

    def _decoded(self, page: int, image: Image.Image) -> Salvaged:
        """The pixels, all of them or as far as they go."""
        jpeg = self._jpeg if self._as_evidence else None
        if jpeg is None or jpeg.end is not None or not jpeg.scans:
            try:
                if self._type in (
                    "gif",
                    "heic",
                    "ico",
                ):  # it may turn out larger than the header said
                    image.load()
                    self._check_size()
                found = Salvaged(*to_rgb(image))
            except (MemoryError, Refused):
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
        if self._type in ("heic", "avif", "webp", "jxl"):  # their decoders give all or nothing
            assert error is not None
            raise error

        def opened() -> Any:
            image = open_picture(self._data, self._type, self._limits.max_megapixels).image
            if page:
                image.seek(self._frame(page))
            return image

        try:
            return salvage(opened)
        except (MemoryError, NothingLeftError):
            raise
        except Exception:
            raise error from None  # type: ignore[misc]  # the first one says more

    def _frame(self, page: int) -> int:
        """The frame that is a page: the main picture of a HEIC comes first, wherever it is in the file."""
        if self._type != "heic" or page > self._main:
            return page
        return page - 1 if page else self._main

    def _is_reduced(self) -> bool:
        kind = self._image.tag_v2.get(_SUBFILE_TYPE, 0) if self._type == "tiff" else 0  # type: ignore[attr-defined]
        return isinstance(kind, int) and bool(kind & 1)


def _layers(image: Image.Image) -> int:
    try:
        return len(image.layers)  # type: ignore[attr-defined]
    except Exception:  # as above; the composite does not need them
        return 0
