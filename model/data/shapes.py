"""Shapes of forged regions: objects, blobs, polygons, ellipses, brush strokes."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

Mask = NDArray[np.bool_]

SMALLEST, LARGEST = 0.006, 0.45
"""Share of the picture that the smallest and the largest drawn region cover."""


def region_area(rng: np.random.Generator) -> float:
    """Share of the picture a region covers: log-uniform, small ones as common as large ones."""
    return float(np.exp(rng.uniform(np.log(SMALLEST), np.log(LARGEST))))


def drawn_shape(rng: np.random.Generator, height: int, width: int, area: float) -> Mask:
    """A drawn region of about `area`·height·width pixels, somewhere in the picture, H×W bool."""
    radius = np.sqrt(area * height * width / np.pi)
    aspect = float(np.exp(rng.uniform(-0.7, 0.7)))
    rx, ry = min(radius * aspect, width * 0.48), min(radius / aspect, height * 0.48)
    cx, cy = (
        rng.uniform(min(rx, width / 2), max(width - rx, width / 2)),
        rng.uniform(min(ry, height / 2), max(height - ry, height / 2)),
    )
    canvas = np.zeros((height, width), np.uint8)
    kind = rng.choice(["blob", "polygon", "ellipse", "rectangle", "stroke"], p=[0.5, 0.2, 0.12, 0.1, 0.08])
    tilt = rng.uniform(0, np.pi)
    if kind == "rectangle":
        x0, y0, x1, y1 = int(cx - rx * 0.89), int(cy - ry * 0.89), int(cx + rx * 0.89), int(cy + ry * 0.89)
        canvas[max(y0, 0) : y1 + 1, max(x0, 0) : x1 + 1] = 1
    elif kind == "stroke":
        points = rng.uniform(-1, 1, (4, 2)) * [rx * 1.8, ry * 1.8] + [cx, cy]
        thickness = max(3, int(min(rx, ry) * 0.6))
        cv2.polylines(canvas, [points.astype(np.int32)], False, 1, thickness)
    else:
        angles = np.linspace(0, 2 * np.pi, 96, endpoint=False)
        if kind == "ellipse":
            profile = np.ones(96)
        elif kind == "polygon":
            corners = int(rng.integers(4, 11))
            picked = np.sort(rng.choice(96, corners, replace=False))
            profile = np.interp(angles, angles[picked], rng.uniform(0.5, 1.3, corners), period=2 * np.pi)
        else:
            profile = np.ones(96)
            for wave in range(1, 8):
                profile += rng.normal(0, 0.28 / wave) * np.cos(wave * angles + rng.uniform(0, 2 * np.pi))
            profile = np.clip(profile, 0.25, 1.8)
        x, y = np.cos(angles) * rx * profile, np.sin(angles) * ry * profile
        outline = np.stack([cx + x * np.cos(tilt) - y * np.sin(tilt), cy + x * np.sin(tilt) + y * np.cos(tilt)], 1)
        cv2.fillPoly(canvas, [outline.astype(np.int32)], 1)
    return canvas.astype(bool)


def bounding_box(mask: Mask) -> tuple[int, int, int, int]:
    """(top, left, bottom, right) of a non-empty mask, bottom and right exclusive."""
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    return int(rows[0]), int(columns[0]), int(rows[-1]) + 1, int(columns[-1]) + 1
