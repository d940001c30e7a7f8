"""The release tool: puts one release live on this machine, or leaves the old one serving.

    release.py apply FOLDER < {"env": {...}}

FOLDER holds an unpacked release: manifest.json, release.json, app/, config/, tool/. The
new release starts beside the old one in the other slot, is asked for its health, and only
then gets the traffic by one switch. Whatever fails before or after that ends with the old
release serving. Applying the release that serves changes nothing, unless the environment
on standard input changed. Run as root. Python 3.6, standard library only.
"""

import fcntl
import grp
import hashlib
import hmac
import json
import os
import pwd
import re
import shutil
import sys
import time

import facts
import probe
from servers import Nginx, ReleaseError, Supervisor, run, tail

ROOT = "/srv/wsgi-ecs"
ETC = "/etc/wsgi-ecs"
LOCK = "/run/lock/wsgi-ecs-release.lock"
PYTHON = "/usr/bin/python3"
START_SECONDS = 60.0
# An application may answer 503 for a moment while it warms up.
SETTLE_SECONDS = 3.0


def say(text):
    print("wsgi-ecs: " + text, flush=True)


def read_json(path):
    with open(path, encoding="utf-8") as file:
        return json.load(file)


def write(path, text, mode, group="root"):
    """Replace a file at once: a reader sees the old or the new one, whole and with its final mode."""
    new = path + ".new"
    descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
    own(new, group, mode)
    os.rename(new, path)


def own(path, group, mode):
    if os.geteuid() == 0:
        os.chown(path, 0, grp.getgrnam(group).gr_gid)
    os.chmod(path, mode)


def link(target, path):
    """Point a symbolic link elsewhere at once."""
    new = path + ".new"
    if os.path.lexists(new):
        os.unlink(new)
    os.symlink(target, new)
    os.rename(new, path)


def verify(folder):
    """Hold every file against the manifest. Returns the release's id; raises ReleaseError."""
    manifest = read_json(os.path.join(folder, "manifest.json"))
    for name, (_, digest) in manifest["files"].items():
        try:
            with open(os.path.join(folder, name), "rb") as file:
                found = hashlib.sha256(file.read()).hexdigest()
        except OSError as error:
            raise ReleaseError("the release is incomplete: {}".format(error)) from error
        if found != digest:
            raise ReleaseError("the release is damaged: {} is not what was sent".format(name))
    return manifest["id"]


class Site:
    """One site's releases and slots on this machine."""

    def __init__(self, name, supervisor, nginx):
        self.folder = os.path.join(ROOT, name)
        self.releases = os.path.join(self.folder, "releases")
        self.env_file = os.path.join(ETC, name + ".env.json")
        self.supervisor = supervisor
        self.nginx = nginx

    def slot_dir(self, slot):
        return os.path.join(self.folder, "slots", slot)

    def current(self):
        """State of the slot that serves: release, slot, program, supervisor_file, env; {} when none does."""
        try:
            return read_json(os.path.join(self.folder, "current", "state.json"))
        except (OSError, ValueError):
            return {}

    def install(self, incoming, identifier):
        """Copy a release to its place, readable by the shared group and writable by nobody but root."""
        target = os.path.join(self.releases, identifier)
        if os.path.exists(target):
            return target
        draft = target + ".new"
        shutil.rmtree(draft, ignore_errors=True)
        shutil.copytree(incoming, draft)
        for folder, _, files in os.walk(draft):
            own(folder, "wsgi", 0o750)
            for name in files:
                path = os.path.join(folder, name)
                own(path, "wsgi", 0o750 if os.stat(path).st_mode & 0o100 else 0o640)
        os.rename(draft, target)
        return target

    def write_env(self, env):
        """Write the environment's file. Returns its keyed digest: the key never leaves this machine."""
        key_file = os.path.join(ETC, "digest.key")
        if not os.path.exists(key_file):
            write(key_file, os.urandom(32).hex(), 0o600)
        with open(key_file) as file:
            key = bytes.fromhex(file.read())
        text = json.dumps(env, sort_keys=True)
        write(self.env_file, text, 0o640, "wsgi-app")
        return hmac.new(key, text.encode(), "sha256").hexdigest()

    def fill(self, target, release, identifier, slot, venv):
        """Write a slot: the release's configs with this machine's facts. Returns the slot's state."""
        known = {
            "slot": slot,
            "release": identifier,
            "release_dir": target,
            "slot_dir": self.slot_dir(slot),
            "venv": venv,
            "cpus": str(facts.cpus()),
            "somaxconn": str(facts.somaxconn()),
        }
        for name, ports in release["ports"].items():
            known[name] = str(facts.free_port(ports))

        def filled(text):
            text = re.sub("@@([a-z_]+)@@", lambda match: known.get(match.group(1), match.group(0)), text)
            if "@@" in text:
                raise ReleaseError("the release names a fact that this machine does not have", text)
            return text

        folder = self.slot_dir(slot)
        shutil.rmtree(folder, ignore_errors=True)
        os.makedirs(folder)
        own(folder, "wsgi", 0o750)
        configs = os.path.join(target, "config")
        for name in sorted(os.listdir(configs)):
            with open(os.path.join(configs, name), encoding="utf-8") as file:
                write(os.path.join(folder, name), filled(file.read()), 0o640, "wsgi")
        state = {"release": identifier, "slot": slot, "facts": known}
        for name in ("program", "supervisor_file", "socket", "log"):
            state[name] = filled(release[name])
        return state

    def save(self, state):
        write(os.path.join(self.slot_dir(state["slot"]), "state.json"), json.dumps(state, indent=1), 0o640, "wsgi")

    def start(self, state, request):
        """Start the slot's program beside the old one and wait until it is healthy. Raises ReleaseError."""
        offset = os.path.getsize(state["log"]) if os.path.exists(state["log"]) else 0
        link(os.path.join(self.slot_dir(state["slot"]), "supervisor.conf"), state["supervisor_file"])
        self.supervisor.add(state["program"])
        deadline = time.monotonic() + START_SECONDS
        settled = None
        while True:
            problem = None
            try:
                answer = probe.through_uwsgi(state["socket"], request["host"], request["path"])
                if answer.good:
                    return
                problem = "the application answers {} with {}".format(request["path"], answer)
                settled = settled or time.monotonic() + SETTLE_SECONDS
            except OSError as error:
                problem = "the application does not answer: {}".format(error)
            condition = self.supervisor.state(state["program"])
            if condition in ("BACKOFF", "FATAL", "EXITED", None):
                problem = "the application does not start (supervisor: {})".format(condition)
            elif time.monotonic() < (settled or deadline):
                time.sleep(0.1)
                continue
            raise ReleaseError(problem, tail(state["log"], offset))

    def switch(self, state, request):
        """Give the traffic to the slot and ask through the entrance. Returns nginx's old workers."""
        offset = os.path.getsize(state["log"]) if os.path.exists(state["log"]) else 0
        link("slots/" + state["slot"], os.path.join(self.folder, "current"))
        link(os.path.join(self.folder, "current", "nginx.conf"), "/etc/nginx/nginx.conf")
        old = self.nginx.reload()
        try:
            answer = probe.through_entrance(request["port"], request["host"], request["path"])
        except OSError as error:
            raise ReleaseError("nginx does not answer: {}".format(error), tail(self.nginx.error_log)) from error
        if not answer.good:
            raise ReleaseError(
                "{} through nginx gives {}".format(request["path"], answer),
                tail(state["log"], offset) + "\n" + tail(self.nginx.error_log, lines=5),
            )
        return old

    def serves(self, state, request):
        """Whether the slot's program runs and the site answers with health."""
        try:
            return (
                self.supervisor.state(state["program"]) == "RUNNING"
                and probe.through_entrance(request["port"], request["host"], request["path"]).good
            )
        except OSError:
            return False

    def prune(self, keep, identifier):
        """Remove releases beyond the newest `keep`, and the virtual environments none of them uses."""
        names = [name for name in os.listdir(self.releases) if not name.endswith(".new")]
        names.sort(key=lambda name: os.stat(os.path.join(self.releases, name)).st_mtime, reverse=True)
        names.remove(identifier)
        for name in names[keep - 1 :]:
            shutil.rmtree(os.path.join(self.releases, name), ignore_errors=True)
        used = {
            os.path.basename(os.path.realpath(os.path.join(self.releases, n, "venv")))
            for n in os.listdir(self.releases)
        }
        venvs = os.path.join(ROOT, "venvs")
        for name in os.listdir(venvs):
            # The bootstrap's own is kept: a server without a release needs it.
            if name.split(".")[0] not in used | {"bootstrap"}:
                path = os.path.join(venvs, name)
                shutil.rmtree(path, ignore_errors=True) if os.path.isdir(path) else os.unlink(path)
        incoming = os.path.join(ROOT, "incoming")
        for name in os.listdir(incoming):
            if not name.startswith(identifier):
                path = os.path.join(incoming, name)
                shutil.rmtree(path, ignore_errors=True) if os.path.isdir(path) else os.unlink(path)


def make_venv(release, target):
    """The virtual environment of (pins, requirements, Python, OS), built once. Returns its path.

    pip runs as the build user; the list of what it installed stands beside the environment.
    """
    requirements = os.path.join(target, "app", release["requirements"])
    inputs = [
        release["system"],
        sys.version,
        release["build_pins"],
        release["server_pin"],
        requirement_texts(requirements),
    ]
    name = hashlib.sha256(json.dumps(inputs).encode()).hexdigest()[:16]
    path = os.path.join(ROOT, "venvs", name)
    frozen = path + ".freeze.txt"
    venv_link = os.path.join(target, "venv")
    if not os.path.lexists(venv_link):
        os.symlink(path, venv_link)
    if os.path.exists(frozen):
        return path
    say("making a virtual environment with {} and {}".format(release["server_pin"], release["requirements"]))
    shutil.rmtree(path, ignore_errors=True)
    os.mkdir(path, 0o755)
    builder = Builder()
    builder.own(path)
    builder.run(PYTHON, "-m", "venv", path)
    pip = [path + "/bin/pip", "install", "-q", "--disable-pip-version-check", "--no-warn-script-location"]
    builder.run(*(pip + release["build_pins"]))
    builder.run(*(pip + ["--no-build-isolation", release["server_pin"]]))
    builder.run(*(pip + ["-r", requirements]), cwd=os.path.dirname(requirements))
    write(frozen, builder.run(path + "/bin/pip", "freeze", "--disable-pip-version-check"), 0o644)
    return path


def requirement_texts(path):
    """Text of a requirements file and of those it names with -r or -c, as they decide what is installed."""
    with open(path, encoding="utf-8") as file:
        text = file.read()
    texts = [text]
    for name in re.findall(r"^\s*(?:-r|-c|--requirement|--constraint)[ =]\s*(\S+)", text, re.MULTILINE):
        named = os.path.join(os.path.dirname(path), name)
        if os.path.isfile(named):
            texts += requirement_texts(named)
    return texts


class Builder:
    """Runs programs as the build user: code from a package index never runs as root."""

    NAME = "wsgi-build"

    def __init__(self):
        self.user = pwd.getpwnam(self.NAME)

    def own(self, path):
        os.chown(path, self.user.pw_uid, self.user.pw_gid)

    def run(self, *command, **options):
        def become():
            os.setsid()
            os.initgroups(self.NAME, self.user.pw_gid)
            os.setgid(self.user.pw_gid)
            os.setuid(self.user.pw_uid)

        environment = {"HOME": self.user.pw_dir, "PATH": "/usr/local/bin:/usr/bin:/bin", "LANG": "C.UTF-8"}
        for name, value in os.environ.items():
            if name.lower().endswith("_proxy") or name.startswith("PIP_"):
                environment[name] = value
        options.setdefault("cwd", "/")
        return run(*command, preexec_fn=become, env=environment, **options)


def apply(folder, secrets):
    """Put the release in `folder` live. Raises ReleaseError with the old release serving."""
    identifier = verify(folder)
    release = read_json(os.path.join(folder, "release.json"))
    site = Site(release["site"], Supervisor(), Nginx())
    request = release["probe"]
    old = site.current()
    environment = site.write_env(secrets.get("env", {}))
    if (old.get("release"), old.get("env")) == (identifier, environment):
        if site.serves(old, request):
            say("release {} serves already: nothing to do".format(identifier))
            return
    target = site.install(folder, identifier)
    venv = make_venv(release, target)
    slot = "b" if old.get("slot") == "a" else "a"
    state = site.fill(target, release, identifier, slot, venv)
    state["env"] = environment
    site.save(state)
    # What a run that was killed left behind.
    site.supervisor.remove(state["program"], state["supervisor_file"])
    site.nginx.check(os.path.join(site.slot_dir(slot), "nginx.conf"))
    say("starting release {} beside {}".format(identifier, old.get("release", "nothing")))
    try:
        site.start(state, request)
        say("it is healthy; giving it the traffic")
        workers = site.switch(state, request)
    except BaseException:
        if old:
            link("slots/" + old["slot"], os.path.join(site.folder, "current"))
            site.nginx.reload()
        site.supervisor.remove(state["program"], state["supervisor_file"])
        raise
    if old:
        site.nginx.drain(workers, release["stop_seconds"])
        site.supervisor.remove(old["program"], old["supervisor_file"])
    os.utime(target, None)
    site.prune(release["keep"], identifier)
    say("release {} serves".format(identifier))


def main(arguments):
    """Returns the exit status: 0 the release serves, 1 it was refused."""
    if len(arguments) != 2 or arguments[0] != "apply":
        print(__doc__, file=sys.stderr)
        return 2
    secrets = json.loads(sys.stdin.read() or "{}")
    with open(LOCK, "w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            print(
                "wsgi-ecs: another release is being applied on this machine; try again when it has ended",
                file=sys.stderr,
            )
            return 1
        try:
            apply(arguments[1], secrets)
        except ReleaseError as error:
            print("wsgi-ecs: release refused, the one before it still serves: {}".format(error), file=sys.stderr)
            if error.lines.strip():
                print(error.lines.strip(), file=sys.stderr)
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
