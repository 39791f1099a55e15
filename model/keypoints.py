"""SIFT keypoints (Lowe, IJCV 2004), the points of a picture that are found again where it was turned or scaled.

They are extrema of the difference of Gaussians, each with a scale, a direction and a histogram of the gradients around
it in that frame. They are computed with tensor operations, so that nothing but torch and NumPy is needed; the
descriptor of the mirrored picture is the same numbers in another order, so mirrored copies cost nothing.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

MOST, PIXELS_PER_KEYPOINT = 1000, 400
"""The most keypoints of a picture, the strongest; in a larger picture one for this many pixels instead."""
DOUBLED = 140_000
"""Pixels. Smaller pictures are doubled first: their details are all they have."""

_INTERVALS, _OCTAVES = 3, 4
_SIGMA, _SIGMA_BEFORE = 1.6, 0.5  # of the first level, and what a picture is taken to have
_CONTRAST = 0.7  # grey levels
_RIM = 5  # pixels at the border where nothing is looked for
_EDGE = 15.0  # ratio of curvatures above which an extremum lies along an edge, anywhere on it
_SIDE = 16  # samples across a descriptor: 4×4 histograms of 4×4 samples
_SPACING = 0.75  # between samples, in units of the scale
_BINS, _DIRECTIONS = 8, 36
_STRIP, _AT_ONCE = 16_384, 64  # pixels and keypoints that are worked on at a time: they stay in the cache
_BAND, _LAST_BAND = 16, 32  # rows that a matrix blurs; the last has fewer than this, if any are left


@dataclass(frozen=True, slots=True)
class Keypoints:
    """n keypoints of one picture.

    Attributes:
        places: n×2, x and y in pixels.
        scales: n, pixels.
        angles: n, radians, from x towards y.
        descriptors: n×128, unit length (square roots of normalized histograms; Arandjelović and Zisserman 2012).
        mirrored: the same for the picture mirrored left to right, whose angles are π - `angles`.
    """

    places: Tensor
    scales: Tensor
    angles: Tensor
    descriptors: Tensor
    mirrored: Tensor


def keypoints(y: Tensor) -> Keypoints:
    """Keypoints of H×W luma in grey levels, 0 to 255 float32; none in a flat or tiny picture."""
    with torch.autocast("cpu", enabled=False), torch.inference_mode():
        doubled = y.numel() <= DOUBLED
        image = y
        if doubled:
            image = F.interpolate(y[None, None], scale_factor=2, mode="bilinear", align_corners=False)[0, 0]
        octaves = _octaves(image, doubled)
        most = max(MOST, y.numel() // PIXELS_PER_KEYPOINT)
        extrema = [_extrema(levels, 3 * most) for levels in octaves]
        strongest = _strongest([strength for _, _, _, strength in extrema], most)
        parts = [(torch.zeros(0, 2), torch.zeros(0), torch.zeros(0), torch.zeros(0, 16 * _BINS))]
        for octave, (levels, (level, place, sigma, _), keep) in enumerate(
            zip(octaves, extrema, strongest, strict=True)
        ):
            parts.append(_described(levels, 2.0**octave, level[keep], place[keep], sigma[keep]))
        places, scales, angles, descriptors = (torch.cat(part) for part in zip(*parts, strict=True))
        if doubled:
            places, scales = (places - 0.5) / 2, scales / 2
        return Keypoints(places, scales, angles, _rooted(descriptors), _rooted(_mirror(descriptors)))


@functools.lru_cache(256)
def _bands(length: int, sigma: float) -> list[tuple[int, int, int, Tensor]]:
    """A blur of `length` rows as matrices: the first row of a band, the first of those it is made of, how many bands,
    one after the other, have the same weights, as all do that no end is near; and these weights.

    Beyond the ends the outermost rows are repeated.
    """
    radius = math.ceil(3 * sigma)
    weights = np.exp(-(np.arange(-radius, radius + 1) ** 2) / (2 * sigma**2))
    out: list[tuple[int, int, int, Tensor]] = []
    last_band = length - length % _LAST_BAND
    for start in [*range(0, last_band, _BAND), *range(last_band, length, _LAST_BAND)]:
        stop = min(start + _BAND, length) if start < last_band else length
        first, last = max(0, start - radius), min(length, stop + radius)
        if out and out[-1][3].shape == (stop - start, last - first) == (_BAND, _BAND + 2 * radius):
            out[-1] = (*out[-1][:2], out[-1][2] + 1, out[-1][3])
            continue
        made_of = np.arange(start, stop)[:, None] + np.arange(-radius, radius + 1)
        values = np.zeros((stop - start, last - first))
        np.add.at(
            values, (np.arange(stop - start)[:, None], made_of.clip(0, length - 1) - first), weights / weights.sum()
        )
        out.append((start, first, 1, torch.from_numpy(values.astype(np.float32))))
    return out


def _blur(image: Tensor, sigma: float, between: Tensor, out: Tensor) -> None:
    """H×W → `out`, by way of `between`. Products of matrices: many times as fast as a convolution of one channel."""
    for source, target in ((image.T, between.T), (between, out)):
        width, (down, along), (down_to, along_to) = source.shape[1], source.stride(), target.stride()
        for start, first, count, matrix in _bands(len(source), sigma):
            rows, made_of = matrix.shape
            windows = source[first:].as_strided((count, made_of, width), (rows * down, down, along))
            bands = target[start:].as_strided((count, rows, width), (rows * down_to, down_to, along_to))
            torch.bmm(matrix.expand(count, -1, -1), windows, out=bands)


def _octaves(image: Tensor, doubled: bool) -> list[Tensor]:
    """Gaussian pictures of each octave, (_INTERVALS + 3)×h×w, each octave half as wide as the one before."""
    before = _SIGMA_BEFORE * (2 if doubled else 1)
    current, step = image, 2 ** (1 / _INTERVALS)
    out: list[Tensor] = []
    for octave in range(_OCTAVES):
        if min(current.shape) < 2 * _SIDE:
            break
        levels, between = torch.empty(_INTERVALS + 3, *current.shape), torch.empty(current.shape)
        if octave:
            levels[0] = current
        else:
            _blur(current, math.sqrt(_SIGMA**2 - before**2), between, levels[0])
        for level in range(1, _INTERVALS + 3):
            sigma = _SIGMA * step ** (level - 1) * math.sqrt(step**2 - 1)
            _blur(levels[level - 1], sigma, between, levels[level])
        out.append(levels)
        current = levels[_INTERVALS, ::2, ::2]
    return out


def _strongest(strengths: list[Tensor], most: int) -> list[Tensor]:
    """Which of each octave's extrema are among the `most` strongest of all."""
    every = torch.cat([torch.zeros(0), *strengths])
    keep = torch.ones(len(every), dtype=torch.bool)
    if len(every) > most:
        keep = torch.zeros_like(keep)
        keep[every.topk(most).indices] = True
    return list(torch.split(keep, [len(strength) for strength in strengths]))


def _described(
    levels: Tensor, unit: float, levels_of: Tensor, places: Tensor, sigma: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Places, scales, angles and descriptors of an octave's extrema; `unit`: pixels of the first octave per pixel."""
    angles = torch.zeros(len(sigma))
    descriptors = torch.zeros(len(sigma), 16 * _BINS)
    gradient = torch.empty(2, *levels.shape[1:]) if len(sigma) else torch.empty(0)
    for level in range(1, _INTERVALS + 1):
        which = torch.nonzero(levels_of == level).flatten()
        if len(which):
            _gradient(levels[level], gradient)
            angles[which] = _directions(gradient, places[which], sigma[which])
            descriptors[which] = _descriptors(gradient, places[which], sigma[which], angles[which])
    return places * unit, sigma * unit, angles, descriptors


def _extrema(levels: Tensor, most: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Level (nearest), place x, y (sub-pixel), scale and contrast of each extremum of the difference of Gaussians, of
    at most `most`."""
    difference, at = _extreme_places(levels.numpy())
    d, index = torch.from_numpy(difference), torch.from_numpy(at)
    if len(index) > most:
        index = index[d.flatten()[index].abs().topk(most).indices]
    height, width = levels.shape[1:]
    level, row, column = index // (height * width), index // width % height, index % width
    steps = torch.arange(-1, 2)
    around = (steps[:, None, None] * height + steps[:, None]) * width + steps
    cube = d.flatten()[index[:, None] + around.flatten()].reshape(-1, 3, 3, 3)
    c = cube[:, 1, 1, 1]
    lines = cube[:, :, 1, 1], cube[:, 1, :, 1], cube[:, 1, 1, :]
    ends = [(line[:, 0], line[:, 2]) for line in lines]
    first = torch.stack([(after - before) / 2 for before, after in ends], 1)
    second = torch.diag_embed(torch.stack([before + after - 2 * c for before, after in ends], 1))
    for i, j, plane in ((0, 1, cube[:, :, :, 1]), (0, 2, cube[:, :, 1]), (1, 2, cube[:, 1])):
        cross = (plane[:, 2, 2] + plane[:, 0, 0] - plane[:, 2, 0] - plane[:, 0, 2]) / 4
        second[:, i, j] = second[:, j, i] = cross
    trace = second[:, 1, 1] + second[:, 2, 2]
    determinant = second[:, 1, 1] * second[:, 2, 2] - second[:, 1, 2] ** 2
    round_ = trace**2 * _EDGE < (_EDGE + 1) ** 2 * determinant
    shift = -torch.linalg.solve_ex(second + 1e-6 * torch.eye(3), first[..., None])[0][..., 0]
    keep = round_ & torch.isfinite(shift).all(1)
    shift, level, row, column, c = (v[keep] for v in (shift.clamp(-0.6, 0.6), level, row, column, c))
    places = torch.stack([column + shift[:, 2], row + shift[:, 1]], 1)
    sigma = _SIGMA * 2 ** ((level + shift[:, 0]) / _INTERVALS)
    return level, places, sigma, c.abs()


def _extreme_places(levels: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """The difference of Gaussians, and the flat indices, ascending, of its values beyond ±_CONTRAST that none of the 26
    neighbours in place and scale exceeds.

    First, strip by strip, against the six nearest neighbours: few values are left for the others.
    """
    height, width = levels.shape[1:]
    difference = np.empty((len(levels) - 1, height, width), np.float32)
    flat, planes = difference.ravel(), difference.reshape(len(difference), -1)
    found: tuple[list[NDArray[np.int64]], ...] = ([], [])
    rows, done = max(1, _STRIP // width), 0
    for top in range(_RIM, height - _RIM, rows):
        bottom = min(top + rows, height - _RIM)
        np.subtract(levels[1:, done : bottom + 1], levels[:-1, done : bottom + 1], out=difference[:, done : bottom + 1])
        done = bottom + 1
        start, stop = top * width, bottom * width  # a row's ends are neighbours here: both lie in the rim
        centre = planes[1:-1, start:stop]
        high, low = centre > np.float32(_CONTRAST), centre < np.float32(-_CONTRAST)
        # Two neighbours are compared once for both of them: [one] is where a place is the first, [other] the second.
        for before, after, one, other in (
            (planes[1:-1, start - 1 : stop], planes[1:-1, start : stop + 1], np.s_[:, 1:], np.s_[:, :-1]),
            (
                planes[1:-1, start - width : stop],
                planes[1:-1, start : stop + width],
                np.s_[:, width:],
                np.s_[:, :-width],
            ),
            (planes[:-1, start:stop], planes[1:, start:stop], np.s_[1:], np.s_[:-1]),
        ):
            falls, rises = before >= after, before <= after
            high &= falls[one]
            high &= rises[other]
            low &= rises[one]
            low &= falls[other]
        for extreme, parts in zip((high, low), found, strict=True):
            plane, place = np.divmod(np.flatnonzero(extreme), stop - start)
            parts.append((plane + 1) * planes.shape[1] + start + place)
    extrema = []
    for compare, parts in zip((np.greater_equal, np.less_equal), found, strict=True):
        at = np.concatenate(parts) if parts else np.zeros(0, np.int64)
        at = at[np.abs(at % width - (width - 1) / 2) < (width - 1) / 2 - _RIM + 0.5]
        for level, row, column in itertools.product((0, -1, 1), repeat=3):
            if abs(level) + abs(row) + abs(column) > 1:
                at = at[compare(flat[at], flat[at + (level * height + row) * width + column])]
        extrema.append(at)
    return difference, np.sort(np.concatenate(extrema))


def _gradient(image: Tensor, out: Tensor) -> None:
    """Twice the derivatives along x and y, 2×h×w."""
    for axis, derivative in ((1, out[0]), (0, out[1])):
        n = image.shape[axis]
        for before, after, at, length in ((0, 2, 1, n - 2), (0, 1, 0, 1), (n - 2, n - 1, n - 1, 1)):
            ends = (image.narrow(axis, start, length) for start in (after, before))
            torch.sub(*ends, out=derivative.narrow(axis, at, length))


_STEPS = torch.arange(_SIDE) - (_SIDE - 1) / 2


def _around(gradient: Tensor, places: Tensor, axes: Tensor, deviation: float) -> Iterator[tuple[slice, Tensor, Tensor]]:
    """Gradients on a _SIDE×_SIDE lattice around each place, _AT_ONCE places at a time.

    Args:
        axes: n×2, the step along the lattice's rows, x and y in pixels; along its columns it is that turned by 90°.
        deviation: of the weight that falls with the distance from the place, in steps.

    Yields:
        Which places; directions, radians in the picture's frame; weighted lengths: both n×_SIDE².
    """
    height, width = gradient.shape[-2:]
    extent = torch.tensor([width - 1.0, height - 1.0]) / 2
    turned = torch.stack([-axes[:, 1], axes[:, 0]], 1)
    across = (places / extent - 1)[:, None] + _STEPS[:, None] * (axes / extent)[:, None]
    down = _STEPS[:, None] * (turned / extent)[:, None]
    weights = torch.exp(-(_STEPS[:, None] ** 2 + _STEPS**2) / (2 * deviation**2)).flatten()
    for start in range(0, len(places), _AT_ONCE):
        some = slice(start, start + _AT_ONCE)
        grid = torch.view_as_complex(across[some])[:, None] + torch.view_as_complex(down[some])[:, :, None]
        grid = torch.view_as_real(grid).reshape(1, -1, _SIDE, 2)
        x, y = F.grid_sample(gradient[None], grid, align_corners=True)[0].reshape(2, -1, _SIDE**2)
        yield some, torch.atan2(y, x), torch.hypot(x, y).mul_(weights)


def _votes(position: Tensor, length: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The bin below each position, and the votes for this one and for the next."""
    lower = position.floor()
    high = (position - lower).mul_(length)
    return lower.long(), length - high, high


def _directions(gradient: Tensor, places: Tensor, sigma: Tensor) -> Tensor:
    """The main direction of the gradients around each place, radians."""
    axes = torch.stack([sigma * 0.5, torch.zeros_like(sigma)], 1)
    half = _DIRECTIONS // 2
    histograms = torch.zeros(len(sigma), _DIRECTIONS + 2)  # from -π to beyond π: the last two are the first two
    for some, direction, length in _around(gradient, places, axes, 3.0):
        lower, low, high = _votes(direction.mul_(half / math.pi), length)
        lower += half
        histograms[some, :-1].scatter_add_(1, lower, low)
        histograms[some, 1:].scatter_add_(1, lower, high)
    histograms[:, :2] += histograms[:, -2:]
    counts = histograms[:, :-2].roll(-half, 1)
    for _ in range(2):
        counts = (counts.roll(1, 1) + counts + counts.roll(-1, 1)) / 3
    best = counts.argmax(1, keepdim=True)
    left, middle, right = (counts.gather(1, (best + step) % _DIRECTIONS)[:, 0] for step in (-1, 0, 1))
    bend = (left - right) / (2 * (left - 2 * middle + right)).clamp(max=-1e-9)
    return (best[:, 0] + bend.clamp(-0.5, 0.5)) * (2 * math.pi / _DIRECTIONS)


def _descriptors(gradient: Tensor, places: Tensor, sigma: Tensor, angles: Tensor) -> Tensor:
    """n×128: for each of 4×4 parts of the neighbourhood (rows first) a histogram of 8 directions."""
    axes = torch.stack([torch.cos(angles), torch.sin(angles)], 1) * (sigma * _SPACING)[:, None]
    out = torch.empty(len(sigma), 16, _BINS)
    maps = torch.empty(min(_AT_ONCE, len(sigma)), _BINS + 1, _SIDE**2)
    for some, direction, length in _around(gradient, places, axes, _SIDE / 2):
        position = (direction - angles[some, None]).mul_(_BINS / (2 * math.pi))
        lower, low, high = _votes(position, length)
        index = (lower & (_BINS - 1))[:, None]
        n = len(length)
        maps.zero_()
        maps[:n, :-1].scatter_(1, index, low[:, None])
        maps[:n, 1:].scatter_(1, index, high[:, None])  # never the same bin
        parts = torch.mm(maps[:n].reshape(-1, _SIDE**2), _PARTS).reshape(n, _BINS + 1, 16)
        parts[:, 0] += parts[:, -1]
        out[some] = parts[:, :-1].transpose(1, 2)
    return out.reshape(-1, 16 * _BINS)


def _parts() -> Tensor:
    """How much each sample counts for each of the 4×4 parts, linear in the distance from its centre, _SIDE²×16."""
    along = (1 - (torch.arange(_SIDE)[:, None] - (torch.arange(4) * 4 + 1.5)).abs() / 4).clamp(min=0)
    return torch.kron(along, along)


_PARTS = _parts()


def _mirror(descriptors: Tensor) -> Tensor:
    """Descriptors of the mirrored picture: rows of parts in reverse, directions negated."""
    parts = descriptors.reshape(-1, 4, 4, _BINS).flip(1)
    return parts[..., (-torch.arange(_BINS)) % _BINS].reshape(-1, 16 * _BINS)


def _rooted(descriptors: Tensor) -> Tensor:
    unit = F.normalize(descriptors, dim=1).clamp(max=0.2)
    return (unit / unit.sum(1, keepdim=True).clamp(min=1e-6)).sqrt()
