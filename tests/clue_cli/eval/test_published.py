"""The paper's tables as data."""

from __future__ import annotations

import pytest

from clue_cli.eval.published import PUBLISHED, published_for
from model.datasets.registry import DATASETS


@pytest.mark.parametrize(
    ("method", "name", "f1", "iou"),
    [
        ("CLUE", "casia1", 0.847, 0.795),
        ("MVSS-Net", "columbia", 0.677, 0.588),
        ("SAFIRE", "ipm15k", 0.285, 0.230),
        ("TruFor", "autosplice-75", 0.654, 0.543),
        ("CLUE", "nist16-wechat", 0.566, None),
        ("TruFor", "dso1-whatsapp", 0.400, None),
    ],
)
def test_cells(method: str, name: str, f1: float, iou: float | None) -> None:
    (figure,) = [one for one in published_for({name}) if one.method == method]
    assert (figure.f1, figure.iou) == (f1, iou)


def test_every_set_is_one_that_can_be_measured() -> None:
    assert {figure.set for figure in PUBLISHED} <= set(DATASETS)
    assert len(PUBLISHED) == 6 * (8 + 3) + 6 * 16


# Table 1 gives a column over all sets, weighted by how many forged images they hold; it checks the cells typed here.
@pytest.mark.parametrize(
    ("method", "f1", "iou"),
    [("MVSS-Net", 0.236, 0.184), ("TruFor", 0.563, 0.478), ("CoDE", 0.553, 0.456), ("CLUE", 0.733, 0.658)],
)
def test_the_weighted_column_follows(method: str, f1: float, iou: float) -> None:
    sets = ["casia1", "columbia", "nist16", "coverage", "acdsee", "cocoglide", "misd", "ipm15k", "autosplice-75"]
    counts = [DATASETS[name].counts[0][0] for name in sets]
    cells = [next(one for one in published_for({name}) if one.method == method) for name in sets]
    weighted = sum(n * cell.f1 for n, cell in zip(counts, cells, strict=True)) / sum(counts)
    assert weighted == pytest.approx(f1, abs=0.004)
    assert sum(n * (c.iou or 0) for n, c in zip(counts, cells, strict=True)) / sum(counts) == pytest.approx(
        iou, abs=0.004
    )
