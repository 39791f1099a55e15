"""`clue sample`: sample evidence with known ground truth."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Annotated

import typer

from clue_cli.commands.options import path
from clue_cli.errors import UsageError
from clue_cli.terminal import printable, say


def sample(
    folder: Annotated[
        Path | None, typer.Argument(parser=path, metavar="DIR", help="Folder to write; a new or empty one.")
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", parser=path, metavar="DIR", help="The same as DIR."),
    ] = None,
) -> None:
    """Write sample evidence with known ground truth: authentic, spliced, copy-moved and inpainted pictures."""
    from clue_cli.sample import truth_folder, write_sample  # brings scipy and scikit-image

    chosen = folder or out
    if chosen is None or (folder and out):
        raise UsageError("Name one folder to write.", "Example: clue sample ./evidence")
    written = write_sample(chosen)
    labels = Counter(exhibit.picture.label for exhibit in written.exhibits)
    kinds = ", ".join(f"{count} {label}" for label, count in labels.items())
    case, truth = printable(str(chosen)), printable(str(truth_folder(chosen)))
    say(f"{case}: {len(written.evidence)} files with {len(written.exhibits)} images ({kinds}).")
    say(f"{truth}: masks and truth.csv with the edits of each image.")
