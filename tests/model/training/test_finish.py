"""The end of a training: the kept models get a score and a confidence, or say why there is none."""

from __future__ import annotations

import shutil
import threading
from pathlib import Path
from typing import Any

import pytest
import torch

from model.calibration import Calibration
from model.checkpoint import inspect
from model.reporter import Level, Reporter
from model.training.task import Outcome
from model.training.trainer import train
from tests.model.training.made import Labelled, Stopper, rows, task, telling


def test_the_score_is_fitted_in_the_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("model.training.finish.look_at", telling)
    run, said = task(tmp_path / "run", steps=4, calibration=Labelled(), calibration_samples=40), Stopper(100)
    train(run, said)
    assert not any("confidence" in line for line in said.said)
    for name in ("best", "last"):
        checkpoint = inspect(str(run.out / name))
        calibration = checkpoint.calibration
        assert calibration.fitted_on.startswith(
            "40 pictures from photos that were neither trained nor validated on, 50%"
        )
        assert calibration.fitted_megapixels == (0.004, 0.004)
        assert calibration.figures is not None
        assert calibration.figures["n"] == 40
        assert calibration.figures["auc"] > 0.9
        assert calibration.figures["photos"] == 12
        assert calibration.p_forged(0.99) > 0.5 > calibration.p_forged(0.01)
        assert "no_confidence" not in checkpoint.training
    assert rows(run.out, "calibrated")[-1]["auc"] > 0.9
    before = (run.out / "last" / "model.json").read_bytes()
    train(run)  # the same command again
    assert (run.out / "last" / "model.json").read_bytes() == before


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({}, "there are no pictures to fit it on"),
        ({"calibration": Labelled(), "calibration_samples": 0}, "--calibration-samples is 0"),
        ({"calibration": Labelled("too few photos")}, "too few photos"),
        ({"calibration": Labelled(), "calibration_samples": 12}, "3 pictures of one kind in one half"),
    ],
    ids=["nothing", "turned off", "too few photos", "too few pictures"],
)
def test_a_model_without_confidence_says_why(tmp_path: Path, changes: dict[str, Any], problem: str) -> None:
    run, said = task(tmp_path / "run", **({"steps": 1, "calibration_samples": 40} | changes)), Stopper(100)
    train(run, said)
    assert sum("confidence" in line and problem in line for line in said.said) == 1
    for name in ("best", "last"):
        checkpoint = inspect(str(run.out / name))
        assert checkpoint.calibration == Calibration()
        assert problem in checkpoint.training["no_confidence"]
    assert problem in rows(run.out, "calibrated")[-1]["problem"]


def test_no_memory_for_the_score_leaves_the_models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise torch.OutOfMemoryError

    monkeypatch.setattr("model.training.finish.calibrated", full)
    train(task(tmp_path / "run", steps=1, calibration=Labelled()))
    assert inspect(str(tmp_path / "run" / "best")).training["no_confidence"] == "there was no memory for it"


def test_stopped_while_the_score_is_fitted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("model.training.finish.look_at", telling)
    run, stop = task(tmp_path / "run", steps=2, calibration=Labelled(), calibration_samples=40), threading.Event()

    class Impatient(Reporter):
        def note(self, text: str, level: Level = "info") -> None:
            if "Fitting" in text:
                stop.set()

    assert train(run, Impatient(), stop) == Outcome(2, pytest.approx(0, abs=1), True, 0)
    assert not rows(run.out, "finished")
    assert inspect(str(run.out / "best")).training["no_confidence"] == "the training was not over"
    assert train(run).interrupted is False
    assert inspect(str(run.out / "best")).calibration.fitted_on


def test_a_best_model_that_was_moved_away_is_passed_over(tmp_path: Path) -> None:
    run = task(tmp_path / "run", steps=4, validate_every=2, lr=1e-9)
    stopper = Stopper(3)
    train(run, stopper, stopper.stop)
    shutil.rmtree(run.out / "best")
    assert train(run).interrupted is False
    assert inspect(str(run.out / "last")).training["no_confidence"]
