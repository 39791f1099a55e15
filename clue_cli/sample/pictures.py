"""The pictures of the sample: authentic photographs, and forgeries of them with known masks.

The forgeries imitate how forgeries come about: a host that has been a JPEG before, an object from a picture with
another history, soft seams. Only photographs in the public domain or under CC0 are used (`SOURCES`), as
scikit-image's documentation of `skimage.data` states it.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from scipy.ndimage import gaussian_filter
from skimage.restoration import inpaint_biharmonic

from clue_cli.errors import ClueError

Pixels = NDArray[np.uint8]  # H×W×3
Mask = NDArray[np.bool_]  # H×W, true where the image was edited
Shape = tuple[str, tuple[int, ...]]  # ImageDraw's "ellipse" (x0, y0, x1, y1) or "polygon" (x, y, x, y, …)

SOURCES = {
    "astronaut.png": "Eileen Collins, NASA. Public domain.",
    "camera.png": "Photograph by Lav Varshney. CC0.",
    "chelsea.png": "Chelsea the cat, photograph by Stefan van der Walt. CC0.",
    "coffee.png": "Photograph by Rachel Michetti, courtesy of Pikolo Espresso Bar. CC0.",
    "gravel.png": "Gravel04 of cc0textures.com. CC0.",
    "hubble_deep_field.jpg": "Hubble eXtreme Deep Field, NASA. Public domain.",
    "retina.jpg": "Fundus photograph by Mikael Häggström. CC0.",
    "rocket.jpg": "Falcon 9 with DSCOVR, SpaceX. Public domain.",
}


@dataclass(frozen=True, slots=True)
class Picture:
    """One image and the truth about it.

    Attributes:
        pixels: H×W×3 uint8, as displayed.
        label: `authentic`, `spliced`, `copy-moved` or `removed`.
        how: what was done, in words.
        sources: the keys of `SOURCES` it was made from.
        mask: H×W, true where it was edited; None if authentic.
    """

    pixels: Pixels
    label: str
    how: str
    sources: tuple[str, ...]
    mask: Mask | None = None


def _source(name: str) -> Pixels:
    path = files("skimage") / "data" / name
    if not path.is_file():
        raise ClueError(f"scikit-image comes without its photograph {name}.", "Install scikit-image with pip.")
    with path.open("rb") as file, Image.open(file) as image:
        return np.array(image.convert("RGB"))


def jpeg(pixels: Pixels, quality: int, exif: Image.Exif | None = None) -> bytes:
    """The pixels as a JPEG file of this quality (1 to 100)."""
    buffer = io.BytesIO()
    options = {} if exif is None else {"exif": exif.tobytes()}
    Image.fromarray(pixels).save(buffer, "JPEG", quality=quality, **options)
    return buffer.getvalue()


def _after_jpeg(pixels: Pixels, quality: int) -> Pixels:
    """The pixels after one JPEG compression: the history that a host brings along."""
    with Image.open(io.BytesIO(jpeg(pixels, quality))) as image:
        return np.array(image)


def _draw(like: Pixels, *shapes: Shape) -> Mask:
    """The union of the shapes as a mask of `like`'s height and width."""
    image = Image.new("L", (like.shape[1], like.shape[0]))
    draw = ImageDraw.Draw(image)
    for kind, xy in shapes:
        getattr(draw, kind)(xy, fill=1)
    return np.array(image) > 0


def _shift(array: NDArray[np.generic], dx: int, dy: int, height: int, width: int) -> NDArray[np.generic]:
    """A height×width canvas of zeros with the array laid at (dx, dy), cut at the borders."""
    canvas = np.zeros((height, width, *array.shape[2:]), array.dtype)
    top, left = max(dy, 0), max(dx, 0)
    part = array[top - dy : height - dy, left - dx : width - dx]
    canvas[top : top + part.shape[0], left : left + part.shape[1]] = part
    return canvas


def _paste(host: Pixels, donor: Pixels, mask: Mask, dx: int, dy: int) -> tuple[Pixels, Mask]:
    """The masked part of the donor laid over the host, moved by (dx, dy) pixels, with a seam of about two pixels."""
    height, width = host.shape[:2]
    moved = np.asarray(_shift(mask, dx, dy, height, width), dtype=np.bool_)
    alpha = gaussian_filter(moved.astype(np.float64), 0.8)[..., None]
    blend = (1 - alpha) * host + alpha * _shift(donor, dx, dy, height, width).astype(np.float64)
    return blend.round().astype(np.uint8), moved


def _splice(host: str, donor: str, *shapes: Shape, at: tuple[int, int], quality: int, scale: float = 1.0) -> Picture:
    """An object of one photograph in another. `quality`: of the JPEG the host was; `scale`: of the object."""
    base, other = _after_jpeg(_source(host), quality), _source(donor)
    mask = _draw(other, *shapes)
    if scale != 1.0:
        size = (round(other.shape[1] * scale), round(other.shape[0] * scale))
        other = np.array(Image.fromarray(other).resize(size, Image.Resampling.LANCZOS))
        mask = np.array(Image.fromarray(mask).resize(size, Image.Resampling.NEAREST)) > 0
    pixels, moved = _paste(base, other, mask, *at)
    return Picture(pixels, "spliced", f"part of {donor} pasted into {host}", (host, donor), moved)


def _copy_move(name: str, *shapes: Shape, by: tuple[int, int], quality: int) -> Picture:
    """A part of a photograph repeated elsewhere in it, `by` (dx, dy) pixels."""
    base = _after_jpeg(_source(name), quality)
    pixels, moved = _paste(base, base, _draw(base, *shapes), *by)
    return Picture(pixels, "copy-moved", f"part of {name} repeated {by[0]:+d}, {by[1]:+d} pixels away", (name,), moved)


def _clone_out(name: str, *shapes: Shape, by: tuple[int, int], quality: int) -> Picture:
    """An object covered with its surroundings, taken from `by` (dx, dy) pixels away: the clone stamp."""
    base = _after_jpeg(_source(name), quality)
    mask = _draw(base, *shapes)
    height, width = mask.shape
    pixels, moved = _paste(base, base, np.asarray(_shift(mask, *by, height, width), np.bool_), -by[0], -by[1])
    return Picture(pixels, "removed", f"object in {name} covered with the background beside it", (name,), moved)


def _inpaint(name: str, *shapes: Shape, quality: int, grain: float = 2.0) -> Picture:
    """An object filled in smoothly from its border, with a little grain (grey levels) so that it does not look flat."""
    base = _after_jpeg(_source(name), quality)
    mask = _draw(base, *shapes)
    filled = inpaint_biharmonic(base, mask, channel_axis=-1) * 255.0
    noise = np.random.default_rng(0).normal(0.0, grain, mask.shape)[..., None]
    pixels = np.where(mask[..., None], np.clip(filled + noise, 0, 255).round(), base).astype(np.uint8)
    return Picture(pixels, "removed", f"object in {name} filled in from its surroundings", (name,), mask)


def _authentic(name: str, box: tuple[int, int, int, int] | None = None) -> Picture:
    pixels = _source(name)
    if box is not None:
        left, top, right, bottom = box
        pixels = pixels[top:bottom, left:right]
    return Picture(
        pixels, "authentic", f"{name}, not edited" if box is None else f"{name}, cropped, not edited", (name,)
    )


ROCKET: Shape = ("polygon", (321, 124, 331, 148, 333, 180, 335, 245, 335, 404, 309, 404, 309, 180, 311, 148))
CUP: tuple[Shape, ...] = (("ellipse", (78, 28, 478, 384)), ("ellipse", (170, 16, 404, 190)))


@cache
def pictures() -> Mapping[str, Picture]:
    """Every picture of the sample by a short name.

    Raises:
        ClueError: scikit-image was installed without its photographs.
    """
    return {
        "astronaut": _authentic("astronaut.png"),
        "cat": _authentic("chelsea.png"),
        "coffee": _authentic("coffee.png"),
        "launch": _authentic("rocket.jpg"),
        "sky": _authentic("hubble_deep_field.jpg"),
        "fundus": _authentic("retina.jpg", (100, 100, 868, 868)),
        "cameraman": _authentic("camera.png"),
        "cat at the table": _splice(
            "coffee.png", "chelsea.png", ("ellipse", (70, 2, 390, 292)), at=(412, 227), quality=72, scale=0.55
        ),
        "rocket in space": _splice("hubble_deep_field.jpg", "rocket.jpg", ROCKET, at=(243, 171), quality=80),
        "cup on gravel": _splice("gravel.png", "coffee.png", *CUP, at=(75, 130), quality=75, scale=0.75),
        "helmet on gravel": _splice(
            "gravel.png", "astronaut.png", ("ellipse", (283, 343, 497, 560)), at=(-140, 0), quality=65
        ),
        "two rockets": _copy_move("rocket.jpg", ROCKET, by=(67, 5), quality=78),
        "second patch": _copy_move("astronaut.png", ("ellipse", (133, 348, 209, 424)), by=(-61, -93), quality=82),
        "more galaxies": _copy_move(
            "hubble_deep_field.jpg", ("ellipse", (692, 436, 764, 508)), by=(141, 133), quality=75
        ),
        "second tower": _copy_move(
            "camera.png", ("polygon", (403, 112, 437, 112, 437, 186, 403, 186)), by=(-69, 2), quality=70
        ),
        "no rocket": _clone_out(
            "rocket.jpg", ("polygon", (302, 112, 342, 112, 342, 386, 302, 386)), by=(-53, 0), quality=74
        ),
        "no spoon": _inpaint("coffee.png", ("ellipse", (320, 232, 410, 330)), quality=80),
        "no patch": _inpaint("astronaut.png", ("ellipse", (129, 344, 213, 428)), quality=76),
    }
