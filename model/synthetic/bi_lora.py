"""Bi-LORA (arXiv 2404.01959): BLIP-2 captions a picture "real" or "fake". Here: what is known without torch.

BLIP-2 is the user's own, from a registered folder (`clue models add blip2 --folder DIR`), and stays frozen. Adapters
(LoRA, rank 16) on the query and key projections of its language decoder learn; `model.synthetic.bi_lora_network` has
both. The paper resizes whole pictures to the size of the processor. Here traces of single pixels are kept: the method
learns from crops of that size, and judges up to five crops of a picture, four corners and centre, by their mean.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from model.errors import UserError
from model.synthetic import Detector, Method
from model.synthetic.method_folder import base_of, method_of, read_description

if TYPE_CHECKING:
    import torch

    from model.synthetic.learner import Learner
    from model.synthetic.options import SyntheticOptions

KIND = "bi-lora"
WORDS = ("real", "fake")
"""The captions of a photo and of a generated picture."""
FILES = ("adapter_config.json", "adapter_model.safetensors")
"""The adapters, in peft's own format."""
LIMITS = (
    "It judges at most five crops of the picture, four corners and centre; it sees nothing between them.",
    "Its answer is how likely the caption “fake” is against “real”; where other captions are likelier, it gives none.",
)


def describe(name_or_path: str) -> Method:
    """What is known of a trained method, without torch.

    Raises:
        MethodError: it is damaged, or its base is missing or another one.
    """
    folder = Path(name_or_path)
    description = read_description(folder, KIND)
    base_of(description, folder)
    return method_of(name_or_path, description, FILES, LIMITS)


def load(method: Method, device: str, dtype: torch.dtype) -> Detector:
    """BLIP-2 with the adapters merged into its weights.

    Raises:
        MethodError: weights are damaged, of another size, or transformers is not installed.
        RuntimeError, MemoryError: the device has not the memory for it.
    """
    from model.synthetic.bi_lora_network import load as build

    return build(method, device, dtype)


def learner(base: str, options: SyntheticOptions, device: str, dtype: torch.dtype) -> Learner:
    """BLIP-2 with new adapters, to be trained.

    Args:
        base: name of a registered folder, or a folder.
        options: `adapt`, `rank`, `alpha`, `targets` and `crop` count.
        device: where it goes.
        dtype: number format of the frozen weights; adapters are float32.

    Raises:
        UserError: an option that this method does not have.
        MethodError: the base is missing, damaged, or no BLIP-2 that this method can use.
        RuntimeError, MemoryError: the device has not the memory for it.
    """
    from model.synthetic.bi_lora_network import new

    if options.adapt != "lora" or options.targets is not None:
        raise UserError(
            "bi-lora adapts the query and key projections of the language decoder with LoRA, and nothing else.",
            "Leave adapt at lora and targets at null, or choose the kind vision.",
        )
    return new(base, options, device, dtype)
