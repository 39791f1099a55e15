"""The probe finds a shortcut where there is one, and none where there is none."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from model.evaluation import ImageRow
from model.evaluation.metadata_probe import probe
from model.evaluation.metrics import image_cells
from model.images.pixels import read_header
from tests.clue_cli.eval.made import picture

ROWS = [ImageRow(f"{number}", number % 2 == 0) for number in range(60)]


@pytest.mark.parametrize(
    ("signs", "low", "high"),
    [
        (["f" if row.forged else "a" for row in ROWS], 1.0, 1.0),
        (["same"] * 60, 0.5, 0.5),
        ([str(number) for number in range(60)], 0.5, 0.5),
        (["f" if row.forged and number % 4 == 0 else "a" for number, row in enumerate(ROWS)], 0.6, 0.9),
    ],
)
def test_how_well_metadata_tell(signs: list[str], low: float, high: float) -> None:
    cell = image_cells(probe(ROWS, signs), resamples=5)["image_auc"]
    assert cell.n == 60 and cell.value is not None and low <= cell.value <= high


def test_unreadable_files_have_no_score() -> None:
    rows = probe(ROWS[:4], ["a", "", "a", "a"])
    assert [row.score is None for row in rows] == [False, True, False, False]
    assert [row.key for row in rows] == [row.key for row in ROWS[:4]]


def test_the_signature_is_of_the_metadata_and_not_of_the_pixels(tmp_path: Path) -> None:
    def written(name: str, seed: int, **options: object) -> str:
        Image.fromarray(picture(seed)).save(tmp_path / name, **options)  # type: ignore[arg-type]
        return read_header(tmp_path / name).signature

    assert written("a.jpg", 1, quality=70) == written("b.jpg", 2, quality=70)
    assert written("a.jpg", 1, quality=70) != written("c.jpg", 1, quality=71)
    assert written("a.png", 1) == written("b.png", 2) != written("d.jpg", 1, quality=70)
