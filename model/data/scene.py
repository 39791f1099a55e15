"""What every edit works with: the host, the photos, the user's models; regions, and moving and blending them."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from model.data.history import Pixels, add_grain
from model.data.shapes import LARGEST, SMALLEST, Mask, bounding_box, drawn_shape, region_area, superpixel_shape
from model.data.source_photos import Cutout

Inpainter = Callable[[Pixels, Mask, int], Pixels]
"""(H×W×3 uint8, H×W bool that is True where to paint, seed) → H×W×3 uint8."""
Autoencoder = Callable[[Pixels], Pixels]
"""H×W×3 uint8 → the same through an encoder and its decoder."""

FEATHER = 12
"""Pixels around a region that blending may change."""
SUPERPIXELS = 0.12
"""Share of the regions whose outline follows the picture's edges."""


class PhotoSource(Protocol):
    """Authentic photos by number, and outlines of objects in them; `SourcePhotos` is one."""

    @property
    def paths(self) -> Sequence[Path]:
        """The photos."""

    @property
    def cutouts(self) -> Sequence[Cutout]:
        """Object masks."""

    def photo(self, index: int) -> Pixels:
        """Photo number `index`, H×W×3 uint8, read-only."""

    def object_mask(self, cutout: Cutout) -> NDArray[np.bool_]:
        """The cut-out's mask, H×W bool, the size of its photo."""


@dataclass(frozen=True, slots=True)
class Tools:
    """Models that the user has; without them the stand-ins of this package are used.

    Attributes:
        inpainter: paints half of the removals.
        autoencoder: makes the local re-syntheses.
        base: name of the registered base weights that the autoencoder is of, which takes pictures of any size; empty:
            it is of a folder.
    """

    inpainter: Inpainter | None = None
    autoencoder: Autoencoder | None = None
    base: str = ""


@dataclass(slots=True)
class Scene:
    """A host about to be edited.

    Attributes:
        photos: where donors come from.
        rng: every choice is drawn from it.
        host: H×W×3 uint8; edits leave it as it is.
        steps: what was done, in words; edits add to it.
        used: numbers of the photos in the picture, the host's first; edits add to it.
        own_objects: outlines of objects in the host itself, H×W bool, where there are any.
        smallest, largest: share of the picture that the smallest and the largest region cover.
        plain: only what the textbook has: drawn shapes and objects, nothing retouched.
        tools: models that the user has.
    """

    photos: PhotoSource
    rng: np.random.Generator
    host: Pixels
    steps: list[str]
    used: list[int]
    own_objects: Sequence[Cutout] = ()
    smallest: float = SMALLEST
    largest: float = LARGEST
    plain: bool = False
    tools: Tools = field(default_factory=Tools)

    def area(self) -> float:
        """Share of the picture for a new region."""
        return region_area(self.rng, self.smallest, self.largest)

    def shape(self, area: float) -> Mask:
        """A region of about `area` of the host, drawn by hand or made of superpixels, H×W bool."""
        if not self.plain and self.rng.random() < SUPERPIXELS:
            return superpixel_shape(self.rng, self.host, area)
        return drawn_shape(self.rng, self.host.shape[0], self.host.shape[1], area)

    def own_object(self) -> Mask | None:
        """The outline of an object in the host, two times out of three if there is one."""
        if not self.own_objects or self.rng.random() > 0.67:
            return None
        mask = self.photos.object_mask(self.own_objects[int(self.rng.integers(len(self.own_objects)))])
        return mask if self.smallest / 2 < mask.mean() < 0.5 else None

    def nothing(self) -> tuple[Pixels, Mask]:
        """The host unchanged, for an edit that cannot be done."""
        return self.host, np.zeros(self.host.shape[:2], bool)


@dataclass(frozen=True, slots=True)
class Window:
    """A rectangle of a picture, in pixels; bottom and right are exclusive."""

    top: int
    left: int
    bottom: int
    right: int

    @property
    def slices(self) -> tuple[slice, slice]:
        """For indexing a picture or a mask."""
        return slice(self.top, self.bottom), slice(self.left, self.right)

    @property
    def empty(self) -> bool:
        """Whether no pixel is in it."""
        return self.top >= self.bottom or self.left >= self.right

    def within(self, height: int, width: int) -> Window:
        """The part of it that lies in a picture of that size."""
        return Window(max(self.top, 0), max(self.left, 0), min(self.bottom, height), min(self.right, width))


def around(mask: Mask, margin: int) -> Window:
    """The surroundings of a non-empty mask: its bounding box and a margin in pixels, within the picture."""
    top, left, bottom, right = bounding_box(mask)
    return Window(top - margin, left - margin, bottom + margin, right + margin).within(*mask.shape)


POISSON_PIXELS = 1_500_000
"""Largest rectangle that is blended by solving Poisson's equation; it takes seconds beyond."""


def blend(scene: Scene, patch: Pixels, mask: Mask, window: Window) -> Pixels:
    """The host with `patch` where the mask is.

    Args:
        patch: what the window is to show, of the window's size.
        mask: H×W bool, True inside of the window only.
        window: holds the mask and, where the picture goes on, FEATHER pixels around it.
    """
    host, rng = scene.host, scene.rng
    how = rng.choice(["hard", "feathered", "poisson"], p=[0.4, 0.5, 0.1])
    region = mask[window.slices]
    edited = np.array(host)
    if how == "poisson":
        if _poisson_fits(mask, window):
            # OpenCV raises on a region of one, three or four pixels' height or width
            with contextlib.suppress(cv2.error):
                edited[window.slices] = _poisson(edited[window.slices], patch, region)
                scene.steps.append("poisson")
                return edited
        how = "feathered"
    alpha = region.astype(np.float32)
    if how == "feathered":
        alpha = np.asarray(cv2.GaussianBlur(alpha, (0, 0), float(rng.uniform(0.5, 2.5))), np.float32)
    scene.steps.append(str(how))
    edited[window.slices] = mixed(host[window.slices], patch, alpha)
    return edited


def mixed(below: Pixels, above: Pixels, alpha: NDArray[np.float32]) -> Pixels:
    """`above` over `below` (both H×W×3 uint8) with opacity alpha, H×W in [0, 1]."""
    return (below + (above.astype(np.float32) - below) * alpha[..., None] + 0.5).clip(0, 255).astype(np.uint8)


def _poisson_fits(mask: Mask, window: Window) -> bool:
    """Whether the region is not at the picture's edge and not too large."""
    top, left, bottom, right = bounding_box(mask)
    inside = top > 1 and left > 1 and bottom < mask.shape[0] - 2 and right < mask.shape[1] - 2
    small = mask.sum() < 0.25 * mask.size and (bottom - top) * (right - left) <= POISSON_PIXELS
    return bool(inside and small)


def _poisson(below: Pixels, above: Pixels, region: Mask) -> Pixels:
    top, left, bottom, right = bounding_box(region)
    box = np.s_[top:bottom, left:right]
    centre = (left + (right - left) // 2, top + (bottom - top) // 2)
    weights = region[box].astype(np.uint8) * 255
    source = np.ascontiguousarray(above[box])
    clone = cv2.seamlessClone(source, np.ascontiguousarray(below), weights, centre, cv2.NORMAL_CLONE)
    return np.asarray(clone, np.uint8)


def affine(scale: float, turn: float, source: tuple[float, float], target: tuple[float, float]) -> NDArray[np.float64]:
    """Turn by degrees and scale about `source` (x, y), then bring it to `target`: a 2×3 matrix as OpenCV takes it."""
    matrix = cv2.getRotationMatrix2D(source, turn, scale)
    matrix[:, 2] += np.subtract(target, source)
    return np.asarray(matrix, np.float64)


def warp(pixels: NDArray[np.uint8], matrix: NDArray[np.float64], height: int, width: int, kernel: int) -> Pixels:
    """The picture moved by the matrix onto a canvas of that size, mirrored beyond its edges."""
    warped = cv2.warpAffine(pixels, matrix, (width, height), flags=kernel, borderMode=cv2.BORDER_REFLECT_101)
    return np.asarray(warped, dtype=np.uint8)


def place(
    rng: np.random.Generator, box: tuple[int, int, int, int], scale: float, height: int, width: int
) -> tuple[float, float]:
    """Where the centre of a box of that scale goes so that most of it lies inside the canvas, (x, y)."""
    half_h, half_w = (box[2] - box[0]) * scale / 2, (box[3] - box[1]) * scale / 2
    x = rng.uniform(min(half_w * 0.8, width / 2), max(width - half_w * 0.8, width / 2))
    y = rng.uniform(min(half_h * 0.8, height / 2), max(height - half_h * 0.8, height / 2))
    return float(x), float(y)


def transfer(scene: Scene, donor: Pixels, mask: Mask, scale: float, turn: float) -> tuple[Pixels, Mask]:
    """Move the masked part of the donor into the host, scaled, turned, at a random place.

    Args:
        donor: any size, H×W×3 uint8, with some surroundings of the region.
        mask: of the donor, not empty.
    """
    rng = scene.rng
    height, width = scene.host.shape[:2]
    box = bounding_box(mask)
    source = ((box[1] + box[3]) / 2, (box[0] + box[2]) / 2)
    target = place(rng, box, scale, height, width)
    if scale == 1.0 and turn == 0.0:  # whole pixels: no resampling
        target = (source[0] + round(target[0] - source[0]), source[1] + round(target[1] - source[1]))
    else:
        scene.steps.append(f"scaled by {scale:.2f}, turned by {turn:.0f}°")
    matrix = affine(scale, turn, source, target)
    kernel = int(rng.choice([cv2.INTER_LINEAR, cv2.INTER_CUBIC, cv2.INTER_LANCZOS4]))
    # Only where it lands: a small region in a large photo costs what a small region costs.
    corners = np.array([(box[1], box[0], 1), (box[3], box[0], 1), (box[1], box[2], 1), (box[3], box[2], 1)])
    landed = corners @ matrix.T
    left, top = (int(v) for v in np.floor(landed.min(0)) - FEATHER)
    right, bottom = (int(v) for v in np.ceil(landed.max(0)) + FEATHER)
    window = Window(top, left, bottom, right).within(height, width)
    if window.empty:
        return scene.nothing()
    matrix[:, 2] -= (window.left, window.top)
    size = (window.bottom - window.top, window.right - window.left)
    patch = warp(donor, matrix, *size, kernel)
    soft = cv2.warpAffine(mask.astype(np.float32), matrix, size[::-1], flags=cv2.INTER_LINEAR)
    moved = np.zeros((height, width), bool)
    moved[window.slices] = np.asarray(soft) > 0.5
    if not moved.any():
        return scene.nothing()
    return blend(scene, patch, moved, window), moved


def restyle(pixels: Pixels, rng: np.random.Generator, steps: list[str]) -> Pixels:
    """Colour, sharpness and grain of another camera or of an editor's hand."""
    if rng.random() < 0.5:
        gain = rng.uniform(0.8, 1.2) * (1 + rng.normal(0, 0.05, 3))
        pixels = np.clip(pixels * gain + rng.normal(0, 8), 0, 255).astype(np.uint8)
        steps.append("recoloured")
    draw = rng.random()
    if draw < 0.12:
        pixels = np.asarray(cv2.GaussianBlur(pixels, (0, 0), float(rng.uniform(0.4, 1.5))))
        steps.append("blurred")
    elif draw < 0.24:
        soft = cv2.GaussianBlur(pixels, (0, 0), 1.0)
        amount = float(rng.uniform(0.3, 1.2))
        pixels = np.asarray(cv2.addWeighted(pixels, 1 + amount, soft, -amount, 0))
        steps.append("sharpened")
    elif draw < 0.34:
        pixels = add_grain(pixels, rng, float(rng.uniform(1, 6)))
        steps.append("grain")
    return pixels


def retouch_seam(scene: Scene, edited: Pixels, mask: Mask) -> tuple[Pixels, Mask]:
    """Blur or recolour a band along the region's outline, as a hand does that hides a seam; the mask grows by it."""
    rng = scene.rng
    window = around(mask, FEATHER)
    region = mask[window.slices].astype(np.uint8)
    brush = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * int(rng.integers(1, 4)) + 1,) * 2)
    seam = np.asarray(cv2.dilate(region, brush)) != np.asarray(cv2.erode(region, brush))
    part = np.ascontiguousarray(edited[window.slices])
    if rng.random() < 0.65:
        above: Pixels = np.asarray(cv2.GaussianBlur(part, (0, 0), float(rng.uniform(0.8, 2.5))))
        scene.steps.append("seam blurred")
    else:
        gain = 1 + rng.normal(0, 0.06, 3)
        above = np.clip(part * gain + rng.normal(0, 4), 0, 255).astype(np.uint8)
        scene.steps.append("seam recoloured")
    retouched, grown = np.array(edited), np.array(mask)
    retouched[window.slices] = mixed(part, above, seam.astype(np.float32))
    grown[window.slices] |= seam
    return retouched, grown


def outlined(scene: Scene, area: float, objects: float) -> Mask:
    """A region of the host: an object of its own where one is known, else a shape.

    Args:
        area: share of the picture, for shapes.
        objects: how often the outline is that of an object in any photo, on whatever of the host is below it.

    Returns:
        H×W bool; may be empty.
    """
    own = scene.own_object()
    if own is not None:
        return own
    rng, photos = scene.rng, scene.photos
    height, width = scene.host.shape[:2]
    mask = scene.shape(area)
    if photos.cutouts and rng.random() < objects:
        shape = photos.object_mask(photos.cutouts[int(rng.integers(len(photos.cutouts)))])
        if shape.sum() > 200:
            box = bounding_box(shape)
            shape = np.ascontiguousarray(shape[Window(*box).slices])
            half = (shape.shape[1] / 2, shape.shape[0] / 2)
            scale = float(np.sqrt(area * height * width / shape.sum()))
            matrix = affine(scale, 0.0, half, place(rng, box, scale, height, width))
            mask = np.asarray(cv2.warpAffine(shape.astype(np.float32), matrix, (width, height))) > 0.5
    return mask
