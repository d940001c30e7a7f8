"""A certification authority for tests, and what it and others sign."""

import ipaddress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    KeySerializationEncryption,
    NoEncryption,
    PrivateFormat,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

Key = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey


def new_key() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


def pem(key: Key, passphrase: bytes | None = None) -> str:
    cipher: KeySerializationEncryption = BestAvailableEncryption(passphrase) if passphrase else NoEncryption()
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, cipher).decode()


@dataclass(frozen=True)
class Pair:
    """certificate, private_key: PEM texts. serial: the certificate's number."""

    certificate: str
    private_key: str
    serial: int

    @property
    def secret_line(self) -> str:
        """A line of the private key, up to where the public one begins, which the certificate has, too."""
        return self.private_key.splitlines()[2][:26]


class Authority:
    """Signs certificates. pem: its root's."""

    def __init__(self, name: str = "Test Root") -> None:
        self._key = new_key()
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        root = (
            self._builder(self._name, self._key, datetime.now(UTC) - timedelta(days=1), timedelta(days=3650))
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .add_extension(x509.KeyUsage(True, False, False, False, False, True, True, False, False), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(self._key.public_key()), critical=False)
            .sign(self._key, hashes.SHA256())
        )
        self.pem = root.public_bytes(Encoding.PEM).decode()

    def sign(
        self, *names: str, days: float = 90, begins: datetime | None = None, key: Key | None = None, san: bool = True
    ) -> Pair:
        """A certificate for domains and addresses. days: its life, which begins a day ago when nothing is said.

        san: whether it names them as subjectAltName; without, only the first is named, as common name.
        """
        own = key or new_key()
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, names[0])])
        start = begins or datetime.now(UTC) - timedelta(days=1)
        made = (
            self._builder(subject, own, start, timedelta(days=days))
            .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()), critical=False)
        )
        if san:
            made = made.add_extension(x509.SubjectAlternativeName(list(map(_general, names))), critical=False)
        signed = made.sign(self._key, hashes.SHA256())
        return Pair(signed.public_bytes(Encoding.PEM).decode(), pem(own), signed.serial_number)

    def _builder(self, subject: x509.Name, key: Key, start: datetime, life: timedelta) -> x509.CertificateBuilder:
        builder = x509.CertificateBuilder().subject_name(subject).issuer_name(self._name)
        builder = builder.public_key(key.public_key()).serial_number(x509.random_serial_number())
        return builder.not_valid_before(start).not_valid_after(start + life)


def _general(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)
