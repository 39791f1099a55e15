"""Forgeries: deterministic, masks that tell the truth, both classes with the same histories."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image

from model.data.forge import (
    EDIT_ERRORS,
    EDITS,
    LONGEST_REASON,
    Forgery,
    forge,
    forge_native,
    forge_photo,
    forge_plainly,
    reason,
)
from model.data.history import Published, decode
from model.data.scene import Scene, Tools, Window, blend
from model.data.source_photos import Cutout, SourcePhotos


def digest(sample: Forgery) -> str:
    return hashlib.sha256(sample.pixels.tobytes() + sample.mask.tobytes() + repr(sample.steps).encode()).hexdigest()


@pytest.mark.parametrize("kind", ["authentic", *EDITS])
def test_same_seed_same_sample_and_a_mask_that_fits(bank: SourcePhotos, kind: str) -> None:
    for seed in range(6):
        first, second = (forge(bank, np.random.default_rng(seed), 96, 128, kind) for _ in range(2))
        assert digest(first) == digest(second)
        assert first.pixels.shape == (96, 128, 3)
        assert first.mask.shape == (96, 128)
        assert (first.pixels.dtype, first.mask.dtype) == (np.uint8, np.bool_)
        assert first.mask.any() == (first.kind != "authentic")
        assert all(0 <= number < len(bank.paths) for number in first.photos)


_IN_ANOTHER_PROCESS = """
import sys, hashlib, pathlib, numpy as np
from model.data.forge import forge
from model.data.source_photos import SourcePhotos, Cutout
*photos, mask = map(pathlib.Path, sys.argv[1:])
bank = SourcePhotos(photos, [Cutout(1, mask)])
for seed in range(8):
    s = forge(bank, np.random.default_rng([3, seed]), 80, 96)
    print(hashlib.sha256(s.pixels.tobytes() + s.mask.tobytes() + repr(s.steps).encode()).hexdigest())
"""


def test_same_seed_same_sample_in_another_process(bank: SourcePhotos) -> None:
    words = [str(path) for path in (*bank.paths, bank.cutouts[1].path)]
    environment = os.environ | {"PYTHONHASHSEED": "7", "PYTHONPATH": str(Path(__file__).parents[3])}
    run = subprocess.run(
        [sys.executable, "-c", _IN_ANOTHER_PROCESS, *words], env=environment, capture_output=True, text=True, check=True
    )
    here = SourcePhotos(bank.paths, [Cutout(1, bank.cutouts[1].path)])
    assert run.stdout.split() == [digest(forge(here, np.random.default_rng([3, s]), 80, 96)) for s in range(8)]


@pytest.mark.parametrize("make", ["crop", "photo", "plain"])
def test_the_jpeg_decodes_to_the_pixels(bank: SourcePhotos, make: str) -> None:
    files = 0
    for seed in range(25):
        rng = np.random.default_rng(seed)
        if make == "crop":
            sample = forge(bank, rng, 64, 80)
        else:
            sample = forge_photo(bank, rng, seed % 4) if make == "photo" else forge_plainly(bank, rng, 64, 80)
        if sample.jpeg is not None:
            files += 1
            assert sample.steps[-1].startswith("jpeg")
            assert np.array_equal(decode(sample.jpeg), sample.pixels)
    assert files > 12


@pytest.mark.parametrize("kind", ["authentic", *EDITS])
def test_a_whole_photo_keeps_its_size_unless_it_is_resized_afterwards(bank: SourcePhotos, kind: str) -> None:
    for seed in range(5):
        sample = forge_photo(bank, np.random.default_rng([2, seed]), 2, kind)
        resized = any(step.startswith(("resized", "screenshot")) for step in sample.steps)
        assert (sample.pixels.shape == (300, 400, 3)) == (not resized)
        assert sample.mask.shape == sample.pixels.shape[:2]
        assert sample.photos[0] == 2


def test_removal_of_a_whole_photo_prefers_an_object_of_its_own(bank: SourcePhotos) -> None:
    samples = [forge_photo(bank, np.random.default_rng([4, seed]), 1, "removal") for seed in range(12)]
    whole = [s for s in samples if s.mask.shape == (300, 400)]
    objects = sum(int(s.mask.sum()) == 120 * 150 for s in whole)
    assert objects >= len(whole) // 3


def test_photos_of_one_colour_give_authentic_pictures(tmp_path: Path) -> None:
    Image.new("RGB", (90, 90), (9, 9, 9)).save(tmp_path / "grey.png")
    grey = SourcePhotos([tmp_path / "grey.png"])
    rng = np.random.default_rng(0)
    assert forge(grey, rng, 64, 64, "removal").kind == "authentic"
    assert forge_photo(grey, rng, 0, "removal").kind == "authentic"
    assert forge_native(grey, rng, 64, 64, "removal").kind == "authentic"


def test_an_unknown_kind_is_an_error(bank: SourcePhotos) -> None:
    for call in (
        lambda r: forge(bank, r, 64, 64, "magic"),
        lambda r: forge_photo(bank, r, 0, "magic"),
        lambda r: forge_native(bank, r, 64, 64, "magic"),
    ):
        with pytest.raises(ValueError, match=r"'magic'; expected authentic, splice"):
            call(np.random.default_rng(0))


@pytest.mark.parametrize(
    ("kind", "what"), [("removal", "the given inpainting pipeline"), ("resynthesis", "the given autoencoder")]
)
def test_models_of_the_user_are_used_and_named(bank: SourcePhotos, kind: str, what: str) -> None:
    def paint(pixels: np.ndarray, mask: np.ndarray, seed: int) -> np.ndarray:
        return np.where(mask[..., None], np.uint8(255), pixels)

    tools = Tools(inpainter=paint, autoencoder=lambda pixels: 255 - pixels)
    made = [forge(bank, np.random.default_rng(s), 96, 96, kind, tools=tools) for s in range(8)]
    assert any(what in step for sample in made for step in sample.steps)


def test_the_mask_covers_what_changed(bank: SourcePhotos, pages: SourcePhotos, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without any history, nothing outside the mask (and the feather around it) differs from the host."""
    monkeypatch.setattr("model.data.history.publish", lambda pixels, rng: Published(pixels, []))
    hosts = []

    def keep(pixels: np.ndarray, rng: np.random.Generator, steps: list[str]) -> np.ndarray:
        hosts.append(pixels.copy())
        return pixels

    monkeypatch.setattr("model.data.forge._with_history", keep)
    checked: Counter[str] = Counter()
    for kind in EDITS:
        for seed in range(20):
            sample = forge(pages if kind == "document" else bank, np.random.default_rng(seed), 96, 128, kind)
            moved = any(step.startswith(("resized", "screenshot")) or step == "poisson" for step in sample.steps)
            if sample.kind == "authentic" or moved:
                continue
            grown = cv2.dilate(sample.mask.astype(np.uint8), np.ones((25, 25), np.uint8)) > 0
            assert np.array_equal(sample.pixels[~grown], hosts[-1][~grown])
            assert (sample.pixels != hosts[-1]).any()
            checked[kind] += 1
    assert all(checked[kind] >= 5 for kind in EDITS), checked


def test_both_classes_go_through_the_same_histories(bank: SourcePhotos) -> None:
    def share_with_jpeg_last(kind: str) -> float:
        last = [forge(bank, np.random.default_rng(seed), 64, 64, kind).steps[-1:] for seed in range(150)]
        return float(np.mean([bool(step) and step[0].startswith("jpeg") for step in last]))

    assert share_with_jpeg_last("authentic") == pytest.approx(share_with_jpeg_last("splice"), abs=0.15)


@pytest.mark.parametrize("side", [1, 3, 4, 5])
def test_a_thin_region_that_opencv_cannot_solve_is_blended_otherwise(bank: SourcePhotos, side: int) -> None:
    class Poisson(np.random.Generator):
        def choice(self, *_: Any, **__: Any) -> Any:
            return "poisson"

    host = np.random.default_rng(0).integers(0, 256, (60, 80, 3), dtype=np.uint8)
    for height, width in ((side, 20), (20, side)):
        mask = np.zeros((60, 80), bool)
        mask[15 : 15 + height, 20 : 20 + width] = True
        scene = Scene(bank, Poisson(np.random.PCG64(0)), host, [], [0])
        patch = np.full((60, 80, 3), 128, np.uint8)
        made = blend(scene, patch, mask, Window(0, 0, 60, 80))
        assert (made[mask] != host[mask]).any()
        assert scene.steps in (["poisson"], ["feathered"])
        assert side < 5 or scene.steps == ["poisson"]


@pytest.mark.parametrize("make", [forge, forge_plainly])
def test_small_regions_alone_can_be_asked_for(bank: SourcePhotos, make: Callable[..., Forgery]) -> None:
    made = [make(bank, np.random.default_rng([5, seed]), 128, 128, largest=0.02) for seed in range(12)]
    areas = [sample.mask.mean() for sample in made if sample.kind in ("splice", "copy_move")]
    assert len(areas) >= 4
    assert min(areas) > 0
    assert np.median(areas) < 0.03  # a piece of another photo that keeps its own size may be larger


def places_in(photo: np.ndarray, piece: np.ndarray) -> list[tuple[int, int]]:
    """Where a piece lies in a photo, to the pixel."""
    height, width = piece.shape[:2]
    corners = np.lib.stride_tricks.sliding_window_view(photo[..., 0], (2, 2))
    found = np.argwhere((corners == piece[:2, :2, 0]).all((2, 3)))
    return [(y, x) for y, x in found.tolist() if np.array_equal(photo[y : y + height, x : x + width], piece)]


@pytest.mark.parametrize(
    ("asked", "size"), [((96, 128), (96, 128)), ((512, 128), (300, 128)), ((301, 401), (300, 400))], ids=str
)
def test_an_untouched_piece_is_cut_on_the_grid_of_the_photo(
    bank: SourcePhotos, asked: tuple[int, int], size: tuple[int, int]
) -> None:
    corners = set()
    untouched = 0
    for seed in range(24):
        made = forge_native(bank, np.random.default_rng(seed), *asked, "authentic", number=1)
        assert (made.kind, made.photos, made.pixels.shape) == ("authentic", [1], (*size, 3))
        assert made.mask.shape == size and not made.mask.any()
        assert all(step.startswith("jpeg") for step in made.steps) and len(made.steps) <= 2
        found = places_in(bank.photo(1), made.pixels)
        if made.steps:
            assert not found
        else:
            ((top, left),) = found
            assert top % 8 == left % 8 == 0
            corners.add((top, left))
            untouched += 1
    assert 4 < untouched < 20  # the others were saved again, or compressed before
    assert len(corners) == 1 if size == (300, 400) else len(corners) > 3


@pytest.mark.parametrize("kind", EDITS)
def test_every_kind_is_made_at_the_photos_own_resolution(bank: SourcePhotos, pages: SourcePhotos, kind: str) -> None:
    source, made = (pages if kind == "document" else bank), []
    for seed in range(6):
        one, same = (forge_native(source, np.random.default_rng(seed), 128, 160, kind, number=2) for _ in range(2))
        assert digest(one) == digest(same)
        assert one.pixels.shape == (128, 160, 3) and one.mask.shape == (128, 160)
        assert one.mask.any() == (one.kind == kind) and one.photos[0] == 2
        assert one.steps or one.kind == "authentic"
        if one.jpeg is not None:
            assert one.steps[-1].startswith("jpeg") and np.array_equal(decode(one.jpeg), one.pixels)
        made.append(one.kind)
    assert made.count(kind) >= 5


def test_a_native_forgery_is_saved_once_and_nothing_else_is_changed(bank: SourcePhotos) -> None:
    """Where it was saved without loss, all that is not near the mask is the photo."""
    lossless = 0
    for seed in range(40):
        made = forge_native(bank, np.random.default_rng(seed), 96, 128, "copy_move", number=0)
        whole = [step for step in made.steps if step.startswith("jpeg")]
        assert len(whole) <= 2 and not any(step.startswith(("resized", "screenshot")) for step in made.steps)
        if whole or "poisson" in made.steps:
            continue
        lossless += 1
        far = cv2.dilate(made.mask.astype(np.uint8), np.ones((25, 25), np.uint8)) == 0
        y, x = np.nonzero(far)
        assert any(
            np.array_equal(bank.photo(0)[y + top, x + left], made.pixels[far])
            for top in range(0, 300 - 96 + 1, 8)
            for left in range(0, 400 - 128 + 1, 8)
            if np.array_equal(bank.photo(0)[y[:9] + top, x[:9] + left], made.pixels[y[:9], x[:9]])
        )
    assert lossless >= 3


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (cv2.error("(-215:Assertion failed)\n  !ssize.empty()"), "OpenCV: (-215:Assertion failed) !ssize.empty()"),
        (MemoryError(), "MemoryError"),
        (IndexError("a\n  b"), "IndexError: a b"),
        (ZeroDivisionError("x" * 1000), f"ZeroDivisionError: {'x' * 1000}"[:LONGEST_REASON]),
    ],
    ids=["OpenCV", "without words", "two lines", "long"],
)
def test_the_reason_is_one_line(error: Exception, said: str) -> None:
    assert isinstance(error, EDIT_ERRORS)
    assert reason(error) == said
