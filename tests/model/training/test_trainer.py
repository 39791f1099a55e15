"""The loop: what it leaves behind, that it goes on exactly, and what stops it."""

from __future__ import annotations

import json
import os
import resource
import shutil
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from model.calibration import Calibration
from model.checkpoint import inspect
from model.losses import bce_loss
from model.storage import load
from model.training.errors import CannotWriteError, NotFiniteError, OptionsError, OtherSettingsError, ResourcesError
from model.training.feed import Feed
from model.training.log import Row, Silent, read_log
from model.training.task import Outcome, Task
from model.training.trainer import train
from tests.model.training.made import QUICK, Labelled, Squares, options, task, telling
from tests.tiny_model import TINY


class Stopper(Silent):
    """Sets an event, or raises, after a step."""

    def __init__(self, step: int, error: BaseException | None = None) -> None:
        self.step, self.error, self.stop = step, error, threading.Event()
        self.said: list[str] = []

    def stepped(self, row: Row) -> None:
        if row["step"] == self.step:
            self.stop.set()
            if self.error is not None:
                raise self.error

    def told(self, text: str) -> None:
        self.said.append(text)


def rows(folder: Path, kind: str) -> list[Row]:
    return [row for row in read_log(folder / "log.jsonl") if row["kind"] == kind]


def figures(folder: Path) -> list[Row]:
    """All rows about steps and validations, without the clock."""
    return [
        {k: v for k, v in row.items() if k not in ("seconds", "waited")}
        for row in read_log(folder / "log.jsonl")
        if row["kind"] in ("step", "validation")
    ]


def weights(folder: Path) -> dict[str, Any]:
    return torch.load(folder / "state.pt", weights_only=True)


def equal(a: Any, b: Any) -> bool:
    if isinstance(a, torch.Tensor):
        return torch.equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(equal(a[k], b[k]) for k in a if k != "seconds")
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(map(equal, a, b))
    return bool(a == b)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the default training, unbroken: read it only."""
    folder = tmp_path_factory.mktemp("runs") / "unbroken"
    assert train(task(folder)) == Outcome(6, pytest.approx(0, abs=1), False, 0)
    return folder


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


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"lr": 1e-3}, ["options.lr is 0.003 there, 0.001 here"]),
        ({"data": {"mix": "b"}}, ["data.mix is None there, b here"]),
        ({"preset": TINY, "seed": 2}, ["options.seed is 1 there, 2 here", "preset.name is quick there, tiny here"]),
        ({"noise": "ddpm"}, ["preset.noise.schedule is rf there, ddpm here"]),
    ],
)
def test_a_folder_of_other_settings_is_refused(finished: Path, changes: dict[str, Any], said: list[str]) -> None:
    before = (finished / "state.pt").read_bytes()
    with pytest.raises(OtherSettingsError) as caught:
        train(task(finished, **changes))
    assert all(words in caught.value.message for words in said)
    assert (finished / "state.pt").read_bytes() == before


def test_options_without_effect_may_change(finished: Path) -> None:
    assert train(task(finished, save_every=5)).step == 6


def test_a_folder_of_something_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("precious")
    with pytest.raises(OptionsError, match="not the folder of a training"):
        train(task(tmp_path))
    with pytest.raises(CannotWriteError, match="cannot be written"):
        train(task(tmp_path / "thesis.tex"))
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_two_trainings_in_one_folder(tmp_path: Path) -> None:
    second: list[str] = []

    class Intruder(Silent):
        def stepped(self, row: Row) -> None:
            if row["step"] == 1:
                with pytest.raises(OptionsError) as caught:
                    train(task(tmp_path / "run"))
                second.append(caught.value.message)

    train(task(tmp_path / "run", steps=2), Intruder())
    assert "Another training" in second[0]


@pytest.mark.parametrize(
    "content", [b"", b"PK\x03\x04 cut off", b"not a zip at all, and long enough to be looked at"], ids=len
)
def test_a_damaged_state_is_told(tmp_path: Path, content: bytes) -> None:
    run = task(tmp_path / "run", steps=1)
    train(run)
    (run.out / "state.pt").write_bytes(content)
    with pytest.raises(OtherSettingsError, match=r"state\.pt is damaged"):
        train(run)


@pytest.mark.parametrize(
    "change", [{"model": {}}, {"average": {}}, {"position": {"steps": 1}}, {"optimizer": 3}], ids=str
)
def test_a_state_that_does_not_fit_is_told(tmp_path: Path, finished: Path, change: dict[str, Any]) -> None:
    run = task(tmp_path / "run")
    shutil.copytree(finished, run.out)
    torch.save(weights(finished) | change, run.out / "state.pt")
    with pytest.raises(OtherSettingsError, match=r"state\.pt does not fit this training"):
        train(run)


def test_a_state_of_another_version_is_told(tmp_path: Path) -> None:
    run = task(tmp_path / "run", steps=1)
    train(run)
    torch.save({"format": 99}, run.out / "state.pt")
    with pytest.raises(OtherSettingsError, match="another version"):
        train(run)


def poison(monkeypatch: pytest.MonkeyPatch, where: str, step: int) -> None:
    """Make the loss of a step NaN, or its gradient infinite."""
    calls = [0]

    def poisoned(logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        calls[0] += 1
        loss = bce_loss(logits, target)
        if calls[0] != step:
            return loss
        return loss * float("nan") if where == "loss" else loss + InfiniteGradient.apply(logits).sum()

    monkeypatch.setattr("model.training.steps.bce_loss", poisoned)


class InfiniteGradient(torch.autograd.Function):
    @staticmethod
    def forward(context: Any, x: torch.Tensor) -> torch.Tensor:
        return torch.zeros_like(x)

    @staticmethod
    def backward(context: Any, *gradients: torch.Tensor) -> Any:
        return torch.full_like(gradients[0], float("inf"))


@pytest.mark.parametrize(("where", "said"), [("loss", "the loss is nan"), ("gradient", "the gradient's norm is")])
def test_a_loss_that_is_not_finite_stops(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str, said: str
) -> None:
    run = task(tmp_path / "run", save_every=1)
    poison(monkeypatch, where, step=4)
    with pytest.raises(NotFiniteError, match=f"step 4, batch 3, {said}") as caught:
        train(run)
    saved = torch.load(run.out / "not-finite-step-4-process-0.pt", weights_only=True)
    assert str(run.out / "not-finite-step-4-process-0.pt") in (caught.value.advice or "")
    assert (saved["batch"], saved["step"], saved["seed"]) == (3, 4, 1)
    assert torch.equal(
        saved["images"][0].permute(1, 2, 0), torch.from_numpy(run.training.batch(3, 3).samples[0].pixels)
    )
    state = weights(run.out)
    assert state["position"]["step"] == 3
    assert all(tensor.isfinite().all() for tensor in state["model"].values())
    monkeypatch.undo()
    assert train(run).step == 6


def test_a_batch_that_cannot_be_saved_does_not_hide_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    run = task(tmp_path / "run")
    poison(monkeypatch, "loss", step=1)
    monkeypatch.setattr("model.training.steps.write_tensors", full)
    with pytest.raises(NotFiniteError, match="the loss is nan") as caught:
        train(run)
    assert "The batch could not be saved (No space left on device)" in (caught.value.advice or "")


def test_damaged_pictures_are_skipped_counted_and_listed(tmp_path: Path) -> None:
    run = task(tmp_path / "run", training=Squares(1, damaged={0: 1, 2: 3}), validation=Squares(2, damaged={1: 1}))
    assert train(run).damaged == 2
    assert [row["images"] for row in rows(run.out, "step")] == [2, 3, 3, 3, 3, 3]
    listed = [(row["side"], row["picture"]) for row in rows(run.out, "damaged")]
    assert listed == [
        ("validation", "photo 1.jpg: truncated"),
        ("training", "photo 0.jpg: truncated"),
        ("training", "photo 2.jpg: truncated"),
    ]


class Unreadable(Squares):
    def batch(self, index: int, count: int) -> Any:
        found = super().batch(index, count)
        found.samples.clear()
        found.damaged.append("all.jpg: truncated")
        return found


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"training": Unreadable()}, "Nothing to learn from: 8 batches in a row.*all.jpg"),
        ({"validation": Unreadable()}, "Nothing to validate on: 8 batches in a row"),
        ({"validation": Squares(forged=False)}, "None of the 6 validation samples is forged"),
    ],
    ids=["training", "validation", "no forged picture"],
)
def test_data_that_nothing_can_be_learned_from(tmp_path: Path, changes: dict[str, Any], said: str) -> None:
    with pytest.raises(OptionsError, match=said):
        train(task(tmp_path / "run", **changes))


@pytest.mark.parametrize("which", ["state", "best", "log"])
def test_a_disk_that_fills(tmp_path: Path, which: str) -> None:
    run = task(
        tmp_path / "run", save_every=1 if which == "state" else 100, validate_every=1 if which == "best" else 100
    )
    limit = {"state": 100_000, "best": 60_000, "log": 700}[which]

    class Filler(Silent):
        def stepped(self, row: Row) -> None:
            if row["step"] == 2:
                former = resource.getrlimit(resource.RLIMIT_FSIZE)
                resource.setrlimit(resource.RLIMIT_FSIZE, (limit, former[1]))

    first = Stopper(1)
    train(run, first, first.stop)
    before = (run.out / "state.pt").read_bytes()
    former = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        with pytest.raises(CannotWriteError, match="cannot be written: File too large") as caught:
            train(run, Filler())
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, former)
    assert "saved before is whole" in (caught.value.advice or "")
    assert (run.out / "state.pt").read_bytes() == before
    assert not [path for path in run.out.rglob(".*") if path.name != ".lock"]
    train(run)
    assert [row for row in figures(run.out) if row["kind"] == "step"][-1]["step"] == 6


def test_the_machine_gives_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Hungry(Squares):
        def batch(self, index: int, count: int) -> Any:
            if index == 2:
                raise torch.OutOfMemoryError("CUDA out of memory.\nTried to allocate 2 GiB")
            return super().batch(index, count)

    with pytest.raises(ResourcesError, match=r"Out of memory: CUDA out of memory\.$") as caught:
        train(task(tmp_path / "run", training=Hungry(1)))
    assert "--batch" in (caught.value.advice or "")


def test_a_worker_that_dies(tmp_path: Path) -> None:
    class Deadly(Squares):
        def batch(self, index: int, count: int) -> Any:
            if index == 2:
                os._exit(9)
            return super().batch(index, count)

    with pytest.raises(ResourcesError, match="makes batches died"):
        train(task(tmp_path / "run", training=Deadly(1), workers=1))


def test_first_weights_from_another_model(finished: Path, tmp_path: Path) -> None:
    run = task(tmp_path / "run", init=str(finished / "last"), steps=1, lr=1e-9, ema=0.0, shift=1.0)
    train(run)
    theirs = load(inspect(str(finished / "last")), "cpu", torch.float32).state_dict()
    ours = weights(run.out)["model"]
    assert all(torch.allclose(ours[name], theirs[name], atol=1e-6) for name in theirs)
    assert json.loads((run.out / "settings.json").read_text())["init"] == inspect(str(finished / "last")).digest


def test_advice_where_nothing_can_come_of_it(tmp_path: Path) -> None:
    listener = Stopper(100)
    train(task(tmp_path / "run", adapt_sam="frozen", steps=1), listener)
    assert any("SAM branch is frozen on random weights" in said for said in listener.said)


def test_fp16_needs_a_gpu(tmp_path: Path) -> None:
    with pytest.raises(OptionsError, match="needs a GPU"):
        train(
            Task(
                out=tmp_path, preset=QUICK, options=options(precision="fp16"), training=Squares(), validation=Squares()
            )
        )


@pytest.mark.parametrize(
    "changes",
    [
        {"branches": "sd3"},
        {"branches": "sam"},
        {"noise": "none"},
        {"noise": "ddpm"},
        {"shift": 0.5},
        {"levels": (0.1, 0.3, 0.5)},
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
    assert any("confidence" in line and problem in line for line in said.said)
    for name in ("best", "last"):
        checkpoint = inspect(str(run.out / name))
        assert checkpoint.calibration == Calibration()
        assert problem in checkpoint.training["no_confidence"]
    assert problem in rows(run.out, "calibrated")[-1]["problem"]


def test_no_memory_for_the_score_leaves_the_models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise torch.OutOfMemoryError

    monkeypatch.setattr("model.training.trainer.calibrated", full)
    train(task(tmp_path / "run", steps=1, calibration=Labelled()))
    assert inspect(str(tmp_path / "run" / "best")).training["no_confidence"] == "there was no memory for it"


def test_stopped_while_the_score_is_fitted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("model.training.finish.look_at", telling)
    run, stop = task(tmp_path / "run", steps=2, calibration=Labelled(), calibration_samples=40), threading.Event()

    class Impatient(Silent):
        def told(self, text: str) -> None:
            if "Fitting" in text:
                stop.set()

    assert train(run, Impatient(), stop) == Outcome(2, pytest.approx(0, abs=1), True, 0)
    assert not rows(run.out, "finished")
    assert inspect(str(run.out / "best")).training["no_confidence"] == "the training was not over"
    assert train(run).interrupted is False
    assert inspect(str(run.out / "best")).calibration.fitted_on
