"""The sentences that clue composes for people, in each language that it speaks.

`en.yaml` and `de.yaml` hold the same keys, in sections by subject, with the same named placeholders. What fills a
placeholder is never read as a template, so names and metadata of the evidence may hold braces.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

LANGUAGES = ("en", "de")
"""Languages by their code of ISO 639-1."""

_DECIMAL = {"en": ".", "de": ","}
_THOUSANDS = {"en": ",", "de": "."}
_FOLDER = Path(__file__).parent


@dataclass(frozen=True, slots=True)
class Texts:
    """The texts of one language.

    Attributes:
        language: one of `LANGUAGES`.
        templates: by key, the names of sections and texts joined by dots, such as `plain_words.meaning.forged`.
    """

    language: str
    templates: dict[str, str] = field(repr=False)

    def __contains__(self, key: str) -> bool:
        return key in self.templates

    def __call__(self, key: str, /, **values: object) -> str:
        """The text with this key, its placeholders filled.

        Raises:
            KeyError: there is no such text, or a placeholder of it has no value.
        """
        return self.templates[key].format_map(values)

    def counted(self, key: str, n: int, /, **values: object) -> str:
        """`key.one` if n is 1, else `key.other`; the placeholder `n` is the number."""
        return self(f"{key}.{'one' if n == 1 else 'other'}", n=self.number(n), **values)

    def number(self, value: float, digits: int = 0) -> str:
        """A number with this many decimals, as the language writes it: `1,234.5` and `1.234,5`."""
        text = f"{value:,.{digits}f}"
        return text.translate({ord(","): _THOUSANDS[self.language], ord("."): _DECIMAL[self.language]})

    def percent(self, share: float, digits: int = 1) -> str:
        """A share from 0 to 1 in percent; one that is neither 0 nor 1 is not rounded to them."""
        smallest = 10.0 ** -(digits + 2)
        if 0 < share < smallest:
            return self("format.less_than", percent=self.number(100 * smallest, digits))
        if 1 - smallest < share < 1:
            return self("format.more_than", percent=self.number(100 - 100 * smallest, digits))
        return self("format.percent", percent=self.number(100 * share, 0 if share in (0, 1) else digits))

    def listed(self, words: list[str]) -> str:
        """`a`, `a and b`, `a, b and c`."""
        if len(words) < 2:
            return "".join(words)
        return self("format.and", first=", ".join(words[:-1]), last=words[-1])


@cache
def texts(language: str) -> Texts:
    """The texts of a language, read when they are first asked for.

    Raises:
        ValueError: clue does not speak it.
    """
    if language not in LANGUAGES:
        raise ValueError(f"clue has no texts in {language!r}, only in {', '.join(LANGUAGES)}")
    import yaml

    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # ten times as fast, where it was built
    content = yaml.load((_FOLDER / f"{language}.yaml").read_text("utf-8"), loader)
    return Texts(language, dict(_flat(content)))


def _flat(content: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    for name, value in content.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", str(value)
