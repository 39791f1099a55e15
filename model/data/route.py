"""How an edited picture gets to the size it is published at: as it is, resized, or as a screenshot."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from model.data.history import Pixels, Published, jpeg, last_quality, publish, resize
from model.data.shapes import Mask

RESIZED, SCREENSHOT = 0.14, 0.03
"""Shares of the pictures that are resized after the edit, and that are captured from a screen."""

Size = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Route:
    """Sizes are (height, width) in pixels.

    Attributes:
        kind: `plain`, `resized` or `screenshot`.
        edited: size at which the picture is edited.
        shown: size it is brought to.
        corner: (top, left) of what is kept of that.
        published: size of what is kept of that.
    """

    kind: str
    edited: Size
    shown: Size
    corner: Size
    published: Size


def route_to(published: Size, rng: np.random.Generator) -> Route:
    """A random route that ends at this size."""
    kind, factor, (top, left, bottom, right) = _draw(rng, published)
    shown = (published[0] + top + bottom, published[1] + left + right)
    return Route(kind, _scaled(shown, factor), shown, (top, left), published)


def route_from(edited: Size, rng: np.random.Generator) -> Route:
    """A random route that starts at this size: that of a whole photo."""
    kind, factor, (top, left, bottom, right) = _draw(rng, edited)
    shown = _scaled(edited, 1 / factor)
    published = (shown[0] - top - bottom, shown[1] - left - right)
    if min(published) < 16:  # nothing would be left of it
        return Route("plain", edited, edited, (0, 0), edited)
    return Route(kind, edited, shown, (top, left), published)


def _draw(rng: np.random.Generator, size: Size) -> tuple[str, float, tuple[int, int, int, int]]:
    """Kind, edited size / shown size, and the margins that a screenshot cuts off (top, left, bottom, right)."""
    factor = float(rng.uniform(1.1, 2.0) if rng.random() < 0.8 else rng.uniform(0.8, 0.95))
    draw = rng.random()
    if draw < RESIZED:
        return "resized", factor, (0, 0, 0, 0)
    if draw < RESIZED + SCREENSHOT:
        rows, columns = max(2, size[0] // 32), max(2, size[1] // 32)
        top, left, bottom, right = (int(v) for v in rng.integers(0, [rows, columns, rows, columns]))
        return "screenshot", factor, (top, left, bottom, right)
    return "plain", 1.0, (0, 0, 0, 0)


def _scaled(size: Size, factor: float) -> Size:
    return max(1, round(size[0] * factor)), max(1, round(size[1] * factor))


def follow(route: Route, pixels: Pixels, mask: Mask, rng: np.random.Generator) -> tuple[Published, Mask]:
    """Publish an edited picture along the route.

    Args:
        pixels: H×W×3 uint8 of the size `route.edited`.
        mask: H×W bool, True = forged.

    Returns:
        The published picture and its mask, both of the size `route.published`.
    """
    if route.kind == "plain":
        return publish(pixels, rng), mask
    steps = []
    if rng.random() < 0.4:  # saved by the editor before somebody else made it smaller
        quality = last_quality(rng)
        pixels = jpeg(pixels, rng, quality)
        steps.append(f"jpeg {quality:.0f}")
    factor = route.shown[0] / route.edited[0]
    pixels = resize(pixels, route.shown[1], route.shown[0], rng)
    weights = cv2.resize(mask.astype(np.uint8) * 255, route.shown[::-1], interpolation=cv2.INTER_AREA)
    (top, left), (height, width) = route.corner, route.published
    window = np.s_[top : top + height, left : left + width]
    pixels, mask = np.ascontiguousarray(pixels[window]), np.asarray(weights)[window] > 127
    if route.kind == "resized":
        steps.append(f"resized by {factor:.2f}")
    else:
        steps.append(f"screenshot: shown at {factor:.2f}, cut to {width}×{height}+{left}+{top}")
        if rng.random() < 0.5:
            return Published(pixels, steps), mask
    published = publish(pixels, rng)
    return Published(published.pixels, steps + published.steps, published.jpeg), mask
