"""A network's own process: photos come on its standard input, heatmaps leave on what was its standard output.

Started by `processes` as `python -P -m clue_cli.networks.worker`, one for each of several devices. It ignores
Ctrl-C (the parent decides), writes nothing to any disk, and ends when its input does.
"""

from __future__ import annotations

import queue
import threading
import traceback
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from clue_cli.errors import UsageError, WeightsError
from clue_cli.evidence.sandbox.framing import (
    FramingError,
    receive_header,
    receive_into,
    send_header,
    standard_streams,
)
from model.predictor import OutOfMemory, Prediction

if TYPE_CHECKING:
    import torch

    from clue_cli.networks import NetworkOptions
    from clue_cli.networks.synthetic import SecondQuestion
    from model.checkpoint import Checkpoint
    from model.predictor import Predictor
    from model.synthetic import Method

Image = tuple[int, NDArray[np.uint8]]
_Inbox = queue.SimpleQueue["Image | None | _End"]


class _End:
    """Nothing more will come."""


def chosen_network(setup: dict[str, Any]) -> tuple[Checkpoint, str, torch.dtype, NetworkOptions]:
    """The network that the parent asks for, as `load_predictor` takes it.

    Raises:
        WeightsError: the model is missing or damaged here, or another one.
        UsageError: this machine does not have the device.
    """
    from clue_cli.networks import Compile, DType, NetworkOptions, find_device, find_model

    checkpoint = find_model(setup["model"])
    if checkpoint.digest != setup["digest"]:
        message = f"{checkpoint.folder} changed since the run began, or is another model than there."
        raise WeightsError(message, "Repeat the command.")
    if setup.get("prompt"):
        checkpoint = replace(checkpoint, prompt=Path(setup["prompt"]))
    device, dtype = find_device(setup["device"], DType(setup["dtype"]))
    compiled = Compile(setup["compile"]) if setup["compile"] else None
    return checkpoint, device, dtype, NetworkOptions(model=setup["model"], batch=setup["batch"], compile=compiled)


def chosen_method(setup: dict[str, Any]) -> Method | None:
    """The method that the parent asks for, None if it asks for none; raises WeightsError as `chosen_network`."""
    from clue_cli.networks import NetworkOptions, find_method

    if "synthetic" not in setup:
        return None
    method = find_method(NetworkOptions(synthetic=setup["synthetic"]))
    if method is None or method.digest != setup["synthetic_digest"]:
        message = f"The method {setup['synthetic']} changed since the run began, or is another one than there."
        raise WeightsError(message, "Repeat the command.")
    return method


def load(setup: dict[str, Any]) -> Predictor:
    """The network that the parent asks for; raises WeightsError or UsageError as it would there."""
    from clue_cli.networks.local import load_predictor

    return load_predictor(*chosen_network(setup))


def load_second(setup: dict[str, Any]) -> SecondQuestion | None:
    """The method that the parent asks for, None if it asks for none; raises as `load`."""
    from clue_cli.networks import DType, find_device
    from clue_cli.networks.synthetic import SecondQuestion

    if (method := chosen_method(setup)) is None:
        return None
    second = SecondQuestion(method, *find_device(setup["device"], DType(setup["dtype"])))
    second.load()
    return second


def serve(requests: BinaryIO, replies: BinaryIO, load: Callable[[dict[str, Any]], Predictor] = load) -> None:
    """Load a network and answer until there are no more requests.

    The first header says which network; the answer is `ready` or `refused`. Then come images (`image`, `height`,
    `width`, and H×W×3 bytes) and `flush`: what is begun is to be finished. Each image is answered once, by a heatmap
    (H×W float32), behind it that of the second question if the header says so (`second_heatmap`), or by `memory`; an
    `error` is the last answer there is.
    """
    setup = receive_header(requests)
    if setup is None:
        return
    try:
        predictor, second = load(setup), load_second(setup)
    except (UsageError, WeightsError) as error:
        _send(replies, {"refused": type(error).__name__, "message": error.message, "advice": error.advice})
        return
    _send(replies, {"ready": True, "batch": predictor.batch, "holds": predictor.holds})
    inbox: _Inbox = queue.SimpleQueue()
    threading.Thread(target=_receive, args=(requests, inbox), name="clue-receive", daemon=True).start()
    try:
        images = _images(inbox)
        for result in predictor.predict(images) if second is None else second.asked_of(predictor, images):
            if isinstance(result, OutOfMemory):
                answer = {"memory": result.key, "message": result.message[:10_000], "batch": predictor.batch}
                _send(replies, answer)
            else:
                _send_heatmap(replies, result, predictor.batch)
    except Exception as error:  # the parent tells it, and starts another process
        traceback.print_exc()
        first = (str(error).splitlines() or [""])[0]
        _send(replies, {"error": f"{type(error).__name__}: {first[:1000]}"})


def _receive(requests: BinaryIO, inbox: _Inbox) -> None:
    """Read ahead, while the network computes; the parent sees to it that this is not too much."""
    try:
        while (header := receive_header(requests)) is not None:
            if header.get("flush"):
                inbox.put(None)
                continue
            pixels = np.empty((header["height"], header["width"], 3), np.uint8)
            if not receive_into(requests, pixels.data.cast("B")):
                break
            inbox.put((header["image"], pixels))
    except (OSError, FramingError):
        pass  # the parent is gone
    finally:
        inbox.put(_End())  # whatever happened here, the network must not wait for more


def _images(inbox: _Inbox) -> Iterator[Image | None]:
    while not isinstance(image := inbox.get(), _End):
        yield image


def _send(replies: BinaryIO, header: dict[str, Any]) -> None:
    send_header(replies, header)
    replies.flush()


def _send_heatmap(replies: BinaryIO, result: Prediction[int], batch: int) -> None:
    height, width = result.heatmap.shape
    header = {"heatmap": result.key, "height": height, "width": width, "batch": batch}
    header |= {"seed": result.seed, "tiles": result.tile_count, "seconds": result.seconds}
    maps, said = [result.heatmap], result.synthetic
    if isinstance(said, str):
        header["synthetic"] = said
    elif said is not None:
        header |= {"synthetic": {"score": said.score, "parts": said.parts}}
        if said.heatmap is not None:
            header["second_heatmap"] = True
            maps.append(said.heatmap)
    send_header(replies, header | {"features": result.features.tolist()})
    for heatmap in maps:
        replies.write(np.ascontiguousarray(heatmap).data.cast("B"))
    replies.flush()


def main(load: Callable[[dict[str, Any]], Predictor] = load) -> None:
    """Serve on the standard streams; libraries that print find the null device in their place."""
    requests, replies = standard_streams(silent=False)
    serve(requests, replies, load)


if __name__ == "__main__":
    main()
