"""Every benchmark in its published layout, the common one, and what is wrong with real sets."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

import numpy as np
import pytest

from model.datasets.registry import DATASETS, how_to_get
from model.datasets.sample import Kind, Problem, Sample
from model.evaluation import (
    BenchmarkNotFound,
    EvaluationError,
    StrictError,
    digest,
    expand,
    find,
    find_at,
    inverted_set,
    limited,
    read_truth,
    status,
)
from model.images.pixels import DamagedFileError
from tests.model.evaluation.trees import (
    BOX,
    PUBLISHED,
    casia1,
    cocoglide,
    coverage,
    dso1,
    imd2020,
    korus,
    mask,
    misd,
    picture,
    tp_gt_au,
)


def kinds(found: object) -> list[str]:
    return sorted(problem.kind.value for problem in found.problems)


def test_every_benchmark_of_the_registry_has_a_tree() -> None:
    assert PUBLISHED.keys() == DATASETS.keys()


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_layout(name: str, tmp_path: Path) -> None:
    write, forged, authentic, layout, manipulations = PUBLISHED[name]
    write(tmp_path)
    found = find(name, tmp_path)
    assert (found.counts, found.layout, found.problems) == ((forged, authentic), layout, [])
    assert not found.complete
    assert [entry.key for entry in found.samples] == sorted(entry.key for entry in found.samples)
    for entry in found.samples:
        assert (found.folder / entry.key).samefile(entry.image)
        assert bool(entry.masks) == entry.forged
        if entry.forged:
            assert np.array_equal(read_truth(entry.masks, entry.style), BOX)
    assert {entry.manipulation for entry in found.samples if entry.forged} == manipulations


@pytest.mark.parametrize("name", [name for name, known in DATASETS.items() if known.layouts[-1].name == "Tp/Gt/Au"])
def test_common_layout(name: str, tmp_path: Path) -> None:
    tp_gt_au(tmp_path / DATASETS[name].folders[0].upper())
    found = find(name, tmp_path)
    assert (found.counts, found.layout, found.problems) == ((3, 2), "Tp/Gt/Au", [])


def test_social_network_images_take_the_masks_of_the_original_set(tmp_path: Path) -> None:
    dso1(tmp_path)
    picture(tmp_path / "OSN_dataset" / "DSO_Weibo" / "splicing-02.jpg")
    picture(tmp_path / "OSN_dataset" / "DSO_Weibo" / "splicing-77.jpg")
    found = find("dso1-weibo", tmp_path)
    assert found.layout == "images alone"
    assert kinds(found) == ["mask missing"]
    (entry,) = (entry for entry in found.samples if entry.masks)
    assert np.array_equal(read_truth(entry.masks, entry.style), BOX)


@pytest.mark.parametrize("name", ["misd", "nist16-wechat", "no such set"])
def test_absent_set_says_where_to_get_it_and_how_to_lay_it_out(name: str, tmp_path: Path) -> None:
    with pytest.raises(BenchmarkNotFound) as caught:
        find(name, tmp_path / "nowhere")
    if name in DATASETS:
        assert str(caught.value).endswith(how_to_get(DATASETS[name]))
        assert DATASETS[name].obtained in str(caught.value)
        assert DATASETS[name].layouts[0].tree in str(caught.value)
    else:
        assert "casia1" in str(caught.value)


def test_registry_says_all_there_is_to_say() -> None:
    for benchmark in DATASETS.values():
        assert benchmark.obtained and benchmark.terms and benchmark.layouts and benchmark.title
        assert all(layout.source for layout in benchmark.layouts)
        assert re.search(r"\d+ forged|not confirmed", benchmark.expected)
    assert "9 of the 100" in DATASETS["coverage"].damage[0]


def test_status_counts_what_is_here(tmp_path: Path) -> None:
    coverage(tmp_path)
    tp_gt_au(tmp_path / "DSO-1", 100, 100)
    lines = {line.benchmark.name: line for line in status(tmp_path)}
    assert lines.keys() == DATASETS.keys()
    assert lines["coverage"].words.startswith("incomplete: 2 forged, 2 authentic, expected 100 forged and 100")
    assert lines["dso1"].words.startswith("complete: 100")
    assert lines["casia1"].words == "not here"
    assert all(line.found is None for line in status(None))


def test_the_root_may_be_the_set_itself(tmp_path: Path) -> None:
    casia1(tmp_path)
    assert find("casia1", tmp_path / "CASIA 1.0 dataset").counts == (2, 1)


def inverted(root: Path) -> None:
    for path in (root / "Gt").iterdir():
        mask(path, inverted=True)


@pytest.mark.parametrize(
    ("damage", "kind", "name", "detail"),
    [
        (
            lambda root: mask(root / "Gt" / "f0.png", np.pad(BOX, 1)),
            Kind.MASK_SIZE,
            "Tp/f0.jpg",
            "image 32×24, mask 34×26",
        ),
        (lambda root: mask(root / "Gt" / "f0.png", np.zeros_like(BOX)), Kind.MASK_EMPTY, "Tp/f0.jpg", ""),
        (lambda root: (root / "Gt" / "f0.png").unlink(), Kind.MASK_MISSING, "Tp/f0.jpg", "expected a picture named f0"),
        (lambda root: mask(root / "Gt" / "f9.png"), Kind.MASK_WITHOUT_IMAGE, "Gt/f9.png", ""),
        (lambda root: mask(root / "Gt" / "f0.tif"), Kind.MASK_AMBIGUOUS, "Tp/f0.jpg", "Gt/f0.png, Gt/f0.tif"),
        (lambda root: (root / "Au" / "a0.jpg").write_bytes(b"no picture"), Kind.IMAGE_UNREADABLE, "Au/a0.jpg", ""),
        (
            lambda root: (root / "Gt" / "f0.png").write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(30)),
            Kind.MASK_UNREADABLE,
            "Tp/f0.jpg",
            "",
        ),
        (inverted, Kind.SET_INVERTED, None, "3 of 3 masks"),
    ],
)
def test_what_is_wrong_is_named_and_strict_mode_raises(
    damage: Callable[[Path], object], kind: Kind, name: str | None, detail: str, tmp_path: Path
) -> None:
    tp_gt_au(tmp_path)
    damage(tmp_path)
    found = find_at(tmp_path)
    (problem,) = found.problems
    assert problem.kind == kind
    assert problem.name == (name or str(tmp_path))
    assert detail in problem.detail
    assert found.counts == (3, 2), "nothing is dropped"
    with pytest.raises(StrictError, match=kind.value):
        find_at(tmp_path, strict=True)


def test_a_published_set_whose_masks_were_already_turned_round_is_reported(tmp_path: Path) -> None:
    dso1(tmp_path)
    for path in (tmp_path / "tifs-database" / "DSO-1-Fake-Images-Masks").iterdir():
        mask(path)
    assert kinds(find("dso1", tmp_path)) == ["set looks inverted"]


def test_pairs_by_stem_never_by_order(tmp_path: Path) -> None:
    for number, name in enumerate(("b", "c", "d")):
        picture(tmp_path / "Tp" / f"{name}.jpg", number)
    for name in ("a", "c", "d"):
        mask(tmp_path / "Gt" / f"{name}.png")
    found = find_at(tmp_path)
    assert {entry.image.stem: [path.stem for path in entry.masks] for entry in found.samples} == {
        "b": [],
        "c": ["c"],
        "d": ["d"],
    }
    assert kinds(found) == ["mask missing", "mask without an image"]


def test_names_that_say_no_class_and_numbers_that_pair_with_nothing(tmp_path: Path) -> None:
    coverage(tmp_path)
    picture(tmp_path / "COVERAGE" / "image" / "notes.tif")
    assert kinds(find("coverage", tmp_path)) == ["name not understood"]
    cocoglide(tmp_path)
    picture(tmp_path / "CocoGlide" / "fake" / "glide_inpainting_val2017_1_up.png")
    assert kinds(find("cocoglide", tmp_path)) == ["mask missing"]


def test_nist_table_cannot_lead_out_of_the_set(tmp_path: Path) -> None:
    PUBLISHED["nist16"][0](tmp_path)
    picture(tmp_path / "secret.jpg")
    table = tmp_path / "NC2016_Test0613" / "reference" / "manipulation" / "NC2016-manipulation-ref.csv"
    lines = [
        "m|../secret.jpg|../secret.jpg|Y||",
        f"m|{tmp_path}/secret.jpg||N||",
        "m|probe/gone.jpg||N||",
        "m|probe/NC2016_0003.jpg|x|?||",
    ]
    picture(table.parents[2] / "probe" / "NC2016_0004.jpg")
    lines.append("m|probe/NC2016_0004.jpg|../secret.jpg|Y||")
    table.write_text(table.read_text() + "\n".join(lines) + "\n")
    found = find("nist16", tmp_path)
    assert kinds(found) == ["image missing", "line not understood", "line not understood", "line not understood",
                            "mask missing"]  # fmt: skip
    assert not any("secret" in str(path) for entry in found.samples for path in (entry.image, *entry.masks))


def test_misd_without_its_masks(tmp_path: Path) -> None:
    PUBLISHED["misd"][0](tmp_path)
    here = tmp_path / "Multiple Image Splicing Dataset (MISD)"
    picture(here / "Sp" / "Sp_D_2.png")
    mask(here / "Ground Truth Masks" / "Sp_D_3" / "masks" / "0.png")
    assert kinds(find("misd", tmp_path)) == ["mask missing", "mask without an image"]


def outside_imd2020(root: Path) -> dict[str, str]:
    imd2020(root)
    here = root / "IMD2020"
    picture(here / "1a1ogs" / "more" / "c8tf5m_7.png")
    mask(here / "1a1ogs" / "more" / "deep" / "c8tf5m_7_mask.png")
    (here / "1a1ogs" / "notes").mkdir()
    (here / "1a1ogs" / "notes" / "read.me").touch()
    (here / "1a3oag" / "circle").symlink_to(here)
    picture(here / "preview.jpg")
    picture(here / "__MACOSX" / "1a1ogs" / "x.png")
    picture(here / ".cache" / "x_orig.jpg")
    return {"1a1ogs/more/": "pictures in it: 2", "preview.jpg": ""}


def outside_korus(root: Path) -> dict[str, str]:
    korus(root)
    here = root / "realistic-tampering-dataset"
    picture(here / "Nikon_D90" / "tampered-realistic" / "r1.TIF")  # no masks: not laid out as the others
    picture(here / "Canon_60D" / "response" / "DPP0012.png")
    picture(here / "Canon_60D" / "cover.png")
    return {"Nikon_D90/": "pictures in it: 1", "Canon_60D/response/": "pictures in it: 1", "Canon_60D/cover.png": ""}


def outside_misd(root: Path) -> dict[str, str]:
    misd(root)
    mask(root / "Multiple Image Splicing Dataset (MISD)" / "Ground Truth Masks" / "Sp_D_1.png")
    return {"Ground Truth Masks/Sp_D_1.png": ""}


def outside_common(root: Path) -> dict[str, str]:
    tp_gt_au(root / "IPM15K")
    picture(root / "IPM15K" / "real" / "r.jpg")  # Au/ is read, and so this is not
    picture(root / "IPM15K" / "example.jpg")
    (root / "IPM15K" / "papers").mkdir()
    return {"real/": "pictures in it: 1", "example.jpg": ""}


@pytest.mark.parametrize(
    ("name", "write"),
    [
        ("imd2020", outside_imd2020),
        ("korus", outside_korus),
        ("misd", outside_misd),
        ("ipm15k", outside_common),
    ],
)
def test_pictures_where_the_layout_expects_none_are_named(
    name: str, write: Callable[[Path], dict[str, str]], tmp_path: Path
) -> None:
    expected = write(tmp_path)
    found = find(name, tmp_path)
    of_kind = {p.name: p.detail for p in found.problems if p.kind is Kind.OUTSIDE_LAYOUT}
    assert of_kind == expected
    others = [str(p) for p in found.problems if p.kind is not Kind.OUTSIDE_LAYOUT]
    assert others == (
        ["1a3oag/circle: folder unreadable (a link to a folder is not followed)"] if name == "imd2020" else []
    )
    assert found.counts == PUBLISHED[name][1:3], "they are not measured"
    with pytest.raises(StrictError, match="outside the layout"):
        find(name, tmp_path, strict=True)


def test_images_of_one_stem_do_not_share_a_mask(tmp_path: Path) -> None:
    tp_gt_au(tmp_path)
    picture(tmp_path / "Tp" / "f0.png", 7)
    found = find_at(tmp_path)
    assert [(p.kind, p.name) for p in found.problems] == [
        (Kind.MASK_AMBIGUOUS, "Tp/f0.jpg"),
        (Kind.MASK_AMBIGUOUS, "Tp/f0.png"),
    ]
    assert [entry.key for entry in found.samples if entry.masks] == ["Tp/f1.jpg", "Tp/f2.jpg"]


@pytest.mark.parametrize(
    ("word", "names"),
    [
        ("casia1", ["casia1"]),
        ("autosplice", ["autosplice-100", "autosplice-90", "autosplice-75"]),
        ("weibo", ["casia1-weibo", "columbia-weibo", "dso1-weibo", "nist16-weibo"]),
        ("all", [name for name, known in DATASETS.items() if not known.training]),
        ("casia2", ["casia2"]),
        ("in-the-wild", ["in-the-wild"]),
    ],
)
def test_words_for_several(word: str, names: list[str]) -> None:
    assert expand(word) == names
    with pytest.raises(BenchmarkNotFound, match="all, casia1"):
        expand(f"{word}3")


def test_limit_takes_a_part_that_the_seed_decides(tmp_path: Path) -> None:
    entries = find_at(tp_gt_au(tmp_path, 12, 8), deep=False).samples
    part = limited(entries, 7, 0)
    assert part == limited(list(reversed(entries)), 7, 0)
    assert (len(part), part == sorted(part, key=lambda entry: entry.key)) == (7, True)
    assert part != limited(entries, 7, 1)
    assert limited(entries, None, 0) == limited(entries, 99, 0) == entries
    assert sum(entry.forged for entry in part) == 4, "12 of 20 are forged"
    assert set(limited(entries, 3, 0)) <= set(part), "a larger limit goes on from a smaller one"
    assert {entry.forged for entry in limited(entries, 2, 0)} == {True, False}


@pytest.mark.parametrize(
    ("looks", "said"),
    [
        ([], None),
        ([True, True], None),
        ([True] * 3 + [None] * 9, "3 of 3 masks"),
        ([True] * 3 + [False] * 3, None),
        ([True] * 4 + [False] * 3, "4 of 7 masks"),
    ],
)
def test_a_chosen_part_that_looks_inverted(looks: list[bool | None], said: str | None) -> None:
    assert inverted_set("x", looks) == (said and Problem(Kind.SET_INVERTED, "x", said))


def test_ground_truths_are_read_by_whoever_is_asked_to(tmp_path: Path) -> None:
    def broken(what: Sample | Path) -> NoReturn:
        raise DamagedFileError(str(what))

    found = find_at(tp_gt_au(tmp_path), read=broken)
    assert kinds(found) == ["mask unreadable"] * 3
    assert kinds(find_at(tmp_path, read_head=broken)) == ["image unreadable"] * 5
    assert find_at(tmp_path, deep=False, read=broken, read_head=broken).problems == [], "nothing is opened"


def test_hidden_and_other_files_are_passed_over_and_names_of_pictures_that_are_not_files_are_problems(
    tmp_path: Path,
) -> None:
    tp_gt_au(tmp_path)
    (tmp_path / "Tp" / "Thumbs.db").write_bytes(b"")
    picture(tmp_path / "Tp" / ".hidden.jpg")
    picture(tmp_path / "Tp" / "__MACOSX" / "x.jpg")
    (tmp_path / "Au" / "a0.jpg").unlink()
    (tmp_path / "Au" / "a0.jpg").symlink_to(tmp_path / "nowhere.jpg")
    os.mkfifo(tmp_path / "Tp" / "pipe.png")
    (tmp_path / "Tp" / "folder.jpg").mkdir()
    found = find_at(tmp_path)
    assert (found.counts, found.ignored) == ((3, 1), 1)
    assert [(p.kind, p.name) for p in found.problems] == [
        (Kind.IMAGE_MISSING, "Tp/pipe.png"),
        (Kind.IMAGE_MISSING, "Au/a0.jpg"),
    ]


def test_folders_that_are_not_read_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tp_gt_au(tmp_path)
    picture(tmp_path / "Tp" / "locked" / "f9.jpg")
    picture(tmp_path / "Tp" / "open" / "f8.jpg")
    (tmp_path / "Tp" / "circle").symlink_to(tmp_path)
    (tmp_path / "Au" / "self").symlink_to("self")
    scandir = os.scandir

    def refuses(path: Path) -> object:
        if path.name == "locked":
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr("model.images.folders.os.scandir", refuses)
    found = find_at(tmp_path, deep=False)
    assert (found.counts, found.ignored) == ((4, 2), 1)
    assert [(p.kind, p.name, p.detail) for p in found.problems] == [
        (Kind.FOLDER_UNREADABLE, "Tp/circle", "a link to a folder is not followed"),
        (Kind.FOLDER_UNREADABLE, "Tp/locked", "Permission denied"),
        (Kind.MASK_MISSING, "Tp/open/f8.jpg", "expected a picture named f8"),
    ]
    monkeypatch.setattr(Path, "iterdir", refuses)
    with pytest.raises(EvaluationError, match="cannot be read"):
        find_at(tmp_path / "Tp" / "locked")


def test_digest_depends_on_names_classes_and_contents_alone(tmp_path: Path) -> None:
    one, two = tp_gt_au(tmp_path / "one"), tp_gt_au(tmp_path / "two")
    first = digest(find_at(one).samples)
    assert first == digest(list(reversed(find_at(two).samples)))
    mask(two / "Gt" / "f0.png", ~BOX)
    second = digest(find_at(two).samples)
    (two / "Au" / "a0.jpg").rename(two / "Au" / "a00.jpg")
    third = digest(find_at(two).samples)
    assert len({first, second, third}) == 3
    entries = find_at(two).samples
    (two / "Au" / "a00.jpg").unlink()
    with pytest.raises(DamagedFileError):
        digest(entries)


def test_casia1_as_it_lies_here() -> None:
    root = os.environ.get("CLUE_DATA")
    folder = Path(root, "CASIA1") if root else None
    if folder is None or not folder.is_dir():
        pytest.skip("CLUE_DATA names no folder with CASIA1")
    found = find("casia1", folder.parent)
    forged, authentic = found.counts
    assert found.problems == []
    assert forged > 0 and authentic > 0
    assert {entry.manipulation for entry in found.samples if entry.forged} == {"splice", "copy-move"}
    assert all(entry.masks or not entry.forged for entry in found.samples)
