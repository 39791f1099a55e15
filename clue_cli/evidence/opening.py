"""From a picture file to an opened picture: each format by its one decoder, what clue cannot decode by its name.

This runs in the sandbox. Whatever a picture is wrapped in is undone here: the JPEG in a camera's raw file or in a
JPEG XL, and Apple's variant of PNG.
"""

from __future__ import annotations

import importlib
import io
import os
import re
import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from importlib.util import find_spec
from types import ModuleType

from PIL import AvifImagePlugin, Image, TiffImagePlugin

from clue_cli.evidence.formats import CAMERA_RAW, FORMATS
from clue_cli.evidence.jpeg import SOS, header_segments, structure
from clue_cli.evidence.locator import clean_text
from clue_cli.evidence.metadata import file_finding
from clue_cli.evidence.png_chunks import apple_to_png, without_huge_chunks
from clue_cli.evidence.unsupported import described
from clue_cli.records import FailureCode, Finding

EXPORT = "Export it as 8-bit TIFF or PNG with a program that reads it, and scan that."

_THUMBNAIL = 500  # pixels; a JPEG in a raw file with no longer side is no preview
_SHOWN_FRAMES = (0xC0, 0xC1, 0xC2)
_JPEG_START = b"\xff\xd8\xff"

DEVELOPED = "RAW data developed with the camera's white balance"
_UNSUPPORTED = re.compile(
    r"(?!.*(?:data version|unsupported or ))"  # what libheif says of damaged boxes
    r".*(?:unsupported|not supported|cannot handle|unknown pixel mode|unknown data organization)",
    re.IGNORECASE | re.DOTALL,
)
_TOO_LARGE = "Security limit exceeded: Image size"  # libheif's own limit
_ADDRESS = re.compile(r"<[^<>]* at 0x[0-9a-f]+>", re.I)


class Refused(Exception):
    """A picture that is not decoded, for a reason that is known."""

    def __init__(self, code: FailureCode, message: str, advice: str | None = None) -> None:
        super().__init__(message)
        self.code, self.message, self.advice = code, message, advice


@dataclass(slots=True)
class Opened:
    """An opened picture.

    Attributes:
        image: what Pillow, or another decoder, makes of it; mostly not loaded.
        data, type: the picture's own bytes and their type: not the file's, if another file is around them.
        decoding: what was done to get here, in words.
        findings: about what is around it.
        developed: makes the second page, which a raw file has if the extra is installed.
    """

    image: Image.Image
    data: bytes
    type: str
    decoding: list[str] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)
    developed: Callable[[], Image.Image] | None = None


def open_picture(data: bytes, sniffed_type: str, max_megapixels: float) -> Opened:
    """Open a file of kind PICTURE.

    Raises:
        Refused: it is not decoded, for a reason that is known.
        Exception: whatever the decoders raise on damaged bytes (`explained`).
    """
    Image.MAX_IMAGE_PIXELS = None  # ours is checked for each page, and its message names the option
    AvifImagePlugin.DEFAULT_MAX_THREADS = 1  # the pool is the parallelism
    if sniffed_type in CAMERA_RAW:
        return _camera_raw(data, sniffed_type, max_megapixels)
    if sniffed_type == "jxl":
        return _jpeg_xl(data, max_megapixels)
    if sniffed_type == "png":
        return _png(data, max_megapixels)
    if sniffed_type == "ico":
        _check_icons(data, max_megapixels)
    opened = Opened(_by_pillow(data, sniffed_type), data, sniffed_type)
    if sniffed_type == "heic":
        opened.findings += _auxiliary(opened.image)
    return opened


def check_size(size: tuple[int, int], max_megapixels: float) -> None:
    """Raises Refused if a picture of this width and height has too many pixels, ValueError if it has none."""
    width, height = size
    megapixels = width * height / 1e6
    if megapixels > max_megapixels:
        raise Refused(
            FailureCode.TOO_MANY_PIXELS,
            f"{width} × {height} are {megapixels:.1f} megapixels; the limit is {max_megapixels:g}.",
            "Raise --max-megapixels.",
        )
    if not megapixels:
        raise ValueError(f"it is {width} × {height} pixels large")


def words(error: object) -> str | None:
    """What an error says, fit to be shown, without what differs from run to run; None if that is nothing."""
    return clean_text(_ADDRESS.sub("", str(error)).rstrip(" ."))


def explained(error: Exception, data: bytes, sniffed_type: str, page: int = 0) -> Exception:
    """The error; or a `Refused` that names the picture, if it is of a kind that clue does not decode."""
    if isinstance(error, (Refused, MemoryError)):
        return error
    if _TOO_LARGE in str(error):
        return Refused(FailureCode.TOO_MANY_PIXELS, f"libheif does not decode so large a picture: {words(error)}.")
    refused = _UNSUPPORTED.match(str(error)) is not None
    try:
        what = described(data, sniffed_type, page, refused)
    except Exception:  # its header is damaged, too
        what = None
    if what is None and refused:
        what = f"{FORMATS[sniffed_type].short} ({words(error)})"
    if what is None:
        return error
    return Refused(FailureCode.UNSUPPORTED_FORMAT, f"clue does not decode this kind of picture: {what}.", EXPORT)


class _Tiff(TiffImagePlugin.TiffImageFile):
    """A TIFF that can be opened for its other pages when its first one is of a kind that Pillow does not know."""

    first_error: Exception | None = None

    def _setup(self) -> None:
        try:
            super()._setup()
        except Exception as error:
            if self.tell() or not self.is_animated:
                raise
            self.first_error = error
            self._mode, self._size, self.tile = "1", (1, 1), []


def _by_pillow(data: bytes, sniffed_type: str) -> Image.Image:
    plugin = FORMATS[sniffed_type].pillow
    assert plugin is not None, sniffed_type
    if plugin == "HEIF":
        _package("pi_heif", "HEIC").register_heif_opener(decode_threads=1, thumbnails=False)
    Image.init()
    factory, accept = Image.OPEN[plugin]
    if accept is not None and accept(data[:16]) is not True and plugin != "HEIF":  # it knows few brands
        raise SyntaxError(f"not a {plugin} file")
    if sniffed_type == "tiff":
        return _Tiff(io.BytesIO(data), "")
    return factory(io.BytesIO(data), "")  # as Image.open does, which keeps the plugin's reason to itself


def _package(name: str, what: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        message = f"{what} pictures need the package {name.replace('_', '-')}, which is not installed."
        raise Refused(FailureCode.MISSING_EXTRA, message, f"pip install {name.replace('_', '-')}") from error


def _png(data: bytes, max_megapixels: float) -> Opened:
    plain = apple_to_png(data, lambda size: check_size(size, max_megapixels))
    read, dropped = without_huge_chunks(plain or data)
    opened = Opened(_by_pillow(read, "png"), data, "png")
    if dropped:
        shown = ", ".join(dropped[:3]) + (f", and {len(dropped) - 3} more" if len(dropped) > 3 else "")
        statement = f"Text or profile too large to read, so not examined: {shown}."
        opened.findings.append(file_finding("metadata_too_large", statement))
    if plain is not None:
        opened.decoding.append("Apple's CgBI PNG: channels put back in order")
        opened.findings.append(file_finding("apple_png", "It is Apple's CgBI variant of PNG, as apps for iOS hold."))
        if opened.image.mode == "RGBA":
            opened.image = _straight_alpha(opened.image)
    return opened


def _straight_alpha(image: Image.Image) -> Image.Image:
    """A picture whose colours were multiplied by their alpha, without that; loaded."""
    straight = Image.frombytes("RGBa", image.size, image.tobytes()).convert("RGBA")
    straight.info = image.info
    return straight


def _auxiliary(image: Image.Image) -> list[Finding]:
    maps = [str(name).rsplit(":", 1)[-1] for name, ids in image.info.get("aux", {}).items() for _ in ids]
    maps += ["depth"] * len(image.info.get("depth_images", ()))
    if not maps:
        return []
    names = ", ".join(sorted(set(maps)))
    statement = f"Maps that belong to the picture, as phones write them, were not examined: {len(maps)} ({names})."
    return [file_finding("auxiliary_pictures", clean_text(statement) or "")]


def _check_icons(data: bytes, max_megapixels: float) -> None:
    """By each icon's own header, before Pillow decodes one: the folder of an ICO knows no size above 256."""
    for entry in range(6, 6 + 16 * int.from_bytes(data[4:6], "little"), 16):
        start = int.from_bytes(data[entry + 12 : entry + 16], "little")
        place, order = (start + 16, ">II") if data[start : start + 4] == b"\x89PNG" else (start + 4, "<ii")
        if start and place + 8 <= len(data):
            width, height = struct.unpack_from(order, data, place)
            check_size((abs(width) or 1, abs(height) or 1), max_megapixels)


def _jpeg_xl(data: bytes, max_megapixels: float) -> Opened:
    pylibjxl = _package("pylibjxl", "JPEG XL")
    header = pylibjxl.probe(data)
    check_size((header["width"], header["height"]), max_megapixels)
    with pylibjxl.JXL(threads=1) as decoder:
        try:
            jpeg = decoder.jxl_to_jpeg(data)
        except RuntimeError:
            array, info = decoder.decode(data, metadata=True)
        else:
            statement = "The JPEG that was turned into this JPEG XL was restored, bit for bit, and examined."
            finding = file_finding("restored_jpeg", statement)
            return Opened(_by_pillow(jpeg, "jpeg"), jpeg, "jpeg", ["JPEG restored from JPEG XL"], [finding])
    image = Image.fromarray(array.squeeze(-1) if array.ndim == 3 and array.shape[2] == 1 else array)
    image.format = "JXL"
    image.info = {name: info[name] for name in ("exif", "xmp", "icc_profile") if info.get(name)}
    opened = Opened(image, data, "jxl")
    if (bits := header["bits_per_sample"]) > 8:
        opened.decoding.append(f"{bits}-bit samples reduced to 8 bits")
    if header["have_animation"]:
        statement = "It is animated; only its first frame was examined."
        opened.findings.append(file_finding("pictures_not_examined", statement))
    return opened


def _camera_raw(data: bytes, sniffed_type: str, max_megapixels: float) -> Opened:
    preview = _largest_preview(data)
    developed = partial(_developed, data, max_megapixels) if find_spec("rawpy") else None
    name = FORMATS[sniffed_type].short
    if preview is None:
        if developed is not None:
            return Opened(developed(), data, sniffed_type, [DEVELOPED])
        message = f"clue does not decode this kind of picture: {name} without a JPEG preview inside."
        raise Refused(FailureCode.UNSUPPORTED_FORMAT, message, FORMATS[sniffed_type].advice)
    jpeg = data[preview.start : preview.end]
    image = _by_pillow(jpeg, "jpeg")
    if preview.exif is not None and "exif" not in image.info:
        image.info["exif"] = preview.exif
    rest = "the RAW data itself was not examined (the extra `raw` develops it)"
    if developed is not None:
        rest = "the second page is the picture developed from the RAW data"
    statement = (
        f"Examined: the camera's own JPEG preview inside the {name} file, {preview.width} × {preview.height} pixels at "
        f"byte {preview.start}; {rest}."
    )
    finding = file_finding("raw_preview", statement)
    return Opened(image, jpeg, "jpeg", [f"JPEG preview of the {name} file"], [finding], developed)


@dataclass(frozen=True, slots=True)
class _Preview:
    """A JPEG inside a raw file: from byte `start` to byte `end`, pixels, and the EXIF block of the raw file."""

    start: int
    end: int
    width: int
    height: int
    exif: bytes | None


def _largest_preview(data: bytes) -> _Preview | None:
    """The largest JPEG in a raw file that any viewer shows, None if all are thumbnails.

    It is found by its own markers and not by the tags that lead to it, which each maker puts elsewhere. The lossless
    JPEGs that hold a camera's raw data do not count.
    """
    best = None
    start = data.find(_JPEG_START)
    while start >= 0:
        end, width, height = _jpeg_at(data, start)
        if max(width, height) > _THUMBNAIL and (best is None or width * height > best[2] * best[3]):
            best = start, end, width, height
        start = data.find(_JPEG_START, end)
    return None if best is None else _Preview(*best, _raw_exif(data))


def _jpeg_at(data: bytes, start: int) -> tuple[int, int, int]:
    """Where a JPEG ends, its width and height; where to look on and zeros, if it is none that a viewer shows."""
    marker = width = height = 0
    for marker, content, _ in header_segments(data, start):
        if marker in _SHOWN_FRAMES and content + 5 <= len(data) and data[content] == 8:
            height, width = struct.unpack_from(">HH", data, content + 1)
    if marker != SOS or not width * height:
        return start + len(_JPEG_START), 0, 0
    end = structure(data, start).end
    return len(data) if end is None else end, width, height


def _raw_exif(data: bytes) -> bytes | None:
    """The raw file's EXIF block: nearly the whole file, or in Canon's CR3 a box of its own."""
    if data[:2] in (b"II", b"MM"):  # the two bytes after are a maker's own mark in some
        return data[:2] + (b"*\0" if data[:2] == b"II" else b"\0*") + data[4:]
    box = data.find(b"CMT1", 0, 1 << 20)
    if box < 4:
        return None
    return data[box + 4 : box - 4 + int.from_bytes(data[box - 4 : box], "big")]


def _developed(data: bytes, max_megapixels: float) -> Image.Image:
    """A raw file's picture as stored, not turned: 8 bits, with the camera's white balance."""
    os.environ["OMP_NUM_THREADS"] = "1"  # the pool is the parallelism
    rawpy = importlib.import_module("rawpy")
    try:
        with rawpy.imread(io.BytesIO(data)) as raw:
            check_size((raw.sizes.width, raw.sizes.height), max_megapixels)
            return Image.fromarray(raw.postprocess(use_camera_wb=True, user_flip=0))
    except rawpy.LibRawError as error:
        said = clean_text(error.args[0]) if error.args else None
        code = FailureCode.UNSUPPORTED_FORMAT if "nsupported" in (said or "") else FailureCode.CORRUPT_IMAGE
        raise Refused(code, f"The RAW data cannot be developed: {said or type(error).__name__}.") from error
