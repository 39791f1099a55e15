"""Options that several commands have: one name, one help text, the same refusals everywhere."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest
import typer

from clue_cli import app
from clue_cli.commands import forge, options
from clue_cli.errors import ExitCode, UsageError
from clue_cli.networks import Engine, NetworkOptions

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


URLS = [
    ["calibrate", "--authentic", "s3://me:hidden@case/x", "--out", "calib.json"],
    ["eval", "--bench", "x", "--out", "s3://case/x"],
    ["eval", "--bench", "x", "--predictions", "s3://case/x", "--out", "x"],
    ["forge", "s3://case/x?token=hidden", "--out", "x"],
    ["explain", "s3://case/x", "--model", "m"],
    ["merge", "s3://case/x", "--out", "x"],
    ["sample", "'s3://case/x'"],
    ["scan", "x", "--known", "https://me:hidden@host/known.txt", "--out", "x"],
    ["train", "--data", "s3://case/mix.yaml", "--out", "x"],
]


@pytest.mark.parametrize("words", URLS, ids=" ".join)
def test_a_url_where_a_path_is_needed_is_refused_without_its_secrets(
    words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert app.run(words) == ExitCode.BAD_USAGE
    said = capsys.readouterr().err
    assert "is a URL" in said
    assert "hidden" not in said
    assert list(tmp_path.iterdir()) == []


def test_credentials_in_a_url_to_scan_are_refused_and_not_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert app.run(["scan", "s3://KEY:hidden@case/x", "--out", "out"]) == ExitCode.BAD_USAGE
    said = capsys.readouterr().err
    assert "a user or a password" in said and "hidden" not in said
    assert list(tmp_path.iterdir()) == []


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
        (["--ray-cores", "0"], "greater than or equal to 1"),
        *(
            (["--engine", "ray", "--ray-address", word], "expected auto, or HOST:PORT")
            for word in ("", "head", "head:0", "head:65536", "ray://head:10001", "user:word@head:6379", "a b:1", "é:1")
        ),
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


RAY = ["--engine", "ray"]


@pytest.mark.parametrize(
    "command", [*COMMANDS[:2], ["eval", "--bench", "/set", "--out", "/results"]], ids=lambda words: words[0]
)
@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--ray-address", "auto"], "--ray-address belongs to --engine ray"),
        (["--ray-workers", "2", "--engine", "local"], "--ray-workers belongs to --engine ray"),
        (["--ray-cores", "1"], "--ray-cores belongs to --engine ray"),
        ([*RAY, "--devices", "0,1"], "--devices and --engine ray were both given"),
    ],
)
def test_options_of_a_cluster_without_one(
    command: list[str], words: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert app.run([*command, *words]) == ExitCode.BAD_USAGE
    assert said in " ".join(capsys.readouterr().err.split())


def test_where_the_work_is_done(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without `auto` the address in RAY_ADDRESS, perhaps of somebody else's cluster, plays no part."""
    monkeypatch.setenv("RAY_ADDRESS", "ray://user:word@elsewhere:10001")
    assert options.chosen_engine(Engine.LOCAL, None, None, None, None) == {}
    chosen = options.chosen_engine(Engine.RAY, None, None, None, None)
    assert NetworkOptions(**chosen) == NetworkOptions(engine=Engine.RAY)
    chosen = options.chosen_engine(Engine.RAY, "[fd00::1]:6379", 3, 2, None)
    assert chosen == {"engine": Engine.RAY, "ray_address": "[fd00::1]:6379", "ray_workers": 3, "ray_cores": 2}
    with pytest.raises(UsageError, match="takes the address from RAY_ADDRESS, which is not HOST:PORT") as refused:
        options.chosen_engine(Engine.RAY, "auto", None, None, None)
    assert "word" not in str(refused.value)
    for named in ("", "auto", "10.0.0.5:6379"):
        monkeypatch.setenv("RAY_ADDRESS", named)
        assert options.chosen_engine(Engine.RAY, "auto", None, None, None)["ray_address"] == "auto"


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
        ("engine", "scan calibrate eval"),
        ("ray_address", "scan calibrate eval"),
        ("ray_workers", "scan calibrate eval"),
        ("ray_cores", "scan calibrate eval"),
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


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("photos", "photos"),
        (" photos\t", "photos"),
        ("'my photos'", "my photos"),
        ('"/a/b c" ', "/a/b c"),
        ("“/a/b”", "/a/b"),
        ("~/photos", "/home/x/photos"),
        ("'~'", "/home/x"),
        ("~nobody-of-this-name/a", "~nobody-of-this-name/a"),
        ("file:///a/b%20c%23.jpg", "/a/b c#.jpg"),
        ("file://localhost/a/b", "/a/b"),
        ("file:/a?b#c", "/a?b#c"),
        ("don't", "don't"),
        ("'", "'"),
    ],
)
def test_paths_as_people_paste_them(word: str, expected: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/x")
    assert options.path(word) == Path(expected)


@pytest.mark.parametrize("name", ["'quoted'", " blank ", "~", "file:x"])
def test_a_file_of_that_very_name_is_meant(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / name).write_bytes(b"")
    assert options.path(name) == Path(name)


@pytest.mark.parametrize("word", ["", " ", "''", "file://"])
def test_what_is_no_path(word: str) -> None:
    with pytest.raises(typer.BadParameter):
        options.path(word)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"a.jpg\nb c.jpg\n", ["a.jpg", "b c.jpg"]),
        (b'\xef\xbb\xbf"a.jpg" \r\n\r\n  \r\nb.jpg', ["a.jpg", "b.jpg"]),
        ("ä.jpg\r\nb.jpg\r\n".encode("utf-16"), ["ä.jpg", "b.jpg"]),
        (b"a\nb.jpg\0 'c' \0", ["a\nb.jpg", " 'c' "]),
        (b"caf\xe9.jpg\n", ["caf\udce9.jpg"]),
        (b"", []),
    ],
)
def test_lists_of_paths(content: bytes, expected: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "list").write_bytes(content)
    assert options.listed_paths(tmp_path / "list") == [Path(name) for name in expected]
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(content)))
    assert options.listed_paths(Path("-")) == [Path(name) for name in expected]
