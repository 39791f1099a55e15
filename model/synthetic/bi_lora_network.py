"""BLIP-2 as a detector of generated pictures: its captions, their probabilities, and the adapters that learn them.

    picture → vision tower → Q-Former → projection → [picture tokens, prompt] → language model → caption

A caption is the tokens of one word and the token that ends captions. With OPT, a decoder alone, the tokens of the
picture and the token that begins a text precede the caption. With T5, they and the end token go through the encoder;
adapters are then on self-attention and cross-attention of the decoder, as it sees the picture through the latter alone.
The prompt is empty.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from model.branches.network import inject
from model.calibration import Calibration
from model.checkpoint import CheckpointError
from model.preset import LoraSpec
from model.registry import BasesError, FolderBase
from model.storage import adapter_tensors, lora_numbers, merge_stored, write_tensors
from model.synthetic import Detection, Method, MethodError
from model.synthetic.bases import find_base, load_network, load_processor
from model.synthetic.bi_lora import FILES, KIND, WORDS
from model.synthetic.learner import Inputs
from model.synthetic.method_folder import Description, base_of, read_description, sizes_of
from model.whole_file import whole_folder

if TYPE_CHECKING:
    from model.synthetic.options import SyntheticOptions

TARGETS = {
    "opt": r"language_model\.model\.decoder\.layers\.\d+\.self_attn\.(q_proj|k_proj)",
    "t5": r"language_model\.decoder\.block\.\d+\.layer\.\d+\.(SelfAttention|EncDecAttention)\.(q|k)",
}
"""Query and key projections of the decoder, by the type of the language model. Neither vision tower nor Q-Former."""
MOST_NEITHER = 0.5
"""A picture whose captions are more probably neither word than one of the two gets no score."""
LARGEST_CROP = 4096
_CAPTION_TOKENS = 8


def new(base_name: str, options: SyntheticOptions, device: str, dtype: torch.dtype) -> BiLora:
    """As of `model.synthetic.bi_lora.learner`."""
    with _named():
        base = find_base(base_name)
        network, kind = _blip2(base, device, dtype)
        lora = LoraSpec(options.rank, options.alpha)  # type: ignore[arg-type]  # peft takes any number
        inject(network, lora, targets(network, kind))
        return BiLora(network, captions(base, network), base, processor_of(base, network), options.crop, lora)


def load(method: Method, device: str, dtype: torch.dtype) -> BiLora:
    """As of `model.synthetic.bi_lora.load`."""
    assert method.folder is not None
    description = read_description(method.folder, KIND)
    base = base_of(description, method.folder)
    crop = description.settings.get("crop")
    if not isinstance(crop, int) or not 1 <= crop <= LARGEST_CROP:
        raise MethodError(f"{method.folder}: crop is {crop!r:.40}; expected a number of pixels up to {LARGEST_CROP}")
    with _named():
        lora = LoraSpec(*lora_numbers(method.folder / FILES[0]))
        network, kind = _blip2(base, device, dtype)
        inject(network, lora, targets(network, kind), empty=True)
        merge_stored(network, method.folder / FILES[1], device)
        return BiLora(network, captions(base, network), base, processor_of(base, network), crop, lora)


@contextmanager
def _named() -> Iterator[None]:
    try:
        yield
    except (BasesError, CheckpointError) as error:
        raise MethodError(str(error), error.advice) from error


def _blip2(base: FolderBase, device: str, dtype: torch.dtype) -> tuple[nn.Module, str]:
    """The network, frozen, and the type of its language model."""
    if base.model_type != "blip-2":
        raise MethodError(f"{base.folder} holds a {base.model_type}; expected blip-2")
    network = load_network(base, "Blip2ForConditionalGeneration", dtype, device)
    kind = str(network.config.text_config.model_type)
    if kind not in TARGETS:
        raise MethodError(f"{base.folder} has a language model of type {kind}; expected {' or '.join(TARGETS)}")
    return network, kind


def targets(network: nn.Module, kind: str) -> tuple[str, ...]:
    """The names of all modules that get adapters.

    Args:
        network: a `Blip2ForConditionalGeneration`.
        kind: type of its language model, of `TARGETS`.
    """
    found = (name for name, module in network.named_modules() if isinstance(module, nn.Linear))
    return tuple(name for name in found if re.fullmatch(TARGETS[kind], name))


@dataclass(frozen=True, slots=True)
class Captions:
    """Token ids.

    Attributes:
        before: what stands between the picture and the caption.
        words: the two captions, each with the end token, in the order of `WORDS`.
        start: what T5's decoder begins with.
        end: ends a caption.
        decode: from token ids to text.
    """

    before: tuple[int, ...]
    words: tuple[tuple[int, ...], ...]
    start: int
    end: int
    decode: Callable[[list[int]], str]


def captions(base: FolderBase, network: Any) -> Captions:
    """The two captions in the tokens of the folder.

    Raises:
        BasesError: there is no tokenizer, it is damaged.
        MethodError: a word has no tokens or unknown ones, both words have the same, or one is not in the vocabulary of
            the network.
    """
    tokenizer, text = load_processor(base, "AutoTokenizer"), network.config.text_config
    words = [tuple(map(int, tokenizer(word, add_special_tokens=False).input_ids)) for word in WORDS]
    for word, ids in zip(WORDS, words, strict=True):
        if not ids or (tokenizer.unk_token_id in ids and tokenizer.unk_token_id != text.eos_token_id):
            raise MethodError(f"the tokenizer of {base.folder} has no tokens for the word {word!r}")
    if words[0] == words[1]:
        raise MethodError(f"the tokenizer of {base.folder} has the same tokens for {' and '.join(WORDS)}: {words[0]}")
    start, end = text.decoder_start_token_id if text.is_encoder_decoder else text.bos_token_id, text.eos_token_id
    end = end[0] if isinstance(end, list) and end else end
    if not isinstance(start, int) or not isinstance(end, int):
        raise MethodError(f"{base.folder}: the language model has no token that begins or ends a text: {start}, {end}")
    strange = [token for token in (start, end, *words[0], *words[1]) if not 0 <= token < text.vocab_size]
    if strange:
        raise MethodError(
            f"the tokenizer of {base.folder} is of another model: it has token {strange[0]}, "
            f"the language model {text.vocab_size} tokens"
        )
    before = (end if text.is_encoder_decoder else start,)
    return Captions(before, tuple((*ids, end) for ids in words), start, end, tokenizer.decode)


def processor_of(base: FolderBase, network: Any) -> Callable[[NDArray[np.uint8]], Tensor]:
    """From H×W×3 uint8 to 3×S×S, as the image processor of the folder has it and the vision tower takes it.

    Raises:
        BasesError: there is no image processor, or it is damaged.
        MethodError: it makes another size than the vision tower takes.
    """
    process = partial(_processed, load_processor(base, "AutoImageProcessor"))
    size = int(network.config.vision_config.image_size)
    try:
        shape = tuple(process(np.zeros((size, size, 3), np.uint8)).shape)
    except Exception as error:  # it is configured by a file
        raise MethodError(f"the image processor of {base.folder} fails: {str(error)[:200]}") from error
    if shape != (3, size, size):
        raise MethodError(
            f"the image processor of {base.folder} makes {shape}, the vision tower takes {(3, size, size)}"
        )
    return process


def _processed(processor: Any, pixels: NDArray[np.uint8]) -> Tensor:
    values = processor(images=pixels, return_tensors="pt", input_data_format="channels_last").pixel_values[0]
    return torch.as_tensor(values, dtype=torch.float32)


def _inputs(process: Callable[[NDArray[np.uint8]], Tensor], pixels: NDArray[np.uint8]) -> dict[str, Tensor]:
    """`pixel_values`: 3×S×S float32."""
    return {"pixel_values": process(pixels)}


class BiLora:
    """A `Learner` and a `Detector`: BLIP-2 that is asked for the probabilities of its two captions.

    Attributes:
        network: `Blip2ForConditionalGeneration`; its adapters have `requires_grad`, if it has any.
        crop: side of the square crops, pixels.
        base: what it stands on.
        lora: rank and alpha.
    """

    def __init__(
        self,
        network: Any,
        captions: Captions,
        base: FolderBase,
        process: Callable[[NDArray[np.uint8]], Tensor],
        crop: int | None,
        lora: LoraSpec,
    ) -> None:
        self.network, self.base, self.lora = network, base, lora
        self.crop = crop or int(network.config.vision_config.image_size)
        self.base_digest = base.digest
        self.inputs: Inputs = partial(_inputs, process)
        self._captions = captions

    def loss(self, inputs: dict[str, Tensor], generated: Tensor) -> Tensor:
        """The captioning loss: cross-entropy of the tokens of the right word, mean over all tokens of the batch."""
        labels, mask = self._labels(generated.long())
        logits = self._logits(self._context(inputs["pixel_values"]), labels, mask)
        return F.cross_entropy(logits.transpose(1, 2), labels.masked_fill(~mask, -100), ignore_index=-100)

    @torch.no_grad()
    def scores(self, inputs: dict[str, Tensor]) -> Tensor:
        """P(fake) against P(real): softmax over the log-likelihoods of the two whole captions. B float32."""
        return self.log_likelihoods(inputs["pixel_values"]).softmax(1)[:, 1]

    def log_likelihoods(self, pixels: Tensor) -> Tensor:
        """log P(caption) of all tokens of each of `WORDS`: B×2 float32."""
        context = self._context(pixels).repeat_interleave(len(WORDS), 0)
        word = torch.arange(len(WORDS), device=context.device).repeat(len(pixels))
        labels, mask = self._labels(word)
        found = self._logits(context, labels, mask).log_softmax(-1).gather(2, labels[..., None])[..., 0]
        return found.masked_fill(~mask, 0).sum(1).view(-1, len(WORDS))

    @torch.no_grad()
    def caption(self, pixels: Tensor) -> str:
        """What BLIP-2 says of one picture, 1×3×S×S: the most probable token, one after the other."""
        context, said = self._context(pixels), [self._captions.end]
        while len(said) <= _CAPTION_TOKENS:
            labels = torch.tensor([said], device=context.device)
            token = int(self._logits(context, labels, torch.ones_like(labels, dtype=torch.bool))[0, -1].argmax())
            if token == self._captions.end:
                break
            said.insert(-1, token)  # the last one only asks for what comes before it
        return self._captions.decode(said[:-1])

    def _context(self, pixels: Tensor) -> Tensor:
        """What the decoder sees of each picture, B×N×D: OPT before the caption, T5 by cross-attention. All frozen."""
        network = self.network
        with torch.no_grad():
            hidden = network.vision_model(pixel_values=pixels.to(_dtype(network.vision_model))).last_hidden_state
            seen = torch.ones(hidden.shape[:2], dtype=torch.long, device=hidden.device)
            queries = network.query_tokens.expand(len(pixels), -1, -1)
            answers = network.qformer(
                query_embeds=queries, encoder_hidden_states=hidden.to(queries.dtype), encoder_attention_mask=seen
            ).last_hidden_state
            tokens = network.language_projection(answers.to(_dtype(network.language_projection)))
            before = torch.tensor([self._captions.before], device=tokens.device).expand(len(pixels), -1)
            embedded = self._embed(before)
            context = torch.cat([tokens.to(embedded.dtype), embedded], 1)
            if not network.config.text_config.is_encoder_decoder:
                return context
            seen = torch.ones(context.shape[:2], dtype=torch.long, device=context.device)
            encoder = network.language_model.get_encoder()
            encoded: Tensor = encoder(inputs_embeds=context, attention_mask=seen).last_hidden_state
            return encoded

    def _logits(self, context: Tensor, labels: Tensor, mask: Tensor) -> Tensor:
        """What predicts each of the labels, B×L×vocabulary float32, padded on the right where `mask` is false."""
        model = self.network.language_model
        seen = torch.ones(context.shape[:2], dtype=torch.long, device=context.device)
        known, valid = labels[:, :-1], mask[:, :-1].long()
        if self.network.config.text_config.is_encoder_decoder:
            from transformers.modeling_outputs import BaseModelOutput

            start = torch.full_like(labels[:, :1], self._captions.start)
            logits = model(
                encoder_outputs=BaseModelOutput(last_hidden_state=context),
                attention_mask=seen,
                decoder_input_ids=torch.cat([start, known], 1),
                decoder_attention_mask=torch.cat([torch.ones_like(start), valid], 1),
                use_cache=False,
            ).logits
        else:
            embeddings = torch.cat([context, self._embed(known)], 1)
            logits = model(inputs_embeds=embeddings, attention_mask=torch.cat([seen, valid], 1), use_cache=False).logits
        asked: Tensor = logits[:, -labels.shape[1] :].float()
        return asked

    def _embed(self, ids: Tensor) -> Tensor:
        embedded: Tensor = self.network.language_model.get_input_embeddings()(ids)
        return embedded

    def _labels(self, words: Tensor) -> tuple[Tensor, Tensor]:
        """Token ids of the captions, B×L, and which of them count, for B indexes of `WORDS`."""
        end, longest = self._captions.end, max(map(len, self._captions.words))
        padded = [(*ids, *[end] * (longest - len(ids))) for ids in self._captions.words]
        counts = [[place < len(ids) for place in range(longest)] for ids in self._captions.words]
        return torch.tensor(padded, device=words.device)[words], torch.tensor(counts, device=words.device)[words]

    @torch.no_grad()
    def detect(self, pixels: NDArray[np.uint8]) -> Detection:
        """As of `Detector`: the mean over up to five crops at the picture's own resolution (`crops`).

        `parts` has the probabilities of both captions and that of all others.

        Raises:
            ValueError: a side is smaller than a crop; or captions that are neither word are more probable than the two
                together (`MOST_NEITHER`), so that they are no answer to the question.
        """
        height, width = pixels.shape[:2]
        if min(height, width) < self.crop:
            raise ValueError(f"the picture has {width}×{height} pixels, fewer than a crop of {self.crop}×{self.crop}")
        device = self.network.query_tokens.device
        cut = [self.inputs(np.ascontiguousarray(crop))["pixel_values"] for crop in crops(pixels, self.crop)]
        values = torch.stack(cut).to(device)
        found = torch.cat([self.log_likelihoods(one[None]) for one in values]).double().cpu()
        real, fake = found.exp().mean(0).tolist()
        neither = min(1.0, max(0.0, 1 - real - fake))
        if not neither <= MOST_NEITHER:
            said = self.caption(values[found.logsumexp(1).argmin()][None])
            raise ValueError(
                f"{neither:.0%} of the probability is on captions that are neither {' nor '.join(WORDS)}, "
                f"such as {said[:60]!r}"
            )
        score = float(found.softmax(1)[:, 1].mean())
        parts = {"p_real": real, "p_fake": fake, "p_neither": neither, "crops": float(len(cut))}
        return Detection(min(1.0, max(0.0, score)), None, parts)

    def stored(self) -> dict[str, Tensor]:
        """As of `Learner`: the adapters."""
        return {name: tensor.detach() for name, tensor in self._learned().items()}

    def load_stored(self, tensors: dict[str, Tensor]) -> None:
        """As of `Learner`."""
        own = self._learned()
        wrong = sorted(own.keys() ^ tensors.keys())
        wrong += [name for name in own if name in tensors and own[name].shape != tensors[name].shape]
        if wrong:
            raise ValueError(f"{wrong[0]} does not fit the adapters of rank {self.lora.rank}")
        with torch.no_grad():
            for name, parameter in own.items():
                parameter.copy_(tensors[name])

    def _learned(self) -> dict[str, nn.Parameter]:
        return {name: parameter for name, parameter in self.network.named_parameters() if parameter.requires_grad}

    def save(self, folder: Path, calibration: Calibration, training: dict[str, Any]) -> None:
        """As of `Learner`: `method.json`, and the adapters as peft stores them.

        Raises:
            OSError: the folder cannot be written; what was there is untouched.
        """
        from peft import LoraConfig

        kind = str(self.network.config.text_config.model_type)
        config = LoraConfig(r=self.lora.rank, lora_alpha=self.lora.alpha, target_modules=TARGETS[kind], bias="none")
        settings = {"crop": self.crop, "base_sizes": sizes_of(self.base)}
        with whole_folder(folder) as place:
            write_tensors(place / FILES[1], adapter_tensors(self.network))
            config.save_pretrained(str(place))
            Description(KIND, self.base.name, self.base.digest, calibration, training, settings).write(place)


def crops(pixels: NDArray[np.uint8], side: int) -> list[NDArray[np.uint8]]:
    """Four corners and centre, side×side each; fewer where they are the same."""
    bottom, right = pixels.shape[0] - side, pixels.shape[1] - side
    places = dict.fromkeys([(0, 0), (0, right), (bottom, 0), (bottom, right), (bottom // 2, right // 2)])
    return [pixels[y : y + side, x : x + side] for y, x in places]


def _dtype(module: nn.Module) -> torch.dtype:
    return next(module.parameters()).dtype
