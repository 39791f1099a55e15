"""Maps of any method: what is read of them, and what is none."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from model.images.maps import read_map, to_size
from model.images.pixels import DamagedFileError
from tests.model.evaluation.trees import BOX, mask, picture

VALUES = np.linspace(0, 1, 24 * 32, dtype=np.float32).reshape(24, 32)


def test_maps_from_files(tmp_path: Path) -> None:
    np.save(tmp_path / "m.npy", VALUES.astype(np.float64)[None])
    assert np.array_equal(read_map(tmp_path / "m.npy"), VALUES)
    Image.fromarray(np.rint(VALUES * 65535).astype(np.uint16)).save(tmp_path / "m.png")
    assert np.abs(read_map(tmp_path / "m.png") - VALUES).max() < 1e-5
    Image.fromarray(np.rint(VALUES * 255).astype(np.uint8)).save(tmp_path / "m.png")
    assert np.abs(read_map(tmp_path / "m.png") - VALUES).max() < 0.5 / 255 + 1e-6
    mask(tmp_path / "m.png")
    assert np.array_equal(read_map(tmp_path / "m.png"), BOX)


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("form", ["?", "<u1", ">u2", "<i8", "<f2", ">f4", "<f8", "g"])
@pytest.mark.parametrize("version", [(1, 0), (2, 0), (3, 0)])
def test_arrays_are_what_numpy_loads(version: tuple[int, int], form: str, order: Any, tmp_path: Path) -> None:
    stored = np.asarray(VALUES * 3, form, order=order)
    with (tmp_path / "m.npy").open("wb") as file:
        np.lib.format.write_array(file, stored, version)
        file.write(b"more")
    found = read_map(tmp_path / "m.npy")
    assert found.dtype == np.float32
    assert np.array_equal(found, np.load(tmp_path / "m.npy").astype(np.float32))


def test_what_float32_cannot_hold_is_infinite(tmp_path: Path) -> None:
    np.save(tmp_path / "m.npy", np.array([[1e300, np.nan]]))
    assert np.array_equal(read_map(tmp_path / "m.npy"), [[np.inf, np.nan]], equal_nan=True)


def promising(shape: tuple[int, ...], content: bytes = b"", form: str = "<f4") -> bytes:
    """An NPY file whose header says this."""
    file = io.BytesIO()
    np.lib.format.write_array_header_1_0(file, {"descr": form, "fortran_order": False, "shape": shape})
    return file.getvalue() + content


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "EOF"),
        (b"\x93NUMPY", "EOF"),
        (b"\x93NUMPY\x09\x00" + bytes(99), "EOF|parse|version"),
        (b"\x93NUMPY\x02\x00\xff\xff\xff\xff{", "expected 4294967295 bytes got 1"),
        (b"\x80\x04N.", "magic"),
        (b"PK\x03\x04" + bytes(30), "magic"),
        (promising((2, 3, 4), bytes(96)), r"expected H×W numbers, found \(2, 3, 4\) float32"),
        (promising((), bytes(4)), "expected H×W numbers"),
        (promising((5,), bytes(20)), "expected H×W numbers"),
        (promising((0, 4)), "expected H×W numbers"),
        (promising((-2, -2), bytes(16)), "expected H×W numbers"),
        (promising((1, 2), bytes(8), "<U1"), "expected H×W numbers"),
        (promising((1, 2), bytes(32), "<c16"), "expected H×W numbers"),
        (promising((1, 2), bytes(32), "|O"), "expected H×W numbers"),
        (promising((2, 2), bytes(15)), "its header promises 16 bytes of values, 15 are there"),
        (promising((20_000, 20_000)), "its header promises 1600000000 bytes of values, 0 are there"),
        (promising((1 << 20, 1 << 20)), r"1\.1e\+06 megapixels; the limit is 500"),
        (promising((10**400, 10**400)), "too large"),
    ],
)
def test_arrays_that_are_no_maps(content: bytes, message: str, tmp_path: Path) -> None:
    (tmp_path / "m.npy").write_bytes(content)
    with pytest.raises(DamagedFileError, match=rf"m\.npy: .*{message}"):
        read_map(tmp_path / "m.npy")


def test_no_value_is_read_of_what_is_beyond_the_limit(tmp_path: Path) -> None:
    np.save(tmp_path / "m.npy", VALUES)
    assert read_map(tmp_path / "m.npy", 24 * 32 / 1e6).size
    with pytest.raises(DamagedFileError, match=r"m\.npy: 0\.000768 megapixels; the limit is 0\.0007"):
        read_map(tmp_path / "m.npy", 0.0007)


def test_pictures_that_are_no_maps(tmp_path: Path) -> None:
    with pytest.raises(DamagedFileError, match="expected one channel, found RGB"):
        read_map(picture(tmp_path / "colour.png"))


def test_resizing_keeps_constants_and_aligns_areas() -> None:
    assert to_size(VALUES, 24, 32) is VALUES
    assert np.allclose(to_size(np.full((5, 7), 0.3, np.float32), 50, 31), 0.3)
    halves = np.repeat(np.array([[0.0, 1.0]], np.float32), 2, 0)
    large = to_size(halves, 8, 8)
    assert large[0, 0] == 0 and large[0, -1] == 1 and np.allclose(large + large[:, ::-1], 1)
    assert to_size(VALUES, 12, 16).mean() == pytest.approx(VALUES.mean(), abs=1e-3)
