"""Post-processing a picture can go through between the forger and the examiner, to measure how a method bears it.

    jpeg:70             JPEG at that quality, libjpeg's tables, 4:2:0
    webp:60             lossy WebP at that quality
    blur:5              Gaussian blur with a 5×5 kernel; its deviation follows from the size as in OpenCV
    noise:7             Gaussian noise of variance 7 in grey levels squared, each channel for itself
    resize:0.5          both sides by that factor, bicubic, averaging where it shrinks
    double-jpeg:90,70   JPEG 90, then JPEG 70 on the same grid
    social:NAME-like    simulated: see `SOCIAL`
    none                nothing
    a+b                 a, then b
    grid:NAME           several attacks, one after the other: see `GRIDS`

Pixels in, pixels out, H×W×3 uint8; metadata is gone, since only pixels are handed on. An attack depends on the seed and
the picture alone. Some change the size: the prediction is then brought to the size of the ground truth
(`model.images.maps.to_size`), and the ground truth stays as it is.
"""

from __future__ import annotations

import hashlib
import io
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from model.errors import UserError

Pixels = NDArray[np.uint8]
Step = Callable[[Pixels, np.random.Generator], Pixels]

LARGEST = 400_000_000
"""Pixels that `resize` may make."""

SOCIAL = {"facebook-like": (2048, 85), "whatsapp-like": (1600, 75), "weibo-like": (2048, 80), "wechat-like": (1280, 70)}
"""Simulated social networks: a longer side above this many pixels is shrunk to it (Lanczos), then JPEG, 4:2:0.

The platforms publish neither number and change them; these are ours, meant to be plausible, not measured. Real uploads
also adapt the quality to the picture and sharpen it: for those, use the social-network versions of the benchmarks.
"""

GRIDS = {
    "imdl-blur": [f"blur:{size}" if size else "none" for size in (0, 3, 7, 11, 15, 19, 23)],
    "imdl-noise": [f"noise:{variance}" for variance in (3, 7, 11, 15, 19, 23)],
    "imdl-jpeg": [f"jpeg:{quality}" for quality in (100, 90, 80, 70, 60, 50)],
    "resize": [f"resize:{factor:g}" for factor in (0.5, 0.75, 1.25, 1.5, 2)],
    "webp": [f"webp:{quality}" for quality in (90, 80, 70, 60, 50)],
    "double-jpeg": [f"double-jpeg:{a},{b}" for a in (95, 75) for b in (90, 70)],
    "social": [f"social:{name}" for name in SOCIAL],
}
"""`imdl-…` are IMDL-BenCo's robustness grids; the others are ours."""


class AttackError(UserError, ValueError):
    """An unknown or malformed attack; says what is expected."""


@dataclass(frozen=True, slots=True)
class Attack:
    """A named chain of steps.

    Attributes:
        name: canonical text; parsing it gives the same attack.
        steps: what is done, in order.
        simulated: whether it stands in for a platform.
    """

    name: str
    steps: tuple[Step, ...]
    simulated: bool = False

    def apply(self, pixels: Pixels, seed: int = 0) -> Pixels:
        """The picture after it, H×W×3 uint8, perhaps of another size; the same pixels and seed give the same result.

        Raises:
            AttackError: `resize` would make more than 400 megapixels, or a format cannot hold the picture.
        """
        if not self.steps:
            return pixels
        rng = np.random.default_rng([seed, *_content(pixels, self.name)])
        for step in self.steps:
            pixels = step(pixels, rng)
        return pixels


def parse(text: str) -> list[Attack]:
    """One attack, or those of a grid.

    Raises:
        AttackError: says what is expected.
    """
    name, _, argument = text.strip().partition(":")
    if name == "grid":
        if argument not in GRIDS:
            raise AttackError(f"there is no grid named {argument!r}; known are {', '.join(GRIDS)}")
        return [attack for entry in GRIDS[argument] for attack in parse(entry)]
    parts = [_step(part.strip()) for part in text.split("+")]
    names = [name for name, _ in parts if name != "none"]
    steps = tuple(step for name, step in parts if name != "none")
    return [Attack("+".join(names) or "none", steps, any(name.startswith("social:") for name in names))]


def parse_all(texts: Iterable[str]) -> list[Attack]:
    """Several, each once, in the order given.

    Raises:
        AttackError: see `parse`.
    """
    return list({attack.name: attack for text in texts for attack in parse(text)}.values())


def _content(pixels: Pixels, name: str) -> list[int]:
    """Seed words from the pixels, their shape and the attack."""
    digest = hashlib.sha256(f"{name} {pixels.shape}".encode())
    digest.update(np.ascontiguousarray(pixels).data)
    return [int.from_bytes(digest.digest()[i : i + 4], "big") for i in range(0, 32, 4)]


def _step(text: str) -> tuple[str, Step]:
    """Canonical name and function of one step."""
    name, _, argument = text.partition(":")
    if text == "none":
        return "none", lambda pixels, rng: pixels
    if name == "social":
        if argument not in SOCIAL:
            raise AttackError(f"there is no simulated network {argument!r}; known are {', '.join(SOCIAL)}")
        side, quality = SOCIAL[argument]
        return text, lambda pixels, rng: jpeg(shrunk(pixels, side), quality)
    if name not in _STEPS:
        known = ", ".join((*_STEPS, "social", "grid", "none"))
        raise AttackError(f"{text!r} is not an attack; expected NAME:VALUE with one of {known}, chained with +")
    range_, count, step = _STEPS[name]
    parts = argument.split(",") if count > 1 else [argument]
    if len(parts) != count:
        raise AttackError(f"{text!r}: expected two qualities, such as double-jpeg:90,70")
    values = [range_.read(text, part) for part in parts]
    return f"{name}:{','.join(f'{value:g}' for value in values)}", lambda pixels, rng: step(pixels, rng, *values)


@dataclass(frozen=True, slots=True)
class _Range:
    """The values that an attack takes."""

    what: str
    low: float
    high: float
    whole: bool = True
    odd: bool = False

    def read(self, text: str, argument: str) -> float:
        try:
            value = float(argument)
        except ValueError:
            value = math.nan
        fits = self.low <= value <= self.high and (not self.whole or value == int(value))
        if not fits or (self.odd and value % 2 == 0):
            raise AttackError(f"{text!r}: expected {self.what} from {self.low:g} to {self.high:g}")
        return value


_QUALITY = _Range("a quality", 1, 100)
_STEPS: dict[str, tuple[_Range, int, Callable[..., Pixels]]] = {
    "jpeg": (_QUALITY, 1, lambda pixels, rng, quality: jpeg(pixels, int(quality))),
    "webp": (_QUALITY, 1, lambda pixels, rng, quality: webp(pixels, int(quality))),
    "blur": (_Range("an odd kernel size", 1, 99, odd=True), 1, lambda pixels, rng, size: blurred(pixels, int(size))),
    "noise": (_Range("a variance", 0, 10000, whole=False), 1, lambda pixels, rng, value: noisy(pixels, value, rng)),
    "resize": (_Range("a factor", 0.05, 8, whole=False), 1, lambda pixels, rng, factor: resized(pixels, factor)),
    "double-jpeg": (_QUALITY, 2, lambda pixels, rng, a, b: jpeg(jpeg(pixels, int(a)), int(b))),
}
"""Values, how many of them, and what is done with them."""


def jpeg(pixels: Pixels, quality: int) -> Pixels:
    """Through JPEG and back: libjpeg's tables, 4:2:0."""
    return _through(pixels, "JPEG", quality=quality, subsampling=2)


def webp(pixels: Pixels, quality: int) -> Pixels:
    """Through lossy WebP and back."""
    return _through(pixels, "WEBP", quality=quality, method=4)


def _through(pixels: Pixels, name: str, **options: int) -> Pixels:
    buffer = io.BytesIO()
    try:
        Image.fromarray(pixels).save(buffer, name, **options)
    except (OSError, ValueError) as error:  # WebP holds at most 16383 pixels a side, JPEG 65535
        raise AttackError(f"{name} cannot hold {pixels.shape[1]}×{pixels.shape[0]} pixels: {error}") from error
    with Image.open(buffer, formats=(name,)) as image:
        return np.array(image.convert("RGB"))


# OpenCV's tables for small kernels, which do not follow its formula
_SMALL_KERNELS = {
    1: [1.0],
    3: [0.25, 0.5, 0.25],
    5: [0.0625, 0.25, 0.375, 0.25, 0.0625],
    7: [0.03125, 0.109375, 0.21875, 0.28125, 0.21875, 0.109375, 0.03125],
}


def gaussian_kernel(size: int) -> NDArray[np.float32]:
    """OpenCV's `getGaussianKernel(size, 0)`: deviation 0.3·((size − 1)/2 − 1) + 0.8, which IMDL-BenCo's grid uses."""
    if size in _SMALL_KERNELS:
        return np.array(_SMALL_KERNELS[size], np.float32)
    deviation = 0.3 * ((size - 1) * 0.5 - 1) + 0.8
    x = np.arange(size) - (size - 1) / 2
    kernel = np.exp(-(x**2) / (2 * deviation**2))
    return np.asarray(kernel / kernel.sum(), np.float32)


def blurred(pixels: Pixels, size: int) -> Pixels:
    """Gaussian blur with a kernel of this odd size, the border reflected without repeating the edge."""
    kernel = gaussian_kernel(size)
    out = np.empty_like(pixels)
    for channel in range(3):
        rows = ndimage.correlate1d(pixels[:, :, channel].astype(np.float32), kernel, axis=0, mode="mirror")
        both = ndimage.correlate1d(rows, kernel, axis=1, mode="mirror")
        out[:, :, channel] = np.clip(both + 0.5, 0, 255).astype(np.uint8)
    return out


def noisy(pixels: Pixels, variance: float, rng: np.random.Generator) -> Pixels:
    """Gaussian noise of this variance, rounded to the nearest grey level."""
    out = np.empty_like(pixels)
    for row in range(0, pixels.shape[0], 256):  # strips: a large picture needs no float copy
        strip = pixels[row : row + 256]
        noise = rng.standard_normal(strip.shape, dtype=np.float32) * np.float32(math.sqrt(variance))
        out[row : row + 256] = np.clip(np.rint(strip + noise), 0, 255).astype(np.uint8)
    return out


def resized(pixels: Pixels, factor: float) -> Pixels:
    """Both sides by this factor, at least one pixel each."""
    height, width = (max(1, round(side * factor)) for side in pixels.shape[:2])
    if height * width > LARGEST:
        raise AttackError(f"resize:{factor:g} would make {width}×{height} pixels")
    return np.array(Image.fromarray(pixels).resize((width, height), Image.Resampling.BICUBIC))


def shrunk(pixels: Pixels, side: int) -> Pixels:
    """The longer side brought down to at most `side` pixels (Lanczos); smaller pictures stay as they are."""
    longest = max(pixels.shape[:2])
    if longest <= side:
        return pixels
    height, width = (max(1, round(length * side / longest)) for length in pixels.shape[:2])
    return np.array(Image.fromarray(pixels).resize((width, height), Image.Resampling.LANCZOS))
