"""What cannot be compared."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from clue_cli.errors import ClueError, NothingToScanError, UsageError
from clue_cli.eval.compare import compare_folders, describe
from clue_cli.eval.results import RESULTS
from tests.clue_cli.eval.conftest import Damaged, measured
from tests.clue_cli.eval.made import truth, write_set

ELA = "error level analysis"


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
    with pytest.raises(UsageError, match="no result of a network"):
        compare_folders(damaged.out, damaged.out, method="mini")
    (tmp_path / RESULTS).write_text(results.model_copy(update={"sets": [], "outcomes": []}).model_dump_json())
    with pytest.raises(
        UsageError, match=r"no set and attack in common: A has .*/set .* \(none\); B has no set \(none\)"
    ):
        compare_folders(damaged.out, tmp_path)


@pytest.mark.parametrize(("name", "value"), [("pixel_threshold", 0.4), ("resize", "nearest"), ("score_of_maps", None)])
def test_figures_of_another_kind(damaged: Damaged, tmp_path: Path, name: str, value: str | float | None) -> None:
    changed = damaged.results.configuration | {name: value}
    (tmp_path / RESULTS).write_text(damaged.results.model_copy(update={"configuration": changed}).model_dump_json())
    with pytest.raises(UsageError, match=f"not measured in the same way: {name} is .* in A and {value} in B"):
        compare_folders(damaged.out, tmp_path)


def test_a_set_is_known_by_what_it_holds_and_a_seed_that_differs_is_said(tmp_path: Path) -> None:
    here, elsewhere = write_set(tmp_path / "here", 2, 1), write_set(tmp_path / "elsewhere", 2, 1)
    for seed, folder in enumerate((here, elsewhere)):
        measured(
            folder.with_suffix(".out"), bench=(str(folder),), methods=("ela",), attacks=("none,noise:3",), seed=seed
        )
    plain, attacked = compare_folders(here.with_suffix(".out"), elsewhere.with_suffix(".out"), method=ELA)
    assert (plain.set, plain.seeds, attacked.seeds) == (f"{here} (in B {elsewhere})", None, (0, 1))
    assert plain.comparisons[0].difference.value == 0
    said = "what the attack draws at random differs: --seed 0 in A, 1 in B"
    assert said in describe([attacked]) and said not in describe([plain])
    assert "A = \\x1b[31m, B = error" in describe([replace(plain, a="\x1b[31m")]), "results may be somebody else's"


def test_few_images_claim_no_difference(tmp_path: Path) -> None:
    """Four differences of one sign: an exact test cannot go below 2/16."""
    folder = write_set(tmp_path / "set", 4, 0)
    for name, share in (("good", 0.9), ("bad", 0.0)):
        maps = tmp_path / name
        maps.mkdir()
        for number in range(4):
            np.save(maps / f"t{number}.npy", truth(number).astype(np.float32) * np.float32(share))
        measured(tmp_path / f"out-{name}", bench=(str(folder),), predictions=maps)
    (found,) = compare_folders(tmp_path / "out-good", tmp_path / "out-bad")
    f1 = found.comparisons[0]
    assert (f1.p_value, f1.least_p, f1.differs) == (0.125, 0.125, False)
    said = describe([found])
    assert "p = 0.125: too few images: p cannot be below 0.125" in said and "real" not in said
    assert "differs at the 5 % level" in describe([replace(found, comparisons=[replace(f1, p_value=0.05)])])
