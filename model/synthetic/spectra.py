"""Statistics of a tile of a picture in which the traces of a camera or of a learned decoder are plain.

A camera leaves noise that depends on the brightness, and colours that were interpolated from a mosaic, so the fine
detail of its channels agrees; a learned decoder leaves periodic traces of its upsampling, and detail of its own
statistics (Durall et al. 2020; Corvi et al. 2023). Compression changes all of these, so its traces are among the
statistics as well. The learned part, `model.synthetic.traces`, starts after that.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.fft import rfft2

from model.forensic_view import LUMA, dct_basis, zigzag
from model.synthetic.traces import TILE

Floats = NDArray[np.float32]
Spectra = NDArray[np.complexfloating[Any, Any]]

BLOCK = 64
"""Side of the blocks whose spectra are averaged, pixels; they overlap by half."""
RADII = 14
ANGLES = 3
PEAKS = tuple((v, u) for v in range(0, 33, 8) for u in range(0, 33, 8) if v or u)
"""Frequencies of upsampling by 2, 4 and 8, of 64."""
HALF_PEAKS = tuple((v, u) for v in range(0, 33, 4) for u in range(0, 33, 4) if v % 8 or u % 8)
"""Those that only upsampling by 16 adds."""
_LUMA = np.array(LUMA, np.float32)
_CELL = 8
_NEIGHBOURS = ((0, 1), (1, 0), (1, 1), (0, 2), (2, 0), (2, 2), (0, 4), (4, 0))
"""Down and right, pixels."""
_STEPS = np.arange(2, 33, dtype=np.float32)
_FREQUENCIES = 10


def statistics(tile: NDArray[np.uint8]) -> Floats:
    """All statistics of one tile, float32.

    Args:
        tile: TILE×TILE×3 uint8.
    """
    rgb = tile.astype(np.float32)
    luma = rgb @ _LUMA
    residuals = [_second(rgb[..., channel]) for channel in range(3)]
    spectra = np.stack([_spectra(residual) for residual in residuals])
    bright = np.tensordot(_LUMA, spectra, 1)
    mixed = _LUMA[0] * residuals[0] + _LUMA[1] * residuals[1] + _LUMA[2] * residuals[2]
    parts = [
        *(value for one in (bright, spectra[2] - bright, spectra[0] - bright) for value in _of_spectrum(_power(one))),
        _coherence(spectra),
        _noise(luma, [mixed, residuals[2] - mixed, residuals[0] - mixed]),
        _patterns(luma),
        _patterns(rgb[..., 0] - luma),
        _compression(luma),
    ]
    return np.nan_to_num(np.concatenate(parts).astype(np.float32), posinf=0, neginf=0)


def _second(plane: Floats) -> Floats:
    """Second-order residual (Ker and Böhme 2008), of the same size."""
    grown = np.pad(plane, 1, mode="reflect")
    rows = 2 * grown[1:-1] - grown[:-2] - grown[2:]
    return np.asarray((2 * rows[:, 1:-1] - rows[:, :-2] - rows[:, 2:]) / 4, np.float32)


@cache
def _window() -> Floats:
    hann = np.hanning(BLOCK + 1)[:-1]
    return np.asarray(hann[:, None] * hann[None], np.float32)


def _spectra(residual: Floats) -> Spectra:
    """Spectra of the overlapping blocks, n×64×33; the residual is limited, against a single strong edge."""
    limited = np.clip(residual, -24, 24)
    view = np.lib.stride_tricks.sliding_window_view(limited, (BLOCK, BLOCK))[:: BLOCK // 2, :: BLOCK // 2]
    return np.asarray(rfft2(view.reshape(-1, BLOCK, BLOCK) * _window()), np.complex64)


def _power(spectra: Spectra) -> Floats:
    """Mean power by frequency, 33×33, of both signs of the vertical frequency."""
    mean = (spectra.real**2 + spectra.imag**2).mean(0) + 1e-3
    return np.asarray((mean[:33] + mean[np.r_[0, 63:31:-1]]) / 2, np.float32)


@cache
def _bands() -> NDArray[np.int64]:
    """The band of each frequency of 33×33: radius and direction; -1 for none."""
    v, u = np.mgrid[:33, :33]
    radius = np.minimum((np.hypot(v, u) / 46 * RADII).astype(int), RADII - 1)
    angle = np.arctan2(v, u) / (np.pi / 2)
    direction = np.where(angle < 1 / 3, 0, np.where(angle > 2 / 3, 1, 2))
    return np.where((v + u) > 1, radius * ANGLES + direction, -1)


def _of_spectrum(power: Floats) -> list[Floats]:
    """Mean level in dB, bands relative to it, and how far upsampling's frequencies stand out of their surroundings."""
    logs = np.log(power)
    bands = _bands()
    inside = bands >= 0
    sums = np.bincount(bands[inside], logs[inside], RADII * ANGLES)
    counts = np.bincount(bands[inside], minlength=RADII * ANGLES)
    means = sums / np.maximum(counts, 1)
    level = float(logs[inside].mean())
    means = np.where(counts > 0, means - level, 0.0)
    grown = np.pad(logs, 2, mode="reflect")
    around = np.lib.stride_tricks.sliding_window_view(grown, (5, 5)).reshape(33, 33, 25)
    prominent = logs - np.median(around, -1)
    at = np.array([prominent[place] for place in PEAKS])
    half = np.array([prominent[place] for place in HALF_PEAKS])
    rest = np.sort(prominent, axis=None)
    return [
        np.array([level], np.float32),
        means.astype(np.float32),
        at.astype(np.float32),
        np.array([half.mean(), half.max(), rest[-12:].mean(), prominent.std()], np.float32),
    ]


def _coherence(spectra: Spectra) -> Floats:
    """How the fine detail of the channels agrees, by radius: red and green, green and blue, red and blue."""
    powers = (spectra.real**2 + spectra.imag**2).mean(1)
    v = np.minimum(np.arange(64), 64 - np.arange(64))[:, None]
    radius = np.minimum((np.hypot(v, np.arange(33)[None]) / 46 * 8).astype(int), 7).ravel()
    found = []
    for a, b in ((0, 1), (1, 2), (0, 2)):
        cross = (spectra[a] * spectra[b].conj()).real.mean(0)
        total = np.bincount(radius, cross.ravel(), 8)
        norm = np.sqrt(np.bincount(radius, powers[a].ravel(), 8) * np.bincount(radius, powers[b].ravel(), 8))
        found.append(total / (norm + 1e-3))
    ratios = [np.log((powers[a].mean() + 1e-3) / (powers[1].mean() + 1e-3)) for a in (0, 2)]
    return np.concatenate([*found, ratios]).astype(np.float32)


def _noise(luma: Floats, residuals: list[Floats]) -> Floats:
    """Noise of quiet cells: how strong, how it depends on brightness, how neighbours agree; and its tails."""
    shape = TILE // _CELL, _CELL, TILE // _CELL, _CELL
    bright = luma.reshape(shape).mean((1, 3)).ravel()
    spread = np.sqrt((residuals[0] ** 2).reshape(shape).mean((1, 3))).ravel()
    usable = (bright > 12) & (bright < 243)
    if usable.sum() < 32:
        usable = np.ones_like(usable)
    limit = np.quantile(spread[usable], 0.3)
    quiet = usable & (spread <= limit)
    mask = np.repeat(np.repeat(quiet.reshape(shape[0], shape[2]), _CELL, 0), _CELL, 1)
    levels = np.log(np.quantile(spread[usable], [0.02, 0.1, 0.3, 0.5, 0.7, 0.9]) + 0.02)
    dark = quiet & (bright < np.median(bright[quiet]))
    slope = np.log(spread[quiet & ~dark].mean() + 0.02) - np.log(spread[dark].mean() + 0.02) if dark.any() else 0.0
    found = [*levels, slope, float(bright.mean()) / 255, float(bright.std()) / 255]
    rows, columns = np.nonzero(mask)
    moved = [((rows + down) % TILE, (columns + right) % TILE) for down, right in _NEIGHBOURS]
    for residual in residuals:
        inside = residual[rows, columns]
        variance = float((inside**2).mean()) + 1e-3
        found += [np.log(variance)]
        found += [float((inside * residual[place]).mean()) / variance for place in moved]
        whole = float((residual**2).mean()) + 1e-3
        found.append(np.log(float((residual**4).mean()) / whole**2 + 1e-3))
        found.append(np.log(float((inside**4).mean()) / variance**2 + 1e-3))
    a, b, c = (np.sqrt((residual[mask] ** 2).mean()) + 0.02 for residual in residuals)
    return np.array([*found, np.log(b / a), np.log(c / a)], np.float32)


def _patterns(plane: Floats) -> Floats:
    """Co-occurrence of three neighbouring residuals of first order, in units of their own spread (Fridrich, Kodovský
    2012): 125 combinations, folded by sign and direction to 35, as square roots of their shares."""
    across, down = plane[:, 1:] - plane[:, :-1], plane[1:] - plane[:-1]
    scale = max(float(np.abs(across).mean() + np.abs(down).mean()) / 2, 0.25)
    counts = np.zeros(125)
    for one in (across, down.T):
        steps = (np.clip(np.round(one / scale), -2, 2) + 2).astype(np.int64)
        code = steps[:, :-2] * 25 + steps[:, 1:-1] * 5 + steps[:, 2:]
        counts += np.bincount(code.ravel(), minlength=125)
    shares = np.bincount(_folded(), counts, int(_folded().max()) + 1) / counts.sum()
    return np.asarray(np.sqrt(shares), np.float32)


@cache
def _folded() -> NDArray[np.int64]:
    """The class of each of 125 combinations: reversed, and of the other sign, it is the same."""
    codes = np.arange(125)
    a, b, c = codes // 25, codes // 5 % 5, codes % 5
    same = np.stack([a * 25 + b * 5 + c, c * 25 + b * 5 + a, 124 - codes, (4 - c) * 25 + (4 - b) * 5 + 4 - a])
    return np.unique(same.min(0), return_inverse=True)[1].astype(np.int64)


def _compression(luma: Floats) -> Floats:
    """Traces of 8×8 compression: steps at the borders of blocks, and the best quantization step of low frequencies."""
    steps = np.abs(np.diff(luma, axis=1)).mean(0)
    rows = np.abs(np.diff(luma, axis=0)).mean(1)
    at = [np.log((line[7::8].mean() + 0.05) / (line[3::8].mean() + 0.05)) for line in (steps, rows)]
    blocks = (luma - 128).reshape(TILE // 8, 8, TILE // 8, 8).transpose(0, 2, 1, 3).reshape(-1, 64)
    coefficients = blocks @ dct_basis().numpy().reshape(64, 64).T  # n×64
    low = np.abs(coefficients[:, zigzag()[1 : 1 + _FREQUENCIES]])
    found = []
    for index in range(_FREQUENCIES):
        values = low[:, index]
        phase = values[:, None] / _STEPS
        votes = np.where(phase > 0.5, np.cos(2 * np.pi * phase), 0.0).sum(0) / ((phase > 0.5).sum(0) + 8)
        best = int(votes.argmax())
        found += [float(votes[best]), float(np.log(_STEPS[best])) * float(votes[best])]
    zeros = [float((np.abs(coefficients[:, zigzag()[k : k + 8]]) < 0.5).mean()) for k in (8, 16, 32, 48)]
    return np.array([*at, *found, *zeros], np.float32)
