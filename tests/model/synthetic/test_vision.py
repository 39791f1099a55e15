"""Vision transformers as detectors: they learn a decoder's trace, are saved, loaded, and bound to their base."""

from __future__ import annotations

import json
import pickle
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file
from scipy.ndimage import gaussian_filter
from skimage import data
from torch import nn

from model.calibration import Calibration
from model.clue import build
from model.presets.mini import MINI
from model.storage import save as save_clue
from model.synthetic import METHOD_FILE, Detector, MethodError, describe, load
from model.synthetic.card import card
from model.synthetic.options import SyntheticOptions
from model.synthetic.vision import WEIGHTS_FILE, learner
from model.synthetic.vision_network import VisionLearner, blended, positions
from model.training.network import count_parameters
from model.training.options import read_synthetic_options
from tests.base_layouts import SMALL, register_small

pytestmark = pytest.mark.usefixtures("config")

ATTENTION = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 48}


def options(**changes: Any) -> SyntheticOptions:
    return read_synthetic_options("effort", [], **{"base": "none", "device": "cpu", "alpha": 2.0} | changes)


def write_base(folder: Path, kind: str) -> Path:
    """A tiny random vision transformer in the layout that the real ones are published in."""
    import transformers

    torch.manual_seed(0)
    vision = ATTENTION | {"image_size": 32, "patch_size": 8}
    if kind == "clip":
        text = ATTENTION | {"vocab_size": 8, "bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 1}
        config = transformers.CLIPConfig(vision_config=vision, text_config=text, projection_dim=8)
        network: Any = transformers.CLIPModel(config)
    elif kind == "clip-vision":
        network = transformers.CLIPVisionModel(transformers.CLIPVisionConfig(**vision))
    elif kind == "dinov2":
        network = transformers.Dinov2Model(transformers.Dinov2Config(**vision))
    elif kind == "registers":
        network = transformers.Dinov2WithRegistersModel(transformers.Dinov2WithRegistersConfig(**vision))
    else:
        network = transformers.DINOv3ViTModel(transformers.DINOv3ViTConfig(**vision, num_register_tokens=2))
    with torch.no_grad():  # initial values of some are constants, with which nothing would depend on the picture
        for parameter in network.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.05)
    network.save_pretrained(folder)
    means = {"image_mean": [0.5, 0.45, 0.4], "image_std": [0.25, 0.26, 0.27]}
    (folder / "preprocessor_config.json").write_text(json.dumps({"do_normalize": True} | means))
    return folder


@pytest.fixture(scope="session")
def bases(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Read them only."""
    folder = tmp_path_factory.mktemp("vision-bases")
    return {kind: write_base(folder / kind, kind) for kind in ("clip", "clip-vision", "dinov2", "registers", "dinov3")}


def new(base: Path | str, **changes: Any) -> VisionLearner:
    made = learner(str(base), options(**changes), "cpu", torch.float32)
    assert isinstance(made, VisionLearner)
    return made


def moved(one: VisionLearner) -> VisionLearner:
    """With other values of all that learns, as after a training."""
    torch.manual_seed(7)
    with torch.no_grad():
        for parameter in one.network.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn_like(parameter), alpha=0.05)
        one.scores({"pixels": torch.stack([one.inputs(noise(one.crop, one.crop, i))["pixels"] for i in range(4)])})
    one.network.eval()
    return one


def noise(height: int, width: int, seed: int = 0) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


def loaded(folder: Path) -> Detector:
    return load(describe(str(folder)), "cpu", torch.float32)


@pytest.mark.parametrize("adapt", ["lora", "svd"])
@pytest.mark.parametrize("kind", ["clip", "clip-vision", "dinov2", "registers", "dinov3"])
def test_saved_and_loaded_it_gives_the_scores_that_were_trained(
    bases: dict[str, Path], tmp_path: Path, kind: str, adapt: str
) -> None:
    one = moved(new(bases[kind], adapt=adapt, rank=2))
    assert one.crop == 32
    crop = noise(32, 32)
    expected = float(one.scores({"pixels": one.inputs(crop)["pixels"][None]}).detach())
    one.save(tmp_path / "m", Calibration(name="test"), {"generators": ["ours"], "steps": 3})
    assert sorted(path.name for path in (tmp_path / "m").iterdir()) == [WEIGHTS_FILE, "card.md", METHOD_FILE]
    stored = load_file(tmp_path / "m" / WEIGHTS_FILE)
    assert all(name.startswith(("head.", "tower.scale.")) or ".lora_" in name or ".svd_" in name for name in stored)
    method = describe(str(tmp_path / "m"))
    assert (method.kind, method.calibration.name, method.training["steps"]) == ("vision", "test", 3)
    assert "ours" in method.limits[0]
    detection = loaded(tmp_path / "m").detect(crop)
    assert detection.score == pytest.approx(expected, abs=1e-5)
    assert abs(detection.score - loaded(tmp_path / "m").detect(noise(32, 32, 5)).score) > 1e-6


@pytest.mark.parametrize("kind", ["clip", "dinov2", "dinov3"])
def test_at_first_the_features_are_the_bases_own(bases: dict[str, Path], kind: str) -> None:
    import transformers

    one = new(bases[kind], crop=48)  # larger than the base's own size: its positions are interpolated
    pixels = one.inputs(noise(48, 48))["pixels"][None]
    network = transformers.AutoModel.from_pretrained(bases[kind])
    mean, std = (torch.tensor(v)[:, None, None] for v in ([0.5, 0.45, 0.4], [0.25, 0.26, 0.27]))
    seen = (pixels.float() / 255 - mean) / std
    with torch.inference_mode():
        if kind == "clip":
            expected = network.vision_model(seen, interpolate_pos_encoding=True).pooler_output
        else:
            expected = network(seen).pooler_output
        torch.testing.assert_close(one.network.tower(pixels.float() / 255), expected, atol=1e-5, rtol=1e-5)


def test_the_parameters_that_learn_are_those_of_the_paper(bases: dict[str, Path]) -> None:
    """One component in each of the four projections of each block, and a head."""
    one = new(bases["clip"])
    learn, everything = count_parameters(one.network)
    assert learn == 2 * 4 * (2 * 32 + 1) + 32 + 1
    assert everything > learn
    lora = new(bases["clip"], adapt="lora", rank=3)
    assert count_parameters(lora.network)[0] == 2 * 4 * 3 * 2 * 32 + 32 + 1
    assert count_parameters(new(bases["clip"], targets=("q_proj",)).network)[0] == 2 * (2 * 32 + 1) + 32 + 1


def test_stored_tensors_restore_a_training(bases: dict[str, Path]) -> None:
    one, other = moved(new(bases["clip"])), new(bases["clip"], seed=9)
    other.load_stored({name: tensor.clone() for name, tensor in one.stored().items()})
    batch = {"pixels": torch.stack([one.inputs(noise(32, 32, seed))["pixels"] for seed in range(3)])}
    assert torch.equal(one.scores(batch), other.scores(batch))
    with pytest.raises(ValueError, match=r"head\.bias is missing"):
        other.load_stored({name: tensor for name, tensor in one.stored().items() if name != "head.bias"})
    with pytest.raises(ValueError, match=r"head\.weight is \[1, 5\], expected \[1, 32\]"):
        other.load_stored(one.stored() | {"head.weight": torch.zeros(1, 5)})


def test_worker_processes_do_not_get_the_network(bases: dict[str, Path]) -> None:
    one = new(bases["clip"])
    sent = pickle.dumps(one.inputs)
    assert len(sent) < 1000
    assert torch.equal(pickle.loads(sent)(noise(32, 32))["pixels"], one.inputs(noise(32, 32))["pixels"])


class TestSam:
    """CLUE's own encoder: of a whole model on the early view, and of registered weights on pixels."""

    @pytest.fixture
    def clue(self, tmp_path: Path) -> Path:
        torch.manual_seed(0)
        save_clue(tmp_path / "clue", build(MINI), Calibration(), {})
        return tmp_path / "clue"

    def test_of_a_whole_model(self, clue: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(tmp_path)
        one = moved(new("sam:clue", crop=64))
        monkeypatch.chdir("/")  # the method is used elsewhere
        assert count_parameters(one.network)[0] == 3 * 3 * (2 * 160 + 1) + 128 + 1
        crop = noise(64, 64)
        expected = float(one.scores({"pixels": one.inputs(crop)["pixels"][None]}).detach())
        one.save(tmp_path / "m", Calibration(), {})
        assert loaded(tmp_path / "m").detect(crop).score == pytest.approx(expected, abs=1e-5)
        save_clue(clue, build(MINI), Calibration(), {})
        with pytest.raises(MethodError, match=r"trained on another sam:.*: SHA-256 [0-9a-f]{64} there, [0-9a-f]{64}"):
            describe(str(tmp_path / "m"))

    @pytest.mark.parametrize("adapt", ["lora", "svd"])
    def test_of_registered_weights(self, tmp_path: Path, adapt: str) -> None:
        register_small(tmp_path / "bases")
        with pytest.raises(MethodError, match=r"crop is 256; .* a multiple of 16, at most 128"):
            new("sam:small-sd3", crop=256)
        one = moved(new("sam:small-sd3", adapt=adapt, rank=2))
        assert one.crop == SMALL.tile.size
        one.save(tmp_path / "m", Calibration(), {})
        crop = noise(128, 128)
        expected = float(one.scores({"pixels": one.inputs(crop)["pixels"][None]}).detach())
        assert loaded(tmp_path / "m").detect(crop).score == pytest.approx(expected, abs=1e-5)


class TestDetection:
    @pytest.fixture
    def detector(self, bases: dict[str, Path], tmp_path: Path) -> Detector:
        moved(new(bases["clip"])).save(tmp_path / "m", Calibration(), {})
        return loaded(tmp_path / "m")

    @pytest.mark.parametrize(("height", "width", "crops"), [(32, 32, 1), (20, 33, 2), (70, 100, 12), (16, 16, 1)])
    def test_any_size(self, detector: Detector, height: int, width: int, crops: int) -> None:
        pixels = noise(height, width)
        found = detector.detect(pixels)
        assert found.heatmap is not None
        assert found.heatmap.shape == (height, width) and found.heatmap.dtype == np.float32
        assert found.parts["crops"] == crops
        assert found.heatmap.min() >= 0 and found.heatmap.max() <= found.parts["highest"] + 1e-6
        assert found.parts["mean"] <= found.score <= found.parts["highest"]
        again = detector.detect(pixels)
        assert (again.score, again.parts) == (found.score, found.parts)
        assert np.array_equal(again.heatmap, found.heatmap)  # type: ignore[arg-type]

    def test_one_too_small_is_named(self, detector: Detector) -> None:
        with pytest.raises(ValueError, match="the picture is 90×15; this method needs sides of at least 16 pixels"):
            detector.detect(noise(15, 90))

    def test_the_grid_covers_the_picture_and_the_heatmap_is_the_crops(self) -> None:
        assert positions(70, 32) == [0, 19, 38]
        values = np.array([[0.0, 1.0, 0.5]])
        heatmap = blended(values, [0], [0, 19, 38], 32, (32, 70))
        np.testing.assert_allclose(heatmap[3, [0, 15, 34, 35, 54, 69]], [0, 0, 0.974, 0.987, 0.5, 0.5], atol=0.02)


class TestWhatIsRefused:
    @pytest.fixture
    def folder(self, bases: dict[str, Path], tmp_path: Path) -> Path:
        shutil.copytree(bases["clip-vision"], tmp_path / "base")
        new(tmp_path / "base").save(tmp_path / "m", Calibration(), {})
        return tmp_path / "m"

    def test_another_base(self, folder: Path) -> None:
        base = folder.with_name("base")
        weights = load_file(base / "model.safetensors")
        save_file({name: tensor + 1 for name, tensor in weights.items()}, base / "model.safetensors", {"format": "pt"})
        with pytest.raises(MethodError, match=r"trained on another .*base: SHA-256 \w{64} there, \w{64} here"):
            describe(str(folder))
        shutil.rmtree(base)
        with pytest.raises(MethodError, match=r"m needs the base .*base"):
            describe(str(folder))

    def test_a_damaged_method(self, folder: Path) -> None:
        path = folder / WEIGHTS_FILE
        stored, digest = load_file(path), describe(str(folder)).digest
        save_file(stored | {"head.weight": torch.zeros(1, 32)}, path)
        assert describe(str(folder)).digest != digest
        for change, named in (
            ({"head.weight": torch.zeros(1, 16)}, r"head\.weight is \[1, 16\], expected \[1, 32\]"),
            ({"odd": torch.zeros(1)}, "odd is unexpected"),
            ({"head.bias": torch.full((1,), float("nan"))}, r"head\.bias holds a value that is not finite"),
        ):
            save_file(stored | change, path)
            with pytest.raises(MethodError, match=named):
                loaded(folder)
        path.write_bytes(b"not a safetensors file")
        with pytest.raises(MethodError, match="damaged or not a safetensors file"):
            loaded(folder)
        path.rename(folder / "adapters.bin")
        with pytest.raises(MethodError, match=r"adapters\.safetensors is missing; adapters\.bin is a pickle"):
            describe(str(folder))

    @pytest.mark.parametrize(
        ("change", "named"),
        [
            ({"settings": {}}, r"settings.*adapt"),
            ({"settings": None}, "training and settings; expected objects"),
            ({"training": []}, "training and settings; expected objects"),
            ({"calibration": {"score_threshold": 2}}, "calibration.score_threshold"),
        ],
    )
    def test_a_description_that_says_something_else(self, folder: Path, change: dict[str, Any], named: str) -> None:
        path = folder / METHOD_FILE
        path.write_text(json.dumps(json.loads(path.read_text()) | change))
        with pytest.raises(MethodError, match=rf"method\.json cannot be understood: .*{named}"):
            describe(str(folder))

    def test_a_base_that_is_none(self, bases: dict[str, Path], tmp_path: Path) -> None:
        import transformers

        text = transformers.BertModel(transformers.BertConfig(**ATTENTION, vocab_size=8))
        text.save_pretrained(tmp_path / "bert")
        shutil.copytree(bases["clip"], tmp_path / "plain")
        (tmp_path / "plain" / "preprocessor_config.json").unlink()
        (tmp_path / "empty").mkdir()
        for base, changes, named in (
            (
                tmp_path / "bert",
                {},
                "a model of the type bert; expected a vision transformer of one of the types cl",
            ),
            (tmp_path / "plain", {}, "has no preprocessor_config.json"),
            (tmp_path / "empty", {}, "config.json is missing"),
            ("sam:nothing", {}, "no model at nothing"),
            (bases["clip"], {"crop": 36}, "crop is 36; the base .* needs a multiple of 8"),
            (bases["clip"], {"rank": 32}, "cannot have these adapters: a residual of rank 32 leaves nothing"),
            (bases["clip"], {"targets": ("nowhere",)}, "no linear layer whose name ends with nowhere"),
            (bases["clip"], {"targets": ("nowhere",), "adapt": "lora"}, "cannot have these adapters: .*nowhere"),
        ):
            with pytest.raises(MethodError, match=named):
                new(base, **changes)


def photos() -> list[NDArray[np.uint8]]:
    return [np.asarray(getattr(data, name)()) for name in ("astronaut", "coffee", "chelsea", "rocket")]


def decoded(pixels: NDArray[np.uint8], board: int) -> NDArray[np.uint8]:
    """The same picture after a decoder: less of its finest detail, and a checkerboard as upsampling leaves."""
    rows, columns = np.indices(pixels.shape[:2])
    blurred = gaussian_filter(pixels.astype(np.float32), (0.9, 0.9, 0))
    blurred += board * (1 - 2 * ((rows + columns) % 2))[..., None]
    return blurred.round().clip(0, 255).astype(np.uint8)


def crops(pictures: list[NDArray[np.uint8]], count: int, side: int, seed: int) -> list[NDArray[np.uint8]]:
    rng = np.random.default_rng(seed)
    found = []
    for number in range(count):
        pixels = pictures[number % len(pictures)]
        row, column = (2 * int(rng.integers(0, (length - side) // 2)) for length in pixels.shape[:2])
        found.append(pixels[row : row + side, column : column + side])
    return found


@pytest.mark.parametrize(
    ("base", "adapt", "crop", "steps"),
    [("mini", "svd", 64, 25), ("clip", "lora", 32, 80), ("clip", "svd", 32, 80), ("dinov2", "svd", 32, 80)],
)
def test_aligned_pairs_of_photos_teach_it_the_trace(
    bases: dict[str, Path], base: str, adapt: str, crop: int, steps: int
) -> None:
    """Photos against the very same photos, decoded: the loss falls, and crops of other photos are told apart.

    The weights of the others are random, so that they need a stronger trace than `mini` does.
    """
    board = 0 if base == "mini" else 6
    one = new("sam:mini" if base == "mini" else bases[base], adapt=adapt, rank=4, alpha=8, crop=crop)
    learning, held_out = photos()[:2], photos()[2:]
    optimizer = torch.optim.AdamW(
        [p for p in one.network.parameters() if p.requires_grad], 1e-2 if adapt == "svd" else 4e-3
    )
    losses = []
    for step in range(steps):
        real = crops(learning, 8, crop, step)
        batch = [one.inputs(pixels)["pixels"] for pixels in (*real, *(decoded(photo, board) for photo in real))]
        loss = one.loss({"pixels": torch.stack(batch)}, torch.arange(16) >= 8)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(one.network.parameters(), 1.0)
        optimizer.step()
        losses.append(float(loss.detach()))
    assert np.mean(losses[-10:]) < 0.85 * np.mean(losses[:2])
    one.network.eval()
    real = crops(held_out, 40, crop, 999)
    with torch.inference_mode():
        pixels = torch.stack(
            [one.inputs(pixels)["pixels"] for pixels in (*real, *(decoded(photo, board) for photo in real))]
        )
        scores = one.scores({"pixels": pixels}).numpy()
    assert (scores[40:, None] > scores[None, :40]).mean() > 0.9  # AUC


def test_the_card_says_what_was_measured_and_what_was_not(bases: dict[str, Path], tmp_path: Path) -> None:
    training = {"generators": ["our decoder", "a|b <img>"], "steps": 3}
    new(bases["clip"]).save(tmp_path / "m", Calibration(), training)
    method = describe(str(tmp_path / "m"))
    written = (tmp_path / "m" / "card.md").read_text()
    assert (
        "Not measured." in written
        and "Nothing was fitted: every verdict" in written
        and "our decoder, a\\|b &lt;img>" in written
    )
    figures = {"own photos": {"real called generated": {"value": 0.0125, "low": 0.0, "high": 0.034, "n": 80}}}
    filled = card(method, figures)
    assert "| real called generated | 0.013 | 0.000 to 0.034 | 80 |" in filled
    assert "Not measured" not in filled and method.digest in filled
