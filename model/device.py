"""Where a network runs, and in which number format."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import torch

from model.errors import UserError

_CPUINFO = Path("/proc/cpuinfo")
_COMPILERS = ("g++", "clang++", "c++")


class DeviceError(UserError, ValueError):
    """A device or number format that this machine does not have; the message names the choices."""


class CompilerMissing(RuntimeError):
    """torch.compile writes C++ and has it compiled, for the CPU and for what launches kernels on a GPU."""


def resolve(device: str, dtype: str) -> tuple[str, torch.dtype]:
    """The device and dtype behind `auto`.

    `auto` is the first CUDA card if there is one, else the CPU; bfloat16 on CUDA and on CPUs that compute in it (twice
    as fast there), float32 elsewhere. Every record names the format that was used; masks that are to be compared
    between machines are asked for in float32.

    Args:
        device: `auto`, `cpu`, `cuda` or `cuda:N`.
        dtype: `auto`, `float32` or `bfloat16`.

    Raises:
        DeviceError: no such device or dtype.
    """
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    if device == "cuda":
        device = "cuda:0"
    if device != "cpu":
        count = torch.cuda.device_count()
        if device not in {f"cuda:{number}" for number in range(count)}:
            found = ", ".join(["cpu", *(f"cuda:{number}" for number in range(count))])
            raise DeviceError(f"there is no device {device!r} here; found: {found}")
    if dtype == "auto":
        dtype = "bfloat16" if device != "cpu" or cpu_has_bfloat16() else "float32"
    formats = {"float32": torch.float32, "bfloat16": torch.bfloat16}
    if dtype not in formats:
        raise DeviceError(f"no number format {dtype!r}; known: {', '.join(formats)}")
    return device, formats[dtype]


def cpu_has_bfloat16() -> bool:
    """Whether this CPU has instructions for bfloat16 products (AVX512-BF16 or AMX); False where nobody can tell."""
    try:
        text = _CPUINFO.read_text("utf-8", "replace")
    except OSError:
        return False
    flags = next((line for line in text.splitlines() if line.startswith("flags")), "").split()
    return "avx512_bf16" in flags or "amx_bf16" in flags


def require_compiler() -> None:
    """Raise CompilerMissing where there is no C++ compiler: torch would say so only in the middle of a run."""
    chosen = os.environ.get("CXX")
    names = [chosen] if chosen else list(_COMPILERS)
    if not any(shutil.which(name) for name in names):
        raise CompilerMissing(f"there is no C++ compiler here ({', '.join(names)}), which torch.compile needs")
