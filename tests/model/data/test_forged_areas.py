"""Areas of forgeries that are made on the fly: drawn for the purpose, always the same, within limits."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import pytest

import model.data.stream as module
from model.data.description import AREA_EDGES, forged_area_lines
from model.data.forge import forge
from model.data.mix import Authentic, Curriculum, Forge, Mix, Shape, Source, Validation
from model.data.source_photos import SourcePhotos
from model.data.stream import Stream

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
