"""Small sound pictures of every format clue reads, as bytes."""

from __future__ import annotations

import io
import struct
from typing import Any

import numpy as np
from PIL import Image

from tests.faults.heic import heic


def photo(width: int = 48, height: int = 32, mode: str = "RGB", seed: int = 7) -> Image.Image:
    """Smooth colours with some noise: compresses like a photograph, and no two of its rows are equal."""
    noise = np.random.default_rng(seed).integers(0, 24, (height, width, 3))
    ramp = np.stack(
        np.broadcast_arrays(
            np.linspace(0, 200, width)[None, :], np.linspace(0, 220, height)[:, None], np.full((height, width), 90.0)
        ),
        axis=-1,
    )
    return Image.fromarray((ramp + noise).astype(np.uint8)).convert(mode)


def encoded(image: Image.Image, pillow_format: str, **options: Any) -> bytes:
    """The image as a file."""
    buffer = io.BytesIO()
    image.save(buffer, pillow_format, **options)
    return buffer.getvalue()


def jpeg(width: int = 48, height: int = 32, **options: Any) -> bytes:
    return encoded(photo(width, height), "JPEG", **{"quality": 90, **options})


def tiff(pages: int = 1, **options: Any) -> bytes:
    first, *rest = (photo(seed=page) for page in range(pages))
    return encoded(first, "TIFF", save_all=True, append_images=rest, **options)


def gif(frames: int = 3) -> bytes:
    first, *rest = (photo(seed=frame).quantize(32) for frame in range(frames))
    return encoded(first, "GIF", save_all=True, append_images=rest, duration=100, loop=0)


def oriented_jpeg(orientation: int) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return jpeg(exif=exif)


def psd(channels: int = 3, depth: int = 8, mode: int = 3, version: int = 1) -> bytes:
    """A Photoshop file of no layers; its composite is stored plane by plane."""
    planes = np.moveaxis(np.asarray(photo()), 2, 0).tobytes() * channels
    header = struct.pack(">4sH6xHIIHH", b"8BPS", version, channels, 32, 48, depth, mode)
    return header + bytes(12) + b"\0\0" + planes[: channels * 48 * 32 * max(1, depth // 8)]


def jxl(**options: Any) -> bytes:
    import pylibjxl

    encoded: bytes = pylibjxl.encode(np.asarray(photo()), **options)
    return encoded


def raf(preview: bytes | None = None) -> bytes:
    """A raw file as Fujifilm's cameras write it, all but its raw data."""
    preview = preview if preview is not None else jpeg(640, 480)
    start = b"FUJIFILMCCD-RAW 0201FF383501X-T3".ljust(84, b"\0") + struct.pack(">II", 160, len(preview))
    return start.ljust(160, b"\0") + preview + b"\x5a\xc3" * 500


def one_of_each() -> dict[str, bytes]:
    """A valid file of each type that the default installation decodes, by the name of the type.

    TGA, which only its name gives away, is left out, and raw files, of which the extra makes two pages.
    """
    return {
        "jpeg": jpeg(),
        "png": encoded(photo(), "PNG"),
        "tiff": tiff(2),
        "webp": encoded(photo(), "WEBP"),
        "avif": encoded(photo(), "AVIF"),
        "bmp": encoded(photo(), "BMP"),
        "gif": gif(),
        "heic": heic(),
        "jp2": encoded(photo(), "JPEG2000"),
        "jxl": jxl(lossless=True),
        "psd": psd(),
        "ico": encoded(photo(), "ICO", sizes=[(48, 32)]),
    }
