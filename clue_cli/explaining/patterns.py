"""How a sentence names numbers, regions and positions: patterns over lower case, numbers in digits.

Where two of them overlap, the earlier one holds.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

from clue_cli.explaining.quantities import FRACTION, NUMBER

_NUMBER = rf"(?:{NUMBER})"
_PIXELS = r"(?: ?(?:px|pixels))?"
_NOUN = r"(?:regions?|areas?|places?|patch(?:es)?|spots?|zones?|groups?|sections?)"
_NOUNS = r"(?:regions|areas|places|patches|spots|zones|groups|sections)"
_PICTURE = r"(?:picture|image|photo|photograph|frame|scene)"
_PART = r"(?:part|portion|share|area|section|fraction|amount|region)"
_NOT_INDEX = r"(?![\d.]|,\d| ?(?:%|px|pixels|x \d|×))"
ASIDES = ("method", "person", "look", "opinion", "examiner", "step", "question", "crop")
"""What an ordinal may count beside regions."""

_PATTERNS = {
    "relative": r"\b(?:above|below|beneath|underneath|(?:to the )?(?:left|right) of|next to|beside|adjacent to"
    r"|near|close to|overlap\w*|inside|within|surround\w*|between|touch\w*|around) (?:the |each |region |an)?"
    rf"(?:other\b|\d+(?:st|nd|rd|th)|{_NOUN}\b|\d+(?=[ .,;]*$))",
    "share_of_two": rf"(?<![\d.,]){_NUMBER} (?:in(?: every)?|out of|per|for every) {_NUMBER}",
    "pair": rf"\((?P<pa>{_NUMBER}) ?, (?P<pb>{_NUMBER})\)"
    rf"|(?P<pc>{_NUMBER}){_PIXELS} ?(?:x|×|by|\*) ?(?P<pd>{_NUMBER})"
    rf"|(?P<pe>{_NUMBER}){_PIXELS} wide,?(?: and| by)? (?P<pf>{_NUMBER}){_PIXELS} (?:high|tall)",
    "none": r"\b(?:no|0|without(?: any)?) (?:\w+ )?regions?\b",
    "index": rf"\b{_NOUN} (?:number |no\. ?)?"
    rf"(?P<list>\d+{_NOT_INDEX}(?:(?: ?, and | ?, | and | or |-| to | & )\d+{_NOT_INDEX})*)",
    "ordinal": r"\b(?P<ordinal>\d+)(?:st|nd|rd|th)\b"
    rf"(?P<noun>(?: (?:larg|strong|small|weak)est)?(?: \w+)? (?:{_NOUN}|one)\b| (?:{'|'.join(ASIDES)}))?",
    "superlative": r"\b(?P<superlative>largest|biggest|strongest|smallest|weakest|only|sole|single|main|larger|bigger"
    r"|stronger|smaller|weaker) (?:\w+ )?(?P<what>region|area|place|patch|spot|one)\b",
    "count": r"(?P<before>\b(?:than|least|most|over|under|exactly|about|nearly|almost|up to) )?"
    r"(?<![\d.,])(?P<count>\d+) (?P<top>(?:of the )?(?:larg|strong)est )?(?!%)"
    r"(?:(?!(?:px|pixels|of|x|and|to|in|for|is|at|by|on|from|with|which|that|as)\b)[a-z-]+ ){0,2}?"
    rf"(?P<counted>{_NOUN})\b",
    "both": r"\b(?P<both>both|pair of|couple of|several|a few|few|some|multiple|many|numerous|various|all) "
    rf"(?:of )?(?:the )?(?:\w+ )?{_NOUNS}\b",
    "regions": r"\bregions\b",
    "range": rf"\[(?P<ba>{_NUMBER}) ?%?, (?P<bb>{_NUMBER})(?P<bu> ?%)?\]"
    rf"|(?P<ra>{_NUMBER})(?P<ru> ?(?:%|px|pixels))? ?(?:-|to|and) ?(?P<rb>{_NUMBER})",
    "fraction": r"(?P<than>\b(?:more|less|fewer|over|under|nearly|almost|about|around|roughly|at least|at most)"
    r"(?: than)? )?"
    rf"(?P<fraction>\d+\.\d+){FRACTION}(?P<of>(?: of)?(?: the| this| its)?(?: \w+)? (?:{_PICTURE}|pixels|surface))?",
    "amount": r"\b(?P<amount>most|the majority|majority|much|mostly|largely|predominantly"
    rf"|a (?:large|big|substantial|considerable|significant|major|huge|small|minor|little|limited) {_PART}"
    r"|(?:large|extensive|substantial|huge|small) (?:parts?|portions?|areas?|regions?)"
    rf"|tiny|minute|minuscule|negligible|(?:whole|entire|entirety of the|all of the|full) {_PICTURE}"
    r"|entirely|completely|fully|wholly)\b",
    "position": r"(?<!from the )(?<!edge )(?<!edges )(?<!traces )\b"
    r"(?P<position>(?:top|upper|bottom|lower|cent(?:re|er|ral)|middle|left|right)"
    r"(?:[- ](?:most|hand|half|part|side|third|quadrant|edge|border|corner|left|right|cent(?:re|er)"
    r"|middle|top|bottom|of|and"
    r"|the)\b)*|corner|edge|border|periphery)\b(?! (?:than|thresholds?|scores?|limit|bound))",
    "number": r"(?P<limit>\b(?:than|least|most|over|under|above|below|exceeds|exceeding|nearly|almost|up to"
    r"|beyond)(?: the)?"
    r"(?: (?:lower )?threshold)?(?: of)? )?"
    rf"(?P<sign>(?<![\w)])[-+])?(?<![\d])(?P<number>{_NUMBER})"
    r"(?P<unit> ?(?:%|‰|px\b|pixels?\b|megapixels?\b|mp\b|degrees?\b|°))?",
}
_COMPILED = {name: re.compile(pattern) for name, pattern in _PATTERNS.items()}

GLUED = re.compile(rf"\d(?!(?:st|nd|rd|th|px|mp|{FRACTION})\b|x ?\d)[a-z]|(?<!\dx)(?<!\b[xy])(?<=[a-z])\d")
"""A digit beside a letter, as in 1e2."""
MATCHES = re.compile(r"\b(?:match(?:es|ed|ing)?|cop(?:y|ies|ied)|clon\w+|duplicat\w+)\b")
"""A region is said to match another place."""


class Event(NamedTuple):
    """What a pattern found: from where to where, the name of the pattern, and the match."""

    start: int
    end: int
    kind: str
    match: re.Match[str]


def events(sentence: str) -> Iterator[Event]:
    """What the patterns find, in the order of the patterns; no two overlap."""
    taken = bytearray(len(sentence))
    for kind, pattern in _COMPILED.items():
        for match in pattern.finditer(sentence):
            start, end = match.span()
            if start < end and not any(taken[start:end]):
                taken[start:end] = b"\1" * (end - start)
                yield Event(start, end, kind, match)
