"""From a preset and options to a network that learns, and from adapters back to a plain one."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from model import tensor_files
from model.branches.network import merged_state
from model.calibration import Calibration
from model.checkpoint import CONFIG_FILE, CheckpointError, inspect
from model.clue import CLUE, adapt, build
from model.presets import SD3_MEDIUM
from model.registry import Base
from model.storage import load, save, with_bases
from model.training.network import (
    count_parameters,
    frozen_format,
    hold_frozen,
    parameter_groups,
    planned,
    prepare_network,
    with_options,
)
from model.training.run_folder import read_log
from model.training.task import Task
from model.training.trainer import train
from tests.base_layouts import SMALL, register_small
from tests.model.training.made import QUICK, Stopper, options, task
from tests.tiny_model import TINY, write_tiny_model


def run(model: CLUE) -> torch.Tensor:
    generator = torch.Generator().manual_seed(3)
    x = torch.rand(2, 3, 64, 64, generator=generator)
    return model(x, torch.randn(2, 16, 8, 8, generator=generator))


@pytest.mark.parametrize(
    ("changes", "path", "value"),
    [
        ({"noise": "ddpm"}, "noise.schedule", "ddpm"),
        ({"shift": 6.0}, "noise.shift", 6.0),
        ({"levels": (0.2,)}, "noise.levels", [0.2]),
        ({"adapt_sd3": "frozen"}, "adapt_sd3", "frozen"),
        ({"adapt_sam": "lora"}, "adapt_sam", "lora"),
    ],
)
def test_options_change_the_preset(changes: dict[str, Any], path: str, value: object) -> None:
    assert with_options(QUICK, options()) == QUICK
    found: Any = with_options(QUICK, options(**changes)).to_dict()
    for key in path.split("."):
        found = found[key]
    assert found == value


@pytest.mark.parametrize(("sd3", "sam"), [("lora", "lora"), ("full", "lora"), ("lora", "frozen")])
def test_adapters_merge_into_a_plain_model_with_the_same_outputs(tmp_path: Path, sd3: Any, sam: Any) -> None:
    torch.manual_seed(0)
    model = build(QUICK)
    adapt(model, {"sd3": sd3, "sam": sam})
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name:  # zero at first: an adapter that changes nothing
                parameter.normal_(std=0.3)
    model.eval()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    expected = run(model)
    plain = build(QUICK).eval()
    plain.load_state_dict(merged_state(model))
    with torch.no_grad():
        assert torch.allclose(run(plain), expected, atol=1e-5)
        save(tmp_path / "model", model, Calibration(), {}, torch.float32)
        assert torch.allclose(run(load(inspect(str(tmp_path / "model")), "cpu", torch.float32)), expected, atol=1e-5)
    after = model.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_adapters_change_something() -> None:
    model = build(QUICK)
    adapt(model, "lora")
    state = merged_state(model)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.fill_(0.1)
    changed = {name for name, tensor in merged_state(model).items() if not torch.equal(tensor, state[name])}
    assert any(name.endswith("attn.qkv.weight") for name in changed)
    assert any(name.endswith("attn.to_q.weight") for name in changed)


def test_only_matrices_decay() -> None:
    model = prepare_network(QUICK, options())
    decaying, rest = parameter_groups(model, 0.03)
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    assert (decaying["weight_decay"], rest["weight_decay"]) == (0.03, 0.0)
    assert all(parameter.ndim > 1 for parameter in decaying["params"])
    still = {names[id(parameter)] for parameter in rest["params"]}
    assert "sd3.prompt" in still
    assert all(p.ndim == 1 or not names[id(p)].endswith("weight") for p in rest["params"])
    assert len(decaying["params"]) + len(rest["params"]) == len(names)


@pytest.mark.parametrize(
    "changes",
    [{}, {"adapt_sd3": "lora", "adapt_sam": "lora"}, {"adapt_sd3": "frozen"}, {"branches": "sd3"}, {"branches": "sam"}],
    ids=str,
)
def test_a_plan_counts_as_the_network_does(changes: dict[str, Any]) -> None:
    asked = options(**changes)
    preset = with_options(QUICK, asked)
    plan = planned(preset, asked)
    assert all(parameter.is_meta for parameter in plan.parameters())
    learn, everything = count_parameters(plan)
    assert (learn, everything) == count_parameters(prepare_network(preset, asked))
    assert (learn < everything) == any(how in ("lora", "frozen") for how in changes.values())


def test_gradient_checkpointing_gives_the_same_gradients() -> None:
    gradients = []
    for checkpointing in (False, True):
        model = prepare_network(QUICK, options(gradient_checkpointing=checkpointing))
        run(model).square().mean().backward()
        gradients.append([p.grad for p in model.parameters() if p.grad is not None])
    assert len(gradients[0]) == len(gradients[1])
    assert all(torch.allclose(a, b, atol=1e-6) for a, b in zip(*gradients, strict=True))


def test_another_preset_is_refused_with_what_differs(tmp_path: Path) -> None:
    folder = write_tiny_model(tmp_path / "tiny")
    with pytest.raises(CheckpointError) as caught:
        prepare_network(QUICK, options(), str(folder))
    said = str(caught.value)
    assert str(folder) in said
    assert "of another preset, tiny" in said
    assert "view.matches is True there, False here" in said
    with pytest.raises(CheckpointError, match=r"noise\.levels is \[0\.01, 0\.05\] there, \[0\.1\] here"):
        prepare_network(with_options(TINY, options(levels=(0.1,))), options(), str(folder))
    with pytest.raises(CheckpointError, match="no model at"):
        prepare_network(QUICK, options(), str(tmp_path / "absent"))


def test_the_branches_of_another_model_under_a_fresh_head(tmp_path: Path) -> None:
    folder = str(write_tiny_model(tmp_path / "tiny"))
    theirs = load(inspect(folder), "cpu", torch.float32).state_dict()
    for changes in ({"noise": "none"}, {"branches": "sam"}, {"branches": "sd3"}):
        chosen = options(fresh_head=True, seed=9, **changes)
        ours = prepare_network(with_options(TINY, chosen), chosen, folder).state_dict()
        for name, tensor in ours.items():
            if name.startswith(("sd3.", "sam.", "view.")):
                assert torch.equal(tensor, theirs[name]), name
        assert not torch.equal(ours["localization.head.0.weight"], theirs["localization.head.0.weight"])
        with pytest.raises(CheckpointError):
            kept = options(seed=9, **changes)
            prepare_network(with_options(TINY, kept), kept, folder)


class TestOnBases:
    """Networks on registered base weights."""

    @pytest.fixture(autouse=True)
    def base(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Base:
        monkeypatch.setenv("CLUE_CONFIG", str(tmp_path / "config"))
        return register_small(tmp_path / "bases")

    def adapter(self, base: Base, tmp_path: Path) -> tuple[CLUE, str]:
        """A network with trained adapters, and its folder."""
        model = with_bases(SMALL, base, "cpu", torch.float32)
        adapt(model, "lora")
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.requires_grad:
                    parameter.normal_(std=0.2)
        save(tmp_path / "adapter", model, Calibration(), {})
        return model, str(tmp_path / "adapter")

    def test_what_does_not_learn_is_held_in_bfloat16(self) -> None:
        asked = options(precision="bf16")
        model, whole = (prepare_network(SMALL, asked, None, dtype) for dtype in (torch.bfloat16, torch.float32))
        for (name, held), (_, exact) in zip(model.named_parameters(), whole.named_parameters(), strict=True):
            learns = ".lora_" in name or name.startswith(("fusion.", "localization."))
            assert held.requires_grad == exact.requires_grad == learns, name
            assert held.dtype == (torch.float32 if learns else torch.bfloat16), name
            assert torch.equal(held, exact.to(held.dtype)), name
        assert all(torch.equal(a, b) for a, b in zip(model.buffers(), whole.buffers(), strict=True))
        adapters = [part for part in model.modules() if hasattr(part, "cast_input_dtype_enabled")]
        assert adapters and not any(part.cast_input_dtype_enabled for part in adapters)
        formats: set[torch.dtype] = set()
        for part in model.modules():
            if isinstance(part, torch.nn.LayerNorm):
                part.register_forward_hook(lambda _, given, found: formats.update((given[0].dtype, found.dtype)))
        with torch.autocast("cpu", torch.bfloat16):
            found = run(model)
            expected = run(whole)
        assert formats == {torch.bfloat16}
        torch.testing.assert_close(found, expected, atol=0.05, rtol=0.1)

    @pytest.mark.parametrize("init", [False, True], ids=["new adapters", "adapters that go on"])
    def test_what_does_not_learn_is_never_in_memory_in_float32(
        self, base: Base, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, init: bool
    ) -> None:
        source = None
        if init:
            source = self.adapter(base, tmp_path)[1]
        formats: dict[str, set[torch.dtype]] = {}

        def noted(network: torch.nn.Module, part: str, tensors: Iterator[tuple[str, torch.Tensor]]) -> None:
            fill(network, part, tensors)
            formats[part] = {parameter.dtype for parameter in network.parameters()}

        fill = tensor_files.fill
        monkeypatch.setattr(tensor_files, "fill", noted)
        model = prepare_network(SMALL, options(), source, torch.bfloat16)
        assert formats == {part: {torch.bfloat16} for part in ("transformer", "vae", "sam")}
        before = dict(model.state_dict())
        hold_frozen(model, torch.bfloat16)
        assert {name: tensor.dtype for name, tensor in model.state_dict().items()} == {
            name: tensor.dtype for name, tensor in before.items()
        }

    @pytest.mark.parametrize("changes", [{"adapt_sam": "full"}, {"adapt_sd3": "full", "adapt_sam": "frozen"}])
    def test_of_what_is_stored_as_a_whole_nothing_is_rounded(self, changes: dict[str, Any]) -> None:
        model = prepare_network(with_options(SMALL, options(**changes)), options(), None, torch.bfloat16)
        assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}

    @pytest.mark.parametrize(
        ("precision", "device", "dtype"),
        [
            ("bf16", "cuda", torch.bfloat16),
            ("bf16", "cpu", torch.float32),
            ("no", "cuda", torch.float32),
            ("fp16", "cuda", torch.float32),
        ],
    )
    def test_only_a_gpu_that_computes_in_bfloat16_holds_it(
        self, precision: str, device: str, dtype: torch.dtype
    ) -> None:
        assert frozen_format(options(precision=precision), torch.device(device)) == dtype

    @pytest.mark.parametrize(
        ("changes", "adapters"),
        [
            ({}, True),
            ({"branches": "sam", "fresh_head": True}, True),
            ({"fresh_head": True, "levels": (0.3,)}, True),
            ({"adapt_sam": "frozen"}, False),
            ({"adapt_sd3": "full"}, False),
        ],
    )
    def test_adapters_go_on_as_adapters_where_the_preset_has_the_same(
        self, base: Base, tmp_path: Path, changes: dict[str, Any], adapters: bool
    ) -> None:
        source, folder = self.adapter(base, tmp_path)
        learned = {name: p for name, p in source.named_parameters() if p.requires_grad}
        asked = options(**changes)
        model = prepare_network(with_options(SMALL, asked), asked, folder)
        assert model.kept_as_adapters == adapters
        taken = {name for name, p in model.named_parameters() if name in learned and torch.equal(p, learned[name])}
        head = {name for name in learned if name.startswith(("fusion.", "localization."))}
        if not adapters:  # merged: the weights are those of the source with its adapters in them
            assert head <= taken
            assert model.sam is not None
            assert torch.equal(
                model.sam.encoder.state_dict()["blocks.0.mlp.lin1.weight"],
                source.sam.encoder.state_dict()["blocks.0.mlp.lin1.weight"],  # type: ignore[union-attr]
            )
        else:
            expected = set(learned) & {name for name, _ in model.named_parameters()}
            assert taken == (expected - head if changes.get("fresh_head") else expected)

    def test_adapters_under_another_head_are_refused(self, base: Base, tmp_path: Path) -> None:
        _, folder = self.adapter(base, tmp_path)
        said = r"does not fit: noise\.levels is \[0\.1, 0\.5\] there, \[0\.3\] here"
        with pytest.raises(CheckpointError, match=said):
            prepare_network(with_options(SMALL, options(levels=(0.3,))), options(), folder)

    def test_a_training_on_base_weights_in_bfloat16(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        train(of_small(tmp_path / "exact"))
        monkeypatch.setattr("model.training.trainer.frozen_format", lambda options, device: torch.bfloat16)
        train(of_small(tmp_path / "held"))
        steps = [row for row in read_log(tmp_path / "held" / "log.jsonl") if row["kind"] == "step"]
        assert len(steps) == 2
        assert all(math.isfinite(row["loss"]) and math.isfinite(row["gradient"]) for row in steps)

        state = torch.load(tmp_path / "held" / "state.pt", weights_only=True)
        learned = set(state["average"])
        assert {tensor.dtype for tensor in state["average"].values()} == {torch.float32}
        assert set(state["model"]) == learned  # nothing of the base is stored again at every save
        assert {tensor.dtype for tensor in state["model"].values()} == {torch.float32}

        exact, held = (stored(tmp_path / name / "last") for name in ("exact", "held"))
        assert held.keys() == exact.keys()
        assert all((held[name].shape, held[name].dtype) == (t.shape, t.dtype) for name, t in exact.items())
        assert all((held[name] - exact[name]).abs().max() < 0.05 for name in exact)
        assert (tmp_path / "held" / "last" / CONFIG_FILE).is_file()
        network = load(inspect(str(tmp_path / "held" / "last")), "cpu", torch.float32)
        assert {parameter.dtype for parameter in network.parameters()} == {torch.float32}

        stopper = Stopper(1)
        assert train(of_small(tmp_path / "again"), stopper, stopper.stop).interrupted
        train(of_small(tmp_path / "again"))
        again = stored(tmp_path / "again" / "last")
        assert all(torch.equal(again[name], tensor) for name, tensor in held.items())


def stored(folder: Path) -> dict[str, torch.Tensor]:
    """Every tensor of a model on the disk, by file and name."""
    return {
        f"{path.relative_to(folder)}:{name}": tensor
        for path in sorted(folder.rglob("*.safetensors"))
        for name, tensor in load_file(path).items()
    }


def of_small(out: Path) -> Task:
    quick: dict[str, Any] = {"steps": 2, "save_every": 1, "validate_every": 2, "validation_samples": 3}
    return task(out, SMALL, precision="bf16", gradient_checkpointing=True, **quick)


def test_the_weights_of_the_papers_size_leave_room_on_a_card_of_24_gb() -> None:
    """Counted without a GPU: weights, and gradients, moments and averages of what learns; activations come on top."""
    model = build(SD3_MEDIUM, "meta")
    adapt(model, "lora")
    hold_frozen(model, torch.bfloat16)
    weights = sum(tensor.nbytes for tensor in (*model.parameters(), *model.buffers()))
    learning = sum(parameter.nbytes for parameter in model.parameters() if parameter.requires_grad)
    assert 5.4e9 < weights < 6.2e9
    assert weights + 4 * learning < 7e9
