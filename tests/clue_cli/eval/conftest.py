"""Measurements of small generated sets, without the network unless a test asks for it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from clue_cli.eval import run
from clue_cli.eval.options import EvalOptions
from clue_cli.eval.results import Results
from model.reporter import SILENT
from tests.clue_cli.eval.made import SIZE, truth, write_mask, write_set


def measured(out: Path, **options: Any) -> Results:
    return run.evaluate(out, EvalOptions(**options), SILENT)


@pytest.fixture(scope="session", autouse=True)
def few_resamples() -> Iterator[None]:
    """Intervals are tested where they are computed."""
    patch = pytest.MonkeyPatch()
    patch.setattr(run, "RESAMPLES", 30)
    yield
    patch.undo()


@dataclass(frozen=True)
class Damaged:
    """A set and predictions in which much is wrong, and what came of it."""

    folder: Path
    maps: Path
    out: Path
    results: Results


@pytest.fixture(scope="session")
def damaged(tmp_path_factory: pytest.TempPathFactory) -> Damaged:
    """Read it only. Names of files are hostile too."""
    base = tmp_path_factory.mktemp("damaged")
    folder = write_set(base / "set <b>&", 8, 2)
    maps = base / "maps"
    (maps / "Tp").mkdir(parents=True)
    (maps / "Au").mkdir()
    for number in range(8):
        np.save(maps / "Tp" / f"t{number}.npy", truth(number).astype(np.float32) * 0.9)
    heat = np.zeros(SIZE, np.uint16)
    heat[:5] = 65535
    Image.fromarray(heat).save(maps / "Au" / "a0.png")
    Image.fromarray((heat >> 8).astype(np.uint8)).save(maps / "Au" / "a1.png")

    write_mask(folder / "Gt" / "t0.png", truth(0, (48, 64)))  # another size
    write_mask(folder / "Gt" / "t1.png", np.zeros(SIZE, bool))  # empty
    (folder / "Gt" / "t2.png").unlink()
    not_finite = truth(3).astype(np.float32)
    not_finite[0, 0] = np.nan
    np.save(maps / "Tp" / "t3.npy", not_finite)
    (maps / "Tp" / "t4.npy").unlink()
    np.save(maps / "Tp" / "t5.npy", np.ones((10, 10), np.float32))  # another size
    np.save(maps / "Tp" / "t6.npy", np.array([{"an": "object"}]), allow_pickle=True)
    np.save(maps / "Tp" / "surplus.npy", np.zeros(SIZE, np.float32))
    image = folder / "Tp" / "t7.jpg"
    image.write_bytes(image.read_bytes()[:400])
    hostile = "=1+<img src=x onerror=alert(1)>‮"
    for place, suffix in ((folder / "Tp", ".jpg"), (folder / "Gt", ".png")):
        (place / f"t0{suffix}").rename(place / f"{hostile}{suffix}")
    (maps / "Tp" / "t0.npy").rename(maps / "Tp" / f"{hostile}.npy")
    results = measured(base / "out", bench=(str(folder),), predictions=maps)
    return Damaged(folder, maps, base / "out", results)
