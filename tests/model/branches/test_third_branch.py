"""A backbone that the product does not know: registered, it is built, adapted, trained, saved, loaded and run."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from clue_cli import app
from model import registry, tensor_files
from model.branches import BRANCHES, parts_of
from model.branches.branch import Branch
from model.branches.network import BranchNetwork, Files
from model.checkpoint import CheckpointError, inspect
from model.clue import adapt, build
from model.config import ConfigError
from model.predictor import Prediction, Predictor
from model.preset import BranchSpec, Preset, Size
from model.presets import preset_of
from model.registry import Base, BasesError
from model.reporter import SILENT
from model.storage import examine, load
from model.training.run_folder import read_log
from model.training.trainer import train
from tests.base_layouts import SMALL, write_prompt_file, write_sd3
from tests.model.training.made import QUICK, Stopper, task

pytestmark = pytest.mark.usefixtures("config")


@dataclass(frozen=True, slots=True)
class GridSpec(BranchSpec):
    """Patches and a stack of linear layers."""

    width: Size = 8
    depth: Size = 2
    pretrained: bool = True


class GridNetwork(BranchNetwork):
    adapted = "layers"

    def __init__(self, spec: GridSpec) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, spec.width, 16, 16)
        self.layers = nn.Sequential(*(nn.Linear(spec.width, spec.width) for _ in range(spec.depth)))

    @property
    def channels(self) -> int:
        return self.patches.out_channels

    def forward(self, x: Tensor, noise: Tensor, view: Tensor | None = None) -> Tensor:
        cells = self.patches(x.to(self.patches.weight.dtype)).permute(0, 2, 3, 1)
        features: Tensor = self.layers(cells).permute(0, 3, 1, 2)
        return features

    def blocks(self) -> list[nn.Module]:
        return list(self.layers)

    def examine(
        self, preset: Preset, places: Mapping[str, Path], known: Collection[Preset] = ()
    ) -> tuple[Files, list[str]]:
        shapes = tensor_files.safetensors_shapes((places["grid"],))
        return {"grid": (places["grid"],)}, tensor_files.differences("grid", shapes, self)

    def load(self, base: Base, device: str, dtype: torch.dtype, rest: torch.dtype) -> None:
        tensor_files.fill(self, "grid", tensor_files.safetensors_tensors(base.paths("grid"), device, dtype))


class Grid(Branch):
    name, title, parts, spec = "grid", "Grid", ("grid",), GridSpec

    def sizes_of(self, preset: Preset) -> GridSpec:
        spec = preset.specs["grid"]
        assert isinstance(spec, GridSpec)
        return spec

    def build(self, preset: Preset) -> GridNetwork:
        return GridNetwork(self.sizes_of(preset))

    def from_scratch(self, preset: Preset) -> bool:
        return not self.sizes_of(preset).pretrained

    def cell(self, preset: Preset) -> int:
        return 16

    def lora_targets(self, preset: Preset) -> tuple[str, ...]:
        return ("0", "1")


@pytest.fixture(autouse=True)
def grid(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(BRANCHES, "grid", Grid())


def with_grid(preset: Preset, *backbones: str, **spec: Any) -> Preset:
    return dataclasses.replace(preset, name="third", backbones=backbones, specs={"grid": GridSpec(**spec)})


def predicted(folder: Path) -> np.ndarray[Any, Any]:
    network = load(inspect(str(folder)), "cpu", torch.float32)
    pixels = np.random.default_rng(0).integers(0, 256, (150, 200, 3), np.uint8)
    (result,) = Predictor(network).predict([(("a", 150 * 200 / 1e6), pixels)])
    assert isinstance(result, Prediction)
    return result.heatmap


def test_it_stands_in_a_preset_beside_the_others(tmp_path: Path) -> None:
    preset = with_grid(QUICK, "sd3", "sam", "grid", width=12, adapt="frozen")
    assert Preset.from_dict(preset.to_dict()) == preset
    assert "specs" not in QUICK.to_dict() and "backbones" not in QUICK.to_dict()
    path = tmp_path / "own.yaml"
    path.write_text("base: mini\nbackbones: [grid, sam]\nspecs: {grid: {width: 12}}\n")
    assert list(build(preset_of(str(path))).networks) == ["grid", "sam"]
    for text, named in (
        ("backbones: [grid]", r"backbones: found `\['grid'\]`; expected a mapping specs.grid with its sizes"),
        ("backbones: [dino]", r"expected names of branches, each once: sd3, sam, grid"),
        ("backbones: [sam, sam]", r"each once"),
        ("specs: {grid: {width: 0}}", r"specs.grid.width: found `0`; expected a number from 1 to"),
        (
            "specs: {grid: {size: 1}}",
            r"specs.grid.size: unknown key `size`; expected one of adapt, width, depth, pretrained",
        ),
        ("specs: {dino: {}}", r"expected a mapping with grid"),
        ("specs: {sam: {adapt: full}}", r"expected a mapping with grid"),
    ):
        path.write_text(text)
        with pytest.raises(ConfigError, match=named):
            preset_of(str(path))


@pytest.mark.parametrize("mode", ["lora", "full", "frozen"])
def test_without_pretrained_weights_it_trains_into_a_whole_model(tmp_path: Path, mode: Any) -> None:
    preset = with_grid(QUICK, "grid", "sd3", adapt=mode)
    model = build(preset)
    adapt(model)
    learns = {name for name, p in model.named_parameters() if p.requires_grad and name.startswith("grid.")}
    assert {"lora": len(learns) == 4, "full": len(learns) == 6, "frozen": not learns}[mode]
    listener = Stopper(0)
    train(task(tmp_path / "run", preset, steps=2), listener)
    assert any(f"The Grid branch is {mode} on random weights" in line for line in listener.said) == (mode != "full")
    checkpoint = inspect(str(tmp_path / "run" / "last"))
    assert checkpoint.preset == preset
    assert not any("lora" in name for name in load_file(tmp_path / "run" / "last" / "model.safetensors"))
    assert predicted(tmp_path / "run" / "last").shape == (150, 200)


def test_alone_it_needs_no_noise(tmp_path: Path) -> None:
    preset = with_grid(QUICK, "grid", pretrained=False)
    train(task(tmp_path / "run", preset, steps=2))
    assert [row["kind"] for row in read_log(tmp_path / "run" / "log.jsonl")].count("step") == 2
    assert predicted(tmp_path / "run" / "last").shape == (150, 200)


class TestOnPretrainedWeights:
    PRESET = with_grid(SMALL, "sd3", "grid")

    @pytest.fixture
    def places(self, tmp_path: Path) -> dict[str, Path]:
        torch.manual_seed(0)
        save_file(GridNetwork(GridSpec()).state_dict(), tmp_path / "grid.safetensors")
        places = {"sd3": write_sd3(tmp_path / "sd3"), "grid": tmp_path / "grid.safetensors"}
        return places | {"prompt": write_prompt_file(tmp_path / "prompt.safetensors")}

    @pytest.fixture
    def base(self, places: dict[str, Path]) -> Base:
        from clue_cli.models import register

        return register(self.PRESET, places, SILENT)

    def test_it_is_registered_described_and_verified(self, base: Base, capsys: pytest.CaptureFixture[str]) -> None:
        assert registry.find("third") == base
        assert set(base.parts) == set(parts_of(self.PRESET)) == {"transformer", "vae", "prompt", "grid"}
        for command in (["list"], ["info", "third"], ["verify", "third"]):
            assert app.run(["models", *command]) == 0
        assert "Stability AI Community License (SD3), Apache-2.0 (Grid)" in capsys.readouterr().out

    def test_other_weights_are_refused(self, places: dict[str, Path]) -> None:
        save_file(GridNetwork(GridSpec(depth=1)).state_dict(), places["grid"])
        with pytest.raises(BasesError, match=r"do not fit third: grid: layers.1.bias is missing \(and 1 more\)"):
            examine(self.PRESET, places)

    def test_what_it_learns_is_an_adapter(self, base: Base, tmp_path: Path) -> None:
        run = tmp_path / "run"
        train(task(run, self.PRESET, steps=2, gradient_checkpointing=True))
        last = run / "last"
        assert {path.name for path in last.iterdir()} == {"model.json", "head.safetensors", "lora_sd3", "lora_grid"}
        assert inspect(str(last)).bases == {part: base.digests()[part] for part in parts_of(self.PRESET)}
        heatmap = predicted(last)
        assert app.run(["models", "merge", str(last), "--out", str(tmp_path / "merged"), "--dtype", "float32"]) == 0
        np.testing.assert_allclose(predicted(tmp_path / "merged"), heatmap, atol=1e-5)
        train(task(tmp_path / "on", self.PRESET, steps=2, init=str(last)))  # goes on with the same adapters
        assert (tmp_path / "on" / "last" / "lora_grid").is_dir()
        base.paths("grid")[0].unlink()
        with pytest.raises(CheckpointError, match="the grid of third cannot be read"):
            inspect(str(last))
