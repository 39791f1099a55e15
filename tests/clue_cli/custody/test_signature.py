"""Signatures: those of clue and those of minisign hold for each other, and nothing else does."""

from __future__ import annotations

import base64
import os
import shutil
import subprocess
from datetime import UTC, datetime
from pathlib import Path

import minisign
import pytest

from clue_cli.custody.signature import (
    MOST_BYTES,
    PASSPHRASE,
    KeyFileError,
    SignatureProblem,
    check,
    key_id,
    read_public_key,
    read_secret_key,
    read_signature,
    sign,
)
from tests.clue_cli.custody.signing import write_keys

DATA = b"0" * 64 + b"  manifest.hashdeep\n"
AT = datetime(2026, 3, 1, 12, 30, tzinfo=UTC)
needs_minisign = pytest.mark.skipif(shutil.which("minisign") is None, reason="minisign is not installed")


def signed(secret: Path, data: bytes = DATA) -> bytes:
    with read_secret_key(secret) as key:
        return sign(data, "manifest.sha256", key, AT)


def run_minisign(folder: Path, *words: str, said: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(["minisign", *words], cwd=folder, input=said, capture_output=True, text=True, timeout=60)


def test_a_signature_says_who_and_when(tmp_path: Path) -> None:
    secret, public = write_keys(tmp_path)
    found = check(DATA, signed(secret), read_public_key(public))
    assert found.claimed == AT
    assert found.untrusted is None
    assert found.comment.startswith(f"timestamp:{int(AT.timestamp())}\tfile:manifest.sha256\thashed\tclue:")
    assert found == read_signature(signed(secret))


@pytest.mark.parametrize("data", [b"", DATA[:-1], DATA + b"\n", DATA.replace(b"0", b"1", 1)])
def test_other_data_are_refused(tmp_path: Path, data: bytes) -> None:
    secret, public = write_keys(tmp_path)
    with pytest.raises(SignatureProblem, match="does not fit"):
        check(data, signed(secret), read_public_key(public))


def test_another_key_is_named(tmp_path: Path) -> None:
    secret, public = write_keys(tmp_path)
    _, other = write_keys(tmp_path, "other")
    with pytest.raises(SignatureProblem, match="it is by the key") as raised:
        check(DATA, signed(secret), read_public_key(other))
    assert key_id(read_public_key(public)) in str(raised.value)
    assert key_id(read_public_key(other)) in str(raised.value)


def test_a_key_that_bears_the_id_of_another_is_refused(tmp_path: Path) -> None:
    secret, public = write_keys(tmp_path)
    other, _ = write_keys(tmp_path, "other")
    lines = signed(other).splitlines()
    mine = base64.b64decode(public.read_bytes().splitlines()[1])
    raw = base64.b64decode(lines[1])
    lines[1] = base64.b64encode(raw[:2] + mine[2:10] + raw[10:])
    with pytest.raises(SignatureProblem, match="does not fit"):
        check(DATA, b"\n".join(lines) + b"\n", read_public_key(public))
    assert secret.is_file()


def test_every_bit_of_a_signature_counts(tmp_path: Path) -> None:
    secret, public = write_keys(tmp_path)
    content, key = signed(secret), read_public_key(public)
    for place in range(len(content)):
        for bit in range(8):
            changed = bytearray(content)
            changed[place] ^= 1 << bit
            with pytest.raises(SignatureProblem):
                check(DATA, bytes(changed), key)


def test_every_cut_of_a_signature_counts(tmp_path: Path) -> None:
    secret, public = write_keys(tmp_path)
    content, key = signed(secret), read_public_key(public)
    for length in range(len(content)):
        with pytest.raises(SignatureProblem):
            check(DATA, content[:length], key)
    with pytest.raises(SignatureProblem, match="larger"):
        check(DATA, content + b"x" * MOST_BYTES, key)


def test_line_ends_of_windows_are_accepted_throughout(tmp_path: Path) -> None:
    secret, public = write_keys(tmp_path)
    content = signed(secret)
    assert check(DATA, content.replace(b"\n", b"\r\n"), read_public_key(public)).claimed == AT
    with pytest.raises(SignatureProblem):
        check(DATA, content.replace(b"\n", b"\r\n", 1), read_public_key(public))


@needs_minisign
def test_minisign_verifies_what_clue_signs(tmp_path: Path) -> None:
    secret, public = write_keys(tmp_path)
    (tmp_path / "manifest.sha256").write_bytes(DATA)
    (tmp_path / "manifest.sha256.minisig").write_bytes(signed(secret))
    done = run_minisign(tmp_path, "-V", "-p", public.name, "-m", "manifest.sha256")
    assert (done.returncode, "Signature and comment signature verified" in done.stdout) == (0, True), done.stderr
    assert "\thashed\tclue:" in done.stdout
    (tmp_path / "manifest.sha256").write_bytes(DATA + b"\n")
    assert run_minisign(tmp_path, "-V", "-p", public.name, "-m", "manifest.sha256").returncode == 1


def test_the_id_of_a_key_has_no_leading_zeros(tmp_path: Path) -> None:
    """As minisign shows it: one key in sixteen has fewer than 16 digits."""
    _, public = write_keys(tmp_path)
    raw = base64.b64decode(public.read_text().splitlines()[1])
    made = raw[:2] + bytes.fromhex("019C8BF0FC0C9400")[:7] + b"\0" + raw[10:]
    public.write_text(f"untrusted comment: made\n{base64.b64encode(made).decode()}\n")
    assert key_id(read_public_key(public)) == "940CFCF08B9C01"


@needs_minisign
@pytest.mark.parametrize("words", [(), ("-l",)], ids=["prehashed", "legacy"])
def test_clue_verifies_what_minisign_signs(tmp_path: Path, words: tuple[str, ...]) -> None:
    assert run_minisign(tmp_path, "-G", "-W", "-p", "a.pub", "-s", "a.key").returncode == 0
    (tmp_path / "manifest.sha256").write_bytes(DATA)
    done = run_minisign(tmp_path, "-S", *words, "-s", "a.key", "-c", "Lab 4", "-m", "manifest.sha256")
    assert done.returncode == 0, done.stderr
    key = read_public_key(tmp_path / "a.pub")
    found = check(DATA, (tmp_path / "manifest.sha256.minisig").read_bytes(), key)
    assert found.untrusted == "Lab 4"
    assert found.claimed is not None
    assert abs((datetime.now(UTC) - found.claimed).total_seconds()) < 3600
    assert key_id(key) in (tmp_path / "a.pub").read_text(), "the id is the one that minisign shows"
    assert check(DATA, signed(tmp_path / "a.key"), key).claimed == AT


@needs_minisign
@pytest.mark.slow  # minisign derives a key from 1 GiB of memory, twice
def test_a_key_that_minisign_encrypted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = run_minisign(tmp_path, "-G", "-p", "a.pub", "-s", "a.key", said="Straße 1\nStraße 1\n")
    assert made.returncode == 0, made.stderr
    monkeypatch.setenv(PASSPHRASE, "Straße 1")
    assert check(DATA, signed(tmp_path / "a.key"), read_public_key(tmp_path / "a.pub")).claimed == AT


def test_the_passphrase_is_asked_for_and_wiped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    secret, _ = write_keys(tmp_path, passphrase="right")
    asked: list[Path] = []

    def answer(path: Path) -> str:
        asked.append(path)
        return "right"

    with read_secret_key(secret, answer) as key:
        assert not key.is_encrypted()
    assert key.is_wiped()
    assert asked == [secret]
    with pytest.raises(KeyFileError, match="does not open the key"):
        read_secret_key(secret, lambda path: "wrong")
    monkeypatch.setenv(PASSPHRASE, "right")
    read_secret_key(secret).wipe()
    assert PASSPHRASE not in os.environ, "no child process inherits it"


def _secret(path: Path) -> None:
    shutil.copy(write_keys(path.parent, "made")[0], path)


def _public(path: Path) -> None:
    shutil.copy(write_keys(path.parent, "made")[1], path)


def _signature(path: Path) -> None:
    path.write_bytes(signed(write_keys(path.parent, "made")[0]))


def _of_algorithm(path: Path, length: int, start: bytes) -> None:
    path.write_bytes(b"untrusted comment: key\n" + base64.b64encode(start.ljust(length, b"\1")) + b"\n")


def _cut(path: Path) -> None:
    _public(path)
    path.write_bytes(path.read_bytes()[:-9])


BAD_KEYS = {
    "missing": (lambda path: None, "cannot be read"),
    "folder": (lambda path: path.mkdir(), "is a folder"),
    "empty": (lambda path: path.write_bytes(b""), "is empty"),
    "blank": (lambda path: path.write_bytes(b" \n\n"), "is empty"),
    "huge": (lambda path: path.write_bytes(b"a" * (MOST_BYTES + 1)), "larger than any key"),
    "noise": (lambda path: path.write_bytes(bytes(range(256))), "something else"),
    "text": (lambda path: path.write_text("my key"), "something else"),
    "ssh": (lambda path: path.write_text("ssh-ed25519 AAAAC3NzaC1lZDI1 me@here\n"), "an SSH key"),
    "openssh": (lambda path: path.write_text("-----BEGIN OPENSSH PRIVATE KEY-----\nb3\n"), "an SSH key"),
    "rsa": (lambda path: path.write_text("-----BEGIN RSA PRIVATE KEY-----\nMII\n"), "in PEM"),
    "pgp": (lambda path: path.write_text("-----BEGIN PGP PUBLIC KEY BLOCK-----\n\nmQ\n"), "an OpenPGP key"),
    "signature": (_signature, "a signature"),
    "comment alone": (lambda path: path.write_text("untrusted comment: minisign public key\n"), "damaged or cut"),
    "cut": (_cut, "damaged or cut"),
}


@pytest.mark.parametrize("name", BAD_KEYS)
@pytest.mark.parametrize("read", [read_public_key, read_secret_key])
def test_a_bad_key_is_described(tmp_path: Path, name: str, read: object) -> None:
    write, said = BAD_KEYS[name]
    write(tmp_path / "key")
    with pytest.raises(KeyFileError, match=said) as raised:
        read(tmp_path / "key")  # type: ignore[operator]
    assert raised.value.advice
    assert raised.value.exit_code == 2


def test_secret_and_public_are_not_mixed_up(tmp_path: Path) -> None:
    secret, public = write_keys(tmp_path)
    with pytest.raises(KeyFileError, match="is a secret key, not a public key"):
        read_public_key(secret)
    with pytest.raises(KeyFileError, match="is a public key, not a secret key"):
        read_secret_key(public)


def test_another_algorithm_is_named(tmp_path: Path) -> None:
    _of_algorithm(tmp_path / "a.pub", 42, b"Xx")
    with pytest.raises(KeyFileError, match="another algorithm"):
        read_public_key(tmp_path / "a.pub")
    for start in (b"XxScB2", b"EdXxB2", b"EdScXx"):
        _of_algorithm(tmp_path / "a.key", 158, start)
        with pytest.raises(KeyFileError, match="another algorithm"):
            read_secret_key(tmp_path / "a.key")


def test_a_changed_secret_key_signs_nothing(tmp_path: Path) -> None:
    secret, _ = write_keys(tmp_path, passphrase="right")
    raw = bytearray(base64.b64decode(secret.read_bytes().splitlines()[1]))
    raw[80] ^= 1
    secret.write_bytes(b"untrusted comment: key\n" + base64.b64encode(bytes(raw)) + b"\n")
    with pytest.raises(KeyFileError):
        read_secret_key(secret, lambda path: "right")


def test_a_hostile_comment_stays_a_comment(tmp_path: Path) -> None:
    pair = minisign.KeyPair.generate()
    comment = "timestamp:99999999999\tclue\t<b>"
    content = bytes(pair.secret_key.sign(DATA, trusted_comment=comment)) + b"\n"
    found = check(DATA, content, pair.public_key)
    assert found.comment == comment
    assert found.claimed is not None
    assert found.claimed.year == 5138
