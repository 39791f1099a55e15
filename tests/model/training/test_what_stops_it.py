"""What stops a training or is passed over: losses that are not finite, damage, full disks, lost workers."""

from __future__ import annotations

import os
import re
import resource
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from model.losses import bce_loss
from model.training.errors import CannotWriteError, NotFiniteError, ResourcesError
from model.training.feed import Feed, batches
from model.training.run_folder import Row, RunFolder
from model.training.schedule import LossWeights
from model.training.steps import Steps
from model.training.task import Position
from model.training.trainer import train
from tests.model.training.made import QUICK, Squares, Stopper, figures, options, rows, task, weights


def poison(monkeypatch: pytest.MonkeyPatch, where: str, step: int) -> None:
    """Make the loss of a step NaN, or its gradient infinite."""
    calls = [0]

    def poisoned(logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        calls[0] += 1
        loss = bce_loss(logits, target)
        if calls[0] != step:
            return loss
        return loss * float("nan") if where == "loss" else loss + InfiniteGradient.apply(logits).sum()

    monkeypatch.setattr("model.losses.bce_loss", poisoned)


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


def test_of_several_processes_the_one_with_the_wrong_loss_saves_its_batch(tmp_path: Path) -> None:
    """Gradients are shared, so that their norm is wrong in all."""
    nan = float("nan")
    everyone = torch.tensor([[nan, nan, 0.5, 0.7, 0.7, 0.7, nan], [0.7, 0.7, 0.7, 0.7, 0.7, 0.7, nan]])
    stream = Feed(Squares(1), QUICK, 1, 1)
    seen = [stream[number] for number in range(2)]
    for rank in range(2):
        accelerator = SimpleNamespace(gather=lambda _: everyone, scaler=None)
        steps: Any = SimpleNamespace(
            accelerator=accelerator, folder=RunFolder(tmp_path), options=SimpleNamespace(seed=1),
            position=SimpleNamespace(step=3), rank=rank,
        )  # fmt: skip
        with pytest.raises(NotFiniteError, match="step 4, batch 0, the loss is nan"):
            Steps._finite(steps, everyone[rank], seen)
    assert [path.name for path in tmp_path.iterdir()] == ["not-finite-step-4-process-0.pt"]


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


def test_the_first_process_counts_what_the_others_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    everyone: list[dict[str, int]] = []
    monkeypatch.setattr("model.training.steps.gather_object", lambda mine: everyone.append(*mine) or list(everyone))
    written: list[Row] = []
    seen = []
    for rank in (1, 0):
        parts = SimpleNamespace(process_index=rank, num_processes=2, device=torch.device("cpu"))
        position = Position(LossWeights(1, 1), step=4, damaged={"a.jpg: cut": 1})
        feed = Feed(Squares(1, damaged={0: 1, 1: 1, 2: 1}), QUICK, 3, 1)
        steps = Steps(torch.nn.Linear(1, 1), None, feed, options(), position, None, parts, written.append)  # type: ignore[arg-type]
        supply = iter([feed[0], feed[1], feed[1 if rank else 3]])
        for _ in range(3):
            steps._next(supply)
        steps.share_damage()
        seen.append(position.damaged)
    assert everyone == [{"photo 0.jpg: truncated": 1, "photo 1.jpg: truncated": 2}, {}]
    assert seen[1] == {"a.jpg: cut": 1, "photo 0.jpg: truncated": 2, "photo 1.jpg: truncated": 3}
    assert [row["picture"] for row in written] == ["photo 0.jpg: truncated", "photo 1.jpg: truncated"]


@pytest.mark.parametrize("which", ["state", "best", "log"])
def test_a_disk_that_fills(tmp_path: Path, which: str) -> None:
    run = task(
        tmp_path / "run", save_every=1 if which == "state" else 100, validate_every=1 if which == "best" else 100
    )
    limit = {"state": 100_000, "best": 60_000, "log": 700}[which]

    class Filler(Stopper):
        def advance(self, n: int = 1, status: str | None = None, *, reused: bool = False) -> None:
            super().advance(n, status, reused=reused)
            if n and self.at == 2:
                former = resource.getrlimit(resource.RLIMIT_FSIZE)
                resource.setrlimit(resource.RLIMIT_FSIZE, (limit, former[1]))

    first = Stopper(1)
    train(run, first, first.stop)
    before = (run.out / "state.pt").read_bytes()
    former = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        with pytest.raises(CannotWriteError, match="cannot be written: File too large") as caught:
            train(run, Filler(100))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, former)
    assert "saved before is whole" in (caught.value.advice or "")
    assert (run.out / "state.pt").read_bytes() == before
    assert not [path for path in run.out.rglob(".*") if path.name != ".lock"]
    train(run)
    assert [row for row in figures(run.out) if row["kind"] == "step"][-1]["step"] == 6


@dataclass
class Raising(Squares):
    error: Exception = field(default_factory=Exception)

    def batch(self, index: int, count: int) -> Any:
        raise self.error


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (torch.OutOfMemoryError("CUDA out of memory.\nTried to allocate 2 GiB"), "CUDA out of memory."),
        (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory"), "[enforce fail] DefaultCPUAlloc"),
        (MemoryError(), "there was none left"),
    ],
)
def test_the_machine_gives_out(tmp_path: Path, error: Exception, said: str) -> None:
    with pytest.raises(ResourcesError, match=re.escape(f"Out of memory: {said}")) as caught:
        train(task(tmp_path / "run", training=Raising(error=error)))
    assert "--batch" in (caught.value.advice or "")


@pytest.mark.parametrize("workers", [0, 1])
def test_a_defect_is_not_taken_for_a_want_of_memory(workers: int) -> None:
    feed = Feed(Raising(error=RuntimeError("a shape that is wrong")), QUICK, 2, 1)
    with pytest.raises(RuntimeError, match="a shape that is wrong"):
        list(batches(feed, range(1), workers))


def test_a_worker_that_dies(tmp_path: Path) -> None:
    class Deadly(Squares):
        def batch(self, index: int, count: int) -> Any:
            if index == 2:
                os._exit(9)
            return super().batch(index, count)

    with pytest.raises(ResourcesError, match="makes batches died"):
        train(task(tmp_path / "run", training=Deadly(1), workers=1))
