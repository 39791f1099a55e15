"""Checks a text that a language model wrote against what it was given; what the check does not understand is refused.

The model sees the picture, and with it whatever an attacker wrote into its pixels; it may also invent. So a text is
shown only if each of these holds:

- **Numbers.** Every number, in digits, words or as a fraction, is a rounding of a number that was given, at the
  precision that the text writes it with, of the same unit, with the same name (score, threshold, confidence, mean,
  peak, area, likeness, width, x, …), and of the region that the sentence speaks of. Nothing is rounded to none or to
  all. Pairs and ranges were given as such. An error rate stands with its n, its pictures (untouched or forgeries) and
  its verdict. "About" changes nothing; "more than", "almost" and the like are refused, but before a threshold. Shares
  of two numbers ("one in ten") and factors ("twice") are refused.
- **Vague amounts** must be true of the marked area, or of a region's: half .45 to .55; a third, a quarter and other
  fractions within .04, small ones within a fifth; most over .5; a large part at least .25; a small part at most .1; a
  tiny one at most .01; the whole at least .99. Several regions are at least 3; a few, some or multiple at least 2; many
  at least 10.
- **Regions** exist; counts of them are right. A position (top, left, centre, corner, …) fits the middle of the box of
  the region that is spoken of, or of one of them where the sentence names none. Where regions lie to each other is
  refused.
- **Words** contradict neither verdict nor threshold, claim no certainty, accuse nobody, and name nothing that was not
  found. A sentence that does not say what the picture shows keeps to a closed vocabulary
  (`clue_cli.explaining.words`).

What is not checked: what the text says the picture shows.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator

from clue_cli.explaining.claims import Claims
from clue_cli.explaining.given import Given
from clue_cli.explaining.quantities import in_digits, plain
from clue_cli.explaining.words import NEVER_SPLIT, names, open_words, refused_words, without_caveats

LONGEST, MOST_REASONS = 3000, 20
"""Characters of a text; reasons that are given."""

_ALLOWED = re.compile(r"[A-Za-z0-9 .,;:!'\"()\[\]%/×°=*+-]*")


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
    if re.search(r"\d{16}", text):
        yield "it has a number of more than 15 digits"
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
    context: frozenset[int] = frozenset()
    for sentence in re.split(r"(?<=[.!?])\s+(?=\D)", in_digits(written.replace("*", ""))):
        rest = without_caveats(sentence, known)
        yield from refused_words(rest, known)
        yield from open_words(rest, known)
        claims = Claims(rest, known, context)
        yield from claims.refused()
        context = claims.regions
