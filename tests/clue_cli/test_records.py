"""Records: answers by question, and what earlier schemas are read as."""

from __future__ import annotations

import json
from typing import Any

import pytest
from pydantic import ValidationError

from clue_cli.records import (
    RECORD,
    SCHEMA_VERSION,
    Answer,
    FailureRecord,
    ImageRecord,
    Origin,
    Question,
    Verdict,
    Weight,
)
from tests.clue_cli.results.made import failure, first_schema, image


def test_a_record_comes_back_from_its_json_as_it_was() -> None:
    record = image()
    assert RECORD.validate_json(record.model_dump_json()) == record


def second(verdict: Verdict, **changes: Any) -> Answer:
    fields: dict[str, Any] = {
        "verdict": verdict,
        "reason": "r",
        "score": 0.9,
        "score_threshold": 0.8,
        "no_evidence_below": 0.3,
        "method": "traces",
        "method_digest": "7e" * 32,
        "parts": {"early": 0.5},
    }
    return Answer(**{**fields, **changes})


def with_second(answer: Answer) -> str:
    record = image(verdict=Verdict.NO_EVIDENCE, score=0.1)
    content = json.loads(record.model_dump_json())
    content["verdicts"]["synthetic"] = json.loads(answer.model_dump_json())
    return json.dumps(content)


def test_two_answers_are_never_mixed() -> None:
    record = RECORD.validate_json(with_second(second(Verdict.GENERATED)))
    assert isinstance(record, ImageRecord) and record.synthetic is not None
    assert (record.verdict, record.score, record.not_asked) == (Verdict.NO_EVIDENCE, 0.1, [])
    assert (record.synthetic.verdict, record.synthetic.parts) == (Verdict.GENERATED, {"early": 0.5})
    assert RECORD.validate_json(record.model_dump_json()) == record
    assert image().not_asked == [Question.SYNTHETIC] and image().synthetic is None


@pytest.mark.parametrize(
    "answer",
    [second(Verdict.FORGED), second(Verdict.GENERATED, method=None), second(Verdict.GENERATED, method_digest=None)],
)
def test_what_is_no_answer_to_the_second_question_is_refused(answer: Answer) -> None:
    with pytest.raises(ValidationError):
        RECORD.validate_json(with_second(answer))


@pytest.mark.parametrize(
    "answers", [{"synthetic": second(Verdict.GENERATED)}, {"localization": second(Verdict.GENERATED)}]
)
def test_the_first_question_is_always_answered_with_its_own_words(answers: dict[str, Answer]) -> None:
    content = json.loads(image().model_dump_json())
    content["verdicts"] = {name: json.loads(answer.model_dump_json()) for name, answer in answers.items()}
    with pytest.raises(ValidationError):
        RECORD.validate_json(json.dumps(content))


def test_an_answer_without_a_score_is_one_to_the_second_question_only() -> None:
    assert RECORD.validate_json(with_second(second(Verdict.INCONCLUSIVE, score=None)))
    content = json.loads(image().model_dump_json())
    content["verdicts"]["localization"]["score"] = None
    with pytest.raises(ValidationError):
        RECORD.validate_json(json.dumps(content))


def test_a_record_of_schema_2_1_is_read_as_one_of_which_the_second_question_was_not_asked() -> None:
    content = json.loads(image().model_dump_json()) | {"schema_version": "2.1"}
    del content["not_asked"]
    for name in ("method", "method_digest", "calibration", "parts"):
        del content["verdicts"]["localization"][name]
    for name in ("synthetic_heatmap", "synthetic_overlay"):
        del content["outputs"][name]
    read = RECORD.validate_json(json.dumps(content))
    assert isinstance(read, ImageRecord) and read.not_asked == [Question.SYNTHETIC]
    assert read.model_copy(update={"schema_version": SCHEMA_VERSION}) == image()


def test_the_headline_is_the_answer_to_the_first_question() -> None:
    record = image(verdict=Verdict.INCONCLUSIVE, score=0.4, reason="Too small.", confidence=None)
    written = json.loads(record.model_dump_json())
    assert {name: written[name] for name in ("verdict", "score", "reason", "confidence")} == {
        "verdict": "inconclusive",
        "score": 0.4,
        "reason": "Too small.",
        "confidence": None,
    }
    assert written["verdicts"]["localization"]["verdict"] == "inconclusive"


@pytest.mark.parametrize("version", ["1.0", "1.1", "1.2"])
def test_a_record_of_schema_1_is_read_as_one_of_today(version: str) -> None:
    read = RECORD.validate_json(
        json.dumps(first_schema(image(score=0.875, p_value=0.25), version) | {"warnings": ["The name says png."]})
    )
    assert isinstance(read, ImageRecord)
    assert read.schema_version == SCHEMA_VERSION
    answer = read.verdicts[Question.LOCALIZATION]
    assert (answer.verdict, answer.score, answer.p_value) == (Verdict.FORGED, 0.875, 0.25)
    (finding,) = read.findings
    assert (finding.source, finding.weight) == (Origin.FILE, Weight.INFORMATION)
    assert finding.statement == "The name says png."
    assert RECORD.validate_json(read.model_dump_json()) == read


def test_a_failure_of_schema_1_equals_the_same_failure_of_today() -> None:
    old = json.loads(failure().model_dump_json()) | {"schema_version": "1.2"}
    read = RECORD.validate_json(json.dumps(old))
    assert isinstance(read, FailureRecord)
    assert read == failure()


@pytest.mark.parametrize(
    "broken",
    [{"score": 2}, {"verdict": "authentic"}, {"unheard_of": 1}, {"warnings": 5}, {"warnings": None}, {"page": 10**30}],
)
def test_a_broken_record_of_schema_1_is_refused(broken: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        RECORD.validate_json(json.dumps(first_schema(image()) | broken))


def test_a_record_without_an_answer_is_refused() -> None:
    with pytest.raises(ValidationError):
        image().model_validate(json.loads(image().model_dump_json()) | {"verdicts": {}})


def test_an_answer_needs_its_thresholds() -> None:
    with pytest.raises(ValidationError):
        Answer(verdict=Verdict.FORGED, reason="", score=0.5)  # type: ignore[call-arg]


@pytest.mark.parametrize("seconds", ["1e999", "NaN"])
def test_a_number_that_is_not_finite_is_refused(seconds: str) -> None:
    content = image().model_dump_json().replace('"read":0.1', f'"read":{seconds}')
    with pytest.raises(ValidationError):
        RECORD.validate_json(content)
