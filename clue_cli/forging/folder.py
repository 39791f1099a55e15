"""The folder that `clue forge` writes to: whose it is, what is done in it, its log and its summary."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from clue_cli import __version__
from clue_cli.errors import OutputError, UsageError
from clue_cli.forging.worker import IMAGES, MASKS, Made
from clue_cli.scan.folder import OutputFolder, output_errors
from model.images.folders import FORGE_LOG, FORGE_SUMMARY

LOG, SUMMARY, LOCK = FORGE_LOG, FORGE_SUMMARY, ".clue-forge.lock"
FORMAT = 1
_OURS = {LOG, SUMMARY, LOCK, IMAGES, MASKS, ".tmp"}


class ForgeFolder:
    """The folder that is written to: its lock, what is done in it, its log and its summary.

    Args:
        out: new, empty, or of a run with the same settings.
        settings: what decides the pictures, in JSON types.

    Attributes:
        done: numbers of the pictures that are there.
        kinds: how many of each kind.
        failures: photos that could not be used, and why.
        failed: how many edits failed on their photos; other ones took their place.

    Raises:
        UsageError: `out` holds something else.
        OutputError: it cannot be written.
    """

    def __init__(self, out: Path, settings: dict[str, Any]) -> None:
        self._out, self._settings = out, settings
        self._folder = OutputFolder(out)
        self.done: set[int] = set()
        self.kinds: Counter[str] = Counter()
        self.failures: dict[str, str] = {}
        self.failed = 0
        self._before_lock()
        self._lock = FileLock(out / LOCK)

    def _before_lock(self) -> None:
        with output_errors(self._out):
            if self._out.exists() and not self._out.is_dir():
                raise UsageError(f"{self._out} is not a folder.", "Name a new or empty one with --out.")
            self._out.mkdir(parents=True, exist_ok=True)
            foreign = sorted(path.name for path in self._out.iterdir() if path.name not in _OURS)
            ours = (self._out / SUMMARY).is_file() or not any(
                (self._out / name).exists() for name in (LOG, IMAGES, MASKS, ".tmp")
            )
            links = [name for name in sorted(_OURS) if (self._out / name).is_symlink()]
        if foreign or links or not ours:
            what = [*foreign, *links, "no " + SUMMARY][0]
            raise UsageError(
                f"{self._out} is not empty, and was not made by `clue forge` ({what!r}).",
                "Name a new or empty folder with --out.",
            )

    def __enter__(self) -> ForgeFolder:
        with output_errors(self._out):
            try:
                self._lock.acquire(timeout=0)
            except Timeout as error:
                raise OutputError(
                    f"Another `clue forge` writes to {self._out}.", "Wait until it is done, or choose another --out."
                ) from error
        try:
            self._check_settings()
            self._read_log()
            self._folder.clear_temporary()
        except BaseException:
            self._lock.release()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._folder.clear_temporary()
        self._lock.release()

    def _check_settings(self) -> None:
        path = self._out / SUMMARY
        if not path.exists():
            return
        try:
            with output_errors(path):
                before = json.loads(path.read_text("utf-8"))
            settings, tool = before["settings"], before["tool"]
            if before["format"] != FORMAT:
                raise ValueError
        except (ValueError, KeyError, TypeError) as error:
            raise UsageError(
                f"{path} is not what `clue forge` writes.", "Name a new or empty folder with --out."
            ) from error
        differ = sorted(name for name in self._settings if settings.get(name) != self._settings[name])
        if tool != _tool():
            differ.append("version")
        if differ:
            raise UsageError(
                f"{self._out} was made with other settings or photos ({', '.join(differ)}).",
                "Repeat the former command to go on there, or name a new folder with --out.",
            )

    def _read_log(self) -> None:
        """What is done; a line that a crash cut off is dropped, its picture is made again."""
        path = self._out / LOG
        with output_errors(path):
            data = path.read_bytes() if path.exists() else b""
            whole = data[: data.rfind(b"\n") + 1]
            for count, text in enumerate(whole.splitlines(), 1):
                try:
                    self._count(json.loads(text))
                except (ValueError, KeyError, TypeError) as error:
                    raise UsageError(
                        f"{path}, line {count}, is not what `clue forge` writes.", "Name a new folder with --out."
                    ) from error
            if whole != data:
                with self._folder.create(LOG) as stream:
                    stream.write(whole)

    def _count(self, line: dict[str, Any]) -> None:
        number, kind = line["number"], line["kind"]
        if not isinstance(number, int) or not isinstance(kind, str) or number in self.done:
            raise ValueError(number)
        failures = {str(entry["photo"]): str(entry["reason"]) for entry in line["unreadable"]}
        failed = len(line.get("failed", []))
        self.done.add(number)
        self.kinds[kind] += 1
        self.failures |= failures
        self.failed += failed

    def add(self, made: Made) -> None:
        """Log a picture whose files are written. Raises OutputError."""
        path = self._out / LOG
        with output_errors(path), path.open("ab") as stream:
            stream.write(json.dumps(made.line, ensure_ascii=False).encode() + b"\n")
        self._count(made.line)

    def summarize(self, status: str, asked: int, failures: dict[str, str]) -> None:
        """Write `forge.json`. Raises OutputError."""
        summary = {
            "format": FORMAT,
            "tool": _tool(),
            "status": status,
            "asked": asked,
            "settings": self._settings,
            "counts": {"made": len(self.done), **dict(sorted(self.kinds.items())), "unusable_photos": len(failures)},
            "unusable_photos": [{"photo": photo, "reason": reason} for photo, reason in failures.items()],
            "failed_edits": self.failed,
        }
        with self._folder.create(SUMMARY) as stream:
            stream.write(json.dumps(summary, indent=1, ensure_ascii=False).encode() + b"\n")


def _tool() -> dict[str, str]:
    """The versions that the pixels depend on."""
    libraries: dict[str, Callable[[], str]] = {
        "clue": lambda: __version__,
        "opencv": _opencv,
        "pillow": lambda: version("pillow"),
        "numpy": lambda: version("numpy"),
    }
    return {name: read() for name, read in libraries.items()}


def _opencv() -> str:
    import cv2

    return str(cv2.__version__)
