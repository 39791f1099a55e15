"""The benchmark of `forge` runs and prints one JSON with a row for each kind and size."""

from __future__ import annotations

import json
import runpy
import sys
from pathlib import Path

import pytest

pytest.importorskip("cv2", reason="the extra `train` is not installed")

from model.data.forge import EDITS

SCRIPT = Path(__file__).parents[2] / "scripts" / "bench_forge.py"


def test_a_row_for_each_kind_and_size(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "argv", ["bench_forge.py", "--sizes", "96x64", "64x64", "--samples", "2"])
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(str(SCRIPT), run_name="__main__")
    assert ended.value.code == 0
    printed = json.loads(capsys.readouterr().out)
    rows = [(row["size"], row["kind"], row["photos"]) for row in printed["figures"]]
    assert len(set(rows)) == len(rows) == 2 * (3 + len(EDITS) + 2)
    assert {kind for _, kind, photos in rows if photos == "on demand"} == {"default mix", "plainly"}
    assert {row["size"] for row in printed["figures"]} == {"96x64", "64x64"}
    for row in printed["figures"]:
        assert row["samples"] == 2
        assert row["samples_per_second_per_core"] == pytest.approx(1 / row["seconds_mean"], rel=0.02)
        assert row["seconds_median"] <= row["seconds_slowest"]
