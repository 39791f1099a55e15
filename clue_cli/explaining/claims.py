"""The numbers, regions and positions that one sentence claims, and which of them were not given.

The rules are those of `clue_cli.explaining.check`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from clue_cli.explaining.given import Box, Given
from clue_cli.explaining.patterns import ASIDES, GLUED, MATCHES, Event, events
from clue_cli.explaining.quantities import FRACTION, value_of
from clue_cli.explaining.words import MEASURED

_NOTHING: frozenset[int] = frozenset()

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


class Claims:
    """The numbers, regions and positions of one sentence.

    Attributes:
        regions: those that it speaks of; empty: it names none.
    """

    def __init__(self, sentence: str, known: Given, before: frozenset[int]) -> None:
        self.sentence, self.known = sentence, known
        self._events = sorted(events(sentence))
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
        if unread or GLUED.search(self.sentence):
            yield f"it has a number that the check cannot read: “{self.sentence[:80]}”"

    def _named(self, event: Event) -> frozenset[int] | None:
        """The regions that an event names; those that do not exist are among them."""
        match, known = event.match, self.known
        if event.kind == "index":
            numbers = list(map(int, re.findall(r"\d+", match["list"])))
            if len(numbers) == 2 and re.search(r"-|to", match["list"]) and numbers[0] < numbers[1] <= 100:
                return frozenset(range(numbers[0], numbers[1] + 1))
            return frozenset(numbers)
        if event.kind == "ordinal" and not (match["noun"] or "").strip().endswith(ASIDES):
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

    def _context(self, event: Event) -> frozenset[int]:
        return [regions for start, regions in self._contexts if start <= event.start][-1]

    def _index(self, event: Event, last: int) -> Iterator[str]:
        if missing := sorted(number for number in self._named(event) or () if number not in self.known.boxes):
            yield f"“{event.match[0].strip()}”: there is no region {missing[0]} among those that were given"

    def _ordinal(self, event: Event, last: int) -> Iterator[str]:
        if (event.match["noun"] or "").strip().endswith(ASIDES):
            return
        number = int(event.match["ordinal"])
        if number not in self.known.boxes:
            yield f"“{event.match[0].strip()}”: there is no region {number} among those that were given"

    def _superlative(self, event: Event, last: int) -> Iterator[str]:
        word = event.match["superlative"]
        if word in ("only", "sole", "single") and self.known.region_count != 1:
            yield f"“{event.match[0]}”: {self.known.region_count} regions are marked"
        elif not self._named(event) and word not in ("only", "sole", "single"):
            yield f"“{event.match[0]}”: which region that is was not given"

    def _count(self, event: Event, last: int) -> Iterator[str]:
        match, known = event.match, self.known
        number = int(match["count"])
        if match["before"] and match["before"].strip() not in ("exactly", "about"):
            yield f"“{match[0]}” is not a count that was given"
        elif not (number == known.region_count or (match["top"] and 1 < number <= len(known.boxes))):
            yield f"“{match[0]}”: {known.region_count} regions are marked"

    def _none(self, event: Event, last: int) -> Iterator[str]:
        if self.known.region_count:
            yield f"“{event.match[0]}”: {self.known.region_count} regions are marked"

    def _both(self, event: Event, last: int) -> Iterator[str]:
        word, count = event.match["both"], self.known.region_count
        exactly = word in ("both", "pair of", "couple of")
        least = {"several": 3, "various": 3, "many": 10, "numerous": 10}.get(word, 2)
        if (exactly and count != 2) or count < least:
            yield f"“{event.match[0]}”: {count} regions are marked"

    def _regions(self, event: Event, last: int) -> Iterator[str]:
        if self.known.region_count == 1 and re.search(
            r"\b(?:regions (?:are|were|lie|cover|have)|the regions)\b", self.sentence
        ):
            yield "it speaks of regions; one region is marked"

    def _share_of_two(self, event: Event, last: int) -> Iterator[str]:
        yield f"“{event.match[0]}” is a share that was not given so"

    def _pair(self, event: Event, last: int) -> Iterator[str]:
        match = event.match
        numbers = [value_of(match[name])[0] for name in ("pa", "pb", "pc", "pd", "pe", "pf") if match[name]]
        if not self._among(self.known.pairs, numbers, event):
            yield f"“{match[0]}” was not given as a position or a size"

    def _range(self, event: Event, last: int) -> Iterator[str]:
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

    def _among(self, given: list[tuple[float, float, int | None]], numbers: list[float], event: Event) -> bool:
        context = self._context(event)
        return any(
            abs(a - numbers[0]) < 1e-9
            and abs(b - numbers[1]) < 1e-9
            and (region is None or not context or region in context)
            for a, b, region in given
        )

    def _fraction(self, event: Event, last: int) -> Iterator[str]:
        match = event.match
        share, than = float(match["fraction"]), (match["than"] or "").strip()
        shown = match[0].replace(FRACTION, "").strip()
        if not match["of"]:
            yield f"“{shown}” (a fraction) is of something that was not given"
        elif than in ("nearly", "almost", "at least", "at most"):
            yield f"“{shown}” (a fraction) cannot be checked"
        elif not any(_fits_fraction(area, share, than) for area in self._areas(event)):
            yield f"“{shown}” (a fraction) does not fit the marked area"

    def _amount(self, event: Event, last: int) -> Iterator[str]:
        word = event.match["amount"]
        if re.search(r"\b\d[\d.,]* ?% of (?:the |its )?$", self.sentence[: event.start]):
            return  # "3 % of the whole picture"
        if word == "most" and re.match(r" (?:likely|probabl|strong|of the time)", self.sentence[event.end :]):
            return
        low, high = next(limits for pattern, limits in _AMOUNTS if re.search(pattern, word))
        if not any(low <= area <= high for area in self._areas(event)):
            yield f"“{word}” does not fit the marked area"

    def _areas(self, event: Event) -> list[float]:
        context = self._context(event)
        return [
            value.number
            for value in self.known.values
            if (value.label, value.unit) == ("area", "share")
            and (value.region in context if context else value.region is None)
        ]  # fmt: skip

    def _position(self, event: Event, last: int) -> Iterator[str]:
        words, context = event.match["position"], self._context(event)
        if not self._is_position(event):
            return
        boxes = [box for number, box in self._boxes() if not context or number in context]
        if not any(self._fits(words, box) for box in boxes):
            yield f"“{words}” does not fit {'the' if context else 'a'} region's place"

    def _is_position(self, event: Event) -> bool:
        words, behind = event.match["position"], self.sentence[event.end :]
        if words == "left" and re.match(r" (?:by|over|behind)\b", behind):
            return False  # the verb
        return not (words.endswith("edge") and re.match(r" (?:is |lies )?(?:at|x|y)\b", behind))  # a coordinate follows

    def _boxes(self) -> list[tuple[int, Box]]:
        """The boxes of the regions, with those of the places that they match where the sentence speaks of such."""
        return [*self.known.boxes.items(), *(self.known.places.items() if MATCHES.search(self.sentence) else ())]

    def _fits(self, words: str, box: Box) -> bool:
        return fits(words, box, self.known.width, self.known.height)

    def _places(self) -> Iterator[str]:
        """What the positions say together, where no region is named, and which regions are said to match a place."""
        positions = [one.match["position"] for one in self._events if one.kind == "position" and self._is_position(one)]
        matches, named = MATCHES.search(self.sentence), self.regions
        fitting = {
            number for number, box in self.known.boxes.items() if all(self._fits(words, box) for words in positions)
        }
        if not named and not matches and len(positions) > 1 and not fitting and "regions" not in self.sentence:
            yield f"no region is both {' and '.join(positions)}"
        about_one = re.search(r"\bregions?\b|\bit\b|\bone\b", self.sentence)
        if matches and about_one and not (named or fitting or self.known.boxes.keys()) & self.known.places.keys():
            yield f"“{matches[0]}”: no place was given that the region matches"

    def _relative(self, event: Event, last: int) -> Iterator[str]:
        yield f"“{event.match[0].strip()}”: how regions lie to each other is not checked"

    def _number(self, event: Event, last: int) -> Iterator[str]:
        match = event.match
        unit = (match["unit"] or "").strip()
        if match["limit"] and not re.search(r"\b(?:above|below|exceed\w*|over|under|than|beyond)\b", match["limit"]):
            yield f"“{match[0].strip()}” is not a number that was given"
            return
        limit = "threshold" if match["limit"] else None
        sign = "-" if match["sign"] == "-" else ""
        yield from self._single(event, sign + match["number"], unit, last, limit)

    def _single(self, event: Event, number: str, unit: str, last: int, label: str | None = None) -> Iterator[str]:
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

    def _side(self, event: Event, last: int) -> str | None:
        """Which length or coordinate a number is said to be."""
        behind = re.match(r" (?:pixels? )?(wide|high|tall)\b", self.sentence[event.end :])
        before = re.findall(r"\b(width|height|wide|high|x|y)\b", self.sentence[last : event.start])
        word = behind[1] if behind else before[-1] if before else None
        return {"wide": "width", "high": "height", "tall": "height"}.get(word, word) if word else None

    def _is_rate(self, value: float, digits: int, event: Event) -> bool:
        """Whether a percentage is an error rate of the pictures and the verdict that are named, with their n."""
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

    def _label(self, event: Event, last: int) -> str | None:
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

    Left, right, top and bottom are halves of the picture; the centre is its middle third or what the box covers; a
    corner is an outer third both ways, an edge an outer third or a border that the box reaches.

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
