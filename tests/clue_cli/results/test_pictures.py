"""The pictures of a scan: mask and heatmap to the bit, previews that show them, panels that are in nothing's way."""

from __future__ import annotations

import io
import json
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from clue_cli.evidence.item import FileIdentity, Photo
from clue_cli.records import RunRecord
from clue_cli.results import pictures as module
from clue_cli.results import record_log
from clue_cli.results.pictures import (
    LINE,
    PANELS,
    encode_heatmap,
    encode_mask,
    encode_panel,
    encode_previews,
    inferno,
    opacity,
    panels,
)
from clue_cli.scan import ScanOptions, pipeline
from model.reporter import SILENT
from tests.clue_cli.scan.test_pipeline import records
from tests.faults.pictures import jpeg, oriented_jpeg, tiff

Arrays = tuple[NDArray[np.uint8], NDArray[np.float32], NDArray[np.bool_]]


@pytest.mark.parametrize("shape", [(1, 1), (3, 5), (256, 384), (700, 2)])
def test_round_trip(shape: tuple[int, int]) -> None:
    random = np.random.default_rng(0)
    heatmap = random.random(shape, dtype=np.float32)
    heatmap[0, 0], heatmap[-1, -1] = 0, 1
    marked = heatmap > 0.5
    mask_image, heat_image = (Image.open(io.BytesIO(data)) for data in (encode_mask(marked), encode_heatmap(heatmap)))
    assert (mask_image.mode, heat_image.mode) == ("L", "I;16")
    assert np.array_equal(np.asarray(mask_image), np.where(marked, 255, 0))
    values = np.asarray(heat_image)
    assert np.abs(values / 65535 - heatmap).max() <= 0.5 / 65535 + 1e-7
    assert values[-1, -1] == 65535, "the ends of the scale are exact"


def test_strided_views_are_written_as_they_look() -> None:
    data = encode_mask(np.array([[True, False], [False, False]]).T[::-1])
    assert np.asarray(Image.open(io.BytesIO(data))).tolist() == [[0, 0], [255, 0]]


@pytest.mark.parametrize("bad", [np.nan, np.inf, -0.1, 1.1])
def test_what_is_no_probability_is_refused(bad: float) -> None:
    with pytest.raises(ValueError, match="probabilities"):
        encode_heatmap(np.array([[0.5, bad]], dtype=np.float32))


@pytest.mark.parametrize("bad", [np.zeros((2, 2, 1), bool), np.zeros((2, 2), np.uint8), np.zeros((0, 2), bool)])
def test_other_shapes_and_types_are_refused(bad: np.ndarray) -> None:
    with pytest.raises(ValueError, match="expected"):
        encode_mask(bad)


def test_a_large_heatmap_needs_two_bytes_per_pixel_more() -> None:
    heatmap = np.zeros((2000, 4000), dtype=np.float32)
    tracemalloc.start()
    encode_heatmap(heatmap)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 2 * heatmap.size + 8 * 1024 * 1024


def arrays(width: int, height: int, box: tuple[int, int, int, int] | None = None) -> Arrays:
    """A grey picture, and a box (left, top, right, bottom) that is hot and marked."""
    pixels = np.full((height, width, 3), 128, np.uint8)
    heat = np.zeros((height, width), np.float32)
    if box is not None:
        heat[box[1] : box[3], box[0] : box[2]] = 1
    return pixels, heat, heat > 0.5


def previews(images: Arrays) -> dict[str, Image.Image]:
    """The small pictures by name."""
    return {name: Image.open(io.BytesIO(data)) for name, data in encode_previews(*images).items()}


def opaque(image: Image.Image) -> NDArray[np.bool_]:
    """H×W bool: where a picture with transparency shows something."""
    return np.asarray(image.convert("RGBA"))[..., 3] > 0


@pytest.mark.parametrize(
    ("size", "preview", "thumb"),
    [
        ((16, 16), (16, 16), (16, 16)),
        ((1, 1), (1, 1), (1, 1)),
        ((384, 256), (384, 256), (160, 107)),
        ((1600, 1200), (1600, 1200), (160, 120)),
        ((1601, 1200), (1600, 1199), (160, 120)),
        ((3300, 2000), (1600, 970), (160, 97)),
        ((9000, 20), (1600, 20), (160, 6)),
        ((20, 9000), (20, 1600), (6, 160)),
        ((6000, 1), (1600, 1), (160, 1)),
        ((20000, 600), (1600, 64), (160, 6)),
        ((600, 20000), (64, 1600), (6, 160)),
        ((65500, 40), (1600, 40), (160, 6)),
    ],
)
def test_sizes(size: tuple[int, int], preview: tuple[int, int], thumb: tuple[int, int]) -> None:
    opened = previews(arrays(*size, box=(0, 0, 1, 1)))
    assert opened["preview"].size == opened["heat_overlay"].size == preview
    assert opened["thumbnail"].size == thumb
    scale = max(1, 512 // max(preview))
    assert opened["outline"].size == (preview[0] * scale, preview[1] * scale)
    formats = {"preview": "JPEG", "heat_overlay": "PNG", "outline": "PNG", "thumbnail": "JPEG"}
    assert {name: image.format for name, image in opened.items()} == formats
    assert opened["heat_overlay"].mode == opened["outline"].mode == "P"


def test_the_preview_shows_the_image() -> None:
    pixels, heat, mask = arrays(3000, 2000)
    pixels[:, 1500:] = (250, 20, 20)
    preview = np.asarray(previews((pixels, heat, mask))["preview"]).astype(int)
    assert np.abs(preview[:, :790] - 128).max() < 6
    assert np.abs(preview[:, 810:] - (250, 20, 20)).max() < 12


def test_heat_is_transparent_where_low_and_coloured_where_high() -> None:
    heat = np.asarray(previews(arrays(100, 80, box=(10, 10, 50, 50)))["heat_overlay"].convert("RGBA"))
    assert (heat[0, 0, 3], heat[30, 30, 3]) == (0, 235)
    assert tuple(heat[30, 30, :3]) == tuple(inferno()[255])


@pytest.mark.parametrize("size", [(300, 200), (12000, 800)])
def test_a_single_marked_pixel_stays_visible(size: tuple[int, int]) -> None:
    width, height = size
    shown = previews(arrays(width, height, (width // 2, height // 2, width // 2 + 1, height // 2 + 1)))
    seen = opaque(shown["outline"])
    rows, columns = np.nonzero(seen)
    assert np.ptp(rows) >= 2 and np.ptp(columns) >= 2
    assert abs(columns.mean() / seen.shape[1] - 0.5) < 0.01 and abs(rows.mean() / seen.shape[0] - 0.5) < 0.02
    thumb = np.asarray(shown["thumbnail"]).astype(int)
    assert np.abs(thumb - LINE).sum(-1).min() < 120, "the outline is in the thumbnail"


def test_the_outline_surrounds_the_mask_and_leaves_it_free() -> None:
    seen = opaque(previews(arrays(600, 400, box=(200, 100, 400, 300)))["outline"])
    assert not seen[105:295, 205:395].any(), "what is marked can be seen"
    assert not seen[:90].any() and not seen[:, :190].any()
    assert seen[98:102, 250].sum() >= 2 and seen[200, 198:202].sum() >= 2, "at least two pixels wide"
    seen = opaque(previews(arrays(600, 400, box=(0, 0, 600, 400)))["outline"])
    assert seen[0].all() and seen[:, -1].all() and not seen[10:-10, 10:-10].any()
    unmarked = previews(arrays(300, 200))
    assert not opaque(unmarked["outline"]).any()
    assert np.abs(np.asarray(unmarked["thumbnail"]).astype(int) - 128).max() < 4


def test_inferno_is_uniform_and_like_the_original() -> None:
    table = inferno()
    # From matplotlib's table.
    for index, colour in {0: (0, 0, 4), 64: (87, 16, 110), 128: (188, 55, 84), 192: (249, 142, 9)}.items():
        assert np.abs(table[index].astype(int) - colour).max() <= 6
    luminance = table @ np.array([0.2126, 0.7152, 0.0722])
    assert (np.diff(luminance) > -0.5).all() and luminance[-1] > 240
    assert opacity()[0] == 0 and (np.diff(opacity().astype(int)) >= 0).all()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda p, h, m: (p[:-1], h, m), "shapes differ"),
        (lambda p, h, m: (p, h[:, :-1], m), "shapes differ"),
        (lambda p, h, m: (p[..., :1], h, m), "shapes differ"),
        (lambda p, h, m: (p, h * np.nan, m), "within"),
        (lambda p, h, m: (p, h - 1, m), "within"),
        (lambda p, h, m: (p, h + 255, m), "within"),
    ],
)
def test_wrong_arrays_are_refused(change: Callable[..., Arrays], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        previews(change(*arrays(30, 20)))


def test_a_large_image_needs_little_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    images = arrays(6000, 4000, (100, 100, 3000, 2000))
    handed_over: list[int] = []  # to Pillow, whose memory tracemalloc does not see
    original = Image.fromarray

    def watched(array: NDArray[np.uint8]) -> Image.Image:
        handed_over.append(array.nbytes)
        return original(array)

    monkeypatch.setattr(Image, "fromarray", watched)
    tracemalloc.start()
    previews(images)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 40e6 and max(handed_over) < 8e6, "the pixels alone are 72 MB"


@pytest.mark.parametrize(("shape", "size"), [((30, 40), (40, 30)), ((1, 1), (1, 1)), ((3200, 1000), (500, 1600))])
def test_a_panel_is_opaque_and_no_larger_than_a_preview(shape: tuple[int, int], size: tuple[int, int]) -> None:
    values = np.zeros(shape, np.float32)
    values[: shape[0] // 2] = 1
    with Image.open(io.BytesIO(encode_panel(values))) as panel:
        assert panel.size == size and "transparency" not in panel.info
        colours = np.asarray(panel.convert("RGB"))
    assert np.array_equal(colours[-1, 0], inferno()[0])
    if shape[0] > 1:
        assert np.array_equal(colours[0, 0], inferno()[255])
    for wrong in (np.nan, 2.0, -1.0):
        with pytest.raises(ValueError, match="within"):
            encode_panel(np.full((4, 4), wrong, np.float32))


def picture(height: int = 80, width: int = 96, orientation: int = 1) -> Photo:
    pixels = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Photo("a.jpg", FileIdentity(sha256="a" * 64, byte_size=1, sniffed_type="jpeg", claimed_type=None), 0, 1,
                 pixels, orientation)  # fmt: skip


@pytest.mark.parametrize(("height", "width"), [(80, 96), (1, 1), (1, 200), (9, 300)])
@pytest.mark.parametrize("orientation", [1, 6])
def test_each_method_gives_a_map_of_the_image_as_displayed(height: int, width: int, orientation: int) -> None:
    found = dict(panels(picture(height, width, orientation)))
    assert list(found) == list(PANELS)
    for values in found.values():
        if isinstance(values, str):
            assert min(height, width) < 16, values
        else:
            assert values.shape == ((width, height) if orientation == 6 else (height, width))
            assert values.min() >= 0 and values.max() <= 1


def test_a_large_image_gets_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PANEL_MEGAPIXELS", 0.001)
    assert dict(panels(picture())) == dict.fromkeys(PANELS, "larger than 0.001 megapixels")


@pytest.mark.parametrize(
    ("raised", "why"),
    [
        (MemoryError(), "out of memory"),
        (ValueError("too thin"), "the method failed: too thin"),
        (ZeroDivisionError("nothing there"), "the method failed: nothing there"),
        (np.full((80, 96), np.nan, np.float32), "the method gave no map"),
        (np.full((80, 96), 2, np.float32), "the method gave no map"),
        (np.zeros((8, 8), np.float32), "the method gave no map"),
    ],
)
def test_a_method_that_fails_costs_its_panel(
    monkeypatch: pytest.MonkeyPatch, raised: Exception | np.ndarray, why: str
) -> None:
    def broken(_: np.ndarray) -> np.ndarray:
        if isinstance(raised, Exception):
            raise raised
        return raised

    monkeypatch.setattr(module, "_methods", lambda: {"jpeg_ghosts": broken})
    assert list(panels(picture())) == [("jpeg_ghosts", why)]


@pytest.fixture
def evidence(tmp_path: Path) -> Path:
    folder = tmp_path / "evidence"
    (folder / "sub").mkdir(parents=True)
    (folder / "sub" / "a.jpg").write_bytes(jpeg(96, 80))
    (folder / "turned.jpg").write_bytes(oriented_jpeg(6))
    (folder / "pages.tif").write_bytes(tiff(2))
    return folder


def scan(evidence: Path, out: Path, model: Path, **options: bool) -> RunRecord:
    return pipeline.scan([evidence], out, ScanOptions(model=str(model), device="cpu", **options), SILENT)


def test_panels_change_nothing_but_what_they_add(evidence: Path, model: Path, tmp_path: Path) -> None:
    out, plain = tmp_path / "out", tmp_path / "plain"
    scan(evidence, plain, model)
    assert scan(evidence, out, model).counts.resumed == 0
    assert scan(evidence, out, model, panels=True).counts.resumed == 0
    written = {path.relative_to(out).as_posix() for path in (out / "panels").rglob("*") if path.is_file()}
    stems = ("sub/a.jpg", "turned.jpg", "pages.tif.p0000", "pages.tif.p0001")
    assert written == {f"panels/evidence/{stem}{suffix}" for stem in stems for suffix in PANELS.values()}
    found, others = records(out), records(plain)
    assert {getattr(record.outputs, name) for record in found.values() for name in PANELS} == written
    for key, record in found.items():
        with Image.open(out / record.outputs.jpeg_ghosts) as shown:
            assert shown.size == (record.width, record.height)
        assert (plain / record.outputs.mask).read_bytes() == (out / record.outputs.mask).read_bytes()
        assert others[key].verdicts == record.verdicts
    assert not (plain / "panels").exists(), "off by default"
    page = (out / "index.html").read_text()
    assert "aids, not verdicts" in page and "panels/evidence/sub/a.jpg.ela.png" in page
    # Resuming knows them.
    (out / found["evidence/turned.jpg", 0].outputs.noise_inconsistency).unlink()
    assert scan(evidence, out, model, panels=True).counts.resumed == 3
    assert scan(evidence, out, model).counts.resumed == 0
    assert not [path for path in (out / "panels").rglob("*") if path.is_file()], "outdated panels are gone"


def test_a_panel_that_fails_is_in_the_record(
    evidence: Path, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []

    def broken(pixels: np.ndarray) -> np.ndarray:
        seen.append(pixels.shape)
        raise MemoryError

    methods = module._methods()
    monkeypatch.setattr(module, "_methods", lambda: {**methods, "jpeg_ghosts": broken})
    run = scan(evidence, tmp_path / "out", model, panels=True)
    assert run.counts.images == 4 and run.counts.failures == 0
    assert seen.count((32, 48, 3)) == 3, "turned.jpg, as stored"
    for record in records(tmp_path / "out").values():
        assert record.outputs.jpeg_ghosts is None and record.outputs.error_level_analysis is not None
        assert "No panel of jpeg ghosts: out of memory." in [finding.statement for finding in record.findings]
        assert all((tmp_path / "out" / path).is_file() for path in record_log.pictures(record.outputs))
    assert scan(evidence, tmp_path / "out", model, panels=True).counts.resumed == 4
    assert json.loads((tmp_path / "out" / "run.json").read_text())["settings"]["panels"] is True
