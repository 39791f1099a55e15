"""Keys, a results folder with a manifest, and a time stamping authority of openssl's, as tests of signing need them."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import minisign
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from clue_cli.custody.manifest import write_manifest
from clue_cli.custody.observed import Observed
from clue_cli.report import report
from tests.clue_cli.results.made import identity, image, open_store, put, run

STAMPING = (ExtendedKeyUsageOID.TIME_STAMPING,)
Issued = tuple[x509.Certificate, ec.EllipticCurvePrivateKey]


def write_keys(folder: Path, name: str = "examiner", passphrase: str | None = None) -> tuple[Path, Path]:
    """A pair of keys as minisign writes them: secret and public. Decrypting takes milliseconds instead of seconds."""
    pair = minisign.KeyPair.generate()
    public = bytes(pair.public_key)
    if passphrase is not None:
        pair.secret_key.encrypt(passphrase, opslimit=32768, memlimit=1 << 20)
    paths = folder / f"{name}.key", folder / f"{name}.pub"
    paths[0].write_bytes(bytes(pair.secret_key) + b"\n")
    paths[1].write_bytes(public + b"\n")
    return paths


def write_results(out: Path, images: int = 3) -> Path:
    """A results folder as a scan of a few pictures leaves it."""
    with Observed() as observed, open_store(out) as store:
        for number in range(images):
            record = image(f"evidence/{number}.jpg", file=identity(f"{number:064x}"))
            names = store.outputs(record.locator, 0, 1, ("heatmap", "preview", "heat_overlay", "outline", "thumbnail"))
            put(store, record.model_copy(update={"outputs": names}))
        with report(out) as pages:
            last = store.finish(run(status="finished"), pages.add)
            pages.write(last)
        write_manifest(store, observed, last)
    return out


@dataclass
class Authority:
    """A certificate authority and a time stamping authority below it.

    Attributes:
        folder: for its files; empty.
        usage, critical: the extended key usage of the certificate that signs.
        begins, ends: its validity in days from now.
    """

    folder: Path
    usage: tuple[x509.ObjectIdentifier, ...] = STAMPING
    critical: bool = True
    begins: float = -10
    ends: float = 10
    root: Issued = field(init=False)
    signer: Issued = field(init=False)

    def __post_init__(self) -> None:
        self.folder.mkdir(exist_ok=True)
        self.root = _issue("Test root", None, ca=True)
        between = _issue("Test intermediate", self.root, ca=True)
        self.signer = _issue("Test stamps", between, self.usage, self.critical, self.begins, self.ends)
        (self.folder / "root.pem").write_bytes(pem(self.root[0]))
        (self.folder / "chain.pem").write_bytes(pem(between[0]))
        (self.folder / "signer.pem").write_bytes(pem(self.signer[0]))
        (self.folder / "signer.key").write_bytes(
            self.signer[1].private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        )
        (self.folder / "serial").write_text("01\n")
        (self.folder / "tsa.cnf").write_text(
            "[tsa]\ndefault_tsa = t\n[t]\nserial = serial\nsigner_digest = sha256\ndefault_policy = 1.2.3.4.1\n"
            "digests = sha256, sha384, sha512\naccuracy = secs:1\ness_cert_id_alg = sha256\n"
        )

    @property
    def certificate(self) -> Path:
        return self.folder / "root.pem"

    def answer(self, request: bytes) -> bytes:
        """What the authority answers to a request."""
        (self.folder / "request.tsq").write_bytes(request)
        words = "ts -reply -config tsa.cnf -queryfile request.tsq -signer signer.pem -inkey signer.key -chain chain.pem"
        done = subprocess.run(
            ["openssl", *words.split(), "-out", "answer.tsr"], cwd=self.folder, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        return (self.folder / "answer.tsr").read_bytes()


def pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


def _issue(
    name: str,
    issuer: Issued | None,
    usage: tuple[x509.ObjectIdentifier, ...] = (),
    critical: bool = True,
    begins: float = -100,
    ends: float = 100,
    *,
    ca: bool = False,
) -> Issued:
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.now(UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer[0].subject if issuer else subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now + timedelta(days=begins))
        .not_valid_after(now + timedelta(days=ends))
        .add_extension(x509.BasicConstraints(ca, None), critical=True)
    )
    if usage:
        builder = builder.add_extension(x509.ExtendedKeyUsage(usage), critical)
    return builder.sign(issuer[1] if issuer else key, hashes.SHA256()), key
