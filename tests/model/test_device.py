"""Where the network runs."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from model import device
from model.device import DeviceError, resolve


@pytest.fixture(autouse=True)
def plain_cpu(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A CPU without bfloat16, whatever this machine has; the file stands for /proc/cpuinfo."""
    monkeypatch.setattr(device, "_CPUINFO", tmp_path / "cpuinfo")
    return tmp_path / "cpuinfo"


@pytest.mark.parametrize(
    ("cpuinfo", "dtype"),
    [
        (None, torch.float32),
        ("processor\t: 0\nflags\t\t: fpu sse2 avx512f\n", torch.float32),
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
