"""What stands before and behind the pages of images: question, material, method and limits, signature, full list."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from clue_cli.case_report.image import code, moment
from clue_cli.case_report.statements import translated
from clue_cli.case_report.typeset import Block
from clue_cli.plain_words import kind_words
from clue_cli.records import (
    SCHEMA_VERSION,
    FailureRecord,
    ImageRecord,
    MeasuredRate,
    MethodInfo,
    Question,
    RunRecord,
    Verdict,
)
from clue_cli.results.record_rows import Newer
from clue_cli.texts import Texts

_MOST_LISTED = 1000
_COUNTED = ("images", "forged", "no_evidence", "inconclusive", "failures")
_LIMITS = ("lead", "intent", "processing", "small", "whole", "second")
_MEANINGS = ("forged", "no_evidence", "inconclusive", "score", "confidence", "heatmap", "mask", "findings")


@dataclass
class Contents:
    """What is known of all records, and of the report as a whole.

    Attributes:
        images, failures: how many records there are.
        selected: how many images have a page.
        verdicts, second: images by verdict, and by the answer to the second question.
        damaged, damaged_notes: lines of the records and of the notes that were passed over.
        newer: lines of the records that a newer version of clue wrote.
        selection: in words; empty: all.
        title: of the case; empty: none.
        results: the folder.
        made: when the report is made, ISO 8601.
        manifest: SHA-256 of `manifest.sha256`, and its lines; empty: there is none.
        explanations: whether the folder holds texts of language models.
    """

    title: str
    results: str
    made: str
    selection: str = ""
    images: int = 0
    failures: int = 0
    selected: int = 0
    verdicts: dict[str, int] = field(default_factory=dict)
    second: dict[str, int] = field(default_factory=dict)
    damaged: int = 0
    damaged_notes: int = 0
    newer: Newer = field(default_factory=Newer)
    manifest: tuple[str, ...] = ()
    explanations: bool = False


def front(run: RunRecord, contents: Contents, text: Texts) -> Iterator[Block]:
    """The blocks from the title to the signature."""

    def part(key: str) -> Block:
        return {"kind": "heading", "level": 1, "text": text(f"report.parts.{key}")}

    yield {"kind": "title", "text": text("report.heading"), "subtitle": contents.title}
    yield {"kind": "text", "text": text("report.picture_of", tool=run.tool, version=run.version)}
    yield {"kind": "text", "text": {"text": text("report.lead"), "strong": True}}
    yield from _notices(run, contents, text)
    yield {"kind": "contents", "text": text("report.contents"), "depth": 1}
    yield {"kind": "page"}
    yield part("asked")
    yield {"kind": "facts", "rows": list(_asked(run, contents, text))}
    yield part("examined")
    yield {"kind": "facts", "rows": list(_examined(run, contents, text))}
    if run.archives:
        yield {"kind": "heading", "level": 2, "text": text("report.parts.archives")}
        rows = [[code(name), code(digest)] for name, digest in run.archives.items()]
        yield {
            "kind": "table",
            "head": [text("report.image.name"), "SHA-256"],
            "rows": rows,
            "columns": [1, 1],
            "right": [],
        }
    if run.warnings:
        yield {"kind": "heading", "level": 2, "text": text("report.parts.warnings")}
        yield {"kind": "list", "items": [translated(one, text) for one in run.warnings]}
    yield part("method")
    yield {"kind": "text", "text": text("report.method.words")}
    yield {"kind": "text", "text": text("report.method.repeat")}
    yield {"kind": "facts", "rows": list(_model(run, text))}
    if run.synthetic is not None:
        yield {"kind": "heading", "level": 2, "text": text("report.labels.method")}
        yield {"kind": "facts", "rows": list(_second_method(run.synthetic, text))}
    yield from _rates(run, text)
    yield {"kind": "heading", "level": 2, "text": text("report.parts.limits")}
    yield {"kind": "list", "items": [text(f"report.limits.{key}") for key in _LIMITS]}
    yield {"kind": "heading", "level": 2, "text": text("report.parts.meaning")}
    yield {"kind": "facts", "rows": list(_meanings(run, text))}
    yield part("signature")
    lines = [text(f"report.signature.{key}") for key in ("name", "office", "place", "sign")]
    yield {"kind": "signature", "text": text("report.signature.text"), "lines": lines}


def _notices(run: RunRecord, contents: Contents, text: Texts) -> Iterator[Block]:
    def notice(key: str, words: str = "", **values: object) -> Block:
        title = text(f"report.notices.{key}", **values)
        return {"kind": "notice", "title": title, "text": words}

    if run.status != "finished":
        yield notice("unfinished", text(f"report.status.{run.status}"))
    if run.evidence_unchanged is False:
        yield notice("changed", text("report.unchanged.no"))
    if run.not_opened:
        words = _counted(run.not_opened, text)
        yield notice("not_opened", text("report.notices.not_opened_text", what=words))
    if contents.damaged:
        yield notice("damaged", text("report.notices.damaged_text", n=text.number(contents.damaged)))
    if contents.newer.lines:
        numbers = {"n": text.number(contents.newer.lines), "left_out": text.number(contents.newer.left_out)}
        versions = {"version": contents.newer.version, "known": SCHEMA_VERSION}
        yield notice("newer", text("report.notices.newer_text", **numbers, **versions))
    if contents.damaged_notes:
        words = text("report.notices.damaged_notes_text", n=text.number(contents.damaged_notes))
        yield notice("damaged_notes", words)
    here = {"images": contents.images, "failures": contents.failures} | contents.verdicts
    counts = run.counts.model_dump()
    differences = [
        text("report.counts.differ", name=name, run=text.number(counts[name]), here=text.number(here.get(name, 0)))
        for name in _COUNTED
        if counts[name] != here.get(name, 0)
    ]
    if differences:
        words = text("report.notices.counts_text", differences="; ".join(differences))
        if run.counts.not_met:
            words += " " + text("report.counts.not_met", n=text.number(run.counts.not_met)) + "."
        yield notice("counts", words)
    if run.alerts:
        shown = "; ".join(run.alerts[:10]) + (" …" if len(run.alerts) > 10 else "")
        key = "alerts_many" if len(run.alerts) >= _MOST_LISTED else "alerts"  # run.json names no more
        yield notice(key, shown, n=text.number(len(run.alerts)))
    if contents.selection:
        shown, count = text.number(contents.selected), text.number(contents.images)
        words = text("report.notices.selection_text", shown=shown, all=count, selection=contents.selection)
        yield notice("selection", words)
    if not contents.images:
        yield notice("nothing", text("report.notices.nothing_text"))
    elif not contents.selected:
        yield notice("none_selected", text("report.notices.none_selected_text"))
    yield {"kind": "text", "text": text("report.notices.spelled")}
    if text.language != "en":
        yield {"kind": "text", "text": text("report.notices.quoted")}
    if contents.explanations:
        yield {"kind": "text", "text": text("report.notices.explanations")}


def _asked(run: RunRecord, contents: Contents, text: Texts) -> Iterator[list[Any]]:
    def row(key: str, *values: Any) -> list[Any]:
        return [text(f"report.labels.{key}"), list(values)]

    if contents.title:
        yield row("title", contents.title)
    questions = [text("report.questions.localization")]
    synthetic = "synthetic" if run.synthetic is not None else "not_synthetic"
    questions.append(text(f"report.questions.{synthetic}"))
    if query := run.settings.get("query"):
        questions.append(text("report.questions.query", query=str(query)))
    yield row("questions", *questions)
    yield row("evidence", *map(code, run.evidence))
    yield row("command", code(shlex.join(run.command_line)))
    yield row("tool", f"{run.tool} {run.version}")
    yield row("run", code(run.run_id or text("report.unknown")))
    end = "" if run.finished is None else f" – {moment(run.finished, text)}"
    yield row("scanned", moment(run.started, text) + end)
    shown = text.number(run.exit_code) if run.exit_code is not None else "–"
    yield row("status", text(f"report.status.{run.status}", code=shown))
    yield row("results", code(contents.results))
    yield row("reported", moment(contents.made, text))
    if contents.selection:
        yield row("selection", contents.selection)


def _examined(run: RunRecord, contents: Contents, text: Texts) -> Iterator[list[Any]]:
    def row(key: str, *values: Any) -> list[Any]:
        return [text(f"report.labels.{key}"), list(values)]

    counts = run.counts
    yield row("counts", text.number(counts.files))
    yield row("archives_opened", text.number(counts.archives))
    lines = [
        text(
            "report.counts.line", verdict=text(f"report.verdicts.{word}"), n=text.number(contents.verdicts.get(word, 0))
        )
        for word in (Verdict.FORGED, Verdict.INCONCLUSIVE, Verdict.NO_EVIDENCE)
    ]
    yield row("pictures_judged", text.number(contents.images), *lines)
    if run.synthetic is not None:
        second = [
            text("report.counts.line", verdict=text(f"report.verdicts.{word}"), n=text.number(count))
            for word, count in sorted(contents.second.items())
        ]
        yield row("method", *second)
    yield row("failures", text.number(contents.failures))
    yield row("not_pictures", *_types(counts.not_pictures, run.not_pictures_by_type, text))
    yield row("not_opened", _counted(run.not_opened, text) or text("report.none"))
    yield row("skipped", _counted(run.skipped, text) or text("report.none"))
    if run.earlier_results:
        yield row("earlier", *map(code, run.earlier_results[:_MOST_LISTED]))
    if counts.not_met:
        yield row("known", text.number(counts.not_met))
    state = {True: "yes", False: "no", None: "unknown"}[run.evidence_unchanged]
    yield row("unchanged", text(f"report.unchanged.{state}"))
    if contents.manifest:
        yield row("manifest", code(contents.manifest[0]))
        yield row("manifest_of", *map(code, contents.manifest[1:]))


def _types(count: int, kinds: Mapping[str, int], text: Texts) -> list[str]:
    return [text.number(count), *([_counted(kinds, text)] if kinds else [])]


def _counted(kinds: Mapping[str, int], text: Texts) -> str:
    """`12 txt, 5 pdf`: the kinds by falling number."""
    pairs = sorted(kinds.items(), key=lambda pair: (-pair[1], pair[0]))
    return ", ".join(f"{text.number(number)} {kind}" for kind, number in pairs if number)


def _model(run: RunRecord, text: Texts) -> Iterator[list[Any]]:
    def row(key: str, *values: Any) -> list[Any]:
        return [text(f"report.labels.{key}"), list(values)]

    model = run.model
    yield row("model", str(model.get("name") or text("report.unknown")))
    yield row("digest", code(str(model.get("digest") or text("report.unknown"))))
    yield row("numbers", ", ".join(str(model[key]) for key in ("device", "dtype") if model.get(key)) or "–")
    if isinstance(levels := model.get("noise_levels"), list) and levels:
        yield row("noise", "; ".join(_number(level, text) for level in levels))
    yield row("calibration", str(model.get("calibration") or text("report.none")))
    if model.get("calibration_sha256"):
        yield row("calibration_file", code(str(model["calibration_sha256"])))
    if fitted := model.get("calibration_fitted_on"):
        yield row("fitted", translated(str(fitted), text))
    else:
        yield row("fitted", text("report.method.uncalibrated"))
    if isinstance(sizes := model.get("calibration_megapixels"), list) and len(sizes) == 2 and sizes[1]:
        yield row("sizes", f"{_number(sizes[0], text)} – {_number(sizes[1], text)} MP")
    if promise := model.get("calibration_promise"):
        yield row("promise", translated(str(promise), text))
    named = ("pixel_threshold", "score_threshold", "no_evidence_below")
    limits = [f"{name}: {_number(model[name], text)}" for name in named if isinstance(model.get(name), (int, float))]
    if limits:
        yield row("thresholds", *limits, text("report.method.own_thresholds"))


def _rates(run: RunRecord, text: Texts) -> Iterator[Block]:
    """How often the verdicts on untouched pictures are wrong, as far as the run knows."""
    yield {"kind": "heading", "level": 2, "text": text("report.parts.rates")}
    for question in [Question.LOCALIZATION, *([Question.SYNTHETIC] if run.synthetic is not None else [])]:
        if run.synthetic is not None:
            yield {"kind": "text", "text": {"text": text(f"report.questions.{question.value}"), "strong": True}}
        known = run.error_rates.get(question)
        if known is not None and known.promised is not None:
            flagged, bound = text.percent(known.promised.flagged), text.percent(known.promised.bound)
            promise = text("report.rates.promised", n=text.number(known.promised.n), flagged=flagged, bound=bound)
            yield {"kind": "text", "text": promise}
        elif known is None or not known.measured:
            yield {"kind": "text", "text": text("report.rates.unknown")}
        if known is not None and known.measured:
            first = question is Question.LOCALIZATION
            counted, called = ("counted", "flagged") if first else ("counted_second", "generated")
            yield {"kind": "text", "text": text(f"report.rates.{counted}")}
            keys = ("kind" if first else "kind_second", "n", called, "undecided")
            rows = [
                [
                    _pictures(one, question, text),
                    text.number(one.n),
                    _share(one.flagged / one.n, one.flagged_interval, text),
                    _share(one.inconclusive / one.n, one.inconclusive_interval, text),
                ]
                for one in known.measured
            ]
            head = [text(f"report.rates.{key}") for key in keys]
            yield {"kind": "table", "head": head, "rows": rows, "columns": [3, 0, 2, 2], "right": [1, 2, 3]}
            yield {"kind": "text", "text": text("report.rates.few")}
    yield {"kind": "text", "text": text("report.rates.base_rate")}


def _known(run: RunRecord) -> bool:
    """Whether error rates of the first question are known."""
    rates = run.error_rates.get(Question.LOCALIZATION)
    return rates is not None and (rates.promised is not None or bool(rates.measured))


def _pictures(rate: MeasuredRate, question: Question, text: Texts) -> str | dict[str, Any]:
    """What the pictures were: as the model card says it, in another language by their kind."""
    words = kind_words(rate.kind, question, text) if text.language != "en" else ""
    return words or translated(rate.pictures, text)


def _share(share: float, interval: Sequence[float], text: Texts) -> str:
    return f"{text.percent(share)} [{text.percent(interval[0])}; {text.percent(interval[1])}]"


def _second_method(method: MethodInfo, text: Texts) -> Iterator[list[Any]]:
    def row(key: str, *values: Any) -> list[Any]:
        return [text(f"report.labels.{key}"), list(values)]

    yield row("model", method.name if method.name == method.kind else f"{method.name} ({method.kind})")
    yield row("digest", code(method.digest))
    if method.base:
        yield row("base", method.base)
    yield row("calibration", method.calibration)
    yield row("fitted", translated(method.fitted_on, text) if method.fitted_on else text("report.method.uncalibrated"))
    if method.calibration_promise:
        yield row("promise", translated(method.calibration_promise, text))
    limits = [f"{name}: {_number(getattr(method, name), text)}" for name in ("score_threshold", "no_evidence_below")]
    yield row("thresholds", *limits)
    figures = [f"{name.replace('_', ' ')}: {_number(value, text)}" for name, value in method.figures.items()]
    if figures:
        yield row("figures", *figures)
    if method.generators:
        yield row("learned", ", ".join(method.generators))
    if method.limits:
        yield [text("report.parts.limits"), [translated(one, text) for one in method.limits]]


def _meanings(run: RunRecord, text: Texts) -> Iterator[list[Any]]:
    words = [*_MEANINGS, *(["generated"] if run.synthetic is not None else [])]
    if run.model.get("calibration_promise"):
        words.append("p_value")
    for word in words:
        section = "plain_words" if f"plain_words.meaning.{word}" in text else "report"
        unmeasured = word == Verdict.FORGED and not _known(run)
        said = text(f"{section}.meaning.{'forged_unmeasured' if unmeasured else word}")
        if f"report.verdicts.{word}" in text:
            yield [text(f"report.verdicts.{word}"), [said]]
        else:
            label, rest = said.split(": ", 1) if ": " in said[:30] else (text("report.image.findings"), said)
            yield [label, [rest]]


def settings(run: RunRecord, text: Texts) -> Iterator[Block]:
    """The appendix of settings and machine."""
    yield {"kind": "heading", "level": 1, "text": text("report.parts.settings")}
    rows: list[list[Any]] = [[name, [code(_setting(value, text))]] for name, value in run.settings.items()]
    rows.append(["settings_digest", [code(run.settings_digest or "–")]])
    yield {"kind": "facts", "width": 48, "rows": rows}
    yield {"kind": "heading", "level": 2, "text": text("report.labels.machine")}
    machine: list[list[Any]] = [[name, [code(_setting(value, text))]] for name, value in run.machine.items()]
    if machine:
        yield {"kind": "facts", "width": 48, "rows": machine}


def image_row(number: int, record: ImageRecord, text: Texts) -> list[Any]:
    """The line of an image in the full list."""
    name = record.locator
    if record.page_count > 1:
        name = text("report.appendix.page", name=name, page=text.number(record.page + 1))
    verdict = text(f"report.short.{record.verdict.value}")
    if (second := record.synthetic) is not None:
        score = "–" if second.score is None else text.number(second.score, 3)
        word = text(f"report.short.{second.verdict.value}")
        verdict += "; " + text("report.appendix.second", verdict=word, score=score)
    return [text.number(number), name, verdict, text.number(record.score, 3), code(record.file.sha256)]


def failure_row(number: int, record: FailureRecord, text: Texts) -> list[Any]:
    """The line of a failure."""
    name = record.locator
    if record.page is not None and record.page_count != 1:
        name = text("report.appendix.page", name=name, page=text.number(record.page + 1))
    said = [text(f"report.failures.{record.code.value}") + ":", translated(record.message, text, "format.claim")]
    if record.advice:
        said += [text("report.appendix.advice"), translated(record.advice, text, "format.claim")]
    digest = "–" if record.file is None else record.file.sha256
    return [text.number(number), name, text(f"report.steps.{record.step.value}"), said, code(digest)]


def image_list(rows: Sequence[Any], first: int, total: int, text: Texts) -> Iterator[Block]:
    """The full list of images, or a part of it."""
    yield {"kind": "heading", "level": 1, "text": text("report.parts.appendix")}
    yield {"kind": "text", "text": text("report.appendix.text", n=text.number(total))}
    if rows and len(rows) < total:
        last = text.number(first + len(rows) - 1)
        yield {"kind": "text", "text": text("report.appendix.part", first=text.number(first), last=last)}
    if rows:
        head = text("report.appendix.head").split("|")
        yield {"kind": "table", "head": head, "rows": rows, "columns": [0, 12, 6, 0, 10], "right": [0, 3]}


def failure_list(rows: Sequence[Any], total: int, text: Texts) -> Iterator[Block]:
    """The full list of failures, or a part of it."""
    yield {"kind": "heading", "level": 1, "text": text("report.parts.failures")}
    if not total:
        yield {"kind": "text", "text": text("report.appendix.no_failures")}
        return
    yield {"kind": "text", "text": text("report.appendix.failures_text", n=text.number(total))}
    head = text("report.appendix.failure_head").split("|")
    yield {"kind": "table", "head": head, "rows": rows, "columns": [0, 9, 4, 12, 8], "right": [0]}


def _setting(value: object, text: Texts) -> str:
    if value is None:
        return "–"
    if isinstance(value, bool):
        return text("report.yes" if value else "report.no")
    return _number(value, text) if isinstance(value, float) else str(value)


def _number(value: object, text: Texts) -> str:
    """A number with up to six significant digits, as the language writes it; any other value as JSON."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return json.dumps(value)
    shown = f"{value:.6g}"
    return shown if "e" in shown or "." not in shown else text.number(float(shown), len(shown.split(".")[1]))
