"""What is done once the training is over: the kept models get an operating point, if the recipe says so, and a score.

The operating point is what is added to all logits, and which weaker regions of a picture are marked. It is fitted on
untouched pictures of every kind and on forgeries of many, from photos that were neither trained nor validated on, so
that `> 0.5` marks as much of forgeries as it can with little on any kind of authentic picture.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import expit, logit

from model.calibration import Calibration, proportion_interval
from model.checkpoint import CONFIG_FILE, inspect
from model.clue import CLUE
from model.data.calibration_pictures import CalibrationPictures
from model.data.made_pictures import Made, MadePictures
from model.data.making import Finish
from model.data.mix import place
from model.device import ran_out_of_memory
from model.postprocess import complete
from model.predictor import Prediction, Predictor
from model.preset import EdgeSpec, LevelSpec, Preset, RegionSpec
from model.reporter import SILENT, Reporter
from model.score import SCREEN, image_features, kind_of
from model.storage import load, save
from model.training.calibrate import (
    FOLDS,
    NoCalibrationError,
    Scored,
    auc,
    calibration_of,
    fitted,
    look_at,
    scores,
    verdicts,
)
from model.training.run_folder import Row, writing
from model.training.task import Task
from model.whole_file import write_text

ALIKE = {"native": "camera", "recompressed": "web"}
"""Groups that count as one for the thresholds, which 1 in 100 of few pictures cannot set."""

Heatmap = NDArray[np.float32]


@dataclass(slots=True)
class Looked:
    """The output for one picture before any shift: logits, H×W float16; `as_found`: no region of it is changed."""

    made: Made
    logits: NDArray[np.float16]
    as_found: bool

    def heatmap(self, shift: float) -> Heatmap:
        """The heatmap with `shift` added to all logits."""
        found: Heatmap = expit(self.logits.astype(np.float32) + np.float32(shift))
        return found


def look_at_made(model: CLUE, pictures: Iterable[Made], stop: threading.Event, reporter: Reporter) -> list[Looked]:
    """Run a model over pictures; its heatmaps as they come. Fewer if `stop` is set."""
    preset, model.preset = (
        model.preset,
        replace(model.preset, level=LevelSpec(), edges=EdgeSpec(), regions=RegionSpec()),
    )

    def until_stopped() -> Iterator[tuple[Made, NDArray[np.uint8]]]:
        for made in pictures:
            if stop.is_set():
                return
            yield made, made.pixels

    looked: list[Looked] = []
    try:
        for result in Predictor(model).predict(until_stopped()):
            reporter.advance()
            if isinstance(result, Prediction):
                logits = logit(result.heatmap.clip(1e-6, 1 - 1e-6)).astype(np.float16)
                screen = kind_of(result.features) == SCREEN
                looked.append(Looked(result.key, logits, preset.screens_as_found and screen))
    finally:
        model.preset = preset
    return looked


def table(looked: Sequence[Looked], shift: float, regions: RegionSpec, preset: Preset) -> dict[str, float]:
    """Mean F1 of each group of forgeries, mean area marked of each of authentic pictures, and the mean F1 of groups."""
    f1: dict[str, list[float]] = {}
    area: dict[str, list[float]] = {}
    for one in looked:
        heatmap = one.heatmap(shift)
        if not one.as_found:
            complete(heatmap, one.made.pixels, preset.level, preset.edges, regions)
        marked, mask = heatmap > 0.5, one.made.mask
        if one.made.forged:
            both = 2 * float((marked & mask).sum()) / float(marked.sum() + mask.sum())
            f1.setdefault(one.made.group, []).append(both)
        else:
            area.setdefault(one.made.group, []).append(float(marked.mean()))
    out = {f"f1 {group}": float(np.mean(values)) for group, values in f1.items()}
    out |= {f"marked {group}": float(np.mean(values)) for group, values in area.items()}
    out["f1"] = float(np.mean([np.mean(values) for values in f1.values()]))
    out["marked"] = max(float(np.mean(values)) for values in area.values())
    return out


def chosen(
    looked: Sequence[Looked], finish: Finish, preset: Preset, reporter: Reporter = SILENT
) -> tuple[float, RegionSpec, dict[str, float]]:
    """The shift and the constants with the best F1 that mark little enough on every group of authentic pictures.

    Shifts are tried with the constants of the preset, by halves and then by quarters, on every third picture; then the
    constants, with the best shift. Returns what they give on all pictures, too.

    Raises:
        NoCalibrationError: no picture is forged, or none is authentic.
    """
    if len({one.made.forged for one in looked}) < 2:
        raise NoCalibrationError("the pictures to choose an operating point on are all of one kind")
    some = looked[:: 3 if len(looked) > 300 else 1]
    tried: dict[tuple[float, RegionSpec], dict[str, float]] = {}

    def best(shifts: Sequence[float], regions: Sequence[RegionSpec]) -> tuple[float, RegionSpec]:
        for pair in ((shift, one) for one in regions for shift in shifts):
            if pair not in tried:
                tried[pair] = table(some, *pair, preset)
            reporter.advance()
        allowed = [pair for pair, found in tried.items() if found["marked"] <= finish.marked]
        fewest = min(tried, key=lambda pair: tried[pair]["marked"])
        return max(allowed, key=lambda pair: tried[pair]["f1"]) if allowed else fewest

    reporter.stage("Choosing the operating point", "settings", len(finish.shifts) + len(finish.regions) + 3)
    shift, _ = best(finish.shifts, [preset.regions])
    shift, _ = best([shift - 0.25, shift + 0.25], [preset.regions])
    shift, found = best([shift], [RegionSpec(*pair) for pair in finish.regions])
    result = table(looked, shift, found, preset)
    reporter.advance()
    return shift, found, result


def shifted(model: CLUE, shift: float, regions: RegionSpec) -> None:
    """Give a model its operating point, in place; its bias is rounded as it is stored."""
    bias = model.localization.head[-1].get_parameter("bias")
    bias.data = (bias.data + shift).half().float()
    model.preset = replace(model.preset, regions=regions)


def scored_at(looked: Sequence[Looked], shift: float) -> tuple[Scored, NDArray[np.str_]]:
    """What the score is fitted on, and the group of each picture, n."""
    groups = np.array([one.made.group for one in looked])
    scored = Scored(
        features=np.array([image_features(one.heatmap(shift), one.made.pixels) for one in looked]),
        forged=np.array([one.made.forged for one in looked]),
        measures=np.array([one.made.half == 1 for one in looked]),
        megapixels=np.array([one.logits.size / 1e6 for one in looked]),
        groups=np.array([ALIKE.get(group, group) for group in groups]),
        folds=np.array([int(place(f"fold {one.made.source}") * FOLDS) for one in looked]),
    )
    return scored, groups


def across_halves(scored: Scored, groups: NDArray[np.str_]) -> dict[str, Any]:
    """Verdicts on each half by what was fitted on the other: of each group, forged and inconclusive; and AUC.

    Raises:
        NoCalibrationError: a half gives none.
    """
    found = np.zeros(len(groups), np.int64)
    score = np.zeros(len(groups))
    for own, other in ((scored.measures, ~scored.measures), (~scored.measures, scored.measures)):
        one = fitted(scored.part(other))
        score[own] = scores(one, scored.features[own])
        found[own] = verdicts(one, scored.features[own], score[own])
    out: dict[str, Any] = {}
    for group in np.unique(groups):
        for forged in (False, True):
            which = (groups == group) & (scored.forged == forged)
            if which.any():
                name = f"{group} {'forged' if forged else 'untouched'}"
                out[name] = {"forged": _share(found[which] == 2), "inconclusive": _share(found[which] == 1)}
        areas = [
            auc(score[own & scored.forged], score[own & ~scored.forged])
            for own in ((groups == group) & half for half in (scored.measures, ~scored.measures))
            if scored.forged[own].any() and not scored.forged[own].all()
        ]
        if areas:
            out[f"{group} auc"] = round(float(np.mean(areas)), 4)
    return out


def _share(hits: NDArray[np.bool_]) -> dict[str, Any]:
    """A proportion with its exact interval."""
    low, high = proportion_interval(int(hits.sum()), len(hits))
    return {"n": len(hits), "share": round(float(hits.mean()), 4), "interval": [round(low, 4), round(high, 4)]}


def no_calibration(task: Task) -> str:
    """Why the score cannot be fitted, in words; empty: it can."""
    if task.calibration is None:
        return "there are no pictures to fit it on"
    return task.calibration.problem if task.options.calibration_samples else "--calibration-samples is 0"


def calibrate_kept(
    folders: Sequence[Path], task: Task, device: str, reporter: Reporter, stop: threading.Event
) -> Row | None:
    """Fit the score of identical kept models, and store it beside each; or the reason why there is none.

    Args:
        folders: of the models. A missing one is skipped.
        task: the training.
        device: where the network runs.
        reporter: receives the events.
        stop: once set, calibration ends without a result.

    Returns:
        Its row of the log; None: it was stopped.

    Raises:
        CannotWriteError: the calibration cannot be stored; the models are as they were.
        CheckpointError: a model is damaged.
    """
    kept = [folder for folder in folders if (folder / CONFIG_FILE).is_file()]
    calibration, problem, more = None, no_calibration(task), Row()
    if kept and task.calibration is not None and not problem:
        reporter.note(f"Fitting the score of {' and '.join(folder.name for folder in kept)}.")
        try:
            if isinstance(task.calibration, MadePictures):
                recipe, samples = task.options.finish, task.options.calibration_samples
                assert recipe is not None
                calibration, more = operated(
                    kept, task.calibration, task.preset, recipe, samples, device, stop, reporter
                )
            else:
                calibration = calibrated(
                    kept[0], task.calibration, task.options.calibration_samples, device, stop, reporter
                )
        except NoCalibrationError as error:
            problem = str(error)
        except (MemoryError, RuntimeError) as error:
            if not ran_out_of_memory(error):
                raise
            problem = "there was no memory for it"
        if stop.is_set():
            return None
    if problem and problem != no_calibration(task):  # that was said at the beginning
        reporter.note(f"No confidence: {problem}.")
    for folder in kept:
        with writing(folder):
            finish(folder, calibration, problem)
    row: Row = {"models": [folder.name for folder in kept]} | more
    return row | ({"problem": problem} if calibration is None else calibration.figures or {})


def calibrated(
    folder: Path, pictures: CalibrationPictures, count: int, device: str, stop: threading.Event, reporter: Reporter
) -> Calibration | None:
    """The calibration of a kept model, as it lies on the disk, rounded weights and all.

    Args:
        folder: of the model.
        pictures: to fit and to measure on.
        count: how many, at most.
        device: where the network runs.
        stop: once set, calibration ends without a result.
        reporter: receives the number of pictures looked at.

    Returns:
        None: it was stopped.

    Raises:
        NoCalibrationError: the pictures give none.
        CheckpointError: the model is damaged.
    """
    if pictures.problem:
        raise NoCalibrationError(pictures.problem)
    model = load(inspect(str(folder)), device, torch.float32)
    reporter.stage("Measuring calibration pictures", "pictures", count)
    scored = look_at(model, pictures.pictures(count), stop, reporter)
    if stop.is_set():
        return None
    calibration = calibration_of(
        scored, "held-out-photos-of-the-mix", "pictures from photos that were neither trained nor validated on"
    )
    return replace(calibration, figures=(calibration.figures or {}) | {"photos": float(pictures.photos)})


def operated(
    folders: Sequence[Path],
    pictures: MadePictures,
    preset: Preset,
    recipe: Finish,
    samples: int,
    device: str,
    stop: threading.Event,
    reporter: Reporter,
) -> tuple[Calibration | None, Row]:
    """Give identical kept models their operating point, and calibrate them there.

    An operating point from an earlier, stopped attempt is replaced.

    Args:
        folders: of the models.
        pictures: to fit on.
        preset: of the models, before they had one.
        recipe: how many pictures of each kind are made, and which settings are tried.
        samples: of these pictures, at most.
        device: where the network runs.
        stop: once set, it ends without a result.
        reporter: receives the events.

    Returns:
        The calibration (None: it was stopped), and what the log says of the operating point.

    Raises:
        NoCalibrationError: the pictures give no calibration; the models may have their operating point.
        CannotWriteError: a model cannot be stored; it is as it was.
    """
    scale = min(1.0, samples / max(1, sum(recipe.counts.values())))
    counts = {str(group): round(count * scale) for group, count in recipe.counts.items()}
    checkpoint = inspect(str(folders[0]))
    model = load(checkpoint, device, torch.float32)
    shifted(model, -float(checkpoint.training.get("logit_shift", 0.0)), preset.regions)
    reporter.stage("Measuring calibration pictures", "pictures", pictures.most(counts))
    looked = look_at_made(model, pictures.made(recipe.seed, counts, 0), stop, reporter)
    if stop.is_set():
        return None, {}
    shift, regions, pixels = chosen(looked, recipe, preset, reporter)
    shifted(model, shift, regions)
    for folder in folders:
        training = inspect(str(folder)).training | {"logit_shift": shift}
        with writing(folder):
            save(folder, model, Calibration(), training, as_one=True)
    scored, groups = scored_at(looked, shift)
    calibration = calibration_of(
        scored,
        "held-out-photos-of-the-mix",
        "untouched and made pictures from photos that were neither trained nor validated on",
    )
    row: Row = {"logit_shift": shift, "regions": asdict(regions), "across_halves": across_halves(scored, groups)}
    row["pixels"] = {name: round(value, 4) for name, value in pixels.items()}
    figures = (calibration.figures or {}) | {"photos": float(pictures.photos)}
    return replace(calibration, figures=figures), row


def finish(folder: Path, calibration: Calibration | None = None, problem: str = "", name: str = CONFIG_FILE) -> None:
    """Store the calibration of a model, or of a method of the second question, beside its weights.

    Args:
        folder: of a model, as `model.storage.save` writes it.
        calibration: fitted on pictures that were neither trained nor tested on; None: the defaults, which give no
            confidence.
        problem: why there is none, in words; it is part of what the model says of its training.
        name: of the file that describes it.

    Raises:
        OSError: the folder cannot be written; the model is as it was.
    """
    config = json.loads((folder / name).read_text("utf-8"))
    config["calibration"] = (calibration or Calibration()).to_dict()
    config["training"].pop("no_confidence", None)
    if calibration is None and problem:
        config["training"]["no_confidence"] = problem
    text = json.dumps(config, indent=1, ensure_ascii=False) + "\n"
    write_text(folder / name, text)
