"""Source photos: decoded when they are drawn, kept within limits, and which object mask belongs to which."""

from __future__ import annotations

import os
import pickle
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
from PIL import Image

from model.data.description import describe
from model.data.forge import forge, forge_plainly
from model.data.mix import Forge, MaskFolder, Mix, Source, Split, Validation
from model.data.source_photos import Cutout, SourcePhotos, checked_size, find_source_photos, of_split, photos_of
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


SHARED = "belong to several photos of one name; expected a folder of the same path as the photo's"


@pytest.mark.parametrize(
    ("mask", "photo"),
    [
        ("m/cat.png", "p/cat.jpg"),
        ("m/cat_2.png", "p/cat.jpg"),
        ("m/cat_2_b.png", "p/cat.jpg"),
        ("m/cat_2_b_.png", "p/cat.jpg"),
        ("m/cat_dog_1.png", "p/cat_dog.jpg"),  # the longest
        ("m/cat.PNG", "p/cat.jpg"),
        ("m/deep/er/cat_1.png", "p/cat.jpg"),
        ("m/one/same.png", "p/one/same.jpg"),
        ("m/two/same_1.png", "p/two/same.jpg"),
        ("m/same.png", None),
        ("m/cats.png", None),
        ("m/2_cat.png", None),
        ("m/cat.jpg", None),
        ("m/_.png", None),
        ("m/" + "_" * 200 + ".png", None),
    ],
)
def test_masks_belong_to_photos_by_name(tmp_path: Path, mask: str, photo: str | None) -> None:
    touch(tmp_path, "p/cat.jpg", "p/cat_dog.jpg", "p/one/same.jpg", "p/two/same.jpg", mask)
    found = find_source_photos([tmp_path / "p"], [(tmp_path / "m", "")])
    expected = [(tmp_path / photo, tmp_path / mask)] if photo else []
    assert [(found.paths[c.photo], c.path) for c in found.cutouts] == expected
    assert len(found.problems) == (photo is None)


def test_a_prefix_is_no_pattern_and_a_folder_may_have_several(tmp_path: Path) -> None:
    masks = ("m/[ab]_cat_1.png", "m/a_cat_1.png", "m/b_cat_1.png", "m/c_cat_1.png")
    touch(tmp_path, "p/cat.jpg", *masks)
    folder = tmp_path / "m"
    matched = find_source_photos([tmp_path / "p"], [(folder, "[ab]_"), (folder, "a_")])
    assert [cutout.path.name for cutout in matched.cutouts] == ["[ab]_cat_1.png", "a_cat_1.png"]
    expected = "[ab]_<photo stem>[_anything].png or a_<photo stem>[_anything].png"
    assert matched.problems == [
        f"{folder}: 2 of 4 object masks belong to no photo; expected {expected}: b_cat_1.png, c_cat_1.png"
    ]


def test_photos_of_one_name_do_not_take_each_others_masks(tmp_path: Path) -> None:
    touch(tmp_path, "a/x.jpg", "b/x.jpg", "m/x.png", "m/x_1.png")
    matched = find_source_photos([tmp_path / "a", tmp_path / "b"], [(tmp_path / "m", "")])
    assert (matched.cutouts, matched.problems) == (
        [],
        [f"{tmp_path / 'm'}: 2 of 2 object masks {SHARED}: x.png, x_1.png"],
    )


@pytest.mark.parametrize(
    ("photos", "masks", "prefix", "found", "matched"),
    [
        ("d", "d/m", "", ["cat.jpg", "deep/dog.png"], ["m/cat_1.png"]),
        ("d", "d", "m_", ["cat.jpg", "deep/dog.png", "m/cat_1.png"], ["m_cat.png"]),
        ("d/deep", "d", "", ["deep/dog.png"], []),
    ],
)
def test_masks_among_photos_are_no_photos(
    tmp_path: Path, photos: str, masks: str, prefix: str, found: list[str], matched: list[str]
) -> None:
    touch(tmp_path, "d/cat.jpg", "d/deep/dog.png", "d/m/cat_1.png")
    if prefix:
        touch(tmp_path, "d/m_cat.png")
    bank = find_source_photos([tmp_path / photos], [(tmp_path / masks, prefix)])
    assert [str(path.relative_to(tmp_path / "d")) for path in bank.paths] == found
    assert [str(c.path.relative_to(tmp_path / "d")) for c in bank.cutouts] == matched
    assert not any("dog" in line for line in bank.problems)


def test_masks_without_a_photo_are_listed_with_legible_names(tmp_path: Path) -> None:
    hostile = ("dog\x1b[2J\n.png", os.fsdecode(b"caf\xe9.png"), "x.png", "y.png")
    touch(tmp_path, "p/cat.jpg", "m/cat_1.png", *(f"m/{name}" for name in hostile))
    made = Forge((tmp_path / "p",), (MaskFolder(tmp_path / "m"),))
    (made_of,) = describe(Mix(tmp_path / "mix.yaml", (Source("made", 1, made),), Validation()))
    lines = [line.strip() for line in made_of.lines() if "object masks belong" in line]
    assert len(lines) == 1
    assert lines[0].startswith(f"{tmp_path / 'm'}: 4 of 5 object masks belong to no photo")
    assert lines[0].endswith("expected <photo stem>[_anything].png: caf\\udce9.png, dog\\x1b[2J\\n.png, x.png, …")


@pytest.mark.parametrize(
    ("values", "size", "expected"),
    [
        ((0, 255), (8, 8), 32),
        ((0, 1), (8, 8), 32),
        ((0, 1), (16, 16), 128),
        ((0, 90), (8, 8), "its brightest grey is 90 of 255"),
        ((0, 0), (8, 8), "the mask marks nothing"),
        ((255, *[0] * 199), (8, 8), "the mask marks nothing"),  # what it marked is lost when it is scaled
    ],
)
def test_what_is_white_in_an_object_mask(
    tmp_path: Path, values: tuple[int, ...], size: tuple[int, int], expected: int | str
) -> None:
    Image.new("RGB", size).save(tmp_path / "p.png")
    grey = np.repeat(np.array(values, np.uint8), 4)[None].repeat(4 * len(values), 0)
    Image.fromarray(grey).save(tmp_path / "m.png")
    bank = SourcePhotos([tmp_path / "p.png"], [Cutout(0, tmp_path / "m.png")])
    if isinstance(expected, int):
        mask = bank.object_mask(bank.cutouts[0])
        assert (mask.shape, mask.dtype.name, int(mask.sum())) == (size[::-1], "bool", expected)
    else:
        with pytest.raises(DamagedFileError, match=rf"m\.png: .*{expected}"):
            bank.object_mask(bank.cutouts[0])


def test_files_that_are_not_read_are_listed(tmp_path: Path) -> None:
    touch(tmp_path, "p/a.jpg", "p/b.HEIC", "p/._a.jpg", "p/.thumbnails/a.jpg", "p/__MACOSX/a.jpg", "q/c.jpg")
    touch(tmp_path, "m/a_1.png", "m/._a_1.png", "m/index.json")
    touch(tmp_path, "p/f/forge.json", "p/f/images/000000.jpg", "p/f/masks/000000.png")
    (tmp_path / "p" / "link").symlink_to(tmp_path / "q")
    folders = [tmp_path / "p", tmp_path / "p"]  # twice: no photo is drawn twice as often for it
    bank = find_source_photos(folders, [(tmp_path / "m", "")])
    assert [path.name for path in bank.paths] == ["a.jpg"]
    assert [cutout.path.name for cutout in bank.cutouts] == ["a_1.png"]
    assert bank.problems == [
        f"{tmp_path / 'p' / 'link'}: a link to a folder is not followed",
        f"{tmp_path / 'p' / 'f'}: made by `clue forge`, left out; forgeries.jsonl in it can be given as a list",
        f"{tmp_path / 'p'}: files that are not read as pictures: 1 × .heic",
        f"{tmp_path / 'm'}: files that are not read as pictures: 1 × .json",
    ]
    assert bank.part([]).problems == bank.problems
    assert find_source_photos([tmp_path / "p" / "f"]).paths == []
