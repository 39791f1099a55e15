"""A budget that holds one image, and notes what it holds."""

from __future__ import annotations

import pytest

from clue_cli import engine as flow


class Held:
    """Bytes of the images in memory, and how many images there were after each that came in."""

    def __init__(self) -> None:
        self.now: list[int] = []
        self.most: list[int] = []


def one_at_a_time(monkeypatch: pytest.MonkeyPatch) -> Held:
    """Have all runs use a budget of less than one image: one at a time comes in."""
    held = Held()

    class Noted(flow.Budget):
        def acquire(self, size: int) -> None:
            super().acquire(size)
            held.now.append(size)
            held.most.append(len(held.now))

        def release(self, size: int) -> None:
            held.now.remove(size)
            super().release(size)

    monkeypatch.setattr(flow, "PIXEL_BUDGET", 1)
    monkeypatch.setattr(flow, "Budget", Noted)
    return held
