"""The second question in a scan: from what a method says of a picture, and the file of itself, to the answer.

Metadata are claims that anybody can set and remove. So a file that declares that it was generated never makes the
verdict `generated`, its silence means nothing, and all it can do is keep `no_evidence` from standing against it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from clue_cli.evidence.claims import declares_generated
from clue_cli.evidence.item import Photo
from clue_cli.records import Answer, Finding, MethodInfo, Origin, Verdict
from clue_cli.scan.assemble import doubt_of
from clue_cli.scan.calibration_file import OwnCalibration
from clue_cli.terminal import printable
from model.calibration import Calibration
from model.synthetic import Detection, Method
from model.synthetic.verdict import SyntheticJudgment, judge_synthetic


@dataclass(frozen=True, slots=True)
class SecondAnswer:
    """Whether the whole picture was generated.

    Attributes:
        heatmap: H×W float32 in [0, 1] as displayed, of what was examined; None: the method has none.
    """

    answer: Answer
    findings: tuple[Finding, ...] = ()
    heatmap: NDArray[np.float32] | None = None


def second_answer(
    said: Detection | str, method: Method, photo: Photo, own: OwnCalibration | None = None
) -> SecondAnswer:
    """The answer about one picture.

    Args:
        said: by the method of the examined pixels, or why it says nothing.
        own: the calibration file that the method's calibration came from, if any.
    """
    calibration = method.calibration
    if isinstance(said, str):
        reason = f"the method could not judge the picture: {printable(said)}"
        statement = f"Whether the whole picture was generated could not be judged: {printable(said)}."
        finding = Finding(kind="synthetic_not_judged", source=Origin.PIXELS, statement=statement)
        return SecondAnswer(_answer(Verdict.INCONCLUSIVE, reason, method), (finding,))
    height, width = photo.examined.shape[:2]
    judgment = _restrained(judge_synthetic(said.score, calibration, height * width / 1e6), photo)
    answer = _answer(
        Verdict(judgment.verdict), judgment.reason, method, judgment.score, judgment.confidence, said.parts
    )
    if own is not None and calibration.knows_size(height * width / 1e6):
        answer = answer.model_copy(update={"p_value": own.p_value(judgment.score)})
    heatmap = None if said.heatmap is None else photo.displayed(said.heatmap)
    return SecondAnswer(answer, tuple(_size_finding(height * width / 1e6, calibration)), heatmap)


def _size_finding(megapixels: float, calibration: Calibration) -> list[Finding]:
    smallest, largest = calibration.fitted_megapixels
    if not largest or calibration.knows_size(megapixels):
        return []
    statement = (
        f"The method that judges whether the whole picture was generated was calibrated on images of {smallest:.2g} to "
        f"{largest:.2g} megapixels; this one has {megapixels:.2g}: its error rates are not known for this size."
    )
    data = {"megapixels": round(megapixels, 3), "smallest": smallest, "largest": largest}
    return [Finding(kind="synthetic_size_not_calibrated", source=Origin.PIXELS, statement=statement, data=data)]


def _answer(
    verdict: Verdict,
    reason: str,
    method: Method,
    score: float | None = None,
    confidence: float | None = None,
    parts: dict[str, float] | None = None,
) -> Answer:
    return Answer(
        verdict=verdict,
        reason=reason,
        score=score,
        confidence=confidence,
        score_threshold=method.calibration.score_threshold,
        no_evidence_below=method.calibration.no_evidence_below,
        method=printable(method.name),
        method_digest=method.digest,
        calibration=printable(method.calibration.name),
        parts=parts or {},
    )


def _restrained(judgment: SyntheticJudgment, photo: Photo) -> SyntheticJudgment:
    """The judgment, or an inconclusive one where the file is in doubt, not whole, or declares the opposite."""
    doubt = doubt_of(photo, "the method")
    if doubt is None and photo.rows is not None:
        doubt = "a part of the picture is missing, and the question is about the whole"
    if doubt is None and judgment.verdict == "no_evidence" and declares_generated(photo.findings):
        doubt = (
            "the file itself declares or suggests that a generative model made the picture, which anybody can set, and "
            "the method found no trace of it"
        )
    if doubt is None or judgment.verdict == "inconclusive":
        return judgment
    return replace(judgment, verdict="inconclusive", reason=f"{doubt} ({judgment.reason})", confidence=None)


def method_info(method: Method, own: OwnCalibration | None = None) -> MethodInfo:
    """The method, for `run.json`, and the calibration file that its calibration came from, if any."""
    calibration = method.calibration
    generators = method.training.get("generators", ())
    return MethodInfo(
        name=printable(method.name),
        kind=method.kind,
        digest=method.digest,
        base=printable(method.base),
        calibration=printable(calibration.name),
        calibration_sha256=calibration.sha256(),
        fitted_on=printable(calibration.fitted_on),
        fitted_megapixels=list(calibration.fitted_megapixels),
        score_threshold=calibration.score_threshold,
        no_evidence_below=calibration.no_evidence_below,
        figures=calibration.figures or {},
        calibration_promise=None if own is None else own.content.words(),
        calibration_file_sha256=None if own is None else own.sha256,
        generators=[printable(str(name)) for name in generators] if isinstance(generators, (list, tuple)) else [],
        limits=[printable(text) for text in method.limits],
    )


def judging(method: Method | None, own: OwnCalibration | None = None) -> dict[str, str]:
    """What an answer depends on beside the picture, for the digest of the settings; nothing if it was not asked."""
    if method is None:
        return {}
    file = {} if own is None else {"synthetic_calibration_file": own.sha256}
    return {"synthetic": method.digest, "synthetic_calibration": method.calibration.sha256(), **file}


def uncalibrated_method(method: Method | None) -> list[str]:
    """The warning about a method without a calibration, if it has none."""
    if method is None or method.calibration.fitted:
        return []
    return [
        f"The method {printable(method.name)} is not calibrated: nothing is known of its false alarms, and its answer "
        "is inconclusive for every picture."
    ]
