"""From the score of a method to its verdict on whether the whole picture was generated."""

from __future__ import annotations

from dataclasses import dataclass

from model.calibration import Calibration
from model.decimals import told_apart
from model.synthetic import Word

MEANING = {
    "generated": "The picture carries traces like those that the method learned from generated pictures and that are "
    "rare in photographs like those that it was measured on; it is a lead, and no proof. A photograph that a network "
    "denoised, enlarged or passed through its decoder can carry such traces as well.",
    "inconclusive": "What was found is too weak, or the picture too unlike those that the method was measured on, to "
    "say anything; it counts neither for nor against the picture.",
    "no_evidence": "The method found no such traces; most generators are unknown to it, so this does not show that a "
    "camera took the picture.",
}
"""What may be concluded from each verdict."""


@dataclass(frozen=True, slots=True)
class SyntheticJudgment:
    """What is said of one picture.

    Attributes:
        confidence: calibrated probability that the verdict is right; None: inconclusive, or nothing was fitted.
    """

    verdict: Word
    reason: str
    score: float
    confidence: float | None


def judge_synthetic(score: float, calibration: Calibration, megapixels: float) -> SyntheticJudgment:
    """The verdict of a method.

    Args:
        score: 0 to 1.
        calibration: of the method. One that was fitted on nothing allows no verdict but inconclusive.
        megapixels: size of the picture.

    Raises:
        ValueError: the score is not a number from 0 to 1.
    """
    if not 0 <= score <= 1:
        raise ValueError(f"the score is {score}, which is not from 0 to 1")
    if not calibration.fitted:
        reason = f"score {score:.3f}; the method is not calibrated: nothing is known of its false alarms"
        return SyntheticJudgment("inconclusive", reason, score, None)
    p = calibration.p_forged(score) if calibration.covers(megapixels) else None
    low, high = calibration.no_evidence_below, calibration.score_threshold
    if score > high:
        digits = told_apart(score, high)
        reason = f"score {score:.{digits}f} is above the threshold {high:.{digits}f}"
        return SyntheticJudgment("generated", reason, score, p)
    if score > low:
        digits = told_apart(low, score, high)
        reason = f"score {score:.{digits}f} lies between {low:.{digits}f} and {high:.{digits}f}, no verdict there"
        return SyntheticJudgment("inconclusive", reason, score, None)
    confidence = None if p is None else 1 - p
    return SyntheticJudgment("no_evidence", f"score {score:.3f} is not above {low:.3f}", score, confidence)
