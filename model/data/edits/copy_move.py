"""A piece of the picture itself, moved."""

from __future__ import annotations

import cv2
import numpy as np

from model.data.edits.scene import Scene, Window, around
from model.data.edits.transfer import affine, place, restyle, retouch_seam, transfer
from model.data.history import Pixels
from model.data.shapes import Mask, bounding_box

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
