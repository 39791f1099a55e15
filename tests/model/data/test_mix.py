"""What a mix says of itself."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from model.data.mix import Authentic, Curriculum, Forge, ListFile, MaskFolder, Mix, NamedSet, Pairs, Source


@pytest.mark.parametrize(
    ("batch", "share"), [(0, 1.0), (5, 0.75), (10, 0.5), (10**12, 0.5)], ids=["first", "half way", "last", "after"]
)
def test_curriculum_is_a_straight_line(batch: int, share: float) -> None:
    assert Curriculum(1.0, 0.5, 10).share(batch) == pytest.approx(share)


@pytest.mark.parametrize(
    ("data", "folders"),
    [
        (Pairs(Path("i"), Path("m")), "im"),
        (ListFile(Path("l.csv")), ""),
        (NamedSet("defacto", Path("d")), "d"),
        (Authentic((Path("a"), Path("b"))), "ab"),
        (Forge((Path("p"),), (MaskFolder(Path("o")),)), "po"),
    ],
    ids=["pairs", "list", "named", "authentic", "forge"],
)
def test_which_folders_it_reads(data: Any, folders: str) -> None:
    source = Source("s", 1, data)
    assert Mix(Path("mix.yaml"), (source,)).folders() == [(source, Path(name)) for name in folders]
