"""Forgeries: deterministic, masks that tell the truth, both classes with the same histories."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

cv2 = pytest.importorskip("cv2", reason="the extra `train` is not installed")

from model.data.forge import KINDS, forge  # noqa: E402
from model.data.history import jpeg, quantizers, resize, whole_picture  # noqa: E402
from model.data.photo_bank import PhotoBank, bank_of, held_out  # noqa: E402
from model.data.shapes import LARGEST, SMALLEST, bounding_box, drawn_shape, region_area  # noqa: E402


@pytest.fixture(scope="module")
def bank(tmp_path_factory: pytest.TempPathFactory) -> PhotoBank:
    folder = tmp_path_factory.mktemp("photos")
    rng = np.random.default_rng(0)
    (folder / "photos").mkdir()
    (folder / "masks").mkdir()
    for number in range(4):
        coarse = rng.integers(0, 256, (15, 20, 3), dtype=np.uint8)
        grain = rng.normal(0, 10, (300, 400, 3))
        pixels = np.asarray(Image.fromarray(coarse).resize((400, 300)), np.float64) + grain
        Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8)).save(folder / "photos" / f"p{number}.png")
        mask = np.zeros((300, 400), np.uint8)
        mask[80:200, 100:250] = 255
        Image.fromarray(mask).save(folder / "masks" / f"m_p{number}_7.png")
    (folder / "photos" / "broken.jpg").write_bytes(b"\xff\xd8\xff nothing")
    made = bank_of([folder / "photos"], [(folder / "masks", "m_")], folder / "cache", share=0.0, validation=False)
    made.prepare()
    return made


def test_bank_reads_photos_and_lists_what_it_cannot_read(bank: PhotoBank) -> None:
    assert [p.stem for p in bank.paths] == ["p0", "p1", "p2", "p3"]
    assert len(bank.cutouts) == 4
    assert len(bank.left_out) == 1
    assert "broken.jpg" in bank.left_out[0]
    with Image.open(bank.paths[2]) as image:
        assert np.array_equal(bank.photo(2), np.asarray(image))
    assert bank.object_mask(bank.cutouts[0]).sum() == 120 * 150


def test_split_is_by_photo_and_complete(bank: PhotoBank) -> None:
    names = [Path(f"photo{n}.jpg") for n in range(2000)]
    share = np.mean([held_out(name, 0.1) for name in names])
    assert share == pytest.approx(0.1, abs=0.03)
    folder = bank.paths[0].parent
    sides = [
        {p.name for p in bank_of([folder], [], folder / "c", share=0.5, validation=side).paths}
        for side in (True, False)
    ]
    assert not sides[0] & sides[1]
    assert len(sides[0] | sides[1]) == 5


@pytest.mark.parametrize("kind", KINDS)
def test_same_seed_same_sample_and_a_mask_that_fits(bank: PhotoBank, kind: str) -> None:
    for seed in range(6):
        first, second = (forge(bank, np.random.default_rng(seed), 96, 128, kind) for _ in range(2))
        assert np.array_equal(first.pixels, second.pixels)
        assert np.array_equal(first.mask, second.mask)
        assert first.pixels.shape == (96, 128, 3)
        assert first.pixels.dtype == np.uint8
        assert first.mask.any() == (first.kind != "authentic")


def test_the_mask_covers_what_changed(bank: PhotoBank, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without any history, nothing outside the mask (and the feather around it) differs from some photo."""
    monkeypatch.setattr("model.data.forge.whole_picture", lambda pixels, rng: (pixels, []))
    hosts = []

    def keep(pixels: np.ndarray, rng: np.random.Generator, steps: list[str]) -> np.ndarray:
        hosts.append(pixels.copy())
        return pixels

    monkeypatch.setattr("model.data.forge._with_history", keep)
    checked = 0
    for seed in range(40):
        sample = forge(bank, np.random.default_rng(seed), 96, 128, "splice")
        if sample.kind == "authentic" or any(s.startswith("resized") or s == "poisson" for s in sample.steps):
            continue
        grown = cv2.dilate(sample.mask.astype(np.uint8), np.ones((25, 25), np.uint8)) > 0
        assert np.array_equal(sample.pixels[~grown], hosts[-1][~grown])
        assert (sample.pixels != hosts[-1]).any()
        checked += 1
    assert checked > 10


def test_both_classes_go_through_the_same_histories(bank: PhotoBank) -> None:
    def share_with_jpeg_last(kind: str) -> float:
        last = [forge(bank, np.random.default_rng(seed), 64, 64, kind).steps[-1:] for seed in range(150)]
        return float(np.mean([bool(step) and step[0].startswith("jpeg") for step in last]))

    assert share_with_jpeg_last("authentic") == pytest.approx(share_with_jpeg_last("splice"), abs=0.15)


@pytest.mark.parametrize("quality", [30, 60, 85, 98])
def test_quantizers_are_valid_and_coarser_at_lower_quality(quality: float) -> None:
    rng = np.random.default_rng(0)
    for _ in range(50):
        tables = quantizers(rng, quality)
        assert [len(table) for table in tables] == [64, 64]
        assert all(1 <= value <= 255 for table in tables for value in table)

    def mean(q: float) -> float:
        return float(np.mean([quantizers(np.random.default_rng(s), q)[0] for s in range(50)]))

    assert mean(quality) > mean(min(quality + 1.5, 100))


def test_jpeg_changes_pixels_a_little() -> None:
    rng = np.random.default_rng(0)
    pixels = np.asarray(Image.fromarray(rng.integers(0, 256, (12, 16, 3), dtype=np.uint8)).resize((128, 96)))
    through = jpeg(pixels, rng, 90)
    assert through.shape == pixels.shape
    assert 0 < np.abs(through.astype(int) - pixels).mean() < 12


def test_whole_picture_keeps_the_size() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (61, 83, 3), dtype=np.uint8)
    kinds = set()
    for seed in range(60):
        out, steps = whole_picture(pixels, np.random.default_rng(seed))
        assert out.shape == pixels.shape
        kinds.add(steps[0].split()[0] if steps else "none")
    assert kinds == {"jpeg", "webp", "grain", "none"}


def test_resize_to_the_same_size_is_nothing() -> None:
    pixels = np.zeros((10, 12, 3), np.uint8)
    assert resize(pixels, 12, 10) is pixels
    assert resize(pixels, 6, 5).shape == (5, 6, 3)


def test_shapes_have_about_the_area_asked_for() -> None:
    rng = np.random.default_rng(0)
    for area in (0.003, 0.03, 0.2):
        found = [drawn_shape(rng, 200, 300, area).mean() for _ in range(60)]
        assert 0.3 * area < np.median(found) < 2 * area


def test_small_regions_are_as_common_as_large_ones() -> None:
    rng = np.random.default_rng(0)
    areas = np.array([region_area(rng) for _ in range(4000)])
    assert np.mean(areas < np.sqrt(SMALLEST * LARGEST)) == pytest.approx(0.5, abs=0.03)


def test_bounding_box() -> None:
    mask = np.zeros((10, 20), bool)
    mask[3:5, 7:12] = True
    assert bounding_box(mask) == (3, 7, 5, 12)


def test_an_empty_bank_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no photo"):
        PhotoBank([], [], tmp_path / "cache").prepare()
