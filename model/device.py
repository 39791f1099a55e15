"""Where a network runs, and in which number format."""

from __future__ import annotations

import torch


class DeviceError(ValueError):
    """A device or number format that this machine does not have; the message names the choices."""


def resolve(device: str, dtype: str) -> tuple[str, torch.dtype]:
    """The device and dtype behind `auto`.

    `auto` is the first CUDA card if there is one, else the CPU; bfloat16 on CUDA and float32 on the CPU, where
    float32 gives the same mask on machines with and without matrix units.

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
        dtype = "float32" if device == "cpu" else "bfloat16"
    formats = {"float32": torch.float32, "bfloat16": torch.bfloat16}
    if dtype not in formats:
        raise DeviceError(f"no number format {dtype!r}; known: {', '.join(formats)}")
    return device, formats[dtype]
