"""What each method makes of one image under one attack, and what is said where it can make nothing of it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy.special import expit

from clue_cli.eval.measurements import Measurement
from clue_cli.eval.methods import Method, baselines
from clue_cli.eval.pictures import Pictures
from clue_cli.eval.predictions import PredictionFolder
from clue_cli.eval.sets import ChosenSet
from clue_cli.eval.shot import Shot, measure_shot
from model.calibration import FEATURES, Calibration, OwnScore
from model.data.attacks import Attack
from model.datasets.sample import Kind, Problem
from model.evaluation import find_at, ground, read_pixels
from model.evaluation.maps import Map
from model.picture import SCREEN
from model.prediction import Prediction
from tests.clue_cli.eval.made import SIZE, truth, write_set

NETWORK = Method("network", "network")
OF_MAPS = Method("predictions", "predictions")
FITTED = Calibration(score_cells=2, fitted_on="some", fitted_megapixels=(0.01, 0.02))
WEIGHED = replace(FITTED, score_weights=(1.0,) * len(FEATURES) + (2.0,))
"""The features below are zero, those of any heatmap are not; zeros are a screen."""
ALL, _, _, ELA, PROBE = baselines()


@pytest.fixture(scope="module")
def pictures() -> Iterator[Pictures]:
    with Pictures(1, 1.0) as pictures:
        yield pictures


@pytest.fixture(scope="module")
def shot(tmp_path_factory: pytest.TempPathFactory) -> Shot:
    """The first forged image of a set, as it is."""
    found = find_at(write_set(tmp_path_factory.mktemp("set"), 1, 1))
    entry = next(entry for entry in found.samples if entry.forged)
    pixels, known = read_pixels(entry.image), ground(entry)
    return Shot(
        ChosenSet(found, tuple(found.samples)), entry, "0" * 64, Attack("none", ()), (), pixels, known, pixels.shape[:2]
    )


def kinds(measurement: Measurement) -> list[Kind]:
    return [problem.kind for problem in measurement.row.problems]


@pytest.mark.parametrize(
    ("calibration", "heatmap", "f1", "score", "probability", "wrong"),
    [
        (FITTED, truth(0) * 0.9, 1.0, 0.9, 0.9, []),
        (replace(FITTED, fitted_on=""), truth(0) * 0.9, 1.0, 0.9, None, []),
        (replace(FITTED, fitted_megapixels=(1.0, 2.0)), truth(0) * 0.9, 1.0, 0.9, None, []),
        (WEIGHED, truth(0) * 0.9, 1.0, expit(2), expit(2), []),
        (replace(FITTED, kinds={SCREEN: OwnScore(0.5, 0.8)}), truth(0) * 0.9, 1.0, 0.9, None, []),
        (FITTED, np.full(SIZE, np.nan), None, None, None, [Kind.MAP_NOT_FINITE]),
    ],
    ids=["covered", "fitted on nothing", "of another size", "features of the prediction", "another kind", "not finite"],
)
def test_the_network(
    shot: Shot,
    pictures: Pictures,
    calibration: Calibration,
    heatmap: Map,
    f1: float | None,
    score: float | None,
    probability: float | None,
    wrong: list[Kind],
) -> None:
    prediction = Prediction(shot, heatmap.astype(np.float32), np.zeros(len(FEATURES)), seed=0, tile_count=1, seconds=0)
    found = measure_shot(shot, NETWORK, prediction, pictures, calibration=calibration)
    assert (found.row.f1, kinds(found), found.failed, found.inverted) == (f1, wrong, False, False)
    assert found.row.score == (None if score is None else pytest.approx(score))
    assert (found.row.probability is None) == (probability is None)
    assert (found.row.decided, found.curve is None) == ((True, False) if f1 else (None, True))


def test_functions_and_the_probe(shot: Shot, pictures: Pictures) -> None:
    """What sees no pixels needs none, and only maps that do have a curve."""
    everything = measure_shot(replace(shot, pixels=None), ALL, None, pictures)
    assert (everything.row.marked_area, everything.curve, everything.failed) == (1.0, None, False)
    assert measure_shot(shot, ELA, None, pictures).curve is not None
    probe = measure_shot(replace(shot, pixels=None), PROBE, None, pictures)
    assert (len(probe.signature), probe.row.forged_area, kinds(probe)) == (16, None, [])


@pytest.mark.parametrize("method", [NETWORK, ELA], ids=lambda method: method.name)
def test_no_pixels_is_worth_another_try(shot: Shot, pictures: Pictures, method: Method) -> None:
    problem = Problem(Kind.IMAGE_UNREADABLE, shot.entry.key, "out of memory")
    for cut in (replace(shot, pixels=None, problem=problem), replace(shot, pixels=None)):
        found = measure_shot(cut, method, None, pictures, calibration=FITTED)
        assert (kinds(found), found.failed, found.row.f1) == ([Kind.IMAGE_UNREADABLE], True, None)
        assert found.row.problems[0].detail == ("out of memory" if cut.problem else "")


@pytest.mark.parametrize(
    ("name", "content", "f1", "wrong"),
    [
        ("t0.npy", truth(0).astype(np.float32), 1.0, []),
        ("t0.npy", truth(0) * np.float32(255), None, [Kind.MAP_OUT_OF_RANGE]),
        ("t0.npy", None, None, [Kind.MAP_UNREADABLE]),
        ("a0.npy", truth(0).astype(np.float32), None, [Kind.MAP_MISSING]),
    ],
    ids=["fits", "out of range", "unreadable", "missing"],
)
def test_predictions(
    shot: Shot, pictures: Pictures, tmp_path: Path, name: str, content: Map | None, f1: float | None, wrong: list[Kind]
) -> None:
    if content is None:
        (tmp_path / name).write_bytes(b"no map")
    else:
        np.save(tmp_path / name, content)
    folder = PredictionFolder(tmp_path, shot.chosen.name, shot.chosen.samples)
    found = measure_shot(shot, OF_MAPS, None, pictures, folder=folder)
    assert (found.row.f1, kinds(found), found.failed) == (f1, wrong, False)
    assert (found.row.score is None) == (f1 is None), "a map that is not scored decides nothing"
