"""`index.html`: one page for a person, which works from a USB stick with no network.

The page is self-contained but for the pictures beside it. Its style and its script are in the page and allowed by
their hashes alone; everything that comes from the evidence is data: JSON that the script shows as text.

The records are read once and spooled to a temporary file, so memory stays flat. One page holds up to
`ROWS_PER_PART` images. More images make more pages (`index-0002.html`, …), and then the strongest findings come
first: whoever opens `index.html` sees those.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import tempfile
import unicodedata
from array import array
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from datetime import datetime
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any, BinaryIO
from urllib.parse import quote

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from clue_cli.errors import ClueError
from clue_cli.evidence.claims import declares_generated
from clue_cli.evidence.formats import not_opened
from clue_cli.records import (
    Answer,
    FailureRecord,
    ImageRecord,
    MatchingPlace,
    MethodInfo,
    ModelInfo,
    Origin,
    RunRecord,
    Verdict,
    Weight,
)
from clue_cli.results.explanations import ExplanationLog, explanations_in
from clue_cli.results.summary import NOT_ASKED
from clue_cli.terminal import counted
from model.synthetic.verdict import MEANING as SYNTHETIC_MEANING
from model.verdict import MEANING
from model.whole_file import whole_file

ROWS_PER_PART = 50_000
"""Most images, and most failures, in one page: the browser parses a line for each before it shows anything."""

BYTES_PER_PART = 80_000_000
"""About the size at which a page is closed early; evidence can be made so that its records are large."""

DETAILS_PER_BLOCK = 100
"""Images whose details the script parses together, when the first of them is looked at."""

VERDICT_ORDER = (Verdict.FORGED, Verdict.INCONCLUSIVE, Verdict.NO_EVIDENCE)
SECOND_ORDER = (Verdict.GENERATED.value, Verdict.INCONCLUSIVE.value, Verdict.NO_EVIDENCE.value, NOT_ASKED)
"""Answers to the second question."""

_PACKAGE = "clue_cli.report"

_PIECE = 1 << 16
"""Bytes of JSON that go to the page at once."""

DIGITS = 6
"""Decimals of the fractions in the page; `records.jsonl` has all of them."""

_SPELLED_OUT = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})

Scalar = str | int | float | bool | list[float] | None


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
    with report(out) as pages:
        for record in records:
            pages.add(record)
        return pages.write(run, rows_per_part, name=name, selection=selection)


@contextmanager
def report(out: Path) -> Iterator[Report]:
    """A report whose records are given one by one, for those who read them for something else as well; arguments and
    errors as of `write_report`."""
    with tempfile.TemporaryFile(dir=out) as stream, explanations_in(out) or nullcontext() as explained:
        yield Report(out, _Spool(stream, explained))


class Report:
    """Collects records, then writes the pages. What is wrong with a record is raised by `write`."""

    def __init__(self, out: Path, spool: _Spool) -> None:
        self._out, self._spool = out, spool
        self._error: Exception | None = None

    def add(self, record: ImageRecord | FailureRecord) -> None:
        """Add a record."""
        if self._error is None:
            try:
                self._spool.add(record)
            except (OSError, ValueError, ClueError) as error:
                self._error = error

    def write(
        self, run: RunRecord, rows_per_part: int = ROWS_PER_PART, *, name: str = "index", selection: str = ""
    ) -> Path:
        """Write the pages, as `write_report` does."""
        if self._error is not None:
            raise self._error
        out, spool = self._out, self._spool
        images = spool.split(range(len(spool.images)), [spool.images, spool.details], rows_per_part)
        if len(images) > 1:
            images = spool.split(spool.strongest_first(), [spool.images, spool.details], rows_per_part)
        failures = spool.split(range(len(spool.failures)), [spool.failures], rows_per_part)
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


@dataclass
class _Lines:
    """Where JSON texts are in the spool: 12 bytes of memory for each."""

    start: array[int] = field(default_factory=lambda: array("q"))
    length: array[int] = field(default_factory=lambda: array("I"))

    def __len__(self) -> int:
        return len(self.start)


@dataclass
class _Spool:
    """The records as JSON texts in a temporary file, and what is needed to rank and count them."""

    stream: BinaryIO
    explained: ExplanationLog | None = None
    images: _Lines = field(default_factory=_Lines)
    details: _Lines = field(default_factory=_Lines)
    failures: _Lines = field(default_factory=_Lines)
    verdicts: array[int] = field(default_factory=lambda: array("b"))
    seconds: array[int] = field(default_factory=lambda: array("b"))
    scores: array[float] = field(default_factory=lambda: array("d"))
    models: dict[str, int] = field(default_factory=dict)
    known_models: dict[str, int] = field(default_factory=dict)

    def add(self, record: ImageRecord | FailureRecord) -> None:
        if isinstance(record, FailureRecord):
            self._put(self.failures, failure_row(record))
            return
        model = self._model(record.model)
        self._put(self.images, image_row(record))
        self._put(self.details, image_detail(record, model) | explanations(record, self.explained))
        self.verdicts.append(VERDICT_ORDER.index(record.verdict))
        self.seconds.append(SECOND_ORDER.index(second_word(record)))
        self.scores.append(record.score)

    def _model(self, model: ModelInfo) -> int:
        key = repr([value for name, value in vars(model).items() if name != "seed"])
        if key not in self.known_models:
            self.known_models[key] = self.models.setdefault(embed(model_facts(model)), len(self.models))
        return self.known_models[key]

    def _put(self, lines: _Lines, value: Any) -> None:
        text = embed(value).encode("ascii")
        lines.start.append(self.stream.tell())
        lines.length.append(len(text))
        self.stream.write(text)

    def strongest_first(self) -> Sequence[int]:
        """Numbers of the images: forged, generated, inconclusive, no evidence of an edit; then by falling score."""
        verdicts, generated = np.asarray(self.verdicts), np.asarray(self.seconds) == 0
        rank = np.where(generated & (verdicts > 0), 0.5, verdicts)
        order = np.lexsort((-np.asarray(self.scores), rank))
        return array("q", order.tobytes())

    def split(self, numbers: Sequence[int], lines: list[_Lines], most: int) -> list[Sequence[int]]:
        """The numbers cut into parts of at most `most`, and of about `BYTES_PER_PART`; at least one part."""
        starts, size = [0], 0
        for place, number in enumerate(numbers):
            own = sum(line.length[number] for line in lines)
            if place > starts[-1] and (place - starts[-1] == most or size + own > BYTES_PER_PART):
                starts.append(place)
                size = 0
            size += own
        return [numbers[start:end] for start, end in zip(starts, [*starts[1:], len(numbers)], strict=True)]

    def count(self, verdict: Verdict) -> int:
        return self.verdicts.count(VERDICT_ORDER.index(verdict))

    def count_second(self, word: str) -> int:
        return self.seconds.count(SECOND_ORDER.index(word))

    def json_list(self, lines: _Lines, numbers: Sequence[int]) -> Iterator[Markup]:
        """The texts of these numbers as one JSON list, piece by piece."""
        separator, texts, size = "[", list[bytes](), 0
        for number in numbers:
            self.stream.seek(lines.start[number])
            texts.append(self.stream.read(lines.length[number]))
            size += lines.length[number]
            if size >= _PIECE:
                yield Markup(separator + b",".join(texts).decode("ascii"))
                separator, texts, size = ",", [], 0
        if texts:
            yield Markup(separator + b",".join(texts).decode("ascii"))
        yield Markup("]" if len(numbers) else "[]")


def _page(
    run: RunRecord,
    spool: _Spool,
    images: Sequence[int],
    failures: Sequence[int],
    names: list[str],
    part: int,
    selection: str,
) -> Iterator[str]:
    """One page as pieces of HTML."""
    style, script = asset(_PACKAGE, "page.css"), _script()
    shown = {verdict.value: spool.count(verdict) for verdict in VERDICT_ORDER}
    second = {word: spool.count_second(word) for word in SECOND_ORDER}
    blocks = (images[start : start + DETAILS_PER_BLOCK] for start in range(0, len(images), DETAILS_PER_BLOCK))
    shared = f'{{"blockSize":{DETAILS_PER_BLOCK},"models":[{",".join(spool.models)}]}}'
    return (
        environment(_PACKAGE)
        .get_template("page.html.j2")
        .generate(
            # Chromium gives each file its own origin, so `'self'` does not cover pictures on a stick and `file:`
            # has to; `'self'` is for the page on a web server.
            csp=content_policy(style=style, script=script, images="'self' file:"),
            style=Markup(style),
            script=Markup(script),
            run=run,
            status=_STATUS[run.status],
            not_opened=not_opened(run.not_opened),
            alerts=list(map(printable, run.alerts)),
            facts=_facts(run),
            selection=printable(selection),
            promised=bool(_promise(run)),
            meaning=MEANING,
            second_meaning=SYNTHETIC_MEANING,
            method=None if run.synthetic is None else _method_facts(run.synthetic),
            settings=[(name, _value(value)) for name, value in run.settings.items()],
            model=[(name, _value(value)) for name, value in run.model.items()],
            machine=[(name, _value(value)) for name, value in run.machine.items()],
            others=sorted(run.not_pictures_by_type.items(), key=lambda pair: (-pair[1], pair[0])),
            image_count=len(spool.images),
            failure_count=len(spool.failures),
            verdict_counts=shown,
            second_counts=second,
            disagreement=None if selection else _disagreement(run, spool, shown, second),
            names=names,
            part=part,
            shared=Markup(shared),
            rows=spool.json_list(spool.images, images),
            failures=spool.json_list(spool.failures, failures),
            blocks=(spool.json_list(spool.details, block) for block in blocks),
        )
    )


def _script() -> str:
    """The script of the page: its files in this order, in one function, so that no name is global."""
    parts = (asset(_PACKAGE, name) for name in ("values.js", "table.js", "image.js", "page.js"))
    return '"use strict";\n(() => {\n' + "\n".join(parts) + "})();\n"


_STATUS = {
    "finished": "Finished.",
    "running": "Not finished when this page was written: it shows what there was.",
    "interrupted": "Interrupted before the end: the page shows what was finished until then.",
    "failed": "Stopped by an error before the end: the page shows what was finished until then.",
}

_UNCHANGED = {
    True: "Unchanged: after its scan every file and archive still had the SHA-256 it was judged by.",
    False: "CHANGED: after its scan at least one file or archive no longer had the SHA-256 it was judged by.",
    None: "Not all of it was checked again.",
}


def _facts(run: RunRecord) -> list[tuple[str, str]]:
    """What stands at the top of the page about the run, as (label, text)."""
    end = "" if run.finished is None else f" to {_moment(run.finished)}"
    took = "" if run.seconds is None else f" ({_duration(run.seconds)})"
    return [
        ("Evidence", "\n".join(map(printable, run.evidence))),
        ("Evidence after the run", _UNCHANGED[run.evidence_unchanged]),
        ("Scanned", f"{_moment(run.started)}{end}{took}"),
        ("Tool", f"{run.tool} {run.version}"),
        ("Model", _value(run.model.get("name"))),
        ("Model digest", _value(run.model.get("digest"))),
        *_promise(run),
    ]


def _promise(run: RunRecord) -> list[tuple[str, str]]:
    """What a calibration on one's own photos promises; nothing for the model's own."""
    promise, digest = run.model.get("calibration_promise"), run.model.get("calibration_sha256")
    if not promise:
        return []
    name = _value(run.model.get("calibration"))
    return [("Promised error rate", f"{promise}\n(calibration {name}, SHA-256 {digest})")]


def _method_facts(method: MethodInfo) -> dict[str, Any]:
    """What the page says of the method of the second question."""
    smallest, largest = method.fitted_megapixels
    facts = [
        ("Method", method.name if method.name == method.kind else f"{method.name} ({method.kind})"),
        ("Digest", method.digest),
        ("Stands on", method.base),
        ("Calibration", method.calibration),
        ("Calibrated on", method.fitted_on),
        ("Sizes there", f"{smallest:.2g} to {largest:.2g} megapixels" if largest else ""),
        ("Generated", f"a score above {method.score_threshold:.6g}"),
        ("No evidence", f"a score of at most {method.no_evidence_below:.6g}"),
        ("Learned from", ", ".join(method.generators)),
    ]
    if method.calibration_promise:
        file = f"(calibration {method.calibration}, SHA-256 {method.calibration_file_sha256})"
        facts.append(("Promised error rate", f"{method.calibration_promise} {file}"))
    return {
        "name": method.name,
        "calibrated": bool(method.fitted_on),
        "promised": bool(method.calibration_promise),
        "facts": [(label, text) for label, text in facts if text],
        "figures": [(name.replace("_", " "), _value(value)) for name, value in method.figures.items()],
        "limits": method.limits,
    }


def _disagreement(run: RunRecord, spool: _Spool, shown: dict[str, int], second: dict[str, int]) -> str | None:
    """A sentence if the run counted something else than the page shows; a reader must not have to guess."""
    here = {"images": len(spool.images), **shown, "failures": len(spool.failures)}
    if run.synthetic is not None:
        here |= {word if word == "generated" else f"synthetic_{word}": count for word, count in second.items()}
    counted = run.counts.model_dump()
    differences = [f"{name}: {counted[name]:,} in run.json, {value:,} here" for name, value in here.items()
                   if counted[name] != value]  # fmt: skip
    if not differences:
        return None
    text = "The counts of the run differ from the records this page was made from (" + "; ".join(differences) + ")."
    if run.counts.not_met:
        text += (
            f" {run.counts.not_met:,} of the records here are of earlier runs: their evidence was not met by this one"
            " (moved, deleted, or not among its paths), and was not checked again."
        )
    return text


def _value(value: Scalar) -> str:
    match value:
        case None:
            return "–"
        case bool():
            return "yes" if value else "no"
        case list():
            return ", ".join(f"{number:g}" for number in value)
        case float():
            return f"{value:.6g}"
        case _:
            return str(value)


def _moment(text: str) -> str:
    """`2026-11-21T04:28:38+01:00` as `2026-11-21 04:28:38 (UTC+01:00)`; any other text stays as it is."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return text
    zone = moment.strftime("%z")
    return f"{moment:%Y-%m-%d %H:%M:%S}" + (f" (UTC{zone[:3]}:{zone[3:5]})" if zone else "")


def _duration(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min {rest:02d} s" if hours else f"{minutes} min {rest:02d} s"


def printable(text: str) -> str:
    """The text with every invisible character spelled out, e.g. `⟨U+202E⟩`.

    A right-to-left override in a name would otherwise show `gpj.exe` as `exe.jpg`, and two names that differ in a
    zero-width space would look the same. Lone surrogates (bytes of a name that are not UTF-8) are among them, so
    that the result can always be encoded.
    """
    if text.isascii() and text.isprintable():
        return text
    return "".join(
        f"⟨U+{ord(character):04X}⟩" if unicodedata.category(character) in _SPELLED_OUT else character
        for character in text
    )


_PLAIN_PATH = re.compile(r"[A-Za-z0-9_.\-~/!,()]+")
"""What `quote` leaves as it is."""


def local_url(path: str | None) -> str | None:
    """A path below the results folder as a relative URL, every segment percent-encoded; None for None.

    Raises:
        ValueError: the path is absolute or leads out of the folder.
    """
    if path is None:
        return None
    if not {"", ".", ".."}.isdisjoint(path.split("/")):
        raise ValueError(f"not a path inside the results folder: {path!r}")
    if _PLAIN_PATH.fullmatch(path):
        return path
    return quote(path, safe="/!~,()", encoding="utf-8", errors="surrogateescape")


_JSON = json.JSONEncoder(ensure_ascii=True, allow_nan=False, separators=(",", ":"))


def embed(value: Any) -> str:
    """JSON in pure ASCII that cannot end, comment out or nest the script element it stands in.

    Raises:
        ValueError: NaN or infinity, which JSON does not know.
    """
    text = _JSON.encode(value)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def image_row(record: ImageRecord) -> list[Any]:
    """One line of the table. The order of the fields is that of the constants at the top of `values.js`."""
    return [
        printable(record.locator),
        record.page,
        record.page_count,
        record.verdict.value,
        round(record.score, DIGITS),
        None if record.confidence is None else round(record.confidence, DIGITS),
        round(record.forged_area_ratio, DIGITS),
        record.region_count,
        record.width,
        record.height,
        local_url(record.outputs.thumbnail),
        _note(record),
        second_word(record),
        None if record.synthetic is None or record.synthetic.score is None else round(record.synthetic.score, DIGITS),
    ]


def second_word(record: ImageRecord) -> str:
    """The answer to the second question, one of `SECOND_ORDER`."""
    return NOT_ASKED if record.synthetic is None else record.synthetic.verdict.value


def _second_detail(answer: Answer | None) -> dict[str, Any] | None:
    """What the view of one image shows of the second question; None: it was not asked."""
    if answer is None:
        return None
    return {
        "reason": printable(answer.reason),
        "confidence": None if answer.confidence is None else round(answer.confidence, DIGITS),
        "p": None if answer.p_value is None else round(answer.p_value, DIGITS),
        "thresholds": [round(answer.no_evidence_below, DIGITS), round(answer.score_threshold, DIGITS)],
        "method": printable(answer.method or ""),
        "digest": answer.method_digest,
        "calibration": printable(answer.calibration or ""),
        "parts": [[printable(name).replace("_", " "), f"{value:.6g}"] for name, value in answer.parts.items()],
    }


def _note(record: ImageRecord) -> str:
    """What the table says of an image beside its verdict, which rests on the pixels that were examined."""
    supporting = [
        one for one in record.findings if one.weight is Weight.SUPPORTS_EDIT and one.source is not Origin.PIXELS
    ]
    said = ["metadata point to a generative model"] if declares_generated(record.findings) else []
    if record.not_examined:
        said.append("not all of it examined")
    if count := len(supporting):
        said.append(f"{counted(count, 'finding')} outside the pixels support{'s' * (count == 1)} an edit")
    return "; ".join(said)


def _matching_place(place: MatchingPlace | None) -> list[Any] | None:
    if place is None:
        return None
    box = place.box
    return [box.x, box.y, box.width, box.height, place.likeness, place.scale, place.turned, place.mirrored]


def image_detail(record: ImageRecord, model: int) -> dict[str, Any]:
    """What the view of one image shows beyond its row.

    Args:
        record: the image.
        model: index of `model_facts(record.model)` in the page's list of models.
    """
    answer = record.localization
    seconds = record.seconds
    return {
        "file": [
            record.file.sha256,
            record.file.byte_size,
            printable(record.file.sniffed_type),
            None if record.file.claimed_type is None else printable(record.file.claimed_type),
        ],
        "reason": printable(record.reason),
        "second": _second_detail(record.synthetic),
        "p": None if answer.p_value is None else round(answer.p_value, DIGITS),
        "thresholds": [round(record.threshold, DIGITS), round(answer.score_threshold, DIGITS)],
        "regions": [
            [
                *(region.box.x, region.box.y, region.box.width, region.box.height, region.area),
                *(round(region.area_ratio, DIGITS), round(region.mean_probability, DIGITS)),
                round(region.peak_probability, DIGITS),
                _matching_place(region.matching_place),
            ]
            for region in record.regions
        ],
        "missing": [
            [band.box.x, band.box.y, band.box.width, band.box.height, *band.rows, printable(band.reason)]
            for band in record.not_examined
        ],
        "urls": {
            name: local_url(path)
            for name, path in vars(record.outputs).items()
            if path is not None and name != "thumbnail"
        },
        "model": model,
        # A 64-bit integer: a number in JavaScript would lose its last digits.
        "seed": str(record.model.seed),
        "tiles": [record.tiles.size, record.tiles.overlap, record.tiles.count],
        "exif": {
            name: printable(value) if isinstance(value, str) else value
            for name, value in vars(record.exif).items()
            if value
        },
        "decoding": [printable(text) for text in record.decoding],
        "findings": [
            [finding.source.value, finding.weight.value, printable(finding.statement)] for finding in record.findings
        ],
        "seconds": [round(value, 4) for value in (seconds.read, seconds.decode, seconds.predict, seconds.write)],
    }


def explanations(record: ImageRecord, explained: ExplanationLog | None) -> dict[str, Any]:
    """The texts of language models about a record that passed the check: text, model, its digest, and when."""
    texts = explained.accepted(record) if explained else []
    lines = [[printable(text) for text in (one.text or "", one.model, one.model_digest, one.made)] for one in texts]
    return {"explanations": lines} if lines else {}


def model_facts(model: ModelInfo) -> dict[str, Any]:
    """What is the same for all images of a model: everything but the seed."""
    facts = model.model_dump(exclude={"seed"})
    return {name: printable(value) if isinstance(value, str) else value for name, value in facts.items()}


def failure_row(record: FailureRecord) -> list[Any]:
    """One line of the table of failures."""
    return [
        printable(record.locator),
        record.page,
        record.step.value,
        record.code.value,
        printable(record.message),
        None if record.advice is None else printable(record.advice),
        None if record.file is None else record.file.sha256,
    ]


@cache
def environment(package: str) -> Environment:
    """The templates of a package: all text is escaped and printable, and a name that is not given is an error."""
    return Environment(
        loader=PackageLoader(package, "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=lambda value: printable(value) if type(value) is str else value,
    )


@cache
def asset(package: str, name: str) -> str:
    """A style or a script of a package."""
    return files(package).joinpath("assets", name).read_text(encoding="utf-8")


def content_policy(*, style: str, script: str | None = None, images: str) -> str:
    """The content-security policy: this style, this script or none, pictures from `images`, and nothing else."""
    return "; ".join(
        [
            "default-src 'none'",
            *([] if script is None else [f"script-src 'sha256-{_hash(script)}'"]),
            f"style-src 'sha256-{_hash(style)}'",
            f"img-src {images}",
            "base-uri 'none'",
            "form-action 'none'",
            "require-trusted-types-for 'script'",
            "trusted-types 'none'",
        ]
    )


def _hash(text: str) -> str:
    return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode("ascii")
