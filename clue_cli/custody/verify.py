"""`clue verify`: whether results and evidence are what they were, as the manifest of the results says."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from clue_cli.custody.attestation import Attested, check_attestations
from clue_cli.custody.evidence import EvidenceCheck
from clue_cli.custody.findings import Findings, Kind
from clue_cli.custody.folder import FolderCheck
from clue_cli.custody.former import check_former
from clue_cli.errors import NothingToScanError, OutputError
from clue_cli.records import RunRecord, is_newer
from clue_cli.results.manifest_names import LISTED_IN_SUMS, MANIFEST_SUMS
from clue_cli.results.reader import RUN, holds_results, read_run
from clue_cli.results.scan_store import LOCK
from model.reporter import SILENT, Reporter

if TYPE_CHECKING:
    from cryptography.x509 import Certificate
    from minisign import PublicKey

_FIRST_WITH_MANIFEST = "2.3"


@dataclass(slots=True)
class Verified:
    """What a verification has compared; what it found is in its findings.

    Attributes:
        run: of the results; None if `run.json` cannot be read.
        files, bytes: of the results folder.
        evidence: files, archives and members that were compared; None if no evidence was named.
        elsewhere: of the evidence that was recorded, what no named path stands for; not compared.
        notes: what else a reader should know, in sentences.
        attested: what signature and time stamp say.
    """

    run: RunRecord | None
    files: int = 0
    bytes: int = 0
    evidence: int | None = None
    elsewhere: int = 0
    notes: list[str] = field(default_factory=list)
    attested: Attested = field(default_factory=Attested)


def verify(
    folder: Path,
    findings: Findings,
    evidence: Sequence[Path] = (),
    reporter: Reporter = SILENT,
    key: PublicKey | None = None,
    authority: Sequence[Certificate] | None = None,
) -> Verified:
    """Compare a results folder, and evidence, with what the manifest says. Nothing is written.

    Args:
        folder: of the results.
        findings: receives what differs.
        evidence: where the evidence is now; none: it is not compared.
        reporter: receives the events.
        key, authority: to check signature and time stamp with, as of `check_attestations`.

    Raises:
        NothingToScanError: there is nothing that could be verified: no results, results of another version or without
            a manifest, or a scan is writing there; or evidence does not exist.
    """
    run = _results_in(folder)
    verified = Verified(run)
    try:
        verified.attested = check_attestations(folder, findings, key, authority)
        verified.notes += verified.attested.notes
        if not _has_manifest(folder):
            for name in (MANIFEST_SUMS, *LISTED_IN_SUMS):
                findings.add("manifest", Kind.MISSING, name, "it is not there")
            verified.notes.append(
                "The manifest was removed or not copied, or the scan was killed at its very end: the same scan command "
                "writes it again."
            )
            return verified
        with FolderCheck(folder, findings, reporter) as check:
            check.run()
            if run is None and check.is_as_listed(RUN):
                raise NothingToScanError(f"{folder} holds results of a newer version of clue.", "Update clue.")
            verified.files, verified.bytes = check.files, check.bytes
            verified.notes += check.notes
        verified.notes += check_former(folder, findings, key, authority)
        reporter.finish()
        with EvidenceCheck(folder, findings, reporter) as seen:
            seen.read_lists()
            if evidence:
                seen.compare(evidence, run)
                verified.evidence, verified.elsewhere = seen.files, seen.elsewhere
                verified.notes += seen.notes
    except OSError as error:
        raise NothingToScanError(f"{error.filename or folder} cannot be read: {error.strerror or error}.") from error
    if run is not None and run.status != "finished":
        verified.notes.append(f"The run is {run.status}: the manifest covers what it had written.")
    return verified


def _results_in(folder: Path) -> RunRecord | None:
    """The run of a results folder that can be verified; None if `run.json` is damaged or of a newer version.

    Raises:
        NothingToScanError: it cannot be.
    """
    if not folder.exists():
        raise NothingToScanError(f"{folder} does not exist.", "Check the spelling.")
    if not folder.is_dir():
        raise NothingToScanError(
            f"{folder} is a file.", "Name the folder that --out of the scan wrote; evidence goes with --evidence."
        )
    try:
        if next(folder.iterdir(), None) is None:
            raise NothingToScanError(f"{folder} is empty.", "Name the folder that --out of the scan wrote.")
        if _is_locked(folder / LOCK):
            raise NothingToScanError(f"A scan is writing to {folder} now.", "Wait until it is done.")
        listed = _has_manifest(folder)
        try:
            known, run = holds_results(folder), read_run(folder / RUN)
        except OutputError as error:  # of a newer version, or one byte of its number was changed
            if not listed:
                raise NothingToScanError(error.message, "Update clue.") from error
            known, run = True, None
    except OSError as error:
        raise NothingToScanError(f"{error.filename or folder} cannot be read: {error.strerror or error}.") from error
    if not known and not listed:
        raise NothingToScanError(
            f"There are no results of clue scan in {folder}.", "Name the folder that --out of the scan wrote."
        )
    if not listed:
        _check_finished(folder, run)
    return run


def _check_finished(folder: Path, run: RunRecord | None) -> None:
    """Of a folder without a manifest: raise NothingToScanError if it cannot have one."""
    if run is None:
        raise NothingToScanError(
            f"{folder} has no manifest, and its {RUN} is missing or damaged.",
            "If it was copied, copy it again as a whole.",
        )
    if is_newer(_FIRST_WITH_MANIFEST, run.schema_version):
        raise NothingToScanError(
            f"{folder} was written by an earlier clue, which wrote no manifest: its results have version "
            f"{run.schema_version}.",
            "Repeat the scan command: what is finished is reused, and a manifest is written.",
        )
    if run.status == "running":
        raise NothingToScanError(
            f"{folder} has no manifest: its scan is still running, or was killed.",
            "Repeat the scan command: it goes on, and writes the manifest at its end.",
        )


def _has_manifest(folder: Path) -> bool:
    return any(os.path.lexists(folder / name) for name in (MANIFEST_SUMS, *LISTED_IN_SUMS))


def _is_locked(lock: Path) -> bool:
    """Whether a process holds the lock of a folder; nothing is written. False where that cannot be told."""
    try:
        import fcntl
    except ImportError:  # Windows
        return False
    try:
        descriptor = os.open(lock, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    finally:
        os.close(descriptor)
    return False
