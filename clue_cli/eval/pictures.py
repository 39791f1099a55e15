"""Pictures, masks and maps of a benchmark, read in other processes: hostile bytes cost the image they belong to."""

from __future__ import annotations

import re
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from PIL import Image

from clue_cli.evidence.item import Item, NotAPicture, Unreadable
from clue_cli.evidence.reader import read_item
from clue_cli.evidence.sandbox.pool import DecodePool, Unanswered
from clue_cli.evidence.sandbox.process import WORKER
from clue_cli.evidence.streams import DecodeLimits
from clue_cli.evidence.walk import open_file
from clue_cli.records import FileIdentity
from clue_cli.terminal import printable
from model.datasets.sample import Sample
from model.evaluation import read_truth
from model.evaluation.ground import MadeSample
from model.images.maps import Levels, Map, read_map
from model.images.masks import Mask, MaskStyle
from model.images.pixels import FORMATS, DamagedFileError, Header, Pixels


class Pictures:
    """Reads pictures and ground truths; from several threads at once, as many as there are workers.

    Args:
        workers: number of processes.
        max_megapixels: larger pictures and masks are not decoded (10⁶ pixels).
        worker_module: the module that a worker runs; tests put a bad one here.
    """

    def __init__(self, workers: int, max_megapixels: float, *, worker_module: str = WORKER) -> None:
        limits = DecodeLimits(max_megapixels=max_megapixels, max_pages=1)
        self._pool = DecodePool(workers, limits, worker_module=worker_module)
        self._max_megapixels, self._limit = max_megapixels, Image.MAX_IMAGE_PIXELS

    def __enter__(self) -> Self:
        """Start the workers; raises ClueError if they cannot run here at all."""
        Image.MAX_IMAGE_PIXELS = None  # it would refuse headers of pictures that `max_megapixels` allows
        self._pool.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        Image.MAX_IMAGE_PIXELS = self._limit
        self._pool.__exit__(kind, error, trace)

    def close(self) -> None:
        """End all workers: who waits for one stops waiting."""
        self._pool.close()

    def pixels(self, entry: Sample) -> Pixels:
        """The picture, its first page, H×W×3 uint8 as stored.

        Raises:
            DamagedFileError: why there is none.
        """
        if isinstance(entry, MadeSample):
            return entry.make()[1]
        name = printable(entry.key)
        for page in list(self._pool.decode(name, *_read(entry.image, name))):
            if isinstance(page, Unreadable):
                raise DamagedFileError(page.message)
            return page.pixels
        raise DamagedFileError("it holds no page")

    def truth(self, entry: Sample) -> Mask:
        """The union of the masks of an image, H×W bool, True = forged.

        Raises:
            DamagedFileError: a mask cannot be read, or they differ in size.
        """
        if isinstance(entry, MadeSample):
            truth = entry.make()[2].truth
            if truth is None:
                raise DamagedFileError("nothing in it is forged")
            return truth
        return read_truth(entry.masks, entry.style, read=self._mask)

    def header(self, path: Path) -> Header:
        """What a picture says of itself.

        Raises:
            DamagedFileError: it is none, or not there.
        """
        reply, _ = self._ask("header", path=str(path.absolute()))
        match reply:
            case {"width": int(width), "height": int(height), "format": str(form), "signature": str(signature)} if (
                min(width, height) > 0 and form in (*FORMATS, "MPO") and re.fullmatch("[0-9a-f]{16}", signature)
            ):
                return Header(width, height, form, signature)
        raise DamagedFileError("the decoder sent nonsense")

    def map(self, path: Path) -> Map:
        """Another method's map, as `model.images.maps.read_map`; a PNG is decoded in a worker.

        Raises:
            DamagedFileError: why there is none.
        """
        return read_map(path, self._max_megapixels, read=self._map_levels)

    def _map_levels(self, path: Path, max_megapixels: float) -> Levels:
        return self._levels("map", path=str(path.absolute()))

    def _mask(self, path: Path, style: MaskStyle) -> Mask:
        try:
            data, _ = _read(path, printable(path.name))
            return self._levels("mask", data, style=style) > 0
        except DamagedFileError as error:
            raise DamagedFileError(f"{printable(path.name)}: {error}") from error

    def _levels(self, operation: str, data: bytes = b"", **arguments: str) -> Levels:
        _, levels = self._ask(operation, data, **arguments)
        if levels is None:
            raise DamagedFileError("the decoder sent nonsense")
        return levels

    def _ask(self, operation: str, data: bytes = b"", **arguments: str) -> tuple[dict[str, Any], Levels | None]:
        try:
            return self._pool.ask(operation, data, **arguments)
        except Unanswered as error:
            raise DamagedFileError(str(error)) from error


def _read(path: Path, name: str) -> tuple[bytes, FileIdentity]:
    content = read_item(Item(name, None, path, lambda: open_file(path)))
    if isinstance(content, NotAPicture):
        raise DamagedFileError("it is not a picture")
    if isinstance(content, Unreadable):
        raise DamagedFileError(content.message)
    return content
