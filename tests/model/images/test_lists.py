"""Lists: what a row may say, and what becomes of rows and files that cannot be used."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

import pytest

from model.config import ConfigError
from model.data.mix import ListFile, Source
from model.data.sources import list_images
from model.datasets.sample import Sample
from tests.model.data.made import touch


def listed(root: Path, samples: list[Sample]) -> list[tuple[str, str | None, str]]:
    def below(paths: tuple[Path, ...]) -> str | None:
        return str(paths[0].relative_to(root)) if paths else None

    return [(str(sample.image.relative_to(root)), below(sample.masks), sample.group) for sample in samples]


LISTS = {
    "csv": ("l.csv", "image,mask,photo\na.jpg,a.png,one\nb.jpg,,\n"),
    "other names": ("l.csv", "img_path, Mask_Path, Photo\na.jpg, a.png, one\nb.jpg, None, \n"),
    "semicolons": ("l.csv", 'image;mask;photo;notes\na.jpg;a.png;one;"two\nlines"\nb.jpg;;;-\n'),
    "text": ("l.txt", "image mask photo\na.jpg a.png one\nb.jpg None\n"),
    "csv of another program": ("l.csv", "\ufeffphoto,image,x,mask\r\none,a.jpg,,a.png\r\n,b.jpg,,\r\n"),
    "jsonl": ("l.jsonl", '{"image": "a.jpg", "mask": "a.png", "photo": "one"}\n\n{"image": "b.jpg", "mask": null}\n'),
}  # fmt: skip


@pytest.mark.parametrize(("name", "text"), LISTS.values(), ids=LISTS.keys())
def test_list(tmp_path: Path, name: str, text: str) -> None:
    touch(tmp_path, "a.jpg", "a.png", "b.jpg")
    (tmp_path / name).write_bytes(text.encode())
    found = list_images(Source("s", 1, ListFile(tmp_path / name)))
    assert listed(tmp_path, found.samples) == [("a.jpg", "a.png", "one"), ("b.jpg", None, "b")]
    assert not found.problems


def test_captions_are_read_for_a_training(tmp_path: Path) -> None:
    touch(tmp_path, "a.jpg", "a.png", "b.jpg", "c.jpg")
    (tmp_path / "l.csv").write_text('image,mask,Text\na.jpg,a.png," the plate, wet "\nb.jpg,,\n')
    (tmp_path / "l.jsonl").write_text('{"image": "a.jpg", "text": "sky"}\n{"image": "c.jpg", "text": 7}\n')
    found = [list_images(Source("s", 1, ListFile(tmp_path / name))).samples for name in ("l.csv", "l.jsonl")]
    assert [[sample.text for sample in samples] for samples in found] == [["the plate, wet", ""], ["sky", ""]]


def test_rows_of_a_list_that_cannot_be_used_are_told(tmp_path: Path) -> None:
    touch(tmp_path, "a.jpg")
    os.mkfifo(tmp_path / "pipe.jpg")
    (tmp_path / "l.csv").write_text(
        f"image,mask\na.jpg,\na.jpg,\ngone.jpg,\na.jpg,gone.png\npipe.jpg,\n{'x' * 5000},\n"
    )
    found = list_images(Source("s", 1, ListFile(tmp_path / "l.csv", re.compile("^(z)"))))
    assert listed(tmp_path, found.samples) == [("a.jpg", None, "a")]
    assert [re.search(r"l\.csv:(\d)", problem)[1] for problem in found.problems] == ["3", "4", "5", "6", "7"]  # type: ignore[index]


WRONG_LISTS = {
    "no header": ("l.csv", b"a.jpg,a.png\n", "line 1: no column `image`"),
    "empty": ("l.csv", b"", "no column `image`"),
    "too many values": ("l.csv", b"image\na.jpg,b\n", "line 2: more values"),
    "no image": ("l.csv", b"image,mask\n,b\n", "line 2: `image` is missing"),
    "no file": ("l.jsonl", b'{"file": ""}\n', "line 1: `image` is missing"),
    "quotes": ("l.csv", b'image\n"a', "after line 1"),
    "not UTF-8": ("l.csv", b"image\n\xff\n", "UTF-8"),
    "null byte": ("l.csv", b"image\na\0b\n", None),
    "a number without end": ("l.jsonl", b'{"image": "a"}\n{"image": ' + b"1" * 5000 + b"}\n", "line 2: not JSON"),
    "not json": ("l.jsonl", b'{"image": "a"}\nimage\n', "line 2: not JSON"),
    "no object": ("l.jsonl", b"[1]\n", "line 1: not an object"),
    "no text": ("l.jsonl", b'{"image": {"a": 1}}\n', "not a text"),
    "a mask that is no text": ("l.jsonl", b'{"file": "a", "mask": ["b"]}\n', "a text in `mask`"),
    "a photo that is no text": ("l.jsonl", b'{"file": "a", "photos": ["b", 1]}\n', "a text in `photos`, or a list"),
    "photos by number": ("l.jsonl", b'{"image": "a", "photo": 7}\n', "a text in `photo`, or a list"),
    "another name": ("l.csv", b"image,my_masks\na.jpg,a.png\n", "`my_masks`; expected `mask`"),
    "too deep": ("l.jsonl", b"[" * 100_000, "CSV or JSONL"),
}


@pytest.mark.parametrize(("name", "data", "found"), WRONG_LISTS.values(), ids=WRONG_LISTS.keys())
def test_a_list_that_cannot_be_read(tmp_path: Path, name: str, data: bytes, found: str | None) -> None:
    (tmp_path / name).write_bytes(data)
    source = Source("s", 1, ListFile(tmp_path / name))
    if found is None:  # Python 3.11 refuses null bytes, later ones read them
        try:
            assert not list_images(source).samples
        except ConfigError:
            return
    else:
        with pytest.raises(ConfigError, match=re.escape(found)):
            list_images(source)


PHOTOS = {
    "a file": ({"photos": "more/cat.jpg"}, None, ("cat",)),
    "files": ({"photos": ["photos/p1.jpg", "photos/more/v1.2.png", "photos/p1.jpg"]}, None, ("p1", "v1.2")),
    "a name that clue forge wrote": ({"photos": [r"p/\\\xe9 \u202e.jpg"]}, None, ("\\\udce9 \u202e",)),
    "the second of that name": ({"photos": ["p0.jpg~2"]}, None, ("p0",)),
    "a name as it is": ({"photo": "case.12"}, None, ("case.12",)),
    "names": ({"photo": ["one", "two", "", None, "one"]}, None, ("one", "two")),
    "both": ({"photo": "one", "photos": ["two.jpg"]}, None, ("one", "two")),
    "none": ({"photo": "", "photos": []}, None, ("a",)),
    "of a case": ({"photos": ["case1_a.jpg", "case1_b.jpg", "case2_a.jpg"]}, "^(case[0-9]+)_", ("case1", "case2")),
    "a name is not searched": ({"photo": "case1_a"}, "^(case[0-9]+)_", ("case1_a",)),
    "the image is": ({}, "^(a|b)", ("a",)),
}


@pytest.mark.parametrize(("fields", "pattern", "photos"), PHOTOS.values(), ids=PHOTOS.keys())
def test_photos_of_a_row(
    tmp_path: Path, fields: dict[str, object], pattern: str | None, photos: tuple[str, ...]
) -> None:
    touch(tmp_path, "a.jpg", "b.jpg")
    rows = [{"file": "b.jpg", "photos": ["last.jpg"]}, {"file": "a.jpg", **fields}]
    (tmp_path / "l.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    found = list_images(Source("s", 1, ListFile(tmp_path / "l.jsonl", pattern and re.compile(pattern))))
    assert [entry.photos for entry in found.samples] == [photos, ("last",)]


def test_the_image_counts_before_the_file(tmp_path: Path) -> None:
    touch(tmp_path, "a.jpg", "b.jpg")
    (tmp_path / "l.csv").write_text("file,image\nb.jpg,a.jpg\nb.jpg,\n")
    found = list_images(Source("s", 1, ListFile(tmp_path / "l.csv")))
    assert listed(tmp_path, found.samples) == [("a.jpg", None, "a"), ("b.jpg", None, "b")]


def test_columns_that_are_none_of_ours_may_have_any_name(tmp_path: Path) -> None:
    touch(tmp_path, "a.jpg", "a.png")
    (tmp_path / "l.csv").write_text("image,mask,mask_path,Photo\na.jpg,a.png,b.png,\n")
    source = Source("s", 1, ListFile(tmp_path / "l.csv"))
    assert listed(tmp_path, list_images(source).samples) == [("a.jpg", "a.png", "a")]
    (tmp_path / "l.csv").write_text("image,mask_area\na.jpg,0.25\n")
    assert listed(tmp_path, list_images(source).samples) == [("a.jpg", None, "a")]
