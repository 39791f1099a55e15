"""Checks a text that a language model wrote against what it was given; what the check does not understand is refused.

The model sees the picture, and with it whatever an attacker wrote into its pixels; it may also invent. So a text is
shown only if each of these holds:

- **Numbers.** Every number, in digits, words or as a fraction, is a rounding of a number that was given, at the
  precision that the text writes it with, of the same unit, with the same name (score, threshold, confidence, mean, peak,
  area, rate, likeness), and of the region that the sentence speaks of. Nothing is rounded to none or to all. Pairs and
  ranges were given as such. An error rate stands with its n, its pictures (untouched or forgeries) and its verdict. "About" changes nothing; "more than", "almost" and the like are refused, but before a
  threshold. Shares of two numbers ("one in ten") and factors ("twice") are refused.
- **Vague amounts** must be true of the marked area, or of a region's: half .45 to .55, a third, two thirds, a quarter,
  three quarters and other fractions within .04; most over .5; a large part at least .25; a small part at most .1; a tiny
  one at most .01; the whole at least .99. Several regions are at least 3, a few, some or multiple at least 2, many at
  least 10.
- **Regions** exist; counts of them are right. A position (top, left, centre, corner, …) fits the middle of the box of the
  region that is spoken of, or of one of them where the sentence names none. Where regions lie to each other is refused.
- **Words** contradict neither verdict nor threshold, claim no certainty, accuse nobody, and name nothing that was not
  found. A sentence that does not say what the picture shows keeps to a closed vocabulary (`clue_cli.explaining.words`).

What is not checked: what the text says the picture shows.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from typing import NamedTuple

from clue_cli.explaining.given import Box, Given
from clue_cli.explaining.quantities import FRACTION, NUMBER, in_digits, plain, value_of
from clue_cli.explaining.words import (
    MEASURED,
    NEVER_SPLIT,
    names,
    open_words,
    refused_words,
    without_caveats,
)

LONGEST, MOST_REASONS = 3000, 20
"""Characters of a text; reasons that are given."""

_ALLOWED = re.compile(r"[A-Za-z0-9 .,;:!'\"()\[\]%/×°=*+-]*")
_NOUN = r"(?:regions?|areas?|places?|patch(?:es)?|spots?|zones?|groups?|sections?)"
_NUMBER = rf"(?:{NUMBER})"
_NOTHING: frozenset[int] = frozenset()

_PATTERNS = {
    "relative": rf"\b(?:above|below|beneath|underneath|(?:to the )?(?:left|right) of|next to|beside|adjacent to|near|close to|overlap\w*|inside|within|surround\w*|between|touch\w*|around) (?:the |each |region |an)?(?:other\b|\d+(?:st|nd|rd|th)|{_NOUN}\b|\d+(?=[ .,;]*$))",
    "share_of_two": rf"(?<![\d.,]){_NUMBER} (?:in(?: every)?|out of|per|for every) {_NUMBER}",
    "pair": rf"\((?P<pa>{_NUMBER}) ?, (?P<pb>{_NUMBER})\)|(?P<pc>{_NUMBER})(?: ?(?:px|pixels))? ?(?:x|×|by|\*) ?(?P<pd>{_NUMBER})|(?P<pe>{_NUMBER})(?: ?(?:px|pixels))? wide,?(?: and| by)? (?P<pf>{_NUMBER})(?: ?(?:px|pixels))? (?:high|tall)",
    "none": r"\b(?:no|0|without(?: any)?) (?:\w+ )?regions?\b",
    "index": rf"\b{_NOUN} (?:number |no\. ?)?(?P<list>\d+(?![\d.]|,\d|[ ]?(?:%|px|pixels|x \d|×))(?:(?: ?, and | ?, | and | or |-| to | & )\d+(?![\d.]|,\d|[ ]?(?:%|px|pixels)))*)",
    "ordinal": rf"\b(?P<ordinal>\d+)(?:st|nd|rd|th)\b(?P<noun>(?: (?:larg|strong|small|weak)est)?(?: \w+)? (?:{_NOUN}|one)\b| (?:method|person|look|opinion|examiner|step|question))?",
    "superlative": rf"\b(?P<superlative>largest|biggest|strongest|smallest|weakest|only|sole|single|main|larger|bigger|stronger|smaller|weaker) (?:\w+ )?(?P<what>region|area|place|patch|spot|one)\b",
    "count": rf"(?P<before>\b(?:than|least|most|over|under|exactly|about|nearly|almost|up to) )?(?<![\d.,])(?P<count>\d+) (?P<top>(?:of the )?(?:larg|strong)est )?(?!%)(?:(?!(?:px|pixels|of|x|and|to|in|for|is|at|by|on|from|with|which|that|as)\b)[a-z-]+ ){{0,2}}?(?P<counted>{_NOUN})\b",
    "both": rf"\b(?P<both>both|pair of|couple of|several|a few|few|some|multiple|many|numerous|various|all) (?:of )?(?:the )?(?:\w+ )?(?:regions|areas|places|patches|spots|zones|groups|sections)\b",
    "regions": r"\bregions\b",
    "range": rf"\[(?P<ba>{_NUMBER}) ?%?, (?P<bb>{_NUMBER})(?P<bu> ?%)?\]|(?P<ra>{_NUMBER})(?P<ru> ?(?:%|px|pixels))? ?(?:-|to|and) ?(?P<rb>{_NUMBER})",
    "fraction": rf"(?P<than>\b(?:more|less|fewer|over|under|nearly|almost|about|around|roughly|at least|at most)(?: than)? )?(?P<fraction>\d+\.\d+){FRACTION}(?P<of>(?: of)?(?: the| this| its)?(?: \w+)? (?:picture|image|photo|photograph|frame|pixels|scene|surface))?",
    "amount": r"\b(?P<amount>most|the majority|majority|much|mostly|largely|predominantly|a (?:large|big|substantial|considerable|significant|major|huge) (?:part|portion|share|area|section|fraction|amount)|(?:large|extensive|substantial|huge) (?:parts?|portions?|areas?|regions?)|a (?:small|minor|little|limited) (?:part|portion|share|area|section|fraction|region)|small (?:parts?|portions?|areas?|regions?)|tiny|minute|minuscule|negligible|(?:whole|entire|entirety of the|all of the|full) (?:picture|image|photo|photograph|frame|scene)|entirely|completely|fully|wholly)\b",
    "position": r"(?<!from the )(?<!edge )(?<!edges )(?<!traces )\b(?P<position>(?:top|upper|bottom|lower|cent(?:re|er|ral)|middle|left|right)(?:[- ](?:most|hand|half|part|side|third|quadrant|edge|border|corner|left|right|cent(?:re|er)|middle|top|bottom|of|and|the|\band)\b)*|corner|edge|border|periphery)\b(?! (?:than|thresholds?|scores?|limit|bound))",
    "number": rf"(?P<limit>\b(?:than|least|most|over|under|above|below|exceeds|exceeding|nearly|almost|up to|beyond)(?: the)?(?: (?:lower )?threshold)?(?: of)? )?(?P<sign>(?<![\w)])[-+])?(?<![\d])(?P<number>{_NUMBER})(?P<unit> ?(?:%|‰|px\b|pixels?\b|megapixels?\b|mp\b|degrees?\b|°))?",
}  # fmt: skip
_ORDER = list(_PATTERNS)
_COMPILED = {name: re.compile(pattern) for name, pattern in _PATTERNS.items()}

_GLUED = re.compile(rf"\d(?!(?:st|nd|rd|th|px|mp|{FRACTION})\b|x ?\d)[a-z]|(?<!\dx)(?<!\b[xy])(?<=[a-z])\d")
"""A digit beside a letter, as in 1e2."""

_MATCHES = re.compile(r"\b(?:match(?:es|ed|ing)?|cop(?:y|ies|ied)|clon\w+|duplicat\w+)\b")

_LABELS = {
    "score": r"scor\w+",
    "threshold": r"thresholds?|cut-?offs?",
    "confidence": r"confiden\w+|probability that",
    "mean": r"means?|average\w*",
    "peak": r"peaks?|maxim\w+|highest",
    "likeness": r"match\w*|likeness|similar\w*",
    "area": r"cover\w*|area|share of the|part of the|occup\w+|makes? up|marked",
    "rate": r"rates?|untouched|alarms?|wrongly|mistak\w+|errors?|forgeries|interval",
    "p_value": r"p-value",
}
_LABEL = re.compile("|".join(rf"\b(?P<{name}>{pattern})\b" for name, pattern in _LABELS.items()))


class _Event(NamedTuple):
    start: int
    end: int
    kind: str
    match: re.Match[str]


def refusals(text: str, known: Given) -> list[str]:
    """Why a text may not be shown, each claim by itself; nothing if it may.

    Args:
        text: as the model wrote it.
        known: what the model was given.
    """
    return list(dict.fromkeys(_refusals(text, known)))[:MOST_REASONS]


def _refusals(text: str, known: Given) -> Iterator[str]:
    if not text.strip():
        yield "it is empty"
        return
    if len(text) > LONGEST:
        yield f"it has more than {LONGEST:,} characters"
        return
    if any(unicodedata.category(character) in ("Cf", "Co", "Cn", "Cs") for character in text):
        yield "it has invisible characters"
    written = plain(text)
    if odd := sorted(set(_ALLOWED.sub("", written))):
        yield f"it has characters that the check does not know: {' '.join(f'U+{ord(one):04X}' for one in odd[:5])}"
    squashed = re.sub(r"[^a-z]", "", written.casefold())
    yield from (f"it says “{word}”" for word in NEVER_SPLIT if word in squashed and word not in written.casefold())
    yield from (f"“{name}” may be a name, and was not given" for name in names(written, known.facts))
    if not re.search("[a-z]{3}", written):
        yield "it has no words"
    context = _NOTHING
    for sentence in re.split(r"(?<=[.!?])\s+(?=\D)", in_digits(written.replace("*", ""))):
        rest = without_caveats(sentence, known)
        yield from refused_words(rest, known)
        yield from open_words(rest, known)
        claims = _Claims(rest, known, context)
        yield from claims.refused()
        context = claims.regions


class _Claims:
    """The numbers, regions and positions of one sentence.

    Attributes:
        regions: those that it speaks of; empty: it names none.
    """

    def __init__(self, sentence: str, known: Given, before: frozenset[int]) -> None:
        self.sentence, self.known = sentence, known
        self._events = sorted(_events(sentence))
        named = [(event.start, found) for event in self._events if (found := self._named(event)) is not None]
        plural = any(event.kind in ("regions", "both") for event in self._events)
        continued = re.match(r"\W*(?:it|its|this|here|there)\b", sentence)
        start = before if continued and not plural else _NOTHING
        self._contexts = [(0, named[0][1] if named else start), *named]
        self.regions = frozenset().union(*(regions for _, regions in self._contexts))

    def refused(self) -> Iterator[str]:
        """What is wrong, in words."""
        covered = bytearray(len(self.sentence))
        last = 0
        for event in self._events:
            covered[event.start : event.end] = b"\1" * (event.end - event.start)
            yield from getattr(self, f"_{event.kind}")(event, last)
            last = event.end
        yield from self._places()
        unread = any(letter.isdigit() and not done for letter, done in zip(self.sentence, covered, strict=True))
        if unread or _GLUED.search(self.sentence):
            yield f"it has a number that the check cannot read: “{self.sentence[:80]}”"

    def _named(self, event: _Event) -> frozenset[int] | None:
        """The regions that an event names; those that do not exist are among them."""
        match, known = event.match, self.known
        if event.kind == "index":
            numbers = list(map(int, re.findall(r"\d+", match["list"])))
            if len(numbers) == 2 and re.search(r"-|to", match["list"]) and numbers[0] < numbers[1] <= 100:
                return frozenset(range(numbers[0], numbers[1] + 1))
            return frozenset(numbers)
        if event.kind == "ordinal" and not (match["noun"] or "").strip().endswith(_ASIDES):
            return frozenset({int(match["ordinal"])})
        if event.kind == "superlative" and known.boxes:
            return self._superlative_region(match["superlative"])
        return None

    def _superlative_region(self, word: str) -> frozenset[int] | None:
        known = self.known
        peaks = {value.region: value.number for value in known.values if value.label == "peak" and value.region}
        if word in _COMPARED:
            if known.region_count != 2:
                return _NOTHING
            word = _COMPARED[word]
        if word in ("largest", "biggest"):
            return frozenset({1})
        if word == "strongest":
            return frozenset(number for number, peak in peaks.items() if peak == max(peaks.values()) and number)
        if word in ("only", "sole", "single") and known.region_count == 1:
            return frozenset({1})
        if word in ("smallest", "weakest") and len(known.boxes) == known.region_count:
            lowest = {number for number, peak in peaks.items() if peak == min(peaks.values()) and number}
            return frozenset({len(known.boxes)}) if word == "smallest" else frozenset(lowest)
        return _NOTHING

    def _context(self, event: _Event) -> frozenset[int]:
        return [regions for start, regions in self._contexts if start <= event.start][-1]

    def _index(self, event: _Event, last: int) -> Iterator[str]:
        if missing := sorted(number for number in self._named(event) or () if number not in self.known.boxes):
            yield f"“{event.match[0].strip()}”: there is no region {missing[0]} among those that were given"

    def _ordinal(self, event: _Event, last: int) -> Iterator[str]:
        if (event.match["noun"] or "").strip().endswith(_ASIDES):
            return
        number = int(event.match["ordinal"])
        if number not in self.known.boxes:
            yield f"“{event.match[0].strip()}”: there is no region {number} among those that were given"

    def _superlative(self, event: _Event, last: int) -> Iterator[str]:
        word = event.match["superlative"]
        if word in ("only", "sole", "single") and self.known.region_count != 1:
            yield f"“{event.match[0]}”: {self.known.region_count} regions are marked"
        elif not self._named(event) and word not in ("only", "sole", "single"):
            yield f"“{event.match[0]}”: which region that is was not given"

    def _count(self, event: _Event, last: int) -> Iterator[str]:
        match, known = event.match, self.known
        number = int(match["count"])
        if match["before"] and match["before"].strip() not in ("exactly", "about"):
            yield f"“{match[0]}” is not a count that was given"
        elif not (number == known.region_count or (match["top"] and 1 < number <= len(known.boxes))):
            yield f"“{match[0]}”: {known.region_count} regions are marked"

    def _none(self, event: _Event, last: int) -> Iterator[str]:
        if self.known.region_count:
            yield f"“{event.match[0]}”: {self.known.region_count} regions are marked"

    def _both(self, event: _Event, last: int) -> Iterator[str]:
        word, count = event.match["both"], self.known.region_count
        exactly = word in ("both", "pair of", "couple of")
        least = {"several": 3, "various": 3, "many": 10, "numerous": 10}.get(word, 2)
        if (exactly and count != 2) or count < least:
            yield f"“{event.match[0]}”: {count} regions are marked"

    def _regions(self, event: _Event, last: int) -> Iterator[str]:
        if self.known.region_count == 1 and re.search(
            r"\b(?:regions (?:are|were|lie|cover|have)|the regions)\b", self.sentence
        ):
            yield "it speaks of regions; one region is marked"

    def _share_of_two(self, event: _Event, last: int) -> Iterator[str]:
        yield f"“{event.match[0]}” is a share that was not given so"

    def _pair(self, event: _Event, last: int) -> Iterator[str]:
        match = event.match
        numbers = [value_of(match[name])[0] for name in ("pa", "pb", "pc", "pd", "pe", "pf") if match[name]]
        if not self._among(self.known.pairs, numbers, event):
            yield f"“{match[0]}” was not given as a position or a size"

    def _range(self, event: _Event, last: int) -> Iterator[str]:
        match = event.match
        (low, _), (high, digits) = value_of(match["ra"] or match["ba"]), value_of(match["rb"] or match["bb"])
        percent = re.match(r" ?%", self.sentence[event.end :]) or "%" in (match["ru"] or match["bu"] or "")
        scale, step = (100, digits + 2) if percent else (1, digits)
        if match[0].count(" and ") and "between" not in self.sentence[: event.start][-12:]:
            for name in ("ra", "rb"):  # two numbers in a row
                yield from self._single(event, match[name], "%" if percent else "", last)
            return
        rounded = [
            (round(a, step) if a <= 1 else a, round(b, step) if b <= 1 else b, region)
            for a, b, region in self.known.ranges
        ]
        wanted = [round(low / scale, step), round(high / scale, step)]
        if not self._among(rounded, wanted, event):
            yield f"“{match[0]}” was not given as a range"

    def _among(self, given: list[tuple[float, float, int | None]], numbers: list[float], event: _Event) -> bool:
        context = self._context(event)
        return any(
            abs(a - numbers[0]) < 1e-9
            and abs(b - numbers[1]) < 1e-9
            and (region is None or not context or region in context)
            for a, b, region in given
        )

    def _fraction(self, event: _Event, last: int) -> Iterator[str]:
        match = event.match
        share, than = float(match["fraction"]), (match["than"] or "").strip()
        shown = match[0].replace(FRACTION, "").strip()
        if not match["of"]:
            yield f"“{shown}” (a fraction) is of something that was not given"
        elif than in ("nearly", "almost", "at least", "at most"):
            yield f"“{shown}” (a fraction) cannot be checked"
        elif not any(_fits_fraction(area, share, than) for area in self._areas(event)):
            yield f"“{shown}” (a fraction) does not fit the marked area"

    def _amount(self, event: _Event, last: int) -> Iterator[str]:
        word = event.match["amount"]
        if re.search(r"\b\d[\d.,]* ?% of (?:the |its )?$", self.sentence[: event.start]):
            return  # "3 % of the whole picture"
        if word == "most" and re.match(r" (?:likely|probabl|strong|of the time)", self.sentence[event.end :]):
            return
        low, high = next(limits for pattern, limits in _AMOUNTS if re.search(pattern, word))
        if not any(low <= area <= high for area in self._areas(event)):
            yield f"“{word}” does not fit the marked area"

    def _areas(self, event: _Event) -> list[float]:
        context = self._context(event)
        return [
            value.number
            for value in self.known.values
            if value.label == "area" and value.unit == "share" and (value.region in context if context else value.region is None)
        ]  # fmt: skip

    def _position(self, event: _Event, last: int) -> Iterator[str]:
        words, context = event.match["position"], self._context(event)
        if not self._is_position(event):
            return
        boxes = [box for number, box in self._boxes() if not context or number in context]
        if not any(self._fits(words, box) for box in boxes):
            yield f"“{words}” does not fit {'the' if context else 'a'} region's place"

    def _is_position(self, event: _Event) -> bool:
        words, behind = event.match["position"], self.sentence[event.end :]
        if words == "left" and re.match(r" (?:by|over|behind)\b", behind):
            return False  # the verb
        return not (words.endswith("edge") and re.match(r" (?:is |lies )?(?:at|x|y)\b", behind))  # a coordinate follows

    def _boxes(self) -> list[tuple[int, Box]]:
        """The boxes of the regions, with those of the places that they match where the sentence speaks of such."""
        return [*self.known.boxes.items(), *(self.known.places.items() if _MATCHES.search(self.sentence) else ())]

    def _fits(self, words: str, box: Box) -> bool:
        return fits(words, box, self.known.width, self.known.height)

    def _places(self) -> Iterator[str]:
        """What the positions say together, where no region is named, and which regions are said to match a place."""
        positions = [one.match["position"] for one in self._events if one.kind == "position" and self._is_position(one)]
        matches, named = _MATCHES.search(self.sentence), self.regions
        fitting = {
            number for number, box in self.known.boxes.items() if all(self._fits(words, box) for words in positions)
        }
        if not named and not matches and len(positions) > 1 and not fitting and "regions" not in self.sentence:
            yield f"no region is both {' and '.join(positions)}"
        if matches and re.search(r"\bregions?\b|\bit\b|\bone\b", self.sentence):
            if not (named or fitting or self.known.boxes.keys()) & self.known.places.keys():
                yield f"“{matches[0]}”: no place was given that the region matches"

    def _relative(self, event: _Event, last: int) -> Iterator[str]:
        yield f"“{event.match[0].strip()}”: how regions lie to each other is not checked"

    def _number(self, event: _Event, last: int) -> Iterator[str]:
        match = event.match
        unit = (match["unit"] or "").strip()
        if match["limit"] and not re.search(r"\b(?:above|below|exceed\w*|over|under|than|beyond)\b", match["limit"]):
            yield f"“{match[0].strip()}” is not a number that was given"
            return
        limit = "threshold" if match["limit"] else None
        sign = "-" if match["sign"] == "-" else ""
        yield from self._single(event, sign + match["number"], unit, last, limit)

    def _single(self, event: _Event, number: str, unit: str, last: int, label: str | None = None) -> Iterator[str]:
        value, digits = value_of(number.removeprefix("-"))
        value = -value if number.startswith("-") else value
        whole = 100 if unit == "%" else 1
        units = _UNITS.get(unit.rstrip("s"), _ANY)
        label = label or self._label(event, last)
        coordinate = re.search(r"\b[xy] ?[:=]? ?$", self.sentence[: event.start])
        if label in _OF_SHARES and unit in ("", "%") and not coordinate and (unit or value <= 1 or label != "rate"):
            units = frozenset({"share"})
        context = self._context(event)
        side = self._side(event, last)
        if unit != "‰" and any(
            given.unit in units
            and (label is None or given.unit != "share" or given.label in (label, ""))
            and (side is None or given.unit != "pixels" or given.label == side)
            and (given.region is None or not context or given.region in context)
            and _is_rounding(value, digits, given.number * whole, share=given.unit == "share", whole=whole)
            for given in self.known.values
        ):
            return
        if unit == "%" and label in (None, "rate") and self._is_rate(value, digits, event):
            return
        of = f" as {label.replace('_', '-')}" if label else ""
        yield f"“{event.match[0].strip()}” was not given{of}{' of this region' if context else ''}"

    def _side(self, event: _Event, last: int) -> str | None:
        """Which length or coordinate a number is said to be."""
        behind = re.match(r" (?:pixels? )?(wide|high|tall)\b", self.sentence[event.end :])
        before = re.findall(r"\b(width|height|wide|high|x|y)\b", self.sentence[last : event.start])
        word = behind[1] if behind else before[-1] if before else None
        return {"wide": "width", "high": "height", "tall": "height"}.get(word, word) if word else None

    def _is_rate(self, value: float, digits: int, event: _Event) -> bool:
        """Whether a percentage is an error rate of the pictures and the verdict that the sentence names, with their n."""
        if not MEASURED.search(self.sentence):
            return False
        numbers = {
            int(text.replace(",", "")) for text in re.findall(r"(?<![\d.,])\d[\d,]*(?![\d.]|,\d| ?%)", self.sentence)
        }
        untouched = not re.search(r"\bforgeries\b", self.sentence)
        verdicts = re.findall(r"\bcalled (forged|inconclusive)", self.sentence)
        behind = re.search(r"\bcalled (forged|inconclusive)", self.sentence[event.end :])
        verdict = behind[1] if behind else verdicts[-1] if verdicts else ""
        return any(
            rate.n in numbers and rate.untouched == untouched and abs(share * 100 - value) <= 0.5 * 10.0**-digits + 1e-9
            for rate in self.known.rates
            for name, (share, _, _) in (("forged", rate.forged), ("inconclusive", rate.inconclusive))
            if name == verdict
        )

    def _label(self, event: _Event, last: int) -> str | None:
        """The name of a number: the word behind it, or the last one between it and the number before."""
        behind = _LABEL.match(self.sentence, event.end + 1) if self.sentence[event.end : event.end + 1] == " " else None
        if behind is not None and behind.lastgroup in ("score", "confidence", "threshold", "rate"):
            return behind.lastgroup
        before = list(_LABEL.finditer(self.sentence, last, event.start))
        return before[-1].lastgroup if before else None


_COMPARED = {
    "larger": "largest",
    "bigger": "largest",
    "stronger": "strongest",
    "smaller": "smallest",
    "weaker": "weakest",
}
_ASIDES = ("method", "person", "look", "opinion", "examiner", "step", "question")
_OF_SHARES = frozenset(_LABELS) - {"area"}
_ANY = frozenset({"share", "pixels", "count", "megapixels", "degrees", "factor"})
_UNITS = {
    "%": frozenset({"share"}),
    "px": frozenset({"pixels"}),
    "pixel": frozenset({"pixels"}),
    "megapixel": frozenset({"megapixels"}),
    "mp": frozenset({"megapixels"}),
    "degree": frozenset({"degrees"}),
    "°": frozenset({"degrees"}),
}
_AMOUNTS = (
    (r"most|majority|much|mostly|largely|predominantly", (0.5, 1.0)),
    (r"whole|entire|all of|full|completely|wholly", (0.99, 1.0)),
    (r"large|big|substantial|considerable|significant|major|huge|extensive", (0.25, 1.0)),
    (r"tiny|minute|minuscule|negligible", (0.0, 0.01)),
    (r"small|minor|little|limited", (0.0, 0.1)),
)


def _events(sentence: str) -> Iterator[_Event]:
    """What the patterns find, the earlier patterns first where they overlap; a position may stand within a count."""
    taken = bytearray(len(sentence))
    for kind in _ORDER:
        for match in _COMPILED[kind].finditer(sentence):
            start, end = match.span()
            if start < end and not any(taken[start:end]):
                taken[start:end] = b"\1" * (end - start)
                yield _Event(start, end, kind, match)


def _is_rounding(value: float, digits: int, given: float, *, share: bool, whole: float) -> bool:
    """Whether a number is a rounding of a given one at its own precision; a share is not rounded to none or all."""
    if abs(value - given) < 1e-9:
        return True
    if share and value in (0, whole):
        return False
    return abs(value - given) <= 0.5 * 10.0**-digits + 1e-9 and (share or digits > 0)


def _fits_fraction(area: float, share: float, than: str) -> bool:
    if than in ("more than", "over"):
        return area > share
    if than in ("less than", "fewer than", "under"):
        return area < share
    return abs(area - share) <= 0.05 if share == 0.5 else abs(area - share) <= min(0.04, share / 5)


def fits(words: str, box: Box, width: int, height: int) -> bool:
    """Whether a position in words fits a box, by its middle.

    Left, right, top and bottom are halves of the picture; the centre is its middle third or what the box covers; a corner
    is an outer third both ways, an edge an outer third or a border that the box reaches.

    Args:
        words: such as `top left`, `upper-right corner`, `centre`.
        width, height: of the picture, pixels.
    """
    across, down = (box.x + box.width / 2) / width, (box.y + box.height / 2) / height
    in_middle = [1 / 3 <= across <= 2 / 3, 1 / 3 <= down <= 2 / 3]
    said = set(re.findall("[a-z]+", words))
    sides = {
        "left": across < 0.5,
        "right": across > 0.5,
        "top": down < 0.5,
        "upper": down < 0.5,
        "bottom": down > 0.5,
        "lower": down > 0.5,
    }
    if not all(fit for word, fit in sides.items() if word in said):
        return False
    if said & {"centre", "center", "central", "middle"}:
        named_across, named_down = bool(said & {"left", "right"}), bool(said & {"top", "upper", "bottom", "lower"})
        covers = box.x <= width / 2 <= box.x + box.width and box.y <= height / 2 <= box.y + box.height
        if not (covers or ((named_across or in_middle[0]) and (named_down or in_middle[1]))):
            return False
    if "corner" in said and any(in_middle):
        return False
    if said & {"edge", "border", "periphery"}:
        reaches = box.x == 0 or box.y == 0 or box.x + box.width >= width or box.y + box.height >= height
        return reaches or not all(in_middle)
    return True
