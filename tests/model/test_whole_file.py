"""Files and folders that are there and whole, or as before: also where the process is killed between two renames."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from model.whole_file import PART, earlier, remove_parts, settle, whole_file, whole_folder, write_text, write_whole

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


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("apart", [False, True])
def test_a_file_appears_whole_or_not_at_all(tmp_path: Path, apart: bool) -> None:
    target, parts = tmp_path / "file", tmp_path / "parts"
    parts.mkdir()
    for content in (b"old", b"new"):
        with whole_file(target, sync=True, parts=parts if apart else None) as stream:
            stream.write(content)
            (part,) = (path for path in (parts if apart else tmp_path).iterdir() if PART.fullmatch(path.name))
            assert target.exists() == (content == b"new")
        assert not part.exists()
    with pytest.raises(ZeroDivisionError), whole_file(target, sync=False) as stream:
        raise ZeroDivisionError
    assert target.read_bytes() == b"new"
    assert names(tmp_path) == ["file", "parts"]


def test_others_may_read_what_the_umask_lets_them_whatever_the_writer_made(tmp_path: Path) -> None:
    def secretive(path: str) -> None:
        """As safetensors does: a file of its own, in the place of that which is there."""
        other = Path(f"{path}.other")
        other.write_text("x")
        other.chmod(0o600)
        other.replace(path)

    former = os.umask(0o027)
    try:
        write_whole(tmp_path / "a", secretive)
        write_text(tmp_path / "b", "x")
        with whole_folder(tmp_path / "folder") as place:
            secretive(str(place / "c"))
    finally:
        os.umask(former)
    modes = [stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("a", "b", "folder", "folder/c")]
    assert modes == [0o640, 0o640, 0o750, 0o640]


def test_parts_are_removed_and_nothing_else(tmp_path: Path) -> None:
    part = f".{'0a' * 8}.part"
    (tmp_path / part).mkdir()
    (tmp_path / part / "content").write_text("half")
    (tmp_path / part.replace("0a", "0b")).write_text("half")
    (tmp_path / part.replace("0a", "0c")).symlink_to(tmp_path)
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / part).write_text("kept: only this folder is looked at")
    (tmp_path / f"x{part}").write_text("kept")
    remove_parts(tmp_path)
    remove_parts(tmp_path / "absent")
    assert names(tmp_path) == [part.replace("0a", "0c"), "deep", f"x{part}"]
    assert names(tmp_path / "deep") == [part]


def test_windows_has_no_folders_to_sync_and_no_modes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.open

    def refused(path: Any, *arguments: Any, **options: Any) -> int:
        if Path(path).is_dir():
            raise PermissionError(13, "Permission denied")
        return real(path, *arguments, **options)

    monkeypatch.setattr(os, "open", refused)
    monkeypatch.setattr(os, "name", "nt")
    monkeypatch.delattr(os, "fchmod")
    monkeypatch.setattr("model.whole_file.Path", type(tmp_path))
    write_text(tmp_path / "a.txt", "content")
    write_whole(tmp_path / "b.txt", lambda path: type(tmp_path)(path).write_text("content") and None)
    assert (tmp_path / "a.txt").read_text() == (tmp_path / "b.txt").read_text() == "content"
