"""The layouts of sets of whole pictures, and what is reported of what does not fit."""

from __future__ import annotations

from pathlib import Path

import pytest

from model.datasets.generated import class_of, find_generated, generators_of
from tests.model.data.made import touch


def tree(root: Path, *names: str) -> Path:
    return touch(root, *names)


def classes(path: Path) -> dict[str, tuple[str, str]]:
    return {sample.key: (class_of(sample), sample.part) for sample in find_generated(path)[1].samples}


def problems(path: Path) -> list[tuple[str, str]]:
    return [(str(problem.kind), problem.name) for problem in find_generated(path)[1].problems]


def test_folders_of_two_classes_by_generator_and_by_class_of_objects(tmp_path: Path) -> None:
    folder = tree(
        tmp_path, "adm/0_real/a.png", "adm/1_fake/b.png", "progan/cat/0_real/c.jpg", "progan/cat/1_fake/d.jpg"
    )
    tree(tmp_path, "adm/laundered/e.png", "loose.png", "odd/x.png", "progan/cat/other/y.png")
    assert classes(folder) == {
        "adm/0_real/a.png": ("real", "adm"),
        "adm/1_fake/b.png": ("generated", "adm"),
        "adm/laundered/e.png": ("laundered", "adm"),
        "progan/cat/0_real/c.jpg": ("real", "progan"),
        "progan/cat/1_fake/d.jpg": ("generated", "progan"),
    }
    assert generators_of(find_generated(folder)[1].samples) == ["adm", "progan"]
    outside = {name for kind, name in problems(folder) if kind == "outside the layout"}
    assert outside == {"loose.png", "odd/", "progan/cat/other/"}


def test_the_held_out_part_is_measured_and_the_training_part_named(tmp_path: Path) -> None:
    parts = [f"Midjourney/imagenet/{split}/{kind}/a.png" for split in ("train", "val") for kind in ("nature", "ai")]
    folder = tree(tmp_path, *parts)
    assert classes(folder) == {
        "Midjourney/imagenet/val/nature/a.png": ("real", "Midjourney"),
        "Midjourney/imagenet/val/ai/a.png": ("generated", "Midjourney"),
    }
    assert problems(folder) == [("outside the layout", "Midjourney/imagenet/train/")]


def test_one_generator_and_shared_real_pictures(tmp_path: Path) -> None:
    alone = tree(tmp_path / "sd", "real/a.png", "fake/b.png", "fake/flux/c.png")
    assert classes(alone) == {
        "real/a.png": ("real", ""),
        "fake/b.png": ("generated", "sd"),
        "fake/flux/c.png": ("generated", "flux"),
    }
    shared = tree(tmp_path / "shared", "real/a.png", "adm/b.png", "ddpm/x/c.png")
    assert classes(shared) == {
        "real/a.png": ("real", ""),
        "adm/b.png": ("generated", "adm"),
        "ddpm/x/c.png": ("generated", "ddpm"),
    }


@pytest.mark.parametrize("heading", ["path,label,generator\n", "generator,label,path\n", ""])
def test_a_list(tmp_path: Path, heading: str) -> None:
    tree(tmp_path, "a.png", "b.png", "c.png", "d.png")
    rows = [("a.png", "real", ""), ("b.png", "1", "adm"), ("c.png", "laundered", "sd"), ("d.png", "0", "")]
    order = (2, 1, 0) if heading.startswith("generator") else (0, 1, 2)
    path = tmp_path / "list.csv"
    path.write_text(heading + "".join(",".join(row[at] for at in order) + "\n" for row in rows))
    assert classes(path) == {
        "a.png": ("real", ""),
        "b.png": ("generated", "adm"),
        "c.png": ("laundered", "sd"),
        "d.png": ("real", ""),
    }
    assert problems(path) == []


def test_rows_that_are_not_understood_are_named(tmp_path: Path) -> None:
    tree(tmp_path, "a.png", "b.png")
    path = tmp_path / "list.csv"
    path.write_text("path,label\na.png,real\n./a.png,real\nb.png,maybe\nb.png\n,1\ngone.png,1\n")
    assert classes(path) == {"a.png": ("real", "")}
    found = problems(path)
    assert [name for kind, name in found if kind == "line not understood"] == [
        "list.csv:3", "list.csv:4", "list.csv:5", "list.csv:6"
    ]  # fmt: skip
    assert ("image missing", "gone.png") in found


def test_a_picture_of_two_classes_in_a_list_is_of_neither(tmp_path: Path) -> None:
    tree(tmp_path, "a.png", "b.png")
    path = tmp_path / "list.csv"
    path.write_text("path,label\na.png,real\nb.png,fake\n./a.png,generated\n")
    assert classes(path) == {"b.png": ("generated", "")}
    (problem,) = find_generated(path)[1].problems
    assert "generated here and real before" in problem.detail


@pytest.mark.parametrize("split", ["val", "valid", "test"])
def test_a_split_inside_the_folders_of_the_classes_is_no_generator(tmp_path: Path, split: str) -> None:
    parts = [f"{kind}/{part}/{name}.png" for kind, name in (("real", "a"), ("fake", "b")) for part in ("train", split)]
    folder = tree(tmp_path / "sd", *parts)
    assert classes(folder) == {f"real/{split}/a.png": ("real", ""), f"fake/{split}/b.png": ("generated", "sd")}
    assert problems(folder) == [("outside the layout", "fake/train/"), ("outside the layout", "real/train/")]


def test_no_layout_names_those_that_are_known(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"0_real/ and GENERATOR/1_fake"):
        find_generated(tree(tmp_path / "x", "a/b/c.png"))
    with pytest.raises(ValueError, match="does not exist"):
        find_generated(tmp_path / "none")
