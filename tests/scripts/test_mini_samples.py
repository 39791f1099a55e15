"""What `mini` learns from: samples of two sides that share nothing, and the folder that they are kept in."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from model.data.resynthesis import load_autoencoder
from model.self_match import CHANNELS
from tests.drawn_pictures import noise, page

TILES = {(64, 64), (64, 96)}


@pytest.fixture(scope="module")
def sides(
    scripts: SimpleNamespace, data: Path, screens: Path, tmp_path_factory: pytest.TempPathFactory
) -> dict[bool, Any]:
    """The training side and the held-out one."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(scripts.mini_samples, "LARGE_SIDE", 200)
        return {side: scripts.mini_samples.Samples(data, screens, validation=side) for side in (False, True)}


@pytest.mark.parametrize(
    ("name", "model"),
    [
        ("Canon_EOS_5D_1.jpg", "Canon_EOS_5D"),
        ("Canon_EOS_5D_12.jpg", "Canon_EOS_5D_12"),
        ("Nikon_D70_3_crop.jpg", "Nikon_D70"),
        ("Nikon_D70_iptc.jpg", "Nikon_D70"),
        ("Nikon_D70_2_iptc_crop.jpg", "Nikon_D70"),
        ("sfm_fountain_0012.jpg", "sfm_fountain"),
    ],
)
def test_the_name_of_a_file_says_the_camera(scripts: SimpleNamespace, name: str, model: str) -> None:
    assert scripts.mini_samples.camera_model(Path(name)) == model


def test_the_sides_share_no_photo_camera_or_template(scripts: SimpleNamespace, sides: dict[bool, Any]) -> None:
    train, test = sides[False], sides[True]

    def both(found: Callable[[Any], list[Path]], of: Callable[[Path], str] = lambda path: path.name) -> None:
        names = [{of(path) for path in found(side)} for side in (train, test)]
        assert names[0] and names[1] and not names[0] & names[1]

    both(lambda side: side.photos.paths)
    both(lambda side: side.cameras.paths, scripts.mini_samples.camera_model)
    both(lambda side: side.screens.paths, scripts.made_pictures.template)
    both(lambda side: side.pages.paths, scripts.made_pictures.template)
    both(lambda side: [image for image, _ in side.composites])
    assert all(scripts.mini_samples.held_out(path) for path in test.photos.paths)
    for bank in (test.screens, test.pages):
        assert all(path.name.startswith("test-") for path in bank.paths)
    assert len(train.cameras.paths) + len(test.cameras.paths) == 16
    assert set(train.large.paths) < set(train.photos.paths) or train.large.paths == train.photos.paths


@pytest.mark.parametrize("kind", ["small", "native", "splices", "large", "document", "screen", "composite"])
@pytest.mark.usefixtures("small")
def test_every_kind_of_sample(sides: dict[bool, Any], kind: str) -> None:
    tiles = [tile for seed in range(3) for tile in sides[seed == 2].make(seed, 0, kind)]
    assert tiles
    for tile in tiles:
        height, width = tile.mask.shape
        assert (height, width) in TILES
        assert tile.pixels.shape == (height, width, 3) and tile.pixels.dtype == np.uint8
        assert tile.matches.shape == (CHANNELS, height // 8, width // 8)
        assert all(a.flags.c_contiguous for a in (tile.pixels, tile.mask, tile.matches))
    assert {tile.kind.split()[0] for tile in tiles} <= {kind, "camera", "web", "page"}
    if kind in ("splices", "composite"):
        assert any(tile.mask.any() for tile in tiles)
    if kind == "screen":
        assert not any(tile.mask.any() for tile in tiles)


@pytest.mark.usefixtures("small")
def test_a_number_is_a_sample(sides: dict[bool, Any]) -> None:
    first, again, other = ([*sides[False].make(seed, 7, "small")] for seed in (1, 1, 2))
    assert np.array_equal(first[0].pixels, again[0].pixels) and first[0].kind == again[0].kind
    assert not np.array_equal(first[0].pixels, other[0].pixels)


def test_what_is_not_there_is_not_made(
    scripts: SimpleNamespace, data: Path, screens: Path, tmp_path: Path, sides: dict[bool, Any]
) -> None:
    assert set(sides[False].shares) == set(scripts.mini_samples.SHARES)
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "photos").symlink_to(data / "photos")
    poor = scripts.mini_samples.Samples(tmp_path / "data", None, validation=True)
    assert set(poor.shares) == {"small", "native", "splices"}  # nothing is LARGE_SIDE wide


def test_tiles_hold_what_was_forged(scripts: SimpleNamespace) -> None:
    corner = scripts.mini_samples.corner
    mask = np.zeros((768, 1024), bool)
    mask[700:720, 1000:1020] = True
    rng = np.random.default_rng(0)
    seen = set()
    for size in scripts.mini_samples.TILES:
        for _ in range(40):
            (top, left), anywhere = (corner(mask, size, rng, anywhere=free) for free in (False, True))
            assert mask[top : top + size[0], left : left + size[1]].any()
            for a, b in ((top, left), anywhere):
                assert a % 8 == b % 8 == 0 and 0 <= a <= 768 - size[0] and 0 <= b <= 1024 - size[1]
            seen.add(anywhere)
    assert len(seen) > 40
    assert corner(np.zeros((64, 64), bool), (64, 64), rng, anywhere=False) == (0, 0)


def test_pages_come_scanned_or_as_they_are(scripts: SimpleNamespace) -> None:
    plain = page(256, 320)
    found = [scripts.mini_samples.scanned(plain, np.random.default_rng(seed)) for seed in range(40)]
    assert {one.dtype for one in found} == {np.dtype(np.uint8)}
    assert any(np.array_equal(one, plain) for one in found)
    assert any(min(one.shape[:2]) == 256 and one.shape != plain.shape for one in found)
    noisy = [np.abs(np.diff(one[:8, :8].astype(int), axis=0)).mean() > 0.5 for one in found]
    assert 0.2 < np.mean(noisy) < 0.9


# ---- The folder ------------------------------------------------------------------------------------------------------


def sample(scripts: SimpleNamespace, height: int, width: int, kind: str = "camera splice", seed: int = 0) -> Any:
    """Red where it is forged, and so is the first of the maps."""
    pixels, mask = noise(height, width, seed=seed), np.zeros((height, width), bool)
    mask[8 : height // 2, 16 : width // 2] = True
    pixels[mask] = (255, 0, 0)
    matches = np.zeros((CHANNELS, height // 8, width // 8), np.float32)
    matches[0] = mask[::8, ::8]
    matches[1:] = np.random.default_rng(seed).random(matches[1:].shape) / 3
    return scripts.mini_samples.Sample(pixels, mask, matches, kind)


@pytest.mark.parametrize("size", [(64, 64), (24, 40), (72, 48)])
def test_a_tile_comes_back_from_its_file(scripts: SimpleNamespace, tmp_path: Path, size: tuple[int, int]) -> None:
    made = sample(scripts, *size)
    scripts.forge_pool.save(tmp_path, "1-0000003-0", made)
    (path,) = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert path == tmp_path / f"{size[0]}x{size[1]}" / "1-0000003-0.npz"
    back = scripts.forge_pool.load(path)
    assert np.array_equal(back.pixels, made.pixels) and np.array_equal(back.mask, made.mask)
    assert (back.kind, back.matches.dtype, back.mask.dtype) == (made.kind, np.float32, np.bool_)
    np.testing.assert_allclose(back.matches, made.matches, atol=2e-4)


@pytest.mark.usefixtures("small")
def test_what_was_saved_as_a_jpeg_is_kept_as_that(
    scripts: SimpleNamespace, sides: dict[bool, Any], tmp_path: Path
) -> None:
    kinds = ("small", "splices", "composite", "native", "screen")
    tiles = [tile for seed in range(6) for kind in kinds for tile in sides[False].make(seed, 0, kind)]
    assert 0.1 < np.mean([tile.jpeg is not None for tile in tiles]) < 0.95
    for number, tile in enumerate(tiles):
        scripts.forge_pool.save(tmp_path, f"1-{number:07}-0", tile)
        (path,) = tmp_path.glob(f"*/1-{number:07}-0.npz")
        assert np.array_equal(scripts.forge_pool.load(path).pixels, tile.pixels)
        with np.load(path) as stored:
            assert tile.jpeg is None or stored["picture"].tobytes() == tile.jpeg


class Numbers:
    """Samples that say which one they are; some cannot be made."""

    def __init__(self, scripts: SimpleNamespace, odd: tuple[int, ...] = ()) -> None:
        self.scripts, self.odd, self.made = scripts, odd, list[int]()

    def make(self, seed: int, index: int) -> Iterator[Any]:
        if index in self.odd:
            raise ValueError("an odd photo")
        self.made.append(index)
        yield sample(self.scripts, 16, 24, f"number {index}")
        yield sample(self.scripts, 16, 16, f"number {index}")


@pytest.fixture
def kind_to_others(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The process of the tests keeps its priority and its threads."""
    threads = torch.get_num_threads()
    monkeypatch.setattr("os.nice", lambda _: 0)
    yield
    torch.set_num_threads(threads)


@pytest.mark.usefixtures("kind_to_others")
def test_workers_take_turns_and_go_on(
    scripts: SimpleNamespace, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    work = scripts.forge_pool.work
    first, second = Numbers(scripts, odd=(2,)), Numbers(scripts)
    work(first, tmp_path, 1, 0, 2, 5)
    assert first.made == [0, 4]
    assert "sample 2: ValueError('an odd photo')" in capsys.readouterr().err
    work(second, tmp_path, 1, 1, 2, 5)
    assert second.made == [1, 3]
    more, other = Numbers(scripts), Numbers(scripts)
    work(more, tmp_path, 1, 0, 2, 9)
    assert more.made == [6, 8]
    work(other, tmp_path, 2, 0, 1, 2)  # another seed is another pool
    assert other.made == [0, 1]
    names = sorted(path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_file())
    assert names == sorted(
        f"{size}/{name}"
        for size, tile in (("16x24", 0), ("16x16", 1))
        for name in [f"1-{n:07}-{tile}.npz" for n in (0, 1, 3, 4, 6, 8)] + [f"2-{n:07}-{tile}.npz" for n in (0, 1)]
    )


@pytest.mark.usefixtures("kind_to_others")
def test_a_full_disk_ends_it(scripts: SimpleNamespace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scripts.forge_pool, "ROOM", 1e18)
    samples = Numbers(scripts)
    scripts.forge_pool.work(samples, tmp_path, 1, 0, 1, 5)
    assert samples.made == []


@pytest.mark.usefixtures("small", "kind_to_others")
def test_a_pool_is_made(
    scripts: SimpleNamespace, data: Path, screens: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By threads, in these tests."""
    context = SimpleNamespace(Process=threading.Thread)
    monkeypatch.setattr(scripts.forge_pool.multiprocessing, "get_context", lambda _: context)
    words = ["script", "--data", data, "--screens", screens, "--out", tmp_path / "pool", "--count", 6, "--held-out"]
    monkeypatch.setattr(sys, "argv", list(map(str, words)))
    scripts.forge_pool.main()
    tiles = sorted((tmp_path / "pool").glob("*x*/*.npz"))
    assert {int(path.stem.split("-")[1]) for path in tiles} == set(range(6))
    assert all(scripts.forge_pool.load(path).mask.shape in TILES for path in tiles)


def test_a_filler_is_trained_and_one_of_several_is_chosen_by_the_pixels(
    scripts: SimpleNamespace, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ["script", "--data", data, "--out", tmp_path, "--downs", 1, "--channels", 4, "--minutes", 1e-4]
    monkeypatch.setattr(sys, "argv", list(map(str, words)))
    scripts.train_filler.main()
    filler = load_autoencoder(tmp_path)
    pixels = noise(40, 56)
    assert filler(pixels).shape == pixels.shape
    either = scripts.forge_pool.either([lambda pixels: pixels + 1, lambda pixels: pixels + 2])
    added = {int((either(one) - one)[0, 0, 0]) for one in (np.full((8, 8, 3), v, np.uint8) for v in range(9))}
    single = {int((either(one) - one)[0, 0, 0]) for one in (np.full((1, 1, 3), v, np.uint8) for v in range(9))}
    assert added == {1} and single == {1, 2}
