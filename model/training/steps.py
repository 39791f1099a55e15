"""The steps of the optimizer, each from batches that its own number decides; on one GPU, recorded as a CUDA graph."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import gather_object
from torch import Tensor, nn

from model.branches.svd import constraint, svd_layers
from model.device import Transfer
from model.losses import clue_loss
from model.training.errors import NotFiniteError, OptionsError
from model.training.feed import Feed, FeedBatch, batches
from model.training.launch import recorded
from model.training.options import TrainingOptions
from model.training.queries import Queries
from model.training.run_folder import Row, RunFolder, write_tensors
from model.training.schedule import LossWeights
from model.training.task import Position


class Recorded:
    """Records a function of tensors that changes others in place, and replays it.

    Args:
        update: what is recorded. It takes tensors on the GPU, and gives one.
        state: gives the tensors that it changes.
    """

    def __init__(self, update: Callable[..., Tensor], state: Callable[[], list[Tensor]]) -> None:
        self._update, self._state = update, state
        self._graphs: dict[tuple[torch.Size, ...], tuple[torch.cuda.CUDAGraph, list[Tensor], Tensor]] = {}

    def __call__(self, *inputs: Tensor) -> Tensor:
        """What the update gives; the next call overwrites it."""
        shapes = tuple(one.shape for one in inputs)
        if shapes not in self._graphs:
            self._record(shapes, [one.clone() for one in inputs])
        graph, own, out = self._graphs[shapes]
        for mine, one in zip(own, inputs, strict=True):
            mine.copy_(one)
        graph.replay()
        return out

    def _record(self, shapes: tuple[torch.Size, ...], own: list[Tensor]) -> None:
        """Updates before it choose algorithms and make what the optimizer keeps; what they change is put back."""
        before = {id(one): one.detach().clone() for one in self._state()}
        stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(2):
                self._update(*own)
        torch.cuda.current_stream().wait_stream(stream)
        with torch.no_grad():
            for one in self._state():
                one.copy_(before[id(one)]) if id(one) in before else one.zero_()
        torch.cuda.synchronize()
        graph = torch.cuda.CUDAGraph()
        pool = next((other[0].pool() for other in self._graphs.values()), None)
        # Other threads, such as the one that pins batches, use the GPU meanwhile.
        with torch.cuda.graph(graph, pool=pool, capture_error_mode="thread_local"):
            out = self._update(*own)
        self._graphs[shapes] = graph, own, out


_ENDLESS = 2**36
"""Batches of a training by the clock: more than any will see."""


class Steps:
    """Takes the steps of a training.

    Args:
        network, optimizer: as accelerate prepared them.
        feed: the batches.
        options: of the training.
        position: where it is; each step moves it on.
        folder: where a batch goes that made the loss not finite.
        accelerator: of this process.
        write: takes rows for the log.
        queries: gives the embeddings of what the batches ask; None: they ask nothing.
    """

    AHEAD = ("cuda",)
    """Devices to which the next batch is copied while they compute."""

    def __init__(
        self,
        network: nn.Module,
        optimizer: Any,
        feed: Feed,
        options: TrainingOptions,
        position: Position,
        folder: RunFolder,
        accelerator: Accelerator,
        write: Callable[[Row], None],
        queries: Queries | None = None,
    ) -> None:
        self.queries = queries
        self.network, self.optimizer, self.feed = network, optimizer, feed
        self.options, self.position, self.folder = options, position, folder
        self.accelerator, self.write = accelerator, write
        self.parameters = [p for p in network.parameters() if p.requires_grad]
        self.residuals = svd_layers(network)
        self.rank, self.world = accelerator.process_index, accelerator.num_processes
        self.recorded = Recorded(self._update, self._state) if recorded(options, accelerator) else None
        self.looks_ahead = accelerator.device.type in self.AHEAD
        self._transfer = Transfer(accelerator.device)
        self._ahead: FeedBatch | None = None
        self._waited = 0.0
        self._balance: tuple[LossWeights, Tensor] | None = None
        self._met: dict[str, int] = {}  # damaged pictures that the first process does not know of

    def supply(self) -> Iterator[FeedBatch]:
        """The batches from this step on; each process has every `world`-th one."""
        a_step = self.options.accumulate * self.world
        end = self.options.steps * a_step if self.options.steps is not None else _ENDLESS
        indexes = range(self.position.step * a_step + self.rank, end, self.world)
        return batches(self.feed, indexes, self.options.workers, pin_memory=self.accelerator.device.type == "cuda")

    def _look_ahead(self, supply: Iterator[FeedBatch]) -> None:
        """Have the next batch copied to the GPU while it computes."""
        asked = time.monotonic()
        batch = next(supply, None)
        self._waited += time.monotonic() - asked
        if batch is not None:
            up = self._transfer.up
            self._ahead = batch._replace(
                images=up(batch.images),
                masks=up(batch.masks),
                noise=up(batch.noise),
                matches=None if batch.matches is None else up(batch.matches),
            )

    def _next(self, supply: Iterator[FeedBatch]) -> FeedBatch:
        asked = time.monotonic()
        batch = next(supply) if self._ahead is None else self._ahead
        self._ahead = None
        self._waited += time.monotonic() - asked
        for name in batch.damaged:
            if self.rank:
                self._met[name] = self._met.get(name, 0) + 1
            else:
                self._count(name, 1, self.position.step + 1)
        if batch.problem:
            raise OptionsError(f"Nothing to learn from: {batch.problem}.", "Look at the data with --dry-run.")
        return batch

    def _count(self, name: str, times: int, step: int) -> None:
        known = self.position.damaged
        if name not in known:
            self.write({"kind": "damaged", "step": step, "side": "training", "picture": name})
        known[name] = known.get(name, 0) + times

    def share_damage(self) -> None:
        """Count and list in the first process what the others passed over since they last said so."""
        if self.world == 1:
            return
        everyone: list[dict[str, int]] = gather_object([self._met])
        self._met = {}
        if self.rank == 0:
            for found in everyone:
                for name, times in found.items():
                    self._count(name, times, self.position.step)

    def take(self, supply: Iterator[FeedBatch], rate: float) -> Row:
        """One step of the optimizer over `accumulate` batches; returns its row of the log."""
        options, position, weights = self.options, self.position, self.position.weights
        seed_step(options.seed, position.step, self.rank)
        for group in self.optimizer.param_groups:
            group["lr"] = group["lr"].fill_(rate) if self.recorded is not None else rate
        losses: list[Tensor] = []
        seen: list[FeedBatch] = []
        self._waited = 0.0
        for part in range(options.accumulate):
            batch = self._next(supply)
            seen.append(batch)
            if self.recorded is not None:
                norm = self._replay(batch, losses)
                continue
            last = part == options.accumulate - 1
            with contextlib.nullcontext() if last else self.accelerator.no_sync(self.network):
                prompts = self.queries(batch.queries, self.accelerator.device) if self.queries else None
                logits = self.network(*batch.to(self.accelerator.device), *([] if prompts is None else [prompts]))
                target = batch.masks.to(logits.device, non_blocking=True).float()
                loss, *terms = clue_loss(logits.float(), target, weights.bce, weights.dice, options.dice)
                if self.residuals:
                    loss = loss + constraint(self.residuals)
                losses.append(torch.stack([loss, *terms]).detach())
                self.accelerator.backward(loss / options.accumulate)
        if self.recorded is None:
            norm = self.accelerator.clip_grad_norm_(self.parameters, options.clip)
            self.optimizer.step()
            self.optimizer.zero_grad(set_to_none=True)
        if self.looks_ahead:
            self._look_ahead(supply)
        # The only value that the CPU waits for: until here the GPU has work.
        found = self._finite(torch.cat([*losses, norm.detach().reshape(1)]), seen)
        position.step += 1
        mean = found[:-1].reshape(-1, 3).mean(0).tolist()
        row: Row = {"kind": "step", "step": position.step, "loss": mean[0], "bce": mean[1], "dice": mean[2]}
        row |= {"lr": rate, "gradient": float(found[-1]), "bce_weight": weights.bce, "dice_weight": weights.dice}
        images = sum(len(batch.images) for batch in seen)
        return row | {"images": images * self.world, "waited": round(self._waited, 3)}

    def _replay(self, batch: FeedBatch, losses: list[Tensor]) -> Tensor:  # pragma: no cover - needs a GPU
        """One recorded update; adds its loss, and returns the norm of its gradient."""
        assert self.recorded is not None
        device, weights = self.accelerator.device, self.position.weights
        x, noise, matches = batch.to(device)
        if self._balance is None or self._balance[0] != weights:  # a copy from a list waits for the GPU
            self._balance = weights, torch.tensor([weights.bce, weights.dice], device=device)
        seen = [x, noise, batch.masks.to(device, non_blocking=True).float(), self._balance[1]]
        found = self.recorded(*seen, *([] if matches is None else [matches])).clone()
        losses.append(found[:3])
        return found[3]

    def _update(
        self, x: Tensor, noise: Tensor, target: Tensor, balance: Tensor, matches: Tensor | None = None
    ) -> Tensor:  # pragma: no cover - needs a GPU
        """What is recorded: loss, BCE, Dice and the norm of the gradient, 4."""
        self.optimizer.zero_grad(set_to_none=True)
        logits = self.network(x, noise, matches)
        loss, *terms = clue_loss(logits.float(), target, balance[0], balance[1], self.options.dice)
        if self.residuals:
            loss = loss + constraint(self.residuals)
        loss.backward()  # type: ignore[no-untyped-call]
        norm = torch.nn.utils.clip_grad_norm_(self.parameters, self.options.clip)
        self.optimizer.step()
        return torch.stack([loss, *terms, norm]).detach()

    def _state(self) -> list[Tensor]:  # pragma: no cover - needs a GPU
        """What an update changes."""
        kept = [value for state in self.optimizer.state.values() for value in state.values()]
        return [*self.parameters, *kept]

    def _finite(self, values: Tensor, seen: list[FeedBatch]) -> Tensor:
        """The mean of the values over the processes, on the CPU.

        Args:
            values: loss, BCE and Dice of each batch, and the norm of the gradient.
            seen: the batches of the step.

        Raises:
            NotFiniteError: NaN or infinite in any process, which has saved its batch. The weights are of no use then.
        """
        gathered = self.accelerator.gather(values[None]).float().cpu()
        finite = torch.isfinite(gathered)
        if self.accelerator.scaler is not None:  # that of fp16 leaves steps with infinite gradients out by itself
            finite[:, -1] = True
        if bool(finite.all()):
            mean: Tensor = gathered.mean(0)
            return mean
        # The first value that is wrong in any process; from there on they all are, since gradients are shared.
        place = int(finite.all(0).long().argmin()) // 3
        what = "the loss" if place < len(seen) else "the gradient's norm"
        part = slice(3 * place, 3 * place + 3)
        value = gathered[:, part][~finite[:, part]][0]
        own = values[part].detach().float().cpu()
        batch = seen[min(place, len(seen) - 1)]
        saved = self.folder.path / f"not-finite-step-{self.position.step + 1}-process-{self.rank}.pt"
        kept = "The process that met it saved the batch"
        if not bool(own.isfinite().all()):
            tensors = {name: getattr(batch, name) for name in ("images", "masks", "noise", "matches")}
            tensors = {name: None if tensor is None else tensor.cpu() for name, tensor in tensors.items()}
            context = {"batch": batch.number, "seed": self.options.seed, "step": self.position.step + 1}
            kept = f"The batch is saved as {saved}"
            try:
                write_tensors(saved, tensors | context | {"values": own})
            except OSError as error:
                kept = f"The batch could not be saved ({error.strerror or error})"
        raise NotFiniteError(
            f"In step {self.position.step + 1}, batch {batch.number}, {what} is {float(value)}.",
            f"{kept}; the last checkpoint is whole. A lower lr or clip (--set lr=1e-4) or --precision no may help, "
            "in another --out with --init.",
        )


def seed_step(seed: int, step: int, process: int) -> None:
    """Seed torch's generators for one step: what dropout draws depends on nothing that came before."""
    torch.manual_seed(int(np.random.SeedSequence([seed, step, process]).generate_state(1, np.uint64)[0] >> 1))


class StepStatus:
    """Words on how a training goes: images per second, losses, the latest validation F1."""

    def __init__(self) -> None:
        self._losses = self._f1 = ""
        self._speed = self._starved = 0.0
        self._restart()

    def after_step(self, row: Row) -> str:
        """The status after the step of this row."""
        self._images += row["images"]
        self._waited += row["waited"]
        seconds = max(time.monotonic() - self._since, 1e-6)
        if seconds > 2 or not self._speed:
            self._speed, self._starved = self._images / seconds, self._waited / seconds
            self._restart()
        waiting = f" ({self._starved:.0%} waiting for them)" if self._starved > 0.1 else ""
        self._losses = f"{self._speed:.1f} images/s{waiting}, loss {row['loss']:.4f}"
        self._losses += f" (BCE {row['bce']:.4f}, Dice {row['dice']:.4f})"
        return self._losses + self._f1

    def after_validation(self, row: Row) -> str:
        """The status after the validation of this row."""
        self._restart()
        self._f1 = f", F1 {row['f1']:.3f}"
        return self._losses + self._f1 if self._losses else ""

    def _restart(self) -> None:
        self._images, self._waited, self._since = 0, 0.0, time.monotonic()
