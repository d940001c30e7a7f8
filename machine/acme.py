"""Certificates that the machine asks a CA for (ACME, RFC 8555), when a third of their life is left.

/var/lib/wsgi-acme/account/      the account's key   (wsgi-acme)
/var/lib/wsgi-acme/challenges/   files that the CA requests on port 80, through nginx   (wsgi-acme)
/var/lib/wsgi-acme/<client>/     acme-tiny   (root)

This tool runs as root: it decides, holds the sites' private keys and installs. The client comes from a package
index, so it runs as wsgi-acme and sees no private key but its account's. Python 3.6, standard library only.
"""

import fcntl
import os
import re
import shutil
import subprocess
import tempfile
import time
from typing import Callable, ContextManager, Optional

import accounts
import builds
import certificates
import files
from commands import ReleaseError, Say, run
from contract import paths
from contract.codec import decode
from contract.documents import ACME_FILE, CONFIG_FOLDER, Acme
from nginx import Nginx
from unpacked import Unpacked
from venvs import Builder, names_only

LOCK = "/run/wsgi-ecs-acme.lock"
UNITS = "/etc/systemd/system"
_SECONDS = 120
_CERTIFICATE = re.compile("-----BEGIN CERTIFICATE-----.*?-----END CERTIFICATE-----\n", re.DOTALL)
# The explanation in the CA's problem document, which the client prints as a dict of Python.
_DETAIL = re.compile(r"""['"]detail['"]: (?:'((?:[^'\\]|\\.)*)'|"((?:[^"\\]|\\.)*)")""")


class Client(Builder):
    """Runs programs as the user that talks to the CA."""

    NAME = paths.ACME_USER


def settings() -> Optional[Acme]:
    """The document that is in place, None where the machine asks for no certificate."""
    try:
        return files.document(Acme, os.path.join(paths.host_root(), "current", ACME_FILE))
    except FileNotFoundError:
        return None


def prepare(unpacked: Unpacked, say: Say) -> None:
    """Make the client's user, its folders and the client itself, unless they are there. Raises ReleaseError."""
    pin = decode(Acme, unpacked.text(CONFIG_FOLDER + ACME_FILE)).client
    accounts.user(Client.NAME)
    client = Client()
    for folder, mode, is_own in ((paths.ACME, 0o755, False), (_account(), 0o700, True), (_challenges(), 0o755, True)):
        if not os.path.isdir(folder):
            os.mkdir(folder)
        os.chmod(folder, mode)
        if is_own:
            client.own(folder)
    target = _folder(pin)
    if not os.path.isdir(target):
        say("installing {}".format(*names_only([pin])))
        _install(pin, target)
    for name in os.listdir(paths.ACME):
        if os.path.join(paths.ACME, name) not in (target, _account(), _challenges()):
            files.remove(os.path.join(paths.ACME, name))


def _install(pin: str, target: str) -> None:
    builder = Builder()
    builder.end_leftovers()
    scratch = tempfile.mkdtemp(prefix="acme-", dir=builder.user.pw_dir)
    try:
        files.write(scratch + "/pin.txt", pin + "\n", 0o644)
        builder.own(scratch)
        pip = os.path.join(paths.venvs(), paths.BOOTSTRAP, "bin/pip")
        options = ("-q", "--disable-pip-version-check", "--no-deps", "--target", scratch + "/client")
        builder.run(pip, "install", *(options + ("-r", scratch + "/pin.txt")))
        builder.end_leftovers()
        files.remove(target + ".new")
        builds.install(scratch + "/client", target + ".new")
        os.rename(target + ".new", target)
    except ReleaseError as error:
        error.then = "fix the package index (server.mirrors.index), and run up again"
        raise
    finally:
        files.remove(scratch)


def schedule() -> None:
    """Start or remove the hourly timer. Its units come with what the machine's sites share."""
    timer = paths.ACME_UNIT + ".timer"
    here = os.path.join(paths.host_root(), "current")
    is_wanted = settings() is not None
    if not is_wanted:
        if not os.path.exists(os.path.join(UNITS, timer)):
            return
        run("systemctl", "disable", "-q", timer)
        run("systemctl", "stop", timer)
        run("systemctl", "reset-failed", paths.ACME_UNIT + ".service", check=False)
    for name in (paths.ACME_UNIT + ".service", timer):
        if is_wanted:
            with open(os.path.join(here, name), encoding="utf-8") as file:
                files.write(os.path.join(UNITS, name), file.read(), 0o644)
        else:
            files.remove(os.path.join(UNITS, name))
    run("systemctl", "daemon-reload")
    if is_wanted:
        run("systemctl", "enable", "-q", timer)
        run("systemctl", "restart", timer)


def renew(say: Say, acquire_lock: Callable[[], ContextManager[None]], new_nginx: Callable[[], Nginx]) -> int:
    """Ask for the certificates that are due. Returns the exit status: 1 when a certificate did not come.

    acquire_lock: makes a context in which no release changes anything. new_nginx: makes the nginx that serves then.
    """
    acme = settings()
    if acme is None:
        return 0
    with open(LOCK, "a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("another run is asking for certificates just now")
            return 0
        return max([_renew(domain, acme, say, acquire_lock, new_nginx) for domain in acme.domains])


def _renew(
    domain: str,
    acme: Acme,
    say: Say,
    acquire_lock: Callable[[], ContextManager[None]],
    new_nginx: Callable[[], Nginx],
) -> int:
    now = certificates.Certificate(domain)
    if not due(now) and issuer(domain) in (acme.directory, None):
        say("the certificate of {} is good until {}".format(domain, day(now)))
        return 0
    try:
        chain = _ask(domain, acme)
        with acquire_lock():
            # A release may have removed the domain while the CA was asked.
            acme_now = settings()
            if acme_now is None or domain not in acme_now.domains:
                return 0
            certificates.replace(domain, chain, new_nginx())
            files.write(certificates.path(domain, "ca"), acme.directory, 0o600)
    except (ReleaseError, OSError) as error:
        say(_failure(domain, now, error))
        return 1
    say("the certificate of {} is new, good until {}".format(domain, day(certificates.Certificate(domain))))
    return 0


def due(certificate: certificates.Certificate) -> bool:
    """Whether it is time for another certificate: only a third of this one's lifetime is left."""
    life = certificate.ends - certificate.begins
    return certificate.self_signed or time.time() > certificate.ends - life / 3


def issuer(domain: str) -> Optional[str]:
    """The directory of the CA that the domain's certificate is from, None when that was not noted."""
    return files.text(certificates.path(domain, "ca"))


def day(certificate: certificates.Certificate) -> str:
    return time.strftime("%Y-%m-%d", time.gmtime(certificate.ends))


def _ask(domain: str, acme: Acme) -> str:
    """The certificate for a domain's key and its intermediate certificates, as PEM text."""
    client = Client()
    for name in os.listdir(_challenges()):
        # Remove challenge files left by a failed run.
        files.remove(os.path.join(_challenges(), name))
    account = os.path.join(_account(), "account.key")
    if not os.path.exists(account):
        client.run("openssl", "genrsa", "-out", account + ".new", "4096")
        client.run("mv", account + ".new", account)
    trust = {}
    if acme.ca:
        trust["SSL_CERT_FILE"] = os.path.join(paths.host_root(), "current", acme.ca)
    scratch = tempfile.mkdtemp(prefix="wsgi-acme-")
    try:
        request = certificates.request(domain, scratch)
        os.chmod(request, 0o644)
        # The client's user must reach the request through this folder.
        os.chmod(scratch, 0o711)  # noqa: S103
        program = ("/usr/bin/python3", "-B", os.path.join(_folder(acme.client), "acme_tiny.py"), "--quiet")
        files_ = ("--account-key", account, "--csr", request, "--acme-dir", _challenges())
        # The CA reaches the machine's public address, which the machine itself may not.
        options = ("--disable-check", "--directory-url", acme.directory)
        answer = client.run(*(program + files_ + options), variables=trust, timeout=_SECONDS)
    except ReleaseError as error:
        was_unreachable = "Challenge did not pass" in error.lines
        then = "point the domain's DNS at this server and let everybody reach port 80" if was_unreachable else ""
        raise ReleaseError(reason(error.lines) or str(error), then=then) from error
    except subprocess.TimeoutExpired as error:
        raise ReleaseError("no answer within {} seconds".format(_SECONDS)) from error
    finally:
        shutil.rmtree(scratch)
    chain = "".join(_CERTIFICATE.findall(answer))
    if not chain:
        raise ReleaseError("the CA's answer holds no certificate")
    return chain


def _failure(domain: str, now: certificates.Certificate, error: Exception) -> str:
    """One line: what is wrong, which certificate serves meanwhile, what to do next."""
    again = "tried again within the hour"
    why = " ".join(": ".join([str(error)] + getattr(error, "lines", "").splitlines()[:1]).split())
    if now.self_signed:
        what = "the certificate of {} has not come yet, and browsers warn of the self-signed certificate".format(domain)
    else:
        what = "the certificate of {} is not renewed, and the old one is valid until {}".format(domain, day(now))
    then = getattr(error, "then", "")
    return "{}: {}; {}".format(what, why, "next: {}, it is {}".format(then, again) if then else again)


def reason(lines: str) -> str:
    """The reason in the client's traceback: the CA's own explanation, or why the CA did not answer."""
    found = _DETAIL.findall(lines)
    if found:
        return str(max(found[-1]))
    last = lines.strip().split("\n")[-1]
    return re.sub(r"^(?:Response: |\S*(?:Error|Exception): )|<urlopen error (?:\[Errno -?\d+\] )?|>$", "", last)


def _account() -> str:
    return os.path.join(paths.ACME, "account")


def _challenges() -> str:
    return os.path.join(paths.ACME, "challenges")


def _folder(pin: str) -> str:
    return os.path.join(paths.ACME, names_only([pin])[0].replace("==", "-"))
