"""What is known of an image before any prediction: its header and its ground truth, read once for all methods."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from model.datasets.sample import Kind, Problem, Sample
from model.images.masks import Mask, MaskStyle, looks_inverted, read_mask
from model.images.pixels import DamagedFileError, Header, Pixels, read_header

TruthReader = Callable[[Sample], Mask]
"""The ground truth of an entry that has masks; raises DamagedFileError."""
HeaderReader = Callable[[Path], Header]
"""The header of a picture; raises DamagedFileError."""


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


@dataclass(frozen=True, slots=True, kw_only=True)
class MadeSample(Sample):
    """An image of a set that is made when it is measured; `image` is no file.

    Attributes:
        content: SHA-256, hex, of all that decides its pixels.
        make: returns the image, H×W×3 uint8, its ground truth, and the sample with what making it has shown; raises
            DamagedFileError.
    """

    content: str
    make: Callable[[], tuple[Sample, Pixels, Ground]]


def read_truth(
    masks: Sequence[Path], style: MaskStyle = "white", *, read: Callable[[Path, MaskStyle], Mask] = read_mask
) -> Mask:
    """The union of an image's masks (MISD has one for each object), H×W bool.

    Args:
        read: reads one mask; `read_mask`, or one that decodes elsewhere.

    Raises:
        DamagedFileError: a mask cannot be read, or the parts differ in size.
        ValueError: no mask is given.
    """
    if not masks:
        raise ValueError("an image without a mask has no ground truth to read")
    truth = read(masks[0], style)
    for path in masks[1:]:
        part = read(path, style)
        if part.shape != truth.shape:
            raise DamagedFileError(f"{path}: {part.shape}, but {masks[0].name} is {truth.shape}")
        truth = truth | part
    return truth


def truth_of(entry: Sample) -> Mask:
    """`TruthReader` in this process.

    Raises:
        DamagedFileError: a mask cannot be read.
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
    except DamagedFileError as error:
        problems.append(Problem(Kind.IMAGE_UNREADABLE, entry.key, str(error)))
    if not entry.forged:
        return Ground(header, problems=tuple(problems))
    if not entry.masks:
        return Ground(header, problems=(*problems, Problem(Kind.MASK_MISSING, entry.key)))
    try:
        truth = read(entry)
    except DamagedFileError as error:
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
