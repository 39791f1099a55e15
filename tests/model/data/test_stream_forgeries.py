"""Forgeries that a stream makes on the fly: an error costs one draw, and their areas are drawn within limits."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image

import model.data.stream as module
from model.data.calibration_pictures import CalibrationPictures
from model.data.description import AREA_EDGES, forged_area_lines
from model.data.forge import forge
from model.data.mix import Authentic, Curriculum, Forge, Mix, Shape, Source, Validation
from model.data.source_photos import SourcePhotos
from model.data.sources import cut
from model.data.stream import TRIES, Stream

SMALL = (Shape(64, 64), Shape(64, 96))


@pytest.fixture(autouse=True)
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "DRAWN", 24)


@pytest.fixture
def mix(bank: SourcePhotos) -> Mix:
    folder = bank.paths[0].parent
    sources = (
        Source("photos", 1, Authentic((folder,))),
        Source("made", 1, Forge((folder,))),
        Source("made \x1b[2J", 0.01, Forge((folder,), (), Curriculum(1, 0.5, 10**6))),
    )
    return Mix(Path("mix.yaml"), sources, Validation(0, 0, 0), SMALL)


@pytest.fixture
def two(mix: Mix) -> Mix:
    """One source of files, and one of forgeries, half of them textbook cases."""
    made = Forge(mix.sources[0].data.folders, (), Curriculum(0.5, 0.5, 0))  # type: ignore[union-attr]
    return replace(mix, sources=(mix.sources[0], Source("made", 1, made)), shapes=(Shape(64, 64),))


def test_each_source_has_its_own_and_always_the_same(mix: Mix) -> None:
    stream = Stream(mix)
    before = stream.batch(0, 2)
    areas = stream.forged_areas()
    assert list(areas) == ["made", "made \x1b[2J"]  # as many of the one that is hardly ever drawn
    assert all(len(found) == 24 and 0 < sum(area > 0 for area in found) < 24 for found in areas.values())
    assert areas["made"] != areas["made \x1b[2J"]
    assert areas == Stream(mix).forged_areas() != Stream(mix, seed=1).forged_areas()
    after = stream.batch(0, 2)  # nothing that is trained on has changed
    assert [sample.pixels.tobytes() for sample in before.samples] == [s.pixels.tobytes() for s in after.samples]


def test_as_many_textbook_cases_as_when_the_curriculum_is_over(mix: Mix, monkeypatch: pytest.MonkeyPatch) -> None:
    plainly: list[str] = []

    def forge_plainly(*arguments: Any) -> Any:
        plainly.append("")
        return forge(*arguments)

    monkeypatch.setattr(module, "forge_plainly", forge_plainly)
    Stream(mix).forged_areas()
    assert 4 <= len(plainly) <= 20  # half of the 24 of one source, none of the other


@pytest.mark.parametrize(("pixels", "count"), [(10**9, 24), (16 * 64 * 64, 16), (0, 8)])
def test_fewer_of_large_ones(mix: Mix, monkeypatch: pytest.MonkeyPatch, pixels: int, count: int) -> None:
    monkeypatch.setattr(module, "DRAWN_PIXELS", pixels)
    one = replace(mix, shapes=(Shape(64, 64),), sources=mix.sources[:2])
    assert [len(found) for found in Stream(one).forged_areas().values()] == [count]


def test_lines_say_from_how_many(mix: Mix) -> None:
    lines = forged_area_lines(Stream(mix))
    assert all(line.isprintable() for line in lines)
    assert lines[0] == "made: forged area, of 24 pictures drawn from it:"
    counts = [int(line.split("█")[0].split()[-1]) for line in lines[1 : 1 + len(AREA_EDGES)]]
    assert sum(counts) == 24
    assert lines[1].split()[0] == "authentic"
    assert lines[1 + len(AREA_EDGES)].startswith("made \\x1b[2J: forged area")


def test_where_none_can_be_made(mix: Mix, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise cv2.error("odd")

    monkeypatch.setattr(module, "forge", fail)
    one = replace(mix, sources=mix.sources[:2])
    assert forged_area_lines(Stream(one)) == ["made: forged area, of 0 pictures drawn from it"]


def test_a_mix_of_files_has_none(mix: Mix) -> None:
    assert forged_area_lines(Stream(replace(mix, sources=mix.sources[:1]))) == []


ERRORS = {
    "OpenCV": (cv2.error("(-215:Assertion failed)"), "OpenCV: (-215:Assertion failed)"),
    "ValueError": (ValueError("low >= high"), "ValueError: low >= high"),
    "IndexError": (IndexError("empty"), "IndexError: empty"),
    "no memory": (MemoryError(), "MemoryError"),
}


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
def test_a_forgery_that_cannot_be_made_is_skipped_and_listed(
    two: Mix, monkeypatch: pytest.MonkeyPatch, error: Exception, said: str
) -> None:
    untouched = [Stream(two, seed=2).batch(index, 2) for index in range(8)]
    for name in ("forge", "forge_plainly"):
        monkeypatch.setattr(module, name, raising(error, None))
    batches = [Stream(two, seed=2).batch(index, 2) for index in range(8)]
    assert all(len(batch.samples) == 2 for batch in batches)
    assert {sample.source for batch in batches for sample in batch.samples} == {"photos"}
    for index, (before, batch) in enumerate(zip(untouched, batches, strict=True)):
        for number, (old, new) in enumerate(zip(before.samples, batch.samples, strict=True)):
            line = f"made: batch {index}, sample {number}: {said}"
            assert (line in batch.damaged) == (old.source == "made")
            if old.source != "made":  # the others are as they were
                assert np.array_equal(old.pixels, new.pixels)


def test_the_next_draw_may_be_a_forgery(two: Mix, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "forge", raising(cv2.error("odd"), forge, every=2))
    batches = [Stream(two).batch(index, 2) for index in range(12)]
    assert {sample.source for batch in batches for sample in batch.samples} == {"made", "photos"}
    assert any(batch.damaged for batch in batches)


def test_a_picture_that_cannot_be_cut_is_listed_by_name(two: Mix, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "cut", raising(cv2.error("odd"), cut))
    lines = {line for index in range(8) for line in Stream(two).batch(index, 1).damaged}
    assert lines and all(
        line.startswith("photos, ") and ": batch " in line and line.endswith(": OpenCV: odd") for line in lines
    )


def test_where_nothing_can_be_made_there_is_no_sample(two: Mix, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("forge", "forge_plainly", "cut"):
        monkeypatch.setattr(module, name, raising(MemoryError(), None))
    batch = Stream(two).batch(0, 2)
    assert (batch.samples, len(batch.damaged)) == ([], 2 * TRIES)


def test_a_defect_is_not_passed_over(two: Mix, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "cut", raising(TypeError("a defect"), None))
    with pytest.raises(TypeError, match="a defect"):
        [Stream(two).batch(index, 2) for index in range(8)]


def test_pictures_for_the_calibration_are_skipped_too(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
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
