"""The calibration of a trained method of the second question, on whole pictures that no training saw.

The threshold is split conformal (`model.calibration`): of real pictures like those of the fit at most 1 % are called
generated, on average over calibrations. With fewer than 99 real pictures there is none, and the method stays
uncalibrated, so that every verdict is inconclusive.
"""

from __future__ import annotations

import math
import threading
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import expit

from model.calibration import (
    Calibration,
    cross_validated,
    fit_even,
    photos_needed,
    rank,
    rate_bound,
    reliability,
    threshold,
)
from model.data.synthetic_stream import SyntheticStream
from model.reporter import Reporter
from model.synthetic import describe, load
from model.training.calibrate import FALSE_POSITIVE_RATE, FEWEST, INCONCLUSIVE_RATE, NoCalibrationError, auc

__all__ = ["NoCalibrationError", "calibrated", "calibration_of"]


def calibrated(
    folder: Path,
    stream: SyntheticStream,
    count: int,
    device: torch.device,
    stop: threading.Event,
    reporter: Reporter,
) -> Calibration | None:
    """The calibration of a kept method, by its own detector, as a scan runs it.

    Args:
        folder: of the method.
        stream: the side of the mix that was neither trained nor validated on.
        count: whole pictures, at most, half of each class.
        stop: once set, calibration ends without a result.

    Returns:
        None: it was stopped.

    Raises:
        NoCalibrationError: the pictures give none.
        MethodError: the method is damaged.
    """
    detector = load(describe(str(folder)), str(device), torch.float32)
    scores: list[float] = []
    made: list[bool] = []
    megapixels: list[float] = []
    groups: list[str] = []
    refused: list[str] = []
    reporter.stage("Measuring calibration pictures", "pictures", stream.most(count // 2))
    for picture in stream.wholes(count // 2):
        if stop.is_set():
            return None
        reporter.advance()
        try:
            scores.append(detector.detect(picture.pixels).score)
        except ValueError as error:
            refused.append(str(error))
            continue
        made.append(picture.generated)
        groups.append(picture.group)
        megapixels.append(picture.pixels.shape[0] * picture.pixels.shape[1] / 1e6)
    return calibration_of(np.array(scores), np.array(made, bool), megapixels, groups, refused)


def calibration_of(
    scores: NDArray[np.float64],
    made: NDArray[np.bool_],
    megapixels: Sequence[float],
    groups: Sequence[str],
    refused: Sequence[str] = (),
) -> Calibration:
    """Threshold, inconclusive band and confidence.

    Args:
        scores: n, of the method.
        made: n, whether a picture was generated.
        megapixels: n, 10⁶ pixels.
        groups: n, `real` or a generator.
        refused: why the method could not judge other pictures.

    Raises:
        NoCalibrationError: too few pictures of a class, or a score that does not separate them.
    """
    real, needed = scores[~made], photos_needed(FALSE_POSITIVE_RATE)
    others = f"; {len(refused)} could not be judged, the first because {refused[0]}" if refused else ""
    if len(real) < needed:
        raise NoCalibrationError(
            f"{len(real)} real pictures could be used, and a rate of {FALSE_POSITIVE_RATE:.0%} needs {needed}{others}"
        )
    if int(made.sum()) < FEWEST:
        raise NoCalibrationError(f"{int(made.sum())} generated pictures could be used, and {FEWEST} are needed{others}")
    slope, intercept = fit_even(scores, made)
    if not (np.isfinite(slope) and slope > 0 and np.isfinite(intercept)):
        raise NoCalibrationError("the score does not separate generated from real pictures")
    even = float(expit(-intercept / slope))  # as likely for a generated as for a real picture
    high = max(even, threshold(real, FALSE_POSITIVE_RATE))
    low = min(max(even, float(np.quantile(real, 1 - INCONCLUSIVE_RATE, method="higher"))), high)
    place = rank(len(real), FALSE_POSITIVE_RATE)
    figures = reliability(cross_validated(scores, made), made, even=True) | {
        "n_real": float(len(real)),
        "n_generated": float(made.sum()),
        "n_not_judged": float(len(refused)),
        "auc": auc(scores[made], real),
        "real_called_generated_at_most": FALSE_POSITIVE_RATE,
        "real_called_generated_upper_95": rate_bound(len(real), place),
        "generated_called_generated": float((scores[made] > high).mean()),
    }
    of_each = ", ".join(f"{count} {name}" for name, count in sorted(Counter(groups).items()))
    return Calibration(
        name="held-out-photos-of-the-mix",
        score_threshold=high,
        no_evidence_below=low,
        slope=slope,
        intercept=intercept,
        fitted_on=f"{len(scores)} whole pictures that were neither trained nor validated on: {of_each}",
        fitted_megapixels=(_down(min(megapixels)), _up(max(megapixels))),
        figures=figures,
    )


def _down(megapixels: float) -> float:
    """To three digits; never 0, which would say that nothing was fitted."""
    return max(math.floor(megapixels * 1000) / 1000, 0.0)


def _up(megapixels: float) -> float:
    return math.ceil(megapixels * 1000) / 1000
