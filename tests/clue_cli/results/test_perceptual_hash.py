"""The perceptual hash: imagehash's, stable for copies, and none for pictures with little in them."""

from __future__ import annotations

import io

import imagehash
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageFilter
from skimage import data

from clue_cli.results.groups import NEAR
from clue_cli.results.perceptual_hash import perceptual_hash
from model.images.pixels import displayed_view

Pixels = NDArray[np.uint8]
PHOTOS = ["astronaut", "chelsea", "coffee", "rocket"]


def photo(name: str) -> Pixels:
    return np.asarray(getattr(data, name)())


def apart(one: Pixels, other: Pixels) -> int:
    hashes = [perceptual_hash(pixels) for pixels in (one, other)]
    assert None not in hashes
    return (int(str(hashes[0]), 16) ^ int(str(hashes[1]), 16)).bit_count()


@pytest.mark.parametrize("name", PHOTOS)
def test_it_is_that_of_imagehash(name: str) -> None:
    small = Image.fromarray(photo(name)).resize((250, 200))
    assert perceptual_hash(np.asarray(small)) == str(imagehash.phash(small))
    large = Image.fromarray(photo(name))
    other = int(str(imagehash.phash(large)), 16)
    assert (int(perceptual_hash(np.asarray(large)) or "", 16) ^ other).bit_count() <= 2  # shrunk in two steps


@pytest.mark.parametrize("name", PHOTOS)
def test_copies_are_near_and_different_photos_are_not(name: str) -> None:
    original = Image.fromarray(photo(name))
    stream = io.BytesIO()
    original.resize((original.width // 2, original.height // 2)).save(stream, "jpeg", quality=60)
    assert apart(photo(name), np.asarray(Image.open(stream))) <= NEAR
    assert apart(photo(name), np.asarray(original.filter(ImageFilter.SHARPEN))) <= NEAR
    for other in PHOTOS:
        assert other == name or apart(photo(name), photo(other)) > 2 * NEAR


@pytest.mark.parametrize("orientation", range(1, 9))
def test_it_is_of_the_picture_as_displayed(orientation: int) -> None:
    stored = photo("chelsea")
    shown = np.ascontiguousarray(displayed_view(stored, orientation))
    hashes = {perceptual_hash(stored, orientation), perceptual_hash(shown)}
    assert len(hashes) == 1 or (int(str(hashes.pop()), 16) ^ int(str(hashes.pop()), 16)).bit_count() <= 2


def ramp(x: float, y: float) -> Pixels:
    across, down = np.meshgrid(np.linspace(0, x, 640), np.linspace(0, y, 480))
    return np.repeat((100 + across + down)[:, :, None], 3, axis=2).astype(np.uint8)


@pytest.mark.parametrize(
    "pixels",
    [
        np.full((480, 640, 3), 255, np.uint8),
        np.zeros((1, 1, 3), np.uint8),
        np.full((3, 5000, 3), 7, np.uint8),
        (200 + np.random.default_rng(0).normal(0, 2, (480, 640, 3))).astype(np.uint8),
        ramp(90, 0),
        ramp(0, 60),
        ramp(70, 50),
    ],
    ids=["white", "one pixel", "a strip", "noise", "across", "down", "aslant"],
)
def test_pictures_with_little_in_them_have_none(pixels: Pixels) -> None:
    assert perceptual_hash(pixels) is None


def test_tiny_and_long_pictures_are_no_error() -> None:
    rng = np.random.default_rng(0)
    for height, width in ((1, 1), (1, 4000), (4000, 1), (2, 2), (127, 300)):
        found = perceptual_hash(rng.integers(0, 256, (height, width, 3), np.uint8))
        assert found is None or len(found) == 16
