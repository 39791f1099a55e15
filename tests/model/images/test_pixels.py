"""Picture files to pixels as stored: every mode, damaged files, orientations."""

from __future__ import annotations

import io
import os
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from model.images.maps import read_map
from model.images.masks import read_mask
from model.images.pixels import (
    DamagedFileError,
    displayed_view,
    opened,
    orientation_of,
    picture_size,
    read_header,
    read_pixels,
    rgb,
    to_rgb,
)
from tests.model.evaluation.trees import mask, picture

SQUARE = np.zeros((4, 6), np.uint8)
SQUARE[1:3, 2:5] = 255
TRUTH = SQUARE > 0
STORED = np.arange(5 * 7 * 3, dtype=np.uint8).reshape(5, 7, 3)


def png(path: Path, array: Any) -> Path:
    Image.fromarray(array).save(path)
    return path


@pytest.mark.parametrize(
    ("mode", "colour", "expected"),
    [("L", 9, (9, 9, 9)), ("RGBA", (1, 2, 3, 0), (255,) * 3), ("I;16", 0x1234, (18, 18, 18)), ("1", 1, (255,) * 3)],
)
def test_every_mode_becomes_rgb(tmp_path: Path, mode: str, colour: Any, expected: tuple[int, ...]) -> None:
    Image.new(mode, (6, 4), colour).save(tmp_path / "i.png")
    with opened(tmp_path / "i.png", 1) as image:
        pixels = rgb(image, (1, 1, 4, 3))
    assert pixels.shape == (2, 3, 3)
    assert (pixels == expected).all()


def damaged_files(folder: Path) -> dict[str, tuple[Path, str]]:
    whole = io.BytesIO()
    Image.effect_noise((64, 64), 50).convert("RGB").save(whole, "PNG")
    jpeg = io.BytesIO()
    Image.effect_noise((64, 64), 50).save(jpeg, "JPEG")
    files = {
        "empty": (b"", "not a picture of a known format"),
        "text": (b"hello", "not a picture of a known format"),
        "truncated": (whole.getvalue()[:-2000], "truncated"),
        "truncated jpeg": (jpeg.getvalue()[:-500], "truncated"),
        "postscript": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "not a picture of a known format"),
        "too large": (b"", "more than max_megapixels"),
        "bomb": (b"", "exceeds limit|more than max_megapixels"),
    }
    made = {}
    for name, (data, reason) in files.items():
        path = folder / f"{name}.png"
        path.write_bytes(data)
        made[name] = (path, reason)
    Image.new("1", (2000, 2000)).save(made["too large"][0])
    header = bytearray(whole.getvalue())
    header[16:24] = b"\x00\x00\xff\xff" * 2  # says it is 65535×65535
    header[29:33] = zlib.crc32(header[12:29]).to_bytes(4, "big")
    made["bomb"][0].write_bytes(bytes(header))
    os.mkfifo(folder / "pipe.png")
    (folder / "folder.png").mkdir()
    return made | {
        "pipe": (folder / "pipe.png", "not a file"),
        "folder": (folder / "folder.png", "not a file"),
        "missing": (folder / "missing.png", "not a file"),
    }


KINDS = [
    "empty", "text", "truncated", "truncated jpeg", "postscript", "too large", "bomb", "pipe", "folder", "missing",
]  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_damaged_files_are_named(tmp_path: Path, kind: str) -> None:
    path, reason = damaged_files(tmp_path)[kind]
    with pytest.raises(DamagedFileError, match=reason) as raised, opened(path, 1) as image:
        rgb(image)
    assert str(raised.value).startswith(f"{path}: ")
    with pytest.raises(DamagedFileError, match=reason):
        read_mask(path, max_megapixels=1, strict=True)


def test_a_file_that_may_not_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: object, **options: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Image, "open", refuse)
    with pytest.raises(DamagedFileError, match=r"i\.png: Permission denied"):
        picture_size(png(tmp_path / "i.png", SQUARE), 1)


@pytest.mark.parametrize("tag", range(1, 10))
@pytest.mark.parametrize(
    "values", [np.arange(72, dtype=np.uint8), np.arange(24, dtype=np.uint8), np.arange(24, dtype=np.uint16) << 8]
)
def test_an_orientation_tag_turns_nothing(tmp_path: Path, tag: int, values: NDArray[Any]) -> None:
    """Pillow turns a TIFF when it loads it; its mask has the pixels as they are stored."""
    colour = values.size == 72
    stored = values.reshape((4, 6, 3) if colour else (4, 6))
    path = tmp_path / "a.tif"
    Image.fromarray(stored).save(path, tiffinfo={274: tag})
    expected = stored if colour else np.stack([stored >> 8 if stored.dtype == np.uint16 else stored] * 3, 2)
    assert picture_size(path, 1) == (4, 6)
    with opened(path, 1) as image:
        assert np.array_equal(rgb(image), expected)
    with opened(path, 1) as image:
        assert np.array_equal(rgb(image, (1, 0, 5, 2)), expected[:2, 1:5])


@pytest.mark.parametrize("kind", [np.int32, np.float32])
def test_32_bits_a_sample_are_scaled_in_a_picture_and_not_in_a_mask(tmp_path: Path, kind: Any) -> None:
    path = tmp_path / "a.tif"
    Image.fromarray(np.where(TRUTH, 200, 40).astype(kind)).save(path)
    assert picture_size(path) == (4, 6)
    assert np.array_equal(read_pixels(path), np.stack([SQUARE] * 3, 2))
    assert np.array_equal(read_mask(path, strict=True), TRUTH)


def test_what_is_transparent_in_a_picture_is_white(tmp_path: Path) -> None:
    path = png(tmp_path / "a.png", np.dstack([SQUARE * 0] * 3 + [SQUARE]))
    with opened(path, 1) as image:
        assert np.array_equal(rgb(image)[..., 0], 255 - SQUARE)
    Image.fromarray(SQUARE).save(path, transparency=0)
    with opened(path, 1) as image:
        assert (rgb(image, (1, 0, 6, 4)) == 255).all()


def test_rgb_is_left_alone() -> None:
    image = Image.fromarray(STORED)
    same, done = to_rgb(image)
    assert same is image
    assert done == []


def test_wide_samples_are_scaled_by_the_extremes_of_the_whole_picture(tmp_path: Path) -> None:
    Image.fromarray(np.arange(24, dtype=np.int32).reshape(4, 6) * 1000).save(tmp_path / "i.tif")
    with opened(tmp_path / "i.tif") as image:
        part = rgb(image, (1, 1, 4, 3))
    assert np.array_equal(part, read_pixels(tmp_path / "i.tif")[1:3, 1:4])


def test_pictures_and_headers(tmp_path: Path) -> None:
    path = picture(tmp_path / "a.png")
    pixels = read_pixels(path)
    assert (pixels.shape, pixels.dtype) == ((24, 32, 3), np.uint8)
    assert (read_header(path).width, read_header(path).height, read_header(path).format) == (32, 24, "PNG")
    Image.fromarray(pixels).save(tmp_path / "turned.tif", tiffinfo={274: 6})
    assert (read_header(tmp_path / "turned.tif").width, read_header(tmp_path / "turned.tif").height) == (32, 24)


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("orientation", [*range(1, 9), 0, 9])
def test_an_orientation_is_a_number(tmp_path: Path, form: str, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(STORED).save(tmp_path / "a", form, exif=exif)
    with opened(tmp_path / "a") as image:
        assert orientation_of(image) == (orientation if 1 <= orientation <= 8 else 1)
        assert rgb(image).shape == STORED.shape


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("pixels", [STORED, STORED[..., 0]], ids=["rgb", "plane"])
def test_displayed_is_what_pillow_shows(pixels: NDArray[np.uint8], orientation: int, tmp_path: Path) -> None:
    Image.fromarray(pixels).save(tmp_path / "a.tif", tiffinfo={0x0112: orientation})
    with (tmp_path / "a.tif").open("rb") as file, Image.open(file) as image:
        np.testing.assert_array_equal(displayed_view(pixels, orientation), np.asarray(image))
    assert np.shares_memory(displayed_view(pixels, orientation), pixels)


@pytest.mark.parametrize("orientation", [0, 9, -1])
def test_an_orientation_that_does_not_exist_is_refused(orientation: int) -> None:
    with pytest.raises(ValueError, match="1 to 8"):
        displayed_view(STORED, orientation)


@pytest.mark.parametrize("error", [IndexError("x"), EOFError(), MemoryError(), KeyError(3), AttributeError("y")])
def test_whatever_a_decoder_raises_is_an_unreadable_picture(
    error: Exception, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = [picture(tmp_path / "a.png"), mask(tmp_path / "m.png")]

    def broken(image: Image.Image, *arguments: object) -> None:
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(Image.Image, "load", broken)
        patch.setattr(Image.Image, "convert", broken)
        for read, path in ((read_pixels, paths[0]), (read_mask, paths[1]), (read_map, paths[1])):
            with pytest.raises(DamagedFileError, match=path.name):
                read(path)
    monkeypatch.setattr(Image, "open", broken)
    for read in (read_header, read_pixels, read_mask, read_map):
        with pytest.raises(DamagedFileError, match=r"a\.png"):
            read(paths[0])


@pytest.mark.parametrize("read", [picture_size, read_pixels, read_mask])
def test_pictures_beyond_the_limit_are_not_decoded(read: Any, tmp_path: Path) -> None:
    path = mask(tmp_path / "m.png")
    assert np.size(read(path, max_megapixels=24 * 32 / 1e6))
    with pytest.raises(DamagedFileError, match=r"m\.png: 32×24 pixels, more than max_megapixels 0\.0007"):
        read(path, max_megapixels=0.0007)
