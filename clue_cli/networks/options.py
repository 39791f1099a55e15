"""What a person can choose about the network. Light: the command line is declared with it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class DType(StrEnum):
    """Number format of the network."""

    AUTO = "auto"
    FLOAT32 = "float32"
    BFLOAT16 = "bfloat16"


class Compile(StrEnum):
    """How the network is compiled (`model.device.compile_network`)."""

    BLOCKS = "blocks"
    GRAPHS = "graphs"


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkOptions:
    """Which model runs where, and how.

    Attributes:
        model: name of a preset with weights in the package, or a path.
        device: `auto`, `cpu`, `cuda` or `cuda:N`.
        devices: several of them, a process each; empty for the one above.
        dtype: number format; `auto` leaves it to the device.
        compile: how the network is compiled; None: not at all.
        batch: tiles in one batch, None for automatic.
    """

    model: str = "mini"
    device: str = "auto"
    devices: tuple[str, ...] = ()
    dtype: DType = DType.AUTO
    compile: Compile | None = None
    batch: int | None = None
