"""The benchmark of `clue eval` runs on a generated set and on one that is there, and prints one JSON."""

from __future__ import annotations

import json
import runpy
import sys
from pathlib import Path

import pytest

from clue_cli.eval import run
from tests.clue_cli.eval.made import write_set
from tests.tiny_model import write_tiny_model

pytest.importorskip("skimage", reason="scikit-image is not installed")

SCRIPT = Path(__file__).parents[2] / "scripts" / "bench_eval.py"


@pytest.mark.parametrize("words", [[], ["--bench", "acdsee", "--root", "."]])
def test_the_share_outside_the_network(
    words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_set(tmp_path / "ACDSee", 2, 2)
    model = write_tiny_model(tmp_path / "model")
    report = tmp_path / "report.json"
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(run, "RESAMPLES", 5)
    sizes = ["--images", "3", "--side", "96", "--model", str(model), "--json", str(report)]
    monkeypatch.setattr(sys, "argv", ["bench_eval.py", *words, *sizes])
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(str(SCRIPT), run_name="__main__")
    printed = json.loads(capsys.readouterr().out)
    assert json.loads(report.read_text()) == printed
    assert printed["set"] == ("acdsee" if words else "generated")
    assert printed["predictions"] == 3
    assert 0 < printed["network_seconds"] <= printed["wall_seconds"]
    assert printed["share_outside_network"] == pytest.approx(
        1 - printed["network_seconds"] / printed["wall_seconds"], abs=0.01
    )
    assert ended.value.code == (0 if printed["share_outside_network"] <= printed["target"] else 1)
