"""Make untouched screens, drawings and documents: what a detector of forgeries should leave alone.

    python scripts/make_screens.py --out FOLDER [--count 320] [--seed 1] [--side train|test] [--pages N]

Chromium renders the layouts of `screen_templates.py` and `document_templates.py`; some pictures are drawn without it.
They are FOLDER/<side>/<category>-<layout>_<number>_<format>.png or .jpg; no layout is on both sides. The format is
`png`; `alpha`, a PNG with an alpha channel; `jpg87-420`, a JPEG with its quality and chroma; `resized…`, resized once
before it was saved; or `webp70`, a PNG of what was a lossy WebP. `scan` pictures are pages made to look scanned.

FOLDER/pages/<side>/ gets clean documents as PNGs, each with a JSON of its words' boxes in pixels: hosts for forgeries.
Without --side, `train` gets --count pictures and 150 documents, `test` 5/8 of the count and 80.
"""

from __future__ import annotations

import argparse
import base64
import io
import itertools
import json
import math
import random
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, get_args

import cv2
import document_templates  # noqa: F401  # its layouts enter the list
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from screen_templates import LAYOUTS, Gen, Layout, Shape, Side
from selenium import webdriver

Pixels = NDArray[np.uint8]
DRAWN, SCANNED = 0.10, 0.07
"""Shares of the pictures that are drawn without a browser, and that are scans."""
PAGES: dict[Side, int] = {"train": 150, "test": 80}
WRITE = """
const [html, done] = arguments;
document.open();
document.write(html);
document.close();
document.fonts.ready.then(() => requestAnimationFrame(() => requestAnimationFrame(done)));
"""
WORDS = """
const found = [], walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
const wide = document.documentElement.clientWidth, high = document.documentElement.clientHeight;
while (walker.nextNode()) {
  const node = walker.currentNode;
  if (node.parentElement.closest("svg,script,style")) continue;
  for (const match of node.data.matchAll(/[\\u3000-\\u9fff]{1,4}|[^\\s\\u3000-\\u9fff]+/g)) {
    const range = document.createRange();
    range.setStart(node, match.index);
    range.setEnd(node, match.index + match[0].length);
    const rects = [...range.getClientRects()].filter(r => r.width >= 1);
    if (rects.length != 1) continue;
    const r = rects[0];
    if (r.left < 0 || r.top < 0 || r.right > wide || r.bottom > high) continue;
    found.push({text: match[0], x: r.left, y: r.top, w: r.width, h: r.height});
  }
}
return found;
"""


class Browser:
    """One session of Chromium that renders pages of any size and scale."""

    def __init__(self) -> None:
        options = webdriver.ChromeOptions()
        for switch in ("headless=new", "no-sandbox", "disable-gpu", "hide-scrollbars", "disable-dev-shm-usage"):
            options.add_argument(f"--{switch}")
        driver = Path("/usr/bin/chromedriver")
        service = webdriver.ChromeService(str(driver) if driver.exists() else None)
        self.driver = webdriver.Chrome(options=options, service=service)
        self.driver.get("about:blank")

    def render(self, html: str, w: int, h: int, scale: float) -> Image.Image:
        """The page's picture."""
        size = {"width": w, "height": h, "deviceScaleFactor": scale, "mobile": False}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        self.driver.get("about:blank")  # anything kept of the page before, at its scale, would move letters
        self.driver.execute_async_script(WRITE, html)
        shot: dict[str, Any] = self.driver.execute_cdp_cmd("Page.captureScreenshot", {"format": "png"})
        return Image.open(io.BytesIO(base64.b64decode(shot["data"]))).convert("RGB")

    def words(self, scale: float) -> list[dict[str, str | float]]:
        """The words of the page last rendered, with their boxes in its picture's pixels."""
        return [
            {key: value if key == "text" else round(value * scale, 2) for key, value in word.items()}
            for word in self.driver.execute_script(WORDS)
        ]


@contextmanager
def browser() -> Iterator[Browser]:
    session = Browser()
    try:
        yield session
    finally:
        session.driver.quit()


def window(shape: Shape, rng: random.Random) -> tuple[int, int, float]:
    """Width, height and scale of a window for a layout: mostly 0.2 to 2 megapixels."""
    if shape == "any":
        shape = rng.choice(("phone", "desktop", "desktop"))
    if shape == "phone":
        w, h, scales = rng.randint(360, 430), rng.randint(560, 932), [1, 1.5, 2, 3]
    elif shape == "desktop":
        w, h, scales = rng.randint(760, 1600), rng.randint(480, 1200), [1, 1, 1, 1.5, 2]
    elif shape == "slide":
        w, scales = rng.randint(720, 1600), [1, 1, 1.5]
        h = round(w * rng.choice((9 / 16, 3 / 4, 10 / 16)))
    elif shape == "card":
        w, scales = rng.randint(480, 640), [1.5, 2]
        h = round(w * rng.uniform(0.6, 0.66))
    elif shape == "strip":
        w, h, scales = rng.randint(300, 420), rng.randint(620, 900), [1.5, 2]
    else:
        w, scales = rng.randint(560, 840), [1, 1, 1.25, 1.5]
        h = round(w * rng.choice((2**0.5, 2**0.5, 11 / 8.5)))
    top = 1.5e6 if shape in ("page", "card", "strip") else 2.1e6
    return w, h, rng.choice([scale for scale in scales if w * h * scale**2 <= top] or [1])


# ---- Drawn without a browser -----------------------------------------------------------------------------------------


def blank(rng: random.Random, light: bool = True) -> tuple[Image.Image, ImageDraw.ImageDraw, int, int]:
    """An empty canvas of a random size, and what draws on it."""
    w, h = rng.randint(480, 1280), rng.randint(420, 1000)
    image = Image.new("RGB", (w, h), rng.choice(("#fff", "#fff", "#f6f4ee", "#eef2f6")) if light else "#14161c")
    return image, ImageDraw.Draw(image), w, h


def any_colour(rng: random.Random, low: int = 30, high: int = 220) -> tuple[int, int, int]:
    """A random colour."""
    return rng.randint(low, high), rng.randint(low, high), rng.randint(low, high)


def font(side: Side, size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """A font of the side, or Pillow's own."""
    for folder in ("liberation", "dejavu"):
        name = "LiberationSans-Regular.ttf" if side == "train" else "DejaVuSerif.ttf"
        path = Path("/usr/share/fonts/truetype") / folder / name
        if path.exists():
            return ImageFont.truetype(str(path), size)
    return ImageFont.load_default(size)


def draw_plot(rng: random.Random) -> Image.Image:
    """A line plot with a box and ticks, smoothed or not."""
    image, _, w, h = blank(rng)
    canvas, kind = np.array(image), rng.choice((cv2.LINE_AA, cv2.LINE_8))
    for at in range(11):
        x, y = 60 + (w - 90) * at // 10, 30 + (h - 90) * at // 10
        cv2.line(canvas, (x, 30), (x, h - 60), (215, 215, 215), 1)
        cv2.line(canvas, (60, y), (w - 30, y), (215, 215, 215), 1)
        cv2.putText(canvas, str(at * 10), (x - 10, h - 38), cv2.FONT_HERSHEY_SIMPLEX, 0.45, (40, 40, 40), 1, kind)
        cv2.putText(canvas, f"{1 - at / 10:.1f}", (20, y + 5), cv2.FONT_HERSHEY_SIMPLEX, 0.45, (40, 40, 40), 1, kind)
    cv2.rectangle(canvas, (60, 30), (w - 30, h - 60), (20, 20, 20), 1)
    for _ in range(rng.randint(1, 5)):
        waves, colour = (
            [(rng.uniform(1, 12), rng.uniform(0, 6), rng.uniform(0, 0.2)) for _ in range(3)],
            any_colour(rng),
        )
        ts = np.linspace(0, 1, rng.choice((8, 20, 200)))
        ys = 0.5 + sum(size * np.sin(rate * ts + phase) for rate, phase, size in waves)
        points = np.stack([60 + ts * (w - 90), 30 + (1 - np.clip(ys, 0, 1)) * (h - 90)], 1).astype(np.int32)
        cv2.polylines(canvas, [points], False, colour, rng.randint(1, 3), kind)
        if len(points) <= 20:
            for x, y in points.tolist():
                cv2.circle(canvas, (x, y), 4, colour, -1, kind)
    return Image.fromarray(canvas)


def draw_matrix_code(rng: random.Random) -> Image.Image:
    """A square code of black and white cells with three finder marks."""
    image, draw, w, h = blank(rng)
    cells, size = rng.choice((21, 25, 33, 45)), rng.randint(6, 14)
    left, top = (w - cells * size) // 2, (h - cells * size) // 2
    for x in range(cells):
        for y in range(cells):
            if rng.random() < 0.5:
                draw.rectangle(
                    (left + x * size, top + y * size, left + (x + 1) * size - 1, top + (y + 1) * size - 1), "#000"
                )
    for x, y in ((0, 0), (cells - 7, 0), (0, cells - 7)):
        for inset, colour in ((-1, "#fff"), (0, "#000"), (1, "#fff"), (2, "#000")):
            a, b = left + (x + inset) * size, top + (y + inset) * size
            side = (7 - 2 * inset) * size - 1
            draw.rectangle((a, b, a + side, b + side), colour)
    return image


def draw_score(rng: random.Random) -> Image.Image:
    """Staves with notes, like sheet music."""
    image, draw, w, h = blank(rng)
    gap = rng.randint(6, 10)
    bar = [(rng.randint(-1, 9), rng.random() < 0.3) for _ in range(4)]
    for top in range(40, h - gap * 8, gap * rng.randint(9, 12)):
        for line in range(5):
            draw.line((30, top + line * gap, w - 30, top + line * gap), "#000", 1)
        for x in range(30, w - 30, gap * 20):
            draw.line((x, top, x, top + 4 * gap), "#000", 2)
            notes = bar if rng.random() < 0.4 else [(rng.randint(-1, 9), rng.random() < 0.3) for _ in range(4)]
            for at, (step, hollow) in enumerate(notes):
                a, b = x + gap * (3 + at * 4), top + step * gap // 2
                if a < w - 50:
                    draw.ellipse(
                        (a - gap * 0.7, b - gap // 2, a + gap * 0.7, b + gap // 2),
                        "#fff" if hollow else "#000",
                        "#000",
                        2,
                    )
                    draw.line((a + gap * 0.7, b, a + gap * 0.7, b - gap * 3), "#000", 2)
    return image


def draw_comic(rng: random.Random) -> Image.Image:
    """Panels with flat faces and speech balloons."""
    image, draw, w, h = blank(rng)
    across, down = rng.randint(2, 3), rng.randint(2, 3)
    skins = [any_colour(rng, 150, 250) for _ in range(2)]
    for x in range(across):
        for y in range(down):
            a, b, c, d = (w * x // across + 8, h * y // down + 8, w * (x + 1) // across - 8, h * (y + 1) // down - 8)
            draw.rectangle((a, b, c, d), any_colour(rng, 130, 250), "#000", 4)
            draw.rectangle((a, d - (d - b) // 5, c, d), any_colour(rng), "#000", 3)
            for at in range(rng.randint(1, 2)):
                cx, cy, r = a + (c - a) * (1 + 2 * at) // 4, b + (d - b) * 3 // 5, (d - b) // 7
                draw.rounded_rectangle((cx - r, cy + r, cx + r, d), r // 2, any_colour(rng), "#000", 3)
                draw.ellipse((cx - r, cy - r, cx + r, cy + r), skins[at], "#000", 3)
                for eye in (-1, 1):
                    draw.ellipse((cx + eye * r // 2 - 4, cy - 8, cx + eye * r // 2 + 4, cy), "#000")
                draw.arc((cx - r // 2, cy - r // 4, cx + r // 2, cy + r // 2), 20, 160, "#000", 3)
            draw.ellipse((a + 12, b + 10, a + (c - a) * 2 // 3, b + (d - b) // 3), "#fff", "#000", 3)
            words = "".join(rng.choice("AEIOUNRST ") for _ in range(10))
            draw.text((a + (c - a) // 8, b + (d - b) // 7), words, "#000", font("train", 16))
    return image


def draw_curves(rng: random.Random) -> Image.Image:
    """A figure of a thin line that winds round a circle."""
    image, _, w, h = blank(rng, rng.random() < 0.7)
    canvas, colour = np.array(image), any_colour(rng, 20, 160)
    ts = np.linspace(0, 60 * math.pi, 6000)
    rates, size = [rng.uniform(0.2, 1)] + [rng.randint(2, 12) + rng.choice((0, 0.1)) for _ in range(2)], min(w, h) / 4.6
    xs, ys = (
        middle + size * (turn(rates[0] * ts) + 0.7 * turn(rates[1] * ts) + 0.4 * turn(rates[2] * ts))
        for middle, turn in ((w / 2, np.cos), (h / 2, np.sin))
    )
    cv2.polylines(canvas, [np.stack([xs, ys], 1).astype(np.int32)], False, colour, 1, cv2.LINE_AA)
    return Image.fromarray(canvas)


def draw_tiles(rng: random.Random) -> Image.Image:
    """A pattern of a few equal tiles."""
    image, draw, w, h = blank(rng)
    size, colours = rng.randint(24, 90), [any_colour(rng) for _ in range(3)]
    kind = rng.randrange(3)
    for x in range(0, w, size):
        for y in range(0, h, size):
            a, b, odd = x + size - 1, y + size - 1, (x // size + y // size) % 2
            draw.rectangle((x, y, a, b), colours[odd])
            if kind == 0:
                draw.polygon([(x, y), (a, y), (x, b)] if odd else [(a, b), (a, y), (x, b)], colours[2])
            elif kind == 1:
                draw.ellipse((x + size // 5, y + size // 5, a - size // 5, b - size // 5), colours[2])
    return image


def draw_scatter(rng: random.Random) -> Image.Image:
    """Clouds of points over bare axes, or slices of a pie."""
    image, draw, w, h = blank(rng)
    if rng.random() < 0.4:
        turn, side = 0.0, min(w, h) - 80
        while turn < 360:
            step = rng.uniform(15, 90)
            draw.pieslice((40, 40, 40 + side, 40 + side), turn, min(360, turn + step), any_colour(rng), "#fff", 2)
            turn += step
        return image
    draw.line((50, 20, 50, h - 40, w - 20, h - 40), "#222", 2)
    for _ in range(rng.randint(2, 4)):
        cx, cy, spread, colour = rng.uniform(0.2, 0.8), rng.uniform(0.2, 0.8), rng.uniform(0.03, 0.15), any_colour(rng)
        for _ in range(rng.randint(20, 200)):
            x, y = 50 + (w - 80) * rng.gauss(cx, spread), 20 + (h - 70) * rng.gauss(cy, spread)
            if 55 < x < w - 20 and 20 < y < h - 48:
                draw.regular_polygon((x, y, 4), rng.choice((3, 4)) if colour[0] % 2 else 6, 0, colour)
    for at in range(8):
        draw.text((60 + (w - 90) * at // 8, h - 34), f"{at * 2.5:g}", "#222", font("test", 14))
    return image


def draw_barcodes(rng: random.Random) -> Image.Image:
    """A sheet of labels with bar codes, partly the same one."""
    image, draw, w, h = blank(rng)
    pool = [[rng.randint(1, 4) for _ in range(60)] for _ in range(rng.randint(1, 4))]
    for top in range(16, h - 90, 120):
        for left in range(16, w - 200, 230):
            bars = rng.choice(pool)
            draw.rectangle((left, top, left + 214, top + 104), "#fff", "#999")
            x = left + 14
            for at, wide in enumerate(bars):
                if at % 2 == 0 and x + wide < left + 200:
                    draw.rectangle((x, top + 12, x + wide - 1, top + 74), "#000")
                x += wide
            draw.text((left + 24, top + 80), " ".join(str(wide) for wide in bars[:14]), "#000", font("test", 13))
    return image


def draw_tablature(rng: random.Random) -> Image.Image:
    """Six-line staves with numbers, like music for a guitar."""
    image, draw, w, h = blank(rng)
    riff = [(rng.randint(0, 5), rng.randint(0, 12)) for _ in range(8)]
    for top in range(40, h - 110, 130):
        for line in range(6):
            draw.line((40, top + line * 14, w - 40, top + line * 14), "#444", 1)
        for at, x in enumerate(range(60, w - 60, 28)):
            string, fret = riff[at % 8] if rng.random() < 0.8 else (rng.randint(0, 5), rng.randint(0, 12))
            draw.rectangle((x - 2, top + string * 14 - 7, x + 14, top + string * 14 + 7), image.getpixel((2, 2)))
            draw.text((x, top + string * 14 - 9), str(fret), "#000", font("test", 14))
            if at % 8 == 7:
                draw.line((x + 20, top, x + 20, top + 70), "#000", 2)
    return image


def draw_city(rng: random.Random) -> Image.Image:
    """Flat blocks of a town seen from above at a slant."""
    image, draw, w, h = blank(rng)
    unit, colours = rng.randint(26, 48), [any_colour(rng, 90, 230) for _ in range(3)]
    for row in range(-2, h // unit * 2 + 8):
        for column in range(-1, w // unit // 2 + 2):
            x, y = column * unit * 2 + (row % 2) * unit, row * unit // 2
            tall = rng.choice((0, 1, 1, 2, 3)) * unit // 2
            base = rng.choice(colours)
            dark, mid = tuple(v * 5 // 10 for v in base), tuple(v * 7 // 10 for v in base)
            draw.polygon([(x, y + unit // 2 - tall), (x - unit, y - tall), (x - unit, y), (x, y + unit // 2)], dark)
            draw.polygon([(x, y + unit // 2 - tall), (x + unit, y - tall), (x + unit, y), (x, y + unit // 2)], mid)
            roof = [(x, y - unit // 2 - tall), (x + unit, y - tall), (x, y + unit // 2 - tall), (x - unit, y - tall)]
            draw.polygon(roof, base, "#333")
    return image


def draw_floor_plan(rng: random.Random) -> Image.Image:
    """A plan of rooms in thin and thick lines with measures."""
    image, draw, w, h = blank(rng)
    xs, ys = ([40], [40])
    for edges, size in ((xs, w), (ys, h)):
        while edges[-1] < size - 240:
            edges.append(edges[-1] + rng.randrange(100, 220, 20))
        edges.append(size - 40)
    for a, c in itertools.pairwise(xs):
        for b, d in itertools.pairwise(ys):
            draw.rectangle((a, b, c, d), None, "#111", 5)
            draw.arc((a, d - 34, a + 68, d + 34), 270, 360, "#444", 1)
            draw.rectangle((a + 4, d - 2, a + 34, d + 2), "#fff")
            draw.text(((a + c) / 2, (b + d) / 2), f"{(c - a) * (d - b) / 4000:.1f} m²", "#222", font("test", 14), "mm")
        draw.line((a, 20, c, 20), "#a33", 1)
        draw.text(((a + c) / 2, 12), f"{(c - a) / 50:.2f}", "#a33", font("test", 12), "mm")
    return image


def draw_gradients(rng: random.Random) -> Image.Image:
    """Soft gradients with see-through figures, like a poster or a logo."""
    w, h = rng.randint(480, 1280), rng.randint(420, 1000)
    y, x = np.mgrid[0:h, 0:w] / max(w, h)
    turn = rng.uniform(0, 6.28)
    t = (x * math.cos(turn) + y * math.sin(turn)) % 1 if rng.random() < 0.5 else np.hypot(x - 0.5, y - 0.4)
    a, b = np.array(any_colour(rng)), np.array(any_colour(rng))
    image = Image.fromarray((a + (b - a) * np.clip(t, 0, 1)[..., None]).astype(np.uint8))
    draw = ImageDraw.Draw(image, "RGBA")
    for _ in range(rng.randint(1, 6)):
        middle = (rng.randint(0, w), rng.randint(0, h), rng.randint(40, 220))
        draw.regular_polygon(middle, rng.randint(3, 8), rng.randint(0, 90), (*any_colour(rng), rng.randint(80, 255)))
    return image


DRAWINGS: dict[Side, list[Callable[[random.Random], Image.Image]]] = {
    "train": [draw_plot, draw_matrix_code, draw_score, draw_comic, draw_curves, draw_tiles],
    "test": [draw_scatter, draw_barcodes, draw_tablature, draw_city, draw_floor_plan, draw_gradients],
}


# ---- What happens to a picture before it is saved --------------------------------------------------------------------


def scan(image: Image.Image, rng: random.Random) -> Image.Image:
    """A page as a scanner sees it: paper, a slight turn, blur, uneven light, noise."""
    noise = np.random.default_rng(rng.randrange(2**32))
    page: NDArray[Any] = np.asarray(image, np.float32) / 255
    h, w = page.shape[:2]
    page = page * np.array([rng.uniform(0.92, 1), rng.uniform(0.92, 0.99), rng.uniform(0.84, 0.97)], np.float32)
    grain = cv2.GaussianBlur(noise.normal(0, 1, (h, w)).astype(np.float32), (0, 0), rng.uniform(1, 4))
    page += (grain * rng.uniform(0, 0.03))[..., None]
    if rng.random() < 0.65:
        turn = cv2.getRotationMatrix2D((w / 2, h / 2), rng.gauss(0, 1), rng.uniform(0.97, 1.02))
        border = [rng.choice((0.1, 0.55, 0.97))] * 3
        page = cv2.warpAffine(page, turn, (w, h), flags=cv2.INTER_CUBIC, borderValue=border)
    page = cv2.GaussianBlur(page, (0, 0), rng.uniform(0.4, 1.1))
    y, x = np.mgrid[0:h, 0:w].astype(np.float32)
    light = 1 - rng.uniform(0, 0.15) * (x / w if rng.random() < 0.5 else y / h)
    light -= rng.uniform(0, 0.35) * np.exp(-(x if rng.random() < 0.5 else w - x) / (0.04 * w))
    page = page * light[..., None] + 0.02
    if rng.random() < 0.25:
        page = np.repeat(page.mean(2, keepdims=True), 3, 2)
    page += noise.normal(0, rng.uniform(0.004, 0.025), page.shape).astype(np.float32)
    return Image.fromarray((np.clip(page, 0, 1) * 255).round().astype(np.uint8))


def snip(image: Image.Image, rng: random.Random) -> Image.Image:
    """A part of the screen, as one cuts out what one wants to show."""
    w, h = (rng.randint(round(side * 0.55), side) for side in image.size)
    if w * h < 2e5:
        return image
    left, top = rng.randint(0, image.width - w), rng.randint(0, image.height - h)
    part = image.crop((left, top, left + w, top + h))
    return part if np.asarray(part.convert("L")).std() > 15 else image


def save_jpeg(image: Image.Image, stem: Path, rng: random.Random) -> None:
    quality, chroma = rng.randint(60, 98), rng.choice(("420", "444"))
    path = stem.with_name(f"{stem.name}_jpg{quality}-{chroma}.jpg")
    image.save(path, quality=quality, subsampling={"420": 2, "444": 0}[chroma])


def save(image: Image.Image, stem: Path, rng: random.Random, kind: str) -> None:
    """Save in one of the ways that the module's docstring lists."""
    if kind == "jpg":
        save_jpeg(image, stem, rng)
    elif kind == "alpha":
        alpha = Image.new("L", image.size, 255)
        if rng.random() < 0.5:  # a window with round, clear corners
            mask = Image.new("L", image.size, 0)
            ImageDraw.Draw(mask).rounded_rectangle((0, 0, image.width - 1, image.height - 1), rng.randint(8, 40), 255)
            alpha = mask
        image.putalpha(alpha)
        image.save(stem.with_name(f"{stem.name}_alpha.png"))
    elif kind == "webp":
        quality, buffer = rng.randint(50, 95), io.BytesIO()
        image.save(buffer, "WEBP", quality=quality)
        Image.open(buffer).convert("RGB").save(stem.with_name(f"{stem.name}_webp{quality}.png"))
    elif kind == "resized":
        low = min(1.0, max(0.5, math.sqrt(2e5 / (image.width * image.height))))
        factor = rng.choice((rng.uniform(low, 1), rng.uniform(low, 1), rng.uniform(1.05, 1.5)))
        if image.width * image.height * factor**2 > 2.1e6:
            factor = math.sqrt(1.5e6 / (image.width * image.height))
        size = (round(image.width * factor), round(image.height * factor))
        resampling = rng.choice((Image.Resampling.BILINEAR, Image.Resampling.BICUBIC, Image.Resampling.LANCZOS))
        small, stem = image.resize(size, resampling), stem.with_name(f"{stem.name}_resized{round(factor * 100)}")
        if rng.random() < 0.5:
            save_jpeg(small, stem, rng)
        else:
            small.save(stem.with_name(f"{stem.name}.png"))
    else:
        image.save(stem.with_name(f"{stem.name}_png.png"))


def dealt(shares: dict[str, float], count: int, rng: random.Random) -> list[str]:
    """`count` names in these shares, shuffled."""
    edges = np.cumsum([0, *shares.values()]) / sum(shares.values()) * count
    names = [name for name, a, b in zip(shares, edges, edges[1:], strict=False) for _ in range(round(b) - round(a))]
    rng.shuffle(names)
    return names


def show(chrome: Browser, chosen: Layout, key: str, rng: random.Random) -> tuple[Image.Image, float]:
    """A page of this layout, and its scale."""
    w, h, scale = window(chosen.shape, rng)
    page = chosen.make(Gen(chosen.side, key, w, h, paper=chosen.category == "document"))
    return chrome.render(page, w, h, scale), scale


def make_pictures(chrome: Browser, folder: Path, side: Side, count: int, seed: int) -> Counter[str]:
    """The screens, drawings and scans of one side; returns how many of each there are."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = random.Random(f"{seed} {side} pictures")
    kinds = dealt({"png": 45, "alpha": 5, "jpg": 35, "resized": 10, "webp": 5}, count, rng)
    sources = dealt({"drawn": DRAWN, "scan": SCANNED, "screen": 1 - DRAWN - SCANNED}, count, rng)
    documents = [entry for entry in LAYOUTS if entry.side == side and entry.category == "document"]
    screens = [entry for entry in LAYOUTS if entry.side == side and entry.category != "document"]
    some = rng.sample(documents, len(documents))
    screens = [*screens, *some[::2], *screens, *some[1::2]]  # each document half as often as a screen
    made: Counter[str] = Counter()
    turns: Counter[str] = Counter()
    for number, (kind, source) in enumerate(zip(kinds, sources, strict=True)):
        rng = random.Random(f"{seed} {side} {number}")
        at = turns[source]
        turns[source] += 1
        if source == "drawn":
            draw = DRAWINGS[side][at % len(DRAWINGS[side])]
            name, image = f"drawn-{draw.__name__[5:].replace('_', '-')}", draw(rng)
        elif source == "scan":
            chosen = documents[at % len(documents)]
            name = f"scan-{chosen.name}"
            image, kind = scan(show(chrome, chosen, f"{seed} {number}", rng)[0], rng), "jpg"
        else:
            chosen = screens[at % len(screens)]
            name = f"{chosen.category}-{chosen.name}"
            image, _ = show(chrome, chosen, f"{seed} {number}", rng)
            if rng.random() < 0.12 and kind != "alpha":
                image = snip(image, rng)
        save(image, folder / f"{name}_{number:03}", rng, kind)
        made[name] += 1
    return made


def make_pages(chrome: Browser, folder: Path, side: Side, count: int, seed: int) -> Counter[str]:
    """The clean documents of one side with their words' boxes; returns how many of each there are."""
    folder.mkdir(parents=True, exist_ok=True)
    documents = [entry for entry in LAYOUTS if entry.side == side and entry.category == "document"]
    made: Counter[str] = Counter()
    for number in range(count):
        chosen = documents[number % len(documents)]
        image, scale = show(chrome, chosen, f"{seed} page {number}", random.Random(f"{seed} {side} page {number}"))
        stem = folder / f"{chosen.name}_{number:03}"
        image.save(stem.with_suffix(".png"))
        stem.with_suffix(".json").write_text(json.dumps(chrome.words(scale), ensure_ascii=False), encoding="utf-8")
        made[chosen.name] += 1
    return made


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--count", type=int, default=320, help="pictures of `train`; without --side, `test` gets 5/8")
    parser.add_argument("--pages", type=int, help="documents of each side [150 and 80]; 0 for none")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--side", choices=get_args(Side), help="make one side only [both]")
    given = parser.parse_args()
    sides: list[Side] = [given.side] if given.side else list(get_args(Side))
    started = time.monotonic()
    cv2.setNumThreads(1)
    with browser() as chrome:
        for side in sides:
            count = given.count if given.side or side == "train" else given.count * 5 // 8
            pages = PAGES[side] if given.pages is None else given.pages
            for title, made in (
                (side, make_pictures(chrome, given.out / side, side, count, given.seed)),
                (f"pages/{side}", make_pages(chrome, given.out / "pages" / side, side, pages, given.seed)),
            ):
                print(f"{title}: {made.total()}")
                print("".join(f"  {name} {number}\n" for name, number in sorted(made.items())), end="")
    print(f"{time.monotonic() - started:.0f} s")


if __name__ == "__main__":
    main()
