"""The other place of a picture that a marked region matches."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from model.matching_place import MatchingPlace, matching_places

Pixels = NDArray[np.uint8]


def photo(height: int, width: int, seed: int = 0) -> Pixels:
    """Texture at several scales that repeats nowhere."""
    rng = np.random.default_rng(seed)
    layers = [
        cv2.resize(rng.normal(0, 28, (height // n, width // n)), (width, height), interpolation=cv2.INTER_CUBIC)
        for n in (3, 7, 19)
    ]
    grey = np.clip(128 + sum(layers), 0, 255).astype(np.uint8)
    return np.ascontiguousarray(np.repeat(grey[..., None], 3, 2))


def place_of(pixels: Pixels, box: tuple[slice, slice], margin: int = 4) -> MatchingPlace | None:
    """Of a region that is marked a little too wide, as heatmaps are."""
    rows, columns = (slice(part.start - margin, part.stop + margin) for part in box)
    mask = np.zeros(pixels.shape[:2], bool)
    mask[rows, columns] = True
    (found,) = matching_places(pixels, mask, [(rows, columns)])
    return found


def near(place: MatchingPlace, x: int, y: int, width: int, height: int, within: int) -> bool:
    found = np.array([place.x, place.y, place.width, place.height])
    return bool(np.abs(found - [x, y, width, height]).max() <= within)


@pytest.mark.parametrize("scale", [1, 2])
def test_a_moved_region_has_its_source(scale: int) -> None:
    """Also where the picture is so large that it is searched at half its size."""
    small = photo(704, 960)
    small[400:480, 700:796] = small[123:203, 211:307]
    pixels = np.ascontiguousarray(small.repeat(scale, 0).repeat(scale, 1))
    box = np.s_[400 * scale : 480 * scale, 700 * scale : 796 * scale]
    found = place_of(pixels, box, 8)
    assert found is not None
    assert near(found, 211 * scale, 123 * scale, 96 * scale, 80 * scale, 9 * scale)
    assert found.likeness > 0.6
    assert (found.scale, found.turned, found.mirrored) == (1.0, 0.0, False)


def test_a_mirrored_one_too() -> None:
    pixels = photo(256, 384)
    pixels[150:214, 280:360] = pixels[30:94, 40:120][:, ::-1]
    found = place_of(pixels, np.s_[150:214, 280:360])
    assert found is not None
    assert found.mirrored
    assert near(found, 40, 30, 80, 64, 9)
    assert found.scale == pytest.approx(1)
    assert found.turned == pytest.approx(0)


def test_a_turned_and_scaled_one_by_its_keypoints() -> None:
    pixels = photo(512, 768)
    matrix = cv2.getRotationMatrix2D((160.0, 160.0), 30, 1.25)
    matrix[:, 2] += (400, 150)
    moved = cv2.warpAffine(pixels, matrix, (768, 512), flags=cv2.INTER_CUBIC)
    pixels[250:370, 500:620] = moved[250:370, 500:620]
    found = place_of(pixels, np.s_[250:370, 500:620])
    assert found is not None
    assert found.scale == pytest.approx(1.25, abs=0.05)
    assert abs(found.turned) == pytest.approx(30, abs=2)
    assert not found.mirrored
    assert abs(found.x + found.width / 2 - 160) < 12
    assert abs(found.y + found.height / 2 - 160) < 12


def test_what_came_from_elsewhere_has_none() -> None:
    pixels = photo(256, 384)
    pixels[150:214, 280:360] = photo(256, 384, seed=1)[30:94, 40:120]
    assert place_of(pixels, np.s_[150:214, 280:360]) is None


def test_what_is_flat_or_small_resembles_everything_and_has_none() -> None:
    pixels = photo(256, 384)
    pixels[100:200] = 90
    assert place_of(pixels, np.s_[120:180, 100:200]) is None
    pixels[20:30, 300:310] = pixels[220:230, 20:30]
    assert place_of(pixels, np.s_[20:30, 300:310], 0) is None
    assert matching_places(photo(24, 200), np.ones((24, 200), bool), [np.s_[0:24, 0:200]]) == [None]


def test_the_edge_of_the_picture_and_the_whole_of_it() -> None:
    pixels = photo(256, 384)
    pixels[:64, :80] = pixels[192:256, 304:384]
    found = place_of(pixels, np.s_[0:64, 0:80], 0)
    assert found is not None
    assert near(found, 304, 192, 80, 64, 9)
    assert place_of(pixels, np.s_[0:256, 0:384], 0) is None


def test_a_straight_edge_matches_itself_and_has_no_other_place() -> None:
    """Moved along itself it is the same; where that leads is the region itself."""
    pixels = photo(384, 512)
    pixels[40:340, 200:248] = pixels[60:61, 200:248]
    region = np.s_[40:340, 200:248]
    assert place_of(pixels, region, 0) is None


def test_memory_that_runs_out_is_said_as_that(monkeypatch: pytest.MonkeyPatch) -> None:
    """As torch says it on a CPU; anything else stays what it is."""
    pixels, region = photo(256, 384), np.s_[150:214, 280:360]
    for error, expected in (("can't allocate memory: you tried", MemoryError), ("shape mismatch", RuntimeError)):

        def fail(points: object, error: str = error) -> None:
            raise RuntimeError(error)

        monkeypatch.setattr("model.matching_place.transforms_of", fail)
        with pytest.raises(expected, match=error[:10]):
            place_of(pixels, region)


@pytest.mark.parametrize("box", [np.s_[65:70, 4:60], np.s_[4:60, 65:70], np.s_[60:70, 60:70]])
def test_a_region_beyond_the_last_whole_cell_has_none(box: tuple[slice, slice]) -> None:
    assert place_of(photo(70, 70), box, margin=0) is None
