"""Maps in a folder and the images they belong to."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from clue_cli.errors import NothingToScanError, UsageError
from clue_cli.eval.predictions import PredictionFolder
from model.datasets.sample import Kind, Sample

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
        f"{name} is no .npy or .png file" for name in ("a.png", "same.npy", "same.png.tif")
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
