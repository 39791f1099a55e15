"""`clue train` as a person meets it: a mix on the disk, a runs folder, a model, and what is refused."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from clue_cli.errors import ExitCode
from model.checkpoint import inspect
from model.training.errors import OptionsError
from model.training.run_folder import read_log
from tests.clue_cli.commands.train.command import clue
from tests.model.training.made import QUICK, telling


def test_from_a_mix_to_a_model(data: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "run"
    assert clue(data, out, "--steps", "3") == ExitCode.OK
    said = capfd.readouterr()
    assert said.out == ""
    assert "Finished after 3 steps" in said.err
    assert f"clue scan --model {out / 'best'}" in said.err
    assert "3 of 3 steps · " in said.err
    assert [row["step"] for row in read_log(out / "log.jsonl") if row["kind"] == "validation"] == [2, 3]
    assert inspect(str(out / "best")).preset == QUICK
    assert inspect(str(out / "best")).training["data"]["mix"]


def test_a_model_with_confidence(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From a mix whose calibration side has enough photos."""
    monkeypatch.setattr("model.training.finish.look_at", telling)
    rng = np.random.default_rng(1)
    for name in ("images", "masks"):
        (tmp_path / name).mkdir()
    for number in range(120):
        pixels, mask = rng.normal(100, 10, (64, 64, 3)), np.zeros((64, 64), np.uint8)
        if number % 2:
            mask[4:60, 4:60] = 255
            pixels[mask > 0] += rng.normal(60, 90, (56 * 56, 3))
        Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(tmp_path / "images" / f"{number}.png")
        Image.fromarray(mask).save(tmp_path / "masks" / f"{number}.png")
    split = {"share": 0.2, "calibration_share": 0.4}
    sources = [{"pairs": {"images": "images", "masks": "masks"}}]
    (tmp_path / "mix.yaml").write_text(json.dumps({"sources": sources, "shapes": [64], "validation": split}))
    few = ["--steps", "1", "--calibration-samples", "48"]
    assert clue(data, tmp_path / "run", *few, mix=str(tmp_path / "mix.yaml")) == ExitCode.OK
    calibration = inspect(str(tmp_path / "run" / "best")).calibration
    assert calibration.fitted_on.startswith("48 pictures from photos that were neither trained nor validated on")
    assert calibration.figures is not None
    assert calibration.figures["n"] == 48


def test_every_option_arrives(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Any] = []

    def note(task: Any, *_: object) -> Any:
        seen.append(task)
        raise OptionsError("enough")

    monkeypatch.setattr("clue_cli.training.train", note)
    typed = {
        "minutes": 2.0, "accumulate": 2, "seed": 6, "precision": "bf16", "validate_every": 10, "workers": 1,
        "calibration_samples": 9, "save_every": 11, "validation_samples": 12, "batch": 3,
    }  # fmt: skip
    changes = {
        "lr": 0.1, "weight_decay": 0.2, "warmup": 0.3, "clip": 0.4, "ema": 0.5, "adapt_sd3": "lora",
        "adapt_sam": "frozen", "noise": "ddpm", "shift": 6.0, "branches": "sd3", "bce_weight": 0.7, "dice_weight": 0.8,
        "weights_rate": 0.9, "dice": "image", "fresh_head": True,
    }  # fmt: skip
    line = [part for name, value in typed.items() for part in ("--" + name.replace("_", "-"), str(value))]
    line += [part for name, value in changes.items() for part in ("--set", f"{name}={value}")]
    (tmp_path / "own.yaml").write_text("levels: [0.01, 0.5]\nlr: 3\nseed: 3\n")
    line += ["--recipe", str(tmp_path / "own.yaml"), "--gradient-checkpointing", "--init", "mini"]
    assert clue(data, tmp_path / "run", *line) == 2
    (task,) = seen
    words = typed | changes
    assert {name: getattr(task.options, name) for name in words} == words
    assert (task.options.levels, task.init) == ((0.01, 0.5), "mini")
    assert task.options.gradient_checkpointing


@pytest.mark.parametrize(
    ("words", "mix", "code", "said"),
    [
        ([], "mix.yaml", 2, "Exactly one of --steps and --minutes"),
        (["--steps", "1", "--minutes", "1"], "mix.yaml", 2, "Exactly one"),
        (["--steps", "0"], "mix.yaml", 2, "--steps: found `0`"),
        (["--steps", "1", "--set", "levels=0.1,x"], "mix.yaml", 2, "--set levels[1]: found `x`"),
        (["--steps", "1", "--set", "dise=image"], "mix.yaml", 2, "did you mean `dice`?"),
        (["--steps", "1", "--recipe", "maxi"], "mix.yaml", 2, "There is no recipe maxi"),
        (["--steps", "1", "--device", "tpu"], "mix.yaml", 2, "--device: found `tpu`; expected 'auto' or 'cpu'"),
        (["--steps", "1", "--decode"], "mix.yaml", 2, "--decode works only with --dry-run"),
        (["--steps", "1"], "wrong.yaml", 2, "pears"),
        (["--steps", "1"], "absent.yaml", 2, "absent.yaml"),
        (["--steps", "1"], "../absent.yaml", 2, "../absent.yaml"),
        (["--steps", "1", "--out", "."], "absent.yaml", 2, "absent.yaml"),  # not taken for an empty path
        (["--steps", "1"], "odd.yaml", 2, "72×72 does not fit"),
        (["--steps", "1", "--preset", "maxi"], "mix.yaml", 2, "maxi: there is no such preset"),
        (["--steps", "1", "--init", "absent"], "mix.yaml", 4, "No model at absent"),
        (["--steps", "1", "--init", "mini"], "mix.yaml", 4, "checkpoint of another preset, mini"),
        (["--steps", "1", "--preset", "sd3-medium"], "mix.yaml", 4, "clue models add"),
        (["--steps", "1", "--precision", "fp16"], "mix.yaml", 2, "fp16 needs a GPU"),
        (["--steps", "1", "--out", ""], "mix.yaml", 2, "empty path"),
    ],
)
def test_what_cannot_be_trained(
    data: Path,
    tmp_path: Path,
    words: list[str],
    mix: str,
    code: int,
    said: str,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("CLUE_CONFIG", str(tmp_path / "config"))  # no weights of others are registered
    assert clue(data, tmp_path / "run", *words, mix=mix) == code
    err = capfd.readouterr().err
    assert said in " ".join(err.replace("│", " ").split())
    assert "defect" not in err
    assert not (tmp_path / "run" / "state.pt").exists()


@pytest.mark.parametrize("words", [["--dry-run"], ["--steps", "1"]], ids=["dry run", "training"])
def test_a_runs_folder_inside_the_data(
    data: Path, tmp_path: Path, words: list[str], capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "linked").symlink_to(data)
    for out in (data / "images" / "runs", tmp_path / "linked" / "authentic"):
        assert clue(data, out, *words) == ExitCode.BAD_USAGE
        assert "training would read its own output" in " ".join(capfd.readouterr().err.split())
    assert not (data / "images" / "runs").exists()


def test_a_mix_corrected_before_the_first_step_is_taken(data: Path, tmp_path: Path) -> None:
    (data / "untouched.yaml").write_text(json.dumps({"sources": [{"authentic": "authentic"}], "shapes": [64]}))
    assert clue(data, tmp_path / "run", "--steps", "1", mix="untouched.yaml") == ExitCode.BAD_USAGE
    assert clue(data, tmp_path / "run", "--steps", "1") == ExitCode.OK
    assert clue(data, tmp_path / "run", "--steps", "2") == ExitCode.BAD_USAGE


def test_files_that_changed_are_another_training(data: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    shutil.copytree(data / "authentic", tmp_path / "authentic")
    sources = [{"pairs": {"images": str(data / "images"), "masks": str(data / "masks")}}, {"authentic": "authentic"}]
    mix = {"sources": sources, "shapes": [64], "validation": {"share": 0.4}}
    (tmp_path / "mix.yaml").write_text(json.dumps(mix))
    assert clue(data, tmp_path / "run", "--steps", "1", mix=str(tmp_path / "mix.yaml")) == ExitCode.OK
    (tmp_path / "authentic" / "3.png").unlink()
    (tmp_path / "authentic" / "5.png").unlink()
    assert clue(data, tmp_path / "run", "--steps", "1", mix=str(tmp_path / "mix.yaml")) == ExitCode.BAD_USAGE
    assert "a training with other settings: data." in " ".join(capfd.readouterr().err.split())
