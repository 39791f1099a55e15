"""`clue eval`: options, exit codes, and what goes where."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from clue_cli import app
from clue_cli.errors import ExitCode, NothingToScanError
from clue_cli.eval.options import ATTACKS, EvalOptions
from clue_cli.networks import DType, Engine
from model.data.attacks import GRIDS, SOCIAL, parse
from model.datasets.registry import DATASETS
from tests.clue_cli.eval.made import write_set


def clue(*words: str) -> int:
    return app.run(["eval", *words])


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[EvalOptions]:
    """Stands in for the measurement."""
    found: list[EvalOptions] = []

    def evaluate(out: Path, options: EvalOptions, progress: object, stop: object) -> None:
        found.append(options)
        raise NothingToScanError("It ends here.")

    monkeypatch.setattr("clue_cli.eval.run.evaluate", evaluate)
    monkeypatch.delenv("CLUE_DATA", raising=False)
    return found


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ([], {}),
        (["--bench", "b,c"], {"bench": ("a", "b,c")}),
        (["--root", "r", "--bars", "mini"], {"root": Path("r"), "bars": "mini"}),
        (["--attack", "jpeg:70", "--attack", "grid:webp"], {"attacks": ("jpeg:70", "grid:webp")}),
        (["--method", "mini,classical", "--method", "ela"], {"methods": ("mini", "classical", "ela")}),
        (["--predictions", "maps"], {"predictions": Path("maps")}),
        (["--limit", "6", "--seed", "3", "--strict"], {"limit": 6, "seed": 3, "strict": True}),
        (
            ["--model", "m", "--device", "cpu", "--dtype", "float32"],
            {"model": "m", "device": "cpu", "dtype": DType.FLOAT32},
        ),
        (["--devices", "0,1", "--batch", "4"], {"devices": ("cuda:0", "cuda:1"), "batch": 4}),
        (
            ["--engine", "ray", "--ray-address", "head:6379", "--ray-workers", "3", "--ray-cores", "2"],
            {"engine": Engine.RAY, "ray_address": "head:6379", "ray_workers": 3, "ray_cores": 2},
        ),
        (["--max-megapixels", "20", "--overwrite"], {"max_megapixels": 20.0, "overwrite": True}),
    ],
)
def test_every_option_arrives(asked: list[EvalOptions], words: list[str], expected: dict[str, Any]) -> None:
    assert clue("--bench", "a", "--out", "out", "--quiet", *words) == ExitCode.NOTHING_TO_SCAN
    default = EvalOptions(bench=("a",))
    names = [name for name in EvalOptions.__dataclass_fields__ if name != "command_line"]
    changed = {name: getattr(asked[0], name) for name in names if getattr(asked[0], name) != getattr(default, name)}
    assert changed == expected


@pytest.mark.parametrize(
    ("methods", "predictions", "network", "functions"),
    [
        ((), None, True, ()),
        ((), Path("maps"), False, ()),
        (("mini",), Path("maps"), True, ()),
        (("ela", "ela"), None, False, ("error level analysis",)),
        (("baselines",), None, False, ()),
        (("classical", "mini"), None, True, ("error level analysis", "JPEG ghosts", "noise inconsistency")),
    ],
)
def test_which_methods(
    methods: tuple[str, ...], predictions: Path | None, network: bool, functions: tuple[str, ...]
) -> None:
    options = EvalOptions(methods=methods, predictions=predictions)
    assert (options.network, options.functions) == (network, functions)


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["--bench", "a"],
        ["--out", "out"],
        ["--bench", "a", "--out", "o", "--method", "rain"],
        ["--bench", "a", "--out", "o", "--limit", "0"],
        ["--bench", "a", "--out", "o", "--device", "tpu"],
        ["--bench", "a", "--out", ""],
        ["--list", "--schema"],
        ["--compare", "a"],
        ["--compare", "a", "b", "--method", "mini,ela"],
        ["--compare", "a", "b", "--method", "classical"],
    ],
)
def test_wrong_usage(asked: list[EvalOptions], words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert clue(*words) == ExitCode.BAD_USAGE
    assert asked == []
    assert capsys.readouterr().out == ""


def test_the_environment_says_where_the_data_are(asked: list[EvalOptions], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CLUE_DATA", "/data")
    assert clue("--bench", "a", "--out", "out") == ExitCode.NOTHING_TO_SCAN
    assert asked[0].root == Path("/data")


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A part of COVERAGE."""
    monkeypatch.delenv("CLUE_DATA", raising=False)
    write_set(tmp_path / "Coverage", 2, 1)
    return tmp_path


def test_list_is_a_short_table(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert clue("--list", "--root", str(root)) == ExitCode.OK
    said = capsys.readouterr().out
    assert len(said.splitlines()) < len(DATASETS) + 10
    (line,) = [line for line in said.splitlines() if "coverage " in line]
    assert all(word in line for word in ("incomplete", "2/1", "100/100", "COVERAGE (Wen"))
    assert clue("--list") == ExitCode.OK
    assert "neither --root nor CLUE_DATA" in capsys.readouterr().out


def test_list_shows_all_of_what_is_named(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert clue("--list", "--root", str(root), "--bench", "coverage,casia1") == ExitCode.OK
    said = capsys.readouterr().out
    assert "coverage: incomplete: 2 forged, 1 authentic, expected 100 forged and 100 authentic" in said
    assert "casia1: not here" in said and "obtained from" in said and "terms" in said and "Tp/ forged" in said
    assert "columbia" not in said
    assert clue("--list", "--bench", "covrage") == ExitCode.NOTHING_TO_SCAN
    assert "no benchmark named covrage; did you mean coverage?" in capsys.readouterr().err


def test_list_as_json(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert clue("--list", "--json", "--root", str(root)) == ExitCode.OK
    found = {one["name"]: one for one in json.loads(capsys.readouterr().out)}
    assert list(found) == list(DATASETS)
    one = found["coverage"]
    assert (one["status"], one["forged"], one["authentic"]) == ("incomplete", 2, 1)
    assert one["expected"] == [{"forged": 100, "authentic": 100}]
    assert found["casia1"]["status"] == "not here" and found["casia1"]["folder"] is None and one["terms"]
    assert clue("--json") == ExitCode.BAD_USAGE


def test_the_help_lists_every_attack_with_its_unit() -> None:
    known = {*GRIDS, *SOCIAL}
    for text, words in ATTACKS.items():
        name, _, argument = text.partition(":")
        if argument == "NAME":
            assert all(parse(f"{name}:{part}") for part in words.partition(": ")[2].split(", "))
            known -= set(words.partition(": ")[2].split(", "))
        else:
            assert parse(text)
    assert not known, "every grid and every network is named"


def test_schema(capsys: pytest.CaptureFixture[str]) -> None:
    assert clue("--schema") == ExitCode.OK
    assert json.loads(capsys.readouterr().out)["title"] == "Results"


def test_an_absent_set_says_where_to_get_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--bench", "coverage", "--root", str(tmp_path), "--out", str(tmp_path / "out"), "--method", "ela"]
    assert clue(*words) == ExitCode.NOTHING_TO_SCAN
    said = capsys.readouterr()
    assert "Obtained from:" in said.err and "Lay it out as" in said.err and said.out == ""


def test_a_measurement_and_a_comparison(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = write_set(tmp_path / "set", 2, 1)
    out = str(tmp_path / "out")
    assert clue("--bench", str(folder), "--method", "ela", "--out", out) == ExitCode.OK
    said = capsys.readouterr()
    assert "F1 / IoU" in said.out and "all forged" in said.out and "F1 / IoU" not in said.err
    assert "page:" in said.err
    assert clue("--compare", out, out) == ExitCode.OK
    assert "p cannot be below" in capsys.readouterr().out
    assert clue("--compare", out, out, "--method", "ela") == ExitCode.OK
    capsys.readouterr()
    (folder / "Tp" / "t0.jpg").write_bytes(b"\xff\xd8\xff damaged")
    assert clue("--bench", str(folder), "--method", "ela", "--out", out, "--quiet") == ExitCode.SOME_FAILED
    said = capsys.readouterr()
    assert "scores of single images missing" in said.err and said.out == ""
