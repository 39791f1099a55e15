"""From scores to the content of `calib.json`."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime

import numpy as np

from clue_cli import __version__
from clue_cli.calibrate.scores import Measured
from clue_cli.errors import UsageError
from clue_cli.scan.calibration_file import CalibrationFile, ForgedPart, digest_of, thresholds
from clue_cli.terminal import printable
from model.calibration import (
    cross_validated,
    fit_even,
    photos_needed,
    proportion_interval,
    rank,
    rate_bound,
    reliability,
)
from model.checkpoint import Checkpoint

FOLDS = 5
MIN_OF_EACH = 2 * FOLDS
"""Images of either kind that the refitted confidence needs: two in every fold of its cross-validation."""


def fit(
    authentic: Measured,
    forged: Measured | None,
    *,
    fpr: float,
    inconclusive_rate: float,
    checkpoint: Checkpoint,
    device: str,
    dtype: str,
    paths: tuple[list[str], list[str]],
) -> CalibrationFile:
    """The calibration that these scores make.

    Args:
        authentic: of the authentic photos.
        forged: of the forged images, if there are any.
        fpr: the false-positive rate to promise.
        inconclusive_rate: the share of authentic photos that may be denied `no_evidence`; without forged images only.
        checkpoint, device, dtype: what computed the scores, and where.
        paths: of the authentic and of the forged images, printable.

    Raises:
        UsageError: too few images, an image on both sides, or scores that do not tell the two kinds apart.
    """
    count = len(authentic.images)
    check_enough(count, fpr)
    scores = sorted(image.score for image in authentic.images)
    part = None if forged is None else _forged_part(authentic, forged, fpr)
    high, low = thresholds(scores, fpr, inconclusive_rate, None if part is None else part.even)
    images = [*authentic.images, *(forged.images if forged else [])]
    sizes = [image.megapixels for image in images]
    place = rank(count, fpr)
    made = CalibrationFile(
        statement="",
        version=__version__,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        model_name=printable(checkpoint.name)[:200],
        model_digest=checkpoint.digest,
        device=device,
        dtype="bfloat16" if dtype == "bfloat16" else "float32",
        authentic=paths[0],
        forged_paths=paths[1],
        fpr=fpr,
        inconclusive_rate=inconclusive_rate,
        n=count,
        promised_rate=place / (count + 1),
        rate_bound=rate_bound(count, place),
        score_threshold=high,
        no_evidence_below=low,
        megapixels=[min(sizes), max(sizes)],
        scores=scores,
        scores_digest=digest_of(scores),
        photos_digest=hashlib.sha256(
            "".join(f"{sha}\n" for sha in sorted(i.sha256 for i in images)).encode()
        ).hexdigest(),
        forged=part,
        left_out=[*authentic.left_out, *(forged.left_out if forged else [])],
        not_pictures=authentic.not_pictures + (forged.not_pictures if forged else 0),
    )
    return made.model_copy(update={"statement": made.words()})


def check_enough(count: int, fpr: float) -> None:
    """Raises UsageError if this many authentic photos cannot promise this false-positive rate."""
    needed = photos_needed(fpr)
    if count < needed:
        possible = f"{count} can promise 1/{count + 1} at best: --fpr {_up(1 / (count + 1))}." if count else ""
        raise UsageError(
            f"--fpr {fpr:g} needs at least {needed:,} authentic photos, {count:,} could be used.",
            f"{possible} Photos that are copies, too small, or could not be read do not count.".strip(),
        )


def _forged_part(authentic: Measured, forged: Measured, fpr: float) -> ForgedPart:
    if min(len(authentic.images), len(forged.images)) < MIN_OF_EACH:
        raise UsageError(
            f"With --forged at least {MIN_OF_EACH} images of each kind are needed; {len(authentic.images)} authentic "
            f"and {len(forged.images)} forged ones could be used.",
            "Without --forged the threshold is set all the same.",
        )
    known = {image.sha256: image.locator for image in authentic.images}
    both = next((image for image in forged.images if image.sha256 in known), None)
    if both is not None:
        raise UsageError(
            f"{both.locator} among the forged images and {known[both.sha256]} among the authentic ones are the same "
            "bytes.",
            "An image is one or the other: take it away from one of the two.",
        )
    own = sorted(image.score for image in forged.images)
    scores = np.array([*(image.score for image in authentic.images), *own])
    truth = np.arange(scores.size) >= len(authentic.images)
    slope, intercept = fit_even(scores, truth)
    if slope <= 0:
        raise UsageError(
            "The model's scores do not tell these forged images from the authentic photos.",
            "Look whether the two folders were mixed up. Without --forged the threshold is set all the same.",
        )
    figures = reliability(cross_validated(scores, truth, FOLDS), truth, even=True)
    draft = ForgedPart(
        scores=own,
        above=0,
        interval=[0.0, 1.0],
        slope=slope,
        intercept=intercept,
        expected_calibration_error=min(1.0, figures["expected_calibration_error"]),
        brier=min(1.0, figures["brier"]),
    )
    high, _ = thresholds(sorted(scores[~truth].tolist()), fpr, fpr, draft.even)
    above = sum(score > high for score in own)
    return draft.model_copy(update={"above": above, "interval": list(proportion_interval(above, len(own)))})


def _up(rate: float) -> str:
    """A rate in three decimals, rounded up, so that as many photos can promise it."""
    return f"{-(-rate * 1000 // 1) / 1000:g}"
