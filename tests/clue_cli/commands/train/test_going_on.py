"""A training that was stopped or killed goes on exactly: the same losses, the same model."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from accelerate.state import AcceleratorState

from clue_cli.app import run
from clue_cli.errors import ExitCode
from clue_cli.progress import ShownReporter
from model.training.run_folder import read_log
from tests.clue_cli.commands.train.command import clue


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_stopped_and_continued(
    data: Path,
    tmp_path: Path,
    number: signal.Signals,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    assert clue(data, tmp_path / "unbroken", "--steps", "4") == ExitCode.OK
    with monkeypatch.context() as patch:
        advance = ShownReporter.advance

        def advance_and_stop(self: ShownReporter, n: int = 1, status: str | None = None) -> None:
            advance(self, n, status)
            if n and self._done == 3:
                signal.raise_signal(number)

        patch.setattr(ShownReporter, "advance", advance_and_stop)
        assert clue(data, tmp_path / "run", "--steps", "4") == ExitCode.INTERRUPTED
    assert "Interrupted at step 3" in capfd.readouterr().err
    assert clue(data, tmp_path / "run", "--steps", "4") == ExitCode.OK
    assert "Going on from step 3" in capfd.readouterr().err
    losses = [
        [row["loss"] for row in read_log(tmp_path / name / "log.jsonl") if row["kind"] == "step"]
        for name in ("run", "unbroken")
    ]
    assert losses[0] == losses[1]
    last = [(tmp_path / name / "last" / "model.safetensors").read_bytes() for name in ("run", "unbroken")]
    assert last[0] == last[1]


KILLED = """
import multiprocessing, os, signal, sys
import torch
from clue_cli.app import run
from clue_cli.progress import ShownReporter

torch.set_num_threads(int(sys.argv[1]))
advance = ShownReporter.advance

def killed(self, n=1, status=None):
    advance(self, n, status)
    if n and self._done == 3:
        print(*(child.pid for child in multiprocessing.active_children()), flush=True)
        os.kill(os.getpid(), signal.SIGKILL)

ShownReporter.advance = killed
run(sys.argv[2:])
"""
"""`clue train` as a process that is killed after its third step; the state on the disk is that of the second."""


def _runs(pid: str) -> bool:
    try:
        return Path("/proc", pid, "stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_killed_between_checkpoints_and_continued(
    data: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    def words(name: str) -> list[str]:
        small = ["--preset", str(data / "quick.yaml"), "--batch", "4", "--workers", "2", "--device", "cpu"]
        small += ["--validation-samples", "8", "--validate-every", "4", "--save-every", "2", "--set", "dice=image"]
        return ["train", "--data", str(data / "mix.yaml"), "--out", str(tmp_path / name), "--steps", "5", *small]

    threads = str(torch.get_num_threads())
    killed = subprocess.run(
        [sys.executable, "-c", KILLED, threads, *words("run")], check=False, capture_output=True, text=True
    )
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    if sys.platform == "linux":
        workers = killed.stdout.split()
        assert len(workers) == 2
        end = time.monotonic() + 2  # by themselves they notice after five seconds
        while alive := [pid for pid in workers if _runs(pid)]:
            assert time.monotonic() < end, alive
            time.sleep(0.05)
    logs = [tmp_path / name / "log.jsonl" for name in ("run", "unbroken")]
    assert [row["step"] for row in read_log(logs[0]) if row["kind"] == "step"] == [1, 2, 3]
    assert run(words("run")) == ExitCode.OK
    assert "Going on from step 2" in capfd.readouterr().err
    AcceleratorState._reset_state(reset_partial_state=True)
    assert run(words("unbroken")) == ExitCode.OK
    losses = [[row["loss"] for row in read_log(log) if row["kind"] == "step"] for log in logs]
    assert len(losses[0]) == 5
    assert losses[0] == losses[1]
    last = [(log.parent / "last" / "model.safetensors").read_bytes() for log in logs]
    assert last[0] == last[1]
