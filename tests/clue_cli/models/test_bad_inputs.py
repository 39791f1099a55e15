"""What a person can hand to `clue models` and `clue scan --model`, and what each of it is answered with."""

from __future__ import annotations

import dataclasses
import json
import os
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import yaml
from PIL import Image
from safetensors.torch import load_file, save_file

from clue_cli import app
from clue_cli.errors import ExitCode
from model import registry
from model.checkpoint import CONFIG_FILE, HEAD_FILE, WEIGHTS_FILE, inspect
from model.storage import LORA_WEIGHTS, load
from tests.base_layouts import SMALL, write_adapter, write_prompt_file
from tests.tiny_model import write_tiny_model

Change = Callable[[Path], object]
WEIGHTS = "diffusion_pytorch_model.safetensors"
LONG = "x" * 5000
pytestmark = pytest.mark.usefixtures("config")


@pytest.fixture(scope="module")
def published(base_files: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = Path(shutil.copytree(base_files, tmp_path_factory.mktemp("published"), dirs_exist_ok=True))
    write_prompt_file(folder / "prompt.safetensors")
    (folder / "small.yaml").write_text(yaml.safe_dump(SMALL.to_dict() | {"name": "small-sd3"}))
    return folder


@pytest.fixture
def files(published: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(published, tmp_path / "files"))


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("trained")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CLUE_CONFIG", str(folder / "config"))
        write_adapter(folder)
    return folder


@pytest.fixture
def adapter(trained: Path, tmp_path: Path, config: Path) -> Path:
    """A trained model at tmp_path/adapter, on base weights in tmp_path/bases, which are registered."""
    shutil.copytree(trained, tmp_path, dirs_exist_ok=True)
    notes = config / registry.REGISTRY_FILE
    notes.write_text(notes.read_text().replace(str(trained), str(tmp_path)))
    return tmp_path / "adapter"


def clue(*words: object) -> int:
    return app.run([str(word) for word in words])


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-9])


def edit(path: Path, **changes: object) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def spoil(path: Path, value: float) -> None:
    """One number of a file of weights is something else."""
    tensors = load_file(path)
    tensors[min(tensors)].view(-1)[0] = value
    save_file(tensors, path)


class Bomb:
    """Code in a pickle: loading it makes a folder."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, ("executed",)


def as_vit_h(files: Path) -> None:
    """A ViT-B's file, and a preset that wants ViT-H."""
    torch.save({"image_encoder.patch_embed.proj.weight": torch.zeros(768, 3, 16, 16)}, files / "sam.pth")
    wide = dataclasses.replace(SMALL.sam, embed_dim=1280, num_heads=16, depth=1, global_attn_indexes=())
    (files / "small.yaml").write_text(yaml.safe_dump(dataclasses.replace(SMALL, sam=wide).to_dict()))


def preset(files: Path, **changes: object) -> None:
    (files / "small.yaml").write_text(yaml.safe_dump({"base": "sd3-medium", **changes}))


@pytest.mark.parametrize(
    ("change", "more", "code", "named"),
    [
        (lambda f: cut(f / "sd3/transformer" / WEIGHTS), [], 4, "is damaged or no safetensors file"),
        (lambda f: cut(f / "sd3/vae" / WEIGHTS), [], 4, "is damaged or no safetensors file"),
        (lambda f: cut(f / "sam.pth"), [], 4, "is damaged or no checkpoint"),
        (lambda f: torch.save({"image_encoder.x": Bomb()}, f / "sam.pth"), [], 4, "nothing of it was executed"),
        (lambda f: (f / "sam.pth").write_bytes(pickle.dumps(Bomb(), protocol=2)), [], 4, "sam.pth"),
        (lambda f: (f / "sd3/transformer").rename(f / "sd3/unet"), [], 4, "another model: it has unet/"),
        (as_vit_h, [], 4, "is SAM ViT-B, and small-sd3 has ViT-H"),
        (lambda f: shutil.rmtree(f / "sd3"), [], 4, "sd3 is not a folder"),
        (lambda f: cut(f / "prompt.safetensors"), [], 4, "is damaged or no safetensors file"),
        (lambda f: None, ["--prompt", "missing.safetensors"], 4, "missing.safetensors"),
        (lambda f: None, ["--prompt", "."], 4, "cannot be read"),
        (lambda f: (os.mkfifo(f / "pipe"), (f / "pipe").replace(f / "sam.pth")), [], 4, "is no regular file"),
        (lambda f: None, ["--prompt", "/dev/zero"], 4, "is no regular file"),
        (lambda f: None, ["--sd3", LONG], 4, "File name too long"),
        (lambda f: None, ["--sam", LONG], 4, "File name too long"),
        (lambda f: preset(f, transformer={"num_attention_heads": 65536, "attention_head_dim": 65536}), [], 2, "small"),
        (
            lambda f: preset(f, sam={"depth": "many"}),
            [],
            2,
            "line 3, sam.depth: found `many`; expected a whole",
        ),
        (lambda f: (f / "small.yaml").write_bytes(b"\xff\xfe\x00"), [], 2, "expected YAML"),
    ],
)
def test_add(
    files: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    change: Change,
    more: list[str],
    code: int,
    named: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    change(files)
    words = ["--sd3", files / "sd3", "--sam", files / "sam.pth", "--prompt", files / "prompt.safetensors", *more]
    assert clue("models", "add", files / "small.yaml", *words) == code
    told = capsys.readouterr().err
    assert named in told
    assert "defect" not in told
    assert not (tmp_path / "executed").exists()
    assert registry.registered() == {}
    assert not (tmp_path / "config").exists()


@pytest.mark.parametrize(
    "registry_file",
    [
        "{",
        '{"format": 1, "models": {"x": 5}}',
        None,
    ],
)
@pytest.mark.parametrize(
    "words", [["list"], ["info", "x"], ["verify"], ["remove", "x"], ["merge", "ADAPTER", "-o", "w"]]
)
def test_a_registry_that_cannot_be_read(
    adapter: Path, config: Path, capsys: pytest.CaptureFixture[str], registry_file: str | None, words: list[str]
) -> None:
    path = config / registry.REGISTRY_FILE
    path.unlink()
    path.mkdir() if registry_file is None else path.write_text(registry_file)
    assert clue("models", *[adapter if word == "ADAPTER" else word for word in words]) == ExitCode.WEIGHTS_MISSING
    told = capsys.readouterr().err
    assert registry.REGISTRY_FILE in told
    assert "defect" not in told


def merged(adapter: Path) -> Path:
    """The whole model, in the place of the adapters."""
    from model.storage import merge

    merge(inspect(str(adapter)), adapter.with_name("whole"), torch.float32)
    return adapter.with_name("whole")


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda a: shutil.rmtree(a), "model.json and model.safetensors not found"),
        (lambda a: cut(a / HEAD_FILE), f"{HEAD_FILE} is damaged"),
        (lambda a: cut(a / "lora_sd3" / LORA_WEIGHTS), f"{LORA_WEIGHTS} is damaged"),
        (lambda a: spoil(a / HEAD_FILE, float("nan")), f"{HEAD_FILE} is damaged: fusion"),
        (lambda a: spoil(a / "lora_sam" / LORA_WEIGHTS, float("inf")), "holds a value that is not finite"),
        (lambda a: edit(a / CONFIG_FILE, calibration={"pixel_threshold": 10**400}), "cannot be understood"),
        (lambda a: shutil.rmtree(a / "lora_sam"), "adapter_config.json cannot be read"),
        (lambda a: (a / CONFIG_FILE).write_text("[" * 100_000), "cannot be understood"),
        (lambda a: edit(a / CONFIG_FILE, training=[1]), "training is '[1]', expected an object"),
        (lambda a: edit(a / CONFIG_FILE, bases={}), "bases has nothing; expected transformer"),
        (lambda a: edit(a / CONFIG_FILE, base="other"), "the base weights of other are not registered"),
        (lambda a: registry.drop("small-sd3"), "clue models add small-sd3"),
        (lambda a: (a.parent / "bases/sam.pth").unlink(), "the sam of small-sd3 cannot be read"),
        (
            lambda a: (a.parent / "bases/sam.pth").write_bytes(b"other"),
            "the sam of small-sd3 changed since it was added",
        ),
        (lambda a: cut(a.parent / "bases/sd3/transformer" / WEIGHTS), "the transformer of small-sd3 changed since"),
    ],
)
@pytest.mark.parametrize("command", ["scan", "merge"])
def test_a_trained_model_that_cannot_be_used(
    adapter: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], change: Change, named: str, command: str
) -> None:
    change(adapter)
    Image.effect_noise((40, 32), 40).convert("RGB").save(tmp_path / "a.png")
    words = ["models", "merge", adapter] if command == "merge" else ["scan", tmp_path / "a.png", "--model", adapter]
    assert clue(*words, "--out", tmp_path / "out") == ExitCode.WEIGHTS_MISSING
    told = capsys.readouterr().err
    assert named in " ".join(told.split())
    assert "defect" not in told
    assert command == "scan" or not (tmp_path / "out").exists()


@pytest.mark.parametrize("command", ["info", "merge", "scan"])
def test_a_name_that_no_file_system_has(tmp_path: Path, capsys: pytest.CaptureFixture[str], command: str) -> None:
    Image.new("RGB", (40, 32)).save(tmp_path / "a.png")
    words: dict[str, list[object]] = {
        "info": ["models", "info", LONG],
        "merge": ["models", "merge", LONG, "--out", tmp_path / "out"],
        "scan": ["scan", tmp_path / "a.png", "--out", tmp_path / "out", "--model", LONG],
    }
    assert clue(*words[command]) == ExitCode.WEIGHTS_MISSING
    assert "File name too long" in capsys.readouterr().err


def test_a_whole_model_that_is_cut_off(adapter: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    whole = merged(adapter)
    cut(whole / WEIGHTS_FILE)
    Image.effect_noise((40, 32), 40).convert("RGB").save(tmp_path / "a.png")
    assert clue("scan", tmp_path / "a.png", "--out", tmp_path / "out", "--model", whole) == ExitCode.WEIGHTS_MISSING
    assert f"{WEIGHTS_FILE} is damaged" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("out", "full", "code", "named"),
    [
        ("whole", True, ExitCode.OUTPUT_NOT_WRITABLE, "No space left on device. Nothing was left behind."),
        ("file/whole", False, ExitCode.OUTPUT_NOT_WRITABLE, "cannot be written"),
        (LONG, False, ExitCode.OUTPUT_NOT_WRITABLE, "File name too long"),
        ("adapter", False, ExitCode.BAD_USAGE, "exists already"),
    ],
)
def test_merge_where_nothing_can_be_written(
    adapter: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    out: str,
    full: bool,
    code: ExitCode,
    named: str,
) -> None:
    (tmp_path / "file").write_text("x")

    def no_space(state: object, path: str) -> None:
        Path(path).write_bytes(b"half")
        raise OSError(28, "No space left on device")

    if full:
        monkeypatch.setattr("model.storage.save_file", no_space)
    before = sorted(path.relative_to(tmp_path) for path in tmp_path.rglob("*"))
    assert clue("models", "merge", adapter, "--out", tmp_path / out) == code
    assert named in " ".join(capsys.readouterr().err.split())
    assert sorted(path.relative_to(tmp_path) for path in tmp_path.rglob("*")) == before


def test_merge_into_a_number_format_that_does_not_hold_the_weights(
    adapter: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    spoil(adapter / HEAD_FILE, -1e5)
    before = sorted(tmp_path.rglob("*"))
    words = ["models", "merge", adapter, "--out", tmp_path / "whole", "--dtype"]
    assert clue(*words, "float16") == ExitCode.WEIGHTS_MISSING
    told = " ".join(capsys.readouterr().err.split())
    name = min(load_file(adapter / HEAD_FILE))
    assert f"{name} holds a value of 100000, float16 none above 65504; expected a number format" in told
    assert sorted(tmp_path.rglob("*")) == before
    assert clue(*words, "bfloat16") == ExitCode.OK


def test_mini_is_whole_already(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert clue("models", "merge", "mini", "--out", tmp_path / "whole") == ExitCode.BAD_USAGE
    assert "mini is a whole model: there is nothing to merge." in capsys.readouterr().err


def test_verify_names_what_vanished(adapter: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "bases/sam.pth").unlink()
    assert clue("models", "verify", "small-sd3") == ExitCode.WEIGHTS_MISSING
    said = capsys.readouterr()
    assert "sam.pth: No such file or directory" in said.out
    assert clue("models", "info", "small-sd3") == ExitCode.OK
    assert clue("models", "list") == ExitCode.OK


def test_a_network_that_is_too_large_for_the_device(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def too_large(*_: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 4.00 GiB")

    model = write_tiny_model(tmp_path / "model")
    monkeypatch.setattr("model.storage.load", too_large)
    Image.effect_noise((40, 32), 40).convert("RGB").save(tmp_path / "a.png")
    words = ("scan", tmp_path / "a.png", "--out", tmp_path / "out", "--model", model, "--device", "cpu")
    assert clue(*words) == ExitCode.BAD_USAGE
    assert "tiny does not fit into the memory of cpu" in capsys.readouterr().err


def test_prompts_that_two_models_share_stay_until_the_last_is_removed(adapter: Path, config: Path) -> None:
    base = registry.find("small-sd3")
    shared = config / "prompts" / "shared.safetensors"
    shared.parent.mkdir()
    shutil.copy(base.paths("prompt")[0], shared)
    parts = base.parts | {"prompt": (registry.stored(shared),)}
    for name in ("one", "two"):
        registry.put(dataclasses.replace(base, name=name, parts=parts))
    assert clue("models", "remove", "one") == ExitCode.OK
    assert shared.is_file()
    assert clue("models", "remove", "two") == ExitCode.OK
    assert not shared.exists()
    assert load(inspect(str(adapter)), "cpu", torch.float32) is not None
