"""`clue train --dry-run` refuses what the training refuses, in the same words, and tells what it would see."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from accelerate.state import AcceleratorState
from PIL import Image

from clue_cli.app import run
from clue_cli.errors import ExitCode
from tests.model.training.made import QUICK

PAIRS = {"pairs": {"images": "images", "masks": "masks"}}
HALF = {"share": 0.4, "calibration_share": 0.0}


@pytest.fixture(autouse=True)
def fresh_accelerate() -> Iterator[None]:
    """Accelerate keeps its choices for the whole process."""
    yield
    AcceleratorState._reset_state(reset_partial_state=True)


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


def clue(mix: Path, out: Path, *words: str) -> int:
    small = ["--preset", str(mix.parent / "quick.yaml"), "--batch", "4", "--workers", "0", "--device", "cpu"]
    return run(["train", "--data", str(mix), "--out", str(out), *small, "--validation-samples", "8", *words])


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
    mix = mixed(*sources, split=split)
    told = []
    for words in (["--dry-run"], ["--steps", "1"]):
        assert clue(mix, tmp_path / "run", *words, "--quiet") == ExitCode.BAD_USAGE
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
    told = []
    for words in (["--dry-run"], ["--steps", "1"]):
        assert clue(mixed(PAIRS), tmp_path / "run", *words, "--quiet") == ExitCode.BAD_USAGE
        told.append(capfd.readouterr().err.splitlines()[0])
    assert told[0] == told[1]
    assert "Nothing to learn from: 8 batches in a row" in told[0]


def test_what_is_validated_on_is_counted(tmp_path: Path, mixed: Mixed, capfd: pytest.CaptureFixture[str]) -> None:
    assert clue(mixed(PAIRS), tmp_path / "run", "--dry-run") == ExitCode.OK
    assert "validation: 8 samples, 8 of them forged\n" in capfd.readouterr().out


def test_forged_areas_of_what_is_made_on_the_fly(
    tmp_path: Path, mixed: Mixed, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("model.data.stream.DRAWN", 12)
    assert clue(mixed(PAIRS, {"forge": "authentic"}), tmp_path / "run", "--dry-run", "--quiet") == ExitCode.OK
    said = capfd.readouterr().out
    assert "\nforge: forged area, of 12 pictures drawn from it:\n" in said
    assert "\n         authentic " in said
