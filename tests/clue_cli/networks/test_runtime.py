"""Which options go with --runtime, and that records depend on it."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import torch

from clue_cli.errors import UsageError
from clue_cli.networks import Compile, DType, Engine, Runtime, find_devices
from clue_cli.scan import ScanOptions


@pytest.fixture(autouse=True)
def installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("clue_cli.networks.metadata.version", lambda module: "9.9")


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"device": "cuda"}, "runs on the CPU only, not on cuda"),
        ({"devices": ("cuda:0", "cuda:1")}, "--devices exclude each other"),
        ({"compile": Compile.BLOCKS}, "--compile exclude each other"),
        ({"engine": Engine.RAY}, "--engine ray exclude each other"),
        ({"dtype": DType.BFLOAT16}, "computes in float32"),
        ({"dtype": DType.FLOAT8}, "computes in float32"),
    ],
)
@pytest.mark.parametrize("runtime", [Runtime.ONNX, Runtime.OPENVINO])
def test_what_it_cannot_do_is_refused(runtime: Runtime, options: dict[str, Any], named: str) -> None:
    chosen = ScanOptions(runtime=runtime, **options)
    with pytest.raises(UsageError, match=named):
        find_devices(chosen, chosen.dtype)


def test_it_computes_in_float32_on_the_cpu() -> None:
    assert find_devices(ScanOptions(runtime=Runtime.ONNX), DType.AUTO) == (("cpu",), torch.float32)


def test_records_of_another_library_or_version_are_not_reused(monkeypatch: pytest.MonkeyPatch) -> None:
    options = ScanOptions()
    digests = {options.stamp("0" * 64, "float32").image_digest}
    for version in ("9.9", "10.0"):
        monkeypatch.setattr("clue_cli.networks.metadata.version", lambda module, version=version: version)
        for runtime in (Runtime.ONNX, Runtime.OPENVINO):
            chosen = dataclasses.replace(options, runtime=runtime)
            digests.add(chosen.stamp("0" * 64, "float32").image_digest)
            assert chosen.settings()["runtime"] == runtime.version
    assert len(digests) == 5
    assert "runtime" not in options.settings()
