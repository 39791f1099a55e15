"""Which kernels take the time, and parts of a run with deadlines; for `bench_gpu.py`."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch._C._autograd import DeviceType
from torch.autograd.profiler_util import FunctionEvent
from torch.profiler import ProfilerActivity, profile

BYTES = {"c10::BFloat16": 2, "c10::Half": 2, "float": 4, "double": 8, "int": 4, "long int": 8, "long": 8}
BYTES |= {"bool": 1, "unsigned char": 1, "c10::Float8_e4m3fn": 1}
"""Of an element, by the profiler's name of its type. Scalars and lists have none."""


@dataclass(slots=True)
class Kernel:
    """Equal launches, on a card; on the CPU calls of an operator, without those it makes itself.

    Attributes:
        name: of the kernel; of the operator on the CPU.
        operator: that launched it; empty where none of torch's did, as a kernel of Triton's.
        shapes: of the operator's tensors.
        launches: their number.
        milliseconds: of all launches.
        share: of the time of all kernels, 0 to 1.
        read_mb: what the operator's tensors hold, once for each launch: what it reads at least; None: not known.
    """

    name: str
    operator: str
    shapes: str
    launches: int
    milliseconds: float
    share: float
    read_mb: float | None


def costliest(action: Callable[[], object], cuda: bool, most: int = 20) -> dict[str, Any]:
    """The kernels of one run that take most of the time, grouped by kernel, operator and shapes.

    Args:
        action: has run before.
        cuda: kernels of the card; else operators of the CPU.

    Returns:
        `milliseconds` of all kernels, their `launches`, and `kernels`, the costliest first.
    """
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if cuda else [])]
    with profile(activities=activities, record_shapes=True) as recorded:
        action()
        if cuda:
            torch.cuda.synchronize()
    found: dict[tuple[str, str, str], list[float]] = {}
    sizes: dict[tuple[str, str, str], float | None] = {}

    def add(event: FunctionEvent, name: str, microseconds: float) -> None:
        tensors: list[Any] = [shape for shape in event.input_shapes if shape]  # declared otherwise
        shapes = " ".join("×".join(map(str, shape)) for shape in tensors)
        key = name, event.name if cuda else "", shapes
        found.setdefault(key, []).append(microseconds)
        sizes[key] = _read(event)

    linked = 0.0
    for event in recorded.events():
        if not cuda:
            add(event, event.name, event.self_cpu_time_total)
            continue
        for kernel in event.kernels:
            add(event, kernel.name, kernel.duration)
            linked += kernel.duration
    if cuda:  # what no operator of torch's launched is only known by its name
        named: dict[str, list[float]] = {}
        for event in recorded.events():
            if event.device_type == DeviceType.CUDA and not event.is_user_annotation:
                named.setdefault(event.name, []).append(event.self_device_time_total)
        for (name, _, _), times in found.items():
            if name in named:
                named[name] = named[name][len(times) :]
        found |= {(name, "", ""): times for name, times in named.items() if times}
    total = sum(map(sum, found.values()))
    rows = [
        Kernel(
            *key, len(times), sum(times) / 1e3, sum(times) / total if total else 0.0, _megabytes(sizes.get(key), times)
        )
        for key, times in found.items()
    ]
    rows.sort(key=lambda row: -row.milliseconds)
    launches = sum(row.launches for row in rows)
    return {"milliseconds": total / 1e3, "launches": launches, "kernels": rows[:most]}


def _read(event: FunctionEvent) -> float | None:
    names: list[str] | None = getattr(event, "input_dtypes", None)  # torch 2.11 does not have them
    shapes: list[Any] = list(event.input_shapes)  # declared otherwise
    if not names:
        return None
    total = 0.0
    for shape, name in zip(shapes, names, strict=False):
        if isinstance(shape, list) and shape and name in BYTES and not isinstance(shape[0], list):
            total += BYTES[name] * torch.Size(shape).numel()
    return total


def _megabytes(size: float | None, times: list[float]) -> float | None:
    return None if size is None else size * len(times) / 1e6


def table(title: str, found: dict[str, Any]) -> str:
    """As Markdown."""
    lines = [
        f"{title}: {found['milliseconds']:.3g} ms in {found['launches']:,} launches.",
        "",
        "| kernel | operator | shapes | launches | ms | share | MB read at least |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in found["kernels"]:
        read = "–" if row["read_mb"] is None else f"{row['read_mb']:.3g}"
        cells = [_short(row["name"], 80), row["operator"] or "–", _short(row["shapes"], 90) or "–", row["launches"]]
        cells += [f"{row['milliseconds']:.3g}", f"{row['share']:.1%}", read]
        lines.append("| " + " | ".join(str(cell).replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(lines) + "\n"


def _short(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[: most - 1]}…"


class Late(BaseException):
    """A part has not ended in its time. No library takes it for an error of its own."""


class Budget:
    """Seconds for a run in parts.

    Args:
        seconds: of all parts; None: without end.

    Attributes:
        left_out: what did not fit, and why.
    """

    def __init__(self, seconds: float | None) -> None:
        self.until = None if seconds is None else time.monotonic() + seconds
        self.left_out: list[str] = []

    def remaining(self) -> float:
        """Seconds; infinite without a limit."""
        return float("inf") if self.until is None else self.until - time.monotonic()

    @contextmanager
    def part(self, name: str, most: float) -> Iterator[bool]:
        """A part that is broken off at its deadline, and whose name is then in `left_out`; so are errors of memory.

        Args:
            most: seconds it may take; a third of them must be left, else it is not begun.

        Yields:
            Whether it may begin.
        """
        limit = min(most, self.remaining())
        if self.until is None:
            yield True
            return
        if limit < most / 3:
            self.left_out.append(f"{name} (not begun: {max(limit, 0):.0f} s were left)")
            yield False
            return
        before = signal.signal(signal.SIGALRM, _raise)
        signal.setitimer(signal.ITIMER_REAL, limit)
        try:
            yield True
        except Late:
            self.left_out.append(f"{name} (not finished in {limit:.0f} s)")
        except torch.OutOfMemoryError:
            self.left_out.append(f"{name} (out of memory)")
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, before)


def _raise(number: int, frame: object) -> None:
    raise Late
