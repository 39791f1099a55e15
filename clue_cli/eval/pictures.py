"""Pictures, masks and maps of a benchmark, read in other processes: hostile bytes cost the image they belong to."""

from __future__ import annotations

import os
import re
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from clue_cli.eval.mask_worker import HEADER, MAP, MASK
from clue_cli.evidence.decode import DecodeLimits
from clue_cli.evidence.decode_pool import DecodePool
from clue_cli.evidence.identity import identify
from clue_cli.evidence.item import Item, NotAPicture, Photo, Unreadable
from clue_cli.evidence.orientation import stored_view
from clue_cli.evidence.reader import read_item
from clue_cli.evidence.walk import open_file
from clue_cli.terminal import printable
from model.datasets.sample import MaskStyle, Sample
from model.evaluation import UnreadablePicture, read_map, read_truth
from model.evaluation.maps import Levels, Map
from model.evaluation.truth import FORMATS, Header, Mask, marked

Pixels = NDArray[np.uint8]


class Pictures:
    """Reads pictures and ground truths; from several threads at once, as many as there are workers.

    Args:
        workers: number of processes.
        max_megapixels: larger pictures and masks are not decoded (10⁶ pixels).
        worker_module: the module that a worker runs; tests put a bad one here.
    """

    def __init__(
        self, workers: int, max_megapixels: float, *, worker_module: str = "clue_cli.eval.mask_worker"
    ) -> None:
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
            UnreadablePicture: why there is none.
        """
        photo = self._decode(entry.image, printable(entry.key), "")
        return np.ascontiguousarray(stored_view(photo.pixels, photo.orientation))

    def truth(self, entry: Sample) -> Mask:
        """The union of the masks of an image, H×W bool, True = forged.

        Raises:
            UnreadablePicture: a mask cannot be read, or they differ in size.
        """
        return read_truth(entry.masks, entry.style, read=self._mask)

    def header(self, path: Path) -> Header:
        """What a picture says of itself.

        Raises:
            UnreadablePicture: it is none, or not there.
        """
        match self._asked(path, HEADER).decoding:
            case (width, height, form, signature) if (
                all(re.fullmatch("[0-9]{1,10}", side) for side in (width, height))
                and form in FORMATS
                and re.fullmatch("[0-9a-f]{16}", signature)
            ):
                return Header(int(width), int(height), form, signature)
        raise UnreadablePicture("the decoder sent nonsense")

    def map(self, path: Path) -> Map:
        """Another method's map, as `model.evaluation.read_map`; a PNG is decoded in a worker.

        Raises:
            UnreadablePicture: why there is none.
        """
        return read_map(path, self._max_megapixels, read=self._map_levels)

    def _map_levels(self, path: Path, max_megapixels: float) -> Levels:
        page = self._asked(path, MAP)
        if page.decoding == ("8",):
            return page.pixels[:, :, 1]
        upper, lower = page.pixels[:, :, 0].astype(np.uint16), page.pixels[:, :, 1].astype(np.uint16)
        return upper << np.uint16(8) | lower

    def _asked(self, path: Path, kind: str) -> Photo:
        """The one page of the answer to a path."""
        name = os.fsencode(path.absolute())
        asked = identify(name, "").model_copy(update={"sniffed_type": kind})
        for page in list(self._pool.decode(printable(path.name), name, asked)):
            if isinstance(page, Photo):
                return page
            raise UnreadablePicture(page.message)
        raise UnreadablePicture("the decoder said nothing")

    def _mask(self, path: Path, style: MaskStyle) -> Mask:
        try:
            return marked(self._decode(path, printable(path.name), MASK).pixels, style)
        except UnreadablePicture as error:
            raise UnreadablePicture(f"{printable(path.name)}: {error}") from error

    def _decode(self, path: Path, name: str, kind: str) -> Photo:
        content = read_item(Item(name, None, path, lambda: open_file(path)))
        if isinstance(content, NotAPicture):
            raise UnreadablePicture("it is not a picture")
        if isinstance(content, Unreadable):
            raise UnreadablePicture(content.message)
        data, identity = content
        asked = identity.model_copy(update={"sniffed_type": kind + identity.sniffed_type})
        for page in list(self._pool.decode(name, data, asked)):
            if isinstance(page, Photo):
                return page
            raise UnreadablePicture(page.message)
        raise UnreadablePicture("it holds no page")
