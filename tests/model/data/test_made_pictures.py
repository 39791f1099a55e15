"""Pictures to fit an operating point on: untouched ones and forgeries, in two halves without a common source."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from model.data.made_pictures import SMALL, Made, MadePictures, half_of, small_regions
from model.data.materials import Materials, materials_of
from model.data.mix import load_mix
from tests.model.data.made_mix import small_pictures, write_mix


@pytest.fixture(scope="module")
def materials(tmp_path_factory: pytest.TempPathFactory) -> Materials:
    return materials_of(load_mix(write_mix(tmp_path_factory.mktemp("made"))), "calibration", 200)


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    small_pictures(monkeypatch)
    monkeypatch.setattr("model.data.made_pictures.COPIED", 128)


def made_of(pictures: MadePictures, group: str, seed: int) -> list[Made]:
    return [made for made in pictures.made(seed, {group: 4}, 0) if made.group == group.replace("_", "-")
            and (made.forged or group in ("native", "web"))][-4:]  # fmt: skip


@pytest.mark.parametrize("group", ["native", "web", "copy_moves", "splices", "documents"])
def test_made_pictures_are_whole_and_the_same_each_time(materials: Materials, group: str) -> None:
    pictures, again = (made_of(MadePictures(materials), group, 3) for _ in range(2))
    assert len(pictures) == 4
    for made, same in zip(pictures, again, strict=True):
        assert np.array_equal(made.pixels, same.pixels) and made.source == same.source
        assert made.mask.shape == made.pixels.shape[:2] and made.mask.any() == made.forged
        assert made.half in (0, 1) and made.source
    assert any(made.forged for made in pictures)
    assert len({made.group for made in pictures}) == 1


def test_untouched_pictures_of_every_kind(materials: Materials) -> None:
    held_out = MadePictures(materials)
    found, other = (list(held_out.made(0, {}, part)) for part in (0, 1))
    assert {made.group for made in found} == {"camera", "web", "recompressed", "screen"}
    assert not any(made.forged or made.mask.any() for made in found)
    web, again = ([made for made in found if made.group == group] for group in ("web", "recompressed"))
    assert [made.source for made in web] == [made.source for made in again]
    assert all(not np.array_equal(a.pixels, b.pixels) for a, b in zip(web, again, strict=True))
    shown, hidden = ([made.pixels for made in part if made.group == "screen"] for part in (found, other))
    assert len(shown) == len(hidden) > 1
    assert not any(np.array_equal(a, b) for a in shown for b in hidden)
    assert len(found) == len(other)
    sources = {made.source for made in found}
    halves = {(made.source, made.half) for made in found}
    assert len(halves) == len(sources) and {half for _, half in halves} == {0, 1}


def test_donors_are_of_the_same_half(materials: Materials) -> None:
    held_out, cameras = MadePictures(materials), materials.cameras
    assert cameras is not None
    for number, path in enumerate(cameras.paths):
        bank = held_out._same_half(cameras, number)
        assert bank.paths[0] == path and len(set(bank.paths)) == len(bank.paths)
        assert len({half_of(materials.names["cameras"](other)) for other in bank.paths}) == 1
    sides = [{path.name for path in held_out._half(side, (64, 64)).paths} for side in (0, 1)]
    assert all(sides) and not sides[0] & sides[1]
    assert sides[0] | sides[1] == {path.name for path in materials.photos.paths}
    assert len(held_out._half(0, (512, 520)).paths) == len(sides[0]), "up to 0.4 megapixels every photo is large enough"
    assert not any(held_out._half(side, (640, 640)).paths for side in (0, 1))


def test_small_regions_are_small(materials: Materials) -> None:
    for slot in small_regions(materials.photos, 3):
        made = slot.make()
        assert made is not None and slot.forged and made.forged and 0 < made.mask.mean() < 0.1 > SMALL


def test_what_is_not_there_is_not_made(materials: Materials) -> None:
    poor = MadePictures(replace(materials, cameras=None, pages=None, screens=None))
    found = [made.group for made in poor.made(1, {"native": 2, "documents": 2, "splices": 2, "copy_moves": 2}, 0)]
    assert set(found) == {"web", "recompressed", "splices", "copy-moves"}
    assert poor.photos == len(materials.photos.paths) < MadePictures(materials).photos
