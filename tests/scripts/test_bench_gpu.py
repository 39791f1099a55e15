"""The benchmark of the network: the same table on the CPU, with a tiny preset in the place of the real ones."""

from __future__ import annotations

import dataclasses
import json
import runpy
from pathlib import Path
from typing import Any

import pytest

from model import presets
from model.clue import CLUE, adapt, build
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
    assert {(row["how"], row["size"]) for row in document["rows"]} == {("eager", 64)}
    for row in document["rows"]:
        assert row["tiles_per_second"] > 0
        assert row["plain_tiles_per_second"] > 0
        assert row["of_matmul"] == pytest.approx(row["tflops"] / document["matmul_tflops"])
        assert set(row["milliseconds"]) == {"vae", "mmdit", "sam", "head"}
    table = (tmp_path / "out" / "bench_gpu.md").read_text()
    assert table in capsys.readouterr().out
    assert table.count("| mini |") == 4
    assert (tmp_path / "out" / "bench_gpu.svg").read_text().startswith("<svg")


def test_a_training_step_holds_the_base_in_two_bytes(bench: dict[str, Any]) -> None:
    step = bench["Bench"](bench["arguments"](QUICK)).training(SMALL)
    parameters = list(adapted().parameters())
    base, learned = (sum(p.numel() for p in parameters if p.requires_grad is learns) for learns in (False, True))
    assert step["images_per_second"] > 0
    assert 2 * base + 4 * learned <= step["weights_gb"] * 1e9 < 4 * (base + learned)


def adapted() -> CLUE:
    model = build(SMALL, "meta")
    adapt(model, "lora")
    return model


def test_a_size_that_does_not_fit_is_refused(bench: dict[str, Any]) -> None:
    with pytest.raises(SystemExit, match="no multiple of 16"):
        bench["main"]([*QUICK[:4], "--size", "60", "--matmul", "8", "--repeats", "1"])


def test_a_tile_is_no_larger_than_the_presets(bench: dict[str, Any]) -> None:
    assert bench["Bench"](bench["arguments"](["--device", "cpu"])).side(SMALL) == SMALL.tile.size


def test_compiled_rows_stand_beside_the_eager_ones(
    bench: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []
    monkeypatch.setitem(bench["main"].__globals__, "compile_network", lambda model, how: asked.append(how))
    monkeypatch.setattr("torch.compiler.reset", lambda: None)  # imports the compiler, which takes seconds
    words = ["--levels", "1", "--compile", "blocks", "graphs", "--no-plain", "--no-scan", "--no-training"]
    assert bench["main"]([*QUICK, *words, "--out", str(tmp_path)]) == 0
    rows = json.loads((tmp_path / "bench_gpu.json").read_text())["rows"]
    assert [row["how"] for row in rows] == ["eager", "blocks", "graphs"]
    assert asked == ["blocks", "graphs"]
    assert "| mini | 64² | 1 | 1 | graphs |" in (tmp_path / "bench_gpu.md").read_text()


@pytest.mark.parametrize(("seconds", "rate"), [((10.0, 16.0), 2.0), ((16.0, 10.0), None)])
def test_what_starting_takes_is_subtracted(
    bench: dict[str, Any], monkeypatch: pytest.MonkeyPatch, seconds: tuple[float, float], rate: float | None
) -> None:
    took = iter(seconds)
    counts = []

    def scan_seconds(self: object, model: Path, evidence: Path, batch: int) -> float:
        assert (model / "model.safetensors").is_file()
        counts.append(len(list(evidence.glob("*.jpg"))))
        return next(took)

    monkeypatch.setattr(bench["Bench"], "scan_seconds", scan_seconds)
    measure = bench["Bench"](bench["arguments"]([*QUICK, "--images", "16"]))
    assert measure.scan(SMALL, 1) == rate
    assert counts == [4, 16]


def counted(bench: dict[str, Any], tokens: int, side: int, levels: tuple[float, ...] = (0.3,)) -> dict[str, int]:
    """The paper's network with a prompt of so many tokens."""
    mmdit = dataclasses.replace(presets.SD3_MEDIUM.transformer, prompt_tokens=tokens)
    noise = dataclasses.replace(presets.SD3_MEDIUM.noise, levels=levels)
    preset = dataclasses.replace(presets.SD3_MEDIUM, transformer=mmdit, noise=noise)
    found: dict[str, int] = bench["flops"](preset, side, side)
    return found


@pytest.mark.parametrize(
    ("tokens", "side", "vae", "mmdit", "sam"),
    # TFLOP of one pass at the paper's scale, as counted for straightforward modules; SAM always at 1024² there.
    [(333, 512, 1.1, 2.1, None), (1, 1024, 4.9, 8.0, 6.0)],
)
def test_the_papers_scale_costs_what_was_counted(
    bench: dict[str, Any], tokens: int, side: int, vae: float, mmdit: float, sam: float | None
) -> None:
    found = {part: count / 1e12 for part, count in counted(bench, tokens, side).items()}
    assert found["vae"] == pytest.approx(vae, rel=0.1)
    assert found["mmdit"] == pytest.approx(mmdit, rel=0.1)
    if sam is not None:
        assert found["sam"] == pytest.approx(sam, rel=0.03)  # what our attention widens is not counted
    else:
        assert found["sam"] < 0.3 * 6.0  # a small picture costs its own size, and the padding of its windows
    assert found["total"] == pytest.approx(sum(found[part] for part in ("vae", "mmdit", "sam", "head")))


def test_each_further_level_repeats_the_transformer_alone(bench: dict[str, Any]) -> None:
    one, three = counted(bench, 333, 512), counted(bench, 333, 512, presets.SD3_MEDIUM.noise.levels)
    assert three["mmdit"] == 3 * one["mmdit"]
    assert (three["vae"], three["sam"]) == (one["vae"], one["sam"])


def test_mini_is_counted_too(bench: dict[str, Any]) -> None:
    cost = bench["flops"](presets.MINI, 128, 128)
    assert 0 < cost["total"] < 1e12
    assert cost["head"] > 0
