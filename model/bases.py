"""Base weights against a preset: check the files before they are registered, and load them into a network.

A network is built on the meta device, where it costs nothing, and each tensor takes its place there as it comes from
the file, on the device and in the dtype it is wanted in: nothing is ever held twice.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from model import base_files
from model.clue import CLUE, build, place_constants
from model.empty_prompt import read_prompt
from model.presets import PRESETS, Preset
from model.presets.spec import TransformerSpec, VaeSpec
from model.registry import Base, BasesError, find, registered

_SAM_NAMES = {768: "ViT-B", 1024: "ViT-L", 1280: "ViT-H"}
"""segment_anything's encoders by the width of their tokens."""


@dataclass(frozen=True, slots=True)
class Found:
    """The files of the parts of a base model, checked against a preset."""

    transformer: tuple[Path, ...]
    vae: tuple[Path, ...]
    sam: tuple[Path, ...]


def needs_bases(preset: Preset) -> bool:
    """Whether a model of this preset stands on weights of others."""
    return not preset.transformer.learned_prompt


def examine(preset: Preset, sd3: Path, sam: Path) -> Found:
    """Find the base weights of a preset and compare every tensor's name and shape.

    Args:
        preset: what they should be.
        sd3: a diffusers folder: transformer/ and vae/, each with config.json and safetensors, in shards or not.
        sam: a checkpoint of segment_anything's, .pth or safetensors.

    Raises:
        BasesError: damaged, of another model, or incomplete; `problems` lists all that is missing, unexpected or of
            another shape.
    """
    model = build(preset, "meta")
    assert model.sd3 is not None
    assert model.sam is not None
    if (sd3 / "unet").is_dir() and not (sd3 / "transformer").is_dir():
        raise BasesError(f"{sd3} is the folder of another model: it has unet/ and no transformer/")
    configs = {part: base_files.component_config(sd3, part) for part in ("transformer", "vae")}
    if (sd3 / "scheduler").is_dir():
        base_files.component_config(sd3, "scheduler")  # of another model, if its noise is of another kind
    problems = [
        f"{part}/config.json: {key} is {repr(configs[part][key])[:200]}, expected {expected!r}"
        for part, key, expected in _settings(preset)
        if key in configs[part] and _plain(configs[part][key]) != _plain(expected)
    ]
    if problems:
        raise _refused(f"{sd3} is of another model than {preset.name}", problems)
    files = {part: base_files.component_files(sd3, part) for part in ("transformer", "vae")}
    for part, network in (("transformer", model.sd3.transformer), ("vae", model.sd3.vae)):
        there = base_files.safetensors_shapes(files[part])
        wanted = _without(there, base_files.VAE_OTHERS) if part == "vae" else there
        problems += _differences(part, wanted, network)
    problems += _sam_problems(preset, sam, model.sam.encoder)
    if problems:
        raise _refused(f"the base weights do not fit {preset.name}", problems)
    return Found(files["transformer"], files["vae"], (sam,))


def _refused(message: str, problems: list[str]) -> BasesError:
    more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
    return BasesError(f"{message}: {problems[0]}{more}", tuple(problems))


def _settings(preset: Preset) -> Iterator[tuple[str, str, Any]]:
    """What the configuration files of diffusers must say, where they say it."""
    ours = {"feature_blocks", "prompt_tokens", "learned_prompt", "pixel_unshuffle", "residual"}
    specs: tuple[tuple[str, TransformerSpec | VaeSpec], ...] = (
        ("transformer", preset.transformer),
        ("vae", preset.vae),
    )
    for part, spec in specs:
        for key in (field.name for field in fields(spec) if field.name not in ours):
            yield part, key, getattr(spec, key)
    yield "transformer", "in_channels", preset.vae.latent_channels
    yield "transformer", "caption_projection_dim", preset.transformer.width
    yield "vae", "use_quant_conv", False


def _plain(value: Any) -> Any:
    if isinstance(value, list | tuple):
        return list(value)
    return value


def _without(shapes: dict[str, list[int]], prefixes: tuple[str, ...]) -> dict[str, list[int]]:
    return {name: shape for name, shape in shapes.items() if not name.startswith(prefixes)}


def _differences(part: str, there: dict[str, list[int]], network: nn.Module) -> list[str]:
    expected = {name: list(tensor.shape) for name, tensor in network.state_dict().items()}
    problems = [f"{part}: {name} is missing" for name in sorted(expected.keys() - there.keys())]
    problems += [f"{part}: {name} is unexpected" for name in sorted(there.keys() - expected.keys())]
    return problems + [
        f"{part}: {name} is {there[name]}, expected {expected[name]}"
        for name in sorted(expected.keys() & there.keys())
        if there[name] != expected[name]
    ]


def _sam_problems(preset: Preset, path: Path, encoder: nn.Module) -> list[str]:
    shapes = {name: list(t.shape) for name, t in base_files.sam_tensors(path, "meta", None)}
    prefix = base_files.SAM_PREFIX
    if not any(name.startswith(prefix) for name in shapes):
        example = next(iter(shapes), "nothing")
        raise BasesError(
            f"{path} is no checkpoint of SAM as segment_anything writes it: no tensor begins with {prefix} "
            f"(there is {example[:80]!r})"
        )
    width = shapes.get(f"{prefix}patch_embed.proj.weight", [0])[0]
    if width != preset.sam.embed_dim and width in _SAM_NAMES:
        other = [name for name, known in PRESETS.items() if needs_bases(known) and known.sam.embed_dim == width]
        wanted = _SAM_NAMES.get(preset.sam.embed_dim, f"an encoder of width {preset.sam.embed_dim}")
        raise BasesError(
            f"{path} is SAM {_SAM_NAMES[width]}, and {preset.name} has {wanted}; "
            f"with {_SAM_NAMES[width]} there is {' or '.join(other)}"
        )
    ours = {name.removeprefix(prefix): shape for name, shape in _without(shapes, base_files.SAM_OTHERS).items()}
    return _differences("sam", ours, encoder)


def find_base(preset: Preset) -> Base:
    """The registered base weights for a preset: those of its name, or else the first that fit.

    Raises:
        BasesError: there are none, or a file is missing or changed.
    """
    bases = registered()
    fitting = [name for name, base in bases.items() if preset.name == name or not _misfit(base.preset, preset)]
    return find(preset.name if preset.name in bases or not fitting else fitting[0])


def _misfit(base: Preset, preset: Preset) -> str | None:
    """The first part of which the weights are others; where features are taken makes no difference."""
    own = {"feature_blocks", "prompt_tokens"}
    for part in ("vae", "transformer", "sam"):
        one, other = base.to_dict()[part], preset.to_dict()[part]
        if any(one[key] != other[key] for key in one if key not in own):
            return part
    return None


def with_bases(
    preset: Preset,
    base: Base,
    device: str,
    dtype: torch.dtype,
    branches: str = "both",
    rest: torch.dtype | None = None,
) -> CLUE:
    """A network with base weights, and with new, random weights where nothing is learned yet (fusion, head).

    Args:
        preset: its sizes are those of the base's preset; the rest may differ.
        base: from `model.registry.find`.
        device: where it goes.
        dtype: its number format.
        branches: as in `model.clue.build`.
        rest: number format of what is no weight of the base: its buffers (positions), the prompt's embeddings, and
            what is new; None: the same.

    Raises:
        BasesError: a file is damaged or does not fit, or a value in it does not fit the dtype.
    """
    rest = rest or dtype
    part = _misfit(base.preset, preset)
    if part is not None:
        raise BasesError(f"{preset.name} has another {part} than the base weights of {base.name}")
    prompt = read_prompt(base.paths("prompt")[0], preset) if branches != "sam" else None
    if prompt is not None:  # stored embeddings may be shorter than what the text encoders give
        length = replace(preset.transformer, prompt_tokens=prompt.prompt.shape[1])
        preset = replace(preset, transformer=length)
    model = build(preset, "meta", branches)
    model.base = base
    if model.sd3 is not None and prompt is not None:
        formats = dict.fromkeys((name for name, _ in model.sd3.transformer.named_buffers()), rest)
        mmdit = base_files.safetensors_tensors(base.paths("transformer"), device, lambda n: formats.get(n, dtype))
        _fill(model.sd3.transformer, "transformer", mmdit)
        vae = base_files.safetensors_tensors(base.paths("vae"), device, dtype)
        _fill(model.sd3.vae, "vae", ((n, t) for n, t in vae if not n.startswith(base_files.VAE_OTHERS)))
        path = base.paths("prompt")[0]
        model.sd3.prompt = base_files.converted(path, "prompt", prompt.prompt, rest).to(device)
        model.sd3.pooled = base_files.converted(path, "pooled", prompt.pooled, rest).to(device)
    if model.sam is not None:
        prefix = base_files.SAM_PREFIX
        sam = base_files.sam_tensors(base.paths("sam")[0], device, dtype)
        _fill(model.sam.encoder, "sam", ((n.removeprefix(prefix), t) for n, t in sam if n.startswith(prefix)))
    for new in (model.view, model.fusion, model.localization):
        if new is not None:
            _initialize(new, device, rest)
    place_constants(model, device)
    return model


def _fill(network: nn.Module, part: str, tensors: Iterator[tuple[str, Tensor]]) -> None:
    try:
        network.load_state_dict(dict(tensors), assign=True)
    except RuntimeError as error:
        raise BasesError(f"the {part} does not fit: {' '.join(str(error).split())[:400]}") from error


def _initialize(module: nn.Module, device: str, dtype: torch.dtype) -> None:
    """Give a module from the meta device the weights that its layers begin with."""
    module.to_empty(device=device).to(dtype)
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d | nn.GroupNorm | nn.Linear):
            layer.reset_parameters()
