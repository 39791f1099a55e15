"""Scores and calibrations as the tests need them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from clue_cli.calibrate import Measured, Scored, fit
from clue_cli.scan.calibration_file import CalibrationFile, LeftOut
from model.calibration import Calibration
from model.checkpoint import Checkpoint
from tests.tiny_model import TINY

DIGEST = "d" * 64


def measured(*scores: float, kind: str = "a", megapixels: float = 2.0) -> Measured:
    images = [
        Scored(f"{kind}/{i}.jpg", f"{ord(kind):02x}{i:062x}", score, megapixels) for i, score in enumerate(scores)
    ]
    return Measured(images, [LeftOut(locator=f"{kind}/cut.jpg", code="corrupt_image", message="Cut.")], 3)


def low(count: int = 199) -> Measured:
    """Authentic photos: scores from 0 to just under 1/2."""
    return measured(*np.random.default_rng(1).permutation(np.arange(count) / (2 * count)).tolist())


def high(count: int = 40) -> Measured:
    """Forged images: most above the authentic ones, some among them."""
    return measured(*np.linspace(0.3, 0.99, count).tolist(), kind="f", megapixels=4.0)


def made(
    authentic: Measured | None = None,
    forged: Measured | None = None,
    fpr: float = 0.01,
    inconclusive_rate: float = 0.05,
    digest: str = DIGEST,
) -> CalibrationFile:
    return fit(
        authentic or low(),
        forged,
        fpr=fpr,
        inconclusive_rate=inconclusive_rate,
        model=Checkpoint(Path(), "tiny", TINY, Calibration(name="tiny"), {}, digest),
        device="cpu",
        dtype="float32",
        paths=(["a"], ["f"] if forged else []),
    )


def content(calibration: CalibrationFile) -> dict[str, Any]:
    return calibration.model_dump(mode="json")
