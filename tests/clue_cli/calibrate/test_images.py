"""Which pictures count: of what `clue forge` wrote, the images of one class, never a mask."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from clue_cli.calibrate import ForgeOutputs, expanded
from clue_cli.errors import UsageError
from tests.model.data.made import touch


@pytest.fixture
def output(tmp_path: Path) -> Path:
    """Two forgeries and an authentic picture, as `clue forge` writes them."""
    kinds = ("splice", "authentic", "removal")
    names = [f"{place}/{n:06}.png" for n in range(3) for place in ("images", "masks")]
    touch(tmp_path / "f", "forge.json", *names)
    rows = [
        {"number": n, "file": f"images/{n:06}.png", "mask": f"masks/{n:06}.png", "kind": kind, "photos": ["p/a.jpg"]}
        for n, kind in enumerate(kinds)
    ]
    (tmp_path / "f" / "forgeries.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    touch(tmp_path, "other/a.png")
    return tmp_path / "f"


@pytest.mark.parametrize(("forged", "numbers"), [(True, (0, 2)), (False, (1,))])
def test_images_of_one_class(output: Path, forged: bool, numbers: tuple[int, ...]) -> None:
    expected = [output / "images" / f"{n:06}.png" for n in numbers]
    outputs = ForgeOutputs(forged=forged)
    assert [path for path in sorted(output.rglob("*.png")) if outputs.counts(path)] == expected
    assert outputs.counts(output.parent / "other" / "a.png")
    (note,) = outputs.notes
    assert f"the {len(numbers)} {'forged' if forged else 'authentic'} ones count" in note
    assert expanded([output / "forgeries.jsonl", output], forged=forged) == [*expected, output]


def test_a_list_that_cannot_be_read(output: Path) -> None:
    (output / "forgeries.jsonl").write_bytes(b"\xff")
    with pytest.raises(UsageError, match="cannot be read"):
        ForgeOutputs(forged=True).counts(output / "images" / "000000.png")
    with pytest.raises(UsageError, match="cannot be read"):
        expanded([output / "forgeries.jsonl"], forged=True)
