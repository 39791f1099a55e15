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

if TYPE_CHECKING:
    import numpy as np
    import torch
    from numpy.typing import NDArray

Word = Literal["generated", "no_evidence", "inconclusive"]

METHOD_FILE = "method.json"
"""Describes a method in its folder: format, kind, base, calibration, training."""
FORMAT = 1

NAMED = {"traces": "traces", "reconstruction": "reconstruction"}
"""Names of methods, and their kinds."""
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
        name_or_path: a name of `NAMED`, or a folder that `clue train --task synthetic` wrote.

    Raises:
        MethodError: there is none, it is damaged, or its base is missing or another one.
    """
    kind = NAMED.get(name_or_path) or kind_of_folder(Path(name_or_path))
    module = f"{__name__}.{KINDS[kind]}"
    try:
        found = import_module(module)
    except ModuleNotFoundError as error:
        if error.name != module:
            raise
        raise MethodError(
            f"the method {name_or_path} is of the kind {kind}, which this version does not have"
        ) from error
    described: Method = found.describe(name_or_path)
    return described


def load(method: Method, device: str, dtype: torch.dtype) -> Detector:
    """Build a method's network, ready to detect.

    Raises:
        MethodError: its weights are damaged.
        RuntimeError, MemoryError: the device has not the memory for it.
    """
    loaded: Detector = import_module(f"{__name__}.{KINDS[method.kind]}").load(method, device, dtype)
    return loaded


def kind_of_folder(folder: Path) -> str:
    """The kind that the `method.json` of a folder names.

    Raises:
        MethodError: there is none, or it cannot be understood.
    """
    import json

    path = folder / METHOD_FILE
    try:
        content = json.loads(path.read_text("utf-8"))
        if content["format"] != FORMAT:
            raise ValueError(f"format {content['format']}, this version reads {FORMAT}")
        if content["kind"] not in KINDS:
            raise ValueError(f"kind {str(content['kind'])[:60]!r}, expected one of {', '.join(KINDS)}")
        return str(content["kind"])
    except FileNotFoundError as error:
        raise MethodError(
            f"there is no method {str(folder)[:300]}: it is no name, and {path} does not exist"
        ) from error
    except OSError as error:
        raise MethodError(f"{str(path)[:300]} cannot be read: {error.strerror}") from error
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise MethodError(f"{path} cannot be understood: {error}") from error
