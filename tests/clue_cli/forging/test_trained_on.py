"""What `clue forge` writes is a list to train on, split by the photos it was made from."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from clue_cli.forging.options import ForgeOptions
from clue_cli.forging.run import LOG, forge_folder
from model.data.description import describe
from model.data.mix import Mix, load_mix, split_of_photo
from model.data.sources import list_images
from model.data.stream import Stream

FORGED, SHARE = 24, 0.5


@pytest.fixture(scope="module")
def mix(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Mix:
    """Forgeries of four photos, and the photos: two of them on each side."""
    root = tmp_path_factory.mktemp("trained_on")
    forge_folder([photos], root / "forged", ForgeOptions(count=FORGED, seed=3, workers=1))
    sources = [{"list": f"forged/{LOG}"}, {"authentic": str(photos)}]
    split = {"share": SHARE, "seed": 4, "calibration_share": 0}
    (root / "mix.yaml").write_text(json.dumps({"sources": sources, "validation": split, "shapes": [64]}))
    return load_mix(root / "mix.yaml")


def rows(mix: Mix) -> dict[str, dict[str, Any]]:
    texts = (mix.path.parent / "forged" / LOG).read_text("utf-8").splitlines()
    return {Path(row["file"]).name: row for row in map(json.loads, texts)}


def sides_of(row: dict[str, Any], mix: Mix) -> set[str]:
    return {split_of_photo(Path(photo).stem, mix.validation) for photo in row["photos"]}


def test_every_picture_is_read_with_its_mask_and_its_photos(mix: Mix) -> None:
    found = list_images(mix.sources[0])
    assert not found.problems
    assert [entry.image.name for entry in found.samples] == sorted(rows(mix))
    for entry in found.samples:
        row = rows(mix)[entry.image.name]
        assert entry.masks[0] == mix.path.parent / "forged" / row["mask"]
        assert set(entry.photos) == {Path(photo).stem for photo in row["photos"]}
    assert any(len(entry.photos) == 2 for entry in found.samples)


def test_no_photo_is_on_both_sides(mix: Mix) -> None:
    made_of: dict[str, set[str]] = {}
    between = sum(len(sides_of(row, mix)) > 1 for row in rows(mix).values())
    for side in ("train", "validation"):
        forged, photos = Stream(mix, side)._parts
        assert {name for e in forged.samples for name in sides_of(rows(mix)[e.image.name], mix)} == {side}
        made_of[side] = {photo for part in (forged, photos) for e in part.samples for photo in e.photos}
        assert f"list: {between} images made from photos of several sides" in Stream(mix, side).problems
    assert made_of["train"].isdisjoint(made_of["validation"])
    assert made_of["train"] | made_of["validation"] == {"p0", "p1", "p2", "cat"}
    assert between > 0


def test_the_dry_run_counts_those_of_both_sides(mix: Mix) -> None:
    forged = describe(mix)[0]
    assert forged.between_sides > 0
    assert forged.train + forged.validation + forged.between_sides == FORGED
    assert not forged.damaged
    kinds = [row["kind"] for row in rows(mix).values()]
    assert forged.forged_area[0] == kinds.count("authentic")  # their masks mark nothing
