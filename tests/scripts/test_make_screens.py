"""Untouched screens and pages: the sides share nothing, and files are what their names say."""

from __future__ import annotations

import json
import random
import re
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from model.data.document import word_boxes
from tests.drawn_pictures import page
from tests.scripts.conftest import modules_of_scripts

NAMES = ("screen_templates", "document_templates", "make_screens")


@pytest.fixture(scope="module")
def scripts() -> Iterator[SimpleNamespace]:
    with modules_of_scripts(*NAMES) as found:
        yield found


def test_no_layout_word_or_font_is_on_both_sides(scripts: SimpleNamespace) -> None:
    templates = scripts.screen_templates
    names = {side: [one.name for one in templates.LAYOUTS if one.side == side] for side in ("train", "test")}
    assert min(map(len, names.values())) > 15
    assert not set(names["train"]) & set(names["test"])
    assert all(count == 1 for side in names.values() for count in Counter(side).values())
    assert not any("_" in name for side in names.values() for name in side), "the name of a template ends at the first"
    for side in ("train", "test"):
        assert {one.category for one in templates.LAYOUTS if one.side == side} > {"document"}
    fonts = [{font for family in templates.FONTS[side].values() for font in family} for side in ("train", "test")]
    assert not fonts[0] & fonts[1]
    drawn = scripts.make_screens.DRAWINGS
    assert drawn["train"] and drawn["test"] and not set(drawn["train"]) & set(drawn["test"])


def test_every_layout_is_a_page_and_the_same_each_time(scripts: SimpleNamespace) -> None:
    templates = scripts.screen_templates
    for chosen in templates.LAYOUTS:
        made = [
            chosen.make(templates.Gen(chosen.side, key, 640, 800, paper=chosen.category == "document"))
            for key in ("1", "1", "2")
        ]
        assert made[0] == made[1] != made[2], chosen.name
        assert "<body" in made[0] and "http" not in re.sub(r"http://www\.w3\.org\S*", "", made[0]), chosen.name


@pytest.mark.parametrize("side", ["train", "test"])
def test_drawings_need_no_browser(scripts: SimpleNamespace, side: str) -> None:
    for draw in scripts.make_screens.DRAWINGS[side]:
        image, again = draw(random.Random(3)), draw(random.Random(3))
        assert image.mode == "RGB" and min(image.size) >= 400
        assert image.tobytes() == again.tobytes() and np.asarray(image).std() > 5, draw.__name__


def test_shares_are_dealt_to_the_last_one(scripts: SimpleNamespace) -> None:
    shares = {"png": 45, "alpha": 5, "jpg": 35, "resized": 10, "webp": 5}
    for count in (1, 7, 20, 100):
        dealt = scripts.make_screens.dealt(shares, count, random.Random(0))
        assert len(dealt) == count
    assert Counter(dealt) == shares
    assert dealt != scripts.make_screens.dealt(shares, count, random.Random(1))


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        ("png", r"a_png\.png"),
        ("alpha", r"a_alpha\.png"),
        ("jpg", r"a_jpg(\d+)-4(20|44)\.jpg"),
        ("resized", r"a_resized(\d+)(\.png|_jpg\d+-4(20|44)\.jpg)"),
        ("webp", r"a_webp\d+\.png"),
    ],
)
def test_a_picture_is_saved_as_its_name_says(scripts: SimpleNamespace, tmp_path: Path, kind: str, name: str) -> None:
    image = Image.fromarray(page(640, 800))
    for seed in range(6):
        folder = tmp_path / str(seed)
        folder.mkdir()
        scripts.make_screens.save(image.copy(), folder / "a", random.Random(seed), kind)
        (path,) = folder.iterdir()
        match = re.fullmatch(name, path.name)
        assert match, path.name
        with Image.open(path) as saved:
            assert saved.format == {".png": "PNG", ".jpg": "JPEG"}[path.suffix]
            assert saved.mode == ("RGBA" if kind == "alpha" else "RGB")
            factor = int(match[1]) / 100 if kind == "resized" else 1
            assert saved.size == pytest.approx([side * factor for side in image.size], abs=5)
            same = np.array_equal(np.asarray(saved.convert("RGB")), image) if factor == 1 else False
        assert same == (kind in ("png", "alpha"))


def test_a_scan_is_a_page_with_noise(scripts: SimpleNamespace) -> None:
    clean = Image.fromarray(page(320, 480))
    for seed in range(4):
        scanned = np.asarray(scripts.make_screens.scan(clean, random.Random(seed)))
        assert scanned.shape == (320, 480, 3)
        flat = scanned[150:156, 2:10].astype(float)  # a margin
        assert 0.3 < flat.std() < 40
        assert len(word_boxes(scanned)) > 10


def test_a_part_of_the_screen_is_large_and_shows_something(scripts: SimpleNamespace) -> None:
    image = Image.fromarray(page(640, 800))
    sizes = set()
    for seed in range(10):
        part = scripts.make_screens.snip(image, random.Random(seed))
        assert part.width * part.height >= 2e5 and np.asarray(part.convert("L")).std() > 15
        sizes.add(part.size)
    assert len(sizes) > 3
    assert scripts.make_screens.snip(small := image.crop((0, 0, 300, 300)), random.Random(0)) is small


@pytest.mark.parametrize("shape", ["phone", "desktop", "any", "page", "card", "strip", "slide"])
def test_windows_have_the_sizes_of_evidence(scripts: SimpleNamespace, shape: str) -> None:
    for seed in range(60):
        w, h, scale = scripts.make_screens.window(shape, random.Random(seed))
        assert 1.2e5 < w * h * scale**2 <= 2.1e6
        assert w > h or shape not in ("card", "slide")
        assert h > w or shape not in ("page", "phone", "strip")


@pytest.mark.browser
def test_a_browser_makes_a_folder(scripts: SimpleNamespace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    words = ["script", "--out", tmp_path, "--count", 3, "--pages", 2, "--side", "test"]
    monkeypatch.setattr(sys, "argv", list(map(str, words)))
    scripts.make_screens.main()
    assert len(list((tmp_path / "test").iterdir())) == 3
    pages: list[Path] = sorted((tmp_path / "pages" / "test").glob("*.png"))
    assert len(pages) == 2
    for path in pages:
        found: list[dict[str, Any]] = json.loads(path.with_suffix(".json").read_text("utf-8"))
        with Image.open(path) as image:
            grey, size = np.asarray(image.convert("L"), np.float64), image.size
        assert len(found) > 5 and all(word["text"].strip() for word in found)
        assert all(word["x"] >= 0 and word["x"] + word["w"] <= size[0] + 1 for word in found)
        boxes = [grey[int(w["y"]) : int(w["y"] + w["h"]), int(w["x"]) : int(w["x"] + w["w"])] for w in found]
        assert np.mean([box.std() > 5 for box in boxes if box.size]) > 0.9  # there is ink in them
