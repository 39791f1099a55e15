"""Bi-LORA on a BLIP-2 of random weights: what learns, what is stored, what a picture gets, what is refused."""

from __future__ import annotations

import json
import pickle
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from model.calibration import Calibration
from model.errors import UserError
from model.synthetic import MethodError, describe, load
from model.synthetic.bases import register_folder
from model.synthetic.bi_lora import learner
from model.training.options import read_synthetic_options
from tests.tiny_blip2 import SIZE, WORDS, write_blip2, write_tokenizer

pytest.importorskip("transformers")
KINDS = ("opt", "t5")


@pytest.fixture(autouse=True)
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CLUE_CONFIG", str(tmp_path / "config"))


@pytest.fixture(scope="module")
def bases(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bases")
    for kind in KINDS:
        write_blip2(folder / kind, kind)
    return folder


@pytest.fixture
def opt(bases: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(bases / "opt", tmp_path / "opt"))


def new(folder: Path | str, seed: int = 0, **options: Any) -> Any:
    torch.manual_seed(seed)
    return learner(str(folder), read_synthetic_options("bi-lora", [], **options), "cpu", torch.float32)


def picture(bright: bool, height: int = SIZE, width: int = SIZE, seed: int = 0) -> np.ndarray[Any, Any]:
    noise = np.random.default_rng(seed).integers(0, 100, (height, width, 3))
    return (noise + 150 * bright).astype(np.uint8)


def batch(method: Any) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
    """Bright pictures are generated."""
    bright = torch.arange(16) % 2 == 1
    crops = [method.inputs(picture(bool(one), seed=seed)) for seed, one in enumerate(bright)]
    return {"pixel_values": torch.stack([crop["pixel_values"] for crop in crops])}, bright


def train(method: Any, steps: int, kind: Any = torch.optim.Adam, lr: float = 1e-2) -> list[float]:
    inputs, bright = batch(method)
    optimizer = kind([p for p in method.network.parameters() if p.requires_grad], lr=lr)
    losses = []
    for _ in range(steps):
        optimizer.zero_grad()
        loss = method.loss(inputs, bright)
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    return losses


@pytest.fixture(scope="module")
def trained(bases: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Path, Any, list[float]]]:
    found = {}
    for kind in KINDS:
        method, folder = new(bases / kind), tmp_path_factory.mktemp("trained") / kind
        losses = train(method, 40)
        method.save(folder, Calibration(), {"generators": ["bright"]})
        found[kind] = folder, method, losses
    return found


@pytest.mark.parametrize(
    ("kind", "layers"),
    [
        ("opt", r"language_model\.model\.decoder\.layers\.[01]\.self_attn\.[qk]_proj"),
        ("t5", r"language_model\.decoder\.block\.[01]\.layer\.(0\.SelfAttention|1\.EncDecAttention)\.[qk]"),
    ],
)
def test_query_and_key_of_the_decoder_learn_and_nothing_else(bases: Path, kind: str, layers: str) -> None:
    for rank in (4, 8, 16, 32):
        names = new(bases / kind, rank=rank).stored()
        assert len({name.split(".lora_")[0] for name in names}) == (4 if kind == "opt" else 8)
        assert all(re.fullmatch(layers + r"\.lora_[AB]\.clue\.weight", name) for name in names)
        assert sum(tensor.numel() for tensor in names.values()) == len(names) // 2 * rank * (32 + 32)


@pytest.mark.parametrize("kind", KINDS)
class TestTrained:
    def test_it_learns_bright_from_dark(self, trained: Any, kind: str) -> None:
        _, method, losses = trained[kind]
        inputs, bright = batch(method)
        assert losses[-1] < (0.5 if kind == "opt" else 0.9) * losses[0]
        assert torch.equal(method.scores(inputs) > 0.5, bright)

    def test_what_was_saved_gives_the_same_scores_when_merged(self, trained: Any, kind: str) -> None:
        folder, method, _ = trained[kind]
        described = describe(str(folder))
        detector: Any = load(described, "cpu", torch.float32)
        inputs, _ = batch(method)
        assert not detector.stored()  # no adapters any more
        assert torch.allclose(detector.scores(inputs), method.scores(inputs), atol=1e-5, rtol=0)
        assert (described.kind, described.training["generators"]) == ("bi-lora", ["bright"])
        assert "bright" in described.limits[0]

    def test_peft_itself_loads_it(self, trained: Any, bases: Path, kind: str) -> None:
        from peft import PeftModel
        from transformers import Blip2ForConditionalGeneration

        folder, method, _ = trained[kind]
        inputs, _ = batch(method)
        there = method.scores(inputs)
        network = Blip2ForConditionalGeneration.from_pretrained(bases / kind).eval()
        ours, method.network = method.network, PeftModel.from_pretrained(network, folder).get_base_model()
        try:
            assert torch.allclose(method.scores(inputs), there, atol=1e-5, rtol=0)
        finally:
            method.network = ours

    def test_a_training_resumes_exactly(self, bases: Path, kind: str) -> None:
        whole, half, resumed = new(bases / kind), new(bases / kind), new(bases / kind, seed=1)
        train(whole, 4, torch.optim.SGD, 0.5)  # keeps no state of its own
        train(half, 2, torch.optim.SGD, 0.5)
        resumed.load_stored({name: tensor.clone() for name, tensor in half.stored().items()})
        train(resumed, 2, torch.optim.SGD, 0.5)
        assert all(torch.equal(tensor, whole.stored()[name]) for name, tensor in resumed.stored().items())
        with pytest.raises(ValueError, match="does not fit the adapters of rank 8"):
            new(bases / kind, rank=8).load_stored(half.stored())

    def test_a_picture_of_any_size_gets_a_score(self, trained: Any, kind: str) -> None:
        detector = load(describe(str(trained[kind][0])), "cpu", torch.float32)
        found = detector.detect(picture(True, 40, 60))
        assert found.score > 0.5 > detector.detect(picture(False, 40, 60)).score
        assert detector.detect(picture(True, 40, 60)) == found
        assert found.parts["crops"] == 5
        assert sum(found.parts[part] for part in ("p_real", "p_fake", "p_neither")) == pytest.approx(1)
        assert detector.detect(picture(True)).parts["crops"] == 1
        with pytest.raises(ValueError, match="the picture has 60×15 pixels, fewer than a crop of 16×16"):
            detector.detect(picture(True, 15, 60))

    def test_captions_are_those_of_transformers(self, trained: Any, kind: str) -> None:
        """Loss and greedy caption, against the library's own forward pass with image tokens."""
        _, method, _ = trained[kind]
        inputs, bright = batch(method)
        image = [WORDS.index("<image>")] * 4
        word = torch.where(bright, WORDS.index("fake"), WORDS.index("real"))[:, None]
        labels = torch.cat([word, torch.full_like(word, WORDS.index("</s>"))], 1)
        with torch.no_grad():
            if kind == "opt":
                ids = torch.cat([torch.tensor([[*image, WORDS.index("<s>")]]).expand(16, -1), word], 1)
                logits = method.network(**inputs, input_ids=ids).logits[:, -2:]
                loss = torch.nn.functional.cross_entropy(logits.transpose(1, 2), labels)
            else:
                ids = torch.tensor([[*image, WORDS.index("</s>")]]).expand(16, -1)
                loss = method.network(**inputs, input_ids=ids, labels=labels).loss
            assert torch.allclose(method.loss(inputs, bright), loss, atol=1e-5)
            said = method.network.generate(
                inputs["pixel_values"][:1], input_ids=ids[:1, :5], max_new_tokens=4, do_sample=False
            )
        words = [WORDS[token] for token in said[0].tolist() if WORDS[token] in ("real", "fake")]
        assert method.caption(inputs["pixel_values"][:1]) == " ".join(words) == "real"

    def test_captions_that_are_neither_word_are_no_answer(self, trained: Any, kind: str) -> None:
        detector: Any = load(describe(str(trained[kind][0])), "cpu", torch.float32)
        head = detector.network.language_model.lm_head
        weight = head.weight.detach().clone()
        weight[[5, 6, 8]] = weight[[8, 8, 5]]  # now it says dog
        head.weight = torch.nn.Parameter(weight)
        with pytest.raises(ValueError, match=r"captions that are neither real nor fake, such as .dog"):
            detector.detect(picture(False))


def test_words_of_several_tokens_count_whole(opt: Path) -> None:
    write_tokenizer(opt, [*WORDS[:5], "real", "<x>", "a", "dog", "fa", "##ke"])
    tokens = json.loads((opt / "tokenizer.json").read_text())
    tokens["model"] = {
        "type": "WordPiece", "unk_token": "<unk>", "continuing_subword_prefix": "##", "max_input_chars_per_word": 100,
        "vocab": tokens["model"]["vocab"],
    }  # fmt: skip
    (opt / "tokenizer.json").write_text(json.dumps(tokens))
    method = new(opt)
    inputs, _ = batch(method)
    found = method.log_likelihoods(inputs["pixel_values"])
    context = method._context(inputs["pixel_values"])
    for place, word in enumerate([(5, 1), (9, 10, 1)]):  # each alone, without padding
        labels = torch.tensor([word]).expand(16, -1)
        logits = method._logits(context, labels, torch.ones_like(labels, dtype=torch.bool)).log_softmax(-1)
        alone = logits.gather(2, labels[..., None]).sum((1, 2))
        assert torch.allclose(found[:, place], alone, atol=1e-5)


def test_larger_crops_are_resized_by_the_processor(bases: Path) -> None:
    method = new(bases / "opt", crop=32)
    assert method.crop == 32
    assert method.inputs(picture(True, 32, 32))["pixel_values"].shape == (3, SIZE, SIZE)


def test_worker_processes_do_not_get_the_network(bases: Path) -> None:
    method = new(bases / "opt")
    sent = pickle.dumps(method.inputs)
    assert len(sent) < 10_000 < (bases / "opt" / "model.safetensors").stat().st_size
    values = [inputs(picture(True))["pixel_values"] for inputs in (method.inputs, pickle.loads(sent))]
    assert torch.equal(*values)


def test_half_precision_is_close(trained: Any) -> None:
    folder, method, _ = trained["opt"]
    inputs, _ = batch(method)
    detector: Any = load(describe(str(folder)), "cpu", torch.bfloat16)
    assert torch.allclose(detector.scores(inputs), method.scores(inputs), atol=0.05)


class TestRefused:
    @pytest.mark.parametrize(
        ("harm", "said"),
        [
            (lambda f: write_tokenizer(f, WORDS[:5]), "has no tokens for the word 'real'"),
            (lambda f: same_tokens(f), "has the same tokens for real and fake"),
            (
                lambda f: write_tokenizer(f, [*WORDS[:5], *"bcdefghijklmn", "real", "fake"]),
                "is of another model: it has token 18, the language model 16 tokens",
            ),
            (lambda f: [path.unlink() for path in f.glob("token*")], "has no tokenizer"),
            (lambda f: (f / "tokenizer.json").write_text("[]"), "cannot be loaded"),
            (lambda f: (f / "preprocessor_config.json").unlink(), "has no image processor"),
            (
                lambda f: (f / "preprocessor_config.json").write_text(
                    '{"image_processor_type": "BlipImageProcessor", "size": {"height": 8, "width": 8}}'
                ),
                r"makes \(3, 8, 8\), the vision tower takes \(3, 16, 16\)",
            ),
            (lambda f: change(f, model_type="clip"), "holds a clip; expected blip-2"),
            (lambda f: lose_a_tensor(f), r"is not a whole Blip2ForConditionalGeneration: missing keys: \S*q_proj"),
        ],
    )
    def test_a_base(self, opt: Path, harm: Callable[[Path], object], said: str) -> None:
        harm(opt)
        with pytest.raises(MethodError, match=said):
            new(opt)

    def test_a_pickle(self, opt: Path) -> None:
        (opt / "model.safetensors").rename(opt / "pytorch_model.bin")
        with pytest.raises(MethodError, match=r"pytorch_model.bin is a pickle"):
            new(opt)

    def test_code_of_a_folder_is_not_run(self, opt: Path, tmp_path: Path) -> None:
        (opt / "evil.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\n")
        evil = {"AutoConfig": "evil.C", "AutoModel": "evil.M", "AutoImageProcessor": "evil.P"}
        change(opt, auto_map=evil)
        new(opt)
        assert not (tmp_path / "ran").exists()

    def test_a_base_of_another_size(self, opt: Path, tmp_path: Path) -> None:
        first = register_folder("blip2", opt)
        new("blip2").save(tmp_path / "method", Calibration(), {})
        assert describe(str(tmp_path / "method")).base == "blip2"
        second = register_folder("blip2", write_blip2(tmp_path / "other", width=16))
        with pytest.raises(MethodError) as caught:
            describe(str(tmp_path / "method"))
        for word in (first.digest, second.digest, "text hidden_size 32", "text hidden_size 16"):
            assert word in str(caught.value)
        path = tmp_path / "method/method.json"
        path.write_text(path.read_text().replace(first.digest, second.digest))
        with pytest.raises(MethodError, match=r"k_proj has \(16, 32\), the network \(16, 16\)"):
            load(describe(str(tmp_path / "method")), "cpu", torch.float32)

    @pytest.mark.parametrize(
        ("harm", "said"),
        [
            (lambda f: (f / "adapter_model.safetensors").unlink(), "adapter_model.safetensors is missing"),
            (lambda f: (f / "adapter_model.safetensors").write_bytes(b"x" * 99), "is damaged or not a safetensors"),
            (lambda f: lose_a_tensor(f), r"the adapters of \S* are missing"),
            (lambda f: (f / "adapter_config.json").write_text('{"r": "1"}'), "r is '1' and lora_alpha is None"),
            (lambda f: change(f, settings={"crop": -1}), "crop is -1; expected a number of pixels"),
            (lambda f: change(f, calibration={"x": 1}), "method.json cannot be understood"),
            (lambda f: change(f, format=2), "format 2, this version reads 1"),
        ],
    )
    def test_a_method(self, trained: Any, tmp_path: Path, harm: Callable[[Path], object], said: str) -> None:
        folder = Path(shutil.copytree(trained["opt"][0], tmp_path / "method"))
        harm(folder)
        with pytest.raises(MethodError, match=said):
            load(describe(str(folder)), "cpu", torch.float32)

    @pytest.mark.parametrize("options", [{"adapt": "svd"}, {"targets": ("v_proj",)}])
    def test_options(self, bases: Path, options: dict[str, Any]) -> None:
        with pytest.raises(UserError, match="bi-lora adapts the query and key projections"):
            new(bases / "opt", **options)


def change(folder: Path, **keys: Any) -> None:
    path = next(folder / name for name in ("method.json", "config.json") if (folder / name).is_file())
    path.write_text(json.dumps(json.loads(path.read_text()) | keys))


def same_tokens(folder: Path) -> None:
    path = folder / "tokenizer.json"
    tokens = json.loads(path.read_text())
    tokens["model"]["vocab"]["fake"] = tokens["model"]["vocab"]["real"]
    path.write_text(json.dumps(tokens))


def lose_a_tensor(folder: Path) -> None:
    (path,) = folder.glob("*.safetensors")
    tensors = load_file(path)
    del tensors[next(name for name in sorted(tensors) if "q_proj" in name)]
    save_file(tensors, path, metadata={"format": "pt"})
