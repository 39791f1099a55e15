"""`index.html`: the whole result on one self-contained page, without a script, for a browser with no network.

Its style is allowed by its hash, pictures only as data within the page, and nothing else at all; what comes from the
data sets is escaped text. The charts are the page's own SVG.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from clue_cli.eval.plots import Plot
from clue_cli.eval.published import SOURCE
from clue_cli.eval.results import Outcome, Results, SetRecord
from clue_cli.eval.table import (
    BAR_HEADINGS,
    METRICS,
    auc_rows,
    bar_rows,
    columns,
    group_table,
    main_rows,
    notes,
    number,
    with_interval,
)
from clue_cli.report.page import asset, content_policy, environment

_PACKAGE = "clue_cli.eval"

PROBLEMS = 200
"""Most problems of one set that the page lists; `results.json` and `per_image.csv` have more."""


@dataclass(frozen=True, slots=True)
class Sheet:
    """A contact sheet: the set and method it is about, and a JPEG."""

    set: str
    method: str
    jpeg: bytes

    @property
    def source(self) -> str:
        """The picture as a `data:` URL."""
        return f"data:image/jpeg;base64,{base64.b64encode(self.jpeg).decode('ascii')}"


def render(results: Results, plots: Sequence[Plot], sheets: Sequence[Sheet]) -> str:
    """The page as HTML."""
    style = asset(_PACKAGE, "results.css")
    subjects = results.subjects()
    details = [one for one in results.outcomes if one.method in subjects]
    return (
        environment(_PACKAGE)
        .get_template("results.html.j2")
        .render(
            csp=content_policy(style=style, images="data:"),
            style=Markup(style),
            results=results,
            columns=columns(results),
            tables=[(attack, main_rows(results, attack)) for attack in results.attacks],
            aucs=auc_rows(results, results.attacks[0]),
            notes=notes(results),
            source=SOURCE,
            details=[(one, _cells(one)) for one in details],
            bars=bar_rows(results),
            bar_headings=BAR_HEADINGS,
            groups=[(one, by, *group_table(one, by)) for one in details for by in one.groups if one.groups[by]],
            problems=[(record.name, _problems(results, record)) for record in results.sets],
            elsewhere={record.name: _shortened(map(str, record.elsewhere)) for record in results.sets},
            # The charts are written by `svg`, which escapes all that it is given
            plots=[(plot.set, Markup(plot.svg)) for plot in plots],
            sheets=sheets,
            number=number,
        )
    )


def _cells(one: Outcome) -> list[tuple[str, str]]:
    found = one.pixel | one.image
    return [(words, with_interval(found.get(metric))) for metric, words in METRICS.items() if metric in found]


def _problems(results: Results, record: SetRecord) -> list[str]:
    """Those of the set, then those of single images under each method."""
    lines = [(problem, "") for problem in record.problems]
    lines += [(p, one.method) for one in results.outcomes if one.set == record.name for p in one.problems]
    words: dict[str, list[str]] = {}
    for problem, method in lines:
        methods = words.setdefault(str(problem), [])
        if method and method not in methods:
            methods.append(method)
    return _shortened(
        f"{text}{f' – {len(m)} methods' if len(m) > 1 else f' – {m[0]}' if m else ''}" for text, m in words.items()
    )


def _shortened(lines: Iterable[str]) -> list[str]:
    listed = list(lines)
    more = len(listed) - PROBLEMS
    return [*listed[:PROBLEMS], *([f"and {more} more, see results.json and per_image.csv"] if more > 0 else [])]
