"""`clue train` as a person meets it: a mix on the disk, a runs folder, exit codes and what is said."""

from __future__ import annotations

import importlib
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from accelerate.state import AcceleratorState
from PIL import Image

from clue_cli.app import run
from clue_cli.errors import ExitCode
from model.checkpoint import inspect
from model.training.errors import (
    CannotWriteError,
    NotFiniteError,
    OptionsError,
    OtherSettingsError,
    ResourcesError,
    TrainingError,
)
from model.training.log import Row, read_log
from model.training.progress import Display
from tests.model.training.made import QUICK, telling


@pytest.fixture(autouse=True)
def fresh_accelerate() -> Iterator[None]:
    """Accelerate keeps its choices for the whole process; a training is one process."""
    yield
    AcceleratorState._reset_state(reset_partial_state=True)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with pairs, one of them damaged, authentic pictures, a mix and a preset."""
    root = tmp_path_factory.mktemp("data")
    rng = np.random.default_rng(0)
    for name in ("images", "masks", "authentic"):
        (root / name).mkdir()
    for number in range(16):
        pixels, mask = rng.normal(100, 20, (64, 80, 3)), np.zeros((64, 80), np.uint8)
        Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(root / "authentic" / f"{number}.png")
        mask[8:40, 8:48] = 255
        pixels[mask > 0] += 60
        Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(root / "images" / f"pair {number}.png")
        Image.fromarray(mask).save(root / "masks" / f"pair {number}.png")
    broken = root / "images" / "broken.png"
    broken.write_bytes(b"\x89PNG, and no more")
    Image.fromarray(mask).save(root / "masks" / "broken.png")
    sources = [{"pairs": {"images": "images", "masks": "masks"}, "weight": 3}, {"authentic": "authentic"}]
    mix = {"sources": sources, "shapes": [64], "validation": {"share": 0.4}}
    (root / "mix.yaml").write_text(json.dumps(mix))
    (root / "odd.yaml").write_text(json.dumps(mix | {"shapes": [72]}))
    (root / "wrong.yaml").write_text("sources:\n  - pears: {}\n")
    (root / "quick.yaml").write_text(json.dumps(QUICK.to_dict()))
    return root


def clue(data: Path, out: Path, *words: str, mix: str = "mix.yaml") -> int:
    small = ["--preset", str(data / "quick.yaml"), "--batch", "4", "--workers", "0", "--device", "cpu"]
    small += ["--validation-samples", "8", "--validate-every", "2", "--save-every", "2"]
    return run(["train", "--data", str(data / mix), "--out", str(out), *small, *words])


def test_from_a_mix_to_a_model(data: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "run"
    assert clue(data, out, "--steps", "3") == ExitCode.OK
    said = capfd.readouterr()
    assert said.out == ""
    assert "Finished after 3 steps" in said.err
    assert f"clue scan --model {out / 'best'}" in said.err
    assert "3/3 steps" in said.err
    assert [row["step"] for row in read_log(out / "log.jsonl") if row["kind"] == "validation"] == [2, 3]
    assert inspect(str(out / "best")).preset == QUICK
    assert inspect(str(out / "best")).training["data"]["mix"]


def test_dry_run(data: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "run"
    assert clue(data, out, "--dry-run") == ExitCode.OK
    said = capfd.readouterr().out
    for words in (
        "17 images",
        "authentic",
        "broken.png",
        "forged area",
        "parameters learn",
        "contact-sheet.png",
        "score and confidence: none",
    ):
        assert words in said
    with Image.open(out / "contact-sheet.png") as sheet:
        assert sheet.size[0] > 100
    assert clue(data, out, "--steps", "1", "--quiet") == ExitCode.OK  # into the same folder
    assert capfd.readouterr().err == ""


def test_only_a_dry_run_can_do_without_a_folder(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    words = ["train", "--data", str(data / "mix.yaml"), "--preset", str(data / "quick.yaml")]
    assert run([*words, "--dry-run"]) == ExitCode.OK
    assert [path.name for path in tmp_path.iterdir()] == ["contact-sheet.png"]
    assert "samples as training sees them: contact-sheet.png" in capfd.readouterr().out
    assert run([*words, "--steps", "1"]) == ExitCode.BAD_USAGE
    assert "--out is missing" in capfd.readouterr().err


def test_a_dry_run_of_the_papers_size_needs_no_weights(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("CLUE_CONFIG", str(tmp_path / "config"))
    assert clue(data, tmp_path / "run", "--dry-run", "--preset", "sd3-medium") == ExitCode.OK
    assert "sd3-medium: " in capfd.readouterr().out


def test_a_dry_run_that_decodes_everything(data: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    for name in ("images", "masks"):
        shutil.copytree(data / name, tmp_path / name)
    half = tmp_path / "images" / "pair 3.png"
    half.write_bytes(half.read_bytes()[: half.stat().st_size // 2])
    Image.new("L", (80, 64)).save(tmp_path / "masks" / "pair 4.png")
    sources = [{"pairs": {"images": "images", "masks": "masks"}}]
    (tmp_path / "mix.yaml").write_text(json.dumps({"sources": sources, "shapes": [64], "validation": {"share": 0.4}}))
    small = ["--preset", str(data / "quick.yaml"), "--dry-run"]
    mix = ["train", "--data", str(tmp_path / "mix.yaml"), "--out", str(tmp_path / "run"), *small]
    assert run(mix) == ExitCode.OK
    quick = capfd.readouterr().out
    assert "--decode decodes all files, which takes longer" in quick
    assert "pair 3.png" not in quick
    assert run([*mix, "--decode"]) == ExitCode.OK
    said = capfd.readouterr().out
    assert "damaged: 2" in said
    assert "pair 3.png" in said
    assert "1 of 15 masks mark nothing: their images count as authentic" in said
    assert "--decode" not in said


def test_masks_that_mark_nothing_are_told_at_the_start(
    data: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(data / "masks", tmp_path / "masks")
    for number in range(8):
        Image.new("L", (80, 64)).save(tmp_path / "masks" / f"pair {number}.png")
    (tmp_path / "images").symlink_to(data / "images")
    sources = [{"pairs": {"images": "images", "masks": "masks"}}]
    mix = {"sources": sources, "shapes": [64], "validation": {"share": 0.4}}
    (tmp_path / "mix.yaml").write_text(json.dumps(mix))
    assert clue(data, tmp_path / "run", "--steps", "1", mix=str(tmp_path / "mix.yaml")) == ExitCode.OK
    told = "pairs: 4 of 10 masks mark nothing (pair 0.png, pair 3.png, pair 4.png, …); their images count as authentic"
    assert f"{told} (empty_masks)." in capfd.readouterr().err


def test_what_is_left_out_is_told_in_one_line(data: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert clue(data, tmp_path / "whole", "--steps", "1") == ExitCode.OK
    assert "left out" not in capfd.readouterr().err
    (data / "lonely").mkdir()
    for number in range(3):
        Image.new("RGB", (64, 64)).save(data / "lonely" / f"{number}.png")
    sources = [{"pairs": {"images": "images", "masks": "masks"}}]
    sources += [{"name": "lonely", "pairs": {"images": "lonely", "masks": "masks"}}]  # not one has a mask
    (data / "lonely.yaml").write_text(json.dumps({"sources": sources, "shapes": [64], "validation": {"share": 0.4}}))
    assert clue(data, tmp_path / "run", "--steps", "1", mix="lonely.yaml") == ExitCode.OK
    err = capfd.readouterr().err
    told = [line for line in err.splitlines() if "left out" in line]
    assert len(told) == 1
    assert "problems); --dry-run shows" in told[0]
    assert "lonely has no image to train on; the other sources take its share." in err
    assert clue(data, tmp_path / "quiet", "--steps", "1", "--quiet", mix="lonely.yaml") == ExitCode.OK
    assert capfd.readouterr().err == ""


def test_damaged_pictures_whose_names_are_not_utf_8(
    data: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "images").mkdir()
    for number in range(8):
        shutil.copy(data / "images" / f"pair {number}.png", tmp_path / "images")
    (tmp_path / "masks").symlink_to(data / "masks")
    for number in range(8, 16):
        (tmp_path / "images" / f"pair {number}.png").write_bytes(b"broken")
    (tmp_path / os.fsdecode(b"caf\xe9")).symlink_to(tmp_path)
    listed = [{"image": f"caf\udce9/images/pair {n}.png", "mask": f"masks/pair {n}.png"} for n in range(16)]
    (tmp_path / "list.jsonl").write_text("".join(json.dumps(row) + "\n" for row in listed))
    mix = {"sources": [{"list": "list.jsonl"}], "shapes": [64], "validation": {"share": 0.4}}
    (tmp_path / "mix.yaml").write_text(json.dumps(mix))
    assert clue(data, tmp_path / "run", "--steps", "2", mix=str(tmp_path / "mix.yaml")) == ExitCode.OK
    assert "a damaged picture was skipped" in capfd.readouterr().err
    assert any("caf\udce9" in row["picture"] for row in read_log(tmp_path / "run" / "log.jsonl") if "picture" in row)
    assert clue(data, tmp_path / "run", "--steps", "2", mix=str(tmp_path / "mix.yaml")) == ExitCode.OK  # from its state


def test_a_mix_corrected_before_the_first_step_is_taken(data: Path, tmp_path: Path) -> None:
    (data / "untouched.yaml").write_text(json.dumps({"sources": [{"authentic": "authentic"}], "shapes": [64]}))
    assert clue(data, tmp_path / "run", "--steps", "1", mix="untouched.yaml") == ExitCode.BAD_USAGE
    assert clue(data, tmp_path / "run", "--steps", "1") == ExitCode.OK
    assert clue(data, tmp_path / "run", "--steps", "2") == ExitCode.BAD_USAGE


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_stopped_and_continued(
    data: Path,
    tmp_path: Path,
    number: signal.Signals,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    assert clue(data, tmp_path / "unbroken", "--steps", "4") == ExitCode.OK
    with monkeypatch.context() as patch:
        stepped = Display.stepped

        def stepped_and_stopped(self: Display, row: Row) -> None:
            stepped(self, row)
            if row["step"] == 3:
                signal.raise_signal(number)

        patch.setattr(Display, "stepped", stepped_and_stopped)
        assert clue(data, tmp_path / "run", "--steps", "4") == ExitCode.INTERRUPTED
    assert "Interrupted at step 3" in capfd.readouterr().err
    assert clue(data, tmp_path / "run", "--steps", "4") == ExitCode.OK
    assert "Going on from step 3" in capfd.readouterr().err
    losses = [
        [row["loss"] for row in read_log(tmp_path / name / "log.jsonl") if row["kind"] == "step"]
        for name in ("run", "unbroken")
    ]
    assert losses[0] == losses[1]
    last = [(tmp_path / name / "last" / "model.safetensors").read_bytes() for name in ("run", "unbroken")]
    assert last[0] == last[1]


KILLED = """
import os, signal, sys
import torch
from clue_cli.app import run
from model.training.progress import Display

torch.set_num_threads(int(sys.argv[1]))
stepped = Display.stepped

def killed(self, row):
    stepped(self, row)
    if row["step"] == 3:
        os.kill(os.getpid(), signal.SIGKILL)

Display.stepped = killed
run(sys.argv[2:])
"""
"""`clue train` as a process that is killed after its third step; the state on the disk is that of the second."""


def test_killed_between_checkpoints_and_continued(
    data: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    def words(name: str) -> list[str]:
        small = ["--preset", str(data / "quick.yaml"), "--batch", "4", "--workers", "0", "--device", "cpu"]
        small += ["--validation-samples", "8", "--validate-every", "4", "--save-every", "2", "--dice", "image"]
        return ["train", "--data", str(data / "mix.yaml"), "--out", str(tmp_path / name), "--steps", "5", *small]

    threads = str(torch.get_num_threads())
    killed = subprocess.run(
        [sys.executable, "-c", KILLED, threads, *words("run")], check=False, capture_output=True, text=True
    )
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    logs = [tmp_path / name / "log.jsonl" for name in ("run", "unbroken")]
    assert [row["step"] for row in read_log(logs[0]) if row["kind"] == "step"] == [1, 2, 3]
    assert run(words("run")) == ExitCode.OK
    assert "Going on from step 2" in capfd.readouterr().err
    AcceleratorState._reset_state(reset_partial_state=True)
    assert run(words("unbroken")) == ExitCode.OK
    losses = [[row["loss"] for row in read_log(log) if row["kind"] == "step"] for log in logs]
    assert len(losses[0]) == 5
    assert losses[0] == losses[1]
    last = [(log.parent / "last" / "model.safetensors").read_bytes() for log in logs]
    assert last[0] == last[1]


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


def test_no_room_for_decoded_photos(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("model.data.photo_bank.PhotoBank.prepare", full)
    (data / "forge.yaml").write_text(json.dumps({"sources": [{"forge": "authentic"}], "shapes": [64]}))
    assert clue(data, tmp_path / "run", "--steps", "1", mix="forge.yaml") == ExitCode.OUTPUT_NOT_WRITABLE
    said = capfd.readouterr().err
    assert "no room for the decoded photos (No space left on device)" in said
    assert "TMPDIR" in said


@pytest.mark.parametrize(
    ("words", "mix", "code", "said"),
    [
        ([], "mix.yaml", 2, "Exactly one of --steps and --minutes"),
        (["--steps", "1", "--minutes", "1"], "mix.yaml", 2, "Exactly one"),
        (["--steps", "0"], "mix.yaml", 2, "--steps is 0"),
        (["--steps", "1", "--levels", "0.1,x"], "mix.yaml", 2, "numbers from 0 to 1 with commas"),
        (["--steps", "1", "--levels", "0.1,2"], "mix.yaml", 2, "--levels is (0.1, 2.0)"),
        (["--steps", "1", "--noise", "pink"], "mix.yaml", 2, "pink"),
        (["--steps", "1", "--dice", "pixel"], "mix.yaml", 2, "pixel"),
        (["--steps", "1", "--decode"], "mix.yaml", 2, "--decode is for a --dry-run"),
        (["--steps", "1"], "wrong.yaml", 2, "pears"),
        (["--steps", "1"], "absent.yaml", 2, "absent.yaml"),
        (["--steps", "1"], "../absent.yaml", 2, "../absent.yaml"),
        (["--steps", "1", "--out", "."], "absent.yaml", 2, "absent.yaml"),  # not taken for an empty path
        (["--steps", "1"], "odd.yaml", 2, "72×72 does not fit"),
        (["--steps", "1", "--preset", "maxi"], "mix.yaml", 2, "no preset 'maxi'"),
        (["--steps", "1", "--init", "absent"], "mix.yaml", 4, "no model at absent"),
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


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (OptionsError, 2),
        (OtherSettingsError, 2),
        (CannotWriteError, 5),
        (NotFiniteError, 7),
        (ResourcesError, 7),
    ],
)
def test_exit_codes(
    data: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    error: type[TrainingError],
    code: int,
) -> None:
    def fail(*_: object) -> None:
        raise error("It is \x1b[31mred.", "Do this.")

    monkeypatch.setattr("model.training.trainer.train", fail)
    assert clue(data, tmp_path / "run", "--steps", "1", "--quiet") == code
    assert capfd.readouterr().err == "clue: It is \\x1b[31mred.\n      Do this.\n"


@pytest.mark.parametrize("name", ["accelerate", "cv2"])
def test_without_the_extra(
    data: Path, tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    for package, leaf in (("model.training", "trainer"), ("model.data", "stream")):
        module = importlib.import_module(f"{package}.{leaf}")
        monkeypatch.setattr(sys.modules[package], leaf, module)  # put back: the command imports another one
        monkeypatch.delitem(sys.modules, f"{package}.{leaf}")
    monkeypatch.setitem(sys.modules, name, None)
    assert clue(data, tmp_path / "run", "--steps", "1") == ExitCode.BAD_USAGE
    assert "clue-forensics[train]" in capfd.readouterr().err


@pytest.mark.parametrize("words", [["--dry-run"], ["--steps", "1"]], ids=["dry run", "training"])
def test_a_runs_folder_inside_the_data(
    data: Path, tmp_path: Path, words: list[str], capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "linked").symlink_to(data)
    for out in (data / "images" / "runs", tmp_path / "linked" / "authentic"):
        assert clue(data, out, *words) == ExitCode.BAD_USAGE
        assert "pictures of the training would be trained on" in " ".join(capfd.readouterr().err.split())
    assert not (data / "images" / "runs").exists()


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


def test_a_sheet_that_cannot_be_written(data: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_text("")
    assert clue(data, tmp_path / "file" / "run", "--dry-run") == ExitCode.OUTPUT_NOT_WRITABLE
    assert "cannot be written" in capfd.readouterr().err


def test_every_option_arrives(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Any] = []

    def note(task: Any, *_: object) -> Any:
        seen.append(task)
        raise OptionsError("enough")

    monkeypatch.setattr("model.training.trainer.train", note)
    words = {
        "minutes": 2.0, "accumulate": 2, "lr": 0.1, "weight_decay": 0.2, "warmup": 0.3, "clip": 0.4, "ema": 0.5,
        "seed": 6, "precision": "bf16", "adapt_sd3": "lora", "adapt_sam": "frozen", "noise": "ddpm", "shift": 6.0,
        "branches": "sd3", "bce_weight": 0.7, "dice_weight": 0.8, "weights_rate": 0.9, "validate_every": 10,
        "dice": "image", "calibration_samples": 9,
        "save_every": 11, "validation_samples": 12, "workers": 1, "batch": 3,
    }  # fmt: skip
    line = [part for name, value in words.items() for part in ("--" + name.replace("_", "-"), str(value))]
    line += ["--levels", "0.01,0.5", "--gradient-checkpointing", "--fresh-head", "--init", "mini"]
    assert clue(data, tmp_path / "run", *line) == 2
    (task,) = seen
    assert {name: getattr(task.options, name) for name in words} == words
    assert (task.options.levels, task.init) == ((0.01, 0.5), "mini")
    assert task.options.gradient_checkpointing
    assert task.options.fresh_head


def test_other_processes_of_a_launch_say_nothing(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    from model.training.task import Outcome

    monkeypatch.setenv("RANK", "1")
    for interrupted, code in ((False, ExitCode.OK), (True, ExitCode.INTERRUPTED)):
        outcome = Outcome(1, 0.5, interrupted, 0)
        monkeypatch.setattr("model.training.trainer.train", lambda *_, outcome=outcome: outcome)
        assert clue(data, tmp_path / "run", "--steps", "1") == code
    assert capfd.readouterr().err == ""
    assert torch.is_grad_enabled()
