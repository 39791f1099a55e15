"""An answer of a time stamping authority, written by hand: openssl signs with no certificate that is unfit."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from datetime import UTC, datetime

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

_SHA256 = bytes.fromhex("300b0609608648016503040201")
_ECDSA = bytes.fromhex("300a06082a8648ce3d040302")


def _der(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.DER)


def _number(value: int) -> bytes:
    return _tagged(2, value.to_bytes(value.bit_length() // 8 + 1))


def _sequence(*parts: bytes) -> bytes:
    return _tagged(0x30, *parts)


def _tagged(tag: int, *parts: bytes) -> bytes:
    content = b"".join(parts)
    if len(content) < 128:
        return bytes([tag, len(content)]) + content
    return (
        bytes([tag, 0x82]) + len(content).to_bytes(2) + content
        if len(content) > 255
        else (bytes([tag, 0x81, len(content)]) + content)
    )


def _oid(content: str) -> bytes:
    return _tagged(6, bytes.fromhex(content))


_TST_INFO, _SIGNED_DATA = _oid("2a864886f70d0109100104"), _oid("2a864886f70d010702")
_CONTENT_TYPE, _DIGEST, _CERTIFICATE = (
    _oid("2a864886f70d010903"),
    _oid("2a864886f70d010904"),
    _oid("2a864886f70d010910022f"),
)


def stamped_at() -> bytes:
    """The time that an answer states."""
    return datetime.now(UTC).strftime("%Y%m%d%H%M%SZ").encode()


def make_answer(
    data: bytes, signer: x509.Certificate, key: ec.EllipticCurvePrivateKey, certificates: Sequence[x509.Certificate]
) -> bytes:
    """A granted answer over the data, signed with the key, which names `signer` and holds `certificates`."""
    imprint = _sequence(_SHA256, _tagged(4, hashlib.sha256(data).digest()))
    info = _sequence(_number(1), _oid("2a0304"), imprint, _number(7), _tagged(0x18, stamped_at()))
    named = _sequence(_sequence(_sequence(_tagged(4, hashlib.sha256(_der(signer)).digest()))))
    attributes = sorted(
        [
            _sequence(_CONTENT_TYPE, _tagged(0x31, _TST_INFO)),
            _sequence(_DIGEST, _tagged(0x31, _tagged(4, hashlib.sha256(info).digest()))),
            _sequence(_CERTIFICATE, _tagged(0x31, named)),
        ]
    )
    signature = key.sign(_tagged(0x31, *attributes), ec.ECDSA(hashes.SHA256()))
    signer_info = _sequence(
        _number(1),
        _sequence(signer.issuer.public_bytes(), _number(signer.serial_number)),
        _SHA256,
        _tagged(0xA0, *attributes),
        _ECDSA,
        _tagged(4, signature),
    )
    signed = _sequence(
        _number(3),
        _tagged(0x31, _SHA256),
        _sequence(_TST_INFO, _tagged(0xA0, _tagged(4, info))),
        _tagged(0xA0, *map(_der, certificates)),
        _tagged(0x31, signer_info),
    )
    return _sequence(_sequence(_number(0)), _sequence(_SIGNED_DATA, _tagged(0xA0, signed)))
