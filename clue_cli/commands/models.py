"""`clue models`: base weights, and models trained on them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from clue_cli.commands.options import Group, path, require_extra
from clue_cli.errors import OutputError, UsageError, WeightsError
from clue_cli.networks import find_model
from clue_cli.progress import ShownReporter
from clue_cli.terminal import counted, printable, say, sentence, write_stdout

if TYPE_CHECKING:
    from model.registry import Base, FolderBase

models = typer.Typer(
    name="models",
    cls=Group,
    help="Manage base weights: list, register, download, verify, merge, export.",
    no_args_is_help=True,
    rich_markup_mode="rich",
)

_NAME = typer.Argument(metavar="NAME", help="Preset, such as sd3-medium, or a YAML file of your own.")


class Format(StrEnum):
    """Number format of stored weights."""

    BFLOAT16 = "bfloat16"
    FLOAT16 = "float16"
    FLOAT32 = "float32"


@contextmanager
def _bases_errors(advice: str) -> Iterator[None]:
    from model.checkpoint import CheckpointError
    from model.registry import BasesError

    try:
        yield
    except (BasesError, CheckpointError) as error:
        raise WeightsError(sentence(error), advice) from error


@models.command("list")
def list_models() -> None:
    """List the known models: name, parameters, size, licence, and whether the weights are there."""
    from clue_cli.models import aligned, model_table
    from model.registry import folders, registered

    write_stdout(aligned([tuple(map(printable, row)) for row in model_table(registered(), folders())]))


@models.command()
def add(
    name: Annotated[
        str,
        typer.Argument(
            metavar="NAME",
            help="Preset, such as sd3-medium, or a YAML file of your own; with --folder, any name, such as blip2.",
        ),
    ],
    sd3: Annotated[
        Path | None,
        typer.Option(
            "--sd3",
            parser=path,
            metavar="DIR",
            help="SD3 in diffusers format: the folder with transformer/, vae/ and so on.",
        ),
    ] = None,
    sam: Annotated[
        Path | None,
        typer.Option("--sam", parser=path, metavar="FILE", help="SAM checkpoint, such as sam_vit_h_4b8939.pth."),
    ] = None,
    prompt: Annotated[
        Path | None,
        typer.Option(
            parser=path, metavar="FILE", help="Stored embedding of the empty prompt, used instead of the text encoders."
        ),
    ] = None,
    folder: Annotated[
        Path | None,
        typer.Option(
            parser=path, metavar="DIR", help="Folder of a transformers model with safetensors, such as BLIP-2 or CLIP."
        ),
    ] = None,
) -> None:
    """Check your base weights and register their location. They are neither copied nor changed."""
    from clue_cli.models import base_preset, register, register_folder

    if folder is not None:
        if sd3 is not None or sam is not None or prompt is not None:
            raise UsageError("--folder cannot be combined with --sd3, --sam or --prompt.", "Add them one by one.")
        with ShownReporter() as reporter:
            added = register_folder(name, folder, reporter)
        say(printable(f"{name} is registered: {added.model_type}, SHA-256 {added.digest}."))
        return
    if sd3 is None or sam is None:
        raise UsageError("--sd3 and --sam are needed, or --folder.", "See clue models add --help.")
    preset = base_preset(name)
    places = {"sd3": sd3, "sam": sam} | ({"prompt": prompt} if prompt is not None else {})
    with ShownReporter() as reporter:
        base = register(preset, places, reporter)
    _say_registered(base)


def _say_registered(base: Base) -> None:
    from model.branches import branches_of
    from model.branches.branch import WebFile

    branches = branches_of(base.preset)
    for branch in branches:
        source = branch.source(base.preset)
        if isinstance(source, WebFile) and base.digests()[branch.parts[0]] != source.sha256:
            say(
                f"The {branch.title} file is not the one that its authors publish, "
                "though all tensors have the expected shapes."
            )
    tokens = ", ".join(f"{count} {encoder}" for encoder, count in base.tokens.items())
    prompt = f"; the empty prompt has {tokens} tokens" if tokens else ""
    say(printable(f"{base.name} is registered{prompt}."))
    for licence, title in ((branch.licence, branch.title) for branch in branches):
        say(f"{title}: {licence.name} ({licence.url}). {licence.allows}")


@models.command()
def info(
    name: Annotated[
        str,
        typer.Argument(metavar="NAME|DIR", help="Name of a registered model, mini, or the folder of a trained model."),
    ],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Show the files of a model with their SHA-256, its licences, and how it was trained."""
    from clue_cli.models import base_facts, checkpoint_facts, folder_facts, lines
    from model.checkpoint import inspect
    from model.presets import PRESETS
    from model.registry import folders, registered

    with _bases_errors("See clue models list."):
        base, folder = registered().get(name), folders().get(name)
        if base is None and folder is None and name in PRESETS and name != "mini" and not Path(name).exists():
            raise WeightsError(
                f"{name} is known, but its base weights are not registered.",
                f"Register yours with `clue models add {name}`, or fetch them with `clue models download {name}`.",
            )
        if folder is not None:
            facts = folder_facts(folder)
        else:
            facts = base_facts(base) if base is not None else checkpoint_facts(inspect(name, check_bases=False))
    if as_json:
        write_stdout(json.dumps(facts, indent=2) + "\n")
    else:
        write_stdout("".join(f"{printable(line)}\n" for line in lines(facts)))


@models.command()
def verify(
    names: Annotated[
        list[str] | None, typer.Argument(metavar="[NAME]...", help="Registered models to verify; without a name, all.")
    ] = None,
) -> None:
    """Hash the base weights again and compare with the registered digests. Exits with 4 on a difference."""
    from model.registry import folders, registered
    from model.registry import verify as verify_base

    bases: dict[str, Base | FolderBase] = {**registered(), **folders()}
    unknown = [name for name in names or [] if name not in bases]
    if unknown:
        raise UsageError(f"{unknown[0]} is not registered.", f"Registered: {', '.join(bases) or 'nothing'}.")
    problems = 0
    for name in names or bases:
        with ShownReporter() as reporter:
            found = verify_base(bases[name], reporter)
        problems += len(found)
        write_stdout("".join(f"{printable(name)}: {printable(line)}\n" for line in found or ["unchanged"]))
    if problems:
        raise WeightsError(f"{counted(problems, 'file')} missing or changed.", "Put them back, or add the model again.")


@models.command()
def remove(name: Annotated[str, typer.Argument(metavar="NAME", help="Registered model.")]) -> None:
    """Remove a model from the register. The weights themselves stay where they are."""
    from clue_cli.models import forget_prompt
    from model.registry import config_folder, drop, registered

    try:
        with _bases_errors("See clue models list."):
            base = registered().get(name)
            drop(name)
            if base is not None:
                forget_prompt(base)
    except OSError as error:
        raise OutputError(f"{config_folder()} cannot be written: {error.strerror or error}.") from error
    say(f"{printable(name)} is not registered any more.")


@models.command()
def download(
    name: Annotated[str, _NAME],
    to: Annotated[
        Path,
        typer.Option(
            "--to", parser=path, metavar="DIR", help="Folder to store the weights in; they take tens of gigabytes."
        ),
    ],
) -> None:
    """Download base weights with your own Hugging Face token, then check and register them."""
    from clue_cli.models import base_preset, register
    from clue_cli.models import download as fetch

    preset = base_preset(name)
    with ShownReporter() as reporter:
        base = register(preset, fetch(preset, to, reporter), reporter)
    _say_registered(base)


@models.command()
def merge(
    folder: Annotated[
        Path,
        typer.Argument(parser=path, metavar="DIR", help="Trained model whose adapters need registered base weights."),
    ],
    out: Annotated[
        Path, typer.Option("--out", "-o", parser=path, metavar="DIR", help="Folder to write; it must not exist.")
    ],
    dtype: Annotated[Format, typer.Option(help="Number format of the stored weights.")] = Format.BFLOAT16,
) -> None:
    """Merge adapters into their base weights and write a self-contained model for deployment."""
    import torch

    from model.branches import branches_of
    from model.checkpoint import inspect
    from model.storage import merge as merge_model

    try:
        with _bases_errors("See clue models info DIR."):
            checkpoint = inspect(str(folder))
            if checkpoint.note:
                say(printable(checkpoint.note))
            if not checkpoint.base:
                raise UsageError(f"{folder} is a whole model: there is nothing to merge.", "It can be used as it is.")
            merge_model(checkpoint, out, getattr(torch, dtype.value))
    except FileExistsError as error:
        raise UsageError(f"{out} exists already.", "Name a new folder with --out.") from error
    except OSError as error:
        raise OutputError(f"{out} cannot be written: {error.strerror or error}.", "Nothing was left behind.") from error
    weights = (
        f"{branch.title}: {branch.licence.name}, {branch.licence.url}"
        for branch in branches_of(checkpoint.preset, checkpoint.branches)
    )
    say(f"{printable(str(out))} is written. It contains weights of {'; '.join(weights)}.")


class GraphFormat(StrEnum):
    """What a network is exported as."""

    ONNX = "onnx"


@models.command()
def export(
    name: Annotated[str, typer.Argument(metavar="MODEL", help="mini, or the folder of a trained model.")],
    out: Annotated[
        Path, typer.Option("--out", "-o", parser=path, metavar="DIR", help="Folder to write; it must not exist.")
    ],
    format: Annotated[GraphFormat, typer.Option(help="Format of the network.")] = GraphFormat.ONNX,
    int8: Annotated[
        bool, typer.Option("--int8", help="Quantize to 8-bit integers. Results differ: see the README first.")
    ] = False,
    photos: Annotated[
        Path | None,
        typer.Option(
            parser=path, metavar="DIR", help="With --int8: folder of untouched photos that set the ranges of values."
        ),
    ] = None,
) -> None:
    """Export a network for other runtimes and compare it with torch.

    DIR holds the network, network.onnx, and is a model for --model of `clue
    scan --runtime onnx` or `--runtime openvino`.
    """
    from functools import partial

    from clue_cli import __version__
    from model.runtimes import write_exported

    require_extra("models export", "onnx", "onnxruntime", extra="onnx")
    if int8 is (photos is None):
        raise UsageError("--int8 and --photos belong together.", "Give both, or none of them.")
    quantize = None
    if photos is not None:
        from model.quantization import find_photos, quantized

        quantize = partial(quantized, photos=find_photos(photos))
    checkpoint = find_model(name)
    try:
        facts = write_exported(out, checkpoint, version=__version__, quantize=quantize)
    except FileExistsError as error:
        raise UsageError(f"{out} exists already.", "Name a new folder with --out.") from error
    except OSError as error:
        raise OutputError(f"{out} cannot be written: {error.strerror or error}.", "Nothing was left behind.") from error
    say(
        printable(
            f"{out} is written: {checkpoint.name} in {facts['numbers']}. In float32 the logits of the exported network "
            f"differ from torch's by at most {facts['max_difference']:.1g}."
        )
    )
    if int8:
        say("Its scores are not those of the model: calibrate it with `clue calibrate` before use.")
