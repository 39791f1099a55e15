"""What only a CUDA device can show: `pytest -m gpu`. Elsewhere every test is skipped, with the reason."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from clue_cli.scan import ScanOptions
from clue_cli.scan.pipeline import scan
from model.branches.sam_block import SamAttention
from model.checkpoint import inspect
from model.clue import CLUE, adapt, build
from model.cuda_graphs import Graphs
from model.device import FLOAT8_CAPABILITY, Compile, Transfer, compile_network
from model.float8 import Float8Linear, use_float8
from model.losses import bce_loss
from model.predictor import Prediction, Predictor
from model.presets import SD3_MEDIUM
from model.reporter import SILENT
from model.storage import load, with_bases
from model.training.network import hold_frozen, keep_less
from tests.base_layouts import SMALL, register_small

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device, and there is none here"),
]
GIB = 1 << 30


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("CLUE_CONFIG", str(tmp_path / "config"))
    return tmp_path


def heatmap(model: CLUE, batch: int = 1) -> np.ndarray:
    pixels = np.random.default_rng(0).integers(0, 256, (320, 448, 3), dtype=np.uint8)
    (result,) = Predictor(model, batch).predict([(0, pixels)])
    assert isinstance(result, Prediction)
    return result.heatmap


def test_mini_marks_what_it_marks_on_the_cpu() -> None:
    """The stated tolerances: 0.01 of probability in float32; 1 % of the pixels change sides in bfloat16."""
    expected = heatmap(load(inspect("mini"), "cpu", torch.float32))
    single = heatmap(load(inspect("mini"), "cuda:0", torch.float32))
    assert np.abs(single - expected).max() < 0.01
    half = heatmap(load(inspect("mini"), "cuda:0", torch.bfloat16))
    assert ((half > 0.5) != (expected > 0.5)).mean() < 0.01


def test_the_same_batch_gives_the_same_bits() -> None:
    model = load(inspect("mini"), "cuda:0", torch.bfloat16)
    assert np.array_equal(heatmap(model, 4), heatmap(model, 4))


def test_base_weights_go_straight_to_the_device(config: Path) -> None:
    model = with_bases(SMALL, register_small(config), "cuda:0", torch.bfloat16)
    assert {(t.device.type, t.dtype) for t in model.state_dict().values()} == {("cuda", torch.bfloat16)}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_sams_attention_is_segment_anythings(dtype: torch.dtype) -> None:
    from segment_anything.modeling.image_encoder import Attention

    torch.manual_seed(0)
    stock = Attention(160, 2, use_rel_pos=True, input_size=(64, 64)).cuda().to(dtype).eval()
    for parameter in stock.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    x = torch.randn(1, 64, 64, 160, device="cuda", dtype=dtype)
    tolerance = 1e-3 if dtype == torch.float32 else 5e-2
    torch.backends.cuda.matmul.allow_tf32 = False
    with torch.inference_mode():
        torch.testing.assert_close(SamAttention(stock)(x), stock(x), atol=tolerance, rtol=tolerance)


@pytest.mark.parametrize("how", ["blocks", "graphs"])
def test_compiled_it_marks_the_same(config: Path, how: Compile) -> None:
    model = with_bases(SMALL, register_small(config), "cuda:0", torch.float32).eval()
    expected = heatmap(model)
    compiled = compile_network(model, how)
    assert np.abs(heatmap(compiled) - expected).max() < 1e-3
    assert np.array_equal(heatmap(compiled), heatmap(compiled))  # a replayed graph overwrites its own outputs


def test_transfers_arrive_whole() -> None:
    """Many at a time, none waited for: what comes back is what was computed from what went up."""
    transfer = Transfer(torch.device("cuda:0"))
    sent = [torch.full((2048, 2048), float(number)) for number in range(20)]
    coming = [transfer.down(transfer.up(tensor) * 2 + 1) for tensor in sent]
    for number, arrive in enumerate(coming):
        assert np.array_equal(arrive(), np.full((2048, 2048), 2.0 * number + 1, np.float32))


@pytest.mark.parametrize("batch", [1, 4])
def test_batches_under_way_change_nothing(batch: int) -> None:
    model = load(inspect("mini"), "cuda:0", torch.bfloat16)
    overlapped, one_by_one = Predictor(model, batch), Predictor(model, batch)
    one_by_one.ahead = 0
    assert overlapped.ahead == 1
    pixels = [np.random.default_rng(n).integers(0, 256, (700, 500 + 40 * n, 3), dtype=np.uint8) for n in range(4)]
    pairs = zip(overlapped.predict(enumerate(pixels)), one_by_one.predict(enumerate(pixels)), strict=True)
    for one, other in pairs:
        assert isinstance(one, Prediction)
        assert isinstance(other, Prediction)
        assert np.array_equal(one.heatmap, other.heatmap)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_replayed_as_a_graph_it_gives_the_same_bits(dtype: torch.dtype) -> None:
    """In any order of shapes, although their graphs share their memory."""
    model = load(inspect("mini"), "cuda:0", dtype)
    eager, replayed = Predictor(model, 2), Predictor(model, 2, graphs=True)
    sizes = [(320, 448), (256, 384), (96, 64)] * 8
    pixels = [np.random.default_rng(n).integers(0, 256, (*size, 3), np.uint8) for n, size in enumerate(sizes)]
    for one, other in zip(eager.predict(enumerate(pixels)), replayed.predict(enumerate(pixels)), strict=True):
        assert isinstance(one, Prediction)
        assert isinstance(other, Prediction)
        assert np.array_equal(one.heatmap, other.heatmap)
    assert isinstance(replayed._probabilities, Graphs)
    assert len(replayed._probabilities.held) == 3


def test_a_float8_layer_is_what_it_is_on_the_cpu() -> None:
    if torch.cuda.get_device_capability() < FLOAT8_CAPABILITY:
        pytest.skip("needs a GPU that computes in float8")
    torch.manual_seed(0)
    layer, x = torch.nn.Linear(1536, 6144).bfloat16(), torch.randn(2, 333, 1536).bfloat16()
    expected = Float8Linear(layer)(x)
    found = Float8Linear(layer.cuda())(x.cuda()).cpu()
    torch.testing.assert_close(found, expected, atol=3e-2, rtol=2e-2)


def test_in_float8_mini_marks_what_it_marks_in_bfloat16() -> None:
    if torch.cuda.get_device_capability() < FLOAT8_CAPABILITY:
        pytest.skip("needs a GPU that computes in float8")
    model = load(inspect("mini"), "cuda:0", torch.bfloat16)
    expected = heatmap(model)
    assert use_float8(model) > 0
    assert ((heatmap(model) > 0.5) != (expected > 0.5)).mean() < 0.02


def test_what_cannot_be_captured_runs_eagerly_and_the_device_is_as_before() -> None:
    """A sum that is asked for ends a capture; afterwards memory is freed and other graphs can be captured."""

    def asking(x: torch.Tensor) -> torch.Tensor:
        return x * float(x.sum())

    graphs, x = Graphs(asking), torch.ones(8, device="cuda:0")
    with torch.inference_mode(), pytest.warns(RuntimeWarning, match="without CUDA graphs"):
        for _ in range(5):
            assert torch.equal(graphs(x), x * 8)
    assert not graphs.held
    assert torch.cuda.current_stream() == torch.cuda.default_stream()
    transfer = Transfer(torch.device("cuda:0"))
    before = torch.cuda.memory_allocated()
    for _ in range(20):
        transfer.up(torch.zeros(1 << 20))
    torch.cuda.synchronize()
    assert torch.cuda.memory_allocated() <= before + (8 << 20)
    doubling = Graphs(lambda x: x * 2)
    for _ in range(5):
        assert torch.equal(doubling(x), x * 2)
    assert len(doubling.held) == 1


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two CUDA devices")
def test_a_scan_on_two_cards_is_that_of_one(tmp_path: Path) -> None:
    (tmp_path / "evidence").mkdir()
    for number in range(6):
        pixels = np.random.default_rng(number).integers(0, 256, (300, 400, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / "evidence" / f"{number}.png")
    for name, devices in (("one", ("cuda:0",)), ("two", ("cuda:0", "cuda:1"))):
        scan([tmp_path / "evidence"], tmp_path / name, ScanOptions(devices=devices), SILENT)
    for path in (tmp_path / "one" / "masks").rglob("*.png"):
        assert path.read_bytes() == (tmp_path / "two" / path.relative_to(tmp_path / "one")).read_bytes()


@pytest.mark.slow
def test_sd3_medium_at_1024_fits_into_12_gb() -> None:
    torch.cuda.empty_cache()
    model = _sd3_medium()
    torch.cuda.reset_peak_memory_stats()
    x, noise = torch.rand(1, 3, 1024, 1024, device="cuda"), torch.randn(1, 16, 128, 128, device="cuda")
    with torch.inference_mode():
        assert model(x, noise).shape == (1, 1, 1024, 1024)
    assert torch.cuda.max_memory_allocated() < 12 * GIB


@pytest.mark.slow
def test_a_training_step_at_1024_fits_into_24_gb() -> None:
    torch.cuda.empty_cache()
    model = build(SD3_MEDIUM, "meta")
    adapt(model, "lora")
    hold_frozen(model, torch.bfloat16)
    keep_less(model.to_empty(device="cuda").train().apply(_small))
    optimizer = torch.optim.AdamW([parameter for parameter in model.parameters() if parameter.requires_grad])
    torch.cuda.reset_peak_memory_stats()
    x, noise = torch.rand(1, 3, 1024, 1024, device="cuda"), torch.randn(1, 16, 128, 128, device="cuda")
    with torch.autocast("cuda", torch.bfloat16):
        logits = model(x, noise)
    bce_loss(logits, torch.zeros_like(logits)).backward()
    optimizer.step()
    assert torch.cuda.max_memory_allocated() < 24 * GIB


def _sd3_medium() -> CLUE:
    return build(SD3_MEDIUM, "meta").to(torch.bfloat16).to_empty(device="cuda").eval().apply(_small)


@torch.no_grad()
def _small(module: torch.nn.Module) -> None:
    for tensor in (*module.parameters(recurse=False), *module.buffers(recurse=False)):
        tensor.normal_(std=0.02)
