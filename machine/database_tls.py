"""The certificate of this machine's database, which the machine makes itself and keeps with the data.

    /srv/data/tls/mysql.crt    self-signed, of the name by which the applications know the machine; they trust only it
    /srv/data/tls/mysql.key    (mysql 0400)

Python 3.6, standard library only.
"""

import base64
import hashlib
import os
import pwd
import re
from typing import Optional

import files
from commands import ReleaseError, Say, run
from contract import paths
from contract.resources import DATABASE_MACHINE

FOLDER = os.path.join(paths.DATA, "tls")
# The options of OpenSSL 1.0.2, CentOS 7's. Python 3.13 wants all these extensions of what it is told to trust.
_CONFIG = """\
[req]
distinguished_name = name
x509_extensions = extensions
prompt = no
[name]
CN = {name}
[extensions]
basicConstraints = critical, CA:true
keyUsage = critical, digitalSignature, keyEncipherment, keyCertSign
extendedKeyUsage = serverAuth
subjectKeyIdentifier = hash
subjectAltName = DNS:{name}
"""
# It is renewed by nobody: who trusts it trusts this certificate alone, and not those that it could sign.
_DAYS = "36500"
# Begins the line of MySQL's configuration that has the digest of the certificate.
_MARK = "# certificate"


def prepare() -> None:
    """Make key and certificate, unless they are there. Raises ReleaseError or OSError."""
    if os.path.exists(path("crt")):
        return
    if not os.path.isdir(FOLDER):
        os.mkdir(FOLDER)
    files.own(FOLDER, "root", 0o755)
    config, key, made = (os.path.join(FOLDER, name) for name in ("config", "key.new", "crt.new"))
    try:
        files.write(config, _CONFIG.format(name=DATABASE_MACHINE), 0o600)
        os.close(os.open(key, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600))
        run(
            "openssl", "req", "-x509", "-new", "-newkey", "rsa:2048", "-nodes", "-sha256", "-days", _DAYS,
            "-config", config, "-keyout", key, "-out", made,
        )  # fmt: skip
        os.chmod(key, 0o400)
        if os.geteuid() == 0:
            account = pwd.getpwnam("mysql")
            os.chown(key, account.pw_uid, account.pw_gid)
        os.chmod(made, 0o644)
        os.rename(key, path("key"))
        # Who finds the certificate finds its key.
        os.sync()
        os.rename(made, path("crt"))
    finally:
        for name in (config, key, made):
            files.remove(name)


def tell(say: Say) -> None:
    """Print the certificate in a line that the program reads (components/release.py). Raises ReleaseError."""
    text = re.sub(r"-----[^-]+-----|\s", "", files.text(path("crt")) or "")
    try:
        base64.b64decode(text, validate=True)
    except ValueError:
        text = ""
    if not text:
        raise ReleaseError(
            "{} is no certificate".format(path("crt")),
            then="remove the file on the server, and run up again, which makes another certificate",
        )
    say("certificate of the database: " + text)


def with_certificate(config: str) -> str:
    """A configuration of MySQL that names the certificate by its digest: with another one it is another text."""
    digest = hashlib.sha256((files.text(path("crt")) or "").encode()).hexdigest()
    return "{}{} {}\n".format(config, _MARK, digest)


def kept(config: str, before: Optional[str]) -> str:
    """A configuration of MySQL with the lines about TLS that the one before has, as far as they still hold."""
    lines = [line for line in (before or "").splitlines() if line.startswith((_MARK, "ssl_"))]
    return config + "".join(line + "\n" for line in lines if os.path.exists(path("crt")))


def path(kind: str) -> str:
    """Path of the certificate (crt) or of its private key (key)."""
    return os.path.join(FOLDER, "mysql." + kind)
