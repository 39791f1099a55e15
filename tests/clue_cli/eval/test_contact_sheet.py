"""Which images a contact sheet shows."""

from __future__ import annotations

import pytest

from clue_cli.eval.contact_sheet import EACH, pick
from model.evaluation import ImageRow


@pytest.mark.parametrize("count", [0, 1, 4, 8, 50])
def test_best_median_and_worst(count: int) -> None:
    picks = pick(ImageRow(f"{number:02d}", True, f1=number / 50) for number in range(count))
    assert len({one.key for one in picks}) == len(picks) == min(count, 3 * EACH)
    by_word = {word: [one.f1 for one in picks if one.words == word] for word in ("best", "median", "worst")}
    if count == 50:
        assert min(by_word["best"]) > max(by_word["median"]) > max(by_word["worst"])
