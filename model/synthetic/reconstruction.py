"""`reconstruction`: how well a latent diffusion model's own autoencoder reconstructs a picture; nothing is trained.

A picture that an autoencoder's decoder made is reconstructed better by this autoencoder than a photograph is
(AEROBLADE, Ricker et al. 2024); the same holds with noise and a denoising step in between (DIRE, Wang et al. 2023,
there with DDIM, here with SD3's rectified flow). The error alone says as much about the content: any autoencoder
reconstructs a plain sky well. So it is divided by the error of a version of the same picture that has the content and
has lost the trace: turned by 90°, and half a cell off the decoder's grid.

The distance is the mean absolute difference in three octave bands (differences of Gaussians with σ = 0, 1, 2, 4), and
over the bands the mean of the logarithms, so that no band outweighs the others. LPIPS, which AEROBLADE uses, needs
downloaded weights.

    ratio = error of the picture / error of the version, geometric mean over bands and noise levels
    score = 1 / (1 + ratio)

The score is one half where both are reconstructed alike, and rises as the picture is reconstructed better.

SD3's weights were not at hand. Measured by `scripts/mini_decoder.py` with `mini`'s encoder and a small decoder, trained
for 3 minutes of one core (18 dB), on 256×256 pixels, JPEG quality 90, of 116 camera photos, which the decoder had not
seen; AUC against the same photos after a change, 95 % intervals over photos:

    passed through this autoencoder                score .991 [.975, 1.000], error alone .982 [.961, .997]
    another, trained for about a minute (17.5 dB)  score .851 [.793, .900], error alone .920 [.880, .956]

On 192×192 pixels of 40 of them, two better autoencoders (`scripts/train_traces.py`: f8-nearest, f4-shuffle; they may
have seen some of the photos), and photos that are merely soft or sharp; and how a version that is low-passed, too, as
published, changes the score:

    version low-passed with σ =   0 (as here)           0.5                  1
    this autoencoder              1.000                 1.000                1.000
    f8-nearest                    .458 [.362, .549]     .867 [.794, .938]    .958 [.914, .993]
    f4-shuffle                    .642 [.557, .735]     .886 [.813, .951]    .931 [.874, .977]
    blurred with σ = 1            .472 [.439, .497]     .805 [.743, .876]    .868 [.813, .928]
    sharpened                     .514 [.495, .544]     .291 [.224, .335]    .241 [.171, .291]

So an autoencoder finds its own trace, and its score is unreliable for others. No known generator decodes with a
decoder made for `mini`, so `mini` gets none. The low-pass is left out: with it the score follows softness, and a
blurred photograph looks generated. With f8-nearest as the autoencoder (30 photos) it is the same: blurred .470, .833,
.880; its own .998, 1.000, 1.000.
"""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter, uniform_filter

from model.branches.sd3 import SD3, with_decoder
from model.calibration import Calibration
from model.errors import WeightsError
from model.registry import Base, registered
from model.synthetic import Detection, Method, MethodError

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from model.predictor import Tile
    from model.synthetic.autoencoder import Autoencoder, Denoiser

VERSION = 1
"""Of how the score is computed; part of the digest."""
LEVELS = {"reconstruction": (0.0, 0.1, 0.3), "reconstruction-vae": (0.0,)}
"""Noise levels t of each name; 0 is the autoencoder alone."""
BASES = ("sd3-medium", "sd3-medium-vit-l", "sd3-medium-vit-b", "sd3.5-medium")
"""Base weights that are used where none are named: the first of these that are registered."""
SMALLEST = 64
"""Shorter side of a picture in pixels: eight cells of the decoder."""
SIGMAS = (0.0, 1.0, 2.0, 4.0)
"""Bounds of the bands, pixels."""
CELL = 8
"""Side in pixels of the cells that errors are averaged over; half of it is off the decoder's grid."""
FLOOR = 0.05
"""Grey levels that are added to each error: below them there is rounding alone."""
SMOOTH = 5
"""Cells: side of the window of the heatmap."""
_STRIP, _HALO = 512, 32
"""Rows that are worked on at a time, and rows around them that the filters reach: 4·(√1 + √3 + √12) at most."""


def describe(name: str) -> Method:
    """`reconstruction` or `reconstruction-vae`, with `@NAME` for base weights other than the usual ones.

    Raises:
        MethodError: no base weights, or they are damaged, changed or without a decoder.
    """
    kind, _, chosen = name.partition("@")
    if kind not in LEVELS:
        raise MethodError(f"there is no method {name[:300]!r}", f"Known: {', '.join(LEVELS)}.")
    try:
        base = with_decoder(chosen or _usual())
    except WeightsError as error:
        raise MethodError(
            f"{name} needs the autoencoder of a latent diffusion model: {error}",
            "`clue models add sd3-medium` registers one; `reconstruction@NAME` uses another registered one.",
        ) from error
    levels = LEVELS[kind]
    return Method(name, "reconstruction", _digest(base, levels), Calibration(), None, base.name, {}, _limits(base.name))


def _usual() -> str:
    there = registered()
    return next((name for name in BASES if name in there), BASES[0])


def _digest(base: Base, levels: tuple[float, ...]) -> str:
    digests = base.digests()
    used = [digests[part] for part in (SD3.parts if any(levels) else ("vae",))]
    sizes = [asdict(base.preset.vae), asdict(base.preset.tile)]
    settings = [VERSION, levels, SIGMAS, FLOOR, SMOOTH]
    return hashlib.sha256(json.dumps([settings, sizes, used]).encode()).hexdigest()


def _limits(base: str) -> tuple[str, ...]:
    return (
        f"It can find pictures of latent diffusion models whose autoencoder is like that of {base}; to it, pictures of "
        "all other generators look like photographs.",
        "A photograph that was passed through such an autoencoder is found as well: what is found is the trace of the "
        "autoencoder, not that the content was invented.",
        "Resizing and strong compression remove the trace, and the score depends on how a picture was compressed.",
        "No calibration comes with it: without one that `clue calibrate --task synthetic` fitted on photographs like "
        "those that are judged, every verdict is inconclusive.",
    )


def load(method: Method, device: str, dtype: torch.dtype) -> Reconstruction:
    """The autoencoder in float32, as small errors are measured, and the transformer in `dtype`, if it is used.

    Raises:
        MethodError: the weights are damaged.
        RuntimeError, MemoryError: the device has not the memory for them.
    """
    import torch

    from model.synthetic.autoencoder import load_autoencoder, load_denoiser

    levels = LEVELS[method.name.partition("@")[0]]
    try:
        autoencoder = load_autoencoder(method.base, device, torch.float32)
        return Reconstruction(autoencoder, load_denoiser(method.base, device, dtype) if any(levels) else None, levels)
    except WeightsError as error:
        raise MethodError(str(error), error.advice) from error


@dataclass(frozen=True, slots=True)
class Reconstruction:
    """The method, loaded.

    Attributes:
        denoiser: None: all levels are 0.
        levels: of noise, each a reconstruction of the picture and one of its version.
    """

    autoencoder: Autoencoder
    denoiser: Denoiser | None
    levels: tuple[float, ...]

    def detect(self, pixels: NDArray[np.uint8]) -> Detection:
        """Score, heatmap, and of each level the errors in grey levels and their ratio.

        Raises:
            ValueError: the picture is too small.
        """
        from model.rectified_flow import content_seed

        height, width = pixels.shape[:2]
        if min(height, width) < SMALLEST:
            raise ValueError(
                f"the picture has {width}×{height} pixels; reconstruction needs at least {SMALLEST}×{SMALLEST}"
            )
        seed, biased = content_seed(pixels), without_trace(pixels)
        total, ratios = np.zeros(_cells(height, width)), []
        parts: dict[str, float] = {}
        for level in self.levels:
            own = band_errors(pixels, self._reconstructed(pixels, level, seed))
            other = band_errors(biased, self._reconstructed(biased, level, seed))
            error, without = (_geometric(errors.mean((1, 2))) for errors in (own, other))
            parts |= {
                f"error_{level:g}": error,
                f"biased_error_{level:g}": without,
                f"ratio_{level:g}": error / without,
            }
            ratios.append(math.log(error / without))
            total += _log_ratio(own, other)
        heatmap = _enlarged((1 / (1 + np.exp(total / len(self.levels)))).astype(np.float32), height, width)
        return Detection(1 / (1 + math.exp(sum(ratios) / len(ratios))), heatmap, parts)

    def _reconstructed(self, pixels: NDArray[np.uint8], level: float, seed: int) -> NDArray[np.uint8]:
        from model.rectified_flow import seeded_noise

        denoiser = self.denoiser
        if not level or denoiser is None:
            return self.autoencoder.reconstruct(pixels)

        def change(z: Tensor, tile: Tile) -> Tensor:
            _, channels, rows, columns = z.shape
            return denoiser.denoised(z, seeded_noise(seed, tile.top, tile.left, (channels, rows, columns))[None], level)

        return self.autoencoder.reconstruct(pixels, change)


def without_trace(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The version that has the content and not the trace: turned by 90° counterclockwise.

    The upper 4 rows and up to 7 columns on the right are cut off: turned, the picture begins in the middle of cells.

    Args:
        pixels: H×W×3.

    Returns:
        (W - 0…7)×(H - 4)×3.
    """
    half = CELL // 2
    return np.ascontiguousarray(np.rot90(pixels[half:, : pixels.shape[1] - (pixels.shape[1] - half) % CELL]))


def band_errors(pixels: NDArray[np.uint8], made: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Mean absolute difference of two pictures in each band and cell, grey levels.

    Args:
        pixels, made: H×W×3.

    Returns:
        bands×⌈H/8⌉×⌈W/8⌉.
    """
    height, width = pixels.shape[:2]
    bands = np.empty((len(SIGMAS) - 1, *_cells(height, width)), np.float32)
    for top, bottom, above, below in _strips(height):
        level = pixels[above:below].astype(np.float32) - made[above:below]
        for band, (inner, outer) in enumerate(pairwise(SIGMAS)):
            sigma = math.sqrt(outer**2 - inner**2)
            lower = gaussian_filter(level, (sigma, sigma, 0))
            error = np.abs(level - lower)[top - above : bottom - above].mean(2)
            bands[band, top // CELL : _up(bottom)] = _cell_means(error)
            level = lower
    return bands


def _strips(height: int) -> list[tuple[int, int, int, int]]:
    """(top, bottom) of each strip of rows, and of the same with its halo."""
    tops = range(0, height, _STRIP)
    return [(t, min(t + _STRIP, height), max(t - _HALO, 0), min(t + _STRIP + _HALO, height)) for t in tops]


def _up(length: int) -> int:
    return -(-length // CELL)


def _cells(height: int, width: int) -> tuple[int, int]:
    return _up(height), _up(width)


def _cell_means(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """Means of the cells, of what there is of them at the edges."""
    rows, columns = (np.arange(0, side, CELL) for side in values.shape)
    sums = np.add.reduceat(np.add.reduceat(values, rows, 0), columns, 1)
    heights, widths = (np.diff(starts, append=side) for starts, side in zip((rows, columns), values.shape, strict=True))
    return np.asarray(sums / np.outer(heights, widths), np.float32)


def _geometric(errors: NDArray[np.float32]) -> float:
    return float(np.exp(np.log(errors.astype(np.float64) + FLOOR).mean()))


def _log_ratio(own: NDArray[np.float32], other: NDArray[np.float32]) -> NDArray[np.float64]:
    """Local logarithm of the ratio, H×W cells: errors of the picture, over those of its version turned back."""
    rows, columns = own.shape[1:]
    back = np.rot90(other, -1, (1, 2))
    back = np.pad(back, ((0, 0), (0, rows - back.shape[1]), (0, columns - back.shape[2])), mode="edge")
    smooth = (uniform_filter(e.astype(np.float64), (1, SMOOTH, SMOOTH)) + FLOOR for e in (own, back))
    ratio: NDArray[np.float64] = np.log(next(smooth) / next(smooth)).mean(0)
    return ratio


def _enlarged(cells: NDArray[np.float32], height: int, width: int) -> NDArray[np.float32]:
    """From cells to pixels, bilinear."""
    import torch
    import torch.nn.functional as F

    shape = (len(cells) * CELL, cells.shape[1] * CELL)
    wide = F.interpolate(torch.from_numpy(cells)[None, None], shape, mode="bilinear", align_corners=False)[0, 0]
    enlarged: NDArray[np.float32] = wide[:height, :width].clamp(0, 1).numpy()
    return np.ascontiguousarray(enlarged)
