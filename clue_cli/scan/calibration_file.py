"""`calib.json`: a threshold from a person's own photos, with what is promised of it.

`clue calibrate` writes it, `clue scan --calibration` reads it and refuses a file that was cut, mistyped or made for
another model. One of `--task synthetic` is about a method of the second question; `forged` there means `generated`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import ClassVar, Literal, Self

import numpy as np
from pydantic import ConfigDict, Field, field_validator, model_validator
from scipy.special import expit

from clue_cli import __version__
from clue_cli.errors import UsageError
from clue_cli.networks import DType
from clue_cli.records import Model
from clue_cli.terminal import printable
from model.calibration import Calibration, p_value, threshold
from model.config import check, dotted

_ADVICE = "Make one with `clue calibrate`, for this model and this version of clue."


class _Strict(Model):
    model_config = ConfigDict(strict=True, allow_inf_nan=False)


class LeftOut(_Strict):
    """A file or page that the calibration could not use."""

    locator: str = Field(description="Where it is, as in the records of a scan.")
    code: str = Field(
        pattern="^[a-z_]{1,40}$",
        description="A failure's code as in the records of a scan, or `duplicate` (the same bytes came before), "
        "`further_page` (only the first page of a file counts) or `not_judged` (too small or nearly uniform).",
    )
    message: str = Field(description="Why, in words.")


class ForgedPart(_Strict):
    """What the forged images of the calibration say."""

    scores: list[float] = Field(min_length=1, description="Scores of the forged images, ascending.")
    above: int = Field(ge=0, description="How many of them are above `score_threshold`.")
    interval: list[float] = Field(
        min_length=2,
        max_length=2,
        description="95 % interval of the true-positive rate, above / number of scores (Clopper and Pearson).",
    )
    slope: float = Field(gt=0, description="Of the refitted logistic: p = 1 / (1 + exp(-(slope·logit(score) + b))).")
    intercept: float = Field(description="b of the same, for evidence half of which is forged.")
    expected_calibration_error: float = Field(
        ge=0, le=1, description="Of p, by 5-fold cross-validation, both kinds weighing alike."
    )
    brier: float = Field(ge=0, le=1, description="Brier score of p, likewise.")

    @field_validator("scores")
    @classmethod
    def _scores(cls, scores: list[float]) -> list[float]:
        return _ascending(scores)

    @property
    def even(self) -> float:
        """The score at which p is one half: as likely for a forged as for an authentic image."""
        return float(expit(-self.intercept / self.slope))


Task = Literal["localization", "synthetic"]


class CalibrationFile(_Strict):
    """`calib.json`: thresholds from one's own photos.

    An image is `forged` if its conformal p-value among the authentic photos is at most `fpr`. With forged images
    there is a second criterion, p(forged) > 1/2: both hold, `forged`; neither, `no_evidence`; one alone,
    `inconclusive`. Without them `no_evidence` asks for a p-value above `inconclusive_rate`.
    """

    TASK: ClassVar[Task] = "localization"
    """The question that it is about."""
    NOUNS: ClassVar[tuple[str, str, str]] = ("forged", "forgeries", "forged images")
    """What is called so, what that is, and what such pictures of the calibration are called."""

    kind: Literal["calibration"] = Field(default="calibration", description="Always `calibration`.")
    schema_version: Literal["1.0"] = Field(default="1.0", description="Version of this file's schema.")
    statement: str = Field(description="What is promised, in words; for readers, clue makes its own from the numbers.")
    version: str = Field(description="Version of clue that computed the scores.")
    created: str = Field(description="When, ISO 8601 with zone.")
    model_name: str = Field(description="Name of the model.")
    model_digest: str = Field(pattern="^[0-9a-f]{64}$", description="SHA-256 of the model; no other one may use this.")
    device: str = Field(description="Device the network ran on.")
    dtype: Literal["float32", "bfloat16", "float8_e4m3fn", "int8"] = Field(
        description="Number format; a scan has to use the same."
    )
    runtime: str | None = Field(
        default=None, description="Library that computed the network, with its version; absent: torch."
    )
    authentic: list[str] = Field(description="Paths of the authentic photos, as typed.")
    forged_paths: list[str] = Field(default=[], description="Paths of the forged images, as typed.")
    fpr: float = Field(gt=0, lt=1, description="The false-positive rate that was asked for.")
    inconclusive_rate: float = Field(
        gt=0, lt=1, description="Share of authentic photos that may be denied `no_evidence`; unused with `forged`."
    )
    n: int = Field(gt=0, description="Number of authentic photos that count.")
    promised_rate: float = Field(gt=0, lt=1, description="What holds on average over calibrations: at most `fpr`.")
    rate_bound: float = Field(
        gt=0, le=1, description="Upper bound of this threshold's rate, with 95 % confidence, for independent photos."
    )
    score_threshold: float = Field(ge=0, le=1, description="The verdict is `forged` if the score is above this.")
    no_evidence_below: float = Field(ge=0, le=1, description="`no_evidence` if the score is not above this.")
    megapixels: list[float] = Field(
        min_length=2, max_length=2, description="Smallest and largest image of the calibration, 10⁶ pixels."
    )
    scores: list[float] = Field(min_length=1, description="Scores of the authentic photos, ascending.")
    scores_digest: str = Field(
        pattern="^[0-9a-f]{64}$", description="SHA-256 over `scores` in their shortest decimal form, one a line, hex."
    )
    photos_digest: str = Field(
        pattern="^[0-9a-f]{64}$",
        description="SHA-256 over the sorted SHA-256, hex, one a line, of all files that count, forged ones included.",
    )
    forged: ForgedPart | None = Field(default=None, description="With forged images only.")
    left_out: list[LeftOut] = Field(default=[], description="What could not be used, and why.")
    not_pictures: int = Field(default=0, ge=0, description="Files that are no pictures and do not claim to be.")

    @field_validator("scores")
    @classmethod
    def _scores(cls, scores: list[float]) -> list[float]:
        return _ascending(scores)

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.n != len(self.scores):
            raise ValueError(f"n is {self.n}, but there are {len(self.scores)} scores")
        if self.scores_digest != digest_of(self.scores):
            raise ValueError("scores_digest is not that of the scores")
        if not 0 < self.megapixels[0] <= self.megapixels[1]:
            raise ValueError("megapixels are not a smallest and a largest size")
        if self.no_evidence_below > self.score_threshold:
            raise ValueError("no_evidence_below exceeds score_threshold")
        return self

    def words(self) -> str:
        """What is promised, in plain words."""
        smallest, largest = self.megapixels
        forged, forgeries, pictures = self.NOUNS
        parts = [
            f"Of new authentic photos at most {_percent(self.promised_rate)} are called {forged} by mistake (asked "
            f"for: at most {_percent(self.fpr)}). This is promised by split conformal prediction from {self.n:,} "
            f"authentic photos of {smallest:.2g} to {largest:.2g} megapixels, on average over such calibrations; of "
            f"this one the rate is at most {_percent(self.rate_bound)} with 95 % confidence if its photos are "
            f"independent of each other. With {self.n:,} photos the smallest rate that can be promised is "
            f"1/{self.n + 1:,}.",
            "The promise is for photos that come about like those: the same kinds of cameras, processing, compression "
            f"and size. It says nothing about other photos, nor how many {forgeries} are found.",
        ]
        if self.forged is None:
            parts.append(
                "An image is inconclusive if its score is not high enough for that, but as high as that of at most "
                f"{_percent(self.inconclusive_rate)} of authentic photos."
            )
        else:
            count = len(self.forged.scores)
            low, high = self.forged.interval
            parts.append(
                f"Of {count:,} {pictures} {self.forged.above:,} were above the threshold "
                f"({_percent(self.forged.above / count)}; 95 % interval {_percent(low)} to {_percent(high)}). An image "
                "is inconclusive if its score is either rare among authentic photos or likelier for a "
                f"{pictures[:-1]}, but not both."
            )
        return " ".join(parts)


class SyntheticCalibrationFile(CalibrationFile):
    """`calib.json` of `clue calibrate --task synthetic`: as a `CalibrationFile`, for a method of the second question.

    What is called forged there is called generated here; `model_name` and `model_digest` are those of the method.
    """

    TASK: ClassVar[Task] = "synthetic"
    NOUNS: ClassVar[tuple[str, str, str]] = ("generated", "generated pictures", "generated pictures")

    schema_version: Literal["1.1"] = Field(  # type: ignore[assignment]
        default="1.1", description="Version of this file's schema."
    )
    task: Literal["synthetic"] = Field(
        default="synthetic", description="The question: whether the whole picture was generated."
    )
    method: str = Field(description="Kind of the method, e.g. `traces`, `bi-lora`.")


@dataclass(frozen=True, slots=True)
class OwnCalibration:
    """A calibration file as a scan uses it.

    Attributes:
        name: the file's name, printable.
        sha256: of the file's bytes, hex.
        content: checked.
    """

    name: str
    sha256: str
    content: CalibrationFile

    def applied_to(self, model: Calibration) -> Calibration:
        """The model's calibration with the thresholds, sizes and confidence of this one.

        Without forged images nothing is known of how sure a verdict is: then no confidence is given.
        """
        content, forged = self.content, self.content.forged
        changed = replace(
            model.with_thresholds(content.no_evidence_below, content.score_threshold),
            name=self.name,
            fitted_on="",
            fitted_megapixels=(content.megapixels[0], content.megapixels[1]),
            figures=None,
        )
        if forged is None:
            return changed
        return replace(
            changed,
            slope=forged.slope,
            intercept=forged.intercept,
            fitted_on=f"{len(forged.scores)} {content.NOUNS[0]} and {content.n} authentic images of one's own, "
            "weighing alike",
            figures={
                "n": float(len(forged.scores) + content.n),
                "expected_calibration_error": forged.expected_calibration_error,
                "brier": forged.brier,
            },
        )

    def p_value(self, score: float) -> float:
        """The conformal p-value of a score among the authentic photos."""
        return p_value(self.content.scores, score)

    def dtype(self, asked: DType) -> DType:
        """The number format that a scan must use: that of the calibration, unless another one was asked for.

        Raises:
            UsageError: another one was asked for.
        """
        made = DType(self.content.dtype)
        if asked not in (DType.AUTO, made):
            raise UsageError(
                f"The calibration {self.name} was made in {made.value}, this scan was to use {asked.value}.",
                "Scores differ between number formats. Leave --dtype out, or calibrate with it.",
            )
        return made

    def warnings(self, device: str, runtime: str | None = None) -> list[str]:
        """What weakens the promise, in words.

        Args:
            device: that the scan runs on.
            runtime: the library that computes the network, with its version; None: torch.
        """
        content, found = self.content, []
        if content.version != __version__:
            found.append(
                f"The calibration {self.name} was made with clue {printable(content.version)}, this is {__version__}: "
                "if scores have changed in between, its promise does not hold. Calibrate again."
            )
        if content.device.split(":")[0] != device.split(":")[0]:
            found.append(
                f"The calibration {self.name} was made on {printable(content.device)}, this scan runs on {device}: the "
                "last digits of scores differ."
            )
        if content.runtime != runtime:
            found.append(
                f"The calibration {self.name} was made with {printable(content.runtime or 'torch')}, this scan runs "
                f"with {runtime or 'torch'}: the last digits of scores differ."
            )
        return found


def thresholds(
    scores: Sequence[float], fpr: float, inconclusive_rate: float, even: float | None
) -> tuple[float, float]:
    """`score_threshold` and `no_evidence_below`, as `CalibrationFile` states the rule.

    Args:
        scores: of the authentic photos.
        even: the score at which p(forged) is one half; None without forged images.

    Raises:
        ValueError: too few scores, or an inconclusive rate below the false-positive rate.
    """
    values = np.asarray(scores, np.float64)
    rare = threshold(values, fpr)
    if even is not None:
        return max(rare, even), min(rare, even)
    if inconclusive_rate < fpr:
        raise ValueError("the inconclusive rate is below the false-positive rate")
    return rare, threshold(values, inconclusive_rate)


def digest_of(scores: Sequence[float]) -> str:
    """SHA-256 over scores in their shortest decimal form, one a line, hex."""
    return hashlib.sha256("".join(f"{score!r}\n" for score in scores).encode()).hexdigest()


def load(path: Path, model_digest: str, task: Task = "localization") -> OwnCalibration:
    """Read and check a calibration file.

    Args:
        model_digest: of the model; for `synthetic`, of the method.
        task: the question that the scan asks of it.

    Raises:
        UsageError: it cannot be read, is not a calibration, or was made for another question, model or method.
    """
    own = _read(path)
    name, content = own.name, own.content
    if task != content.TASK:
        what = {"localization": "where pictures were edited", "synthetic": "whether whole pictures were generated"}
        raise UsageError(
            f"The calibration {name} is about {what[content.TASK]}, and {what[task]} was to be calibrated.",
            "One for --also synthetic is made by `clue calibrate --task synthetic`.",
        )
    if task == "synthetic" and content.model_digest != model_digest:
        raise UsageError(
            f"The calibration {name} was made for the method {printable(content.model_name)} ({content.model_digest}), "
            f"this scan uses {model_digest}.",
            "Scores of different methods mean different things. Name the method with --also synthetic:METHOD, or "
            "calibrate this one.",
        )
    if content.model_digest != model_digest:
        raise UsageError(
            f"The calibration {name} was made for the model {content.model_digest}, this scan uses {model_digest}.",
            "Scores of different models mean different things. Name the model with --model, or calibrate this one.",
        )
    return own


def by_task(paths: Sequence[Path]) -> dict[Task, Path]:
    """Calibration files by the question that each is about.

    Raises:
        UsageError: one cannot be read or is none, or two are about the same question.
    """
    found: dict[Task, Path] = {}
    for path in paths:
        task = _read(path).content.TASK
        if task in found:
            raise UsageError(
                f"{printable(found[task].name)} and {printable(path.name)} are calibrations for the same question.",
                "Give one for each question: `clue calibrate --task synthetic` makes that for --also synthetic.",
            )
        found[task] = path
    return found


def _read(path: Path) -> OwnCalibration:
    name = printable(path.name)
    try:
        data = path.read_bytes()
        content = parse(data)
    except OSError as error:
        raise UsageError(f"The calibration {name} cannot be read: {error.strerror}.", _ADVICE) from error
    except ValueError as error:
        raise UsageError(f"{name} is no calibration that clue can use: {printable(str(error))}.", _ADVICE) from error
    return OwnCalibration(name, hashlib.sha256(data).hexdigest(), content)


def parse(data: bytes) -> CalibrationFile:
    """The content of a calibration file, of either question.

    Raises:
        ValueError: no JSON, or not as the schema says.
    """
    content = json.loads(data)
    synthetic = isinstance(content, dict) and "task" in content
    return check(
        SyntheticCalibrationFile if synthetic else CalibrationFile, content, lambda place: dotted(place) or "the file"
    )


def _ascending(scores: list[float]) -> list[float]:
    if any(not 0 <= score <= 1 for score in scores) or any(a > b for a, b in pairwise(scores)):
        raise ValueError("scores must ascend, and lie in [0, 1]")
    return scores


def _percent(rate: float) -> str:
    return f"{100 * rate:.3g} %"
