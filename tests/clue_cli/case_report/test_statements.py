"""Sentences of records in German: composed again where the form is known, and quoted whole where it is not."""

from __future__ import annotations

import string

import pytest

from clue_cli.case_report.statements import translated, worded
from clue_cli.texts import LANGUAGES, texts


@pytest.mark.parametrize(
    ("english", "german"),
    [
        ("3 regions are marked, 17.02% of the picture.", "3 Bereiche sind markiert, 17,02 % des Bildes."),
        ("score 0.900 is above the threshold 0.846", "Score 0,900 liegt über dem Schwellenwert 0,846"),
        (
            "Region 1 matches another place of the picture, 32×264 pixels at 301, 139. Repeated structures match "
            "without an edit.",
            "Bereich 1 gleicht einer anderen Stelle des Bildes, 32×264 Pixel bei 301, 139. Wiederkehrende Strukturen "
            "gleichen sich auch ohne Bearbeitung.",
        ),
        (
            "The file is on the alert list {0} a.txt.",
            "Die Datei steht auf der Alarmliste {0} a.txt.",
        ),
    ],
)
def test_a_known_form_is_composed_again(english: str, german: str) -> None:
    assert translated(english, texts("de")) == german
    assert translated(english, texts("en")) == english


@pytest.mark.parametrize(
    "sentence",
    [
        "3 regions are marked, 17.02% of the picture. And more.",
        "Many regions are marked, 17.02% of the picture.",
        "score 0.900 is above the threshold 0.846\n",
        "The name says <b>, the content is png.",
        "x" * 100_000,
    ],
)
def test_any_other_is_quoted_as_english(sentence: str) -> None:
    said = translated(sentence, texts("de"))
    assert isinstance(said, dict)
    assert (said["text"], said["language"], said["before"]) == (sentence, "en", "„")
    assert said["after"] == "“ (im englischen Wortlaut des Programms)"
    assert worded(sentence, texts("de")) == f"„{sentence}{said['after']}"


def test_languages_have_the_same_texts_and_placeholders() -> None:
    def placeholders(template: str) -> set[str]:
        return {name for _, name, _, _ in string.Formatter().parse(template) if name}

    english = texts("en").templates
    for language in LANGUAGES:
        others = texts(language).templates
        assert others.keys() == english.keys()
        assert [key for key in english if placeholders(english[key]) != placeholders(others[key])] == []
        assert [key for key in english if key.startswith("report.") and not others[key] and english[key]] == []
