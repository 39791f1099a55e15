"""Parts of a trained network switched off, one at a time, for `measure_mini.py --parts`.

What is measured so is what the network relies on as it was trained; not what a network trained without the part would
have made of the rest: that is `ablate.py`.
"""

from __future__ import annotations

from collections.abc import Callable

from torch import nn
from torch.utils.hooks import RemovableHandle

from model.clue import CLUE


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
    bias = projection.get_parameter("1.bias")
    return projection.register_forward_hook(lambda _, __, output: bias[None, :, None, None].expand_as(output))


PARTS: dict[str, Callable[[CLUE], list[RemovableHandle]]] = {
    "as it is": lambda _: [],
    "without noise": no_noise,
    "without the maps of self-similarity": no_matches,
    "without the SD3 branch": no_sd3,
    "without the SAM encoder's blocks": no_sam_blocks,
    "without the SAM branch and the early view": no_sam,
}
