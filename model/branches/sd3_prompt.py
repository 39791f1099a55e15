"""The embeddings of SD3's prompt: the empty one, or a query of the user's; computed once, stored, read.

They come from SD3's three text encoders as in diffusers' StableDiffusion3Pipeline.encode_prompt: the hidden states
before the last layer of the two CLIP encoders side by side, padded with zeros to T5's width, then T5's; the pooled
vectors of the CLIPs side by side. A folder without T5, which is common because of its size, gives zeros in its place,
as it does there.
"""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from safetensors.torch import save
from torch import Tensor

from model.preset import TransformerSpec
from model.registry import BasesError
from model.tensor_files import opened
from model.whole_file import whole_file

CLIP_TOKENS = 77
T5_TOKENS = 256
MOST_TOKENS = 4096
_NAMES = {"prompt": ("prompt", "prompt_embeds"), "pooled": ("pooled", "pooled_prompt_embeds")}


@dataclass(frozen=True, slots=True)
class Prompt:
    """Embeddings, float32: `prompt` 1×N×D for the joint attention, `pooled` 1×P for the modulation.

    `tokens` says how many of the N came from which encoder, and is empty where nobody wrote it down; `unread` holds the
    end of the text that an encoder did not read, by its title.
    """

    prompt: Tensor
    pooled: Tensor
    tokens: dict[str, int] = field(default_factory=dict)
    unread: dict[str, str] = field(default_factory=dict)


def read_prompt(path: Path, spec: TransformerSpec) -> Prompt:
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
    return Prompt(prompt, pooled, tokens or {"stored": prompt.shape[1]})


def write_prompt(path: Path, prompt: Prompt, base: dict[str, str]) -> None:
    """Store embeddings with their token counts and the digests of the base they belong to.

    Raises:
        OSError: the file cannot be written.
    """
    notes = {"tokens": json.dumps(prompt.tokens), "base": json.dumps(base)}
    path.parent.mkdir(parents=True, exist_ok=True)
    with whole_file(path, sync=True) as stream:
        stream.write(save({"prompt": prompt.prompt.contiguous(), "pooled": prompt.pooled.contiguous()}, notes))


def missing_encoders(folder: Path, t5: bool | None = None) -> list[str]:
    """What of the text encoders a diffusers folder of SD3 lacks.

    Args:
        t5: whether T5 is needed; None: only its tokenizer, where it is there.
    """
    needed = ["text_encoder", "tokenizer", "text_encoder_2", "tokenizer_2"]
    if t5:
        needed.append("text_encoder_3")
    if (folder / "text_encoder_3").is_dir() if t5 is None else t5:
        needed.append("tokenizer_3")
    return [name for name in needed if not (folder / name).is_dir()]


def compute(folder: Path, spec: TransformerSpec) -> Prompt:
    """The embeddings of the empty prompt.

    Raises:
        BasesError: as of `embed`.
    """
    return embed(folder, spec, [""], "the empty prompt's embeddings", ", or give stored ones with --prompt FILE")[0]


@torch.inference_mode()
def embed(
    folder: Path, spec: TransformerSpec, texts: Sequence[str], what: str, other: str = "", t5: bool | None = None
) -> list[Prompt]:
    """The embeddings of texts from a diffusers folder of SD3, on the CPU, one encoder in memory at a time.

    A text is computed alone, so that its embeddings do not depend on the others.

    Args:
        folder: of SD3.
        spec: of the transformer that reads them.
        texts: one or more.
        what: what they are, for messages.
        other: for messages: what else could be done where something is missing.
        t5: whether T5 reads them, too; zeros stand in its place where it does not. None: where it is there.

    Raises:
        BasesError: transformers is not installed, an encoder is missing or damaged, or its width does not fit.
    """
    if importlib.util.find_spec("transformers") is None:
        raise BasesError(
            f"{what} are computed with transformers, which is not installed: "
            f"pip install 'clue-forensics[models]'{other}"
        )
    missing = missing_encoders(folder, t5)
    if missing:
        raise BasesError(f"{folder} has no {', '.join(missing)}, which {what} are computed from: complete it{other}")
    with_t5 = (folder / "text_encoder_3").is_dir() if t5 is None else t5
    clips = [_clip(folder, suffix, texts) for suffix in ("", "_2")]
    width, size = spec.joint_attention_dim, spec.pooled_projection_dim
    none = torch.zeros(1, T5_TOKENS, width)
    ends = _t5(folder, texts) if with_t5 else [_Read(none, none, "")] * len(texts)
    found = []
    for one, other_one, end in zip(*clips, ends, strict=True):
        beside, pooled = torch.cat([one.hidden, other_one.hidden], -1), torch.cat([one.pooled, other_one.pooled], -1)
        if beside.shape[-1] > width or end.hidden.shape[-1] != width or pooled.shape[-1] != size:
            raise BasesError(
                f"the text encoders in {folder} are of another model: widths {beside.shape[-1]} (CLIP), "
                f"{end.hidden.shape[-1]} (T5), {pooled.shape[-1]} (pooled); expected at most {width}, {width}, {size}"
            )
        prompt = torch.cat([F.pad(beside, (0, width - beside.shape[-1])), end.hidden], 1)
        tokens = {"clip": beside.shape[1], ("t5" if with_t5 else "zeros"): end.hidden.shape[1]}
        unread = {"CLIP-L": one.unread, "OpenCLIP-G": other_one.unread, "T5": end.unread}
        left = {title: text for title, text in unread.items() if text}
        found.append(Prompt(prompt.clone(), pooled.clone(), tokens, left))
    return found


class _Read(NamedTuple):
    """What an encoder made of a text: 1×N×D, 1×P, and the end of the text that it did not read."""

    hidden: Tensor
    pooled: Tensor
    unread: str


def _clip(folder: Path, suffix: str, texts: Sequence[str]) -> list[_Read]:
    from transformers import CLIPTextModelWithProjection

    encoder = _pretrained(CLIPTextModelWithProjection, folder / f"text_encoder{suffix}", torch.float32)
    limit = min(CLIP_TOKENS, int(encoder.config.max_position_embeddings))
    found = []
    for ids, unread in _tokenized(folder / f"tokenizer{suffix}", limit, texts):
        output = _run(encoder, folder / f"text_encoder{suffix}", ids, output_hidden_states=True)
        found.append(_Read(output.hidden_states[-2], output[0], unread))
    return found


def _t5(folder: Path, texts: Sequence[str]) -> list[_Read]:
    from transformers import T5EncoderModel

    # 4.7 billion parameters: two bytes each, of which bfloat16 has T5's range and float16 has not.
    encoder = _pretrained(T5EncoderModel, folder / "text_encoder_3", torch.bfloat16)
    found = []
    for ids, unread in _tokenized(folder / "tokenizer_3", T5_TOKENS, texts):
        hidden: Tensor = _run(encoder, folder / "text_encoder_3", ids)[0].float()
        found.append(_Read(hidden, hidden, unread))
    return found


def _pretrained(kind: Any, place: Path, dtype: torch.dtype) -> Any:
    from transformers.utils import logging

    logging.disable_progress_bar()  # type: ignore[no-untyped-call]  # clue has its own, and --quiet none
    try:
        variant = "fp16" if any(place.glob("*.fp16*")) and not (place / "model.safetensors").is_file() else None
        model = kind.from_pretrained(
            place, dtype=dtype, use_safetensors=True, local_files_only=True, variant=variant, low_cpu_mem_usage=True
        )
    except Exception as error:  # the library raises whatever a damaged file makes of it
        raise _damaged(place, error) from error
    return model.eval()


def _run(encoder: Any, place: Path, ids: Tensor, **options: Any) -> Any:
    try:
        return encoder(ids, **options)
    except (IndexError, ValueError) as error:  # a tokenizer with more words than the encoder
        raise _damaged(place, error) from error


def _tokenized(place: Path, length: int, texts: Sequence[str]) -> Iterator[tuple[Tensor, str]]:
    """Of each text its tokens, 1×length, and what of it is not among them."""
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(place, local_files_only=True, trust_remote_code=False)
        for text in texts:
            encoded = tokenizer(text, padding="max_length", max_length=length, truncation=True, return_tensors="pt")
            own = tokenizer(text, add_special_tokens=False, verbose=False).input_ids
            rest = own[length - tokenizer.num_special_tokens_to_add() :]
            yield encoded.input_ids, str(tokenizer.decode(rest, skip_special_tokens=True)) if rest else ""
    except Exception as error:  # as above
        raise _damaged(place, error) from error


def _damaged(place: Path, error: Exception) -> BasesError:
    reason = str(error).strip().splitlines()[0][:300] if str(error).strip() else type(error).__name__
    return BasesError(f"{place} cannot be loaded: {reason}")
