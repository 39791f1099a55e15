"""`clue train --task synthetic`, as a person types it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image

from clue_cli.app import run
from clue_cli.errors import ExitCode
from model.synthetic import METHOD_FILE
from tests.base_layouts import register_small
from tests.model.training.toy_method import install, write_mix

SHORT = ["--base", "toy", "--batch", "8", "--workers", "0", "--device", "cpu", "--validation-samples", "16"]


@pytest.fixture(autouse=True)
def _toy(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch)


def clue(mix: Path, out: Path, *words: str) -> int:
    return run(["train", "--task", "synthetic", "--data", str(mix), "--out", str(out), *words])


def test_a_dry_run_then_a_training(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    mix, out = write_mix(tmp_path / "data"), tmp_path / "run"
    (tmp_path / "data" / "alpha" / "bad.png").write_bytes(b"nothing")
    assert clue(mix, out, "--recipe", "effort", *SHORT, "--dry-run", "--quiet") == ExitCode.OK
    said = capfd.readouterr().out
    for line in ("train: real ", "Alpha 1.0 ", "left out: ", "bad.png", "5 of 117 parameters are trainable"):
        assert line in said
    assert "photos: 100% of the files are JPEG" in said
    with Image.open(out / "contact-sheet.png") as sheet:
        assert sheet.width > 6 * 192

    words = ["--recipe", "effort", *SHORT, "--steps", "4"]
    assert clue(mix, out, *words) == ExitCode.OK
    assert "clue scan --also synthetic:" in " ".join(capfd.readouterr().err.split())
    content = json.loads((out / "best" / METHOD_FILE).read_text("utf-8"))
    assert content["training"]["options"]["adapt"] == "svd"
    assert clue(mix, out, *words, "--adapt", "lora", "--quiet") == ExitCode.BAD_USAGE
    assert "adapt" in capfd.readouterr().err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--recipe", "mini", "--base", "toy"], "The recipe mini is for --task localization"),
        (["--recipe", "effort"], "There is no base model to adapt"),
        (["--recipe", "effort", "--base", "toy", "--minutes", "3"], "--minutes is not an option of --task synthetic"),
        (["--recipe", "effort", "--base", "toy", "--init", "mini"], "--init is not an option of --task synthetic"),
        (["--recipe", "effort", "--base", "toy", "--adapt", "full"], "--adapt: found `full`"),
        (["--task", "localization", "--base", "toy"], "--base is not an option of --task localization"),
        (["--task", "localization", "--recipe", "effort"], "The recipe effort is for --task synthetic"),
    ],
)
def test_options_of_the_other_task(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], words: list[str], message: str
) -> None:
    mix = write_mix(tmp_path / "data", 2, 2)
    assert clue(mix, tmp_path / "run", *words) == ExitCode.BAD_USAGE
    assert message in " ".join(capfd.readouterr().err.split())


def test_a_run_folder_in_the_data(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    mix = write_mix(tmp_path / "data", 4, 4)
    assert clue(mix, tmp_path / "data" / "real" / "run", "--recipe", "aligned", *SHORT) == ExitCode.BAD_USAGE
    assert "lies in the data folder" in " ".join(capfd.readouterr().err.split())


@pytest.mark.usefixtures("config")
def test_photos_against_their_reconstructions(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    mix, out = write_mix(tmp_path / "data", 12, 0), tmp_path / "run"
    content = json.loads(mix.read_text())
    content["sources"] = [{"name": "photos", "align": "real", "autoencoder": "small-sd3", "strengths": [0, 0.3]}]
    content["sources"][0]["side"] = 64
    content["validation"] = {"share": 0.4, "calibration_share": 0}
    mix.write_text(json.dumps(content))
    words = ["--recipe", "aligned", *SHORT, "--steps", "2", "--quiet"]
    assert clue(mix, out, *words) == ExitCode.WEIGHTS_MISSING
    assert "small-sd3" in capfd.readouterr().err

    register_small(tmp_path / "bases")
    assert clue(mix, out, *words) == ExitCode.OK
    made = {path.name: path.stat().st_mtime_ns for path in (out / "pool").iterdir()}
    assert len(made) == 12
    training = json.loads((out / "best" / METHOD_FILE).read_text("utf-8"))["training"]
    assert training["generators"] == ["autoencoder of small-sd3"]
    assert clue(mix, out, *words) == ExitCode.OK, "it resumes at its end"
    assert made == {path.name: path.stat().st_mtime_ns for path in (out / "pool").iterdir()}
