"""Messages about the data and about failures, their exit codes, and which processes print them."""

from __future__ import annotations

import importlib
import json
import os
import shutil
import sys
from pathlib import Path

import pytest
import torch
from PIL import Image

from clue_cli.errors import ExitCode
from model.training.errors import (
    CannotWriteError,
    NotFiniteError,
    OptionsError,
    OtherSettingsError,
    ResourcesError,
    TrainingError,
)
from model.training.run_folder import read_log
from tests.clue_cli.commands.train.command import clue


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
    assert "Damaged pictures were skipped" in capfd.readouterr().err
    assert any("caf\udce9" in row["picture"] for row in read_log(tmp_path / "run" / "log.jsonl") if "picture" in row)
    assert clue(data, tmp_path / "run", "--steps", "2", mix=str(tmp_path / "mix.yaml")) == ExitCode.OK  # from its state


@pytest.mark.parametrize(
    ("error", "code"),
    [(OptionsError, 2), (OtherSettingsError, 2), (CannotWriteError, 5), (NotFiniteError, 7), (ResourcesError, 7)],
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

    monkeypatch.setattr("clue_cli.training.train", fail)
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


def test_other_processes_of_a_launch_say_nothing(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    from model.training.task import Outcome

    monkeypatch.setenv("RANK", "1")
    for interrupted, code in ((False, ExitCode.OK), (True, ExitCode.INTERRUPTED)):
        outcome = Outcome(1, 0.5, interrupted, 0)
        monkeypatch.setattr("clue_cli.training.train", lambda *_, outcome=outcome: outcome)
        assert clue(data, tmp_path / "run", "--steps", "1") == code
    assert capfd.readouterr().err == ""
    assert torch.is_grad_enabled()
