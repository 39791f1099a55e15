"""Folder pairs and list files."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from model.evaluation import EvaluationError, find_at
from tests.model.evaluation.trees import BOX, mask, picture


@pytest.fixture
def files(tmp_path: Path) -> Path:
    picture(tmp_path / "a.jpg")
    picture(tmp_path / "b b.jpg")
    picture(tmp_path / "c.jpg")
    picture(tmp_path / "c, d.jpg")
    mask(tmp_path / "a.png")
    mask(tmp_path / "b b.png")
    return tmp_path


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("l.txt", "a.jpg a.png 1\nc.jpg None 0\n"),
        ("l.txt", "a.jpg,a.png\nb b.jpg,b b.png\nc.jpg,None\n"),
        ("l.tsv", "a.jpg\ta.png\nb b.jpg\tb b.png\n\n# a comment\nc.jpg\t\n"),
        ("l.csv", "\ufeffimage,mask,label\na.jpg, a.png, 1\nc.jpg, a.png, 0\n"),
        ("l.csv", 'image,mask,label\n"a.jpg","a.png",1\n"c, d.jpg", "None", "0"\n'),
        ("l.csv", '\ufeffimage;mask;label\r\na.jpg;a.png;1\r\n"b b.jpg";b b.png;1\r\nc, d.jpg;;0\r\n'),
        ("l.csv", "# made by hand\nlabel,mask,size,path\n1,a.png,9,a.jpg\n0,,7,c.jpg\n"),
        ("l.csv", "image,mask,tampered\na.jpg,a.png,1\nc.jpg,a.png,0\n"),
        ("l.csv", "image,made by,mask\na.jpg,me,a.png\nc.jpg,1,-\nb b.jpg,me,b b.png\n"),
        ("l.tsv", "path\tgt\na.jpg\ta.png\nc, d.jpg\tNone\n"),
        ("l.csv", "img,region,forged?\na.jpg,a.png,1\nc.jpg,a.png,0\n"),
        ("l.txt", "{here}/a.jpg,../{name}/a.png\n"),
        ("l.json", json.dumps([["a.jpg", "a.png"], ["b b.jpg", "b b.png"], ["c.jpg", "Negative"]])),
    ],
)
def test_list(name: str, text: str, files: Path) -> None:
    text = text.format(here=files, name=files.name) if "{here}" in text else text
    (files / name).write_text(text, "utf-8", newline="")
    found = find_at(files / name)
    assert found.problems == []
    assert {entry.key.removeprefix(f"{files}/"): entry.forged for entry in found.samples} == {
        key: key[0] != "c" for key in ("a.jpg", "b b.jpg", "c.jpg", "c, d.jpg") if key in text
    }
    assert found.layout == "list"
    assert found.complete is None


@pytest.mark.parametrize(
    ("line", "kind"),
    [
        ("gone.jpg,a.png", "image missing"),
        ("c.jpg,gone.png", "mask missing"),
        ("c.jpg,,1", "mask missing"),
        ("c.jpg,a.png,forged", "line not understood"),
        (",a.png", "line not understood"),
        ("a.jpg,a.png", "line not understood"),
        ("./a.jpg,a.png", "line not understood"),
        ("../{folder}/a.jpg,a.png", "line not understood"),
        ("c.jpg,0", "line not understood"),
        ("c.jpg 1", "line not understood"),
        ("https://example.org/c.jpg,a.png", "image missing"),
        ("c.jpg,https://example.org/a.png", "mask missing"),
        ("image,mask", "image missing"),
        ("c\0.jpg,a.png", "line not understood"),
        (f"{'x' * 5000}.jpg,a.png", "image missing"),
        (f"c.jpg,{'x' * 5000}.png,1", "mask missing"),
        ('"c.jpg,a.png', "image missing"),
        ("x" * 200_000 + ",a.png", "line not understood"),
    ],
)
def test_lines_that_do_not_fit_are_named(line: str, kind: str, files: Path) -> None:
    (files / "l.txt").write_text(f"a.jpg,a.png\n{line.replace('{folder}', files.name)}\n")
    (problem,) = find_at(files / "l.txt").problems
    assert problem.kind == kind


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("l.json", b"{"),
        ("l.json", b'{"a": 1}'),
        ("l.json", b"[" * 100_000),
        ("l.txt", b"\xff\xfe\xff"),
        ("l.doc", b"a"),
        ("gone.txt", None),
        ("l.csv", b"number,image\n1,a.jpg\n"),
        ("l.csv", "image,mask\na.jpg,a.png\n".encode("utf-16")),
    ],
)
def test_what_is_no_list(name: str, content: bytes | None, tmp_path: Path) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(EvaluationError):
        find_at(tmp_path / name)


def test_rows_of_a_json_list_that_are_none(files: Path) -> None:
    (files / "l.json").write_text(json.dumps([["a.jpg", "a.png"], 7, [], ["a", None], ["a", "b", "c", "d"]]))
    assert [problem.kind.value for problem in find_at(files / "l.json").problems] == ["line not understood"] * 4


def test_folders(tmp_path: Path) -> None:
    picture(tmp_path / "images" / "a.jpg")
    mask(tmp_path / "masks" / "a_mask.png")
    picture(tmp_path / "clean" / "c.jpg")
    found = find_at(tmp_path)
    assert (found.layout, found.counts) == ("images and masks", (1, 0))
    assert list(map(str, found.problems)) == ["clean/: outside the layout (pictures in it: 1)"]
    with pytest.raises(EvaluationError, match="Tp/"):
        find_at(tmp_path / "clean")


@pytest.mark.parametrize("name", ["", "forgeries.jsonl"])
def test_what_clue_forge_wrote(tmp_path: Path, name: str) -> None:
    rows = []
    for number, kind in enumerate(("copy_move", "authentic")):
        picture(tmp_path / "images" / f"{number}.jpg")
        mask(tmp_path / "masks" / f"{number}.png", np.zeros_like(BOX) if kind == "authentic" else BOX)
        rows.append(
            {"file": f"images/{number}.jpg", "mask": f"masks/{number}.png", "kind": kind, "photos": ["p/a.jpg"]}
        )
    (tmp_path / "forgeries.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "forge.json").write_text("{}")
    found = find_at(tmp_path / name)
    assert (found.counts, found.problems, found.layout) == ((1, 1), [], "list" if name else "clue forge")
    assert [sample.manipulation for sample in found.samples] == ["copy-move", ""]
    assert [len(sample.masks) for sample in found.samples] == [1, 0]


def test_authentic_images_beside_images_and_masks(tmp_path: Path) -> None:
    picture(tmp_path / "images" / "a.jpg")
    mask(tmp_path / "masks" / "a.png")
    picture(tmp_path / "au" / "c.jpg")
    found = find_at(tmp_path)
    assert (found.counts, found.problems) == ((1, 1), [])
