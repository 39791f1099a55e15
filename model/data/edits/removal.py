"""Something painted out."""

from __future__ import annotations

import cv2
import numpy as np

from model.data.edits.copy_move import outlined
from model.data.edits.local_edit import AUTOENCODER_PIXELS, MARGIN
from model.data.edits.scene import FEATHER, Scene, around
from model.data.edits.transfer import blend, warp
from model.data.history import Pixels
from model.data.inpaint import opencv_inpaint, patch_inpaint
from model.data.shapes import Mask, bounding_box

PATCHES, PATCHES_UP_TO = 0.25, 0.05
"""How often patches fill a region, and up to which share of the picture: they take the longest."""
OPENCV_UP_TO, OPENCV_PIXELS = 0.02, 60_000
"""OpenCV's methods smear: up to this share of the picture and this many pixels."""


def removal(scene: Scene) -> tuple[Pixels, Mask]:
    """Paint a region out: by the user's pipeline, patches, fast marching, diffusion, or nearby texture.

    With a user's autoencoder half of what was filled goes through it, as what a learned filler paints comes out of a
    decoder.
    """
    rng = scene.rng
    mask = outlined(scene, min(scene.area(), 0.12), 0.0)
    if mask.sum() < 16:
        return scene.nothing()
    edited, mask = _filled(scene, mask)
    if scene.tools.autoencoder is None or rng.random() < 0.5:
        return edited, mask
    window = around(mask, MARGIN)
    part = np.ascontiguousarray(edited[window.slices])
    if part.shape[0] * part.shape[1] > AUTOENCODER_PIXELS:
        return edited, mask
    scene.steps.append("through the given autoencoder")
    return blend(scene, scene.tools.autoencoder(part), mask, window), mask


def _filled(scene: Scene, mask: Mask) -> tuple[Pixels, Mask]:
    """The host with the region painted over."""
    rng, steps = scene.rng, scene.steps
    area = float(mask.mean())
    if scene.tools.inpainter is not None and rng.random() < 0.5:
        steps.append("removal by the given inpainting pipeline")
        return scene.tools.inpainter(scene.host, mask, int(rng.integers(2**31))), mask
    if area < PATCHES_UP_TO and rng.random() < PATCHES:
        steps.append("removal by patches")
        return patch_inpaint(scene.host, mask), mask
    if area < OPENCV_UP_TO and mask.sum() < OPENCV_PIXELS and rng.random() < 0.7:
        telea = bool(rng.random() < 0.5)
        steps.append("removal by " + ("fast marching" if telea else "diffusion"))
        window = around(mask, FEATHER).slices
        edited = np.array(scene.host)
        edited[window] = opencv_inpaint(scene.host[window], mask[window], telea)
        return edited, mask
    steps.append("removal by nearby texture")
    return _nearby(scene, mask)


def _nearby(scene: Scene, mask: Mask) -> tuple[Pixels, Mask]:
    """The region covered with what is beside it."""
    box = bounding_box(mask)
    reach = max(box[3] - box[1], box[2] - box[0])
    angle = scene.rng.uniform(0, 2 * np.pi)
    window = around(mask, FEATHER)
    surroundings = around(mask, FEATHER + reach)
    dx = round(np.cos(angle) * reach) + surroundings.left - window.left
    dy = round(np.sin(angle) * reach) + surroundings.top - window.top
    matrix = np.array([[1, 0, dx], [0, 1, dy]], np.float64)
    size = (window.bottom - window.top, window.right - window.left)
    source = np.ascontiguousarray(scene.host[surroundings.slices])
    return blend(scene, warp(source, matrix, *size, cv2.INTER_NEAREST), mask, window), mask
