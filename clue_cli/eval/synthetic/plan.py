"""What is measured of whole-picture detection: sets, methods and baselines; and what each makes of one picture."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

from clue_cli.errors import ClueError, DataProblemError, NothingToScanError, UsageError
from clue_cli.eval.measurements import Measurement
from clue_cli.eval.methods import PREDICTIONS, Method, Shot
from clue_cli.eval.options import EvalOptions
from clue_cli.eval.plan import Plan, check_engine
from clue_cli.eval.sets import ChosenSet, check_each_once, split
from clue_cli.evidence.reader import sha256_file
from clue_cli.networks import find_devices
from clue_cli.networks.synthetic import SecondQuestion
from clue_cli.terminal import printable, sentence
from model.config import ConfigError
from model.datasets.generated import LAYOUTS, find_generated
from model.datasets.own import LIST_LAYOUT
from model.datasets.sample import Kind, Problem, Sample
from model.device import ran_out_of_memory
from model.evaluation import Found, ImageRow, probe
from model.evaluation.baselines import size_probe
from model.evaluation.detection import is_laundered
from model.images.lists import BadRow, read_rows
from model.synthetic import Method as Described
from model.synthetic import describe
from model.synthetic.verdict import judge_synthetic

MEASURE: dict[str, str | float] = {"task": "synthetic", "version": 1}
"""How everything is measured; part of each settings digest."""
CONSTANT, FORMAT, METADATA, SIZE = "constant", "file format alone", "metadata alone", "file size alone"
BASELINES = {
    CONSTANT: "the class that most pictures have, for every picture",
    FORMAT: "the format of the file (JPEG, PNG, …)",
    METADATA: "the file's quantization tables, chroma subsampling, colour mode, format and kinds of metadata",
    SIZE: "bytes of the file per pixel",
}
"""What stands beside the methods in every table, and what each knows of a picture; none sees a pixel."""
_ADVICE = "A set lies in one of these ways: {}."


def baselines() -> list[Method]:
    """Those of `BASELINES`; their scores follow from all pictures of a set (`filled`)."""
    return [Method(name, "probe", sees_pixels=False, measure=MEASURE) for name in BASELINES]


class SyntheticPlan(Plan):
    """One measurement of whole-picture detection before it begins.

    Attributes:
        detectors: the methods that are measured, by the name in the tables.
        scores: predictions of each set, by its name.

    Raises:
        MethodError: a method is missing or damaged.
        UsageError, NothingToScanError, DataProblemError: as `Plan`.
    """

    def __init__(self, out: Path, options: EvalOptions) -> None:
        default = EvalOptions()
        for name in ("bars", "model", "compile", "runtime", "batch"):
            if getattr(options, name) != getattr(default, name):
                raise UsageError(f"--{name} belongs to --task localization.", "Leave it out with --task synthetic.")
        check_engine(options)
        if len(options.devices) > 1:
            raise UsageError("--task synthetic runs on one device.", "Name it with --device.")
        self.detectors: dict[str, SecondQuestion] = {}
        self.scores: dict[str, ScoreList] = {}
        described = [describe(word) for word in options.detectors]
        if described:
            devices, dtype = find_devices(options, options.dtype)
            for one in described:
                self.detectors[_name_of(one, self.detectors)] = SecondQuestion(one, devices[0], dtype)
        super().__init__(out, options)

    def _resolve(self) -> tuple[list[Found], list[str]]:
        found = resolve_generated(self.options.bench, self.options.root)
        problem = next((problem for one in found for problem in one.problems), None)
        if problem is not None and self.options.strict:
            raise DataProblemError(f"{problem}.", "Repair it, or leave --strict out.")
        return found, []

    def _prepare(self, chosen: ChosenSet) -> None:
        subjects = [_as_method(name, detector) for name, detector in self.detectors.items()]
        extra: list[Problem] = []
        if self.options.predictions is not None:
            scores = ScoreList(self.options.predictions, chosen.found)
            self.scores[chosen.name] = scores
            extra = [*scores.problems, *(Problem(Kind.MAP_MISSING, key) for key in sorted(scores.missing(chosen)))]
            subjects.append(Method(PREDICTIONS, "predictions", scores.digest, sees_pixels=False, measure=MEASURE))
        self.extra[chosen.name] = []
        self.note(chosen, extra)
        self.methods[chosen.name] = [*subjects, *baselines()]

    def _check_predictions(self) -> None:
        if self.scores and not any(one.values for one in self.scores.values()):
            name, scores = next(iter(self.scores.items()))
            problems = [*scores.refused.values(), *scores.problems]
            first = f"; {printable(str(problems[0]))[:300]}" if problems else ""
            raise NothingToScanError(
                f"No row of {self.options.predictions} is a score of a picture of {name}{first}.",
                "Its columns are path and score; paths are relative to the folder of --bench, or as in its list.",
            )


def resolve_generated(words: Sequence[str], root: Path | None) -> list[Found]:
    """The sets behind the words of `--bench`, each once.

    Args:
        root: where a relative path is looked for if it does not exist.

    Raises:
        NothingToScanError: a set is not there, or holds no picture.
        UsageError: no set given, or two names of the same pictures.
    """
    names = list(dict.fromkeys(name for word in words for name in split(word)))
    if not names:
        raise UsageError("There is nothing to measure: --bench names no set.", "Name a folder or a list.")
    advice = _ADVICE.format("; ".join(LAYOUTS.values()))
    found: dict[str, Found] = {}
    for name in names:
        path = Path(name)
        if root is not None and not path.exists() and (root / path).exists():
            path = root / path
        try:
            layout, listing = find_generated(path)
        except ConfigError as error:
            raise NothingToScanError(sentence(error), advice) from error
        except (OSError, ValueError) as error:
            raise NothingToScanError(f"{printable(str(path))} holds no set of whole pictures.", advice) from error
        samples = sorted(listing.samples, key=lambda sample: sample.key)
        if not samples:
            why = f": {listing.problems[0]}" if listing.problems else ""
            raise NothingToScanError(f"{printable(str(path))} holds no picture that could be measured{why}.", advice)
        folder = path if layout != LIST_LAYOUT else path.parent
        found[name] = Found(str(path), layout, folder, None, samples, listing.problems, listing.ignored)
    check_each_once(found)
    return list(found.values())


def _name_of(method: Described, taken: dict[str, SecondQuestion]) -> str:
    name = printable(method.name)
    if name in {PREDICTIONS, *BASELINES}:
        name = f"method {name}"
    if name in taken:
        raise UsageError(f"--method names {name} twice.", "Each method is measured once.")
    return name


def _as_method(name: str, detector: SecondQuestion) -> Method:
    described = detector.method
    details = {
        "kind": described.kind,
        "device": detector.device.partition(":")[0],
        "dtype": str(detector.dtype).removeprefix("torch."),
        "calibration": described.calibration.name,
        "calibration_sha256": described.calibration.sha256(),
    }
    return Method(name, "detector", described.digest, details, preset=described.kind, measure=MEASURE)


@dataclass(slots=True)
class ScoreList:
    """Another method's scores of one set: a CSV with the columns path and score.

    Attributes:
        values: score by the key of the picture.
        refused: why a picture has no score although rows name it, by its key.
        problems: rows that are not used because they are not understood, or belong to no picture.
        digest: SHA-256 of the file, hex.

    Raises:
        NothingToScanError: no such file.
        UsageError: it is no such CSV.
    """

    path: Path
    found: Found
    values: dict[str, float] = field(default_factory=dict, init=False)
    refused: dict[str, Problem] = field(default_factory=dict, init=False)
    problems: list[Problem] = field(default_factory=list, init=False)
    digest: str = field(default="", init=False)

    def __post_init__(self) -> None:
        advice = "--predictions names a .csv with the columns path and score, a score from 0 to 1."
        if self.path.suffix.lower() not in (".csv", ".tsv") or not self.path.is_file():
            raise NothingToScanError(f"There is no .csv file {printable(str(self.path))}.", advice)
        keys = {os.path.normpath(entry.key): entry.key for entry in self.found.samples}
        keys |= {os.path.realpath(entry.image): entry.key for entry in self.found.samples}
        try:
            self.digest = sha256_file(self.path)
            for row in read_rows(self.path, named=True):
                if isinstance(row, BadRow):
                    self.problems.append(Problem(Kind.LIST_LINE, row.where, row.text))
                    continue
                key = None
                with suppress(ValueError):  # no name that a file system takes
                    key = keys.get(os.path.normpath(row.image)) or keys.get(os.path.realpath(row.image))
                if key is None:
                    self.problems.append(Problem(Kind.MAP_WITHOUT_IMAGE, row.image, row.where))
                else:
                    self._take(key, row.score, row.where)
        except (ConfigError, OSError) as error:
            raise UsageError(f"The scores cannot be read: {printable(str(error))}.", advice) from error

    def missing(self, chosen: ChosenSet) -> set[str]:
        """Keys of the pictures without a row that are not measured; of the others, measuring says it."""
        return chosen.left_out.difference(self.values, self.refused)

    def find(self, entry: Sample) -> float | Problem:
        """The score of a picture, or why there is none."""
        if (refused := self.refused.get(entry.key)) is not None:
            return refused
        return self.values.get(entry.key, Problem(Kind.MAP_MISSING, entry.key))

    def _take(self, key: str, text: str, where: str) -> None:
        try:
            score = float(text)
        except ValueError:
            self.refused[key] = Problem(Kind.MAP_UNREADABLE, key, f"{where}: {text[:60] or 'no score'}")
            return
        if key in self.values or key in self.refused:
            self.values.pop(key, None)
            self.refused[key] = Problem(Kind.PREDICTION_TWICE, key, where)
        elif not math.isfinite(score):
            self.refused[key] = Problem(Kind.SCORE_NOT_FINITE, key, f"{where}: {text[:60]}")
        elif not 0 <= score <= 1:
            self.refused[key] = Problem(Kind.SCORE_OUT_OF_RANGE, key, f"{where}: {text[:60]}")
        else:
            self.values[key] = score


def measure(shot: Shot, method: Method, plan: SyntheticPlan) -> Measurement:
    """The figures of one method on one picture; what went wrong is named in the row, and never raised."""
    entry, header = shot.entry, shot.ground.header
    row = ImageRow(
        entry.key,
        entry.forged,
        entry.manipulation,
        header.format if header else "",
        header.width if header else None,
        header.height if header else None,
        problems=shot.ground.problems,
        part=entry.part,
    )
    if method.kind == "probe":
        return Measurement(row, signature=_signature(shot, method.name))
    if method.kind == "predictions":
        score = plan.scores[shot.chosen.name].find(entry)
        if isinstance(score, Problem):
            return Measurement(replace(row, problems=(*row.problems, score)))
        return Measurement(replace(row, score=score))
    return _detected(shot, row, plan.detectors[method.name])


def _detected(shot: Shot, row: ImageRow, detector: SecondQuestion) -> Measurement:
    def failed(kind: Kind, why: str, *, again: bool) -> Measurement:
        others = [problem for problem in row.problems if problem.kind is not kind]
        return Measurement(replace(row, problems=(*others, Problem(kind, row.key, why))), failed=again)

    if shot.pixels is None:
        problem = shot.problem or Problem(Kind.IMAGE_UNREADABLE, row.key)
        return failed(problem.kind, problem.detail, again=True)
    megapixels = shot.pixels.shape[0] * shot.pixels.shape[1] / 1e6
    calibration = detector.method.calibration
    try:
        score = detector.detect(shot.pixels).score
        judgment = judge_synthetic(score, calibration, megapixels)
    except ClueError:  # about the method, not about this picture
        raise
    except ValueError as error:
        return failed(Kind.NOT_JUDGED, printable(str(error)), again=False)
    except Exception as error:  # one picture must not end a measurement of thousands
        what = "out of memory" if ran_out_of_memory(error) else f"the method failed: {type(error).__name__}"
        return failed(Kind.NOT_JUDGED, f"{what}: {printable(str(error))}", again=True)
    return Measurement(
        replace(
            row,
            score=score,
            probability=calibration.p_forged(score) if calibration.covers(megapixels) else None,
            decided=judgment.verdict == "generated" if calibration.fitted else None,
            verdict=judgment.verdict,
        )
    )


def _signature(shot: Shot, name: str) -> str:
    """What a baseline knows of a picture, in words; empty: nothing."""
    header = shot.ground.header
    if header is None:
        return ""
    if name == SIZE:
        with suppress(OSError):
            return repr(shot.entry.image.stat().st_size / (header.width * header.height))
        return ""
    return {FORMAT: header.format, METADATA: header.signature}.get(name, "")


def filled(method: Method, measurements: Sequence[Measurement]) -> list[ImageRow]:
    """The rows of a method; the scores of a baseline follow from all of them, the laundered ones left out."""
    if method.kind != "probe":
        return [one.row for one in measurements]
    judged = [one for one in measurements if not is_laundered(one.row)]
    rows = [one.row for one in judged]
    known = [one.signature for one in judged]
    if method.name == CONSTANT:
        more = 2 * sum(row.forged for row in rows) > len(rows)
        scored = [replace(row, score=0.5, decided=more) for row in rows]
    elif method.name == SIZE:
        scored = size_probe(rows, [float(text) if text else None for text in known])
    else:
        scored = probe(rows, known)
    return [*scored, *(one.row for one in measurements if is_laundered(one.row))]
