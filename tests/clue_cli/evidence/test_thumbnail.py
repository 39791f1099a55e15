"""The thumbnail in a file is compared with its picture."""

from __future__ import annotations

import io
import struct
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageEnhance, ImageOps
from skimage import data as photographs

from clue_cli.evidence.item import Photo
from clue_cli.evidence.reader import identify
from clue_cli.evidence.sandbox.pool import DecodePool
from clue_cli.evidence.streams import DecodeLimits
from clue_cli.evidence.thumbnail import MOST_SIDE, compare
from clue_cli.records import Weight
from tests.faults import pictures

PICTURE = Image.fromarray(photographs.astronaut()).crop((0, 40, 512, 424))  # 4:3
COFFEE = Image.fromarray(photographs.coffee())


def thumbnail(image: Image.Image, quality: int = 75) -> bytes:
    return pictures.encoded(image, "JPEG", quality=quality)


def with_thumbnail(image: Image.Image, inside: bytes, orientation: int = 1) -> bytes:
    """A JPEG with an EXIF block of two directories; the second one names the thumbnail."""
    first = struct.pack("<HHHIII", 1, 274, 3, 1, orientation, 26)
    second = struct.pack("<HHHIIHHIII", 2, 0x201, 4, 1, 56, 0x202, 4, 1, len(inside), 0)
    block = b"Exif\0\0II*\0" + struct.pack("<I", 8) + first + second + inside
    return pictures.encoded(image, "JPEG", quality=90, exif=block)


def _letterboxed(image: Image.Image) -> Image.Image:
    frame = Image.new("RGB", (160, 160))
    frame.paste(image.resize((160, 120)), (0, 20))
    return frame


SAME: dict[str, Callable[[Image.Image], Image.Image]] = {
    "shrunk": lambda image: image.resize((160, 120)),
    "other shape": lambda image: image.resize((160, 107)),
    "black bars": _letterboxed,
    "sides cut off": lambda image: ImageOps.fit(image, (120, 120)),
    "brighter": lambda image: ImageEnhance.Brightness(image.resize((160, 120))).enhance(1.3),
    "grey": lambda image: image.resize((160, 120)).convert("L"),
    "turned": lambda image: image.resize((160, 120)).rotate(90, expand=True),
}


@pytest.mark.parametrize("way", SAME)
def test_a_thumbnail_of_the_picture_is_the_same_however_it_was_made(way: str) -> None:
    assert not compare(thumbnail(SAME[way](PICTURE), 60), PICTURE).differs


def _spliced() -> Image.Image:
    edited = PICTURE.copy()
    edited.paste(COFFEE.crop((200, 100, 330, 230)), (60, 200))
    return edited


@pytest.mark.parametrize(
    "edited", [_spliced(), PICTURE.crop((80, 60, 432, 324)), COFFEE], ids=["spliced", "cropped", "another"]
)
def test_a_thumbnail_of_another_state_of_the_picture_differs(edited: Image.Image) -> None:
    assert compare(thumbnail(PICTURE.resize((160, 120))), edited).differs


@pytest.fixture(scope="module")
def pool() -> Any:
    with DecodePool(1, DecodeLimits(), as_evidence=True) as made:
        yield made


def photo(pool: DecodePool, data: bytes) -> Photo:
    (found,) = pool.decode("a.jpg", data, identify(data, "a.jpg"))
    assert isinstance(found, Photo)
    return found


@pytest.mark.parametrize("orientation", range(1, 9))
def test_one_that_differs_supports_an_edit_and_is_turned_as_the_picture(pool: DecodePool, orientation: int) -> None:
    inside = thumbnail(PICTURE.resize((160, 120)))
    found = photo(pool, with_thumbnail(_spliced(), inside, orientation))
    assert found.findings[0].kind == "thumbnail_differs"
    assert found.findings[0].weight is Weight.SUPPORTS_EDIT
    assert found.thumbnail is not None
    assert found.displayed(found.thumbnail).shape[:2] == ((120, 160) if orientation < 5 else (160, 120))
    expected = np.asarray(Image.open(io.BytesIO(inside)))
    np.testing.assert_array_equal(found.thumbnail, expected)
    assert photo(pool, with_thumbnail(PICTURE, inside, orientation)).thumbnail is None


@pytest.mark.parametrize(
    "inside",
    [
        b"no JPEG at all" * 9,
        b"\xff\xd8\xff\xe0" + bytes(100),
        thumbnail(PICTURE.resize((160, 120)))[:1500],
        thumbnail(PICTURE.resize((MOST_SIDE + 1, 40))),
        pictures.encoded(PICTURE.resize((160, 120)), "PNG"),
        thumbnail(PICTURE.resize((8, 6))),
        thumbnail(PICTURE.resize((160, 120))).replace(
            b"\xff\xc0\x00\x11\x08\x00\x78\x00\xa0", b"\xff\xc0\x00\x11\x08\xff\xff\xff\xff"
        ),
    ],
    ids=["text", "broken", "cut", "large", "png", "tiny", "bomb"],
)
def test_hostile_thumbnails_cost_a_finding_and_no_more(pool: DecodePool, inside: bytes) -> None:
    found = photo(pool, with_thumbnail(PICTURE, inside))
    assert found.thumbnail is None
    assert [finding.kind for finding in found.findings] == ["quantization_tables", "thumbnail_unread"]
    assert found.pixels.shape == (384, 512, 3)
