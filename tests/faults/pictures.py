"""Small sound pictures of every format clue reads, as bytes."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
from PIL import Image


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


def heic() -> bytes:
    import pillow_heif

    pillow_heif.register_heif_opener()
    return encoded(photo(), "HEIF")


def one_of_each() -> dict[str, bytes]:
    """A valid file of each type that the default installation decodes, by the name of the type."""
    return {
        "jpeg": jpeg(),
        "png": encoded(photo(), "PNG"),
        "tiff": tiff(2),
        "webp": encoded(photo(), "WEBP"),
        "avif": encoded(photo(), "AVIF"),
        "bmp": encoded(photo(), "BMP"),
        "gif": gif(),
    }
