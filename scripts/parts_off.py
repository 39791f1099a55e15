"""F1 of a trained network with one part after the other switched off.

    python scripts/parts_off.py BENCH/CASIA1 --every 2

Shows what the network relies on as it was trained. What a network trained without the part would make of the rest is
another question: see `ablate.py`.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

import numpy as np
from torch import nn
from torch.utils.hooks import RemovableHandle

from model.checkpoint import inspect
from model.clue import CLUE
from model.device import resolve
from model.evaluation import find_at, measure
from model.evaluation.bootstrap import mean_estimates
from model.float8 import weights_format
from model.images.pixels import read_pixels
from model.predictor import Prediction, Predictor
from model.storage import load


def no_noise(model: CLUE) -> list[RemovableHandle]:
    """ε = 0, the level as it is: z_t = (1 - t)·z0."""
    return [model.networks["sd3"].register_forward_pre_hook(lambda _, inputs: (inputs[0], inputs[1] * 0))]


def no_matches(model: CLUE) -> list[RemovableHandle]:
    """Nothing in the image resembles anything else of it."""
    assert model.view is not None
    return [model.view.register_forward_pre_hook(lambda _, inputs: (inputs[0], None))]


def no_sd3(model: CLUE) -> list[RemovableHandle]:
    """The branch's projection at its mean, which GroupNorm puts at its bias."""
    return [_constant(model.fusion.get_submodule("sd3"))]


def no_sam(model: CLUE) -> list[RemovableHandle]:
    """The same for the other branch, and with it the early view."""
    return [_constant(model.fusion.get_submodule("sam"))]


def no_sam_blocks(model: CLUE) -> list[RemovableHandle]:
    """The encoder's transformer blocks pass on what they get: the early view is there, SAM's attention is not."""
    blocks = model.networks["sam"].blocks()
    return [block.register_forward_hook(lambda _, inputs, __: inputs[0]) for block in blocks]


def _constant(projection: nn.Module) -> RemovableHandle:
    norm = projection.get_submodule("1")  # the fusion calls this, and not the whole
    bias = norm.get_parameter("bias")
    return norm.register_forward_hook(lambda _, __, output: bias[None, :, None, None].expand_as(output))


PARTS: dict[str, Callable[[CLUE], list[RemovableHandle]]] = {
    "as it is": lambda _: [],
    "without noise": no_noise,
    "without the maps of self-similarity": no_matches,
    "without the SD3 branch": no_sd3,
    "without the SAM encoder's blocks": no_sam_blocks,
    "without the SAM branch and the early view": no_sam,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("set", type=Path, help="folder with Tp/ and Gt/, or a list")
    parser.add_argument("--model", default="mini")
    parser.add_argument("--every", type=int, default=1, metavar="N", help="measure every Nth forged image")
    args = parser.parse_args()
    forged = [entry for entry in find_at(args.set).samples if entry.forged and entry.masks][:: args.every]
    model = load(inspect(args.model), "cpu", weights_format(resolve("cpu", "auto")[1]))
    predictor = Predictor(model)
    for name, switch_off in PARTS.items():
        handles = switch_off(model)
        f1 = []
        for found in predictor.predict((entry, read_pixels(entry.image)) for entry in forged):
            if not isinstance(found, Prediction):
                raise SystemExit(f"{found.key.key}: {found.message}")
            f1.append(measure(found.key, found.heatmap).f1)
        for handle in handles:
            handle.remove()
        print(name, mean_estimates({"f1": np.array(f1, np.float64)}, seed=0)["f1"].to_dict(), flush=True)


if __name__ == "__main__":
    main()
