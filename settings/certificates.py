"""The certificates and private keys that a stack gives, looked at before anything is created.

No message contains a key's text. https://cryptography.io/en/latest/x509/
"""

from base64 import b64encode
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from pydantic import SecretStr

from schema.base import SettingsError
from settings.site import SiteSettings
from settings.stack import StackSettings

_SOON = timedelta(days=30)
_PEM = "allowed: PEM text, or a file with it"


@dataclass(frozen=True)
class Given:
    """A domain's certificate with those between it and its root, and its private key: PEM texts. ends: its last day."""

    certificate: str
    private_key: SecretStr
    ends: datetime


def given(stack: StackSettings, folder: Path) -> dict[str, Given]:
    """Domain → what is given for it, of all sites. Raises ValueError with `<key>: <reason>; allowed: …`.

    folder: that the files' paths start from.
    """
    found = {}
    for site in stack.sites:
        if site.tls.certificate is not None and site.site.server_name:
            domain = site.site.server_name.lower()
            try:
                found[domain] = _given(site, domain, folder)
            except ValueError as error:
                raise ValueError(f"{stack.key_of(site)}{error}") from None
    return found


def check(stack: StackSettings, folder: Path, file: str) -> None:
    """Refuse certificates, keys and roots that are none or do not fit. Raises SettingsError."""
    try:
        given(stack, folder)
        if stack.acme_ca:
            _chain("tls.ca", stack.acme_ca, folder)
        authority(stack, folder)
    except ValueError as error:
        raise SettingsError(f"{file}: {error}") from None


def authority(stack: StackSettings, folder: Path) -> str | None:
    """The CA certificates of mysql.ca in Base64, between commas; None without them. Raises as given does."""
    if not (stack.managed and stack.managed.ca):
        return None
    found = _chain("mysql.ca", stack.managed.ca, folder)
    return ",".join(b64encode(each.public_bytes(Encoding.DER)).decode() for each in found)


def warnings(found: dict[str, Given]) -> list[str]:
    """A line for each certificate that ends soon."""
    now = datetime.now(UTC)
    return [
        f"the certificate of {domain} ends in {(certificate.ends - now).days} days, on {certificate.ends:%Y-%m-%d}; "
        "put a new one into tls.certificate and tls.private_key, and run up"
        for domain, certificate in found.items()
        if certificate.ends - now < _SOON
    ]


def _given(site: SiteSettings, domain: str, folder: Path) -> Given:
    tls, now = site.tls, datetime.now(UTC)
    chain = _chain("tls.certificate", tls.certificate or "", folder)
    key = _key(tls.private_key or SecretStr(""), folder)
    first = chain[0]
    if key.public_key() != first.public_key():
        raise ValueError(
            f"tls.private_key: it does not fit tls.certificate, whose first one is for {_shown(first)}; "
            "allowed: the key of the domain's certificate, which comes first"
        )
    if not any(_san(first)):
        raise ValueError(
            "tls.certificate: it has no subjectAltName, and browsers ignore its common name; "
            f"allowed: one with subjectAltName {domain}, as docs/recipes.md makes it"
        )
    if not _names(first, domain):
        raise ValueError(
            f"tls.certificate: it is for {_shown(first)}; allowed: one for site.server_name, which is {domain}"
        )
    if first.not_valid_after_utc <= now:
        raise ValueError(
            f"tls.certificate: it ended on {first.not_valid_after_utc:%Y-%m-%d}; allowed: one that is valid"
        )
    if first.not_valid_before_utc > now:
        raise ValueError(
            f"tls.certificate: it begins on {first.not_valid_before_utc:%Y-%m-%d}; allowed: one that is valid"
        )
    return Given(
        # Keep only the certificates: the file may hold the key, too, and everybody can read the certificate's file.
        "".join(certificate.public_bytes(Encoding.PEM).decode() for certificate in chain),
        SecretStr(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()),
        first.not_valid_after_utc,
    )


def _chain(key: str, value: str, folder: Path) -> list[x509.Certificate]:
    text = _text(key, value, folder)
    if key in ("tls.ca", "mysql.ca") and b"PRIVATE KEY" in text:
        raise ValueError(f"{key}: it holds a private key; allowed: a PEM file with certificates alone")
    try:
        return x509.load_pem_x509_certificates(text)
    except ValueError:
        raise ValueError(f"{key}: no certificate in PEM (-----BEGIN CERTIFICATE-----); {_PEM}") from None


def _key(value: SecretStr, folder: Path) -> rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey:
    text = _text("tls.private_key", value.get_secret_value(), folder)
    try:
        key = load_pem_private_key(text, password=None)
    except TypeError:
        raise ValueError("tls.private_key: it is encrypted; allowed: a key without a passphrase") from None
    except (ValueError, UnsupportedAlgorithm):
        raise ValueError(f"tls.private_key: no private key in PEM (-----BEGIN PRIVATE KEY-----); {_PEM}") from None
    if not isinstance(key, rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey):
        raise ValueError("tls.private_key: neither RSA nor EC, which every browser takes; allowed: one of them")
    return key


def _text(key: str, value: str, folder: Path) -> bytes:
    """PEM text as it is, or that of a file."""
    if "-----BEGIN" in value:
        return value.encode()
    try:
        return (folder / Path(value).expanduser()).read_bytes()
    except (OSError, RuntimeError, ValueError):
        # Do not repeat the value, because it may be the secret itself, cut or without its first line.
        raise ValueError(f"{key}: neither PEM text nor a file that can be read; {_PEM}") from None


def _names(certificate: x509.Certificate, domain: str) -> bool:
    """Whether a browser that wants the domain takes the certificate: RFC 9525, 6.3."""
    names, addresses = _san(certificate)
    return domain in names or f"*.{domain.partition('.')[2]}" in names or domain in addresses


def _san(certificate: x509.Certificate) -> tuple[list[str], list[str]]:
    try:
        found = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return [], []
    addresses = found.get_values_for_type(x509.IPAddress)
    return [name.lower() for name in found.get_values_for_type(x509.DNSName)], [str(one) for one in addresses]


def _shown(certificate: x509.Certificate) -> str:
    names, addresses = _san(certificate)
    return ", ".join((*names, *addresses)) or "no domain"
