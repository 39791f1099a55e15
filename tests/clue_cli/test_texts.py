"""The sentences in all languages: the same keys, the same placeholders, none that nothing uses."""

from __future__ import annotations

import re
import string
from pathlib import Path

import pytest

from clue_cli.texts import LANGUAGES, texts
from model.verdict import MEANING

CODE = Path(__file__).parents[2] / "clue_cli"
ENGLISH = texts("en")

COMPOSED = (
    "marked_regions", "screen_score", "size_not_calibrated_larger", "tables_other", "rows_missing", "size_cropped",
    "size_reduced", "changed_before", "screen_uniform", "part_missing", "method_failed_", "not_judged_",
)  # fmt: skip
"""Forms of sentences that the code puts together from parts."""


def placeholders(template: str) -> set[str]:
    return {name for _, name, _, _ in string.Formatter().parse(template) if name is not None}


@pytest.mark.parametrize("language", LANGUAGES)
def test_all_languages_say_the_same(language: str) -> None:
    other = texts(language)
    assert list(other.templates) == list(ENGLISH.templates)
    for key, template in ENGLISH.templates.items():
        assert placeholders(other.templates[key]) == placeholders(template), key
        assert all(name.isidentifier() for name in placeholders(template)), key
        assert other.templates[key].strip()


def test_no_text_is_unused() -> None:
    code = "".join(path.read_text("utf-8") for path in CODE.rglob("*") if path.suffix in (".py", ".j2"))
    rates = (CODE.parent / "model/weights/mini/error_rates.yaml").read_text("utf-8")
    for key in ENGLISH.templates:
        if key.startswith("report.statements."):
            continue  # forms of sentences, which are found by their section
        name = key.removesuffix(".one").removesuffix(".other").rpartition(".")[2]
        parts = name.split("_") if name.startswith(("wide_", "tall_", "top_", "bottom_")) else [name]
        assert all(part in code or part in rates for part in parts), key


def test_a_form_is_of_a_sentence_that_is_written() -> None:
    folders = (CODE, CODE.parent / "model")
    code = "".join(path.read_text("utf-8") for folder in folders for path in folder.rglob("*") if path.suffix == ".py")
    code += "".join(path.read_text("utf-8") for path in (CODE.parent / "model/weights").rglob("*.yaml"))
    code = re.sub(r'"\s*f?"', "", code)
    for key, template in ENGLISH.templates.items():
        form = key.removeprefix("report.statements.")
        if form != key and not form.startswith(COMPOSED):
            words = max(re.split(r"\{\w+\}", template), key=len)
            assert words in code, key


def test_an_unknown_language() -> None:
    with pytest.raises(ValueError, match="'fr', only in en, de"):
        texts("fr")


def test_values_are_no_templates() -> None:
    assert ENGLISH("format.claim", text="{0.__class__} {n}") == "“{0.__class__} {n}”"


def test_numbers_as_the_language_writes_them() -> None:
    assert (ENGLISH.number(1234.5, 1), texts("de").number(1234.5, 1)) == ("1,234.5", "1.234,5")


@pytest.mark.parametrize(
    ("share", "shown"),
    [(0, "0 %"), (1, "100 %"), (0.0004, "less than 0.1 %"), (0.9999, "more than 99.9 %"), (0.0123, "1.2 %")],
)
def test_a_share_is_not_rounded_to_none_or_all(share: float, shown: str) -> None:
    assert ENGLISH.percent(share) == shown


def test_a_list() -> None:
    assert [ENGLISH.listed(words) for words in ([], ["a"], ["a", "b", "c"])] == ["", "a", "a, b and c"]


def test_what_may_be_concluded_is_said_in_the_same_words() -> None:
    assert {word: ENGLISH(f"plain_words.meaning.{word}") for word in ("forged", "inconclusive")} == {
        word: MEANING[word] for word in ("forged", "inconclusive")
    }
