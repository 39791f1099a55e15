"""Photos decoded when they are drawn, the last ones kept: for more photos than a disk should hold decoded."""

from __future__ import annotations

import math
from collections import OrderedDict
from pathlib import Path

import numpy as np

from model.images.pixels import DamagedFileError, Pixels, opened, rgb, stored_size

KEPT_BYTES = 128_000_000
"""So many bytes of decoded photos are kept at most, in each process."""


class RecentPhotos:
    """Decodes photos and keeps the last ones. What is pickled keeps none, so that each worker begins with its own.

    Args:
        most: so many bytes are kept at most; a photo beyond it is not kept at all.
    """

    def __init__(self, most: int = KEPT_BYTES) -> None:
        self.most, self.kept_bytes = most, 0
        self._kept: OrderedDict[Path, Pixels] = OrderedDict()

    def __reduce__(self) -> tuple[type[RecentPhotos], tuple[int]]:
        return type(self), (self.most,)

    def photo(self, path: Path, size: tuple[int, int]) -> Pixels:
        """A photo, H×W×3 uint8, read-only.

        Args:
            path: the photo.
            size: its height and width, as they were when the photos were listed.

        Raises:
            DamagedFileError: it cannot be decoded, or has another size by now.
        """
        if path in self._kept:
            self._kept.move_to_end(path)
            return self._kept[path]
        pixels = decoded(path, size)
        if pixels.nbytes <= self.most:
            self._kept[path] = pixels
            self.kept_bytes += pixels.nbytes
        while self.kept_bytes > self.most:
            self.kept_bytes -= self._kept.popitem(last=False)[1].nbytes
        return pixels


def decoded(path: Path, size: tuple[int, int]) -> Pixels:
    """All pixels of a photo of a height and width, H×W×3 uint8, read-only. Raises DamagedFileError."""
    with opened(path, math.inf) as image:  # compared before anything is decoded, and after
        found = stored_size(image)
        pixels = rgb(image) if found == size else np.empty((0, 0, 3), np.uint8)
    if pixels.shape[:2] != size:
        raise DamagedFileError(f"{path}: {found[1]}×{found[0]} pixels, not {size[1]}×{size[0]} as when it was listed")
    pixels.flags.writeable = False
    return pixels
