"""The folder that `clue forge` writes to: whose it is, what is done in it, its log and its summary."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

from clue_cli import __version__
from clue_cli.errors import UsageError
from clue_cli.forging.worker import IMAGES, MASKS, Made
from clue_cli.results.folder import PARTS, ResultsFolder, output_errors
from clue_cli.results.log import IndexedLog
from model.images.folders import FORGE_LOG, FORGE_SUMMARY

LOG, SUMMARY, LOCK = FORGE_LOG, FORGE_SUMMARY, ".clue-forge.lock"
FORMAT = 1
_OURS = {LOG, SUMMARY, LOCK, IMAGES, MASKS}


class ForgeLog(IndexedLog[dict[str, Any]]):
    """`forgeries.jsonl`: what was made, a line for each picture; arguments and errors as of `IndexedLog`.

    Attributes:
        done: numbers of the pictures that are there.
        kinds: how many of each kind.
        failures: photos that could not be used, and why.
        failed: how many edits failed on their photos; other ones took their place.
    """

    tables = ""

    def __init__(self, path: Path) -> None:
        self.done: set[int] = set()
        self.kinds: Counter[str] = Counter()
        self.failures: dict[str, str] = {}
        self.failed = 0
        super().__init__(path)

    def add(self, made: Made) -> None:
        """Log a picture whose files are written. Raises OutputError."""
        with output_errors(self._path):
            self._append(made.line, json.dumps(made.line, ensure_ascii=False).encode())

    def _parse(self, line: bytes) -> dict[str, Any] | None:
        try:
            entry: dict[str, Any] = json.loads(line)
            fits = isinstance(entry["number"], int) and isinstance(entry["kind"], str)
            _failures(entry)
            len(entry.get("failed", []))
        except (ValueError, KeyError, TypeError, AttributeError):
            return None
        return entry if fits and entry["number"] not in self.done else None

    def _enter(self, entry: dict[str, Any], start: int, length: int) -> None:
        self.done.add(entry["number"])
        self.kinds[entry["kind"]] += 1
        self.failures |= _failures(entry)
        self.failed += len(entry.get("failed", []))


class ForgeFolder:
    """The folder that is written to: its lock, its log and its summary.

    Args:
        out: new, empty, or of a run with the same settings.
        settings: what decides the pictures, in JSON types.

    Attributes:
        log: what is done in it; there inside the block.

    Raises:
        UsageError: `out` holds something else.
        OutputError: it cannot be written.
    """

    log: ForgeLog

    def __init__(self, out: Path, settings: dict[str, Any]) -> None:
        self._out, self._settings = out, settings
        self._folder = ResultsFolder(out)
        with output_errors(out):
            if out.exists() and not out.is_dir():
                raise UsageError(f"{out} is not a folder.", "Name a new or empty one with --out.")
            out.mkdir(parents=True, exist_ok=True)
            foreign = self._folder.foreign(_OURS)
            links = [name for name in sorted((*_OURS, PARTS)) if (out / name).is_symlink()]
            # A log without a line: a run was killed before it wrote its summary.
            made = (out / LOG).exists() and (out / LOG).stat().st_size > 0
            made = made or any((out / name).exists() for name in (IMAGES, MASKS, PARTS))
        if foreign or links or (made and not (out / SUMMARY).is_file()):
            what = [*([foreign] if foreign else []), *links, "no " + SUMMARY][0]
            raise UsageError(
                f"{out} is not empty, and was not made by `clue forge` ({what!r}).",
                "Name a new or empty folder with --out.",
            )

    def __enter__(self) -> ForgeFolder:
        self._folder.lock(LOCK, f"Another `clue forge` writes to {self._out}.")
        try:
            self._check_settings()
            path = self._out / LOG
            with output_errors(path):
                self.log = ForgeLog(path)
            if self.log.damaged:
                self.log.close()
                raise UsageError(
                    f"{path}, line {self.log.damaged[0]}, is not what `clue forge` writes.",
                    "Name a new folder with --out.",
                )
        except BaseException:
            self._folder.release()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        try:
            with output_errors(self._out / LOG):
                self.log.close()
        finally:
            self._folder.release()

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

    def summarize(self, status: str, asked: int, failures: dict[str, str]) -> None:
        """Write `forge.json`. Raises OutputError."""
        summary = {
            "format": FORMAT,
            "tool": _tool(),
            "status": status,
            "asked": asked,
            "settings": self._settings,
            "counts": {
                "made": len(self.log.done),
                **dict(sorted(self.log.kinds.items())),
                "unusable_photos": len(failures),
            },
            "unusable_photos": [{"photo": photo, "reason": reason} for photo, reason in failures.items()],
            "failed_edits": self.log.failed,
        }
        self._folder.write(SUMMARY, json.dumps(summary, indent=1, ensure_ascii=False).encode() + b"\n")


def _failures(entry: dict[str, Any]) -> dict[str, str]:
    return {str(failure["photo"]): str(failure["reason"]) for failure in entry["unreadable"]}


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
