"""The edits by themselves, before any history: what each changes, where, and what it says of it."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.ndimage import label

from model.data import document as writing
from model.data.document import FEWEST, HOW, MOST_EDITS, document, ink_of, word_boxes
from model.data.local_edit import removal, words
from model.data.scene import Scene, Tools
from model.data.source_photos import SourcePhotos
from model.data.splice import PIECES, copy_move, splice, splices
from tests.drawn_pictures import noise, page

Pixels = NDArray[np.uint8]
Mask = NDArray[np.bool_]


def scene(bank: SourcePhotos, seed: int, host: Pixels | None = None, **changes: Any) -> Scene:
    host = np.ascontiguousarray(bank.photo(0)[:128, :160]) if host is None else host
    return Scene(bank, np.random.default_rng(seed), host, [], [0], **changes)


def pieces(mask: Mask) -> int:
    return int(label(mask, np.ones((3, 3)))[1])


def test_splices_have_two_to_four_pieces(bank: SourcePhotos) -> None:
    counts: Counter[int] = Counter()
    found = []
    for seed in range(24):
        one = scene(bank, seed, bank.photo(0), largest=0.03)
        host = one.host.copy()
        edited, mask = splices(one)
        assert np.array_equal(one.host, host), "the host stays as it is"
        counts[sum(step.startswith("splice of") for step in one.steps)] += 1
        found.append(pieces(mask))
        assert (edited != host).any(2)[mask].mean() > 0.5
        assert len(one.used) == 1 + sum(step.startswith("splice of") for step in one.steps)
    assert set(counts) == {2, 3, 4}
    assert np.mean(np.array(found) >= 2) > 0.7
    assert max(found) > 2


def test_most_splices_have_one_piece(bank: SourcePhotos) -> None:
    counts: Counter[int] = Counter()
    for seed in range(40):
        one = scene(bank, seed, largest=0.02)
        splice(one)
        counts[sum(step.startswith("splice of") for step in one.steps)] += 1
    assert set(counts) <= {1, 2, 3, 4}
    assert counts[1] / 40 == pytest.approx(PIECES[0], abs=0.2)


def test_copies_are_turned_to_any_angle_scaled_and_repeated(bank: SourcePhotos) -> None:
    turns, scales, found = [], [], []
    for seed in range(120):
        one = scene(bank, seed, smallest=0.01, largest=0.03)
        host = one.host.copy()
        edited, mask = copy_move(one)
        assert np.array_equal(one.host, host), "the host stays as it is"
        said = [re.fullmatch(r"scaled by (.+), turned by (.+)°", step) for step in one.steps]
        scales += [float(match[1]) for match in said if match]
        turns += [float(match[2]) for match in said if match]
        found.append(pieces(mask))
        assert one.steps.count("copy-move") == 1 and (edited != host).any(2)[mask].any()
    assert 40 < len(turns) < 120  # the others are only moved
    assert 0.4 < min(scales) < 0.6 and 1.7 < max(scales) < 2.2
    assert min(turns) < -120 and max(turns) > 120
    assert np.mean(np.array(scales) == 1) > 0.15 and np.mean(np.array(turns) == 0) > 0.15  # turned alone, scaled alone
    assert 0.05 < np.mean(np.array(found) > 1) < 0.3


def test_a_plain_copy_is_one(bank: SourcePhotos) -> None:
    for seed in range(40):
        assert pieces(copy_move(scene(bank, seed, plain=True, smallest=0.01, largest=0.03))[1]) <= 1


def test_half_of_what_was_removed_goes_through_the_autoencoder(bank: SourcePhotos) -> None:
    seen: list[Pixels] = []

    def green(pixels: Pixels) -> Pixels:
        seen.append(pixels)
        return np.broadcast_to(np.uint8([0, 255, 0]), pixels.shape)

    through = []
    for seed in range(40):
        one = scene(bank, seed, largest=0.03, tools=Tools(autoencoder=green))
        edited, mask = removal(one)
        through.append("through the given autoencoder" in one.steps)
        inside = cv2.erode(mask.astype(np.uint8), np.ones((13, 13), np.uint8)) > 0  # whatever the blending
        is_green = (edited == (0, 255, 0)).all(2)
        if "poisson" not in one.steps:
            assert is_green[inside].all() if through[-1] else not is_green.any()
        plain = scene(bank, seed, largest=0.03)
        removal(plain)
        assert plain.steps and "through the given autoencoder" not in plain.steps
    assert np.mean(through) == pytest.approx(0.5, abs=0.25)
    assert len(seen) == sum(through)


@pytest.mark.parametrize("dark", [False, True], ids=["dark on light", "light on dark"])
def test_words_are_found(dark: bool) -> None:
    pixels = page(dark=dark)
    boxes = word_boxes(pixels)
    assert len(boxes) == 7 * 5
    paper = pixels[0, 0].astype(int)
    covered = np.zeros(pixels.shape[:2], bool)
    for box in boxes:
        covered[box.slices] = True
    ink = np.abs(pixels.astype(int) - paper).max(2) > 100
    assert covered[ink].mean() > 0.97
    assert 0 < covered.mean() < 0.35
    assert [box.top for box in boxes] == sorted(box.top for box in boxes)


@pytest.mark.parametrize("pixels", [noise(), np.full((256, 384, 3), 200, np.uint8)], ids=["noise", "one colour"])
def test_where_there_are_no_words_nothing_is_changed(pages: SourcePhotos, pixels: Pixels) -> None:
    assert len(word_boxes(pixels)) < FEWEST
    one = scene(pages, 0, pixels)
    edited, mask = document(one)
    assert edited is pixels and not mask.any() and one.steps == []


@pytest.mark.parametrize("number", [0, 2], ids=["dark on light", "light on dark"])
def test_changed_words_are_what_the_mask_says(pages: SourcePhotos, number: int) -> None:
    host = pages.photo(number)
    before = np.array(host)
    said: Counter[str] = Counter()
    for seed in range(24):
        one = scene(pages, seed, host)
        edited, mask = document(one)
        assert np.array_equal(edited[~mask], before[~mask])
        assert np.array_equal(host, before)
        assert 1 <= len(one.steps) <= MOST_EDITS or not mask.any()
        if mask.any():
            assert (edited != before)[mask].any()
            assert mask.mean() < 0.3
        said.update(one.steps)
    assert set(said) == {f"a word {how}" for how in HOW}


def test_a_word_from_another_page_names_it(pages: SourcePhotos) -> None:
    for seed in range(30):
        one = scene(pages, seed, pages.photo(0))
        document(one)
        assert len(one.used) == 1 + one.steps.count("a word from another page")


def test_writing_has_the_paper_and_the_ink_of_what_it_replaces() -> None:
    for dark in (False, True):
        below = page(64, 120, dark=dark)[10:36]
        paper, ink = np.median(below, (0, 1)), (238.0 if dark else 17.0)
        for seed in range(12):
            rng = np.random.default_rng(seed)
            written = ink_of(words(rng), 14, below, rng)
            assert written.shape[2] == 3 and 5 < written.shape[0] < 40 < 4 * written.shape[1]
            flat = written.reshape(-1, 3).astype(float)
            assert np.abs(np.median(flat[np.abs(flat - paper).max(1) < 8], 0) - paper).max() < 3
            assert np.abs(flat - ink).max(1).min() < 100


def test_without_fonts_of_the_system_words_are_written_too(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "broken.ttf").write_bytes(b"no font")
    monkeypatch.setattr("model.data.document.FONT_FOLDERS", (str(tmp_path), str(tmp_path / "none")))
    monkeypatch.setattr("model.data.document._fonts", writing._fonts.__wrapped__)  # without its cache
    assert writing._fonts() == ()
    written = ink_of("abc", 20, page(64, 120)[10:36], np.random.default_rng(0))
    assert written.min() < 60 and written.max() > 240
