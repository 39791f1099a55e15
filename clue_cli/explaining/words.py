"""Which words an explanation may use, and when: rules over one sentence in lower case, numbers in digits.

The rules are strict on purpose: what they do not understand is refused. They read English only.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from clue_cli.explaining.given import Given
from clue_cli.explaining.quantities import in_digits, plain
from model.verdict import MEANING

_EDIT = r"(?:forg(?:ed|ery|eries|ing)|tamper\w*|manipulat\w*|alter(?:ed|ation\w*|ing)|edit(?:s|ed|ing)?|modif(?:y|ied|ication\w*)|changed)"
_EDITED = re.compile(rf"\b{_EDIT}\b")
_UNTOUCHED = re.compile(
    r"\b(?:un(?:altered|touched|edited|modified|manipulated|tampered|changed)|authentic\w*|autent\w*|genuin\w*|real|really"
    r"|reality|original\w*|pristine|legit\w*|intact|innocent|bona fide|valid|true|truth\w*|honest)\b"
)
_NOT = re.compile(r"\b(?:not?|never|none|nothing|neither|nor|without|hardly|barely|unlikely|cannot|free of|lacks?)\b|n't\b")
_UNDECIDED = re.compile(
    r"\binconclusive|\bno[ _]evidence|\btoo (?:weak|small)|\bundecided|\bnothing (?:was |is |can be )?(?:found|said)"
)
_CLEARS = re.compile(
    r"\b(?:no (?:sign|trace|indication|hint|evidence|reason|suspicion)\w*|nothing (?:wrong|suspicious|unusual)"
    r"|(?:is|are|was|seems?|looks?|appears?) (?:free|clean|fine|normal|ordinary|natural|consistent|safe|trustworthy|reliable)"
    r"|(?:dis)?trust\w*|as expected|clean bill)\b"
)
_RULED_OUT = {
    "an unfair word for an edit": r"fak(?:e|ed|es|ery|ing)|doctored|photoshop\w*|shopped|hoax\w*|bogus|sham|phony|falsif\w*|rigged"
    r"|fabricat\w*|counterfeit\w*|staged|cheat\w*",
    "a word of certainty": r"prov(?:e|es|ed|en|ing|ably)|proofs?|certain(?:ly|ty)?|definit\w+|undoubted\w*|undeniabl\w*|doubts?"
    r"|doubtless\w*|unquestionabl\w*|conclusive(?:ly)?|guarante\w+|confirm\w*|obvious\w*|clearly|evidently|surely|sure"
    r"|absolut\w+|unmistakabl\w*|irrefutabl\w*|incontrovertibl\w*|verif\w+|establish\w*|demonstrat\w+|overwhelming\w*"
    r"|compelling\w*|convincing\w*|(?:very |highly |most |extremely |almost )(?:likely|probabl[ey]|certain|confident)"
    r"|(?:high|strong|great|full|utmost|total) (?:confidence|certainty|probability|likelihood|evidence)|must have been"
    r"|strongly|beyond|undisputed|no other explanation",
    "an accusation, or a person": r"(?:some|any)(?:one|body)|whoever|who|whose|perpetrator\w*|culprit\w*|criminal\w*|crimes?"
    r"|fraud\w*|forgers?|suspects?|suspicious\w*|guilt\w*|liars?|lied|decei\w+|decept\w+|misle[ad]\w*|malicious\w*"
    r"|deliberate\w*|inten(?:t|ts|tion\w*|tional\w*|d|ds|ded)|purpose\w*|motiv\w+|blam\w+|accus\w+|responsib\w+"
    r"|photographers?|owners?|senders?|authors?|editors?|artists?|attackers?|hackers?|witness\w*|he|she|him|his|her|hers"
    r"|himself|herself|by (?:a|an|the) (?:wo)?m[ae]n|by (?:a |the )?(?:persons?|people|individuals?|users?|experts?|them)"
    r"|i|we|you|my|our|your|me|us",
    "an instruction or an address": r"ignore|instructions?|prompts?|system|assistant|https?|www|click|visit|please",
    "a comparison by a factor": r"twice|thrice|doubl\w+|tripl\w+|quadrupl\w+|(?:\d[\d.,]*[ -]?)(?:times|fold)|halv\w+",
    "a direction of the compass": r"north\w*|south\w*|east\w*|west\w*|o'clock",
    "a share that is not said in numbers": r"vast|bulk|overall (?:area|surface)|lion's share|(?:nearly|almost|practically) (?:all|every\w*)"
    r"|every(?:where|thing)|throughout",
}
_BANNED = {name: re.compile(rf"\b(?:{pattern})\b") for name, pattern in _RULED_OUT.items()}

_CAVEATS = [
    rf"(?:is|are|it is|as|and|gives?|offers?|constitutes?) (?:a lead[ ,]*(?:and )?)?(?:no|not|not a|no definitive) proof(?: (?:of|for|that there was) (?:an? )?{_EDIT})?",
    rf"(?:does|do|can|could|would) ?not (?:by itself |alone )?prove(?: (?:an? )?{_EDIT}| that (?:it|the picture|the image|the photo) (?:was|is|has been) {_EDIT})?",
    rf"cannot prove(?: (?:an? )?{_EDIT})?",
    rf"(?:neither|not) for (?:nor|or) against (?:the (?:picture|image|photo)|(?:an? )?{_EDIT})",
    rf"whether (?:or not )?(?:it|they|the (?:picture|image|photo|region|regions|marked region|marked regions)) (?:was|were|is|are|has been|have been) {_EDIT}",
    rf"(?:traces? )?(?:like|similar to|such as) (?:those|traces|the traces|what) (?:that |of |which )?(?:an? )?{_EDIT}(?: (?:leaves?|would leave))?",
    r"matche?s? without an edit",
    r"not (?:examined|calibrated|a photograph)",
    r"one may be a copy of the other, or both belong to a pattern that repeats",
]
MEASURED = re.compile(r"\b(?:untouched|held-out|such) (?:pictures|photos|photographs|images|files)\b|\bforgeries\b")
"""What the error rates were measured on."""
_RATES = re.compile(
    r"\b(?:(?:wrongly |still )?(?:called|judged) (?:forged|inconclusive)(?: by mistake)?|untouched (?=pictures|photos|photographs|images"
    r"|files)|(?:of|among) (?:the )?(?:\d[\d,]* )?(?:made |held-out )*forgeries)\b"
)
_CAVEAT = re.compile("|".join(rf"(?:{phrase})" for phrase in _CAVEATS))
_MEANING = {verdict: in_digits(plain(meaning)).rstrip(".") for verdict, meaning in MEANING.items()}

_METADATA = "metadata"
_TERMS: dict[str, tuple[str, frozenset[str]]] = {
    "copying": (r"cop(?:y|ied|ies|ying)|copy-?move\w*|clon\w+|duplicat\w+", frozenset({"matching_place"})),
    "splicing": (r"splic\w+|past(?:e|ed|ing)|composit\w+|insert\w+|montage|collage|(?:added|pasted|put|placed) (?:in|into|later)", frozenset()),
    "removal": (
        r"inpaint\w*|eras(?:e|ed|er|ing|ure)|remov\w+|retouch\w*|airbrush\w*|heal(?:ed|ing)|content-aware|painted|replac\w+|cover(?:ed)? up"
        r"|conceal\w*|hid(?:e|den|ing)",
        frozenset(),
    ),
    "generation": (
        r"(?:ai|gan|gans)(?:-\w+)?|generat(?:ed|ive|ion|or|ors)|synthe\w+|artificial\w*|deep-?fak\w*|diffusion|face-? ?swap\w*|rendered",
        frozenset({"generator_settings", "generative_edit", "digital_source_type"}),
    ),
    "compression": (
        r"(?:re|double |twice )?-?compress\w*|jpeg|quantiz\w+|quantis\w+|saved (?:again|twice)|resav\w*",
        frozenset({"compressed_twice", "quantization_tables", "restored_jpeg", "social_network"}),
    ),
    "metadata": (
        r"metadata|exif|xmp|iptc|gps|time-? ?stamps?|dates?|camera(?:'s)? (?:makes?|models?)|software|edit history|programs?",
        frozenset({_METADATA}),
    ),
    "the thumbnail": (r"thumbnails?", frozenset({"thumbnail_differs", "thumbnail_unread"})),
    "content credentials": (r"credentials?|c2pa|signatures?|signed|manifests?", frozenset({"content_credentials", "credential_actions"})),
    "the kind of picture": (r"screen(?:shot|s|shots)?|drawings?|scanned|scans?", frozenset({"screen_or_drawing"})),
    "light": (r"lighting|shadow\w*|illuminat\w+|reflect\w+|perspective\w*|vanishing|specular", frozenset()),
    "what nothing was measured for": (
        r"unnatural\w*|inconsisten\w+|irregular\w*|anomal\w+|art[ei]fact\w*|blur\w*|halos?|seams?|smooth\w*|sharp\w*|nois[ey]\w*|grain\w*"
        r"|textur\w*|resampl\w+|interpolat\w+|pixelat\w+|alias\w*|feather\w*|misalign\w*|distort\w*|warp\w*|mismatch\w*|discontinu\w+"
        r"|out of place|does not (?:fit|belong|match)|unusual\w*|odd\w*|strange\w*|abrupt\w*|edges? (?:are|is|of the (?:object|face|person))",
        frozenset(),
    ),
    "a method": (
        r"error level analysis|ela|ghosts?|prnu|sensor\w*|fingerprints?|cfa|demosaic\w*|fourier|spectr\w+|histogram\w*|wavelet\w*|statistic\w*",
        frozenset(),
    ),
}  # fmt: skip
_TERM = {name: re.compile(rf"\b(?:{pattern})\b") for name, (pattern, _) in _TERMS.items()}

NEVER_SPLIT = ("authentic", "genuine", "unaltered", "untouched", "unedited", "photoshop", "deepfake", "fraud", "criminal")
"""Refused even where blanks or other characters are put between their letters."""


def without_caveats(sentence: str, known: Given) -> str:
    """The sentence without what may always be said: what the verdict means, and that it proves nothing."""
    return _CAVEAT.sub(" ; ", sentence.replace(_MEANING[known.verdict], " ; "))


def refused_words(sentence: str, known: Given) -> Iterator[str]:
    """What a sentence says that it may not, in words.

    Args:
        sentence: lower case, numbers in digits, as `in_digits` gives it, without caveats.
    """
    rest = _RATES.sub(" ; ", sentence) if MEASURED.search(sentence) and "%" in sentence else sentence
    if known.supports:
        rest = re.sub(r"\bsupports? an edit\b", " ; ", rest)
    rest = re.sub(r"\b(?:above which|so) the verdict is forged\b|\bspeaks? against an edit\b", " ; ", rest)
    for name, pattern in _BANNED.items():
        if match := pattern.search(rest):
            yield f"{name}: “{match[0]}”"
    if match := _UNTOUCHED.search(rest):
        yield f"it says “{match[0]}”, which no verdict says"
    if match := _CLEARS.search(rest):
        yield f"it clears the picture: “{match[0]}”"
    edited, undecided = _EDITED.search(rest), _UNDECIDED.search(rest)
    if edited and known.verdict != "forged":
        yield f"it says “{edited[0]}”, the verdict is {known.verdict.replace('_', ' ')}"
    elif edited and (negation := _NOT.search(rest)):
        yield f"it says “{edited[0]}” with “{negation[0]}”, the verdict is forged"
    if undecided and known.verdict != "inconclusive":
        yield f"it says “{undecided[0]}”, the verdict is {known.verdict.replace('_', ' ')}"
    elif undecided and re.search(r"\b(?:not|never|longer|hardly|far from)\b[^.]*\binconclusive", rest):
        yield "it says that the verdict is not inconclusive"
    for name, pattern in _TERM.items():
        kinds = _TERMS[name][1]
        if (match := pattern.search(rest)) and not kinds & (known.kinds | known.sources):
            yield f"it names {name} (“{match[0]}”), which was not found"
    yield from _against_threshold(sentence, known)


_ABOVE = re.compile(r"\b(?:above|over|exceed\w*|(?:higher|greater|larger|more) than|surpass\w*|pass(?:es|ed)|reach\w*)\b")
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


_OPENERS = frozenset(
    "a about according additionally all among also although an and another any are as at based because besides beside both but by "
    "close compared considering consequently despite due each even finally first for from furthermore given here however if "
    "in inside is it its like likewise looking moreover near neither next no note of on one only or other otherwise outside "
    "overall part several since so some such summary taken that the their them then there therefore these they this those "
    "though three thus to together two under unless until was were what when where whereas which while with within without "
    "four five six seven eight nine ten second third region regions area areas picture image photo photograph score verdict "
    "threshold confidence mask heatmap finding findings machine model tool result results pixels pixel x y".split()
)

_FUNCTION = re.compile(r"\b(?:the|of|and|this|that|these|those|it|its|with|has|have|are|for|to|there|by|which)\b")


def not_english(sentence: str) -> bool:
    """Whether a sentence of several words has none of the commonest English words."""
    return len(re.findall(r"[a-z]{2,}", sentence)) >= 4 and not _FUNCTION.search(sentence)
