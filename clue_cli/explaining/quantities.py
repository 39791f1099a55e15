"""Numbers as people and language models write them, brought to one form: digits."""

from __future__ import annotations

import re
import unicodedata
from typing import Final

_UNITS: Final = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
_TEENS: Final = (
    *("ten", "eleven", "twelve", "thirteen", "fourteen", "fifteen", "sixteen"),
    *("seventeen", "eighteen", "nineteen"),
)
_TENS: Final = ("twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety")
_ORDINALS: Final = (
    *("first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth", "ninth", "tenth", "eleventh"),
    *("twelfth", "thirteenth", "fourteenth", "fifteenth", "sixteenth", "seventeenth", "eighteenth", "nineteenth"),
    "twentieth",
)
_VALUES: Final = {
    **{word: value for value, word in enumerate((*_UNITS, *_TEENS))},
    **{word: 10 * value for value, word in enumerate(_TENS, 2)},
    "a": 1,
}
_SCALES: Final = {"hundred": 100, "thousand": 1000, "million": 1_000_000}

_UNIT = "|".join(_UNITS)
_SMALL = rf"(?:(?:{'|'.join(_TENS)})(?:[ -](?:{_UNIT}))?|{'|'.join(_TEENS)}|{_UNIT})"
_HUNDREDS = rf"(?:(?:{_SMALL}|a)[ -]hundred(?:[ -](?:and[ -])?{_SMALL})?|{_SMALL})"
_THOUSANDS = rf"(?:(?:{_HUNDREDS}|a)[ -](?:thousand|million)(?:[ -](?:and[ -])?{_HUNDREDS})?|{_HUNDREDS})"
_SPELLED = re.compile(rf"\b({_THOUSANDS})(?: point((?: (?:{_UNIT}))+))?\b")
_PRONOUN = re.compile(
    r"(?:\b(?:this|that|the|which|no|any|each|every|another|other|such|\d+(?:st|nd|rd|th)|(?:larg|small|strong|weak)e(?:r|st))"
    r"[ -]one\b(?! (?:of (?!the|them|these)|hundred|thousand|percent|per|%|region|area)))"
    r"|\bone (?:of (?:the|them|these)|may|or the other|another)\b"
)
_FRACTIONS: Final = {
    **{"half": 2, "halve": 2, "third": 3, "quarter": 4, "fourth": 4, "fifth": 5, "sixth": 6, "seventh": 7},
    **{"eighth": 8, "ninth": 9, "tenth": 10, "twentieth": 20, "hundredth": 100, "thousandth": 1000},
}
_FRACTION = re.compile(
    rf"(?:\b(a|an|{_UNIT}|\d+)[ -])?\b({'|'.join(_FRACTIONS)})s?\b(?! (?:(?:larg|small|strong|weak)est )?(?:\w+ )?"
    r"(?:region|area|place|patch|spot|one)\b)"
)
_DASHES = dict.fromkeys(map(ord, "‐‑‒–—―−"), "-")
_QUOTES = {**dict.fromkeys(map(ord, "‘’‚‛ʼ"), "'"), **dict.fromkeys(map(ord, "“”„‟«»"), '"')}

NUMBER = r"(?:\d{1,3}(?:[ ,']\d{3})+(?![\d,])|\d+)(?:[.,]\d+)?|\.\d+"
"""A number in digits, of a text that `in_digits` gave; `value_of` reads it."""
FRACTION = "fraction"
"""Stands right behind a number that was a fraction in words."""


def plain(text: str) -> str:
    """The text in the compatibility form of Unicode, with plain dashes and quotes, its lines joined.

    A word that a hyphen at the end of a line divides is put together. Digits of other scripts become ASCII's.
    """
    text = unicodedata.normalize("NFKC", text).translate(_DASHES | _QUOTES).replace("\N{FRACTION SLASH}", "/")
    text = "".join(str(unicodedata.decimal(character)) if character.isdecimal() else character for character in text)
    text = re.sub(r"(?<=[^\W\d])-\s*[\r\n]\s*(?=[^\W\d])", "", text)
    return " ".join(text.split())


def in_digits(text: str) -> str:
    """A plain text in lower case with its numbers in digits: `two` as 2, `first` as 1st, `a third` as 0.3333fraction.

    `one` stays where it is a pronoun.
    """
    text = text.casefold()
    text = re.sub(r"\bper ?cent(?:age)?\b|\bpercent(?:age)?\b|\bpct\b", "%", text)
    text = _FRACTION.sub(_fraction, text)
    for value, word in enumerate(_ORDINALS, 1):
        text = re.sub(rf"\b{word}(?:ly)?\b", f"{value}{_suffix(value)}", text)
    text = re.sub(rf"\b(?:({'|'.join(_TENS)})-(\d)(st|nd|rd|th))\b", _compound, text)
    pronouns = [match.span() for match in _PRONOUN.finditer(text)]

    def replaced(match: re.Match[str]) -> str:
        if match[0] == "one" and any(start <= match.start() < end for start, end in pronouns):
            return match[0]
        decimals = "".join(str(_VALUES[word]) for word in (match[2] or "").split())
        return f"{_value(match[1])}{'.' if decimals else ''}{decimals}"

    text = _SPELLED.sub(replaced, text)
    text = re.sub(r"\b(?:a )?dozen\b", "12", text)
    return re.sub(r"\b(\d+)(?: ?/ ?)(\d+)\b", _ratio, text)


def value_of(number: str) -> tuple[float, int]:
    """The value of a number in digits, and its decimals; a comma before three digits separates thousands."""
    number = number.replace(" ", "").replace("'", "")
    if re.fullmatch(r"\d{1,3}(?:,\d{3})+(?:\.\d+)?", number):
        number = number.replace(",", "")
    number = number.replace(",", ".")
    return float(number), len(number.partition(".")[2])


def _value(words: str) -> int:
    total = current = 0
    for word in re.split(r"[ -]", words):
        if word in _SCALES:
            scale = _SCALES[word]
            total, current = (total, max(current, 1) * scale) if scale == 100 else (total + current * scale, 0)
        elif word != "and":
            current += _VALUES[word]
    return total + current


def _fraction(match: re.Match[str]) -> str:
    count, whole = match[1], _FRACTIONS[match[2]]
    if count is None and whole not in (2, 4):
        return match[0]  # an ordinal
    number = 1 if count in (None, "a", "an") else int(count) if count.isdigit() else _VALUES[count]
    return f"{number / whole:.4f}{FRACTION}"


def _compound(match: re.Match[str]) -> str:
    return f"{_VALUES[match[1]] + int(match[2])}{match[3]}"


def _ratio(match: re.Match[str]) -> str:
    return f"{int(match[1]) / int(match[2]):.4f}{FRACTION}" if int(match[2]) else match[0]


def _suffix(value: int) -> str:
    return {1: "st", 2: "nd", 3: "rd"}.get(value, "th")
