"""Certificates that the machine asks a CA for (ACME, RFC 8555), when a third of their life is left.

/var/lib/wsgi-acme/account/      the account's key   (wsgi-acme)
/var/lib/wsgi-acme/challenges/   what the CA asks for on port 80, through nginx   (wsgi-acme)
/var/lib/wsgi-acme/<client>/     acme-tiny   (root)

This tool, root's, decides, holds the sites' private keys and installs. The client comes from a package index:
it runs as wsgi-acme, and sees no private key but its account's. Python 3.6, standard library only.
"""

import fcntl
import json
import os
import re
import shutil
import subprocess
import tempfile
import time

import accounts
import builds
import certificates
import files
from servers import ReleaseError, run
from venvs import Builder

ROOT = "/var/lib/wsgi-acme"
LOCK = "/run/wsgi-ecs-acme.lock"
UNIT = "wsgi-ecs-acme"
UNITS = "/etc/systemd/system"
_SECONDS = 120
_CERTIFICATE = re.compile("-----BEGIN CERTIFICATE-----.*?-----END CERTIFICATE-----\n", re.DOTALL)
# The words of a problem document, in the representation of a dict of Python's.
_DETAIL = re.compile(r"""['"]detail['"]: (?:'((?:[^'\\]|\\.)*)'|"((?:[^"\\]|\\.)*)")""")


class Client(Builder):
    """Runs programs as the user that talks to the CA."""

    NAME = "wsgi-acme"


def settings():
    """What is in place: domains, directory, ca (file name or None), client; None without a domain."""
    try:
        return files.read_json(os.path.join(files.host_root(), "current", "acme.json"))
    except FileNotFoundError:
        return None


def prepare(unpacked, say):
    """Make the client's user, its folders and the client itself, unless they are there. Raises ReleaseError."""
    wanted = json.loads(unpacked.read("config/acme.json").decode())["client"]
    accounts.user(Client.NAME)
    client = Client()
    for folder, mode, own in ((ROOT, 0o755, False), (_account(), 0o700, True), (_challenges(), 0o755, True)):
        if not os.path.isdir(folder):
            os.mkdir(folder)
        os.chmod(folder, mode)
        if own:
            client.own(folder)
    target = _folder(wanted)
    if not os.path.isdir(target):
        say("installing {}".format(wanted))
        _install(wanted, target)
    for name in os.listdir(ROOT):
        if os.path.join(ROOT, name) not in (target, _account(), _challenges()):
            files.remove(os.path.join(ROOT, name))


def _install(wanted, target):
    builder = Builder()
    builder.end_leftovers()
    scratch = tempfile.mkdtemp(prefix="acme-", dir=builder.user.pw_dir)
    try:
        builder.own(scratch)
        pip = os.path.join(files.ROOT, "venvs/bootstrap/bin/pip")
        options = ("-q", "--disable-pip-version-check", "--no-deps", "--target", scratch + "/client")
        builder.run(pip, "install", *(options + (wanted,)))
        builder.end_leftovers()
        files.remove(target + ".new")
        builds.install(scratch + "/client", target + ".new")
        os.rename(target + ".new", target)
    except ReleaseError as error:
        error.then = "mend the index (server.mirrors.index), and run up again"
        raise
    finally:
        files.remove(scratch)


def schedule():
    """Have systemd look hourly, or no more. The units come with what the machine's sites share."""
    timer = UNIT + ".timer"
    here = os.path.join(files.host_root(), "current")
    wanted = settings() is not None
    if not wanted:
        if not os.path.exists(os.path.join(UNITS, timer)):
            return
        run("systemctl", "disable", "-q", timer)
        run("systemctl", "stop", timer)
        run("systemctl", "reset-failed", UNIT + ".service", check=False)
    for name in (UNIT + ".service", timer):
        if wanted:
            with open(os.path.join(here, name), encoding="utf-8") as file:
                files.write(os.path.join(UNITS, name), file.read(), 0o644)
        else:
            files.remove(os.path.join(UNITS, name))
    run("systemctl", "daemon-reload")
    if wanted:
        run("systemctl", "enable", "-q", timer)
        run("systemctl", "restart", timer)


def renew(say, locked, nginx):
    """Ask for the certificates that are due. Returns the exit status: 1 when one did not come.

    locked: makes a context in which no release changes anything. nginx: makes the nginx that is to serve then.
    """
    found = settings()
    if found is None:
        return 0
    with open(LOCK, "a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("another run is asking for certificates just now")
            return 0
        return max([_renew(domain, found, say, locked, nginx) for domain in found["domains"]])


def _renew(domain, found, say, locked, nginx):
    now = certificates.Certificate(domain)
    if not due(now) and asked(domain) in (found["directory"], None):
        say("the certificate of {} is good until {}".format(domain, day(now)))
        return 0
    try:
        chain = _ask(domain, found)
        with locked():
            # While the CA was asked, a release may have changed all of it.
            if domain not in (settings() or {"domains": ()})["domains"]:
                return 0
            certificates.replace(domain, chain, nginx())
            files.write(certificates.path(domain, "ca"), found["directory"], 0o600)
    except (ReleaseError, OSError) as error:
        say(_failure(domain, now, error))
        return 1
    say("the certificate of {} is new, good until {}".format(domain, day(certificates.Certificate(domain))))
    return 0


def due(certificate):
    """Whether it is time for another: a third of its life is left, whatever the CA gives."""
    life = certificate.ends - certificate.begins
    return certificate.self_signed or time.time() > certificate.ends - life / 3


def asked(domain):
    """The directory of the CA that the domain's certificate is from, None when that was not noted."""
    try:
        with open(certificates.path(domain, "ca"), encoding="utf-8") as file:
            return file.read()
    except FileNotFoundError:
        return None


def day(certificate):
    return time.strftime("%Y-%m-%d", time.gmtime(certificate.ends))


def _ask(domain, found):
    """The certificate for a domain's key, with those between it and its root: PEM text."""
    client = Client()
    for name in os.listdir(_challenges()):
        # Of a run that failed.
        files.remove(os.path.join(_challenges(), name))
    account = os.path.join(_account(), "account.key")
    if not os.path.exists(account):
        client.run("openssl", "genrsa", "-out", account + ".new", "4096")
        client.run("mv", account + ".new", account)
    trust = {}
    if found["ca"]:
        trust["SSL_CERT_FILE"] = os.path.join(files.host_root(), "current", found["ca"])
    scratch = tempfile.mkdtemp(prefix="wsgi-acme-")
    try:
        request = certificates.request(domain, scratch)
        os.chmod(request, 0o644)
        # The client's user passes through to the request.
        os.chmod(scratch, 0o711)  # noqa: S103
        program = ("/usr/bin/python3", "-B", os.path.join(_folder(found["client"]), "acme_tiny.py"), "--quiet")
        files_ = ("--account-key", account, "--csr", request, "--acme-dir", _challenges())
        # The machine may not reach its own public address, as the CA does.
        options = ("--disable-check", "--directory-url", found["directory"])
        answer = client.run(*(program + files_ + options), variables=trust, timeout=_SECONDS)
    except ReleaseError as error:
        asked = "Challenge did not pass" in error.lines
        then = "point the domain's DNS at this server and let everybody reach port 80" if asked else ""
        raise ReleaseError(reason(error.lines) or str(error), then=then) from error
    except subprocess.TimeoutExpired as error:
        raise ReleaseError("no answer within {} seconds".format(_SECONDS)) from error
    finally:
        shutil.rmtree(scratch)
    chain = "".join(_CERTIFICATE.findall(answer))
    if not chain:
        raise ReleaseError("the CA's answer holds no certificate")
    return chain


def _failure(domain, now, error):
    """One line: what is the matter, what serves meanwhile, what to do."""
    again = "tried again within the hour"
    why = " ".join(": ".join([str(error)] + getattr(error, "lines", "").splitlines()[:1]).split())
    if now.self_signed:
        what = "the certificate of {} has not come yet, browsers warn of the one that has signed itself".format(domain)
    else:
        what = "the certificate of {} is not renewed, the one until {} stays".format(domain, day(now))
    then = getattr(error, "then", "")
    return "{}: {}; {}".format(what, why, "next: {}, it is {}".format(then, again) if then else again)


def reason(lines):
    """What the client's traceback says in the end: the CA's own words, or why it did not answer."""
    found = _DETAIL.findall(lines)
    if found:
        return max(found[-1])
    last = lines.strip().split("\n")[-1]
    return re.sub(r"^(?:Response: |\S*(?:Error|Exception): )|<urlopen error (?:\[Errno -?\d+\] )?|>$", "", last)


def _account():
    return os.path.join(ROOT, "account")


def _challenges():
    return os.path.join(ROOT, "challenges")


def _folder(client):
    return os.path.join(ROOT, client.replace("==", "-"))
