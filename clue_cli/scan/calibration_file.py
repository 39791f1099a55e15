"""`calib.json`: a threshold from a person's own photos, with what is promised of it.

`clue calibrate` writes it, `clue scan --calibration` reads it. Nothing in it is believed: the thresholds are computed
again from the scores it lists, and the words shown to a reader are made anew from the checked numbers.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
from pydantic import ConfigDict, Field, ValidationError, field_validator, model_validator
from scipy.special import expit

from clue_cli import __version__
from clue_cli.errors import UsageError
from clue_cli.networks.options import DType
from clue_cli.records import Model
from clue_cli.terminal import printable
from model.calibration import Calibration
from model.conformal import p_value, proportion_interval, rank, rate_bound, threshold

MAX_BYTES = 64 << 20
MAX_SCORES = 1_000_000

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

    scores: list[float] = Field(
        min_length=1, max_length=MAX_SCORES, description="Scores of the forged images, ascending."
    )
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


class CalibrationFile(_Strict):
    """`calib.json`: thresholds from one's own photos.

    An image is `forged` if its conformal p-value among the authentic photos is at most `fpr`. With forged images
    there is a second criterion, p(forged) > 1/2: both hold, `forged`; neither, `no_evidence`; one alone,
    `inconclusive`. Without them `no_evidence` asks for a p-value above `inconclusive_rate`.
    """

    kind: Literal["calibration"] = Field(default="calibration", description="Always `calibration`.")
    schema_version: Literal["1.0"] = Field(default="1.0", description="Version of this file's schema.")
    statement: str = Field(description="What is promised, in words; for readers, clue makes its own from the numbers.")
    version: str = Field(max_length=100, description="Version of clue that computed the scores.")
    created: str = Field(max_length=100, description="When, ISO 8601 with zone.")
    model_name: str = Field(max_length=200, description="Name of the model.")
    model_digest: str = Field(pattern="^[0-9a-f]{64}$", description="SHA-256 of the model; no other one may use this.")
    device: str = Field(max_length=100, description="Device the network ran on.")
    dtype: Literal["float32", "bfloat16"] = Field(description="Number format; a scan has to use the same.")
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
    scores: list[float] = Field(
        min_length=1, max_length=MAX_SCORES, description="Scores of the authentic photos, ascending."
    )
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
        place = rank(self.n, self.fpr)
        even = None if self.forged is None else self.forged.even
        high, low = thresholds(self.scores, self.fpr, self.inconclusive_rate, even)
        expected = {
            "score_threshold": high,
            "no_evidence_below": low,
            "promised_rate": place / (self.n + 1),
            "rate_bound": rate_bound(self.n, place),
        }
        for name, value in expected.items():
            # Special functions may differ in the last digits between machines; a threshold is a score or a logistic.
            if not np.isclose(getattr(self, name), value, rtol=1e-9, atol=1e-12):
                raise ValueError(f"{name} is {getattr(self, name)!r}, but the scores make it {value!r}")
        if self.score_threshold < threshold(np.array(self.scores), self.fpr):
            raise ValueError("score_threshold is lower than the promise allows")
        if self.forged is not None:
            above = sum(score > self.score_threshold for score in self.forged.scores)
            if self.forged.above != above:
                raise ValueError(f"above is {self.forged.above}, but {above} of the forged scores are")
            if not np.allclose(self.forged.interval, proportion_interval(above, len(self.forged.scores))):
                raise ValueError("interval is not that of the true-positive rate")
        return self

    def words(self) -> str:
        """What is promised, in plain words."""
        smallest, largest = self.megapixels
        parts = [
            f"Of new authentic photos at most {_percent(self.promised_rate)} are called forged by mistake (asked for: "
            f"at most {_percent(self.fpr)}). This is promised by split conformal prediction from {self.n:,} authentic "
            f"photos of {smallest:.2g} to {largest:.2g} megapixels, on average over such calibrations; of this one the "
            f"rate is at most {_percent(self.rate_bound)} with 95 % confidence if its photos are independent of each "
            f"other. With {self.n:,} photos the smallest rate that can be promised is 1/{self.n + 1:,}.",
            "The promise is for photos that come about like those: the same kinds of cameras, processing, compression "
            "and size. It says nothing about other photos, nor how many forgeries are found.",
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
                f"Of {count:,} forged images {self.forged.above:,} were above the threshold "
                f"({_percent(self.forged.above / count)}; 95 % interval {_percent(low)} to {_percent(high)}). An image "
                "is inconclusive if its score is either rare among authentic photos or likelier for a forged image, "
                "but not both."
            )
        return " ".join(parts)


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
            fitted_on=f"{len(forged.scores)} forged and {content.n} authentic images of one's own, weighing alike",
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

    def warnings(self, device: str) -> list[str]:
        """What weakens the promise, in words.

        Args:
            device: that the scan runs on.
        """
        content, found = self.content, []
        if content.version != __version__:
            found.append(
                f"The calibration {self.name} was made with clue {printable(content.version)}, this is {__version__}: "
                "if scores have changed in between, its promise does not hold. Make it anew."
            )
        if content.device.split(":")[0] != device.split(":")[0]:
            found.append(
                f"The calibration {self.name} was made on {printable(content.device)}, this scan runs on {device}: the "
                "last digits of scores differ."
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


def load(path: Path, model_digest: str) -> OwnCalibration:
    """Read and check a calibration file.

    Raises:
        UsageError: it cannot be read, is no calibration, contradicts itself, or was made for another model.
    """
    name = printable(path.name)
    try:
        if not path.is_file():
            raise UsageError(f"There is no calibration file {printable(str(path))}.", _ADVICE)
        with path.open("rb") as stream:
            data = stream.read(MAX_BYTES + 1)
    except OSError as error:
        raise UsageError(f"The calibration {name} cannot be read: {error.strerror}.", _ADVICE) from error
    try:
        content = parse(data)
    except ValueError as error:
        raise UsageError(f"{name} is no calibration that clue can use: {printable(str(error))}.", _ADVICE) from error
    if content.model_digest != model_digest:
        raise UsageError(
            f"The calibration {name} was made for the model {content.model_digest}, this scan uses {model_digest}.",
            "Scores of different models mean different things. Name the model with --model, or calibrate this one.",
        )
    return OwnCalibration(name, hashlib.sha256(data).hexdigest(), content)


def parse(data: bytes) -> CalibrationFile:
    """The content of a calibration file.

    Raises:
        ValueError: too large, no JSON (NaN and infinity are none), a key twice, or not as the schema says.
    """
    if len(data) > MAX_BYTES:
        raise ValueError(f"it is larger than {MAX_BYTES >> 20} MiB")
    try:
        json.loads(data.decode("utf-8"), object_pairs_hook=_unique, parse_constant=_no_constant)
        return CalibrationFile.model_validate_json(data)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False, include_context=False)[0]
        where = ".".join(map(str, first["loc"][:4]))
        words = first["msg"].removeprefix("Value error, ")
        raise ValueError(f"{where}: {words}" if where else words) from None
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    except UnicodeDecodeError:
        raise ValueError("it is not UTF-8") from None


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        twice = next(key for place, (key, _) in enumerate(pairs) if key in dict(pairs[:place]))
        raise ValueError(f"the key {twice[:80]!r} occurs twice")
    return found


def _no_constant(word: str) -> float:
    raise ValueError(f"{word} is no number")


def _ascending(scores: list[float]) -> list[float]:
    if any(not 0 <= score <= 1 for score in scores) or any(a > b for a, b in pairwise(scores)):
        raise ValueError("scores must ascend, and lie in [0, 1]")
    return scores


def _percent(rate: float) -> str:
    return f"{100 * rate:.3g} %"
