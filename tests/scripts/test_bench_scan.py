"""The benchmark: its evidence, its figures and its verdict, with a stand-in for the console script."""

from __future__ import annotations

import json
import math
import runpy
import sys
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

BENCH: dict[str, Any] = runpy.run_path(str(Path(__file__).parents[2] / "scripts" / "bench_scan.py"))

STAND_IN = """#!{python}
import json, pathlib, sys
command, evidence, _, out, *options = sys.argv[1:]
assert command == "scan" and "--quiet" in options, sys.argv
if {fail}:
    sys.exit("the disk is full")
images = sum(1 for path in pathlib.Path(evidence).iterdir())
out = pathlib.Path(out)
resumed = images if out.exists() else 0
out.mkdir(exist_ok=True)
seconds = {seconds} * (0.001 if resumed else 1)
run = {{"seconds": seconds, "counts": {{"images": images, "resumed": resumed}}, "options": options}}
(out / "run.json").write_text(json.dumps(run))
"""


@pytest.fixture
def clue(tmp_path: Path) -> Path:
    path = tmp_path / "clue"
    path.write_text(STAND_IN.format(python=sys.executable, fail=False, seconds=0.5))
    path.chmod(0o755)
    return path


def _main(tmp_path: Path, clue: Path, *arguments: str) -> tuple[int, dict[str, Any]]:
    sizes = ["--images", "4", "--resume-files", "3", "--megapixels", "0.4", "--memory-megapixels", "0.5"]
    code = BENCH["main"](["--clue", str(clue), "--json", str(tmp_path / "out.json"), *sizes, *arguments])
    return code, json.loads((tmp_path / "out.json").read_text())


def test_measures_every_part_and_writes_it_down(tmp_path: Path, clue: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, document = _main(tmp_path, clue)
    assert code == 0
    figures = {figure["part"]: figure for figure in document["figures"]}
    assert set(figures) == {"folder", "large", "resume", "memory"}
    assert figures["folder"]["value"] == pytest.approx(4 / 0.5)
    assert figures["large"]["value"] == pytest.approx(0.5 / 0.4, rel=0.01)
    assert figures["resume"]["value"] == pytest.approx(0.001)
    assert all(run["peak_bytes"] > 0 for key, runs in document["runs"].items() if "memory" in key for run in runs)
    assert all(figure["name"] in BENCH["TARGETS"] for figure in document["figures"])
    assert document["machine"]["cores"] >= 1
    assert "folder" in capsys.readouterr().out


def test_the_start_is_what_no_picture_adds(tmp_path: Path, clue: Path) -> None:
    """Of a stand-in that burns .2 s, and .01 s for each picture."""
    burn = "import time\nuntil = time.process_time() + 0.2 + 0.01 * images\nwhile time.process_time() < until: pass\n"
    clue.write_text(clue.read_text() + burn)
    _, document = _main(tmp_path, clue, "--parts", "start", "--repeats", "2")
    (figure,) = document["figures"]
    assert figure["name"] == "processor seconds"
    assert 0.18 < figure["value"] < 1
    assert len(document["runs"][f"start: {figure['what']}"]) == 4


def test_another_tree_is_measured_by_turns(tmp_path: Path, clue: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The other one, a package of a tree, says that it takes twice the seconds."""
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2] / "scripts"))
    package = tmp_path / "old" / "clue_cli"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    (package / "__main__.py").write_text(STAND_IN.format(python=sys.executable, fail=False, seconds=1.0))
    _, document = _main(tmp_path, clue, "--against", str(package.parent), "--rounds", "2")
    speed = document["against"]["images a second"]
    assert speed["pairs"] == [[8.0, 4.0], [8.0, 4.0]]
    assert (speed["ratio"], speed["range"]) == (2.0, [2.0, 2.0])
    assert set(document["against"]) == {
        "images a second", "images a processor second", "megapixels a second", "megapixels a processor second",
        "processor seconds of the start", "GB at 0.5 megapixels",
    }  # fmt: skip
    assert document["figures"] == []


def test_growth_is_drawn_with_the_line_of_proportionality(
    tmp_path: Path, clue: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2] / "scripts"))
    sizes = ["--images", "4", "--growth-megapixels", "0.4", "0.8", "--growth-files", "2", "3", "--growth-cores", "1"]
    code = BENCH["main"](["--clue", str(clue), "--growth", str(tmp_path / "plots"), *sizes])
    assert code == 0
    found = json.loads((tmp_path / "plots" / "growth.json").read_text())
    assert [row["files"] for row in found["files"]] == [2, 3]
    assert all(row["again"]["resumed"] == row["files"] for row in found["files"])
    assert [row["megapixels"] for row in found["pixels"]] == pytest.approx([0.4, 0.8], rel=0.01)
    for what in ("pixels", "files", "cores"):
        assert "in proportion" in (tmp_path / "plots" / f"{what}.svg").read_text()


def test_without_bfloat16_means_int8_and_other_settings_of_the_libraries(tmp_path: Path, clue: Path) -> None:
    seen = 'import os\nassert os.environ["ONEDNN_MAX_CPU_ISA"] and options[1:] == ["--dtype", "int8"], options\n'
    clue.write_text(clue.read_text() + seen)
    assert _main(tmp_path, clue, "--parts", "folder", "--without-bfloat16")[0] == 0
    assert BENCH["arguments"](["--without-bfloat16", "--", "--dtype", "bfloat16"]).scan_options == [
        "--dtype",
        "bfloat16",
    ]


@pytest.mark.parametrize(("seconds", "met", "code"), [(0.5, True, 0), (2.0, False, 1)])
def test_check_tells_whether_the_targets_are_met(
    tmp_path: Path, clue: Path, seconds: float, met: bool, code: int
) -> None:
    clue.write_text(STAND_IN.format(python=sys.executable, fail=False, seconds=seconds))
    ended, document = _main(tmp_path, clue, "--parts", "folder", "--check")
    assert (ended, document["figures"][0]["met"]) == (code, met)


def test_a_scan_that_fails_is_no_measurement(tmp_path: Path, clue: Path) -> None:
    clue.write_text(STAND_IN.format(python=sys.executable, fail=True, seconds=1))
    with pytest.raises(SystemExit, match="the disk is full"):
        _main(tmp_path, clue, "--parts", "folder")


def test_a_second_run_that_computes_again_is_no_resume(tmp_path: Path, clue: Path) -> None:
    clue.write_text(clue.read_text().replace('"resumed": resumed', '"resumed": 0'))
    with pytest.raises(SystemExit, match="0 of 3 images were resumed"):
        _main(tmp_path, clue, "--parts", "resume")


def test_what_follows_two_dashes_goes_to_the_scan() -> None:
    options = BENCH["arguments"](["--images", "7", "--", "--device", "cpu"])
    assert (options.images, options.scan_options) == (7, ["--device", "cpu"])


@pytest.mark.parametrize(
    ("name", "value", "met"),
    [
        ("images a second", 6.0, True),
        ("images a second", 5.99, False),
        ("seconds a megapixel", 1.0, True),
        ("seconds a megapixel", 1.01, False),
        ("second run / first run", 0.03, False),
        ("GB above a small image", 2.9, True),
        ("GB above a small image", math.nan, False),
    ],
)
def test_a_figure_is_held_against_its_target(name: str, value: float, met: bool) -> None:
    assert BENCH["figure"]("part", "what", name, value).met is met


def test_the_evidence_is_varied_and_repeatable(tmp_path: Path) -> None:
    first = list(islice(BENCH["crops"](*BENCH["SMALL"], 1), 12))
    again = list(islice(BENCH["crops"](*BENCH["SMALL"], 1), 12))
    assert all(np.array_equal(one, other) for one, other in zip(first, again, strict=True))
    assert len({crop.tobytes() for crop in first}) == 12
    BENCH["write_folder"](tmp_path / "folder", 5, seed=1)
    files = sorted((tmp_path / "folder").iterdir())
    assert len({path.read_bytes() for path in files}) == 5
    assert {Image.open(path).size for path in files} == {(384, 256)}


def test_a_large_photograph_has_the_size_that_was_asked_for(tmp_path: Path) -> None:
    size = BENCH["write_large"](tmp_path / "large", 0.7, seed=1)
    (path,) = (tmp_path / "large").iterdir()
    width, height = Image.open(path).size
    assert size == width * height / 1e6 == pytest.approx(0.7, rel=0.01)
    assert np.asarray(Image.open(path)).std() > 10
