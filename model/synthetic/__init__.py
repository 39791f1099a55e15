"""The second question: was the whole picture generated? Its methods, and what is known of each without torch.

A method has a name, or is a folder that `clue train --task synthetic` wrote. Its kind names the module of this package
that loads it. A method never changes the localization: its answer stands beside it, with error rates of its own.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

from model.calibration import Calibration
from model.errors import WeightsError
from model.registry import BasesError, read_json

if TYPE_CHECKING:
    import numpy as np
    import torch
    from numpy.typing import NDArray

Word = Literal["generated", "no_evidence", "inconclusive"]

METHOD_FILE = "method.json"
"""Describes a method in its folder: format, kind, base, calibration, training."""
FORMAT = 1

NAMED = {"traces": "traces", "reconstruction": "reconstruction", "reconstruction-vae": "reconstruction"}
"""Names of methods, and their kinds. `@` and a name of base weights may follow those that stand on some."""
KINDS = {"traces": "traces", "reconstruction": "reconstruction", "bi-lora": "bi_lora", "vision": "vision"}
"""Kinds of methods, and the modules of this package that have `describe` and `load` for them."""


class MethodError(WeightsError):
    """A method that is missing, damaged, or stands on another base; the message says what and where."""

    advice = "A method is `traces`, `reconstruction`, or a folder that `clue train --task synthetic` wrote."


@dataclass(frozen=True, slots=True)
class Method:
    """What is known of a method before its network is built.

    Attributes:
        name: what people call it, in every record: `traces`, `reconstruction`, or its folder.
        kind: a key of `KINDS`.
        digest: SHA-256, hex, over all that can change a score: weights, configuration, base.
        calibration: thresholds and confidence of the score (`forged` there is `generated` here); of its fields those of
            the score alone count.
        folder: where it lies; None: it has no folder.
        base: name or path of the base weights that it stands on; empty: none.
        training: what it learned from, with the generators that it has seen (`generators`), in JSON types.
        limits: what a reader must know of it, sentences: what it has never seen, what it was not measured on.
    """

    name: str
    kind: str
    digest: str
    calibration: Calibration
    folder: Path | None = None
    base: str = ""
    training: dict[str, Any] = field(default_factory=dict)
    limits: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Detection:
    """What a method says of one picture.

    Attributes:
        score: 0 to 1; larger, more evidence that the picture was generated.
        heatmap: H×W float32 in [0, 1], where the evidence lies; None: the method has none.
        parts: named values behind the score, for the record.
    """

    score: float
    heatmap: NDArray[np.float32] | None = None
    parts: dict[str, float] = field(default_factory=dict)


class Detector(Protocol):
    """A method, loaded. The same pixels give the same answer, bit by bit on one device."""

    def detect(self, pixels: NDArray[np.uint8]) -> Detection:
        """Judge one picture, H×W×3 uint8 as stored, of any size.

        Raises:
            ValueError: the picture cannot be judged by this method, such as one too small; the message says why.
        """


def describe(name_or_path: str) -> Method:
    """What is known of a method, without torch.

    Args:
        name_or_path: a name of `NAMED`, as it is or with `@` and a name of base weights, or a folder that
            `clue train --task synthetic` wrote.

    Raises:
        MethodError: there is none, it is damaged, or its base is missing or another one.
    """
    kind = NAMED.get(name_or_path.partition("@")[0]) or str(read_method_file(Path(name_or_path))["kind"])
    described: Method = import_module(f"{__name__}.{KINDS[kind]}").describe(name_or_path)
    return described


def load(method: Method, device: str, dtype: torch.dtype) -> Detector:
    """Build a method's network, ready to detect.

    Raises:
        MethodError: its weights are damaged.
        RuntimeError, MemoryError: the device has not the memory for it.
    """
    loaded: Detector = import_module(f"{__name__}.{KINDS[method.kind]}").load(method, device, dtype)
    return loaded


def read_method_file(folder: Path) -> dict[str, Any]:
    """What the `method.json` of a folder holds: of this format, with a `kind` of `KINDS`; the rest is not checked.

    Raises:
        MethodError: there is none, or it cannot be understood.
    """
    path = folder / METHOD_FILE
    if not path.exists():
        raise MethodError(f"there is no method {str(folder)[:300]}: it is no name, and {path} does not exist")
    try:
        content = read_json(path)
    except BasesError as error:
        raise MethodError(str(error)) from error
    if content.get("format") != FORMAT:
        found = str(content.get("format"))[:20]
        raise MethodError(f"{path} cannot be understood: format {found}, this version reads {FORMAT}")
    kind = content.get("kind")
    if not isinstance(kind, str) or kind not in KINDS:
        known = ", ".join(KINDS)
        raise MethodError(f"{path} cannot be understood: kind {str(kind)[:60]!r}, expected one of {known}")
    return content
