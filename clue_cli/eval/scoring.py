"""What one method makes of one picture: a heatmap, its figures, and what went wrong."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from clue_cli.eval.measurements import Measurement, pixel_curve
from clue_cli.eval.methods import SCORE_CELLS, Method
from clue_cli.eval.pictures import Pictures
from clue_cli.eval.predictions import PredictionFolder
from clue_cli.eval.sets import ChosenSet
from model.calibration import Calibration, image_score
from model.data.attacks import Attack
from model.datasets.sample import Kind, Problem, Sample
from model.evaluation import Ground, ImageRow, measure
from model.images.maps import Map, is_finite, to_size
from model.images.pixels import DamagedFileError, Pixels
from model.prediction import Prediction
from model.verdict import judge


@dataclass(frozen=True, slots=True)
class Shot:
    """One image under one attack, and the methods that are still to be measured on it.

    Attributes:
        pixels: H×W×3 uint8, as stored, attacked; None if they could not be had.
        ground: header and ground truth, the same under every attack.
        native: height and width before the attack.
        problem: why there are no pixels.
    """

    chosen: ChosenSet
    entry: Sample
    image: str
    attack: Attack
    methods: tuple[Method, ...]
    pixels: Pixels | None
    ground: Ground
    native: tuple[int, int] = (0, 0)
    problem: Problem | None = None
    cost: int = 0

    @property
    def for_network(self) -> Pixels | None:
        """The pixels, if the network is to be measured on them."""
        return self.pixels if any(method.kind == "network" for method in self.methods) else None


def measure_shot(
    shot: Shot,
    method: Method,
    prediction: Prediction[Shot] | None,
    pictures: Pictures,
    *,
    calibration: Calibration | None = None,
    folder: PredictionFolder | None = None,
) -> Measurement:
    """The figures of one method; what went wrong is named in their row, and never raised.

    Args:
        prediction: of the network; None if it did not run.
        pictures: reads the maps of `folder`.
        calibration: of the network; needed where it ran.
        folder: predictions for the shot's set; needed by the method that measures them.
    """
    if method.kind == "predictions":
        assert folder is not None
        found = _prediction(shot, folder, pictures)
    else:
        found = _figures(shot, method, prediction, calibration)
    return replace(found, inverted=shot.ground.inverted)


def _figures(
    shot: Shot, method: Method, prediction: Prediction[Shot] | None, calibration: Calibration | None
) -> Measurement:
    pixels = shot.pixels
    if method.kind == "probe":
        row = _row(shot, None)
        about = ImageRow(row.key, row.forged, row.manipulation, row.format, row.width, row.height)
        header = shot.ground.header
        return Measurement(about, signature=header.signature if header else "")
    if not method.sees_pixels:
        function = method.function
        if function is None or shot.native == (0, 0):
            return _failed(shot)
        return _scored(shot, function(np.broadcast_to(np.uint8(0), (*shot.native, 3))), shot.native)
    if pixels is None or (method.kind == "network" and prediction is None):
        return _failed(shot)
    if method.function is not None:
        return _scored(shot, method.function(pixels), pixels.shape[:2], curve=True)
    assert prediction is not None and calibration is not None
    heatmap = prediction.heatmap
    said: dict[str, Any] = {}
    with suppress(ValueError):  # not finite: `measure` says so
        finding = judge(pixels, heatmap, prediction.features, calibration)
        megapixels = pixels.shape[0] * pixels.shape[1] / 1e6
        covered = calibration.of(prediction.features).covers(megapixels)
        said = {
            "score": finding.score,
            "probability": calibration.p_forged(finding.score) if covered else None,
            "decided": finding.verdict == "forged",
            "verdict": finding.verdict,
        }
    return _with_curve(_row(shot, heatmap, seen=pixels.shape[:2], **said), shot, heatmap)


def _prediction(shot: Shot, folder: PredictionFolder, pictures: Pictures) -> Measurement:
    path, why = folder.find(shot.entry)
    if path is None:
        row = _row(shot, None)
        if why:
            row = _replaced(row, Problem(Kind.MAP_MISSING, shot.entry.key, why))
        return Measurement(row)
    try:
        values = pictures.map(path)
    except DamagedFileError as error:
        return Measurement(_replaced(_row(shot, None), Problem(Kind.MAP_UNREADABLE, shot.entry.key, str(error))))
    return _scored(shot, values, shot.native if shot.native != (0, 0) else None, curve=True)


def _row(shot: Shot, heatmap: Map | None, **said: Any) -> ImageRow:
    return measure(shot.entry, heatmap, known=shot.ground, **said)


def _scored(shot: Shot, values: Map, seen: tuple[int, int] | None, *, curve: bool = False) -> Measurement:
    """A map that comes without an image-level score: see `methods.SCORE_CELLS`."""
    said: dict[str, Any] = {}
    if values.ndim == 2 and values.size and is_finite(values):
        score = image_score(values, SCORE_CELLS)
        said = {"score": score, "decided": score > 0.5}
    row = _row(shot, values, seen=seen, **said)
    if any(problem.kind is Kind.MAP_OUT_OF_RANGE for problem in row.problems):
        row = replace(row, score=None, decided=None)
    return _with_curve(row, shot, values) if curve else Measurement(row)


def _with_curve(row: ImageRow, shot: Shot, heatmap: Map) -> Measurement:
    truth = shot.ground.truth
    if row.f1 is None or truth is None:
        return Measurement(row)
    return Measurement(row, pixel_curve(to_size(heatmap, *truth.shape), truth))


def _failed(shot: Shot) -> Measurement:
    """No map, because there were no pixels, or no memory for them."""
    problem = shot.problem or Problem(Kind.IMAGE_UNREADABLE, shot.entry.key)
    return Measurement(_replaced(_row(shot, None), problem), failed=True)


def _replaced(row: ImageRow, problem: Problem) -> ImageRow:
    """The row with this problem in place of "prediction missing" and of what else was said of the same kind."""
    others = [p for p in row.problems if p.kind not in (Kind.MAP_MISSING, problem.kind)]
    return replace(row, problems=(*others, problem))
