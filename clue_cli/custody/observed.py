"""What a run saw of the evidence: each file with size, time of the last change and hashes, before and after.

The observations are in a private, temporary database that spills to disk: memory does not grow with the evidence.
"""

from __future__ import annotations

import re
import sqlite3
import threading
from collections.abc import Iterator

from clue_cli.custody.listing import Listed, Observation
from clue_cli.evidence.locator import MEMBER, unescape_name
from clue_cli.records import FileIdentity, RunRecord

_BATCH = 1000
_COLUMNS = "size, modified, md5, sha1, sha256"


class Observed:
    """The observations of one run, or of the runs that are merged. Thread-safe. A context manager.

    Attributes:
        compared: how many files but archives were observed before and after.
    """

    def __init__(self) -> None:
        self.compared = 0
        self._lock = threading.Lock()
        self._rows = sqlite3.connect("", check_same_thread=False, isolation_level=None)
        self._rows.executescript(
            f"CREATE TABLE before (locator TEXT PRIMARY KEY, {_COLUMNS}) WITHOUT ROWID;"
            f"CREATE TABLE after (locator TEXT PRIMARY KEY, {_COLUMNS}) WITHOUT ROWID;"
            "BEGIN"
        )

    def __enter__(self) -> Observed:
        return self

    def __exit__(self, *error: object) -> None:
        self._rows.close()

    def saw(self, locator: str, identity: FileIdentity) -> None:
        """A file, member or object was read."""
        hashes = {"sha256": identity.sha256}
        hashes |= {name: value for name in ("md5", "sha1") if (value := getattr(identity, name)) is not None}
        self.add("before", locator, Observation(identity.byte_size, hashes, identity.modified))

    def saw_again(self, locator: str, first: FileIdentity, now: FileIdentity) -> None:
        """A file on disk that an earlier run has scanned has the same content as then."""
        self.saw(locator, now.model_copy(update={"modified": first.modified}))
        self.add("after", locator, Observation(now.byte_size, {"sha256": now.sha256}, now.modified))

    def take_over(self, listed: Listed) -> None:
        """Take over from another run what it observed of a file that is here with the same content."""
        first = listed.before or listed.now
        with self._lock:
            known = self._rows.execute(
                "UPDATE before SET size = coalesce(size, ?), modified = coalesce(modified, ?), md5 = coalesce(md5, ?), "
                "sha1 = coalesce(sha1, ?) WHERE locator = ? AND sha256 = ?",
                (
                    first.byte_size,
                    first.modified,
                    *(first.hashes.get(name) for name in ("md5", "sha1")),
                    listed.name,
                    first.hashes.get("sha256"),
                ),
            ).rowcount
        if known and listed.before is not None:
            self.add("after", listed.name, listed.now)

    def add(self, table: str, locator: str, observation: Observation, *, archive: bool = False) -> None:
        """Note an observation; of several of one kind the first counts.

        Args:
            table: `before` or `after`.
            archive: it is one of an archive.
        """
        hashes = [observation.hashes.get(name) for name in ("md5", "sha1", "sha256")]
        with self._lock:
            self._rows.execute(
                f"INSERT OR IGNORE INTO {table} VALUES (?, ?, ?, ?, ?, ?)",
                (locator, observation.byte_size, observation.modified, *hashes),
            )
            self.compared += table == "after" and not archive

    def add_earlier(self, run: RunRecord) -> None:
        """Note the archives on disk that a run names, for evidence that was not met since."""
        for locator, sha256 in run.archives.items():
            if re.fullmatch("[0-9a-f]{64}", sha256):
                self.add("before", locator, Observation(None, {"sha256": sha256}))

    def algorithms(self) -> list[str]:
        """The hashes that are known of every file."""
        with self._lock:
            lacking = self._rows.execute(
                "SELECT count(*) - count(md5), count(*) - count(sha1) FROM before WHERE size IS NOT NULL"
            ).fetchone()
        return [*(name for name, number in zip(("md5", "sha1"), lacking, strict=True) if not number), "sha256"]

    def files(self) -> Iterator[Listed]:
        """All files, by locator; what was seen of them at last, and before that."""
        last = ""
        while True:
            with self._lock:
                rows = self._rows.execute(
                    "SELECT b.locator, b.size, b.modified, b.md5, b.sha1, b.sha256, "
                    "a.locator, a.size, a.modified, a.md5, a.sha1, a.sha256 "
                    "FROM before b LEFT JOIN after a ON a.locator = b.locator WHERE b.locator > ? "
                    "ORDER BY b.locator LIMIT ?",
                    (last, _BATCH),
                ).fetchall()
            for row in rows:
                before = _observation(*row[1:6])
                yield Listed(row[0], before) if row[6] is None else Listed(row[0], _observation(*row[7:12]), before)
            if not rows:
                return
            last = rows[-1][0]


def _observation(size: int | None, modified: str | None, *hashes: str | None) -> Observation:
    known = {name: value for name, value in zip(("md5", "sha1", "sha256"), hashes, strict=True) if value is not None}
    return Observation(size, known, modified)


def name_on_disk(locator: str) -> str | None:
    """The path of a file of the evidence as `hashdeep` sees it, above whose first part it is called.

    None for a member of an archive, for an object of a store, and for what no file can be called. Bytes that are not
    UTF-8 are as `os.fsdecode` marks them.
    """
    if MEMBER in locator or "://" in locator:
        return None
    name = "/".join(map(unescape_name, locator.split("/")))
    try:
        return None if b"\0" in name.encode("utf-8", "surrogateescape") else name
    except UnicodeEncodeError:
        return None
