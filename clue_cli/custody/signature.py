"""Signatures in the format of minisign: Ed25519 over the BLAKE2b hash of a file, with a signed ("trusted") comment.

The trusted comment of a signature by clue has the fields of minisign's own (`timestamp:`, `file:`, `hashed`) and
`clue:VERSION`. Whoever has minisign can check it: `minisign -V -p examiner.pub -m manifest.sha256`.
"""

from __future__ import annotations

import base64
import getpass
import os
import re
import sys
import warnings
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import minisign

from clue_cli import __version__
from model.errors import UserError

PASSPHRASE = "CLUE_PASSPHRASE"
"""The environment variable with the passphrase of a secret key, for runs without a terminal."""

MOST_BYTES = 64 * 1024
"""The largest key or signature file; real ones have fewer than 1,000 bytes, but comments may be long."""

_UNTRUSTED = "signature from minisign secret key"
"""What minisign itself writes in the line that no signature covers."""
_MAKE = "`minisign -G -p examiner.pub -s examiner.key` makes a pair of keys."
_PUBLIC_LENGTH, _SECRET_LENGTH, _SIGNATURE_LENGTH = 42, 158, 74
_CLAIMED = re.compile(r"(?:^|\t)timestamp:(\d{1,11})(?:\t|$)", re.ASCII)
_BY_CLUE = re.compile(r"\tclue:\S+$")


class KeyFileError(UserError):
    """A key file that cannot be used, or a passphrase that does not open it."""


class SignatureProblem(Exception):
    """A signature that does not hold; the message says why, without a full stop."""


@dataclass(frozen=True, slots=True)
class Signed:
    """What a signature says.

    Attributes:
        key_id: of the key that made it, hexadecimal as minisign shows it: without leading zeros, at most 16 digits.
        comment: the trusted comment: text of whoever signed, may be hostile.
        claimed: when it was made by the signer's clock; None if the comment does not say.
        untrusted: the first line's comment if it is not minisign's own; no signature covers it.
    """

    key_id: str
    comment: str
    claimed: datetime | None
    untrusted: str | None


def read_public_key(path: Path) -> minisign.PublicKey:
    """The public key in a file as minisign writes it.

    Raises:
        KeyFileError: it cannot be read, or is something else.
    """
    data = _read_key(path, "public")
    try:
        return minisign.PublicKey.from_bytes(data)
    except ValueError as error:
        raise _damaged(path, error) from error


def read_secret_key(path: Path, passphrase: Callable[[Path], str] | None = None) -> minisign.SecretKey:
    """The secret key in a file as minisign writes it, decrypted. A context manager that wipes it.

    Args:
        path: the file.
        passphrase: asks for it, where the key has one; None for the environment variable or the terminal.

    Raises:
        KeyFileError: it cannot be read, is something else, or the passphrase is another or cannot be asked for.
    """
    data = _read_key(path, "secret")
    try:
        key = minisign.SecretKey.from_bytes(data)
        encrypted = key.is_encrypted()
    except ValueError as error:
        raise _damaged(path, error) from error
    if encrypted:
        word = (passphrase or ask_passphrase)(path)
        try:
            key.decrypt(word)
        except MemoryError as error:
            raise KeyFileError(
                f"The key in {path} cannot be decrypted: memory is short.", "minisign's keys need 1 GiB for that."
            ) from error
        except ValueError as error:
            if "password" in str(error):
                raise KeyFileError(
                    f"The passphrase does not open the key in {path}.",
                    f"Try again; {PASSPHRASE}, where it is set, is used before anything is asked.",
                ) from error
            raise _damaged(path, error) from error
    return key


def ask_passphrase(path: Path) -> str:
    """The passphrase of a key, from the environment variable or from the terminal.

    Raises:
        KeyFileError: there is neither.
    """
    given = os.environ.pop(PASSPHRASE, None)  # no child process, such as one that reads hostile bytes, needs it
    if given is not None:
        return given
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", getpass.GetPassWarning)  # it would be read from stdin, and shown
            return getpass.getpass(f"Passphrase of {path}: ", sys.stderr)
    except (getpass.GetPassWarning, EOFError, OSError) as error:
        raise KeyFileError(
            f"The key in {path} has a passphrase, and there is no terminal to ask for it.",
            f"Set the environment variable {PASSPHRASE}, for example from a file that only you can read.",
        ) from error


def sign(data: bytes, name: str, key: minisign.SecretKey, at: datetime) -> bytes:
    """The signature file over the content of a file.

    Args:
        data: the content.
        name: the file's name, for the trusted comment.
        key: decrypted.
        at: the time that the signature claims.
    """
    comment = f"timestamp:{int(at.timestamp())}\tfile:{name}\thashed\tclue:{__version__}"
    return bytes(key.sign(data, trusted_comment=comment)) + b"\n"


def check(data: bytes, signature: bytes, key: minisign.PublicKey) -> Signed:
    """What a signature says, if it is one of the key over the data.

    Raises:
        SignatureProblem: it is none.
    """
    signed, parsed = _parse(signature)
    if signed.key_id != key_id(key):
        raise SignatureProblem(f"it is by the key {signed.key_id}, not by {key_id(key)}, the one given")
    try:
        key.verify(data, parsed)
    except ValueError as error:
        raise SignatureProblem(
            f"it bears the id of the key {signed.key_id}, but does not fit: the manifest, the signature or its "
            "trusted comment is not what was signed"
        ) from error
    return signed


def read_signature(signature: bytes) -> Signed:
    """What a signature claims, without a key to check it.

    Raises:
        SignatureProblem: it is no signature.
    """
    return _parse(signature)[0]


def key_id(key: minisign.PublicKey) -> str:
    """The id of a key as minisign shows it."""
    return _shown_id(base64.b64decode(key.to_base64()))


def _parse(content: bytes) -> tuple[Signed, minisign.Signature]:
    if len(content) > MOST_BYTES:
        raise SignatureProblem("it is larger than any signature")
    try:
        parsed = minisign.Signature.from_bytes(content)
    except ValueError as error:
        raise SignatureProblem(f"it is no signature of minisign, or is damaged ({error})") from error
    # What decodes to the same signature is not yet the same file: bits behind the end of base64, other line ends.
    if content.replace(b"\r\n", b"\n") != bytes(parsed) + b"\n" or content.count(b"\r\n") not in (0, 4):
        raise SignatureProblem("it was changed: it is not in the form in which signatures are written")
    comment, untrusted = parsed.trusted_comment, parsed.untrusted_comment
    if untrusted != _UNTRUSTED and _BY_CLUE.search(comment):
        raise SignatureProblem("its first line was changed: it is not the one that clue writes")
    claimed = None
    if match := _CLAIMED.search(comment):
        with suppress(ValueError, OverflowError, OSError):
            claimed = datetime.fromtimestamp(int(match[1]), UTC)
    raw = base64.b64decode(content.splitlines()[1])
    return Signed(_shown_id(raw), comment, claimed, None if untrusted == _UNTRUSTED else untrusted), parsed


def _shown_id(raw: bytes) -> str:
    """The id in what minisign encodes: after two bytes of algorithm, eight of a little-endian number."""
    return f"{int.from_bytes(raw[2:10], 'little'):X}"


def _read_key(path: Path, wanted: str) -> bytes:
    """The content of a file that holds such a key, as far as can be seen without parsing it.

    Raises:
        KeyFileError: it cannot be read, or is visibly something else.
    """
    try:
        if path.is_dir():
            raise KeyFileError(f"{path} is a folder, not a {wanted} key.", f"Name the file. {_MAKE}")
        with path.open("rb") as stream:
            content = stream.read(MOST_BYTES + 1)
    except OSError as error:
        raise KeyFileError(
            f"{path} cannot be read: {error.strerror or error}.", f"Name a {wanted} key. {_MAKE}"
        ) from error
    kind, advice = _kind_of(content, wanted)
    if kind is not None:
        raise KeyFileError(f"{path} is {kind}, not a {wanted} key of minisign.", advice)
    return content


def _kind_of(content: bytes, wanted: str) -> tuple[str | None, str]:
    """What a file is if not the wanted key, with advice; None if it looks like one."""
    if not content.strip():
        return "empty", _MAKE
    if len(content) > MOST_BYTES:
        return "larger than any key", _MAKE
    start = content.lstrip()[:64]
    if start.startswith((b"ssh-", b"ecdsa-", b"sk-ssh", b"sk-ecdsa")) or b"OPENSSH" in start or b"SSH2" in start:
        return "an SSH key", _MAKE
    if b"BEGIN PGP" in start:
        return "an OpenPGP key", _MAKE
    if b"-----BEGIN" in start:
        return "a key or certificate in PEM, as OpenSSL makes them", _MAKE
    if not content.startswith(b"untrusted comment:"):
        return "something else", _MAKE
    rows = content.splitlines()
    try:
        raw = base64.b64decode(rows[1], validate=True) if len(rows) > 1 else b""
    except ValueError:
        raw = b""
    if len(rows) >= 4 or len(raw) == _SIGNATURE_LENGTH:
        return "a signature", f"Name the {wanted} key."
    lengths = {"public": _PUBLIC_LENGTH, "secret": _SECRET_LENGTH}
    other = "public" if wanted == "secret" else "secret"
    if len(raw) == lengths[other]:
        hint = "To check a signature takes the public one." if wanted == "public" else "To sign takes the secret one."
        return f"a {other} key", hint
    if len(raw) != lengths[wanted]:
        return "damaged or cut", "Copy it again from where it was made."
    if raw[:2] != b"Ed" or (wanted == "secret" and (raw[2:4] not in (b"Sc", b"\0\0") or raw[4:6] != b"B2")):
        return "for another algorithm", f"Clue knows the keys of minisign (Ed25519). {_MAKE}"
    return None, ""


def _damaged(path: Path, error: Exception) -> KeyFileError:
    return KeyFileError(f"The key in {path} is damaged: {error}.", "Copy it again from where it was made.")
