"""What is known of the errors of a run, for `run.json`: counted, as the model card says, or promised by a file."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from clue_cli.records import ErrorRates, MeasuredRate, PromisedRate, Question
from clue_cli.scan.calibration_file import OwnCalibration
from clue_cli.terminal import printable
from model.calibration import Calibration
from model.checkpoint import Checkpoint
from model.error_rates import error_rates, share
from model.synthetic import Method

_KINDS = {"camera photos": "camera", "web photos": "web"}
"""Names of what methods of the second question were measured on, as their figures have them."""


def rates_of_run(
    checkpoint: Checkpoint,
    calibration: Calibration,
    own: OwnCalibration | None = None,
    method: Method | None = None,
    own_second: OwnCalibration | None = None,
) -> dict[Question, ErrorRates]:
    """The error rates of a run by question; one of which nothing is known has neither counts nor a promise.

    Args:
        calibration: as used.
        own, own_second: the calibration files for model and method, if any.

    Raises:
        ConfigError: the model has a file of error rates with an error in it.
    """
    found = {
        Question.LOCALIZATION: ErrorRates(
            model_digest=checkpoint.digest,
            calibration_sha256=None if own is None else own.sha256,
            pixel_threshold=calibration.pixel_threshold,
            measured=_counted(checkpoint) if calibration == checkpoint.calibration else [],
            promised=_promised(own),
        )
    }
    if method is not None:
        found[Question.SYNTHETIC] = ErrorRates(
            model_digest=method.digest,
            calibration_sha256=None if own_second is None else own_second.sha256,
            score_threshold=method.calibration.score_threshold,
            measured=list(_held_out(method.calibration.figures or {})) if own_second is None else [],
            promised=_promised(own_second),
        )
    return found


def _counted(checkpoint: Checkpoint) -> list[MeasuredRate]:
    known = error_rates(checkpoint.folder, checkpoint.digest)
    if known is None:
        return []
    return [_rate(one.kind, one.pictures, one.n, one.forged, one.inconclusive) for one in known.untouched]


def _promised(own: OwnCalibration | None) -> PromisedRate | None:
    if own is None:
        return None
    content = own.content
    return PromisedRate(n=content.n, flagged=content.promised_rate, bound=content.rate_bound)


def _held_out(figures: Mapping[str, float]) -> Iterator[MeasuredRate]:
    """Counts from a method's figures, such as `held out: web photos, n`."""
    for name, n in figures.items():
        match = re.fullmatch(r"held out: (.{1,100}), n", name)
        words = match and match[1]
        shares = [figures.get(f"held out: {words}, {verdict}") for verdict in ("generated", "inconclusive")]
        if not words or n < 1 or None in shares:
            continue
        hits = [round(n * value) for value in shares if value is not None and 0 <= value <= 1]
        if len(hits) == 2:
            kind = _KINDS.get(words) or re.sub(r"[^a-z0-9]+", "_", words.lower())[:60]
            yield _rate(kind, printable(words), int(n), *hits)


def _rate(kind: str, pictures: str, n: int, flagged: int, inconclusive: int) -> MeasuredRate:
    return MeasuredRate(
        kind=kind,
        pictures=pictures,
        n=n,
        flagged=flagged,
        flagged_interval=list(share(flagged, n)[1:]),
        inconclusive=inconclusive,
        inconclusive_interval=list(share(inconclusive, n)[1:]),
    )
