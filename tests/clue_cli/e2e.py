"""The installed program as a person runs it: another process, real files, no network; and what it left behind."""

from __future__ import annotations

import csv
import hashlib
import json
import os
import signal
import stat
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).parents[2]
PATIENCE = 300
"""Seconds after which a scan of a few tiny pictures hangs; an idle machine needs a fiftieth."""

_NO_NETWORK = """
import os, sys

def _refuse(event, arguments):
    if event in ("socket.connect", "socket.getaddrinfo", "socket.gethostbyname", "socket.sendto"):
        with open(os.environ["CLUE_TEST_NETWORK_LOG"], "a") as log:
            log.write(f"{event} {arguments[1:]!r}\\n")
        raise PermissionError("the network is off limits")

sys.addaudithook(_refuse)
"""

_Word = str | Path | bytes
Key = tuple[str, int | None]


def command() -> list[str]:
    """The console script of this environment; the module, where the project is not installed."""
    script = Path(sys.executable).with_name("clue")
    return [str(script)] if script.is_file() else [sys.executable, "-m", "clue_cli"]


@dataclass
class Clue:
    """Runs `clue` without network.

    Attributes:
        site: an empty folder for what is injected into the interpreter.
        changes: of the environment, None to take a variable away.
    """

    site: Path
    changes: Mapping[str, str | None] = field(default_factory=dict)

    def __post_init__(self) -> None:
        (self.site / "sitecustomize.py").write_text(_NO_NETWORK)

    @property
    def network_log(self) -> Path:
        """Each attempt to reach the network is a line of it."""
        return self.site / "network.log"

    def environment(self) -> dict[str, str]:
        changed = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join([str(self.site), str(REPOSITORY), os.environ.get("PYTHONPATH", "")]),
            "CLUE_TEST_NETWORK_LOG": str(self.network_log),
            **self.changes,
        }
        return {name: value for name, value in changed.items() if value is not None}

    def start(self, *words: _Word, **how: Any) -> subprocess.Popen[bytes]:
        return subprocess.Popen([*command(), *words], env=self.environment(), **how)

    def __call__(self, *words: _Word, **how: Any) -> Done:
        process = self.start(*words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **how)
        out, err = process.communicate(timeout=PATIENCE)
        return Done(process.returncode, out.decode(), err.decode())

    def scan_until(
        self, enough: Callable[[dict[str, Any]], bool], number: signal.Signals, *words: _Word
    ) -> tuple[int, str]:
        """Scan with --json-lines and send a signal upon the first line that is enough; exit code and stderr."""
        process = self.start("scan", "--json-lines", *words, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        assert process.stdout is not None
        for line in process.stdout:
            if enough(json.loads(line)):
                process.send_signal(number)
                break
        _, err = process.communicate(timeout=PATIENCE)
        return process.returncode, err.decode()


@dataclass(frozen=True)
class Done:
    """What a run said and exited with."""

    code: int
    out: str
    err: str


@dataclass(frozen=True)
class Results:
    """A results folder, read with nothing of clue's own."""

    folder: Path

    @property
    def run(self) -> dict[str, Any]:
        content: dict[str, Any] = json.loads(self.folder.joinpath("run.json").read_bytes())
        return content

    @property
    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.folder.joinpath("records.jsonl").read_bytes().splitlines()]

    @property
    def current(self) -> dict[Key, dict[str, Any]]:
        """The current records as RECORDS.md defines them: of a locator, the lines of the run of its last line."""
        last = {line["locator"]: line["run_id"] for line in self.lines}
        return {(line["locator"], line["page"]): line for line in self.lines if line["run_id"] == last[line["locator"]]}

    @property
    def images(self) -> dict[Key, dict[str, Any]]:
        return {key: record for key, record in self.current.items() if record["kind"] == "image"}

    @property
    def failures(self) -> dict[str, dict[str, Any]]:
        return {locator: record for (locator, _), record in self.current.items() if record["kind"] == "failure"}

    @property
    def summary(self) -> list[dict[str, str]]:
        with self.folder.joinpath("summary.csv").open(encoding="utf-8", newline="") as stream:
            return list(csv.DictReader(stream))

    def pictures(self, record: Mapping[str, Any]) -> tuple[bytes, bytes]:
        """The files of its mask and heatmap."""
        outputs = record["outputs"]
        return (self.folder / outputs["mask"]).read_bytes(), (self.folder / outputs["heatmap"]).read_bytes()

    def by_content(self) -> dict[tuple[str, int], tuple[bytes, bytes]]:
        """Mask and heatmap by SHA-256 of the evidence and page."""
        return {(r["file"]["sha256"], r["page"]): self.pictures(r) for r in self.images.values()}

    def written(self) -> dict[str, int]:
        """Time of the last change, ns, of every mask, heatmap and verdict."""
        return {
            str(path.relative_to(self.folder)): path.stat().st_mtime_ns
            for part in ("masks", "heatmaps", "verdicts")
            for path in (self.folder / part).rglob("*")
            if path.is_file()
        }


def fingerprint(folder: Path) -> dict[bytes, tuple[int, int, int, str]]:
    """Everything below the folder: type and mode, size, time of change, SHA-256 of the bytes or the link's target."""
    found = {}
    paths = [os.fsencode(folder)]
    while paths:
        path = paths.pop()
        status = os.lstat(path)
        content = ""
        if stat.S_ISDIR(status.st_mode):
            paths += [os.path.join(path, name) for name in os.listdir(path)]  # noqa: PTH118, PTH208 - names are bytes
        elif stat.S_ISLNK(status.st_mode):
            content = os.fsdecode(os.readlink(path))  # noqa: PTH115
        elif stat.S_ISREG(status.st_mode):
            content = hashlib.sha256(Path(os.fsdecode(path)).read_bytes()).hexdigest()
        found[path] = (status.st_mode, status.st_size, status.st_mtime_ns, content)
    return found


def write_tree(folder: Path, files: Mapping[str | bytes, bytes]) -> Path:
    """Files by path below the folder; a path of bytes may be no UTF-8."""
    for name, content in files.items():
        path = folder / os.fsdecode(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return folder
