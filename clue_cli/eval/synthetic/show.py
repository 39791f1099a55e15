"""The tables, plots and page of a result of the synthetic task, from `results.json` alone."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from markupsafe import Markup
from rich.text import Text

from clue_cli.eval.plots import Curve, Plot, Series, category_chart, curve_chart, families, interval, short, slug
from clue_cli.eval.synthetic.results import METRICS, Counts, SyntheticOutcome, SyntheticResults
from clue_cli.eval.table import by_kind, console_of, number, text_table, with_interval
from clue_cli.report import asset, content_policy, environment
from clue_cli.terminal import printable
from model.evaluation import Estimate
from model.evaluation.detection import AVERAGED, WORDS

_PACKAGE = "clue_cli.eval"

MAIN = ("accuracy", "balanced_accuracy", "accuracy_at_half", "image_auc", "average_precision", "tpr_at_fpr_1",
        "tpr_at_fpr_5")  # fmt: skip
OF_GENERATORS = ("accuracy", "accuracy_at_half", "image_auc", "average_precision", "tpr_at_fpr_5")
BY_ATTACK = ("balanced_accuracy", "image_auc", "real_called_generated", "generated_called_generated")
HEADINGS = METRICS | {
    "tpr_at_fpr_1": "TPR at 1 % FPR",
    "tpr_at_fpr_5": "TPR at 5 % FPR",
    "real_called_generated": "real: called generated",
    "generated_called_generated": "generated: called generated",
}


@dataclass(frozen=True, slots=True)
class TableData:
    """A table: its title, headings and rows of text."""

    title: str
    headings: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


def tables(results: SyntheticResults) -> Iterator[TableData]:
    """All tables, in the order in which they are shown."""
    first = results.attacks[0]
    for record in results.sets:
        for attack in results.attacks:
            yield _main(results, record.name, attack)
        for name in results.subjects():
            one = results.outcome(record.name, first, name)
            if one is not None:
                yield from _of_subject(results, one)
    if len(results.attacks) > 1:
        yield _by_attack(results)


def _main(results: SyntheticResults, name: str, attack: str) -> TableData:
    found = [one for method in results.all_methods() if (one := results.outcome(name, attack, method)) is not None]
    subjects = results.subjects()
    rows = []
    for one in found:
        origin = "measured" if one.method in subjects else "baseline"
        if origin == "baseline" and attack != "none":
            origin = "before the attack"
        rows.append((one.method, origin, *(_cell(one.overall.get(metric), one) for metric in MAIN)))
    counts = found[0].pictures if found else Counts(real=0, generated=0, laundered=0)
    title = f"{name}{_after(attack)}: {counts.real} real, {counts.generated} generated"
    return TableData(title, ("method", "", *(HEADINGS[metric] for metric in MAIN)), tuple(rows))


def _of_subject(results: SyntheticResults, one: SyntheticOutcome) -> Iterator[TableData]:
    """By generator, and by verdict."""
    what = f"{one.method} on {one.set}{_after(one.attack)}"
    rows = [
        (
            record.name,
            record.status,
            f"{record.real} / {record.generated}",
            *(_of_all(record.figures.get(metric), record.real + record.generated) for metric in OF_GENERATORS),
            _of_all(record.figures.get("generated_called_generated"), record.generated),
        )
        for record in one.generators
    ]
    for status, figures in one.means.items():
        cells = [_bare(figures.get(metric)) if metric in AVERAGED else "–" for metric in OF_GENERATORS]
        over = [g.figures["image_auc"].value for g in one.generators if status in ("all", g.status)]
        missing = sum(value is None for value in over)
        count = f"{len(over) - missing} of {len(over)}" if missing else str(len(over))
        rows.append((f"mean over {status} ({count})", "", "", *cells, "–"))
    for figure in results.published:
        cells = [number(figure.value) if metric == figure.metric else "–" for metric in OF_GENERATORS]
        rows.append((f"{figure.method}, published: {figure.over}", "unseen", "–", *cells, "–"))
    headings = [HEADINGS[metric] for metric in OF_GENERATORS]
    yield TableData(
        f"{what}, by generator",
        ("generator", "in training", "real / generated", *headings, HEADINGS["generated_called_generated"]),
        tuple(rows),
    )
    verdicts = []
    for label, figures in (("real", one.overall), ("generated", one.overall), ("laundered", one.laundered)):
        cells = [with_interval(figures.get(f"{label}_called_{word}")) for word in WORDS]
        if cells != ["–"] * len(WORDS):
            known = figures[f"{label}_called_{WORDS[0]}"].n
            verdicts.append((label, *cells, str(getattr(one.pictures, label) - known)))
    if verdicts:
        yield TableData(
            f"{what}, by verdict",
            ("pictures", *(word.replace("_", " ") for word in WORDS), "not judged"),
            tuple(verdicts),
        )
    about = [(words, with_interval(one.overall.get(metric))) for metric, words in METRICS.items() if metric not in MAIN]
    if "image_auc" in one.laundered:
        about.append(("AUC, laundered against real", with_interval(one.laundered["image_auc"])))
    about = [row for row in about if row[1] != "–"]
    if about:
        yield TableData(f"{what}, further figures", ("metric", "value [95 % interval], n"), tuple(about))


def _by_attack(results: SyntheticResults) -> TableData:
    rows = []
    for name in results.subjects():
        for record in results.sets:
            for attack in results.attacks:
                one = results.outcome(record.name, attack, name)
                cells = [_bare(one.overall.get(metric)) if one else "–" for metric in BY_ATTACK]
                rows.append((name, record.name, attack, *cells))
    return TableData("By attack", ("method", "set", "attack", *(HEADINGS[metric] for metric in BY_ATTACK)), tuple(rows))


def notes(results: SyntheticResults) -> list[str]:
    """What has to be known beside the figures."""
    lines = [f"Warning: {line}" for line in results.warnings]
    lines += [
        "Accuracy and balanced accuracy are at the method's own threshold: inconclusive counts as called real. "
        "Accuracy at 0.5 is what papers state.",
        "Brackets: 95 % intervals, by bootstrap over pictures; of shares of verdicts exact. A bootstrap interval "
        "without width says that all pictures there were alike, not that the figure is sure.",
        "Pictures without a score count in no figure: where n is stated, it is lower than the number of pictures.",
        "seen, unseen: by the names of generators that the method states for its training; a generator of another name "
        "there counts as unseen.",
        "Baselines see no pixel: a method's figure is worth what it is above them.",
    ]
    lines += [
        f"published: {one.method}, {one.over}: {one.source}, {one.note}; not measured here and not comparable picture "
        "by picture."
        for one in results.published
    ]
    for record in results.sets:
        if record.measured != record.held:
            held = sum((record.held.real, record.held.generated, record.held.laundered))
            count = sum((record.measured.real, record.measured.generated, record.measured.laundered))
            lines.append(f"{record.name}: {count} of {held} pictures were measured. Not comparable with others.")
        if record.measured.laundered:
            lines.append(
                f"{record.name}: {record.measured.laundered} laundered pictures count neither as real nor as generated."
            )
        if not record.measured.real or not record.measured.generated:
            lines.append(f"{record.name} holds one class alone: what compares the two is not defined.")
        elif record.measured.real < 100:
            lines.append(
                f"{record.name}: with {record.measured.real} real pictures one false positive is a rate of "
                f"{1 / record.measured.real:.1%}: true positives at a lower rate are those at none."
            )
        found = {(p.kind, p.name) for p in record.problems}
        found |= {(p.kind, p.name) for one in results.outcomes if one.set == record.name for p in one.problems}
        lines += by_kind(record.name, found)
        lines += by_kind(
            f"{record.name}, pictures that were not measured", {(p.kind, p.name) for p in record.elsewhere}
        )
    methods = {method.name: method for of_set in results.methods.values() for method in of_set}
    lines += [f"{name}: {limit}" for name, method in methods.items() for limit in method.limits]
    if any(one.simulated for one in results.outcomes):
        lines.append("Social networks are simulated; no platform was used.")
    return lines


def render(results: SyntheticResults, *, width: int | None = None, colour: bool = False) -> str:
    """All tables as text for a terminal."""
    buffer, console = console_of(width, colour)
    if results.status != "finished":
        console.print(Text("Interrupted: the figures are over what there was.", "bold yellow"))
    for table in tables(results):
        console.print(text_table(table.title, table.headings, table.rows))
    for line in notes(results):
        console.print(Text(printable(line), "bold yellow" if line.startswith("Warning") else ""), soft_wrap=True)
    return buffer.getvalue()


def draw(results: SyntheticResults) -> list[Plot]:
    """All plots for which there are figures."""
    return [
        Plot(record.name, f"{place:02d}-{slug(record.name)}-{what}.svg", svg)
        for place, record in enumerate(results.sets, 1)
        for what, svg in _of_set(results, record.name)
    ]


def _of_set(results: SyntheticResults, name: str) -> Iterator[tuple[str, str]]:
    attack = results.attacks[0]
    outcomes = [one for method in results.all_methods() if (one := results.outcome(name, attack, method)) is not None]
    curves = [
        Curve(f"{one.method}, AUC {number(one.overall['image_auc'].value)}", one.curves.roc)
        for one in outcomes
        if len(one.curves.roc) > 2
    ]
    if curves:
        title = f"{short(name)}: ROC{_after(attack)}"
        yield "roc", curve_chart(title, "false-positive rate", "true-positive rate", curves, diagonal=True)
    subjects = [one for one in outcomes if one.method in results.subjects()]
    generators = list(dict.fromkeys(record.name for one in subjects for record in one.generators))
    if len(generators) > 1:
        series = [Series(one.method, [_interval_of(one, generator) for generator in generators]) for one in subjects]
        yield (
            "generators",
            category_chart(f"{short(name)}: AUC by generator{_after(attack)}", "AUC", generators, series),
        )
    for family in families(results.attacks):
        series = []
        for one in subjects:
            found = [results.outcome(name, word, one.method) for word in family]
            series.append(Series(one.method, [interval(f.overall.get("image_auc")) if f else None for f in found]))
        kind = family[-1].split(":")[0] if "+" not in family[-1] else "chains"
        yield f"robustness-{slug(kind)}", category_chart(f"{short(name)}: AUC after {kind}", "AUC", family, series)
    for one in subjects:
        if bins := one.curves.reliability:
            curve = Curve(f"{one.method} (n = {sum(b.n for b in bins)})", [(b.said, b.was) for b in bins], marked=True)
            title, x = f"{short(name)}: reliability{_after(attack)}", "stated probability that it was generated"
            yield f"reliability-{slug(one.method)}", curve_chart(title, x, "share generated", [curve], diagonal=True)


def _interval_of(one: SyntheticOutcome, generator: str) -> tuple[float, float | None, float | None] | None:
    record = next((record for record in one.generators if record.name == generator), None)
    return None if record is None else interval(record.figures.get("image_auc"))


def page(results: SyntheticResults, plots: Sequence[Plot]) -> str:
    """The page as HTML: self-contained, without a script; everything of the sets is escaped."""
    style = asset(_PACKAGE, "results.css")
    return (
        environment(_PACKAGE)
        .get_template("synthetic.html.j2")
        .render(
            csp=content_policy(style=style, images="data:"),
            style=Markup(style),
            results=results,
            tables=list(tables(results)),
            notes=notes(results),
            problems=[
                (record.name, list(dict.fromkeys(map(str, [*record.problems, *_problems(results, record.name)]))))
                for record in results.sets
            ],
            # The charts are written by `plots`, which escapes all that it is given
            plots=[Markup(plot.svg) for plot in plots],
        )
    )


def _problems(results: SyntheticResults, name: str) -> list[str]:
    return [str(problem) for one in results.outcomes if one.set == name for problem in one.problems]


def _after(attack: str) -> str:
    return "" if attack == "none" else f" after {attack}"


def _bare(figure: Estimate | None) -> str:
    """`.847 [.830, .862]`."""
    return with_interval(figure).partition(", n = ")[0]


def _cell(figure: Estimate | None, one: SyntheticOutcome) -> str:
    """With n only where it is not that of the table."""
    return _of_all(figure, one.pictures.real + one.pictures.generated)


def _of_all(figure: Estimate | None, count: int) -> str:
    """With n only where some of the pictures have no figure."""
    if figure is None or figure.value is None:
        return "–"
    return _bare(figure) if figure.n == count else with_interval(figure)
