"""What cannot be compared."""

from __future__ import annotations

from pathlib import Path

import pytest

from clue_cli.errors import ClueError, NothingToScanError, UsageError
from clue_cli.eval.compare import compare_folders
from clue_cli.eval.results import RESULTS
from tests.clue_cli.eval.conftest import Damaged


@pytest.mark.parametrize(
    ("content", "kind", "message"),
    [
        (None, NothingToScanError, "no results of clue eval"),
        (b"{}", NothingToScanError, "not a result that this version can read"),
        (b"\xff", NothingToScanError, "not a result that this version can read"),
    ],
)
def test_no_result(
    damaged: Damaged, tmp_path: Path, content: bytes | None, kind: type[ClueError], message: str
) -> None:
    if content is not None:
        (tmp_path / RESULTS).write_bytes(content)
    with pytest.raises(kind, match=message):
        compare_folders(damaged.out, tmp_path)


def test_without_its_log_or_method_or_anything_in_common(damaged: Damaged, tmp_path: Path) -> None:
    results = damaged.results
    (tmp_path / RESULTS).write_text(results.model_dump_json())
    with pytest.raises(UsageError, match="cannot be read"):
        compare_folders(damaged.out, tmp_path)
    with pytest.raises(UsageError, match="no result of JPEG ghosts"):
        compare_folders(damaged.out, damaged.out, method="JPEG ghosts")
    (tmp_path / RESULTS).write_text(results.model_copy(update={"sets": [], "outcomes": []}).model_dump_json())
    with pytest.raises(UsageError, match="no set and attack in common"):
        compare_folders(damaged.out, tmp_path)
