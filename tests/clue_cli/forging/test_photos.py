"""Which photos are found, which masks belong to them, and what cannot be used."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from clue_cli.errors import NothingToScanError, UsageError
from clue_cli.evidence.sandbox.pool import DecodePool
from clue_cli.evidence.streams import DecodeLimits
from clue_cli.forging import photos as module
from clue_cli.forging.photos import Found, PhotoFailure, SandboxReader, apart, find, match_masks
from model.data.source_photos import Cutout, SourcePhotos
from tests.clue_cli.forging.conftest import write_mask, write_photo
from tests.model.data.made import touch


@pytest.fixture(scope="module")
def pool() -> Iterator[DecodePool]:
    with DecodePool(1, DecodeLimits(max_megapixels=0.1, max_pages=1)) as made:
        yield made


def test_find_lists_pictures_in_order_and_nothing_else(photos: Path, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("no picture")
    (tmp_path / ".hidden.jpg").write_bytes(b"x")
    found = find([photos, tmp_path], hidden=False, exclude=None)
    assert [locator for locator, _, _ in found.items] == [
        "photos/more/cat.png",
        "photos/p0.jpg",
        "photos/p1.jpg",
        "photos/p2.jpg",
    ]
    assert found.failures == ()
    assert found.digest() == find([photos], hidden=False, exclude=None).digest()
    assert len(find([tmp_path], hidden=True, exclude=None).items) == 1


@pytest.mark.parametrize(("name", "said"), [("absent", "Not found"), ("", "no picture to forge from")])
def test_nothing_to_forge_from(name: str, said: str, tmp_path: Path) -> None:
    with pytest.raises(NothingToScanError, match=said):
        find([tmp_path / name], hidden=False, exclude=None)


@pytest.mark.parametrize(
    ("mask", "photo"),
    [
        ("m/p0.png", "a/p0.jpg"),
        ("m/train_p0_17.png", "a/p0.jpg"),
        ("m/x_p0_b_2.png", "a/p0_b.jpg"),
        ("m/p00.png", None),
        ("m/same.png", None),
        ("m/one/same.png", "a/one/same.jpg"),
        ("m/" + "_" * 200 + ".png", None),
    ],
)
def test_masks_belong_to_photos_by_name(mask: str, photo: str | None) -> None:
    names = ["a/p0.jpg", "a/p0_b.jpg", "a/one/same.jpg", "a/two/same.jpg"]
    found = Found(tuple((name, Path(name), 1) for name in names), ())
    cutouts, problems = match_masks(found, Found(((mask, Path(mask), 1),), ()))
    assert [names[c.photo] for c in cutouts] == ([] if photo is None else [photo])
    assert len(problems) == (photo is None)


def test_masks_without_a_photo_are_counted_and_some_named() -> None:
    photos, masks = (
        Found(tuple((name, Path(name), 1) for name in names), ())
        for names in (
            ["a/one/x.jpg", "a/two/x.jpg", "a/y.jpg"],
            ["m/x.png", "m/y.png", *(f"m/{n}.png" for n in "abcd")],
        )
    )
    assert match_masks(photos, masks)[1] == [
        "4 of 6 masks belong to no photo; a mask is named after its photo, as in cat_2.png for cat.jpg: "
        "m/a.png, m/b.png, m/c.png, …",
        "1 of 6 masks belong to several photos of one name; such a mask lies in a folder of the same path as its "
        "photo's: m/x.png",
    ]


def sandboxed(found: Found, pool: DecodePool, *, enlarged: bool = False, kept_bytes: int = 10**9) -> SourcePhotos:
    reader = SandboxReader(found, pool, enlarged=enlarged)
    return SourcePhotos([path for _, path, _ in found.items], reader=reader, kept_bytes=kept_bytes)


def test_photos_are_decoded_once_and_few_are_kept(photos: Path, pool: DecodePool) -> None:
    found = find([photos], hidden=False, exclude=None)
    folder = sandboxed(found, pool, kept_bytes=90_000)
    first = folder.photo(1)
    assert first.shape == (120, 160, 3)
    assert folder.photo(1) is first
    assert not first.flags.writeable
    folder.photo(2)
    assert folder.photo(1) is not first
    assert len(folder._recent._kept) == 1


@pytest.mark.parametrize(
    ("size", "said"),
    [((500, 300), "0.1 megapixels|limit is 0.1"), ((200, 40), "at least 64×64"), (None, "ends in the header")],
)
def test_photos_that_cannot_be_used(size: tuple[int, int] | None, said: str, pool: DecodePool, tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    path.write_bytes(b"\xff\xd8\xff nothing") if size is None else write_photo(path, 0, *size)
    folder = sandboxed(find([tmp_path], hidden=False, exclude=None), pool)
    with pytest.raises(PhotoFailure, match=said) as caught:
        folder.photo(0)
    assert caught.value.args[0].endswith("a.jpg")


def test_long_photos(pool: DecodePool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_photo(tmp_path / "a.jpg", 0, 1100, 64)
    found = find([tmp_path], hidden=False, exclude=None)
    assert sandboxed(found, pool).photo(0).shape == (64, 1100, 3)
    with pytest.raises(PhotoFailure, match="1100×64 pixels; with --size, one side may be 16 times the other"):
        sandboxed(found, pool, enlarged=True).photo(0)
    monkeypatch.setattr(module, "LARGEST_SIDE", 100)
    with pytest.raises(PhotoFailure, match="a side may have 100"):
        sandboxed(found, pool).photo(0)
    (tmp_path / "a.jpg").unlink()
    with pytest.raises(PhotoFailure):
        sandboxed(found, pool).photo(0)


def test_object_masks(photos: Path, pool: DecodePool, tmp_path: Path) -> None:
    write_mask(tmp_path / "half.png", 80, 60)
    write_mask(tmp_path / "wide.png", 160, 60)
    folder = sandboxed(find([photos], hidden=False, exclude=None), pool)
    mask = folder.object_mask(Cutout(1, tmp_path / "half.png"))
    assert mask.shape == (120, 160)
    assert mask.any()
    with pytest.raises(PhotoFailure, match="The mask is 160×60, the photo 160×120"):
        folder.object_mask(Cutout(1, tmp_path / "wide.png"))
    Image.new("RGBA", (160, 120), (255, 255, 255, 0)).save(tmp_path / "clear.png")
    with pytest.raises(PhotoFailure, match=r"clear\.png.*transparent in places"):
        folder.object_mask(Cutout(1, tmp_path / "clear.png"))


@pytest.mark.parametrize(
    ("values", "said"),
    [((0, 255), None), ((0, 1), None), ((0, 90), "marks nothing, its brightest grey is 90"), ((0, 0), "marks nothing")],
)
def test_what_is_white_in_an_object_mask(
    photos: Path, pool: DecodePool, tmp_path: Path, values: tuple[int, int], said: str | None
) -> None:
    grey = np.repeat(np.array(values, np.uint8), 80)[None].repeat(120, 0)
    Image.fromarray(grey).save(tmp_path / "p0.png")
    folder = sandboxed(find([photos], hidden=False, exclude=None), pool)
    if said is None:
        assert folder.object_mask(Cutout(1, tmp_path / "p0.png")).sum() == 120 * 80
    else:
        with pytest.raises(PhotoFailure, match=f"The mask {said}"):
            folder.object_mask(Cutout(1, tmp_path / "p0.png"))


@pytest.mark.parametrize(
    ("paths", "folder", "left", "masks"),
    [
        (["d"], "d/m", ["cat.jpg", "dog.png"], ["cat_1.png"]),
        (["d/p"], "d", ["dog.png"], ["cat.jpg", "cat_1.png"]),
        (["d", "d/m/deep"], "d/m", ["cat.jpg", "dog.png", "owl.jpg"], ["cat_1.png"]),
        (["d/cat.jpg"], "d/m", ["cat.jpg"], ["cat_1.png", "owl.jpg"]),
        (["d"], "link", ["cat.jpg", "dog.png"], ["cat_1.png"]),
    ],
)
def test_masks_among_photos_are_no_photos(
    tmp_path: Path, paths: list[str], folder: str, left: list[str], masks: list[str]
) -> None:
    names = ["d/cat.jpg", "d/p/dog.png", "d/m/cat_1.png"]
    touch(tmp_path, *names, *(["d/m/deep/owl.jpg"] if len(paths) > 1 or paths == ["d/cat.jpg"] else []))
    (tmp_path / "link").symlink_to(tmp_path / "d" / "m")
    places, home = [tmp_path / path for path in paths], tmp_path / folder
    listed = (find(some, hidden=False, exclude=None) for some in (places, [home]))
    photos, cutouts = (found.items for found in apart(next(listed), places, next(listed), home))
    assert sorted({path.name for _, path, _ in photos}) == left
    assert sorted(path.name for _, path, _ in cutouts) == masks


def test_photos_and_masks_in_one_folder_are_refused(photos: Path) -> None:
    found = find([photos], hidden=False, exclude=None)
    with pytest.raises(UsageError, match="for the photos and for the masks"):
        apart(found, [photos], found, photos / "more" / "..")


def test_what_clue_forge_wrote_is_left_out(photos: Path, tmp_path: Path) -> None:
    touch(tmp_path, "f/forge.json", "f/images/000000.jpg", "f/masks/000000.png", "g/a.jpg")
    found = find([tmp_path, photos], hidden=False, exclude=None)
    assert "000000.jpg" not in {path.name for _, path, _ in found.items}
    assert "a.jpg" in {path.name for _, path, _ in found.items}
    assert found.left_out == (tmp_path / "f",)
    with pytest.raises(NothingToScanError, match="only what `clue forge` wrote"):
        find([tmp_path / "f"], hidden=False, exclude=None)
