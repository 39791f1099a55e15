"""Which mask belongs to which photo, what is told of the others, and what of a mask is white."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from model.data.description import describe
from model.data.mix import Forge, MaskFolder, Mix, Source, Validation
from model.data.source_photos import Cutout, SourcePhotos, find_source_photos, of_split, photos_of
from model.images.pixels import DamagedFileError
from tests.model.data.made import touch

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


def test_a_photo_that_is_held_out_keeps_its_masks(tmp_path: Path) -> None:
    names = [f"cat_{n}.jpg" for n in range(40)]
    touch(tmp_path, "p/cat.jpg", *(f"p/{name}" for name in names), *(f"m/{Path(name).stem}.png" for name in names))
    data = Forge((tmp_path / "p",), (MaskFolder(tmp_path / "m"),))
    for side in ("train", "validation"):
        bank = of_split(photos_of(data), side, Validation(0.5, 0, 0))
        assert len(bank.cutouts) > 5
        assert all(bank.paths[c.photo].stem == c.path.stem for c in bank.cutouts)  # `cat` has none of theirs
        assert bank.problems == []


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


def test_masks_without_a_photo_are_told_with_names_that_are_legible(tmp_path: Path) -> None:
    hostile = ("dog\x1b[2J\n.png", os.fsdecode(b"caf\xe9.png"), "x.png", "y.png")
    touch(tmp_path, "p/cat.jpg", "m/cat_1.png", *(f"m/{name}" for name in hostile))
    made = Forge((tmp_path / "p",), (MaskFolder(tmp_path / "m"),))
    (made_of,) = describe(Mix(tmp_path / "mix.yaml", (Source("made", 1, made),), Validation()))
    told = [line.strip() for line in made_of.lines() if "object masks belong" in line]
    assert len(told) == 1
    assert told[0].startswith(f"{tmp_path / 'm'}: 4 of 5 object masks belong to no photo")
    assert told[0].endswith("expected <photo stem>[_anything].png: caf\\udce9.png, dog\\x1b[2J\\n.png, x.png, …")


@pytest.mark.parametrize(
    ("values", "size", "expected"),
    [
        ((0, 255), (8, 8), 32),
        ((0, 1), (8, 8), 32),
        ((0, 1), (16, 16), 128),
        ((0, 90), (8, 8), "its brightest grey is 90 of 255"),
        ((0, 0), (8, 8), "the mask marks nothing"),
    ],
)
def test_what_is_white_in_an_object_mask(
    tmp_path: Path, values: tuple[int, int], size: tuple[int, int], expected: int | str
) -> None:
    Image.new("RGB", size).save(tmp_path / "p.png")
    grey = np.repeat(np.array(values, np.uint8), 4)[None].repeat(8, 0)
    Image.fromarray(grey).save(tmp_path / "m.png")
    bank = SourcePhotos([tmp_path / "p.png"], [Cutout(0, tmp_path / "m.png")])
    if isinstance(expected, int):
        mask = bank.object_mask(bank.cutouts[0])
        assert (mask.shape, mask.dtype.name, int(mask.sum())) == (size[::-1], "bool", expected)
    else:
        with pytest.raises(DamagedFileError, match=rf"m\.png: .*{expected}"):
            bank.object_mask(bank.cutouts[0])


def test_a_mask_of_which_nothing_is_left_marks_nothing(tmp_path: Path) -> None:
    Image.new("RGB", (16, 16)).save(tmp_path / "p.png")
    thin = np.zeros((160, 160), np.uint8)
    thin[0, 0] = 255
    Image.fromarray(thin).save(tmp_path / "m.png")
    bank = SourcePhotos([tmp_path / "p.png"], [Cutout(0, tmp_path / "m.png")])
    with pytest.raises(DamagedFileError, match=r"m\.png: the mask marks nothing"):
        bank.object_mask(bank.cutouts[0])


def test_what_of_the_folders_is_not_read_is_told(tmp_path: Path) -> None:
    touch(tmp_path, "p/a.jpg", "p/b.HEIC", "p/._a.jpg", "p/.thumbnails/a.jpg", "p/__MACOSX/a.jpg", "q/c.jpg")
    touch(tmp_path, "m/a_1.png", "m/._a_1.png", "m/index.json")
    (tmp_path / "p" / "link").symlink_to(tmp_path / "q")
    folders = [tmp_path / "p", tmp_path / "p"]  # twice: no photo is drawn twice as often for it
    bank = find_source_photos(folders, [(tmp_path / "m", "")])
    assert [path.name for path in bank.paths] == ["a.jpg"]
    assert [cutout.path.name for cutout in bank.cutouts] == ["a_1.png"]
    assert bank.problems == [
        f"{tmp_path / 'p' / 'link'}: a link to a folder is not followed",
        f"{tmp_path / 'p'}: files that are not read as pictures: 1 × .heic",
        f"{tmp_path / 'm'}: files that are not read as pictures: 1 × .json",
    ]
    assert bank.part([]).problems == bank.problems
