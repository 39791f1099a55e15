"""Made samples: kinds, sides, tiles with the maps of the whole, the pool; a batch is of its number alone."""

from __future__ import annotations

import os
import pickle
from collections import Counter
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
import yaml

from model.config import ConfigError
from model.data.filling import Fillers
from model.data.made import MadeStream, corner
from model.data.making import Kind, Making
from model.data.materials import ROLES, scanned
from model.data.mix import Split, load_mix
from model.data.stream import Batch
from model.self_match import CHANNELS, self_match
from model.training.options import read_options
from tests.drawn_pictures import noise, page
from tests.model.data.made_mix import TILES, recipe, write_mix

SIDES = get_args(Split)
KINDS = get_args(Kind)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("made")
    write_mix(root)
    (root / "mini.yaml").write_text(yaml.safe_dump(recipe()))
    return root


def making(root: Path, **changes: Any) -> Making:
    options = read_options(str(root / "mini.yaml"), [f"made.{key}={value}" for key, value in changes.items()], steps=1)
    assert options.made is not None
    return options.made


def stream(root: Path, side: Split = "train", pool: Path | None = None, seed: int = 1, **changes: Any) -> MadeStream:
    return MadeStream(load_mix(root / "mix.yaml"), side, seed, making(root, **changes), 4, pool)


def same(a: Batch, b: Batch) -> bool:
    return len(a.samples) == len(b.samples) and all(
        x.source == y.source
        and np.array_equal(x.pixels, y.pixels)
        and np.array_equal(x.mask, y.mask)
        and np.array_equal(x.matches, y.matches)
        for x, y in zip(a.samples, b.samples, strict=True)
    )


def test_a_batch_is_of_its_number_alone(root: Path, tmp_path: Path) -> None:
    """Whichever process makes it, in whichever order, with a pool or without."""
    first, other = stream(root, pool=tmp_path), pickle.loads(pickle.dumps(stream(root)))
    batches = [first.batch(index, 3) for index in range(6)]
    assert all(same(other.batch(index, 3), batches[index]) for index in (5, 0, 3))
    files = len(list(tmp_path.rglob("*.npz")))
    again = stream(root, pool=tmp_path)
    assert all(same(again.batch(index, 3), batches[index]) for index in range(6))
    assert len(list(tmp_path.rglob("*.npz"))) == files > 0
    assert not same(stream(root, seed=2).batch(0, 3), batches[0])
    for index, batch in enumerate(batches):
        shape = first.shape(index)
        assert shape in first.shapes
        for sample in batch.samples:
            assert sample.mask.shape == (shape.height, shape.width)
            assert sample.matches is not None
            assert sample.matches.shape == (CHANNELS, shape.height // 8, shape.width // 8)


@pytest.mark.parametrize("kind", KINDS)
def test_each_kind(root: Path, kind: str) -> None:
    """A stream of one kind alone: whole pictures, or tiles of them with the maps of the whole."""
    found = stream(root, **{f"shares.{other}": int(other == kind) for other in KINDS}, recompressed=0)
    number, sources = 0, Counter[str]()
    for number in range(3):
        pixels, mask, name, _ = found._picture(number)
        assert mask.shape == pixels.shape[:2]
        sources[name.split()[0]] += 1
        maps = self_match(pixels)
        for _, sample, _ in found._tiles(number):
            assert sample.matches is not None
            places = [
                (top, left)
                for top in range(0, mask.shape[0] - sample.mask.shape[0] + 1, 8)
                for left in range(0, mask.shape[1] - sample.mask.shape[1] + 1, 8)
                if np.array_equal(pixels[top:, left:][: len(sample.pixels), : sample.pixels.shape[1]], sample.pixels)
            ]
            top, left = places[0]
            height, width = sample.matches.shape[1:]
            assert np.array_equal(maps[:, top // 8 :, left // 8 :][:, :height, :width], sample.matches)
            assert sample.mask.shape in TILES or kind in ("small", "splices", "composite")
    names = {"native": {"camera", "web"}, "document": {"page"}}.get(kind, {kind})
    assert set(sources) <= names
    assert found.forged_areas().keys() <= names


def test_pictures_are_seen_turned_and_several_times(root: Path, tmp_path: Path) -> None:
    found = stream(root, pool=tmp_path, start=2, views=1000, recompressed=0)
    seen = Counter[bytes]()
    for index in range(12):
        for sample in found.batch(index, 4).samples:
            straight = min(
                turned.tobytes()
                for one in (sample.pixels, sample.pixels.transpose(1, 0, 2))
                for turned in (one, one[::-1], one[:, ::-1], one[::-1, ::-1])
            )
            seen[straight] += 1
    assert 1 <= len(seen) <= 6 and max(seen.values()) > 3
    later = stream(root, start=2, views=0.1)
    assert later._pictures(10) > 50 > later._pictures(0) == 2
    assert stream(root, "validation", start=2)._pictures(10) == 2


def test_what_is_wanted_of_a_batch(root: Path, tmp_path: Path) -> None:
    small = {f"shares.{other}": int(other == "small") for other in KINDS}
    for forged in (0.0, 1.0):
        batch = stream(root, pool=tmp_path, forged=forged, **small).batch(1, 12)
        assert np.mean([sample.mask.any() for sample in batch.samples]) == forged


def test_compressed_once_more_with_the_maps_of_before(root: Path) -> None:
    small = {f"shares.{other}": int(other == "small") for other in KINDS}
    both = stream(root, **small, recompressed=1, instead=0)
    (_, first, _), (_, second, file) = both._tiles(3)
    assert np.array_equal(first.matches, second.matches) and np.array_equal(first.mask, second.mask)  # type: ignore[arg-type]
    assert not np.array_equal(first.pixels, second.pixels) and file is not None
    (only,) = stream(root, **small, recompressed=1, instead=1)._tiles(3)
    assert not np.array_equal(first.pixels, only[1].pixels) and only[2] is not None


def test_sides_share_no_photo_no_camera_and_no_template(root: Path) -> None:
    names: dict[str, list[set[str]]] = {role: [] for role in ROLES}
    for side in SIDES:
        there = stream(root, side).materials
        for role in ROLES:
            paths = [s.image for s in there.composites] if role == "composites" else getattr(there, role).paths
            names[role].append({path.stem.split("_")[0 if role in ("screens", "pages") else 1]
                                if "_" in path.stem else path.stem for path in paths})  # fmt: skip
    for sets in names.values():
        assert all(sets)
        assert sum(map(len, sets)) == len(set.union(*sets))


def test_what_is_not_there_is_not_made(root: Path, tmp_path: Path) -> None:
    mix = {"sources": [{"name": "photos", "forge": {"photos": str(root / "photos")}}, {"authentic": str(root)}]}
    (tmp_path / "mix.yaml").write_text(yaml.safe_dump(mix))
    found = MadeStream(load_mix(tmp_path / "mix.yaml"), "train", 1, making(root), 4)
    assert set(found._kinds) == {"small", "splices", "large"}
    assert found.problems == [
        "authentic: the recipe makes pictures of photos, cameras, screens, pages, composites only"
    ]
    for wrong, said in (
        (
            [{"name": "photos", "authentic": str(root / "photos")}],
            "`photos` is of the kind authentic; expected the kind forge",
        ),
        ([{"name": "photos", "forge": str(root / "photos")}], "no sample can be made"),
        ([{"authentic": str(root / "photos")}], "there is no photo to forge from on the train side"),
    ):
        (tmp_path / "mix.yaml").write_text(yaml.safe_dump({"sources": wrong}))
        nothing = {f"shares.{kind}": 0 for kind in ("small", "splices", "large")}
        with pytest.raises(ConfigError, match=said):
            MadeStream(load_mix(tmp_path / "mix.yaml"), "train", 1, making(root, **nothing), 4)


def test_a_picture_that_cannot_be_made_is_passed_over(root: Path, tmp_path: Path) -> None:
    small = {f"shares.{other}": int(other == "small") for other in KINDS}
    found = stream(root, **small)
    for path in found.materials.photos.paths[1:]:
        copy = tmp_path / path.name
        copy.write_bytes(path.read_bytes()[:3000])
        found.materials.photos.paths[found.materials.photos.paths.index(path)] = copy
    batch = found.batch(0, 6)
    assert batch.samples and batch.damaged
    assert all(line.startswith("picture ") for line in batch.damaged)


def test_a_full_disk_costs_time_only(root: Path, tmp_path: Path) -> None:
    (tmp_path / "pool").write_text("")
    assert same(stream(root, pool=tmp_path / "pool").batch(0, 2), stream(root).batch(0, 2))


def test_tiles_hold_what_was_forged() -> None:
    mask = np.zeros((768, 1024), bool)
    mask[700:720, 1000:1020] = True
    rng, seen = np.random.default_rng(0), set()
    for size in ((512, 512), (256, 256)):
        for _ in range(40):
            (top, left), anywhere = (corner(mask, size, rng, anywhere=free) for free in (False, True))
            assert mask[top : top + size[0], left : left + size[1]].any()
            for a, b in ((top, left), anywhere):
                assert a % 8 == b % 8 == 0 and 0 <= a <= 768 - size[0] and 0 <= b <= 1024 - size[1]
            seen.add(anywhere)
    assert len(seen) > 40
    last = np.zeros((251, 75), bool)
    last[-1, -1] = True
    assert corner(last, (64, 64), rng, anywhere=False) == (184, 8), "a tile would end outside of the picture"
    assert corner(np.zeros((64, 64), bool), (64, 64), rng, anywhere=False) == (0, 0)


def test_pages_come_scanned_or_as_they_are() -> None:
    plain = page(256, 320)
    found = [scanned(plain, np.random.default_rng(seed)) for seed in range(40)]
    assert {one.dtype for one in found} == {np.dtype(np.uint8)}
    assert any(np.array_equal(one, plain) for one in found)
    assert any(min(one.shape[:2]) == 256 and one.shape != plain.shape for one in found)
    noisy = [np.abs(np.diff(one[:8, :8].astype(int), axis=0)).mean() > 0.5 for one in found]
    assert 0.2 < np.mean(noisy) < 0.9


def test_one_of_several_fillers_is_chosen_by_the_pixels(monkeypatch: pytest.MonkeyPatch) -> None:
    loaded: list[Path] = []

    def load(folder: Path) -> Any:
        loaded.append(folder)
        return lambda pixels: pixels + int(folder.name)

    monkeypatch.setattr("model.data.filling.load_autoencoder", load)
    fillers = pickle.loads(pickle.dumps(Fillers([Path("1"), Path("2")])))
    added = {int((fillers(one) - one)[0, 0, 0]) for one in (noise(8, 8, seed=seed) for seed in range(9))}
    assert added == {1, 2} and len(loaded) == 2
    assert os.fspath(loaded[0]) in ("1", "2")
