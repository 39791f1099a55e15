"""A cluster as one `Network`: pixels travel to the workers, and predictions back.

It serves runs whose source and sink stay in this process, such as a measurement. A picture costs 3 bytes a pixel on the
way there and 4 on the way back.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from clue_cli.cluster import Cluster, ItemLost, Workers
from clue_cli.engine import BYTES_PER_PIXEL, Answer, Budget, Pool
from clue_cli.errors import Aborted
from clue_cli.networks import NetworkOptions, Unpredicted
from model.checkpoint import Checkpoint
from model.predictor import OutOfMemory, Prediction
from model.synthetic import Method

Key = TypeVar("Key")
Pixels = NDArray[np.uint8]
Result = Prediction[None] | OutOfMemory[None] | Unpredicted[None]


@dataclass(frozen=True, slots=True)
class _Image:
    for_network: Pixels
    cost: int


class _NoPool(nullcontext[None]):
    """No process decodes: the pixels are there."""

    def close(self) -> None:
        """Nothing was started."""


class Predict:
    """The `Part` whose item is an image, H×W×3 uint8 as stored, and whose output is the network's answer."""

    def open(self, decoders: int) -> Pool:
        """No processes."""
        return _NoPool()

    def decode(self, item: Pixels, pool: Any, budget: Budget) -> Iterator[_Image]:
        """The image itself."""
        cost = item.size // 3 * BYTES_PER_PIXEL
        budget.acquire(cost)
        yield _Image(item, cost)

    def finish(self, work: _Image, answer: Answer[_Image] | None, device: str) -> Result:
        """The answer without the pixels, which the driver has."""
        assert answer is not None
        return replace(answer, key=None)  # type: ignore[arg-type, return-value]


class ClusterNetwork:
    """All workers of a cluster as one `Network`; they start when the first image comes.

    As many threads as the workers ask for, which can become more, each take an image, wait for its answer and take the
    next. An answer never waits for the next image, so None among the images says nothing here. Whoever yields images
    bounds how many bytes are under way, as `engine.Flow` does.

    Args:
        connect: gives the cluster; called when the first image comes.
        checkpoint: of the model.
        device: where workers run it.
        options: which model runs where, and how.
        method: judges each predicted picture as well; None: the second question is not asked.

    Attributes:
        asked, batch: 0: each worker has batches of its own.
        loading: seconds that loading took, of the slowest worker; 0 before.
    """

    asked = batch = 0

    def __init__(
        self,
        connect: Callable[[], Cluster],
        checkpoint: Checkpoint,
        device: str,
        options: NetworkOptions,
        method: Method | None = None,
    ) -> None:
        self.device, self.loading = device, 0.0
        self._connect, self._chosen = connect, (checkpoint, options, method)
        self._workers: Workers[Pixels, Result] | None = None
        self._lock = threading.Lock()
        self._aborted = False

    def predict(
        self, images: Iterable[tuple[Key, Pixels] | None]
    ) -> Iterator[Prediction[Key] | OutOfMemory[Key] | Unpredicted[Key]]:
        """One answer for each image, H×W×3 uint8 as stored, in the order in which they are finished.

        An image with which worker processes died again and again is an `Unpredicted`.

        Args:
            images: one thread at a time pulls them.

        Raises:
            ClueError: no worker is left, or none can load the network.
            Aborted: `abort` was called.
        """
        workers = self._started()
        source, turn, ended = iter(images), threading.Lock(), threading.Event()
        answers: queue.SimpleQueue[Prediction[Key] | OutOfMemory[Key] | Unpredicted[Key] | BaseException | None]
        answers = queue.SimpleQueue()
        threads: list[threading.Thread] = []

        def start() -> None:
            threads.append(threading.Thread(target=work, name="clue-cluster", daemon=True))
            threads[-1].start()

        def work() -> None:
            try:
                while not ended.is_set():
                    with turn:
                        image = next(source, _END)
                        if image is not _END and image is not None and len(threads) < workers.at_once:
                            start()
                    if isinstance(image, _End):
                        break
                    if image is not None:
                        answers.put(_ask(workers, *image))
                answers.put(None)
            except BaseException as error:  # whoever takes the answers raises it
                answers.put(error)

        start()
        finished = 0
        try:
            while finished < len(threads):
                answer = answers.get()
                if isinstance(answer, BaseException):
                    raise answer
                if answer is None:
                    finished += 1
                else:
                    self.loading = workers.loading
                    yield answer
        finally:
            ended.set()  # after an error threads may still wait for images, or for workers until `abort`

    def abort(self) -> None:
        """End the workers for good; `predict`, in another thread, ends with Aborted."""
        with self._lock:
            self._aborted = True
            workers = self._workers
        if workers is not None:
            workers.close()

    def stop(self) -> None:
        """End the workers, if there are any."""
        with self._lock:
            workers, self._workers = self._workers, None
        if workers is not None:
            workers.__exit__(None, None, None)

    def _started(self) -> Workers[Pixels, Result]:
        """The workers; the same ones in each call of `predict`."""
        with self._lock:
            if self._aborted:
                raise Aborted
            if self._workers is None:
                made = self._connect().workers(Predict(), *self._chosen)
                made.__enter__()
                self._workers = made
            return self._workers


class _End:
    """Says that there are no more images."""


_END = _End()


def _ask(
    workers: Workers[Pixels, Result], key: Key, pixels: Pixels
) -> Prediction[Key] | OutOfMemory[Key] | Unpredicted[Key]:
    """What a worker answers about one image."""
    found: Result | None = None
    try:
        for answer in workers.run(np.ascontiguousarray(pixels), pixels.nbytes):
            found = answer
    except ItemLost as error:  # after the answer it was lost for nothing
        if found is None:
            return Unpredicted(key, str(error))
    assert found is not None, "a worker ends an image without an answer"
    return replace(found, key=key)  # type: ignore[arg-type, return-value]
