"""A piece of the picture itself, moved."""

from __future__ import annotations

import cv2
import numpy as np

from model.data.edits.scene import Scene, Window, around
from model.data.edits.transfer import affine, place, restyle, retouch_seam, transfer
from model.data.history import Pixels
from model.data.shapes import Mask, bounding_box


def copy_move(scene: Scene) -> tuple[Pixels, Mask]:
    """Copy a region of the host within it; half the time turned and scaled, sometimes mirrored or retouched."""
    rng, steps = scene.rng, scene.steps
    area = min(scene.area(), 0.2)
    mask = outlined(scene, area, 0.4)
    if mask.sum() < 16:
        return scene.nothing()
    steps.append("copy-move")
    mirrored = rng.random() < 0.25
    if mirrored:
        steps.append("mirrored")
    plain = rng.random() < 0.55
    scale = 1.0 if plain else float(np.exp(rng.normal(0, 0.2)))
    turn = 0.0 if plain else float(rng.normal(0, 15))
    window = around(mask, int(np.ceil(14 / scale)) + 8)
    region = np.ascontiguousarray(mask[window.slices])
    donor = np.ascontiguousarray(scene.host[window.slices])
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
