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
from dataclasses import asdict, dataclass
from typing import Any

from PIL import AvifImagePlugin, Image, ImageFile

from clue_cli.evidence.claims import claim_findings
from clue_cli.evidence.compression import compression_findings
from clue_cli.evidence.content_credentials import credential_findings
from clue_cli.evidence.formats import FORMATS
from clue_cli.evidence.metadata import clean_text, file_finding, file_findings, read_exif
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
    data: bytes, sniffed_type: str, limits: DecodeLimits, gif_all_frames: bool = False, first_page: int = 0
) -> Iterator[Decoded]:
    """Decode a picture page by page.

    Args:
        data: the file.
        sniffed_type: a type of kind PICTURE.
        limits: what a page may cost; the clock is the caller's.
        gif_all_frames: each frame of a GIF is a page; else only the first one.
        first_page: pages before this one are passed over.

    Yields:
        `PageCount` if there are several, then one `Page` or `PageFailure` per page, in order. Whatever the bytes
        hold, nothing is raised.
    """
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            image = _open(data, sniffed_type)
        except Exception as error:  # Pillow fed with hostile bytes raises whatever it likes
            yield _failure(None, None, error)
            return
        with image:
            yield from _Pages(data, sniffed_type, image, limits, gif_all_frames, caught).decode(first_page)


class _Refused(Exception):
    """A picture that is not decoded, for a reason that is known."""

    def __init__(self, code: FailureCode, message: str, advice: str | None = None) -> None:
        super().__init__(message)
        self.code, self.message, self.advice = code, message, advice


def _failure(page: int | None, page_count: int | None, error: Exception) -> PageFailure:
    if isinstance(error, _Refused):
        return PageFailure(page, page_count, error.code, error.message, error.advice)
    if isinstance(error, MemoryError):
        advice = "Lower --max-megapixels, or use a machine with more memory."
        message = "Decoding needs more memory than it was given."
        return PageFailure(page, page_count, FailureCode.OUT_OF_MEMORY, message, advice)
    reason = clean_text(error) or type(error).__name__
    return PageFailure(page, page_count, FailureCode.CORRUPT_IMAGE, f"The picture is damaged or cut: {reason}.")


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
    ) -> None:
        self._data, self._type, self._image = data, sniffed_type, image
        self._limits, self._gif_all_frames, self._caught = limits, gif_all_frames, caught

    def decode(self, first_page: int) -> Iterator[Decoded]:
        count, surplus = 1, False
        findings: list[Finding] = []
        exif = ExifBrief()
        try:
            self._check_size()
            exif, findings = self._about_file()
            if self._type == "tiff" or (self._type == "gif" and self._gif_all_frames):
                count, surplus = self._count_pages()
        except Exception as error:  # as above
            yield _failure(None, None, error)
            return
        if count > 1:
            yield PageCount(count)
        for page in range(first_page, count):
            try:
                yield self._page(page, count, exif, findings)
            except Exception as error:  # as above; the other pages go on
                yield _failure(page, count, error)
        if surplus:
            yield PageFailure(
                None,
                count,
                FailureCode.TOO_MANY_PAGES,
                f"The file holds more than {count} pages; the rest was not examined.",
                "Raise --max-pages.",
            )

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
        findings += file_findings(self._data, self._type, exif, xmp) + claim_findings(self._image, self._data, xmp)
        findings += credential_findings(self._data, f"image/{self._type}")
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
        if self._type in ("gif", "heic"):  # a frame or a picture may turn out larger than the header said
            image.load()
            self._check_size()
        rgb, decoding = to_rgb(image)
        if orientation != 1:
            decoding.append(f"EXIF orientation {orientation} applied")
        if self._type == "jpeg":
            findings = [*findings, *compression_findings(image, rgb)]
        if image.info.get("icc_profile"):
            decoding.append("ICC profile present, not applied")
        said = [f"Pillow: {clean_text(entry.message)}" for entry in self._caught[:_WARNINGS]]
        findings = [*findings, *(file_finding("decoder_message", text) for text in dict.fromkeys(said))]
        return Page(page, count, rgb, orientation, tuple(decoding), tuple(findings), exif)

    def _is_reduced(self) -> bool:
        kind = self._image.tag_v2.get(_SUBFILE_TYPE, 0) if self._type == "tiff" else 0  # type: ignore[attr-defined]
        return isinstance(kind, int) and bool(kind & 1)
