"""A region changed where it is: filtered, recoloured, resampled, re-synthesized, written on, or painted out."""

from __future__ import annotations

import string

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from model.data.filling import bottleneck, opencv_inpaint, patch_inpaint
from model.data.history import Pixels, add_grain, resize
from model.data.scene import FEATHER, Autoencoder, Scene, Window, around, blend, mixed, outlined, warp
from model.data.shapes import Mask, bounding_box

MARGIN = 24
"""Pixels around the region that the filters see."""
EDITS = ("blur", "median", "resample", "recolour", "sharpen", "grain", "resynthesis", "text")
AUTOENCODER_PIXELS = 1024 * 1024
"""Largest rectangle that is passed through an autoencoder of a folder in one go, and the largest picture that one of
registered base weights re-synthesizes as a whole."""
WHOLE = 0.5
"""How often such a picture is: inpainting tools decode the whole picture, or the surroundings of the region alone."""
SMALLEST_LETTER = 9


def local_edit(scene: Scene) -> tuple[Pixels, Mask]:
    """One of EDITS on a region of the host; returns pixels and mask."""
    how = str(scene.rng.choice(EDITS))
    if how == "text":
        return text(scene)
    if how == "resynthesis":
        return resynthesis(scene)
    mask = outlined(scene, scene.area(), 0.0)
    if not mask.any():
        return scene.nothing()
    window = around(mask, MARGIN)
    patch = _filtered(np.ascontiguousarray(scene.host[window.slices]), how, scene.rng)
    scene.steps.append(f"local {how}")
    return blend(scene, patch, mask, window), mask


def _filtered(pixels: Pixels, how: str, rng: np.random.Generator) -> Pixels:
    height, width = pixels.shape[:2]
    match how:
        case "blur":
            return np.asarray(cv2.GaussianBlur(pixels, (0, 0), float(rng.uniform(0.8, 4))))
        case "median":
            return np.asarray(cv2.medianBlur(pixels, int(rng.choice([3, 5, 7]))))
        case "resample":
            factor = float(rng.uniform(1.3, 3.0))
            small = resize(pixels, max(1, round(width / factor)), max(1, round(height / factor)), rng)
            return resize(small, width, height, rng)
        case "recolour":
            gain = 1 + rng.normal(0, 0.18, 3)
            return np.clip(pixels * gain + rng.normal(0, 15), 0, 255).astype(np.uint8)
        case "sharpen":
            soft = cv2.GaussianBlur(pixels, (0, 0), 1.2)
            return np.asarray(cv2.addWeighted(pixels, 2.2, soft, -1.2, 0), np.uint8)
        case _:
            return add_grain(pixels, rng, float(rng.uniform(3, 12)))


def resynthesis(scene: Scene) -> tuple[Pixels, Mask]:
    """A region through an autoencoder and back: the user's, or the fixed stand-in; the steps say which.

    What is outside of the region is the host's, as inpainting tools paste it back.
    """
    mask = outlined(scene, scene.area(), 0.0)
    if not mask.any():
        return scene.nothing()
    if scene.tools.base and scene.tools.autoencoder is not None:
        return _resynthesized(scene, scene.tools.autoencoder, mask)
    window = around(mask, MARGIN)
    part = np.ascontiguousarray(scene.host[window.slices])
    autoencoder = scene.tools.autoencoder
    if autoencoder is not None and part.shape[0] * part.shape[1] <= AUTOENCODER_PIXELS:
        patch = autoencoder(part)
        scene.steps.append("local resynthesis by the given autoencoder")
    else:
        patch = bottleneck(part, scene.rng)
        scene.steps.append("local resynthesis by a fixed DCT bottleneck (no trained autoencoder)")
    return blend(scene, patch, mask, window), mask


def _resynthesized(scene: Scene, autoencoder: Autoencoder, mask: Mask) -> tuple[Pixels, Mask]:
    """The region as the autoencoder of registered base weights gives it."""
    whole = mask.size <= AUTOENCODER_PIXELS and scene.rng.random() < WHOLE
    window = around(mask, MARGIN)
    if whole:
        patch = np.ascontiguousarray(autoencoder(scene.host)[window.slices])
    else:
        patch = autoencoder(np.ascontiguousarray(scene.host[window.slices]))
    decoded = "the whole picture" if whole else "the surroundings of the region"
    scene.steps.append(f"local resynthesis by the autoencoder of {scene.tools.base}, which decoded {decoded}")
    return blend(scene, patch, mask, window), mask


def text(scene: Scene) -> tuple[Pixels, Mask]:
    """Write on the picture; half the time on a field that was painted out before, as on an altered document."""
    rng = scene.rng
    height, width = scene.host.shape[:2]
    line = words(rng)
    size = float(np.sqrt(scene.area() * height * width / (0.6 * len(line))))  # a letter is some 0.6 as wide as high
    size = min(max(size, SMALLEST_LETTER), 0.8 * height, 1.5 * width / len(line))
    font = ImageFont.load_default(size)
    left, top, right, bottom = (round(v) for v in font.getbbox(line))
    pad = max(2, round(size / 8))
    rows, columns = bottom - top + 2 * pad, right - left + 2 * pad
    if size < SMALLEST_LETTER or rows > height or columns > width:
        return scene.nothing()
    y, x = int(rng.integers(height - rows + 1)), int(rng.integers(width - columns + 1))
    window = Window(y, x, y + rows, x + columns)
    canvas = Image.new("L", (columns, rows))
    ImageDraw.Draw(canvas).text((pad - left, pad - top), line, 255, font)
    ink = np.asarray(canvas)
    below, replaced = np.ascontiguousarray(scene.host[window.slices]), bool(rng.random() < 0.5)
    if replaced:
        below = painted_out(scene.host, window, rng)
    colour = _ink_colour(rng, below)
    edited, mask = np.array(scene.host), np.zeros((height, width), bool)
    edited[window.slices] = mixed(below, np.broadcast_to(colour, below.shape), np.asarray(ink / 255, np.float32))
    letters = np.asarray(cv2.dilate(ink, np.ones((3, 3), np.uint8))) > 0
    mask[window.slices] = True if replaced else letters
    scene.steps.append("local text on a painted-out field" if replaced else "local text")
    return edited, mask


def words(rng: np.random.Generator) -> str:
    """A date, an amount, or letters."""
    match int(rng.integers(3)):
        case 0:
            return f"{rng.integers(1990, 2031)}-{rng.integers(1, 13):02}-{rng.integers(1, 29):02}"
        case 1:
            return f"{rng.integers(1, 10**6) / 100:,.2f}"
        case _:
            return "".join(rng.choice(list(string.ascii_letters), int(rng.integers(3, 12))))


def painted_out(host: Pixels, window: Window, rng: np.random.Generator) -> Pixels:
    """The window painted out: one colour with a little grain, or from its rim inwards if it is not too large."""
    below = host[window.slices]
    if below.shape[0] * below.shape[1] > 40_000 or rng.random() < 0.5:
        return add_grain(
            np.broadcast_to(np.median(below, (0, 1)).astype(np.uint8), below.shape), rng, rng.uniform(0, 2)
        )
    rim = 4
    wide = Window(window.top - rim, window.left - rim, window.bottom + rim, window.right + rim).within(*host.shape[:2])
    hole = np.zeros(host[wide.slices].shape[:2], bool)
    top, left = window.top - wide.top, window.left - wide.left
    inner = np.s_[top : top + below.shape[0], left : left + below.shape[1]]
    hole[inner] = True
    if hole.all():
        return np.array(below)
    return opencv_inpaint(host[wide.slices], hole, telea=True)[inner]


def _ink_colour(rng: np.random.Generator, below: Pixels) -> Pixels:
    """Dark on light and light on dark, three times out of four without a hue; 3 values, uint8."""
    dark = below.mean() > 127
    value = rng.uniform(0, 70) if dark else rng.uniform(190, 255)
    hue = rng.normal(0, 40, 3) if rng.random() < 0.25 else np.zeros(3)
    return np.clip(value + hue, 0, 255).astype(np.uint8)


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
    if part.shape[0] * part.shape[1] > AUTOENCODER_PIXELS and not scene.tools.base:
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
