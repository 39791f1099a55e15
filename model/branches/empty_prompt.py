"""The empty prompt's embeddings: computed once from SD3's three text encoders, then only read.

As in diffusers' StableDiffusion3Pipeline.encode_prompt: the hidden states before the last layer of the two CLIP
encoders side by side, padded with zeros to T5's width, then T5's; the pooled vectors of the CLIPs side by side. A
folder without T5, which is common because of its size, gives zeros in its place, as it does there.
"""

from __future__ import annotations

import importlib.util
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from safetensors.torch import save
from torch import Tensor

from model.presets.spec import TransformerSpec
from model.registry import BasesError
from model.tensor_files import opened
from model.whole_file import write_whole

CLIP_TOKENS = 77
T5_TOKENS = 256
MOST_TOKENS = 4096
_NAMES = {"prompt": ("prompt", "prompt_embeds"), "pooled": ("pooled", "pooled_prompt_embeds")}


@dataclass(frozen=True, slots=True)
class EmptyPrompt:
    """Embeddings, float32: `prompt` 1×N×D for the joint attention, `pooled` 1×P for the modulation.

    `tokens` says how many of the N came from which encoder, and is empty where nobody wrote it down.
    """

    prompt: Tensor
    pooled: Tensor
    tokens: dict[str, int] = field(default_factory=dict)


def read_prompt(path: Path, spec: TransformerSpec) -> EmptyPrompt:
    """Stored embeddings, ours or others': safetensors with `prompt` and `pooled`, or the names diffusers has for them.

    Raises:
        BasesError: damaged, a tensor is missing, or its shape does not fit the transformer.
    """
    found: dict[str, Tensor] = {}
    with opened(path) as file:
        names = set(file.keys())
        for key, known in _NAMES.items():
            name = next((name for name in known if name in names), None)
            if name is None:
                raise BasesError(f"{path}: no tensor {' or '.join(known)}; there is {', '.join(sorted(names)[:8])}")
            found[key] = file.get_tensor(name).float()
        written = (file.metadata() or {}).get("tokens", "{}")
    prompt, pooled = found["prompt"], found["pooled"]
    prompt = prompt[None] if prompt.ndim == 2 else prompt
    pooled = pooled[None] if pooled.ndim == 1 else pooled
    width, size = spec.joint_attention_dim, spec.pooled_projection_dim
    if prompt.ndim != 3 or prompt.shape[0] != 1 or prompt.shape[2] != width or not 1 <= prompt.shape[1] <= MOST_TOKENS:
        raise BasesError(f"{path}: prompt is {list(prompt.shape)}, expected [1, tokens, {width}]")
    if list(pooled.shape) != [1, size]:
        raise BasesError(f"{path}: pooled is {list(pooled.shape)}, expected [1, {size}]")
    if not (prompt.isfinite().all() and pooled.isfinite().all()):
        raise BasesError(f"{path}: a value is not finite")
    try:
        tokens = {str(encoder): int(count) for encoder, count in json.loads(written).items()}
    except (ValueError, TypeError, AttributeError, OverflowError, RecursionError) as error:
        raise BasesError(f"{path}: its token counts are damaged: {error}") from error
    return EmptyPrompt(prompt, pooled, tokens or {"stored": prompt.shape[1]})


def write_prompt(path: Path, prompt: EmptyPrompt, base: dict[str, str]) -> None:
    """Store embeddings with their token counts and the digests of the base they belong to.

    Raises:
        OSError: the file cannot be written.
    """
    notes = {"tokens": json.dumps(prompt.tokens), "base": json.dumps(base)}
    data = save({"prompt": prompt.prompt.contiguous(), "pooled": prompt.pooled.contiguous()}, notes)

    def write(temporary: str) -> None:
        Path(temporary).write_bytes(data)

    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, write)


def missing_encoders(folder: Path) -> list[str]:
    """What of the text encoders a diffusers folder of SD3 lacks; T5 may be absent."""
    needed = ["text_encoder", "tokenizer", "text_encoder_2", "tokenizer_2"]
    if (folder / "text_encoder_3").is_dir():
        needed.append("tokenizer_3")
    return [name for name in needed if not (folder / name).is_dir()]


@torch.inference_mode()
def compute(folder: Path, spec: TransformerSpec) -> EmptyPrompt:
    """The embeddings from a diffusers folder of SD3, on the CPU, one encoder in memory at a time.

    Raises:
        BasesError: transformers is not installed, an encoder is missing or damaged, or its width does not fit.
    """
    if importlib.util.find_spec("transformers") is None:
        raise BasesError(
            "the empty prompt's embeddings are computed with transformers, which is not installed: "
            "pip install 'clue-forensics[models]', or give stored ones with --prompt FILE"
        )
    missing = missing_encoders(folder)
    if missing:
        raise BasesError(
            f"{folder} has no {', '.join(missing)}, which the empty prompt's embeddings are computed from: "
            "complete it, or give stored ones with --prompt FILE"
        )
    clips = [_clip(folder, suffix) for suffix in ("", "_2")]
    beside = torch.cat([hidden for hidden, _ in clips], -1)
    pooled = torch.cat([vector for _, vector in clips], -1)
    width, size = spec.joint_attention_dim, spec.pooled_projection_dim
    with_t5 = (folder / "text_encoder_3").is_dir()
    t5 = _t5(folder) if with_t5 else torch.zeros(1, T5_TOKENS, width)
    if beside.shape[-1] > width or t5.shape[-1] != width or pooled.shape[-1] != size:
        raise BasesError(
            f"the text encoders in {folder} are of another model: widths {beside.shape[-1]} (CLIP), "
            f"{t5.shape[-1]} (T5), {pooled.shape[-1]} (pooled); expected at most {width}, {width}, {size}"
        )
    prompt = torch.cat([F.pad(beside, (0, width - beside.shape[-1])), t5], 1)
    tokens = {"clip": beside.shape[1], ("t5" if with_t5 else "zeros"): t5.shape[1]}
    return EmptyPrompt(prompt.clone(), pooled.clone(), tokens)


def _clip(folder: Path, suffix: str) -> tuple[Tensor, Tensor]:
    from transformers import CLIPTextModelWithProjection

    encoder = _pretrained(CLIPTextModelWithProjection, folder / f"text_encoder{suffix}", torch.float32)
    limit = int(encoder.config.max_position_embeddings)
    output = encoder(_ids(folder / f"tokenizer{suffix}", min(CLIP_TOKENS, limit)), output_hidden_states=True)
    return output.hidden_states[-2], output[0]


def _t5(folder: Path) -> Tensor:
    from transformers import T5EncoderModel

    # 4.7 billion parameters: two bytes each, of which bfloat16 has T5's range and float16 has not.
    encoder = _pretrained(T5EncoderModel, folder / "text_encoder_3", torch.bfloat16)
    hidden: Tensor = encoder(_ids(folder / "tokenizer_3", T5_TOKENS))[0]
    return hidden.float()


def _pretrained(kind: Any, place: Path, dtype: torch.dtype) -> Any:
    try:
        variant = "fp16" if any(place.glob("*.fp16*")) and not (place / "model.safetensors").is_file() else None
        model = kind.from_pretrained(
            place, dtype=dtype, use_safetensors=True, local_files_only=True, variant=variant, low_cpu_mem_usage=True
        )
    except Exception as error:  # the library raises whatever a damaged file makes of it
        raise _damaged(place, error) from error
    return model.eval()


def _ids(place: Path, length: int) -> Tensor:
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(place, local_files_only=True, trust_remote_code=False)
        encoded = tokenizer("", padding="max_length", max_length=length, truncation=True, return_tensors="pt")
    except Exception as error:  # as above
        raise _damaged(place, error) from error
    ids: Tensor = encoded.input_ids
    return ids


def _damaged(place: Path, error: Exception) -> BasesError:
    reason = str(error).strip().splitlines()[0][:300] if str(error).strip() else type(error).__name__
    return BasesError(f"{place} cannot be loaded: {reason}")
