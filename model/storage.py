"""Load and save models: pretrained weights, whole models, and adapter checkpoints, which hold what was learned on top.

    model.json                  preset, calibration, training summary; for adapters also the digests of the bases
    model.safetensors           all weights of a whole model
    head.safetensors            of an adapter checkpoint: fusion, localization, and the early view where there is one
    lora_BRANCH/adapter_{config.json,model.safetensors}     in peft's own format, of branches with LoRA
    svd_BRANCH/adapter_model.safetensors                    factors of the residuals and their first values, with SVD

A network is built on the meta device, where it costs nothing, and each tensor takes its place there as it comes from
the file, on the device and in the dtype it is wanted in: nothing is ever held twice.

For inference adapters are merged once, when they are loaded: none costs anything at run time.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor, nn

from model.branches import BRANCHES, branches_of, parts_of
from model.branches.network import ADAPTER, PARTS, adapters_in, lora_config, merge_adapters, merged_state
from model.calibration import Calibration
from model.checkpoint import (
    ADAPTER_FORMAT,
    CONFIG_FILE,
    FORMAT,
    HEAD_FILE,
    WEIGHTS_FILE,
    Checkpoint,
    CheckpointError,
    lora_folder,
    svd_folder,
)
from model.clue import CLUE, build, place_constants
from model.preset import LARGEST, LoraSpec, Preset, SvdSpec
from model.registry import Base, BasesError, find, read_json, registered
from model.tensor_files import converted, differences, learned_tensors, safetensors_shapes
from model.whole_file import whole_folder, write_text, write_whole

LORA_CONFIG, LORA_WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
"""In the folder of a branch's LoRA; residuals of an SVD have a file of the second name."""
PREFIX = "base_model.model."
"""What peft puts before the names of a model's modules in a file of adapters."""

_HEADS = ("fusion.", "localization.", "view.")
_PLAIN = {"use_dora": False, "use_rslora": False, "rank_pattern": {}, "alpha_pattern": {}, "bias": "none"}
"""Settings of peft's under which an adapter is W + (alpha / rank)·B·A and nothing else."""


def load(checkpoint: Checkpoint, device: str, dtype: torch.dtype) -> CLUE:
    """Build the network with the checkpoint's weights, in evaluation mode.

    Raises:
        CheckpointError: the weights are damaged or belong to another preset.
    """
    if checkpoint.base:
        return _load_adapter(checkpoint, device, dtype)
    if checkpoint.exported:
        raise CheckpointError(
            f"{checkpoint.folder} holds an exported network, which torch does not run",
            "Run it with --runtime onnx or --runtime openvino, or name the model it was exported from.",
        )
    path = checkpoint.folder / WEIGHTS_FILE
    model = build(checkpoint.preset, "meta", checkpoint.branches)
    try:
        problems = differences(path.name, safetensors_shapes((path,)), model)
        if problems:
            raise CheckpointError(
                f"{path} does not fit the preset {checkpoint.preset.name}: {problems[0]} ({len(problems)} differences)"
            )
        model.load_state_dict(dict(learned_tensors(path, device, dtype)), assign=True)
    except BasesError as error:
        raise CheckpointError(str(error)) from error
    place_constants(model, device)
    return _arranged(model)


def save(
    folder: Path,
    model: CLUE,
    calibration: Calibration,
    training: dict[str, Any],
    dtype: torch.dtype = torch.float16,
    *,
    as_one: bool = False,
) -> None:
    """Write a model, each file atomically: an interrupted save leaves the previous file whole.

    What was learned on top of registered weights is written as adapters, in the place of the folder. Else adapters are
    merged into the weights they adapt: what is written is a plain model.

    Args:
        dtype: number format of the stored weights; a tensor with a value that it does not hold is stored as it is.
        as_one: a plain model, too, takes the place of the folder with all that is in it (`whole_folder`): its weights
            and what is said of them are never of two saves.

    Raises:
        ValueError: a part of the registered weights themselves was trained, which no adapter can hold.
        OSError: the folder cannot be written.
    """
    if model.kept_as_adapters and model.base is not None:
        _save_adapter(folder, model, model.base, calibration, training)
        return
    if as_one:
        with whole_folder(folder) as place:
            save(place, model, calibration, training, dtype)
        return
    folder.mkdir(parents=True, exist_ok=True)
    state = {name: _rounded(tensor.detach(), dtype) for name, tensor in merged_state(model).items()}
    write_whole(folder / WEIGHTS_FILE, lambda path: write_tensors(path, state))
    write_text(folder / CONFIG_FILE, _config(model, calibration, training))


def load_learned(model: CLUE, checkpoint: Checkpoint, *, keep_head: bool = True) -> None:
    """Put what a checkpoint learned into a network that has adapters (`model.clue.adapt`), to go on learning.

    Args:
        model: its base weights are those that the checkpoint was trained on.
        checkpoint: of a branch that the model does not have, nothing is taken.
        keep_head: whether fusion and localization are taken, too.

    Raises:
        CheckpointError: something is damaged, or the network has other adapters.
    """
    own = dict(model.named_parameters()) | adapters_in(model)
    device = str(next(model.parameters()).device)
    try:
        state = dict(learned_tensors(checkpoint.folder / HEAD_FILE, device, None))
        if not keep_head:
            state = {name: tensor for name, tensor in state.items() if name.startswith("view.")}
        for branch, network in model.networks.items():
            inside = f"{branch}.{network.adapted}."
            for place in (lora_folder, svd_folder):
                path = place(checkpoint.folder, branch) / LORA_WEIGHTS
                if path.is_file():
                    state |= {inside + name: tensor for name, tensor in _read(path, device, None)}
    except BasesError as error:
        raise CheckpointError(str(error)) from error
    wrong = sorted(name for name in state if name not in own or own[name].shape != state[name].shape)
    wrong += sorted(name for name in adapters_in(model) if name not in state)
    if wrong:
        raise CheckpointError(f"{checkpoint.folder} has other adapters than this network: {wrong[0]} does not fit")
    with torch.no_grad():
        for name, tensor in state.items():
            own[name].copy_(tensor)


def merge(checkpoint: Checkpoint, folder: Path, dtype: torch.dtype) -> None:
    """Write a whole model for deployment: base weights with the adapters merged. All of it or nothing.

    Raises:
        CheckpointError: its bases are missing or others, or a weight is not finite in the dtype.
        OSError: the folder cannot be written (it exists, the disk is full); nothing is left behind.
    """
    if folder.exists():
        raise FileExistsError(17, "it exists already", str(folder))
    model = _load_adapter(checkpoint, "cpu", dtype)
    model.base = None
    for name, tensor in model.state_dict().items():
        if not bool(tensor.isfinite().all()):
            raise CheckpointError(f"{checkpoint.folder}: {name}, merged, holds a value that is not finite")
    source = {"adapter": checkpoint.digest, "base": checkpoint.base, "bases": checkpoint.bases}
    training = checkpoint.training | {"merged_from": source}
    with whole_folder(folder) as place:
        save(place, model, checkpoint.calibration, training, dtype)


def _config(model: CLUE, calibration: Calibration, training: dict[str, Any], base: Base | None = None) -> str:
    config: dict[str, Any] = {
        "format": FORMAT if base is None else ADAPTER_FORMAT,
        "preset": model.preset.to_dict(),
        "branches": model.branches,
    }
    if base is not None:
        digests = base.digests()
        config |= {"base": base.name, "bases": {part: digests[part] for part in parts_of(model.preset, model.branches)}}
    config |= {"calibration": calibration.to_dict(), "training": training}
    return json.dumps(config, indent=1, ensure_ascii=False) + "\n"


def _save_adapter(folder: Path, model: CLUE, base: Base, calibration: Calibration, training: dict[str, Any]) -> None:
    """Write what a model has learned on top of a base, in the place of an earlier checkpoint: all of it or nothing."""
    state = model.state_dict()
    learned = {name: p for name, p in model.named_parameters() if p.requires_grad}
    foreign = [name for name in learned.keys() - adapters_in(model).keys() if not name.startswith(_HEADS)]
    if foreign:
        raise ValueError(f"{foreign[0]} was trained itself, which no adapter can hold; a whole model can")
    with whole_folder(folder) as place:
        head = {name: tensor.detach().contiguous() for name, tensor in state.items() if name.startswith(_HEADS)}
        write_tensors(place / HEAD_FILE, head)
        for name, network in model.networks.items():
            if adapters := adapter_tensors(network.get_submodule(network.adapted)):
                svd = any(".svd_" in tensor for tensor in adapters)
                branch = (svd_folder if svd else lora_folder)(place, name)
                branch.mkdir()
                write_tensors(branch / LORA_WEIGHTS, adapters)
                if not svd:
                    targets = BRANCHES[name].lora_targets(model.preset)
                    lora_config(model.preset.lora, targets).save_pretrained(str(branch))
        (place / CONFIG_FILE).write_text(_config(model, calibration, training, base), "utf-8")


def adapter_tensors(network: nn.Module) -> dict[str, Tensor]:
    """What the adapters of a network have learned, under the names that peft gives them in a file."""
    return {
        PREFIX + name.replace(f".{ADAPTER}.", "."): tensor.detach().contiguous()
        for name, tensor in adapters_in(network).items()
    }


def write_tensors(path: Path | str, tensors: dict[str, Tensor]) -> None:
    """Write a safetensors file.

    Raises:
        OSError: it cannot be written.
    """
    try:
        save_file(tensors, path)
    except SafetensorError as error:  # what safetensors makes of a full disk
        raise OSError(str(error)) from error


def _load_adapter(checkpoint: Checkpoint, device: str, dtype: torch.dtype) -> CLUE:
    """The network for inference: base weights with the adapters merged into them.

    Raises:
        CheckpointError: something is damaged, or does not fit, or a weight exceeds the range of the dtype.
    """
    try:
        base = find(checkpoint.base)
        model = with_bases(checkpoint.preset, base, device, dtype, checkpoint.branches)
        head = dict(learned_tensors(checkpoint.folder / HEAD_FILE, device, dtype))
        _load_head(model, head, checkpoint.folder)
        for name, network in model.networks.items():
            how = model.preset.adapt(name)
            if how in ("lora", "svd"):
                spec, path = _stored(checkpoint, name) if how == "lora" else _residual(checkpoint, name)
                network.add_adapters(spec, BRANCHES[name].lora_targets(model.preset), empty=True)
                merge_stored(network.get_submodule(network.adapted), path, device)
            if checkpoint.prompt is not None and network.takes_prompts:
                network.take_prompt(checkpoint.prompt, device, dtype)
    except BasesError as error:
        raise CheckpointError(str(error)) from error
    return _arranged(model)


def _arranged(model: CLUE) -> CLUE:
    for network in model.networks.values():
        network.arrange()
    return model.eval()


def _load_head(model: CLUE, head: dict[str, Tensor], folder: Path) -> None:
    expected = {name: tensor.shape for name, tensor in model.state_dict().items() if name.startswith(_HEADS)}
    wrong = sorted(
        name for name in expected.keys() | head.keys() if name not in head or expected.get(name) != head[name].shape
    )
    if wrong:
        raise CheckpointError(f"{folder / HEAD_FILE} does not fit the preset {model.preset.name}: {wrong[0]}")
    model.load_state_dict(head, strict=False, assign=True)


def _read(path: Path, device: str, dtype: torch.dtype | None) -> Iterator[tuple[str, Tensor]]:
    """A file of adapters, under the names of the network's own parameters."""
    for name, tensor in learned_tensors(path, device, dtype):
        yield name.removeprefix(PREFIX).replace(".weight", f".{ADAPTER}.weight"), tensor


def merge_stored(network: nn.Module, path: Path, device: str) -> None:
    """Give a network the values of its empty adapters, in float32, and merge them.

    Where some of them are lost, the network would be another without a word.

    Raises:
        CheckpointError: they do not fit the network, or some are missing.
        BasesError: the file is damaged, or a merged weight does not fit the number format.
    """
    stored = dict(_read(path, device, torch.float32))
    expected = {name: tensor.shape for name, tensor in adapters_in(network).items()}
    wrong = sorted(name for name, tensor in stored.items() if expected.get(name) != tensor.shape)
    if wrong:
        there, here = tuple(stored[wrong[0]].shape), expected.get(wrong[0])
        raise CheckpointError(
            f"{path} does not fit the network: {_layer(wrong[0])} has {there}, "
            f"the network {tuple(here) if here else 'none'}"
        )
    lost = sorted({_layer(name) for name in expected.keys() - stored.keys()})
    if lost:
        raise CheckpointError(f"{path} is damaged: the adapters of {lost[0]} are missing ({len(lost)} in all)")
    network.load_state_dict(stored, strict=False, assign=True)

    def convert(name: str, merged: Tensor, dtype: torch.dtype) -> Tensor:
        return converted(path, f"{name}.weight with its adapter", merged, dtype)

    for _ in merge_adapters(network, convert):  # one layer after the other: no second copy of all weights
        pass


def _layer(name: str) -> str:
    for part in PARTS:
        name = name.rsplit(part, 1)[0]
    return name


def _residual(checkpoint: Checkpoint, branch: str) -> tuple[SvdSpec, Path]:
    return checkpoint.preset.svd, svd_folder(checkpoint.folder, branch) / LORA_WEIGHTS


def _stored(checkpoint: Checkpoint, branch: str) -> tuple[LoraSpec, Path]:
    """What the LoRA of a branch is, as its own configuration says, and the file that holds it."""
    folder = lora_folder(checkpoint.folder, branch)
    rank, alpha = lora_numbers(folder / LORA_CONFIG)
    return dataclasses.replace(checkpoint.preset.lora, rank=rank, alpha=alpha), folder / LORA_WEIGHTS


def lora_numbers(path: Path) -> tuple[int, Any]:
    """Rank and alpha of adapters, of peft's configuration of them.

    Raises:
        CheckpointError: they are no plain LoRA, or the numbers are none.
        BasesError: the file is damaged.
    """
    config = read_json(path)
    other = [key for key, plain in _PLAIN.items() if config.get(key, plain) not in (plain, None)]
    if other:
        raise CheckpointError(f"{path}: {other[0]} is {config[other[0]]!r}, which is not supported")
    rank: Any = config.get("r")
    alpha: Any = config.get("lora_alpha")
    numbers = isinstance(rank, int) and isinstance(alpha, int | float)
    if not numbers or not (1 <= rank <= LARGEST and 0 <= alpha <= LARGEST):
        raise CheckpointError(f"{path}: r is {rank!r:.80} and lora_alpha is {alpha!r:.80}; expected numbers")
    return rank, alpha


def _rounded(tensor: Tensor, dtype: torch.dtype) -> Tensor:
    """In another number format, unless a value would become infinite there."""
    rounded = tensor.to(dtype).contiguous()
    overflows = not bool(rounded.isfinite().all()) and bool(tensor.isfinite().all())
    return tensor.contiguous() if overflows else rounded


def examine(preset: Preset, places: Mapping[str, Path], known: Collection[Preset] = ()) -> dict[str, tuple[Path, ...]]:
    """Find the base weights of a preset and compare every tensor's name and shape.

    Args:
        preset: what they should be.
        places: where the weights of each branch are, by its name (`BranchNetwork.examine`).
        known: presets to name where the weights fit one of them instead.

    Returns:
        The files of each part.

    Raises:
        BasesError: damaged, of another model, or incomplete; `problems` lists all that is missing, unexpected or of
            another shape.
    """
    files: dict[str, tuple[Path, ...]] = {}
    problems: list[str] = []
    for network in build(preset, "meta").networks.values():
        found, wrong = network.examine(preset, places, known)
        files |= found
        problems += wrong
    if problems:
        raise BasesError(f"the base weights do not fit {preset.name}", tuple(problems))
    return files


def find_base(preset: Preset) -> Base:
    """The registered base weights for a preset: those of its name, or else the first that fit.

    Raises:
        BasesError: there are none, or a file is missing or changed.
    """
    bases = registered()
    fitting = [name for name, base in bases.items() if preset.name == name or not _misfit(base.preset, preset)]
    return find(preset.name if preset.name in bases or not fitting else fitting[0])


def _misfit(base: Preset, preset: Preset) -> str | None:
    """The first part whose pretrained weights are of other sizes."""
    for branch in branches_of(preset):
        if branch.name not in base.backbones:
            return branch.name
        one, other = branch.sizes(base), branch.sizes(preset)
        for part in other:
            if one[part] != other[part]:
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
        rest: number format of everything but the base's weights: its buffers (positions), the prompt's embeddings,
            and what is new; None: the same.

    Raises:
        BasesError: a file is damaged or does not fit, or a value in it does not fit the dtype.
    """
    rest = rest or dtype
    part = _misfit(base.preset, preset)
    if part is not None:
        raise BasesError(f"{preset.name} has another {part} than the base weights of {base.name}")
    for branch in branches_of(preset, branches):
        preset = branch.fitted(preset, base)
    model = build(preset, "meta", branches)
    model.base = base
    for network in model.networks.values():
        network.load(base, device, dtype, rest)
    for new in (model.view, model.fusion, model.localization):
        if new is not None:
            _initialize(new, device, rest)
    place_constants(model, device)
    return model


def _initialize(module: nn.Module, device: str, dtype: torch.dtype) -> None:
    """Give a module from the meta device the weights that its layers begin with."""
    module.to_empty(device=device).to(dtype)
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d | nn.GroupNorm | nn.Linear):
            layer.reset_parameters()
