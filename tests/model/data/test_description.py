"""What a dry run shows of a mix: lines, and the contact sheet."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from model.data.description import AREA_EDGES, CAPTION, OUTLINE, contact_sheet, describe, marked
from model.data.mix import Authentic, Forge, MaskFolder, Mix, Pairs, Shape, Source, Validation
from model.data.stream import Stream
from model.images.pixels import DamagedFileError
from model.reporter import Reporter


@pytest.fixture(scope="module")
def mix(tmp_path_factory: pytest.TempPathFactory) -> Mix:
    root = tmp_path_factory.mktemp("data")
    for name in ("images", "masks", "photos", "objects"):
        (root / name).mkdir()
    for number in range(20):
        Image.new("RGB", (40 + number, 50)).save(root / "images" / f"c{number}.png")
        mask = np.zeros((50, 40 + number), np.uint8)
        mask[: number if number < 5 else 0] = 255
        Image.fromarray(mask).save(root / "masks" / f"c{number}.png")
        Image.new("RGB", (64, 48)).save(root / "photos" / f"p{number}.png")
        Image.new("L", (64, 48)).save(root / "objects" / f"p{number}_1.png")
    (root / "images" / "c18.png").write_bytes(b"broken")
    Image.new("L", (9, 9)).save(root / "masks" / "c19.png")
    Image.new("L", (9, 9)).save(root / "images" / "alone\x1b[2J\n.png")
    sources = (
        Source("own", 2, Pairs(root / "images", root / "masks")),
        Source("photos", 1, Authentic((root / "photos",))),
        Source("made", 1, Forge((root / "photos",), (MaskFolder(root / "objects"),))),
    )
    return Mix(root / "mix.yaml", sources, Validation(0.3, 2, 0.0))


def test_counts_sizes_areas_and_damage(mix: Mix) -> None:
    own, photos, made = describe(mix)
    assert (own.kind, own.train + own.validation, own.authentic) == ("pairs", 20, 0)
    assert own.validation > 0
    assert own.sizes == [[40, 50], [49, 50], [57, 50]]
    areas = [0.0] * 14 + [number / 50 for number in range(1, 5)]
    bins = [sum(a == 0 for a in areas), *(sum(lo < a <= hi for a in areas) for lo, hi in pairwise(AREA_EDGES))]
    assert own.forged_area == bins
    assert [Path(line.split(": ")[0]).name for line in own.damaged] == ["c18.png", "c19.png"]
    assert len(own.problems) == 1
    assert (photos.authentic, photos.sizes[0], sum(photos.forged_area)) == (20, [64, 48], 0)
    assert (made.kind, made.train + made.validation, made.cutouts) == ("forge", 20, 20)
    assert (made.train, made.validation) == (photos.train, photos.validation)


def test_lines_are_for_a_terminal(mix: Mix) -> None:
    lines = [line for source in describe(mix) for line in source.lines(most=1)]
    assert all(line.isprintable() for line in lines)
    text = "\n".join(lines)
    for expected in (
        "own (pairs, weight 2): 20 images",
        "sizes smallest 40×50, median 49×50, largest 57×50",
        "forged area, of 18 masks:",
        "        nothing      14 " + "█" * 30,
        "  14 of 18 masks mark nothing: their images count as authentic (empty_masks)\n",
        "c0.png\n    and 13 more\n",
        "damaged: 2",
        "and 1 more",
        "left out: 1",
        "alone\\x1b[2J\\n.png: no mask",
        "made (forge, weight 1): 20 photos to forge from",
        "object masks 20",
    ):
        assert expected in text


def test_masks_that_look_inverted_are_a_warning(tmp_path: Path) -> None:
    for name in ("images", "masks"):
        (tmp_path / name).mkdir()
    for number in range(4):
        Image.new("RGB", (64, 64)).save(tmp_path / "images" / f"{number}.png")
        mask = np.zeros((64, 64), np.uint8)
        mask[20:40, 20:40] = 255
        Image.fromarray(mask).save(tmp_path / "masks" / f"{number}.png")
    for wrong in (False, True):
        pairs = Pairs(tmp_path / "images", tmp_path / "masks", inverted=wrong)
        (own,) = describe(Mix(tmp_path / "mix.yaml", (Source("own", 1, pairs),), Validation()))
        assert any("warning: 4 of 4 masks mark most of the image" in line for line in own.lines()) is wrong


def test_of_a_large_set_some_masks_are_decoded_and_all_sizes_compared(mix: Mix) -> None:
    whole, some = describe(mix, most=0)[0], describe(mix, most=5)[0]
    assert sum(some.forged_area) <= 5 < sum(whole.forged_area)
    assert some.damaged == whole.damaged
    assert some.sizes == whole.sizes


def test_sources_without_images_are_listed(tmp_path: Path) -> None:
    mix = Mix(
        tmp_path / "mix.yaml",
        (Source("a", 1, Forge((tmp_path,))), Source("b", 1, Authentic((tmp_path,)))),
        Validation(),
    )
    lines = [line for source in describe(mix) for line in source.lines()]
    assert "    no photo to forge from" in lines
    assert "    b: no image that can be used" in lines


@pytest.fixture
def cut_off(tmp_path: Path) -> Mix:
    """Six pairs: an image, a mask and a photo to forge from end in the middle of their pixels."""
    rng = np.random.default_rng(0)
    for name in ("images", "masks", "photos"):
        (tmp_path / name).mkdir()
        for number in range(6):
            suffix = "jpg" if name == "photos" else "png"
            pixels = rng.integers(0, 256, (64, 64, 3), dtype=np.uint8)
            mask = (pixels[..., 0] > 127).astype(np.uint8) * 255
            Image.fromarray(mask if name == "masks" else pixels).save(tmp_path / name / f"{number}.{suffix}")
    for name in ("images/1.png", "masks/2.png", "photos/3.jpg"):
        path = tmp_path / name
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    sources = (
        Source("own", 1, Pairs(tmp_path / "images", tmp_path / "masks")),
        Source("made", 1, Forge((tmp_path / "photos",))),
    )
    return Mix(tmp_path / "mix.yaml", sources, Validation(0.3, 2))


def test_damage_behind_a_header_shows_when_all_is_decoded(cut_off: Mix) -> None:
    assert not any(line.count("1.png") for source in describe(cut_off) for line in source.damaged)
    events: list[object] = []

    class Events(Reporter):
        def stage(self, title: str, unit: str, total: int | None = None, *, done: int = 0) -> None:
            events.append((title, unit, total))

        def advance(self, n: int = 1, status: str | None = None, *, reused: bool = False) -> None:
            events.append(n)

    own, made = describe(cut_off, most=2, decode=True, reporter=Events())
    assert [Path(line.split(": ")[0]).name for line in own.damaged] == ["1.png", "2.png"]
    assert [Path(line.split(": ")[0]).name for line in made.damaged] == ["3.jpg"]
    assert sum(own.forged_area) == 4  # every mask, whatever `most` says
    assert events == [("Reading own", "images", 6), *[1] * 6, ("Reading made", "photos", 6), *[1] * 6]


def test_masks_that_mark_nothing_can_be_damage(mix: Mix) -> None:
    own = mix.sources[0]
    assert isinstance(own.data, Pairs)
    strict = replace(mix, sources=(replace(own, data=replace(own.data, empty_masks="damaged")),))
    (found,) = describe(strict)
    assert (found.forged_area[0], len(found.damaged)) == (0, 16)
    assert sum("the mask marks nothing" in line for line in found.damaged) == 14


@pytest.mark.parametrize("decode", [False, True])
def test_photos_and_object_masks_that_cannot_be_used(tmp_path: Path, decode: bool) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "objects").mkdir()
    for number in range(5):
        Image.new("RGB", (64, 48)).save(tmp_path / "photos" / f"p{number}.png")
        Image.new("L", (64, 48)).save(tmp_path / "objects" / f"p{number}.png")
    Image.new("L", (48, 64)).save(tmp_path / "objects" / "p1.png")
    (tmp_path / "objects" / "p2.png").write_bytes(b"broken")
    whole = (tmp_path / "objects" / "p3.png").read_bytes()
    (tmp_path / "objects" / "p3.png").write_bytes(whole[:60])  # its header can be read
    Image.new("RGB", (640, 32)).save(tmp_path / "photos" / "p4.png")
    made = Forge((tmp_path / "photos",), (MaskFolder(tmp_path / "objects"),))
    (found,) = describe(Mix(tmp_path / "mix.yaml", (Source("made", 1, made),), Validation()), decode=decode)
    assert found.cutouts == 5
    said = [line.removeprefix(f"{tmp_path}/") for line in found.damaged]
    assert said[0] == "objects/p1.png: the mask has 48×64 pixels, its photo 64×48"
    assert said[1] == "objects/p2.png: not a picture of a known format"
    assert [line.split(":")[0] for line in said[2:]] == ["objects/p3.png"] * decode + ["photos/p4.png"]
    assert found.sizes == [[64, 48]] * 3


def test_the_region_is_tinted_and_outlined() -> None:
    pixels = np.zeros((20, 20, 3), np.uint8)
    mask = np.zeros((20, 20), bool)
    mask[8:12, 8:12] = True
    drawn = marked(pixels, mask)
    line = (drawn == OUTLINE).all(axis=2)
    assert (drawn[mask] == [int(0.4 * channel) for channel in OUTLINE]).all()
    assert line[6:14, 6:14].sum() == 64 - 16
    assert line.sum() == 48
    assert not drawn[~mask & ~line].any()
    assert not pixels.any()


def test_a_sheet_shows_samples_outlined(tmp_path: Path) -> None:
    Image.new("RGB", (64, 64), (0, 0, 200)).save(tmp_path / "a.png")
    Image.fromarray(np.pad(np.full((20, 20), 255, np.uint8), 22)).save(tmp_path / "a_gt.png")
    source = Source("own\x1b[2J ✓", 1, Pairs(tmp_path, tmp_path, "_gt", fit_masks=True))
    mix = Mix(Path("mix.yaml"), (source,), Validation(0), (Shape(64, 64),))
    contact_sheet(Stream(mix), tmp_path / "sheet.png", count=5, columns=3, side=64)
    with Image.open(tmp_path / "sheet.png") as sheet:
        pixels = np.asarray(sheet)
    assert pixels.shape == (2 * (64 + 18), 3 * 68, 3)
    assert (pixels == OUTLINE).all(axis=2).any()


def test_a_label_lies_below_its_own_picture(tmp_path: Path) -> None:
    Image.new("RGB", (64, 64), (0, 0, 200)).save(tmp_path / "a.png")
    mix = Mix(Path("mix.yaml"), (Source("s", 1, Authentic((tmp_path,))),), Validation(0), (Shape(64, 64),))
    contact_sheet(Stream(mix), tmp_path / "sheet.png", count=1, columns=1, side=192)
    with Image.open(tmp_path / "sheet.png") as sheet:
        rows = np.flatnonzero((np.asarray(sheet.convert("L")) < 100).any(axis=1))
    assert rows.max() < 64 + CAPTION


def test_a_sheet_without_a_readable_image_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(b"broken")
    mix = Mix(Path("mix.yaml"), (Source("s", 1, Authentic((tmp_path,))),), Validation(0))
    with pytest.raises(DamagedFileError, match=r"no image can be read; the last: .+a\.jpg"):
        contact_sheet(Stream(mix), tmp_path / "sheet.png", count=2)
    assert not (tmp_path / "sheet.png").exists()
