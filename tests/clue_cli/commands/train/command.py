"""`clue train`, as a person types it, with a small network."""

from __future__ import annotations

from pathlib import Path

from clue_cli.app import run


def clue(data: Path, out: Path, *words: str, mix: str = "mix.yaml") -> int:
    small = ["--preset", str(data / "quick.yaml"), "--batch", "4", "--workers", "0", "--device", "cpu"]
    small += ["--validation-samples", "8", "--validate-every", "2", "--save-every", "2"]
    return run(["train", "--data", str(data / mix), "--out", str(out), *small, *words])
