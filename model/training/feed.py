"""From samples to the tensors of a batch, made in worker processes ahead of time.

Batch number i, the noise included, depends on the seed and i alone: the number of workers and interruptions of the
training change nothing.
"""

from __future__ import annotations

import ctypes
import signal
import sys
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple, Protocol, TypeVar

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from model.branches import noise_shape
from model.data.mix import Shape
from model.data.stream import Batch, TrainingSample
from model.preset import Preset
from model.rectified_flow import seeded_noise
from model.self_match import self_match
from model.training.errors import ResourcesError

ATTEMPTS = 8
AnyBatch = TypeVar("AnyBatch")
_PR_SET_PDEATHSIG = 1
FAR = 2**40
"""Where the substitutes of a batch without a readable sample are taken from: no training gets there."""

_OF_QUERIES = 2**31
"""Where samples have their number: no noise of a sample has this one."""


class StreamLike(Protocol):
    """An endless, numbered sequence of batches: `model.data.stream.Stream` and `model.data.made.MadeStream`."""

    @property
    def shapes(self) -> Sequence[Shape]:
        """The sizes that samples have; those of one batch have the same."""
        ...

    def shape(self, index: int) -> Shape:
        """The size of the samples of batch number `index`."""
        ...

    def batch(self, index: int, count: int) -> Batch:
        """Batch number `index`, always the same."""
        ...


class FeedBatch(NamedTuple):
    """One batch.

    Attributes:
        number: in the stream.
        images: B×3×H×W uint8.
        masks: B×1×H×W bool, True = forged.
        noise: ε, B×C×h×w float32.
        matches: maps of self-similarity, B×C×⌈H/8⌉×⌈W/8⌉ float32, for presets that look at them.
        damaged: pictures that were skipped.
        problem: why the batch has no sample; empty: it has some.
        sources: name of the source of each sample.
        queries: the text that each sample is asked about, empty for the empty prompt; (): none is asked.
    """

    number: int
    images: Tensor
    masks: Tensor
    noise: Tensor
    matches: Tensor | None
    damaged: list[str]
    problem: str = ""
    sources: tuple[str, ...] = ()
    queries: tuple[str, ...] = ()

    def to(self, device: torch.device) -> tuple[Tensor, Tensor, Tensor | None]:
        """What the network takes, on `device`: pixels in [0, 1], noise, matches."""
        images = self.images.to(device, non_blocking=True).float().div(255)
        matches = None if self.matches is None else self.matches.to(device, non_blocking=True)
        noise = self.noise.to(device, non_blocking=True)
        return images.contiguous(memory_format=torch.channels_last), noise, matches


class Feed(Dataset[FeedBatch]):
    """The batches of a stream, as tensors.

    Args:
        stream: where the samples come from.
        preset: says the shape of the noise, and whether self-similarity is looked at.
        batch: samples in a batch of the stream's smallest shape; of larger shapes fewer, so that pixels are no more.
        seed: of the noise.
        without_matches: share of the batches that see no self-similarity.
        queries: share of the samples with a text that are asked about it.
    """

    def __init__(
        self,
        stream: StreamLike,
        preset: Preset,
        batch: int,
        seed: int,
        without_matches: float = 0.0,
        queries: float = 0.0,
    ) -> None:
        self.stream, self.preset, self.batch, self.seed = stream, preset, batch, seed
        self.without_matches, self.queries = without_matches, queries

    def count(self, index: int) -> int:
        """How many samples batch number `index` has, if none is damaged."""
        smallest = min(shape.height * shape.width for shape in self.stream.shapes)
        shape = self.stream.shape(index)
        return max(1, self.batch * smallest // (shape.height * shape.width))

    def __getitem__(self, index: int) -> FeedBatch:
        """Batch number `index`. One without a readable sample is replaced by another one from far away."""
        damaged: list[str] = []
        for attempt in range(ATTEMPTS):
            number = index + attempt * FAR
            found = self.stream.batch(number, self.count(number))
            damaged += found.damaged
            if found.samples:
                return self._tensors(index, found.samples, damaged)
        nothing = torch.zeros(0)
        problem = f"{ATTEMPTS} batches in a row had no readable sample; the last: {damaged[-1] if damaged else 'empty'}"
        return FeedBatch(index, nothing, nothing, nothing, None, damaged, problem)

    def _tensors(self, index: int, samples: Sequence[TrainingSample], damaged: list[str]) -> FeedBatch:
        images = torch.stack([torch.from_numpy(_writable(s.pixels)).permute(2, 0, 1) for s in samples])
        masks = torch.stack([torch.from_numpy(_writable(s.mask))[None] for s in samples])
        shape = noise_shape(self.preset, images.shape[-2], images.shape[-1])
        noise = torch.stack([seeded_noise(self.seed, index, number, shape) for number in range(len(samples))])
        matches = None
        if self.preset.view.channels and self.preset.view.matches:
            found = [self_match(s.pixels) if s.matches is None else s.matches for s in samples]
            matches = torch.stack([torch.from_numpy(one) for one in found])
            if np.random.default_rng([self.seed, index]).random() < self.without_matches:
                matches = torch.zeros_like(matches)
        sources = tuple(sample.source for sample in samples)
        return FeedBatch(index, images, masks, noise, matches, damaged, "", sources, self._asked(index, samples))

    def _asked(self, index: int, samples: Sequence[TrainingSample]) -> tuple[str, ...]:
        if not self.queries:
            return ()
        draws = np.random.default_rng([self.seed, index, _OF_QUERIES]).random(len(samples))
        return tuple(sample.text if draw < self.queries else "" for sample, draw in zip(samples, draws, strict=True))


def batches(
    feed: Dataset[AnyBatch], indexes: Sequence[int], workers: int, pin_memory: bool = False
) -> Iterator[AnyBatch]:
    """The batches of these numbers, in this order, made ahead of time by `workers` processes.

    Raises:
        ResourcesError: one of these processes died; from the iterator.
    """
    if workers:
        cv2.setNumThreads(1)  # here too: ending a pool of threads that a fork has not copied waits for ever
    several: dict[str, Any] = {"prefetch_factor": 4, "worker_init_fn": _prepare_worker} if workers else {}
    loader = DataLoader(
        feed,
        batch_size=None,
        sampler=indexes,
        num_workers=workers,
        collate_fn=_as_it_is,
        pin_memory=pin_memory,
        **several,
    )
    return _while_workers_live(iter(loader))


def _while_workers_live(supply: Iterator[AnyBatch]) -> Iterator[AnyBatch]:
    try:
        yield from supply
    except RuntimeError as error:
        if "DataLoader worker (pid" not in str(error):  # an error inside a worker that is still alive
            raise
        raise ResourcesError(
            "A process that makes batches died; the machine may have run out of memory.",
            "Use fewer --workers. The same command resumes from the last checkpoint.",
        ) from error
    finally:
        # An error's traceback can keep the workers alive; they ignore SIGTERM, and the process would wait for them.
        getattr(supply, "_shutdown_workers", lambda: None)()


def _as_it_is(batch: Any) -> Any:
    return batch


def _writable(array: NDArray[Any]) -> NDArray[Any]:
    # torch warns about memory that it could not write to
    return np.array(array, order="C")


def _prepare_worker(number: int) -> None:
    if sys.platform == "linux":  # else it would live on for seconds after its parent was killed
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    # Ctrl-C goes to every process of the terminal; the training ends its workers itself, when it has saved.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
