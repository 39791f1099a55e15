"""What happens to a picture between camera and evidence: JPEG with many quantizers, WebP, resizing, screenshots, noise.

Forged and authentic pictures go through the same histories, so that compression alone never means forged. A `Route` is
how an edited picture gets to the size at which it is published: as it is, resized, or as a screenshot.
"""

from __future__ import annotations

import io
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from model.data.shapes import Mask

Pixels = NDArray[np.uint8]

# The example luminance and chrominance tables of ITU-T T.81, Annex K, in natural order
STANDARD_LUMA = np.array(
    [
        [16, 11, 10, 16, 24, 40, 51, 61],
        [12, 12, 14, 19, 26, 58, 60, 55],
        [14, 13, 16, 24, 40, 57, 69, 56],
        [14, 17, 22, 29, 51, 87, 80, 62],
        [18, 22, 37, 56, 68, 109, 103, 77],
        [24, 35, 55, 64, 81, 104, 113, 92],
        [49, 64, 78, 87, 103, 121, 120, 101],
        [72, 92, 95, 98, 112, 100, 103, 99],
    ],
    dtype=np.float64,
)
STANDARD_CHROMA = np.full((8, 8), 99.0)
STANDARD_CHROMA[:4, :4] = [[17, 18, 24, 47], [18, 21, 26, 66], [24, 26, 56, 99], [47, 66, 99, 99]]
SUM_OF_INDEXES = np.add.outer(np.arange(8), np.arange(8)).astype(np.float64)

WEBP_SIDE = 16383
"""Pixels; the format holds no longer side."""


def quantizers(rng: np.random.Generator, quality: float) -> list[list[int]]:
    """A luminance and a chrominance table of about the given quality (1 to 100), 64 integers each.

    Three families, because cameras and editors do not all use the example tables: the tables of Annex K scaled as
    libjpeg does; the same with a random bend; and smooth ramps with a ceiling, as photo editors use.
    """
    scale = (5000 / quality if quality < 50 else 200 - 2 * quality) / 100
    family = rng.choice(3, p=[0.5, 0.2, 0.3])
    tables = []
    for standard in (STANDARD_LUMA, STANDARD_CHROMA):
        if family == 0:
            table = standard * scale
        elif family == 1:
            table = 16 * scale * (standard / 16) ** rng.uniform(0.5, 1.1)
        else:
            ramp = 1 + (SUM_OF_INDEXES / 7) ** rng.uniform(0.9, 1.8) * rng.uniform(2.0, 5.0)
            table = np.minimum(8 * scale * ramp, max(2.0, 64 * scale * rng.uniform(0.5, 1.0)))
        tables.append(np.clip(np.floor(table + 0.5), 1, 255).astype(int).flatten().tolist())
    return tables


def encode_jpeg(pixels: Pixels, rng: np.random.Generator, quality: float) -> bytes:
    """A JPEG file without metadata: random tables of that quality and random chroma subsampling."""
    buffer = io.BytesIO()
    subsampling = int(rng.choice(3, p=[0.4, 0.15, 0.45]))  # 4:4:4, 4:2:2, 4:2:0
    Image.fromarray(pixels).save(buffer, "JPEG", qtables=quantizers(rng, quality), subsampling=subsampling)
    return buffer.getvalue()


def jpeg(pixels: Pixels, rng: np.random.Generator, quality: float) -> Pixels:
    """Through JPEG and back, H×W×3 uint8; see `encode_jpeg`."""
    return decode(encode_jpeg(pixels, rng, quality))


def webp(pixels: Pixels, quality: int) -> Pixels:
    """Through lossy WebP and back."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "WEBP", quality=quality, method=2)
    return decode(buffer.getvalue())


def decode(data: bytes) -> Pixels:
    """The pixels of a file that was made here, H×W×3 uint8."""
    with Image.open(io.BytesIO(data)) as image:
        return np.asarray(image.convert("RGB"))


def resize(pixels: Pixels, width: int, height: int, rng: np.random.Generator | None = None) -> Pixels:
    """Resample to width × height; area averaging when shrinking by much, else a random smooth kernel."""
    if pixels.shape[1] == width and pixels.shape[0] == height:
        return pixels
    if pixels.shape[1] > 1.5 * width:
        kernel = cv2.INTER_AREA
    else:
        choices = (cv2.INTER_LINEAR, cv2.INTER_CUBIC, cv2.INTER_LANCZOS4, cv2.INTER_AREA)
        kernel = choices[int(rng.integers(4))] if rng is not None else cv2.INTER_CUBIC
    return np.asarray(cv2.resize(pixels, (width, height), interpolation=kernel), dtype=np.uint8)


def add_grain(pixels: Pixels, rng: np.random.Generator, deviation: float) -> Pixels:
    """Gaussian noise of the given standard deviation in grey levels."""
    noise = rng.standard_normal(pixels.shape, dtype=np.float32) * deviation
    return np.clip(pixels + noise + 0.5, 0, 255).astype(np.uint8)


def first_quality(rng: np.random.Generator) -> float:
    """Quality of a camera's or a web site's JPEG: 50 to 97, most around 75 to 95."""
    return float(np.clip(97 - rng.gamma(2.0, 7.0), 50, 97))


def last_quality(rng: np.random.Generator) -> float:
    """Quality of the JPEG that is published: 50 to 100, one in ten below 60, three in ten from 97.5 on."""
    draw = rng.random()
    if draw < 0.1:
        return float(rng.uniform(50, 60))
    return float(rng.uniform(60, 98.5) if draw < 0.7 else rng.uniform(97.5, 100))


@dataclass(frozen=True, slots=True)
class Published:
    """A picture as it is published.

    Attributes:
        pixels: H×W×3 uint8.
        steps: what was done, in words.
        jpeg: the file, if the last step was a JPEG and nothing was cut off after it; it decodes to `pixels`.
    """

    pixels: Pixels
    steps: list[str]
    jpeg: bytes | None = None


def publish(pixels: Pixels, rng: np.random.Generator) -> Published:
    """One history for the whole picture after the edit, the size unchanged."""
    kind = rng.choice(["jpeg", "shifted", "twice", "webp", "grain", "none"], p=[0.56, 0.07, 0.08, 0.04, 0.05, 0.20])
    if kind == "webp" and max(pixels.shape) > WEBP_SIDE:
        kind = "jpeg"
    steps: list[str] = []
    match str(kind):
        case "none":
            return Published(pixels, steps)
        case "webp":
            level = int(rng.integers(60, 98))
            return Published(webp(pixels, level), [f"webp {level}"])
        case "shifted":  # a JPEG whose grid is cropped away: a crop saved as PNG
            return Published(_off_grid_jpeg(pixels, rng, steps), steps)
        case "twice":  # half of them were cropped in between, so that the second grid is not the first
            off = rng.random() < 0.5
            pixels = _off_grid_jpeg(pixels, rng, steps) if off else _jpeg_step(pixels, rng, steps).pixels
        case "grain":
            deviation = float(rng.uniform(0.5, 4))
            pixels = add_grain(pixels, rng, deviation)
            steps.append(f"grain {deviation:.1f}")
    return _jpeg_step(pixels, rng, steps)


def _jpeg_step(pixels: Pixels, rng: np.random.Generator, steps: list[str]) -> Published:
    quality = last_quality(rng)
    data = encode_jpeg(pixels, rng, quality)
    steps.append(f"jpeg {quality:.0f}")
    return Published(decode(data), steps, data)


def _off_grid_jpeg(pixels: Pixels, rng: np.random.Generator, steps: list[str]) -> Pixels:
    top, left = (int(v) for v in rng.integers(0, 8, 2))
    quality = last_quality(rng)
    steps.append(f"jpeg {quality:.0f} grid +{left}+{top}")
    return off_grid(pixels, rng, quality, top, left)


def off_grid(pixels: Pixels, rng: np.random.Generator, quality: float, top: int, left: int) -> Pixels:
    """Through a JPEG whose 8×8 grid lies `top` and `left` pixels outside of the picture's corner."""
    padded = np.asarray(cv2.copyMakeBorder(pixels, top, 0, left, 0, cv2.BORDER_REFLECT_101), np.uint8)
    return jpeg(padded, rng, quality)[top : top + pixels.shape[0], left : left + pixels.shape[1]]


RESIZED, SCREENSHOT = 0.14, 0.03
"""Shares of the pictures that are resized after the edit, and that are captured from a screen."""

Size = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Route:
    """Sizes are (height, width) in pixels.

    Attributes:
        kind: `plain`, `resized` or `screenshot`.
        edited: size at which the picture is edited.
        shown: size it is brought to.
        corner: (top, left) of what is kept of that.
        published: size of what is kept of that.
    """

    kind: str
    edited: Size
    shown: Size
    corner: Size
    published: Size


def route_to(published: Size, rng: np.random.Generator) -> Route:
    """A random route that ends at this size."""
    kind, factor, (top, left, bottom, right) = _draw(rng, published)
    shown = (published[0] + top + bottom, published[1] + left + right)
    return Route(kind, _scaled(shown, factor), shown, (top, left), published)


def route_from(edited: Size, rng: np.random.Generator) -> Route:
    """A random route that starts at this size: that of a whole photo."""
    kind, factor, (top, left, bottom, right) = _draw(rng, edited)
    shown = _scaled(edited, 1 / factor)
    published = (shown[0] - top - bottom, shown[1] - left - right)
    if min(published) < 16:  # nothing would be left of it
        return Route("plain", edited, edited, (0, 0), edited)
    return Route(kind, edited, shown, (top, left), published)


def _draw(rng: np.random.Generator, size: Size) -> tuple[str, float, tuple[int, int, int, int]]:
    """Kind, edited size / shown size, and the margins that a screenshot cuts off (top, left, bottom, right)."""
    factor = float(rng.uniform(1.1, 2.0) if rng.random() < 0.8 else rng.uniform(0.8, 0.95))
    draw = rng.random()
    if draw < RESIZED:
        return "resized", factor, (0, 0, 0, 0)
    if draw < RESIZED + SCREENSHOT:
        rows, columns = max(2, size[0] // 32), max(2, size[1] // 32)
        top, left, bottom, right = (int(v) for v in rng.integers(0, [rows, columns, rows, columns]))
        return "screenshot", factor, (top, left, bottom, right)
    return "plain", 1.0, (0, 0, 0, 0)


def _scaled(size: Size, factor: float) -> Size:
    return max(1, round(size[0] * factor)), max(1, round(size[1] * factor))


def follow(route: Route, pixels: Pixels, mask: Mask, rng: np.random.Generator) -> tuple[Published, Mask]:
    """Publish an edited picture along the route.

    Args:
        pixels: H×W×3 uint8 of the size `route.edited`.
        mask: H×W bool, True = forged.

    Returns:
        The published picture and its mask, both of the size `route.published`.
    """
    if route.kind == "plain":
        return publish(pixels, rng), mask
    steps = []
    if rng.random() < 0.4:  # saved by the editor before somebody else made it smaller
        quality = last_quality(rng)
        pixels = jpeg(pixels, rng, quality)
        steps.append(f"jpeg {quality:.0f}")
    factor = route.shown[0] / route.edited[0]
    pixels = resize(pixels, route.shown[1], route.shown[0], rng)
    weights = cv2.resize(mask.astype(np.uint8) * 255, route.shown[::-1], interpolation=cv2.INTER_AREA)
    (top, left), (height, width) = route.corner, route.published
    window = np.s_[top : top + height, left : left + width]
    pixels, mask = np.ascontiguousarray(pixels[window]), np.asarray(weights)[window] > 127
    if route.kind == "resized":
        steps.append(f"resized by {factor:.2f}")
    else:
        steps.append(f"screenshot: shown at {factor:.2f}, cut to {width}×{height}+{left}+{top}")
        if rng.random() < 0.5:
            return Published(pixels, steps), mask
    published = publish(pixels, rng)
    return Published(published.pixels, steps + published.steps, published.jpeg), mask
