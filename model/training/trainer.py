"""The training loop: AdamW, warm-up and cosine, accumulation, an average of the weights, exact resume; accelerate.

One CPU, one GPU, or several through `accelerate launch`. A step is a function of the state before it, the seed and
its own number, so that an interrupted training that goes on gives the losses of one that was never interrupted.
"""

from __future__ import annotations

import contextlib
import math
import threading
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import DistributedDataParallelKwargs, gather_object
from torch import Tensor

from model.bases import find_base, needs_bases
from model.calibration import Calibration
from model.checkpoint import Checkpoint, inspect
from model.losses import bce_loss, dice_loss
from model.presets import Preset
from model.storage import save
from model.training.average import Average
from model.training.errors import NotFiniteError, OptionsError, ResourcesError
from model.training.feed import Feed, FeedBatch, StreamLike, batches
from model.training.finish import finish
from model.training.log import Listener, Log, Row, Silent
from model.training.loss_weights import LossWeights
from model.training.network import count_parameters, parameter_groups, prepare_network, with_options
from model.training.options import TrainingOptions
from model.training.schedule import learning_rate
from model.training.state import RunFolder, seed_step, writing
from model.training.validation import SHOWN, Counts, Summary, measure, summarize, write_samples

_ENDLESS = 2**36
"""Batches of a training by the clock: more than any will see."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """What is to be trained, on what, and where to.

    Attributes:
        out: the runs folder.
        preset: of the network, before the options.
        options: of the training.
        training, validation: the two sides of the data, no source photo in both.
        data: what identifies the data, in JSON types; a training goes on with the same only.
        init: a model whose weights are the first ones.
    """

    out: Path
    preset: Preset
    options: TrainingOptions
    training: StreamLike
    validation: StreamLike
    data: dict[str, Any] = field(default_factory=dict)
    init: str | None = None


@dataclass(slots=True)
class Position:
    """Where a training is: with weights, average and optimizer, all that its next step depends on."""

    weights: LossWeights
    step: int = 0
    seconds: float = 0.0
    best_f1: float = -1.0
    validated_at: int = -1
    damaged: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a training ended.

    Attributes:
        step: steps done.
        best_f1: of the model in `best/`; -1: none was validated yet.
        interrupted: it was stopped, and the same command goes on.
        damaged: pictures that were skipped.
    """

    step: int
    best_f1: float
    interrupted: bool
    damaged: int


def train(task: Task, listener: Listener | None = None, stop: threading.Event | None = None) -> Outcome:
    """Train, or go on with, a network.

    Args:
        task: what to do.
        listener: is told what happens, in the main process only.
        stop: once set, the training saves and ends after the step in flight.

    Raises:
        TrainingError: see `model.training.errors`; the last checkpoint is whole.
        CheckpointError: `init` is missing, damaged or of another preset.
        BasesError: the preset stands on weights of others, which are not registered, damaged, or do not fit.
    """
    accelerator = make_accelerator(task.options)
    told: Listener = listener if listener is not None and accelerator.is_main_process else Silent()
    folder = RunFolder(task.out)
    preset = with_options(task.preset, task.options)
    source = inspect(task.init) if task.init is not None else None
    with folder.locked() if accelerator.is_main_process else contextlib.nullcontext():
        if accelerator.is_main_process:
            folder.open(_settings(task, preset, source, accelerator.num_processes))
        accelerator.wait_for_everyone()
        try:
            return _Trainer(task, preset, folder, accelerator, told, stop or threading.Event()).run()
        except torch.OutOfMemoryError as error:
            raise ResourcesError(
                f"Out of memory: {str(error).splitlines()[0]}",
                "A smaller --batch with more --accumulate, or --gradient-checkpointing. The last checkpoint is whole.",
            ) from error
        finally:
            told.ended()


def make_accelerator(options: TrainingOptions) -> Accelerator:
    """The accelerator for the options.

    Raises:
        OptionsError: fp16 without a GPU.
    """
    accelerator = Accelerator(
        mixed_precision=options.precision,
        cpu=options.device == "cpu",
        # The last blocks of the transformer, which no feature needs, never get a gradient.
        kwargs_handlers=[DistributedDataParallelKwargs(find_unused_parameters=True)],
    )
    if options.precision == "fp16" and accelerator.device.type == "cpu":
        raise OptionsError("--precision fp16 needs a GPU.", "On a CPU use bf16 or no.")
    return accelerator


def _settings(task: Task, preset: Preset, source: Checkpoint | None, processes: int) -> dict[str, Any]:
    return {
        "options": task.options.to_dict(),
        "preset": preset.to_dict(),
        "data": task.data,
        "init": source.digest if source is not None else None,
        "bases": find_base(preset).digests() if source is None and needs_bases(preset) else None,
        "processes": processes,
    }


class _Trainer:
    def __init__(
        self,
        task: Task,
        preset: Preset,
        folder: RunFolder,
        accelerator: Accelerator,
        listener: Listener,
        stop: threading.Event,
    ) -> None:
        self.task, self.options, self.folder = task, task.options, folder
        self.accelerator, self.listener, self.stop = accelerator, listener, stop
        self.rank, self.world = accelerator.process_index, accelerator.num_processes
        options = task.options
        self.model = prepare_network(preset, options, task.init).to(accelerator.device)
        self.parameters = [p for p in self.model.parameters() if p.requires_grad]
        self.average = Average(self.model, options.ema)
        optimizer = torch.optim.AdamW(parameter_groups(self.model, options.weight_decay), lr=options.lr, fused=True)
        # `network` computes (in mixed precision, on several GPUs); `model` holds the same parameters.
        self.network, self.optimizer = accelerator.prepare(self.model, optimizer)
        self.position = Position(LossWeights(options.bce_weight, options.dice_weight))
        self._restore(folder.load_state())
        self.feed = Feed(task.training, preset, options.batch, options.seed)
        self.checked = self._validation_batches(preset)
        self.started = time.monotonic()

    def run(self) -> Outcome:
        """Train until the end, or until stopped."""
        options, position = self.options, self.position
        before = position.seconds
        context = Log(self.folder, position.step, self.listener) if self.accelerator.is_main_process else None
        with context or contextlib.nullcontext() as log:
            self.log = log
            self._begin()
            supply = self._supply()
            interrupted = False
            while (progress := options.progress(position.step, position.seconds)) < 1:
                if interrupted := self._agreed_to_stop():
                    break
                row = self._step(supply, learning_rate(options.lr, progress, options.warmup))
                position.seconds = self._agreed_seconds(before + time.monotonic() - self.started)
                self._write(row | {"seconds": round(position.seconds, 2)})
                self.listener.stepped(row | {"seconds": position.seconds})
                if position.step % options.validate_every == 0:
                    self._validate()
                if position.step % options.save_every == 0:
                    self._save()
            if interrupted:
                self._save()
            else:
                self._conclude()
        return Outcome(position.step, position.best_f1, interrupted, sum(position.damaged.values()))

    def _begin(self) -> None:
        position, options = self.position, self.options
        if position.step:
            self._write({"kind": "resumed", "step": position.step, "seconds": round(position.seconds, 2)})
            self.listener.told(f"Going on from step {position.step}.")
        else:
            for name in sorted({name for batch in self.checked for name in batch.damaged}):
                self._write({"kind": "damaged", "step": 0, "side": "validation", "picture": name})
        learn, everything = count_parameters(self.model)
        self.listener.told(f"{learn:,} of {everything:,} parameters learn, on {self.accelerator.device}.")
        for name, branch, how in (
            ("SD3", self.model.sd3, self.model.preset.adapt_sd3),
            ("SAM", self.model.sam, self.model.preset.adapt_sam),
        ):
            trained = self.task.init is not None or needs_bases(self.model.preset)
            if branch is not None and how != "full" and not trained:
                self.listener.told(f"The {name} branch is {how} on random weights: give --init for trained ones.")
        if options.steps is not None:
            self.listener.started(options.steps, position.step, "steps")
        else:
            self.listener.started(math.ceil(60 * (options.minutes or 0)), int(position.seconds), "seconds")

    def _supply(self) -> Iterator[FeedBatch]:
        """The batches from this step on; each process has every `world`-th one."""
        a_step = self.options.accumulate * self.world
        end = self.options.steps * a_step if self.options.steps is not None else _ENDLESS
        indexes = range(self.position.step * a_step + self.rank, end, self.world)
        return batches(self.feed, indexes, self.options.workers, pin_memory=self.accelerator.device.type == "cuda")

    def _next(self, supply: Iterator[FeedBatch]) -> FeedBatch:
        try:
            batch = next(supply)
        except RuntimeError as error:
            if "DataLoader worker" not in str(error):
                raise
            raise ResourcesError(
                "A process that makes batches died; the machine may have run out of memory.",
                "Use fewer --workers. The same command goes on from the last checkpoint.",
            ) from error
        for name in batch.damaged:
            known = self.position.damaged
            known[name] = known.get(name, 0) + 1
            if known[name] == 1:
                self._write({"kind": "damaged", "step": self.position.step + 1, "side": "training", "picture": name})
        if batch.problem:
            raise OptionsError(f"Nothing to learn from: {batch.problem}.", "Look at the data with --dry-run.")
        return batch

    def _step(self, supply: Iterator[FeedBatch], rate: float) -> Row:
        """One step of the optimizer over `accumulate` batches; returns its row of the log."""
        options, position, weights = self.options, self.position, self.position.weights
        seed_step(options.seed, position.step, self.rank)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        losses, images, waited = [], 0, 0.0
        for part in range(options.accumulate):
            asked = time.monotonic()
            batch = self._next(supply)
            waited += time.monotonic() - asked
            last = part == options.accumulate - 1
            with contextlib.nullcontext() if last else self.accelerator.no_sync(self.network):
                logits = self.network(*batch.to(self.accelerator.device))
                target = batch.masks.to(logits.device).float()
                bce, dice = bce_loss(logits.float(), target), dice_loss(logits.float(), target)
                loss = weights.bce * bce + weights.dice * dice
                losses.append(self._finite(torch.stack([loss, bce, dice]).detach(), batch))
                images += len(batch.images)
                self.accelerator.backward(loss / options.accumulate)
        norm = self.accelerator.clip_grad_norm_(self.parameters, options.clip)
        if self.accelerator.scaler is None:  # that of fp16 leaves steps with infinite gradients out by itself
            self._finite(norm.detach().reshape(1), batch, "the gradient's norm")
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        position.step += 1
        self.average.update(position.step)
        mean = torch.stack(losses).mean(0).tolist()
        row: Row = {"kind": "step", "step": position.step, "loss": mean[0], "bce": mean[1], "dice": mean[2]}
        row |= {"lr": rate, "gradient": float(norm), "bce_weight": weights.bce, "dice_weight": weights.dice}
        return row | {"images": images * self.world, "waited": round(waited, 3)}

    def _finite(self, values: Tensor, batch: FeedBatch, what: str = "the loss") -> Tensor:
        """The mean of the values over the processes, on the CPU.

        Raises:
            NotFiniteError: NaN or infinite in any process, which has saved its batch.
        """
        gathered = self.accelerator.gather(values[None]).float().cpu()
        if bool(torch.isfinite(gathered).all()):
            mean: Tensor = gathered.mean(0)
            return mean
        saved = self.folder.path / f"not-finite-step-{self.position.step + 1}-process-{self.rank}.pt"
        if not bool(torch.isfinite(values).all()):
            tensors = {"images": batch.images, "masks": batch.masks, "noise": batch.noise, "matches": batch.matches}
            context = {"batch": batch.number, "seed": self.options.seed, "step": self.position.step + 1}
            with writing(saved):
                torch.save(tensors | context | {"values": values.cpu()}, saved)
        raise NotFiniteError(
            f"In step {self.position.step + 1}, batch {batch.number}, {what} is {float(values[0])}.",
            f"The batch is saved as {saved}; the last checkpoint is whole. A lower --lr, --precision no, or "
            "a lower --clip may help, in another --out with --init.",
        )

    def _validation_batches(self, preset: Preset) -> list[FeedBatch]:
        """This process's part of the validation, made once and kept."""
        options = self.options
        feed = Feed(self.task.validation, preset, options.batch, options.seed)
        count, pictures = 0, 0
        while pictures < options.validation_samples:
            pictures += feed.count(count)
            count += 1
        made = list(batches(feed, range(self.rank, count, self.world), options.workers))
        problems = [batch.problem for batch in made if batch.problem]
        if problems:
            raise OptionsError(f"Nothing to validate on: {problems[0]}.", "Look at the data with --dry-run.")
        forged = sum(int(batch.masks.flatten(1).any(1).sum()) for batch in made)
        if sum(gather_object([forged])) == 0:
            raise OptionsError(
                f"None of the {pictures} validation samples is forged.",
                "Give the mix a source of forged pictures, or raise its validation share.",
            )
        return made

    def _validate(self) -> None:
        """Measure the averaged weights, keep them if they are the best, move the loss weights."""
        options, position = self.options, self.position
        shown = SHOWN if self.accelerator.is_main_process else 0
        with self.average.applied():
            counts, maps = measure(self.network, self.checked, self.accelerator.device, shown)
            everyone: list[Counts] = gather_object(counts)
            summary = summarize(everyone)
            best = summary.f1 > position.best_f1
            if best:
                position.best_f1 = summary.f1
                self._keep(self.folder.best, summary)
        position.weights = position.weights.after(summary.precision, summary.recall, options.weights_rate)
        position.validated_at = position.step
        row: Row = {"kind": "validation", "step": position.step} | asdict(summary) | {"best": best}
        row |= {"bce_weight": position.weights.bce, "dice_weight": position.weights.dice}
        self._write(row)
        self.listener.validated(row)
        if self.accelerator.is_main_process and maps:
            sheet = self.folder.samples / f"step-{position.step:07d}.png"
            with writing(sheet):
                write_samples(sheet, self.checked, maps)

    def _keep(self, folder: Path, summary: Summary | None) -> None:
        """Write the model as it is now, in the form that `clue scan --model` reads."""
        if not self.accelerator.is_main_process:
            return
        training: dict[str, Any] = {"command": "clue train", "step": self.position.step}
        training |= {"minutes": round(self.position.seconds / 60, 2), "options": self.options.to_dict()}
        training |= {"data": self.task.data}
        if summary is not None:
            training["validation"] = {k: None if v != v else v for k, v in asdict(summary).items()}
        with writing(folder):
            save(folder, self.model, Calibration(), training)

    def _conclude(self) -> None:
        """The end: a last validation, the last weights, the calibration."""
        position = self.position
        if position.validated_at != position.step:
            self._validate()
        self._save()
        with self.average.applied():
            self._keep(self.folder.last, None)
        if self.accelerator.is_main_process:
            for kept in (self.folder.best, self.folder.last):
                with writing(kept):
                    finish(kept)
        self._write({"kind": "finished", "step": position.step, "best_f1": position.best_f1})
        self.accelerator.wait_for_everyone()

    def _save(self) -> None:
        """Replace the state on the disk by that of now."""
        if self.accelerator.is_main_process:
            position, scaler = self.position, self.accelerator.scaler
            self.folder.save_state(
                {
                    "model": self.model.state_dict(),
                    "average": self.average.tensors,
                    "optimizer": self.optimizer.state_dict(),
                    "scaler": scaler.state_dict() if scaler is not None else {},
                    "position": asdict(position),
                }
            )
        self.accelerator.wait_for_everyone()

    def _restore(self, state: dict[str, Any] | None) -> None:
        if state is None:
            return
        self.model.load_state_dict(state["model"])
        self.average.load(state["average"])
        self.optimizer.load_state_dict(state["optimizer"])
        if self.accelerator.scaler is not None:
            self.accelerator.scaler.load_state_dict(state["scaler"])
        self.position = Position(**(state["position"] | {"weights": LossWeights(**state["position"]["weights"])}))

    def _agreed_to_stop(self) -> bool:
        """Whether any process was asked to stop: all of them have to, or one would wait for another for ever."""
        if self.world == 1:
            return self.stop.is_set()
        return any(gather_object([self.stop.is_set()]))

    def _agreed_seconds(self, seconds: float) -> float:
        return seconds if self.world == 1 else max(gather_object([seconds]))

    def _write(self, row: Row) -> None:
        if self.log is not None:
            self.log.write(row)
