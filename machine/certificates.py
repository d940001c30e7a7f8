"""The certificates of this machine's domains, and their private keys.

/etc/wsgi-ecs/tls/<domain>.crt   what nginx sends: the certificate and those between it and its root (0644)
/etc/wsgi-ecs/tls/<domain>.key   root's alone (0600)
/etc/wsgi-ecs/tls/<domain>.ca    directory of the CA that was asked for it (acme.py)

A domain whose certificate is still to come has one that has signed itself, so that nginx's configuration is
the same from the first second. Python 3.6, standard library only.
"""

import os
import shutil
import ssl
import tempfile

import files
from servers import NGINX_CONF, ReleaseError, run

_SELF_SIGNED_DAYS = "365"
# Options that say the same are unknown to OpenSSL 1.0.2.
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


class Certificate:
    """begins, ends: seconds since the epoch. self_signed: nobody has vouched for it."""

    def __init__(self, domain):
        options = ("-startdate", "-enddate", "-subject_hash", "-issuer_hash", "-in", path(domain, "crt"))
        lines = run("openssl", "x509", "-noout", *options).split("\n")
        dates = [ssl.cert_time_to_seconds(line.split("=", 1)[1]) for line in lines if "=" in line]
        hashes = [line for line in lines if line and "=" not in line]
        self.begins, self.ends = dates
        self.self_signed = hashes[0] == hashes[1]


def path(domain, kind):
    """Path of a domain's certificate (crt) or private key (key)."""
    return os.path.join(_folder(), "{}.{}".format(domain.replace("*", "_"), kind))


def _folder():
    return os.path.join(files.ETC, "tls")


def same(given):
    """Whether the given ones are in place. given: domain → {"certificate", "private_key"}, PEM texts."""
    return all(_read(file) == text for file, text, _ in _texts(given))


def put(given, domains, own):
    """Put the given ones in place. Returns what stood there, for give_back.

    domains: that need a given one. own: that begin with one of their own. Raises ReleaseError, with nothing changed.
    """
    missing = [domain for domain in domains if domain not in given and not _whole(domain)]
    if missing:
        raise ReleaseError(
            "no certificate of {} on standard input".format(", ".join(missing)), then="run up again, which sends it"
        )
    if (given or own) and not os.path.isdir(_folder()):
        os.mkdir(_folder(), 0o700)
    wanted = _texts(given) + [part for domain in own if not _whole(domain) for part in _self_signed(domain)]
    before = {file: _read(file) for file, _, _ in wanted}
    try:
        for file, text, mode in wanted:
            files.write(file, text, mode)
    except BaseException:
        give_back(before)
        raise
    return before


def give_back(before):
    """Leave the certificates as they were."""
    for file, text in before.items():
        if text is None:
            files.remove(file)
        else:
            files.write(file, text, _mode(file))


def remove_others(domains):
    """Remove what belongs to no domain of this machine, and what a killed run left."""
    kept = [path(domain, kind) for domain in domains for kind in ("crt", "key", "ca")]
    for name in os.listdir(_folder()) if os.path.isdir(_folder()) else ():
        if os.path.join(_folder(), name) not in kept:
            files.remove(os.path.join(_folder(), name))


def request(domain, scratch):
    """A certificate signing request for the domain's key, in a file of the folder `scratch`. Returns its path."""
    made = os.path.join(scratch, "request.csr")
    config = _config(domain, scratch)
    run("openssl", "req", "-new", "-sha256", "-key", path(domain, "key"), "-config", config, "-out", made)
    return made


def replace(domain, chain, nginx):
    """Put a certificate for the domain's key in place of the one that serves.

    Raises ReleaseError with the old one in place.
    """
    file = path(domain, "crt")
    before = {file: _read(file)}
    files.write(file + ".got", chain, 0o644)
    try:
        certified = run("openssl", "x509", "-noout", "-pubkey", "-in", file + ".got")
        if certified != run("openssl", "pkey", "-pubout", "-in", path(domain, "key")):
            raise ReleaseError("it is not for this machine's key")
        os.rename(file + ".got", file)
        try:
            nginx.check(NGINX_CONF)
            if nginx.workers():
                nginx.reload()
        except BaseException:
            give_back(before)
            raise
    finally:
        files.remove(file + ".got")


def _texts(given):
    """Path, text and mode of each file. The key first: without its certificate it is of no use to anybody."""
    return [
        (path(domain, kind), pair[name], _mode(path(domain, kind)))
        for domain, pair in sorted(given.items())
        for kind, name in (("key", "private_key"), ("crt", "certificate"))
    ]


def _self_signed(domain):
    scratch = tempfile.mkdtemp(prefix="new-", dir=_folder())
    key, certificate = os.path.join(scratch, "key"), os.path.join(scratch, "crt")
    try:
        run("openssl", "ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", key)
        options = ("-days", _SELF_SIGNED_DAYS, "-key", key, "-config", _config(domain, scratch), "-out", certificate)
        run("openssl", "req", "-new", "-x509", "-sha256", *options)
        return _texts({domain: {"certificate": _read(certificate), "private_key": _read(key)}})
    finally:
        shutil.rmtree(scratch)


def _config(domain, scratch):
    config = os.path.join(scratch, "request.cnf")
    # A common name ends at 64 characters, and nobody reads it: the name that counts is the alternative one.
    name = "CN = " + domain if len(domain) <= 64 else "O = wsgi-ecs"
    files.write(config, _REQUEST.format(name, domain), 0o600)
    return config


def _whole(domain):
    return all(os.path.exists(path(domain, kind)) for kind in ("crt", "key"))


def _mode(file):
    return 0o600 if file.endswith(".key") else 0o644


def _read(file):
    try:
        with open(file, encoding="utf-8") as stream:
            return stream.read()
    except FileNotFoundError:
        return None
