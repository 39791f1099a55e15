"""The check of a generated text: honest paragraphs pass, and lies of every kind do not.

The files hold a text a line, behind F (the forged record), U (the inconclusive one) or FU (either); JSON's escapes.
"""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest
from hypothesis import given as drawn
from hypothesis import strategies as st

from clue_cli.explaining.check import LONGEST, refusals, sentences
from clue_cli.explaining.given import Box, given
from clue_cli.explaining.place import fits
from clue_cli.records import Finding, Origin
from tests.clue_cli.explaining.made_records import HEIGHT, WIDTH, record, truth, undecided, with_card

with with_card():
    KNOWN = {"F": given(record(), None), "U": given(undecided(), None)}
VERDICT = {"F": "The verdict is forged. ", "U": "The verdict is inconclusive. "}
FORGED = KNOWN["F"]


def texts(name: str) -> list[tuple[str, str]]:
    lines = Path(__file__).with_name(name).read_text("utf-8").splitlines()
    split = (line.split("|", 1) for line in lines)
    return [(one, json.loads(f'"{text}"')) for which, text in split for one in which]


@pytest.mark.parametrize("which", KNOWN)
def test_the_truth_passes(which):
    known = KNOWN[which]
    assert refusals(truth(record() if which == "F" else undecided()), known) == []
    assert refusals(VERDICT[which].strip(), known) == []
    assert refusals(" ".join(known.sentences), known) == [], "each fact may be repeated"


def test_honest_paragraphs_pass():
    assert [(text, why) for which, text in texts("honest.txt") if (why := refusals(text, KNOWN[which]))] == []


def test_a_lie_is_refused():
    assert [text for which, text in texts("lies.txt") if not refusals(VERDICT[which] + text, KNOWN[which])] == []


def test_no_text_and_a_long_one_are_refused():
    assert refusals(" \n", FORGED) == ["it is empty"]
    assert refusals("9" * (LONGEST + 1), FORGED) == [f"it has more than {LONGEST:,} characters"]


def test_a_text_names_the_verdict_and_says_nothing_twice():
    assert refusals("Region 1 shows a car.", FORGED) == ["it does not name the verdict"]
    assert refusals("Of 193 untouched pictures 1.0% were called forged.", FORGED) == ["it does not name the verdict"]
    assert refusals("The verdict is forged. The verdict is forged.", FORGED) == [
        "it says twice: “the verdict is forged”"
    ]


def test_a_finding_may_be_repeated_where_it_was_found():
    found = [Finding(kind="edit_history", source=Origin.METADATA, statement="x", data={"steps": 7})]
    known = given(record(findings=found), None)
    text = "The verdict is forged. A finding in the metadata: edit history, steps 7."
    assert refusals(text, known) == []
    assert refusals(text, FORGED) and refusals(text.replace("7", "8"), known)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("The confidence is 99 %.", "“99 %” is not the confidence: 0.93"),
        ("Region 7 is marked.", "“region 7”: there is no such region among those that were given"),
        ("Region 2 lies at the top left.", "“top left” does not fit region 2"),
        ("Region 1 shows a unicorn.", "“unicorn” is no statement of a known form"),
        ("Region 2 matches another place.", "“matches another place” is not true of this record"),
        ("Of 53 made forgeries 36.9% were called forged.", "is not an error rate that was given"),
        ("It is \u0430 car.", "U+0430 CYRILLIC SMALL LETTER A"),
    ],
)
def test_a_reason_names_the_claim(text, reason):
    assert reason in refusals(VERDICT["F"] + text, FORGED)[0]


@pytest.mark.parametrize(
    "part", ["9", "9 ", "a, ", "region 1, ", "the verdict is forged and ", "(", "region 1 shows a car and ", "of 53 "]
)
def test_a_check_takes_no_time(part):
    begun = time.perf_counter()
    refusals(part * (LONGEST // len(part)), FORGED)
    assert time.perf_counter() - begun < 1


@drawn(st.floats(0, 1), st.integers(0, 4))
def test_a_score_passes_as_its_own_rounding_only(number, digits):
    text = f"The verdict is forged. The score is {number:.{digits}f}."
    assert (refusals(text, FORGED) == []) == (
        abs(round(number, digits) - 0.912) <= 0.5 * 10**-digits + 1e-9 and round(number, digits) not in (0, 1)
    )


@drawn(st.text(max_size=200))
def test_any_text_gets_an_answer(text):
    assert isinstance(refusals(text, FORGED), list)
    assert all(sentences(text))


@pytest.mark.parametrize(
    ("words", "box", "fit"),
    [
        ("top left", Box(0, 0, 10, 10), True),
        ("top right", Box(0, 0, 10, 10), False),
        ("upper-left corner", Box(0, 0, 10, 10), True),
        ("corner", Box(300, 0, 20, 20), False),
        ("centre", Box(300, 220, 40, 40), True),
        ("centre", Box(0, 0, WIDTH, HEIGHT), True),
        ("centre", Box(0, 0, 100, 100), False),
        ("middle left", Box(0, 220, 40, 40), True),
        ("bottom edge", Box(300, 440, 40, 40), True),
        ("edge", Box(300, 220, 40, 40), False),
    ],
)
def test_a_position_is_that_of_the_middle_of_a_box(words, box, fit):
    assert fits(words, box, WIDTH, HEIGHT) == fit
