"""A network in this process."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from numpy.typing import NDArray

from clue_cli.errors import UsageError, WeightsError
from clue_cli.machine import no_collection
from clue_cli.networks import NetworkOptions, Runtime
from clue_cli.networks.synthetic import SecondQuestion
from clue_cli.terminal import sentence
from model.checkpoint import Checkpoint, CheckpointError
from model.predictor import Key, OutOfMemory, Prediction

if TYPE_CHECKING:  # diffusers and segment_anything take seconds to import; a resumed run may not need them
    import torch

    from model.predictor import Predictor
    from model.synthetic import Method


class LocalNetwork:
    """A `Network` that runs in the caller's process and thread.

    Args:
        checkpoint: of the model.
        device, dtype: where it runs, and in which number format.
        options: `batch`, `compile` and `runtime`.
        method: judges each predicted picture as well; None: the second question is not asked.
    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        device: str,
        dtype: torch.dtype,
        options: NetworkOptions,
        method: Method | None = None,
    ) -> None:
        self.device = device
        self._chosen = checkpoint, device, dtype, options
        self._second = None if method is None else SecondQuestion(method, device, dtype)
        self.loading = 0.0
        self._predictor: Predictor | None = None

    @property
    def asked(self) -> int:
        """Tiles in a batch as asked for; 0 before the first image."""
        return self._predictor.asked if self._predictor else 0

    @property
    def batch(self) -> int:
        """The same, smaller once memory ran out."""
        return self._predictor.batch if self._predictor else 0

    def load(self) -> Predictor:
        """Build the network, unless it is there; `predict` does it otherwise.

        Raises:
            WeightsError, UsageError: as `load_predictor` and `SecondQuestion.load`.
        """
        if self._predictor is None:
            started = time.perf_counter()
            predictor = load_predictor(*self._chosen)
            if self._second is not None:
                self._second.load()
            self._predictor = predictor
            self.loading = time.perf_counter() - started
        return self._predictor

    def predict(
        self, images: Iterable[tuple[Key, NDArray[np.uint8]] | None]
    ) -> Iterator[Prediction[Key] | OutOfMemory[Key]]:
        """As `Predictor.predict`, with the answers to the second question. Raises as `load`."""
        predictor = self.load()
        if self._second is None:
            yield from predictor.predict(images)
        else:
            yield from self._second.asked_of(predictor, images)

    def abort(self) -> None:
        """Nothing: the caller's thread notices by itself that the images end."""

    def stop(self) -> None:
        """Nothing was started."""


def load_predictor(checkpoint: Checkpoint, device: str, dtype: torch.dtype, options: NetworkOptions) -> Predictor:
    """Build the network, ready to run.

    Raises:
        WeightsError: the weights are damaged.
        UsageError: the device has not the memory for them.
    """
    with no_collection():
        import torch

        from model.device import compile_network, ran_out_of_memory
        from model.float8 import FLOAT8, use_float8, weights_format
        from model.int8 import use_int8
        from model.predictor import HELPERS, Predictor
        from model.storage import load

    # Convolutions in TensorFloat-32, torch's default on a GPU, are no float32.
    torch.backends.cudnn.allow_tf32 = False

    # Threads that prepare, compute and write take turns in the interpreter; the network's thousands of short calls must
    # not wait the usual 5 ms for each of theirs.
    sys.setswitchinterval(0.0005)

    # One tile at a time on the CPU: larger batches are no faster there, and would change the last bits of a mask.
    batch = 1 if device == "cpu" else options.batch or 4
    try:
        if options.runtime is not Runtime.TORCH:
            from model.runtimes import load_graph

            lanes = min(torch.get_num_threads(), HELPERS)  # of a predictor: OpenVINO has memory for each
            return Predictor(load_graph(checkpoint, cast("Any", options.runtime.value), lanes))
        with no_collection():
            model = load(checkpoint, device, weights_format(dtype))
        if dtype is FLOAT8:
            use_float8(model)
        elif dtype is torch.int8:
            use_int8(model)
        if options.compile is not None:
            compile_network(model, options.compile.value)
        return Predictor(model, batch, graphs=True)
    except CheckpointError as error:
        advice = error.advice if checkpoint.exported else "Install clue again, or name another model with --model."
        raise WeightsError(sentence(error), advice) from error
    except (MemoryError, RuntimeError) as error:
        if not ran_out_of_memory(error):
            raise
        raise UsageError(
            f"{checkpoint.preset.name} does not fit into the memory of {device}.",
            "Choose another --device, or --dtype bfloat16, which takes half of it.",
        ) from error
