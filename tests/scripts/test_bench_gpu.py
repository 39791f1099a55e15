"""The benchmark of the network: the same table on the CPU, with a tiny preset in the place of the real ones."""

from __future__ import annotations

import dataclasses
import json
import runpy
from pathlib import Path
from typing import Any

import pytest
import torch

from model import presets
from tests.base_layouts import SMALL

QUICK = ["--device", "cpu", "--dtype", "float32", "--size", "64", "--matmul", "32", "--repeats", "1"]


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    tiny = dataclasses.replace(SMALL, name="mini")
    monkeypatch.setitem(presets.PRESETS, "mini", tiny)
    return runpy.run_path(str(Path(__file__).parents[2] / "scripts" / "bench_gpu.py"))


def test_it_measures_and_writes_the_table(
    bench: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [*QUICK, "--batches", "1", "2", "--no-scan", "--no-training", "--out", str(tmp_path / "out")]
    assert bench["main"](words) == 0
    document = json.loads((tmp_path / "out" / "bench_gpu.json").read_text())
    assert [(row["levels"], row["batch"]) for row in document["rows"]] == [(1, 1), (1, 2), (3, 1), (3, 2)]
    for row in document["rows"]:
        assert row["tiles_per_second"] > 0
        assert row["plain_tiles_per_second"] > 0
        assert row["of_matmul"] == pytest.approx(row["tflops"] / document["matmul_tflops"])
        assert set(row["milliseconds"]) == {"vae", "mmdit", "sam", "head"}
    table = (tmp_path / "out" / "bench_gpu.md").read_text()
    assert table in capsys.readouterr().out
    assert table.count("| mini |") == 4
    assert (tmp_path / "out" / "bench_gpu.svg").read_text().startswith("<svg")


def test_a_size_that_does_not_fit_is_refused(bench: dict[str, Any]) -> None:
    with pytest.raises(SystemExit, match="no multiple of 16"):
        bench["main"]([*QUICK[:4], "--size", "60", "--matmul", "8", "--repeats", "1"])


def test_stock_attention_is_the_same_network(bench: dict[str, Any]) -> None:
    from model.clue import build

    branch = build(SMALL).sam
    assert branch is not None
    fast = branch.encoder.blocks[1].attn
    x = torch.randn(1, 8, 8, 32)
    with torch.inference_mode():
        torch.testing.assert_close(bench["stock_attention"](fast)(x), fast(x), atol=1e-4, rtol=1e-4)
