"""Makes pictures for `clue forge`, each from the settings and its number alone, and writes them."""

from __future__ import annotations

import atexit
import io
import signal
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from clue_cli.errors import NothingToScanError, OutputError
from clue_cli.evidence.sandbox.pool import DecodePool
from clue_cli.evidence.streams import DecodeLimits
from clue_cli.forging.options import KINDS, ForgeOptions, registered_autoencoder
from clue_cli.forging.photos import Found, PhotoFailure, SandboxReader
from clue_cli.results.folder import ResultsFolder
from clue_cli.results.pictures import encode_mask
from clue_cli.terminal import printable
from model.data.filling import Registered, load_autoencoder, load_inpainter
from model.data.forge import EDIT_ERRORS, EDITS, Forgery, forge, forge_photo, reason
from model.data.scene import Tools
from model.data.source_photos import Cutout, SourcePhotos

IMAGES, MASKS = "images", "masks"
Line = dict[str, Any]
"""Of `forgeries.jsonl`: what was done for one picture, in JSON types."""
ATTEMPTS, UNREADABLE, INVISIBLE = 60, 30, 4
"""Attempts at one picture. After UNREADABLE failed ones it is made authentic, which needs one photo and no edit; after
INVISIBLE edits that left nothing to see it stays authentic."""


@dataclass(frozen=True, slots=True)
class Job:
    """What every worker needs: the output folder, source photos, options, and the device of the user's models."""

    out: Path
    photos: Found
    cutouts: tuple[Cutout, ...]
    options: ForgeOptions
    device: str = "cpu"


def load_tools(options: ForgeOptions, device: str) -> Tools:
    """The models of the user. Raises ToolError (a ValueError) or BasesError if one cannot be loaded."""
    inpainter = None if options.inpainter is None else load_inpainter(options.inpainter, device)
    if base := registered_autoencoder(options.autoencoder):
        return Tools(inpainter, Registered(base.name, device), base.name)
    return Tools(inpainter, None if options.autoencoder is None else load_autoencoder(options.autoencoder, device))


class Worker:
    """Makes pictures by number.

    Args:
        job: what to make.
        pool: decodes the photos.
        tools: models of the user.
    """

    def __init__(self, job: Job, pool: DecodePool, tools: Tools) -> None:
        self._job, self._tools = job, tools
        reader = SandboxReader(job.photos, pool, enlarged=job.options.size is not None)
        self._photos = SourcePhotos([path for _, path, _ in job.photos.items], job.cutouts, reader=reader)
        self._folder = ResultsFolder(job.out)
        self._round, self._order = -1, np.empty(0, np.int64)

    def make(self, number: int) -> Line:
        """Make picture `number` and write it and its mask; returns its line of the log.

        Raises:
            NothingToScanError: none of many photos could be read.
            OutputError: it cannot be written, or would replace a file that is not of this run.
        """
        failed: list[dict[str, Any]] = []
        sample, attempt, failures = self._sample(number, failed)
        name = f"{number:06}"
        image = f"{IMAGES}/{name}.{'png' if sample.jpeg is None else 'jpg'}"
        mask = f"{MASKS}/{name}.png"
        self._write(image, sample.jpeg or _png(sample.pixels))
        self._write(mask, encode_mask(sample.mask))
        height, width = sample.mask.shape
        return {
            "number": number,
            "file": image,
            "mask": mask,
            "kind": sample.kind,
            "photos": [self._job.photos.items[photo][0] for photo in dict.fromkeys(sample.photos)],
            "seed": [self._job.options.seed, number, attempt],
            "width": width,
            "height": height,
            "forged_area_ratio": round(float(sample.mask.mean()), 6),
            "steps": sample.steps,
            "unreadable": [{"photo": photo, "reason": why} for photo, why in failures],
            "failed": failed,
        }

    def _sample(self, number: int, failed: list[dict[str, Any]]) -> tuple[Forgery, int, list[tuple[str, str]]]:
        """The sample, the attempt at which it succeeded, and the photos that could not be read before.

        Edits that failed on their photos are added to `failed`, with the seed that repeats them.
        """
        options, failures, invisible = self._job.options, {}, 0
        kind = self._kind(number)
        for attempt in range(1, ATTEMPTS + 1):
            rng = np.random.default_rng([options.seed, number, attempt])
            try:
                if options.size is not None:
                    sample = forge(self._photos, rng, options.size[1], options.size[0], kind, tools=self._tools)
                else:
                    host = self._host(number) if attempt == 1 else int(rng.integers(len(self._photos.paths)))
                    sample = forge_photo(self._photos, rng, host, kind, tools=self._tools)
            except PhotoFailure as failure:
                failures[str(failure.args[0])] = str(failure.args[1])
            except EDIT_ERRORS as error:
                failed.append({"seed": [options.seed, number, attempt], "reason": printable(reason(error))})
            else:
                invisible += 1
                if sample.kind == kind or invisible == INVISIBLE:
                    return sample, attempt, list(failures.items())
                continue
            if attempt == UNREADABLE:
                kind = "authentic"
        last = [*(f"{photo}: {why}" for photo, why in failures.items()), *(str(edit["reason"]) for edit in failed)][-1]
        raise NothingToScanError(
            f"Photos were tried {ATTEMPTS} times for one picture and none can be used; {last}",
            "Check the photos; --max-megapixels decides how large they may be.",
        )

    def _kind(self, number: int) -> str:
        """The kind of picture `number`, whatever photos it will be made of."""
        options = self._job.options
        rng = np.random.default_rng([options.seed, number, 0])  # 0 is the seed of no attempt
        if rng.random() < options.authentic:
            return "authentic"
        shares = {kind: KINDS[kind] for kind in options.kinds}
        weights = np.array(list(shares.values()), np.float64)
        return str(rng.choice(list(shares), p=weights / weights.sum()))

    def _host(self, number: int) -> int:
        """The photo of picture `number`: each photo once, then each once more in another order."""
        count = len(self._photos.paths)
        if number // count != self._round:
            self._round = number // count
            self._order = np.random.default_rng([self._job.options.seed, self._round, 0, 1]).permutation(count)
        return int(self._order[number % count])

    def _write(self, relative: str, data: bytes) -> None:
        """Write a file that is not there; one that is there already must be ours, which is to say, the same."""
        path = self._folder.inside(relative)
        try:
            same = path.is_file() and not path.is_symlink() and path.read_bytes() == data
        except OSError:
            same = False
        if same:
            return
        if path.is_symlink() or path.exists():
            raise OutputError(
                f"{path} is there already and is not of this run.", "Move it away, or choose another folder with --out."
            )
        self._folder.write(relative, data)


def _png(pixels: NDArray[np.uint8]) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG", compress_level=3)
    return buffer.getvalue()


def start_worker(job: Job, tools: Tools) -> Worker:
    """A worker with a decoder of its own, in this process. Raises ClueError if the decoder cannot run."""
    assert set(job.options.kinds) <= set(EDITS)
    cv2.setNumThreads(1)  # the processes are the parallelism
    pool = DecodePool(1, DecodeLimits(max_megapixels=job.options.max_megapixels, max_pages=1))
    pool.__enter__()
    atexit.register(pool.close)
    return Worker(job, pool, tools)


_worker: Worker | None = None


def initialize(job: Job) -> None:
    """Begin a worker process. Ctrl-C in the terminal is for the parent alone."""
    global _worker
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _worker = start_worker(job, load_tools(job.options, job.device))


def make(number: int) -> Line:
    """`Worker.make` in a worker process."""
    assert _worker is not None
    return _worker.make(number)
