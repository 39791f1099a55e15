"""Files and folders that are there and whole, or as before: also where the process is killed between two renames."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from model.whole_file import earlier, settle, whole_folder

KILLED = """
import os, signal, sys
from pathlib import Path
from model.whole_file import whole_folder

replace, wanted, done = Path.replace, int(sys.argv[2]), [0]

def killed(self, target):
    result = replace(self, target)
    done[0] += 1
    if done[0] == wanted:
        os.kill(os.getpid(), signal.SIGKILL)
    return result

Path.replace = killed
with whole_folder(Path(sys.argv[1])) as place:
    (place / "content").write_text("new")
"""
"""Replaces a folder, and is killed after the given number of renames."""


def write(target: Path, content: str) -> None:
    with whole_folder(target) as place:
        (place / "content").write_text(content)


@pytest.fixture
def target(tmp_path: Path) -> Path:
    write(tmp_path / "best", "old")
    return tmp_path / "best"


@pytest.mark.parametrize(
    ("renames", "there", "put_back", "content"),
    [(1, False, True, "old"), (2, True, False, "new")],
    ids=["between the renames", "before the earlier one is removed"],
)
def test_killed_while_it_is_replaced(target: Path, renames: int, there: bool, put_back: bool, content: str) -> None:
    killed = subprocess.run([sys.executable, "-c", KILLED, str(target), str(renames)], check=False)
    assert killed.returncode == -signal.SIGKILL
    assert target.exists() == there
    assert (earlier(target) / "content").read_text() == "old"
    assert settle(target) == put_back
    assert (target / "content").read_text() == content
    assert not earlier(target).exists()
    assert not settle(target)


def test_what_a_killed_process_left_is_in_nobodys_way(target: Path) -> None:
    earlier(target).mkdir()
    (earlier(target) / "content").write_text("older")
    write(target, "new")
    assert (target / "content").read_text() == "new"
    assert [path.name for path in target.parent.iterdir()] == ["best"]


def test_interrupted_between_the_renames(target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    replace = Path.replace

    def interrupted(self: Path, to: Path) -> Path:
        result = replace(self, to)
        if to == earlier(target):
            raise KeyboardInterrupt
        return result

    monkeypatch.setattr(Path, "replace", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write(target, "new")
    assert (target / "content").read_text() == "old"
    assert [path.name for path in target.parent.iterdir()] == ["best"]


def test_a_link_to_a_folder_is_replaced_and_what_it_leads_to_is_left(target: Path) -> None:
    real = target.rename(target.with_name("elsewhere"))
    for content in ("new", "newer"):
        if not target.exists():
            target.symlink_to(real)
        write(target, content)
    assert (target / "content").read_text() == "newer"
    assert (real / "content").read_text() == "old"
