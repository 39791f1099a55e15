"""Folders of decoded photos go with their owners, and after a run that was killed with the next one."""

from __future__ import annotations

import fcntl
import gc
import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from model.data import temporary_cache as module
from model.data.temporary_cache import LOCK, remove_abandoned, temporary_cache


class Owner:
    pass


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", None)
    return tmp_path


def test_a_folder_goes_with_its_owner_and_not_before(place: Path) -> None:
    first, second = Owner(), Owner()
    folders = [temporary_cache(first), temporary_cache(second)]
    (folders[0] / "pixels.bin").write_bytes(b"x")
    assert sorted(place.iterdir()) == sorted(folders)
    remove_abandoned(place)
    assert all((folder / LOCK).is_file() for folder in folders)
    del first
    gc.collect()
    assert list(place.iterdir()) == folders[1:]


_KILLED = """
import os, signal, sys
from model.data.temporary_cache import temporary_cache
class Owner: pass
owner = Owner()
folder = temporary_cache(owner)
(folder / "train-0").mkdir()
(folder / "train-0" / "pixels.bin").write_bytes(b"x")
print(folder, flush=True)
sys.stdin.read()
"""


def test_what_a_killed_process_left_goes_with_the_next(place: Path) -> None:
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[3])}
    process = subprocess.Popen(
        [sys.executable, "-c", _KILLED], env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    with process:
        assert process.stdout is not None
        folder = Path(process.stdout.readline().strip())
        remove_abandoned(place)
        assert (folder / "train-0" / "pixels.bin").is_file()  # it is alive
        process.send_signal(signal.SIGKILL)
    owner = Owner()
    new = temporary_cache(owner)
    assert list(place.iterdir()) == [new]
    assert not folder.exists()


def test_what_is_not_ours_is_left_alone(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    prefix = module._prefix()
    for name in (f"{prefix}no-lock", "clue-photos-elsewhere", "mine"):
        (place / name).mkdir()
    for name in ("clue-photos-elsewhere", "mine"):
        (place / name / LOCK).touch()
    (place / f"{prefix}file").write_text("")
    (place / f"{prefix}link").symlink_to(place / "mine")
    (place / f"{prefix}other").mkdir()
    (place / f"{prefix}other" / LOCK).symlink_to(place / "mine" / LOCK)
    before = sorted(place.rglob("*"))
    remove_abandoned(place)
    remove_abandoned(place / "absent")
    assert sorted(place.rglob("*")) == before
    (place / f"{prefix}no-lock" / LOCK).touch()
    monkeypatch.setattr(os, "getuid", lambda: 12345)
    remove_abandoned(place)
    assert (place / f"{prefix}no-lock").exists()
    monkeypatch.undo()
    remove_abandoned(place)
    assert not (place / f"{prefix}no-lock").exists()


@pytest.mark.parametrize("why", ["no locks here", "no fcntl"])
def test_where_there_are_no_locks(place: Path, monkeypatch: pytest.MonkeyPatch, why: str) -> None:
    def refused(*_: object) -> None:
        raise OSError(95, "Operation not supported")

    if why == "no fcntl":
        monkeypatch.setattr(module, "LOCKS", False)
    else:
        monkeypatch.setattr(fcntl, "flock", refused)
    owner = Owner()
    folder = temporary_cache(owner)
    assert list(place.iterdir()) == [folder]
    assert list(folder.iterdir()) == []
    monkeypatch.undo()
    remove_abandoned(place)
    assert folder.is_dir()
    del owner
    gc.collect()
    assert not folder.exists()
