"""One module without its packages, and the same module when the packages come."""

from __future__ import annotations

import importlib
import subprocess
import sys
from pathlib import Path

import pytest

from model.branches.submodule import submodule


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package `heavy` of two levels, whose `__init__` files leave a mark in `sys`."""
    inner = tmp_path / "heavy" / "inner"
    inner.mkdir(parents=True)
    for folder in (inner.parent, inner):
        (folder / "__init__.py").write_text("import sys\nsys.heavy_ran = True\nfrom heavy.inner.one import One\n")
    (inner / "one.py").write_text("from .two import Two\nclass One(Two): pass\n")
    (inner / "two.py").write_text("class Two: pass\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(sys, "heavy_ran", False, raising=False)
    monkeypatch.setattr(sys, "modules", dict(sys.modules))
    return inner


def test_the_packages_are_not_run_and_later_find_the_same_classes(package: Path) -> None:
    one = submodule("heavy.inner.one").One
    assert not sys.heavy_ran  # type: ignore[attr-defined]
    assert "heavy" not in sys.modules
    assert submodule("heavy.inner.one").One is one
    heavy = importlib.import_module("heavy")
    assert sys.heavy_ran  # type: ignore[attr-defined]
    assert heavy.One is one
    from heavy.inner.one import Two  # type: ignore[import-not-found]

    assert issubclass(one, Two)


def test_packages_that_are_there_are_used(package: Path) -> None:
    heavy = importlib.import_module("heavy")
    assert submodule("heavy.inner.one").One is heavy.One


def test_a_module_that_needs_its_package_gets_it(package: Path) -> None:
    (package / "two.py").write_text("from heavy import ready\nclass Two: pass\n")
    (package.parent / "__init__.py").write_text("ready = True\n")
    (package / "__init__.py").write_text("")
    assert submodule("heavy.inner.one").One.__name__ == "One"
    assert sys.modules["heavy"].ready


def test_a_package_that_is_missing_is_an_import_error() -> None:
    with pytest.raises(ModuleNotFoundError, match="no_such_package"):
        submodule("no_such_package.inner.one")


def test_the_encoder_comes_without_torchvision_and_is_segment_anythings_own() -> None:
    program = """
import sys
from model.branches.sam_network import build_encoder
from model.branches.sd3_network import build_vae
from model.presets.mini import MINI
encoder = build_encoder(MINI.sam, 3)
heavy = {"torchvision", "diffusers", "transformers", "peft", "accelerate", "torch._dynamo"} & set(sys.modules)
assert not heavy, heavy
import segment_anything
from segment_anything.modeling import ImageEncoderViT
assert isinstance(encoder, ImageEncoderViT)
from segment_anything.modeling.image_encoder import ImageEncoderViT as same
assert same is ImageEncoderViT
"""
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
