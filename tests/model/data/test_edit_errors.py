"""Which errors cost one picture, and how they are told."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("cv2", reason="the extra `train` is not installed")

import cv2

from model.data.edit_errors import EDIT_ERRORS, LONGEST_REASON, reason


def test_what_opencv_raises_is_told_on_one_line() -> None:
    with pytest.raises(EDIT_ERRORS) as raised:
        cv2.resize(np.zeros((0, 4, 3), np.uint8), (8, 8))
    said = reason(raised.value)
    assert said.startswith("OpenCV: ")
    assert "\n" not in said


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (ValueError("low >= high"), "ValueError: low >= high"),
        (MemoryError(), "MemoryError"),
        (IndexError("a\n  b"), "IndexError: a b"),
        (ZeroDivisionError("x" * 1000), f"ZeroDivisionError: {'x' * 1000}"[:LONGEST_REASON]),
    ],
)
def test_what_else_is(error: Exception, said: str) -> None:
    assert isinstance(error, EDIT_ERRORS)
    assert reason(error) == said


@pytest.mark.parametrize("error", [TypeError, AttributeError, OSError, KeyboardInterrupt])
def test_defects_are_none_of_them(error: type[BaseException]) -> None:
    assert not issubclass(error, EDIT_ERRORS)
