"""`scripts/ablate.py`: the paper's rows, the commands they become, and a whole table on the tiny model."""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
from argparse import Namespace
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
from accelerate.state import AcceleratorState

from clue_cli.app import run
from tests.clue_cli.eval.made import write_set
from tests.model.training.made import QUICK
from tests.scripts.conftest import modules_of_scripts
from tests.tiny_model import write_tiny_model


@pytest.fixture(scope="module")
def ablate() -> Iterator[ModuleType]:
    with modules_of_scripts("ablate") as found:
        yield found.ablate


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("data")
    write_set(root, 12, 0)
    mix = {"sources": [{"pairs": {"images": "Tp", "masks": "Gt"}}], "shapes": [64], "validation": {"share": 0.5}}
    (root / "mix.yaml").write_text(json.dumps(mix))
    (root / "quick.yaml").write_text(json.dumps(QUICK.to_dict()))
    return root


@pytest.mark.parametrize(
    ("table", "titles"),
    [
        (
            "branches",
            [
                "SD3 tuned, SAM frozen",
                "SD3 tuned, no SAM",
                "no SD3, SAM tuned",
                "SD3 frozen, SAM tuned",
                "both tuned (CLUE)",
            ],
        ),
        ("noise", ["noise: none", "noise: DDPM", "noise: rectified flow"]),
        ("shift", ["shift 0.5", "shift 1.0", "shift 3.0", "shift 4.0", "shift 6.0"]),
    ],
)
def test_the_rows_are_the_papers(ablate: ModuleType, table: str, titles: list[str]) -> None:
    rows = ablate.rows_of(table, "lora", "full")
    assert [row.title for row in rows] == titles
    assert len({row.folder for row in rows}) == len({row.words for row in rows}) == len(rows)
    if table == "branches":
        assert rows[-1].words == ("--set", "branches=both", "--set", "adapt_sd3=lora", "--set", "adapt_sam=full")


@pytest.mark.parametrize("on_a_set", [False, True])
def test_a_table(
    ablate: ModuleType,
    data: Path,
    tmp_path: Path,
    on_a_set: bool,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    commands: list[list[str]] = []

    def train_here(words: list[str]) -> int:
        commands.append(words)
        assert words[:4] == ["starter", "-m", "clue_cli", "train"]
        code = run(words[3:])
        AcceleratorState._reset_state(reset_partial_state=True)
        return code

    monkeypatch.setattr(ablate, "train_row", train_here)
    words = ["--table", "noise", "--data", str(data / "mix.yaml"), "--out", str(tmp_path), "--steps", "2"]
    words += ["--preset", str(data / "quick.yaml"), "--pictures", "5", "--workers", "0", "--device", "cpu"]
    words += ["--launch", "starter"] + ["--set", f"made={data}"] * on_a_set
    words += ["--", "--batch", "2", "--workers", "0", "--device", "cpu", "--validation-samples", "2", "--quiet"]
    assert ablate.main(words) == 0
    assert [command[command.index("--set") + 1] for command in commands] == ["noise=none", "noise=ddpm", "noise=rf"]
    name, n = ("made", 12) if on_a_set else (ablate.VALIDATION, 5)
    written = json.loads((tmp_path / "noise.json").read_text())
    for row in written["rows"].values():
        assert row[name]["f1"]["n"] == n
        assert 0 <= row[name]["iou"]["value"] <= row[name]["f1"]["value"] <= 1
    table = (tmp_path / "noise.md").read_text()
    assert f"| what | {name} |" in table
    assert "| noise: DDPM |" in table
    assert ("validation pictures" in table) != on_a_set
    assert table in capsys.readouterr().out


def test_ctrl_c_waits_for_the_training_to_save(ablate: ModuleType, tmp_path: Path) -> None:
    """The training gets the signal from the terminal itself, and takes longer to end than `subprocess.run` waits."""
    child = "import pathlib, signal, sys, time; signal.signal(signal.SIGINT, lambda *_: None); time.sleep(1.5); "
    child += "pathlib.Path(sys.argv[1]).touch(); sys.exit(130)"
    words = [sys.executable, "-c", child, str(tmp_path / "saved")]
    timer = threading.Timer(0.5, os.kill, [os.getpid(), signal.SIGINT])
    timer.start()
    assert ablate.train_row(words) == 130
    assert (tmp_path / "saved").exists()


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["--launch", "false"], 1, "clue train ended with exit code 1; nothing is written"),
        (["--preset", "maxi"], 2, "maxi: there is no such preset"),
        (["--set", "made={here}/empty"], 2, "empty"),
        (["--set", "made={here}/untouched"], 2, "holds no forged image"),
    ],
)
def test_what_ends_it(
    ablate: ModuleType, data: Path, tmp_path: Path, words: list[str], code: int, said: str,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    (tmp_path / "empty").mkdir()
    write_set(tmp_path / "untouched", 0, 1)
    words = ["--table", "shift", "--steps", "2", *(word.format(here=tmp_path) for word in words)]
    assert ablate.main([*words, "--data", str(data / "mix.yaml"), "--out", str(tmp_path / "out")]) == code
    assert said in capsys.readouterr().err and not (tmp_path / "out").exists()


def test_an_image_that_cannot_be_read_is_named_and_left_out(
    ablate: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = write_set(tmp_path / "set", 4, 0)
    (folder / "Tp" / "t3.jpg").write_bytes(b"broken")
    entries = ablate.entries_of("made", tmp_path / "set")
    assert "t3.jpg" in capsys.readouterr().err
    model = write_tiny_model(tmp_path / "model")
    found = ablate.summarize(ablate.on_set(model, entries, Namespace(device="cpu")))
    assert found.pixel["f1"].n == 3


def test_a_set_needs_a_name_and_a_folder(ablate: ModuleType, data: Path) -> None:
    assert ablate.chosen_set(f"made={data}") == ("made", data)
    for word in ("made", "=x", "made=", "made=/absent/folder"):
        with pytest.raises(Exception, match="expected NAME=FOLDER"):
            ablate.chosen_set(word)


def test_figures_as_the_paper_writes_them(ablate: ModuleType) -> None:
    cell = ablate.Estimate(0.8471, 920, 0.83, 0.861)
    assert (ablate.short(cell), ablate.between(cell)) == (".847", "0.830–0.861")
    assert (ablate.short(ablate.Estimate(None, 0)), ablate.between(ablate.Estimate(None, 0))) == ("n/a", "")
    assert ablate.short(ablate.Estimate(1.0, 1)) == "1.000"
