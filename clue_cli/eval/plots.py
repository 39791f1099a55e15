"""The plots of a result, drawn from `results.json` alone."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from clue_cli.eval.results import Figure, Outcome, Results
from clue_cli.eval.svg import Curve, Interval, Series, category_chart, curve_chart

WIDEST = 22
"""Most characters of a category's label."""


@dataclass(frozen=True, slots=True)
class Plot:
    """One plot: the set it is about, the name of its file, and the SVG."""

    set: str
    name: str
    svg: str


def draw(results: Results) -> list[Plot]:
    """All plots for which there are figures."""
    plots = []
    for number, record in enumerate(results.sets, 1):
        for what, picture in _of_set(results, record.name):
            plots.append(Plot(record.name, f"{number:02d}-{slug(record.name)}-{what}.svg", picture))
    return plots


def slug(name: str) -> str:
    """A file name from any name: lower-case letters, digits and `-`, at most 40."""
    return re.sub(r"[^a-z0-9]+", "-", name.casefold().rsplit("/", 1)[-1]).strip("-")[:40] or "set"


def _of_set(results: Results, name: str) -> Iterator[tuple[str, str]]:
    attack = results.attacks[0]
    after = "" if attack == "none" else f", after {attack}"
    outcomes = [one for method in results.all_methods() if (one := results.outcome(name, attack, method)) is not None]
    # A method that gives every image the same score has a curve of two points, and nothing to show
    told_apart = [one for one in outcomes if len(one.curves.image_roc) > 2]
    roc = [_curve(one, one.curves.image_roc, "image_auc", "AUC") for one in told_apart]
    if roc:
        title = f"{_short(name)}: images, ROC{after}"
        yield "roc", curve_chart(title, "false-positive rate", "true-positive rate", roc, diagonal=True)
    precise = [Curve(one.method, one.curves.image_precision_recall) for one in told_apart]
    if precise:
        yield (
            "precision-recall",
            curve_chart(f"{_short(name)}: images, precision and recall{after}", "recall", "precision", precise),
        )
    pixels = [
        Curve(
            one.method, [(point.recall, point.precision) for point in one.curves.pixel if point.precision is not None]
        )
        for one in outcomes
        if one.curves.pixel
    ]
    if pixels:
        title = f"{_short(name)}: pixels, mean over forged images{after}"
        yield "pixel-precision-recall", curve_chart(title, "recall", "precision", pixels)
    yield from _by_area(name, outcomes, after)
    for family in _families(results.attacks):
        yield _robustness(results, name, family)
    for one in outcomes:
        if one.method in results.subjects() and one.curves.reliability:
            bins = one.curves.reliability
            curve = Curve(f"{one.method} (n = {sum(b.n for b in bins)})", [(b.said, b.was) for b in bins], marked=True)
            title = f"{_short(name)}: reliability{after}"
            yield (
                f"reliability-{slug(one.method)}",
                curve_chart(title, "stated probability that it was forged", "share forged", [curve], diagonal=True),
            )


def _curve(one: Outcome, points: Sequence[tuple[float, float]], metric: str, word: str) -> Curve:
    figure = one.image[metric]
    return Curve(
        f"{one.method}, {word} {figure.value:.3f} (n = {figure.n})" if figure.value is not None else one.method, points
    )


def _by_area(name: str, outcomes: Sequence[Outcome], after: str) -> Iterator[tuple[str, str]]:
    """F1 by fifth of edited area; the fifths are those of the first method that has any."""
    first = next((one.groups["edited area"] for one in outcomes if one.groups.get("edited area")), {})
    if not first:
        return
    series = []
    for one in outcomes:
        cells = [one.groups.get("edited area", {}).get(label, {}).get("f1") for label in first]
        if any(_interval(cell) for cell in cells):
            series.append(Series(one.method, [_interval(cell) for cell in cells]))
    labels = [label.partition(": ")[2] or label for label in first]
    yield "f1-by-area", category_chart(f"{_short(name)}: F1 by edited area{after}", "F1", labels, series)


def _families(attacks: Sequence[str]) -> list[list[str]]:
    """Attacks of one kind, `none` in front if it was measured; only kinds of which there are two or more points."""
    kinds: dict[str, list[str]] = {}
    for attack in attacks:
        if attack != "none":
            kinds.setdefault(attack.split(":")[0] if "+" not in attack else "chains", []).append(attack)
    plain = ["none"] if "none" in attacks else []
    return [[*plain, *found] for found in kinds.values() if len(plain) + len(found) > 1]


def _robustness(results: Results, name: str, family: Sequence[str]) -> tuple[str, str]:
    series = []
    for method in results.all_methods():
        values = []
        for attack in family:
            one = results.outcome(name, attack, method)
            cell = one.pixel.get("f1") if one else None
            values.append(_interval(cell))
        if any(values):
            series.append(Series(method, values))
    kind = family[-1].split(":")[0] if "+" not in family[-1] else "chains"
    simulated = ", simulated" if kind == "social" else ""
    return f"robustness-{slug(kind)}", category_chart(
        f"{_short(name)}: F1 after {kind}{simulated}", "F1", family, series
    )


def _interval(cell: Figure | None) -> Interval | None:
    return None if cell is None or cell.value is None else (cell.value, cell.low, cell.high)


def _short(name: str) -> str:
    last = name.rstrip("/").rsplit("/", 1)[-1]
    return last if len(last) <= WIDEST else last[: WIDEST - 1] + "…"
