"""Options that several commands have: one name, one help text, the same refusals everywhere."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import typer

from clue_cli import app
from clue_cli.commands import forge, options
from clue_cli.errors import ExitCode, UsageError

PATHS = [
    (["scan", "", "--out", "x"]),
    (["scan", "x", "--out", ""]),
    (["calibrate", "--authentic", "", "--out", "x"]),
    (["eval", "--bench", "x", "--out", ""]),
    (["train", "--data", "", "--out", "x"]),
    (["train", "--data", "x", "--out", ""]),
    (["forge", "x", "--out", "x", "--masks", ""]),
    (["models", "merge", "", "--out", "x"]),
    (["models", "merge", "x", "--out", ""]),
    (["models", "add", "sd3-medium", "--sd3", "", "--sam", "x"]),
    (["sample", ""]),
]
COMMANDS = [
    ["scan", "/evidence", "--out", "/results"],
    ["calibrate", "--authentic", "/photos", "--out", "/calib.json"],
    ["eval", "--list"],
    ["train", "--data", "/mix.yaml", "--out", "/run"],
    ["forge", "/photos", "--out", "/forged"],
]


@pytest.mark.parametrize("words", PATHS, ids=" ".join)
def test_an_empty_path_is_not_the_current_folder(
    words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert app.run(words) == ExitCode.BAD_USAGE
    assert "an empty path" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("words", COMMANDS, ids=lambda words: words[0])
def test_a_deleted_current_folder(
    words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "gone"
    folder.mkdir()
    monkeypatch.chdir(folder)
    folder.rmdir()
    assert app.run(words) == ExitCode.BAD_USAGE
    assert "current folder was deleted" in capsys.readouterr().err


@pytest.mark.parametrize("command", [words[:-1] for words in COMMANDS[:3]], ids=lambda words: words[0])
@pytest.mark.parametrize(
    ("words", "said"),
    [
        *(
            (["--device", word], "expected auto, cpu, cuda or cuda:N")
            for word in ("gpu", "cuda:", "CPU", " cpu", "", "cpu\n")
        ),
        (["--devices", "0,tpu"], "expected numbers of GPUs, as in 0,1"),
        (["--devices", ""], "expected numbers of GPUs, as in 0,1"),
        (["--batch", "0"], "greater than or equal to 1"),
    ],
)
def test_wrong_devices_and_batches(
    command: list[str], words: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert app.run([*command, "x", *words]) == ExitCode.BAD_USAGE
    assert said in " ".join(capsys.readouterr().err.split())


def test_devices() -> None:
    assert options.chosen_devices(None, "cuda:1") == ()
    assert options.chosen_devices("0,cuda:1,cpu", "auto") == ("cuda:0", "cuda:1", "cpu")
    with pytest.raises(UsageError, match="--device and --devices were both given"):
        options.chosen_devices("0,1", "cpu")


@pytest.mark.parametrize("name", ["auto", "cpu", "cuda", "cuda:0", "cuda:12"])
def test_what_is_a_device(name: str) -> None:
    assert options.device(name) == name


@pytest.mark.parametrize(
    ("name", "commands"),
    [
        ("model", "scan calibrate eval"),
        ("device", "scan calibrate eval"),
        ("dtype", "scan calibrate eval"),
        ("devices", "scan calibrate eval"),
        ("batch", "scan calibrate eval"),
        ("compile", "scan eval"),
        ("hidden", "scan calibrate forge"),
        ("follow_links", "scan calibrate"),
        ("archive_depth", "scan calibrate"),
        ("quiet", "scan calibrate eval train forge"),
    ],
)
def test_one_name_has_one_help_text(name: str, commands: str) -> None:
    group: Any = typer.main.get_command(app.app)
    context = typer.Context(group)
    found = [group.resolve_command(context, [word])[1] for word in commands.split()]
    shown = [one for command in found for one in command.params if one.name == name]
    assert len(shown) == len(commands.split())
    assert len({(one.help, one.rich_help_panel, *one.opts) for one in shown}) == 1


@pytest.mark.parametrize(
    "command", [[], ["scan"], ["eval"], ["train"], ["forge"], ["models"], ["models", "info"], ["sample"]], ids=" ".join
)
def test_no_flag_shows_a_type(command: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert app.run([*command, "--help"]) == ExitCode.OK
    said = capsys.readouterr().out
    assert "--help" in said and "bool" not in said


@pytest.mark.parametrize(("word", "size"), [("256", (256, 256)), ("512x384", (512, 384)), ("64×64", (64, 64))])
def test_one_side_is_a_square(word: str, size: tuple[int, int]) -> None:
    assert forge._size(word) == size
    for wrong in ("", "63", "256x", "256x63", "9000"):
        with pytest.raises(typer.BadParameter, match="or 512, sides from 64"):
            forge._size(wrong)
