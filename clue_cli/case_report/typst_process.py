"""The process that runs Typst over a folder. A script of its own: it imports nothing of clue.

The folder holds `report.typ`, `data.json` and the pictures; the PDF becomes `report.pdf` in it. What went wrong is a
line of JSON on stdout, and the exit code 1. Typst may panic on text that somebody thought out, which ends this process
and not the command; whoever called it tries again with more characters spelled out.
"""

from __future__ import annotations

import json
import re
import sys
import unicodedata
from collections.abc import Callable
from pathlib import Path

PLAIN = frozenset(
    chr(code)
    for block in ((0x20, 0x7E), (0xA1, 0xAC), (0xAE, 0x17F), (0x386, 0x3CE), (0x400, 0x45F))
    for code in range(block[0], block[1] + 1)
    if unicodedata.category(chr(code)) not in ("Cn", "Mn")
) | set("–—‘’‚“”„…×−°€≥≤⟨⟩ ")
"""Characters that the fonts within Typst have."""

_RIGHT_TO_LEFT = frozenset({"R", "AL", "AN"})
_KEPT: tuple[Callable[[str], bool], ...] = (
    lambda character: True,
    lambda character: unicodedata.bidirectional(character) not in _RIGHT_TO_LEFT,
    lambda character: character in PLAIN,
)
"""What is not spelled out at each level, as far as a font has it. At one level more the PDF is
tagged as always and not checked against PDF/UA-1: better a report that a screen reader may stumble over than none."""

_MISSING = re.compile(r'the text `"((?:[^"\\]|\\.)*)"` could not be displayed')
_ESCAPE = re.compile(r"\\u\{([0-9a-f]{1,6})\}")
_PROBE = b"""#set document(title: "probe")
#set text(font: ("Libertinus Serif", "DejaVu Sans Mono"))
#for character in json("characters.json") { block(character) }
"""


def spelled_out(characters: set[str]) -> dict[int, str]:
    """The table for `str.translate` that replaces each by its number."""
    return {ord(character): f"⟨U+{ord(character):04X}⟩" for character in characters}


def without_glyph(characters: set[str], folder: Path) -> set[str]:
    """Those that no font on this machine has; Typst itself says so, in one pass over all of them."""
    import typst

    rare = sorted(characters - PLAIN)
    if not rare:
        return set()
    (folder / "characters.json").write_text(json.dumps(rare), "utf-8")
    probe = folder / "probe.typ"
    probe.write_bytes(_PROBE)
    try:
        typst.compile(probe, root=folder, pdf_standards=["ua-1"])
    except typst.TypstError as error:
        texts = [_ESCAPE.sub(lambda found: chr(int(found[1], 16)), text) for text in _MISSING.findall(error.diagnostic)]
        return {character for text in texts for character in text} & characters
    return set()


def typeset(folder: Path, level: int) -> None:
    """Write `report.pdf`; raises typst.TypstError."""
    import typst

    data = folder / "data.json"
    text = data.read_text("utf-8")
    used = {character for character in set(text) if not character.isascii()}
    lost = {character for character in used if not _KEPT[min(level, len(_KEPT) - 1)](character)}
    lost |= without_glyph(used - lost, folder)
    (folder / "typeset.json").write_text(text.translate(spelled_out(lost)), "utf-8")
    created = int(json.loads(text)["created"])
    typst.compile(
        folder / "report.typ",
        output=folder / "report.pdf",
        root=folder,
        pdf_standards=["ua-1"] if level < len(_KEPT) else [],
        timestamp=created,
    )


def main() -> int:
    """Typeset what the command line names; the exit code."""
    import typst

    try:
        typeset(Path(sys.argv[1]), int(sys.argv[2]))
    except typst.TypstError as error:
        sys.stdout.write(json.dumps({"error": error.message}))
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
