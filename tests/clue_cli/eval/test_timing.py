"""Where the time went: steps of several threads add up, and what fails is counted too."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from clue_cli.eval.timing import Timing


def test_steps_add_up(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([1.0, 3.0, 10.0, 14.0])
    monkeypatch.setattr("clue_cli.eval.timing.time", SimpleNamespace(perf_counter=lambda: next(clock)))
    spent = Timing()
    with spent.step("read"):
        pass
    with pytest.raises(OSError, match="cut"), spent.step("read"):
        raise OSError("cut")
    assert spent.steps == {"read": 6.0, "decode": 0.0, "attack": 0.0, "measure": 0.0}


@pytest.mark.parametrize(
    ("spent", "share"),
    [
        (Timing(), None),
        (Timing(wall=4.0), None),
        (Timing(wall=4.0, network=3.0), 0.25),
        (Timing(wall=4.0, network=5.0), 0.0),
    ],
)
def test_share_outside_the_network(spent: Timing, share: float | None) -> None:
    assert spent.outside == share
