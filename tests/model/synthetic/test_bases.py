"""Folders of transformers models: what counts, what changes the digest, and what is refused and named."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from model import registry
from model.calibration import Calibration
from model.registry import REGISTRY_FILE, BasesError
from model.synthetic import MethodError
from model.synthetic.bases import bound_base, find_base, load_processor, register_folder
from model.synthetic.method_folder import Description, method_of

WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"


@pytest.fixture(autouse=True)
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("CLUE_CONFIG", str(tmp_path / "config"))
    return tmp_path / "config"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    place = tmp_path / "clip"
    place.mkdir()
    (place / "config.json").write_text(json.dumps({"model_type": "clip", "auto_map": {"AutoModel": "evil.Model"}}))
    save_file({"a": np.zeros(3, np.float32)}, place / WEIGHTS)
    (place / "tokenizer.json").write_text("{}")
    (place / "README.md").write_text("notes")
    return place


def shard(folder: Path, **names: str) -> None:
    (folder / WEIGHTS).rename(folder / "model-1.safetensors")
    (folder / INDEX).write_text(json.dumps({"weight_map": names}))


def test_a_folder_is_found_by_name_and_by_path_until_it_is_dropped(folder: Path, config: Path) -> None:
    apart = find_base(str(folder))
    assert (apart.name, apart.model_type, apart.added) == (str(folder), "clip", "")
    assert [Path(file.path).name for file in apart.files] == ["config.json", WEIGHTS, "tokenizer.json"]
    base = register_folder("clip", folder)
    assert base.added and base.digest == apart.digest
    assert find_base("clip") == find_base(str(folder)) == base
    assert registry.folders() == {"clip": base} and registry.registered() == {}
    registry.drop("clip")
    with pytest.raises(BasesError, match=r"neither a folder nor the name of a registered one \(there is none\)"):
        find_base("clip")
    assert "folders" not in json.loads((config / REGISTRY_FILE).read_text())  # earlier versions read it


def test_the_digest_is_of_all_files_that_count(folder: Path) -> None:
    digest = find_base(str(folder)).digest
    (folder / "README.md").write_text("other notes")
    assert find_base(str(folder)).digest == digest
    (folder / "tokenizer.json").write_text("{ }")
    assert find_base(str(folder)).digest != digest


def test_a_change_is_noticed(folder: Path) -> None:
    base = register_folder("clip", folder)
    os.utime(folder / WEIGHTS, ns=(1, 1))
    assert find_base("clip") == base and registry.verify(base) == []
    (folder / "added_tokens.json").write_text("{}")
    with pytest.raises(BasesError, match=r"the folder of clip changed since it was added: \S*added_tokens.json is new"):
        find_base("clip")
    (folder / "added_tokens.json").unlink()
    save_file({"a": np.ones(3, np.float32)}, folder / WEIGHTS)
    with pytest.raises(BasesError, match=f"the folder of clip changed since it was added: .*{WEIGHTS}"):
        find_base("clip")
    assert len(registry.verify(base)) == 1


def test_shards_count_with_their_index(folder: Path) -> None:
    shard(folder, a="model-1.safetensors")
    names = [Path(file.path).name for file in find_base(str(folder)).files]
    assert names == ["config.json", "model-1.safetensors", INDEX, "tokenizer.json"]


@pytest.mark.parametrize(
    ("harm", "said"),
    [
        (lambda f: (f / "config.json").unlink(), "config.json is missing"),
        (lambda f: (f / "config.json").write_text("[]"), "expected a JSON object"),
        (lambda f: (f / "config.json").write_text("{}"), "has the model_type 'None'"),
        (lambda f: (f / "config.json").write_text('{"model_type": "../x"}'), "has the model_type '../x'"),
        (
            lambda f: (f / "config.json").write_text('{"model_type": "clip", "quantization_config": {"bits": 4}}'),
            "expected weights that are not quantized",
        ),
        (lambda f: (f / WEIGHTS).rename(f / "pytorch_model.bin"), "pytorch_model.bin is a pickle or the like"),
        (lambda f: (f / WEIGHTS).write_bytes((f / WEIGHTS).read_bytes()[:-1]), f"{WEIGHTS} is damaged"),
        (lambda f: (f / "adapter_config.json").write_text("{}"), "holds an adapter"),
        (lambda f: shard(f, a="model-1.safetensors", b="model-2.safetensors"), "1 of 2 shards are missing: model-2"),
        (lambda f: shard(f, a="../clip/model-1.safetensors"), "expected a safetensors file beside it"),
        (lambda f: shard(f, a="tokenizer.json"), "expected a safetensors file beside it"),
        (lambda f: (f / "vocab.json").mkdir(), "vocab.json is not a regular file"),
    ],
)
def test_what_is_refused(folder: Path, harm: Callable[[Path], object], said: str) -> None:
    harm(folder)
    with pytest.raises(BasesError) as caught:
        register_folder("clip", folder)
    assert said in str(caught.value)
    assert registry.folders() == {}


@pytest.mark.parametrize("name", ["", "a/b", "-x", "x" * 65, "bl ip", ".."])
def test_a_name_is_a_plain_word(folder: Path, name: str) -> None:
    with pytest.raises(BasesError, match="cannot be a name"):
        register_folder(name, folder)


def test_adapters_find_their_base_by_its_digest(folder: Path, tmp_path: Path) -> None:
    base = register_folder("other", folder)
    assert bound_base("clip", base.digest, "runs/x") == base  # registered under another name now
    with pytest.raises(BasesError) as caught:
        bound_base("other", "0" * 64, "runs/x")
    assert f"runs/x was trained on another other: SHA-256 {'0' * 64} there, {base.digest} here" in str(caught.value)
    with pytest.raises(BasesError, match="runs/x needs the base gone: gone is neither a folder nor"):
        bound_base("gone", "0" * 64, "runs/x")


def test_a_model_that_transformers_does_not_know_is_named(folder: Path) -> None:
    pytest.importorskip("transformers")
    (folder / "config.json").write_text('{"model_type": "evil", "auto_map": {"AutoConfig": "evil.Config"}}')
    with pytest.raises(BasesError, match=r"does not know the model_type evil of .*; code that comes with"):
        register_folder("evil", folder)


def test_a_missing_tokenizer_or_image_processor_is_named(folder: Path) -> None:
    pytest.importorskip("transformers")
    (folder / "tokenizer.json").rename(folder / "tokenizer_config.json")
    with pytest.raises(BasesError, match=r"has no tokenizer: expected tokenizer.json"):
        load_processor(find_base(str(folder)), "AutoTokenizer")
    with pytest.raises(BasesError, match=r"has no image processor: expected preprocessor_config.json"):
        load_processor(find_base(str(folder)), "AutoImageProcessor")


def test_without_transformers_it_says_what_to_install(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    base = register_folder("clip", folder)
    with pytest.raises(BasesError, match=r"not installed: pip install 'clue-forensics\[models\]'"):
        load_processor(base, "AutoTokenizer")


def test_torch_is_not_imported_for_a_description() -> None:
    code = "import sys, model.synthetic.bases, model.synthetic.bi_lora; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_pickle_in_the_place_of_a_methods_tensors_is_named(tmp_path: Path) -> None:
    described = Description("bi-lora", "blip2", "0" * 64, Calibration(), {})
    described.write(tmp_path)
    (tmp_path / "adapter_model.bin").touch()
    with pytest.raises(MethodError, match=r"adapter_model.safetensors is missing; adapter_model.bin is a pickle"):
        method_of(str(tmp_path), described, ("adapter_model.safetensors",))
