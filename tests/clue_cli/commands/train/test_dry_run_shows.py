"""`clue train --dry-run` looks through the data and shows it; nothing is trained, no weights are needed."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from PIL import Image

from clue_cli.app import run
from clue_cli.errors import ExitCode
from tests.clue_cli.commands.train.command import clue


def test_dry_run(data: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "run"
    assert clue(data, out, "--dry-run") == ExitCode.OK
    said = capfd.readouterr().out
    for words in (
        "17 images",
        "authentic",
        "broken.png",
        "forged area",
        "parameters are trainable",
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


def test_a_sheet_that_cannot_be_written(data: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_text("")
    assert clue(data, tmp_path / "file" / "run", "--dry-run") == ExitCode.OUTPUT_NOT_WRITABLE
    assert "cannot be written" in capfd.readouterr().err
