"""Which words an explanation may use, and when: rules over one sentence in lower case, numbers in digits.

The words are in `words.yaml`. The rules are strict on purpose: what they do not understand is refused. They read
English only. A sentence either keeps to a closed vocabulary and to the words of the facts, or says what the picture
shows and then nothing of the verdict.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from importlib.resources import files
from typing import Any

import yaml

from clue_cli.explaining.given import Given
from clue_cli.explaining.quantities import in_digits, plain
from model.verdict import MEANING

_WORDS: dict[str, Any] = yaml.safe_load(files(__package__).joinpath("words.yaml").read_text("utf-8"))


def _any_of(words: Iterable[str]) -> str:
    return f"(?:{'|'.join(words)})"


def _whole(words: Iterable[str]) -> re.Pattern[str]:
    return re.compile(rf"\b{_any_of(words)}\b")


_EDIT = _any_of(_WORDS["edit"])
_EDITED = _whole(_WORDS["edit"])
_REFUSED = {name: _whole(words) for name, words in _WORDS["refused"].items()}
_NAMED = {name: (_whole(entry["words"]), frozenset(entry["kinds"])) for name, entry in _WORDS["findings"].items()}
_CAVEATS = {
    verdict: re.compile(_any_of(phrase.replace("EDIT", _EDIT) for phrase in phrases))
    for verdict, phrases in _WORDS["caveats"].items()
}
_MEANING = {verdict: in_digits(plain(meaning)).rstrip(".") for verdict, meaning in MEANING.items()}
_OPENERS, _VOCABULARY = frozenset(_WORDS["openers"]), frozenset(_WORDS["vocabulary"])
_NOT = re.compile(
    r"\b(?:not?|never|none|nothing|neither|nor|without|hardly|barely|unlikely|cannot|free of|lacks?)\b|n't\b"
)
_UNDECIDED = re.compile(
    r"\binconclusive|\bno[ _]evidence|\btoo (?:weak|small)|\bundecided|\bnothing (?:was |is |can be )?(?:found|said)"
)
MEASURED = re.compile(r"\b(?:untouched|held-out|such) (?:pictures|photos|photographs|images|files)\b|\bforgeries\b")
"""What the error rates were measured on."""
_RATES = re.compile(
    r"\b(?:(?:wrongly |still )?(?:called|judged) (?:forged|inconclusive)(?: by mistake)?"
    r"|untouched (?=pictures|photos|photographs|images|files)"
    r"|(?:of|among) (?:the )?(?:\d[\d,]* )?(?:made |held-out )*forgeries)\b"
)

NEVER_SPLIT = (
    "authentic",
    "genuine",
    "unaltered",
    "untouched",
    "unedited",
    "photoshop",
    "deepfake",
    "fraud",
    "criminal",
)
"""Refused even where blanks or other characters are put between their letters."""


def without_caveats(sentence: str, known: Given) -> str:
    """The sentence without what may always be said: what the verdict means, and that it proves nothing."""
    rest = _CAVEATS["any verdict"].sub(" ; ", sentence.replace(_MEANING[known.verdict], " ; "))
    return _CAVEATS["forged"].sub(" ; ", rest) if known.verdict == "forged" else rest


def refused_words(sentence: str, known: Given) -> Iterator[str]:
    """What a sentence says that it may not, in words.

    Args:
        sentence: lower case, numbers in digits, as `in_digits` gives it, without caveats.
    """
    rest = _RATES.sub(" ; ", sentence) if MEASURED.search(sentence) and "%" in sentence else sentence
    if known.supports:
        rest = re.sub(r"\bsupports? an edit\b", " ; ", rest)
    rest = re.sub(r"\b(?:above which|so) the verdict is forged\b|\bspeaks? against an edit\b", " ; ", rest)
    for name, pattern in _REFUSED.items():
        if match := pattern.search(rest):
            yield f"{name}: “{match[0]}”"
    if match := re.match(r"\W*(?:no|not|none|neither|nor|never|nothing)\b", rest):
        yield f"a sentence begins with “{match[0].strip()}”"
    edited, undecided = _EDITED.search(rest), _UNDECIDED.search(rest)
    if edited and known.verdict != "forged":
        yield f"it says “{edited[0]}”, the verdict is {known.verdict.replace('_', ' ')}"
    elif edited and (negation := _NOT.search(rest)):
        yield f"it says “{edited[0]}” with “{negation[0]}”, the verdict is forged"
    if undecided and known.verdict != "inconclusive":
        yield f"it says “{undecided[0]}”, the verdict is {known.verdict.replace('_', ' ')}"
    elif undecided and re.search(r"\b(?:not|never|longer|hardly|far from)\b[^.]*\binconclusive", rest):
        yield "it says that the verdict is not inconclusive"
    for name, (pattern, kinds) in _NAMED.items():
        if (match := pattern.search(rest)) and not kinds & (known.kinds | known.sources):
            yield f"it names {name} (“{match[0]}”), which was not found"
    yield from _against_threshold(sentence, known)


_ABOVE = re.compile(
    r"\b(?:above|over|exceed\w*|(?:higher|greater|larger|more) than|surpass\w*|pass(?:es|ed)|reach\w*)\b"
)
_BELOW = re.compile(r"\b(?:below|under|beneath|(?:lower|less|smaller) than|short of|within)\b")


def _against_threshold(sentence: str, known: Given) -> Iterator[str]:
    if "score" not in sentence or "threshold" not in sentence or "above which" in sentence:
        return
    if re.search(r"\bbetween\b", sentence):
        if not known.lower < known.score <= known.threshold:
            yield "it says that the score lies between the thresholds"
        return
    for part in sentence.split("threshold")[:-1]:
        lower = re.search(r"\b(?:lower|smaller|no[ -]evidence) $", part)
        is_above = known.score > (known.lower if lower else known.threshold)
        above, below = _ABOVE.search(part), _BELOW.search(part)
        if (above or below) and _NOT.search(part):
            yield "it compares score and threshold with a negation"
        elif above and below:
            yield "it compares score and threshold in two ways"
        elif (above and not is_above) or (below and is_above):
            yield f"it says that the score is {'above' if above else 'below'} the threshold"


def names(text: str, facts: str) -> Iterator[str]:
    """Words in a text, as it was written, that may be names: with a capital inside a sentence, and not in the facts.

    A sentence begins with one of the usual words, or a word of the facts.
    """
    known = set(re.findall(r"[a-z]+", facts.casefold())) | _OPENERS
    for sentence in re.split(r"(?<=[.!?:;])\s+", text):
        words = re.findall(r"[A-Za-z][A-Za-z'-]*", sentence)
        for place, word in enumerate(words):
            small = word.casefold()
            if not word[0].isupper() and word.islower():
                continue
            if small in known or (place == 0 and small.endswith("ly")):
                continue
            yield word


_SHOWS = re.compile(
    r"\b(?:shows?|showing|shown|depicts?|depicting|contains?|containing|displays?|visible|seen|there (?:is|are))\b"
)
_JUDGES = re.compile(
    rf"\b(?:verdicts?|scores?|confiden\w+|thresholds?|tool|model|machine|results?|evidence|proof|leads?|methods?|rates?|alarms?"
    rf"|errors?|{_EDIT})\b"
)


def open_words(sentence: str, known: Given) -> Iterator[str]:
    """What is wrong with the words of a sentence that are neither of the closed vocabulary nor of the facts.

    A sentence that says what the picture shows, and says nothing of the verdict, may have any.
    """
    facts = set(re.findall(r"[a-z]+", known.facts.casefold()))
    found = [word for word in re.findall(r"(?<![\w.])[a-z]+(?![\w])", sentence) if word not in _VOCABULARY | facts]
    if not found:
        return
    if not _SHOWS.search(sentence):
        shown = ", ".join(dict.fromkeys(found[:4]))
        yield f"a sentence that does not say what the picture shows has words that the check does not know: {shown}"
    elif judged := _JUDGES.search(sentence):
        yield f"a sentence mixes what the picture shows with “{judged[0]}”: {', '.join(dict.fromkeys(found[:4]))}"
