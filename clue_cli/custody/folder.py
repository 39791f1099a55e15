"""The files of a results folder, compared with its manifest, and the manifest with itself and with the log.

Names in a manifest may be an attacker's: only regular files below the folder are opened, on a way without links.
"""

from __future__ import annotations

import errno
import hashlib
import io
import os
import re
import shutil
import sqlite3
import stat
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import BinaryIO, cast

from clue_cli.custody.additions import additions_in
from clue_cli.custody.findings import Findings, Kind
from clue_cli.custody.listing import Listed, ListingError, read_dfxml, read_hashdeep
from clue_cli.custody.manifest import NOTES, is_of_this_schema
from clue_cli.errors import ClueError, OutputError
from clue_cli.machine import cores
from clue_cli.records import ImageRecord
from clue_cli.results.explanations import EXPLANATIONS
from clue_cli.results.folder import SYSTEM_FILES
from clue_cli.results.manifest_names import (
    ADDITIONS,
    LISTED_IN_SUMS,
    MANIFEST_DFXML,
    MANIFEST_HASHDEEP,
    MANIFEST_SUMS,
    MANIFESTS,
    PAGE_NAME,
)
from clue_cli.results.reader import LOG, ResultsReader
from clue_cli.results.record_log import RecordLog
from clue_cli.results.scan_store import LOCK, json_of
from model.reporter import Reporter

_CHUNK = 1 << 20
_BATCH = 1000
_SUMS = re.compile("".join(rf"([0-9a-f]{{64}})  {re.escape(name)}\n" for name in LISTED_IN_SUMS))
_GROWING = frozenset({EXPLANATIONS, NOTES})
"""Logs to which commands append after the manifest; what it lists of them must be their beginning."""

_INDEX = re.compile(r"index(-\d{4,})?\.html")


@dataclass(frozen=True, slots=True)
class Seen:
    """A file as it is: size and SHA-256, or what is in its place."""

    byte_size: int = 0
    sha256: str = ""
    kind: Kind | None = None
    problem: str = ""


class FolderCheck:
    """One comparison of a results folder with its manifest. A context manager.

    Args:
        folder: the results folder.
        findings: receives what differs.
        reporter: receives the events.

    Attributes:
        files, bytes: how much was hashed.
        notes: what else a reader should know, in sentences.
    """

    def __init__(self, folder: Path, findings: Findings, reporter: Reporter) -> None:
        self.folder, self.findings, self.reporter = folder, findings, reporter
        self.files = self.bytes = 0
        self.notes: list[str] = []
        self._rewritten: list[tuple[str, str]] = []
        self._listed = sqlite3.connect("", isolation_level=None)
        self._listed.executescript(
            "CREATE TABLE listed (path TEXT PRIMARY KEY, size INTEGER, sha256 TEXT, twice INTEGER DEFAULT 0) "
            "WITHOUT ROWID; BEGIN"
        )

    def __enter__(self) -> FolderCheck:
        return self

    def __exit__(self, *error: object) -> None:
        self._listed.close()

    def run(self) -> None:
        """Compare everything.

        Raises:
            OSError: the folder cannot be read.
        """
        _check_way.cache_clear()
        self._check_sums()
        self._read_lists()
        self._compare_files()
        self._look_for_others()
        self._compare_records()
        self._compare_rewritten()

    def is_as_listed(self, path: str) -> bool:
        """Whether a small file of the folder is as the manifest says."""
        row = self._row(path)
        seen = look(self.folder, path)
        return row is not None and (seen.byte_size, seen.sha256) == row

    def _row(self, path: str) -> tuple[int, str] | None:
        row: tuple[int, str] | None = self._listed.execute(
            "SELECT size, sha256 FROM listed WHERE path = ?", (path,)
        ).fetchone()
        return row

    def _note(self, kind: Kind, path: str, detail: str, area: str = "results") -> None:
        self.findings.add(area, kind, path, detail)

    def _check_sums(self) -> None:
        seen = look(self.folder, MANIFEST_SUMS)
        if seen.kind is not None:
            self._note(seen.kind, MANIFEST_SUMS, seen.problem, "manifest")
            recorded: dict[str, str] = {}
        else:
            content = b"" if seen.byte_size > 4096 else (self.folder / MANIFEST_SUMS).read_bytes()
            match = _SUMS.fullmatch(content.decode("utf-8", "replace"))
            if match is None:
                self._note(Kind.CHANGED, MANIFEST_SUMS, "it is not as clue writes it", "manifest")
            recorded = {} if match is None else dict(zip(LISTED_IN_SUMS, match.groups(), strict=True))
        for name in LISTED_IN_SUMS:
            seen = look(self.folder, name)
            if seen.kind is not None:
                self._note(seen.kind, name, seen.problem, "manifest")
            elif name in recorded and seen.sha256 != recorded[name]:
                detail = f"its SHA-256 is {seen.sha256}; {MANIFEST_SUMS} says {recorded[name]}"
                self._note(Kind.CHANGED, name, detail, "manifest")
                detail = f"it does not fit {name}: one of the two was changed"
                self._note(Kind.CONTRADICTION, MANIFEST_SUMS, detail, "manifest")

    def _read_lists(self) -> None:
        """Read the list of hashdeep, and compare that of DFXML with it."""
        try:
            with opened_lines(self.folder, MANIFEST_HASHDEEP) as stream:
                for number, listed in read_hashdeep(stream):
                    problem = listed if isinstance(listed, str) else _refusal(listed)
                    if problem or isinstance(listed, str):
                        self._note(Kind.CHANGED, MANIFEST_HASHDEEP, f"line {number}: {problem}", "manifest")
                    elif not self._enter(listed):
                        detail = f"line {number} names a file that an earlier line names"
                        self._note(Kind.CHANGED, MANIFEST_HASHDEEP, detail, "manifest")
        except ListingError as error:
            self._note(Kind.CHANGED, MANIFEST_HASHDEEP, f"{error}", "manifest")
        except OSError:
            pass  # said where its hash is compared with the sums
        try:
            with opened(self.folder, MANIFEST_DFXML) as stream:
                for listed in read_dfxml(stream):
                    self._compare_listed(listed)
        except ListingError as error:
            self._note(Kind.CHANGED, MANIFEST_DFXML, f"{error}", "manifest")
        except OSError:
            return
        for (path,) in self._listed.execute("SELECT path FROM listed WHERE NOT twice"):
            detail = f"{MANIFEST_HASHDEEP} lists it and {MANIFEST_DFXML} does not"
            self._note(Kind.CONTRADICTION, path, detail, "manifest")

    def _enter(self, listed: Listed) -> bool:
        return (
            self._listed.execute(
                "INSERT OR IGNORE INTO listed (path, size, sha256) VALUES (?, ?, ?)",
                (listed.name, listed.now.byte_size, listed.now.hashes["sha256"]),
            ).rowcount
            > 0
        )

    def _compare_listed(self, listed: Listed) -> None:
        row = self._row(listed.name)
        if row is None:
            if (problem := _refusal(listed)) is not None:
                self._note(Kind.CHANGED, MANIFEST_DFXML, problem, "manifest")
                return
            detail = f"{MANIFEST_DFXML} lists it and {MANIFEST_HASHDEEP} does not"
            self._note(Kind.CONTRADICTION, listed.name, detail, "manifest")
            self._enter(listed)
        elif row != (listed.now.byte_size, listed.now.hashes.get("sha256")):
            detail = f"{MANIFEST_DFXML} and {MANIFEST_HASHDEEP} say different things about it"
            self._note(Kind.CONTRADICTION, listed.name, detail, "manifest")
        self._listed.execute("UPDATE listed SET twice = 1 WHERE path = ?", (listed.name,))

    def _compare_files(self) -> None:
        (count,) = self._listed.execute("SELECT count(*) FROM listed").fetchone()
        self.reporter.stage("Verifying results", "files")
        self.reporter.expect(count, final=True)
        additions = self._additions()
        last = ""
        with ThreadPoolExecutor(min(8, cores())) as threads:
            while rows := self._listed.execute(
                "SELECT path, size, sha256 FROM listed WHERE path > ? ORDER BY path LIMIT ?", (last, _BATCH)
            ).fetchall():
                last = rows[-1][0]
                for (path, size, sha256), seen in zip(
                    rows, threads.map(lambda row: look(self.folder, row[0], row[1]), rows), strict=True
                ):
                    self._compare(path, size, sha256, seen, additions)
                self.reporter.advance(len(rows))

    def _additions(self) -> dict[str, tuple[int, str, str]]:
        """Size, hash and words of what commands wrote afterwards, by name."""
        found = additions_in(self.folder)
        if found is None:
            self._note(Kind.CHANGED, ADDITIONS, "it is not as clue writes it", "manifest")
            return {}
        return {
            name: (one.byte_size, one.sha256, f"by clue {one.command}, {one.written}") for name, one in found.items()
        }

    def _compare(
        self, path: str, size: int, sha256: str, seen: Seen, additions: dict[str, tuple[int, str, str]]
    ) -> None:
        self.files += 1
        self.bytes += seen.byte_size
        if seen.kind is not None:
            self._note(seen.kind, path, seen.problem)
        elif (
            (seen.byte_size, seen.sha256) != (size, sha256)
            and _INDEX.fullmatch(path)
            and (added := additions.get(path)) is not None
            and look(self.folder, path).sha256 == added[1]
        ):
            self._rewritten.append((path, f"{seen.byte_size:,} bytes, rewritten {added[2]}"))
        elif path in _GROWING and seen.byte_size > size:
            begins = look(self.folder, path, size, beginning=True)
            if begins.sha256 == sha256:
                self._note(Kind.AFTERWARDS, path, f"lines were appended to it, {seen.byte_size - size:,} bytes")
            else:
                self._note(Kind.CHANGED, path, f"its first {size:,} bytes are not those that were recorded")
        elif seen.byte_size != size:
            self._note(Kind.CHANGED, path, f"it has {seen.byte_size:,} bytes; {size:,} were recorded")
        elif seen.sha256 != sha256:
            self._note(Kind.CHANGED, path, f"its SHA-256 is {seen.sha256}; {sha256} was recorded")

    def _compare_rewritten(self) -> None:
        """Pages that `clue report` wrote again, e.g. with explanations: they are what clue makes of the records."""
        if not self._rewritten:
            return
        with tempfile.TemporaryDirectory(prefix="clue-") as temporary:
            made = _pages_made(self.folder, Path(temporary))
            for path, words in self._rewritten:
                seen = look(self.folder, path)
                if made and seen.kind is None and look(Path(temporary), path).sha256 == seen.sha256:
                    self._note(Kind.AFTERWARDS, path, f"{words}; it shows what the records say")
                else:
                    self._note(Kind.CHANGED, path, f"{words}; this version of clue makes another page of the records")

    def _look_for_others(self) -> None:
        """Whatever lies in the folder and is not listed."""
        additions = additions_in(self.folder) or {}
        for path, entry in files_below(self.folder):
            if path in MANIFESTS or self._is_listed(path):
                continue
            if entry is None:
                self._note(Kind.UNREADABLE, path, "the folder cannot be listed")
            elif path == LOCK and _is_empty(entry):
                continue
            elif entry.is_symlink() or not entry.is_file(follow_symlinks=False):
                self._note(Kind.ADDED, path, "it is a link or a device, and clue writes none")
            elif path in _GROWING:
                self._note(Kind.AFTERWARDS, path, "clue explain and clue notes write such a file after the manifest")
            elif (added := additions.get(path)) is not None and PAGE_NAME.fullmatch(path):
                seen = look(self.folder, path)
                if (seen.byte_size, seen.sha256) == (added.byte_size, added.sha256):
                    detail = f"written by clue {added.command} after the manifest, {added.written}, by its own account"
                    self._note(Kind.AFTERWARDS, path, detail)
                else:
                    self._note(Kind.CHANGED, path, f"it is not as clue {added.command} left it after the manifest")
            elif entry.name in SYSTEM_FILES:
                self._note(Kind.SYSTEM, path, "a desktop leaves such files in every folder that it shows")
            else:
                self._note(Kind.ADDED, path, "the manifest does not list it")

    def _is_listed(self, path: str) -> bool:
        try:
            return self._row(path) is not None
        except UnicodeEncodeError:  # bytes that are not UTF-8, which no name of clue has
            return False

    def _compare_records(self) -> None:
        """What the log says of the files of each record, against the manifest."""
        if look(self.folder, LOG).kind is not None:
            return
        try:
            log = RecordLog(self.folder / LOG, read_only=True)
        except (OutputError, OSError, sqlite3.Error):
            return  # the log is no regular log, and its hash says so
        if log.newer.lines:
            self.notes.append(log.newer.words(LOG))
        with log, suppress(OutputError):
            for record, _ in log.records():
                if isinstance(record, ImageRecord):
                    self._compare_record(record)

    def _compare_record(self, record: ImageRecord) -> None:
        written = {one.output: (one.byte_size, one.sha256) for one in record.written}
        for output, path in record.outputs:
            if path is None:
                continue
            row = self._row(path) if path.isprintable() else None
            if row is None:
                detail = f"the record of {record.locator} names it, and the manifest does not list it"
                kind = Kind.CONTRADICTION if look(self.folder, path).kind is None else Kind.MISSING
                self._note(kind, path, detail)
                continue
            said = written.get(output)
            if output == "verdict" and is_of_this_schema(record):
                content = json_of(record)
                said = (len(content), hashlib.sha256(content).hexdigest())
            if said is not None and said != row:
                detail = f"the manifest has another hash of it than the record of {record.locator} in {LOG}"
                self._note(Kind.CONTRADICTION, path, detail)


def look(folder: Path, path: str, expected: int | None = None, *, beginning: bool = False) -> Seen:
    """A file below a folder as it is, without following any link below the folder.

    Args:
        expected: its recorded size in bytes: one of another size is not hashed.
        beginning: hash only as much.
    """
    try:
        _check_way(folder, path.rpartition("/")[0])
        with opened(folder, path) as stream:
            size = os.fstat(stream.fileno()).st_size
            if expected is not None and size != expected and not beginning:
                return Seen(size)
            digest, left = hashlib.sha256(), expected if beginning and expected is not None else size
            while left > 0 and (chunk := stream.read(min(_CHUNK, left))):
                digest.update(chunk)
                left -= len(chunk)
            return Seen(size, digest.hexdigest())
    except FileNotFoundError:
        return Seen(kind=Kind.MISSING, problem="it is not there")
    except NotADirectoryError:
        return Seen(kind=Kind.CHANGED, problem="a link or a file lies on the way to it")
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.EINVAL):
            return Seen(kind=Kind.CHANGED, problem="it is no regular file but a link, a folder or a device")
        return Seen(kind=Kind.UNREADABLE, problem=f"it cannot be read: {error.strerror or error}")
    except ValueError:
        return Seen(kind=Kind.MISSING, problem="no file can have that name")


@lru_cache(maxsize=4096)
def _check_way(folder: Path, below: str) -> None:
    """Raise NotADirectoryError if a folder on the way is a link or no folder."""
    way = str(folder)
    for part in below.split("/") if below else ():
        way = f"{way}/{part}"
        if not stat.S_ISDIR(os.lstat(way).st_mode):
            raise NotADirectoryError(errno.ENOTDIR, "a link or a file", way)


def opened(folder: Path, path: str) -> BinaryIO:
    """A regular file of a folder, for reading; OSError for a link, a pipe or the like in its place."""
    flags = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0)
    descriptor = os.open(f"{folder}/{path}", flags | getattr(os, "O_BINARY", 0))
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, "no regular file")
    return cast(BinaryIO, os.fdopen(descriptor, "rb", buffering=0))


def _pages_made(folder: Path, into: Path) -> bool:
    """Write the page of a results folder elsewhere; False if that cannot be done."""
    from clue_cli.report import write_report

    try:
        for name in _GROWING:
            if look(folder, name).kind is None:
                shutil.copyfile(folder / name, into / name)
        with ResultsReader(folder) as reader:
            if reader.run is None:
                return False
            write_report(into, reader.run, reader.records())
    except (ClueError, OSError, ValueError, sqlite3.Error):
        return False
    return True


def opened_lines(folder: Path, path: str) -> BinaryIO:
    """`opened`, with a buffer, to be read by lines."""
    return cast(BinaryIO, io.BufferedReader(cast(io.RawIOBase, opened(folder, path)), _CHUNK))


def _refusal(listed: Listed) -> str | None:
    """Why clue cannot have written that a results folder holds such a file, in words."""
    parts = listed.name.split("/")
    if listed.name.startswith("/") or {"", ".", ".."} & set(parts) or "\\" in listed.name:
        return "it names a file outside of the results folder"
    if not listed.name.isprintable() or len(listed.name) > 4096:
        return "it names a file as clue never does"
    if listed.now.byte_size is None or "sha256" not in listed.now.hashes:
        return "it has no size or no SHA-256 of a file"
    return None


def files_below(folder: Path) -> Iterator[tuple[str, os.DirEntry[str] | None]]:
    """All that lies below a folder but folders, with paths relative to it; links are not followed.

    A folder that cannot be listed comes without an entry.
    """
    waiting = [""]
    while waiting:
        below = waiting.pop()
        try:
            with os.scandir(f"{folder}/{below}") as entries:
                for entry in entries:
                    path = f"{below}{entry.name}"
                    if entry.is_dir(follow_symlinks=False):
                        waiting.append(f"{path}/")
                    else:
                        yield path, entry
        except OSError:
            yield below.rstrip("/"), None


def _is_empty(entry: os.DirEntry[str]) -> bool:
    return entry.is_file(follow_symlinks=False) and not entry.stat(follow_symlinks=False).st_size
