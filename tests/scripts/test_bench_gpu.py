"""The benchmark of the network: the same table on the CPU, with a tiny preset in the place of the real ones."""

from __future__ import annotations

import dataclasses
import json
import re
import runpy
import signal
import time
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch._C._autograd import DeviceType

from model import presets
from model.clue import CLUE, adapt, build
from model.preset import Preset
from tests.base_layouts import SMALL

QUICK = ["--device", "cpu", "--dtype", "float32", "--size", "64", "--matmul", "32", "--repeats", "1"]


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    tiny = dataclasses.replace(SMALL, name="mini")
    monkeypatch.setitem(presets.PRESETS, "mini", tiny)
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2] / "scripts"))
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


def test_the_profile_names_what_takes_the_time(bench: dict[str, Any], tmp_path: Path) -> None:
    bench["TRAINED"]["mini"] = (2, 32)
    words = ["--levels", "1", "2", "--no-plain", "--no-scan", "--no-training", "--profile", "--out", str(tmp_path)]
    assert bench["main"]([*QUICK, *words]) == 0
    profiles = json.loads((tmp_path / "bench_gpu.json").read_text())["profiles"]
    assert list(profiles) == ["Network of mini, 2 levels, batch 1, eager", "Training step of mini, batch 2"]
    text = (tmp_path / "bench_gpu.md").read_text()
    for title, found in profiles.items():
        times = [kernel["milliseconds"] for kernel in found["kernels"]]
        assert times == sorted(times, reverse=True)
        assert len(times) == 20
        assert 0.1 < sum(kernel["share"] for kernel in found["kernels"]) < 1
        assert sum(times) < found["milliseconds"]
        assert found["launches"] > sum(kernel["launches"] for kernel in found["kernels"])
        assert f"{title}: " in text
    network, training = (json.dumps(found["kernels"]) for found in profiles.values())
    assert "backward" in training.lower()
    assert "backward" not in network.lower()


def test_a_kernels_bytes_and_share_are_those_of_its_launches(bench: dict[str, Any]) -> None:
    a, b = torch.randn(64, 32), torch.randn(32, 16)
    found = bench["costliest"](lambda: (a @ b, a @ b), False)
    (product,) = [kernel for kernel in found["kernels"] if kernel.name == "aten::mm"]
    assert (product.launches, product.shapes) == (2, "64×32 32×16")
    assert product.read_mb == 2 * 4 * (64 * 32 + 32 * 16) / 1e6
    assert sum(kernel.share for kernel in found["kernels"]) == pytest.approx(1)
    assert product.milliseconds == pytest.approx(product.share * found["milliseconds"])


def test_kernels_of_a_card_are_grouped_with_what_launched_them(
    bench: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Events as the profiler gives them: kernels at their operators, and all kernels by themselves."""

    def event(name: str, kernels: list[tuple[str, float]] = [], microseconds: float | None = None) -> SimpleNamespace:  # noqa: B006
        return SimpleNamespace(
            name=name,
            kernels=[SimpleNamespace(name=kernel, duration=time) for kernel, time in kernels],
            input_shapes=[[4, 8], []],
            input_dtypes=["c10::BFloat16", "Scalar"],
            device_type=DeviceType.CPU if microseconds is None else DeviceType.CUDA,
            is_user_annotation=False,
            self_device_time_total=microseconds,
        )

    events = [event("aten::silu", [("silu", 30.0)]), event("aten::silu", [("silu", 50.0)])]
    events += [event(name, microseconds=time) for name, time in (("silu", 30.0), ("silu", 50.0), ("triton_norm", 20.0))]
    recorded = SimpleNamespace(events=lambda: events)
    scope = bench["costliest"].__globals__
    monkeypatch.setitem(scope, "profile", lambda **_: nullcontext(recorded))
    monkeypatch.setattr(torch.cuda, "synchronize", lambda: None)
    silu, norm = bench["costliest"](lambda: None, True)["kernels"]
    assert (silu.operator, silu.launches, silu.milliseconds, silu.read_mb) == ("aten::silu", 2, 0.08, 2 * 64 / 1e6)
    assert (norm.name, norm.operator, norm.share, norm.read_mb) == ("triton_norm", "", 0.2, None)


@pytest.fixture
def stubs(bench: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Measurements that take no time; they have tests of their own."""
    row = bench["Row"]

    def measured(self: Any, preset: Preset, how: str, matmul: float) -> list[Any]:
        return [row(preset.name, 64, len(preset.noise.levels), self.options.batches[0], how, 5.0, 1.0, 0.5, 1.0)]

    step = {"images_per_second": 2.0, "weights_gb": 1.0, "peak_gb": 1.0, "batch": 2}
    found = {"milliseconds": 1.0, "launches": 1, "kernels": []}
    for name, stub in {
        "measured": measured,
        "training": lambda self, preset: step,
        "profiles": lambda self, preset: [("Network", lambda: found), ("Training step", lambda: found)],
        "scan": lambda self, preset, batch: 3.0,
    }.items():
        monkeypatch.setattr(bench["Bench"], name, stub)
    return bench


def quick(bench: dict[str, Any], out: Path, *words: str) -> dict[str, Any]:
    assert bench["main"]([*QUICK, "--quick", "--compile", "blocks", "--out", str(out), *words]) == 0
    document: dict[str, Any] = json.loads((out / "bench_gpu.json").read_text())
    return document


def test_quick_measures_what_matters(stubs: dict[str, Any], tmp_path: Path) -> None:
    document = quick(stubs, tmp_path, "--profile")
    rows = [(row["levels"], row["batch"], row["how"]) for row in document["rows"]]
    assert rows == [(levels, 4, "eager") for levels in (1, 2, 3)] + [(levels, 4, "blocks") for levels in (3, 2, 1)]
    assert [row["scan_tiles_per_second"] for row in document["rows"]] == [None, 3.0, None, None, None, None]
    assert document["training"]["mini"]["batch"] == 2
    assert list(document["profiles"]) == ["Network", "Training step"]
    assert document["left_out"] == []


def test_what_does_not_fit_the_budget_is_named_and_has_no_figure(
    stubs: dict[str, Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The second of the eager rows hangs; what comes later finds no time left."""
    measured = stubs["Bench"].measured

    def hanging(self: Any, preset: Preset, *rest: Any) -> Any:
        if len(preset.noise.levels) > 1:
            time.sleep(60)
        return measured(self, preset, *rest)

    monkeypatch.setattr(stubs["Bench"], "measured", hanging)
    monkeypatch.setitem(stubs["main"].__globals__, "QUICK", 10.0)
    started = time.monotonic()
    document = quick(stubs, tmp_path)
    assert time.monotonic() - started < 40
    assert [row["levels"] for row in document["rows"]] == [1]
    assert document["training"] == {}
    late, *others = document["left_out"]
    assert re.fullmatch(r"eager, 2 levels \(not finished in \d+ s\)", late)
    assert others[0] == "eager, 3 levels (not begun: 0 s were left)"
    assert others[1] == "training step of mini (not begun: 0 s were left)"
    assert "Not measured: eager, 2 levels (not finished" in (tmp_path / "bench_gpu.md").read_text()
    assert signal.getitimer(signal.ITIMER_REAL)[0] == 0


def test_a_part_without_memory_is_named(bench: dict[str, Any]) -> None:
    budget = bench["Budget"](1000.0)

    def full(error: Exception) -> None:
        raise error

    with budget.part("training step", 10):
        full(torch.OutOfMemoryError())
    assert budget.left_out == ["training step (out of memory)"]
    with pytest.raises(ValueError, match="defect"), budget.part("scan", 10):
        full(ValueError("defect"))


def test_without_a_budget_nothing_has_a_deadline(bench: dict[str, Any]) -> None:
    with bench["Budget"](None).part("scan", 1e-6) as begun:
        assert begun
        assert signal.getitimer(signal.ITIMER_REAL)[0] == 0
