"""What is kept of one measured image: a few numbers, never a map. The rows are `per_image.csv`."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray

from model.config import Between, Keyed, Text, check, dotted
from model.datasets.sample import Kind, Problem, Sample
from model.evaluation.ground import Ground, ground
from model.evaluation.pixel_scores import THRESHOLD, pixel_scores
from model.images.maps import Map, is_finite, to_size


@dataclass(frozen=True, slots=True)
class ImageRow(Keyed):
    """One image of a result. None: not defined, not known, or not measured because of one of the problems.

    Attributes:
        key, forged, manipulation: from the entry.
        format, width, height: of the file, in pixels as stored.
        forged_area: forged pixels / all pixels of the ground truth.
        marked_area: marked pixels / all pixels of the map; on an authentic image, its false-positive area.
        f1 … f1_permute: see `pixel_scores.PixelScores`; forged images with a ground truth only.
        score: raw image-level score.
        probability: calibrated probability that the image was forged.
        decided: whether it was called forged, at the threshold that ships.
        problems: all that was wrong with this image.
        part, source: from the entry.
        verdict: `forged`, `inconclusive` or `no_evidence`; empty: the method gives none.
    """

    key: Text
    forged: bool
    manipulation: str = ""
    format: str = ""
    width: Annotated[int, Between(1, 2**31 - 1)] | None = None
    height: Annotated[int, Between(1, 2**31 - 1)] | None = None
    forged_area: float | None = None
    marked_area: float | None = None
    f1: float | None = None
    iou: float | None = None
    pixel_auc: float | None = None
    pixel_ap: float | None = None
    f1_best: float | None = None
    f1_best_threshold: float | None = None
    f1_permute: float | None = None
    score: float | None = None
    probability: float | None = None
    decided: bool | None = None
    problems: tuple[Problem, ...] = ()
    part: str = ""
    source: str = ""
    verdict: str = ""

    @property
    def megapixels(self) -> float | None:
        """Size of the file's picture in millions of pixels."""
        return self.width * self.height / 1e6 if self.width and self.height else None

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types; the problems as a list of objects."""
        data = {field.name: getattr(self, field.name) for field in fields(self)}
        return data | {"problems": [problem.to_dict() for problem in self.problems]}

    @staticmethod
    def from_dict(data: object) -> ImageRow:
        """The inverse of `to_dict`.

        Raises:
            ConfigError: an unknown field, one that is missing, or a value that is none of a row.
        """
        return check(ImageRow, data, lambda place: dotted(("row", *place)))


FIELDS = tuple(field.name for field in fields(ImageRow))
"""Columns of `per_image.csv`."""


def measure(
    entry: Sample,
    heatmap: NDArray[np.floating[Any]] | None,
    *,
    score: float | None = None,
    probability: float | None = None,
    decided: bool | None = None,
    verdict: str = "",
    seen: tuple[int, int] | None = None,
    known: Ground | None = None,
    threshold: float = THRESHOLD,
) -> ImageRow:
    """Score one prediction against its ground truth; only numbers are kept.

    Args:
        heatmap: H×W, probabilities in [0, 1]; None where the method gave none.
        score, probability, decided, verdict: of the whole image, if the method gives them.
        seen: height and width of what the method was shown, where an attack changed the size.
        known: header and ground truth, where they were read before; None: they are read now.
        threshold: a pixel is marked above this, strictly.
    """
    known = ground(entry) if known is None else known
    header, truth, problems = known.header, known.truth, list(known.problems)
    usable = _usable(entry, heatmap, known, seen, problems)
    values: dict[str, Any] = {"forged_area": known.forged_area}
    if usable is not None and truth is not None:
        scored = pixel_scores(to_size(usable, *truth.shape), truth, threshold)
        values |= {
            "marked_area": scored.marked_area,
            "f1": scored.f1,
            "iou": scored.iou,
            "pixel_auc": scored.auc,
            "pixel_ap": scored.ap,
            "f1_best": scored.f1_best,
            "f1_best_threshold": scored.f1_best_threshold,
            "f1_permute": scored.f1_permute,
        }
    elif usable is not None:
        height, width = (header.height, header.width) if header else usable.shape
        sized = to_size(usable, height, width)
        values["marked_area"] = float(np.count_nonzero(sized > threshold)) / sized.size
    return ImageRow(
        entry.key,
        entry.forged,
        entry.manipulation,
        header.format if header else "",
        header.width if header else None,
        header.height if header else None,
        score=score,
        probability=probability,
        decided=decided,
        problems=tuple(problems),
        part=entry.part,
        source=entry.source,
        verdict=verdict,
        **values,
    )


def _usable(
    entry: Sample,
    heatmap: NDArray[np.floating[Any]] | None,
    known: Ground,
    seen: tuple[int, int] | None,
    problems: list[Problem],
) -> Map | None:
    """The map if it can be scored."""
    if heatmap is None:
        problems.append(Problem(Kind.MAP_MISSING, entry.key))
        return None
    if heatmap.ndim != 2 or heatmap.size == 0:
        problems.append(Problem(Kind.MAP_UNREADABLE, entry.key, f"expected H×W, found {heatmap.shape}"))
        return None
    with np.errstate(over="ignore"):  # what float32 cannot hold is infinite, and reported
        values = np.asarray(heatmap, np.float32)
    if not is_finite(values):
        count = int(np.count_nonzero(~np.isfinite(values)))
        problems.append(Problem(Kind.MAP_NOT_FINITE, entry.key, f"{count} pixels"))
        return None
    if values.min() < -1e-6 or values.max() > 1 + 1e-6:
        detail = f"from {values.min():.4g} to {values.max():.4g}"
        problems.append(Problem(Kind.MAP_OUT_OF_RANGE, entry.key, detail))
        return None
    fitting = {seen, (known.header.height, known.header.width) if known.header else None, known.shape}
    if fitting != {None} and values.shape not in fitting:
        problems.append(Problem(Kind.MAP_SIZE, entry.key, f"{values.shape[1]}×{values.shape[0]}"))
    return values
