"""A vision-language model of the user's own, from a local folder, that writes about pictures.

LLaVA and Qwen2-VL in their published layouts, through transformers. Nothing is fetched, no code of the folder is run,
and only safetensors are read (`model.synthetic.bases`). It writes greedily: the same input gives the same text.
"""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from model.errors import WeightsError
from model.registry import FolderBase
from model.synthetic.bases import find_base, load_network, load_processor

if TYPE_CHECKING:
    import torch
    from PIL import Image

LAYOUTS = ("llava", "qwen2_vl", "qwen2_5_vl")
"""Model types that are known to work."""


class ExplainerError(WeightsError):
    """A folder that is no vision-language model that can be used here; the message says what is missing."""

    advice = "Name the folder of a LLaVA or Qwen2-VL model with its processor, tokenizer and chat template."


@dataclass(frozen=True, slots=True)
class Written:
    """What a model wrote.

    Attributes:
        text: without special tokens.
        complete: whether it ended by itself; False: it was cut off.
    """

    text: str
    complete: bool


def describe_explainer(name_or_folder: str) -> FolderBase:
    """What the folder of a model holds, with its digest, without torch.

    Args:
        name_or_folder: a folder, or the name of one that `clue models add` registered.

    Raises:
        ExplainerError: it is of another layout.
        BasesError: as of `find_base`.
    """
    base = find_base(name_or_folder)
    if base.model_type not in LAYOUTS:
        raise ExplainerError(
            f"{base.folder} is a model of type {base.model_type}; expected one of {', '.join(LAYOUTS)}"
        )
    return base


class Explainer:
    """A vision-language model, loaded.

    Args:
        base: of `describe_explainer`.
        device, dtype: where it runs, and in which number format.

    Raises:
        ExplainerError: it has no chat template.
        BasesError: transformers is not installed, or something is missing, damaged or of other shapes.
        RuntimeError, MemoryError: the device has not the memory for it.
    """

    def __init__(self, base: FolderBase, device: str, dtype: torch.dtype) -> None:
        self._processor = load_processor(base, "AutoProcessor")
        if not getattr(self._processor, "chat_template", None):
            raise ExplainerError(
                f"{base.folder} has no chat template: expected chat_template.jinja or chat_template.json"
            )
        self._network = load_network(base, "AutoModelForImageTextToText", dtype, device)
        self._device, self._dtype = device, dtype

    def write(self, images: Sequence[Image.Image], request: str, most_tokens: int) -> Written:
        """Write a text about pictures.

        Args:
            images: RGB, in the order in which the request speaks of them.
            request: what to write, and what is known.
            most_tokens: the text is cut off there.

        Raises:
            ValueError: the model cannot take these pictures or a request of this length.
            RuntimeError, MemoryError: out of memory.
        """
        import torch

        content: list[dict[str, Any]] = [{"type": "image"} for _ in images]
        messages = [{"role": "user", "content": [*content, {"type": "text", "text": request}]}]
        prompt = self._processor.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
        inputs = self._processor(text=[prompt], images=list(images), return_tensors="pt")
        inputs = inputs.to(self._device)
        for name, value in inputs.items():
            if isinstance(value, torch.Tensor) and value.is_floating_point():
                inputs[name] = value.to(self._dtype)
        length = int(inputs["input_ids"].shape[1])
        config = deepcopy(self._network.generation_config)
        config.update(do_sample=False, num_beams=1, max_new_tokens=most_tokens, max_length=None)
        config.update(temperature=None, top_p=None, top_k=None, repetition_penalty=None)
        room = getattr(self._network.config.get_text_config(), "max_position_embeddings", None)
        if room is not None and length + most_tokens > room:
            raise ValueError(
                f"the model has room for {room} tokens; pictures and findings take {length}, the text up to "
                f"{most_tokens}"
            )
        with torch.inference_mode():
            tokens = self._network.generate(**inputs, generation_config=config)[0, length:]
        ends = config.eos_token_id if isinstance(config.eos_token_id, list) else [config.eos_token_id]
        complete = len(tokens) < most_tokens or int(tokens[-1]) in ends
        text: str = self._processor.tokenizer.decode(tokens, skip_special_tokens=True)
        return Written(text.strip(), complete)
