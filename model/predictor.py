"""From pixels to a heatmap: overlapping tiles, noise seeded from the content, batches across images, blending.

Tiles start on multiples of 8 pixels, so that the network sees the 8×8 grid of a JPEG where the encoder put it; the
last tile of a row or column may reach over the border and is padded, not enlarged. Blending weights are products of
two one-dimensional ones that sum to one: besides the heatmap itself nothing of the image's size is kept.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, Future, ThreadPoolExecutor, wait
from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Generic, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from model.clue import CLUE
from model.cuda_graphs import Graphs
from model.device import Transfer, ran_out_of_memory
from model.postprocess import complete
from model.preset import TileSpec
from model.rectified_flow import content_seed, seeded_noise
from model.score import SCREEN, image_features, kind_of
from model.self_match import one_thread, self_match

if TYPE_CHECKING:
    from model.runtimes import GraphNetwork
    from model.synthetic import Detection

Key = TypeVar("Key")


@dataclass(frozen=True, slots=True)
class Prediction(Generic[Key]):
    """What the network said of one image.

    Attributes:
        key: whatever the caller handed in.
        heatmap: H×W float32 in [0, 1].
        features: `model.score.FEATURES` of the heatmap as the network gave it, before it was drawn along the
            edges of the picture and weak regions were lowered (`model.predictor.complete`): they rank pictures better.
        seed: of the noise, from the content.
        tile_count: number of tiles.
        seconds: this image's share of the time that searching, the network and its heatmap took.
        synthetic: what a method says on whether the whole picture was generated, or why it says nothing; None: it was
            not asked. The predictor does not ask.
    """

    key: Key
    heatmap: NDArray[np.float32]
    features: NDArray[np.float64]
    seed: int
    tile_count: int
    seconds: float
    synthetic: Detection | str | None = None


@dataclass(frozen=True, slots=True)
class OutOfMemory(Generic[Key]):
    """Not even one tile of this image at a time fits the memory there is."""

    key: Key
    message: str


@dataclass(frozen=True, slots=True)
class Tile:
    """A rectangle of the image: pixels [top, top + height) × [left, left + width), all inside the image."""

    top: int
    left: int
    height: int
    width: int


def starts(length: int, spec: TileSpec) -> list[tuple[int, int]]:
    """(start, extent) of the tiles along one side of `length` pixels; one tile if it fits.

    As few tiles as `spec.size` and `spec.overlap` allow, all of one extent no larger than needed: equal shapes batch
    well, and no pixel is computed more often than the overlap asks for. Starts are multiples of `spec.multiple`.
    """
    if length <= spec.size:
        return [(0, length)]
    count = -(-(length - spec.overlap) // (spec.size - spec.overlap))
    extent = _up(-(-(length + (count - 1) * spec.overlap) // count), spec.multiple)
    last = _up(length - extent, spec.multiple)  # the first start from which a tile reaches the border
    positions = [*range(0, (count - 1) * (extent - spec.overlap), extent - spec.overlap), last]
    return [(start, min(extent, length - start)) for start in positions]


def _up(value: int, multiple: int) -> int:
    return -(-value // multiple) * multiple


def tiles(height: int, width: int, spec: TileSpec) -> list[Tile]:
    """All tiles of an image, row by row."""
    columns = starts(width, spec)
    return [Tile(top, left, h, w) for top, h in starts(height, spec) for left, w in columns]


def padded(pixels: NDArray[np.uint8], tile: Tile, multiple: int) -> NDArray[np.uint8]:
    """The tile's pixels, mirrored outwards on the right and at the bottom up to a multiple: h×w×3 uint8."""
    part = pixels[tile.top : tile.top + tile.height, tile.left : tile.left + tile.width]
    pad = ((0, -tile.height % multiple), (0, -tile.width % multiple), (0, 0))
    return np.ascontiguousarray(np.pad(part, pad, mode="symmetric") if pad[0][1] or pad[1][1] else part)


def weights(length: int, spec: TileSpec) -> list[NDArray[np.float32]]:
    """Blending weights along one side, one array per tile: falling towards inner edges, their sum 1 at every pixel."""
    segments = starts(length, spec)
    raw = []
    for start, extent in segments:
        position = np.arange(extent) + 0.5
        left = position if start > 0 else np.full(extent, np.inf)
        right = extent - position if start + extent < length else np.full(extent, np.inf)
        raw.append(np.minimum(np.minimum(left, right), max(spec.overlap, 1)))
    total = np.zeros(length)
    for (start, extent), weight in zip(segments, raw, strict=True):
        total[start : start + extent] += weight
    return [
        (weight / total[start : start + extent]).astype(np.float32)
        for (start, extent), weight in zip(segments, raw, strict=True)
    ]


class Blend:
    """Collects tile heatmaps, in any order, into one H×W float32 heatmap."""

    def __init__(self, height: int, width: int, spec: TileSpec) -> None:
        self.heatmap: NDArray[np.float32] = np.zeros((height, width), np.float32)
        self._rows = dict(zip(starts(height, spec), weights(height, spec), strict=True))
        self._columns = dict(zip(starts(width, spec), weights(width, spec), strict=True))

    def add(self, tile: Tile, probability: NDArray[np.float32]) -> None:
        """Add one tile's probabilities, at least tile.height×tile.width (padding is cut off)."""
        part = probability[: tile.height, : tile.width]
        target = self.heatmap[tile.top : tile.top + tile.height, tile.left : tile.left + tile.width]
        if target.shape == self.heatmap.shape:  # one tile: the untiled result, to the bit
            target[:] = part
            return
        rows, columns = self._rows[tile.top, tile.height], self._columns[tile.left, tile.width]
        target += part * rows[:, None] * columns[None, :]


SMALL = 100_000_000
"""Parameters. A network below this has a tile at a time on each core of a CPU, up to HELPERS: that takes less time than
one tile after the other on all of them. A larger one needs the memory."""
HELPERS = 8
"""Most threads that search, compute on a CPU and complete. They take turns at the interpreter's lock, which was held in
38 % of samples with two of them (two cores, `mini`): many more would wait for it. Whether eight is best was not
measured. Cores beyond that are for what decodes and writes, and for other processes."""


@dataclass(slots=True)
class _Work(Generic[Key]):
    key: Key
    pixels: NDArray[np.uint8]
    seed: int
    blend: Blend
    tiles: list[Tile]
    waiting: int
    search: Future[NDArray[np.float32]] | None = None
    matches: NDArray[np.float32] | None = None
    completion: Future[Prediction[Key]] | None = None
    seconds: float = 0.0
    failure: str | None = None


@dataclass(slots=True)
class _Flight(Generic[Key]):
    """A batch that is being computed, its size with what fills it up, and the way to B×H×W float32 probabilities."""

    jobs: list[tuple[_Work[Key], Tile]]
    size: int
    arrive: Callable[[], NDArray[np.float32]]
    started: float
    alone: bool = False


class Predictor:
    """Runs a CLUE over images of any size.

    Every tile's result depends on its own pixels, the image's seed and the size of the batch, which is constant: the
    arithmetic of a matrix product may be grouped differently for another size, which changes the last bits. What else
    is in the batch does not matter, nor how the pixels lie in memory: a turned photo comes as a view of the displayed
    one. On the CPU larger batches are no faster than single tiles.

    Threads search images for places that repeat (`model.self_match`) before the network has them, and complete what it
    found. While a GPU computes a batch, the next one is cut, given its noise and sent there, and the one before is
    blended. On a CPU the same threads compute batches if the network is SMALL: whatever comes next, on one core each,
    so that none waits for another, and the bits are those of one core however many there are.

    Args:
        model: in evaluation mode, on its device, in its dtype; or run by another library on the CPU.
        batch: tiles per batch; they are of one shape, and may come from several images.
        graphs: on a GPU, replay CUDA graphs of shapes that recur (`model.cuda_graphs`), to the same bits: only where
            the weights stay where they are. A network compiled as a whole has its own.

    Attributes:
        asked: the batch as it was asked for.
        batch: the same, smaller once memory ran out.
        lanes: how many batches threads of this process compute at a time; 0: the caller's thread does.
        helpers: how many threads search and complete; those that compute are the same ones.
        ahead: how many batches may be under way while the next is prepared.
    """

    def __init__(self, model: CLUE | GraphNetwork, batch: int = 1, *, graphs: bool = False) -> None:
        if batch < 1:
            raise ValueError("a batch holds at least one tile")
        self.model = model.to(memory_format=torch.channels_last)
        self.spec = model.preset.tile
        self.asked = self.batch = batch
        self.device = next((parameter.device for parameter in model.parameters()), torch.device("cpu"))
        small = sum(parameter.numel() for parameter in model.parameters()) < SMALL
        cores, gpu = torch.get_num_threads(), self.device.type == "cuda"
        self.lanes = min(cores, HELPERS) if not gpu and small and cores > 1 else 0
        self.helpers = min(cores, HELPERS) if gpu else max(1, self.lanes)
        self.ahead = 1 if gpu else self.lanes
        self._transfer = Transfer(self.device)
        self._probabilities: Callable[[Tensor, Tensor, Tensor | None], Tensor] = self._forward
        if graphs and self.device.type == "cuda" and model._compiled_call_impl is None:
            self._probabilities = Graphs(self._forward)
        view = model.preset.view
        self.matching = bool(view.channels and view.matches)

    @property
    def holds(self) -> int:
        """Most images that are begun and not answered while it asks for the next one: those that are searched, fill a
        batch or are in one under way, and are completed."""
        return 2 * self.helpers + (self.ahead + 1) * self.batch - 1

    def predict(
        self, images: Iterable[tuple[Key, NDArray[np.uint8]] | None]
    ) -> Iterator[Prediction[Key] | OutOfMemory[Key]]:
        """Predictions in the order of the images.

        Where memory runs out, the batch is halved for good; an image of which not even one tile fits is given up
        alone, and the rest goes on.

        Args:
            images: (key, H×W×3 uint8); pulled one at a time, at most `holds` ahead of the answers. None says that the
                next one is not there yet: what is begun is finished first.
        """
        run: _Run[Key] = _Run(self)
        try:
            for image in images:
                if image is None:
                    yield from run.finish()
                    continue
                key, pixels = image
                if not run.begin(key, pixels):
                    yield from run.finish()  # what is begun may hold the memory that it needs
                    if not run.begin(key, pixels):
                        yield OutOfMemory(key, "no memory for the heatmap")
                yield from run.finished()
            yield from run.finish()
        finally:
            run.close()

    def compute(self, jobs: list[tuple[_Work[Key], Tile]], lanes: Executor | None) -> _Flight[Key]:
        """Prepare a batch and give it to the device, or to one of the threads."""
        started = time.perf_counter()
        if lanes is not None:
            return _Flight(jobs, self.batch, lanes.submit(lambda: self._run(*self._inputs(jobs))()).result, started)
        inputs = self._inputs(jobs)
        return _Flight(jobs, len(inputs[0]), self._run(*inputs), started)

    def _inputs(self, jobs: list[tuple[_Work[Key], Tile]]) -> tuple[Tensor, Tensor, Tensor | None]:
        """Pixels, noise and matches of a batch, on their way to the device."""
        pixels = np.stack([padded(work.pixels, tile, self.spec.multiple) for work, tile in jobs])
        shape = self.model.latent_shape(pixels.shape[1], pixels.shape[2])
        noise = torch.stack([seeded_noise(work.seed, tile.top, tile.left, shape) for work, tile in jobs])
        matches = [_part(work.matches, tile, pixels.shape[1:3]) for work, tile in jobs if work.matches is not None]
        if len(jobs) < self.batch:  # a constant shape: other kernels for a last, smaller batch would change last bits
            missing = self.batch - len(jobs)
            pixels = np.concatenate([pixels, np.repeat(pixels[-1:], missing, 0)])
            noise = torch.cat([noise, noise[-1:].expand(missing, -1, -1, -1)])
            matches += matches[-1:] * missing
        up = self._transfer.up
        return up(torch.from_numpy(pixels)), up(noise), up(torch.from_numpy(np.stack(matches))) if matches else None

    @torch.inference_mode()
    def _run(self, pixels: Tensor, noise: Tensor, matches: Tensor | None) -> Callable[[], NDArray[np.float32]]:
        return self._transfer.down(self._probabilities(pixels, noise, matches))

    def _forward(self, pixels: Tensor, noise: Tensor, matches: Tensor | None) -> Tensor:
        """B×H×W×3 uint8, which travels to the device: the division happens there."""
        # Permuted it is channels-last; on a CPU what is done with single channels is faster if they lie apart.
        layout = torch.preserve_format if pixels.is_cuda else torch.contiguous_format
        x = pixels.permute(0, 3, 1, 2).to(torch.float32, memory_format=layout).div_(255)
        logits = self.model(x, noise, matches)
        return torch.sigmoid(logits).squeeze(1).float()


class _Run(Generic[Key]):
    """The images and batches of one call of `Predictor.predict` that are under way."""

    def __init__(self, predictor: Predictor) -> None:
        self.predictor = predictor
        self.queue: deque[_Work[Key]] = deque()
        """Images in the order of their results."""
        self.begun: deque[_Work[Key]] = deque()
        """Those whose tiles are not pending yet: their search goes on."""
        self.pending: deque[tuple[_Work[Key], Tile]] = deque()
        self.flights: deque[_Flight[Key]] = deque()
        self.landed = 0.0
        self.threads = torch.get_num_threads()  # also settles this thread's number before others set theirs
        self.helpers = ThreadPoolExecutor(predictor.helpers, "clue-helper", _settle_threads, (1,))
        self.lanes = self.helpers if predictor.lanes else None

    def close(self) -> None:
        """Wait for the threads, but not for what they have not begun."""
        self.helpers.shutdown(cancel_futures=True)
        torch.set_num_threads(self.threads)  # what threads that begin later find, whatever those have left

    def begin(self, key: Key, pixels: NDArray[np.uint8]) -> bool:
        """Cut an image and begin its search; those that are searched go to the network. False: no memory for it."""
        height, width = pixels.shape[:2]
        spec = self.predictor.spec
        cut = tiles(height, width, spec)
        try:
            work = _Work(key, pixels, content_seed(pixels), Blend(height, width, spec), cut, len(cut))
        except MemoryError:
            return False
        if self.predictor.matching:
            work.search = self.helpers.submit(self_match, pixels)  # of the whole image: a copy may lie tiles away
        self.queue.append(work)
        self.begun.append(work)
        while (one := self._searched()) is not None:
            self._admit(one)
        return True

    def _searched(self) -> _Work[Key] | None:
        """The next image that is ready for the network, or has to be waited for."""
        if not self.begun:
            return None
        search = self.begun[0].search
        ready = search is None or search.done() or len(self.begun) > self.predictor.helpers
        return self.begun.popleft() if ready else None

    def _admit(self, work: _Work[Key]) -> None:
        """Queue an image's tiles once its search is done, and run what fills a batch."""
        if work.search is not None:
            started = time.perf_counter()
            message = self._take_matches(work)
            if message is not None:  # the other searches may have held the memory that it needs
                self._wait()
                work.search = self.helpers.submit(self_match, work.pixels)
                message = self._take_matches(work)
            if message is not None:
                work.failure, work.waiting = message, 0
            self.landed = time.perf_counter()
            work.seconds = self.landed - started  # the rest of it passed while others had the network
        for tile in work.tiles if work.failure is None else ():
            if self.pending and self._shape(self.pending[0][1]) != self._shape(tile):
                self._run()
            self.pending.append((work, tile))
            if len(self.pending) >= self.predictor.batch:
                self._run()

    def _take_matches(self, work: _Work[Key]) -> str | None:
        """Wait for an image's search; in words if memory ran out."""
        search, work.search = work.search, None
        try:
            work.matches = None if search is None else search.result()
        except (MemoryError, RuntimeError) as error:
            if not ran_out_of_memory(error):
                raise
            return _first_line(error)
        return None

    def _wait(self) -> None:
        """Land all batches and wait until no thread has anything to do."""
        self._land()
        wait([work.search for work in self.queue if work.search is not None])
        wait([work.completion for work in self.queue if work.completion is not None])

    def finish(self) -> Iterator[Prediction[Key] | OutOfMemory[Key]]:
        """Compute all that is begun."""
        while self.begun:
            self._admit(self.begun.popleft())
            yield from self.finished()
        self._run()
        self._land()
        yield from self.finished(most=0)

    def finished(self, most: int | None = None) -> Iterator[Prediction[Key] | OutOfMemory[Key]]:
        """The results that are complete, in order; of those that are not, at most `most` (`holds`) are left."""
        most = self.predictor.holds if most is None else most
        while self.queue:
            work = self.queue[0]
            full = len(self.queue) > most
            if work.waiting and full:  # those behind it failed
                self._run()
                self._land()
            if work.waiting or (work.completion is not None and not (full or work.completion.done())):
                return
            yield self._answer(self.queue.popleft())

    def _answer(self, work: _Work[Key]) -> Prediction[Key] | OutOfMemory[Key]:
        if work.completion is not None:
            started = time.perf_counter()
            try:
                found = work.completion.result()
                now = time.perf_counter()
                seconds = work.seconds + now - max(started, self.landed)
                self.landed = now
                return replace(found, seconds=seconds)
            except (MemoryError, RuntimeError) as error:
                if not ran_out_of_memory(error):
                    raise
                work.failure = _first_line(error)
        return OutOfMemory(work.key, work.failure or "out of memory")

    def _completed(self, work: _Work[Key]) -> Prediction[Key]:
        """What is said of the heatmap as a whole, and done to it."""
        preset = self.predictor.model.preset
        # The weights of a blend are rounded: a sum of ones may come out above one.
        heatmap = np.clip(work.blend.heatmap, 0.0, 1.0, out=work.blend.heatmap)
        features = image_features(heatmap, work.pixels)
        if not (preset.screens_as_found and kind_of(features) == SCREEN):
            complete(heatmap, work.pixels, preset.level, preset.edges, preset.regions, self.helpers)
        return Prediction(work.key, heatmap, features, work.seed, len(work.tiles), 0.0)

    def _shape(self, tile: Tile) -> tuple[int, int]:
        multiple = self.predictor.spec.multiple
        return -(-tile.height // multiple) * multiple, -(-tile.width // multiple) * multiple

    def _run(self) -> None:
        """Give all that is pending to the device, in batches; at most `ahead` of them are not landed afterwards."""
        while self.pending:
            jobs = [self.pending.popleft() for _ in range(min(self.predictor.batch, len(self.pending)))]
            self._start(jobs)
            self._land(self.predictor.ahead)

    def _start(self, jobs: list[tuple[_Work[Key], Tile]], alone: bool = False) -> None:
        alive, size = [job for job in jobs if job[0].failure is None], self.predictor.batch
        for work in (work for work, _ in jobs if work.failure is not None):
            work.waiting -= 1
        message = None
        try:
            if alive:
                # The bits of one core also where the caller's thread computes in the place of one of the lanes.
                with one_thread() if alone and self.lanes else nullcontext():
                    flight = self.predictor.compute(alive, None if alone else self.lanes)
                flight.alone = alone
                self.flights.append(flight)
        except (MemoryError, RuntimeError) as error:
            if not ran_out_of_memory(error):
                raise
            message = _first_line(error)
        if message is not None:  # only here: the exception held on to what was allocated
            self._once_more(alive, size, message, alone or self.lanes is None)

    def _land(self, remaining: int = 0) -> None:
        """Wait for the oldest batches and blend their tiles, until at most `remaining` are under way."""
        while len(self.flights) > remaining:
            flight = self.flights.popleft()
            message = None
            try:
                probability = flight.arrive()
            except (MemoryError, RuntimeError) as error:
                if not ran_out_of_memory(error):
                    raise
                message = _first_line(error)
            if message is not None:
                self._once_more(flight.jobs, flight.size, message, flight.alone)
                continue
            now = time.perf_counter()
            share = (now - max(flight.started, self.landed)) / len(flight.jobs)  # batches overlap, seconds do not
            self.landed = now
            for (work, tile), tile_probability in zip(flight.jobs, probability[: len(flight.jobs)], strict=True):
                try:
                    work.blend.add(tile, tile_probability)
                except MemoryError as error:
                    work.failure = _first_line(error)
                work.seconds += share
                work.waiting -= 1
                if not work.waiting and work.failure is None:
                    work.completion = self.helpers.submit(self._completed, work)

    def _once_more(self, jobs: list[tuple[_Work[Key], Tile]], size: int, message: str, alone: bool) -> None:
        """Compute what did not fit with nothing else under way, in halves; a single tile that was alone is given up."""
        self._wait()
        if self.predictor.device.type == "cuda":
            torch.cuda.empty_cache()
        if size == 1 and alone:
            jobs[0][0].failure = message
            jobs[0][0].waiting -= 1
            return
        self.predictor.batch = min(self.predictor.batch, max(1, size // 2))
        rest = deque(jobs)
        while rest:
            self._start([rest.popleft() for _ in range(min(self.predictor.batch, len(rest)))], alone=True)
            self._land()


def _settle_threads(number: int) -> None:
    """Set how many cores this thread computes with, and keep it: on how many depends how some sums are grouped.

    A thread that torch has not asked for its number yet takes, when it first computes, what any other thread set last.
    """
    torch.get_num_threads()
    torch.set_num_threads(number)


def _part(maps: NDArray[np.float32], tile: Tile, shape: tuple[int, ...]) -> NDArray[np.float32]:
    """The cells of one tile, zero where the tile is padded: C×shape/8."""
    rows, columns = shape[0] // 8, shape[1] // 8
    part = maps[:, tile.top // 8 : tile.top // 8 + rows, tile.left // 8 : tile.left // 8 + columns]
    return np.pad(part, ((0, 0), (0, rows - part.shape[1]), (0, columns - part.shape[2])))


def _first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), "out of memory")
