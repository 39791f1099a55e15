"""Vision-language models from folders: tiny ones write the same text again, and what cannot be used is named."""

from __future__ import annotations

import json

import pytest
import torch
from PIL import Image

from model.explainer import Explainer, ExplainerError, describe_explainer
from model.registry import BasesError
from tests.tiny_language_models import save_llava, save_qwen

PICTURES = [Image.effect_noise((300, 200), 90).convert("RGB"), Image.new("RGB", (64, 32), "red")]


@pytest.fixture(scope="module", params=[save_llava, save_qwen], ids=["llava", "qwen"])
def folder(request, tmp_path_factory):
    return request.param(tmp_path_factory.mktemp("model"))


def test_a_model_writes_greedily_about_several_pictures(folder):
    base = describe_explainer(str(folder))
    explainer = Explainer(base, "cpu", torch.float32)
    written = explainer.write(PICTURES, "What is this?", 12)
    assert written.text and not written.complete
    assert written == Explainer(base, "cpu", torch.float32).write(PICTURES, "What is this?", 12)
    with pytest.raises(ValueError, match="room for 16384 tokens"):
        explainer.write(PICTURES, "x", 20_000)


def test_a_model_without_a_chat_template_is_refused(folder, tmp_path):
    copy = tmp_path / "copy"
    copy.mkdir()
    for path in folder.iterdir():
        if path.name != "chat_template.jinja":
            (copy / path.name).write_bytes(path.read_bytes())
    with pytest.raises(ExplainerError, match="no chat template"):
        Explainer(describe_explainer(str(copy)), "cpu", torch.float32)


def test_a_model_of_another_layout_or_with_pickles_is_refused(folder, tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "llava"}))
    (tmp_path / "pytorch_model.bin").write_bytes(b"pickle")
    with pytest.raises(BasesError, match=r"pytorch_model\.bin is a pickle"):
        describe_explainer(str(tmp_path))
    for path in folder.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "blip-2"}))
    with pytest.raises(ExplainerError, match="type blip-2; expected one of llava, qwen2_vl"):
        describe_explainer(str(tmp_path))
