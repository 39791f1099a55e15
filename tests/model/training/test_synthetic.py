"""The training of methods of the second question: it learns, resumes to the bit, and calibrates or says why not."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from model.config import ConfigError
from model.data.reconstructions import Pool
from model.data.synthetic_mix import load_synthetic_mix
from model.data.synthetic_stream import SyntheticStream
from model.reporter import Reporter
from model.synthetic import METHOD_FILE
from model.synthetic.options import SyntheticOptions
from model.training.calibrate import NoCalibrationError
from model.training.errors import NotFiniteError, OptionsError, OtherSettingsError
from model.training.options import read_options, read_synthetic_options
from model.training.run_folder import read_log
from model.training.synthetic import SyntheticTask, make_learner, train_synthetic
from model.training.synthetic_calibration import calibration_of
from tests.model.training.toy_method import CROP, install, options, write_mix


@pytest.fixture(autouse=True)
def _toy(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch)


def make_task(mix_file: Path, out: Path, chosen: SyntheticOptions) -> SyntheticTask:
    mix, pool = load_synthetic_mix(mix_file), Pool(out / "pool")
    training, validation, third = (
        SyntheticStream(mix, side, chosen.seed, CROP, pool) for side in ("train", "validation", "calibration")
    )
    device = torch.device("cpu")
    return SyntheticTask(
        out=out, options=chosen, learner=make_learner(chosen, device), device=device, training=training,
        validation=validation, calibration=third, data={"mix": mix.digest},
    )  # fmt: skip


class StopsAfter(Reporter):
    def __init__(self, steps: int) -> None:
        self.left, self.stop = steps, threading.Event()

    def advance(self, n: int = 1, status: str | None = None, *, reused: bool = False) -> None:
        self.left -= n
        if self.left <= 0:
            self.stop.set()


def steps_of(out: Path) -> list[dict[str, Any]]:
    kept = ("step", "loss", "lr", "gradient")
    return [{key: row[key] for key in kept} for row in read_log(out / "log.jsonl") if row["kind"] == "step"]


def test_it_learns_and_resumes_to_the_bit(tmp_path: Path) -> None:
    mix = write_mix(tmp_path / "data")
    whole = train_synthetic(make_task(mix, tmp_path / "whole", options(steps=30)))
    assert (whole.step, whole.interrupted) == (30, False)
    losses = [row["loss"] for row in steps_of(tmp_path / "whole")]
    assert np.mean(losses[-5:]) < 0.5 * np.mean(losses[:3])
    assert whole.best_auc > 0.95

    out = tmp_path / "parts"
    for steps in (7, 9):  # neither where it saves nor where it validates
        reporter = StopsAfter(steps)
        assert train_synthetic(make_task(mix, out, options(steps=30)), reporter, reporter.stop).interrupted
    end = train_synthetic(make_task(mix, out, options(steps=30, workers=2)))
    assert steps_of(out) == steps_of(tmp_path / "whole")
    assert end == whole
    kinds = [row["kind"] for row in read_log(out / "log.jsonl")]
    assert kinds.count("resumed") == 2 and kinds.count("validation") == 3 and kinds[-1] == "finished"
    for name in ("best", "last"):
        assert (out / name / "head.safetensors").read_bytes() == (
            tmp_path / "whole" / name / "head.safetensors"
        ).read_bytes()

    validation = next(row for row in read_log(out / "log.jsonl") if row["kind"] == "validation")
    assert set(validation["by_generator"]) == {"Alpha 1.0", "b"}
    content = json.loads((out / "best" / METHOD_FILE).read_text("utf-8"))
    assert content["training"]["generators"] == ["Alpha 1.0", "b"]
    with pytest.raises(OtherSettingsError, match=r"lr"):
        train_synthetic(make_task(mix, out, options(steps=30, lr=0.01)))
    other = make_task(mix, out, options(steps=30))
    other.learner.base_digest = "1" * 64
    with pytest.raises(OtherSettingsError, match="base"):
        train_synthetic(other)


def test_a_calibration_needs_99_real_pictures(tmp_path: Path) -> None:
    few = write_mix(tmp_path / "few")
    train_synthetic(make_task(few, tmp_path / "a", options(steps=2, calibration_samples=400)))
    content = json.loads((tmp_path / "a" / "best" / METHOD_FILE).read_text("utf-8"))
    assert "needs 99" in content["training"]["no_confidence"]
    assert content["calibration"]["fitted_megapixels"] == [0.0, 0.0]

    many = write_mix(tmp_path / "many", 300, 60, validation={"share": 0.1, "calibration_share": 0.4})
    task = make_task(many, tmp_path / "b", options(steps=20, calibration_samples=400))
    assert isinstance(task.calibration, SyntheticStream)
    reals = task.calibration.counts()["real"]
    train_synthetic(task)
    found = json.loads((tmp_path / "b" / "last" / METHOD_FILE).read_text("utf-8"))
    assert reals >= 99, "the names of this test put as many on the third side"
    calibration, row = found["calibration"], read_log(tmp_path / "b" / "log.jsonl")[-2]
    assert calibration["figures"]["n_real"] == reals == row["n_real"]
    assert calibration["fitted_megapixels"] == [0.004, 0.005]
    assert calibration["no_evidence_below"] <= calibration["score_threshold"]
    assert "no_confidence" not in found["training"]


def test_the_threshold_keeps_its_promise_and_the_band_lies_below() -> None:
    rng = np.random.default_rng(0)
    real, made = rng.beta(2, 6, 300), rng.beta(6, 2, 300)
    scores, truth = np.concatenate([real, made]), np.arange(600) >= 300
    groups = ["real"] * 300 + ["Alpha"] * 300
    found = calibration_of(scores, truth, [1.0] * 600, groups)
    assert (real > found.score_threshold).sum() <= 3
    assert found.no_evidence_below <= found.score_threshold
    assert found.figures is not None and found.figures["real_called_generated_upper_95"] > 0.01
    assert "300 Alpha" in found.fitted_on and "300 real" in found.fitted_on
    with pytest.raises(NoCalibrationError, match=r"98 real pictures.* needs 99"):
        calibration_of(scores[202:], truth[202:], [1.0] * 398, groups[202:])
    with pytest.raises(NoCalibrationError, match="2 could not be judged, the first because too small"):
        calibration_of(scores[:200], truth[:200], [1.0] * 200, groups[:200], ["too small", "x"])
    with pytest.raises(NoCalibrationError, match="does not separate"):
        calibration_of(1 - scores, truth, [1.0] * 600, groups)


def test_a_loss_that_is_not_finite_stops_it(tmp_path: Path) -> None:
    task = make_task(write_mix(tmp_path / "data", 20, 20), tmp_path / "run", options(steps=3))
    task.learner.network["head"].bias.data[:] = torch.nan  # type: ignore[index]
    with pytest.raises(NotFiniteError, match="In step 1, batch 0, the loss is nan"):
        train_synthetic(task)
    assert (tmp_path / "run" / "not-finite-step-1.pt").is_file()


@pytest.mark.parametrize(
    ("read", "message"),
    [
        (lambda: read_options("bi-lora", steps=1), "for --task synthetic"),
        (lambda: read_synthetic_options("mini", base="x"), "for --task localization"),
        (lambda: read_synthetic_options("effort"), "no base model"),
        (lambda: read_synthetic_options("effort", ["batch=7"], base="x"), "batch: found `7`"),
        (lambda: read_synthetic_options("effort", ["steps=7", "epochs=2"], base="x"), "Exactly one"),
    ],
)
def test_wrong_recipes_and_options(read: Any, message: str) -> None:
    with pytest.raises((OptionsError, ConfigError), match=message):
        read()


def test_the_recipe_of_the_paper() -> None:
    found = read_synthetic_options("bi-lora")
    assert (found.rank, found.optimizer, found.lr, found.batch, found.epochs) == (16, "adam", 5e-5, 32, 20)
    assert found.length(320) == 200
    assert read_synthetic_options("bi-lora", steps=5).length(320) == 5
