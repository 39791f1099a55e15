"""Base weights from files: what fits is loaded to the bit, what does not is refused with all that is wrong."""

from __future__ import annotations

import dataclasses
import json
import pickle
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from model import registry
from model.branches import from_scratch
from model.preset import Preset
from model.presets import MINI, PRESETS, SD3_MEDIUM, SD3_MEDIUM_VIT_B
from model.registry import BasesError
from model.storage import examine, with_bases
from tests.base_layouts import SMALL, register_small, sam_state, write_sd3

pytestmark = pytest.mark.usefixtures("config")


@pytest.fixture
def files(base_files: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(base_files, tmp_path / "files"))


def places(files: Path) -> dict[str, Path]:
    return {"sd3": files / "sd3", "sam": files / "sam.pth"}


def test_which_presets_need_pretrained_weights() -> None:
    assert [from_scratch(preset) for preset in (MINI, SD3_MEDIUM)] == [True, False]


@pytest.mark.parametrize(
    ("sharded", "sam_format", "dtype"),
    [
        (False, "pth", torch.float32),
        (True, "pth", torch.bfloat16),
        (True, "legacy", torch.float32),
        (False, "safetensors", torch.bfloat16),
    ],
)
def test_every_tensor_takes_its_place(tmp_path: Path, sharded: bool, sam_format: str, dtype: torch.dtype) -> None:
    base = register_small(tmp_path)
    if sharded:
        shutil.rmtree(tmp_path / "sd3")
        write_sd3(tmp_path / "sd3", shard_size="20KB")
    sam = tmp_path / "sam.pth"
    if sam_format == "legacy":
        torch.save(sam_state(), sam, _use_new_zipfile_serialization=False)
    elif sam_format == "safetensors":
        save_file(sam_state(), sam)
    parts = examine(SMALL, {"sd3": tmp_path / "sd3", "sam": sam})
    assert (len(parts["transformer"]) > 1) == sharded
    notes = {part: tuple(registry.stored(path) for path in paths) for part, paths in parts.items()}
    model = with_bases(SMALL, dataclasses.replace(base, parts=base.parts | notes), "cpu", dtype)
    assert model.sd3 is not None
    assert model.sam is not None
    expected = {f"sam.encoder.{k.removeprefix('image_encoder.')}": v for k, v in sam_state().items() if "image" in k}
    for path in parts["transformer"]:
        expected |= {f"sd3.transformer.{name}": tensor for name, tensor in load_file(path).items()}
    expected |= {f"sd3.vae.{k}": v for k, v in load_file(parts["vae"][0]).items() if k.startswith("encoder.")}
    state = model.state_dict()
    for name, tensor in expected.items():
        assert torch.equal(state[name], tensor.to(dtype)), name
    new = [name for name in state.keys() - expected.keys() if not name.startswith(("fusion.", "localization."))]
    assert sorted(new) == ["sd3.pooled", "sd3.prompt"]
    assert {t.dtype for t in state.values()} == {dtype}
    with torch.inference_mode():
        logits = model.eval()(torch.rand(1, 3, 64, 96), torch.randn(1, *model.latent_shape(64, 96)))
    assert logits.shape == (1, 1, 64, 96)
    assert bool(torch.isfinite(logits).all())


def _edit_json(path: Path, **changes: object) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def _edit_tensors(path: Path, drop: str = "", add: str = "", grow: str = "") -> None:
    state = load_file(path)
    if drop:
        del state[drop]
    if add:
        state[add] = torch.zeros(2)
    if grow:
        state[grow] = torch.zeros(3, *state[grow].shape)
    save_file(state, path)


def _edit_sam(path: Path, preset: Preset) -> None:
    torch.save(sam_state(preset), path)


WEIGHTS = "diffusion_pytorch_model.safetensors"
NORM = "transformer_blocks.0.attn.norm_q.weight"


@pytest.mark.parametrize(
    ("what", "named"),
    [
        (lambda f: shutil.rmtree(f / "sd3"), "sd3 is not a folder"),
        (lambda f: shutil.rmtree(f / "sd3/vae"), r"not a diffusers folder of SD3: vae/config.json is missing"),
        (lambda f: (f / "sd3/transformer").rename(f / "sd3/unet"), r"another model: it has unet/"),
        (
            lambda f: _edit_json(f / "sd3/transformer/config.json", _class_name="FluxTransformer2DModel"),
            "of another model: 'FluxTransformer2DModel', expected SD3Transformer2DModel",
        ),
        (
            lambda f: _edit_json(f / "sd3/scheduler/scheduler_config.json", _class_name="DDIMScheduler"),
            "of another model: 'DDIMScheduler'",
        ),
        (
            lambda f: _edit_json(f / "sd3/transformer/config.json", num_layers=38),
            r"another model than small-sd3: transformer/config.json: num_layers is 38, expected 3",
        ),
        (
            lambda f: _edit_json(f / "sd3/vae/config.json", scaling_factor=0.18215),
            r"vae/config.json: scaling_factor is 0.18215, expected 1.5305",
        ),
        (lambda f: (f / "sd3/vae/config.json").write_text("{"), "config.json is damaged"),
        (lambda f: (f / "sd3/vae/config.json").write_text("[]"), "expected a JSON object"),
        (lambda f: (f / "sd3/vae/config.json").write_bytes(b" " * ((1 << 26) + 1)), "too large"),
        (lambda f: (f / "sd3/transformer" / WEIGHTS).unlink(), "and so is an index of shards"),
        (
            lambda f: (f / "sd3/transformer" / WEIGHTS).rename(f / "sd3/transformer/diffusion_pytorch_model.bin"),
            "is a pickle, which is not read",
        ),
        (
            lambda f: (f / "sd3/transformer" / WEIGHTS).write_bytes(
                (f / "sd3/transformer" / WEIGHTS).read_bytes()[:-9]
            ),
            "is damaged or not a safetensors file",
        ),
        (lambda f: _edit_tensors(f / "sd3/transformer" / WEIGHTS, drop=NORM), f"transformer: {NORM} is missing"),
        (lambda f: _edit_tensors(f / "sd3/transformer" / WEIGHTS, add="x"), "transformer: x is unexpected"),
        (lambda f: _edit_tensors(f / "sd3/transformer" / WEIGHTS, grow=NORM), r"norm_q.weight is \[3, 16\], expected"),
        (lambda f: _edit_tensors(f / "sd3/vae" / WEIGHTS, add="quant_conv.weight"), "vae: quant_conv.weight is unexp"),
        (lambda f: (f / "sam.pth").unlink(), r"sam.pth cannot be read: No such file"),
        (lambda f: (f / "sam.pth").write_bytes((f / "sam.pth").read_bytes()[:-3000]), "damaged or not a checkpoint"),
        (lambda f: (f / "sam.pth").write_bytes(b"hello"), "damaged or not a safetensors file"),
        (lambda f: torch.save([1], f / "sam.pth"), "expected names and tensors"),
        (lambda f: torch.save({"vision_encoder.x": torch.zeros(1)}, f / "sam.pth"), "no tensor begins with image_enc"),
        (lambda f: torch.save({}, f / "sam.pth"), "there is 'nothing'"),
        (
            lambda f: _edit_sam(f / "sam.pth", dataclasses.replace(SMALL, sam=dataclasses.replace(SMALL.sam, depth=1))),
            "sam: blocks.1.attn.proj.bias is missing",
        ),
    ],
)
def test_what_is_wrong_is_named(files: Path, what, named: str) -> None:  # type: ignore[no-untyped-def]
    what(files)
    with pytest.raises(BasesError, match=named):
        examine(SMALL, places(files))


def test_all_problems_are_listed(files: Path) -> None:
    _edit_tensors(files / "sd3/transformer" / WEIGHTS, drop=NORM, add="extra")
    _edit_tensors(files / "sd3/vae" / WEIGHTS, grow="encoder.conv_in.bias")
    with pytest.raises(BasesError, match="and 2 more") as raised:
        examine(SMALL, places(files))
    assert raised.value.problems == (
        f"transformer: {NORM} is missing",
        "transformer: extra is unexpected",
        "vae: encoder.conv_in.bias is [3, 8], expected [8]",
    )


@pytest.mark.parametrize("first", [b"\x80\x02", b"PK"])
def test_code_in_a_pickle_is_never_executed(files: Path, tmp_path: Path, first: bytes) -> None:
    class Bomb:
        def __reduce__(self) -> tuple[object, tuple[str, str]]:
            return open, (str(tmp_path / "executed"), "w")

    if first == b"PK":
        torch.save({"image_encoder.x": Bomb()}, files / "sam.pth")
    else:
        (files / "sam.pth").write_bytes(pickle.dumps({"image_encoder.x": Bomb()}, protocol=2))
    with pytest.raises(BasesError, match=r"refused and nothing of it was executed|not a checkpoint"):
        examine(SMALL, places(files))
    assert not (tmp_path / "executed").exists()


def test_vit_b_given_as_vit_h_is_told_apart(files: Path) -> None:
    path = files / "sam_b.pth"
    torch.save({"image_encoder.patch_embed.proj.weight": torch.zeros(768, 3, 16, 16)}, path)
    wide = dataclasses.replace(SMALL, sam=dataclasses.replace(SMALL.sam, embed_dim=1280, num_heads=16, depth=1))
    wide = dataclasses.replace(wide, sam=dataclasses.replace(wide.sam, global_attn_indexes=()))
    expected = f"is SAM ViT-B, and small-sd3 has ViT-H; with ViT-B there is {SD3_MEDIUM_VIT_B.name}"
    with pytest.raises(BasesError, match=expected):
        examine(wide, {"sd3": files / "sd3", "sam": path}, PRESETS.values())


@pytest.mark.parametrize(
    ("weight_map", "named"),
    [
        ({}, "no weight_map"),
        ([], "no weight_map"),
        ({"a": "../../secret.safetensors"}, "expected a safetensors file beside it"),
        ({"a": "shard.bin"}, "expected a safetensors file beside it"),
        ({"a": "gone.safetensors"}, "1 of 1 shards are missing: gone.safetensors"),
    ],
)
def test_an_index_names_files_beside_it(files: Path, weight_map: object, named: str) -> None:
    (files / "sd3/transformer" / WEIGHTS).unlink()
    (files / "sd3/transformer" / f"{WEIGHTS}.index.json").write_text(json.dumps({"weight_map": weight_map}))
    with pytest.raises(BasesError, match=named):
        examine(SMALL, places(files))


def test_a_tensor_in_two_shards_is_refused(files: Path) -> None:
    place = files / "sd3/transformer"
    shutil.copy(place / WEIGHTS, place / "b.safetensors")
    (place / WEIGHTS).rename(place / "a.safetensors")
    index = {"weight_map": {"x": "a.safetensors", "y": "b.safetensors"}}
    (place / f"{WEIGHTS}.index.json").write_text(json.dumps(index))
    with pytest.raises(BasesError, match="in another shard as well"):
        examine(SMALL, places(files))


def test_a_half_precision_variant_is_found(files: Path) -> None:
    place = files / "sd3/transformer"
    (place / WEIGHTS).rename(place / "diffusion_pytorch_model.fp16.safetensors")
    assert examine(SMALL, places(files))["transformer"][0].name.endswith("fp16.safetensors")


def test_another_preset_does_not_fit_the_base(tmp_path: Path) -> None:
    base = register_small(tmp_path)
    other = dataclasses.replace(SMALL, sam=dataclasses.replace(SMALL.sam, depth=1, global_attn_indexes=()))
    with pytest.raises(BasesError, match="another sam than the base weights of small-sd3"):
        with_bases(other, base, "cpu", torch.float32)
    taps = dataclasses.replace(SMALL, transformer=dataclasses.replace(SMALL.transformer, feature_blocks=(2,)))
    assert with_bases(taps, base, "cpu", torch.float32).sd3 is not None


def test_weights_that_changed_their_shape_since_are_refused(tmp_path: Path) -> None:
    base = register_small(tmp_path)
    _edit_tensors(tmp_path / "sd3/transformer" / WEIGHTS, drop=NORM)
    with pytest.raises(BasesError, match="the transformer does not fit"):
        with_bases(SMALL, base, "cpu", torch.float32)


@pytest.mark.parametrize("branches", ["sd3", "sam"])
def test_one_branch_alone_needs_only_its_own(tmp_path: Path, branches: str) -> None:
    base = register_small(tmp_path)
    shutil.rmtree(tmp_path / "sd3") if branches == "sam" else (tmp_path / "sam.pth").unlink()
    model = with_bases(SMALL, base, "cpu", torch.float32, branches)
    assert (model.sd3 is None) == (branches == "sam")
