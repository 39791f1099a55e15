"""Sentences of records, which are English, in another language: those of known form are composed again from it.

A form is a template under `report.statements`. What an English sentence holds where its template has a placeholder is
put into the other language's; a sentence that fits no template whole is quoted as it was written, and said to be so.
"""

from __future__ import annotations

import re
from functools import cache
from typing import Any

from clue_cli.texts import Texts, texts

_SECTION = "report.statements."
_PLACEHOLDER = re.compile(r"\{([a-z_]+)\}")
_FORMS = {
    "text": r"[^\n]{1,400}",
    "word": r"[\w.+-]{1,40}",
    "time": r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d",
    "colour": r"4:\d:\d",
}
"""What may stand in the place of a placeholder whose name begins so; a number in any other."""
_NUMBER = r"\d[\d,]*(?:\.\d+)?(?:e[+-]?\d+)?"
_LONGEST = 2000
"""Characters; a longer sentence has no known form."""


def translated(sentence: str, to: Texts, quoting: str = "format.original") -> str | dict[str, Any]:
    """The sentence in a language, or itself in quotation marks, said and marked to be English.

    Args:
        quoting: the template of the quotation.
    """
    composed = sentence if to.language == "en" else _composed(sentence, to)
    if composed is not None:
        return composed
    before, after = to.templates[quoting].split("{text}")
    return {"text": sentence, "language": "en", "before": before, "after": after}


def worded(sentence: str, to: Texts) -> str:
    """`translated` within another sentence."""
    said = translated(sentence, to)
    return said if isinstance(said, str) else to("format.original", text=said["text"])


def _composed(sentence: str, to: Texts) -> str | None:
    if len(sentence) > _LONGEST:
        return None
    for key, form in _forms():
        if match := form.fullmatch(sentence):
            return to(key, **{name: _value(name, value, to) for name, value in match.groupdict().items()})
    return None


@cache
def _forms() -> tuple[tuple[str, re.Pattern[str]], ...]:
    """Each English template as an expression with its placeholders as groups."""
    found = []
    for key, template in texts("en").templates.items():
        if key.startswith(_SECTION):
            parts = _PLACEHOLDER.split(template)
            pattern = "".join(
                f"(?P<{part}>{_FORMS.get(part.split('_')[0], _NUMBER)})" if number % 2 else re.escape(part)
                for number, part in enumerate(parts)
            )
            found.append((key, re.compile(pattern)))
    return tuple(found)


def _value(name: str, value: str, to: Texts) -> str:
    """A value as the language writes it: a number with its comma, all else as it is."""
    kind = name.split("_")[0]
    if kind in _FORMS:
        return value
    if "e" in value or "." not in value:
        return value.replace(",", to.number(1000)[1]) if "," in value else value
    whole, decimals = value.replace(",", "").split(".")
    return to.number(float(f"{whole}.{decimals}"), len(decimals))
