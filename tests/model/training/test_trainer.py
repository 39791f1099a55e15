"""The loop: what it leaves behind, that it goes on exactly, and what options make of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from model.checkpoint import inspect
from model.storage import load
from model.training.errors import OptionsError, OtherSettingsError
from model.training.feed import Feed
from model.training.steps import Steps
from model.training.task import Outcome
from model.training.trainer import train
from tests.model.training.made import QUICK, Squares, Stopper, equal, figures, rows, task, weights
from tests.tiny_model import TINY


def test_what_is_left_behind(finished: Path) -> None:
    assert [row["step"] for row in rows(finished, "step")] == [1, 2, 3, 4, 5, 6]
    assert [row["step"] for row in rows(finished, "validation")] == [4, 6]
    assert rows(finished, "finished")[0]["best_f1"] == max(row["f1"] for row in rows(finished, "validation"))
    assert list((finished / "tensorboard").iterdir())
    with Image.open(finished / "samples" / "step-0000006.png") as sheet:
        assert sheet.size == (3 * 68, 6 * 68)
    for kept in ("best", "last"):
        checkpoint = inspect(str(finished / kept))
        assert checkpoint.preset == QUICK
        assert checkpoint.training["options"]["lr"] == 3e-3
        x, noise = torch.rand(1, 3, 64, 64), torch.randn(1, 16, 8, 8)
        assert load(checkpoint, "cpu", torch.float32)(x, noise).isfinite().all()


def test_what_is_kept_is_the_average(finished: Path) -> None:
    state, kept = weights(finished), load(inspect(str(finished / "last")), "cpu", torch.float32).state_dict()
    name = "localization.head.0.weight" if "localization.head.0.weight" in kept else next(iter(state["average"]))
    assert torch.equal(kept[name], state["average"][name].half().float())
    assert not torch.equal(state["average"][name], state["model"][name])


@pytest.mark.parametrize(
    ("step", "error"),
    [
        pytest.param(1, None, id="stopped before the first checkpoint"),
        pytest.param(3, None, id="stopped between checkpoints"),
        pytest.param(4, None, id="stopped at a validation"),
        pytest.param(5, KeyboardInterrupt(), id="killed after a checkpoint"),
        pytest.param(1, KeyboardInterrupt(), id="killed before the first checkpoint"),
    ],
)
def test_going_on_is_as_if_nothing_had_happened(
    finished: Path, tmp_path: Path, step: int, error: BaseException | None
) -> None:
    broken = task(tmp_path / "run")
    stopper = Stopper(step, error)
    if error is None:
        assert train(broken, stopper, stopper.stop) == Outcome(step, pytest.approx(0, abs=1), True, 0)
    else:
        with pytest.raises(type(error)):
            train(broken, stopper)
    assert train(broken).interrupted is False
    assert figures(broken.out) == figures(finished)
    assert equal(weights(broken.out), weights(finished))


@pytest.mark.parametrize(
    "changes",
    [
        {"accumulate": 2, "dice": "image"},
        {"precision": "bf16", "ema": 0.0},
        {"adapt_sd3": "lora", "adapt_sam": "lora", "gradient_checkpointing": True},
        {"training": Squares(1, damaged={1: 1, 3: 3})},
        {"workers": 1},
    ],
    ids=str,
)
def test_going_on_exactly_under_other_options(tmp_path: Path, changes: dict[str, Any]) -> None:
    changes = {"steps": 3, "save_every": 1, "validate_every": 2} | changes
    train(task(tmp_path / "unbroken", **changes))
    stopper = Stopper(2)
    train(task(tmp_path / "run", **changes), stopper, stopper.stop)
    train(task(tmp_path / "run", **changes))
    assert figures(tmp_path / "run") == figures(tmp_path / "unbroken")
    assert equal(weights(tmp_path / "run"), weights(tmp_path / "unbroken"))


def test_batches_that_are_copied_ahead_change_nothing(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on a GPU; and after an interruption the batch that was ahead is taken again."""
    monkeypatch.setattr(Steps, "AHEAD", ("cpu",))
    stopper = Stopper(3)
    assert train(task(tmp_path / "run"), stopper, stopper.stop).interrupted
    train(task(tmp_path / "run"))
    assert figures(tmp_path / "run") == figures(finished)
    assert equal(weights(tmp_path / "run"), weights(finished))


def test_compiled_parts_give_the_same_losses(finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without generated code; one part cannot be compiled and runs as it is."""
    compiled: list[str] = []
    compile_module = torch.nn.Module.compile

    def plainly(self: torch.nn.Module) -> None:
        compiled.append(type(self).__name__)
        compile_module(self, backend=fails if compiled[-1] == "FeatureFusion" else "eager")

    def fails(*_: object) -> None:
        raise RuntimeError("not for this chip")

    monkeypatch.setattr(torch.nn.Module, "compile", plainly)
    train(task(tmp_path / "run", steps=1, compile=True, gradient_checkpointing=True))
    assert set(compiled) == {"VaeEncoder", "JointBlock", "SamBlock", "ForensicView", "FeatureFusion"}
    losses, plain = ([row["loss"] for row in rows(run, "step")][:1] for run in (tmp_path / "run", finished))
    assert losses == pytest.approx(plain, abs=1e-5)


def test_compiling_needs_a_compiler(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CXX", raising=False)
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(OptionsError, match=r"compile is true, and there is no C\+\+ compiler here"):
        train(task(tmp_path / "run", steps=1, compile=True))


def test_a_finished_training_is_not_trained_again(finished: Path) -> None:
    before = weights(finished)
    assert train(task(finished)).step == 6
    assert equal(weights(finished), before)


def test_it_learns(tmp_path: Path) -> None:
    train(task(tmp_path / "run", steps=30, validate_every=30, save_every=30, ema=0.5))
    losses = [row["loss"] for row in rows(tmp_path / "run", "step")]
    assert np.mean(losses[-5:]) < 0.95 * np.mean(losses[:5])


def test_over_the_clock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Clock:
        """Each step takes 0.3 seconds."""

        now = 0.0

        def monotonic(self) -> float:
            self.now += 0.3
            return self.now

    monkeypatch.setattr("model.training.trainer.time", Clock())
    assert train(task(tmp_path / "run", minutes=1 / 60, validate_every=1000)).step == 4
    done = rows(tmp_path / "run", "step")
    assert done[-2]["seconds"] < 1 <= done[-1]["seconds"]
    assert done[-1]["lr"] < done[1]["lr"]


def test_matches_are_made_for_presets_that_look_at_them(tmp_path: Path) -> None:
    batch = Feed(Squares(), TINY, 2, seed=3)[5]
    assert batch.matches is not None
    assert batch.matches.shape[0] == 2
    assert batch.matches.shape[2:] == (8, 8)
    assert train(task(tmp_path / "run", TINY, steps=1, validation_samples=3)).step == 1


def test_first_weights_from_another_model(finished: Path, tmp_path: Path) -> None:
    run = task(tmp_path / "run", init=str(finished / "last"), steps=1, lr=1e-9, ema=0.0, shift=1.0)
    train(run)
    first, last = rows(run.out, "validation")
    assert (first["step"], first["best"]) == (0, False)
    assert (last["step"], last["best"]) == (1, True)
    assert (first["bce_weight"], first["dice_weight"]) == (run.options.bce_weight, run.options.dice_weight)
    theirs = load(inspect(str(finished / "last")), "cpu", torch.float32).state_dict()
    ours = weights(run.out)["model"]
    assert all(torch.allclose(ours[name], theirs[name], atol=1e-6) for name in theirs)
    assert json.loads((run.out / "settings.json").read_text())["init"] == inspect(str(finished / "last")).digest


def test_advice_where_nothing_can_come_of_it(tmp_path: Path) -> None:
    listener = Stopper(100)
    train(task(tmp_path / "run", adapt_sam="frozen", steps=1), listener)
    assert any("SAM branch is frozen on random weights" in said for said in listener.said)


@pytest.mark.parametrize(
    "changes",
    [
        {"branches": "sd3"},
        {"branches": "sam"},
        {"noise": "none"},
        {"noise": "ddpm", "shift": 0.5, "levels": (0.1, 0.3, 0.5)},
        {"adapt_sd3": "lora", "adapt_sam": "frozen"},
        {"adapt_sd3": "frozen", "adapt_sam": "lora"},
    ],
    ids=str,
)
def test_every_row_of_the_ablations_trains_and_loads(tmp_path: Path, changes: dict[str, Any]) -> None:
    train(task(tmp_path / "run", steps=1, **changes))
    checkpoint = inspect(str(tmp_path / "run" / "last"))
    assert checkpoint.branches == changes.get("branches", "both")
    model = load(checkpoint, "cpu", torch.float32)
    assert model(torch.rand(1, 3, 64, 64), torch.randn(1, 16, 8, 8)).isfinite().all()


def test_dice_of_each_image_is_another_training(finished: Path, tmp_path: Path) -> None:
    train(task(tmp_path / "run", steps=2, dice="image"))
    first, paper = rows(tmp_path / "run", "step")[0], rows(finished, "step")[0]
    assert first["bce"] == paper["bce"]
    assert first["dice"] != paper["dice"]
    with pytest.raises(OtherSettingsError, match=r"options\.dice is batch there, image here"):
        train(task(finished, dice="image"))
