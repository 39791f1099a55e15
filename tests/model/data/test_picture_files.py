"""Pictures and masks from files nobody vouches for."""

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

from model.data.picture_files import DamagedFileError, opened, picture_size, read_mask, rgb

SQUARE = np.zeros((4, 6), np.uint8)
SQUARE[1:3, 2:5] = 255
TRUTH = SQUARE > 0


def png(path: Path, array: Any) -> Path:
    Image.fromarray(array).save(path)
    return path


@pytest.mark.parametrize(
    "array",
    [
        SQUARE,
        SQUARE // 255,
        SQUARE // 255 * 128,
        np.where(TRUTH, 140, 115).astype(np.uint8),
        TRUTH,
        SQUARE.astype(np.uint16) * 257,
        np.stack([SQUARE] * 3, 2),
        np.dstack([SQUARE, SQUARE, SQUARE, np.full_like(SQUARE, 7)]),
    ],
    ids=["grey", "0 and 1", "0 and 128", "about the middle", "one bit", "16 bit", "colour", "alpha"],
)
def test_masks(tmp_path: Path, array: Any) -> None:
    mask = png(tmp_path / "m.png", array)
    assert np.array_equal(read_mask(mask, 1, size=(4, 6)), TRUTH)
    assert np.array_equal(read_mask(mask, 1, inverted=True), ~TRUTH)


def test_a_black_mask_marks_nothing(tmp_path: Path) -> None:
    assert not read_mask(png(tmp_path / "m.png", SQUARE * 0), 1).any()


@pytest.mark.parametrize("shape", [(4, 6), (1, 4, 6), (4, 6, 1)])
def test_labels_of_an_array(tmp_path: Path, shape: tuple[int, ...]) -> None:
    np.savez_compressed(tmp_path / "m.npz", (SQUARE // 255 * 17).reshape(shape))
    assert np.array_equal(read_mask(tmp_path / "m.npz", 1, size=(4, 6)), TRUTH)


def test_a_mask_that_may_not_be_black(tmp_path: Path) -> None:
    for inverted in (False, True):
        mask = png(tmp_path / "m.png", SQUARE * 0 + (255 if inverted else 0))
        assert not read_mask(mask, 1, inverted=inverted).any()
        with pytest.raises(DamagedFileError, match=r"m\.png: the mask marks nothing"):
            read_mask(mask, 1, inverted=inverted, empty=False)


@pytest.mark.parametrize("brightest", [2, 100, 127])
def test_a_mask_whose_forged_is_a_dark_grey_is_refused(tmp_path: Path, brightest: int) -> None:
    mask = png(tmp_path / "m.png", SQUARE // 255 * brightest)
    with pytest.raises(DamagedFileError, match=f"marks nothing, its brightest grey is {brightest} of 255"):
        read_mask(mask, 1)
    other = png(tmp_path / "i.png", 255 - SQUARE // 255 * brightest)
    with pytest.raises(DamagedFileError, match=f"marks nothing, its darkest grey is {255 - brightest} of 255"):
        read_mask(other, 1, inverted=True)


def test_the_noise_of_a_jpeg_is_black_and_no_forgery(tmp_path: Path) -> None:
    noisy = np.full((16, 16), 3, np.uint8)
    Image.fromarray(noisy).save(tmp_path / "m.jpg", quality=100)
    assert not read_mask(tmp_path / "m.jpg", 1).any()
    Image.fromarray(255 - noisy).save(tmp_path / "i.jpg", quality=100)
    assert not read_mask(tmp_path / "i.jpg", 1, inverted=True).any()


def test_eight_bits_in_sixteen(tmp_path: Path) -> None:
    assert np.array_equal(read_mask(png(tmp_path / "m.png", SQUARE.astype(np.uint16)), 1), TRUTH)


def test_a_mask_of_another_size_is_refused_or_fitted(tmp_path: Path) -> None:
    mask = png(tmp_path / "m.png", SQUARE)
    with pytest.raises(DamagedFileError, match=r"m\.png: the mask has 6×4 pixels, its image 12×8"):
        read_mask(mask, 1, size=(8, 12))
    assert np.array_equal(read_mask(mask, 1, size=(8, 12), fit=True), TRUTH.repeat(2, 0).repeat(2, 1))


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
        read_mask(path, 1)


def test_a_file_that_may_not_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: object, **options: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Image, "open", refuse)
    with pytest.raises(DamagedFileError, match=r"i\.png: Permission denied"):
        picture_size(png(tmp_path / "i.png", SQUARE), 1)


@pytest.mark.parametrize(
    ("arrays", "reason"),
    [
        ({"a": SQUARE, "b": SQUARE}, "not one array"),
        ({"a": np.zeros((2000, 1000), np.int64)}, "not one array within max_megapixels 1"),
        ({"a": np.zeros((2000, 1000), np.uint8)}, "not a mask"),
        ({"a": SQUARE.astype(np.float32)}, "float32, not a mask"),
        ({"a": np.zeros((4, 6, 2), np.uint8)}, "not a mask"),
        ({"a": np.array([{}], dtype=object)}, "allow_pickle"),
        (None, "not a zip"),
    ],
    ids=["two", "bytes", "pixels", "float", "three axes", "pickle", "no archive"],
)
def test_arrays_that_are_no_masks(tmp_path: Path, arrays: dict[str, Any] | None, reason: str) -> None:
    path = tmp_path / "m.npz"
    if arrays is None:
        path.write_bytes(b"nothing")
    else:
        np.savez_compressed(path, **arrays)
    with pytest.raises(DamagedFileError, match=reason):
        read_mask(path, 1)


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
def test_pictures_of_32_bits_a_sample_are_refused_and_such_masks_are_not(tmp_path: Path, kind: Any) -> None:
    path = tmp_path / "a.tif"
    Image.fromarray(SQUARE.astype(kind)).save(path)
    with pytest.raises(DamagedFileError, match=r"a\.tif: 32 bits a sample"):
        picture_size(path, 1)
    with pytest.raises(DamagedFileError, match="32 bits a sample"), opened(path, 1) as image:
        rgb(image)
    assert picture_size(path, 1, mask=True) == (4, 6)
    assert np.array_equal(read_mask(path, 1), TRUTH)


def test_what_is_transparent_in_a_picture_is_white(tmp_path: Path) -> None:
    path = png(tmp_path / "a.png", np.dstack([SQUARE * 0] * 3 + [SQUARE]))
    with opened(path, 1) as image:
        assert np.array_equal(rgb(image)[..., 0], 255 - SQUARE)
    Image.fromarray(SQUARE).save(path, transparency=0)
    with opened(path, 1) as image:
        assert (rgb(image, (1, 0, 6, 4)) == 255).all()


@pytest.mark.parametrize(
    ("grey", "alpha", "inverted", "well"),
    [
        (SQUARE, SQUARE, False, True),
        (SQUARE * 0 + 255, SQUARE, False, False),
        (SQUARE * 0, SQUARE, False, False),
        (SQUARE * 0, SQUARE, True, False),
        (255 - SQUARE, SQUARE, True, True),
        (SQUARE, 255 - SQUARE, False, False),
    ],
)
def test_a_mask_that_is_transparent_in_places(
    tmp_path: Path, grey: NDArray[np.uint8], alpha: NDArray[np.uint8], inverted: bool, well: bool
) -> None:
    Image.merge("LA", (Image.fromarray(grey), Image.fromarray(alpha))).save(tmp_path / "m.png")
    if well:
        assert np.array_equal(read_mask(tmp_path / "m.png", 1, inverted=inverted), TRUTH)
        return
    with pytest.raises(DamagedFileError, match=r"m\.png: the mask is transparent in places"):
        read_mask(tmp_path / "m.png", 1, inverted=inverted)


def test_labels_below_zero_are_forged(tmp_path: Path) -> None:
    np.savez(tmp_path / "m.npz", np.where(TRUTH, -56, 0).astype(np.int8))
    assert np.array_equal(read_mask(tmp_path / "m.npz", 1), TRUTH)
