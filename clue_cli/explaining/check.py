"""Checks a text that a language model wrote: it passes only if it consists of known statements that are all true.

The model sees the picture, and with it whatever an attacker wrote into its pixels; it may also invent. So each sentence
must be a fact as it was given, or a series of the closed forms of `clue_cli.explaining.forms`, joined by neutral words
(and, while, which, …; none that give a reason). Their numbers, verdicts, counts, regions and positions are compared
with the record. What a region or the picture shows is said in a closed vocabulary of things (`words.yaml`) without
numbers, and is not compared with anything. The text names the verdict, and says nothing twice.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator

from clue_cli.explaining.forms import FORMS, RATE, Form, count_of, errors, rate_errors
from clue_cli.explaining.given import Given

LONGEST, MOST_REASONS = 3000, 20
"""Characters of a text; reasons that are given."""

_QUOTES = dict.fromkeys(map(ord, "‘’ʼ"), "'") | dict.fromkeys(map(ord, "“”"), '"')
_ALLOWED = re.compile(r"[A-Za-z0-9 .,;:'\"()\[\]%×²-]*")
_START = re.compile(r"(?:(?:however|additionally|overall|in summary|according to the tool|based on the facts|also), )?")
_JOIN = re.compile(r"[ ,;:()]*(?:(?:and|but|while|with|which|whose|where|also)\b[ ,]*)*")
_ORDER = {
    name: place
    for place, name in enumerate(
        ["first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth", "ninth", "tenth"], 1
    )
}
_NO_REGION = -1
"""No region was named."""


def refusals(text: str, known: Given) -> list[str]:
    """Why a text may not be shown, each claim by itself; nothing if it may.

    Args:
        text: as the model wrote it.
        known: what the model was given.
    """
    return list(dict.fromkeys(_refusals(text, known)))[:MOST_REASONS]


def sentences(text: str) -> list[str]:
    """The sentences of a text in plain lower case, without their full stops; numbers keep theirs."""
    plain = " ".join(text.translate(_QUOTES).casefold().split()).replace("percent", "%").replace("per cent", "%")
    plain = re.sub(r"(?<!\w)\*\*|\*\*(?!\w)", "", plain)
    return [one for part in re.split(r"(?<=\.) ", plain) if (one := part.removesuffix("."))]


def _refusals(text: str, known: Given) -> Iterator[str]:
    if not text.strip():
        yield "it is empty"
        return
    if len(text) > LONGEST:
        yield f"it has more than {LONGEST:,} characters"
        return
    written = sentences(text)
    facts = {fact for line in known.sentences for fact in sentences(line)}
    odd = {letter for one in written if one not in facts for letter in _ALLOWED.sub("", one)}
    if odd:
        listed = " ".join(f"U+{ord(one):04X} {unicodedata.name(one, '')}".strip() for one in sorted(odd)[:5])
        yield f"it has characters that the check does not know: {listed}"
        return
    region, named, verdict = _NO_REGION, False, known.verdict.replace("_", " ")
    seen: set[str] = set()
    for sentence in written:
        if sentence in seen:
            yield f"it says twice: “{sentence[:80]}”"
        seen.add(sentence)
        named |= bool(re.search(rf"\b(?:verdict|result|picture|image|photo)\b[^%]*\b{verdict}\b", sentence))
        if sentence in facts:
            found = re.match(r"region (\d+)\b", sentence)
            region = int(found[1]) if found else _NO_REGION
            continue
        reasons, region = _read(sentence, known, region)
        yield from reasons
    if not named:
        yield "it does not name the verdict"


def _read(sentence: str, known: Given, before: int) -> tuple[list[str], int]:
    """Why a sentence is refused, and the region that it spoke of last."""
    opening = _START.match(sentence)
    start = opening.end() if opening else 0
    states, done = [(start, _NO_REGION)], {(start, _NO_REGION)}
    furthest, wrong = start, (start, [f"“{sentence[:100]}” is no statement of a known form"])
    while states:
        place, region = states.pop()
        if place == len(sentence) or sentence[place:] in (")", '"'):
            return [], region
        joined = _JOIN.match(sentence, place) if place > start else None
        for position in {place, joined.end() if joined else place}:
            for end, after, reasons in _steps(sentence, position, region, before, known):
                if reasons:
                    wrong = max(wrong, (end, reasons), key=lambda one: one[0])
                elif (end, after) not in done:
                    done.add((end, after))
                    states.append((end, after))
                    furthest = max(furthest, end)
    if wrong[0] > furthest:
        return wrong[1], _NO_REGION
    return [f"“{sentence[furthest:].strip(' ,;')[:100]}” is no statement of a known form"], _NO_REGION


def _steps(sentence: str, place: int, region: int, before: int, known: Given) -> Iterator[tuple[int, int, list[str]]]:
    """Statements at a place: where each ends, the region spoken of afterwards, and what is wrong with it."""
    if match := RATE.match(sentence, place):
        yield match.end(), _NO_REGION, list(rate_errors(match, known))
    for form in FORMS:
        if match := form.pattern.match(sentence, place):
            after = _subject(form, match, region, before, known)
            if after is None:
                continue
            reasons = list(errors(match, known, max(after, 0)))
            if form.about in ("names", "last") and after not in known.boxes:
                reasons.append(f"“{match[0]}”: there is no such region among those that were given")
            elif not form.holds(known, after):
                reasons.append(f"“{match[0]}” is not true of this record")
            yield match.end(), _NO_REGION if form.about == "picture" else after, reasons


def _subject(form: Form, match: re.Match[str], region: int, before: int, known: Given) -> int | None:
    """What a statement speaks of: a region, all of them (0) or none (-1); None: the form does not fit here."""
    if form.about in ("region", "in"):
        return None if region == _NO_REGION or (form.about == "in" and region == 0) else region
    if form.about == "last":
        return 1 if known.region_count == 1 else before if before > 0 else None
    if form.about in ("all", "count"):
        return 1 if known.region_count == 1 else 0
    if form.about == "names":
        groups = match.groupdict()
        if number := next((text for name, text in groups.items() if text and name.startswith("region")), None):
            return count_of(number)
        word = groups["nth"]
        if word in ("larger", "bigger", "smaller") and known.region_count != 2:
            return 0
        if word in ("smallest", "smaller"):
            return known.region_count
        return _ORDER.get(word, 1)
    # A share without a subject of its own is not said of a region.
    bare = re.match(r"(?:a (?:score|confidence)|\d|above|below|between|under|over|lies|is )", match[0])
    return None if form.about == "none" and bare and region > 0 else _NO_REGION
