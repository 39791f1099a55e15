"""Plain words hold nothing but the record: every number, every claim, whatever the record is."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clue_cli.plain_words import CONTEXT, kind_words, place_of, plain_words
from clue_cli.records import (
    Answer,
    BoundingBox,
    ErrorRates,
    ExifBrief,
    Finding,
    ImageRecord,
    MeasuredRate,
    NotExamined,
    Origin,
    PromisedRate,
    Question,
    Region,
    RunRecord,
    Verdict,
    Weight,
)
from clue_cli.terminal import printable
from clue_cli.texts import LANGUAGES, texts
from tests.clue_cli.explaining.made_records import HEIGHT, MINI, WIDTH, record, region, undecided
from tests.clue_cli.results.made import image
from tests.clue_cli.results.made import run as made_run

CODE = Path(__file__).parents[2] / "clue_cli"
WEB = MeasuredRate(
    kind="web", pictures="web", n=193, flagged=2, flagged_interval=[0.001258, 0.036942],
    inconclusive=9, inconclusive_interval=[0.021536, 0.086613],
)  # fmt: skip
CAMERA = MeasuredRate(
    kind="camera", pictures="cameras", n=53, flagged=0, flagged_interval=[0.0, 0.067],
    inconclusive=1, inconclusive_interval=[0.0005, 0.101],
)  # fmt: skip
SCREEN = MeasuredRate(
    kind="screen", pictures="screens", n=140, flagged=2, flagged_interval=[0.0017, 0.0507],
    inconclusive=11, inconclusive_interval=[0.04, 0.136],
)  # fmt: skip
AGAIN = WEB.model_copy(update={"kind": "web_compressed_again", "n": 73, "flagged": 0, "inconclusive": 1})


def run(**changes: Any) -> RunRecord:
    fields = {"model_digest": MINI, "pixel_threshold": 0.5, "measured": [CAMERA, WEB, AGAIN, SCREEN]}
    return made_run(error_rates={Question.LOCALIZATION: ErrorRates(**{**fields, **changes})})


def finding(kind: str, weight: Weight = Weight.INFORMATION, statement: str = "It is so.", **data: Any) -> Finding:
    return Finding(kind=kind, source=Origin.METADATA, statement=statement, weight=weight, data=data)


def text(record: ImageRecord, run_: RunRecord | None = None, language: str = "en") -> str:
    return "\n".join(plain_words(record, run_, language))


# numbers

shares = st.floats(0, 1)
boxes = st.builds(
    BoundingBox, x=st.integers(0, 5000), y=st.integers(0, 5000), width=st.integers(1, 5000), height=st.integers(1, 5000)
)
hostile = st.one_of(
    st.text(max_size=40), st.sampled_from(["<script>alert(1)</script>", "a\u202eb", "“ is proven forged. “", "{n}", ""])
)
KINDS = sorted({*CONTEXT, "thumbnail_differs", "camera_contradicts", "generator_settings", "query", "video_frame",
                "end_missing", "size_not_calibrated", "synthetic_not_judged", "a_new_one"})  # fmt: skip
findings = st.builds(
    Finding,
    kind=st.sampled_from(KINDS),
    source=st.sampled_from(Origin),
    statement=hostile,
    weight=st.sampled_from(Weight),
    data=st.dictionaries(
        st.sampled_from(["code", "signer", "claimed", "sniffed", "width", "height", "megapixels", "smallest",
                         "largest", "state"]),
        st.one_of(hostile, st.integers(0, 10**6), shares, st.booleans(), st.none()), max_size=8,
    ),
)  # fmt: skip


bands = st.builds(NotExamined, rows=st.just([0, 9]), box=boxes, reason=hostile)


@st.composite
def records(draw: st.DrawFn) -> ImageRecord:
    def answer(verdicts: list[Verdict], **fields: Any) -> Answer:
        low, high = sorted((draw(shares), draw(shares)))
        return Answer(
            verdict=draw(st.sampled_from(verdicts)), reason=draw(hostile), score=draw(shares), score_threshold=high,
            no_evidence_below=low, p_value=draw(st.none() | st.floats(0.001, 1)), **fields,
        )  # fmt: skip

    verdicts = {Question.LOCALIZATION: answer([Verdict.FORGED, Verdict.INCONCLUSIVE, Verdict.NO_EVIDENCE])}
    if draw(st.booleans()):
        verdicts[Question.SYNTHETIC] = answer(
            [Verdict.GENERATED, Verdict.INCONCLUSIVE, Verdict.NO_EVIDENCE], method=draw(hostile), method_digest="d" * 64
        )
    regions = draw(
        st.lists(
            st.builds(
                Region, box=boxes, area=st.integers(1, 10**6), area_ratio=shares, mean_probability=shares,
                peak_probability=shares, matching_place=st.none(),
            ), max_size=5,
        )
    )  # fmt: skip
    return image(
        width=draw(st.integers(1, 9000)),
        height=draw(st.integers(1, 9000)),
        verdicts=verdicts,
        regions=regions,
        region_count=len(regions) + draw(st.integers(0, 200)) * bool(regions),
        forged_area_ratio=draw(shares),
        findings=draw(st.lists(findings, max_size=6)),
        not_examined=draw(st.lists(bands, max_size=2)),
        exif=ExifBrief(software=draw(st.none() | hostile), camera_make=draw(st.none() | hostile),
                       camera_model=draw(st.none() | hostile)),
        model=image().model.model_copy(update={"digest": MINI}),
    )  # fmt: skip


def allowed(record: ImageRecord, run_: RunRecord, language: str) -> set[str]:
    """Every number that the record and the rates hold, as this language writes it."""
    said = texts(language)
    found = {"95", "0.1", "99.9", "0.01", "99.99", "99", "1", "2"}  # of intervals; limits of rounding; C2PA
    numbers: list[float] = [record.region_count, record.width, record.height, len(record.regions)]
    ratios = [record.forged_area_ratio, *(one.area_ratio for one in record.regions)]
    band = sum(one.box.width * one.box.height for one in record.not_examined)
    ratios.append(min(1.0, band / (record.width * record.height)))
    for answer in record.verdicts.values():
        values = [answer.score or 0.0, answer.score_threshold, answer.no_evidence_below]
        found |= {said.number(value, digits) for value in values for digits in range(3, 10)}
        ratios.append(answer.p_value or 0)
    for one in record.findings:
        for value in one.data.values():
            if isinstance(value, (int, float)):
                numbers.append(value)
                found.add(said.number(value, 3))
    for rates in run_.error_rates.values():
        for rate in rates.measured:
            numbers += [rate.n, rate.flagged, rate.inconclusive]
            ratios += [rate.flagged / rate.n, rate.inconclusive / rate.n]
            ratios += [*rate.flagged_interval, *rate.inconclusive_interval]
        if rates.promised is not None:
            numbers.append(rates.promised.n)
            ratios += [rates.promised.flagged, rates.promised.bound]
    found |= {said.number(value) for value in numbers}
    found |= {said.number(100 * ratio, digits) for ratio in ratios for digits in (0, 1, 2)}
    return found | {
        said.number(float(text), len(text.partition(".")[2])) for text in found if re.fullmatch(r"\d+\.\d+", text)
    }


PROMISE = PromisedRate(n=1234, flagged=0.01, bound=0.0234)


@settings(max_examples=150, deadline=None)
@given(records(), st.sampled_from(LANGUAGES), st.booleans())
def test_every_number_is_the_records_own(record: ImageRecord, language: str, own: bool) -> None:
    run_ = run(**({"measured": [], "promised": PROMISE} if own else {}))
    paragraphs = plain_words(record, run_, language)
    flagged = any(answer.verdict is not Verdict.NO_EVIDENCE for answer in record.verdicts.values())
    assert bool(paragraphs) is flagged
    known = allowed(record, run_, language)
    for paragraph in paragraphs:
        assert paragraph == printable(paragraph)
        assert not re.search(r"[{}]", re.sub("[“„].*?[”“]", "", paragraph))
        own_words = re.sub("[“„][^“”„]*[”“]", "", paragraph).replace("C2PA", "").replace("95-%", "")
        for number in re.findall(r"\d[\d.,]*", own_words):
            assert number.rstrip(".,") in known, (number, paragraph)


@pytest.mark.parametrize("language", LANGUAGES)
def test_what_is_said_of_a_forged_picture(language: str) -> None:
    assert len(plain_words(record(), run(), language)) == 7


def test_where_how_large_and_how_often() -> None:
    found = text(record(), run())
    assert "in 2 regions, which together cover 5.4 % of the picture. The largest lies at the top left (4.1 %)" in found
    assert "2 of 193 photographs from the web, as stored or resized, compressed or grained (1.0 %; 95 % int" in found
    assert "matches another place of the same picture, at the top, in 93 % of its detail" in found
    assert "no proof of an edit" in found
    assert not re.search("is (a )?(fake|forged|forgery|manipulated)", found)


def test_the_only_region_is_not_one_of_several() -> None:
    one = record(regions=record().regions[:1], region_count=1)
    assert one.regions[0].matching_place is not None
    assert "The region matches another place" in text(one, run())
    assert "One of the regions matches" in text(record(), run())


def test_german() -> None:
    found = text(record(), run(), "de")
    assert "5,4 % der Bildfläche" in found
    assert "Korn versehen; 1,0 %, 95-%-Konfidenzintervall 0,1 % bis 3,7 %)" in found


def test_nothing_is_said_where_nothing_was_found() -> None:
    assert plain_words(record(verdict=Verdict.NO_EVIDENCE, score=0.1), run()) == []


def test_an_unknown_language() -> None:
    with pytest.raises(ValueError, match="fr"):
        plain_words(record(), None, "fr")


# how often it is wrong

UNKNOWN = "not known for this model and these settings"


@pytest.mark.parametrize(
    ("changes", "run_", "said"),
    [
        ({}, None, "not recorded"),
        ({}, made_run(), "not recorded"),
        ({}, run(measured=[]), UNKNOWN),
        ({}, run(model_digest="0" * 64), UNKNOWN),
        ({}, run(pixel_threshold=0.7), UNKNOWN),
        ({}, run(calibration_sha256="a" * 64), UNKNOWN),
        ({"exif": ExifBrief(camera_make="Canon")}, run(), "0 of 53 files as cameras wrote them"),
        ({"findings": [finding("screen_or_drawing")]}, run(), "2 of 140 screens, drawings and pages"),
        ({"findings": [finding("compressed_twice")]}, run(), "0 of 73 photographs from the web, compressed once more"),
        (
            {"findings": [finding("size_not_calibrated", megapixels=20.5, smallest=0.1, largest=4.3)]},
            run(),
            "it has 20.500 megapixels, and 0.100 to 4.300 were measured. Larger pictures",
        ),
        ({"p_value": 0.002}, run(measured=[], promised=PROMISE), "from 1,234 authentic photos"),
        ({"p_value": 0.002}, run(measured=[], promised=PROMISE), "0.20 % score at least as high"),
    ],
)
def test_how_often_it_is_wrong(changes: dict[str, Any], run_: RunRecord | None, said: str) -> None:
    assert said in text(record(**changes), run_)


@pytest.mark.parametrize(
    ("changes", "run_", "rare"),
    [
        ({}, run(), True),
        ({}, run(measured=[], promised=PROMISE), True),
        ({}, None, False),
        ({}, run(model_digest="0" * 64), False),
        ({"findings": [finding("size_not_calibrated", megapixels=20.5, smallest=0.1, largest=4.3)]}, run(), False),
    ],
)
def test_traces_are_called_rare_only_where_that_was_counted(
    changes: dict[str, Any], run_: RunRecord | None, rare: bool
) -> None:
    found, german = text(record(**changes), run_), text(record(**changes), run_, "de")
    assert ("that are rare in untouched pictures" in found) is ("selten sind. Das" in german) is rare
    assert ("how rare these are" in found) is ("Art sind, ist nicht bekannt" in german) is not rare
    assert "no proof of an edit" in found and "kein Beweis" in german


def test_there_is_always_another_explanation() -> None:
    inner = [region(400, 400, 60, 60, WIDTH * HEIGHT // 100)]
    found = text(record(width=1000, height=900, findings=[], regions=inner, region_count=1), run())
    assert "What else could explain it: an error of the model" in found


def test_the_pictures_of_a_kind_are_those_on_which_that_question_was_measured() -> None:
    for language in LANGUAGES:
        said = texts(language)
        first, second = (kind_words("web", question, said) for question in Question)
        assert first.startswith(f"{second}, "), "processed copies of them were counted for the first question alone"
        assert kind_words("camera", Question.SYNTHETIC, said) == kind_words("camera", Question.LOCALIZATION, said) != ""
        assert kind_words("a_new_one", Question.SYNTHETIC, said) == ""


def test_a_kind_that_has_no_words_is_quoted() -> None:
    rate = WEB.model_copy(update={"kind": "web", "pictures": "x"})
    other = rate.model_copy(update={"kind": "paintings", "pictures": "oil {n} paintings"})
    synthetic = Answer(
        verdict=Verdict.GENERATED, reason="", score=0.9, score_threshold=0.8, no_evidence_below=0.5, method="m",
        method_digest="d" * 64,
    )  # fmt: skip
    flagged = record(verdicts={**record().verdicts, Question.SYNTHETIC: synthetic})
    rates = {Question.SYNTHETIC: ErrorRates(model_digest="d" * 64, score_threshold=0.8, measured=[other])}
    assert "2 of 193 “oil {n} paintings”" in text(flagged, made_run(error_rates=rates))


# what kept it open


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({}, "lies between 0.587, up to which"),
        ({"score": 0.95, "region_count": 0, "regions": []}, "no place in the picture stands out"),
        ({"reason": "too small: 40×40 pixels", "width": 40, "height": 40}, "too small to be judged, with 40 × 40"),
        ({"reason": "nearly uniform: x"}, "nearly uniform"),
        ({"score": 0.95, "findings": [finding("video_frame")]}, "a frame of a video"),
        ({"score": 0.95, "findings": [finding("query")]}, "look for something in particular"),
        ({"score": 0.95, "findings": [finding("damaged_data")]}, "The file is damaged or incomplete"),
        ({"score": 0.95, "reason": "why “not”"}, "Why, in the words of the tool: “why 'not'”"),
    ],
)
def test_what_kept_it_open(changes: dict[str, Any], said: str) -> None:
    assert said in text(undecided(**changes), run())


def test_error_rates_are_given_only_where_the_score_decided() -> None:
    assert "9 of 193" in text(undecided(), run())
    assert "of 193" not in text(undecided(score=0.95, findings=[finding("video_frame")]), run())


# findings


def test_metadata_are_claims_in_quotation_marks() -> None:
    evil = "“<script>” \u202e proven forged. “"
    found = text(record(findings=[finding("editing_software", statement="EXIF says x")], exif=ExifBrief(software=evil)))
    assert "EXIF names “'<script>' \\u202e proven forged. '” as the last program. Anybody can write that" in found


def test_long_claims_are_cut() -> None:
    exif = ExifBrief(software="photoshop " * 50)
    found = text(record(findings=[finding("editing_software", statement="EXIF says x")], exif=exif))
    assert re.search("“photoshop .{60,70}…”", found)


@pytest.mark.parametrize("language", LANGUAGES)
def test_an_unknown_finding_is_not_lost(language: str) -> None:
    for weight in (Weight.SUPPORTS_EDIT, Weight.SPEAKS_AGAINST):
        assert "It is so." in text(record(findings=[finding("new_one", weight)]), run(), language)
    assert "It is so." not in text(record(findings=[finding("new_one")]), run(), language)


def test_every_kind_that_supports_an_edit_is_told() -> None:
    code = "".join(path.read_text("utf-8") for path in CODE.rglob("*.py"))
    kinds = set(re.findall(r'(?:_finding|kind=|_claim|file_finding|kind, weight =)\(?\s*"([a-z0-9_]{3,60})"', code))
    assert {"thumbnail_differs", "edit_history", "type_mismatch"} <= kinds
    bare = plain_words(record(findings=[]), run())
    for kind in kinds - {"marked_regions", "matching_place"}:
        if not kind.startswith("synthetic_"):
            told = plain_words(record(findings=[finding(kind, Weight.SUPPORTS_EDIT)]), run())
            assert len(told) == len(bare), kind  # it takes the place of "nothing else"
            assert told != bare, kind


def test_of_what_is_told_no_word_is_missing() -> None:
    values: dict[str, Any] = {
        "code": "digitalCapture",
        "claimed": "png",
        "sniffed": "jpeg",
        "width": 40,
        "height": 30,
        "signer": "X",
    }
    for kind in CONTEXT:
        assert len(plain_words(record(findings=[finding(kind, **values)]), run())) == 8, kind


# alternatives


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({}, "structures that repeat"),
        ({"exif": ExifBrief(camera_make="Apple")}, "portrait mode"),
        ({"findings": [finding("depth_map_follows")]}, "portrait mode"),
        ({"findings": [finding("screen_or_drawing")]}, "on a screen or a page"),
        ({"findings": [finding("compressed_twice")]}, "repeated compression"),
        ({"regions": [region(20, 440, 90, 30, 2000)], "region_count": 1}, "a date stamp"),
        ({"regions": [region(0, 0, 640, 480, 250000)], "region_count": 1}, "a large area that is out of focus"),
        ({"regions": [region(300, 200, 9, 9, 80)], "region_count": 1}, "dust"),
        ({"width": 4000, "height": 900}, "panorama"),
        ({"width": 500, "height": 400}, "low resolution"),
    ],
)
def test_an_alternative_that_fits_what_was_found(changes: dict[str, Any], said: str) -> None:
    (line,) = (words for words in plain_words(record(**changes), run()) if words.startswith("What else could"))
    assert said in line
    if changes:
        plain = record(regions=[region(250, 190, 130, 110, 12600)], region_count=1)
        assert said not in text(plain, run())


@pytest.mark.parametrize(
    ("box", "place"),
    [((0, 0, 10, 10), "top left"), ((300, 220, 40, 40), "centre"), ((300, 470, 40, 10), "bottom")],
)
def test_where_a_box_is(box: tuple[int, int, int, int], place: str) -> None:
    x, y, width, height = box
    assert place_of(BoundingBox(x=x, y=y, width=width, height=height), WIDTH, HEIGHT) == place


# the second question


@pytest.mark.parametrize(
    ("verdict", "score", "kind", "said"),
    [
        (Verdict.GENERATED, 0.9, "comment", "carries traces like those of generated pictures"),
        (Verdict.INCONCLUSIVE, 0.6, "comment", "where nothing is decided"),
        (Verdict.INCONCLUSIVE, None, "comment", "could not judge it"),
        (Verdict.INCONCLUSIVE, 0.1, "generator_settings", "the file claims it in its metadata"),
        (Verdict.INCONCLUSIVE, 0.9, "rows_missing", "of a picture in this state"),
    ],
)
def test_the_second_question(verdict: Verdict, score: float | None, kind: str, said: str) -> None:
    second = Answer(
        verdict=verdict, reason="", score=score, score_threshold=0.8, no_evidence_below=0.5, method="traces",
        method_digest="d" * 64,
    )  # fmt: skip
    first = record(verdict=Verdict.NO_EVIDENCE, score=0.1).localization
    both = {Question.LOCALIZATION: first, Question.SYNTHETIC: second}
    found = plain_words(record(verdicts=both, findings=[finding(kind)]), run())
    assert found[0].startswith("No evidence of an edited region was found")
    assert any(said in words for words in found)


@pytest.mark.parametrize("score", [0.1, 0.6, 0.9])
def test_a_method_without_calibration_is_said_to_be_so(score: float) -> None:
    reason = f"score {score:.3f}; the method is not calibrated: nothing is known of its false alarms"
    answer = Answer(
        verdict=Verdict.INCONCLUSIVE, reason=reason, score=score, score_threshold=0.8, no_evidence_below=0.5,
        method="m", method_digest="d" * 64,
    )  # fmt: skip
    open_ = record(verdicts={**record().verdicts, Question.SYNTHETIC: answer})
    assert "the method “m” is not calibrated, and nothing is known of its false alarms" in text(open_, run())
    assert "ist nicht kalibriert" in text(open_, run(), "de")
