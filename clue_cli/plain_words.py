"""What was found in a picture, in plain words: composed of the values of its record, by no model.

The sentences are in `clue_cli/texts`. They never say more than the verdict does, every number is one of the record or
of the error rates of the run, and what stands in metadata is told as a claim. Nothing of the evidence is a template.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Protocol

from clue_cli.records import (
    Answer,
    BoundingBox,
    ErrorRates,
    Finding,
    ImageRecord,
    MeasuredRate,
    Question,
    RunRecord,
    Verdict,
    Weight,
)
from clue_cli.terminal import printable
from clue_cli.texts import Texts, texts
from model.decimals import told_apart

NAMED = 3
"""Regions whose place is told, the largest."""
_CLAIM = 80
"""Characters of a claim that are quoted."""

_SMALL_SIDE = 64  # pixels; below it a picture is too small to be judged
_JUST_ABOVE = 0.1  # of the way from the threshold to 1
_FAR = 2 / 3  # of a side: a region that reaches so far has no place in thirds
_TINY, _STAMP, _FLAT = 0.002, 0.03, 0.05  # shares of the area
_LOW_RESOLUTION, _PANORAMA = 0.25, 2.2  # megapixels, and longer by shorter side

CONTEXT = (
    "on_alert_list",
    "screen_or_drawing",
    "type_mismatch",
    "damaged_data",
    "less_precise",
    "checksum_wrong",
    "compressed_twice",
    "social_network",
    "editing_software",
    "raw_settings",
    "photoshop_resources",
    "digital_source_type",
    "content_credentials",
    "credential_actions",
    "edit_history",
    "size_differs",
    "changed_later",
    "times_contradict",
    "no_exposure",
)
"""Findings that point neither way and are told all the same, in this order; the others are in `findings` alone."""

_DAMAGE = frozenset({"damaged_data", "less_precise", "end_missing", "rows_missing"})
_SELF_TOLD = frozenset({"marked_regions", "matching_place"})
"""Findings whose values stand in `regions`."""
_MOST = 20
"""Findings that are told, those that point one way first."""
_NO_HINT = frozenset({"screen_or_drawing", "on_alert_list", "type_mismatch", "no_exposure", *_DAMAGE})
"""Of `CONTEXT`, those that say nothing of an edit."""

_SUPPORTING = frozenset(
    {
        "thumbnail_differs",
        "edit_history",
        "document_ancestors",
        "digital_source_type",
        "generative_edit",
        "generator_settings",
        "phone_edit",
        "size_differs",
        "times_contradict",
        "camera_contradicts",
        "photoshop_tables",
        "credentials_invalid",
        "credential_actions_edit",
    }
)
"""Texts that say why a finding supports an edit; for another one its statement is quoted."""

_NEEDED = {
    "camera_contradicts": ("make", "model"),
    "digital_source_type": ("code",),
    "type_mismatch": ("claimed", "sniffed"),
    "size_differs": ("width", "height"),
    "size_reduced": ("width", "height"),
    "credentials_valid": ("signer",),
    "credentials_invalid": ("signer",),
}
"""Values without which a text cannot be used."""


def plain_words(record: ImageRecord, run: RunRecord | None, language: str = "en") -> list[str]:
    """Sentences about a picture that was flagged: one verdict at least is not `no_evidence`. Else none.

    Args:
        run: the run that wrote it, for how often its model is wrong; None: not known.
        language: one of `clue_cli.texts.LANGUAGES`.

    Returns:
        Paragraphs of one to three sentences, printable: what was found and where, how strong it is, what else was
        found, how often such a result is wrong, what else could explain it, and what may be concluded.

    Raises:
        ValueError: clue does not speak this language.
    """
    return composed(record, {} if run is None else run.error_rates, language)


def composed(record: ImageRecord, rates: Mapping[Question, ErrorRates], language: str = "en") -> list[str]:
    """As `plain_words`, from the error rates of a run."""
    said = texts(language)
    if all(answer.verdict is Verdict.NO_EVIDENCE for answer in record.verdicts.values()):
        return []
    words = _Words(record, rates, said)
    paragraphs = [*words.localization(), *words.synthetic()]
    return [printable(" ".join(filter(None, paragraph))) for paragraph in paragraphs if any(paragraph)]


def region_words(record: ImageRecord, said: Texts) -> str:
    """The number of regions, the place of the largest and their area in a few words; empty if none is listed."""
    if not record.regions:
        return ""
    return said.counted(
        "plain_words.short",
        record.region_count,
        where=_place(record.regions[0].box, record, said),
        area=said.percent(record.forged_area_ratio),
    )


def kind_words(kind: str, question: Question, said: Texts) -> str:
    """What the pictures of a kind are on which a question was measured; empty if no text says it."""
    sections = ("kind_second", "kind") if question is Question.SYNTHETIC else ("kind",)
    keys = [f"plain_words.rates.{section}.{kind}" for section in sections]
    return next((said(key) for key in keys if key in said), "")


class _Rectangle(Protocol):
    @property
    def x(self) -> int: ...
    @property
    def y(self) -> int: ...
    @property
    def width(self) -> int: ...
    @property
    def height(self) -> int: ...


def place_of(box: _Rectangle, width: int, height: int) -> str:
    """Where a box is, by its middle, in thirds of the picture: `top left`, `centre`, `bottom`.

    Args:
        box: pixels.
        width, height: of the picture, pixels.
    """
    across, down = (box.x + box.width / 2) / width, (box.y + box.height / 2) / height
    column = "left" if across < 1 / 3 else "right" if across > 2 / 3 else ""
    row = "top" if down < 1 / 3 else "bottom" if down > 2 / 3 else ""
    return " ".join(filter(None, (row, column))) or "centre"


Paragraph = list[str]


class _Words:
    """Composes the words about one record in one language."""

    def __init__(self, record: ImageRecord, rates: Mapping[Question, ErrorRates], said: Texts) -> None:
        self.record, self.rates, self.said = record, rates, said
        self.kinds = {finding.kind for finding in record.findings}
        self.whole = said("plain_words.whole.examined" if record.not_examined else "plain_words.whole.picture")

    def say(self, key: str, **values: object) -> str:
        return self.said(f"plain_words.{key}", **values)

    # the first question

    def localization(self) -> Iterator[Paragraph]:
        answer = self.record.localization
        if answer.verdict is Verdict.NO_EVIDENCE:
            yield [self.say("untouched"), self._not_examined()]
            return
        forged = answer.verdict is Verdict.FORGED
        yield [self._found(answer.verdict), self._next(), self._touches()]
        yield [self._not_examined()]
        yield [self._strength(answer) if forged else self._open(answer)]
        yield [self._matching()]
        told = _told(self.record.findings)
        yield from ([words] for words in dict.fromkeys(map(self._finding, told)))
        if not any(finding.weight is Weight.SUPPORTS_EDIT for finding in told):
            hints = any(finding.kind not in _NO_HINT for finding in told)
            yield [self.say("nothing_by_itself" if hints else "nothing_else")]
        if forged or self._cause(answer) in ("between", "no_pixel"):
            yield self._errors(Question.LOCALIZATION, answer)
        if self.record.region_count:
            yield [self._alternatives()]
        unmeasured = forged and self._not_known(Question.LOCALIZATION, answer)
        yield [self.say("meaning.forged_unmeasured" if unmeasured else f"meaning.{answer.verdict.value}")]

    def _not_examined(self) -> str:
        if not self.record.not_examined:
            return ""
        area = sum(band.box.width * band.box.height for band in self.record.not_examined)
        share = min(1.0, area / (self.record.width * self.record.height))
        return self.say("not_examined", share=self.said.percent(share))

    def _found(self, verdict: Verdict) -> str:
        record, count = self.record, self.record.region_count
        if not count and verdict is Verdict.INCONCLUSIVE:
            return self.say("inconclusive.none")
        if not record.regions:
            return self.say(f"{verdict.value}.unlisted")
        return self.said.counted(
            f"plain_words.{verdict.value}",
            count,
            where=self._place(record.regions[0].box),
            area=self.said.percent(record.forged_area_ratio),
            largest=self.said.percent(record.regions[0].area_ratio),
            whole=self.whole,
        )

    def _next(self) -> str:
        regions = [
            self.say("region", where=self._place(region.box), area=self.said.percent(region.area_ratio))
            for region in self.record.regions[1:NAMED]
        ]
        return self.say("next", regions=self.said.listed(regions)) if regions else ""

    def _sides(self, box: BoundingBox) -> list[str]:
        reached = {
            "left": box.x <= 0,
            "top": box.y <= 0,
            "right": box.x + box.width >= self.record.width,
            "bottom": box.y + box.height >= self.record.height,
        }
        return [side for side, touched in reached.items() if touched]

    def _touches(self) -> str:
        sides = self._sides(self.record.regions[0].box) if self.record.regions else []
        if not sides:
            return ""
        words = self.said.listed([self.say(f"border.{side}") for side in sides])
        return self.say("touches.one" if self.record.region_count == 1 else "touches.largest", sides=words)

    def _place(self, box: BoundingBox) -> str:
        return _place(box, self.record, self.said)

    def _strength(self, answer: Answer) -> str:
        score, threshold = answer.score or 0.0, answer.score_threshold
        near = score - threshold < _JUST_ABOVE * (1 - threshold)
        return self.say(f"score.{'just_above' if near else 'above'}", **self._scores(answer))

    def _scores(self, answer: Answer) -> dict[str, str]:
        """Score and thresholds, with as many decimals, from three on, as tell them apart."""
        values = (answer.score or 0.0, answer.score_threshold, answer.no_evidence_below)
        digits = told_apart(*values)
        score, threshold, low = (self.said.number(value, digits) for value in values)
        return {"score": score, "threshold": threshold, "low": low, "high": threshold}

    def _open(self, answer: Answer) -> str:
        """What kept an inconclusive result from being either."""
        values = {
            "width": self.said.number(self.record.width),
            "height": self.said.number(self.record.height),
            "reason": self._claim(answer.reason, 300),
        }
        return self.say(f"open.{self._cause(answer)}", **self._scores(answer), **values)

    def _cause(self, answer: Answer) -> str:
        record, score = self.record, answer.score or 0.0
        if "query" in self.kinds:
            return "query"
        if "video_frame" in self.kinds:
            return "video"
        if "too small" in answer.reason:
            return "small" if min(record.width, record.height) < _SMALL_SIDE else "other"
        if "nearly uniform" in answer.reason:
            return "uniform"
        if answer.no_evidence_below < score <= answer.score_threshold:
            return "between"
        if score > answer.score_threshold and not record.region_count:
            return "no_pixel"
        return "file" if self.kinds & _DAMAGE else "other"

    # what else was found

    def _matching(self) -> str:
        matching = [region for region in self.record.regions if region.matching_place]
        if not matching or (place := matching[0].matching_place) is None:
            return ""
        likeness = self.said.percent(place.likeness, 0)
        where = self._place(place.box)
        if self.record.region_count == 1:
            return self.say("matching.only", where=where, likeness=likeness)
        return self.said.counted("plain_words.matching", len(matching), where=where, likeness=likeness)

    def _finding(self, finding: Finding) -> str:
        key, values = finding.kind, self._values(finding)
        supports = finding.weight is Weight.SUPPORTS_EDIT
        if finding.weight is Weight.SPEAKS_AGAINST:
            return self._other("other_against", finding)
        if key == "editing_software" and values["software"] and "EXIF" in finding.statement:
            key = "editing_software_exif"
        elif key == "size_differs" and not supports:
            key = "size_reduced"
        elif key == "quantization_tables" and supports:
            key = "photoshop_tables"
        elif key == "credential_actions" and supports:
            key = "credential_actions_edit"
        elif key == "content_credentials":
            state = finding.data.get("state")
            key = {"valid": "credentials_valid", "invalid": "credentials_invalid"}.get(str(state), "credentials_open")
        if f"plain_words.finding.{key}" not in self.said or (supports and key not in _SUPPORTING):
            return self._other("other_supports", finding) if supports else ""
        if key in _NEEDED and not all(values[name] for name in _NEEDED[key]):
            return self._other("other_supports", finding) if supports else ""
        return self.say(f"finding.{key}", **values)

    def _other(self, key: str, finding: Finding) -> str:
        statement = self._claim(finding.statement, 300)
        return self.say(f"finding.{key}", kind=finding.kind.replace("_", " "), statement=statement)

    def _values(self, finding: Finding) -> dict[str, str]:
        data, exif = finding.data, self.record.exif

        def claim(value: object) -> str:
            return self._claim(value) if isinstance(value, str) and value.strip() else ""

        def pixels(value: object) -> str:
            return self.said.number(value) if isinstance(value, int) and not isinstance(value, bool) else ""

        return {
            "code": claim(data.get("code")),
            "signer": claim(data.get("signer")),
            "claimed": claim(data.get("claimed")),
            "sniffed": claim(data.get("sniffed")),
            "width": pixels(data.get("width")),
            "height": pixels(data.get("height")),
            "software": claim(exif.software),
            "make": claim(exif.camera_make),
            "model": claim(exif.camera_model),
        }

    def _claim(self, text: str, most: int = _CLAIM) -> str:
        """A text of the evidence, quoted: printable, shortened, without marks that would end the quotation."""
        inner = printable(text).translate(dict.fromkeys(map(ord, '“”„‟«»"‹›'), "'"))
        return self.said("format.claim", text=inner if len(inner) <= most else f"{inner[: most - 1]}…")

    # how often it is wrong

    def _errors(self, question: Question, answer: Answer) -> Paragraph:
        if unknown := self._not_known(question, answer):
            return unknown
        rates, verdict = self.rates[question], answer.verdict
        if rates.promised is not None:
            promise, percent = rates.promised, self.said.percent
            values = {"rate": percent(promise.flagged, 2), "bound": percent(promise.bound, 2)}
            return [
                self.say("rates.promised", n=self.said.number(promise.n), **values),
                "" if answer.p_value is None else self.say("rates.p_value", share=percent(answer.p_value, 2)),
            ]
        fitting = self._fitting(rates.measured, question)
        shown = self.said.listed([self._rate(rate, question, verdict) for rate in fitting])
        claimed = any(rate.kind == "camera" for rate in fitting) and question is Question.LOCALIZATION
        return [self.say(f"rates.{verdict.value}", rates=shown), self.say("rates.as_claimed") if claimed else ""]

    def _not_known(self, question: Question, answer: Answer) -> Paragraph:
        """Why it is not known how often it is wrong; empty where it is."""
        rates = self.rates.get(question)
        if not self.rates:
            return [self.say("rates.not_recorded")]
        size = "size_not_calibrated" if question is Question.LOCALIZATION else "synthetic_size_not_calibrated"
        if finding := next((one for one in self.record.findings if one.kind == size), None):
            return self._other_size(finding)
        known = rates is not None and "query" not in self.kinds and self._hold(rates, question, answer)
        if known and rates is not None:
            promised = rates.promised is not None
            known = (
                answer.verdict is not Verdict.INCONCLUSIVE
                if promised
                else bool(self._fitting(rates.measured, question))
            )
        return [] if known else [self.say("rates.unknown")]

    def _hold(self, rates: ErrorRates, question: Question, answer: Answer) -> bool:
        """Whether the rates are about what gave this answer: a folder can hold records of several runs."""
        record = self.record
        if question is Question.SYNTHETIC:
            return rates.model_digest == answer.method_digest and (
                rates.score_threshold in (None, answer.score_threshold)
            )
        return (
            rates.model_digest == record.model.digest
            and rates.calibration_sha256 == record.model.calibration_sha256
            and rates.pixel_threshold == record.threshold
        )

    def _fitting(self, measured: list[MeasuredRate], question: Question) -> list[MeasuredRate]:
        """The rates of pictures of this picture's kind, as far as the record tells it."""
        kinds = {"web"}
        if "screen_or_drawing" in self.kinds:
            kinds = {"screen"}
        elif self.kinds & {"compressed_twice", "social_network"}:
            kinds = {"web", "web_compressed_again"}
        elif self._claims_camera():
            kinds = {"camera", "web"}
        if question is Question.SYNTHETIC and "screen" not in kinds:
            return [rate for rate in measured if rate.kind in kinds] or measured[:2]
        return [rate for rate in measured if rate.kind in kinds]

    def _claims_camera(self) -> bool:
        return bool(self.record.exif.camera_make) and not self.kinds & {"editing_software", "screen_or_drawing"}

    def _rate(self, rate: MeasuredRate, question: Question, verdict: Verdict) -> str:
        open_ = verdict is Verdict.INCONCLUSIVE
        hits, (low, high) = (
            (rate.inconclusive, rate.inconclusive_interval) if open_ else (rate.flagged, rate.flagged_interval)
        )
        percent, pictures = self.said.percent, kind_words(rate.kind, question, self.said)
        return self.say(
            "rates.one",
            hits=self.said.number(hits),
            n=self.said.number(rate.n),
            pictures=pictures or self._claim(rate.pictures, 120),
            share=percent(hits / rate.n),
            low=percent(low),
            high=percent(high),
        )

    def _other_size(self, finding: Finding) -> Paragraph:
        values = {name: finding.data.get(name) for name in ("megapixels", "smallest", "largest")}
        numbers = {name: value for name, value in values.items() if isinstance(value, (int, float))}
        if len(numbers) < len(values):
            return [self.say("rates.unknown")]
        larger = numbers["megapixels"] > numbers["largest"] and finding.kind == "size_not_calibrated"
        shown = {name: self.said.number(value, 3) for name, value in numbers.items()}
        return [self.say("rates.size", **shown), self.say("rates.larger") if larger else ""]

    # what else could explain it

    def _alternatives(self) -> str:
        which = [self.say(f"alternatives.{name}") for name in self._explanations()]
        return self.say("alternatives.found", which="; ".join(which)) if which else self.say("alternatives.none")

    def _explanations(self) -> Iterator[str]:
        """Those that fit what was found."""
        record, kinds = self.record, self.kinds
        largest = record.regions[0] if record.regions else None
        screen = "screen_or_drawing" in kinds
        if any(region.matching_place for region in record.regions):
            yield "repeated"
        if screen:
            yield "screen"
        elif self._claims_camera() or kinds & {"depth_map_follows", "gain_map_follows"}:
            yield "camera"
        if kinds & {"compressed_twice", "social_network"}:
            yield "recompressed"
        if "editing_software" in kinds or "raw_settings" in kinds:
            yield "whole_edit"
        if kinds & _DAMAGE:
            yield "damage"
        if "video_frame" in kinds:
            yield "video"
        if largest is not None and not screen:
            outer = place_of(largest.box, record.width, record.height).startswith(("top", "bottom"))
            if largest.area_ratio < _TINY:
                yield "tiny"
            if largest.area_ratio < _STAMP and outer and record.region_count == 1:
                yield "stamp"
            if largest.area_ratio >= _FLAT:
                yield "flat"
            if self._sides(largest.box):
                yield "border"
            if max(record.width, record.height) > _PANORAMA * min(record.width, record.height):
                yield "panorama"
        if record.width * record.height / 1e6 < _LOW_RESOLUTION:
            yield "low_resolution"
        finding = next((one for one in record.findings if one.kind == "size_not_calibrated"), None)
        sizes = [] if finding is None else [finding.data.get(name) for name in ("largest", "megapixels")]
        if len(numbers := [size for size in sizes if isinstance(size, (int, float))]) == 2 and numbers[0] < numbers[1]:
            yield "large"

    # the second question

    def synthetic(self) -> Iterator[Paragraph]:
        answer = self.record.synthetic
        if answer is None or answer.verdict is Verdict.NO_EVIDENCE:
            return
        scores, method = self._scores(answer), self._claim(answer.method or "")
        if answer.verdict is Verdict.INCONCLUSIVE:
            yield [self.say(f"synthetic_open.{self._why_open(answer)}", method=method, **scores)]
            return
        yield [self.say("generated.found", method=method, **scores), self._declared()]
        yield self._errors(Question.SYNTHETIC, answer)
        yield [self.say("generated.graphics" if "screen_or_drawing" in self.kinds else "generated.alternatives")]
        yield [self.say("meaning.generated")]

    def _why_open(self, answer: Answer) -> str:
        if answer.score is None or "synthetic_not_judged" in self.kinds:
            return "not_judged"
        if "not calibrated" in answer.reason:
            return "uncalibrated"
        if answer.no_evidence_below < answer.score <= answer.score_threshold:
            return "between"
        return "declared" if answer.score <= answer.no_evidence_below and self._declared() else "other"

    def _declared(self) -> str:
        from clue_cli.evidence.claims import declares_generated

        return self.say("generated.declared") if declares_generated(self.record.findings) else ""


def _place(box: BoundingBox, record: ImageRecord, said: Texts) -> str:
    place = place_of(box, record.width, record.height)
    wide, tall = box.width >= _FAR * record.width, box.height >= _FAR * record.height
    if wide and tall:
        place = "everywhere"
    elif wide:
        place = f"wide_{next((row for row in ('top', 'bottom') if row in place), 'middle')}"
    elif tall:
        place = f"tall_{next((column for column in ('left', 'right') if column in place), 'middle')}"
    return said(f"plain_words.place.{place.replace(' ', '_')}")


def _told(findings: list[Finding]) -> list[Finding]:
    """Findings that are told: those that point one way, in their order, then those of `CONTEXT`."""
    findings = [one for one in findings if one.kind not in _SELF_TOLD and not one.kind.startswith("synthetic_")]
    pointed = [one for one in findings if one.weight is not Weight.INFORMATION]
    rest = [one for one in findings if one.weight is Weight.INFORMATION and one.kind in CONTEXT]
    ordered = [*pointed, *sorted(rest, key=lambda one: CONTEXT.index(one.kind))]
    return ordered[:_MOST]
