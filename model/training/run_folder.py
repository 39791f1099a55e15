"""The run folder: settings, the state to resume from, the lock, and the log.

`state.pt` holds all that a training is at the end of a step: weights (with adapters, only those that learn), their
average, optimizer, scaler of fp16, loss weights, counts, time. It holds no state of random generators: every step seeds
them from the seed, its own number and the process (`seed_step`), and every batch is made from its number
(`model.training.feed`).

`log.jsonl` has one row per step or event, with `kind`: `step`, `validation`, `damaged`, `resumed`, `calibrated`,
`finished`. A training that resumes drops the rows after its state, so that the log reads like that of an unbroken one.
"""

from __future__ import annotations

import json
import math
import pickle
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any

import torch
from filelock import FileLock, Timeout

from model.checkpoint import BEST, LAST
from model.reporter import Reporter
from model.training.errors import CannotWriteError, OptionsError, OtherSettingsError
from model.training.network import differences
from model.whole_file import PART, remove_parts, settle, write_text, write_whole

FORMAT = 1
SHEET = "contact-sheet.png"
"""Of the dry run; it may lie in the folder before the training begins."""
_OURS = {".lock", SHEET}


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn a failed write inside the block into an error with advice.

    Raises:
        CannotWriteError: with the reason.
    """
    try:
        yield
    except OSError as error:
        raise CannotWriteError(
            f"{path} cannot be written: {error.strerror or error}.",
            "What was saved before is whole. Make room or choose another folder; the same command resumes from there.",
        ) from error


class RunFolder:
    """The folder of one training.

    Args:
        path: new, empty, or of this training.
        again: how what was trained can be taken into another run folder, as the end of an advice; None: with --init.
    """

    def __init__(self, path: Path, again: str | None = None) -> None:
        self.path = path
        self._again = f", with --init {path / BEST} for its best model" if again is None else again
        self.settings, self.state, self.log = path / "settings.json", path / "state.pt", path / "log.jsonl"
        self.best, self.last, self.samples = path / BEST, path / LAST, path / "samples"

    def open(self, settings: dict[str, Any]) -> list[Path]:
        """Make the folder, or check that its training has the same settings, and remove unfinished files.

        Returns:
            The models that were restored: a training was killed while it replaced them.

        Raises:
            OtherSettingsError: it belongs to another training; the message says what differs.
            CannotWriteError: it cannot be made.
        """
        if self.settings.is_file() and (self.state.exists() or self.log.exists()):
            self._compare(settings)
            with writing(self.path):
                for folder in (self.path, self.best, self.last, self.samples):
                    remove_parts(folder)  # a state can be large
                return [folder for folder in (self.best, self.last) if settle(folder)]
        # Else nothing was trained, perhaps because of wrong data: a corrected mix may follow.
        text = json.dumps(settings, indent=1, ensure_ascii=False) + "\n"
        with writing(self.settings):
            self.path.mkdir(parents=True, exist_ok=True)
            write_text(self.settings, text)
        return []

    def _compare(self, settings: dict[str, Any]) -> None:
        try:
            there = json.loads(self.settings.read_text("utf-8"))
        except (OSError, ValueError) as error:
            raise OtherSettingsError(f"{self.settings} cannot be read: {error}") from error
        found = differences(there, json.loads(json.dumps(settings)))
        if found:
            raise OtherSettingsError(
                f"{self.path} is a training with other settings: {'; '.join(found)}.",
                f"Give the settings it was started with; or another --out{self._again}.",
            )

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Lock the folder: no other training runs in it inside the block.

        Raises:
            OptionsError: another training runs in it, or the folder holds something else.
        """
        with writing(self.path):
            if self.path.exists() and not self.settings.exists():
                names = {path.name for path in self.path.iterdir()} - _OURS
                if not all(map(PART.fullmatch, names)):
                    raise OptionsError(
                        f"{self.path} is not the folder of a training, and not empty.", "Take a new --out."
                    )
            self.path.mkdir(parents=True, exist_ok=True)
            lock = FileLock(self.path / ".lock")
            try:
                lock.acquire(timeout=0)
            except Timeout as error:
                raise OptionsError(f"Another training runs in {self.path}.", "Wait for it, or stop it.") from error
        try:
            yield
        finally:
            lock.release()

    def save_state(self, state: dict[str, Any]) -> None:
        """Replace the state, atomically.

        Raises:
            CannotWriteError: the former state is as it was.
        """
        with writing(self.state):
            write_tensors(self.state, {"format": FORMAT} | state)

    def load_state(self) -> dict[str, Any] | None:
        """The state to resume from, on the CPU; None: there is none yet.

        Raises:
            OtherSettingsError: it is damaged, or of another version.
        """
        if not self.state.is_file():
            return None
        try:
            state = torch.load(self.state, map_location="cpu", weights_only=True)
        except (RuntimeError, OSError, EOFError, ValueError, KeyError, pickle.UnpicklingError) as error:
            raise OtherSettingsError(
                f"{self.state} is damaged: {str(error).splitlines()[0] if str(error) else type(error).__name__}.",
                f"Start again with another --out{self._again}.",
            ) from error
        if not isinstance(state, dict) or state.get("format") != FORMAT:
            raise OtherSettingsError(f"{self.state} is of another version of clue.", "Start again with another --out.")
        return state


def write_tensors(path: Path, content: dict[str, Any]) -> None:
    """`torch.save`, whole or not at all.

    Raises:
        OSError: it cannot be written; what was there before is as it was.
    """

    def write(part: str) -> None:
        try:
            with Path(part).open("wb") as file:
                torch.save(content, file)
        except RuntimeError as error:  # what torch makes of a full disk
            cause = error.__context__
            raise (cause if isinstance(cause, OSError) else OSError(str(error).splitlines()[0])) from error

    write_whole(path, write)


Row = dict[str, Any]


class Log:
    """`log.jsonl` and TensorBoard in one.

    Args:
        folder: the runs folder.
        step: of the state to resume from; later rows are dropped.
        reporter: receives a note if TensorBoard is not installed.
    """

    def __init__(self, folder: RunFolder, step: int, reporter: Reporter) -> None:
        with writing(folder.log):
            _keep_until(folder.log, step)
            self._file = folder.log.open("a", encoding="utf-8", buffering=1)
        self._path = folder.log
        self._board: Any = None
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            reporter.note("TensorBoard is not installed, so there is only log.jsonl; it is in the extra `train`.")
        else:
            with writing(folder.path / "tensorboard"):
                self._board = SummaryWriter(str(folder.path / "tensorboard"), purge_step=step + 1)

    def write(self, row: Row) -> None:
        """Append a row.

        Raises:
            CannotWriteError: e.g. because the disk is full.
        """
        with writing(self._path):
            self._file.write(_line(row))
        if self._board is not None and row["kind"] in ("step", "validation"):
            with writing(self._path.parent / "tensorboard"):
                for name, value in row.items():
                    if isinstance(value, (int, float)) and name != "step":
                        self._board.add_scalar(f"{row['kind']}/{name}", value, row["step"])

    def close(self) -> None:
        """Close the files."""
        with writing(self._path):
            self._file.close()
            if self._board is not None:
                self._board.close()

    def __enter__(self) -> Log:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()


def read_log(path: Path) -> list[Row]:
    """The rows of a log, up to the first broken line, such as one that was cut off."""
    rows: list[Row] = []
    for line in path.read_bytes().splitlines():
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):
            break
        if not isinstance(row, dict) or not isinstance(row.get("step"), int):
            break
        rows.append(row)
    return rows


def _keep_until(path: Path, step: int) -> None:
    if not path.is_file():
        return
    rows = [row for row in read_log(path) if row["step"] <= step] if step else []
    write_text(path, "".join(map(_line, rows)))


def _line(row: Row) -> str:
    # JSON has no NaN. ASCII: the name of a damaged picture may contain line breaks and bytes that are not UTF-8.
    plain = {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in row.items()}
    return json.dumps(plain) + "\n"
