"""Stable Diffusion 3: its sizes, its licence, where it is published, and the empty prompt computed for it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from model.branches.branch import Branch, HubFolder, Licence, Misfit
from model.preset import LARGEST, Preset, TransformerSpec

if TYPE_CHECKING:
    from model.branches.sd3_network import SD3Network
    from model.registry import Base

REPOSITORIES: tuple[tuple[TransformerSpec, str], ...] = (
    (TransformerSpec(), "stabilityai/stable-diffusion-3-medium-diffusers"),
    (
        TransformerSpec(pos_embed_max_size=384, dual_attention_layers=tuple(range(13)), qk_norm="rms_norm"),
        "stabilityai/stable-diffusion-3.5-medium",
    ),
)
"""On the Hugging Face Hub; both repositories are gated."""

_ENCODERS = (f"{part}{number}" for part in ("text_encoder", "tokenizer") for number in ("", "_2", "_3"))
WANTED = ("model_index.json", *(f"{folder}/*" for folder in ("transformer", "vae", "scheduler", *_ENCODERS)))
"""By name: some repositories have the text encoders again, all in one folder text_encoders/."""
UNWANTED = ("*.fp16*", "*.bin", "*.msgpack", "*.onnx*")

DECODER = ("decoder.", "post_quant_conv.")
"""Tensors of the VAE that only `with_decoder` asks for."""


def with_decoder(name: str) -> Base:
    """Registered base weights whose VAE can decode, too.

    Raises:
        BasesError: there are none of this name, they are damaged or changed, or nothing in them decodes.
    """
    from safetensors import SafetensorError, safe_open

    from model.presets import PRESETS
    from model.registry import BasesError, find

    if name in PRESETS and "sd3" in PRESETS[name].backbones and SD3().from_scratch(PRESETS[name]):
        raise BasesError(f"the VAE of {name} has no decoder: it was trained to be an encoder alone")
    base = find(name)
    if "vae" not in base.parts:
        raise BasesError(f"{name} has no VAE; its parts are {', '.join(base.parts)}")
    for path in base.paths("vae"):
        try:
            with safe_open(path, framework="numpy") as file:
                names = sorted(file.keys())
            if any(tensor.startswith(DECODER) for tensor in names):
                return base
        except SafetensorError as error:
            raise BasesError(f"{path} is damaged or not a safetensors file: {error}") from error
    raise BasesError(f"the VAE of {name} has no decoder: {path} holds the encoder alone; get the whole VAE")


class SD3(Branch):
    """The generative branch: VAE, noise, MM-DiT."""

    name = "sd3"
    title = "SD3"
    parts = ("transformer", "vae", "prompt")
    licence = Licence(
        "Stability AI Community License",
        "https://stability.ai/community-license-agreement",
        "It allows research and other non-commercial use, and commercial use by those whose annual revenue is below "
        "one million US dollars; others need an enterprise licence from Stability AI. Whoever hands on the weights, or "
        "what was made from them, hands on this licence and its notice, shows “Powered by Stability AI”, and keeps to "
        "Stability AI's acceptable use policy.",
    )

    def build(self, preset: Preset) -> SD3Network:
        """VAE encoder and MM-DiT."""
        from model.branches.sd3_network import SD3Network

        return SD3Network(preset.vae, preset.transformer, preset.noise)

    def cell(self, preset: Preset) -> int:
        """A patch of the latent."""
        return preset.vae.stride * preset.transformer.patch_size

    def largest(self, preset: Preset) -> int:
        """As far as the positional embeddings reach."""
        return preset.transformer.pos_embed_max_size * self.cell(preset)

    def lora_targets(self, preset: Preset) -> tuple[str, ...]:
        """The joint attention; of SD3.5, the second attention, too."""
        return preset.lora.sd3_targets

    def noise_shape(self, preset: Preset, height: int, width: int) -> tuple[int, int, int]:
        """That of the latent."""
        return preset.vae.latent_channels, height // preset.vae.stride, width // preset.vae.stride

    def from_scratch(self, preset: Preset) -> bool:
        """Pretrained weights go with the empty prompt of their text encoders."""
        return preset.transformer.learned_prompt

    def misfits(self, preset: Preset) -> Iterator[Misfit]:
        """Checks of `vae` and `transformer`."""
        vae, mmdit = preset.vae, preset.transformer
        groups = [channels % vae.norm_num_groups for channels in vae.block_out_channels]
        yield "vae.block_out_channels", not 0 < len(groups) <= 8, "1 to 8 blocks"
        yield "vae.block_out_channels", any(groups), f"multiples of norm_num_groups, {vae.norm_num_groups}"
        last, taps, dual = mmdit.num_layers - 1, mmdit.feature_blocks, mmdit.dual_attention_layers
        yield "transformer.feature_blocks", not taps, "at least one block"
        yield "transformer.feature_blocks", list(taps) != sorted(set(taps)) or taps[-1] > last, f"rising, 0 to {last}"
        yield "transformer.dual_attention_layers", any(layer > last for layer in dual), f"blocks from 0 to {last}"
        key, heads = "transformer.attention_head_dim", "num_attention_heads times this"
        yield key, mmdit.width % 4 != 0, f"{heads} a multiple of 4"
        yield key, mmdit.width > LARGEST, f"{heads} at most {LARGEST}"
        yield "svd.rank", preset.adapt("sd3") == "svd" and preset.svd.rank >= mmdit.width, f"below {mmdit.width}"
        yield "lora.sd3_targets", not preset.lora.sd3_targets, "at least one layer"

    def sizes(self, preset: Preset) -> dict[str, dict[str, Any]]:
        """All but where features are taken, and the length of the prompt."""
        data = preset.to_dict()
        for free in ("feature_blocks", "prompt_tokens"):
            del data["transformer"][free]
        return {part: data[part] for part in ("vae", "transformer")}

    def source(self, preset: Preset) -> HubFolder | None:
        """The repository whose transformer has these sizes."""
        name = next((name for spec, name in REPOSITORIES if spec == preset.transformer), None)
        return HubFolder(name, WANTED, UNWANTED) if name else None

    def fitted(self, preset: Preset, base: Base) -> Preset:
        """Stored embeddings of the prompt may be shorter than what the text encoders give."""
        from model.branches.sd3_prompt import read_prompt

        tokens = read_prompt(base.paths("prompt")[0], preset.transformer).prompt.shape[1]
        return replace(preset, transformer=replace(preset.transformer, prompt_tokens=tokens))

    def derived(self, preset: Preset, place: Path, base: Base, folder: Path, say: Callable[[str], None]) -> Path:
        """The embeddings of the empty prompt, from the text encoders beside the transformer."""
        from model.branches.sd3_prompt import compute, missing_encoders, read_prompt, write_prompt
        from model.registry import BasesError

        # T5 is often added later: what was computed without it is not taken then.
        without = "" if (place / "text_encoder_3").is_dir() else "-without-t5"
        path = folder / f"{base.digests()['transformer'][:16]}{without}.safetensors"
        if path.is_file():
            try:
                read_prompt(path, preset.transformer)
            except BasesError:
                say(f"{path} is damaged; it is computed again.")
            else:
                return path
        if not missing_encoders(place):
            say("Computing the empty prompt's embeddings, once; T5 takes a minute and its size in memory.")
        write_prompt(path, compute(place, preset.transformer), base.digests())
        return path

    def tokens(self, preset: Preset, files: Mapping[str, tuple[Path, ...]]) -> dict[str, int]:
        """Of the empty prompt."""
        from model.branches.sd3_prompt import read_prompt

        return read_prompt(files["prompt"][0], preset.transformer).tokens
