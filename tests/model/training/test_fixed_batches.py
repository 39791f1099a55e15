"""The validation's pictures: what each process gets, and what is said when none can be made."""

from __future__ import annotations

import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from model.training.errors import ResourcesError
from model.training.feed import Feed
from model.training.validation import fixed_batches
from tests.model.training.made import QUICK, Squares, options, task


def test_every_process_has_a_batch_and_none_has_anothers(tmp_path: Path) -> None:
    made = task(tmp_path, validation_samples=3)
    numbers = []
    for rank in range(4):
        process: Any = SimpleNamespace(process_index=rank, num_processes=4)
        batches = fixed_batches(Feed(made.validation, QUICK, 3, 1), made.options, process)
        numbers += [batch.number for batch in batches]
    assert sorted(numbers) == [0, 1, 2, 3]


def test_a_worker_that_dies_before_the_first_step() -> None:
    class Deadly(Squares):
        def batch(self, index: int, count: int) -> Any:
            os._exit(9)

    process: Any = SimpleNamespace(process_index=0, num_processes=1)
    with pytest.raises(ResourcesError, match="makes batches died"):
        fixed_batches(Feed(Deadly(1), QUICK, 3, 1), options(workers=1), process)
