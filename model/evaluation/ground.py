"""What is known of an image before any prediction: its header and its ground truth, read once for all methods."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from model.datasets.sample import Kind, Problem, Sample
from model.evaluation.problems import UnreadablePicture
from model.evaluation.truth import Header, Mask, looks_inverted, read_header, read_truth

TruthReader = Callable[[Sample], Mask]
"""The ground truth of an entry that has masks; raises UnreadablePicture."""
HeaderReader = Callable[[Path], Header]
"""The header of a picture; raises UnreadablePicture."""


@dataclass(frozen=True, slots=True)
class Ground:
    """The picture's header and the ground truth of one image.

    Attributes:
        header: None if the picture cannot be read.
        truth: H×W bool with at least one forged pixel; None for an authentic image, or where there is no such mask.
        shape: height and width of the mask, an empty one included; None without one.
        forged_area: forged pixels / all pixels of the mask; None without one.
        inverted: whether the mask looks inverted; None without one.
        problems: of the picture and of the mask.
    """

    header: Header | None
    truth: Mask | None = None
    shape: tuple[int, int] | None = None
    forged_area: float | None = None
    inverted: bool | None = None
    problems: tuple[Problem, ...] = ()


def truth_of(entry: Sample) -> Mask:
    """`TruthReader` in this process.

    Raises:
        UnreadablePicture: a mask cannot be read.
    """
    return read_truth(entry.masks, entry.style)


def ground(entry: Sample, read: TruthReader = truth_of, read_head: HeaderReader = read_header) -> Ground:
    """Read the header and the ground truth of an image; what is wrong with them is in the result.

    Args:
        read: reads the ground truth; called for forged images with masks.
        read_head: reads the header of the image.
    """
    problems: list[Problem] = []
    header = None
    try:
        header = read_head(entry.image)
    except UnreadablePicture as error:
        problems.append(Problem(Kind.IMAGE_UNREADABLE, entry.key, str(error)))
    if not entry.forged:
        return Ground(header, problems=tuple(problems))
    if not entry.masks:
        return Ground(header, problems=(*problems, Problem(Kind.MASK_MISSING, entry.key)))
    try:
        truth = read(entry)
    except UnreadablePicture as error:
        return Ground(header, problems=(*problems, Problem(Kind.MASK_UNREADABLE, entry.key, str(error))))
    height, width = truth.shape
    if header and truth.shape != (header.height, header.width):
        detail = f"image {header.width}×{header.height}, mask {width}×{height}"
        problems.append(Problem(Kind.MASK_SIZE, entry.key, detail))
    count = int(np.count_nonzero(truth))
    if not count:
        problems.append(Problem(Kind.MASK_EMPTY, entry.key))
    return Ground(
        header,
        truth if count else None,
        (height, width),
        count / truth.size if truth.size else 0.0,
        looks_inverted(truth),
        tuple(problems),
    )
