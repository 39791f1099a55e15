"""An error while a sample is made costs that draw alone: it is told, and the stream goes on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

import model.data.stream as module
from model.data.calibration_pictures import CalibrationPictures
from model.data.forge import forge
from model.data.mix import Authentic, Curriculum, Forge, Mix, Shape, Source, Validation
from model.data.source_photos import SourcePhotos
from model.data.sources import cut
from model.data.stream import TRIES, Stream

ERRORS = {
    "OpenCV": (cv2.error("(-215:Assertion failed)"), "OpenCV: (-215:Assertion failed)"),
    "ValueError": (ValueError("low >= high"), "ValueError: low >= high"),
    "IndexError": (IndexError("empty"), "IndexError: empty"),
    "no memory": (MemoryError(), "MemoryError"),
}


@pytest.fixture
def mix(bank: SourcePhotos) -> Mix:
    folder = bank.paths[0].parent
    sources = (
        Source("made", 1, Forge((folder,), (), Curriculum(0.5, 0.5, 0))),
        Source("photos", 1, Authentic((folder,))),
    )
    return Mix(Path("mix.yaml"), sources, Validation(0, 0, 0), (Shape(64, 64),))


def raising(error: BaseException, real: Any, every: int = 1) -> Any:
    """A function that raises in each call, or in every second one."""
    calls = [0]

    def raises(*arguments: Any, **named: Any) -> Any:
        calls[0] += 1
        if calls[0] % every == 0:
            raise error
        return real(*arguments, **named)

    return raises


@pytest.mark.parametrize(("error", "said"), ERRORS.values(), ids=ERRORS.keys())
def test_a_forgery_that_cannot_be_made_is_skipped_and_told(
    mix: Mix, monkeypatch: pytest.MonkeyPatch, error: Exception, said: str
) -> None:
    untouched = [Stream(mix, seed=2).batch(index, 2) for index in range(8)]
    for name in ("forge", "forge_plainly"):
        monkeypatch.setattr(module, name, raising(error, None))
    batches = [Stream(mix, seed=2).batch(index, 2) for index in range(8)]
    assert all(len(batch.samples) == 2 for batch in batches)
    assert {sample.source for batch in batches for sample in batch.samples} == {"photos"}
    for index, (before, batch) in enumerate(zip(untouched, batches, strict=True)):
        for number, (old, new) in enumerate(zip(before.samples, batch.samples, strict=True)):
            told = f"made: batch {index}, sample {number}: {said}"
            assert (told in batch.damaged) == (old.source == "made")
            if old.source != "made":  # the others are as they were
                assert np.array_equal(old.pixels, new.pixels)


def test_the_next_draw_may_be_a_forgery(mix: Mix, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "forge", raising(cv2.error("odd"), forge, every=2))
    batches = [Stream(mix).batch(index, 2) for index in range(12)]
    assert {sample.source for batch in batches for sample in batch.samples} == {"made", "photos"}
    assert any(batch.damaged for batch in batches)


def test_a_picture_that_cannot_be_cut_is_told_by_name(mix: Mix, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "cut", raising(cv2.error("odd"), cut))
    told = {line for index in range(8) for line in Stream(mix).batch(index, 1).damaged}
    assert any(
        line.startswith("photos, ") and ".png: batch " in line and line.endswith(": OpenCV: odd") for line in told
    )


def test_where_nothing_can_be_made_there_is_no_sample(mix: Mix, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("forge", "forge_plainly", "cut"):
        monkeypatch.setattr(module, name, raising(MemoryError(), None))
    batch = Stream(mix).batch(0, 2)
    assert (batch.samples, len(batch.damaged)) == ([], 2 * TRIES)


def test_a_defect_is_not_passed_over(mix: Mix, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "cut", raising(TypeError("a defect"), None))
    with pytest.raises(TypeError, match="a defect"):
        [Stream(mix).batch(index, 2) for index in range(8)]


def test_pictures_for_the_calibration_are_skipped_too(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from PIL import Image

    rng = np.random.default_rng(0)
    for number in range(60):
        pixels = rng.integers(0, 256, (64, 64, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"{number}.png")
    sources = (Source("made", 1, Forge((tmp_path,))), Source("photos", 1, Authentic((tmp_path,))))
    mix = Mix(Path("mix.yaml"), sources, Validation(0, 0, 0.4), (Shape(32, 32),))
    for name in ("forge", "cut"):
        monkeypatch.setattr(f"model.data.calibration_pictures.{name}", raising(cv2.error("odd"), None))
    pictures = CalibrationPictures(mix)
    assert not pictures.problem
    assert list(pictures.pictures(4)) == []
