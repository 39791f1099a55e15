"""Forgeries made to measure: splices, copy-moves, removals, local edits, with the histories real ones have.

The trace that carries over from made forgeries to real ones is the difference of histories: the host was a JPEG
and is compressed again on the same grid, while what was put into it lost its grid, had another quality, or was
resampled. So every source gets a history of its own first, and the whole picture gets one afterwards.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import cv2
import numpy as np
from numpy.typing import NDArray

from model.data.history import Pixels, add_grain, first_quality, jpeg, resize, whole_picture
from model.data.photo_bank import PhotoBank
from model.data.shapes import Mask, bounding_box, drawn_shape, region_area

KINDS = ("authentic", "splice", "copy_move", "removal", "local_edit")
SHARES = (0.20, 0.40, 0.24, 0.08, 0.08)


@dataclass(slots=True)
class Forgery:
    """One sample: pixels H×W×3 uint8, mask H×W bool (True = forged), and what was done, in words."""

    pixels: Pixels
    mask: Mask
    kind: str
    steps: list[str] = field(default_factory=list)


def forge(bank: PhotoBank, rng: np.random.Generator, height: int, width: int, kind: str | None = None) -> Forgery:
    """One forgery, or authentic picture, of height × width pixels. The same generator state, the same sample."""
    kind = kind or str(rng.choice(KINDS, p=SHARES))
    for _ in range(8):
        # Edited at one size, published at another: one in six is shrunk or enlarged after the edit.
        factor = float(rng.uniform(1.1, 2.0) if rng.random() < 0.8 else rng.uniform(0.8, 0.95))
        factor = factor if rng.random() < 0.17 else 1.0
        h, w = round(height * factor), round(width * factor)
        steps: list[str] = []
        host = _with_history(_crop(bank, rng, h, w, steps), rng, steps)
        if kind == "authentic":
            edited, mask = host, np.zeros((h, w), bool)
        else:
            edited, mask = _EDITS[kind](bank, rng, host, steps)
            if not _visible(host, edited, mask):
                continue
        if factor != 1.0:
            edited = resize(edited, width, height, rng)
            mask = cv2.resize(mask.astype(np.float32), (width, height), interpolation=cv2.INTER_AREA) > 0.5
            steps.append(f"resized by {1 / factor:.2f}")
        pixels, after = whole_picture(edited, rng)
        return Forgery(np.ascontiguousarray(pixels), np.ascontiguousarray(mask), kind, steps + after)
    return forge(bank, rng, height, width, "authentic")


def forge_plainly(bank: PhotoBank, rng: np.random.Generator, height: int, width: int) -> Forgery:
    """The textbook case: a host that was a JPEG, edited, and compressed again on the same grid.

    The second compression is as often coarser than the first as it is finer: what people publish is rarely larger
    than what they took, and a network that only knows the finer case finds nothing in the other.

    Splice, copy-move or authentic. A network that starts with these finds the trace of double quantization within
    hundreds of samples, and has something to hold on to when the harder ones come.
    """
    kind = str(rng.choice(["authentic", "splice", "copy_move"], p=[0.15, 0.55, 0.3]))
    for _ in range(8):
        before, after = float(rng.uniform(55, 97)), float(rng.uniform(60, 98.5))
        steps = [f"jpeg {before:.0f}"]
        host = jpeg(_crop(bank, rng, height, width, steps), rng, before)
        edited, mask = host, np.zeros((height, width), bool)
        if kind != "authentic":
            edited, mask = _EDITS[kind](bank, rng, host, steps)
            if mask.mean() < 0.02 or not _visible(host, edited, mask):
                continue
        steps.append(f"jpeg {after:.0f}")
        return Forgery(jpeg(edited, rng, after), np.ascontiguousarray(mask), kind, steps)
    return forge(bank, rng, height, width, "authentic")


def _visible(host: Pixels, edited: Pixels, mask: Mask) -> bool:
    """Whether the edit changed anything worth finding (a copy of blue sky into blue sky does not)."""
    if not 16 <= mask.sum() <= 0.75 * mask.size:
        return False
    return float(np.abs(host[mask].astype(np.int16) - edited[mask]).mean()) > 2.0


def _crop(bank: PhotoBank, rng: np.random.Generator, height: int, width: int, steps: list[str]) -> Pixels:
    """A piece of a random photo at a random scale. Shrinking removes most of what the file's own JPEG left."""
    photo = bank.photo(int(rng.integers(len(bank.paths))))
    if rng.random() < 0.5:
        photo = photo[:, ::-1]
    fit = max(height / photo.shape[0], width / photo.shape[1])  # the smallest scale that covers the canvas
    if fit <= 1.0 and rng.random() < 0.15:
        scale = 1.0
    else:
        scale = fit * float(np.exp(rng.uniform(0, np.log(max(1.05, min(1.0 / fit, 3.0))))))
        size = (max(width, round(photo.shape[1] * scale)), max(height, round(photo.shape[0] * scale)))
        photo = resize(photo, *size, rng)
        steps.append(f"photo scaled by {scale:.2f}")
    top = int(rng.integers(photo.shape[0] - height + 1))
    left = int(rng.integers(photo.shape[1] - width + 1))
    if scale == 1.0:
        top, left = top // 8 * 8, left // 8 * 8
    return np.ascontiguousarray(photo[top : top + height, left : left + width])


def _with_history(pixels: Pixels, rng: np.random.Generator, steps: list[str]) -> Pixels:
    """The picture as it was before anybody edited it: usually a JPEG, usually with its grid at the corner."""
    if rng.random() < 0.12:
        return pixels
    quality = first_quality(rng)
    steps.append(f"jpeg {quality:.0f}")
    if rng.random() < 0.85:
        return jpeg(pixels, rng, quality)
    top, left = (int(v) for v in rng.integers(0, 8, 2))
    padded = np.asarray(cv2.copyMakeBorder(pixels, top, 0, left, 0, cv2.BORDER_REFLECT_101), np.uint8)
    return jpeg(padded, rng, quality)[top : top + pixels.shape[0], left : left + pixels.shape[1]]


def _paste(host: Pixels, patch: Pixels, mask: Mask, rng: np.random.Generator, steps: list[str]) -> Pixels:
    """Blend `patch` (the size of the host) into the host where the mask is: hard, feathered or Poisson."""
    how = rng.choice(["hard", "feathered", "poisson"], p=[0.4, 0.5, 0.1])
    if how == "poisson":
        top, left, bottom, right = bounding_box(mask)
        inside = top > 1 and left > 1 and bottom < mask.shape[0] - 2 and right < mask.shape[1] - 2
        if inside and mask.sum() < 0.25 * mask.size:
            centre = (left + (right - left) // 2, top + (bottom - top) // 2)
            box = np.s_[top:bottom, left:right]
            steps.append("poisson")
            flags = cv2.NORMAL_CLONE
            weights = mask[box].astype(np.uint8) * 255
            clone = cv2.seamlessClone(np.ascontiguousarray(patch[box]), np.array(host), weights, centre, flags)
            return np.asarray(clone, np.uint8)
        how = "feathered"
    alpha = mask.astype(np.float32)
    if how == "feathered":
        alpha = np.asarray(cv2.GaussianBlur(alpha, (0, 0), float(rng.uniform(0.5, 2.5))), np.float32)
    steps.append(str(how))
    return (host + (patch.astype(np.float32) - host) * alpha[..., None] + 0.5).clip(0, 255).astype(np.uint8)


def _affine(scale: float, turn: float, source: tuple[float, float], target: tuple[float, float]) -> NDArray[np.float64]:
    """Turn and scale about `source`, then bring it to `target`: a 2×3 matrix as OpenCV takes it."""
    matrix = cv2.getRotationMatrix2D(source, turn, scale)
    matrix[:, 2] += np.subtract(target, source)
    return np.asarray(matrix, np.float64)


def _warp(pixels: NDArray[np.uint8], matrix: NDArray[np.float64], height: int, width: int, kernel: int) -> Pixels:
    warped = cv2.warpAffine(pixels, matrix, (width, height), flags=kernel, borderMode=cv2.BORDER_REFLECT_101)
    return np.asarray(warped, dtype=np.uint8)


def _place(
    rng: np.random.Generator, box: tuple[int, int, int, int], scale: float, height: int, width: int
) -> tuple[float, float]:
    """Where the centre of a box of that scale goes so that most of it lies inside the canvas."""
    half_h, half_w = (box[2] - box[0]) * scale / 2, (box[3] - box[1]) * scale / 2
    x = rng.uniform(min(half_w * 0.8, width / 2), max(width - half_w * 0.8, width / 2))
    y = rng.uniform(min(half_h * 0.8, height / 2), max(height - half_h * 0.8, height / 2))
    return float(x), float(y)


def _splice(bank: PhotoBank, rng: np.random.Generator, host: Pixels, steps: list[str]) -> tuple[Pixels, Mask]:
    """A piece of another photo, with its own compression, scale, colour and grain."""
    height, width = host.shape[:2]
    area = region_area(rng)
    if bank.cutouts and rng.random() < 0.75:
        cutout = bank.cutouts[int(rng.integers(len(bank.cutouts)))]
        donor, mask = bank.photo(cutout.photo), bank.object_mask(cutout)
        if mask.sum() < 200:
            return host, np.zeros((height, width), bool)
        steps.append("splice of an object")
    else:
        donor = bank.photo(int(rng.integers(len(bank.paths))))
        share = float(
            np.clip(area * height * width / (donor.shape[0] * donor.shape[1]) * rng.uniform(0.5, 3), 0.001, 0.5)
        )
        mask = drawn_shape(rng, donor.shape[0], donor.shape[1], share)
        if mask.sum() < 64:
            return host, np.zeros((height, width), bool)
        steps.append("splice of a drawn shape")
    top, left, bottom, right = bounding_box(mask)
    margin = 24
    top, left = max(0, top - margin), max(0, left - margin)
    donor, mask = (
        donor[top : bottom + margin, left : right + margin],
        mask[top : bottom + margin, left : right + margin],
    )
    scale = float(np.sqrt(area * height * width / max(1, mask.sum())))
    if 0.75 < scale < 1.33 and rng.random() < 0.6:
        scale = 1.0
    if scale < 0.9 and rng.random() < 0.7:  # what is shrunk much has lost its history: shrink most of the way first
        before = max(scale, float(rng.uniform(scale, 1.0)))
        size = (max(8, round(donor.shape[1] * before)), max(8, round(donor.shape[0] * before)))
        donor = resize(np.ascontiguousarray(donor), *size, rng)
        mask = cv2.resize(mask.astype(np.uint8), size, interpolation=cv2.INTER_NEAREST) > 0
        scale = 1.0 if rng.random() < 0.5 else scale / before
        if not mask.any():
            return host, np.zeros((height, width), bool)
    if rng.random() < 0.8:
        quality = first_quality(rng)
        donor = jpeg(np.ascontiguousarray(donor), rng, quality)
        steps.append(f"donor jpeg {quality:.0f}")
    donor = _restyle(np.ascontiguousarray(donor), rng, steps)
    if rng.random() < 0.4:
        donor, mask = np.ascontiguousarray(donor[:, ::-1]), np.ascontiguousarray(mask[:, ::-1])
    turn = float(rng.normal(0, 12)) if rng.random() < 0.3 else 0.0
    return _transfer(rng, host, donor, mask, scale, turn, steps)


def _transfer(
    rng: np.random.Generator, host: Pixels, donor: Pixels, mask: Mask, scale: float, turn: float, steps: list[str]
) -> tuple[Pixels, Mask]:
    """Move the masked part of the donor into the host, scaled, turned, at a random place."""
    height, width = host.shape[:2]
    box = bounding_box(mask)
    source = ((box[1] + box[3]) / 2, (box[0] + box[2]) / 2)
    target = _place(rng, box, scale, height, width)
    if scale == 1.0 and turn == 0.0:  # whole pixels: no resampling
        target = (source[0] + round(target[0] - source[0]), source[1] + round(target[1] - source[1]))
    else:
        steps.append(f"scaled by {scale:.2f}, turned by {turn:.0f}°")
    matrix = _affine(scale, turn, source, target)
    kernel = int(rng.choice([cv2.INTER_LINEAR, cv2.INTER_CUBIC, cv2.INTER_LANCZOS4]))
    patch = _warp(donor, matrix, height, width, kernel)
    soft = cv2.warpAffine(mask.astype(np.float32), matrix, (width, height), flags=cv2.INTER_LINEAR)
    moved = np.asarray(soft) > 0.5
    if not moved.any():
        return host, moved
    return _paste(host, patch, moved, rng, steps), moved


def _restyle(pixels: Pixels, rng: np.random.Generator, steps: list[str]) -> Pixels:
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


def _copy_move(bank: PhotoBank, rng: np.random.Generator, host: Pixels, steps: list[str]) -> tuple[Pixels, Mask]:
    """A piece of the picture itself, moved; half the time turned, scaled or mirrored; sometimes retouched."""
    height, width = host.shape[:2]
    area = min(region_area(rng), 0.2)
    mask = drawn_shape(rng, height, width, area)
    if bank.cutouts and rng.random() < 0.4:  # the outline of an object, on whatever is below it
        cutout = bank.cutouts[int(rng.integers(len(bank.cutouts)))]
        shape = bank.object_mask(cutout)
        if shape.sum() > 200:
            box = bounding_box(shape)
            scale = float(np.sqrt(area * height * width / shape.sum()))
            source = ((box[1] + box[3]) / 2, (box[0] + box[2]) / 2)
            matrix = _affine(scale, 0.0, source, _place(rng, box, scale, height, width))
            mask = cv2.warpAffine(shape.astype(np.float32), matrix, (width, height)) > 0.5
    if mask.sum() < 16:
        return host, np.zeros((height, width), bool)
    steps.append("copy-move")
    donor = host
    if rng.random() < 0.25:
        donor, mask = np.ascontiguousarray(donor[:, ::-1]), np.ascontiguousarray(mask[:, ::-1])
        steps.append("mirrored")
    plain = rng.random() < 0.55
    scale = 1.0 if plain else float(np.exp(rng.normal(0, 0.2)))
    turn = 0.0 if plain else float(rng.normal(0, 15))
    if rng.random() < 0.15:
        donor = _restyle(donor, rng, steps)
    return _transfer(rng, host, donor, mask, scale, turn, steps)


def _removal(bank: PhotoBank, rng: np.random.Generator, host: Pixels, steps: list[str]) -> tuple[Pixels, Mask]:
    """Something painted out: by diffusion or fast marching (OpenCV) in small regions, by nearby texture in others."""
    height, width = host.shape[:2]
    area = min(region_area(rng), 0.12)
    mask = drawn_shape(rng, height, width, area)
    if mask.sum() < 16:
        return host, mask
    if area < 0.02 and rng.random() < 0.7:
        method = cv2.INPAINT_TELEA if rng.random() < 0.5 else cv2.INPAINT_NS
        steps.append("removal by " + ("fast marching" if method == cv2.INPAINT_TELEA else "diffusion"))
        return np.asarray(cv2.inpaint(host, mask.astype(np.uint8), 3, method)), mask
    box = bounding_box(mask)
    reach = max(box[3] - box[1], box[2] - box[0])
    angle = rng.uniform(0, 2 * np.pi)
    shift = (round(np.cos(angle) * reach), round(np.sin(angle) * reach))
    matrix = np.array([[1, 0, shift[0]], [0, 1, shift[1]]], np.float64)
    patch = _warp(host, matrix, height, width, cv2.INTER_NEAREST)
    steps.append("removal by nearby texture")
    return _paste(host, patch, mask, rng, steps), mask


def _local_edit(bank: PhotoBank, rng: np.random.Generator, host: Pixels, steps: list[str]) -> tuple[Pixels, Mask]:
    """A region filtered, recoloured, resampled or recompressed in place."""
    height, width = host.shape[:2]
    mask = drawn_shape(rng, height, width, region_area(rng))
    how = rng.choice(["blur", "median", "resample", "recolour", "sharpen", "grain", "resynthesis"])
    if how == "blur":
        patch: Pixels = np.asarray(cv2.GaussianBlur(host, (0, 0), float(rng.uniform(0.8, 4))))
    elif how == "median":
        patch = np.asarray(cv2.medianBlur(host, int(rng.choice([3, 5, 7]))))
    elif how in ("resample", "resynthesis"):  # an autoencoder's round trip: detail lost, then invented
        factor = float(rng.uniform(1.3, 3.0))
        small = resize(host, round(width / factor), round(height / factor), rng)
        patch = resize(small, width, height, rng)
        if how == "resynthesis":
            soft = cv2.GaussianBlur(patch, (0, 0), 1.2)
            patch = add_grain(np.asarray(cv2.addWeighted(patch, 1.8, soft, -0.8, 0)), rng, float(rng.uniform(0.5, 3)))
    elif how == "recolour":
        gain = 1 + rng.normal(0, 0.18, 3)
        patch = np.clip(host * gain + rng.normal(0, 15), 0, 255).astype(np.uint8)
    elif how == "sharpen":
        patch = np.asarray(cv2.addWeighted(host, 2.2, cv2.GaussianBlur(host, (0, 0), 1.2), -1.2, 0), np.uint8)
    else:
        patch = add_grain(host, rng, float(rng.uniform(3, 12)))
    steps.append(f"local {how}")
    return _paste(host, patch, mask, rng, steps), mask


_EDITS = {"splice": _splice, "copy_move": _copy_move, "removal": _removal, "local_edit": _local_edit}
