"""What may be concluded from a verdict is said in the same words everywhere."""

from __future__ import annotations

from pathlib import Path

import pytest

from clue_cli.records import Verdict
from model.synthetic.verdict import MEANING as SYNTHETIC
from model.verdict import MEANING

ROOT = Path(__file__).parents[1]


def test_every_verdict_has_a_meaning() -> None:
    assert set(MEANING) | set(SYNTHETIC) == {verdict.value for verdict in Verdict}


def test_the_readme_says_what_the_second_answers_mean() -> None:
    text = " ".join((ROOT / "README.md").read_text(encoding="utf-8").split())
    assert [word for word, sentence in SYNTHETIC.items() if sentence not in text] == []


@pytest.mark.parametrize("path", ["README.md", "model/weights/MODEL_CARD.md"])
def test_it_is_said_in_these_words(path: str) -> None:
    text = " ".join((ROOT / path).read_text(encoding="utf-8").split())
    assert [word for word, sentence in MEANING.items() if sentence not in text] == []
