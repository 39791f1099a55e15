"""A network in a process of its own, spoken to as if it were a `Predictor`: one for each of several GPUs.

What a process was given stays here until it is answered. One that dies is restarted, and its images are computed
again, each alone: so the one that kills it is known, and it alone gets a failure. A process that dies again and again
is given up, and what it held goes to the other devices. Nothing is lost.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Generic

import numpy as np
from numpy.typing import NDArray

from clue_cli.errors import Aborted, UsageError, WeightsError
from clue_cli.evidence.sandbox.process import Child, ChildDied
from clue_cli.networks import NetworkLost, NetworkOptions, Unpredicted
from model.checkpoint import Checkpoint
from model.predictor import Key, OutOfMemory, Prediction
from model.synthetic import Detection, Method

if TYPE_CHECKING:
    import torch

_WORKER = "clue_cli.networks.worker"
_DEATHS = 3
"""How often in a row a process may die without having finished an image in between."""

Answer = tuple[dict[str, Any], NDArray[np.float32] | None, NDArray[np.float32] | None]
"""A header, the heatmap, and that of the second question."""


class NetworkProcess(Generic[Key]):
    """Starts the process when the first image comes; it stays until `stop`.

    Args:
        setup: which network, as `worker.load` reads it; `device` is one of its keys.
        warn: called with a sentence when a process died.
        module: what it runs, `python -m` style; tests put a bad one here.

    Attributes:
        device: where it runs.
        asked: tiles in a batch; 0 while nothing was started.
        batch: the same, smaller once memory ran out.
        loading: seconds that starting the process and loading the network took.
    """

    def __init__(self, setup: dict[str, Any], warn: Callable[[str], None], module: str | None = None) -> None:
        self._child, self._warn = Child(module or _WORKER, setup, inherit=True), warn
        self.device: str = setup["device"]
        self.asked = self.batch = 0
        self.loading = 0.0
        self._reader: threading.Thread | None = None
        self._answers: queue.SimpleQueue[Answer | ChildDied] = queue.SimpleQueue()
        self._held: dict[int, tuple[Key, NDArray[np.uint8]]] = {}
        self._number = self._deaths = self._window = 0

    def predict(
        self, images: Iterable[tuple[Key, NDArray[np.uint8]] | None]
    ) -> Iterator[Prediction[Key] | OutOfMemory[Key] | Unpredicted[Key]]:
        """As `Predictor.predict`: in the order of the images, but for what is computed again.

        Raises:
            NetworkLost: the device is of no use any more.
            WeightsError, UsageError: the network cannot be loaded.
            Aborted: `abort` was called.
        """
        try:
            for image in images:
                if image is None:
                    yield from self._results(0)
                else:
                    self._number += 1
                    self._held[self._number] = image
                    self._hand_over(self._number)
                    yield from self._results(self._window - 1)
            yield from self._results(0)
        except BaseException:
            self.stop()
            raise

    def _hand_over(self, number: int) -> None:
        if self._reader is None:
            self._start()
        pixels = np.ascontiguousarray(self._held[number][1])
        self._say({"image": number, "height": pixels.shape[0], "width": pixels.shape[1]}, pixels.data.cast("B"))

    def _say(self, header: dict[str, Any], data: bytes | memoryview = b"") -> None:
        """Send to the process. If it is dead, its answers say so, and nothing is lost."""
        with suppress(ChildDied):
            self._child.send(header, data)

    def _results(self, most: int) -> Iterator[Prediction[Key] | OutOfMemory[Key] | Unpredicted[Key]]:
        """Answers, until the process holds at most `most` images; with 0 it is asked to finish."""
        if most == 0 and self._held:
            self._say({"flush": True})
        while self._held:
            try:
                answer = self._answers.get(block=len(self._held) > most)
            except queue.Empty:
                return
            if isinstance(answer, ChildDied):
                yield from self._again(str(answer))
            else:
                yield self._result(*answer)

    def _result(
        self, header: dict[str, Any], heatmap: NDArray[np.float32] | None, second: NDArray[np.float32] | None
    ) -> Prediction[Key] | OutOfMemory[Key]:
        self._deaths, self.batch = 0, header["batch"]
        if heatmap is None:
            return OutOfMemory(self._held.pop(header["memory"])[0], header["message"])
        key, _ = self._held.pop(header["heatmap"])
        features = np.array(header["features"], np.float64)
        said = header.get("synthetic")
        if isinstance(said, dict):
            said = Detection(said["score"], second, said["parts"])
        return Prediction(key, heatmap, features, header["seed"], header["tiles"], header["seconds"], said)

    def _again(self, how: str) -> Iterator[Prediction[Key] | OutOfMemory[Key] | Unpredicted[Key]]:
        """Compute what a dead process held, image by image in a new one."""
        for number in list(self._held):
            if how:
                self._restart(how)
            self._hand_over(number)
            self._say({"flush": True})
            answer = self._answers.get()
            if isinstance(answer, ChildDied):
                how = str(answer)
                message = f"The network's process on {self.device} {how}, twice, with this image in it."
                yield Unpredicted(self._held.pop(number)[0], message)
            else:
                how = ""
                yield self._result(*answer)
        if how:  # the next image, if there is one, starts it
            self.stop()
            self._deaths += 1

    def _restart(self, how: str) -> None:
        if self._child.closed:
            raise Aborted
        self.stop()
        self._deaths += 1
        if self._deaths > _DEATHS:
            raise self._lost(how)
        self._warn(f"The network's process on {self.device} {how}; it is restarted.")
        self._start()

    def _lost(self, how: str) -> NetworkLost:
        keys = [key for key, _ in self._held.values()]
        self._held.clear()
        return NetworkLost(f"The network's process on {self.device} {how}", keys)

    def _start(self) -> None:
        started = time.perf_counter()
        try:
            header = self._child.ready()
        except ChildDied as error:
            if self._child.closed:
                raise Aborted from error
            raise self._lost(str(error)) from error
        if "refused" in header:
            self.stop()
            refusal = UsageError if header["refused"] == "UsageError" else WeightsError
            raise refusal(header["message"], header["advice"])
        self.loading += time.perf_counter() - started
        self.asked = self.batch = header["batch"]
        self._window = header["holds"] + self.batch + 1  # a batch is being read while it asks for the next image
        self._answers = queue.SimpleQueue()
        self._reader = threading.Thread(target=self._read, name="clue-answers", daemon=True)
        self._reader.start()

    def _read(self) -> None:
        """Take in all answers of one process, so that it never waits for a reader; the last says how it ended."""
        try:
            while "error" not in (header := self._child.receive()):
                maps: list[NDArray[np.float32] | None] = [None, None]
                for place, name in enumerate(("heatmap", "second_heatmap")):
                    if name in header:
                        maps[place] = found = np.empty((header["height"], header["width"]), np.float32)
                        self._child.receive_into(found.data.cast("B"))
                self._answers.put((header, maps[0], maps[1]))
            self._answers.put(ChildDied(f"failed ({header['error']})"))
        except ChildDied as error:
            self._answers.put(error)
        except Exception as error:  # e.g. no memory for a heatmap: who waits for answers must not wait for ever
            self._answers.put(ChildDied(f"could not be read ({type(error).__name__})"))

    def abort(self) -> None:
        """Kill the process for good; `predict`, in another thread, ends with Aborted."""
        self._child.close()

    def stop(self) -> None:
        """End the process if it runs. It holds nothing that could be lost."""
        self._child.kill()
        if self._reader is not None:
            self._reader.join()
            self._reader = None
        self._child.stop()


def processes(
    checkpoint: Checkpoint,
    devices: tuple[str, ...],
    dtype: torch.dtype,
    options: NetworkOptions,
    warn: Callable[[str], None],
    method: Method | None = None,
) -> list[NetworkProcess[Any]]:
    """A process with the network for each of several devices, started when its first image comes.

    Args:
        warn: called with a sentence when one of them died.
        method: of `options.synthetic`; None: the second question is not asked.
    """
    setup = setup_of(checkpoint, dtype, options, method)
    return [NetworkProcess(setup | {"device": device}, warn) for device in devices]


def setup_of(
    checkpoint: Checkpoint, dtype: torch.dtype, options: NetworkOptions, method: Method | None = None
) -> dict[str, Any]:
    """Which network a process is to load, but for its device, as `worker.load` reads it; arguments as above."""
    setup: dict[str, Any] = {
        "model": options.model,
        "digest": checkpoint.digest,
        "dtype": str(dtype).removeprefix("torch."),
        "batch": options.batch,
        "compile": None if options.compile is None else options.compile.value,
    }
    if method is not None:
        setup |= {"synthetic": options.synthetic, "synthetic_digest": method.digest}
    if checkpoint.prompt is not None:
        setup["prompt"] = str(checkpoint.prompt)
    return setup
