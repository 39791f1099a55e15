"""Keypoints, and copies that were turned, scaled or mirrored: copy-move that a search by offset cannot find.

SIFT keypoints (Lowe, IJCV 2004) are extrema of the difference of Gaussians, each with a scale, a direction and a
histogram of the gradients around it in that frame. They are computed with tensor operations, so that nothing but torch
is needed; the descriptor of the mirrored picture is the same numbers in another order, so mirrored copies cost nothing.

Keypoints that resemble each other each propose a transform of the plane; the transform that most pairs agree on is
fitted to them and compared with every cell, there and back (Amerini et al., TIFS 2011; Christlein et al., TIFS 2012).
Like `self_match` it decides nothing: the maps say how well each cell agrees with its other place, on how much
evidence, and whether that place is larger, turned or mirrored, for the network, which sees what is foreign.
"""

from __future__ import annotations

import math
from collections.abc import Callable
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


def _blur(image: Tensor, sigma: float) -> Tensor:
    """H×W → H×W. Sums of shifted pictures: with one channel, several times as fast as a convolution."""
    radius = math.ceil(3 * sigma)
    weights = [math.exp(-(x**2) / (2 * sigma**2)) for x in range(radius + 1)]
    total = 2 * sum(weights) - weights[0]
    for axis in (1, 0):
        n = image.shape[axis]
        sides = (radius, radius, 0, 0) if axis else (0, 0, radius, radius)
        padded = F.pad(image[None, None], sides, mode="replicate")[0, 0]
        image = padded.narrow(axis, radius, n) * (weights[0] / total)
        for x in range(1, radius + 1):
            for start in (radius - x, radius + x):
                image.add_(padded.narrow(axis, start, n), alpha=weights[x] / total)
    return image


def _octaves(image: Tensor, doubled: bool) -> list[Tensor]:
    """Gaussian pictures of each octave, (_INTERVALS + 3)×h×w, each octave half as wide as the one before."""
    before = _SIGMA_BEFORE * (2 if doubled else 1)
    current = _blur(image, math.sqrt(_SIGMA**2 - before**2))
    step = 2 ** (1 / _INTERVALS)
    out = []
    for _ in range(_OCTAVES):
        if min(current.shape[-2:]) < 2 * _SIDE:
            break
        levels, sigma = [current], _SIGMA
        for _ in range(_INTERVALS + 2):
            levels.append(_blur(levels[-1], sigma * math.sqrt(step**2 - 1)))
            sigma *= step
        out.append(torch.stack(levels))
        current = levels[_INTERVALS][..., ::2, ::2]
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
    for level in range(1, _INTERVALS + 1):
        which = torch.nonzero(levels_of == level).flatten()
        if not len(which):
            continue
        gradient = _gradient(levels[level])
        angles[which] = _directions(gradient, places[which], sigma[which])
        descriptors[which] = _descriptors(gradient, places[which], sigma[which], angles[which])
    return places * unit, sigma * unit, angles, descriptors


def _extrema(levels: Tensor, most: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Level (nearest), place x, y (sub-pixel), scale and contrast of each extremum of the difference of Gaussians, of
    at most `most`."""
    d = levels[1:] - levels[:-1]
    centre = d[1:-1, _RIM:-_RIM, _RIM:-_RIM]
    around = d[:, _RIM - 1 : 1 - _RIM, _RIM - 1 : 1 - _RIM]
    top, bottom = _over_neighbours(around, torch.maximum), _over_neighbours(around, torch.minimum)
    extreme = ((centre >= top) & (centre > _CONTRAST)) | ((centre <= bottom) & (centre < -_CONTRAST))
    at = torch.nonzero(extreme) + torch.tensor([1, _RIM, _RIM])  # n×3: level, row, column
    if len(at) > most:
        at = at[d[at[:, 0], at[:, 1], at[:, 2]].abs().topk(most).indices]
    level, row, column = at.unbind(1)

    c = d[level, row, column]
    around = torch.tensor([-1, 0, 1])
    cube = d[
        level[:, None, None, None] + around[:, None, None],
        row[:, None, None, None] + around[:, None],
        column[:, None, None, None] + around,
    ]  # n×3×3×3
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


def _over_neighbours(volume: Tensor, extreme: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
    """The largest or least of the 27 values around each inner one, axis by axis."""
    for axis in range(3):
        n = volume.shape[axis] - 2
        parts = [volume.narrow(axis, start, n) for start in range(3)]
        volume = extreme(extreme(parts[0], parts[1]), parts[2])
    return volume


def _gradient(image: Tensor) -> Tensor:
    """2×h×w: derivatives along x and y."""
    padded = F.pad(image[None, None], (1, 1, 1, 1), mode="replicate")[0, 0]
    return torch.stack([padded[1:-1, 2:] - padded[1:-1, :-2], padded[2:, 1:-1] - padded[:-2, 1:-1]]) / 2


def _sample(gradient: Tensor, places: Tensor, axes: Tensor) -> Tensor:
    """Gradients on a _SIDE×_SIDE lattice around each place, n×2×_SIDE×_SIDE, turned into the lattice's own frame.

    Args:
        axes: n×2, the step along the lattice's rows, x and y in pixels; along its columns it is that turned by 90°.
    """
    height, width = gradient.shape[-2:]
    steps = torch.arange(_SIDE) - (_SIDE - 1) / 2
    across = steps[None, None, :, None] * axes[:, None, None]
    down = steps[None, :, None, None] * torch.stack([-axes[:, 1], axes[:, 0]], 1)[:, None, None]
    points = places[:, None, None] + across + down  # n×S×S×2
    grid = points / torch.tensor([width - 1.0, height - 1.0]) * 2 - 1
    values = F.grid_sample(gradient[None], grid.reshape(1, -1, _SIDE, 2), align_corners=True)
    gx, gy = values[0].reshape(2, -1, _SIDE, _SIDE)
    direction = axes / axes.norm(dim=1, keepdim=True)
    c, s = direction[:, 0, None, None], direction[:, 1, None, None]
    return torch.stack([c * gx + s * gy, c * gy - s * gx], 1)


def _weights(deviation: float) -> Tensor:
    steps = (torch.arange(_SIDE) - (_SIDE - 1) / 2) ** 2
    return torch.exp(-(steps[:, None] + steps) / (2 * deviation**2))


def _votes(local: Tensor, deviation: float, bins: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Each gradient's two neighbouring bins of direction and its vote for each, four times n×_SIDE×_SIDE."""
    across, down = local.unbind(1)
    length = torch.sqrt(across**2 + down**2) * _weights(deviation)
    position = torch.atan2(down, across) / (2 * math.pi) * bins
    lower = position.floor()
    share = position - lower
    index = lower.long() % bins
    return index, (index + 1) % bins, length * (1 - share), length * share


def _directions(gradient: Tensor, places: Tensor, sigma: Tensor) -> Tensor:
    """The main direction of the gradients around each place, radians."""
    axes = torch.stack([sigma * 0.5, torch.zeros_like(sigma)], 1)
    lower, upper, low, high = _votes(_sample(gradient, places, axes), 3.0, _DIRECTIONS)
    own = torch.arange(len(sigma))[:, None, None] * _DIRECTIONS
    index = torch.cat([(own + lower).flatten(), (own + upper).flatten()])
    counts = torch.zeros(len(sigma) * _DIRECTIONS).index_add_(0, index, torch.cat([low.flatten(), high.flatten()]))
    counts = counts.reshape(-1, _DIRECTIONS)
    for _ in range(2):
        counts = (counts.roll(1, 1) + counts + counts.roll(-1, 1)) / 3
    best = counts.argmax(1, keepdim=True)
    left, middle, right = (counts.gather(1, (best + step) % _DIRECTIONS)[:, 0] for step in (-1, 0, 1))
    bend = (left - right) / (2 * (left - 2 * middle + right)).clamp(max=-1e-9)
    return (best[:, 0] + bend.clamp(-0.5, 0.5)) * (2 * math.pi / _DIRECTIONS)


def _descriptors(gradient: Tensor, places: Tensor, sigma: Tensor, angles: Tensor) -> Tensor:
    """n×128: for each of 4×4 parts of the neighbourhood (rows first) a histogram of 8 directions."""
    axes = torch.stack([torch.cos(angles), torch.sin(angles)], 1) * (sigma * _SPACING)[:, None]
    lower, upper, low, high = _votes(_sample(gradient, places, axes), _SIDE / 2, _BINS)
    maps = torch.zeros(len(sigma), _BINS, _SIDE, _SIDE)
    maps.scatter_(1, lower[:, None], low[:, None]).scatter_(1, upper[:, None], high[:, None])  # never the same bin
    ramp = 1 - (torch.arange(8) - 3.5).abs() / 4
    kernel = (ramp[:, None] * ramp).expand(_BINS, 1, 8, 8)
    parts = F.conv2d(maps, kernel, stride=4, padding=2, groups=_BINS)  # n×8×4×4
    return parts.permute(0, 2, 3, 1).reshape(-1, 16 * _BINS)


def _mirror(descriptors: Tensor) -> Tensor:
    """Descriptors of the mirrored picture: rows of parts in reverse, directions negated."""
    parts = descriptors.reshape(-1, 4, 4, _BINS).flip(1)
    return parts[..., (-torch.arange(_BINS)) % _BINS].reshape(-1, 16 * _BINS)


def _rooted(descriptors: Tensor) -> Tensor:
    unit = F.normalize(descriptors, dim=1).clamp(max=0.2)
    return (unit / unit.sum(1, keepdim=True).clamp(min=1e-6)).sqrt()


TRANSFORM_MAPS = 6
"""Maps per cell: likeness to the other place, of 16×16 and of 8×8 pixels; pairs that agree; their share of all pairs;
logarithm of the other place's scale; how far it is turned or mirrored."""

CELL = 8  # pixels
NEAR = 20  # pixels: closer than this everything resembles itself
_SAME = 6.0  # pixels: closer than this two keypoints are one place
_CANDIDATES = 10  # nearest descriptors of which the best distant one is taken
_RATIO, _FARTHEST = 0.75, 0.35  # of the distances to the best and the second place; squared distance at most
_PROPOSALS = 300  # transforms that are tried, about
_TRANSFORMS = 3
_FEWEST = 4  # pairs that must agree
_AFFINE = 8  # pairs from which six parameters are fitted, not four
_PLAINLY = 0.7  # of the pairs of the best transform that a plain move must explain to be preferred
_LARGEST_SCALE = 3.0
TEXTURED = 25.0  # grey levels²: a flat block matches anything and says nothing


def affine_match(y: NDArray[np.float32]) -> NDArray[np.float32]:
    """Maps of agreement with the transforms under which most of a picture repeats.

    Args:
        y: luma, H×W float32 in grey levels, H and W multiples of 8.

    Returns:
        TRANSFORM_MAPS×H/8×W/8 float32, about -1 to 1; all zero where nothing repeats.
    """
    picture = torch.from_numpy(np.ascontiguousarray(y))
    with torch.autocast("cpu", enabled=False), torch.inference_mode():
        found = transforms(keypoints(picture))
        return _maps(picture, found).numpy()


def transforms(points: Keypoints) -> list[tuple[Tensor, int, float]]:
    """The transforms that most pairs agree on, strongest first: 2×3 matrix, pairs, and their share of all pairs."""
    pairs = [_pairs(points, mirrored) for mirrored in (False, True)]
    here, there, linear, hand = (torch.cat(parts) for parts in zip(*pairs, strict=True))
    total, out = len(here), []
    proposals = torch.cat([linear, (there - torch.einsum("nij,nj->ni", linear, here))[..., None]], 2)
    for _ in range(_TRANSFORMS):
        if len(here) < _FEWEST:
            break
        chosen, moved = _best(proposals, here, there, hand)
        if int(chosen.sum()) < _FEWEST:
            break
        matrix, agree = _fitted(here, there, chosen, moved, bool(hand[chosen][0]))
        # Both places of a copy find each other: a pair that the way back explains is the same evidence.
        gone = chosen | agree | _agrees(inverse(matrix), here, there, 3.0)
        support = len(torch.unique(here[agree].round(), dim=0))
        if support >= _FEWEST and _plausible(matrix):
            out.append((matrix, support, int(gone.sum()) / total))
        here, there, proposals, hand = (v[~gone] for v in (here, there, proposals, hand))
    return sorted(out, key=lambda found: -found[1])


def _pairs(points: Keypoints, mirrored: bool) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Places that resemble each other and nothing else: here and there, n×2; the linear part that their frames
    propose, n×2×2; and `mirrored`, n."""
    n = len(points.scales)
    if n < 2 * _FEWEST:
        return torch.zeros(0, 2), torch.zeros(0, 2), torch.zeros(0, 2, 2), torch.zeros(0, dtype=torch.bool)
    mine = points.mirrored if mirrored else points.descriptors
    likeness, index = (mine @ points.descriptors.T).topk(min(_CANDIDATES, n), 1)
    distance = (2 - 2 * likeness).clamp(min=0)
    places = points.places[index]  # n×k×2
    near = (places - points.places[:, None]).abs().amax(2) < NEAR
    distance_far = distance.masked_fill(near, math.inf)
    best, which = distance_far.min(1)
    chosen = places[torch.arange(n), which]
    again = (places - chosen[:, None]).abs().amax(2) < _SAME
    second = distance_far.masked_fill(again, math.inf).amin(1).clamp(max=distance[:, -1])
    keep = torch.nonzero((best < _RATIO**2 * second) & (best < _FARTHEST)).flatten()
    partner = index[keep, which[keep]]
    scale = points.scales[partner] / points.scales[keep]
    # In the mirrored picture directions run the other way round: the frame is turned back, and then mirrored.
    angle = points.angles[partner] + points.angles[keep] if mirrored else points.angles[partner] - points.angles[keep]
    c, s = torch.cos(angle) * scale, torch.sin(angle) * scale
    sign = -1.0 if mirrored else 1.0
    linear = torch.stack([torch.stack([c, -sign * s], 1), torch.stack([s, sign * c], 1)], 1)
    return points.places[keep], points.places[partner], linear, torch.full((len(keep),), mirrored)


def _best(proposals: Tensor, here: Tensor, there: Tensor, hand: Tensor) -> tuple[Tensor, bool]:
    """Which pairs agree with the proposal that has the most of them, n bool; and whether that is a plain move."""
    some = slice(None, None, -(-len(here) // _PROPOSALS))
    alike = hand[None] == hand[some, None]
    places = torch.einsum("pij,nj->pni", proposals[some, :, :2], here) + proposals[some, None, :, 2]
    distance = (here[None] - here[some, None]).norm(dim=2)  # a frame's own error grows with the distance
    by_frame = ((places - there).abs().amax(2) < 3 + 0.1 * distance) & alike
    # Most copies are neither turned nor scaled: then the pair's places say more than its frames.
    plain = here * torch.where(hand, -1.0, 1.0)[:, None] ** torch.tensor([1.0, 0.0])
    offset = there - plain
    by_offset = ((offset[None] - offset[some, None]).abs().amax(2) < 2.5) & alike
    frame, move = int(by_frame.sum(1).argmax()), int(by_offset.sum(1).argmax())
    moved = int(by_offset[move].sum()) >= _PLAINLY * int(by_frame[frame].sum())
    return (by_offset[move] if moved else by_frame[frame]), moved


def _fitted(here: Tensor, there: Tensor, chosen: Tensor, moved: bool, mirrored: bool) -> tuple[Tensor, Tensor]:
    """The least-squares transform of the chosen pairs, pruned thrice, and which pairs agree with it."""
    if moved:
        linear = torch.diag(torch.tensor([-1.0 if mirrored else 1.0, 1.0]))
        offset = (there - here @ linear)[chosen].median(0).values
        matrix = torch.cat([linear, offset[:, None]], 1)
        return matrix, _agrees(matrix, here, there, 2.0)
    agree = chosen
    matrix = torch.eye(2, 3)
    for tolerance in (6.0, 3.0, 2.0):
        matrix = _least_squares(here[agree].double(), there[agree].double()).float()
        agree = _agrees(matrix, here, there, tolerance)
        if int(agree.sum()) < _FEWEST:
            break
    return matrix, agree


def _least_squares(here: Tensor, there: Tensor) -> Tensor:
    """2×3: affine where there are pairs enough, else a similarity of either hand (Umeyama 1991)."""
    if len(here) >= _AFFINE:
        ones = torch.ones(len(here), 1, dtype=here.dtype)
        matrix = torch.linalg.lstsq(torch.cat([here, ones], 1), there, driver="gelsd").solution.T
        return matrix if bool(torch.isfinite(matrix).all()) else torch.eye(2, 3, dtype=here.dtype)
    a, b = here - here.mean(0), there - there.mean(0)
    u, sizes, v = torch.linalg.svd(b.T @ a)
    linear = u @ v * (sizes.sum() / (a**2).sum().clamp(min=1e-9))
    return torch.cat([linear, (there.mean(0) - linear @ here.mean(0))[:, None]], 1)


def _agrees(matrix: Tensor, here: Tensor, there: Tensor, tolerance: float) -> Tensor:
    return (here @ matrix[:, :2].T + matrix[:, 2] - there).abs().amax(1) < tolerance


def _plausible(matrix: Tensor) -> bool:
    sizes = torch.linalg.svdvals(matrix[:, :2])
    return bool(sizes[0] < _LARGEST_SCALE and sizes[1] > 1 / _LARGEST_SCALE and sizes[0] < 1.6 * sizes[1])


def inverse(matrix: Tensor) -> Tensor:
    """The transform that leads back, 2×3."""
    linear = torch.linalg.pinv(matrix[:, :2])
    return torch.cat([linear, (-linear @ matrix[:, 2])[:, None]], 1)


def _maps(y: Tensor, found: list[tuple[Tensor, int, float]]) -> Tensor:
    """Every cell under the transform that suits it best."""
    rows, columns = y.shape[0] // CELL, y.shape[1] // CELL
    out = torch.zeros(TRANSFORM_MAPS, rows, columns)
    if not found:
        return out
    wide, narrow = Windows(y, 16), Windows(y, 8)
    for matrix, support, share in found:
        for way in (matrix, inverse(matrix)):
            there, moved = seen_through(y, way)
            likeness = wide.likeness(there) * (moved > NEAR) * (wide.variance > TEXTURED)
            scale = 0.5 * math.log(max(float(torch.linalg.det(way[:, :2]).abs()), 1e-6))
            mirrored = float(torch.linalg.det(way[:, :2])) < 0
            turn = (
                1.0
                if mirrored
                else abs(math.atan2(float(way[1, 0] - way[0, 1]), float(way[0, 0] + way[1, 1]))) / math.pi
            )
            values = [likeness, narrow.likeness(there) * (likeness > 0), math.log1p(support) / 5, share, scale, turn]
            better = likeness > out[0]
            for channel, value in zip(out, values, strict=True):
                channel[better] = value[better] if isinstance(value, Tensor) else value
    return out


def seen_through(y: Tensor, matrix: Tensor) -> tuple[Tensor, Tensor]:
    """The picture at the transformed place of every pixel, H×W, NaN outside; and how far each cell's centre moves."""
    height, width = y.shape
    rows, columns = torch.arange(height, dtype=torch.float32), torch.arange(width, dtype=torch.float32)
    x_there = matrix[0, 0] * columns + matrix[0, 1] * rows[:, None] + matrix[0, 2]
    y_there = matrix[1, 0] * columns + matrix[1, 1] * rows[:, None] + matrix[1, 2]
    grid = torch.stack([x_there / (width - 1), y_there / (height - 1)], 2) * 2 - 1
    there = F.grid_sample(y[None, None], grid[None], align_corners=True)[0, 0]
    there[(grid.abs() > 1).any(2)] = math.nan
    half = CELL // 2
    moved = torch.maximum((x_there - columns).abs(), (y_there - rows[:, None]).abs())[half::CELL, half::CELL]
    return there, moved


class Windows:
    """The window around each cell of a picture, to be compared with the same window of another."""

    def __init__(self, y: Tensor, side: int) -> None:
        self.y, self.side = y, side
        self.variance = self._mean(y**2) - self._mean(y) ** 2

    def _mean(self, image: Tensor) -> Tensor:
        pad = (self.side - CELL) // 2
        padded = F.pad(image[None, None], (pad, pad, pad, pad), mode="replicate")
        return F.avg_pool2d(padded, self.side, CELL)[0, 0]

    def likeness(self, there: Tensor) -> Tensor:
        """1 - difference over variance, 0 at least; 0 where a part of the window lies outside."""
        difference = self.y - there
        error = self._mean(difference**2) - self._mean(difference) ** 2
        return torch.nan_to_num(1 - error / (self.variance + 10)).clamp(0, 1)
