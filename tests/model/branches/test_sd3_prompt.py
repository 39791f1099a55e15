"""The embeddings of SD3's prompt are those of diffusers; stored ones come back; what is missing or damaged is named."""

from __future__ import annotations

import importlib.util
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from model.branches.sd3_prompt import Prompt, compute, missing_encoders, read_prompt, write_prompt
from model.registry import BasesError
from tests.base_layouts import SMALL, write_prompt_file, write_sd3, write_text_encoders

needs_transformers = pytest.mark.skipif(
    importlib.util.find_spec("transformers") is None, reason="needs transformers, of the extra `models`"
)


@pytest.fixture(scope="module")
def encoders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_text_encoders(write_sd3(tmp_path_factory.mktemp("sd3")))


@needs_transformers
def test_it_is_what_diffusers_computes(encoders: Path) -> None:
    from diffusers import StableDiffusion3Pipeline
    from diffusers.models import AutoencoderKL, SD3Transformer2DModel
    from diffusers.schedulers import FlowMatchEulerDiscreteScheduler
    from transformers import AutoTokenizer, CLIPTextModelWithProjection, T5EncoderModel

    parts = {
        "transformer": SD3Transformer2DModel.from_pretrained(encoders / "transformer"),
        "vae": AutoencoderKL.from_pretrained(encoders / "vae"),
        "scheduler": FlowMatchEulerDiscreteScheduler(),
        "text_encoder_3": T5EncoderModel.from_pretrained(encoders / "text_encoder_3", dtype=torch.bfloat16),
    }
    for suffix in ("", "_2"):
        place = encoders / f"text_encoder{suffix}"
        parts[f"text_encoder{suffix}"] = CLIPTextModelWithProjection.from_pretrained(place, dtype=torch.float32)
    for suffix in ("", "_2", "_3"):
        parts[f"tokenizer{suffix}"] = AutoTokenizer.from_pretrained(
            encoders / f"tokenizer{suffix}", model_max_length=77
        )
    pipeline = StableDiffusion3Pipeline(**parts)
    with torch.inference_mode():
        expected, _, pooled, _ = pipeline.encode_prompt("", "", "", do_classifier_free_guidance=False)
    ours = compute(encoders, SMALL.transformer)
    assert ours.tokens == {"clip": 77, "t5": 256}
    assert ours.prompt.shape == (1, 333, SMALL.transformer.joint_attention_dim)
    torch.testing.assert_close(ours.prompt, expected.float())
    torch.testing.assert_close(ours.pooled, pooled.float())


@needs_transformers
def test_without_t5_there_are_zeros_in_its_place(tmp_path: Path) -> None:
    prompt = compute(write_text_encoders(tmp_path, t5=False), SMALL.transformer)
    assert prompt.tokens == {"clip": 77, "zeros": 256}
    assert not prompt.prompt[:, 77:].any()
    assert prompt.prompt[:, :77].any()


@needs_transformers
@pytest.mark.parametrize(
    ("what", "named"),
    [
        (lambda f: shutil.rmtree(f / "text_encoder_2"), "has no text_encoder_2, which"),
        (lambda f: shutil.rmtree(f / "tokenizer_3"), "has no tokenizer_3, which"),
        (lambda f: (f / "text_encoder/model.safetensors").write_bytes(b"x"), "text_encoder cannot be loaded"),
        (lambda f: (f / "tokenizer/tokenizer.json").write_text("{"), "tokenizer cannot be loaded"),
        (
            lambda f: (f / "text_encoder/model.safetensors").rename(f / "text_encoder/pytorch_model.bin"),
            "text_encoder cannot be loaded",
        ),
    ],
)
def test_what_is_missing_or_damaged_is_named(encoders: Path, tmp_path: Path, what, named: str) -> None:  # type: ignore[no-untyped-def]
    folder = Path(shutil.copytree(encoders, tmp_path / "sd3"))
    what(folder)
    with pytest.raises(BasesError, match=named):
        compute(folder, SMALL.transformer)


@needs_transformers
def test_encoders_of_another_model_are_refused(encoders: Path) -> None:
    from model.presets import SD3_MEDIUM

    with pytest.raises(BasesError, match=r"of another model: widths 24 \(CLIP\), 48 \(T5\), 24 \(pooled\)"):
        compute(encoders, SD3_MEDIUM.transformer)


def test_without_transformers_it_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    with pytest.raises(BasesError, match=r"pip install 'clue-forensics\[models\]', or give stored ones with --prompt"):
        compute(tmp_path, SMALL.transformer)


def test_everything_may_be_missing(tmp_path: Path) -> None:
    assert missing_encoders(tmp_path) == ["text_encoder", "tokenizer", "text_encoder_2", "tokenizer_2"]


def test_what_is_stored_comes_back(tmp_path: Path) -> None:
    prompt = Prompt(torch.randn(1, 5, 48), torch.randn(1, 24), {"clip": 2, "t5": 3})
    write_prompt(tmp_path / "new" / "prompt.safetensors", prompt, {"transformer": "0" * 64})
    again = read_prompt(tmp_path / "new" / "prompt.safetensors", SMALL.transformer)
    assert torch.equal(again.prompt, prompt.prompt)
    assert torch.equal(again.pooled, prompt.pooled)
    assert again.tokens == prompt.tokens


def test_the_names_of_diffusers_are_known_and_the_batch_may_be_left_out(tmp_path: Path) -> None:
    path = tmp_path / "p.safetensors"
    save_file({"prompt_embeds": torch.ones(7, 48).half(), "pooled_prompt_embeds": torch.ones(24).half()}, path)
    prompt = read_prompt(path, SMALL.transformer)
    assert prompt.prompt.shape == (1, 7, 48)
    assert prompt.pooled.dtype == torch.float32
    assert prompt.tokens == {"stored": 7}


@pytest.mark.parametrize(
    ("tensors", "metadata", "named"),
    [
        ({"prompt": (1, 5, 48)}, None, r"no tensor pooled or pooled_prompt_embeds; there is prompt"),
        ({"prompt": (1, 5, 47), "pooled": (1, 24)}, None, r"prompt is \[1, 5, 47\], expected \[1, tokens, 48\]"),
        ({"prompt": (2, 5, 48), "pooled": (1, 24)}, None, r"prompt is \[2, 5, 48\]"),
        ({"prompt": (1, 0, 48), "pooled": (1, 24)}, None, r"prompt is \[1, 0, 48\]"),
        ({"prompt": (1, 5, 48), "pooled": (1, 25)}, None, r"pooled is \[1, 25\], expected \[1, 24\]"),
        ({"prompt": (1, 5, 48), "pooled": (1, 24)}, {"tokens": "[]"}, "its token counts are damaged"),
        ({"prompt": (1, 5, 48), "pooled": (1, 24)}, {"tokens": "{"}, "its token counts are damaged"),
        ({"prompt": (1, 5, 48), "pooled": (1, 24)}, {"tokens": '{"clip": Infinity}'}, "its token counts are damaged"),
    ],
)
def test_other_shapes_are_refused(tmp_path: Path, tensors, metadata, named: str) -> None:  # type: ignore[no-untyped-def]
    path = tmp_path / "p.safetensors"
    save_file({name: torch.zeros(shape) for name, shape in tensors.items()}, path, metadata)
    with pytest.raises(BasesError, match=named):
        read_prompt(path, SMALL.transformer)


def test_values_that_are_not_finite_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "p.safetensors"
    save_file({"prompt": torch.full((1, 5, 48), float("nan")), "pooled": torch.zeros(1, 24)}, path)
    with pytest.raises(BasesError, match="not finite"):
        read_prompt(path, SMALL.transformer)


def test_a_file_that_is_none_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BasesError, match="cannot be read"):
        read_prompt(tmp_path / "missing.safetensors", SMALL.transformer)
    path = write_prompt_file(tmp_path / "p.safetensors")
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(BasesError, match="damaged"):
        read_prompt(path, SMALL.transformer)
