"""`clue train --recipe mini`, small: pictures made of a mix, resumed with equal losses, and a model that scans."""

from __future__ import annotations

import dataclasses
import json
import threading
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest
import yaml

from clue_cli.app import run
from clue_cli.errors import ExitCode
from model.checkpoint import inspect
from model.data.made_pictures import Made
from model.reporter import Reporter
from model.training.finish import Looked
from model.training.run_folder import read_log
from tests.model.data.made_mix import recipe, small_pictures, write_mix
from tests.tiny_model import TINY

SMALL = dataclasses.replace(TINY, name="small")


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("made")
    write_mix(root)
    (root / "small.yaml").write_text(json.dumps(SMALL.to_dict()))
    (root / "mini.yaml").write_text(yaml.safe_dump(recipe()))
    return root


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    small_pictures(monkeypatch)
    monkeypatch.setattr("model.data.made_pictures.COPIED", 128)


def telling(_: object, pictures: Iterable[Made], stop: threading.Event, reporter: Reporter) -> list[Looked]:
    """What a network that knows gives, a little too low everywhere."""
    rng = np.random.default_rng(0)
    return [
        Looked(made, (8 * made.mask - 5 + rng.normal(0, 1, made.mask.shape)).astype(np.float16), as_found=False)
        for made in pictures
        if not stop.is_set()
    ]


def train(root: Path, out: Path, *words: str) -> int:
    line = ["train", "--recipe", str(root / "mini.yaml"), "--data", str(root / "mix.yaml"), "--out", str(out)]
    line += ["--preset", str(root / "small.yaml"), "--batch", "2", "--workers", "0", "--device", "cpu"]
    line += ["--validation-samples", "8", "--validate-every", "2", "--save-every", "1"]
    return run([*line, *words])


def test_a_run_resumes_with_equal_losses_and_scans(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    from model.training import trainer

    words = ["--steps", "4", "--calibration-samples", "0"]
    assert train(root, tmp_path / "unbroken", *words) == ExitCode.OK
    taken, take = [0], trainer.Steps.take

    def killed(self: trainer.Steps, *words: object) -> object:
        taken[0] += 1
        if taken[0] == 3:
            raise KeyboardInterrupt
        return take(self, *words)  # type: ignore[arg-type]

    monkeypatch.setattr(trainer.Steps, "take", killed)
    assert train(root, tmp_path / "run", *words) == ExitCode.INTERRUPTED
    assert train(root, tmp_path / "run", *words) == ExitCode.OK
    assert "Going on from step 2" in capfd.readouterr().err
    losses = [
        [row["loss"] for row in read_log(tmp_path / name / "log.jsonl") if row["kind"] == "step"]
        for name in ("unbroken", "run")
    ]
    assert len(losses[0]) == 4
    assert losses[0] == losses[1]
    (validated,) = [row for row in read_log(tmp_path / "run" / "log.jsonl") if row["step"] == 2 and "by_source" in row]
    assert all(name.split()[0] in ("f1", "marked") for name in validated["by_source"])
    model = tmp_path / "run" / "best"
    assert inspect(str(model)).training["options"]["made"]["forged"] == 0.7
    scanned = ["scan", str(root / "pages" / "layout0_0.png"), "--model", str(model), "--out", str(tmp_path / "results")]
    assert run([*scanned, "--quiet"]) == ExitCode.OK
    assert list((tmp_path / "results" / "masks").rglob("*.png"))


def test_the_best_model_is_complete(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Operating point, regions, score and thresholds; the same once more if the end is repeated."""
    monkeypatch.setattr("model.training.finish.look_at_made", telling)
    words = ["--steps", "1", "--calibration-samples", "60", "--set", "finish.shifts=0,0.5,1"]
    found = []
    for _ in range(2):
        assert train(root, tmp_path / "run", *words) == ExitCode.OK
        found.append(inspect(str(tmp_path / "run" / "best")))
    err = capfd.readouterr().err
    assert "Measuring calibration pictures (0 of 95 pictures)." in err
    assert "Choosing the operating point: 7 of 7 settings" in err
    first, again = found
    assert first.training["logit_shift"] == again.training["logit_shift"] > 0
    assert (first.digest, first.calibration) == (again.digest, again.calibration)
    assert first.preset.regions.weaker == 1.0
    assert "untouched and made pictures from photos that were neither trained" in first.calibration.fitted_on
    assert "no_confidence" not in first.training
    row = read_log(tmp_path / "run" / "log.jsonl")[-2]
    assert row["kind"] == "calibrated" and row["models"] == ["last", "best"]
    assert {"f1", "marked", "f1 web", "marked camera"} <= row["pixels"].keys()
    assert "web forged" in row["across_halves"] and row["photos"] > 10


def test_a_dry_run_shows_what_would_be_made(root: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert train(root, tmp_path, "--dry-run") == ExitCode.OK
    said = capfd.readouterr().out
    assert "photos" in said and "small: forged area" in said
    assert "validation: 8 samples" in said.replace("9 samples", "8 samples")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["contact-sheet.png"]


def test_what_the_recipe_lacks(root: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    for change, said in (
        ("made.forged=2", "--set made.forged: found `2`; expected a number less than or equal to 1"),
        (
            "made.forgd=1",
            "unknown key `forgd`; did you mean `forged`?; expected one of shares, small_sizes",
        ),
        ("made.native_kinds.paint=1", "found `paint`; expected 'authentic', 'splice'"),
        ("made.tiles=60x64", "--set made.tiles[0][0]: found `60`; expected a multiple of 8"),
        ("made.tiles=72x72", "The recipe: the shape 72×72 does not fit the preset small"),
        ("ema=0", "start_share is of the average of the weights"),
    ):
        assert train(root, tmp_path / "run", "--steps", "1", "--set", change, "--quiet") == ExitCode.BAD_USAGE
        assert said in " ".join(capfd.readouterr().err.split())
