"""Signature and time stamp of a results folder: both are over `manifest.sha256`, which stands for all the rest."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Protocol

from clue_cli.custody import signature, timestamp
from clue_cli.custody.findings import Findings, Kind
from clue_cli.custody.folder import look
from clue_cli.custody.signature import SignatureProblem, Signed
from clue_cli.custody.timestamp import Stamp, StampProblem
from clue_cli.errors import NothingToScanError, OutputError, UsageError
from clue_cli.results.manifest_names import LISTED_IN_SUMS, MANIFEST_SUMS, SIGNATURE, TIME_STAMP, TIME_STAMP_REQUEST

if TYPE_CHECKING:
    from cryptography.x509 import Certificate
    from minisign import PublicKey, SecretKey

_MOST = {
    MANIFEST_SUMS: 4096,
    SIGNATURE: signature.MOST_BYTES,
    TIME_STAMP: timestamp.MOST_BYTES,
    TIME_STAMP_REQUEST: timestamp.MOST_BYTES,
}


class Files(Protocol):
    """Reads and writes files of a results folder, here or in a store."""

    def read(self, relative: str) -> AbstractContextManager[BinaryIO]:
        """Open a file for reading."""

    def create(self, relative: str, *, durable: bool = False) -> AbstractContextManager[BinaryIO]:
        """Open a file for writing that appears whole."""


@dataclass(slots=True)
class Attested:
    """What signature and time stamp of a results folder say; what is wrong with them is among the findings.

    Attributes:
        signature: None if there is none, or none that holds.
        signature_checked: whether it was checked with a key.
        stamp: None if there is none, or none that holds.
        notes: the same in sentences.
    """

    signature: Signed | None = None
    signature_checked: bool = False
    stamp: Stamp | None = None
    notes: list[str] = field(default_factory=list)


def sign_manifest(files: Files, key: SecretKey) -> None:
    """Sign the manifest of a results folder as it is, with the time of this machine's clock.

    Raises:
        OutputError: the folder cannot be read or written.
    """
    with files.read(MANIFEST_SUMS) as stream:
        data = stream.read(_MOST[MANIFEST_SUMS])
    with files.create(SIGNATURE, durable=True) as stream:
        stream.write(signature.sign(data, MANIFEST_SUMS, key, datetime.now(UTC)))


def check_signable(folder: Path) -> None:
    """Look whether the manifest fits the files that it stands for; the results themselves are not hashed.

    Raises:
        NothingToScanError: there is no manifest, or it is not what a run has written.
    """
    if not folder.exists():
        raise NothingToScanError(f"{folder} does not exist.", "Check the spelling.")
    if look(folder, MANIFEST_SUMS).kind is Kind.MISSING:
        raise NothingToScanError(
            f"{folder} has no {MANIFEST_SUMS}, which is what is signed.",
            "Name the results folder of a scan; repeating the scan command writes a manifest for older results.",
        )
    sums = "".join(f"{look(folder, name).sha256}  {name}\n" for name in LISTED_IN_SUMS)
    if _manifest(folder) != sums.encode():
        raise NothingToScanError(
            f"{MANIFEST_SUMS} in {folder} does not fit the files that it stands for, and is not signed.",
            f"`clue verify {folder}` says what was changed.",
        )


def check_replaceable(folder: Path, key_id: str) -> None:
    """Raise UsageError if there is a signature by another key, or something that is none, in its place."""
    content = _content(folder, SIGNATURE)
    if content is None:
        return
    by, signer = "something that is no signature", None
    if isinstance(content, bytes):
        with suppress(SignatureProblem):
            signer = signature.read_signature(content).key_id
            by = f"a signature by the key {signer}"
    if signer != key_id:
        raise UsageError(
            f"{folder / SIGNATURE} is {by}, and is not replaced.", "Move it elsewhere, and keep it, to sign again."
        )


def write_request(folder: Path, files: Files) -> bool:
    """Write a request for a time stamp of the manifest; one that is there and is over the same manifest stays.

    Returns:
        Whether it was written.

    Raises:
        OutputError: it cannot be written.
    """
    data, former = _manifest(folder), _content(folder, TIME_STAMP_REQUEST)
    if isinstance(former, bytes) and timestamp.is_request(former, data):
        return False
    with files.create(TIME_STAMP_REQUEST, durable=True) as stream:
        stream.write(timestamp.make_request(data))
    return True


def add_stamp(folder: Path, files: Files, answer: Path) -> Stamp:
    """Add an authority's answer to a results folder, if it is a stamp of its manifest and answers its request.

    The authority itself is not checked.

    Raises:
        UsageError: it is none, or there is another one.
        OutputError: it cannot be written.
    """
    try:
        with answer.open("rb") as stream:
            content = stream.read(timestamp.MOST_BYTES + 1)
    except OSError as error:
        raise UsageError(
            f"{answer} cannot be read: {error.strerror or error}.", "Name the authority's answer."
        ) from error
    request = _content(folder, TIME_STAMP_REQUEST)
    try:
        stamp = timestamp.check(_manifest(folder), content, request if isinstance(request, bytes) else None)
    except StampProblem as problem:
        raise UsageError(
            f"{answer} is no time stamp for {folder}: {problem}.",
            f"Send {TIME_STAMP_REQUEST} of this folder to the authority, and name the file that it returns.",
        ) from problem
    former = _content(folder, TIME_STAMP)
    if former is not None and former != content:
        raise UsageError(
            f"{folder} has another time stamp already, which is not replaced.", f"Move {TIME_STAMP} elsewhere first."
        )
    with files.create(TIME_STAMP, durable=True) as stream:
        stream.write(content)
    return stamp


def check_attestations(
    folder: Path, findings: Findings, key: PublicKey | None = None, authority: Sequence[Certificate] | None = None
) -> Attested:
    """Check signature and time stamp of a results folder.

    Args:
        folder: of the results.
        findings: receives what does not hold, or is missing although there is a key or an authority to check it with.
        key: of whoever should have signed; None: what a signature claims is passed on unchecked.
        authority: certificates to trust for time stamps; None: hash and nonce are compared alone.
    """
    attested = Attested()
    data = _content(folder, MANIFEST_SUMS)
    if not isinstance(data, bytes):
        data = b""  # missing or no file, as the comparison of the folder says; nothing is signed by such a signature
    _check_signature(folder, data, findings, key, attested)
    _check_stamp(folder, data, findings, authority, attested)
    return attested


def _check_signature(folder: Path, data: bytes, findings: Findings, key: PublicKey | None, attested: Attested) -> None:
    content = _content(folder, SIGNATURE)
    if content is None:
        if key is not None:
            findings.add("manifest", Kind.SIGNATURE, SIGNATURE, "there is no signature to check with the key")
        return
    try:
        if isinstance(content, str):
            raise SignatureProblem(content)
        signed = signature.read_signature(content) if key is None else signature.check(data, content, key)
    except SignatureProblem as problem:
        findings.add("manifest", Kind.SIGNATURE, SIGNATURE, str(problem))
        return
    attested.signature, attested.signature_checked = signed, key is not None
    when = (
        "at a time it does not say" if signed.claimed is None else f"on {_shown(signed.claimed)} by the signer's clock"
    )
    if key is None:
        attested.notes.append(
            f"{SIGNATURE} says that the key {signed.key_id} signed {MANIFEST_SUMS} {when}. It was not checked (--key)."
        )
        return
    attested.notes.append(
        f"Signature: {MANIFEST_SUMS} was signed with the key {signed.key_id} {when}. "
        f"Its signed comment: {' '.join(signed.comment.split())}"
    )
    if signed.untrusted is not None:
        attested.notes.append(
            f"The first line of {SIGNATURE} is not covered by the signature, and anybody can write it. It says: "
            f"{signed.untrusted}"
        )


def _check_stamp(
    folder: Path, data: bytes, findings: Findings, authority: Sequence[Certificate] | None, attested: Attested
) -> None:
    content, request = _content(folder, TIME_STAMP), _content(folder, TIME_STAMP_REQUEST)
    if timestamp.library_missing() and authority is None:
        names = [name for name, found in ((TIME_STAMP_REQUEST, request), (TIME_STAMP, content)) if found is not None]
        attested.notes += [f"{name} is there and was not looked at: rfc3161-client is not installed." for name in names]
        return
    if request is not None and not (isinstance(request, bytes) and timestamp.is_request(request, data)):
        detail = request if isinstance(request, str) else "it is no request for a time stamp of this manifest"
        findings.add("manifest", Kind.SIGNATURE, TIME_STAMP_REQUEST, detail)
        request = None
    if content is None:
        if authority is not None:
            findings.add("manifest", Kind.SIGNATURE, TIME_STAMP, "there is no time stamp to check with the certificate")
        elif request is not None:
            attested.notes.append(f"A time stamp was asked for ({TIME_STAMP_REQUEST}) and is not there.")
        return
    try:
        if isinstance(content, str):
            raise StampProblem(content)
        stamp = timestamp.check(data, content, request if isinstance(request, bytes) else None, authority)
    except StampProblem as problem:
        findings.add("manifest", Kind.SIGNATURE, TIME_STAMP, str(problem))
        return
    attested.stamp = stamp
    if stamp.checked:
        attested.notes.append(
            f"Time stamp: {stamp.authority} saw {MANIFEST_SUMS} on {_shown(stamp.time)} (number {stamp.serial}). "
            "Whether its certificate was revoked was not checked."
        )
    else:
        attested.notes.append(
            f"Time stamp present, authority not checked (--authority): {TIME_STAMP} says {_shown(stamp.time)}, by "
            f"{stamp.authority}."
        )


def _manifest(folder: Path) -> bytes:
    content = _content(folder, MANIFEST_SUMS)
    if not isinstance(content, bytes):
        raise NothingToScanError(f"{folder / MANIFEST_SUMS}: {content or 'it is not there'}.")
    return content


def _content(folder: Path, name: str) -> bytes | str | None:
    """A small file of a results folder, as far as it may be one; a str says why it is not read, None: there is none."""
    seen = look(folder, name)
    if seen.kind is Kind.MISSING:
        return None
    if seen.kind is not None:
        return seen.problem
    if seen.byte_size > _MOST[name]:
        return "it is larger than clue or an authority writes it"
    try:
        with (folder / name).open("rb") as stream:
            return stream.read(_MOST[name] + 1)
    except OSError as error:
        raise OutputError(f"{folder / name} cannot be read: {error.strerror or error}.") from error


def _shown(moment: datetime) -> str:
    return f"{moment.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"
