"""The second question, asked of every picture behind the localization: was the whole picture generated?

A method that fails on a picture costs that picture its second answer and nothing else.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from clue_cli.errors import UsageError, WeightsError
from clue_cli.machine import cores
from clue_cli.terminal import sentence
from model.predictor import Key, OutOfMemory, Prediction
from model.synthetic import Detection, Method, MethodError

if TYPE_CHECKING:
    import torch

    from model.predictor import Predictor
    from model.synthetic import Detector

_LONGEST = 500
"""Characters of the reason that a method gives for not judging a picture."""
_MOST_PARTS = 100


class SecondQuestion:
    """A method on one device; it is loaded when the first picture comes, and judges one at a time, from any thread.

    Args:
        method: as `model.synthetic.describe` describes it.
        device, dtype: where it runs, and in which number format.
    """

    def __init__(self, method: Method, device: str, dtype: torch.dtype) -> None:
        self.method = method
        from model.float8 import weights_format

        self.device, self.dtype = device, weights_format(dtype)  # the others are for the first question
        self._detector: Detector | None = None
        self._lock = threading.Lock()

    def load(self) -> None:
        """Build the detector; nothing if it is there.

        Raises:
            WeightsError: the method's weights are damaged.
            UsageError: the device has not the memory for them.
        """
        import torch

        from model import synthetic
        from model.device import ran_out_of_memory

        if self._detector is not None:
            return
        if (allowed := cores()) < torch.get_num_threads():  # a container's share of the processor
            torch.set_num_threads(allowed)
        torch.backends.cudnn.allow_tf32 = False  # convolutions in TensorFloat-32 are no float32
        try:
            self._detector = synthetic.load(self.method, self.device, self.dtype)
        except MethodError as error:
            raise WeightsError(sentence(error), error.advice) from error
        except (MemoryError, RuntimeError) as error:
            if not ran_out_of_memory(error):
                raise
            raise UsageError(
                f"The method {self.method.name} does not fit into the memory of {self.device} beside the model.",
                "Choose another --device, a smaller method, or leave --also out.",
            ) from error

    def asked_of(
        self, predictor: Predictor, images: Iterable[tuple[Key, NDArray[np.uint8]] | None]
    ) -> Iterator[Prediction[Key] | OutOfMemory[Key]]:
        """The answers of the predictor, those of this method with them. Arguments as of `Predictor.predict`."""
        keyed = (None if image is None else (image, image[1]) for image in images)
        for answer in predictor.predict(keyed):
            key, pixels = answer.key
            if isinstance(answer, OutOfMemory):
                yield OutOfMemory(key, answer.message)
                continue
            started = time.perf_counter()
            said = self.ask(pixels)
            seconds = answer.seconds + time.perf_counter() - started
            yield Prediction(
                key, answer.heatmap, answer.features, answer.seed, answer.tile_count, seconds, synthetic=said
            )

    def detect(self, pixels: NDArray[np.uint8]) -> Detection:
        """What the method says of one picture, H×W×3 uint8 as stored.

        Raises:
            WeightsError, UsageError: as `load`.
            ValueError: it cannot judge this picture; the message says why.
            RuntimeError, MemoryError: the device has not the memory for this picture.
        """
        with self._lock:
            self.load()
            assert self._detector is not None
            return checked(self._detector.detect(pixels), pixels.shape[:2])

    def ask(self, pixels: NDArray[np.uint8]) -> Detection | str:
        """What the method says of one picture, H×W×3 uint8 as stored, or in words why it says nothing."""
        from model.device import ran_out_of_memory

        try:
            return self.detect(pixels)
        except (UsageError, WeightsError):
            raise
        except ValueError as error:
            return _first_line(error)
        except Exception as error:  # whatever a method does, the record of the localization is kept
            if ran_out_of_memory(error):
                _free(self.device)
                return f"out of memory ({_first_line(error)})"
            return f"the method failed: {type(error).__name__}, {_first_line(error)}"


def checked(detection: Detection, shape: tuple[int, ...]) -> Detection:
    """The detection in plain types.

    Raises:
        ValueError: a score or a heatmap that is not from 0 to 1, a part that is not finite, a heatmap of another size.
    """
    score = float(detection.score)
    if not 0 <= score <= 1:
        raise ValueError(f"the method gave the score {score}, which is not from 0 to 1")
    parts = {str(name)[:_LONGEST]: float(value) for name, value in [*detection.parts.items()][:_MOST_PARTS]}
    for name, value in parts.items():
        if not math.isfinite(value):
            raise ValueError(f"the method gave the value {value} for {name}, which is not finite")
    heatmap = detection.heatmap
    if heatmap is not None:
        if heatmap.shape != shape:
            raise ValueError(f"the method gave a heatmap of {heatmap.shape} for a picture of {shape}")
        if not (float(heatmap.min()) >= 0 and float(heatmap.max()) <= 1):  # NaN is neither
            raise ValueError("the method gave a heatmap that is not from 0 to 1")
        heatmap = np.ascontiguousarray(heatmap, np.float32)
    return replace(detection, score=score, heatmap=heatmap, parts=parts)


def _free(device: str) -> None:
    import torch

    if device.startswith("cuda"):
        torch.cuda.empty_cache()


def _first_line(error: Exception) -> str:
    return (next(iter(str(error).splitlines()), "") or type(error).__name__)[:_LONGEST]
