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
