"""Every test gets an accelerate of its own."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from accelerate.state import AcceleratorState


@pytest.fixture(autouse=True)
def fresh_accelerate() -> Iterator[None]:
    """Accelerate keeps its choices for the whole process; a training is one process."""
    yield
    AcceleratorState._reset_state(reset_partial_state=True)
