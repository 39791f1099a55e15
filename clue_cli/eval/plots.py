"""The plots of a result as SVG, drawn from `results.json` alone.

Everything is drawn with presentation attributes, no style and no script, so that the charts can stand in a page with a
strict content-security policy. Texts are escaped, and colours are Okabe and Ito's, which colour-blind people can tell
apart; lines differ in their dashes as well.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from math import ceil, floor, log10
from xml.sax.saxutils import escape, quoteattr

from clue_cli.eval.results import Outcome, Results
from model.evaluation import Estimate

WIDTH, HEIGHT = 560, 400
LEFT, RIGHT, TOP, BOTTOM = 62, 16, 40, 56
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00", "#000000", "#7f7f7f")
DASHES = ("", "7 3", "2 3", "9 3 2 3", "4 4", "1 4", "12 4", "3 2")
LINE = 18
"""Height of a line of the legend, pixels."""
WIDEST = 22
"""Most characters of a category's label."""

Point = tuple[float, float]
Interval = tuple[float, float | None, float | None]


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
        title = f"{short(name)}: images, ROC{after}"
        yield "roc", curve_chart(title, "false-positive rate", "true-positive rate", roc, diagonal=True)
    precise = [Curve(one.method, one.curves.image_precision_recall) for one in told_apart]
    if precise:
        yield (
            "precision-recall",
            curve_chart(f"{short(name)}: images, precision and recall{after}", "recall", "precision", precise),
        )
    pixels = [
        Curve(
            one.method, [(point.recall, point.precision) for point in one.curves.pixel if point.precision is not None]
        )
        for one in outcomes
        if one.curves.pixel
    ]
    if pixels:
        title = f"{short(name)}: pixels, mean over forged images{after}"
        yield "pixel-precision-recall", curve_chart(title, "recall", "precision", pixels)
    yield from _by_area(name, outcomes, after)
    for family in families(results.attacks):
        yield _robustness(results, name, family)
    for one in outcomes:
        if one.method in results.subjects() and one.curves.reliability:
            bins = one.curves.reliability
            curve = Curve(f"{one.method} (n = {sum(b.n for b in bins)})", [(b.said, b.was) for b in bins], marked=True)
            title = f"{short(name)}: reliability{after}"
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
        if any(interval(cell) for cell in cells):
            series.append(Series(one.method, [interval(cell) for cell in cells]))
    labels = [label.partition(": ")[2] or label for label in first]
    yield "f1-by-area", category_chart(f"{short(name)}: F1 by edited area{after}", "F1", labels, series)


def families(attacks: Sequence[str]) -> list[list[str]]:
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
            values.append(interval(cell))
        if any(values):
            series.append(Series(method, values))
    kind = family[-1].split(":")[0] if "+" not in family[-1] else "chains"
    simulated = ", simulated" if kind == "social" else ""
    return f"robustness-{slug(kind)}", category_chart(
        f"{short(name)}: F1 after {kind}{simulated}", "F1", family, series
    )


def interval(cell: Estimate | None) -> Interval | None:
    """A figure as a chart has it."""
    return None if cell is None or cell.value is None else (cell.value, cell.low, cell.high)


def short(name: str) -> str:
    """The last part of a name, at most `WIDEST` characters."""
    last = name.rstrip("/").rsplit("/", 1)[-1]
    return last if len(last) <= WIDEST else last[: WIDEST - 1] + "…"


@dataclass(frozen=True, slots=True)
class Curve:
    """A line through points; both coordinates from 0 to 1, or positive in a `log_chart`."""

    name: str
    points: Sequence[Point]
    marked: bool = False


@dataclass(frozen=True, slots=True)
class Series:
    """Values over categories: (value, low, high), or None where there is none."""

    name: str
    values: Sequence[Interval | None]


def curve_chart(title: str, x_label: str, y_label: str, curves: Sequence[Curve], *, diagonal: bool = False) -> str:
    """Curves in the unit square.

    Args:
        diagonal: draw the line of chance, or of perfect calibration.
    """
    body = [_axes(title, x_label, y_label, FIFTHS)]
    if diagonal:
        (x0, y0), (x1, y1) = _place(0, 0), _place(1, 1)
        body.append(
            f'<line x1="{x0:.1f}" y1="{y0:.1f}" x2="{x1:.1f}" y2="{y1:.1f}" stroke="#aaa" stroke-dasharray="3 3"/>'
        )
    return _chart("".join(body), title, curves)


def _chart(axes: str, title: str, curves: Sequence[Curve]) -> str:
    body = [axes]
    for number, curve in enumerate(curves):
        places = [_place(x, y) for x, y in curve.points]
        body.append(_line(number, places))
        if curve.marked or len(places) == 1:
            body += [_dot(number, x, y) for x, y in places]
    return _svg(title, body, [curve.name for curve in curves])


def log_chart(title: str, x_label: str, y_label: str, curves: Sequence[Curve]) -> str:
    """Curves through positive values, both axes logarithmic over whole decades."""
    (x0, x1, x_ticks), (y0, y1, y_ticks) = (
        _decades([point[axis] for curve in curves for point in curve.points]) for axis in (0, 1)
    )
    scaled = [
        replace(curve, points=[((log10(x) - x0) / (x1 - x0), (log10(y) - y0) / (y1 - y0)) for x, y in curve.points])
        for curve in curves
    ]
    return _chart(_axes(title, x_label, y_label, x_ticks, y_ticks), title, scaled)


def _decades(values: Sequence[float]) -> tuple[int, int, list[tuple[float, str]]]:
    """The powers of ten around the values, and a tick at each; of one decade also at 2 and 5."""
    low = floor(log10(min(values)))
    high = max(ceil(log10(max(values))), low + 1)
    steps = (1, 2, 5) if high - low == 1 else (1,)
    ticks = [step * 10.0**power for power in range(low, high) for step in steps] + [10.0**high]
    return low, high, [((log10(value) - low) / (high - low), f"{value:,g}") for value in ticks]


def category_chart(title: str, y_label: str, categories: Sequence[str], series: Sequence[Series]) -> str:
    """Values from 0 to 1 over named categories, with their intervals."""
    count = max(len(categories), 1)
    ticks = [((index + 0.5) / count, name) for index, name in enumerate(categories)]
    body = [_axes(title, "", y_label, ticks, slanted=True)]
    for number, one in enumerate(series):
        shift = (number - (len(series) - 1) / 2) * min(0.05, 0.7 / max(len(series), 1)) / count
        places = []
        for index, value in enumerate(one.values):
            if value is None:
                continue
            middle, low, high = value
            x, y = _place((index + 0.5) / count + shift, middle)
            places.append((x, y))
            if low is not None and high is not None:
                top, bottom = _place(0, high)[1], _place(0, low)[1]
                body.append(
                    f'<line x1="{x:.1f}" y1="{top:.1f}" x2="{x:.1f}" y2="{bottom:.1f}" stroke="{_colour(number)}"'
                    ' stroke-width="1.5"/>'
                )
        body.append(_line(number, places))
        body += [_dot(number, x, y) for x, y in places]
    return _svg(title, body, [one.name for one in series], room=70)


def _place(x: float, y: float) -> Point:
    """From the unit square to pixels."""
    inner_width, inner_height = WIDTH - LEFT - RIGHT, HEIGHT - TOP - BOTTOM
    return LEFT + min(max(x, 0.0), 1.0) * inner_width, HEIGHT - BOTTOM - min(max(y, 0.0), 1.0) * inner_height


def _colour(number: int) -> str:
    return COLOURS[number % len(COLOURS)]


def _line(number: int, places: Sequence[Point]) -> str:
    points = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
    dash = DASHES[number % len(DASHES)]
    dashes = f' stroke-dasharray="{dash}"' if dash else ""
    return f'<polyline points="{points}" fill="none" stroke="{_colour(number)}" stroke-width="2"{dashes}/>'


def _dot(number: int, x: float, y: float) -> str:
    return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3.5" fill="{_colour(number)}"/>'


def _text(x: float, y: float, words: str, anchor: str = "middle", size: int = 12, extra: str = "") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-size="{size}"{extra}>{escape(words)}</text>'


FIFTHS = tuple((value / 5, f"{value / 5:g}") for value in range(6))
"""Ticks of an axis from 0 to 1."""


def _axes(
    title: str,
    x_label: str,
    y_label: str,
    ticks: Sequence[tuple[float, str]],
    y_ticks: Sequence[tuple[float, str]] = FIFTHS,
    *,
    slanted: bool = False,
) -> str:
    parts = [_text(LEFT, 22, title, "start", 15, ' font-weight="600"')]
    x0, y0 = _place(0, 0)
    x1, y1 = _place(1, 1)
    for height, name in y_ticks:
        y = _place(0, height)[1]
        parts.append(f'<line x1="{x0}" y1="{y:.1f}" x2="{x1}" y2="{y:.1f}" stroke="#e3e3e3"/>')
        parts.append(_text(x0 - 8, y + 4, name, "end"))
    for position, name in ticks:
        x = _place(position, 0)[0]
        parts.append(f'<line x1="{x:.1f}" y1="{y0}" x2="{x:.1f}" y2="{y0 + 5}" stroke="#333"/>')
        if slanted:
            parts.append(_text(x, y0 + 18, name, "end", 11, f' transform="rotate(-30 {x:.1f} {y0 + 18:.1f})"'))
        else:
            parts.append(_text(x, y0 + 20, name))
    parts.append(f'<path d="M{x0} {y1} V{y0} H{x1}" fill="none" stroke="#333"/>')
    if x_label:
        parts.append(_text((x0 + x1) / 2, HEIGHT - 14, x_label))
    middle = (y0 + y1) / 2
    parts.append(_text(18, middle, y_label, extra=f' transform="rotate(-90 18 {middle:.1f})"'))
    return "".join(parts)


def _svg(title: str, body: Sequence[str], names: Sequence[str], room: int = 0) -> str:
    """The whole picture; the legend is below, `room` pixels further down for slanted labels."""
    legend = []
    for number, name in enumerate(names):
        y = HEIGHT + room + 6 + number * LINE
        legend.append(_line(number, [(LEFT, y - 4), (LEFT + 34, y - 4)]))
        legend.append(_text(LEFT + 42, y, name, "start"))
    height = HEIGHT + room + 8 + len(names) * LINE
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}"'
        f' role="img" aria-label={quoteattr(title)} font-family="system-ui, sans-serif" fill="#222">'
        f'<rect width="{WIDTH}" height="{height}" fill="#fff"/>{"".join(body)}{"".join(legend)}</svg>\n'
    )
