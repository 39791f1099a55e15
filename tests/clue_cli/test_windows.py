"""What Windows lacks, simulated: a scan without it, and no new use of it unseen."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

from clue_cli.errors import ExitCode
from tests.faults.pictures import jpeg
from tests.tiny_model import write_tiny_model

ROOT = Path(__file__).resolve().parents[2]

POSIX_ONLY = {
    "os": "O_CLOEXEC O_NOATIME O_NOFOLLOW O_NONBLOCK chown fchmod fchown fork forkpty getegid geteuid getgid getuid "
    "killpg lockf mkfifo nice posix_fadvise pread preadv pwrite sched_getaffinity sched_setaffinity sendfile "
    "set_blocking setsid statvfs sysconf uname wait",
    "select": "POLLIN POLLOUT epoll poll",
    "signal": "SIGALRM SIGHUP SIGKILL SIGUSR1 alarm pause setitimer",
}
MODULES = {"curses", "fcntl", "grp", "posix", "pty", "pwd", "resource", "syslog", "termios", "tty"}

# Each is asked for with `hasattr`, or not on Windows.
GUARDED = {
    "clue_cli/custody/verify.py: fcntl",
    "clue_cli/custody/verify.py: os.O_NOFOLLOW",
    "clue_cli/custody/verify.py: os.O_NONBLOCK",
    "clue_cli/evidence/sandbox/process.py: fcntl",
    "clue_cli/evidence/sandbox/process.py: os.set_blocking",
    "clue_cli/evidence/sandbox/process.py: select.poll",
    "clue_cli/evidence/sandbox/worker.py: resource",
    "clue_cli/machine.py: os.sched_getaffinity",
    "clue_cli/machine.py: os.sysconf",
    "clue_cli/results/log.py: os.pread",
    "clue_cli/results/remote/folder.py: os.geteuid",
    "model/training/feed.py: signal.SIGKILL",
    "model/whole_file.py: os.fchmod",
}


def test_nothing_that_only_posix_has_is_used_without_need() -> None:
    found = set()
    for path in (*(ROOT / "clue_cli").rglob("*.py"), *(ROOT / "model").rglob("*.py")):
        place = path.relative_to(ROOT).as_posix()
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            match node:
                case ast.Attribute(value=ast.Name(id=module), attr=name):
                    if name in POSIX_ONLY.get(module, "").split():
                        found.add(f"{place}: {module}.{name}")
                case ast.Import(names=names):
                    found.update(f"{place}: {alias.name}" for alias in names if alias.name in MODULES)
                case ast.ImportFrom(module=str(module)) if module in MODULES:
                    found.add(f"{place}: {module}")
                case ast.keyword(arg="preexec_fn"):
                    found.add(f"{place}: preexec_fn")
    assert found == GUARDED


# Libraries come first: on this system theirs are the modules of this system.
WINDOWS = """
import os, select, sys
import filelock, rich.console, tqdm, diffusers.models.transformers.transformer_sd3
import model.branches.sd3_network, model.predictor, model.whole_file
from clue_cli import app

for name in ("pread", "O_CLOEXEC", "O_NOATIME", "fchmod", "sysconf", "sched_getaffinity", "set_blocking", "uname"):
    if hasattr(os, name):
        delattr(os, name)
if hasattr(select, "poll"):
    del select.poll
opened = os.open

def no_folders(path, *arguments, **options):
    if os.path.isdir(path):
        raise PermissionError(13, "Permission denied", str(path))
    return opened(path, *arguments, **options)

def sync_folder(folder, real=model.whole_file._sync_folder):
    os.name = "nt"
    try:
        real(folder)
    finally:
        os.name = "posix"

os.open, model.whole_file._sync_folder = no_folders, sync_folder
codes = {app.run(sys.argv[1:]) for _ in range(2)}
sys.exit(codes.pop() if len(codes) == 1 else 99)
"""


@pytest.mark.skipif(os.name == "nt", reason="is the real thing")
def test_a_scan_on_windows_and_its_repetition(tmp_path: Path) -> None:
    evidence = tmp_path / "evidence"
    evidence.mkdir()
    (evidence / "日本.jpg").write_bytes(jpeg(64, 64))
    (evidence / "cut.jpg").write_bytes(b"\xff\xd8\xff")
    model = write_tiny_model(tmp_path / "model")
    words = ["scan", evidence, "--out", tmp_path / "out", "--model", model, "--device", "cpu"]
    environment = {**os.environ, "PYTHONIOENCODING": "cp1252:strict", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", WINDOWS, *map(str, words)],
        capture_output=True,
        timeout=300,
        env=environment,
        check=False,
    )
    said = done.stderr.decode("cp1252")
    assert done.returncode == ExitCode.SOME_FAILED, said
    assert said.count("Scan finished") == 2
    assert said.count("reused from earlier scans") == 1
