"""From the blocks of a volume to a tagged PDF: Typst in a process of its own, with what it cannot show spelled out."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import unicodedata
from collections.abc import Iterable, Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any

from clue_cli.errors import ClueError, ExitCode

Block = Mapping[str, Any]
"""A part of a page: `kind`, and what `report.typ` expects of that kind."""

_SPELLED_OUT = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp", "Zs"})
_LONGEST = 1800.0  # seconds for a volume
_LEVELS = 4  # of typst_process.py: more and more is spelled out


class TypesettingError(ClueError):
    """A volume could not be made."""

    exit_code = ExitCode.INTERNAL_ERROR


def shown(text: str) -> str:
    """The text as one line, with every invisible character but the plain space spelled out, e.g. `⟨U+202E⟩`.

    Directional controls, zero-width characters, other spaces, lone surrogates, private and unassigned ones: none can
    make one name look like another one, and the result can always be encoded.
    """
    if text.isascii() and text.isprintable():
        return text
    return "".join(
        f"⟨U+{ord(character):04X}⟩"
        if character != " " and unicodedata.category(character) in _SPELLED_OUT
        else character
        for character in text
    )


def safe(value: Any) -> Any:
    """`shown` for every string in lists and dictionaries."""
    if isinstance(value, str):
        return shown(value)
    if isinstance(value, Mapping):
        return {name: safe(item) for name, item in value.items()}
    if isinstance(value, Iterable):
        return [safe(item) for item in value]
    return value


def typeset(folder: Path, head: Mapping[str, Any], blocks: Iterable[Block]) -> Path:
    """Typeset a volume.

    Args:
        folder: empty but for the pictures that the blocks name.
        head: title, author, keywords, language, footer, page, created (Unix seconds).
        blocks: in their order.

    Returns:
        The PDF, in the folder.

    Raises:
        TypesettingError: Typst cannot make it, whatever is spelled out.
        OSError: the folder cannot be written.
    """
    (folder / "report.typ").write_bytes(files("clue_cli.case_report").joinpath("report.typ").read_bytes())
    data = json.dumps(safe(dict(head) | {"blocks": list(blocks)}), ensure_ascii=False)
    (folder / "data.json").write_text(data, "utf-8")
    said = ""
    for level in range(_LEVELS):
        said = _run(folder, level)
        if not said:
            return folder / "report.pdf"
    raise TypesettingError(
        f"The PDF could not be typeset: {said}",
        "Select fewer records with --only or --where to find the one that it fails on, and report the defect.",
    )


def _run(folder: Path, level: int) -> str:
    """Run the process; what went wrong, empty if nothing did."""
    script = Path(__file__).with_name("typst_process.py")
    command = [sys.executable, "-P", "-X", "utf8", str(script), str(folder), str(level)]
    environment = os.environ | {"RUST_BACKTRACE": "0"}
    try:
        done = subprocess.run(command, capture_output=True, env=environment, timeout=_LONGEST, check=False)
    except subprocess.TimeoutExpired:
        return f"it took longer than {_LONGEST:.0f} seconds"
    if done.returncode == 0 and (folder / "report.pdf").is_file():
        return ""
    try:
        return str(json.loads(done.stdout)["error"])
    except (ValueError, KeyError, TypeError):
        lines = done.stderr.decode("utf-8", "replace").strip().splitlines()
        return (lines[-1] if lines else "no reason was given") + f" (exit code {done.returncode})"
