"""`clue eval --compare A B`: two results on the same images, tested in pairs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from clue_cli.errors import UsageError
from clue_cli.eval.measurements import MeasurementLog
from clue_cli.eval.options import NETWORK
from clue_cli.eval.results import LOG, Outcome, Results
from clue_cli.eval.synthetic.results import METRICS as OF_DETECTION
from clue_cli.eval.synthetic.results import SyntheticOutcome, SyntheticResults, read_any
from clue_cli.eval.table import METRICS as OF_LOCALIZATION
from clue_cli.eval.table import number
from clue_cli.terminal import printable
from model.evaluation import Comparison, ImageRow, compare
from model.evaluation.bootstrap import SIGNIFICANCE
from model.evaluation.detection import is_laundered

METRICS = OF_DETECTION | OF_LOCALIZATION
COMPARED = ("f1", "iou", "image_auc", "false_positive_area")
COMPARED_DETECTION = ("balanced_accuracy", "accuracy_at_half", "image_auc", "average_precision")
"""What is compared of the synthetic task; laundered pictures are left out."""
AnyResults = Results | SyntheticResults
AnyOutcome = Outcome | SyntheticOutcome
ALIKE = ("pixel_threshold", "resize", "score_of_maps")
"""Parts of the configuration without which figures mean something else."""


@dataclass(frozen=True, slots=True)
class Compared:
    """One set under one attack.

    Attributes:
        set: its name in A, and that in B where it differs.
        seeds: of the attack in A and in B, where they differ.
        left_out: images that only one of the two has a figure for, or whose ground truth differs.
        undefined: metrics that cannot be compared: too few images, or only one class, have figures in both.
    """

    set: str
    attack: str
    a: str
    b: str
    comparisons: list[Comparison]
    left_out: int
    undefined: list[str]
    seeds: tuple[int, int] | None = None


def compare_folders(a: Path, b: Path, *, method: str | None = None, seed: int = 0) -> list[Compared]:
    """Compare the subjects of two results on all sets and attacks that both have; a set may lie elsewhere in each.

    Args:
        method: the full name of the method to compare in both, or `mini`: the network of each; None: the first subject
            of each.

    Raises:
        UsageError: nothing in common, a set whose data differ, or another way of measuring.
        NothingToScanError: no result there.
    """
    one, other = read_any(a), read_any(b)
    if isinstance(one, SyntheticResults) != isinstance(other, SyntheticResults):
        raise UsageError(
            "One of the two results is of --task synthetic, the other is not.", "Compare results of the same task."
        )
    _same_measure(one, other)
    theirs = _same_data(one, other)
    names = _subject(one, method, a), _subject(other, method, b)
    pairs = [
        (left, right)
        for left in one.outcomes
        if left.method == names[0]
        and left.set in theirs
        and (right := other.outcome(theirs[left.set], left.attack, names[1])) is not None
    ]
    if not pairs:
        raise UsageError(
            f"The two results have no set and attack in common: A has {_held(one)}; B has {_held(other)}.",
            "Measure both on the same --bench and --attack.",
        )
    seeds = (one.seed, other.seed) if one.seed != other.seed else None
    with _whole_folder(), _log(a) as log, _log(b) as other_log:
        return [
            replace(
                _compared(left, right, log.rows(*_lines(left)), other_log.rows(*_lines(right)), seed),
                seeds=seeds if left.attack != "none" else None,
            )
            for left, right in pairs
        ]


def describe(found: Sequence[Compared]) -> str:
    """Words for a person, one line for each metric."""
    lines = []
    for one in found:
        after = "" if one.attack == "none" else f" after {one.attack}"
        lines.append(printable(f"{one.set}{after}: A = {one.a}, B = {one.b}"))
        for comparison in one.comparisons:
            cell = comparison.difference
            interval = f"95 % interval [{number(cell.low, signed=True)}, {number(cell.high, signed=True)}]"
            verdict = _verdict(comparison)
            lines.append(
                f"  {METRICS[comparison.metric]}: A {number(comparison.a)}, B {number(comparison.b)},"
                f" A − B {number(cell.value, signed=True)}, {interval},"
                f" n = {cell.n}, p = {comparison.p_value:.3g}: {verdict}"
            )
        if one.undefined:
            words = "; ".join(METRICS[metric] for metric in one.undefined)
            lines.append(f"  not compared, too few images in common have them: {words}")
        if one.left_out:
            lines.append(f"  {one.left_out} images were left out: one result has no figure for them, or another truth")
        if one.seeds:
            lines.append(f"  what the attack draws at random differs: --seed {one.seeds[0]} in A, {one.seeds[1]} in B")
    if sum(len(one.comparisons) for one in found) > 1:
        lines.append("Each line is a test of its own: where nothing differs, about one in twenty differs by chance.")
    return "\n".join(lines) + "\n"


def _verdict(comparison: Comparison) -> str:
    if comparison.differs:
        return "differs at the 5 % level"
    if comparison.least_p > SIGNIFICANCE:
        return f"too few images: p cannot be below {comparison.least_p:.3g}"
    return "no difference shown at the 5 % level"


def _same_measure(one: AnyResults, other: AnyResults) -> None:
    for name in ALIKE:
        mine, theirs = one.configuration.get(name), other.configuration.get(name)
        if mine != theirs:
            raise UsageError(
                f"The two results were not measured in the same way: {name} is {printable(str(mine))} in A and"
                f" {printable(str(theirs))} in B.",
                "Measure both with the same version of clue.",
            )


def _held(results: AnyResults) -> str:
    sets = ", ".join(record.name for record in results.sets) or "no set"
    return printable(f"{sets} ({', '.join(results.attacks)})")


def _same_data(one: AnyResults, other: AnyResults) -> dict[str, str]:
    """What B calls each set of A that it has: by its name, or else by the digest of what was measured."""
    names: dict[str, str] = {}
    same = {record.digest: record.name for record in other.sets}
    digests = {record.name: record.digest for record in other.sets}
    for record in one.sets:
        theirs = digests.get(record.name)
        if theirs is not None and theirs != record.digest:
            raise UsageError(
                f"The two results were not measured on the same data: {record.name} has the digest"
                f" {record.digest[:16]}… in A and {theirs[:16]}… in B.",
                "Measure both on the same files, with the same --limit and --seed, and to the end.",
            )
        if theirs is not None or record.digest in same:
            names[record.name] = record.name if theirs is not None else same[record.digest]
    return names


def _subject(results: AnyResults, method: str | None, path: Path) -> str:
    names = results.all_methods() if method else results.subjects()
    if method == NETWORK:
        kinds = ("network", "method")
        names = [one.name for methods in results.methods.values() for one in methods if one.kind in kinds]
        method = names[0] if names else "a network"
    if method is not None and method in names:
        return method
    if method is not None or not names:
        raise UsageError(
            f"{path} holds no result of {method or 'a method'}.", f"It has {', '.join(results.all_methods())}."
        )
    return names[0]


def _log(path: Path) -> MeasurementLog:
    return MeasurementLog((path if path.is_dir() else path.parent) / LOG, read_only=True)


def _lines(one: AnyOutcome) -> tuple[str, str]:
    """What names the lines of an outcome in the log."""
    return one.settings, one.set


@contextmanager
def _whole_folder() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise UsageError(
            f"{error.filename} cannot be read: {error.strerror}.",
            "A comparison needs the whole folder that --out wrote.",
        ) from error


def _compared(a: AnyOutcome, b: AnyOutcome, rows_a: list[ImageRow], rows_b: list[ImageRow], seed: int) -> Compared:
    comparisons, left_out, undefined = [], 0, []
    detection = isinstance(a, SyntheticOutcome)
    if detection:
        rows_a, rows_b = ([row for row in rows if not is_laundered(row)] for rows in (rows_a, rows_b))
    for metric in COMPARED_DETECTION if detection else COMPARED:
        try:
            comparison, problems = compare(rows_a, rows_b, metric, seed=seed)
        except ValueError:
            undefined.append(metric)
            continue
        comparisons.append(comparison)
        left_out = max(left_out, len(problems))
    name = a.set if a.set == b.set else f"{a.set} (in B {b.set})"
    return Compared(name, a.attack, a.method, b.method, comparisons, left_out, undefined)
