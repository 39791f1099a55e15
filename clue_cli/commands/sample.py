"""`clue sample DIR`: sample evidence with known ground truth."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from rich.console import Console

from clue_cli.errors import ExitCode
from clue_cli.terminal import printable


def sample(folder: Path) -> ExitCode:
    """Write the sample evidence and report on stderr what was written where.

    Raises:
        ClueError: as `clue_cli.sample.write_sample` does.
    """
    from clue_cli.sample import truth_folder, write_sample  # scipy and scikit-image: only this command waits for them

    written = write_sample(folder)
    labels = Counter(exhibit.picture.label for exhibit in written.exhibits)
    kinds = ", ".join(f"{count} {label}" for label, count in labels.items())
    talk = Console(stderr=True, markup=False, highlight=False, soft_wrap=True)
    case, truth = printable(str(folder)), printable(str(truth_folder(folder)))
    talk.print(f"{case}: {len(written.evidence)} files with {len(written.exhibits)} images ({kinds}).")
    talk.print(f"{truth}: masks and truth.csv with the edits of each image.")
    return ExitCode.OK
