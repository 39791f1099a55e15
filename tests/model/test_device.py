"""Where the network runs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from model import device
from model.clue import CLUE, build
from model.device import (
    Compile,
    CompilerMissing,
    DeviceError,
    Transfer,
    compile_blocks,
    compile_network,
    require_compiler,
    resolve,
)
from tests.base_layouts import SMALL


@pytest.fixture(autouse=True)
def plain_cpu(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A CPU without bfloat16, whatever this machine has; the file stands for /proc/cpuinfo."""
    monkeypatch.setattr(device, "_CPUINFO", tmp_path / "cpuinfo")
    monkeypatch.setattr("model.int8.works", lambda: True)
    return tmp_path / "cpuinfo"


@pytest.mark.parametrize(
    ("cpuinfo", "dtype"),
    [
        (None, torch.float32),
        ("processor\t: 0\nflags\t\t: fpu sse2 avx512f\n", torch.float32),
        ("processor\t: 0\nflags\t\t: fpu avx512f avx512_vnni\n", torch.int8),
        ("processor\t: 0\nflags\t\t: fpu avx2 avx_vnni\n", torch.int8),
        ("processor\t: 0\nflags\t\t: fpu avx512f avx512_vnni avx512_bf16\n", torch.bfloat16),
        ("processor\t: 0\nflags\t\t: fpu avx512f avx512_bf16\n", torch.bfloat16),
        ("processor\t: 0\nflags\t\t: fpu amx_bf16 amx_tile\n", torch.bfloat16),
        ("Features\t: fp asimd avx512_bf16\n", torch.float32),
    ],
)
def test_cpu_computes_in_bfloat16_where_it_can(plain_cpu: Path, cpuinfo: str | None, dtype: torch.dtype) -> None:
    if cpuinfo is not None:
        plain_cpu.write_text(cpuinfo)
    assert resolve("cpu", "auto") == ("cpu", dtype)
    assert resolve("cpu", "float32") == ("cpu", torch.float32)
    assert resolve("cpu", "bfloat16") == ("cpu", torch.bfloat16)


def test_auto_takes_what_there_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert resolve("auto", "auto") == ("cpu", torch.float32)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert resolve("auto", "auto") == ("cuda:0", torch.bfloat16)
    assert resolve("cuda:1", "float32") == ("cuda:1", torch.float32)


@pytest.mark.parametrize(("device", "dtype"), [("cuda:9", "auto"), ("tpu", "auto"), ("cpu", "float8")])
def test_what_is_not_there_is_named(device: str, dtype: str) -> None:
    with pytest.raises(DeviceError, match=r"tpu|cuda:9|float8"):
        resolve(device, dtype)


def test_on_the_cpu_nothing_is_copied() -> None:
    transfer = Transfer(torch.device("cpu"))
    tensor = torch.arange(6, dtype=torch.float32).reshape(2, 3)
    up = transfer.up(tensor)
    assert up.data_ptr() == tensor.data_ptr()
    down = transfer.down(up)()
    assert down.ctypes.data == tensor.data_ptr()
    assert np.array_equal(down, tensor.numpy())


def test_compiled_it_computes_the_same(network: CLUE) -> None:
    """Without code generation, which needs a compiler: that the graphs are captured and stand for the same."""
    x, noise = torch.rand(1, 3, 64, 64), torch.randn(1, *network.latent_shape(64, 64))
    with torch.inference_mode():
        expected = network(x, noise)
        compiled = compile_blocks(network, backend="eager")(x, noise)
    torch.testing.assert_close(compiled, expected, atol=1e-5, rtol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("how", ["blocks", "graphs"])
def test_compiled_with_generated_code_it_marks_the_same(how: Compile) -> None:
    """The stated tolerance: 1e-3 of probability in float32. On the CPU there are no graphs; the whole is one piece."""
    try:
        require_compiler()
    except CompilerMissing as error:
        pytest.skip(str(error))
    torch.manual_seed(0)
    model = build(SMALL, branches="sam").eval()
    x, noise = torch.rand(1, 3, 64, 96), torch.randn(1, *model.latent_shape(64, 96))
    with torch.inference_mode():
        expected = torch.sigmoid(model(x, noise))
        compiled = torch.sigmoid(compile_network(model, how)(x, noise))
    torch.testing.assert_close(compiled, expected, atol=1e-3, rtol=0)


@pytest.mark.parametrize("how", ["blocks", "graphs"])
def test_without_a_compiler_it_says_so(network: CLUE, monkeypatch: pytest.MonkeyPatch, how: Compile) -> None:
    monkeypatch.delenv("CXX", raising=False)
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(CompilerMissing, match=r"there is no C\+\+ compiler here \(g\+\+, clang\+\+, c\+\+\)"):
        compile_network(network, how)


def test_how_each_way_is_compiled(network: CLUE, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, dict[str, object]]] = []
    monkeypatch.setattr("model.device.require_compiler", lambda: None)
    monkeypatch.setattr(torch.nn.Module, "compile", lambda self, **o: asked.append((type(self).__name__, o)))
    compile_network(network, "blocks")
    assert {name for name, _ in asked} == {"VaeEncoder", "JointBlock", "SamBlock"}
    assert all(options == {"dynamic": False} for _, options in asked)
    asked.clear()
    compile_network(network, "graphs")
    assert asked == [("CLUE", {"mode": "reduce-overhead", "dynamic": False})]
