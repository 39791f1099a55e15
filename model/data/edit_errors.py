"""What making one picture can raise on a photo that nobody foresaw: the picture is lost by it, not the run."""

from __future__ import annotations

import cv2

EDIT_ERRORS: tuple[type[Exception], ...] = (cv2.error, ArithmeticError, LookupError, MemoryError, ValueError)
"""OpenCV refuses a size or a type (no memory, too, is `cv2.error`), a range is empty, a region has no pixel, a picture
is too large to be saved in a format. Whatever else is raised is a defect, and ends the run."""

LONGEST_REASON = 300
"""Characters."""


def reason(error: Exception) -> str:
    """What was raised, on one line."""
    name = "OpenCV" if isinstance(error, cv2.error) else type(error).__name__
    said = " ".join(str(error).split())
    return f"{name}: {said}"[:LONGEST_REASON] if said else name
