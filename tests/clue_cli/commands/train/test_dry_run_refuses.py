"""`clue train --dry-run` refuses what the training refuses, in the same words, and tells what it would see."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from clue_cli.errors import ExitCode
from tests.clue_cli.commands.train.command import clue
from tests.model.training.made import QUICK

PAIRS = {"pairs": {"images": "images", "masks": "masks"}}
HALF = {"share": 0.4, "calibration_share": 0.0}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pairs, authentic pictures, pairs whose files are damaged, pairs that mark nothing, and a preset."""
    root = tmp_path_factory.mktemp("data")
    rng = np.random.default_rng(0)
    for name in ("images", "masks", "authentic", "broken", "nothing"):
        (root / name).mkdir()
    for number in range(16):
        mask = np.zeros((64, 80), np.uint8)
        Image.fromarray(mask).save(root / "nothing" / f"{number}.png")
        mask[8:40, 8:48] = 255
        Image.fromarray(mask).save(root / "masks" / f"{number}.png")
        for name in ("images", "authentic"):
            pixels = rng.integers(0, 256, (64, 80, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(root / name / f"{number}.png")
        (root / "broken" / f"{number}.png").write_bytes(b"\x89PNG, and no more")
    (root / "quick.yaml").write_text(json.dumps(QUICK.to_dict()))
    return root


Mixed = Callable[..., Path]


@pytest.fixture
def mixed(data: Path) -> Mixed:
    def write(*sources: dict[str, Any], split: dict[str, float] = HALF, shapes: Any = (64,)) -> Path:
        path = data / "mix.yaml"
        path.write_text(json.dumps({"sources": sources, "shapes": shapes, "validation": split}, indent=1))
        return path

    return write


REFUSED: dict[str, tuple[list[dict[str, Any]], dict[str, float], str]] = {
    "no validation": ([PAIRS], {"share": 0.0}, "no source has an image on the validation side"),
    "too few pairs": ([{"authentic": "one"}], {"share": 0.01}, "no source has an image on the validation side"),
    "nothing to train on": ([{"authentic": "empty"}], HALF, "no source has an image on the train side"),
    "none forged": ([{"authentic": "authentic"}], HALF, "None of the 8 validation samples is forged"),
    "masks of nothing": (
        [{"pairs": {"images": "images", "masks": "nothing"}}], HALF, "None of the 8 validation samples is forged",
    ),
    "all damaged": (
        [{"pairs": {"images": "broken", "masks": "masks"}}], HALF, "Nothing to validate on: 8 batches in a row",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("sources", "split", "said"), REFUSED.values(), ids=REFUSED.keys())
def test_it_refuses_what_the_training_refuses(
    data: Path,
    tmp_path: Path,
    mixed: Mixed,
    sources: list[dict[str, Any]],
    split: dict[str, float],
    said: str,
    capfd: pytest.CaptureFixture[str],
) -> None:
    for name in ("one", "empty"):
        (data / name).mkdir(exist_ok=True)
    Image.new("RGB", (64, 64)).save(data / "one" / "a.png")
    mixed(*sources, split=split)
    told = []
    for words in (["--dry-run"], ["--steps", "1"]):
        assert clue(data, tmp_path / "run", *words, "--quiet") == ExitCode.BAD_USAGE
        told.append(capfd.readouterr().err)
    assert said in " ".join(told[0].split())
    assert told[0] == told[1]


@pytest.mark.parametrize(("init", "said"), [("absent", "No model at"), ("mini", "of another preset, mini")])
def test_first_weights_that_cannot_be_used(
    data: Path, tmp_path: Path, mixed: Mixed, init: str, said: str, capfd: pytest.CaptureFixture[str]
) -> None:
    mixed(PAIRS)
    told = []
    for words in (["--dry-run"], ["--steps", "1"]):
        words += ["--init", init if init == "mini" else str(tmp_path / init)]
        assert clue(data, tmp_path / "run", *words, "--quiet") == ExitCode.WEIGHTS_MISSING
        told.append(capfd.readouterr().err)
    assert said in " ".join(told[0].split())
    assert told[0] == told[1]


def test_pictures_to_train_on_that_are_all_damaged(
    data: Path, tmp_path: Path, mixed: Mixed, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """The validation is made from others: the whole of the training side is damaged, and nothing of the other."""
    from model.data.stream import Batch, Stream

    real = Stream.batch

    def batch(self: Stream, index: int, count: int) -> Batch:
        return Batch([], ["a.png: broken"]) if self.side == "train" else real(self, index, count)

    monkeypatch.setattr(Stream, "batch", batch)
    mixed(PAIRS)
    told = []
    for words in (["--dry-run"], ["--steps", "1"]):
        assert clue(data, tmp_path / "run", *words, "--quiet") == ExitCode.BAD_USAGE
        told.append(capfd.readouterr().err.splitlines()[0])
    assert told[0] == told[1]
    assert "Nothing to learn from: 8 batches in a row" in told[0]


def test_what_is_validated_on_is_counted(
    data: Path, tmp_path: Path, mixed: Mixed, capfd: pytest.CaptureFixture[str]
) -> None:
    mixed(PAIRS)
    assert clue(data, tmp_path / "run", "--dry-run") == ExitCode.OK
    assert "validation: 8 samples, 8 of them forged\n" in capfd.readouterr().out


def test_forged_areas_of_what_is_made_on_the_fly(
    data: Path, tmp_path: Path, mixed: Mixed, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("model.data.stream.DRAWN", 12)
    mixed(PAIRS, {"forge": "authentic"})
    assert clue(data, tmp_path / "run", "--dry-run", "--quiet") == ExitCode.OK
    said = capfd.readouterr().out
    assert "\nforge: forged area, of 12 pictures drawn from it:\n" in said
    assert "\n         authentic " in said


PLACES: dict[str, tuple[dict[str, Any], str, str, int, str]] = {
    "a shape that does not fit": ({"shapes": [64, 72]}, "run", "72×72 does not fit", 12, "shapes[1]"),
    "a runs folder in the data": ({}, "masks/run", "training would read its own output", 4, "sources[0].pairs"),
    "no image to validate on": ({"split": {"share": 0.0}}, "run", "the validation side", 14, "validation.share"),
    "no image to train on": ({"sources": [{"authentic": "empty"}]}, "run", "the train side", 2, "sources"),
}


@pytest.mark.parametrize("words", [["--dry-run"], ["--steps", "1"]], ids=["dry run", "training"])
@pytest.mark.parametrize(("changes", "out", "said", "line", "key"), PLACES.values(), ids=PLACES.keys())
def test_what_is_wrong_has_its_place_in_the_mix(
    data: Path,
    tmp_path: Path,
    mixed: Mixed,
    changes: dict[str, Any],
    out: str,
    said: str,
    line: int,
    key: str,
    words: list[str],
    capfd: pytest.CaptureFixture[str],
) -> None:
    (data / "empty").mkdir(exist_ok=True)
    rest = {name: value for name, value in changes.items() if name != "sources"}
    mix = mixed(*changes.get("sources", [PAIRS]), **rest)
    assert clue(data, data / out if "/" in out else tmp_path / out, *words, "--quiet") == ExitCode.BAD_USAGE
    told = " ".join(capfd.readouterr().err.split())
    assert said in told
    assert f"{mix}, line {line}, {key}" in told
    assert not (data / "masks" / "run").exists()


def test_queries_need_texts_and_text_encoders(
    data: Path, tmp_path: Path, mixed: Mixed, capfd: pytest.CaptureFixture[str]
) -> None:
    mixed(PAIRS)
    for words in (["--dry-run"], ["--steps", "1"]):
        queries = [*words, "--quiet", "--set", "queries=0.5"]
        assert clue(data, tmp_path / "run", *queries) == ExitCode.BAD_USAGE
        assert "quick has no text encoders" in " ".join(capfd.readouterr().err.split())
        assert clue(data, tmp_path / "run", *queries, "--preset", "sd3-medium") == ExitCode.BAD_USAGE
        assert "no list of the training has a column `text`" in " ".join(capfd.readouterr().err.split())
