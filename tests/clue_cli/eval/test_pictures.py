"""Pictures and masks from another process: the same as from this one, and what goes wrong there is named."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from clue_cli.eval import run
from clue_cli.eval.pictures import Pictures
from model.datasets.sample import Sample
from model.evaluation import ground, read_truth
from model.images.maps import read_map
from model.images.masks import MaskStyle
from model.images.pixels import DamagedFileError, read_header, read_pixels
from tests.clue_cli.eval.conftest import measured
from tests.clue_cli.eval.made import SIZE, picture, truth, write_mask, write_set


@pytest.fixture(scope="module")
def pictures() -> Iterator[Pictures]:
    with Pictures(1, 0.05) as pictures:
        yield pictures


def mask_of(mode: str) -> Image.Image:
    levels = np.linspace(0, 255, SIZE[0] * SIZE[1]).reshape(SIZE).astype(np.uint8)
    match mode:
        case "zeros and ones":
            return Image.fromarray(truth(0).astype(np.uint8))
        case "I;16":
            return Image.fromarray(levels.astype(np.uint16) * 257)
        case "1" | "L" | "P":
            return Image.fromarray(levels).convert(mode)
    colours = Image.fromarray(np.stack([levels, levels[::-1], levels[:, ::-1]], 2))
    if mode.endswith("A"):
        colours.putalpha(Image.fromarray(np.where(truth(1), 0, 255).astype(np.uint8)))
    return colours.convert(mode)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "I;16", "zeros and ones"])
def test_masks_are_what_they_are_in_this_process(mode: str, pictures: Pictures, tmp_path: Path) -> None:
    mask_of(mode).save(tmp_path / "m.png")
    styles: tuple[MaskStyle, ...] = ("white", "black", "grey", "two-coloured")
    for style in styles:
        entry = Sample("k", tmp_path / "k.jpg", (tmp_path / "m.png",), True, style=style)
        assert np.array_equal(pictures.truth(entry), read_truth(entry.masks, style)), style


def test_pictures_are_as_stored(pictures: Pictures, tmp_path: Path) -> None:
    turned = Image.fromarray(picture(0))
    exif = turned.getexif()
    exif[0x0112] = 6
    turned.save(tmp_path / "p.png", exif=exif)
    assert np.array_equal(pictures.pixels(Sample("p", tmp_path / "p.png", (), False)), read_pixels(tmp_path / "p.png"))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "m.png: The file is empty"),
        (b"\x89PNG\r\n\x1a\n" + bytes(30), "m.png: The mask is damaged or cut"),
        (b"GIF89a" + bytes(300), "m.png: "),
        (b"no picture", "m.png: It is named like a png picture"),
        (None, "m.png: "),
    ],
)
def test_masks_that_cannot_be_read_are_named(
    content: bytes | None, message: str, pictures: Pictures, tmp_path: Path
) -> None:
    if content is not None:
        (tmp_path / "m.png").write_bytes(content)
    entry = Sample("k", tmp_path / "k.jpg", (tmp_path / "m.png",), True)
    with pytest.raises(DamagedFileError, match=message):
        pictures.truth(entry)
    assert {problem.kind.value for problem in ground(entry, pictures.truth).problems} >= {"mask unreadable"}


@pytest.mark.parametrize("name", ["p.jpg", "p.png", "p.webp", "p.tif"])
def test_headers_are_what_they_are_in_this_process(name: str, pictures: Pictures, tmp_path: Path) -> None:
    Image.fromarray(picture(0)).save(tmp_path / name)
    header = pictures.header(tmp_path / name)
    assert header == read_header(tmp_path / name)
    assert (header.width, header.height, len(header.signature)) == (*reversed(SIZE), 16)


def test_headers_that_cannot_be_read_are_named(pictures: Pictures, tmp_path: Path) -> None:
    path = tmp_path / f"{'deep' * 20}.jpg"
    path.write_bytes(b"no picture")
    for wrong in (path, tmp_path / "absent"):
        with pytest.raises(DamagedFileError, match="Its header cannot be read"):
            pictures.header(wrong)
    wide = tmp_path / "wide.png"
    write_mask(wide, np.ones((2, 30_000), bool))  # above the limit: what it is is known all the same
    assert pictures.header(wide).width == 30_000


@pytest.mark.parametrize(
    "said",
    [
        {},
        {"width": 1},
        {"width": 1, "height": 2, "format": "EXE", "signature": "0" * 16},
        {"width": "x", "height": 2, "format": "PNG", "signature": "0" * 16},
        {"width": 0, "height": 2, "format": "PNG", "signature": "0" * 16},
        {"width": 1, "height": 2, "format": "PNG", "signature": "<b>"},
    ],
)
def test_a_header_that_makes_no_sense_is_not_believed(
    said: dict[str, Any], pictures: Pictures, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pictures._pool, "ask", lambda *arguments, **named: (said, None))
    with pytest.raises(DamagedFileError, match="nonsense"):
        pictures.header(tmp_path / "m.png")


@pytest.mark.parametrize("mode", ["1", "L", "I;16"])
def test_maps_are_what_they_are_in_this_process(mode: str, pictures: Pictures, tmp_path: Path) -> None:
    mask_of(mode).save(tmp_path / "m.png")
    assert np.array_equal(pictures.map(tmp_path / "m.png"), read_map(tmp_path / "m.png"))


def test_maps_that_cannot_be_read_are_named(pictures: Pictures, tmp_path: Path) -> None:
    mask_of("RGB").save(tmp_path / "m.png")
    (tmp_path / "cut.png").write_bytes((tmp_path / "m.png").read_bytes()[:60])
    write_mask(tmp_path / "large.png", np.ones((300, 200), bool))
    for name, message in (("m", "found RGB"), ("cut", "cannot be read"), ("large", "the limit is 0.05")):
        with pytest.raises(DamagedFileError, match=message):
            pictures.map(tmp_path / f"{name}.png")


def test_too_large_is_not_decoded(pictures: Pictures, tmp_path: Path) -> None:
    path = tmp_path / "large.png"
    write_mask(path, np.ones((300, 200), bool))
    with pytest.raises(DamagedFileError, match=r"large\.png: 0\.06 megapixels; the limit is 0\.05"):
        pictures.truth(Sample("k", path, (path,), True))
    with pytest.raises(DamagedFileError, match="megapixels; the limit is"):
        pictures.pixels(Sample("k", path, (), False))


def test_the_limit_of_pillow_is_put_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 12345)
    with Pictures(1, 1.0):
        assert Image.MAX_IMAGE_PIXELS is None
    assert Image.MAX_IMAGE_PIXELS == 12345


def test_a_mask_that_crashes_its_decoder_costs_its_image_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    crashing = partial(Pictures, worker_module="tests.faults.crashing_mask_decoder")
    monkeypatch.setattr(run, "Pictures", crashing)
    results = measured(tmp_path / "out", bench=(str(write_set(tmp_path / "set", 2, 1)),), methods=("ela",))
    one = results.outcome(str(tmp_path / "set"), "none", "error level analysis")
    assert one is not None
    assert [(p.kind, p.name) for p in one.problems] == [("mask unreadable", f"Tp/t{n}.jpg") for n in range(2)]
    assert all("crashed (signal SIGSEGV" in p.detail for p in one.problems)
    assert (one.pixel["f1"].n, one.image["image_auc"].n) == (0, 3)


def test_a_map_that_is_cut_costs_its_image_alone(tmp_path: Path) -> None:
    folder, predictions = write_set(tmp_path / "set", 2, 1), tmp_path / "maps"
    predictions.mkdir()
    for name in ("t0", "t1", "a0"):
        np.save(predictions / f"{name}.npy", np.zeros((400, 400), np.float32))
    cut = predictions / "t1.npy"
    cut.write_bytes(cut.read_bytes()[:1000])
    results = measured(tmp_path / "out", bench=(str(folder),), predictions=predictions)
    one = results.outcome(str(folder), "none", "predictions")
    assert one is not None
    unreadable = [(p.name, p.detail) for p in one.problems if p.kind == "prediction unreadable"]
    message = f"{cut}: its header promises 640000 bytes of values, 872 are there"
    assert unreadable == [("Tp/t1.jpg", message)]
    assert one.unmeasured == 1
