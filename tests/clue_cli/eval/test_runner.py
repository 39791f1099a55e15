"""The flow of a measurement: what it holds in memory, and how often it reads."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from clue_cli.eval import runner
from clue_cli.eval.pictures import Pictures
from clue_cli.scan.channel import Budget
from model.datasets.sample import Sample
from model.evaluation.truth import Mask
from tests.clue_cli.eval.conftest import measured
from tests.clue_cli.eval.made import SIZE, write_set

ATTACKS = ("none", "resize:2", "jpeg:70", "resize:0.5")


def test_one_picture_at_a_time_and_each_mask_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A budget of less than one picture; an attack that enlarges it is counted, and all of it is given back."""
    budgets: list[Noted] = []
    read: Counter[str] = Counter()

    class Noted(Budget):
        def __init__(self, limit: int) -> None:
            super().__init__(limit)
            self.acquired: list[int] = []
            self.held = 0
            budgets.append(self)

        def acquire(self, size: int) -> None:
            super().acquire(size)
            self.acquired.append(size)
            self.held += size

        def release(self, size: int) -> None:
            self.held -= size
            super().release(size)

    class Counting(Pictures):
        def truth(self, entry: Sample) -> Mask:
            read[entry.key] += 1
            return super().truth(entry)

    monkeypatch.setattr(runner, "PIXEL_BUDGET", 1)
    monkeypatch.setattr(runner, "Budget", Noted)
    monkeypatch.setattr(runner, "Pictures", Counting)
    folder = write_set(tmp_path / "set", 2, 1)
    results = measured(tmp_path / "out", bench=(str(folder),), methods=("classical",), attacks=ATTACKS)
    assert [one.unmeasured for one in results.outcomes] == [0] * len(results.outcomes)
    assert read == {"Tp/t0.jpg": 1, "Tp/t1.jpg": 1}, "three methods and four attacks, one ground truth"
    (budget,) = budgets
    pixels = SIZE[0] * SIZE[1] * runner.BYTES_PER_PIXEL
    assert Counter(budget.acquired) == {pixels: 3 * len(ATTACKS), 4 * pixels: 3}
    assert budget.held == 0
