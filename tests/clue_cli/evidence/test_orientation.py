"""The eight orientations: exact, inverse to each other, and the same as Pillow's."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from clue_cli.evidence.orientation import TRANSPOSES, displayed_view, stored_view

STORED = np.arange(5 * 7 * 3, dtype=np.uint8).reshape(5, 7, 3)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("pixels", [STORED, STORED[..., 0]], ids=["rgb", "plane"])
def test_stored_and_displayed_lead_back_to_each_other(pixels: np.ndarray, orientation: int) -> None:
    displayed = displayed_view(pixels, orientation)
    np.testing.assert_array_equal(stored_view(displayed, orientation), pixels)
    np.testing.assert_array_equal(displayed_view(stored_view(pixels, orientation), orientation), pixels)
    assert np.shares_memory(displayed, pixels)


@pytest.mark.parametrize(("orientation", "transpose"), TRANSPOSES.items())
def test_displayed_is_what_pillow_shows(orientation: int, transpose: Image.Transpose) -> None:
    shown = np.asarray(Image.fromarray(STORED).transpose(transpose))
    np.testing.assert_array_equal(displayed_view(STORED, orientation), shown)


@pytest.mark.parametrize("orientation", [0, 9, -1])
def test_an_orientation_that_does_not_exist_is_refused(orientation: int) -> None:
    with pytest.raises(ValueError, match="1 to 8"):
        displayed_view(STORED, orientation)
    with pytest.raises(ValueError, match="1 to 8"):
        stored_view(STORED, orientation)
