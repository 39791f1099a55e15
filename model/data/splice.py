"""Pieces moved into a picture: of other photos (splice), with their own history, or of itself (copy-move)."""

from __future__ import annotations

import cv2
import numpy as np

from model.data.history import Pixels, first_quality, jpeg, resize
from model.data.scene import Scene, around, outlined, restyle, retouch_seam, transfer
from model.data.shapes import Mask, drawn_shape, superpixel_shape

MARGIN = 24
"""Pixels of its surroundings that a donor's region brings along."""


PIECES = (0.65, 0.17, 0.10, 0.08)
"""How often a splice has one to four pieces, each of a photo of its own."""


def splice(scene: Scene) -> tuple[Pixels, Mask]:
    """Put one to four pieces of other photos into the host; returns pixels and mask."""
    return _pieces(scene, 1 + int(scene.rng.choice(4, p=PIECES)))


def splices(scene: Scene) -> tuple[Pixels, Mask]:
    """The same with two to four pieces."""
    return _pieces(scene, int(scene.rng.integers(2, 5)))


def _pieces(scene: Scene, count: int) -> tuple[Pixels, Mask]:
    """Piece by piece; later ones may cover a part of earlier ones."""
    host, mask = scene.host, np.zeros(scene.host.shape[:2], bool)
    try:
        for _ in range(count):
            scene.host, piece = _piece(scene)
            mask |= piece
        return scene.host, mask
    finally:
        scene.host = host


def _piece(scene: Scene) -> tuple[Pixels, Mask]:
    """Put an object, or else a drawn piece or superpixels, of another photo into the host; returns pixels and mask."""
    rng, steps = scene.rng, scene.steps
    height, width = scene.host.shape[:2]
    area = scene.area()
    if scene.photos.cutouts and rng.random() < 0.75:
        cutout = scene.photos.cutouts[int(rng.integers(len(scene.photos.cutouts)))]
        number, donor = cutout.photo, scene.photos.photo(cutout.photo)
        mask = scene.photos.object_mask(cutout)
        if mask.sum() < 200:
            return scene.nothing()
        steps.append("splice of an object")
    else:
        number = _another_photo(scene)
        donor = scene.photos.photo(number)
        canvas = height * width / (donor.shape[0] * donor.shape[1])
        share = float(np.clip(area * canvas * rng.uniform(0.5, 3), 0.001, 0.5))
        if not scene.plain and rng.random() < 0.15:
            mask = superpixel_shape(rng, donor, share)
            steps.append("splice of superpixels")
        else:
            mask = drawn_shape(rng, donor.shape[0], donor.shape[1], share)
            steps.append("splice of a drawn shape")
        if mask.sum() < 64:
            return scene.nothing()
    window = around(mask, MARGIN).slices
    donor, mask = donor[window], mask[window]
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
            return scene.nothing()
    if rng.random() < 0.8:
        quality = first_quality(rng)
        donor = jpeg(np.ascontiguousarray(donor), rng, quality)
        steps.append(f"donor jpeg {quality:.0f}")
    donor = restyle(np.ascontiguousarray(donor), rng, steps)
    if rng.random() < 0.4:
        donor, mask = np.ascontiguousarray(donor[:, ::-1]), np.ascontiguousarray(mask[:, ::-1])
    turn = float(rng.normal(0, 12)) if rng.random() < 0.3 else 0.0
    scene.used.append(number)
    return transfer(scene, donor, mask, scale, turn)


def _another_photo(scene: Scene) -> int:
    """A photo's number, not the host's if there is a choice."""
    count = len(scene.photos.paths)
    number = int(scene.rng.integers(count))
    return (number + 1) % count if number == scene.used[0] else number


PLAIN, WIDELY, SEVERAL = 0.4, 0.5, 0.2
"""How often a copy is only moved; of the others, how often it is turned to any angle and scaled by up to two; and how
often there are two or three copies."""


def copy_move(scene: Scene) -> tuple[Pixels, Mask]:
    """Copy a region of the host within it, one to three times, moved, turned, scaled, mirrored or retouched."""
    rng, steps = scene.rng, scene.steps
    mask = outlined(scene, min(scene.area(), 0.2), 0.4)
    if mask.sum() < 16:
        return scene.nothing()
    steps.append("copy-move")
    copies = 1 + int(rng.integers(1, 3)) if rng.random() < SEVERAL and not scene.plain else 1
    host, moved = scene.host, np.zeros(mask.shape, bool)
    try:
        for _ in range(copies):
            scene.host, place = _copied(scene, host, mask)
            moved |= place
        return scene.host, moved
    finally:
        scene.host = host


def _copied(scene: Scene, source: Pixels, mask: Mask) -> tuple[Pixels, Mask]:
    """One copy of a region of `source` in the host."""
    rng, steps = scene.rng, scene.steps
    mirrored = rng.random() < 0.25
    if mirrored:
        steps.append("mirrored")
    scale, turn = 1.0, 0.0
    if rng.random() > PLAIN:
        if rng.random() < WIDELY:
            scale, turn = float(np.exp(rng.uniform(np.log(0.5), np.log(2)))), float(rng.uniform(-180, 180))
        else:
            scale, turn = float(np.exp(rng.normal(0, 0.2))), float(rng.normal(0, 15))
        draw = rng.random()  # a third each is turned alone, scaled alone, or both
        scale, turn = (1.0 if draw < 1 / 3 else scale), (0.0 if draw > 2 / 3 else turn)
    window = around(mask, int(np.ceil(14 / scale)) + 8)
    region = np.ascontiguousarray(mask[window.slices])
    donor = np.ascontiguousarray(source[window.slices])
    if mirrored:
        donor, region = np.ascontiguousarray(donor[:, ::-1]), np.ascontiguousarray(region[:, ::-1])
    if rng.random() < 0.15:
        donor = restyle(donor, rng, steps)
    edited, moved = transfer(scene, donor, region, scale, turn)
    if not scene.plain and moved.any() and rng.random() < 0.15:
        edited, moved = retouch_seam(scene, edited, moved)
    return edited, moved
