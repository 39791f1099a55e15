"""`clue eval`: options, exit codes, and what goes where."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from clue_cli import app
from clue_cli.errors import ExitCode, NothingToScanError
from clue_cli.eval.options import EvalOptions
from clue_cli.scan.options import DType
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
        (["--root", "r"], {"root": Path("r")}),
        (["--attack", "jpeg:70", "--attack", "grid:webp"], {"attacks": ("jpeg:70", "grid:webp")}),
        (["--method", "mini,classical", "--method", "ela"], {"methods": ("mini", "classical", "ela")}),
        (["--predictions", "maps"], {"predictions": Path("maps")}),
        (["--limit", "6", "--seed", "3", "--strict"], {"limit": 6, "seed": 3, "strict": True}),
        (
            ["--model", "m", "--device", "cpu", "--dtype", "float32"],
            {"model": "m", "device": "cpu", "dtype": DType.FLOAT32},
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


def test_list(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CLUE_DATA", raising=False)
    write_set(tmp_path / "Coverage", 2, 1)
    assert clue("--list", "--root", str(tmp_path)) == ExitCode.OK
    said = capsys.readouterr().out
    assert "coverage: incomplete: 2 forged, 1 authentic, expected 100 forged and 100 authentic" in said
    assert "casia1: not here" in said and "obtained from" in said and "terms" in said and "Tp/ forged" in said
    assert clue("--list") == ExitCode.OK
    assert "neither --root nor CLUE_DATA" in capsys.readouterr().out


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
    assert "not shown to be real" in capsys.readouterr().out
    assert clue("--compare", out, out, "--method", "ela") == ExitCode.OK
    capsys.readouterr()
    (folder / "Tp" / "t0.jpg").write_bytes(b"\xff\xd8\xff damaged")
    assert clue("--bench", str(folder), "--method", "ela", "--out", out, "--quiet") == ExitCode.SOME_FAILED
    said = capsys.readouterr()
    assert "could not be had" in said.err and said.out == ""
