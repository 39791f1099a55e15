"""From pixels to a heatmap: tiles, noise seeded from the content, batches across images, blending."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Generic

import numpy as np
import torch
from numpy.typing import NDArray

from model.clue import CLUE
from model.prediction import Key, OutOfMemory, Prediction
from model.rectified_flow import content_seed, seeded_noise
from model.self_match import self_match
from model.tiling import Blend, Tile, padded, tiles
from model.transfer import Transfer
from model.weak_regions import demote_weak_regions


@dataclass(slots=True)
class _Work(Generic[Key]):
    key: Key
    pixels: NDArray[np.uint8]
    seed: int
    blend: Blend
    tiles: list[Tile]
    waiting: int
    matches: NDArray[np.float32] | None = None
    seconds: float = 0.0
    failure: str | None = None


@dataclass(slots=True)
class _Flight(Generic[Key]):
    """A batch that was given to the device, and the way to its tiles' probabilities, B×H×W float32."""

    jobs: list[tuple[_Work[Key], Tile]]
    arrive: Callable[[], NDArray[np.float32]]
    started: float


class Predictor:
    """Runs a CLUE over images of any size.

    Every tile's result depends on its own pixels, the image's seed and the size of the batch, which is constant: the
    arithmetic of a matrix product may be grouped differently for another size, which changes the last bits. What else
    is in the batch does not matter. On the CPU larger batches are no faster than single tiles.

    While a GPU computes a batch, the next one is cut, given its noise and sent there, and the one before is blended.

    Args:
        model: in evaluation mode, on its device, in its dtype.
        batch: tiles per batch; they are of one shape, and may come from several images.

    Attributes:
        asked: the batch as it was asked for.
        batch: the same, smaller once memory ran out.
        ahead: how many batches may be under way while the next is prepared; 0 on the CPU, which has its hands full.
    """

    def __init__(self, model: CLUE, batch: int = 1) -> None:
        if batch < 1:
            raise ValueError("a batch holds at least one tile")
        self.model = model.to(memory_format=torch.channels_last)
        self.spec = model.preset.tile
        self.asked = self.batch = batch
        self.device = next(model.parameters()).device
        self.ahead = 1 if self.device.type == "cuda" else 0
        self._transfer = Transfer(self.device)
        self._landed = 0.0
        view = model.preset.view
        self.matching = bool(view.channels and view.matches)

    def predict(
        self, images: Iterable[tuple[Key, NDArray[np.uint8]] | None]
    ) -> Iterator[Prediction[Key] | OutOfMemory[Key]]:
        """Predictions in the order of the images.

        Where memory runs out, the batch is halved for good; an image of which not even one tile fits is given up
        alone, and the rest goes on.

        Args:
            images: (key, H×W×3 uint8); pulled one at a time, only as far ahead as a batch needs. None says that the
                next one is not there yet: what is begun is finished first.
        """
        queue: deque[_Work[Key]] = deque()
        pending: deque[tuple[_Work[Key], Tile]] = deque()
        flights: deque[_Flight[Key]] = deque()
        for image in images:
            if image is None:
                self._run(pending, flights)
                self._land(flights)
                yield from self._finished(queue)
                continue
            key, pixels = image
            try:
                work = self._begin(key, pixels)
            except MemoryError as error:
                self._run(pending, flights)
                self._land(flights)
                yield from self._finished(queue)
                yield OutOfMemory(key, str(error) or "no memory for the heatmap")
                continue
            queue.append(work)
            for tile in work.tiles:
                if pending and self._shape(pending[0][1]) != self._shape(tile):
                    self._run(pending, flights)
                pending.append((work, tile))
                if len(pending) >= self.batch:
                    self._run(pending, flights)
            yield from self._finished(queue)
        self._run(pending, flights)
        self._land(flights)
        yield from self._finished(queue)

    def _begin(self, key: Key, pixels: NDArray[np.uint8]) -> _Work[Key]:
        height, width = pixels.shape[:2]
        cut = tiles(height, width, self.spec)
        work = _Work(key, pixels, content_seed(pixels), Blend(height, width, self.spec), cut, len(cut))
        if self.matching:
            started = time.perf_counter()
            work.matches = self_match(pixels)  # of the whole image: a copy may lie tiles away from its source
            work.seconds = time.perf_counter() - started
        return work

    def _finished(self, queue: deque[_Work[Key]]) -> Iterator[Prediction[Key] | OutOfMemory[Key]]:
        while queue and queue[0].waiting == 0:
            work = queue.popleft()
            if work.failure is not None:
                yield OutOfMemory(work.key, work.failure)
            else:
                # The weights of a blend are rounded: a sum of ones may come out above one.
                np.clip(work.blend.heatmap, 0.0, 1.0, out=work.blend.heatmap)
                demote_weak_regions(work.blend.heatmap, self.model.preset.regions)
                yield Prediction(work.key, work.blend.heatmap, work.seed, len(work.tiles), work.seconds)

    def _shape(self, tile: Tile) -> tuple[int, int]:
        multiple = self.spec.multiple
        return -(-tile.height // multiple) * multiple, -(-tile.width // multiple) * multiple

    def _run(self, pending: deque[tuple[_Work[Key], Tile]], flights: deque[_Flight[Key]]) -> None:
        """Give all that is pending to the device, in batches; at most `ahead` of them are not landed afterwards."""
        while pending:
            jobs = [pending.popleft() for _ in range(min(self.batch, len(pending)))]
            alive = [job for job in jobs if job[0].failure is None]
            message = None
            try:
                if alive:
                    flights.append(self._compute(alive))
            except (MemoryError, RuntimeError) as error:
                if not ran_out_of_memory(error):
                    raise
                message = str(error).splitlines()[0] if str(error) else "out of memory"
            if message is not None:  # only here: the exception held on to what was allocated
                self._land(flights)
                if self.device.type == "cuda":
                    torch.cuda.empty_cache()
                if len(jobs) > 1:
                    self.batch = len(jobs) // 2
                    pending.extendleft(reversed(jobs))
                    continue
                jobs[0][0].failure = message
            for work in (work for work, _ in jobs if work.failure is not None):
                work.waiting -= 1
            self._land(flights, self.ahead)

    def _land(self, flights: deque[_Flight[Key]], remaining: int = 0) -> None:
        """Wait for the oldest batches and blend their tiles, until so many are left under way."""
        while len(flights) > remaining:
            flight = flights.popleft()
            probability = flight.arrive()
            now = time.perf_counter()
            share = (now - max(flight.started, self._landed)) / len(flight.jobs)  # batches overlap, seconds do not
            self._landed = now
            for (work, tile), tile_probability in zip(flight.jobs, probability[: len(flight.jobs)], strict=True):
                work.blend.add(tile, tile_probability)
                work.seconds += share
                work.waiting -= 1

    @torch.inference_mode()
    def _compute(self, jobs: list[tuple[_Work[Key], Tile]]) -> _Flight[Key]:
        started = time.perf_counter()
        pixels = np.stack([padded(work.pixels, tile, self.spec.multiple) for work, tile in jobs])
        shape = self.model.latent_shape(pixels.shape[1], pixels.shape[2])
        noise = torch.stack([seeded_noise(work.seed, tile.top, tile.left, shape) for work, tile in jobs])
        # uint8 travels to the device; the division happens there. B×H×W×3 permuted is channels-last already.
        matches = [_part(work.matches, tile, pixels.shape[1:3]) for work, tile in jobs if work.matches is not None]
        if len(jobs) < self.batch:  # a constant shape: other kernels for a last, smaller batch would change last bits
            missing = self.batch - len(jobs)
            pixels = np.concatenate([pixels, np.repeat(pixels[-1:], missing, 0)])
            noise = torch.cat([noise, noise[-1:].expand(missing, -1, -1, -1)])
            matches += matches[-1:] * missing
        up = self._transfer.up
        x = up(torch.from_numpy(pixels)).permute(0, 3, 1, 2).float().div(255)
        seen = up(torch.from_numpy(np.stack(matches))) if matches else None
        logits = self.model(x, up(noise), seen)
        return _Flight(jobs, self._transfer.down(torch.sigmoid(logits).squeeze(1).float()), started)


def _part(maps: NDArray[np.float32], tile: Tile, shape: tuple[int, ...]) -> NDArray[np.float32]:
    """The cells of one tile, zero where the tile is padded: C×shape/8."""
    rows, columns = shape[0] // 8, shape[1] // 8
    part = maps[:, tile.top // 8 : tile.top // 8 + rows, tile.left // 8 : tile.left // 8 + columns]
    return np.pad(part, ((0, 0), (0, rows - part.shape[1]), (0, columns - part.shape[2])))


def ran_out_of_memory(error: Exception) -> bool:
    """Whether an exception of torch's says so: a bare RuntimeError on the CPU, and from cuBLAS and cuDNN."""
    words = ("allocate memory", "CUDA error: out of memory", "STATUS_ALLOC_FAILED")
    return isinstance(error, (MemoryError, torch.OutOfMemoryError)) or any(word in str(error) for word in words)
