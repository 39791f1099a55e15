"""`index.html`: one page for a person, which works from a USB stick with no network.

The page is self-contained but for the pictures beside it. Its style and its script are in the page and allowed by
their hashes alone; everything that comes from the evidence is data: JSON that the script shows as text.

The records are read once and spooled to a temporary file, so memory stays flat. One page holds up to
`ROWS_PER_PART` images. More images make more pages (`index-0002.html`, …), and then the strongest findings come
first: whoever opens `index.html` sees those.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path

from markupsafe import Markup

from clue_cli.errors import ClueError
from clue_cli.evidence.formats import not_opened
from clue_cli.records import FailureRecord, ImageRecord, RunRecord
from clue_cli.report.details import image_detail, model_facts
from clue_cli.report.inert import embed, local_url, printable
from clue_cli.report.rows import SECOND_ORDER, VERDICT_ORDER, failure_row, image_row
from clue_cli.report.run_facts import STATUS, disagreement, facts, method_facts, promise, shown
from clue_cli.report.spool import Spool
from clue_cli.report.templating import asset, content_policy, environment
from clue_cli.results.explanations import explanations_in
from clue_cli.results.notes import notes_in
from model.synthetic.verdict import MEANING as SYNTHETIC_MEANING
from model.verdict import MEANING
from model.whole_file import whole_file

__all__ = [
    "SECOND_ORDER",
    "VERDICT_ORDER",
    "Report",
    "asset",
    "content_policy",
    "embed",
    "environment",
    "failure_row",
    "image_detail",
    "image_row",
    "local_url",
    "model_facts",
    "printable",
    "report",
    "write_report",
]

ROWS_PER_PART = 50_000
"""Most images, and most failures, in one page: the browser parses a line for each before it shows anything."""

BYTES_PER_PART = 80_000_000
"""About the size at which a page is closed early; evidence can be made so that its records are large."""

DETAILS_PER_BLOCK = 100
"""Images whose details the script parses together, when the first of them is looked at."""

SCRIPTS = ("values.js", "notes.js", "groups.js", "table.js", "image.js", "side_by_side.js", "keys.js", "page.js")
"""In the order in which they run."""

_PACKAGE = "clue_cli.report"


def write_report(
    out: Path,
    run: RunRecord,
    records: Iterable[ImageRecord | FailureRecord],
    rows_per_part: int = ROWS_PER_PART,
    *,
    name: str = "index",
    selection: str = "",
) -> Path:
    """Write `out/NAME.html` from the records of a run; memory does not grow with their number.

    Each page appears whole or not at all, `NAME.html` last; pages of an earlier, longer report are removed.

    Args:
        out: the results folder, which exists and holds the pictures that the records name.
        run: how the results came about.
        records: in the order the page lists them by default, read once.
        rows_per_part: most images and most failures in one page.
        name: of the page, without its suffix; further parts are `NAME-0002.html` and so on.
        selection: in words, which of the records these are; empty: all of them.

    Returns:
        The path of the first page.

    Raises:
        OSError: the folder cannot be written.
        ValueError: a record names a file outside of the results folder, or a number that is not finite.
    """
    with report(out, run) as pages:
        for record in records:
            pages.add(record)
        return pages.write(run, rows_per_part, name=name, selection=selection)


@contextmanager
def report(out: Path, run: RunRecord | None = None) -> Iterator[Report]:
    """A report whose records are given one by one, for those who read them for something else as well; arguments and
    errors as of `write_report`, but that the run may not be known yet."""
    with (
        tempfile.TemporaryFile(dir=out) as stream,
        explanations_in(out) or nullcontext() as explained,
        notes_in(out) or nullcontext() as noted,
    ):
        yield Report(out, Spool(stream, explained, noted, run))


class Report:
    """Collects records, then writes the pages. What is wrong with a record is raised by `write`."""

    def __init__(self, out: Path, spool: Spool) -> None:
        self._out, self._spool = out, spool
        self._error: Exception | None = None

    def add(self, record: ImageRecord | FailureRecord) -> None:
        """Add a record."""
        if self._error is None:
            try:
                self._spool.add(record)
            except (OSError, ValueError, ClueError) as error:
                self._error = error

    def copies(self) -> str:
        """The groups of copies in words; empty without one."""
        return self._spool.groups.in_words()

    def write(
        self, run: RunRecord, rows_per_part: int = ROWS_PER_PART, *, name: str = "index", selection: str = ""
    ) -> Path:
        """Write the pages, as `write_report` does."""
        if self._error is not None:
            raise self._error
        out, spool = self._out, self._spool
        lines = [spool.images, spool.details]
        images = spool.split(range(len(spool.images)), lines, rows_per_part, BYTES_PER_PART)
        if len(images) > 1:
            images = spool.split(spool.strongest_first(), lines, rows_per_part, BYTES_PER_PART)
        failures = spool.split(range(len(spool.failures)), [spool.failures], rows_per_part, BYTES_PER_PART)
        count = max(len(images), len(failures))
        names = [f"{name}.html", *(f"{name}-{number:04d}.html" for number in range(2, count + 1))]
        for part in reversed(range(count)):
            page = _page(
                run, spool, [*images, *[()] * count][part], [*failures, *[()] * count][part], names, part, selection
            )
            with whole_file(out / names[part], sync=True) as file:
                for piece in page:
                    file.write(piece.encode())
        for stale in out.glob("*.html"):
            if re.fullmatch(rf"{re.escape(name)}-\d{{4,}}\.html", stale.name) and stale.name not in names:
                stale.unlink()
        return out / names[0]


def _page(
    run: RunRecord,
    spool: Spool,
    images: Sequence[int],
    failures: Sequence[int],
    names: list[str],
    part: int,
    selection: str,
) -> Iterator[str]:
    """One page as pieces of HTML."""
    style, script = asset(_PACKAGE, "page.css"), _script()
    verdicts = {verdict.value: spool.count(verdict) for verdict in VERDICT_ORDER}
    second = {word: spool.count_second(word) for word in SECOND_ORDER}
    blocks = (images[start : start + DETAILS_PER_BLOCK] for start in range(0, len(images), DETAILS_PER_BLOCK))
    shared = {
        "blockSize": DETAILS_PER_BLOCK,
        "run": run.run_id or f"{run.started} {run.settings_digest}",
        "kinds": list(spool.kinds),
        "types": list(spool.types),
        "phrases": list(spool.phrases.known),
    }
    return (
        environment(_PACKAGE)
        .get_template("page.html.j2")
        .generate(
            # Chromium gives each file its own origin, so `'self'` does not cover pictures on a stick and `file:`
            # has to; `'self'` is for the page on a web server, `blob:` for an original that a person opens.
            csp=content_policy(style=style, script=script, images="'self' file: blob:"),
            style=Markup(style),
            script=Markup(script),
            run=run,
            status=STATUS[run.status],
            not_opened=not_opened(run.not_opened),
            alerts=list(map(printable, run.alerts)),
            facts=facts(run),
            selection=printable(selection),
            promised=bool(promise(run)),
            meaning=MEANING,
            second_meaning=SYNTHETIC_MEANING,
            method=None if run.synthetic is None else method_facts(run.synthetic),
            settings=[(name, shown(value)) for name, value in run.settings.items()],
            model=[(name, shown(value)) for name, value in run.model.items()],
            machine=[(name, shown(value)) for name, value in run.machine.items()],
            others=sorted(run.not_pictures_by_type.items(), key=lambda pair: (-pair[1], pair[0])),
            image_count=len(spool.images),
            failure_count=len(spool.failures),
            verdict_counts=verdicts,
            second_counts=second,
            disagreement=None if selection else disagreement(run, spool, verdicts, second),
            names=names,
            part=part,
            shared=Markup(f'{embed(shared)[:-1]},"models":[{",".join(spool.models)}]}}'),
            groups=Markup(spool.groups_json(images)),
            copies_missing=spool.groups.incomplete,
            notes=spool.notes_json(images),
            rows=spool.json_list(spool.images, images),
            failures=spool.json_list(spool.failures, failures),
            blocks=(spool.json_list(spool.details, block) for block in blocks),
        )
    )


def _script() -> str:
    """The script of the page: its files in this order, in one function, so that no name is global."""
    parts = (asset(_PACKAGE, name) for name in SCRIPTS)
    return '"use strict";\n(() => {\n' + "\n".join(parts) + "})();\n"
