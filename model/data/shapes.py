"""Shapes of forged regions: blobs, polygons, ellipses, brush strokes, superpixels."""

from __future__ import annotations

import heapq

import cv2
import numpy as np
from numpy.typing import NDArray

Mask = NDArray[np.bool_]

SMALLEST, LARGEST = 0.004, 0.45
"""Share of a picture of 256×256 pixels that the smallest and the largest region cover."""
SMALLEST_EVER, SMALLEST_PIXELS = 0.001, 256
"""The same for large pictures, and the area in pixels of the smallest region: 16×16."""


def smallest_area(height: int, width: int) -> float:
    """Share of a picture of that size that the smallest region covers: 0.1 %, but never below 16×16 pixels."""
    return min(max(SMALLEST_EVER, SMALLEST_PIXELS / (height * width)), LARGEST)


def region_area(rng: np.random.Generator, smallest: float = SMALLEST, largest: float = LARGEST) -> float:
    """Share of the picture a region covers: log-uniform, small ones as common as large ones."""
    return float(np.exp(rng.uniform(np.log(smallest), np.log(largest))))


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


WINDOW = 160
"""Side in pixels to which the surroundings of a region are shrunk before they are cut into superpixels."""


def superpixel_shape(rng: np.random.Generator, pixels: NDArray[np.uint8], area: float) -> Mask:
    """A region of about `area`·height·width pixels whose outline follows the picture's edges, H×W bool.

    Waterpixels (Machairas et al., 2015): a watershed of the picture from a grid of seeds. From a random one on,
    neighbours of similar colour are joined until the area is reached.

    Args:
        pixels: H×W×3 uint8.
        area: share of the picture.
    """
    height, width = pixels.shape[:2]
    wanted = area * height * width
    side = max(24, round(3.0 * np.sqrt(wanted)))
    rows, columns = min(side, height), min(side, width)
    top, left = int(rng.integers(height - rows + 1)), int(rng.integers(width - columns + 1))
    window = pixels[top : top + rows, left : left + columns]
    shrink = max(1.0, max(rows, columns) / WINDOW)
    small_size = (max(8, round(columns / shrink)), max(8, round(rows / shrink)))
    small = np.asarray(cv2.resize(window, small_size, interpolation=cv2.INTER_AREA), np.uint8)
    goal = wanted * (small_size[0] * small_size[1]) / (rows * columns)
    labels = _waterpixels(rng, small, max(4.0, np.sqrt(goal / rng.integers(2, 9))))
    joined = _grown(rng, small, labels, goal).astype(np.float32)
    mask = np.zeros((height, width), bool)
    mask[top : top + rows, left : left + columns] = np.asarray(cv2.resize(joined, (columns, rows))) > 0.5
    return mask


def _waterpixels(rng: np.random.Generator, pixels: NDArray[np.uint8], cell: float) -> NDArray[np.int32]:
    """Labels from 0 on, H×W: one for each seed of a jittered grid of that spacing."""
    height, width = pixels.shape[:2]
    rows, columns = max(2, round(height / cell)), max(2, round(width / cell))
    grid = np.stack(np.meshgrid(np.arange(rows) + 0.5, np.arange(columns) + 0.5, indexing="ij"), -1)
    seeds = (grid + rng.uniform(-0.25, 0.25, grid.shape)) * [height / rows, width / columns]
    y, x = seeds.reshape(-1, 2).astype(int).T
    markers = np.zeros((height, width), np.int32)
    markers[y.clip(1, height - 2), x.clip(1, width - 2)] = np.arange(1, rows * columns + 1)
    cv2.watershed(np.asarray(cv2.GaussianBlur(pixels, (0, 0), 1.0), np.uint8), markers)
    # Ridges, and OpenCV's frame of one pixel, are -1: they go to whatever is beside them.
    grown = cv2.dilate(markers.astype(np.float32), np.ones((3, 3), np.uint8))
    labels = np.where(markers > 0, markers, np.asarray(grown).astype(np.int32))
    return np.asarray(np.maximum(labels, 1) - 1, np.int32)


def _grown(
    rng: np.random.Generator, pixels: NDArray[np.uint8], labels: NDArray[np.int32], goal: float
) -> NDArray[np.bool_]:
    """Join superpixels from a random one on, the most similar neighbour first, until `goal` pixels are reached."""
    count = int(labels.max()) + 1
    sizes = np.bincount(labels.ravel(), minlength=count)
    colours = np.stack(
        [np.bincount(labels.ravel(), pixels[..., c].ravel(), count) / np.maximum(sizes, 1) for c in range(3)], 1
    )
    neighbours: dict[int, set[int]] = {}
    for one, other in ((labels[:, :-1], labels[:, 1:]), (labels[:-1], labels[1:])):
        border = one != other
        for a, b in np.unique(np.stack([one[border], other[border]], 1), axis=0).tolist():
            neighbours.setdefault(a, set()).add(b)
            neighbours.setdefault(b, set()).add(a)
    height, width = labels.shape
    row = int(rng.integers(height // 4, height - height // 4))
    start = int(labels[row, int(rng.integers(width // 4, width - width // 4))])
    queue, seen, chosen, total = [(0.0, start)], {start}, [], 0
    while queue and total < goal:
        _, label = heapq.heappop(queue)
        chosen.append(label)
        total += int(sizes[label])
        for other_label in sorted(neighbours.get(label, set()) - seen):
            seen.add(other_label)
            heapq.heappush(queue, (float(np.abs(colours[other_label] - colours[start]).sum()), other_label))
    return np.isin(labels, chosen)
