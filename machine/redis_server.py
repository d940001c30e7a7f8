"""Redis on this machine: its package, its unit, its configuration, and the password that the applications have.

    /etc/wsgi-ecs/redis.conf     configuration with the password (root:redis 0640)
    /var/lib/wsgi-ecs/redis/     data: either dump.rdb or append-only files, whichever redis.persistence chooses

What can change while Redis runs is changed so; anything else restarts it. Python 3.6, standard library only.
"""

import glob
import os
import pwd
import re
import socket
import time
from typing import Dict, List, Optional, Tuple

import facts
import files
import packages
from commands import ReleaseError, Say, roll_back, run
from contract import paths
from contract.codec import decode
from contract.documents import HOST_FILE
from contract.service_documents import Redis
from unpacked import Unpacked

# The environment variable by which an application finds the Redis of its own machine.
VARIABLE = "REDIS_URL"
UNIT = "wsgi-ecs-redis"
UNIT_FILE = "/etc/systemd/system/wsgi-ecs-redis.service"
USER = "redis"
# Directives that CONFIG SET changes while Redis runs.
_LIVE = {"requirepass", "user", "maxmemory", "maxmemory-policy", "save", "appendonly"}
# Seconds until Redis has loaded its data, or has written them in their other form.
_PATIENCE = 300


def prepare(redis: Optional[Redis], say: Say) -> List[str]:
    """Bring the Redis of the applications' machine to what the release says. Returns the paths of its files.

    Without one in the release, it goes when no site uses it any more. Raises ReleaseError.
    """
    if redis is not None:
        return bring(redis, None, say)
    if os.path.exists(UNIT_FILE) and is_used():
        say("Redis goes when no site uses it any more")
    else:
        remove(say)
    return []


def prepare_alone(unpacked: Unpacked, password: str, say: Say) -> List[str]:
    """Bring Redis on a machine of its own to what the release says. Returns the paths of its files.

    The passwords before are valid until drop_old_credentials. Raises ReleaseError.
    """
    written = bring(decode(Redis, unpacked.text(HOST_FILE)), password, say)
    say("Redis is ready")
    return written


def drop_old_credentials(unpacked: Unpacked, password: str, say: Say) -> None:
    """End the passwords before. Raises ReleaseError or OSError."""
    directives = read(files.text(paths.REDIS_CONFIG))
    if directives.pop("user", None):
        Client(directives).ask("ACL", "SETUSER", "default", "resetpass", ">" + directives["requirepass"])
        write(directives)


def bring(redis: Redis, password: Optional[str], say: Say) -> List[str]:
    """Have Redis run as the release says. password: None for one that it makes itself, and keeps."""
    # The package would start a Redis of its own, without a password, on the same port.
    run("systemctl", "mask", "-q", redis.os_service, check=False)
    packages.install(redis.packages, say)
    run("systemctl", "stop", redis.os_service, check=False)
    make_folder(redis.directives["dir"])
    old = read(files.text(paths.REDIS_CONFIG))
    known = {part + "_memory": str(max(64, facts.memory() // by)) for part, by in (("half", 2), ("quarter", 4))}
    new = {name: facts.fill(value, known) for name, value in redis.directives.items()}
    new["requirepass"] = password or old.get("requirepass") or os.urandom(24).hex()
    earlier = [known_password for known_password in passwords(old) if known_password != new["requirepass"]]
    if earlier and version() >= (6, 0):
        new["user"] = user([new["requirepass"], *earlier], version())
    is_same_unit = files.text(UNIT_FILE) == redis.unit
    if not is_same_unit:
        files.write(UNIT_FILE, redis.unit, 0o644)
    run("systemctl", "daemon-reload")
    run("systemctl", "enable", "-q", UNIT)
    if not is_same_unit or not change(old, new):
        say("starting Redis")
        replace(old, new)
    remove_other_form(new)
    return [UNIT_FILE, paths.REDIS_CONFIG]


def version() -> Tuple[int, ...]:
    """Major and minor version of Redis. Before 6.0 it has only one password. Raises ReleaseError."""
    found = re.search(r"v=(\d+)\.(\d+)", run("redis-server", "--version"))
    return tuple(map(int, found.groups())) if found else (0, 0)


def passwords(directives: Dict[str, str]) -> List[str]:
    """The passwords that a configuration accepts, the last one first."""
    if "user" in directives:
        return [word[1:] for word in directives["user"].split() if word.startswith(">")]
    return [directives["requirepass"]] if "requirepass" in directives else []


def user(accepted: List[str], of_version: Tuple[int, ...]) -> str:
    """Value of the directive by which the only user may do everything with any of the passwords."""
    channels = ["&*"] if of_version >= (6, 2) else []
    return " ".join(["default", "on", "~*", *channels, "+@all", *(">" + password for password in accepted)])


def is_used() -> bool:
    """Whether a site of this machine has its URL."""
    if not os.path.exists(paths.REDIS_CONFIG):
        return False
    address = url()
    return any(address in (files.text(paths.env_file(name)) or "") for name in files.site_names())


def remove_unused(say: Say) -> None:
    """End a Redis that the stack has no more, once no site uses it."""
    is_wanted = UNIT_FILE in files.host_state().written
    if os.path.exists(UNIT_FILE) and not is_wanted and not is_used():
        remove(say)


def remove(say: Say) -> None:
    """End Redis on a machine whose stack has none any more. Its data stay."""
    if os.path.exists(UNIT_FILE):
        run("systemctl", "disable", "--now", "-q", UNIT)
        files.remove(paths.REDIS_CONFIG)
        # A run that was killed before finds the unit, and begins again.
        files.remove(UNIT_FILE)
        run("systemctl", "daemon-reload")
        say("Redis is removed; its data stay in {}".format(paths.REDIS_DATA))


def url() -> str:
    """Where the applications of this machine reach its Redis. Raises ReleaseError."""
    directives = read(files.text(paths.REDIS_CONFIG))
    if not directives:
        raise ReleaseError("there is no Redis on this machine", then="raise release.generation, and run up again")
    return "redis://:{requirepass}@127.0.0.1:{port}/0".format(**directives)


def is_running() -> Optional[bool]:
    """Whether Redis answers, None where there is none."""
    if not os.path.exists(paths.REDIS_CONFIG):
        return None
    try:
        return Client(read(files.text(paths.REDIS_CONFIG))).ask("PING") == "PONG"
    except (OSError, ReleaseError):
        return False


def make_folder(folder: str) -> None:
    if not os.path.isdir(folder):
        os.mkdir(folder)
    os.chmod(folder, 0o700)
    if os.geteuid() == 0:
        account = pwd.getpwnam(USER)
        os.chown(folder, account.pw_uid, account.pw_gid)


def read(text: Optional[str]) -> Dict[str, str]:
    """Text of a configuration of this module → its directives; empty for no text."""
    lines = [line.partition(" ") for line in (text or "").splitlines() if not line.startswith("#")]
    return {name: "" if value == '""' else value for name, _, value in lines}


def write(directives: Dict[str, str]) -> None:
    lines = ["{} {}\n".format(name, value or '""') for name, value in sorted(directives.items())]
    text = "# Written by wsgi-ecs.\n" + "".join(lines)
    files.write(paths.REDIS_CONFIG, text, 0o640, USER)


def change(old: Dict[str, str], new: Dict[str, str]) -> bool:
    """Change what differs while Redis runs. Returns whether that was possible. Raises ReleaseError."""
    changed = {name for name in {*old, *new} if old.get(name) != new.get(name)}
    if "user" in new:
        # It holds the password, and sets it in one step with those that stay valid.
        changed -= {"requirepass"}
    if not changed <= _LIVE & set(new):
        return False
    try:
        client = Client(old)
        client.ask("PING")
    except (OSError, ReleaseError):
        return False
    set_live(client, {name: new[name] for name in changed})
    write(new)
    return True


def set_live(client: "Client", directives: Dict[str, str]) -> None:
    """Set directives in a Redis that runs. With another form of the data, all data are in it when this returns."""
    # `save` comes before `appendonly`, and the password last.
    for name in sorted(directives, key=lambda name: (name in ("requirepass", "user"), name == "appendonly", name)):
        if name == "user":
            client.ask("ACL", "SETUSER", "default", "resetpass", *directives[name].split()[1:])
            continue
        if (name, directives[name]) == ("appendonly", "no"):
            client.ask("SAVE")
        client.ask("CONFIG", "SET", name, directives[name])
        if (name, directives[name]) == ("appendonly", "yes"):
            wait_for_rewrite(client)


def wait_for_rewrite(client: "Client") -> None:
    deadline = time.monotonic() + _PATIENCE
    while time.monotonic() < deadline:
        found = dict(line.split(":", 1) for line in client.ask("INFO", "persistence").split("\r\n") if ":" in line)
        if found["aof_rewrite_in_progress"] == found["aof_rewrite_scheduled"] == "0":
            if found["aof_last_bgrewrite_status"] == "ok":
                return
            break
        time.sleep(0.2)
    raise ReleaseError(
        "Redis did not write its data in the other form",
        then="check the server's free memory and disk, or leave redis.persistence as it was",
    )


def replace(old: Dict[str, str], new: Dict[str, str]) -> None:
    """Start Redis with the new directives, or with the old ones if it does not start. Raises ReleaseError then."""
    try:
        start(new)
    except BaseException as error:
        if old:
            roll_back(error, lambda: start(old))
        else:
            run("systemctl", "disable", "--now", "-q", UNIT, check=False)
            files.remove(paths.REDIS_CONFIG)
            files.remove(UNIT_FILE)
        raise


def start(directives: Dict[str, str]) -> None:
    """Restart Redis with these directives, and wait until it answers.

    Redis reads only the form of the data that it is set to, and would begin with nothing if there is only the other
    form: it starts with the form that is there, and changes to the one that is wanted as it runs.
    """
    folder = directives["dir"]
    has_dump, has_log = os.path.exists(os.path.join(folder, "dump.rdb")), bool(_logs(folder))
    form = directives["appendonly"]
    if has_dump != has_log:
        form = "yes" if has_log else "no"
    began = time.time()
    write(dict(directives, appendonly=form))
    try:
        run("systemctl", "restart", UNIT)
        client = wait_for(directives)
    except ReleaseError as error:
        said = run("journalctl", "-u", UNIT, "-o", "cat", "--since=@%d" % began, check=False)
        raise ReleaseError(
            "Redis does not start",
            "\n".join(said.splitlines()[-20:]) or error.lines,
            "set another redis.port if the port is taken, and run up again",
        ) from None
    if form != directives["appendonly"]:
        set_live(client, {"appendonly": directives["appendonly"]})
        write(directives)


def wait_for(directives: Dict[str, str]) -> "Client":
    """Wait until Redis has loaded its data and answers. Raises ReleaseError."""
    deadline, refused = time.monotonic() + _PATIENCE, 0
    while time.monotonic() < deadline:
        try:
            client = Client(directives)
            client.ask("PING")
            return client
        except (OSError, ReleaseError) as error:
            # While it loads its data, it says so. A program that has taken the port says something else.
            refused += "LOADING" not in str(error)
            if refused > 100:
                break
        time.sleep(0.2)
    raise ReleaseError("Redis does not answer")


def remove_other_form(directives: Dict[str, str]) -> None:
    """Remove the form of the data that Redis does not write any more, so that no later start reads old data."""
    folder = directives["dir"]
    if directives["appendonly"] == "no":
        for path in _logs(folder):
            files.remove(path)
    if not directives["save"]:
        files.remove(os.path.join(folder, "dump.rdb"))


def _logs(folder: str) -> List[str]:
    """The append-only files, which Redis 7 has in a folder."""
    return glob.glob(os.path.join(folder, "appendonly*"))


class Client:
    """A connection to the Redis of this machine. The password goes through the socket, and into no command line."""

    def __init__(self, directives: Dict[str, str]) -> None:
        """Raise OSError when nothing listens, ReleaseError for a wrong password."""
        self.stream = socket.create_connection(("127.0.0.1", int(directives["port"])), timeout=_PATIENCE).makefile(
            "rwb"
        )
        self.ask("AUTH", directives["requirepass"])

    def ask(self, *words: str) -> str:
        """Send a command and return its answer, which is a text or a number. Raises OSError or ReleaseError.

        https://redis.io/docs/latest/develop/reference/protocol-spec/
        """
        parts = [word.encode() for word in words]
        self.stream.write(b"*%d\r\n" % len(parts) + b"".join(b"$%d\r\n%s\r\n" % (len(part), part) for part in parts))
        self.stream.flush()
        line = self.stream.readline().decode()
        if line.startswith("-"):
            # Only the name of the command is shown, because its words may hold the password.
            raise ReleaseError("Redis refused {}: {}".format(words[0], line[1:].strip()))
        if line.startswith("$"):
            return self.stream.read(int(line[1:]) + 2)[:-2].decode("utf-8", "replace")
        if line[:1] not in ("+", ":"):
            raise OSError("something else than Redis listens on its port" if line else "Redis closed the connection")
        return line[1:].strip()
