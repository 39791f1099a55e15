"""Where a network runs, in which number format, and how fast: devices, copies to and from them, compilation, cost."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch
from numpy.typing import NDArray
from torch import Tensor

from model import int8
from model.errors import UserError

if TYPE_CHECKING:
    from model.clue import CLUE

_CPUINFO = Path("/proc/cpuinfo")
FLOAT8_CAPABILITY = (8, 9)
"""The first compute capability with products of float8 numbers: Ada; Hopper has 9.0."""
_COMPILERS = ("g++", "clang++", "c++")


class DeviceError(UserError, ValueError):
    """A device or number format that this machine does not have; the message names the choices."""


class CompilerMissing(RuntimeError):
    """torch.compile writes C++ and has it compiled, for the CPU and for what launches kernels on a GPU."""


def resolve(device: str, dtype: str) -> tuple[str, torch.dtype]:
    """The device and dtype behind `auto`.

    `auto` is the first CUDA card if there is one, else the CPU; bfloat16 on CUDA and on CPUs that compute in it (twice
    as fast there), int8 on CPUs that multiply bytes and have no bfloat16, float32 elsewhere, and wherever /proc/cpuinfo
    does not say what a CPU can do: on Windows, macOS and ARM. Every record names the format that was used; masks that
    are to be compared between machines are asked for in float32.

    Args:
        device: `auto`, `cpu`, `cuda` or `cuda:N`.
        dtype: `auto`, `float32`, `bfloat16`, `float8_e4m3fn` (`model.float8`), which is for GPUs that compute in it, or
            `int8` (`model.int8`), which is for CPUs.

    Raises:
        DeviceError: no such device or dtype, or the device does not compute in it.
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
        if dtype == "float32" and _cpu_has("avx512_vnni", "avx_vnni") and int8.works():
            dtype = "int8"
    formats = {name: getattr(torch, name) for name in ("float32", "bfloat16", "float8_e4m3fn", "int8")}
    if dtype not in formats:
        raise DeviceError(f"no number format {dtype!r}; known: {', '.join(formats)}")
    if dtype == "float8_e4m3fn":
        have = (0, 0) if device == "cpu" else torch.cuda.get_device_capability(device)
        if have < FLOAT8_CAPABILITY:
            what = "is no GPU" if device == "cpu" else f"has {have[0]}.{have[1]}"
            raise DeviceError(f"{dtype} needs a GPU of compute capability 8.9 or above, and {device} {what}")
    if dtype == "int8" and device != "cpu":
        raise DeviceError(f"{dtype} is for the CPU, not for {device}")
    if dtype == "int8" and not int8.works():
        raise DeviceError(f"{dtype} is not computed exactly by this processor and torch")
    return device, formats[dtype]


def cpu_has_bfloat16() -> bool:
    """Whether this CPU has instructions for bfloat16 products (AVX512-BF16 or AMX); False where nobody can tell."""
    return _cpu_has("avx512_bf16", "amx_bf16")


def _cpu_has(*instructions: str) -> bool:
    try:
        text = _CPUINFO.read_text("utf-8", "replace")
    except OSError:
        return False
    flags = next((line for line in text.splitlines() if line.startswith("flags")), "").split()
    return not {*instructions}.isdisjoint(flags)


def require_compiler() -> None:
    """Raise CompilerMissing where there is no C++ compiler: torch would say so only in the middle of a run."""
    chosen = os.environ.get("CXX")
    names = [chosen] if chosen else list(_COMPILERS)
    if not any(shutil.which(name) for name in names):
        raise CompilerMissing(f"there is no C++ compiler here ({', '.join(names)}), which torch.compile needs")


def ran_out_of_memory(error: Exception) -> bool:
    """Whether an exception of torch's says so: a bare RuntimeError on the CPU, and from cuBLAS and cuDNN."""
    words = ("allocate memory", "CUDA error: out of memory", "STATUS_ALLOC_FAILED")
    return isinstance(error, (MemoryError, torch.OutOfMemoryError)) or any(word in str(error) for word in words)


class Transfer:
    """Copies to and from a device that make nobody wait: pinned memory, and streams beside the network's own.

    A batch goes up while the one before it is computed, and comes down while the next one is. On the CPU nothing is
    copied.

    Args:
        device: where the network runs.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self._streams: tuple[torch.cuda.Stream, torch.cuda.Stream] | None = None
        if device.type == "cuda":
            torch.cuda.set_device(device)  # pinned memory is the current device's: nothing is to be set up on another
            up, down = (torch.cuda.Stream(device) for _ in range(2))  # type: ignore[no-untyped-call]
            self._streams = up, down

    def up(self, tensor: Tensor) -> Tensor:
        """The tensor on the device; whatever the network does next waits for the copy, the caller does not."""
        if self._streams is None:
            return tensor.to(self.device)
        network = torch.cuda.current_stream(self.device)
        with torch.cuda.stream(self._streams[0]):
            there = tensor.pin_memory().to(self.device, non_blocking=True)
        network.wait_stream(self._streams[0])
        there.record_stream(network)  # its memory is not given away before the network is done with it
        return there

    def down(self, tensor: Tensor) -> Callable[[], NDArray[Any]]:
        """Begin to bring a result back; the function that is returned waits for it and gives it as an array."""
        if self._streams is None:
            array: NDArray[Any] = tensor.cpu().numpy()
            return lambda: array
        host = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True)
        self._streams[1].wait_stream(torch.cuda.current_stream(self.device))
        with torch.cuda.stream(self._streams[1]):
            host.copy_(tensor, non_blocking=True)
            tensor.record_stream(self._streams[1])
            arrived = self._streams[1].record_event()

        def wait() -> NDArray[Any]:
            arrived.synchronize()
            return host.numpy()

        return wait


Compile = Literal["blocks", "graphs"]


def compile_network(model: CLUE, how: Compile) -> CLUE:
    """Compile a network, in place. Each new shape of tile is compiled separately, which takes a minute or more.

    Args:
        model: in evaluation mode, on its device.
        how: `blocks` as in `compile_blocks`; `graphs` is the whole of it in one piece, replayed on a GPU as one CUDA
            graph: slower to compile, and nothing is launched kernel by kernel.

    Raises:
        CompilerMissing: there is no C++ compiler.
    """
    require_compiler()
    if how == "blocks":
        return compile_blocks(model, dynamic=False)
    model.compile(mode="reduce-overhead", dynamic=False)
    return model


def compile_blocks(model: CLUE, **options: Any) -> CLUE:
    """torch.compile for the repeated blocks of every branch, in place; the first tiles are slow.

    Blocks and not the whole: equal blocks share one compilation.

    Args:
        model: in evaluation mode, on its device.
        options: of torch.compile, such as `mode` or `backend`.
    """
    for block in (block for network in model.networks.values() for block in network.blocks()):
        block.compile(**options)
    return model
