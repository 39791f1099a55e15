"""Photos that are decoded when they are drawn: the same pixels, little room, and damage that shows late."""

from __future__ import annotations

import pickle
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("cv2", reason="the extra `train` is not installed")

from model.data import photos_to_forge as module
from model.data.forge import forge, forge_plainly
from model.data.mix import Forge, Mix, Shape, Source, Validation
from model.data.photo_bank import PhotoBank, bank_of
from model.data.photos_to_forge import decode, free_bytes
from model.data.recent_photos import RecentPhotos
from model.data.stream import Stream
from model.images.pixels import DamagedFileError

SIZES = ((96, 80), (80, 96), (120, 90), (64, 64), (100, 100))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five photos with a mask each, one photo cut off behind its header, and one file that is none. Read it only."""
    root = tmp_path_factory.mktemp("on-demand")
    rng = np.random.default_rng(0)
    for name in ("photos", "masks"):
        (root / name).mkdir()
    for number, (width, height) in enumerate(SIZES):
        suffix = "png" if number == 3 else "jpg"
        pixels = Image.fromarray(rng.integers(0, 256, (9, 9, 3), dtype=np.uint8)).resize((width, height))
        pixels.save(root / "photos" / f"p{number}.{suffix}")
        mask = np.zeros((height, width), np.uint8)
        mask[20:50, 15:50] = 255
        Image.fromarray(mask).save(root / "masks" / f"p{number}_1.png")
    noise = Image.fromarray(rng.integers(0, 256, (80, 80, 3), dtype=np.uint8))
    noise.save(root / "photos" / "p2_cut.png")
    whole = (root / "photos" / "p2_cut.png").read_bytes()
    (root / "photos" / "p2_cut.png").write_bytes(whole[: len(whole) // 2])
    (root / "photos" / "text.jpg").write_text("no picture")
    return root


def new_bank(folder: Path, cache: Path) -> PhotoBank:
    return bank_of([folder / "photos"], [(folder / "masks", "")], cache, share=0, validation=False)


def no_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "free_bytes", lambda folder: 1000)


def too_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_DECODED", 100_000)


@pytest.mark.parametrize(("limited", "damaged"), [(no_room, 2), (too_many, 1)])
def test_the_same_photos_and_samples_without_a_file(
    folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    limited: Callable[[pytest.MonkeyPatch], None],
    damaged: int,
) -> None:
    cached, problems = new_bank(folder, tmp_path / "cached"), list[str]()
    assert decode(cached, problems)
    assert len(problems) == 2
    assert (tmp_path / "cached" / "pixels.bin").stat().st_size == sum(3 * w * h for w, h in SIZES)
    limited(monkeypatch)
    drawn, problems = new_bank(folder, tmp_path / "drawn"), list[str]()
    assert decode(drawn, problems)
    assert len(problems) == damaged
    assert not (tmp_path / "drawn").exists()
    names = {path.name: number for number, path in enumerate(drawn.paths)}
    assert len(names) == 7 - damaged
    for number, path in enumerate(cached.paths):
        other = names[path.name]
        assert drawn.size(other) == cached.size(number)
        assert np.array_equal(drawn.photo(other), cached.photo(number))
        assert not drawn.photo(other).flags.writeable
    if damaged == 1:  # found when it is drawn
        with pytest.raises(DamagedFileError, match=r"p2_cut\.png"):
            drawn.photo(names["p2_cut.png"])
        return
    assert drawn.paths == cached.paths
    for make in (forge, forge_plainly):
        for seed in range(4):
            one, two = (make(bank, np.random.default_rng(seed), 64, 64) for bank in (cached, drawn))
            assert np.array_equal(one.pixels, two.pixels)
            assert np.array_equal(one.mask, two.mask)


def test_parts_share_what_is_kept(folder: Path, tmp_path: Path) -> None:
    bank = new_bank(folder, tmp_path)
    bank.prepare_on_demand()
    assert bank.prepared
    bank.prepare_on_demand()
    bank.prepare()
    assert not list(tmp_path.iterdir())
    part = bank.part([2, 0])
    assert part.photo(1) is bank.photo(0)
    assert part.size(1) == SIZES[0][::-1]
    assert [part.paths[c.photo].stem for c in part.cutouts] == ["p0", "p2"]
    assert part.object_mask(part.cutouts[0]).sum() == 30 * 35


def test_no_photo_that_can_be_read(folder: Path, tmp_path: Path) -> None:
    for paths in ([folder / "photos" / "text.jpg"], []):
        bank = PhotoBank(paths, [], tmp_path)
        assert not decode(bank, [], on_demand=True)
        assert not bank.prepared


def test_what_is_kept_stays_within_its_bytes(folder: Path) -> None:
    paths = sorted((folder / "photos").glob("p?.*"))
    recent = RecentPhotos(3 * 80 * 96 * 2)
    for _ in range(2):
        for path, (width, height) in zip(paths, SIZES, strict=True):
            pixels = recent.photo(path, (height, width))
            assert pixels.shape == (height, width, 3)
            assert (recent.photo(path, (height, width)) is pixels) == (pixels.nbytes <= recent.most)
            assert recent.kept_bytes == sum(kept.nbytes for kept in recent._kept.values()) <= recent.most
    copy = pickle.loads(pickle.dumps(recent))
    assert (copy.most, copy.kept_bytes) == (recent.most, 0)
    none = RecentPhotos(0)
    assert none.photo(paths[0], (80, 96)) is not none.photo(paths[0], (80, 96))


@pytest.mark.parametrize("change", ["gone", "smaller", "turned"])
def test_a_photo_that_changes_after_it_was_listed(tmp_path: Path, change: str) -> None:
    path = tmp_path / "a.png"
    Image.new("RGB", (40, 30)).save(path)
    bank = PhotoBank([path], [], tmp_path / "cache")
    bank.prepare_on_demand()
    path.unlink()
    if change != "gone":
        Image.new("RGB", (30, 40) if change == "turned" else (4, 3)).save(path)
    with pytest.raises(DamagedFileError, match=r"a\.png: (not a file|.*, not 40×30 as when it was listed)"):
        bank.photo(0)


def test_the_room_is_shared_by_the_processes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda place: type("", (), {"free": 1000 if place == tmp_path else 0}))
    for said, expected in (("", 1000), ("4", 250), ("0", 1000), ("-1", 1000), ("many", 1000)):
        monkeypatch.setenv("LOCAL_WORLD_SIZE", said)
        assert free_bytes(tmp_path / "not" / "yet" / "there") == expected


def test_a_stream_on_demand(folder: Path, tmp_path: Path) -> None:
    data = Forge((folder / "photos",))
    mix = Mix(tmp_path / "mix.yaml", (Source("made", 1, data),), Validation(0), shapes=(Shape(64, 64),))
    stream = Stream(mix, cache=tmp_path / "cache", on_demand=True)
    assert [line.split(": ")[0] for line in stream.problems] == [str(folder / "photos" / "text.jpg")]
    first = pickle.loads(pickle.dumps(stream))
    batches = [stream.batch(index, 2) for index in range(8)]
    assert all(len(batch.samples) == 2 for batch in batches)
    damaged = [line for batch in batches for line in batch.damaged]
    assert {Path(line.split(": ")[0]).name for line in damaged} == {"p2_cut.png"}  # passed over and counted
    assert np.array_equal(first.batch(3, 1).samples[0].pixels, batches[3].samples[0].pixels)
    assert not (tmp_path / "cache").exists()
