"""The tables of a result, as in the paper: methods down, sets across, F1 / IoU in the cells. The table of `--list`."""

from __future__ import annotations

import io
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from clue_cli.errors import NothingToScanError
from clue_cli.eval.methods import METADATA
from clue_cli.eval.results import Average, Outcome, Results
from clue_cli.terminal import counted, nearest, printable
from model.datasets.registry import DATASETS
from model.datasets.sample import Kind
from model.evaluation import BenchmarkNotFound, Estimate, EvaluationError, expand, status
from model.evaluation.benchmarks import Status

METRICS = {
    "f1": "F1 at 0.5",
    "iou": "IoU at 0.5",
    "pixel_auc": "pixel AUC",
    "pixel_ap": "pixel average precision",
    "f1_best": "F1, best threshold of each image (oracle)",
    "f1_permute": "F1, better of mask and inverse",
    "f1_best_of_set": "F1, best threshold for the whole set, chosen on it",
    "f1_kept": "share of F1 kept after the attack",
    "image_auc": "image AUC",
    "balanced_accuracy": "balanced accuracy, at the method's own threshold",
    "image_f1": "image F1, at the method's own threshold",
    "tpr_at_fpr_1": "true positives at 1 % false positives",
    "tpr_at_fpr_5": "true positives at 5 % false positives",
    "false_positive_area": "false-positive area, authentic images",
    "calibration_error": "expected calibration error",
    "brier": "Brier score",
}
"""Metrics of the detailed table and what they are called."""
IN_GROUPS = {
    "f1": "F1",
    "iou": "IoU",
    "image_auc": "image AUC",
    "forged_called_forged": "forged: called forged",
    "authentic_called_forged": "authentic: called forged",
    "authentic_called_inconclusive": "authentic: called inconclusive",
    "false_positive_area": "authentic: area marked",
}
"""Columns of the tables by group."""

ORIGINS = {"baseline": "baseline", "probe": "probe"}
"""What the tables say of the kinds of methods that stand beside the others; of those, that they were measured."""


@dataclass(frozen=True, slots=True)
class Row:
    """A line of the main table: the method, where its figures are from, and a cell for each column."""

    method: str
    origin: str
    cells: tuple[str, ...]


def number(value: float | None, *, signed: bool = False) -> str:
    """As papers write it: `.847`, `1.000`, `–` where there is none."""
    if value is None:
        return "–"
    text = f"{value:+.3f}" if signed else f"{value:.3f}"
    return text.replace("0.", ".", 1) if abs(value) < 1 and text.lstrip("+-").startswith("0.") else text


def with_interval(figure: Estimate | None) -> str:
    """`.847 [.830, .862], n = 920`."""
    if figure is None or figure.value is None:
        return "–" if figure is None or not figure.n else f"–, n = {figure.n}"
    interval = f" [{number(figure.low)}, {number(figure.high)}]" if figure.low is not None else ""
    return f"{number(figure.value)}{interval}, n = {figure.n}"


def columns(results: Results) -> list[str]:
    """Sets with how many forged images were scored at most, and the average over several."""
    names = [f"{record.name} (n = {_most(results, record.name)})" for record in results.sets]
    return [*names, "weighted"] if len(results.sets) > 1 else names


def _most(results: Results, name: str) -> int:
    cells = [one.pixel.get("f1") for one in results.outcomes if one.set == name]
    return max((cell.n for cell in cells if cell is not None), default=0)


def main_rows(results: Results, attack: str) -> list[Row]:
    """Published rows first, if the pictures were as they are; then what was measured, then what stands beside it."""
    several = len(results.sets) > 1
    rows = []
    if attack == "none":
        for method in dict.fromkeys(one.method for one in results.published):
            by_set = {one.set: _pair(one.f1, one.iou) for one in results.published if one.method == method}
            cells = [by_set.get(record.name, "–") for record in results.sets]
            rows.append(Row(method, "published", (*cells, *(["–"] if several else []))))
    kinds = {method.name: method.kind for methods in results.methods.values() for method in methods}
    for name in results.all_methods():
        cells = []
        for record in results.sets:
            one = results.outcome(record.name, attack, name)
            cells.append(_cell(one, _most(results, record.name)))
        if several:
            average = next((one for one in results.averages if (one.attack, one.method) == (attack, name)), None)
            cells.append("–" if average is None else _average(average, len(results.sets)))
        rows.append(Row(name, ORIGINS.get(kinds[name], "measured"), tuple(cells)))
    return rows


def auc_rows(results: Results, attack: str) -> list[tuple[str, ...]]:
    """Image AUC of every method, one cell for each set; empty where no set has both classes.

    The probe is in it: where metadata alone do well, the other figures may rest on the same shortcut.
    """
    rows = []
    for name in results.all_methods():
        found = [results.outcome(record.name, attack, name) for record in results.sets]
        shown = f"{name}, before the attack" if name == METADATA and attack != "none" else name
        rows.append((shown, *(with_interval(one.image.get("image_auc")) if one else "–" for one in found)))
    return rows if any(not cell.startswith("–") for row in rows for cell in row[1:]) else []


def group_table(one: Outcome, by: str) -> tuple[list[str], list[list[str]]]:
    """Headings, and a row for each group, its name first; columns without a figure are left out."""
    groups = one.groups[by]
    shown = [metric for metric in IN_GROUPS if any(metric in cells for cells in groups.values())]
    rows = [[name, *(with_interval(cells.get(metric)) for metric in shown)] for name, cells in groups.items()]
    return [IN_GROUPS[metric] for metric in shown], rows


BAR_HEADINGS = ("bar", "target", "measured [95 % interval], n", "")


def bar_rows(results: Results) -> list[tuple[str, ...]]:
    """A row for each bar: its name, what it asks for, the figure, and whether it is met."""
    words = {True: "met", False: "missed", None: "not measured"}
    return [(bar.name, bar.bar, with_interval(bar.figure), words[bar.met]) for bar in results.bars]


def render(results: Results, *, width: int | None = None, colour: bool = False) -> str:
    """All tables as text for a terminal."""
    buffer, console = console_of(width, colour)
    if results.status != "finished":
        console.print(Text("Interrupted: the figures are over what there was.", "bold yellow"))
    for attack in results.attacks:
        console.print(_main_table(results, attack))
    if rows := auc_rows(results, results.attacks[0]):
        after = "" if results.attacks[0] == "none" else f" after {results.attacks[0]}"
        headings = ["method", *(record.name for record in results.sets)]
        console.print(text_table(f"Image AUC, forged against authentic{after}", headings, rows))
    if len(results.attacks) > 1:
        for metric, title in (("f1", "F1"), ("f1_kept", "Share of F1 kept"), ("image_auc", "Image AUC")):
            console.print(_attack_table(results, metric, f"{title} by attack"))
    for name in results.subjects():
        for record in results.sets:
            one = results.outcome(record.name, results.attacks[0], name)
            if one is not None:
                console.print(_detail_table(one))
                for by in ("part", "part and manipulation"):
                    if one.groups.get(by):
                        headings, cells = group_table(one, by)
                        console.print(text_table(f"{name} on {one.set}, by {by}", [by, *headings], cells))
    if results.bars:
        console.print(text_table("Bars", BAR_HEADINGS, bar_rows(results)))
    for line in notes(results):
        console.print(Text(printable(line)), soft_wrap=True)
    return buffer.getvalue()


def notes(results: Results) -> list[str]:
    """What has to be known beside the figures."""
    lines = [
        "F1 and IoU: per image, at full size, p > 0.5, averaged over the forged images.",
        "Brackets: bootstrap 95 % interval over images.",
    ]
    if any(one.groups.get("part") for one in results.outcomes):
        lines.append("Pictures made from photos: intervals over photos, cameras and templates; of verdicts, exact.")
    if results.published:
        lines.append("published: from the CLUE paper (arXiv 2508.07413), over its whole sets; not measured here.")
    lines += sorted({f"{one.set}: {one.note}." for one in results.published if one.note})
    for record in results.sets:
        if record.complete is False:
            held = f"{record.held[0]} forged and {record.held[1]} authentic"
            lines.append(f"{record.name} is not complete here: {held}, {record.expected}. Not comparable with others.")
        if (record.forged, record.authentic) != record.held:
            measured, held_here = record.forged + record.authentic, sum(record.held)
            early = " before the interruption" if results.status == "interrupted" else ""
            lines.append(
                f"{record.name}: {measured} of {held_here} images were measured{early}. Not comparable with others."
            )
            if not early and not results.configuration.get("strict"):
                lines.append(f"{record.name}: the others were not opened: of their files only names were looked at.")
        lines += [f"{record.name}, known damage: {words}" for words in record.damage]
        lines += _problem_lines(results, record.name)
    lines += _small_samples(results)
    probe = [
        (one.set, one.image.get("image_auc"))
        for one in results.outcomes
        if one.method == METADATA and one.attack == "none"
    ]
    lines += [
        f"{name}: metadata alone reach an image AUC of {number(figure.value)}: image-level figures may rest on them."
        for name, figure in probe
        if figure is not None and figure.low is not None and figure.low > 0.6
    ]
    if any(one.simulated for one in results.outcomes):
        lines.append("Social networks are simulated; no platform was used.")
    share = results.timing.share_outside_network
    if share is not None:
        lines.append(
            f"{results.timing.predictions} predictions in {results.timing.wall_seconds:.1f} s,"
            f" {share:.1%} of the time outside the network."
        )
    return lines


def _small_samples(results: Results) -> list[str]:
    """What few images do to some figures."""
    lines = []
    authentic = min((record.authentic for record in results.sets if record.authentic), default=100)
    if authentic < 100:
        lines.append(
            f"With {counted(authentic, 'authentic image')} one false positive is a rate of {1 / authentic:.1%}: "
            "true positives at a lower rate are those at none."
        )
    stated = [one.image.get("calibration_error") for one in results.outcomes if one.method in results.subjects()]
    if any(figure is not None and figure.value is not None for figure in stated):
        lines.append("The expected calibration error of few images comes out too large, its interval more so.")
    return lines


def _problem_lines(results: Results, name: str) -> list[str]:
    """How many problems of each kind; the result and the page name them all."""
    record = next(one for one in results.sets if one.name == name)
    found = {(p.kind, p.name) for p in record.problems}
    found |= {(p.kind, p.name) for one in results.outcomes if one.set == name for p in one.problems}
    lines = by_kind(name, found)
    return lines + by_kind(f"{name}, images that were not measured", {(p.kind, p.name) for p in record.elsewhere})


def by_kind(what: str, found: set[tuple[Kind, str]]) -> list[str]:
    """A line for each kind, with its first names."""
    lines = []
    for kind in sorted({kind for kind, _ in found}):
        names = sorted(name for of_kind, name in found if of_kind == kind)
        listed = ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
        lines.append(f"{what}, {kind}: {listed}")
    return lines


def _cell(one: Outcome | None, most: int) -> str:
    """F1 / IoU, with n where it is not that of the column."""
    if one is None or "f1" not in one.pixel:
        return "–"
    n = one.pixel["f1"].n
    pair = _pair(one.pixel["f1"].value, one.pixel["iou"].value)
    return pair if n in (0, most) else f"{pair} (n = {n})"


def _average(average: Average, sets: int) -> str:
    """F1 / IoU over all images, with the number of sets where some are missing."""
    pair = _pair(average.weighted["f1"].value, average.weighted["iou"].value)
    return pair if average.sets == sets else f"{pair} ({average.sets} of {sets} sets)"


def _pair(f1: float | None, iou: float | None) -> str:
    if f1 is None:
        return "–"
    return number(f1) if iou is None else f"{number(f1)}/{number(iou)}"


def text_table(title: str, headings: Sequence[str], rows: Iterable[Sequence[str | Text]]) -> Table:
    """A table of printable text; its first column to the left."""
    table = Table(title=Text(printable(title)) if title else None, title_justify="left")
    for index, heading in enumerate(headings):
        table.add_column(Text(printable(heading)), justify="left" if index < 1 else "right", overflow="fold")
    for cells in rows:
        table.add_row(*(cell if isinstance(cell, Text) else Text(printable(cell)) for cell in cells))
    return table


def _main_table(results: Results, attack: str) -> Table:
    what = "" if attack == "none" else f" after {attack}"
    styles = {"measured": "bold", "published": "dim"}
    rows = [
        [Text(printable(word), styles.get(row.origin, "")) for word in (row.method, row.origin, *row.cells)]
        for row in main_rows(results, attack)
    ]
    return text_table(f"F1 / IoU{what}", ["method", "", *columns(results)], rows)


def _attack_table(results: Results, metric: str, title: str) -> Table:
    rows = []
    for name in results.subjects():
        for attack in results.attacks:
            found = [results.outcome(record.name, attack, name) for record in results.sets]
            cells = [(one.pixel | one.image).get(metric) if one else None for one in found]
            rows.append([name, attack, *map(with_interval, cells)])
    return text_table(title, ["method", "attack", *(record.name for record in results.sets)], rows)


def _detail_table(one: Outcome) -> Table:
    what = "" if one.attack == "none" else f" after {one.attack}"
    cells = one.pixel | one.image
    rows = [[words, with_interval(cells.get(metric))] for metric, words in METRICS.items() if metric in cells]
    return text_table(f"{one.method} on {one.set}{what}", ["metric", "value [95 % interval], n"], rows)


def listing(root: Path | None, words: Sequence[str] = (), *, width: int | None = None, colour: bool = False) -> str:
    """The benchmarks as text for a terminal: one line each, or all that is known of those that are named.

    Raises:
        NothingToScanError: the root cannot be read, or a word names no benchmark.
    """
    found = _statuses(root, words)
    buffer, console = console_of(width, colour)
    where = f"looked for in {root}" if root else "not looked for: neither --root nor CLUE_DATA names their folder"
    console.print(Text(printable(f"Benchmarks, {where}"), "bold"), soft_wrap=True)
    if words:
        for one in found:
            for line, style in _lines(one):
                console.print(Text(printable(line), style), soft_wrap=True)
        return buffer.getvalue()
    rows = []
    for one in found:
        here = "–" if one.found is None else "/".join(map(str, one.found.counts))
        expected = " or ".join("/".join(map(str, counts)) for counts in one.benchmark.counts) or "–"
        cells = (one.benchmark.name, one.words.partition(":")[0], here, expected, one.benchmark.title)
        rows.append([Text(printable(cell), _style(one)) for cell in cells])
    table = text_table("", ["name", "status", "forged/authentic here", "expected", "title"], rows)
    table.columns[-1].justify = "left"
    console.print(table)
    console.print(Text("Where to get one, its terms and its layout: clue eval --list --bench NAME"), soft_wrap=True)
    return buffer.getvalue()


def facts(root: Path | None, words: Sequence[str] = ()) -> str:
    """The same as JSON: a list of objects.

    Raises:
        NothingToScanError: as `listing`.
    """
    return json.dumps([_facts(one) for one in _statuses(root, words)], indent=1) + "\n"


def _facts(one: Status) -> dict[str, object]:
    benchmark, found = one.benchmark, one.found
    return {
        "name": benchmark.name,
        "title": benchmark.title,
        "status": one.words.partition(":")[0],
        "folder": None if found is None else printable(str(found.folder)),
        "layout": None if found is None else found.layout,
        "forged": None if found is None else found.counts[0],
        "authentic": None if found is None else found.counts[1],
        "expected": [{"forged": forged, "authentic": authentic} for forged, authentic in benchmark.counts],
        "problems": [] if found is None else [printable(str(problem)) for problem in found.problems],
        "obtained": benchmark.obtained,
        "terms": benchmark.terms,
        "damage": list(benchmark.damage),
        "layouts": [layout.describe() for layout in benchmark.layouts],
    }


def _statuses(root: Path | None, words: Sequence[str]) -> list[Status]:
    wanted: set[str] = set()
    for part in (part.strip() for word in words for part in word.split(",") if part.strip()):
        try:
            wanted.update(expand(part))
        except BenchmarkNotFound as error:
            hint = nearest(part, DATASETS)
            raise NothingToScanError(
                f"There is no benchmark named {part}{hint or '.'}", "`clue eval --list` shows which are known."
            ) from error
    try:
        return [one for one in status(root) if not words or one.benchmark.name in wanted]
    except EvaluationError as error:
        raise NothingToScanError(f"{error}.", "Check --root, or CLUE_DATA.") from error


def _style(one: Status) -> str:
    return "dim" if one.found is None else "bold green" if one.found.complete else "bold yellow"


def console_of(width: int | None, colour: bool) -> tuple[io.StringIO, Console]:
    """Where text is written, and a console that writes there."""
    buffer = io.StringIO()
    return buffer, Console(
        file=buffer,
        force_terminal=colour,
        width=width,
        markup=False,
        highlight=False,
        emoji=False,
        legacy_windows=False,
        no_color=not colour,
    )


def _lines(one: Status) -> list[tuple[str, str]]:
    benchmark, found = one.benchmark, one.found
    lines = [(f"{benchmark.name}: {one.words}", _style(one)), (f"    {benchmark.title}; {benchmark.expected}", "")]
    if found is not None:
        lines.append((f"    found in {found.folder}, layout {found.layout}", ""))
        if found.problems:
            lines.append((f"    {counted(len(found.problems), 'problem')}, the first: {found.problems[0]}", "yellow"))
    lines += [(f"    obtained from {benchmark.obtained}; terms: {benchmark.terms}", "")]
    lines += [(f"    known damage: {words}", "") for words in benchmark.damage]
    lines += [(f"    layout {layout.describe()}", "") for layout in benchmark.layouts]
    return lines
