# ruff: noqa: E501 (a form is read on one line)
"""The statements that an explanation may consist of: closed forms with slots, which are compared with the record.

A form is a pattern over plain text in lower case. `{score}` and the like are numbers, which must be roundings of the
record's at the precision they are written with; `{verdict}`, `{relation}`, `{position}` and `{count}` are words, which
must be true. Nothing but these forms passes, so a lie needs no rule of its own.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from importlib.resources import files
from itertools import count
from typing import Any, NamedTuple

import yaml

from clue_cli.explaining.given import Box, Given
from clue_cli.explaining.place import fits

_SMALL = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
_NTH = ("first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth", "ninth", "tenth")
_PIC = r"(?:picture|image|photo|photograph)"
_NUMBER = r"\d+(?:,\d{3})*(?:\.\d+)?"
_PERCENT = rf"{_NUMBER} ?%"
_SIDE = r"(?:top|upper|bottom|lower|left|right|cent(?:re|er|ral)|middle)"
_WORDS: dict[str, list[str]] = yaml.safe_load(files(__package__).joinpath("words.yaml").read_text("utf-8"))


def _any(words: Any) -> str:
    return f"(?:{'|'.join(sorted(words, key=lambda word: (-len(word), word)))})"


_ANY_WORD = _any(
    {word for words in _WORDS.values() for word in words} | {f"{word}(?:s|es)" for word in _WORDS["things"]}
)
_DESCRIBED = rf"{_ANY_WORD}(?:(?:, and |, | and | |-){_ANY_WORD}\b)*"
_SLOTS = {
    "verdict": r"[\"']?(?P<verdict>forged|inconclusive|no evidence)[\"']?",
    "relation": r"(?P<relation>above|over|higher than|greater than|below|under|lower than|less than)",
    "over": r"(?P<relation>exceeds)",
    "position": rf"(?P<position>{_SIDE}(?:[- ](?:{_SIDE}|half|corner|edge|side|third|and))*(?<! and))",
    "count": rf"(?P<count>\d+|{_any(_SMALL)})",
    "confidence": rf"(?P<confidence>{_NUMBER}(?: ?%)?)",
    "share": rf"(?P<area>{_PERCENT})",
    "likeness": rf"(?P<likeness>{_PERCENT})",
    "described": _DESCRIBED,
    "PIC": _PIC,
    "PICS": r"(?:pictures|images|photos|photographs)",
    "it": r"(?:it|this|the (?:tool's )?(?:verdict|result|finding)s?)",
    "check": r"(?:checked|confirmed|examined)",
    "other": r"(?:a|another) (?:second )?(?:method|person|examiner)(?: and (?:a|another) (?:second )?"
    r"(?:method|person|examiner))?",
    "not": r"(?:not|only a lead and not|a lead and not|a lead,? (?:but|and) not)",
    "mark": r"(?:marked|flagged|found|identified|detected|highlighted)",
    **{name: rf"(?P<{name}>{_NUMBER})" for name in ("score", "threshold", "lower", "mean", "peak", "pixels")},
    **{name: rf"(?P<{name}>{_NUMBER})" for name in ("left", "right", "top", "bottom", "width", "height")},
}
_SHARES = frozenset({"score", "threshold", "lower", "confidence", "area", "likeness", "mean", "peak"})


class Form(NamedTuple):
    """One form.

    Attributes:
        pattern: see `_SLOTS`.
        about: `none`: it has a subject of its own that is no region; `region`: it says something of the regions that
            were named last; `names`: it names some.
        holds: what must be true of the record besides.
    """

    pattern: re.Pattern[str]
    about: str
    holds: Callable[[Given, int], bool]


def _form(text: str, about: str = "none", holds: Callable[[Given, int], bool] = lambda known, region: True) -> Form:
    for name, pattern in _SLOTS.items():
        text = text.replace(f"{{{name}}}", pattern)
    number = count()
    text = re.sub(r"\(\?P<(?!region|nth)(\w+)>", lambda group: f"(?P<{group[1]}_{next(number)}>", text)  # no name twice
    return Form(re.compile(rf"(?:{text})(?![\w%/]| ?%|[.,']\w|-\w)"), about, holds)


def _forged(known: Given, region: int) -> bool:
    return known.verdict == "forged"


def _undecided(known: Given, region: int) -> bool:
    return known.verdict == "inconclusive"


def _matches(known: Given, region: int) -> bool:
    return region in known.places


_TOOL = r"(?:the|this|its) (?:tool's )?"
_NOUN = r"(?:marked |flagged )?(?:region|area)"
_BOTH = r"(?:together|in total)"
_LIMIT = r"(?:the |its )?(?:decision )?threshold(?: of \(?{threshold}\)?| \({threshold}\))?"
FORMS = [
    # verdict and score
    _form(rf"{_TOOL}(?:final )?(?:verdict|result)(?: of the tool| (?:on|for) (?:the|this) {{PIC}})? is {{verdict}}"),
    _form("verdict: {verdict}|score: {score}|threshold: {threshold}|confidence: {confidence}"),
    _form(r"{_T}verdict is that (?:the|this) {PIC} is {verdict}".replace("{_T}", _TOOL)),
    _form(r"(?:the|this) {PIC} (?:is|was|has been) (?:called|judged|classified|flagged)(?: as)? {verdict}(?: by the tool)?"),
    _form(
        r"the tool (?:has )?(?:gave|gives|given|returned|reached|reports?|reported)(?: (?:it|the {PIC}|this {PIC}))? "
        r"(?:the|a) verdict(?: of)? {verdict}(?: for this {PIC})?"
    ),
    _form(r"(?:gave|gives|giving|resulting in|leading to) (?:the|a) verdict(?: of)? {verdict}"),
    _form(r"the tool (?:has )?(?:called|calls|judged|judges) (?:the|this) {PIC} (?:as )?{verdict}"),
    _form(rf"(?:{_TOOL}|a )score(?: of the {{PIC}})? (?:is|was|of) {{score}}"),
    _form(rf"(?:because |as |since )?{_TOOL}score(?: of {{score}})? (?:(?:is|was|lies) {{relation}}|{{over}}) {_LIMIT}"),
    _form(rf"(?:is |lies )?{{relation}} {_LIMIT}"),
    _form(rf"(?:so|and) {_TOOL}verdict is {{verdict}}"),
    _form(
        rf"(?:{_TOOL}score(?: of {{score}})? (?:is|lies) |lies |is )?between (?:the |the two )?(?:thresholds(?: of)? )?"
        r"{lower} and {threshold}|(?:lies |is )?between the thresholds",
        holds=_undecided,
    ),
    _form(r"above the lower threshold(?: of {lower})?", holds=_undecided),
    _form(r"(?:the|a) (?:decision )?threshold (?:is|was|of) {threshold}|the lower threshold (?:is|of) {lower}"),
    _form(rf"(?:{_TOOL}|a )confidence (?:is|of) {{confidence}}|{{confidence}} confidence"),
    _form(r"an estimate for {PICS} like those of the calibration"),
    _form(r"(?:the|this) {PIC} (?:has|measures|is) {width} ?[x×] ?{height} pixels(?: in size)?(?: and shows {described})?", "picture"),
    # regions
    _form(rf"(?:there (?:is|are) )?{{count}} {_NOUN}s?(?: (?:is|are|was|were|have been) {{mark}}(?: by the tool)?)?(?: in the {{PIC}})?", "count"),
    _form(rf"the tool (?:has )?(?:marks|{{mark}}) {{count}} (?:distinct |separate )?{_NOUN}s?(?: (?:in|of) (?:the|this) {{PIC}})?", "count"),
    _form(rf"{_BOTH}|(?:{_BOTH},? )?(?:they|(?:the|both) {_NOUN}s|the marked area|they {_BOTH})", "all"),
    _form(r"{share} of the {PIC} (?:is|are) marked", "all"),
    _form(rf"(?:the )?{_NOUN} (?P<region>\d+|{_any(_SMALL)})", "names"),
    _form(
        rf"in (?:the )?{_NOUN} (?P<region>\d+|{_any(_SMALL)})|the (?:heatmap )?(?:mean(?: of the heatmap)? (?:in|of) region "
        rf"(?P<region_a>\d+) is {{mean}}|peak(?: of the heatmap)? (?:in|of) region (?P<region_b>\d+) is {{peak}})"
        rf"|(?:in|at) the {{position}}(?: (?:part )?of the {{PIC}})?, region (?P<region_c>\d+)",
        "names",
    ),
    _form(rf"the (?P<nth>{_any(_NTH)}|largest|smallest|larger|smaller|bigger|biggest) (?:{_NOUN}|one)", "names"),
    _form(rf"(?:it|its|this {_NOUN}|the {_NOUN})", "last"),
    _form(rf"(?:is|was|has been|are|were) {{mark}}(?: by the tool)?|is the largest {_NOUN}s?", "region", lambda known, region: region <= 1),
    _form(r"(?:is|was|has been) {mark}(?: by the tool)?", "region"),
    _form(
        r"(?:(?:is|are|lies?|(?:is |are )?(?:located|situated|found|lying))(?: also)? )?(?:at|in|on|near|towards) (?:the )?"
        r"{position}(?: (?:part |side |area |section )?(?:of|in) the {PIC})?|{position}",
        "region",
    ),
    _form(r"(?:covers?|covering|occup(?:y|ies|ying)|makes? up|takes? up) {share} of the {PIC}|{share} of the {PIC}", "region"),
    _form(r"(?:(?:has|have|with) )?an area of {pixels} pixels", "region"),
    _form(
        r"(?:(?:spans|spanning|extends|extending|runs|ranges|from)(?: from)? )?x(?: from|:)? {left} (?:to|-) {right}"
        r"(?:(?:,? and|,)? y(?: from|:)? {top} (?:to|-) {bottom})?",
        "region",
    ),
    _form(
        r"(?:(?:measures|measuring|is|has a size of) )?(?:{width} ?[x×] ?{height} pixels|{width} by {height} pixels"
        r"|{width} pixels wide and {height} pixels (?:high|tall))",
        "region",
    ),
    _form(
        r"(?:(?:has|have|shows) )?(?:(?:the|its|a) )?(?:heatmap )?(?:mean|average)(?: of the heatmap)? (?:is|of) {mean}"
        r"|(?:(?:has|have|shows) )?(?:(?:the|its|a) )?(?:heatmap )?(?:peak|maximum)(?: of the heatmap)? (?:is|of) {peak}"
        r"|mean (?:is|of) {mean}|peak (?:is|of) {peak}",
        "region",
    ),
    _form(
        r"matches another place(?: (?:of|in) the (?:same )?{PIC})?(?: with (?:a )?(?:{likeness} likeness))?"
        r"|{likeness} of it match|likeness(?: is| of) {likeness}"
        r"|(?:so )?one may be a copy of the other,? or both (?:may )?belong to a pattern that repeats",
        "region",
        _matches,
    ),
    _form(
        r"(?:(?:may|might|could) have been|that (?:may|might|could) have been) (?:edited|altered|changed)"
        r"|(?:that )?carr(?:y|ies) traces like those that an edit leaves",
        "region",
        _forged,
    ),
    # what is shown
    _form(r"(?:(?:appears?|seems?) to )?(?:shows?|showing|contains?|depicts?|displays?) {described}", "region"),
    _form(r"there (?:is|are) {described}", "in"),
    _form(r"(?:the|this) {PIC} (?:shows|contains|depicts|displays) {described}", "picture"),
    _form(r"in (?:the|this) {PIC},? there (?:is|are) {described}", "picture"),
    # what it means
    _form(r"{it}(?: itself| alone)?,? (?:is|are) (?:therefore )?(?:no|{not} a?|a lead and no|only a lead and no) ?proof(?: (?:of|for) an edit)?"),
    _form(r"(?:is )?(?:a lead and )?(?:no|not a|{not}) proof(?: (?:of|for) an edit)?"),
    _form(r"{it} (?:does|do|can) ?not prove (?:an edit|that the {PIC} was edited)"),
    _form(
        r"(?:{it} (?:is|are) )?(?:only |just )?a lead(?: for (?:a second method(?: and a second person)?|further examination))?"
    ),
    _form(
        r"(?:so )?(?:{it} )?(?:should|must|needs? to|has to) be (?:{check} (?:with|by) {other}|(?:treated|taken|read) (?:as a lead"
        r"(?: and not as proof)?|with (?:care|caution)))(?: before any conclusion is drawn)?"
    ),
    _form(r"a second method(?: and a second person)? (?:should (?:be used|{_c} (?:it|the result))|(?:is|are) needed)(?: before any conclusion is drawn)?".replace("{_c}", "(?:check|confirm|examine)")),
    _form(r"the tool (?:can be wrong|can make mistakes|is not always right)|false alarms (?:happen|are possible)"),
    _form(
        r"(?:so |means that )?(?:{it} )?counts? neither for nor against the {PIC}|the tool cannot say whether the {PIC} was edited"
        r"|no conclusion can be drawn(?: from (?:it|this result|this))?",
        holds=_undecided,
    ),
    _form(r"(?:a|the|one) finding supports an edit", holds=lambda known, region: known.supports),
]  # fmt: skip
_INTERVAL = r"(?: (?P<{}>\[[^\]]*\]))?"
_KIND = rf"(?P<kind>untouched {_SLOTS['PICS']}|(?:made )?forgeries)(?: (?P<pictures>\((?:[^()]|\([^()]*\))*\)))?"
RATE = re.compile(
    rf"(?:of|among) (?:the )?(?P<n>\d+) {_KIND},? (?P<first>{_PERCENT}){_INTERVAL.format('between')} were (?:wrongly )?"
    r"called (?P<word>forged|inconclusive)(?: by mistake)?"
    rf"(?:,? and (?P<second>{_PERCENT}){_INTERVAL.format('other')}(?: were)?(?: called)? inconclusive)?(?![\w%.]\w)"
)
"""An error rate."""


def _is(text: str, given: float, *, share: bool) -> bool:
    """Whether a number is a rounding of a given one at its own precision; a share is not rounded to none or all."""
    percent, number = "%" in text, text.replace(",", "").rstrip(" %")
    value, digits = float(number), len(number.partition(".")[2])
    whole = 100 if percent else 1
    if not share:
        return value == given
    if value in (0, whole):
        return abs(value - given * whole) < 1e-9
    return abs(value - given * whole) <= 0.5 * 10.0**-digits + 1e-9


def count_of(word: str) -> int:
    """The value of a count in digits or as a word to ten."""
    return int(word) if word.isdigit() else _SMALL.index(word)


def errors(match: re.Match[str], known: Given, region: int) -> Iterator[str]:
    """What is wrong with the slots of a statement about a region, or about the whole picture (0)."""
    values = known.values.get(region, {})
    for group, text in match.groupdict().items():
        name = group.partition("_")[0]
        if text is None or name in ("region", "nth"):
            continue
        if name == "verdict" and text != known.verdict.replace("_", " "):
            yield f"“{text}” is not the verdict: {known.verdict.replace('_', ' ')}"
        elif name == "relation":
            above = text in ("above", "over", "higher than", "greater than", "exceeds")
            if above != (known.values[0]["score"] > known.values[0]["threshold"]):
                yield f"it says that the score is {'above' if above else 'below'} the threshold"
        elif name == "position":
            yield from _misplaced(text, known, region)
        elif name == "count":
            if count_of(text) != known.region_count:
                yield f"“{match[0]}”: {known.region_count} regions are marked"
        elif name != "verdict":
            source = known.values[0] if name in ("score", "threshold", "lower", "confidence") else values
            of = f" of region {region}" if source is not known.values[0] else ""
            if name not in source:
                yield f"“{text}”: no {name}{of} was given"
            elif not _is(text, source[name], share=name in _SHARES):
                yield f"“{text}” is not the {name}{of}: {source[name]:.4g}"


def _misplaced(words: str, known: Given, region: int) -> Iterator[str]:
    boxes: list[Box] = [box for number, box in known.boxes.items() if region in (0, number)]
    if not all(fits(words, box, known.width, known.height) for box in boxes) or len(boxes) < min(known.region_count, 1):
        yield f"“{words}” does not fit {'all regions' if region == 0 else f'region {region}'}"


def rate_errors(match: re.Match[str], known: Given) -> Iterator[str]:
    """What is wrong with a statement of an error rate: its n, its pictures, its verdict and its share go together."""
    for rate in known.rates:
        first = rate.forged if match["word"] == "forged" else rate.inconclusive
        if (
            rate.n == int(match["n"])
            and rate.untouched == match["kind"].startswith("untouched")
            and match["pictures"] in (None, f"({rate.pictures})".casefold())
            and _is_rate(match["first"], match["between"], first)
            and (match["second"] is None or _is_rate(match["second"], match["other"], rate.inconclusive))
        ):
            return
    yield f"“{match[0][:80]}” is not an error rate that was given"


def _is_rate(text: str, interval: str | None, rate: tuple[float, float, float]) -> bool:
    number = text.rstrip(" %")
    digits, percent = len(number.partition(".")[2]), rate[0] * 100
    return (
        interval in (None, f"[{rate[1]:.1%}, {rate[2]:.1%}]")
        and abs(float(number) - percent) <= 0.5 * 10.0**-digits + 1e-9
        and (digits > 0 or percent > 1)
    )
