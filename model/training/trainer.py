"""The training loop: AdamW, warm-up and cosine, accumulation, an average of the weights, exact resume; accelerate.

One CPU, one GPU, or several through `accelerate launch`; several processes on CPUs through `torchrun`. A step is a
function of the state before it, the seed and its own number, so that a resumed training gives the losses of
one that was never interrupted.
"""

from __future__ import annotations

import contextlib
import math
import threading
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import gather_object

from model.branches import BRANCHES, from_scratch
from model.branches.sam_network import replace_attention
from model.calibration import Calibration
from model.checkpoint import inspect
from model.device import ran_out_of_memory
from model.evaluation.pixel_scores import Counts
from model.preset import Preset
from model.reporter import SILENT, Reporter
from model.storage import save
from model.training.errors import OtherSettingsError, ResourcesError
from model.training.feed import Feed
from model.training.finish import calibrate_kept, no_calibration
from model.training.launch import make_accelerator, overruled, recorded, settings
from model.training.network import (
    compile_parts,
    compiling,
    count_parameters,
    frozen_format,
    parameter_groups,
    prepare_network,
    stored_weights,
    with_options,
)
from model.training.queries import QUERIES, Queries
from model.training.run_folder import Log, Row, RunFolder, writing
from model.training.schedule import Average, LossWeights, learning_rate
from model.training.steps import Steps, StepStatus
from model.training.task import Outcome, Position, Task
from model.training.validation import (
    SHOWN,
    Summary,
    by_source,
    fixed_batches,
    measure,
    summarize,
    validation_line,
    write_samples,
)


def train(task: Task, reporter: Reporter = SILENT, stop: threading.Event | None = None) -> Outcome:
    """Train a network, or resume its training.

    Args:
        task: what to do.
        reporter: receives the events, in the main process only.
        stop: once set, the training saves and ends after the step in flight.

    Raises:
        TrainingError: see `model.training.errors`; the last checkpoint is whole.
        CheckpointError: `init` is missing, damaged or of another preset.
        BasesError: the preset needs base weights, which are not registered, damaged, or do not fit.
    """
    accelerator = make_accelerator(task.options)
    if not accelerator.is_main_process:
        reporter = SILENT
    folder = RunFolder(task.out)
    preset = with_options(task.preset, task.options)
    source = inspect(task.init) if task.init is not None else None
    for line in [*overruled(task.options), *([source.note] if source is not None and source.note else [])]:
        reporter.note(line)
    with folder.locked() if accelerator.is_main_process else contextlib.nullcontext():
        if accelerator.is_main_process:
            for model in folder.open(settings(task, preset, source, accelerator.num_processes)):
                reporter.note(f"{model} is the earlier one again: the training was killed while it replaced it.")
        accelerator.wait_for_everyone()
        try:
            return _Trainer(task, preset, folder, accelerator, reporter, stop or threading.Event()).run()
        except (MemoryError, RuntimeError) as error:
            if not ran_out_of_memory(error):
                raise
            raise ResourcesError(
                f"Out of memory: {next(iter(str(error).splitlines()), 'there was none left')}",
                "The last checkpoint is whole. With gradient checkpointing, --set checkpoint_keeps=nothing goes on "
                "from it. In another --out: --gradient-checkpointing, or a smaller --batch with more --accumulate.",
            ) from error
        finally:
            reporter.finish()


class _Trainer:
    def __init__(
        self,
        task: Task,
        preset: Preset,
        folder: RunFolder,
        accelerator: Accelerator,
        reporter: Reporter,
        stop: threading.Event,
    ) -> None:
        self.task, self.options, self.folder = task, task.options, folder
        self.accelerator, self.reporter, self.stop = accelerator, reporter, stop
        self.rank, self.world = accelerator.process_index, accelerator.num_processes
        options = task.options
        frozen = frozen_format(options, accelerator.device)
        self.model = prepare_network(preset, options, task.init, frozen).to(accelerator.device)
        queries = self._queries() if options.queries else None
        # Random weights have no share in what is kept.
        self.average = Average(self.model, options.ema, options.start_share if task.init is not None else 0.0)
        recording = recorded(options, accelerator)
        rate = torch.tensor(options.lr, device=accelerator.device) if recording else options.lr
        groups = parameter_groups(self.model, options.weight_decay)
        optimizer = torch.optim.AdamW(groups, lr=rate, fused=True, capturable=recording)
        if recording:
            if "sam" in self.model.networks:
                replace_attention(self.model.get_submodule("sam.encoder"))  # the stock one copies indexes from the CPU
            torch.backends.cudnn.benchmark = True
        if options.compile:
            compile_parts(self.model)
        # `network` computes (in mixed precision, on several GPUs); `model` holds the same parameters.
        self.network, self.optimizer = accelerator.prepare(self.model, optimizer)
        self.position = Position(LossWeights(options.bce_weight, options.dice_weight))
        self._restore(folder.load_state())
        feed = Feed(task.training, preset, options.batch, options.seed, options.without_matches, options.queries)
        self.steps = Steps(
            self.network, self.optimizer, feed, options, self.position, folder, accelerator, self._write, queries
        )
        checked = Feed(task.validation, preset, options.batch, options.seed)
        self.checked = fixed_batches(checked, options, accelerator, reporter)
        reporter.finish()
        self.status, self.reported = StepStatus(), int(self.position.seconds)
        self.started = time.monotonic()

    def _queries(self) -> Queries:
        """The embeddings of the texts, which the first process computes."""
        queries = Queries(self.folder.path / QUERIES, self.task.texts, self.model)
        if self.accelerator.is_main_process:
            queries.prepare(self.reporter)
        self.accelerator.wait_for_everyone()
        return queries

    def run(self) -> Outcome:
        """Train until the end, or until stopped."""
        options, position = self.options, self.position
        before = position.seconds
        context = Log(self.folder, position.step, self.reporter) if self.accelerator.is_main_process else None
        with context or contextlib.nullcontext() as log, compiling(options):
            self.log = log
            self._begin()
            if self.task.init is not None and not position.step:
                self._validate(initial=True)
            supply = self.steps.supply()
            interrupted = False
            while (progress := options.progress(position.step, position.seconds)) < 1:
                if interrupted := self._agreed_to_stop():
                    break
                row = self.steps.take(supply, learning_rate(options.lr, progress, options.warmup))
                self.average.update(position.step)
                position.seconds = self._agreed_seconds(before + time.monotonic() - self.started)
                self._write(row | {"seconds": round(position.seconds, 2)})
                self._report(self.status.after_step(row))
                if position.step % options.validate_every == 0:
                    self._validate()
                if position.step % options.save_every == 0:
                    self._save()
            if interrupted:
                self._save()
            else:
                interrupted = self._conclude()
        return Outcome(position.step, position.best_f1, interrupted, sum(position.damaged.values()))

    def _begin(self) -> None:
        position, options = self.position, self.options
        if position.step:
            self._write({"kind": "resumed", "step": position.step, "seconds": round(position.seconds, 2)})
            self.reporter.note(f"Going on from step {position.step}.")
        else:
            for name in sorted({name for batch in self.checked for name in batch.damaged}):
                self._write({"kind": "damaged", "step": 0, "side": "validation", "picture": name})
        learn, everything = count_parameters(self.model)
        processes = f" in {self.world} processes" if self.world > 1 else ""
        self.reporter.note(f"{learn:,} of {everything:,} parameters learn, on {self.accelerator.device}{processes}.")
        if problem := no_calibration(self.task):
            self.reporter.note(f"The models will state no confidence: {problem}.")
        if self.task.init is None and from_scratch(self.model.preset):
            for name in self.model.networks:
                if (how := self.model.preset.adapt(name)) != "full":
                    branch = f"{BRANCHES[name].title} branch"
                    self.reporter.note(f"The {branch} is {how} on random weights: give --init for trained ones.")
        if options.steps is not None:
            self.reporter.stage("", "steps", options.steps, done=position.step)
        else:
            self.reporter.stage("", "seconds", math.ceil(60 * (options.minutes or 0)), done=int(position.seconds))

    def _report(self, status: str) -> None:
        seconds = int(self.position.seconds)
        self.reporter.advance(1 if self.options.steps is not None else seconds - self.reported, status)
        self.reported = seconds

    def _validate(self, *, initial: bool = False) -> None:
        """Measure the averaged weights, keep them if they are the best, move the loss weights.

        Args:
            initial: only measure: these are the weights of `--init`.
        """
        options, position = self.options, self.position
        shown = SHOWN if self.accelerator.is_main_process else 0
        with self.average.applied():
            counts, maps = measure(self.network, self.checked, self.accelerator.device, shown)
            everyone: list[Counts] = gather_object(counts)
            sources: list[str] = gather_object([source for batch in self.checked for source in batch.sources])
            summary = summarize(everyone)
            best = not initial and summary.f1 > position.best_f1
            if best:
                position.best_f1, position.best_step = summary.f1, position.step
                self._keep(self.folder.best, summary)
        if not initial:
            position.weights = position.weights.after(summary.precision, summary.recall, options.weights_rate)
            position.validated_at = position.step
        row: Row = {"kind": "validation", "step": position.step} | asdict(summary) | {"best": best}
        row |= {"bce_weight": position.weights.bce, "dice_weight": position.weights.dice}
        if options.made is not None:
            row["by_source"] = by_source(everyone, sources)
        self._write(row)
        self.reporter.note(validation_line(row))
        self.reporter.advance(0, self.status.after_validation(row))
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
        training |= {"data": self.task.data, "no_confidence": "the training was not over"}
        if summary is not None:
            training["validation"] = {k: None if v != v else v for k, v in asdict(summary).items()}
        with writing(folder):
            save(folder, self.model, Calibration(), training, as_one=True)

    def _conclude(self) -> bool:
        """The end: a last validation, the last weights, the calibration. Returns whether that was interrupted."""
        position = self.position
        if position.validated_at != position.step:
            self._validate()
        self._save()
        with self.average.applied():
            self._keep(self.folder.last, None)
        self.accelerator.wait_for_everyone()
        if not self.accelerator.is_main_process:
            return False  # no process waits for the calibration: it may take longer than their timeout
        self._free()
        same = position.best_step == position.step
        groups = [[self.folder.last, self.folder.best]] if same else [[self.folder.last], [self.folder.best]]
        for folders in groups:
            row = calibrate_kept(folders, self.task, str(self.accelerator.device), self.reporter, self.stop)
            if row is None:
                return True
            self._write({"kind": "calibrated", "step": position.step} | row)
        self._write({"kind": "finished", "step": position.step, "best_f1": position.best_f1})
        return False

    def _free(self) -> None:
        """Free the GPU's memory: all is saved, and models are loaded again to be calibrated."""
        if self.accelerator.device.type == "cuda":  # pragma: no cover - needs a GPU
            self.optimizer.state.clear()
            self.model.cpu()
            torch.cuda.empty_cache()

    def _save(self) -> None:
        """Replace the saved state by the current one."""
        self.steps.share_damage()
        if self.accelerator.is_main_process:
            position, scaler = self.position, self.accelerator.scaler
            self.folder.save_state(
                {
                    "model": stored_weights(self.model),
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
        try:
            weights = {name: state["model"][name] for name in stored_weights(self.model)}
            self.model.load_state_dict(weights, strict=False)
            self.average.load(state["average"])
            self.optimizer.load_state_dict(state["optimizer"])
            for group in self.optimizer.param_groups:
                if isinstance(group["lr"], torch.Tensor):
                    group["lr"] = group["lr"].to(self.accelerator.device)
            if self.accelerator.scaler is not None:
                self.accelerator.scaler.load_state_dict(state["scaler"])
            self.position = Position(**(state["position"] | {"weights": LossWeights(**state["position"]["weights"])}))
        except (AttributeError, KeyError, TypeError, ValueError, RuntimeError) as error:
            raise OtherSettingsError(
                f"{self.folder.state} does not fit this training: {str(error).splitlines()[0]}.",
                "Start again with another --out, and --init for the best model so far.",
            ) from error

    def _agreed_to_stop(self) -> bool:
        """Whether any process was asked to stop: then all of them must, or one would wait for another forever."""
        if self.world == 1:
            return self.stop.is_set()
        return any(gather_object([self.stop.is_set()]))

    def _agreed_seconds(self, seconds: float) -> float:
        return seconds if self.world == 1 else max(gather_object([seconds]))

    def _write(self, row: Row) -> None:
        if self.log is not None:
            self.log.write(row)
