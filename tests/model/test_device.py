"""Where the network runs."""

from __future__ import annotations

import pytest
import torch

from model.device import DeviceError, resolve


def test_cpu_is_float32_unless_asked_otherwise() -> None:
    assert resolve("cpu", "auto") == ("cpu", torch.float32)
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
