"""`clue train --dry-run` of photos to forge from; masks without a photo are told."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image

from clue_cli.errors import ExitCode
from tests.clue_cli.commands.train.command import clue


def test_a_dry_run_of_photos_to_forge_from(data: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    objects = tmp_path / "objects"
    objects.mkdir()
    for name in ("3_1", "nobody\x1b[2J"):
        Image.new("L", (80, 64), 255).save(objects / f"{name}.png")
    forge = {"photos": "authentic", "masks": [{"folder": str(objects)}]}
    mix = {"sources": [{"forge": forge}], "shapes": [64], "validation": {"share": 0.4}}
    (data / "made.yaml").write_text(json.dumps(mix))
    assert clue(data, tmp_path / "run", "--dry-run", mix="made.yaml") == ExitCode.OK
    said = capfd.readouterr().out
    assert "object masks 1" in said
    assert "1 of 2 object masks belong to no photo" in said
    assert "nobody\\x1b[2J.png" in said
    assert (tmp_path / "run" / "contact-sheet.png").is_file()
