"""Photos that are decoded when they are drawn: the same pixels, little room, and damage that shows late."""

from __future__ import annotations

import os
import pickle
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
from PIL import Image

from model.data.forge import forge, forge_plainly
from model.data.mix import Forge, MaskFolder, Split, Validation
from model.data.source_photos import SourcePhotos, checked_size, find_source_photos, of_split, photos_of
from model.images.pixels import DamagedFileError
from tests.model.data.made import touch

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


def listed(folder: Path, problems: list[str] | None = None) -> SourcePhotos:
    found = find_source_photos([folder / "photos"], [(folder / "masks", "")])
    return found.checked(lambda path: checked_size(path, 1.0), problems)


def test_what_is_listed_and_what_shows_when_it_is_drawn(folder: Path) -> None:
    problems: list[str] = []
    photos = listed(folder, problems)
    assert [problem.split(": ")[0] for problem in problems] == [str(folder / "photos" / "text.jpg")]
    names = {path.name: number for number, path in enumerate(photos.paths)}
    assert len(names) == 6
    for name, number in names.items():
        if name == "p2_cut.png":
            with pytest.raises(DamagedFileError, match=r"p2_cut\.png"):
                photos.photo(number)
            continue
        with Image.open(photos.paths[number]) as image:
            assert np.array_equal(photos.photo(number), np.asarray(image.convert("RGB")))
        assert photos.size(number) == photos.photo(number).shape[:2]
        assert not photos.photo(number).flags.writeable


def test_what_is_kept_changes_no_sample(folder: Path) -> None:
    paths = [path for path in listed(folder).paths if "cut" not in path.name]
    some, none = SourcePhotos(paths), SourcePhotos(paths, kept_bytes=0)
    for make in (forge, forge_plainly):
        for seed in range(4):
            one, two = (make(photos, np.random.default_rng(seed), 64, 64) for photos in (some, none))
            assert np.array_equal(one.pixels, two.pixels)
            assert np.array_equal(one.mask, two.mask)


def test_a_part_shares_what_is_kept(folder: Path) -> None:
    photos = listed(folder)
    part = photos.part([2, 0])
    assert part.photo(1) is photos.photo(0)
    assert part.size(1) == SIZES[0][::-1]
    assert [part.paths[c.photo].stem for c in part.cutouts] == ["p0", "p2"]
    assert part.object_mask(part.cutouts[0]).sum() == 30 * 35


def test_what_is_kept_stays_within_its_bytes(folder: Path) -> None:
    paths = sorted((folder / "photos").glob("p?.*"))
    photos = SourcePhotos(paths, kept_bytes=3 * 80 * 96 * 2)
    recent = photos._recent
    for _ in range(2):
        for number in range(len(paths)):
            pixels = photos.photo(number)
            assert photos.photo(number) is pixels  # the last one always is
            assert recent.kept_bytes == sum(kept.nbytes for kept in recent._kept.values())
            assert recent.kept_bytes <= recent.most or len(recent._kept) == 1
    copy = pickle.loads(pickle.dumps(photos))._recent
    assert (copy.most, copy.kept_bytes) == (recent.most, 0)


def test_each_side_has_its_photos_with_their_cutouts(tmp_path: Path) -> None:
    touch(tmp_path, *(f"p/{n}.jpg" for n in range(40)), *(f"m/t_{n}_0.png" for n in range(40)), "m/t_x.png")
    (tmp_path / "p" / os.fsdecode(b"caf\xe9.jpg")).touch()
    photos = photos_of(Forge((tmp_path / "p",), (MaskFolder(tmp_path / "m", "t_"),)))

    def size_of(photo: Path) -> tuple[int, int]:
        if not photo.stem.isdigit() or photo.stem == "7":
            raise DamagedFileError(f"{photo}: no")
        return 8, int(photo.stem)

    problems: list[str] = []
    sides = {
        side: of_split(photos, side, Validation(0.4, 0, 0.2)).checked(size_of, problems) for side in get_args(Split)
    }
    assert sorted(path.stem for side in sides.values() for path in side.paths) == sorted(
        str(n) for n in range(40) if n != 7
    )
    assert len(problems) == 2
    for side in sides.values():
        assert len(side.cutouts) == len(side.paths) > 0
        assert side.sizes == [(8, int(path.stem)) for path in side.paths]
        assert all(c.path.stem.split("_")[1] == side.paths[c.photo].stem for c in side.cutouts)


def test_what_clue_forge_wrote_is_left_out(tmp_path: Path) -> None:
    touch(tmp_path, "p/a.jpg", "p/f/forge.json", "p/f/images/000000.jpg", "p/f/masks/000000.png")
    assert find_source_photos([tmp_path / "p"]).paths == [tmp_path / "p" / "a.jpg"]
    (problem,) = find_source_photos([tmp_path / "p"]).problems
    assert problem.startswith(f"{tmp_path / 'p' / 'f'}: made by `clue forge`, left out")
    assert find_source_photos([tmp_path / "p" / "f"]).paths == []


@pytest.mark.parametrize("change", ["gone", "smaller", "turned"])
def test_a_photo_that_changes_after_it_was_listed(tmp_path: Path, change: str) -> None:
    path = tmp_path / "a.png"
    Image.new("RGB", (44, 33)).save(path)
    photos = SourcePhotos([path]).checked(lambda path: checked_size(path, 1.0))
    path.unlink()
    if change != "gone":
        Image.new("RGB", (33, 44) if change == "turned" else (4, 3)).save(path)
    with pytest.raises(DamagedFileError, match=r"a\.png: (not a file|.*, not 44×33 as when it was listed)"):
        photos.photo(0)
