"""Photos and their reconstructions by an autoencoder: each is made once and kept, as it takes long."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from model.data.mix import place
from model.data.synthetic_mix import Align
from model.datasets.sample import Sample
from model.images.pixels import DamagedFileError, Pixels, opened, read_pixels, rgb, stored_size
from model.reporter import SILENT, Reporter
from model.whole_file import remove_parts, write_whole

GRID = 16
"""Pixels: windows start on the grid of a JPEG, whatever its chroma subsampling, and end on it."""

Reconstruct = Callable[[str, Pixels, float, int], Pixels]
"""A picture through the autoencoder of a name and back, with noise of a deviation and a seed: H×W×3 uint8, the size
unchanged."""


@dataclass(frozen=True, slots=True)
class Window:
    """The part of a photo that is reconstructed, in stored pixels, and where its reconstruction lies."""

    left: int
    top: int
    width: int
    height: int
    autoencoder: str
    strength: float
    file: Path


class Pool:
    """A folder of reconstructions, each a PNG.

    Args:
        folder: where they lie.
        reconstruct: the autoencoder, for those that are wanted before `prepare`; None: they count as damaged.
        identify: what tells an autoencoder from another one that has had its name, such as the SHA-256 of its file.
    """

    def __init__(
        self, folder: Path, reconstruct: Reconstruct | None = None, identify: Callable[[str], str] = str
    ) -> None:
        self.folder, self._reconstruct, self.identify = folder, reconstruct, identify

    def get(self, sample: Sample, window: Window, limit: float) -> Pixels:
        """The reconstruction of a window, H×W×3 uint8.

        Raises:
            DamagedFileError: there is none, or it has another size, or the photo cannot be read.
        """
        if self._reconstruct is not None and not window.file.is_file():
            self.folder.mkdir(parents=True, exist_ok=True)
            _make(sample, window, self._reconstruct, limit)
        pixels = read_pixels(window.file)
        if pixels.shape[:2] != (window.height, window.width):
            raise DamagedFileError(f"{window.file}: not the reconstruction of {sample.image}")
        return pixels

    def window(self, sample: Sample, data: Align, size: tuple[int, int]) -> Window:
        """The window of a photo of this height and width: decided by its name alone."""
        name = sample.image.name
        height, width = (min(data.side, extent // GRID * GRID) for extent in size)
        top, left = (
            GRID * int(place(f"{axis} {name}") * ((extent - own) // GRID + 1))
            for axis, extent, own in (("top", size[0], height), ("left", size[1], width))
        )
        strength = data.strengths[int(place(f"strength {name}") * len(data.strengths))]
        said = [
            self.identify(data.autoencoder),
            repr(strength),
            str(sample.image),
            f"{left} {top} {width} {height} of {size}",
        ]
        key = hashlib.sha256("\0".join(said).encode("utf-8", "surrogatepass")).hexdigest()[:32]
        return Window(left, top, width, height, data.autoencoder, strength, self.folder / f"{key}.png")

    def prepare(
        self,
        wanted: list[tuple[Sample, Window]],
        reconstruct: Reconstruct,
        limit: float,
        stop: threading.Event,
        reporter: Reporter = SILENT,
    ) -> list[str]:
        """Make the reconstructions that are not there yet; fewer if `stop` is set.

        Args:
            wanted: photos and their windows.
            reconstruct: the autoencoder.
            limit: on the size of a photo, 10⁶ pixels.

        Returns:
            Photos that cannot be read, in words.

        Raises:
            OSError: the folder cannot be written; what was made before is whole.
        """
        damaged: list[str] = []
        missing = [(sample, window) for sample, window in wanted if not window.file.is_file()]
        if not missing:
            return damaged
        self.folder.mkdir(parents=True, exist_ok=True)
        remove_parts(self.folder)
        reporter.stage("Reconstructing photos", "photos", len(wanted), done=len(wanted) - len(missing))
        for sample, window in missing:
            if stop.is_set():
                break
            try:
                _make(sample, window, reconstruct, limit)
            except DamagedFileError as error:
                damaged.append(str(error))
            reporter.advance()
        return damaged


def photo_window(sample: Sample, window: Window, limit: float) -> Pixels:
    """The window of a photo as stored, H×W×3 uint8.

    Raises:
        DamagedFileError: it cannot be read, or has another size than when it was listed.
    """
    box = (window.left, window.top, window.left + window.width, window.top + window.height)
    with opened(sample.image, limit) as image:
        height, width = stored_size(image)
        if box[2] > width or box[3] > height:
            raise DamagedFileError(f"{sample.image}: another size than when it was listed")
        return np.array(rgb(image, box))  # a copy: torch warns about memory that it could not write to


def _make(sample: Sample, window: Window, reconstruct: Reconstruct, limit: float) -> None:
    pixels = photo_window(sample, window, limit)
    made = reconstruct(window.autoencoder, pixels, window.strength, int(place(f"noise {sample.image.name}") * 2**32))
    if made.shape != pixels.shape:
        raise ValueError(f"{sample.image}: a reconstruction of {made.shape}, expected {pixels.shape}")
    write_whole(window.file, lambda part: Image.fromarray(made).save(part, "PNG"))
