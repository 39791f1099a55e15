"""The eight EXIF orientations, as exact transposes: no pixel is resampled.

The network looks for traces of the JPEG grid, which lies where the encoder put it; a person looks at the picture as
displayed. `stored_view` and `displayed_view` lead from one to the other and back.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL.Image import Transpose

TRANSPOSES: dict[int, Transpose] = {
    2: Transpose.FLIP_LEFT_RIGHT,
    3: Transpose.ROTATE_180,
    4: Transpose.FLIP_TOP_BOTTOM,
    5: Transpose.TRANSPOSE,
    6: Transpose.ROTATE_270,
    7: Transpose.TRANSVERSE,
    8: Transpose.ROTATE_90,
}
"""What Pillow is to do with a stored picture to show it; orientation 1 needs nothing. TIFF 6.0, tag 274."""

_INVERSE = {1: 1, 2: 2, 3: 3, 4: 4, 5: 5, 6: 8, 7: 7, 8: 6}


def displayed_view(stored: NDArray[Any], orientation: int) -> NDArray[Any]:
    """The picture as displayed, from the pixels as stored.

    Args:
        stored: H×W or H×W×C, any type.
        orientation: EXIF orientation, 1 to 8.

    Returns:
        A view: no pixel is copied. Raises ValueError for an orientation that does not exist.
    """
    match orientation:
        case 1:
            return stored
        case 2:
            return stored[:, ::-1]
        case 3:
            return stored[::-1, ::-1]
        case 4:
            return stored[::-1]
        case 5:
            return np.swapaxes(stored, 0, 1)
        case 6:
            return np.swapaxes(stored, 0, 1)[:, ::-1]
        case 7:
            return np.swapaxes(stored, 0, 1)[::-1, ::-1]
        case 8:
            return np.swapaxes(stored, 0, 1)[::-1]
    raise ValueError(f"EXIF orientation is 1 to 8, not {orientation}")


def stored_view(displayed: NDArray[Any], orientation: int) -> NDArray[Any]:
    """The inverse of `displayed_view`: the pixels as the encoder saw them. A view; raises ValueError likewise."""
    if orientation not in _INVERSE:
        raise ValueError(f"EXIF orientation is 1 to 8, not {orientation}")
    return displayed_view(displayed, _INVERSE[orientation])
