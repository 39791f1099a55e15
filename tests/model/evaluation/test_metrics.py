"""Rows, tables and comparisons: everything has its n, and what is wrong is in the result."""

from __future__ import annotations

import json
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from model.datasets.sample import Kind, Sample
from model.evaluation import (
    CLASSICAL,
    FIELDS,
    IMAGE_METRICS,
    PIXEL_METRICS,
    TRIVIAL,
    ImageRow,
    compare,
    f1_kept,
    find_at,
    ground,
    measure,
    summarize,
)
from model.evaluation.metrics import edited_area_fifths, picture_size
from model.images.pixels import read_pixels
from tests.model.evaluation.trees import BOX, HEIGHT, WIDTH, mask, picture, tp_gt_au

PERFECT = BOX.astype(np.float32)


@pytest.fixture
def forged(tmp_path: Path) -> Sample:
    return Sample("f.jpg", picture(tmp_path / "f.jpg"), (mask(tmp_path / "f.png"),), True, "splice")


@pytest.fixture
def authentic(tmp_path: Path) -> Sample:
    return Sample("a.png", picture(tmp_path / "a.png"), (), False)


def test_forged_image(forged: Sample) -> None:
    row = measure(forged, PERFECT, score=0.9, probability=0.8, decided=True)
    assert (row.f1, row.iou, row.pixel_auc, row.pixel_ap, row.f1_best, row.f1_permute) == (1, 1, 1, 1, 1, 1)
    assert row.forged_area == row.marked_area == BOX.mean()
    assert (row.format, row.width, row.height, row.problems) == ("JPEG", WIDTH, HEIGHT, ())
    assert (row.score, row.probability, row.decided) == (0.9, 0.8, True)


def test_authentic_image_has_a_false_positive_area_and_no_f1(authentic: Sample) -> None:
    row = measure(authentic, PERFECT)
    assert (row.f1, row.pixel_auc, row.forged_area) == (None, None, None)
    assert row.marked_area == BOX.mean()
    assert row.problems == ()


def test_prediction_is_brought_to_the_size_of_the_ground_truth(forged: Sample) -> None:
    small = PERFECT[::2, ::2]
    row = measure(forged, small, seen=small.shape)
    assert row.problems == ()
    assert row.f1 is not None and row.f1 > 0.9
    assert [p.kind for p in measure(forged, small).problems] == [Kind.MAP_SIZE]


def test_mask_of_another_size_is_named_and_scored(forged: Sample) -> None:
    mask(forged.masks[0], np.repeat(np.repeat(BOX, 2, 0), 2, 1))
    row = measure(forged, PERFECT)
    assert [p.kind for p in row.problems] == [Kind.MASK_SIZE]
    assert row.f1 is not None and row.f1 > 0.9


def test_a_ground_truth_is_read_once_for_several_methods(forged: Sample, authentic: Sample) -> None:
    for entry in (forged, authentic):
        known = ground(entry)
        expected = measure(entry, PERFECT)
        for path in (entry.image, *entry.masks):
            path.unlink()
        assert measure(entry, PERFECT, known=known) == expected
        assert measure(entry, None, known=known).forged_area == expected.forged_area
    assert ground(forged).header is None
    assert [problem.kind for problem in ground(forged).problems] == [Kind.IMAGE_UNREADABLE, Kind.MASK_UNREADABLE]


def test_values_that_float32_cannot_hold_are_not_finite(forged: Sample) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        row = measure(forged, np.where(BOX, 1e300, 0.0))
    assert [p.kind for p in row.problems] == [Kind.MAP_NOT_FINITE]


NAN = PERFECT.copy()
NAN[3, 3] = np.nan


@pytest.mark.parametrize(
    ("heatmap", "kind"),
    [
        (None, Kind.MAP_MISSING),
        (NAN, Kind.MAP_NOT_FINITE),
        (PERFECT * 255, Kind.MAP_OUT_OF_RANGE),
        (PERFECT - 0.1, Kind.MAP_OUT_OF_RANGE),
        (PERFECT[None], Kind.MAP_UNREADABLE),
        (PERFECT[:0], Kind.MAP_UNREADABLE),
    ],
)
def test_maps_that_cannot_be_scored(heatmap: NDArray[np.float32] | None, kind: Kind, forged: Sample) -> None:
    row = measure(forged, heatmap, score=0.7)
    assert [p.kind for p in row.problems] == [kind]
    assert (row.f1, row.marked_area, row.score) == (None, None, 0.7)
    assert row.forged_area == BOX.mean()


@pytest.mark.parametrize("what", ["missing", "empty", "unreadable"])
def test_forged_images_without_a_ground_truth_count_at_image_level(what: str, forged: Sample) -> None:
    if what == "missing":
        forged = replace(forged, masks=())
    elif what == "empty":
        mask(forged.masks[0], np.zeros_like(BOX))
    else:
        forged.masks[0].write_bytes(b"")
    row = measure(forged, PERFECT, score=0.7)
    assert [p.kind.value for p in row.problems] == [f"mask {what}"]
    assert (row.f1, row.score, row.forged_area) == (None, 0.7, 0.0 if what == "empty" else None)
    assert row.marked_area == BOX.mean()


def test_image_that_cannot_be_read(authentic: Sample) -> None:
    authentic.image.unlink()
    row = measure(authentic, PERFECT)
    assert [p.kind for p in row.problems] == [Kind.IMAGE_UNREADABLE]
    assert (row.width, row.megapixels, row.marked_area) == (None, None, BOX.mean())
    assert picture_size(row) == "unknown"


def test_rows_survive_a_file(forged: Sample) -> None:
    row = measure(forged, NAN, score=0.25, decided=False)
    data = json.loads(json.dumps(row.to_dict()))
    assert tuple(data) == FIELDS
    assert ImageRow.from_dict(data) == row
    for wrong in ({"key": "a"}, data | {"extra": 1}, data | {"problems": [{"kind": "no such kind"}]}):
        with pytest.raises(ValueError):
            ImageRow.from_dict(wrong)


def rows_of(n: int = 40, shift: float = 0.0, seed: int = 0) -> list[ImageRow]:
    """Forged images with even numbers, authentic ones with odd."""
    rng = np.random.default_rng(seed)
    rows = []
    for number in range(n):
        f1, score = float(rng.random() * 0.8), float(rng.random() * 0.5 + 0.3 * (number % 2 == 0))
        row = ImageRow(
            f"{number:03}", number % 2 == 0, format="JPEG" if number % 4 < 2 else "PNG", width=640, height=480
        )
        if row.forged:
            values = dict.fromkeys(PIXEL_METRICS, f1 + shift)
            area, kind = (number + 1) / 100, "splice" if number % 4 else ""
            row = replace(row, forged_area=area, marked_area=0.2, manipulation=kind, **values)
        else:
            row = replace(row, marked_area=0.1 + shift)
        rows.append(replace(row, score=score + shift, probability=min(score + shift, 1.0), decided=score > 0.4))
    return rows


def test_summary_has_every_figure_with_n_and_interval() -> None:
    rows = rows_of()
    summary = summarize(rows, resamples=200)
    assert (summary.forged, summary.authentic, summary.problems) == (20, 20, [])
    assert tuple(summary.pixel) == PIXEL_METRICS
    assert tuple(summary.image) == (*IMAGE_METRICS, "false_positive_area")
    for cell in summary.pixel.values():
        assert cell.n == 20 and cell.low is not None and cell.high is not None and cell.value is not None
        assert cell.low < cell.value < cell.high
    assert {name: cell.n for name, cell in summary.image.items()} == {
        name: 20 if name == "false_positive_area" else 40 for name in summary.image
    }
    assert summary.pixel["f1"].value == pytest.approx(np.mean([row.f1 for row in rows if row.forged]))
    assert summary.image["false_positive_area"].value == pytest.approx(0.1)


def test_groups_cover_all_forged_images() -> None:
    summary = summarize(rows_of(), resamples=20)
    assert {by: {name: cells["f1"].n for name, cells in groups.items()} for by, groups in summary.groups.items()} == {
        "edited area": {
            "fifth 1: 1–7 %": 4,
            "fifth 2: 9–15 %": 4,
            "fifth 3: 17–23 %": 4,
            "fifth 4: 25–31 %": 4,
            "fifth 5: 33–39 %": 4,
        },
        "manipulation": {"not stated": 10, "splice": 10},
        "format": {"JPEG": 10, "PNG": 10},
        "picture size": {"0.25–1 MP": 20},
    }
    assert summary.groups["format"]["PNG"]["false_positive_area"].n == 10


def test_images_of_one_source_are_drawn_together() -> None:
    rows = [replace(row, key=f"{i:03}", forged=True, f1=float(i >= 50)) for i, row in enumerate(rows_of(100))]
    alike = summarize([replace(row, source="a" if row.f1 else "b") for row in rows]).pixel["f1"]
    apart = summarize(rows).pixel["f1"]
    assert (alike.value, alike.n, alike.low, alike.high) == (0.5, 100, 0.0, 1.0)
    assert 0.38 < (apart.low or 0) < (apart.high or 0) < 0.62
    alone = summarize([replace(row, source="a") for row in rows]).pixel["f1"]
    assert (alone.value, alone.low, alone.high) == (0.5, None, None)
    worse = [replace(row, source=row.key[-1], f1=(row.f1 or 0.0) - 0.1) for row in rows]
    found, _ = compare([replace(row, source=row.key[-1]) for row in rows], worse, "f1", resamples=50)
    assert (found.difference.n, found.least_p) == (100, 2.0**-9), "ten sources can be exchanged"


def test_parts_of_a_set() -> None:
    made = [
        ("native", "splice", "a", 0.8, 0.9, "forged"),
        ("native", "removal", "b", 0.2, 0.6, "inconclusive"),
        ("native", "", "a", None, 0.1, "no_evidence"),
        ("native", "", "b", None, 0.7, "forged"),
        ("screen", "", "c", None, 0.3, "inconclusive"),
    ]
    rows = [
        ImageRow(
            f"{number}", f1 is not None, kind, marked_area=0.25, f1=f1, score=score, part=part, source=source,
            verdict=verdict,
        )
        for number, (part, kind, source, f1, score, verdict) in enumerate(made)
    ]  # fmt: skip
    groups = summarize(rows).groups
    native, screen = groups["part"]["native"], groups["part"]["screen"]
    assert set(groups["part"]) == {"native", "screen"} and "f1" not in screen
    assert (native["sources"].value, native["f1"].value, native["image_auc"].value) == (2, 0.5, 0.75)
    assert native["forged_called_forged"].value == native["authentic_called_forged"].value == 0.5
    assert native["forged_called_forged"].low == pytest.approx(0.0126, abs=1e-4), "exact, of 1 in 2"
    assert (screen["authentic_called_inconclusive"].value, screen["false_positive_area"].value) == (1, 0.25)
    removal = groups["part and manipulation"]["native, removal"]
    assert (removal["f1"].value, removal["f1"].n, removal["f1"].low) == (0.2, 1, None)
    assert "part" not in summarize(rows_of(4)).groups


def test_share_of_f1_kept_is_of_the_images_that_both_have() -> None:
    before = [ImageRow(key, True, f1=f1) for key, f1 in (("a", 0.8), ("b", 0.4), ("c", None))]
    after = [ImageRow(key, True, f1=f1) for key, f1 in (("b", 0.2), ("a", 0.4), ("c", 0.9))]
    kept = f1_kept(before, after)
    assert (kept.value, kept.n) == (pytest.approx(0.5), 2)
    assert kept.low == kept.high == pytest.approx(0.5), "paired"
    assert f1_kept(before, []).value is None


def test_order_does_not_matter_and_the_seed_does() -> None:
    rows = rows_of()
    first = summarize(rows, seed=1, resamples=50)
    assert first == summarize(list(reversed(rows)), seed=1, resamples=50)
    assert first != summarize(rows, seed=2, resamples=50)


def test_nothing_measured_is_no_error() -> None:
    summary = summarize([], resamples=10)
    assert summary.pixel["f1"].value is None
    assert summary.image["image_auc"].n == 0
    assert edited_area_fifths([]) == {}
    two = [row for row in rows_of(4) if row.forged]
    assert len(set(edited_area_fifths(two).values())) == 2


@pytest.mark.parametrize(
    ("side", "words"),
    [((384, 256), "below 0.25 MP"), ((512, 512), "0.25–1 MP"), ((1920, 1080), "1–4 MP"), ((3500, 2600), "4–12 MP"),
     ((4000, 3000), "12 MP and above")],
)  # fmt: skip
def test_picture_sizes(side: tuple[int, int], words: str) -> None:
    assert picture_size(ImageRow("a", False, width=side[0], height=side[1])) == words


@pytest.mark.parametrize("metric", [*PIXEL_METRICS, *IMAGE_METRICS, "false_positive_area"])
def test_a_result_does_not_differ_from_itself(metric: str) -> None:
    rows = rows_of()
    comparison, problems = compare(rows, rows, metric, resamples=50)
    assert problems == []
    assert (comparison.difference.value, comparison.differs, comparison.p_value) == (0, False, 1)
    assert comparison.a == pytest.approx(
        (summarize(rows, resamples=2).pixel | summarize(rows, resamples=2).image)[metric].value
    )


def test_a_steady_difference_differs() -> None:
    comparison, _ = compare(rows_of(shift=0.05), rows_of(), "f1", resamples=200)
    assert comparison.differs
    assert comparison.difference.value == pytest.approx(0.05)
    assert comparison.difference.n == 20


def test_comparisons_name_what_they_leave_out() -> None:
    a, b = rows_of(), rows_of()
    b[0] = replace(b[0], forged_area=0.9)
    b[2] = replace(b[2], f1=None)
    comparison, problems = compare([row for row in a if row.key != "004"], b, "f1", resamples=20)
    assert comparison.difference.n == 17
    assert [(p.name, p.kind) for p in problems] == [
        ("000", Kind.TRUTH_DIFFERS),
        ("002", Kind.MAP_MISSING),
        ("004", Kind.MAP_MISSING),
    ]
    with pytest.raises(ValueError, match="unknown metric 'f2'"):
        compare(a, b, "f2")
    with pytest.raises(ValueError, match="too few"):
        compare(a, [], "f1")


def test_ten_lines_of_the_page(tmp_path: Path) -> None:
    """The walk that the package's docstring shows."""
    found = find_at(tp_gt_au(tmp_path))
    for name, method in (TRIVIAL | CLASSICAL).items():
        rows = [measure(entry, method(read_pixels(entry.image)), score=0.5) for entry in found.samples]
        summary = summarize(rows, resamples=20)
        assert summary.problems == [], name
        assert (summary.pixel["f1"].n, summary.image["image_auc"].value) == (3, 0.5)
