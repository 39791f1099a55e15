"""How often a model's verdicts are wrong, as counted: `error_rates.yaml` beside its weights, about one digest alone."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from model.calibration import proportion_interval
from model.config import Between, Keyed, Text, advising, read_yaml

FILE = "error_rates.yaml"

_Count = Annotated[int, Between(0, 10**9)]


@dataclass(frozen=True, slots=True)
class ErrorRate(Keyed):
    """How many pictures of one kind got two verdicts.

    Attributes:
        kind: a stable name, such as `camera`.
        pictures: what they were, in words, as the model card says it.
        n: how many there were.
        forged, inconclusive: how many of them were called so.
    """

    kind: Text
    pictures: Text
    n: Annotated[int, Between(1, 10**9)]
    forged: _Count
    inconclusive: _Count

    def __post_init__(self) -> None:
        if self.forged + self.inconclusive > self.n:
            raise ValueError(f"at most {self.n} verdicts of {self.n} pictures")


@dataclass(frozen=True, slots=True)
class ErrorRates(Keyed):
    """What was counted of one model.

    Attributes:
        model: SHA-256 of the model, hex; the figures say nothing of any other.
        untouched: of pictures that nobody edited.
        forgeries: of edited ones.
    """

    model: Text
    untouched: tuple[ErrorRate, ...]
    forgeries: tuple[ErrorRate, ...] = ()


def error_rates(folder: Path, digest: str) -> ErrorRates | None:
    """What was counted of the model in a folder; None: nothing, or it was counted of other weights.

    Args:
        digest: SHA-256 of the model, hex.

    Raises:
        ConfigError: the file is there, and something is wrong in it.
    """
    path = folder / FILE
    if not path.is_file():
        return None
    with advising(f"Correct {FILE}, or remove it: then the error rates of the model count as unknown."):
        found = read_yaml(path).check(ErrorRates)
    return found if found.model == digest else None


def share(hits: int, n: int) -> tuple[float, float, float]:
    """A share and its 95 % interval (Clopper and Pearson), each 0 to 1."""
    return hits / n, *proportion_interval(hits, n)
