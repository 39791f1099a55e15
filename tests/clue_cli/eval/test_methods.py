"""The methods: other methods' maps found by name, and what each method makes of a picture."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy.special import expit

from clue_cli.errors import NothingToScanError, UsageError
from clue_cli.eval.measurements import Measurement
from clue_cli.eval.methods import Method, Network, PredictionFolder, Shot, baselines, measure_shot
from clue_cli.eval.options import EvalOptions
from clue_cli.eval.pictures import Pictures
from clue_cli.eval.sets import ChosenSet
from model.calibration import FEATURES, Calibration, OwnScore
from model.data.attacks import Attack
from model.datasets.sample import Kind, Problem, Sample
from model.evaluation import find_at, ground
from model.images.maps import Map
from model.images.pixels import read_pixels
from model.predictor import Prediction
from model.score import SCREEN
from tests.clue_cli.eval.made import SIZE, truth, write_set
from tests.tiny_model import write_tiny_model

ENTRIES = [
    Sample("Tp/a.jpg", Path("a"), (), True),
    Sample("Tp/same.jpg", Path("b"), (), True),
    Sample("Au/same.png", Path("c"), (), False),
]


def write(folder: Path, *names: str) -> Path:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("wb") as file:
            np.save(file, np.zeros((2, 2), np.float32))
    return folder


@pytest.mark.parametrize(
    ("name", "owner"),
    [
        ("Tp/a.jpg.npy", "Tp/a.jpg"),
        ("Tp/a.npy", "Tp/a.jpg"),
        ("a.jpg.png", "Tp/a.jpg"),
        ("a.png", "Tp/a.jpg"),
        ("Au/same.npy", "Au/same.png"),
        ("same.npy", None),
        ("same.png.npy", "Au/same.png"),
        ("deep/a.npy", None),
        ("b.npy", None),
    ],
)
def test_a_map_is_named_like_its_image(tmp_path: Path, name: str, owner: str | None) -> None:
    maps = PredictionFolder(write(tmp_path, name), "set", ENTRIES)
    assert {e.key for e in ENTRIES if maps.find(e)[0] is not None} == ({owner} if owner else set())
    assert [problem.name for problem in maps.surplus] == ([] if owner else [name])


def test_a_map_that_could_be_of_two_images_is_of_neither(tmp_path: Path) -> None:
    twins = [Sample("Tp/a.jpg", Path("a"), (), True), Sample("Tp/a.png", Path("b"), (), True)]
    maps = PredictionFolder(write(tmp_path, "Tp/a.npy", "Tp/a.png.npy"), "set", twins)
    assert [maps.find(one)[0] for one in twins] == [None, tmp_path / "Tp" / "a.png.npy"]
    assert [problem.name for problem in maps.surplus] == ["Tp/a.npy"]


@pytest.mark.parametrize(
    ("first", "second", "name", "owner"),
    [
        ("Tp/a.png", "Tp/a.png.jpg", "Tp/a.png.npy", "Tp/a.png"),  # its whole name, and another's without the extension
        ("a.jpg", "b/a.jpg", "a.npy", "a.jpg"),
        ("a.jpg", "b/a.jpg", "b/a.npy", "b/a.jpg"),
        ("/x/a.jpg", "../y/b.jpg", "b.npy", "../y/b.jpg"),  # as a list may name them
    ],
)
def test_a_name_means_the_image_that_it_says_most_of(
    first: str, second: str, name: str, owner: str, tmp_path: Path
) -> None:
    for keys in ((first, second), (second, first)):
        entries = [Sample(key, Path("i"), (), True) for key in keys]
        maps = PredictionFolder(write(tmp_path, name), "set", entries)
        assert [key for key, entry in zip(keys, entries, strict=True) if maps.find(entry)[0]] == [owner]
        assert maps.surplus == []
        assert [problem.name for problem in maps.missing] == [key for key in keys if key != owner]


def test_what_is_named_like_a_map_and_is_none_is_said(tmp_path: Path) -> None:
    write(tmp_path, "other.npy")
    os.mkfifo(tmp_path / "a.png")
    (tmp_path / "same.png.tif").touch()
    (tmp_path / "Tp").mkdir()
    (tmp_path / "Tp" / "same.npy").symlink_to("nowhere")
    maps = PredictionFolder(tmp_path, "set", ENTRIES)
    assert [maps.find(entry)[1] for entry in ENTRIES] == [
        f"{name} is not a .npy or .png file" for name in ("a.png", "same.npy", "same.png.tif")
    ]


def test_masks_are_no_predictions(tmp_path: Path) -> None:
    entry = Sample("Tp/a.jpg", Path("a"), (write(tmp_path, "Gt/a.npy") / "Gt" / "a.npy",), True)
    (tmp_path / "link").symlink_to(tmp_path / "Gt")
    with pytest.raises(UsageError, match="is ground truth of the set"):
        PredictionFolder(tmp_path / "link", "set", [entry])


def test_two_maps_of_one_name_are_not_guessed_between(tmp_path: Path) -> None:
    maps = PredictionFolder(write(tmp_path, "a.npy", "a.png"), "set", ENTRIES)
    assert maps.find(ENTRIES[0]) == (None, "2 maps are named like it")
    assert maps.surplus == []


def test_a_folder_of_the_sets_name_comes_first_and_hidden_files_do_not_count(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    maps = PredictionFolder(write(tmp_path, "casia1/a.npy", ".git/a.npy", "notes.txt"), "casia1", ENTRIES)
    (tmp_path / "data").mkdir()
    monkeypatch.chdir(tmp_path)
    (tmp_path / "coverage").symlink_to("data")  # a name of a benchmark is no path
    assert PredictionFolder(write(tmp_path, "coverage/a.npy"), "coverage", ENTRIES).folder == tmp_path / "coverage"
    assert maps.folder == tmp_path / "casia1"
    assert maps.find(ENTRIES[0])[0] == tmp_path / "casia1" / "a.npy"


def test_a_folder_that_is_not_followed_is_named(tmp_path: Path) -> None:
    write(tmp_path / "maps", "a.npy")
    (tmp_path / "maps" / "circle").symlink_to(tmp_path)
    (problem,) = PredictionFolder(tmp_path / "maps", "set", ENTRIES).surplus
    assert (problem.kind, problem.name) == (Kind.FOLDER_UNREADABLE, "maps/circle")


def test_the_digest_is_of_names_and_contents(tmp_path: Path) -> None:
    one = PredictionFolder(write(tmp_path / "1", "a.npy"), "set", ENTRIES).digest()
    assert one == PredictionFolder(write(tmp_path / "2", "a.npy"), "set", ENTRIES).digest()
    assert one != PredictionFolder(write(tmp_path / "3", "b.npy"), "set", ENTRIES).digest()
    np.save(tmp_path / "2" / "a.npy", np.ones((2, 2), np.float32))
    assert one != PredictionFolder(tmp_path / "2", "set", ENTRIES).digest()


@pytest.mark.parametrize("names", [[], ["a.txt"]])
def test_no_map(tmp_path: Path, names: list[str]) -> None:
    for name in names:
        (tmp_path / name).touch()
    with pytest.raises(NothingToScanError, match="holds no map"):
        PredictionFolder(tmp_path, "set", ENTRIES)
    with pytest.raises(NothingToScanError, match="no folder"):
        PredictionFolder(tmp_path / "absent", "set", ENTRIES)


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


@pytest.mark.parametrize(
    ("folder", "name"),
    [
        ("runs/first/best", "first/best"),
        ("deployed", "deployed"),
        ("centre box", "network centre box"),
        ("runs/first/last", "first/last"),
    ],
)
def test_a_trained_model_is_called_by_its_folder_and_its_settings_do_not_change(
    tmp_path: Path, folder: str, name: str
) -> None:
    path = write_tiny_model(tmp_path / folder)
    method = Network(EvalOptions(model=str(path), device="cpu")).method
    assert method.name == name
    settings = replace(method, name="tiny", preset="").settings(Attack("none", ()), 0)
    assert method.settings(Attack("none", ()), 0) == settings, "as version 0.1.0 had it"
    assert Network(EvalOptions(device="cpu")).method.name == "mini"
