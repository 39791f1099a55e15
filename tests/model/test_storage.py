"""An adapter checkpoint holds what was learned; with its bases it is the trained network again, with others nothing."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from model import registry
from model.calibration import Calibration
from model.checkpoint import CONFIG_FILE, HEAD_FILE, WEIGHTS_FILE, CheckpointError, digest_of, inspect
from model.clue import CLUE, adapt
from model.predictor import Prediction, Predictor
from model.registry import BasesError
from model.storage import LORA_CONFIG, LORA_WEIGHTS, find_base, load, load_learned, merge, save, with_bases
from tests.base_layouts import SMALL, register_small, write_sam


@pytest.fixture(autouse=True)
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("CLUE_CONFIG", str(tmp_path / "config"))
    return tmp_path / "config"


def trained(base: registry.Base, branches: str = "both", sam: str = "lora") -> CLUE:
    """A network whose adapters are not zero any more."""
    torch.manual_seed(3)
    preset = dataclasses.replace(SMALL, adapt_sam=sam)
    model = with_bases(preset, base, "cpu", torch.float32, branches)
    adapt(model)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_" in name:
                parameter.normal_(std=0.2)
    return model.eval()


@pytest.fixture
def base(tmp_path: Path) -> registry.Base:
    return register_small(tmp_path / "bases")


@pytest.fixture
def folder(base: registry.Base, tmp_path: Path) -> Path:
    save(tmp_path / "adapter", trained(base), Calibration(name="test"), {"steps": 7})
    return tmp_path / "adapter"


def logits(model: CLUE, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    torch.manual_seed(5)
    with torch.inference_mode():
        result: torch.Tensor = model(torch.rand(1, 3, 96, 128), torch.randn(1, *model.latent_shape(96, 128)))
    return result


def test_it_holds_what_was_learned_and_nothing_of_the_base(base: registry.Base, folder: Path) -> None:
    files = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    lora = {f"lora_{b}/adapter_{f}" for b in ("sd3", "sam") for f in ("config.json", "model.safetensors")}
    assert files == {CONFIG_FILE, HEAD_FILE} | lora
    names = [name for path in folder.rglob("*.safetensors") for name in load_file(path)]
    assert all(name.startswith(("fusion.", "localization.")) or ".lora_" in name for name in names)
    config = json.loads((folder / CONFIG_FILE).read_text())
    assert (config["base"], config["bases"]) == ("small-sd3", base.digests())
    assert config["training"] == {"steps": 7}


@pytest.mark.parametrize("branches", ["both", "sd3", "sam"])
def test_loaded_and_merged_it_computes_what_was_trained(base: registry.Base, tmp_path: Path, branches: str) -> None:
    model = trained(base, branches)
    save(tmp_path / "a", model, Calibration(), {})
    loaded = load(inspect(str(tmp_path / "a")), "cpu", torch.float32)
    assert not any("lora_" in name for name, _ in loaded.named_parameters())
    assert not loaded.training
    torch.testing.assert_close(logits(loaded), logits(model), atol=1e-4, rtol=1e-4)


def test_merged_weights_are_summed_in_float32_and_rounded_once(base: registry.Base, folder: Path) -> None:
    bare = with_bases(SMALL, base, "cpu", torch.bfloat16).state_dict()
    loaded = load(inspect(str(folder)), "cpu", torch.bfloat16).state_dict()
    scale = SMALL.lora.alpha / SMALL.lora.rank
    for branch, name, rows in (
        ("sd3", "sd3.transformer.transformer_blocks.0.attn.to_q", slice(None)),
        ("sam", "sam.encoder.blocks.0.attn.qkv", slice(SMALL.sam.embed_dim, 2 * SMALL.sam.embed_dim)),
    ):
        there = load_file(folder / f"lora_{branch}" / LORA_WEIGHTS)
        inside = name.split(".", 2)[2] + (".k" if branch == "sam" else "")
        up, down = (there[f"base_model.model.{inside}.lora_{letter}.weight"] for letter in "BA")
        expected = (bare[f"{name}.weight"][rows].float() + scale * (up @ down)).bfloat16()
        assert torch.equal(loaded[f"{name}.weight"][rows], expected), name


@pytest.mark.parametrize("name", ["lora_sd3", "lora_sam"])
def test_without_the_adapters_it_would_be_another_and_is_refused(base: registry.Base, folder: Path, name: str) -> None:
    loaded = logits(load(inspect(str(folder)), "cpu", torch.float32))
    weights = load_file(folder / name / LORA_WEIGHTS)
    save_file({key: tensor * 0 for key, tensor in weights.items()}, folder / name / LORA_WEIGHTS)
    assert (loaded - logits(load(inspect(str(folder)), "cpu", torch.float32))).abs().max() > 2e-4
    shutil.rmtree(folder / name)
    with pytest.raises(CheckpointError, match=f"{name}/{LORA_CONFIG} cannot be read"):
        load(inspect(str(folder)), "cpu", torch.float32)


def test_what_is_loaded_and_merged_leaves_the_base_as_it_was(base: registry.Base, folder: Path) -> None:
    load(inspect(str(folder)), "cpu", torch.float32)  # its tensors are mapped from the files, and changed in place
    assert registry.verify(base) == []


def test_a_frozen_branch_has_no_adapters(base: registry.Base, tmp_path: Path) -> None:
    model = trained(base, sam="frozen")
    save(tmp_path / "a", model, Calibration(), {})
    assert not (tmp_path / "a" / "lora_sam").exists()
    torch.testing.assert_close(
        logits(load(inspect(str(tmp_path / "a")), "cpu", torch.float32)), logits(model), atol=1e-4, rtol=1e-4
    )


def test_bfloat16_marks_the_same(folder: Path) -> None:
    """The stated tolerance: probabilities differ by less than 0.05, and at most 2 % of the pixels change sides."""
    pixels = np.random.default_rng(0).integers(0, 256, (96, 128, 3), dtype=np.uint8)
    maps = []
    for dtype in (torch.float32, torch.bfloat16):
        (result,) = Predictor(load(inspect(str(folder)), "cpu", dtype)).predict([(0, pixels)])
        assert isinstance(result, Prediction)
        maps.append(result.heatmap)
    assert np.abs(maps[0] - maps[1]).max() < 0.05
    assert ((maps[0] > 0.5) != (maps[1] > 0.5)).mean() < 0.02


def test_peft_reads_its_own_format(base: registry.Base, folder: Path) -> None:
    from peft import PeftModel

    from model.branches.network import FusedQKV

    bare = with_bases(SMALL, base, "cpu", torch.float32)
    assert bare.sd3 is not None
    assert bare.sam is not None
    for block in bare.sam.encoder.blocks:
        block.attn.qkv = FusedQKV(block.attn.qkv)
    for network, name in ((bare.sd3.transformer, "lora_sd3"), (bare.sam.encoder, "lora_sam")):
        theirs = PeftModel.from_pretrained(network, folder / name).state_dict()
        stored = load_file(folder / name / LORA_WEIGHTS)
        assert stored
        for key, tensor in stored.items():
            assert torch.equal(theirs[key.replace(".weight", ".default.weight")], tensor), key


def test_training_goes_on_from_it(base: registry.Base, folder: Path) -> None:
    before, fresh = trained(base), with_bases(SMALL, base, "cpu", torch.float32)
    adapt(fresh, "lora")
    load_learned(fresh, inspect(str(folder)))
    for (name, ours), (_, theirs) in zip(before.named_parameters(), fresh.named_parameters(), strict=True):
        if ours.requires_grad and "lora_" in name:
            assert torch.equal(ours, theirs), name
    torch.testing.assert_close(logits(fresh.eval()), logits(load(inspect(str(folder)), "cpu", torch.float32)))
    other = with_bases(SMALL, base, "cpu", torch.float32)
    adapt(other, {"sd3": "lora", "sam": "frozen"})
    with pytest.raises(CheckpointError, match="other adapters than this network"):
        load_learned(other, inspect(str(folder)))


def test_a_branch_trained_as_a_whole_is_no_adapter(base: registry.Base, tmp_path: Path) -> None:
    model = trained(base)
    assert model.sam is not None
    next(model.sam.encoder.parameters()).requires_grad_(True)
    with pytest.raises(ValueError, match="no adapter can hold"):
        save(tmp_path / "a", model, Calibration(), {})
    assert not (tmp_path / "a").exists()


class TestBases:
    def test_others_are_refused_with_both_digests(self, base: registry.Base, folder: Path, tmp_path: Path) -> None:
        path = write_sam(tmp_path / "other.pth")
        state = torch.load(path, weights_only=True)
        torch.save({name: tensor + 1 for name, tensor in state.items()}, path)
        there = base.digests()["sam"]
        now = _register(base, "sam", path)
        with pytest.raises(CheckpointError, match=f"another sam of small-sd3: SHA-256 {there} there, ") as raised:
            inspect(str(folder))
        assert now.digests()["sam"] in str(raised.value)
        assert inspect(str(folder), check_bases=False).base == "small-sd3"

    def test_another_prompt_is_refused_with_advice(self, base: registry.Base, folder: Path, tmp_path: Path) -> None:
        other = tmp_path / "other.safetensors"
        save_file({key: tensor * 1.01 for key, tensor in load_file(base.paths("prompt")[0]).items()}, other)
        _register(base, "prompt", other)
        with pytest.raises(CheckpointError, match=r"another prompt of small-sd3: .*to --prompt of `clue models add`"):
            inspect(str(folder))

    def test_none_registered(self, folder: Path) -> None:
        registry.drop("small-sd3")
        with pytest.raises(CheckpointError, match="add them with `clue models add small-sd3`"):
            inspect(str(folder))

    def test_they_are_found_by_name_or_by_what_they_are(self, base: registry.Base) -> None:
        assert find_base(SMALL).name == "small-sd3"
        assert find_base(dataclasses.replace(SMALL, name="mine")).name == "small-sd3"
        other = dataclasses.replace(SMALL, name="mine", vae=dataclasses.replace(SMALL.vae, layers_per_block=2))
        with pytest.raises(BasesError, match="the base weights of mine are not registered"):
            find_base(other)


def _register(base: registry.Base, part: str, path: Path) -> registry.Base:
    """The base with another file for a part."""
    now = dataclasses.replace(base, parts=base.parts | {part: (registry.stored(path),)})
    registry.put(now)
    return now


def _trained_on(base: registry.Base, folder: Path, part: str, path: Path) -> None:
    """The same, and a checkpoint that says it was trained on it."""
    _edit(folder / CONFIG_FILE, bases=_register(base, part, path).digests())


def _edit(path: Path, **changes: object) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def _retensor(path: Path, **changes: torch.Tensor) -> None:
    save_file(load_file(path) | changes, path)


def _enlarge(path: Path, name: str, value: float) -> None:
    """The first number of the first tensor whose name begins so."""
    tensors = load_file(path)
    tensors[min(key for key in tensors if key.startswith(name))].view(-1)[0] = value
    save_file(tensors, path)


def _drop(path: Path, layer: str) -> None:
    save_file({name: tensor for name, tensor in load_file(path).items() if layer not in name}, path)


@pytest.mark.parametrize(
    ("what", "named"),
    [
        (lambda f: _retensor(f / HEAD_FILE, more=torch.zeros(1)), "does not fit the preset small-sd3: more"),
        (lambda f: (f / "lora_sd3" / LORA_WEIGHTS).unlink(), f"{LORA_WEIGHTS} cannot be read"),
        (lambda f: _edit(f / "lora_sam" / LORA_CONFIG, r="2"), "r is '2' and lora_alpha is 4"),
        (lambda f: _edit(f / "lora_sam" / LORA_CONFIG, lora_alpha=10**400), "r is 2 and lora_alpha is 1000"),
        (lambda f: _edit(f / "lora_sam" / LORA_CONFIG, lora_alpha=float("nan")), "lora_alpha is nan; expected numbers"),
        (lambda f: _edit(f / "lora_sam" / LORA_CONFIG, r=4), "does not fit the network: blocks.0.attn.qkv.k"),
        (
            lambda f: save_file({}, f / "lora_sam" / LORA_WEIGHTS),
            r"the adapters of blocks\.0\.attn\.qkv\.k are missing \(6 in all\)",
        ),
        (lambda f: _drop(f / "lora_sd3" / LORA_WEIGHTS, "attn2.to_q"), "blocks.0.attn2.to_q are missing"),
        (lambda f: _edit(f / "lora_sam" / LORA_CONFIG, use_dora=True), "use_dora is True, which is not supported"),
        (lambda f: _retensor(f / "lora_sd3" / LORA_WEIGHTS, odd=torch.zeros(1)), "does not fit the network: odd"),
        (
            lambda f: _retensor(f / "lora_sd3" / LORA_WEIGHTS, **{"base_model.model.x.lora_A.weight": torch.zeros(1)}),
            "does not fit the network: x",
        ),
        (lambda f: _edit(f / CONFIG_FILE, format=1), "format 1, this version reads 2"),
        (lambda f: _edit(f / CONFIG_FILE, bases={}), "bases has nothing; expected transformer, vae, prompt, sam"),
        (lambda f: _edit(f / CONFIG_FILE, training=["x"]), r"training is \"\['x'\]\", expected an object"),
        (lambda f: (f / HEAD_FILE).write_bytes((f / HEAD_FILE).read_bytes()[:-5]), f"{HEAD_FILE} is damaged"),
    ],
)
def test_what_is_damaged_is_named(folder: Path, what, named: str) -> None:  # type: ignore[no-untyped-def]
    what(folder)
    with pytest.raises(CheckpointError, match=named):
        load(inspect(str(folder)), "cpu", torch.float32)


def test_the_digest_covers_every_file(folder: Path) -> None:
    digests = {digest_of(folder)}
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        path.write_bytes(path.read_bytes() + b" ")
        digests.add(digest_of(folder))
    assert len(digests) == 7


class TestMerge:
    @pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.bfloat16, 0.2)])
    def test_a_whole_model_that_needs_no_base(self, folder: Path, dtype: torch.dtype, tolerance: float) -> None:
        expected = logits(load(inspect(str(folder)), "cpu", torch.float32))
        checkpoint = inspect(str(folder))
        merge(checkpoint, folder.with_name("whole"), dtype)
        registry.drop("small-sd3")
        whole = inspect(str(folder.with_name("whole")))
        assert whole.base == ""
        assert whole.training["merged_from"]["adapter"] == checkpoint.digest
        assert whole.calibration == checkpoint.calibration
        torch.testing.assert_close(logits(load(whole, "cpu", torch.float32)), expected, atol=tolerance, rtol=tolerance)

    @pytest.mark.parametrize(
        ("change", "named"),
        [
            (
                "adapter",
                r"lora_sam/.*: blocks\.0\.attn\.qkv\.v\.weight with its adapter holds a value of 7\d{4}(\.\d+)?,",
            ),
            ("head", r"head\.safetensors: fusion\.\S+ holds a value of 65520,"),
            ("sam", r"sam\.pth: image_encoder\.neck\.0\.weight holds a value of 1e\+06,"),
            ("transformer", r"transformer/.*\.safetensors: proj_out\.weight holds a value of 70000,"),
            ("prompt", r"prompt\.safetensors: pooled holds a value of 90000,"),
        ],
    )
    def test_what_float16_does_not_hold_is_refused(
        self, base: registry.Base, folder: Path, change: str, named: str
    ) -> None:
        if change == "adapter":
            path = folder / "lora_sam" / LORA_WEIGHTS
            up, down = (f"base_model.model.blocks.0.attn.qkv.v.lora_{letter}.weight" for letter in "BA")
            there = load_file(path)
            there[up][:], there[down][:] = 0, 0
            there[up][0, 0], there[down][0, 1] = 350.0, -100.0  # twice that with alpha / rank, more or less W
            save_file(there, path)
        elif change == "head":
            _enlarge(folder / HEAD_FILE, "fusion.", 65520.0)
        else:
            (path,) = base.paths(change)  # type: ignore[arg-type]
            if change == "sam":
                state = torch.load(path, weights_only=True)
                state["image_encoder.neck.0.weight"].view(-1)[0] = -1e6
                torch.save(state, path)
            else:
                _enlarge(path, *{"transformer": ("proj_out.weight", 70000.0), "prompt": ("pooled", -90000.0)}[change])
            _trained_on(base, folder, change, path)
        before = sorted(folder.parent.rglob("*"))
        with pytest.raises(CheckpointError, match=named + r" float16 none above 65504; expected .* such as bfloat16"):
            merge(inspect(str(folder)), folder.parent / "new" / "whole", torch.float16)
        assert sorted(folder.parent.rglob("*")) == before
        merge(inspect(str(folder)), folder.parent / "new" / "whole", torch.bfloat16)

    def test_what_float16_just_holds_is_merged(self, folder: Path) -> None:
        _enlarge(folder / HEAD_FILE, "fusion.", 65519.0)
        merge(inspect(str(folder)), folder.with_name("whole"), torch.float16)
        assert (
            max(float(tensor.abs().max()) for tensor in load_file(folder.with_name("whole") / WEIGHTS_FILE).values())
            == 65504
        )

    def test_base_weights_that_are_not_finite_are_refused(self, base: registry.Base, folder: Path) -> None:
        (path,) = base.paths("sam")
        state = torch.load(path, weights_only=True)
        state["image_encoder.neck.0.weight"].view(-1)[0] = float("nan")
        torch.save(state, path)
        _trained_on(base, folder, "sam", path)
        with pytest.raises(
            CheckpointError, match=r"sam\.encoder\.neck\.0\.weight, merged, holds a value that is not finite"
        ):
            merge(inspect(str(folder)), folder.with_name("whole"), torch.float16)
        assert not folder.with_name("whole").exists()


class TestSaving:
    def test_an_earlier_checkpoint_is_replaced_as_a_whole(self, base: registry.Base, folder: Path) -> None:
        (folder / "lora_sam" / "left-over").write_text("x")
        first = digest_of(folder)
        save(folder, trained(base), Calibration(name="second"), {})
        assert inspect(str(folder)).calibration.name == "second"
        assert digest_of(folder) != first
        assert not (folder / "lora_sam" / "left-over").exists()

    def test_a_failure_leaves_the_former_one_whole(
        self, base: registry.Base, folder: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        before, around = digest_of(folder), sorted(folder.parent.iterdir())

        def full(*_: object) -> None:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr("model.storage.save_file", full)
        with pytest.raises(OSError, match="No space"):
            save(folder, trained(base), Calibration(name="new"), {})
        assert digest_of(folder) == before
        assert sorted(folder.parent.iterdir()) == around
