"""Signed and time-stamped manifests of earlier runs, which a run that goes on in the folder keeps in `runs/RUN_ID/`.

They stand for the results as they were then. What is left of those is checked: each fits its lists, its signature and
its time stamp, and the log of records, to which runs only append, begins with what it lists.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from clue_cli.custody.attestation import check_attestations
from clue_cli.custody.findings import Findings, Kind
from clue_cli.custody.folder import look, opened, opened_lines
from clue_cli.custody.listing import Listed, ListingError, Observation, read_hashdeep
from clue_cli.custody.signature import MOST_BYTES, SignatureProblem, key_id, read_signature
from clue_cli.results.manifest_names import (
    LISTED_IN_SUMS,
    MANIFEST_HASHDEEP,
    MANIFEST_SUMS,
    RUNS,
    SIGNATURE,
    TIME_STAMP,
)
from clue_cli.results.reader import LOG

if TYPE_CHECKING:
    from cryptography.x509 import Certificate
    from minisign import PublicKey


def former_manifests(folder: Path) -> Iterator[str]:
    """The folders of earlier runs' manifests, relative to the results folder."""
    runs = folder / RUNS
    if runs.is_dir() and not runs.is_symlink():
        for path in sorted(runs.iterdir()):
            if path.is_dir() and not path.is_symlink() and (path / MANIFEST_SUMS).is_file():
                yield f"{RUNS}/{path.name}"


def check_former(
    folder: Path, findings: Findings, key: PublicKey | None = None, authority: Sequence[Certificate] | None = None
) -> list[str]:
    """Check the manifests of earlier runs; what holds is returned in sentences.

    Args:
        folder: of the results.
        findings: receives what does not hold.
        key, authority: as of `check_attestations`; a signature by another key is named, and is no difference.
    """
    notes: list[str] = []
    for where in former_manifests(folder):
        _check_lists(folder, where, findings)
        is_signed, by = _key_id(folder, f"{where}/{SIGNATURE}")
        own = key is not None and is_signed and by in (None, key_id(key))
        is_stamped = (folder / where / TIME_STAMP).exists()
        with Findings() as found:
            attested = check_attestations(
                folder / where, found, key if own else None, authority if is_stamped else None
            )
            for one in found.all():
                findings.add(one.area, one.kind, f"{where}/{one.path}", one.detail)
        notes += [f"Earlier manifest, {where}: {note}" for note in attested.notes]
    return notes


def _key_id(folder: Path, path: str) -> tuple[bool, str | None]:
    """Whether there is a signature, and the key that it names; None if it is damaged."""
    try:
        with opened(folder, path) as stream:
            return True, read_signature(stream.read(MOST_BYTES)).key_id
    except SignatureProblem:
        return True, None
    except OSError:
        return False, None


def _check_lists(folder: Path, where: str, findings: Findings) -> None:
    lines = [f"{look(folder, f'{where}/{name}').sha256}  {name}\n" for name in LISTED_IN_SUMS]
    if look(folder, f"{where}/{MANIFEST_SUMS}").kind is None:
        with opened(folder, f"{where}/{MANIFEST_SUMS}") as stream:
            if stream.read(4096) != "".join(lines).encode():
                detail = "it does not fit the lists beside it: one of them was changed"
                findings.add("manifest", Kind.CONTRADICTION, f"{where}/{MANIFEST_SUMS}", detail)
                return
    log = _listed_log(folder, f"{where}/{MANIFEST_HASHDEEP}")
    if log is not None and log.byte_size is not None:
        seen = look(folder, LOG, log.byte_size, beginning=True)
        if seen.kind is None and (seen.byte_size < log.byte_size or seen.sha256 != log.hashes.get("sha256")):
            detail = f"its first {log.byte_size:,} bytes are not those that {where}/{MANIFEST_HASHDEEP} lists"
            findings.add("results", Kind.CHANGED, LOG, detail)


def _listed_log(folder: Path, path: str) -> Observation | None:
    with suppress(OSError, ListingError), opened_lines(folder, path) as stream:
        for _, listed in read_hashdeep(stream):
            if isinstance(listed, Listed) and listed.name == LOG:
                return listed.now
    return None
