"""Read tensors from safetensors files and from pickles, whose code is never run, and put them into a network."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from model.registry import BasesError


def safetensors_shapes(files: tuple[Path, ...]) -> dict[str, list[int]]:
    """Shape of every tensor, from the headers alone.

    Raises:
        BasesError: a file is damaged (a truncated one, too) or a tensor is in two of them.
    """
    shapes: dict[str, list[int]] = {}
    for path in files:
        with opened(path) as file:
            for name in sorted(file.keys()):
                if name in shapes:
                    raise BasesError(f"{path}: the tensor {name!r} is in another shard as well")
                shapes[name] = list(file.get_slice(name).get_shape())
    return shapes


@contextmanager
def opened(path: Path, device: str = "cpu") -> Iterator[Any]:
    """`safe_open` whose failures name the file.

    Args:
        path: a safetensors file.
        device: where its tensors go, without a stay in main memory.

    Raises:
        BasesError: it is damaged or cannot be read.
    """
    try:
        _refuse_pipes(path)
        with safe_open(path, framework="pt", device=device) as file:
            yield file
    except SafetensorError as error:
        raise BasesError(f"{path} is damaged or not a safetensors file: {error}") from error
    except OSError as error:
        raise BasesError(f"{path} cannot be read: {error.strerror or error}") from error


def safetensors_tensors(
    files: tuple[Path, ...], device: str, dtype: torch.dtype | Callable[[str], torch.dtype] | None
) -> Iterator[tuple[str, Tensor]]:
    """The tensors one by one, straight on the device and in the dtype.

    Args:
        files: safetensors.
        device: where they go.
        dtype: of all, or of each by its name; None leaves it.

    Raises:
        BasesError: a file is damaged, or holds a value that the dtype does not.
    """
    for path in files:
        with opened(path, device) as file:
            for name in sorted(file.keys()):
                wanted = dtype if dtype is None or isinstance(dtype, torch.dtype) else dtype(name)
                yield name, converted(path, name, file.get_tensor(name), wanted)


def converted(path: Path, name: str, tensor: Tensor, dtype: torch.dtype | None) -> Tensor:
    """A tensor of a file in another number format; None leaves it.

    Raises:
        BasesError: a value would become infinite, which the network would compute with and no file would show.
    """
    if dtype is None or tensor.dtype == dtype:
        return tensor
    result = tensor.to(dtype)
    if tensor.is_floating_point() and torch.finfo(tensor.dtype).max <= torch.finfo(dtype).max:
        return result
    if not bool(result.isfinite().all()) and bool(tensor.isfinite().all()):
        largest, limit = float(tensor.abs().max()), torch.finfo(dtype).max
        wider = "bfloat16" if dtype is torch.float16 else "float32"
        raise BasesError(
            f"{path}: {name} holds a value of {largest:.6g}, {str(dtype).removeprefix('torch.')} none above "
            f"{limit:.6g}; expected a number format that holds it, such as {wider}"
        )
    return result


def learned_tensors(path: Path, device: str, dtype: torch.dtype | None) -> Iterator[tuple[str, Tensor]]:
    """`safetensors_tensors` of what somebody trained.

    Raises:
        BasesError: the file is damaged, or a value in it is infinite or NaN, and every heatmap would be.
    """
    for name, tensor in safetensors_tensors((path,), device, dtype):
        if not bool(tensor.isfinite().all()):
            raise BasesError(f"{path} is damaged: {name} holds a value that is not finite")
        yield name, tensor


def _refuse_pipes(path: Path) -> None:
    if path.exists() and not path.is_file() and not path.is_dir():
        raise BasesError(f"{path} is not a regular file; reading it might never end")


def pickled_tensors(path: Path, device: str, dtype: torch.dtype | None) -> Iterator[tuple[str, Tensor]]:
    """All tensors of a PyTorch checkpoint one by one: a .pth, or safetensors with the same names.

    Args:
        path: the file; its kind follows from its content.
        device: where they go; `meta` for their shapes alone.
        dtype: None leaves it.

    Raises:
        BasesError: damaged, a pickle with anything but tensors in it, which is not executed, or a value that the dtype
            does not hold.
    """
    try:
        _refuse_pipes(path)
        with path.open("rb") as file:
            head = file.read(2)
    except OSError as error:
        raise BasesError(f"{path} cannot be read: {error.strerror}") from error
    if head not in (b"PK", b"\x80\x02"):
        if device == "meta":
            shapes = safetensors_shapes((path,))
            yield from ((name, torch.empty(shape, device="meta")) for name, shape in shapes.items())
        else:
            yield from safetensors_tensors((path,), device, dtype)
        return
    for name, tensor in _unpickled(path, head == b"PK").items():
        yield name, converted(path, name, tensor.to(device), dtype)


def _unpickled(path: Path, zipped: bool) -> dict[str, Tensor]:
    try:
        # Mapped into memory: what is not asked for is never read, and nothing is held twice.
        state = torch.load(path, map_location="cpu", weights_only=True, mmap=zipped)
    except pickle.UnpicklingError as error:
        raise BasesError(
            f"{path} was refused and nothing of it was executed: it holds more than tensors, or is damaged"
        ) from error
    except Exception as error:  # whatever hostile bytes make of it: it is not a checkpoint
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise BasesError(f"{path} is damaged or not a checkpoint: {reason}") from error
    if not isinstance(state, dict) or not all(isinstance(v, Tensor) for v in state.values()):
        raise BasesError(f"{path} is not a checkpoint: expected names and tensors")
    return {str(name): tensor for name, tensor in state.items()}


def differences(part: str, there: dict[str, list[int]], network: nn.Module) -> list[str]:
    """Every tensor of a part that is missing, unexpected or of another shape than in the network, a line each."""
    expected = {name: list(tensor.shape) for name, tensor in network.state_dict().items()}
    problems = [f"{part}: {name} is missing" for name in sorted(expected.keys() - there.keys())]
    problems += [f"{part}: {name} is unexpected" for name in sorted(there.keys() - expected.keys())]
    return problems + [
        f"{part}: {name} is {there[name]}, expected {expected[name]}"
        for name in sorted(expected.keys() & there.keys())
        if there[name] != expected[name]
    ]


def fill(network: nn.Module, part: str, tensors: Iterator[tuple[str, Tensor]]) -> None:
    """Give a network on the meta device its tensors.

    Raises:
        BasesError: one is missing, unexpected or of another shape.
    """
    try:
        network.load_state_dict(dict(tensors), assign=True)
    except RuntimeError as error:
        raise BasesError(f"the {part} does not fit: {' '.join(str(error).split())[:400]}") from error
