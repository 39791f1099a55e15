"""Time stamps of an authority that openssl plays: what holds, and what must not."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.x509.oid import ExtendedKeyUsageOID

from clue_cli.custody.timestamp import (
    MOST_BYTES,
    AuthorityError,
    StampProblem,
    check,
    is_request,
    make_request,
    read_authority,
)
from tests.clue_cli.custody.signing import STAMPING, Authority

pytestmark = pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl is not installed")
DATA = b"0" * 64 + b"  manifest.hashdeep\n"


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("tsa"))


@pytest.fixture(scope="module")
def request_(authority: Authority) -> bytes:
    return make_request(DATA)


@pytest.fixture(scope="module")
def answer(authority: Authority, request_: bytes) -> bytes:
    return authority.answer(request_)


def test_openssl_reads_the_request(tmp_path: Path, request_: bytes) -> None:
    (tmp_path / "q.tsq").write_bytes(request_)
    done = subprocess.run(["openssl", "ts", "-query", "-in", "q.tsq", "-text"], cwd=tmp_path, capture_output=True)
    digits = b"".join(
        line.split(b" - ")[1][:48].replace(b"-", b" ").replace(b" ", b"")
        for line in done.stdout.splitlines()
        if b" - " in line
    )
    assert digits.decode() == hashlib.sha256(DATA).hexdigest()
    assert b"Hash Algorithm: sha256" in done.stdout
    assert b"Nonce: 0x" in done.stdout
    assert b"Certificate required: yes" in done.stdout
    assert make_request(DATA) != request_, "the nonce is another each time"


def test_a_stamp_holds(authority: Authority, request_: bytes, answer: bytes) -> None:
    unchecked = check(DATA, answer, request_)
    assert not unchecked.checked
    stamp = check(DATA, answer, request_, read_authority(authority.certificate))
    assert stamp.checked
    assert (stamp.time, stamp.serial, stamp.authority) == (unchecked.time, unchecked.serial, "CN=Test stamps")


def test_openssl_agrees(tmp_path: Path, authority: Authority, answer: bytes) -> None:
    (tmp_path / "data").write_bytes(DATA)
    (tmp_path / "a.tsr").write_bytes(answer)
    words = ["openssl", "ts", "-verify", "-data", "data", "-in", "a.tsr", "-CAfile", str(authority.certificate)]
    assert subprocess.run(words, cwd=tmp_path, capture_output=True).returncode == 0


def test_an_intermediate_certificate_may_lie_beside_the_root(
    tmp_path: Path, authority: Authority, answer: bytes
) -> None:
    both = authority.certificate.read_bytes() + (authority.folder / "chain.pem").read_bytes()
    (tmp_path / "both.pem").write_bytes(both + both)
    assert check(DATA, answer, None, read_authority(tmp_path / "both.pem")).checked
    der = x509.load_pem_x509_certificate(authority.certificate.read_bytes()).public_bytes(serialization.Encoding.DER)
    (tmp_path / "root.crt").write_bytes(der)
    assert check(DATA, answer, None, read_authority(tmp_path / "root.crt")).checked


def test_other_data_are_refused_without_a_certificate(answer: bytes) -> None:
    with pytest.raises(StampProblem, match="over other data"):
        check(DATA + b"\n", answer)


def test_an_answer_to_another_request_is_refused(answer: bytes) -> None:
    with pytest.raises(StampProblem, match="nonce"):
        check(DATA, answer, make_request(DATA))


def test_another_authority_is_refused(tmp_path: Path, answer: bytes) -> None:
    with pytest.raises(StampProblem, match="do not lead to one of those given"):
        check(DATA, answer, None, read_authority(Authority(tmp_path).certificate))


@pytest.mark.parametrize(("begins", "ends"), [(-10, -1), (1, 10)], ids=["expired", "not yet"])
def test_a_certificate_that_was_not_valid_then(tmp_path: Path, begins: float, ends: float) -> None:
    authority = Authority(tmp_path, begins=begins, ends=ends)
    answer = authority.answer(make_request(DATA))
    with pytest.raises(StampProblem, match="not valid at the time of the stamp"):
        check(DATA, answer, None, read_authority(authority.certificate))


@pytest.mark.parametrize(
    ("usage", "critical"),
    [
        ((ExtendedKeyUsageOID.SERVER_AUTH,), True),
        ((ExtendedKeyUsageOID.CODE_SIGNING, *STAMPING), True),
        (STAMPING, False),
        ((), True),
    ],
    ids=["server", "two", "not critical", "none"],
)
def test_a_certificate_for_something_else(
    tmp_path: Path, usage: tuple[x509.ObjectIdentifier, ...], critical: bool
) -> None:
    other = Authority(tmp_path, usage=usage, critical=critical)
    answer = _signed_by_force(other)
    with pytest.raises(StampProblem, match="not one for time stamps"):
        check(DATA, answer, None, read_authority(other.certificate))


def test_the_answers_made_here_hold_with_a_good_certificate(authority: Authority) -> None:
    assert check(DATA, _signed_by_force(authority), None, read_authority(authority.certificate)).checked


def test_a_second_certificate_of_the_same_name_lends_nothing(tmp_path: Path) -> None:
    other = Authority(tmp_path, usage=(ExtendedKeyUsageOID.SERVER_AUTH,))
    twin = _twin(other)
    with pytest.raises(StampProblem, match="2 of the certificates in it claim to be the signer's"):
        check(DATA, _signed_by_force(other, twin), None, read_authority(other.certificate))


def test_the_certificate_must_be_the_one_that_is_named(tmp_path: Path) -> None:
    other = Authority(tmp_path, usage=(ExtendedKeyUsageOID.SERVER_AUTH,))
    with pytest.raises(StampProblem, match="not the one that its signature names"):
        check(DATA, _signed_by_force(other, _twin(other), instead=True), None, read_authority(other.certificate))


def test_every_byte_of_an_answer_counts(authority: Authority, request_: bytes, answer: bytes) -> None:
    trusted = read_authority(authority.certificate)
    for place in range(len(answer)):
        changed = bytearray(answer)
        changed[place] ^= 1 << place % 8
        with pytest.raises(StampProblem):
            check(DATA, bytes(changed), request_, trusted)


def test_a_cut_answer_is_refused(answer: bytes) -> None:
    for length in range(0, len(answer), 7):
        with pytest.raises(StampProblem):
            check(DATA, answer[:length])
    with pytest.raises(StampProblem):
        check(DATA, answer + b"\0")
    with pytest.raises(StampProblem, match="larger"):
        check(DATA, bytes(MOST_BYTES + 1))


@pytest.mark.parametrize("content", [b"", b"{}", b"<html>503</html>", b"0" * 5000, bytes(range(256)) * 9])
def test_what_is_no_answer(content: bytes) -> None:
    with pytest.raises(StampProblem):
        check(DATA, content)


def test_a_request_is_no_answer(request_: bytes) -> None:
    with pytest.raises(StampProblem):
        check(DATA, request_)
    assert is_request(request_, DATA)
    assert not is_request(request_, DATA + b"\n")
    assert not is_request(b"", DATA)


def test_a_rejection_says_what_the_authority_says(authority: Authority) -> None:
    asked = subprocess.run(
        ["openssl", "ts", "-query", "-digest", hashlib.sha256(DATA).hexdigest(), "-sha256", "-tspolicy", "1.9.9"],
        capture_output=True,
    ).stdout
    assert asked
    with pytest.raises(StampProblem, match="the authority rejected the request"):
        check(DATA, authority.answer(asked))


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "holds no certificate"),
        (b"-----BEGIN CERTIFICATE-----\nMII\n-----END CERTIFICATE-----\n", "holds no certificate"),
        (b"-----BEGIN PUBLIC KEY-----\nMII\n-----END PUBLIC KEY-----\n", "holds no certificate"),
        (bytes(MOST_BYTES + 1), "too large"),
        (None, "cannot be read"),
    ],
)
def test_a_bad_file_of_certificates_is_described(tmp_path: Path, content: bytes | None, said: str) -> None:
    if content is not None:
        (tmp_path / "ca.pem").write_bytes(content)
    with pytest.raises(AuthorityError, match=said) as raised:
        read_authority(tmp_path / "ca.pem")
    assert raised.value.advice


def test_a_file_without_a_root_is_refused(authority: Authority) -> None:
    with pytest.raises(AuthorityError, match="no root certificate"):
        read_authority(authority.folder / "chain.pem")


def _twin(authority: Authority) -> x509.Certificate:
    """A certificate by nobody with issuer, serial number and key of the signer, for time stamps."""
    from cryptography.hazmat.primitives import hashes

    signer, key = authority.signer
    return (
        x509.CertificateBuilder()
        .subject_name(signer.subject)
        .issuer_name(signer.issuer)
        .public_key(key.public_key())
        .serial_number(signer.serial_number)
        .not_valid_before(signer.not_valid_before_utc)
        .not_valid_after(signer.not_valid_after_utc)
        .add_extension(x509.ExtendedKeyUsage(STAMPING), critical=True)
        .sign(key, hashes.SHA256())
    )


def _signed_by_force(authority: Authority, beside: x509.Certificate | None = None, *, instead: bool = False) -> bytes:
    """An answer signed by a certificate that openssl refuses to sign with.

    Args:
        beside: a further certificate.
        instead: it takes the place of the one that signed.
    """
    from tests.clue_cli.custody.made_answer import make_answer

    certificate, key = authority.signer
    between = x509.load_pem_x509_certificate((authority.folder / "chain.pem").read_bytes())
    inside = [between] if instead else [certificate, between]
    return make_answer(DATA, certificate, key, [*inside, *([beside] if beside else [])])


@pytest.mark.parametrize("what", ["name", "year"])
def test_values_that_cannot_be(authority: Authority, monkeypatch: pytest.MonkeyPatch, what: str) -> None:
    """A name that is no text, in a certificate that is signed for; a stamp of the year 0."""
    from tests.clue_cli.custody import made_answer

    certificate, key = authority.signer
    der = certificate.public_bytes(serialization.Encoding.DER)
    if what == "name":
        certificate = x509.load_der_x509_certificate(der.replace(b"Test stamps", b"Test \xffstamp"))
    else:
        monkeypatch.setattr(made_answer, "stamped_at", lambda: b"00000101000000Z")
    answer = made_answer.make_answer(DATA, certificate, key, [certificate])
    with pytest.raises(StampProblem, match="is damaged"):
        check(DATA, answer)
