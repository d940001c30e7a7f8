"""The certificates of this machine's domains, and their private keys.

/etc/wsgi-ecs/tls/<domain>.crt   what nginx sends: the certificate and its intermediate certificates (0644)
/etc/wsgi-ecs/tls/<domain>.key   only root may read it (0600)
/etc/wsgi-ecs/tls/<domain>.ca    directory of the CA that was asked for it (acme.py)

A domain has a self-signed certificate until a CA has issued one, so that nginx's configuration is
the same from the first second. Python 3.6, standard library only.
"""

import os
import shutil
import ssl
import tempfile
from typing import Dict, Iterable, List, Optional, Tuple

import files
from commands import ReleaseError, run
from contract import paths
from nginx import NGINX_CONF, Nginx

_SELF_SIGNED_DAYS = "365"
# OpenSSL 1.0.2 has no command-line option for subjectAltName, so a request needs this file.
_REQUEST = """[req]
prompt = no
distinguished_name = name
req_extensions = names
x509_extensions = names
[name]
{0}
[names]
subjectAltName = DNS:{1}
"""


# Domain → certificate and private_key, PEM texts.
Given = Dict[str, Dict[str, str]]
# Path, text and mode of a file.
_File = Tuple[str, str, int]


class Certificate:
    """begins, ends: seconds since the epoch. self_signed: no CA has issued it."""

    def __init__(self, domain: str) -> None:
        options = ("-startdate", "-enddate", "-subject_hash", "-issuer_hash", "-in", path(domain, "crt"))
        lines = run("openssl", "x509", "-noout", *options).split("\n")
        dates = [ssl.cert_time_to_seconds(line.split("=", 1)[1]) for line in lines if "=" in line]
        hashes = [line for line in lines if line and "=" not in line]
        self.begins, self.ends = dates
        self.self_signed = hashes[0] == hashes[1]


def path(domain: str, kind: str) -> str:
    """Path of a domain's certificate (crt), private key (key) or CA (ca)."""
    return "{}.{}".format(paths.certificate(domain), kind)


def _folder() -> str:
    return os.path.dirname(paths.certificate(""))


def are_in_place(given: Given) -> bool:
    """Whether the given certificates and keys are in place."""
    return all(files.text(file) == text for file, text, _ in _texts(given))


def put(given: Given, domains: Iterable[str], own: Iterable[str]) -> Dict[str, Optional[str]]:
    """Put the given certificates in place. Returns the files as they were, for put_back.

    domains: which need a given certificate. own: which begin with a self-signed certificate.
    Raises ReleaseError, with nothing changed.
    """
    missing = [domain for domain in domains if domain not in given and not _whole(domain)]
    if missing:
        raise ReleaseError(
            "no certificate of {} on standard input".format(", ".join(missing)), then="run up again, which sends it"
        )
    if (given or own) and not os.path.isdir(_folder()):
        os.mkdir(_folder(), 0o700)
    new = _texts(given) + [part for domain in own if not _whole(domain) for part in _self_signed(domain)]
    before = {file: files.text(file) for file, _, _ in new}
    try:
        for file, text, mode in new:
            files.write(file, text, mode)
    except BaseException:
        put_back(before)
        raise
    return before


def put_back(before: Dict[str, Optional[str]]) -> None:
    """Leave the certificates as they were. before: path → text, None for a file that was not there."""
    for file, text in before.items():
        if text is None:
            files.remove(file)
        else:
            files.write(file, text, _mode(file))


def remove_others(domains: Iterable[str]) -> None:
    """Remove the files that belong to no domain of this machine, and those that a killed run left."""
    kept = [path(domain, kind) for domain in domains for kind in ("crt", "key", "ca")]
    for name in os.listdir(_folder()) if os.path.isdir(_folder()) else ():
        if os.path.join(_folder(), name) not in kept:
            files.remove(os.path.join(_folder(), name))


def request(domain: str, scratch: str) -> str:
    """A certificate signing request for the domain's key, in a file of the folder `scratch`. Returns its path."""
    made = os.path.join(scratch, "request.csr")
    config = _config(domain, scratch)
    run("openssl", "req", "-new", "-sha256", "-key", path(domain, "key"), "-config", config, "-out", made)
    return made


def replace(domain: str, chain: str, nginx: Nginx) -> None:
    """Replace the certificate of a domain. chain: for the same key, as PEM text.

    Raises ReleaseError with the old certificate in place.
    """
    file = path(domain, "crt")
    before = {file: files.text(file)}
    files.write(file + ".got", chain, 0o644)
    try:
        certified = run("openssl", "x509", "-noout", "-pubkey", "-in", file + ".got")
        if certified != run("openssl", "pkey", "-pubout", "-in", path(domain, "key")):
            raise ReleaseError("the CA's certificate is not for this machine's key")
        os.rename(file + ".got", file)
        try:
            nginx.check(NGINX_CONF)
            if nginx.workers():
                nginx.reload()
        except BaseException:
            put_back(before)
            raise
    finally:
        files.remove(file + ".got")


def _texts(given: Given) -> List[_File]:
    """The files of given certificates. The key comes first, because a key without its certificate does no harm."""
    return [
        (path(domain, kind), pair[name], _mode(path(domain, kind)))
        for domain, pair in sorted(given.items())
        for kind, name in (("key", "private_key"), ("crt", "certificate"))
    ]


def _self_signed(domain: str) -> List[_File]:
    scratch = tempfile.mkdtemp(prefix="new-", dir=_folder())
    key, certificate = os.path.join(scratch, "key"), os.path.join(scratch, "crt")
    try:
        run("openssl", "ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", key)
        options = ("-days", _SELF_SIGNED_DAYS, "-key", key, "-config", _config(domain, scratch), "-out", certificate)
        run("openssl", "req", "-new", "-x509", "-sha256", *options)
        pair = {"certificate": files.text(certificate) or "", "private_key": files.text(key) or ""}
        return _texts({domain: pair})
    finally:
        shutil.rmtree(scratch)


def _config(domain: str, scratch: str) -> str:
    config = os.path.join(scratch, "request.cnf")
    # A common name has at most 64 characters. Clients read only the alternative name.
    name = "CN = " + domain if len(domain) <= 64 else "O = wsgi-ecs"
    files.write(config, _REQUEST.format(name, domain), 0o600)
    return config


def _whole(domain: str) -> bool:
    return all(os.path.exists(path(domain, kind)) for kind in ("crt", "key"))


def _mode(file: str) -> int:
    return 0o600 if file.endswith(".key") else 0o644


def place_authority(certificate: str) -> List[str]:
    """Write the certificate by which applications recognise their database's server. Returns the path of its file.

    certificate: Base64, one line; several have commas between them. "" removes the file as soon as no application's
    environment names it.
    """
    path = paths.MYSQL_CA
    if certificate:
        if files.text(path) != _pem(certificate):
            files.write(path, _pem(certificate), 0o644)
    elif not any(path in (files.text(paths.env_file(site)) or "") for site in files.site_names()):
        files.remove(path)
    return [path] if os.path.exists(path) else []


def has_authority(certificate: str, written: Dict[str, str]) -> bool:
    """Whether place_authority has nothing to do. written: path → digest, as the last run has noted them."""
    text = files.text(paths.MYSQL_CA)
    if text != (_pem(certificate) if certificate else None):
        return False
    return written.get(paths.MYSQL_CA) == (None if text is None else files.digest(text))


def _pem(certificates: str) -> str:
    return "".join(map(_armoured, certificates.split(",")))


def _armoured(certificate: str) -> str:
    lines = [certificate[start : start + 64] for start in range(0, len(certificate), 64)]
    return "\n".join(["-----BEGIN CERTIFICATE-----", *lines, "-----END CERTIFICATE-----", ""])
