"""The probe finds a shortcut where there is one, and none where there is none."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from model.evaluation import Entry, UnreadablePicture, metadata_scores
from model.evaluation.image_scores import auc
from model.evaluation.metadata_probe import file_traits


def files(folder: Path, forged_quality: int, authentic_quality: int, n: int = 60) -> list[Entry]:
    rng = np.random.default_rng(0)
    entries = []
    for number in range(n):
        forged = number % 2 == 0
        path = folder / f"{number}.jpg"
        pixels = rng.integers(0, 256, (16, 16, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(path, quality=forged_quality if forged else authentic_quality)
        entries.append(Entry(path.name, path, (), forged))
    return entries


def probe(entries: list[Entry]) -> float:
    scores = metadata_scores(entries)
    return auc(
        np.array([scores[entry.key] for entry in entries]),
        np.array([entry.forged for entry in entries]),
        np.ones(len(entries)),
    )


@pytest.mark.parametrize(("qualities", "low", "high"), [((90, 75), 1.0, 1.0), ((90, 90), 0.3, 0.7)])
def test_auc_of_the_files_alone(qualities: tuple[int, int], low: float, high: float, tmp_path: Path) -> None:
    assert low <= probe(files(tmp_path, *qualities)) <= high


def test_no_file_counts_for_its_own_score(tmp_path: Path) -> None:
    entries = files(tmp_path, 90, 90, 2)
    assert set(metadata_scores(entries[:1]).values()) == {0.5}


def test_what_cannot_be_read_has_no_score(tmp_path: Path) -> None:
    entries = files(tmp_path, 90, 75, 6)
    entries[0].image.write_bytes(b"")
    assert entries[0].key not in metadata_scores(entries)
    with pytest.raises(UnreadablePicture):
        file_traits(tmp_path / "gone.jpg")


def test_traits_go_from_the_coarse_to_the_fine(tmp_path: Path) -> None:
    one, two = (file_traits(entry.image) for entry in files(tmp_path, 90, 75, 2))
    assert one[0] == two[0] == "JPEG RGB"
    assert one[1] != two[1]
    assert one[3] == "16×16"
