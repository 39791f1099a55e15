"""The scripts about `mini`, on small pictures and with a small network."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import cv2
import pytest

from model.data.filling import load_autoencoder
from tests.drawn_pictures import noise
from tests.scripts.conftest import modules_of_scripts
from tests.shipped_photos import write_root
from tests.tiny_model import write_tiny_model


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_root(tmp_path_factory.mktemp("root"))


def run(name: str, monkeypatch: pytest.MonkeyPatch, *words: object) -> None:
    monkeypatch.setattr(sys, "argv", ["script", *map(str, words)])
    threads = cv2.getNumThreads()
    with modules_of_scripts(name) as scripts:
        for size, value in (("HEIGHT", 64), ("WIDTH", 96)):
            monkeypatch.setattr(getattr(scripts, name), size, value, raising=False)
        getattr(scripts, name).main()
    cv2.setNumThreads(threads)


def test_a_filler_is_trained(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    words = ("--data", root, "--out", tmp_path, "--downs", 1, "--channels", 4, "--minutes", 1e-4)
    run("train_filler", monkeypatch, *words)
    pixels = noise(40, 56)
    assert load_autoencoder(tmp_path)(pixels).shape == pixels.shape


def test_recall_by_trace(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = write_tiny_model(tmp_path / "model")
    words = ("--data", root, "--model", model, "--pictures", 1, "--json", tmp_path / "out.json")
    run("recall_by_trace", monkeypatch, *words)
    found = json.loads((tmp_path / "out.json").read_text())
    assert len(found) == 27 and all(one["recall"]["n"] == one["f1"]["n"] == 1 for one in found.values())


def test_parts_off(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    model = write_tiny_model(tmp_path / "model")
    run("parts_off", monkeypatch, root / "CASIA1", "--model", model, "--every", 2)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 6 and all("'n': 2" in line for line in lines)
