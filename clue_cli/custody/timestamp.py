"""Time stamps by an authority as in RFC 3161: the request to send to it, and the check of its answer.

rfc3161-client parses an answer, and has OpenSSL verify its signature and the chain of its certificates at the time of
the stamp. What that leaves open is checked here: which certificate signed (`_check_signer`).
"""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from model.errors import UserError

if TYPE_CHECKING:
    from cryptography.x509 import Certificate
    from rfc3161_client import TimeStampResponse

MOST_BYTES = 1 << 20
"""The largest answer, request or file of certificates that is read; answers have 1 to 20 kB."""

_SIGNED_DATA, _SIGNING_CERTIFICATE = "2a864886f70d010702", "2a864886f70d010910020c"
_SIGNING_CERTIFICATE_V2 = "2a864886f70d010910022f"
"""Object identifiers as DER encodes them: 1.2.840.113549.1.7.2, 1.2.840.113549.1.9.16.2.12 and .47."""
_SHA2 = ((1, "sha256"), (2, "sha384"), (3, "sha512"))
_BY_DOTTED = {f"2.16.840.1.101.3.4.2.{number}": name for number, name in _SHA2}
_BY_DER = {f"6086480165030402{number:02x}": name for number, name in _SHA2}
_SEQUENCE, _TAG_0 = 0x30, 0xA0
_KINDS_OF_SIGNATURE = {  # signature algorithms, and the hash that each names
    "2a864886f70d010101": None,  # rsaEncryption
    "2a864886f70d01010a": None,  # RSASSA-PSS
    "2a864886f70d01010b": "sha256",
    "2a864886f70d01010c": "sha384",
    "2a864886f70d01010d": "sha512",
    "2a8648ce3d0201": None,  # ecPublicKey, as some write
    "2a8648ce3d040302": "sha256",
    "2a8648ce3d040303": "sha384",
    "2a8648ce3d040304": "sha512",
    "2b6570": None,  # Ed25519
}
_STATUS = {2: "rejected the request", 3: "has not answered yet", 4: "warns of a revocation", 5: "was revoked"}


class AuthorityError(UserError):
    """A file of certificates that cannot be used."""


class StampProblem(Exception):
    """A time stamp that does not hold; the message says why, without a full stop."""


@dataclass(frozen=True, slots=True)
class Stamp:
    """What a time stamp says.

    Attributes:
        time: when the authority saw the hash, by its clock.
        authority: the name in the certificate that signed; may be hostile while `checked` is false.
        serial: the authority's number of the stamp.
        checked: whether signature and certificates were verified up to a certificate of the user's.
    """

    time: datetime
    authority: str
    serial: int
    checked: bool


def make_request(data: bytes) -> bytes:
    """A request over SHA-256 of the data, with a nonce, which asks for the authority's certificates; DER."""
    library = _library()
    request: bytes = library.TimestampRequestBuilder(data, library.HashAlgorithm.SHA256).build().as_bytes()
    return request


def is_request(request: bytes, data: bytes) -> bool:
    """Whether this is a request over these data as `make_request` makes it."""
    try:
        parsed = _parse_request(request)
    except StampProblem:
        return False
    imprint = parsed.message_imprint
    return bool(
        imprint.message == hashlib.sha256(data).digest()
        and _BY_DOTTED.get(imprint.hash_algorithm.dotted_string) == "sha256"
        and (parsed.version, parsed.cert_req, parsed.policy) == (1, True, None)
        and parsed.as_bytes() == request
    )


def read_authority(path: Path) -> list[Certificate]:
    """The certificates of an authority in a file: its root, and intermediate ones if its answers lack them.

    Raises:
        AuthorityError: the file cannot be read, or holds no certificate.
    """
    from cryptography import x509

    advice = "Name the authority's root certificate in PEM or DER; authorities publish it."
    try:
        with path.open("rb") as stream:
            content = stream.read(MOST_BYTES + 1)
    except OSError as error:
        raise AuthorityError(f"{path} cannot be read: {error.strerror or error}.", advice) from error
    if len(content) > MOST_BYTES:
        raise AuthorityError(f"{path} is too large for certificates.", advice)
    try:
        pem = b"-----BEGIN" in content
        found = x509.load_pem_x509_certificates(content) if pem else [x509.load_der_x509_certificate(content)]
    except ValueError as error:
        raise AuthorityError(f"{path} holds no certificate that can be read.", advice) from error
    if not any(one.issuer == one.subject for one in found):
        raise AuthorityError(f"{path} holds no root certificate, only ones that others issued.", advice)
    return list(dict.fromkeys(found))


def check(
    data: bytes, answer: bytes, request: bytes | None = None, authority: Sequence[Certificate] | None = None
) -> Stamp:
    """What an authority's answer says, if it is a stamp of the data.

    Args:
        data: what was stamped.
        answer: the answer, DER.
        request: what was sent; the answer must have its nonce. None: the nonce is not compared.
        authority: certificates to trust. None: the hash and nonce are compared, and the authority is not checked.

    Raises:
        StampProblem: it is none.
        UserError: rfc3161-client is not installed.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of cryptography, about certificates that it reads all the same
        try:
            return _check(data, answer, request, authority)
        except (ValueError, OverflowError) as error:  # names and times are parsed when they are looked at
            raise StampProblem("a name, a time or another value in it is damaged") from error


def _check(data: bytes, answer: bytes, request: bytes | None, authority: Sequence[Certificate] | None) -> Stamp:
    library = _library()
    nonce = None if request is None else _parse_request(request).nonce
    parsed = _parse(answer)
    info = parsed.tst_info
    algorithm = _BY_DOTTED.get(info.message_imprint.hash_algorithm.dotted_string)
    if algorithm is None:
        raise StampProblem("it is over a hash that is not SHA-256, SHA-384 or SHA-512")
    if info.message_imprint.message != hashlib.new(algorithm, data).digest():
        raise StampProblem("it is over other data: the hash that was stamped is another one")
    if nonce is not None and info.nonce != nonce:
        raise StampProblem("it answers another request: its nonce is not the one of the request")
    signer = _check_signer(parsed)
    stamp = Stamp(info.gen_time, signer.subject.rfc4514_string(), info.serial_number, authority is not None)
    if authority is not None:
        if not signer.not_valid_before_utc <= info.gen_time <= signer.not_valid_after_utc:
            raise StampProblem(
                f"the authority's certificate was not valid at the time of the stamp, {info.gen_time:%Y-%m-%d %H:%M:%S}"
                f" UTC: it is from {signer.not_valid_before_utc:%Y-%m-%d} until {signer.not_valid_after_utc:%Y-%m-%d}"
            )
        _check_purpose(signer)
        roots = [one for one in authority if one.issuer == one.subject]
        others = [one for one in authority if one.issuer != one.subject]
        try:
            library.VerifierBuilder(roots=roots, intermediates=others).build().verify_message(parsed, data)
        except (library.VerificationError, ValueError) as error:
            raise StampProblem(_plain(str(error))) from error
    return stamp


def library_missing() -> bool:
    """Whether the package is not installed that requests and answers need."""
    return find_spec("rfc3161_client") is None


def _library() -> Any:
    try:
        import rfc3161_client
    except ImportError as error:
        raise UserError(
            "Time stamps need the package rfc3161-client.",
            "pip installs it, except on Windows for ARM, for which there is none: use another machine.",
        ) from error
    return rfc3161_client


def _parse_request(request: bytes) -> Any:
    try:
        return _library()._rust.parse_timestamp_request(request)  # the package exports no reader of requests
    except ValueError as error:
        raise StampProblem("the request beside it cannot be read") from error


def _parse(answer: bytes) -> TimeStampResponse:
    if len(answer) > MOST_BYTES:
        raise StampProblem("it is larger than any answer of an authority")
    try:
        parsed: TimeStampResponse = _library().decode_timestamp_response(_sorted_certificates(answer))
        status = parsed.status
    except ValueError as error:
        raise StampProblem("it is not the answer of a time stamping authority, or is cut or damaged") from error
    if status not in (0, 1):
        words = _said(parsed.status_string)
        raise StampProblem(f"there is no stamp in it: the authority {_STATUS.get(status, f'says {status}')}{words}")
    try:
        _ = parsed.tst_info, parsed.signed_data
    except ValueError as error:
        raise StampProblem("the stamp in it is damaged") from error
    return parsed


def _said(texts: Sequence[str]) -> str:
    """What an authority says beside its status, as an ending of a sentence."""
    from clue_cli.terminal import printable

    return f" ({printable('; '.join(texts))[:200]})" if texts else ""


def _check_signer(parsed: TimeStampResponse) -> Certificate:
    """The one certificate that signed, named by its hash in what is signed (RFC 3161 2.4.2, RFC 5816).

    Issuer and serial number beside the signature are not signed themselves: a second certificate with the same ones
    could lend the stamp its purpose or name.
    """
    from cryptography import x509

    signed = parsed.signed_data
    signers = list(signed.signer_infos)
    if len(signers) != 1:
        raise StampProblem(f"it has {len(signers)} signatures instead of one")
    try:
        raw = [one for one in signed.certificates if _is_of(x509.load_der_x509_certificate(one), signers[0])]
        if len(raw) != 1:
            raise StampProblem(
                f"{len(raw)} of the certificates in it claim to be the signer's"
                if raw
                else "the signer's certificate is not in it; ask the authority to include it"
            )
        certificate = x509.load_der_x509_certificate(raw[0])
    except (ValueError, LookupError, x509.InvalidVersion) as error:
        raise StampProblem("a certificate in it is damaged") from error
    try:
        named = _named_certificates(parsed.time_stamp_token())
    except (ValueError, LookupError) as error:
        raise StampProblem("its signed attributes are damaged, or made in a way that clue does not know") from error
    if not named or any(hashlib.new(name, raw[0]).digest() != digest for name, digest in named):
        raise StampProblem("the certificate in it is not the one that its signature names")
    return certificate


def _check_purpose(certificate: Certificate) -> None:
    """RFC 3161 2.3: the extended key usage is critical, and time stamps alone."""
    from cryptography import x509

    try:
        usage = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage)
    except (x509.ExtensionNotFound, ValueError):
        usage = None
    if usage is None or not usage.critical or list(usage.value) != [x509.oid.ExtendedKeyUsageOID.TIME_STAMPING]:
        raise StampProblem("its certificate is not one for time stamps (critical extended key usage timeStamping only)")


def _is_of(certificate: Certificate, signer: Any) -> bool:
    return bool(certificate.issuer == signer.issuer and certificate.serial_number == signer.serial_number)


def _plain(error: str) -> str:
    """What OpenSSL and rfc3161-client say, in words."""
    for sign, words in (
        ("unable to get", "its certificates do not lead to one of those given"),
        ("self-signed", "its certificates do not lead to one of those given"),
        ("self signed", "its certificates do not lead to one of those given"),
        ("certificate signature failure", "its certificates do not lead to one of those given"),
        ("expired", "a certificate in its chain had expired at the time of the stamp"),
        ("not yet valid", "a certificate in its chain was not valid yet at the time of the stamp"),
        ("invalid CA certificate", "a certificate in its chain may not issue others"),
        ("unsupported certificate purpose", "a certificate in its chain is not for time stamps"),
        ("digest failure", "its content is not what was signed"),
        ("signature failure", "its signature is wrong"),
        ("GRANTED", "the authority granted it with modifications"),
    ):
        if sign in error:
            return words
    return f"it cannot be verified ({error[:300]})"


def _elements(data: bytes) -> Iterator[tuple[int, bytes, bytes]]:
    """Tag, content and whole encoding of elements that follow each other.

    Raises:
        ValueError: it is not DER.
    """
    position = 0
    while position < len(data):
        start, tag = position, data[position]
        if position + 2 > len(data) or tag & 0x1F == 0x1F:
            raise ValueError("not DER")
        length, position = data[position + 1], position + 2
        if length & 0x80:
            digits = length & 0x7F
            if not 1 <= digits <= 4:
                raise ValueError("not DER")
            length, position = int.from_bytes(data[position : position + digits]), position + digits
        if position + length > len(data):
            raise ValueError("cut")
        yield tag, data[position : position + length], data[start : position + length]
        position += length


def _only(data: bytes, tag: int) -> bytes:
    """The content of the one element of this tag that the data are."""
    found = list(_elements(data))
    if len(found) != 1 or found[0][0] != tag:
        raise ValueError("not the expected element")
    return found[0][1]


def _signed_data(token: bytes) -> list[tuple[int, bytes, bytes]]:
    """The elements of the SignedData of a ContentInfo."""
    kind, content = list(_elements(_only(token, _SEQUENCE)))
    if kind[1].hex() != _SIGNED_DATA or content[0] != _TAG_0:
        raise ValueError("not signed")
    return list(_elements(_only(content[1], _SEQUENCE)))


def _sorted_certificates(answer: bytes) -> bytes:
    """The answer with its certificates in the order that DER demands of a set.

    OpenSSL's `ts -reply`, and authorities built on it, write signer and issuer in this order, which CMS allows and the
    parser does not. Neither their order nor anything else that is changed here is signed.

    Raises:
        ValueError: it is not DER.
    """
    parts = list(_elements(_only(answer, _SEQUENCE)))
    if len(parts) < 2:
        return answer
    for tag, content, whole in _signed_data(parts[1][2]):
        if tag == _TAG_0:
            ordered = b"".join(sorted(one[2] for one in _elements(content)))
            return answer.replace(whole, whole[: len(whole) - len(content)] + ordered, 1)
    return answer


def _named_certificates(token: bytes) -> list[tuple[str, bytes]]:
    """Algorithm and hash of the certificate that the signature names as its own, once for each such attribute.

    Also looks at the fields that OpenSSL passes over and no signature covers: versions, and the signature's algorithm.

    Raises:
        ValueError, LookupError: they are not as RFC 3161 wants them.
    """
    signed = _signed_data(token)
    version, _, digest, attributes, algorithm, *_ = list(_elements(_only(signed[-1][1], _SEQUENCE)))
    hashed, by = (next(_elements(one[1]))[1].hex() for one in (digest, algorithm))
    if (signed[0][1], version[1]) != (b"\x03", b"\x01") or _KINDS_OF_SIGNATURE[by] not in (None, _BY_DER[hashed]):
        raise ValueError("versions or algorithms do not fit")
    found = []
    for _, attribute, _ in _elements(attributes[1]):
        kind, values = list(_elements(attribute))
        oid = kind[1].hex()
        if oid in (_SIGNING_CERTIFICATE, _SIGNING_CERTIFICATE_V2):
            certificates = next(_elements(_only(values[1], _SEQUENCE)))[1]
            first = list(_elements(next(_elements(certificates))[1]))  # the others are its issuers
            name = "sha1" if oid == _SIGNING_CERTIFICATE else "sha256"
            if first[0][0] == _SEQUENCE:
                name = _BY_DER[next(_elements(first.pop(0)[1]))[1].hex()]
            found.append((name, first[0][1]))
    return found
