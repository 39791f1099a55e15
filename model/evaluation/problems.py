"""What can be wrong with a benchmark or a prediction: named in the result, never silently dropped.

EvaluationError (ValueError)     something the user can be told about in one sentence
 ├── BenchmarkNotFound           a data set is not where it was looked for; says where to get it and how to lay it out
 └── StrictError                 strict mode met a problem
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from enum import StrEnum


class Kind(StrEnum):
    """What is wrong, in the words of the result file."""

    MASK_MISSING = "mask missing"
    """A forged image without a ground truth: it counts at image level only."""
    MASK_AMBIGUOUS = "mask ambiguous"
    """Several masks fit by name; none is used."""
    MASK_WITHOUT_IMAGE = "mask without an image"
    MASK_UNREADABLE = "mask unreadable"
    """As if missing."""
    MASK_SIZE = "mask of another size"
    """The prediction is brought to the size of the mask, as the definition says, and scored."""
    MASK_EMPTY = "mask empty"
    """A forged image whose mask marks nothing: it counts at image level only."""
    SET_INVERTED = "set looks inverted"
    """Most masks mark most of the picture and its border: white probably means authentic here."""
    IMAGE_MISSING = "image missing"
    IMAGE_UNREADABLE = "image unreadable"
    FOLDER_UNREADABLE = "folder unreadable"
    """A folder that may not be read, or a link to one, which is not followed: what it holds is not measured."""
    OUTSIDE_LAYOUT = "outside the layout"
    """A picture, or a folder that holds some, where the layout expects none: it is not measured."""
    NAME_UNKNOWN = "name not understood"
    """A picture whose name does not say whether it is forged; it is not used."""
    LIST_LINE = "line not understood"
    MAP_NOT_FINITE = "map not finite"
    """The prediction holds NaN or infinity; it is not scored."""
    MAP_OUT_OF_RANGE = "map out of range"
    """The prediction leaves [0, 1]; it is not scored."""
    MAP_MISSING = "prediction missing"
    MAP_UNREADABLE = "prediction unreadable"
    MAP_WITHOUT_IMAGE = "prediction without an image"
    MAP_SIZE = "prediction of another size"
    """The size of neither the picture nor its mask; it is brought to the size of the mask and scored."""
    TRUTH_DIFFERS = "ground truth differs"
    """Two results that are compared were not measured on the same ground truth."""
    MORE = "more"
    """Not a problem: how many further ones a list leaves out."""


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong: its kind, what it concerns (a key or a path below the root), and the details."""

    kind: Kind = field(metadata={"description": "What, in words that do not change."})
    name: str = field(metadata={"description": "The image, mask or map; printable in results."})
    detail: str = field(default="", metadata={"description": "Details; may be empty."})

    def __str__(self) -> str:
        return f"{self.name}: {self.kind.value}" + (f" ({self.detail})" if self.detail else "")

    def to_dict(self) -> dict[str, str]:
        """Plain JSON types."""
        return {key: str(value) for key, value in asdict(self).items()}


class EvaluationError(ValueError):
    """Something the user can be told about in one sentence."""


class BenchmarkNotFound(EvaluationError):
    """A data set is unknown, or not where it was looked for."""


class StrictError(EvaluationError):
    """Strict mode met a problem."""


def merged(*lists: Iterable[Problem]) -> list[Problem]:
    """Each kind once for each name, with the first details: what finding a set said, measuring it says again."""
    first: dict[tuple[Kind, str], Problem] = {}
    for problem in (problem for problems in lists for problem in problems):
        first.setdefault((problem.kind, problem.name), problem)
    return list(first.values())


def raise_if_any(problems: Iterable[Problem]) -> None:
    """Strict mode.

    Raises:
        StrictError: there is a problem; the message names the first ten.
    """
    listed = list(problems)
    if listed:
        more = f"\nand {len(listed) - 10} more" if len(listed) > 10 else ""
        raise StrictError("\n".join(str(problem) for problem in listed[:10]) + more)
