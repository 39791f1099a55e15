"""Entries: every layout, whatever has no partner is told, and no photo is on both sides."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from model.data.datasets import Entry, held_out, list_entries, photos_to_forge, side_of
from model.data.mix import (
    Authentic,
    Forge,
    Layout,
    ListFile,
    MaskFolder,
    MixError,
    NamedSet,
    Pairs,
    Source,
    Validation,
)


def touch(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return root


def told(root: Path, entries: list[Entry]) -> list[tuple[str, str | None, str]]:
    return [(str(e.image.relative_to(root)), e.mask and str(e.mask.relative_to(root)), e.group) for e in entries]


def named(layout: Layout, root: Path) -> Source:
    return Source(layout, 1, NamedSet(layout, root), "mix.yaml, line 3")


def test_pairs_by_stem_never_by_order(tmp_path: Path) -> None:
    touch(
        tmp_path, "i/b.jpg", "i/a.PNG", "i/deep/c.tif", "i/lonely.jpg", "i/a.webp", "i/notes.txt", "i/.hidden.jpg",
        "m/a_gt.png", "m/b_gt.png", "m/b_gt.bmp", "m/deep/c_gt.png", "m/d_gt.png", "m/e.png", "m/Thumbs.db",
    )  # fmt: skip
    found = list_entries(Source("s", 1, Pairs(tmp_path / "i", tmp_path / "m", "_gt")))
    assert told(tmp_path, found.entries) == [
        ("i/a.PNG", "m/a_gt.png", "a"),
        ("i/b.jpg", "m/b_gt.bmp", "b"),
        ("i/deep/c.tif", "m/deep/c_gt.png", "c"),
    ]
    assert [problem.replace(str(tmp_path), "") for problem in found.problems] == [
        "/i: files that are not read as pictures: 1 × .txt",
        "/m/b_gt.png: the same name as b_gt.bmp, which is used",
        "/m/e.png: not named like a mask",
        "/i/a.webp: the same name as a.PNG, which is used",
        "/i/lonely.jpg: no mask",
        "/m/d_gt.png: no image",
    ]


def test_images_and_masks_in_one_folder(tmp_path: Path) -> None:
    touch(tmp_path, "a.jpg", "a_mask.png")
    found = list_entries(Source("s", 1, Pairs(tmp_path, tmp_path, "_mask", re.compile("^(.)"))))
    assert told(tmp_path, found.entries) == [("a.jpg", "a_mask.png", "a")]
    assert not found.problems


def test_links_to_folders_are_told_not_followed(tmp_path: Path) -> None:
    touch(tmp_path, "p/a.jpg", "q/b.jpg")
    (tmp_path / "p" / "loop").symlink_to(tmp_path / "p")
    (tmp_path / "p" / "c.jpg").symlink_to(tmp_path / "q" / "b.jpg")
    found = list_entries(Source("s", 1, Authentic((tmp_path / "p",))))
    assert [entry.image.name for entry in found.entries] == ["a.jpg", "c.jpg"]
    assert found.problems == [f"{tmp_path}/p/loop: a link to a folder, which is not followed"]


def test_an_empty_set_is_told(tmp_path: Path) -> None:
    (tmp_path / "i").mkdir()
    (tmp_path / "m").mkdir()
    for data in (Pairs(tmp_path / "i", tmp_path / "m"), Authentic((tmp_path / "i",))):
        found = list_entries(Source("mine", 1, data))
        assert not found.entries
        assert found.problems == ["mine: no image that can be used"]


def test_a_fraction_is_chosen_by_name(tmp_path: Path) -> None:
    touch(tmp_path, *(f"p/{n}.jpg" for n in range(300)))
    photos = (tmp_path / "p",)
    some, more, none = (
        list_entries(Source("s", 1, Authentic(photos, fraction=fraction))) for fraction in (0.1, 0.3, 0.0)
    )
    assert 10 < len(some.entries) < 60
    assert set(some.entries) < set(more.entries)
    assert none.problems == ["s: the fraction 0 leaves no image"]


def test_an_authentic_photo_in_two_folders_of_a_source_counts_once(tmp_path: Path) -> None:
    touch(tmp_path, "p/a.jpg", "p/q/b.jpg")
    found = list_entries(Source("s", 1, Authentic((tmp_path / "p", tmp_path / "p" / "q"))))
    assert told(tmp_path, found.entries) == [("p/a.jpg", None, "a"), ("p/q/b.jpg", None, "b")]


LISTS = {
    "csv": ("l.csv", "image,mask,photo\na.jpg,a.png,one\nb.jpg,,\n"),
    "csv of another program": ("l.csv", "\ufeffphoto,image,x,mask\r\none,a.jpg,,a.png\r\n,b.jpg,,\r\n"),
    "jsonl": ("l.jsonl", '{"image": "a.jpg", "mask": "a.png", "photo": "one"}\n\n{"image": "b.jpg", "mask": null}\n'),
}  # fmt: skip


@pytest.mark.parametrize(("name", "text"), LISTS.values(), ids=LISTS.keys())
def test_list(tmp_path: Path, name: str, text: str) -> None:
    touch(tmp_path, "a.jpg", "a.png", "b.jpg")
    (tmp_path / name).write_bytes(text.encode())
    found = list_entries(Source("s", 1, ListFile(tmp_path / name)))
    assert told(tmp_path, found.entries) == [("a.jpg", "a.png", "one"), ("b.jpg", None, "b")]
    assert not found.problems


def test_rows_of_a_list_that_cannot_be_used_are_told(tmp_path: Path) -> None:
    touch(tmp_path, "a.jpg")
    os.mkfifo(tmp_path / "pipe.jpg")
    (tmp_path / "l.csv").write_text(
        f"image,mask\na.jpg,\na.jpg,\ngone.jpg,\na.jpg,gone.png\npipe.jpg,\n{'x' * 5000},\n"
    )
    found = list_entries(Source("s", 1, ListFile(tmp_path / "l.csv", re.compile("^(z)"))))
    assert told(tmp_path, found.entries) == [("a.jpg", None, "a")]
    assert [re.search(r"line (\d)", problem)[1] for problem in found.problems] == ["3", "4", "5", "6", "7"]  # type: ignore[index]


WRONG_LISTS = {
    "no header": ("l.csv", b"a.jpg,a.png\n", "line 1: no column `image`"),
    "empty": ("l.csv", b"", "no column `image`"),
    "too many values": ("l.csv", b"image\na.jpg,b\n", "line 2: more values"),
    "no image": ("l.csv", b"image,mask\n,b\n", "line 2: `image` is missing"),
    "quotes": ("l.csv", b'image\n"a', "after line 1"),
    "not UTF-8": ("l.csv", b"image\n\xff\n", "UTF-8"),
    "null byte": ("l.csv", b"image\na\0b\n", None),
    "not json": ("l.jsonl", b'{"image": "a"}\nimage\n', "line 2: not JSON"),
    "no object": ("l.jsonl", b"[1]\n", "line 1: not an object"),
    "no text": ("l.jsonl", b'{"image": {"a": 1}}\n', "no text"),
    "too deep": ("l.jsonl", b"[" * 100_000, "CSV or JSONL"),
}


@pytest.mark.parametrize(("name", "data", "found"), WRONG_LISTS.values(), ids=WRONG_LISTS.keys())
def test_a_list_that_cannot_be_read(tmp_path: Path, name: str, data: bytes, found: str | None) -> None:
    (tmp_path / name).write_bytes(data)
    source = Source("s", 1, ListFile(tmp_path / name))
    if found is None:  # Python 3.11 refuses null bytes, later ones read them
        try:
            assert not list_entries(source).entries
        except MixError:
            return
    else:
        with pytest.raises(MixError, match=re.escape(found)):
            list_entries(source)


def casia2(root: Path) -> Path:
    return touch(
        root, "Au/Au_ani_00001.jpg", "Tp/Tp_D_NRN_S_N_ind00071_cha00063_00472.tif",
        "Tp/Tp_D_NRD_M_B_arc20062_xxx00000_02482.tif",
        "Tp/Tp_S_NNN_S_N_ani00001_ani00001_20094.jpg", "Tp/Tp_S_NNN_S_N_nat00085_nat00085_00680.jpg",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("inside", "truth"),
    [("", "CASIA 2 Groundtruth"), ("CASIA2", "CASIA2/CASIA 2 Groundtruth"), ("CASIA 2.0", "CASIA 2 Groundtruth")],
)
def test_casia2(tmp_path: Path, inside: str, truth: str) -> None:
    tp = casia2(tmp_path / inside) / "Tp"
    stems = sorted(p.stem for p in tp.iterdir())
    masks = [f"{truth}/{stem}_gt{3 if stem.endswith('20094') else ''}.png" for stem in stems[:-1]]
    touch(tmp_path, *masks, f"{truth}/readme.png")
    found = list_entries(named("casia2", tmp_path))
    assert [(e.image.stem, e.mask and e.mask.name, e.photos) for e in found.entries] == [
        ("Au_ani_00001", None, ("ani00001",)),
        (stems[0], f"{stems[0]}_gt.png", ("arc20062",)),
        (stems[1], f"{stems[1]}_gt.png", ("ind00071", "cha00063")),
        (stems[2], f"{stems[2]}_gt3.png", ("ani00001",)),
    ]
    assert [Path(p.split(": ")[0]).stem for p in found.problems] == ["readme", stems[3]]


@pytest.mark.parametrize("inside", ["", "IMD2020"])
def test_imd2020(tmp_path: Path, inside: str) -> None:
    touch(
        tmp_path / inside, "1bl55t/1bl55t_orig.jpg", "1bl55t/c97_0.png", "1bl55t/c97_0_mask.png", "z28/00065_fake.jpg",
        "z28/00065_fake_mask.png", "z28/00065_orig.jpg", "z28/lonely.jpg",
    )  # fmt: skip
    found = list_entries(named("imd2020", tmp_path))
    assert [(e.image.name, e.mask and e.mask.name, e.group) for e in found.entries] == [
        ("1bl55t_orig.jpg", None, "imd2020 1bl55t"),
        ("c97_0.png", "c97_0_mask.png", "imd2020 1bl55t"),
        ("00065_orig.jpg", None, "imd2020 z28"),
        ("00065_fake.jpg", "00065_fake_mask.png", "imd2020 z28"),
    ]
    assert [p.endswith("lonely.jpg: no mask") for p in found.problems] == [True]


@pytest.mark.parametrize("inside", ["", "dataset"])
def test_fantastic_reality(tmp_path: Path, inside: str) -> None:
    touch(
        tmp_path / inside, "ColorRealImages/IMG_0000001.jpg", "ColorFakeImages/IMG_0000001_IMG_0000002.jpg",
        "SegmentationFake/IMG_0000001_IMG_0000002.npz",
    )  # fmt: skip
    found = list_entries(named("fantastic-reality", tmp_path))
    assert [(e.image.name, e.mask and e.mask.suffix, e.group) for e in found.entries] == [
        ("IMG_0000001.jpg", None, "IMG_0000001"),
        ("IMG_0000001_IMG_0000002.jpg", ".npz", "IMG_0000001+IMG_0000002"),
    ]
    assert not found.problems


def test_tampcoco(tmp_path: Path) -> None:
    touch(
        tmp_path, "sp_images/88_000000013140.jpg_000000574443.jpg_RT-5.8_RS1.18.jpg",
        "sp_masks/88_000000013140.png_000000574443.png_RT-5.8_RS1.18.png",
        "cm_images/90_000000484327.jpg_000000484327.jpg.jpg", "cm_masks/90_000000484327.png_000000484327.png.png",
        "bcmc_images/98_000000418435_aligned_Q76.jpg_000000418435_aligned_Q76.jpg_RS0.95_aligned_Q76.jpg",
        "bcm_masks/98_000000418435.png_000000418435.png_RS0.95.png", "bcm_masks/of_another_part.png",
    )  # fmt: skip
    found = list_entries(named("tampcoco", tmp_path))
    assert [(e.image.parent.name, e.mask and e.mask.parent.name, e.group) for e in found.entries] == [
        ("cm_images", "cm_masks", "000000484327"),
        ("sp_images", "sp_masks", "000000013140+000000574443"),
        ("bcmc_images", "bcm_masks", "000000418435"),
    ]
    assert not found.problems


def test_defacto(tmp_path: Path) -> None:
    touch(
        tmp_path, "splicing_1_img/img/0_000000195755.tif", "splicing_1_annotations/probe_mask/0_000000195755.jpg",
        "inpainting/inpainting_img/img/7_000000000071.tif",
        "inpainting/inpainting_annotations/probe_mask/7_000000000071.jpg",
    )  # fmt: skip
    found = list_entries(named("defacto", tmp_path))
    assert [(e.image.name, e.group) for e in found.entries] == [
        ("7_000000000071.tif", "000000000071"),
        ("0_000000195755.tif", "000000195755"),
    ]
    assert not found.problems


@pytest.mark.parametrize(
    ("layout", "folder"),
    [
        ("casia2", "CASIA 2.0/Tp"),
        ("fantastic-reality", "dataset/ColorFakeImages"),
        ("tampcoco", "cm_images"),
        ("defacto", "splicing_1_img"),
    ],
)
def test_a_named_set_without_its_folders(tmp_path: Path, layout: Layout, folder: str) -> None:
    with pytest.raises(MixError, match=f"mix.yaml, line 3: there is no folder `{folder}`.+published layout"):
        list_entries(named(layout, tmp_path))


def test_photos_to_forge_are_no_entries(tmp_path: Path) -> None:
    with pytest.raises(MixError, match="a source of files"):
        list_entries(Source("s", 1, Forge((tmp_path,))))


def test_a_folder_that_may_not_be_listed_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def walk(folder: Path, onerror: Callable[[OSError], None]) -> list[object]:
        onerror(PermissionError(13, "Permission denied", str(folder)))
        return []

    monkeypatch.setattr(os, "walk", walk)
    found = list_entries(Source("s", 1, Authentic((tmp_path,))))
    assert found.problems[0] == f"{tmp_path}: Permission denied"


def test_a_photo_is_on_one_side_in_every_source() -> None:
    validation = Validation(0.3, 5)
    photos = [f"photo{n}" for n in range(60)]
    pairs = [Entry(Path("x"), None, (a, b)) for a in photos for b in photos if a != b]
    sides: dict[str | None, set[str]] = {"train": set(), "validation": set(), None: set()}
    for entry in [*pairs, *(Entry(Path("x"), None, (photo,)) for photo in photos)]:
        sides[side_of(entry, validation)].update(entry.photos)
    assert not sides["train"] & sides["validation"]
    assert sides["train"] | sides["validation"] == set(photos)
    assert sides[None] == set(photos)  # splices of both sides are in neither


def test_the_share_and_the_seed_decide() -> None:
    photos = [f"photo{n}" for n in range(2000)]
    chosen = {seed: {p for p in photos if held_out(p, Validation(0.1, seed))} for seed in (0, 1)}
    assert all(140 < len(some) < 260 for some in chosen.values())
    assert chosen[0] != chosen[1]
    assert not any(held_out(p, Validation(0.0)) for p in photos)


def test_photos_to_forge_keep_their_cutouts(tmp_path: Path) -> None:
    touch(tmp_path, *(f"p/{n}.jpg" for n in range(40)), *(f"m/t_{n}_0.png" for n in range(40)), "m/t_x.png")
    data = Forge((tmp_path / "p",), (MaskFolder(tmp_path / "m", "t_"),))
    banks = {
        side: photos_to_forge(data, side, Validation(0.4), tmp_path / "c", lambda path: path.stem != "7")
        for side in ("train", "validation")
    }  # fmt: skip
    stems = {side: {p.stem for p in bank.paths} for side, bank in banks.items()}
    assert stems["train"] | stems["validation"] == {str(n) for n in range(40)} - {"7"}
    assert not stems["train"] & stems["validation"]
    for side, bank in banks.items():
        assert len(bank.cutouts) == len(bank.paths) > 0
        assert all(c.path.stem.split("_")[1] == bank.paths[c.photo].stem for c in bank.cutouts), side
