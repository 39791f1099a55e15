"""A region changed where it is: filtered, recoloured, resampled, re-synthesized, or written on."""

from __future__ import annotations

import string

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from model.data.edits.copy_move import outlined
from model.data.edits.scene import Scene, Window, around
from model.data.edits.transfer import blend, mixed
from model.data.history import Pixels, add_grain, resize
from model.data.inpaint import opencv_inpaint
from model.data.resynthesis import bottleneck
from model.data.shapes import Mask

MARGIN = 24
"""Pixels around the region that the filters see."""
EDITS = ("blur", "median", "resample", "recolour", "sharpen", "grain", "resynthesis", "text")
AUTOENCODER_PIXELS = 1024 * 1024
"""Largest rectangle that is passed through the user's autoencoder in one go."""
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
    """A region through an autoencoder and back: the user's, or the fixed stand-in; the steps say which."""
    mask = outlined(scene, scene.area(), 0.0)
    if not mask.any():
        return scene.nothing()
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
