"""The images of a source: matched by stem, never by order; whatever has no partner is listed."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from model.config import ConfigError
from model.data.mix import Authentic, Forge, Pairs, Source
from model.data.sources import list_images
from model.datasets.sample import Sample
from tests.model.data.made import touch


def shown(root: Path, samples: list[Sample]) -> list[tuple[str, str | None, str]]:
    def below(paths: tuple[Path, ...]) -> str | None:
        return str(paths[0].relative_to(root)) if paths else None

    return [(str(sample.image.relative_to(root)), below(sample.masks), sample.group) for sample in samples]


def test_pairs_by_stem_never_by_order(tmp_path: Path) -> None:
    touch(
        tmp_path, "i/b.jpg", "i/a.PNG", "i/deep/c.tif", "i/lonely.jpg", "i/a.webp", "i/notes.txt", "i/.hidden.jpg",
        "m/a_gt.png", "m/b_gt.png", "m/b_gt.bmp", "m/deep/c_gt.png", "m/d_gt.png", "m/e.png", "m/Thumbs.db",
    )  # fmt: skip
    found = list_images(Source("s", 1, Pairs(tmp_path / "i", tmp_path / "m", "_gt")))
    assert shown(tmp_path, found.samples) == [
        ("i/a.PNG", "m/a_gt.png", "a"),
        ("i/b.jpg", "m/b_gt.bmp", "b"),
        ("i/deep/c.tif", "m/deep/c_gt.png", "c"),
    ]
    assert [problem.replace(str(tmp_path), "") for problem in found.problems] == [
        "/i: files that are not read as pictures: 1 × .txt",
        "/m/b_gt.png: the same name as b_gt.bmp, which is used",
        "/m/e.png: not named like a mask",
        "/i/a.webp: the same name as a.PNG, which is used",
        "/i/lonely.jpg: no mask",
        "/m/d_gt.png: no image",
    ]


def test_images_and_masks_in_one_folder(tmp_path: Path) -> None:
    touch(tmp_path, "a.jpg", "a_mask.png")
    found = list_images(Source("s", 1, Pairs(tmp_path, tmp_path, "_mask", re.compile("^(.)"))))
    assert shown(tmp_path, found.samples) == [("a.jpg", "a_mask.png", "a")]
    assert not found.problems


def test_links_to_folders_are_not_followed(tmp_path: Path) -> None:
    touch(tmp_path, "p/a.jpg", "q/b.jpg")
    (tmp_path / "p" / "loop").symlink_to(tmp_path / "p")
    (tmp_path / "p" / "c.jpg").symlink_to(tmp_path / "q" / "b.jpg")
    found = list_images(Source("s", 1, Authentic((tmp_path / "p",))))
    assert [entry.image.name for entry in found.samples] == ["a.jpg", "c.jpg"]
    assert found.problems == [f"{tmp_path}/p/loop: a link to a folder is not followed"]


def test_an_empty_set_is_a_problem(tmp_path: Path) -> None:
    (tmp_path / "i").mkdir()
    (tmp_path / "m").mkdir()
    for data in (Pairs(tmp_path / "i", tmp_path / "m"), Authentic((tmp_path / "i",))):
        found = list_images(Source("mine", 1, data))
        assert not found.samples
        assert found.problems == ["mine: no image that can be used"]


def test_a_fraction_is_chosen_by_name(tmp_path: Path) -> None:
    touch(tmp_path, *(f"p/{n}.jpg" for n in range(300)))
    photos = (tmp_path / "p",)
    some, more, none = (
        list_images(Source("s", 1, Authentic(photos, fraction=fraction))) for fraction in (0.1, 0.3, 0.0)
    )
    assert 10 < len(some.samples) < 60
    assert set(some.samples) < set(more.samples)
    assert none.problems == ["s: the fraction 0 leaves no image"]


def test_an_authentic_photo_in_two_folders_of_a_source_counts_once(tmp_path: Path) -> None:
    touch(tmp_path, "p/a.jpg", "p/q/b.jpg")
    found = list_images(Source("s", 1, Authentic((tmp_path / "p", tmp_path / "p" / "q"))))
    assert shown(tmp_path, found.samples) == [("p/a.jpg", None, "a"), ("p/q/b.jpg", None, "b")]


def test_photos_to_forge_are_no_images(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="a source of files"):
        list_images(Source("s", 1, Forge((tmp_path,))))


def test_a_folder_that_may_not_be_listed_is_a_problem(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuses(folder: Path) -> None:
        raise PermissionError(13, "Permission denied", str(folder))

    monkeypatch.setattr("model.images.folders.os.scandir", refuses)
    found = list_images(Source("s", 1, Authentic((tmp_path,))))
    assert found.problems[0] == f"{tmp_path}: Permission denied"


PATTERNS = [("^(a+)_", "aa_1", "aa"), ("^(b)?a", "aa_1", "aa_1"), ("(x)", "aa_1", "aa_1")]


@pytest.mark.parametrize(("pattern", "stem", "photo"), PATTERNS)
def test_a_pattern_finds_the_source_photo_or_the_stem_is_it(
    tmp_path: Path, pattern: str, stem: str, photo: str
) -> None:
    touch(tmp_path, f"{stem}.jpg")
    found = list_images(Source("s", 1, Authentic((tmp_path,), re.compile(pattern))))
    assert [sample.photos for sample in found.samples] == [(photo,)]


def test_what_clue_forge_wrote_is_not_authentic(tmp_path: Path) -> None:
    touch(tmp_path, "a.jpg", "f/forge.json", "f/forgeries.jsonl", "f/images/000000.jpg", "f/masks/000000.png")
    found = list_images(Source("s", 1, Authentic((tmp_path,))))
    assert [sample.image.name for sample in found.samples] == ["a.jpg"]
    assert found.problems == [
        f"{tmp_path / 'f'}: made by `clue forge`, left out; forgeries.jsonl in it can be given as a list"
    ]
