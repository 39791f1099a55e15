"""The page of one image: verdict, pictures, scores, regions, findings, identity, claims, and how it was judged."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from clue_cli.case_report.pictures import NUMBERED, Printed
from clue_cli.case_report.statements import translated, worded
from clue_cli.case_report.typeset import Block
from clue_cli.plain_words import plain_words
from clue_cli.records import Answer, Finding, ImageRecord, Region, RunRecord, Weight
from clue_cli.texts import Texts
from model.decimals import told_apart

_SHORT = 70
"""Characters of a name in a heading."""
_PANELS = {
    "error_level_analysis": "Error level analysis (Krawetz 2007)",
    "jpeg_ghosts": "JPEG ghosts (Farid 2009)",
    "noise_inconsistency": "Noise inconsistency",
}
OTHERS = ("synthetic_overlay", "embedded_thumbnail", *_PANELS)
"""Outputs that are printed in a row of their own."""
_WEIGHTS = {Weight.SUPPORTS_EDIT: "supports", Weight.SPEAKS_AGAINST: "against", Weight.INFORMATION: "information"}
_ENGLISH = "en"


@dataclass(frozen=True, slots=True)
class Pictured:
    """The printed pictures of an image: file names below the folder of the volume, or why there are none.

    Attributes:
        main, mask, heat: with the name of each, None where there is none.
        others: by output.
        outlined: whether the outline is drawn.
    """

    main: tuple[Printed, str | None]
    mask: tuple[Printed, str | None]
    heat: tuple[Printed, str | None]
    others: Mapping[str, tuple[Printed, str | None]]
    outlined: bool


def short(name: str) -> str:
    """A name for a heading: its middle is left out where it is long."""
    if len(name) <= _SHORT:
        return name
    return f"{name[: _SHORT // 2 - 5]} … {name[-_SHORT // 2 :]}"


def code(text: str) -> dict[str, Any]:
    """A value in the font for code."""
    return {"text": text, "code": True}


def image_page(
    record: ImageRecord,
    run: RunRecord,
    pictured: Pictured,
    notes: Sequence[str],
    copies: Sequence[str],
    place: tuple[int, int],
    text: Texts,
) -> Iterator[Block]:
    """The blocks of an image's page.

    Args:
        notes: what people noted about it, in words.
        copies: what it is to its copies among the results, in words.
        place: its number among the selected images, and their number.
    """

    def said(key: str, **values: object) -> str:
        return text(f"report.image.{key}", **values)

    name = short(record.locator)
    if record.page_count > 1:
        name = text("report.appendix.page", name=name, page=text.number(record.page + 1))
    number = text.number(place[0])
    yield {
        "kind": "heading",
        "level": 2,
        "text": said("heading", number=number, of=text.number(place[1]), name=name),
    }
    yield {"kind": "facts", "rows": list(_verdicts(record, text))}
    words = _words(record, run, text)
    if words:
        yield {"kind": "heading", "level": 3, "text": said("words")}
        yield {"kind": "list", "items": words}
    yield from _pictures(record, pictured, text)
    yield {"kind": "heading", "level": 3, "text": said("scores")}
    yield {"kind": "facts", "rows": list(_scores(record, text))}
    yield from _regions(record, text)
    yield {"kind": "heading", "level": 3, "text": said("findings")}
    missing = [
        said(
            "not_examined",
            first=text.number(band.rows[0]),
            last=text.number(band.rows[1]),
            reason=worded(band.reason, text),
        )
        for band in record.not_examined
    ]
    if missing:
        yield {"kind": "list", "items": [{"text": one, "strong": True} for one in missing]}
    if record.findings:
        yield {"kind": "facts", "width": 48, "rows": [_finding(one, text) for one in record.findings]}
    elif not missing:
        yield {"kind": "text", "text": said("no_findings")}
    yield {"kind": "heading", "level": 3, "text": said("identity")}
    of_copies = [[said("copies"), list(copies)]] if copies else []
    yield {"kind": "facts", "rows": [*_identity(record, text), *of_copies]}
    yield {"kind": "heading", "level": 3, "text": said("exif")}
    claims = list(_claims(record, text))
    yield {"kind": "facts", "rows": claims} if claims else {"kind": "text", "text": said("exif_none")}
    if notes:
        yield {"kind": "heading", "level": 3, "text": said("notes")}
        yield {"kind": "list", "items": list(notes)}
    yield {"kind": "heading", "level": 3, "text": said("how")}
    yield {"kind": "facts", "rows": list(_how(record, text))}


def _verdicts(record: ImageRecord, text: Texts) -> Iterator[list[Any]]:
    yield [text("report.image.verdict"), [_strong(text(f"report.verdicts.{record.verdict.value}"))]]
    yield [text("report.image.reason"), [translated(record.reason, text)]]
    second = record.synthetic
    if second is None:
        yield [text("report.image.second"), [text("report.verdicts.not_asked")]]
    else:
        yield [text("report.image.second"), [_strong(text(f"report.verdicts.{second.verdict.value}"))]]
        yield [text("report.image.reason"), [translated(second.reason, text)]]


def _words(record: ImageRecord, run: RunRecord, text: Texts) -> list[Any]:
    """The sentences of the record, or composed anew where the language is another one or it holds none."""
    if text.language == _ENGLISH and record.plain_words:
        return list(record.plain_words)
    words = plain_words(record, run, text.language)
    return [] if words == [record.reason] else list(words)


def _pictures(record: ImageRecord, pictured: Pictured, text: Texts) -> Iterator[Block]:
    name = short(record.locator)
    if not record.region_count:
        caption = text("report.image.picture_plain")
    elif pictured.outlined:
        key = "picture" if record.region_count <= NUMBERED else "picture_first"
        caption = text(f"report.image.{key}", n=text.number(min(NUMBERED, len(record.regions))))
    else:
        caption = text("report.image.picture_bare")
    alts = {
        "main": text(
            "report.image.alt_picture",
            name=name,
            width=text.number(record.width),
            height=text.number(record.height),
            n=text.number(record.region_count),
        ),
        "mask": text("report.image.alt_mask", name=name, share=text.percent(record.forged_area_ratio, 2)),
        "heat": text("report.image.alt_heat", name=name),
    }
    main = _figure(*pictured.main, caption, alts["main"], 66, record.outputs.preview, text)
    mask = _figure(*pictured.mask, text("report.image.mask"), alts["mask"], 28, record.outputs.mask, text)
    heat = _figure(*pictured.heat, text("report.image.heat"), alts["heat"], 28, record.outputs.heat_overlay, text)
    yield {"kind": "pictures", "columns": [11, 6], "stacks": [[main], [mask, heat]]}
    others = [_other(record, output, *pictured.others[output], text) for output in OTHERS if output in pictured.others]
    for start in range(0, len(others), 3):
        row = others[start : start + 3]
        yield {"kind": "pictures", "columns": [1, 1, 1], "stacks": [[one] for one in row]}


def _other(record: ImageRecord, output: str, printed: Printed, file: str | None, text: Texts) -> dict[str, Any]:
    if output in _PANELS:
        caption = text("report.image.panel", name=_PANELS[output])
    else:
        caption = text(f"report.image.{'second_heat' if output == 'synthetic_overlay' else 'embedded'}")
    alt = text("report.image.alt_other", what=caption, name=short(record.locator))
    return _figure(printed, file, caption, alt, 42, getattr(record.outputs, output), text)


def _figure(
    printed: Printed, file: str | None, caption: str, alt: str, height: int, path: str | None, text: Texts
) -> dict[str, Any]:
    missing = text(f"report.missing.{printed.missing}", path=path or "–") if printed.missing else ""
    return {"file": file, "missing": missing, "caption": caption, "alt": alt, "height": height}


def _scores(record: ImageRecord, text: Texts) -> Iterator[list[Any]]:
    yield from _answer(record.localization, "score_is", text)
    share, threshold = text.percent(record.forged_area_ratio, 2), _decimal(record.threshold, text)
    yield [text("report.image.area"), [text("report.image.area_is", share=share, threshold=threshold)]]
    if (second := record.synthetic) is not None:
        yield [text("report.image.second"), [text("report.image.method") + f" {second.method}"]]
        yield from _answer(second, "score_second", text)
        for name, value in second.parts.items():
            yield [name.replace("_", " "), [_decimal(value, text, 4)]]


def _answer(answer: Answer, key: str, text: Texts) -> Iterator[list[Any]]:
    if answer.score is None:
        yield [text("report.image.score"), [text("report.image.no_score")]]
    else:
        values = {"score": answer.score, "high": answer.score_threshold, "low": answer.no_evidence_below}
        digits = told_apart(*values.values())
        said = text(f"report.image.{key}", **{name: text.number(value, digits) for name, value in values.items()})
        yield [text("report.image.score"), [said]]
    given = text("report.image.not_given") if answer.confidence is None else text.percent(answer.confidence)
    yield [text("report.image.confidence"), [given]]
    if answer.p_value is not None:
        yield [text("report.image.p_value"), [_decimal(answer.p_value, text, 4 if answer.p_value >= 0.001 else 7)]]


def _regions(record: ImageRecord, text: Texts) -> Iterator[Block]:
    yield {"kind": "heading", "level": 3, "text": text("report.image.regions")}
    if not record.region_count:
        yield {"kind": "text", "text": text("report.image.regions_none")}
        return
    said = text("report.image.regions_pixels")
    if len(record.regions) < record.region_count:
        shown, count = text.number(len(record.regions)), text.number(record.region_count)
        said = f"{text('report.image.regions_some', shown=shown, all=count)} {said}"
    yield {"kind": "text", "text": said}
    rows = [_region(number, region, text) for number, region in enumerate(record.regions, 1)]
    if rows:
        head = text("report.image.region_head").split("|")
        yield {"kind": "table", "head": head, "rows": rows, "columns": [0] * 9 + [1], "right": list(range(9))}


def _region(number: int, region: Region, text: Texts) -> list[str]:
    box = region.box
    whole = [text.number(value) for value in (box.x, box.y, box.width, box.height, region.area)]
    shares = [text.percent(region.area_ratio, 2), _decimal(region.mean_probability, text)]
    match = "–"
    if place := region.matching_place:
        more = text("report.image.mirrored") if place.mirrored else ""
        if abs(place.turned) >= 2:
            more += text("report.image.turned", degrees=text.number(place.turned))
        if abs(place.scale - 1) >= 0.03:
            more += text("report.image.scaled", scale=_decimal(place.scale, text, 2))
        match = text(
            "report.image.match",
            x=text.number(place.box.x),
            y=text.number(place.box.y),
            width=text.number(place.box.width),
            height=text.number(place.box.height),
            likeness=text.percent(place.likeness, 0),
            more=more,
        )
    return [text.number(number), *whole, *shares, _decimal(region.peak_probability, text), match]


def _finding(finding: Finding, text: Texts) -> list[Any]:
    source, weight = text(f"report.origins.{finding.source.value}"), _WEIGHTS[finding.weight]
    return [f"{source}: {text(f'report.image.{weight}')}", [translated(finding.statement, text)]]


def _identity(record: ImageRecord, text: Texts) -> Iterator[list[Any]]:
    def said(key: str, **values: object) -> str:
        return text(f"report.image.{key}", **values)

    file = record.file
    yield [said("name"), [code(record.locator)]]
    if record.page_count > 1:
        of = said("page_of", page=text.number(record.page + 1), pages=text.number(record.page_count))
        yield [said("page"), [of]]
    yield [said("sha256"), [code(file.sha256)]]
    for key, value in (("sha1", file.sha1), ("md5", file.md5)):
        if value:
            yield [said(key), [code(value)]]
    sizes = [text.number(value) for value in (file.byte_size, record.width, record.height)]
    yield [said("size"), [said("size_is", bytes=sizes[0], width=sizes[1], height=sizes[2])]]
    if file.modified:
        yield [said("modified"), [moment(file.modified, text)]]
    claimed = file.claimed_type or "–"
    yield [said("types"), [said("types_is", sniffed=file.sniffed_type, claimed=claimed)]]
    if record.decoding:
        yield [said("decoding"), [translated(one, text) for one in record.decoding]]


def _claims(record: ImageRecord, text: Texts) -> Iterator[list[Any]]:
    exif = record.exif
    camera = " ".join(filter(None, (exif.camera_make, exif.camera_model)))
    claims = {
        "camera": camera,
        "software": exif.software,
        "taken": exif.date_time_original,
        "digitized": exif.date_time_digitized,
        "changed": exif.date_time_modified,
    }
    for key, value in claims.items():
        if value:
            yield [text(f"report.image.{key}"), [value]]
    for key, there in (("gps", exif.gps_present), ("thumbnail", exif.thumbnail_present)):
        if there:
            yield [text(f"report.image.{key}"), [text("report.image.present")]]


def _how(record: ImageRecord, text: Texts) -> Iterator[list[Any]]:
    model, tiles = record.model, record.tiles
    yield [
        text("report.image.model"),
        [
            text(
                "report.image.model_is",
                name=model.name,
                calibration=model.calibration or text("report.none"),
                device=model.device,
                dtype=model.dtype,
                tiles=text.number(tiles.count),
                size=text.number(tiles.size),
                seed=str(model.seed),
            )
        ],
    ]
    yield [text("report.labels.digest"), [code(model.digest)]]
    if record.run_id:
        yield [text("report.labels.run"), [code(record.run_id)]]
    paths = [record.outputs.mask, record.outputs.heatmap, record.outputs.verdict]
    yield [text("report.image.outputs"), [code(path) for path in paths if path]]


def _strong(text: str) -> dict[str, Any]:
    return {"text": text, "strong": True}


def _decimal(value: float, text: Texts, digits: int = 3) -> str:
    return text.number(value, digits)


def moment(stamp: str, text: Texts) -> str:
    """A time of ISO 8601 as the language writes it; any other text stays as it is."""
    try:
        found = datetime.fromisoformat(stamp)
    except ValueError:
        return stamp
    zone = found.strftime("%z")
    shown = f"{found:%d.%m.%Y, %H:%M:%S}" if text.language == "de" else f"{found:%Y-%m-%d %H:%M:%S}"
    return shown + (f" (UTC{zone[:3]}:{zone[3:5]})" if zone else "")
