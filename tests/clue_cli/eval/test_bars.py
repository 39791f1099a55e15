"""`--bench made` and `--bars`, whole, and the bars of `mini`."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from clue_cli.errors import UsageError
from clue_cli.eval.plan import Bar, read_bars
from clue_cli.eval.table import render
from model.calibration import Calibration
from model.checkpoint import EMBEDDED
from model.clue import build
from model.config import ConfigError
from model.evaluation.made import find_made
from model.preset import TileSpec
from model.storage import save
from tests.clue_cli.eval.conftest import measured
from tests.model.data.made_mix import small_pictures
from tests.shipped_photos import write_root
from tests.tiny_model import TINY


def test_the_bars_of_mini_are_measured_at_once_and_resumed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    small_pictures(monkeypatch)
    monkeypatch.setattr("model.self_match.LARGEST", 128 * 160)
    root, model = write_root(tmp_path / "root"), tmp_path / "tiny"
    torch.manual_seed(0)
    network = build(replace(TINY, tile=TileSpec(size=256, overlap=64)))
    save(model, network, Calibration(name="tiny"), {}, dtype=torch.float32)
    options: dict[str, Any] = {"bench": ("casia1", "made:0.02"), "root": root, "bars": "mini", "model": str(model)}
    results = measured(tmp_path / "out", **options)
    assert {(one.set, one.attack) for one in results.outcomes} == {
        *(("casia1", attack) for attack in ("none", "jpeg:70", "jpeg:90")),
        ("made:0.02", "none"),
    }
    one = results.outcome("made:0.02", "none", "tiny")
    assert one is not None
    parts = one.groups["part"]
    held = find_made("", root, 0.02).samples
    assert {part: cells["sources"].n for part, cells in parts.items()} == {
        part: sum(entry.part == part for entry in held) for part in {entry.part for entry in held}
    }
    native, screen = parts["native"], parts["screen"]
    assert (native["image_auc"].n, native["f1"].n, native["forged_called_forged"].n) == (4, 2, 2)
    assert native["f1"].low is None or native["sources"].value != 1, "no interval over one source"
    assert (screen["authentic_called_forged"].n, screen["false_positive_area"].n) == (2, 2)
    assert "f1" not in screen and "image_auc" not in screen
    assert all(", " in name and set(cells) >= {"f1"} for name, cells in one.groups["part and manipulation"].items())
    assert [bar.name for bar in results.bars] == [bar.name for bar in read_bars("mini")]
    for bar in results.bars:
        assert bar.figure is not None, bar.name
        limit, value = float(bar.bar[2:]), bar.figure.value
        assert bar.met == (value is not None and (value <= limit if bar.bar[0] == "≤" else value >= limit))
    attacked = results.outcome("casia1", "jpeg:70", "tiny")
    assert attacked is not None and attacked.pixel["f1_kept"].n == 4
    text, page = render(results, width=160), (tmp_path / "out" / "index.html").read_text()
    assert all(words in page for words in ("authentic: called inconclusive", "native, ", "share of F1 kept"))
    for words in ("F1 on documents", "by part and manipulation", "Share of F1 kept by attack"):
        assert words in text

    again = measured(tmp_path / "out", **options)
    assert again.outcomes == results.outcomes and again.bars == results.bars
    assert again.timing.predictions == 0, "no picture is predicted twice"


def test_bars_that_were_not_measured_and_the_attacks_that_were_asked_for(tmp_path: Path) -> None:
    root = write_root(tmp_path / "root")
    (tmp_path / "bars.yaml").write_text(
        "bars:\n"
        "  - {name: a, set: casia1, metric: f1, at_most: 1}\n"
        "  - {name: b, set: casia1, metric: f1, attack: 'jpeg:70', at_least: 0.9}\n"
        "  - {name: c, set: made, metric: f1, at_least: 0.9}\n"
    )
    options: dict[str, Any] = {"root": root, "bars": str(tmp_path / "bars.yaml"), "methods": ("ela", "classical")}
    results = measured(tmp_path / "out", bench=("casia1",), attacks=("none",), **options)
    assert results.attacks == ["none"] and [bar.met for bar in results.bars] == [True, None, None]
    assert "not measured" in render(results)
    one = results.outcome("casia1", "none", "JPEG ghosts")
    assert one is not None and (one.pixel["f1_best_of_set"].value or 0) >= 0.3 > (one.pixel["f1"].value or 0)


@pytest.mark.parametrize(
    ("value", "limit", "met"),
    [
        (0.3, {"at_least": 0.3}, True),
        (0.29, {"at_least": 0.3}, False),
        (0.3, {"at_most": 0.3}, True),
        (0.31, {"at_most": 0.3}, False),
        (None, {"at_most": 0.3}, False),
    ],
)
def test_a_bar(value: float | None, limit: dict[str, Any], met: bool) -> None:
    assert Bar(name="x", set="s", metric="f1", **limit).met_by(value) is met


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("{name: a, set: s, metric: f1}", "either `at_least` or `at_most`"),
        ("{name: a, set: s, metric: f2, at_least: 1}", "`f2`; expected one of f1, "),
        ("{name: a, set: s, metric: f1, at_least: much}", "expected a number"),
        ("{name: a, sets: s, metric: f1, at_least: 1}", "did you mean `set`"),
    ],
)
def test_what_is_wrong_in_a_file_of_bars(tmp_path: Path, line: str, said: str) -> None:
    (tmp_path / "bars.yaml").write_text(f"bars:\n  - {line}\n")
    with pytest.raises(ConfigError, match="line 2") as error:
        read_bars(str(tmp_path / "bars.yaml"))
    assert said in str(error.value)


def test_the_card_names_every_bar() -> None:
    card = (EMBEDDED.parent / "MODEL_CARD.md").read_text()
    for bar in read_bars("mini"):
        limit = f"≥ {bar.at_least:g}" if bar.at_least is not None else f"≤ {bar.at_most:g}"
        assert any(line.startswith(f"| {bar.name} | {limit}") for line in card.splitlines()), bar.name


def test_made_pictures_need_a_root(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="photos for made lie"):
        measured(tmp_path / "out", bench=("made",))
