"""SIFT keypoints (Lowe, IJCV 2004), the points of a picture that are found again where it was turned or scaled.

They are extrema of the difference of Gaussians, each with a scale, a direction and a histogram of the gradients around
it in that frame. They are computed with tensor operations, so that nothing but torch and NumPy is needed; the
descriptor of the mirrored picture is the same numbers in another order, so mirrored copies cost nothing.
"""

from __future__ import annotations

import functools
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
_STRIP, _AT_ONCE = 65_536, 256  # pixels and keypoints that are worked on at a time
_BAND, _COLUMNS = 8, 384  # rows that a matrix blurs, and of how many columns: so few that it is done in one thread


Floats = NDArray[np.float32]


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
        doubled, most = y.numel() <= DOUBLED, max(MOST, y.numel() // PIXELS_PER_KEYPOINT)
        planes: list[Floats] = []  # those that keypoints lie in
        extremes = []
        for levels in _octaves(y.numpy(), doubled):
            planes.extend(levels[1 : _INTERVALS + 1])
            extremes.append(_extreme_places(levels, 3 * most))
        if not planes:
            return Keypoints(torch.zeros(0, 2), torch.zeros(0), torch.zeros(0), *torch.zeros(2, 0, 16 * _BINS))
        number, places, sigma = _extrema(extremes, most)
        counts = torch.bincount(number, minlength=len(planes)).tolist()
        parts, done = [(torch.zeros(0), torch.zeros(0, 16 * _BINS))], 0
        # The largest planes one by one, so that their gradients stay in the cache; the small ones all at once.
        for some in (slice(0, 1), slice(1, 2), slice(2, 3), slice(3, None)):
            start, done = done, done + sum(counts[some])
            if start < done:
                gradients = [(_gradient(planes[k]), counts[k]) for k in range(len(planes))[some] if counts[k]]
                parts.append(_described(gradients, places[start:done], sigma[start:done]))
        angles, descriptors = (torch.cat(part) for part in zip(*parts, strict=True))
        descriptors = _rooted(descriptors)
        unit = 2.0 ** (number // _INTERVALS)  # pixels of the first octave
        places, scales = places * unit[:, None], sigma * unit
        if doubled:
            places, scales = (places - 0.5) / 2, scales / 2
        return Keypoints(places, scales, angles, descriptors, _mirror(descriptors))


@functools.lru_cache(256)
def _bands(length: int, sigma: float, factor: int, band: int) -> list[tuple[int, int, int, Floats]]:
    """A blur of `length` rows as matrices: the first row of a band, the first of those it is made of, how many bands,
    one after the other, have the same weights, as all do that no end is near; and these weights.

    Beyond the ends the outermost rows are repeated. What is blurred is a picture `factor` times as large as the source,
    which is linear between its rows.
    """
    radius = math.ceil(3 * sigma)
    weights = np.exp(-(np.arange(-radius, radius + 1) ** 2) / (2 * sigma**2))
    weights /= weights.sum()
    out: list[tuple[int, int, int, Floats]] = []
    inside = False
    for start in range(0, length, band):
        stop = min(start + band, length)
        before, inside = inside, radius < start and start + band + radius < length
        if before and inside:
            out[-1] = (*out[-1][:2], out[-1][2] + 1, out[-1][3])
            continue
        made_of = np.arange(start, stop)[:, None] + np.arange(-radius, radius + 1)
        at = ((made_of.clip(0, length - 1) + 0.5) / factor - 0.5).clip(0, length // factor - 1)
        lower, upper = np.floor(at).astype(np.int64), np.ceil(at).astype(np.int64)
        first, row = int(lower.min()), np.arange(stop - start)[:, None]
        values = np.zeros((stop - start, upper.max() + 1 - first))
        np.add.at(values, (row, lower - first), weights * (1 - (at - lower)))
        np.add.at(values, (row, upper - first), weights * (at - lower))
        out.append((start, first, 1, values.astype(np.float32)))
    return out


def _blur(image: Floats, sigma: float, between: Floats, out: Floats) -> None:
    """Image → `out`, as large or twice as large each way, by way of `between`, which is no smaller.

    Small products of matrices: many times as fast as a convolution of one channel.
    """
    factor = len(out) // len(image)
    between = between[: len(image)]
    for source, target, band in ((image.T, between.T, 2 * _BAND), (between, out, _BAND)):
        for start, first, count, matrix in _bands(len(target), sigma, factor, band):
            rows, made_of = matrix.shape
            bands = target[start : start + count * rows].reshape(count, rows, -1)
            windows = source[None, first : first + made_of]
            if count > 1:
                strides = (rows // factor * source.strides[0], *source.strides)
                windows = np.lib.stride_tricks.as_strided(windows, (count, *windows.shape[1:]), strides)
            for left in range(0, bands.shape[2], _COLUMNS):
                some = np.s_[..., left : left + _COLUMNS]
                np.matmul(matrix, windows[some], out=bands[some])


def _octaves(y: Floats, doubled: bool) -> Iterator[Floats]:
    """Gaussian pictures of each octave, (_INTERVALS + 3)×h×w, each octave half as wide as the one before."""
    before = _SIGMA_BEFORE * (2 if doubled else 1)
    height, width = (side * 2 if doubled else side for side in y.shape)
    current, step, memory = y, 2 ** (1 / _INTERVALS), np.empty(height * width, np.float32)
    for octave in range(_OCTAVES):
        if min(height, width) < 2 * _SIDE:
            break
        levels = np.empty((_INTERVALS + 3, height, width), np.float32)
        between = memory[: height * width].reshape(height, width)
        if octave:
            levels[0] = current
        else:
            _blur(current, math.sqrt(_SIGMA**2 - before**2), between, levels[0])
        for level in range(1, _INTERVALS + 3):
            sigma = _SIGMA * step ** (level - 1) * math.sqrt(step**2 - 1)
            _blur(levels[level - 1], sigma, between, levels[level])
        yield levels
        current = levels[_INTERVALS, ::2, ::2]
        height, width = current.shape


def _extrema(extremes: list[tuple[NDArray[np.int64], Floats]], most: int) -> tuple[Tensor, Tensor, Tensor]:
    """The `most` strongest extrema of all octaves: the number of the level that they are nearest to, _INTERVALS to an
    octave, ascending; place x, y (sub-pixel) and scale, in pixels of the octave."""
    at, values = (torch.from_numpy(np.concatenate(parts, -1)) for parts in zip(*extremes, strict=True))
    octave = torch.arange(len(extremes)).repeat_interleave(torch.tensor([len(part.T) for part, _ in extremes]))
    cube = values.reshape(3, 3, 3, -1)
    c = cube[1, 1, 1]
    ends = [(line[0], line[2]) for line in (cube[:, 1, 1], cube[1, :, 1], cube[1, 1, :])]
    first = torch.stack([(after - before) / 2 for before, after in ends], 1)
    second = torch.diag_embed(torch.stack([before + after - 2 * c for before, after in ends], 1))
    for i, j, plane in ((0, 1, cube[:, :, 1]), (0, 2, cube[:, 1]), (1, 2, cube[1])):
        second[:, i, j] = second[:, j, i] = (plane[2, 2] + plane[0, 0] - plane[2, 0] - plane[0, 2]) / 4
    trace = second[:, 1, 1] + second[:, 2, 2]
    determinant = second[:, 1, 1] * second[:, 2, 2] - second[:, 1, 2] ** 2
    round_ = trace**2 * _EDGE < (_EDGE + 1) ** 2 * determinant
    shift = -torch.linalg.solve_ex(second + 1e-6 * torch.eye(3), first[..., None])[0][..., 0]
    keep = torch.nonzero(round_ & torch.isfinite(shift).all(1)).flatten()
    if len(keep) > most:
        keep = keep[c[keep].abs().topk(most).indices.sort().values]
    (level, row, column), shift = at[:, keep], shift[keep].clamp(-0.6, 0.6)
    sigma = _SIGMA * 2 ** ((level + shift[:, 0]) / _INTERVALS)
    return octave[keep] * _INTERVALS + level - 1, torch.stack([column + shift[:, 2], row + shift[:, 1]], 1), sigma


_CUBE = np.mgrid[-1:2, -1:2, -1:2].reshape(3, -1)  # steps in scale, down and across


def _extreme_places(levels: Floats, most: int) -> tuple[NDArray[np.int64], Floats]:
    """Level, row and column, 3×n, of the differences of Gaussians beyond ±_CONTRAST that none of the 26 neighbours in
    place and scale exceeds, the `most` strongest, ascending; and these neighbours, 27×n, itself in the middle.

    First, strip by strip, against the six nearest neighbours: few values are left for the others.
    """
    height, width = levels.shape[1:]
    planes = levels.reshape(len(levels), -1)
    rows = max(1, _STRIP // width)
    memory = np.empty((len(levels) - 1, (rows + 2) * width), np.float32)
    steps = (_CUBE * [[memory.shape[1]], [width], [1]]).sum(0)[:, None]
    found = [(np.zeros(0, np.int64), np.zeros((27, 0), np.float32))]
    for top in range(_RIM, height - _RIM, rows):
        # A row's end and the start of the next are neighbours here: both lie in the rim.
        start, stop = top * width, min(top + rows, height - _RIM) * width
        difference = memory[:, : stop - start + 2 * width]  # one row more above and below
        around = np.s_[start - width : stop + width]
        np.subtract(planes[1:, around], planes[:-1, around], out=difference)
        inner, middle = difference[1:-1], difference[:, width:-width]
        high, low = middle[1:-1] > np.float32(_CONTRAST), middle[1:-1] < np.float32(-_CONTRAST)
        # Two neighbours are compared once for both of them: [one] is where a place is the first, [other] the second.
        for before, after, one, other in (
            (inner[:, width - 1 : -width], inner[:, width : 1 - width], np.s_[:, 1:], np.s_[:, :-1]),
            (inner[:, :-width], inner[:, width:], np.s_[:, width:], np.s_[:, :-width]),
            (middle[:-1], middle[1:], np.s_[1:], np.s_[:-1]),
        ):
            falls, rises = before >= after, before <= after
            high &= falls[one]
            high &= rises[other]
            low &= rises[one]
            low &= falls[other]
        at = np.flatnonzero(high | low)
        at = at[np.abs(at % width - (width - 1) / 2) < (width - 1) / 2 - _RIM + 0.5]
        plane, place = np.divmod(at, stop - start)
        values = memory.ravel()[(plane + 1) * memory.shape[1] + width + place + steps]
        extreme = (values * np.sign(values[13]) <= np.abs(values[13])).all(0)
        found.append((((plane + 1) * planes.shape[1] + start + place)[extreme], values[:, extreme]))
    at, values = (np.concatenate(parts, -1) for parts in zip(*found, strict=True))
    keep = np.argsort(at)
    if at.size > most:
        keep = keep[np.sort(np.argpartition(-np.abs(values[13, keep]), most)[:most])]
    return np.stack(np.unravel_index(at[keep], levels.shape)), values[:, keep]


def _gradient(image: Floats) -> Tensor:
    """Twice the derivatives along x and y, 2×h×w."""
    out = np.empty((2, *image.shape), np.float32)
    for plane, derivative in ((image.T, out[0].T), (image, out[1])):
        np.subtract(plane[2:], plane[:-2], out=derivative[1:-1])
        np.subtract(plane[1], plane[0], out=derivative[0])
        np.subtract(plane[-1], plane[-2], out=derivative[-1])
    return torch.from_numpy(out)


_STEPS = torch.arange(_SIDE) - (_SIDE - 1) / 2


Gradients = list[tuple[Tensor, int]]
"""2×h×w of some planes, and in how many of the places, one after the other, each is looked at."""


def _described(gradients: Gradients, places: Tensor, sigma: Tensor) -> tuple[Tensor, Tensor]:
    """Angles and descriptors."""
    angles = _directions(gradients, places, sigma)
    return angles, _descriptors(gradients, places, sigma, angles)


def _around(
    gradients: Gradients, places: Tensor, axes: Tensor, deviation: float
) -> Iterator[tuple[slice, Tensor, Tensor]]:
    """Gradients on a _SIDE×_SIDE lattice around each place, _AT_ONCE places at a time.

    Args:
        axes: n×2, the step along the lattice's rows, x and y in pixels; along its columns it is that turned by 90°.
        deviation: of the weight that falls with the distance from the place, in steps.

    Yields:
        Which places; directions, radians in the picture's frame; weighted lengths: both n×_SIDE².
    """
    counts = torch.tensor([count for _, count in gradients])
    extents = torch.tensor([[plane.shape[2] - 1.0, plane.shape[1] - 1.0] for plane, _ in gradients]) / 2
    extent = extents.repeat_interleave(counts, 0)
    turned = torch.stack([-axes[:, 1], axes[:, 0]], 1)
    across = (places / extent - 1)[:, None] + _STEPS[:, None] * (axes / extent)[:, None]
    down = _STEPS[:, None] * (turned / extent)[:, None]
    weights = torch.exp(-(_STEPS[:, None] ** 2 + _STEPS**2) / (2 * deviation**2)).flatten()
    ends = np.cumsum([0, *counts.tolist()])
    for start in range(0, len(places), _AT_ONCE):
        some = slice(start, start + _AT_ONCE)
        grid = torch.view_as_complex(across[some])[:, None] + torch.view_as_complex(down[some])[:, :, None]
        parts = torch.split(torch.view_as_real(grid), np.diff(ends.clip(start, start + len(grid))).tolist())
        samples = [
            F.grid_sample(plane[None], part.reshape(1, -1, _SIDE, 2), align_corners=True)[0]
            for (plane, _), part in zip(gradients, parts, strict=True)
            if len(part)
        ]
        x, y = (samples[0] if len(samples) == 1 else torch.cat(samples, 1)).reshape(2, -1, _SIDE**2)
        yield some, torch.atan2(y, x), torch.addcmul(x * x, y, y).sqrt_().mul_(weights)


def _votes(position: Tensor, length: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The bin below each position, and the votes for this one and for the next."""
    lower = position.floor()
    high = (position - lower).mul_(length)
    return lower.long(), length - high, high


def _directions(gradients: Gradients, places: Tensor, sigma: Tensor) -> Tensor:
    """The main direction of the gradients around each place, radians."""
    axes = torch.stack([sigma * 0.5, torch.zeros_like(sigma)], 1)
    half = _DIRECTIONS // 2
    histograms = torch.zeros(len(sigma), _DIRECTIONS + 2)  # from -π to beyond π: the last two are the first two
    for some, direction, length in _around(gradients, places, axes, 3.0):
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


def _descriptors(gradients: Gradients, places: Tensor, sigma: Tensor, angles: Tensor) -> Tensor:
    """n×128: for each of 4×4 parts of the neighbourhood (rows first) a histogram of 8 directions."""
    axes = torch.stack([torch.cos(angles), torch.sin(angles)], 1) * (sigma * _SPACING)[:, None]
    out = torch.empty(len(sigma), 16, _BINS)
    maps = torch.empty(min(_AT_ONCE, len(sigma)), _BINS + 1, _SIDE**2)
    first = torch.arange(len(maps))[:, None] * maps[0].numel() + torch.arange(_SIDE**2)
    for some, direction, length in _around(gradients, places, axes, _SIDE / 2):
        position = (direction - angles[some, None]).mul_(_BINS / (2 * math.pi))
        lower, low, high = _votes(position, length)
        n = len(length)
        index = torch.add(first[:n], lower & (_BINS - 1), alpha=_SIDE**2).flatten()
        maps.zero_()
        maps.view(-1).scatter_(0, index, low.flatten())
        maps.view(-1)[_SIDE**2 :].scatter_(0, index, high.flatten())  # never the same bin
        parts = torch.mm(maps[:n].reshape(-1, _SIDE**2), _PARTS).reshape(n, _BINS + 1, 16)
        parts[:, 0] += parts[:, -1]
        out[some] = parts[:, :-1].transpose(1, 2)
    return out.reshape(-1, 16 * _BINS)


def _parts() -> Tensor:
    """How much each sample counts for each of the 4×4 parts, linear in the distance from its centre, _SIDE²×16."""
    along = (1 - (torch.arange(_SIDE)[:, None] - (torch.arange(4) * 4 + 1.5)).abs() / 4).clamp(min=0)
    return torch.kron(along, along)


_PARTS = _parts()


_MIRRORED = torch.arange(16 * _BINS).reshape(4, 4, _BINS).flip(0)[..., -torch.arange(_BINS) % _BINS].flatten()


def _mirror(descriptors: Tensor) -> Tensor:
    """Descriptors of the mirrored picture: rows of parts in reverse, directions negated."""
    return descriptors.index_select(1, _MIRRORED)


def _rooted(descriptors: Tensor) -> Tensor:
    unit = F.normalize(descriptors, dim=1).clamp(max=0.2)
    return (unit / unit.sum(1, keepdim=True).clamp(min=1e-6)).sqrt()
