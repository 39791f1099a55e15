"""What reaches the terminal, and what happens where nothing can."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from clue_cli.errors import OutputError
from clue_cli.terminal import complain, printable, write_stdout
from tests.faults.streams import unwritable

CLOSED = """
import os, sys
for number in {closed}:
    os.close(number)
    setattr(sys, ("stdin", "stdout", "stderr")[number], None)
from clue_cli.app import run
from clue_cli.terminal import steady_streams
steady_streams()
print("to nobody")
print("to nobody", file=sys.stderr)
opened = os.open({path!r}, os.O_WRONLY | os.O_CREAT)
os.write(opened, str(opened).encode())
os._exit(run(["--version"]))
"""


@pytest.mark.parametrize(
    ("text", "shown"),
    [("Köln ✓ 日本", "Köln ✓ 日本"), ("a\n\x1b[2J", "a\\n\\x1b[2J"), ("\u202e\udcff\x9b", "\\u202e\\udcff\\x9b")],
)
def test_printable(text: str, shown: str) -> None:
    assert printable(text) == shown


@pytest.mark.parametrize("closed", [[0], [1], [2], [0, 1, 2]])
def test_no_file_takes_the_place_of_a_closed_stream(closed: list[int], tmp_path: Path) -> None:
    path = tmp_path / "records.jsonl"
    code = CLOSED.format(closed=closed, path=str(path))
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert int(path.read_text()) > 2


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-16"])
def test_data_is_utf8_whatever_the_locale(encoding: str) -> None:
    code = "from clue_cli.app import run; from clue_cli.terminal import write_stdout; run(['schema', '--fields'])"
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        timeout=60,
        check=True,
        env={**os.environ, "PYTHONIOENCODING": encoding},
    )
    assert "masks/….png" in done.stdout.decode("utf-8")


@pytest.mark.parametrize("encoding", ["ascii", "cp1252:strict"])
@pytest.mark.parametrize("words", [["--help"], ["scan", "--help"]])
def test_help_where_the_terminal_does_not_know_all_characters(words: list[str], encoding: str) -> None:
    code = f"import sys; from clue_cli.app import run; sys.exit(run({words!r}))"
    environment = {**os.environ, "PYTHONIOENCODING": encoding}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, timeout=60, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    assert b"Example" in done.stdout


def test_stdout_without_a_reader(monkeypatch: pytest.MonkeyPatch) -> None:
    with unwritable(full_disk=False) as stream, monkeypatch.context() as patch:
        patch.setattr(sys, "stdout", stream)
        assert not write_stdout(json.dumps({"a": 1}))


def test_stdout_on_a_full_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    with unwritable(full_disk=True) as stream, monkeypatch.context() as patch:
        patch.setattr(sys, "stdout", stream)
        with pytest.raises(OutputError, match="No space left"):
            write_stdout("data")


@pytest.mark.parametrize("full_disk", [False, True])
def test_a_complaint_that_nobody_can_hear(monkeypatch: pytest.MonkeyPatch, full_disk: bool) -> None:
    with unwritable(full_disk) as stream, monkeypatch.context() as patch:
        patch.setattr(sys, "stderr", stream)
        complain("It is broken.", "Mend it.")
        assert os.path.samestat(os.fstat(stream.fileno()), Path(os.devnull).stat())


def test_a_complaint_on_a_console_of_code_page_1252() -> None:
    code = "from clue_cli.terminal import complain, steady_streams; steady_streams(); complain('日本 · ü')"
    environment = {**os.environ, "PYTHONIOENCODING": "cp1252:strict"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, timeout=60, env=environment, check=True)
    assert done.stderr.decode("cp1252") == "clue: \\u65e5\\u672c · ü\n"
