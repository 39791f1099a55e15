"""The small pictures: sizes, colours, what stays visible, memory and time."""

from __future__ import annotations

import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from clue_cli.report.previews import LINE, inferno, opacity, write_panel, write_previews

Arrays = tuple[NDArray[np.uint8], NDArray[np.float32], NDArray[np.bool_]]


def arrays(width: int, height: int, box: tuple[int, int, int, int] | None = None) -> Arrays:
    """A grey picture, and a box (left, top, right, bottom) that is hot and marked."""
    pixels = np.full((height, width, 3), 128, np.uint8)
    heat = np.zeros((height, width), np.float32)
    if box is not None:
        heat[box[1] : box[3], box[0] : box[2]] = 1
    return pixels, heat, heat > 0.5


def opaque(path: Path) -> NDArray[np.bool_]:
    """H×W bool: where a picture with transparency shows something."""
    return np.asarray(Image.open(path).convert("RGBA"))[..., 3] > 0


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
def test_sizes(tmp_path: Path, size: tuple[int, int], preview: tuple[int, int], thumb: tuple[int, int]) -> None:
    files = write_previews(*arrays(*size, box=(0, 0, 1, 1)), tmp_path, "a")
    opened = {name: Image.open(tmp_path / file) for name, file in files._asdict().items()}
    assert opened["preview"].size == opened["heat_overlay"].size == preview
    assert opened["thumbnail"].size == thumb
    scale = max(1, 512 // max(preview))
    assert opened["outline"].size == (preview[0] * scale, preview[1] * scale)
    assert [image.format for image in opened.values()] == ["JPEG", "PNG", "PNG", "JPEG"]
    assert opened["heat_overlay"].mode == opened["outline"].mode == "P"


def test_nothing_but_the_four_files_is_left(tmp_path: Path) -> None:
    files = write_previews(*arrays(40, 30), tmp_path, "a 'b' #1")
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(files)
    assert files.preview == "a 'b' #1.preview.jpg"


def test_the_preview_shows_the_image(tmp_path: Path) -> None:
    pixels, heat, mask = arrays(3000, 2000)
    pixels[:, 1500:] = (250, 20, 20)
    files = write_previews(pixels, heat, mask, tmp_path, "a")
    preview = np.asarray(Image.open(tmp_path / files.preview)).astype(int)
    assert np.abs(preview[:, :790] - 128).max() < 6
    assert np.abs(preview[:, 810:] - (250, 20, 20)).max() < 12


def test_heat_is_transparent_where_low_and_coloured_where_high(tmp_path: Path) -> None:
    files = write_previews(*arrays(100, 80, box=(10, 10, 50, 50)), tmp_path, "a")
    heat = np.asarray(Image.open(tmp_path / files.heat_overlay).convert("RGBA"))
    assert (heat[0, 0, 3], heat[30, 30, 3]) == (0, 235)
    assert tuple(heat[30, 30, :3]) == tuple(inferno()[255])


@pytest.mark.parametrize("size", [(300, 200), (12000, 800)])
def test_a_single_marked_pixel_stays_visible(tmp_path: Path, size: tuple[int, int]) -> None:
    width, height = size
    box = (width // 2, height // 2, width // 2 + 1, height // 2 + 1)
    files = write_previews(*arrays(width, height, box), tmp_path, "a")
    seen = opaque(tmp_path / files.outline)
    rows, columns = np.nonzero(seen)
    assert np.ptp(rows) >= 2 and np.ptp(columns) >= 2
    assert abs(columns.mean() / seen.shape[1] - 0.5) < 0.01 and abs(rows.mean() / seen.shape[0] - 0.5) < 0.02
    thumb = np.asarray(Image.open(tmp_path / files.thumbnail)).astype(int)
    assert np.abs(thumb - LINE).sum(-1).min() < 120, "the outline is in the thumbnail"


def test_the_outline_surrounds_the_mask_and_leaves_it_free(tmp_path: Path) -> None:
    files = write_previews(*arrays(600, 400, box=(200, 100, 400, 300)), tmp_path, "a")
    seen = opaque(tmp_path / files.outline)
    assert not seen[105:295, 205:395].any(), "what is marked can be seen"
    assert not seen[:90].any() and not seen[:, :190].any()
    assert seen[98:102, 250].sum() >= 2 and seen[200, 198:202].sum() >= 2, "at least two pixels wide"


def test_a_wholly_marked_image_has_an_outline_along_its_border(tmp_path: Path) -> None:
    files = write_previews(*arrays(600, 400, box=(0, 0, 600, 400)), tmp_path, "a")
    seen = opaque(tmp_path / files.outline)
    assert seen[0].all() and seen[:, -1].all() and not seen[10:-10, 10:-10].any()


def test_without_a_mark_there_is_no_outline(tmp_path: Path) -> None:
    files = write_previews(*arrays(300, 200), tmp_path, "a")
    assert not opaque(tmp_path / files.outline).any()
    thumb = np.asarray(Image.open(tmp_path / files.thumbnail)).astype(int)
    assert np.abs(thumb - 128).max() < 4


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
def test_wrong_arrays_are_refused(tmp_path: Path, change: Callable[..., Arrays], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        write_previews(*change(*arrays(30, 20)), tmp_path, "a")


def test_a_full_disk_leaves_the_old_file_and_no_part(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_previews(*arrays(30, 20), tmp_path, "a")
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Image.Image, "save", full)
    with pytest.raises(OSError, match="No space left"):
        write_previews(*arrays(30, 20, (0, 0, 9, 9)), tmp_path, "a")
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_a_missing_folder_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        write_previews(*arrays(30, 20), tmp_path / "none", "a")


def test_a_large_image_needs_little_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    images = arrays(6000, 4000, (100, 100, 3000, 2000))
    handed_over: list[int] = []  # to Pillow, whose memory tracemalloc does not see
    original = Image.fromarray

    def watched(array: NDArray[np.uint8]) -> Image.Image:
        handed_over.append(array.nbytes)
        return original(array)

    monkeypatch.setattr(Image, "fromarray", watched)
    tracemalloc.start()
    write_previews(*images, tmp_path, "a")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 40e6 and max(handed_over) < 8e6, "the pixels alone are 72 MB"


def test_a_small_image_is_quick(tmp_path: Path) -> None:
    images = arrays(384, 256, (100, 100, 200, 180))
    best = float("inf")
    for _ in range(5):
        start = time.process_time()
        write_previews(*images, tmp_path, "a")
        best = min(best, time.process_time() - start)
    assert best < 0.06, "12 ms on an idle core; the limit allows for a busy one"


@pytest.mark.parametrize(("shape", "size"), [((30, 40), (40, 30)), ((1, 1), (1, 1)), ((3200, 1000), (500, 1600))])
def test_a_panel_is_opaque_and_no_larger_than_a_preview(
    tmp_path: Path, shape: tuple[int, int], size: tuple[int, int]
) -> None:
    values = np.zeros(shape, np.float32)
    values[: shape[0] // 2] = 1
    path = tmp_path / "panel.png"
    with path.open("wb") as stream:
        write_panel(stream, values)
    with Image.open(path) as panel:
        assert panel.size == size and "transparency" not in panel.info
        colours = np.asarray(panel.convert("RGB"))
    assert np.array_equal(colours[-1, 0], inferno()[0])
    if shape[0] > 1:
        assert np.array_equal(colours[0, 0], inferno()[255])


@pytest.mark.parametrize("value", [np.nan, 2.0, -1.0])
def test_a_panel_beyond_its_range_is_refused(tmp_path: Path, value: float) -> None:
    with (tmp_path / "panel.png").open("wb") as stream, pytest.raises(ValueError, match="within"):
        write_panel(stream, np.full((4, 4), value, np.float32))
