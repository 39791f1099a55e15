"""The lists of what was read of the evidence: compared with each other and with the log, and with the evidence itself.

The evidence is walked and read as a scan does it, members of archives included, and compared by locator. The folder
that it was scanned as may have another name now; a file that is under another name is found by its hash.
"""

from __future__ import annotations

import shlex
import sqlite3
import stat
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from datetime import datetime
from pathlib import Path

from clue_cli.custody.findings import Findings, Kind
from clue_cli.custody.folder import look, opened, opened_lines
from clue_cli.custody.listing import ListingError, read_dfxml, read_hashdeep
from clue_cli.custody.observed import name_on_disk
from clue_cli.custody.places import Places, move, root_of, shared_end
from clue_cli.errors import OutputError
from clue_cli.evidence.item import ArchiveOpened, Item, NotAPicture, Skipped, Unreadable
from clue_cli.evidence.locator import MEMBER
from clue_cli.evidence.reader import hash_file, read_item
from clue_cli.evidence.selection import Selection
from clue_cli.evidence.shard import Shard
from clue_cli.evidence.streams import ArchiveLimits
from clue_cli.evidence.walk import WalkOptions, check_paths, walk
from clue_cli.records import RunRecord
from clue_cli.results.manifest_names import EVIDENCE_DFXML, EVIDENCE_HASHDEEP
from clue_cli.results.merging import runs_in
from clue_cli.results.reader import LOG
from clue_cli.results.record_log import RecordLog
from clue_cli.terminal import counted
from model.reporter import Reporter

_MOST_FILE_MIB = 2048.0
_SHOWN = 20
"""Paths of which is said what they were taken for."""
_COPIES = 100
"""Files of one content among which the one is looked for whose name is most like the recorded one."""
_MET, _SAME = 1, 2
"""Of a file that was recorded: it was met, it was met with the same content."""


class EvidenceCheck:
    """The evidence of a results folder. A context manager.

    Args:
        folder: the results folder.
        findings: receives what differs.
        reporter: receives the events.

    Attributes:
        files: how many files, archives and members were compared.
        elsewhere: how many that were recorded were not, because no path stands for where they are.
        notes: what else a reader should know, in sentences.
    """

    def __init__(self, folder: Path, findings: Findings, reporter: Reporter) -> None:
        self.folder, self.findings, self.reporter = folder, findings, reporter
        self.files = self.elsewhere = 0
        self.notes: list[str] = []
        self._no_pictures = self._unread = 0
        self._left_out: Counter[str] = Counter()
        self._rows = sqlite3.connect("", isolation_level=None)
        self._rows.executescript(
            "CREATE TABLE listed (locator TEXT PRIMARY KEY, root TEXT, size INTEGER, sha256 TEXT, "
            "seen INTEGER DEFAULT 0, hashdeep INTEGER DEFAULT 0) WITHOUT ROWID;"
            "CREATE TABLE other (locator TEXT, sha256 TEXT, changed INTEGER, there TEXT);"
            "CREATE TABLE failed (locator TEXT PRIMARY KEY) WITHOUT ROWID;"
            "CREATE TABLE links (locator TEXT PRIMARY KEY) WITHOUT ROWID; BEGIN"
        )

    def __enter__(self) -> EvidenceCheck:
        return self

    def __exit__(self, *error: object) -> None:
        self._rows.close()

    def read_lists(self) -> None:
        """Read the list of DFXML, and compare with it that of hashdeep and what the records say."""
        try:
            with opened(self.folder, EVIDENCE_DFXML) as stream:
                for listed in read_dfxml(stream):
                    judged = listed.before or listed.now
                    self._rows.execute(
                        "INSERT OR IGNORE INTO listed (locator, root, size, sha256) VALUES (?, ?, ?, ?)",
                        (listed.name, root_of(listed.name), judged.byte_size, judged.hashes.get("sha256")),
                    )
        except ListingError as error:
            self.findings.add("manifest", Kind.CHANGED, EVIDENCE_DFXML, str(error))
        except OSError:
            return  # as the sums say
        self._compare_hashdeep()
        self._rows.execute("CREATE INDEX by_hash ON listed (sha256)")
        if look(self.folder, LOG).kind is not None:
            return  # as the comparison of the folder says
        with suppress(OutputError, OSError, sqlite3.Error), RecordLog(self.folder / LOG, read_only=True) as log:
            for record, _ in log.records():
                if record.file is None:
                    self._rows.execute("INSERT OR IGNORE INTO failed VALUES (?)", (record.locator,))
                    continue
                row = self._row(record.locator)
                if row is None or row[1] != record.file.sha256:
                    what = "does not list" if row is None else "has another hash of"
                    detail = f"{EVIDENCE_DFXML} {what} the file of this record in {LOG}"
                    self.findings.add("manifest", Kind.CONTRADICTION, record.locator, detail)

    def _row(self, locator: str) -> tuple[int | None, str] | None:
        row: tuple[int | None, str] | None = self._rows.execute(
            "SELECT size, sha256 FROM listed WHERE locator = ?", (locator,)
        ).fetchone()
        return row

    def _compare_hashdeep(self) -> None:
        names = "CREATE TEMP TABLE on_disk (name BLOB PRIMARY KEY, size INTEGER, sha256 TEXT) WITHOUT ROWID"
        self._rows.execute(names)
        for locator, size, sha256 in self._rows.execute("SELECT locator, size, sha256 FROM listed"):
            if (name := name_on_disk(locator)) is not None:
                key = name.encode("utf-8", "surrogateescape")
                self._rows.execute("INSERT OR IGNORE INTO on_disk VALUES (?, ?, ?)", (key, size, sha256))
        try:
            with opened_lines(self.folder, EVIDENCE_HASHDEEP) as stream:
                for number, listed in read_hashdeep(stream):
                    if isinstance(listed, str):
                        self.findings.add("manifest", Kind.CHANGED, EVIDENCE_HASHDEEP, f"line {number}: {listed}")
                        continue
                    key = listed.name.encode("utf-8", "surrogateescape")
                    row = self._rows.execute("SELECT size, sha256 FROM on_disk WHERE name = ?", (key,)).fetchone()
                    if row != (listed.now.byte_size, listed.now.hashes.get("sha256")):
                        detail = f"{EVIDENCE_HASHDEEP} and {EVIDENCE_DFXML} say different things about it"
                        self.findings.add("manifest", Kind.CONTRADICTION, listed.name, detail)
        except ListingError as error:
            self.findings.add("manifest", Kind.CHANGED, EVIDENCE_HASHDEEP, str(error))
        except OSError:
            return  # as the sums say

    def compare(self, paths: Sequence[Path], run: RunRecord | None) -> None:
        """Read the evidence once more.

        Args:
            paths: where it is now.
            run: of the results, by whose settings it is walked.

        Raises:
            NothingToScanError: a path does not exist.
        """
        check_paths(paths)
        self.reporter.stage("Verifying evidence", "files")
        places = Places(self._rows, paths)
        self.notes += [
            f"{path} was taken for {f'the recorded {place}' if place else 'the folder above what was recorded'}."
            for path, place in places.renamed[:_SHOWN]
        ]
        settings = run.settings if run is not None else {}
        unfinished = run is None or run.status != "finished"
        for thing in walk(paths, _walking(settings, self.folder)):
            locator = places.of(thing.locator)
            if isinstance(thing, ArchiveOpened):
                if thing.path is not None and not thing.other_shard:
                    self._compare_archive(locator, thing.path, thing.locator)
            elif isinstance(thing, Unreadable):
                self._unreadable(locator, thing.message, unfinished=unfinished)
            elif isinstance(thing, Skipped):
                if self._row(locator) is None:
                    self._left_out[thing.reason] += 1
                if thing.reason == "link":
                    self._rows.execute("INSERT OR IGNORE INTO links VALUES (?)", (locator,))
            elif isinstance(thing, Item):
                most = settings.get("max_file_mib")
                content = read_item(thing, float(most) if isinstance(most, int | float) else _MOST_FILE_MIB)
                if not thing.other_shard:
                    self._compare_item(locator, content, thing.locator, unfinished=unfinished)
        if _followed_links(self.folder):
            self._rows.execute("DELETE FROM links")
        self._end(places, unfinished=unfinished)
        self._say_what_stands_for_nothing(places, run)
        self._say_what_was_not_compared()
        self.reporter.finish()

    def _compare_archive(self, locator: str, path: Path, there: str) -> None:
        try:
            size, _, hashes = hash_file(path)
        except OSError as error:
            self._unreadable(locator, error.strerror or str(error))
            return
        self._compare(locator, size, hashes["sha256"], there)

    def _compare_item(self, locator: str, content: object, there: str, *, unfinished: bool) -> None:
        if isinstance(content, NotAPicture):
            if self._row(locator) is not None:
                self._rows.execute("UPDATE listed SET seen = 1 WHERE locator = ?", (locator,))
                self._changed(locator, "it is no picture any more")
            elif MEMBER not in locator:  # those are in an archive, which is compared as a whole
                self._no_pictures += 1
        elif isinstance(content, Unreadable):
            if content.file is not None:
                self._compare(locator, content.file.byte_size, content.file.sha256, there)
            else:
                self._unreadable(locator, content.message, unfinished=unfinished)
        elif isinstance(content, tuple):
            self._compare(locator, content[1].byte_size, content[1].sha256, there)

    def _unreadable(self, locator: str, why: str, *, unfinished: bool = False) -> None:
        if self._row(locator) is not None:
            self._rows.execute("UPDATE listed SET seen = 1 WHERE locator = ?", (locator,))
            self.findings.add("evidence", Kind.UNREADABLE, locator, why)
        elif self._rows.execute("SELECT 1 FROM failed WHERE locator = ?", (locator,)).fetchone() is not None:
            self._unread += 1
        elif unfinished:
            self.findings.add("evidence", Kind.AFTERWARDS, locator, "the scan did not finish, and did not record it")
        else:
            self.findings.add("evidence", Kind.UNREADABLE, locator, f"the scan did not record it; {why}")

    def _say_what_stands_for_nothing(self, places: Places, run: RunRecord | None) -> None:
        """A wrong path is no evidence that all is well."""
        scanned = {Path(one).name for one in run.evidence} if run is not None else set()
        if self._rows.execute("SELECT 1 FROM listed LIMIT 1").fetchone() is not None:
            for path in (path for path in places.unknown if path.name not in scanned):
                self.findings.add("evidence", Kind.MISSING, str(path), "nothing that the scan read was found there")

    def _say_what_was_not_compared(self) -> None:
        kinds = []
        if self._no_pictures:
            are = "is no picture" if self._no_pictures == 1 else "are no pictures"
            kinds.append(f"{counted(self._no_pictures, 'file')} that {are}")
        if self._unread:
            kinds.append(f"{counted(self._unread, 'path')} that the scan could not read either")
        if self._left_out:
            reasons = ", ".join(f"{reason}: {number:,}" for reason, number in sorted(self._left_out.items()))
            kinds.append(f"{counted(self._left_out.total(), 'path')} that the scan's options leave out ({reasons})")
        if kinds:
            self.notes.append(f"Not compared: {'; '.join(kinds)}.")

    def _changed(self, locator: str, how: str) -> None:
        self.findings.add("evidence", Kind.CHANGED, locator, how)

    def _compare(self, locator: str, size: int, sha256: str, there: str) -> None:
        self.files += 1
        self.reporter.advance()
        row = self._row(locator)
        if row is None:
            self._rows.execute("INSERT INTO other VALUES (?, ?, 0, ?)", (locator, sha256, there))
            return
        same = row[1] == sha256
        self._rows.execute("UPDATE listed SET seen = ? WHERE locator = ?", (_SAME if same else _MET, locator))
        if not same:
            detail = f"its SHA-256 is {sha256}; {row[1]} was recorded"
            if row[0] is not None and row[0] != size:
                detail = f"it has {size:,} bytes; {row[0]:,} were recorded"
            self._changed(locator, detail)
            self._rows.execute("INSERT INTO other VALUES (?, ?, 1, ?)", (locator, sha256, there))

    def _end(self, places: Places, *, unfinished: bool) -> None:
        """What was recorded and not met is missing, or was met under another name; what else was met is new."""
        self._rows.execute("CREATE INDEX other_hash ON other (sha256)")
        self._look_for_not_walked(places)
        missing = self._rows.execute("SELECT locator, sha256 FROM listed WHERE NOT seen ORDER BY locator")
        for locator, sha256 in missing:
            if places.path_of(locator) is None:
                self.elsewhere += 1
                if self.elsewhere == 1:
                    example = locator
                continue
            query = f"SELECT there FROM other WHERE sha256 = ? LIMIT {_COPIES}"
            found = [there for (there,) in self._rows.execute(query, (sha256,))]
            if found:
                there = max(found, key=lambda one: shared_end(locator, one))
                detail = f"the same content is at {there}"
                self.findings.add("evidence", Kind.MOVED, locator, detail, move(locator, there))
            else:
                self.findings.add("evidence", Kind.MISSING, locator, "it was read, and is not there")
        if self.elsewhere:
            self.notes.append(
                f"{counted(self.elsewhere, 'file')} of the evidence that the scan read, such as {example}, "
                f"{'was' if self.elsewhere == 1 else 'were'} not compared: no --evidence names the place."
            )
        added = self._rows.execute(
            "SELECT locator FROM other WHERE NOT changed AND NOT EXISTS (SELECT 1 FROM listed "
            "WHERE listed.sha256 = other.sha256 AND NOT seen) ORDER BY locator"
        )
        for (locator,) in added:
            if unfinished:
                self.findings.add("evidence", Kind.AFTERWARDS, locator, "the scan did not finish, and did not read it")
            else:
                self.findings.add("evidence", Kind.ADDED, locator, "it was not read by the scan")

    def _look_for_not_walked(self, places: Places) -> None:
        """What an earlier run read that walked otherwise, e.g. with --hidden: it may be there all the same.

        A member whose archive is the same is the same.
        """
        unseen = self._rows.execute("SELECT locator FROM listed WHERE NOT seen ORDER BY locator")
        same: list[str] = []
        for (locator,) in unseen:
            top, _, member = locator.partition(MEMBER)
            if member:
                row = self._rows.execute("SELECT seen FROM listed WHERE locator = ?", (top,)).fetchone()
                if row is not None and row[0] == _SAME:
                    same.append(locator)
            elif (path := places.path_of(locator)) is not None:
                self._compare_not_walked(locator, path)
            if len(same) >= 1000:
                self._mark_same(same)
        self._mark_same(same)

    def _compare_not_walked(self, locator: str, path: Path) -> None:
        try:
            if not stat.S_ISREG(path.stat().st_mode):
                return
            size, _, hashes = hash_file(path)
        except (FileNotFoundError, NotADirectoryError):
            return
        except OSError as error:  # it is there, or in a folder that cannot be looked into
            self._unreadable(locator, error.strerror or str(error))
            return
        self._compare(locator, size, hashes["sha256"], locator)
        if self._is_behind_link(locator) and self._row(locator) == (size, hashes["sha256"]):
            self._changed(locator, "a link stands in its place, or on the way to it, to the same content")

    def _is_behind_link(self, locator: str) -> bool:
        """Whether it is a link, or below one, that no run of these results followed."""
        parts = locator.split("/")
        ways = ("/".join(parts[:number]) for number in range(1, len(parts) + 1))
        query = "SELECT 1 FROM links WHERE locator = ?"
        return any(self._rows.execute(query, (way,)).fetchone() is not None for way in ways)

    def _mark_same(self, locators: list[str]) -> None:
        self.files += len(locators)
        mark = "UPDATE listed SET seen = ? WHERE locator = ?"
        self._rows.executemany(mark, [(_SAME, locator) for locator in locators])
        locators.clear()


def _followed_links(folder: Path) -> bool:
    """Whether a run of these results may have followed links."""
    try:
        return any(one.settings.get("follow_links") is not False for one in runs_in(folder))
    except (OutputError, OSError):
        return True


def _walking(settings: dict[str, str | int | float | bool | None], out: Path) -> WalkOptions:
    """How the scan walked; what its settings do not say is as of today's defaults."""

    def words(name: str) -> tuple[str, ...]:
        value = settings.get(name)
        with suppress(ValueError):
            return tuple(shlex.split(value)) if isinstance(value, str) else ()
        return ()

    depth, step, shard = settings.get("archive_depth"), settings.get("video"), None
    with suppress(ValueError):
        shard = Shard.parse(str(settings["shard"])) if settings.get("shard") else None
    since = None
    with suppress(ValueError, OverflowError, OSError):
        since = datetime.fromisoformat(str(settings["since"]).strip()).timestamp() if settings.get("since") else None
    return WalkOptions(
        hidden=settings.get("hidden") is True,
        follow_links=settings.get("follow_links") is True,
        archive_depth=depth if type(depth) is int else 3,
        exclude=out,
        results=settings.get("include_results") is True,
        made=settings.get("include_results") is True,
        selection=Selection(words("include"), words("exclude"), since),
        limits=ArchiveLimits(video_step=float(step) if isinstance(step, int | float) else None),
        shard=shard,
    )
