"""The training of methods of the second question: adapters on a frozen base, in one process, with exact resume.

A step is a function of the state before it, the seed and its own number, so that a resumed training gives the losses of
one that was never interrupted. The run folder is that of `model.training.run_folder`; `best/` has the highest mean area
under the ROC curve over the generators of the validation, laundered photos apart; of equal ones the lower log loss.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from model.calibration import Calibration
from model.data.synthetic_mix import LAUNDERED, REAL
from model.data.synthetic_stream import Crop, SyntheticStream
from model.device import ran_out_of_memory
from model.evaluation.image_scores import accuracy, auc, average_precision
from model.reporter import SILENT, Reporter
from model.synthetic import KINDS, METHOD_FILE
from model.synthetic.learner import Inputs, Learner
from model.synthetic.options import SyntheticOptions
from model.training.errors import NotFiniteError, OptionsError, OtherSettingsError, ResourcesError
from model.training.feed import ATTEMPTS, FAR, batches
from model.training.finish import finish
from model.training.network import count_parameters
from model.training.run_folder import Log, Row, RunFolder, write_tensors, writing
from model.training.schedule import learning_rate
from model.training.steps import seed_step
from model.training.synthetic_calibration import NoCalibrationError, calibrated
from model.whole_file import whole_folder

Prepare = Callable[[threading.Event, Reporter], list[str]]


def make_learner(options: SyntheticOptions, device: torch.device) -> Learner:
    """The learner that the options ask for; its initial adapters are those of the seed.

    Raises:
        MethodError: the base is missing, damaged, or does not fit.
    """
    assert options.base is not None
    torch.manual_seed(options.seed)
    dtype = torch.bfloat16 if options.precision == "bf16" else torch.float32
    module = import_module(f"model.synthetic.{KINDS[options.kind]}")
    made: Learner = module.learner(options.base, options, str(device), dtype)
    return made


@dataclass(frozen=True, slots=True, kw_only=True)
class SyntheticTask:
    """What is to be trained, on what, and where to.

    Attributes:
        out: the run folder.
        training, validation: two sides of the data, no source photo in both.
        calibration: the third side, or why there is none.
        data: what identifies the data, in JSON types; a training resumes with the same data only.
        prepare: makes what the data needs, when the run folder is there; gives files that it could not read.
    """

    out: Path
    options: SyntheticOptions
    learner: Learner
    device: torch.device
    training: SyntheticStream
    validation: SyntheticStream
    calibration: SyntheticStream | str
    data: dict[str, Any] = field(default_factory=dict)
    prepare: Prepare | None = None


@dataclass(slots=True)
class SyntheticPosition:
    """Where a training is."""

    step: int = 0
    seconds: float = 0.0
    best_auc: float = -1.0
    best_log_loss: float = 0.0
    best_step: int = -1
    validated_at: int = -1
    damaged: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class SyntheticOutcome:
    """How a training ended; `best_auc` is that of `best/`, -1: none was validated yet."""

    step: int
    best_auc: float
    interrupted: bool
    damaged: int


class CropBatch(NamedTuple):
    """One batch: what the learner made of each crop, stacked, and B bool; `problem`: why it is empty."""

    number: int
    inputs: dict[str, Tensor]
    generated: Tensor
    damaged: list[str]
    problem: str = ""


class CropFeed(Dataset[CropBatch]):
    """The batches of a stream, as a learner takes them."""

    def __init__(self, stream: SyntheticStream, inputs: Inputs, batch: int) -> None:
        self.stream, self.inputs, self.batch = stream, inputs, batch

    def __getitem__(self, index: int) -> CropBatch:
        """Batch number `index`. One without a readable pair is replaced by another one from far away."""
        damaged: list[str] = []
        for attempt in range(ATTEMPTS):
            found = self.stream.batch(index + attempt * FAR, self.batch)
            damaged += found.damaged
            if found.samples:
                return CropBatch(index, *stacked(self.inputs, found.samples), damaged)
        problem = f"{ATTEMPTS} batches in a row had no readable pair; the last: {damaged[-1] if damaged else 'empty'}"
        return CropBatch(index, {}, torch.zeros(0, dtype=torch.bool), damaged, problem)


def stacked(inputs: Inputs, crops: Sequence[Crop]) -> tuple[dict[str, Tensor], Tensor]:
    """The inputs of crops, and their classes, B bool."""
    each = [inputs(crop.pixels) for crop in crops]
    return {name: torch.stack([one[name] for one in each]) for name in each[0]}, torch.tensor(
        [crop.generated for crop in crops]
    )


def train_synthetic(
    task: SyntheticTask, reporter: Reporter = SILENT, stop: threading.Event | None = None
) -> SyntheticOutcome:
    """Train a method, or resume its training.

    Raises:
        TrainingError: see `model.training.errors`; the last checkpoint is whole.
    """
    folder, stop = RunFolder(task.out, again=""), stop or threading.Event()
    with folder.locked():
        settings = {"task": "synthetic", "options": task.options.to_dict(), "crop": task.learner.crop}
        settings["base"] = task.learner.base_digest
        for kept in folder.open(settings | {"data": task.data}):
            reporter.note(f"{kept} is the earlier one again: the training was killed while it replaced it.")
        try:
            if task.prepare is not None:
                with writing(task.out):
                    damaged = task.prepare(stop, reporter)
                for line in damaged:
                    reporter.note(line, "warning")
            return _Trainer(task, folder, reporter, stop).run()
        except (MemoryError, RuntimeError) as error:
            if not ran_out_of_memory(error):
                raise
            raise ResourcesError(
                f"Out of memory: {next(iter(str(error).splitlines()), 'there was none left')}",
                "A smaller --batch with more --accumulate, or --precision bf16. The last checkpoint is whole.",
            ) from error
        finally:
            reporter.finish()


class _Trainer:
    def __init__(self, task: SyntheticTask, folder: RunFolder, reporter: Reporter, stop: threading.Event) -> None:
        self.task, self.options, self.learner, self.folder = task, task.options, task.learner, folder
        self.reporter, self.stop = reporter, stop
        self.steps = task.options.length(task.training.pictures)
        self.parameters = [p for p in self.learner.network.parameters() if p.requires_grad]
        adam = torch.optim.Adam if task.options.optimizer == "adam" else torch.optim.AdamW
        self.optimizer = adam(self.parameters, lr=task.options.lr, weight_decay=task.options.weight_decay)
        self.position = SyntheticPosition()
        self._restore(folder.load_state())
        self.checked: list[Crop] = []

    def run(self) -> SyntheticOutcome:
        """Train until the end, or until stopped."""
        options, position = self.options, self.position
        before, started = position.seconds, time.monotonic()
        with Log(self.folder, position.step, self.reporter) as self.log:
            if self.stop.is_set():
                return self._outcome(True)
            self._begin()
            supply = self._supply()
            interrupted = False
            while position.step < self.steps:
                if interrupted := self.stop.is_set():
                    break
                row = self._step(supply)
                position.seconds = before + time.monotonic() - started
                self.log.write(row | {"seconds": round(position.seconds, 2)})
                self.reporter.advance(1, f"loss {row['loss']:.4f}")
                if position.step % options.validate_every == 0:
                    self._validate()
                if position.step % options.save_every == 0:
                    self._save()
            if interrupted:
                self._save()
            else:
                interrupted = self._conclude()
        return self._outcome(interrupted)

    def _outcome(self, interrupted: bool) -> SyntheticOutcome:
        position = self.position
        return SyntheticOutcome(position.step, position.best_auc, interrupted, sum(position.damaged.values()))

    def _begin(self) -> None:
        position = self.position
        if position.step:
            self.log.write({"kind": "resumed", "step": position.step, "seconds": round(position.seconds, 2)})
            self.reporter.note(f"Going on from step {position.step}.")
        self.checked = validation_crops(self.task.validation, self.options)
        if not {crop.generated for crop in self.checked} == {False, True}:
            raise OptionsError("The validation has no readable pair of pictures.", "Look at the data with --dry-run.")
        learn, everything = count_parameters(self.learner.network)
        self.reporter.note(f"{learn:,} of {everything:,} parameters learn, on {self.task.device}.")
        if problem := self._no_calibration():
            self.reporter.note(
                f"The method will be uncalibrated, and every verdict inconclusive: {problem}.", "warning"
            )
        self.reporter.stage("", "steps", self.steps, done=position.step)

    def _no_calibration(self) -> str:
        if not self.options.calibration_samples:
            return "--calibration-samples is 0"
        return self.task.calibration if isinstance(self.task.calibration, str) else ""

    def _supply(self) -> Iterator[CropBatch]:
        accumulate = self.options.accumulate
        feed = CropFeed(self.task.training, self.learner.inputs, self.options.batch)
        indexes = range(self.position.step * accumulate, self.steps * accumulate)
        return batches(feed, indexes, self.options.workers, pin_memory=self.task.device.type == "cuda")

    def _step(self, supply: Iterator[CropBatch]) -> Row:
        """One step of the optimizer over `accumulate` batches; returns its row of the log."""
        options, position = self.options, self.position
        seed_step(options.seed, position.step, 0)
        rate = _rate(options, position.step / self.steps)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.learner.network.train()
        total, crops = 0.0, 0
        for _ in range(options.accumulate):
            batch = next(supply)
            self._count(batch.damaged)
            if batch.problem:
                raise OptionsError(f"Nothing to learn from: {batch.problem}.", "Look at the data with --dry-run.")
            with self._mixed():
                loss = self.learner.loss(self._on_device(batch.inputs), batch.generated.to(self.task.device))
            total += self._finite(loss.detach(), batch)
            crops += len(batch.generated)
            (loss / options.accumulate).backward()  # type: ignore[no-untyped-call]
        norm = torch.nn.utils.clip_grad_norm_(self.parameters, options.clip or float("inf"))
        self._finite(norm, batch, "the gradient's norm")
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        position.step += 1
        row: Row = {"kind": "step", "step": position.step, "loss": total / options.accumulate, "lr": rate}
        return row | {"gradient": float(norm), "images": crops}

    def _count(self, damaged: list[str]) -> None:
        known = self.position.damaged
        for name in damaged:
            if name not in known:
                row: Row = {"kind": "damaged", "step": self.position.step + 1, "side": "training", "picture": name}
                self.log.write(row)
            known[name] = known.get(name, 0) + 1

    def _on_device(self, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
        return {name: tensor.to(self.task.device, non_blocking=True) for name, tensor in inputs.items()}

    def _mixed(self) -> contextlib.AbstractContextManager[Any]:
        if self.options.precision == "no":
            return contextlib.nullcontext()
        return torch.autocast(self.task.device.type, torch.bfloat16)

    def _finite(self, value: Tensor, batch: CropBatch, what: str = "the loss") -> float:
        """The value.

        Raises:
            NotFiniteError: it is NaN or infinite; the batch is saved.
        """
        number = float(value)
        if np.isfinite(number):
            return number
        step = self.position.step + 1
        saved, kept = self.folder.path / f"not-finite-step-{step}.pt", ""
        try:
            write_tensors(saved, {"inputs": batch.inputs, "generated": batch.generated, "batch": batch.number})
            kept = f"The batch is saved as {saved}"
        except OSError as error:
            kept = f"The batch could not be saved ({error.strerror or error})"
        raise NotFiniteError(
            f"In step {step}, batch {batch.number}, {what} is {number}.",
            f"{kept}; the last checkpoint is whole. A lower lr or clip (--set lr=1e-5) or --precision no may help, in "
            "another --out.",
        )

    def _validate(self) -> None:
        position = self.position
        scores = self._scores(self.checked)
        found = figures(scores, self.checked)
        position.validated_at = position.step
        value, log_loss = found["mean_auc"], found["log_loss"]
        best = (value, -log_loss) > (position.best_auc, -position.best_log_loss)
        row: Row = {"kind": "validation", "step": position.step} | found | {"best": best}
        if best:
            position.best_auc, position.best_log_loss, position.best_step = value, log_loss, position.step
            self._keep(self.folder.best, row)
        self.log.write(row)
        each = ", ".join(f"{name} {one['auc']:.3f}" for name, one in found["by_generator"].items())
        self.reporter.note(f"Step {position.step}: AUC {value:.4f} ({each}), {found['n']} crops.")

    def _scores(self, crops: Sequence[Crop]) -> np.ndarray[Any, np.dtype[np.float64]]:
        self.learner.network.eval()
        found = []
        with torch.inference_mode(), self._mixed():
            for start in range(0, len(crops), self.options.batch):
                inputs, _ = stacked(self.learner.inputs, crops[start : start + self.options.batch])
                found.append(self.learner.scores(self._on_device(inputs)).double().cpu().numpy())
        scores = np.concatenate(found)
        if not np.isfinite(scores).all():
            raise NotFiniteError(f"In the validation at step {self.position.step} a score is not finite.", "Lower lr.")
        return scores

    def _keep(self, folder: Path, row: Row | None) -> None:
        """Write the method as it is now."""
        training: dict[str, Any] = {"command": "clue train --task synthetic", "step": self.position.step}
        training |= {"options": self.options.to_dict(), "data": self.task.data}
        training["generators"] = [name for name in self.task.training.generators if name != LAUNDERED]
        training["laundered"] = LAUNDERED in self.task.training.generators
        training["no_confidence"] = "the training was not over"
        if row is not None:
            training["validation"] = {name: value for name, value in row.items() if name not in ("kind", "best")}
        with writing(folder), whole_folder(folder) as part:
            self.learner.save(part, Calibration(), training)

    def _conclude(self) -> bool:
        """The end: a last validation, the last weights, the calibration. Returns whether that was interrupted."""
        position = self.position
        if position.validated_at != position.step:
            self._validate()
        self._save()
        self._keep(self.folder.last, None)
        if self.task.device.type == "cuda":  # pragma: no cover - needs a GPU
            self.optimizer.state.clear()  # all is saved, and the kept methods are loaded again to be calibrated
            self.learner.network.cpu()
            torch.cuda.empty_cache()
        same = position.best_step == position.step
        best, last = self.folder.best, self.folder.last
        for folders in [[last, best]] if same else [[last], [best]]:
            kept = [folder for folder in folders if (folder / METHOD_FILE).is_file()]
            row = self._calibrate(kept)
            if row is None:
                return True
            self.log.write({"kind": "calibrated", "step": position.step, "models": [f.name for f in kept]} | row)
        self.log.write({"kind": "finished", "step": position.step, "best_auc": position.best_auc})
        return False

    def _calibrate(self, folders: list[Path]) -> Row | None:
        """Fit threshold and confidence of identical kept methods; None: it was stopped."""
        calibration, problem, task = None, self._no_calibration(), self.task
        if folders and not problem and isinstance(task.calibration, SyntheticStream):
            names = " and ".join(folder.name for folder in folders)
            self.reporter.note(f"Fitting threshold and confidence of {names}.")
            try:
                most = self.options.calibration_samples
                calibration = calibrated(folders[0], task.calibration, most, task.device, self.stop, self.reporter)
            except NoCalibrationError as error:
                problem = str(error)
                self.reporter.note(f"Not calibrated, so that every verdict is inconclusive: {problem}.", "warning")
            if self.stop.is_set():
                return None
        for folder in folders:
            with writing(folder):
                finish(folder, calibration, problem, METHOD_FILE)
        return {"problem": problem} if calibration is None else dict(calibration.figures or {})

    def _save(self) -> None:
        self.folder.save_state(
            {
                "model": self.learner.stored(),
                "optimizer": self.optimizer.state_dict(),
                "position": asdict(self.position),
            }
        )

    def _restore(self, state: dict[str, Any] | None) -> None:
        if state is None:
            return
        try:
            self.learner.load_stored(state["model"])
            self.optimizer.load_state_dict(state["optimizer"])
            self.position = SyntheticPosition(**state["position"])
        except (AttributeError, KeyError, TypeError, ValueError, RuntimeError) as error:
            raise OtherSettingsError(
                f"{self.folder.state} does not fit this training: {str(error).splitlines()[0]}.",
                "Start again with another --out.",
            ) from error


def _rate(options: SyntheticOptions, progress: float) -> float:
    """The learning rate, where `progress` of the training is done."""
    if options.schedule == "cosine":
        return learning_rate(options.lr, progress, options.warmup)
    return learning_rate(options.lr, progress, options.warmup) if progress < options.warmup else options.lr


def validation_crops(stream: SyntheticStream, options: SyntheticOptions) -> list[Crop]:
    """The crops that a training is validated on, always the same."""
    count = options.validation_samples // 2 * 2
    whole, rest = divmod(count, options.batch)
    sizes = [options.batch] * whole + [rest] * bool(rest)
    return [crop for index, size in enumerate(sizes) for crop in stream.batch(index, size).samples]


def figures(scores: np.ndarray[Any, np.dtype[np.float64]], crops: Sequence[Crop]) -> dict[str, Any]:
    """Area under the ROC curve, average precision and accuracy at 0.5, of all and of each generator; log loss.

    Laundered photos count in their own row alone, unless there is nothing else.
    """
    groups = np.array([crop.group for crop in crops])
    made = np.array([crop.generated for crop in crops])
    names = sorted(set(groups[made]))

    def of(which: np.ndarray[Any, np.dtype[np.bool_]]) -> dict[str, Any]:
        own, truth, weight = scores[which], made[which], np.ones(int(which.sum()))
        found = {
            "auc": auc(own, truth, weight),
            "average_precision": average_precision(own, truth, weight),
            "accuracy": accuracy(own > 0.5, truth, weight),
        }
        return {name: round(float(value), 6) for name, value in found.items()} | {"n": len(own)}

    each = {str(name): of((groups == REAL) | (groups == name)) for name in names}
    judged = [name for name in each if name != LAUNDERED] or list(each)
    counted = (groups == REAL) | np.isin(groups, judged)
    likely = np.clip(np.where(made, scores, 1 - scores)[counted], 1e-7, 1)
    means = {
        "mean_auc": round(float(np.mean([each[name]["auc"] for name in judged])), 6),
        "log_loss": round(float(-np.log(likely).mean()), 6),
    }
    return of(counted) | means | {"by_generator": each}
