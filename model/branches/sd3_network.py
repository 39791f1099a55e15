"""The generative branch: SD3's latent, rectified-flow noise, MM-DiT features (clue-method, equations 1 and 2).

Below the network: SD3 on disk, a folder as diffusers lays it out. The embeddings of its prompt are in `sd3_prompt`.
"""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterator, Mapping
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from model import tensor_files
from model.branches.inference import constant, inferring, tensors_of
from model.branches.joint_block import Constants, JointBlock, arrange, block_constants, sources
from model.branches.network import BranchNetwork, Files, Prompts
from model.branches.recomputation import Keeps, recompute, spread
from model.branches.sd3 import DECODER
from model.branches.sd3_prompt import read_prompt
from model.branches.sd3_transformer import SD3Transformer
from model.branches.vae_encoder import EncoderAlone
from model.forensic_view import high_pass, luma
from model.preset import NoiseSpec, Preset, TransformerSpec, VaeSpec
from model.rectified_flow import add_noise, noise_levels
from model.registry import Base, BasesError, read_json, shards

if TYPE_CHECKING:
    from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL

CLASSES = {
    "transformer": "SD3Transformer2DModel",
    "vae": "AutoencoderKL",
    "scheduler": "FlowMatchEulerDiscreteScheduler",
}
"""What each folder of SD3 holds, by the name that diffusers writes into its configuration."""
OURS = {"feature_blocks", "prompt_tokens", "learned_prompt", "pixel_unshuffle", "residual"}
"""Sizes of a preset that no configuration of diffusers has."""


def build_autoencoder(spec: VaeSpec) -> AutoencoderKL:
    """AutoencoderKL as SD3 configures it, at the size of the spec, with its decoder: diffusers' own."""
    from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL  # six seconds to import

    blocks = len(spec.block_out_channels)
    folded = 3 * spec.pixel_unshuffle**2
    vae: AutoencoderKL = AutoencoderKL(
        in_channels=folded + (spec.pixel_unshuffle**2 if spec.residual else 0),
        out_channels=3,
        down_block_types=("DownEncoderBlock2D",) * blocks,
        up_block_types=("UpDecoderBlock2D",) * blocks,
        block_out_channels=spec.block_out_channels,
        layers_per_block=spec.layers_per_block,
        latent_channels=spec.latent_channels,
        norm_num_groups=spec.norm_num_groups,
        mid_block_add_attention=spec.mid_block_add_attention,
        use_quant_conv=False,
        use_post_quant_conv=False,
        shift_factor=spec.shift_factor,
        scaling_factor=spec.scaling_factor,
    )
    return vae


def build_vae(spec: VaeSpec) -> EncoderAlone:
    """The same without its decoder, which `model.synthetic.autoencoder` alone needs."""
    return EncoderAlone(spec)


def build_transformer(spec: TransformerSpec, latent_channels: int) -> SD3Transformer:
    """SD3Transformer2DModel as SD3 configures it, at the size of the spec."""
    return SD3Transformer(spec, latent_channels, JointBlock)


def folded(planes: list[Tensor], fold: int) -> Tensor:
    """F.pixel_unshuffle of all of them, one behind the other, in channels-last."""
    if fold == 1 and len(planes) == 1:
        return planes[0]
    pixels = torch.cat(planes, 1)
    batch, channels, height, width = pixels.shape
    # `fold` neighbours of a row stay together: copied as one number of that many bytes.
    whole = _OF_BYTES.get(fold * pixels.element_size())
    if whole is None or width % fold or pixels.requires_grad or torch.compiler.is_compiling():
        return F.pixel_unshuffle(pixels, fold)
    runs = pixels.contiguous().view(whole).view(batch, channels, height // fold, fold, width // fold)
    made: Tensor = runs.permute(0, 2, 4, 1, 3).flatten(3).view(pixels.dtype)
    return made.permute(0, 3, 1, 2)


_OF_BYTES = {4: torch.int32, 8: torch.int64, 16: torch.complex128}


class SD3Network(BranchNetwork):
    """x, ε → F_sd3, B×channels×h×w; a cell is a patch of the latent."""

    adapted = "transformer"
    takes_prompts = True
    prompt: Tensor
    pooled: Tensor

    def __init__(self, vae: VaeSpec, transformer: TransformerSpec, noise: NoiseSpec) -> None:
        super().__init__()
        self.vae_spec, self.spec, self.noise = vae, transformer, noise
        self.vae = build_vae(vae)
        self.transformer = build_transformer(transformer, vae.latent_channels)
        prompt = torch.zeros(1, transformer.prompt_tokens, transformer.joint_attention_dim)
        pooled = torch.zeros(1, transformer.pooled_projection_dim)
        if transformer.learned_prompt:
            self.prompt = nn.Parameter(prompt.normal_(std=0.5) if not prompt.is_meta else prompt)
            self.pooled = nn.Parameter(pooled)
        else:  # the embedding of the empty prompt is a constant of the base model
            self.register_buffer("prompt", prompt)
            self.register_buffer("pooled", pooled)

    @property
    def channels(self) -> int:
        """Channels of F_sd3: the features of every tapped block at every noise level, concatenated."""
        return self.spec.width * len(self.spec.feature_blocks) * len(noise_levels(self.noise))

    def encode(self, x: Tensor) -> Tensor:
        """z0 = (E(x) - shift_factor)·scaling_factor, the mean of the posterior: B×16×H/8×W/8. Equation 1."""
        fold, dtype = self.vae_spec.pixel_unshuffle, self.vae.encoder.conv_in.weight.dtype
        x = x if fold == 1 else x.contiguous()  # each channel by itself: its rows are what is folded
        pixels = [(x * 2).sub_(1)]
        if self.vae_spec.residual:
            pixels.append(high_pass(luma(x)).to(x.dtype))
        mean: Tensor = self.vae.encoder(folded([part.to(dtype) for part in pixels], fold)).chunk(2, dim=1)[0]
        return (mean - self.vae_spec.shift_factor) * self.vae_spec.scaling_factor

    def _latent(self, x: Tensor) -> Tensor:
        """`encode`; in a training that leaves the VAE as it is, in inference form.

        That is without a graph, and in the number format of its weights where autocast uses the same: autocast would
        compute each norm, and the activation after it, in float32.
        """
        if not torch.is_grad_enabled() or x.requires_grad or any(p.requires_grad for p in self.vae.parameters()):
            return self.encode(x)
        device, held = x.device.type, self.vae.encoder.conv_in.weight.dtype
        same = torch.amp.is_autocast_available(device) and torch.get_autocast_dtype(device) == held
        with torch.no_grad(), torch.autocast(device, enabled=False) if same else contextlib.nullcontext():
            return self.encode(x)

    def forward(self, x: Tensor, noise: Tensor, view: Tensor | None = None, prompts: Prompts | None = None) -> Tensor:
        """x: B×3×H×W in [0, 1]; noise: ε, the shape of the latent; prompts: None: the network's own for all."""
        z0 = self._latent(x)
        levels = noise_levels(self.noise)
        batch, _, height, width = z0.shape
        # All levels of a tile in one batch: (L·B)×16×h×w. Only the transformer runs once per level.
        noisy = torch.cat([add_noise(z0, noise.to(z0), level, self.noise) for level in levels])

        def timesteps() -> Tensor:
            # Filled on the device: a tensor made of a list is copied there, and the copy waits for all before.
            filled = [torch.full((batch,), level, dtype=torch.float32, device=x.device) for level in levels]
            return torch.cat(filled) * 1000.0

        if inferring(self, noisy):  # tensors of inference mode do not count their changes
            made = torch.inference_mode(False)(timesteps)
            timestep = constant(self, ("timestep", batch, x.device), (), made)
        else:
            timestep = timesteps()
        given = () if prompts is None else tuple(one.repeat(len(levels), *[1] * (one.ndim - 1)) for one in prompts)
        tapped = self.tokens(noisy, timestep, *given)
        rows, columns = height // self.spec.patch_size, width // self.spec.patch_size
        maps = [tokens.transpose(1, 2).reshape(-1, self.spec.width, rows, columns) for tokens in tapped]
        stacked = torch.cat(maps, 1)  # (L·B)×(taps·width)×rows×columns
        return torch.cat(stacked.chunk(len(levels)), 1)

    def tokens(
        self, latent: Tensor, timestep: Tensor, prompt: Tensor | None = None, pooled: Tensor | None = None
    ) -> list[Tensor]:
        """Image tokens after each of `feature_blocks`: a list of B×N×width. No later block is computed."""
        if inferring(self, latent) and all(
            isinstance(block, JointBlock) for block in self.transformer.transformer_blocks
        ):
            return self._tokens_from_constants(latent, timestep, prompt, pooled)
        model = self.transformer
        count = latent.shape[0]
        prompt = self.prompt.expand(count, -1, -1) if prompt is None else prompt
        pooled = self.pooled.expand(count, -1) if pooled is None else pooled
        hidden = model.pos_embed(latent).contiguous()
        temb = model.time_text_embed(timestep, pooled.to(latent.dtype))
        context = model.context_embedder(prompt.to(latent.dtype))
        tapped = []
        for index, block in enumerate(model.transformer_blocks[: max(self.spec.feature_blocks) + 1]):
            context, hidden = block(hidden_states=hidden, encoder_hidden_states=context, temb=temb)
            if index in self.spec.feature_blocks:
                tapped.append(hidden)
        return tapped

    def _tokens_from_constants(
        self, latent: Tensor, timestep: Tensor, prompt: Tensor | None, pooled: Tensor | None
    ) -> list[Tensor]:
        model, count = self.transformer, latent.shape[0]
        blocks = [cast(JointBlock, one) for one in model.transformer_blocks[: max(self.spec.feature_blocks) + 1]]

        def compute() -> tuple[Tensor, list[Constants]]:
            texts = self.prompt if prompt is None else prompt
            vectors = (self.pooled if pooled is None else pooled).expand(count, -1)
            context = model.context_embedder(texts.to(latent.dtype)).expand(count, -1, -1).contiguous()
            temb = model.time_text_embed(timestep, vectors.to(latent.dtype))
            return context, [block_constants(block, temb) for block in blocks]

        if prompt is None and pooled is None and not timestep.is_inference():  # whose changes nobody counts
            known = [timestep, self.prompt, self.pooled, *tensors_of(model.time_text_embed, model.context_embedder)]
            known += [tensor for block in blocks for tensor in sources(block)]
            context, constants = constant(self, ("blocks", count, latent.dtype), known, compute)
        else:
            context, constants = compute()
        hidden = model.pos_embed(latent).contiguous()
        tapped = []
        for index, (block, own) in enumerate(zip(blocks, constants, strict=True)):
            context, hidden = block(hidden, context, None, constants=own)
            if index in self.spec.feature_blocks:
                tapped.append(hidden)
        return tapped

    def arrange(self) -> None:
        """q, k and v of each attention."""
        for block in self.transformer.transformer_blocks:
            if isinstance(block, JointBlock):
                arrange(block)

    def blocks(self) -> list[nn.Module]:
        """The VAE's encoder, and the joint blocks."""
        return [self.vae.encoder, *self.transformer.transformer_blocks]

    def keep_less(self, keeps: Keeps = "nothing", share: float = 1.0) -> None:
        """In the transformer only."""
        for block in spread(list(self.transformer.transformer_blocks), share):
            recompute(block, keeps)

    def examine(
        self, preset: Preset, places: Mapping[str, Path], known: Collection[Preset] = ()
    ) -> tuple[Files, list[str]]:
        """`sd3`: a diffusers folder, its parts in shards or not; `prompt`: stored embeddings, if there are any."""
        folder = places["sd3"]
        if (folder / "unet").is_dir() and not (folder / "transformer").is_dir():
            raise BasesError(f"{folder} is the folder of another model: it has unet/ and no transformer/")
        # A scheduler of another kind means that the model's noise is of another kind.
        parts = [part for part in CLASSES if part != "scheduler" or (folder / part).is_dir()]
        configs = {part: component_config(folder, part, CLASSES[part], "SD3") for part in parts}
        problems = [
            f"{part}/config.json: {key} is {repr(configs[part][key])[:200]}, expected {expected!r}"
            for part, key, expected in self._settings()
            if key in configs[part] and _plain(configs[part][key]) != _plain(expected)
        ]
        if problems:
            raise BasesError(f"{folder} is of another model than {preset.name}", tuple(problems))
        files: Files = {part: component_files(folder, part) for part in ("transformer", "vae")}
        for part, network in (("transformer", self.transformer), ("vae", self.vae)):
            shapes = tensor_files.safetensors_shapes(files[part])
            if part == "vae":
                shapes = {name: shape for name, shape in shapes.items() if not name.startswith(DECODER)}
            problems += tensor_files.differences(part, shapes, network)
        if "prompt" in places:
            read_prompt(places["prompt"], self.spec)
            files["prompt"] = (places["prompt"],)
        return files, problems

    def _settings(self) -> Iterator[tuple[str, str, Any]]:
        """What the configuration files of diffusers must say, where they say it."""
        specs: tuple[tuple[str, Any], ...] = (("transformer", self.spec), ("vae", self.vae_spec))
        for part, spec in specs:
            for key in (size.name for size in fields(spec) if size.name not in OURS):
                yield part, key, getattr(spec, key)
        yield "transformer", "in_channels", self.vae_spec.latent_channels
        yield "transformer", "caption_projection_dim", self.spec.width
        yield "vae", "use_quant_conv", False

    def load(self, base: Base, device: str, dtype: torch.dtype, rest: torch.dtype) -> None:
        """Transformer, VAE, and the empty prompt's embeddings, whose length `SD3.fitted` has put into the sizes."""
        formats = dict.fromkeys((name for name, _ in self.transformer.named_buffers()), rest)
        mmdit = tensor_files.safetensors_tensors(base.paths("transformer"), device, lambda n: formats.get(n, dtype))
        tensor_files.fill(self.transformer, "transformer", mmdit)
        vae = tensor_files.safetensors_tensors(base.paths("vae"), device, dtype)
        tensor_files.fill(self.vae, "vae", ((n, t) for n, t in vae if not n.startswith(DECODER)))
        self.take_prompt(base.paths("prompt")[0], device, rest)

    def take_prompt(self, path: Path, device: str, dtype: torch.dtype) -> None:
        """Put stored embeddings in the place of the prompt's; see `BranchNetwork`."""
        prompt = read_prompt(path, self.spec)
        self.prompt = tensor_files.converted(path, "prompt", prompt.prompt, dtype).to(device)
        self.pooled = tensor_files.converted(path, "pooled", prompt.pooled, dtype).to(device)


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, list | tuple) else value


STEM = "diffusion_pytorch_model"


def component_config(folder: Path, component: str, kind: str, title: str) -> dict[str, Any]:
    """The configuration of a part.

    Args:
        folder: of the whole model.
        component: name of the part's folder.
        kind: class of the part, as diffusers writes it into the configuration.
        title: of the model, for messages.

    Raises:
        BasesError: the folder is of another model; the message says what it looks like.
    """
    if not folder.is_dir():
        raise BasesError(f"{folder} is not a folder")
    path = folder / component / ("scheduler_config.json" if component == "scheduler" else "config.json")
    if not path.is_file():
        found = ", ".join(sorted(p.name for p in folder.iterdir())[:12]) or "nothing"
        raise BasesError(
            f"{folder} is not a diffusers folder of {title}: {component}/{path.name} is missing (there is: {found})"
        )
    config = read_json(path)
    there = config.get("_class_name", kind)
    if there != kind:
        raise BasesError(f"{path} is of another model: {str(there)[:80]!r}, expected {kind}")
    return config


def component_files(folder: Path, component: str) -> tuple[Path, ...]:
    """The safetensors files of a part, in the order of their names: one, or the shards that an index names.

    Raises:
        BasesError: there are none, a shard is missing, or the index names what is not a file beside it.
    """
    place = folder / component
    for variant in ("", ".fp16"):
        single = place / f"{STEM}{variant}.safetensors"
        if single.is_file():
            return (single,)
        names = (f"{STEM}.safetensors.index{variant}.json", f"{STEM}{variant}.safetensors.index.json")
        for index in (place / name for name in names):
            if index.is_file():
                return shards(index)
    pickles = sorted(path.name for path in place.glob("*.bin")) if place.is_dir() else []
    hint = f"; {pickles[0]} is a pickle, which is not read: get the safetensors" if pickles else ""
    raise BasesError(f"{place / STEM}.safetensors is missing, and so is an index of shards{hint}")
