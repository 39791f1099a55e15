"""Copies that were turned, scaled or mirrored: copy-move that a search by offset cannot find.

Keypoints (`model.keypoints`) that resemble each other each propose a transform of the plane; the transform that most
pairs agree on is fitted to them and compared with every cell, there and back (Amerini et al., TIFS 2011; Christlein et
al., TIFS 2012). Like `self_match` it decides nothing: the maps say how well each cell agrees with its other place, on
how much evidence, and whether that place is larger, turned or mirrored, for the network, which sees what is foreign.
"""

from __future__ import annotations

import hashlib
import math
import threading

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from model.keypoints import Keypoints, keypoints

TRANSFORM_MAPS = 6
"""Maps per cell: likeness to the other place, of 16×16 and of 8×8 pixels; pairs that agree; their share of all pairs;
logarithm of the other place's scale; how far it is turned or mirrored."""

CELL = 8  # pixels
NEAR = 20  # pixels: closer than this everything resembles itself
_SAME = 6.0  # pixels: closer than this two keypoints are one place
_CANDIDATES = 10  # nearest descriptors of which the best distant one is taken
_RATIO, _FARTHEST = 0.75, 0.35  # of the distances to the best and the second place; squared distance at most
_ROWS = 128  # keypoints that are compared with all others at a time
_PROPOSALS = 300  # transforms that are tried, about
_TRANSFORMS = 3
_FEWEST = 4  # pairs that must agree
_AFFINE = 8  # pairs from which six parameters are fitted, not four
_PLAINLY = 0.7  # of the pairs of the best transform that a plain move must explain to be preferred
_LARGEST_SCALE = 3.0
_REMEMBERED = 256  # pictures whose transforms are kept: more than are between search and verdict
_found: dict[bytes, list[tuple[Tensor, int, float]]] = {}
_lock = threading.Lock()
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
        textured = bool((Windows(picture, 16).variance > TEXTURED).any())
        return _maps(picture, transforms_of(picture) if textured else []).numpy()


def transforms_of(picture: Tensor) -> list[tuple[Tensor, int, float]]:
    """`transforms` of the keypoints of H×W luma.

    Those of the last pictures are remembered: what the search for copies found serves the verdict as well, if both are
    in one process.
    """
    key = hashlib.blake2b(picture.numpy().data, digest_size=16).digest() + repr(picture.shape).encode()
    with _lock:
        found = _found.get(key)
    if found is None:
        found = transforms(keypoints(picture))
        with _lock:
            _found[key] = found
            while len(_found) > _REMEMBERED:
                _found.pop(next(iter(_found)))
    return found


def transforms(points: Keypoints) -> list[tuple[Tensor, int, float]]:
    """The transforms that most pairs agree on, strongest first: 2×3 matrix, pairs, and their share of all pairs."""
    if len(points.scales) < 2 * _FEWEST:
        return []
    pairs = [_pairs(points, mirrored, *near) for mirrored, near in zip((False, True), _nearest(points), strict=True)]
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


def _pairs(
    points: Keypoints, mirrored: bool, rows: Tensor, likeness: Tensor, index: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Places that resemble each other and nothing else: here and there, n×2; the linear part that their frames
    propose, n×2×2; and `mirrored`, n. See `_nearest` for what they are taken from."""
    distance = (2 - 2 * likeness).clamp(min=0)
    places = points.places[index]  # n×k×2
    near = (places - points.places[rows, None]).abs().amax(2) < NEAR
    distance_far = distance.masked_fill(near, math.inf)
    best, which = distance_far.min(1)
    chosen = places[torch.arange(len(rows)), which]
    again = (places - chosen[:, None]).abs().amax(2) < _SAME
    second = distance_far.masked_fill(again, math.inf).amin(1).clamp(max=distance[:, -1])
    distinct = torch.nonzero((best < _RATIO**2 * second) & (best < _FARTHEST)).flatten()
    keep, partner = rows[distinct], index[distinct, which[distinct]]
    scale = points.scales[partner] / points.scales[keep]
    # In the mirrored picture directions run the other way round: the frame is turned back, and then mirrored.
    angle = points.angles[partner] + points.angles[keep] if mirrored else points.angles[partner] - points.angles[keep]
    c, s = torch.cos(angle) * scale, torch.sin(angle) * scale
    sign = -1.0 if mirrored else 1.0
    linear = torch.stack([torch.stack([c, -sign * s], 1), torch.stack([s, sign * c], 1)], 1)
    return points.places[keep], points.places[partner], linear, torch.full((len(keep),), mirrored)


def _nearest(points: Keypoints) -> list[tuple[Tensor, Tensor, Tensor]]:
    """Which keypoints may have a place that resembles them and nothing else, ascending, and the likeness and the
    numbers of their nearest ones, rows×_CANDIDATES: as they are, and mirrored.

    It is none if ten places at least, or as many as there are, come about as close as the best distant one.
    """
    found: tuple[list[tuple[Tensor, Tensor, Tensor]], ...] = ([], [])
    candidates = min(_CANDIDATES, len(points.scales))
    # A mirrored descriptor is the same numbers in another order, each pair of which changes places: likeness is the sum
    # of two products, as they are, and the difference of these, mirrored.
    half = points.descriptors.shape[1] // 2
    even = ((points.descriptors + points.mirrored)[:, :half] * math.sqrt(0.5)).contiguous()
    odd = ((points.descriptors - points.mirrored)[:, :half] * math.sqrt(0.5)).contiguous()
    x, y = points.places.numpy().T
    for start in range(0, len(x), _ROWS):
        rows = slice(start, start + _ROWS)
        near = np.abs(x[rows, None] - x) < NEAR
        near &= np.abs(y[rows, None] - y) < NEAR
        penalty = near * np.float32(4)  # more than any likeness
        sums, differences = even[rows] @ even.T, odd[rows] @ odd.T
        for likeness, out in zip((sums + differences, sums - differences), found, strict=True):
            far = likeness.numpy() - penalty
            best = far.max(1)
            some = np.flatnonzero(best > 1 - _FARTHEST / 2 - 1e-5)
            limit = 1 - (1 - best[some]) / _RATIO**2 + 1e-5
            as_close = (far[some] >= limit[:, None]).view(np.int8).sum(1, dtype=np.int32)
            kept = torch.from_numpy(some[as_close < _CANDIDATES])
            out.append((kept + start, *likeness.index_select(0, kept).topk(candidates, 1)))
    return [
        (torch.cat(rows), torch.cat(likeness), torch.cat(index))
        for rows, likeness, index in (zip(*out, strict=True) for out in found)
    ]


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


def seen_through(
    y: Tensor, matrix: Tensor, box: tuple[slice, slice] = (slice(None), slice(None))
) -> tuple[Tensor, Tensor]:
    """The picture at the transformed place of every pixel, or of those in a box of whole cells, NaN outside; and how
    far each cell's centre moves."""
    height, width = y.shape
    rows, columns = (torch.arange(side, dtype=torch.float32)[part] for side, part in zip(y.shape, box, strict=True))
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
