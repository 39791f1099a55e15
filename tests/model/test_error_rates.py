"""The error rates beside the weights are those of the model card, and about these weights."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from model.checkpoint import EMBEDDED, digest_of
from model.config import ConfigError
from model.error_rates import FILE, error_rates, share


def test_they_are_the_rows_of_the_card() -> None:
    counted = error_rates(EMBEDDED, digest_of(EMBEDDED))
    assert counted is not None, "the weights changed: measure again, and write what was counted and their digest"
    card = (EMBEDDED.parent / "MODEL_CARD.md").read_text("utf-8")
    number = r"([\d.]+) %"
    cell = rf"{number} \[{number}, {number}\]"
    rows = {
        match[1]: [float(text) for text in match.groups()[1:]]
        for match in re.finditer(rf"^\| ([^|]+) \| (\d+) \| {cell} \| {cell} \|$", card, re.MULTILINE)
    }
    found = {}
    for one in (*counted.untouched, *counted.forgeries):
        shares = [*share(one.forged, one.n), *share(one.inconclusive, one.n)]
        found[one.pictures] = [one.n, *(round(100 * value, 1) for value in shares)]
    assert found.keys() == rows.keys()
    for pictures, values in found.items():
        assert values == pytest.approx(rows[pictures]), pictures


def test_they_say_nothing_of_other_weights(tmp_path: Path) -> None:
    (tmp_path / FILE).write_text((EMBEDDED / FILE).read_text("utf-8"), "utf-8")
    assert error_rates(tmp_path, "0" * 64) is None
    assert error_rates(tmp_path / "none", "0" * 64) is None


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("model: x\nuntouched:\n  - {kind: web, pictures: a, n: 3, forged: 2, inconclusive: 2}", "at most 3"),
        ("model: x\nuntouched:\n  - {kind: web, pictures: a, n: 0, forged: 0, inconclusive: 0}", "from 1 to"),
        ("model: x", "untouched"),
        ("model: [", "YAML"),
    ],
)
def test_an_error_in_the_file(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / FILE).write_text(text, "utf-8")
    with pytest.raises(ConfigError, match=said):
        error_rates(tmp_path, "x")
