"""The embedded model as it is shipped."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from model.checkpoint import EMBEDDED, WEIGHTS_FILE, inspect
from model.predictor import Prediction, Predictor
from model.presets import MINI
from model.storage import load


def test_it_is_mini_calibrated_and_small_enough() -> None:
    checkpoint = inspect("mini")
    assert checkpoint.preset == MINI
    assert checkpoint.calibration.fitted_on
    assert checkpoint.calibration.figures
    assert checkpoint.training["steps"] > 0
    assert (EMBEDDED / WEIGHTS_FILE).stat().st_size <= 30 * 1024 * 1024


def test_its_card_is_filled_in() -> None:
    card = (EMBEDDED.parent / "MODEL_CARD.md").read_text("utf-8")
    assert "@" not in card
    assert "CASIA v1" in card


def test_it_finds_what_was_done_to_the_sample(sample_case: Path) -> None:
    """Far above what a map without knowledge gives; the figure on real forgeries is in the model card."""
    truth_folder = sample_case.with_name(sample_case.name + "-truth")
    images, masks = [], []
    with (truth_folder / "truth.csv").open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            path = sample_case.joinpath(*Path(row["locator"]).parts[-2:])
            if row["mask"] and path.suffix == ".jpg" and path.is_file():
                images.append(np.array(Image.open(path).convert("RGB")))
                masks.append(np.array(Image.open(truth_folder / row["mask"])) > 127)
    assert len(images) >= 5
    predictor = Predictor(load(inspect("mini"), "cpu", torch.float32))
    scores, everything = [], []
    for result in predictor.predict(enumerate(images)):
        assert isinstance(result, Prediction)
        mask, truth = result.heatmap > 0.5, masks[result.key]
        assert mask.shape == truth.shape
        scores.append(2 * (mask & truth).sum() / (mask.sum() + truth.sum()))
        everything.append(2 * truth.sum() / (truth.size + truth.sum()))
    assert np.mean(scores) > 0.3
    assert np.mean(scores) > 2 * np.mean(everything)


def test_its_masks_hold_in_half_precision(sample_case: Path) -> None:
    """The stated tolerance: at most 1 % of the pixels are marked in one number format and not in the other."""
    pixels = np.array(Image.open(next(sample_case.rglob("helmet*.jpg"))).convert("RGB"))
    marked = []
    for number_format in (torch.float32, torch.bfloat16):
        (result,) = Predictor(load(inspect("mini"), "cpu", number_format)).predict([(0, pixels)])
        assert isinstance(result, Prediction)
        marked.append(result.heatmap > 0.5)
    assert (marked[0] != marked[1]).mean() < 0.01
