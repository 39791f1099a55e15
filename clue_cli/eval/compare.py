"""`clue eval --compare A B`: two results on the same images, tested by a paired bootstrap."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from clue_cli.errors import UsageError
from clue_cli.eval.measurements import ForeignLog
from clue_cli.eval.results import LOG, Outcome, Results, read_results
from clue_cli.eval.table import METRICS, number
from clue_cli.terminal import printable
from model.evaluation import Comparison, ImageRow, compare

COMPARED = ("f1", "iou", "image_auc", "false_positive_area")


@dataclass(frozen=True, slots=True)
class Compared:
    """One set under one attack.

    Attributes:
        left_out: images that only one of the two has a figure for.
        undefined: metrics that cannot be compared: too few images, or only one class, have figures in both.
    """

    set: str
    attack: str
    a: str
    b: str
    comparisons: list[Comparison]
    left_out: int
    undefined: list[str]


def compare_folders(a: Path, b: Path, *, method: str | None = None, seed: int = 0) -> list[Compared]:
    """Compare the subjects of two results on all sets and attacks that both have.

    Args:
        method: the full name of the method to compare in both; None: the first subject of each.

    Raises:
        UsageError: nothing in common, or a set whose data differ.
        NothingToScanError: no result there.
    """
    one, other = read_results(a), read_results(b)
    _same_data(one, other)
    names = _subject(one, method, a), _subject(other, method, b)
    pairs = [
        (left, right)
        for left in one.outcomes
        if left.method == names[0] and (right := other.outcome(left.set, left.attack, names[1])) is not None
    ]
    if not pairs:
        raise UsageError(
            "The two results have no set and attack in common.", "Measure both on the same --bench and --attack."
        )
    with _whole_folder():
        log, other_log = _log(a, [left for left, _ in pairs]), _log(b, [right for _, right in pairs])
        return [
            _compared(left, right, log.rows(left.settings, left.set), other_log.rows(right.settings, right.set), seed)
            for left, right in pairs
        ]


def describe(found: Sequence[Compared]) -> str:
    """Words for a person, one line for each metric."""
    lines = []
    for one in found:
        after = "" if one.attack == "none" else f" after {one.attack}"
        lines.append(f"{printable(one.set)}{after}: A = {one.a}, B = {one.b}")
        for comparison in one.comparisons:
            cell = comparison.difference
            interval = f"95 % interval [{number(cell.low, signed=True)}, {number(cell.high, signed=True)}]"
            verdict = "real" if comparison.real else "not shown to be real: the interval includes zero"
            lines.append(
                f"  {METRICS[comparison.metric]}: A {number(comparison.a)}, B {number(comparison.b)},"
                f" A − B {number(cell.value, signed=True)}, {interval},"
                f" n = {cell.n}, p = {comparison.p_value:.3g}: {verdict}"
            )
        if one.undefined:
            words = "; ".join(METRICS[metric] for metric in one.undefined)
            lines.append(f"  not compared, too few images in common have them: {words}")
        if one.left_out:
            lines.append(f"  {one.left_out} images were left out: only one result has a figure for them")
    if sum(len(one.comparisons) for one in found) > 1:
        lines.append("Each line is a test of its own: where nothing differs, about one of twenty is real by chance.")
    return "\n".join(lines) + "\n"


def _same_data(one: Results, other: Results) -> None:
    digests = {record.name: record.digest for record in other.sets}
    for record in one.sets:
        theirs = digests.get(record.name)
        if theirs is not None and theirs != record.digest:
            raise UsageError(
                f"The two results were not measured on the same data: {record.name} has the digest"
                f" {record.digest[:16]}… in A and {theirs[:16]}… in B.",
                "Measure both on the same files, with the same --limit and --seed, and to the end.",
            )


def _subject(results: Results, method: str | None, path: Path) -> str:
    names = results.all_methods() if method else results.subjects()
    if method is not None and method in names:
        return method
    if method is not None or not names:
        raise UsageError(
            f"{path} holds no result of {method or 'a method'}.", f"It has {', '.join(results.all_methods())}."
        )
    return names[0]


def _log(path: Path, outcomes: Sequence[Outcome]) -> ForeignLog:
    return ForeignLog((path if path.is_dir() else path.parent) / LOG, {(one.settings, one.set) for one in outcomes})


@contextmanager
def _whole_folder() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise UsageError(
            f"{error.filename} cannot be read: {error.strerror}.",
            "A comparison needs the whole folder that --out wrote.",
        ) from error


def _compared(a: Outcome, b: Outcome, rows_a: list[ImageRow], rows_b: list[ImageRow], seed: int) -> Compared:
    comparisons, left_out, undefined = [], 0, []
    for metric in COMPARED:
        try:
            comparison, problems = compare(rows_a, rows_b, metric, seed=seed)
        except ValueError:
            undefined.append(metric)
            continue
        comparisons.append(comparison)
        left_out = max(left_out, len(problems))
    return Compared(a.set, a.attack, a.method, b.method, comparisons, left_out, undefined)
