"""One picture file has the same pixels in a scan, `clue calibrate`, a measurement, a script and a training."""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from clue_cli.calibrate import Scores
from clue_cli.eval.pictures import Pictures
from clue_cli.evidence.item import Photo
from clue_cli.evidence.reader import identify
from clue_cli.evidence.sandbox.pool import DecodePool
from clue_cli.scan import ScanOptions
from model.calibration import Calibration
from model.data.mix import Masks, Shape
from model.data.sources import AS_IT_IS, cut
from model.datasets.sample import Sample
from model.images.pixels import SUFFIXES, read_pixels
from model.predictor import OutOfMemory
from model.reporter import SILENT
from tests.clue_cli.networks.fake import Starved
from tests.faults import pictures


def transparent(mode: str) -> Image.Image:
    image = pictures.photo(mode=mode)
    image.putalpha(Image.linear_gradient("L").resize(image.size))
    return image


def palette() -> Image.Image:
    image = pictures.photo().quantize(16)
    image.info["transparency"] = 3
    return image


def plain_inks() -> bytes:
    adobe = pictures.encoded(pictures.photo(mode="CMYK"), "JPEG", quality=95)
    at = adobe.index(b"\xff\xee")
    return adobe[:at] + adobe[at + 16 :]


WIDE = np.asarray(pictures.photo(mode="L"))
FILES = {
    "rgb.png": pictures.encoded(pictures.photo(), "PNG"),
    "alpha.png": pictures.encoded(transparent("RGB"), "PNG"),
    "grey alpha.png": pictures.encoded(transparent("L"), "PNG"),
    "palette.png": pictures.encoded(palette(), "PNG", transparency=3),
    "16.png": pictures.encoded(Image.fromarray(WIDE.astype(np.uint16) * 250), "PNG"),
    "16.tif": pictures.encoded(Image.fromarray(WIDE.astype(np.uint16) * 250), "TIFF"),
    "integers.tif": pictures.encoded(Image.fromarray(WIDE.astype(np.int32) * 99_999), "TIFF"),
    "floats.tif": pictures.encoded(Image.fromarray(WIDE.astype(np.float32) / 300), "TIFF"),
    "inks of adobe.jpg": pictures.encoded(pictures.photo(mode="CMYK"), "JPEG", quality=95),
    "plain inks.jpg": plain_inks(),
    "inks.tif": pictures.encoded(pictures.photo(mode="CMYK"), "TIFF"),
    "two pages.tif": pictures.tiff(2),
    "turned.jpg": pictures.oriented_jpeg(6),
    "turned.tif": pictures.encoded(pictures.photo(), "TIFF", tiffinfo={0x0112: 8}),
    "frames.gif": pictures.gif(2),
    "a.avif": pictures.encoded(pictures.photo(), "AVIF"),
    "a.webp": pictures.encoded(transparent("RGB"), "WEBP"),
    "a.bmp": pictures.encoded(pictures.photo(), "BMP"),
}


class Seen(Starved):
    """Stands in for the network and keeps what it is given."""

    def __init__(self) -> None:
        super().__init__()
        self.pixels: dict[str, NDArray[np.uint8]] = {}

    def predict(self, images: Iterable[Any]) -> Iterator[Any]:
        for page, pixels in filter(None, images):
            self.pixels[Path(page.photo.locator).name] = pixels
            yield OutOfMemory(page, "no memory")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("files")
    for name, data in FILES.items():
        (folder / name).write_bytes(data)
    return folder


@pytest.fixture(scope="module")
def scanned() -> dict[str, NDArray[np.uint8]]:
    found = {}
    with DecodePool(1) as pool:
        for name, data in FILES.items():
            first, *_ = list(pool.decode(name, data, identify(data, name)))
            assert isinstance(first, Photo), first
            found[name] = first.pixels
    return found


def test_scripts_and_measurements_see_what_a_scan_sees(folder: Path, scanned: dict[str, NDArray[np.uint8]]) -> None:
    with Pictures(1, 1.0) as measured:
        for name, expected in scanned.items():
            assert np.array_equal(read_pixels(folder / name), expected), name
            assert np.array_equal(measured.pixels(Sample(name, folder / name, (), False)), expected), name


def test_calibrate_sees_what_a_scan_sees(folder: Path, scanned: dict[str, NDArray[np.uint8]]) -> None:
    seen = Seen()
    Scores([folder], ScanOptions(), [seen], Calibration(), SILENT, pytest.fail, forged=False).run()
    assert seen.pixels.keys() == scanned.keys()
    for name, expected in scanned.items():
        assert np.array_equal(seen.pixels[name], expected), name


@pytest.mark.parametrize("name", FILES)
def test_a_training_sees_what_a_scan_sees(name: str, folder: Path, scanned: dict[str, NDArray[np.uint8]]) -> None:
    expected = scanned[name]
    assert Path(name).suffix in SUFFIXES
    whole = Shape(*expected.shape[:2], 1)
    pixels, mask = cut(Sample(name, folder / name, (), False), Masks(), 1.0, whole, AS_IT_IS, np.random.default_rng(0))
    assert np.array_equal(pixels, expected)
    assert not mask.any()
    part, _ = cut(
        Sample(name, folder / name, (), False), Masks(), 1.0, Shape(8, 16, 1), AS_IT_IS, np.random.default_rng(0)
    )
    tops, lefts = range(expected.shape[0] - 7), range(expected.shape[1] - 15)
    assert any(np.array_equal(part, expected[t : t + 8, a : a + 16]) for t in tops for a in lefts)


def test_the_pixels_are_those_of_the_first_page_as_stored(scanned: dict[str, NDArray[np.uint8]]) -> None:
    assert np.array_equal(scanned["turned.tif"], np.asarray(pictures.photo()))
    with Image.open(io.BytesIO(FILES["turned.jpg"])) as image:
        assert np.array_equal(scanned["turned.jpg"], np.asarray(image))
