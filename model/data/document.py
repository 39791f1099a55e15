"""Words of a page changed: moved, taken from another page, written in the ink of what they replace, or painted out."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from model.data.history import Pixels, resize
from model.data.local_edit import painted_out, words
from model.data.scene import Scene, Window, mixed
from model.data.shapes import Mask

FONT_FOLDERS = ("/usr/share/fonts", "/usr/local/share/fonts", "/Library/Fonts", "C:/Windows/Fonts")


@cache
def _fonts() -> tuple[str, ...]:
    """TrueType fonts of the system that have Latin letters, sorted; Pillow's own is used where there are none."""
    found = sorted(str(path) for folder in FONT_FOLDERS for path in Path(folder).rglob("*.ttf"))
    return tuple(path for path in found if _has_letters(path))


def _has_letters(path: str) -> bool:
    """Whether two letters look different: what a font does not have, it shows as the same box."""
    try:
        font = ImageFont.truetype(path, 16)
        return bytes(font.getmask("A")) != bytes(font.getmask("B"))
    except OSError:  # a broken font file
        return False


def ink_of(text: str, height: int, below: Pixels, rng: np.random.Generator) -> Pixels:
    """The text on paper, about `height` pixels high.

    Args:
        text: Latin letters, digits and punctuation.
        height: pixels.
        below: H×W×3 uint8, what it replaces: its median is the paper, its most different pixels the ink.

    Returns:
        H×W×3 uint8.
    """
    fonts = _fonts()
    font: ImageFont.FreeTypeFont | ImageFont.ImageFont
    size = max(6.0, height * 1.15)
    font = ImageFont.load_default(size)
    if fonts and rng.random() < 0.9:
        font = ImageFont.truetype(fonts[int(rng.integers(len(fonts)))], round(size))
    left, top, right, bottom = (round(v) for v in font.getbbox(text))
    canvas = Image.new("L", (max(1, right - left), max(1, bottom - top)))
    ImageDraw.Draw(canvas).text((-left, -top), text, 255, font)
    alpha = np.asarray(canvas, np.float32)[..., None] / 255
    flat = below.reshape(-1, 3).astype(np.float32)
    paper = np.median(flat, 0)
    distance = np.abs(flat - paper).sum(1)
    ink = flat[distance >= np.quantile(distance, 0.97)].mean(0) + rng.normal(0, 4, 3)
    return np.asarray((paper + (ink - paper) * alpha + 0.5).clip(0, 255), np.uint8)


FEWEST = 6
"""Words that a picture must have to be taken for a page."""
MOST_EDITS = 6
LETTERS = (6, 90)
"""Pixels: heights of letters that are looked for."""
HOW = ("moved", "from another page", "written", "painted out")
SHARES = (0.4, 0.15, 0.35, 0.1)


def document(scene: Scene) -> tuple[Pixels, Mask]:
    """Change one to six words of the page that the host shows; returns pixels and mask (True: the boxes changed)."""
    rng = scene.rng
    boxes = word_boxes(scene.host)
    if len(boxes) < FEWEST:
        return scene.nothing()
    edited = np.array(scene.host)
    mask: Mask = np.zeros(scene.host.shape[:2], bool)
    for _ in range(int(rng.integers(1, MOST_EDITS + 1))):
        box = _part(boxes[int(rng.integers(len(boxes)))], rng)
        how = str(rng.choice(HOW, p=SHARES))
        word = _word(scene, boxes, box, how)
        if word is None:
            continue
        height, width = word.shape[:2]
        # What was there goes, and the new word stands on its line from its left end on.
        wide = Window(box.top, box.left, max(box.bottom, box.top + height), max(box.right, box.left + width))
        wide = Window(wide.top - 2, wide.left - 2, wide.bottom + 2, wide.right + 2).within(*mask.shape)
        edited[wide.slices] = painted_out(edited, wide, rng)
        there = Window(box.top, box.left, box.top + height, box.left + width).within(*mask.shape)
        word = word[: there.bottom - there.top, : there.right - there.left]
        if how == "painted out":
            pass
        elif rng.random() < 0.6:
            edited[there.slices] = word
        else:  # its ink alone
            paper = np.median(word.reshape(-1, 3), 0)
            ink = np.abs(word.astype(np.float32) - paper.astype(np.float32)).max(2)
            alpha = np.clip(ink / max(float(ink.max()), 1.0) * 1.3, 0, 1).astype(np.float32)
            edited[there.slices] = mixed(edited[there.slices], word, alpha)
        mask[wide.slices] = True
        scene.steps.append(f"a word {how}")
    return edited, mask


def _part(box: Window, rng: np.random.Generator) -> Window:
    """The word, or some of its letters."""
    height, width = box.bottom - box.top, box.right - box.left
    if rng.random() < 0.6 or width < 1.5 * height:
        return box
    columns = int(rng.integers(max(4, height // 2), width))
    left = box.left + int(rng.integers(width - columns + 1))
    return Window(box.top, left, box.bottom, left + columns)


def _word(scene: Scene, boxes: list[Window], box: Window, how: str) -> Pixels | None:
    """What is put into a box: H×W×3, about as high as it; None: nothing fits."""
    rng, host = scene.rng, scene.host
    height = box.bottom - box.top
    match how:
        case "painted out":
            return np.ascontiguousarray(host[box.slices])
        case "written":
            text = words(rng) + words(rng)
            letters = max(1, round((box.right - box.left) / (0.55 * height) * rng.uniform(0.8, 1.2)))
            return ink_of(text[:letters], height, np.ascontiguousarray(host[box.slices]), rng)
        case "moved":
            fitting = [b for b in boxes if b != box and 0.8 < (b.bottom - b.top) / height < 1.25]
            if not fitting:
                return None
            source = _part(fitting[int(rng.integers(len(fitting)))], rng)
            word = np.ascontiguousarray(host[source.slices])
        case _:
            number = int(rng.integers(len(scene.photos.paths)))
            page = scene.photos.photo(number)
            others = word_boxes(page)
            if len(others) < FEWEST:
                return None
            word = np.ascontiguousarray(page[others[int(rng.integers(len(others)))].slices])
            scene.used.append(number)
    scale = height / word.shape[0]
    if how != "moved" or rng.random() < 0.3:
        scale *= float(np.exp(rng.normal(0, 0.05)))
        word = resize(word, max(3, round(word.shape[1] * scale)), max(3, round(word.shape[0] * scale)), rng)
    return word


def word_boxes(pixels: Pixels) -> list[Window]:
    """Boxes of what looks like words, dark on light or light on dark, in the order of their tops.

    Letters are connected groups of pixels that differ from their surroundings; those that stand beside each other,
    nearer than a third of their height, are a word.

    Args:
        pixels: H×W×3 uint8.
    """
    grey = cv2.cvtColor(np.ascontiguousarray(pixels), cv2.COLOR_RGB2GRAY)
    paper = cv2.blur(grey, (41, 41)).astype(np.int16)
    if grey.mean() < 128:
        grey, paper = 255 - grey, 255 - paper
    ink: NDArray[np.uint8] = (paper - grey > 25).astype(np.uint8)
    count, _, stats, _ = cv2.connectedComponentsWithStats(ink, connectivity=8)
    heights = stats[1:, cv2.CC_STAT_HEIGHT]
    heights = heights[(heights >= LETTERS[0]) & (heights <= LETTERS[1]) & (stats[1:, cv2.CC_STAT_AREA] >= 8)]
    if count < 2 or not len(heights):
        return []
    reach = max(1, round(0.17 * float(np.median(heights))))
    joined = cv2.dilate(ink, np.ones((1, 2 * reach + 1), np.uint8))
    count, _, stats, _ = cv2.connectedComponentsWithStats(joined, connectivity=8)
    boxes = []
    for left, top, width, height, area in stats[1:count].tolist():
        width, left = width - 2 * reach, left + reach
        plausible = LETTERS[0] <= height <= LETTERS[1] and 0.5 * height <= width <= pixels.shape[1] / 3
        if plausible and area > 0.2 * width * height:
            boxes.append(Window(top, left, top + height, left + width).within(*pixels.shape[:2]))
    return [box for box in boxes if not box.empty]
