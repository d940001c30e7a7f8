"""A stack that is up and is broken on purpose, while requests go on: what each fault did, and what it left.

The application of the stack has three more pages: /slow/<seconds>, and two that answer when a text is kept:
/note/<text> on the disk, and /row/<text> in the database of a stack that has one.
"""

import base64
import contextlib
import json
import random
import resource
import secrets
import shutil
import socket
import ssl
import subprocess
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx

from rehearsal.cloud.pebble import Pebble
from tests.builders.certificates import Authority
from tests.builders.stack import PROJECT
from tests.rehearsal.builders.load import Load, Tally, loaded
from tests.rehearsal.builders.stack import CLIENT, Done, Stack, entering, new_stack, until

MANAGERS = ("supervisor", "systemd", "emperor")
# Seconds without a failure after which a site counts as healthy again.
QUIET = 3.0
# Seconds after which a fault counts as one from which nothing comes back.
PATIENCE = 90.0
# Sites of the machine, the second of which tells its statistics on a port.
SITES = ("app", "port")
STATS_PORT = 9300
_PAGES = """

@app.route("/slow/<int:seconds>")
def slow(seconds):
    time.sleep(seconds)
    return "slow"


@app.route("/note/<text>")
def note(text):
    with open(os.path.join(os.environ["DATA_DIR"], "notes"), "a") as notes:
        # A full disk may have taken a part of the line before.
        notes.write("\\n" + text + "\\n")
        notes.flush()
        os.fsync(notes.fileno())
    return text


@app.route("/row/<text>")
def row(text):
    import pymysql

    connection = pymysql.connect(
        host=os.environ["MYSQL_HOST"], user=os.environ["MYSQL_USER"], password=os.environ["MYSQL_PASSWORD"],
        database=os.environ["MYSQL_DATABASE"], connect_timeout=2, read_timeout=5,
    )
    try:
        with connection.cursor() as cursor:
            cursor.execute("CREATE TABLE IF NOT EXISTS notes (text VARCHAR(40))")
            cursor.execute("INSERT INTO notes VALUES (%s)", (text,))
        connection.commit()
    finally:
        connection.close()
    return text
"""
_CLIENT = "PyMySQL==1.1.2\n"
# Prints the processes of the machine: id, parent, user, name.
_PROCESSES = """
import json, os, pwd
found = []
for name in filter(str.isdigit, os.listdir("/proc")):
    try:
        text = open("/proc/%s/stat" % name).read()
        uid = os.stat("/proc/" + name).st_uid
        user = pwd.getpwuid(uid).pw_name
    except (OSError, KeyError):
        continue
    comm, rest = text[text.index("(") + 1:text.rindex(")")], text[text.rindex(")") + 2:].split()
    if rest[0] != "Z":
        found.append([int(name), int(rest[1]), user, comm])
print(json.dumps(found))
"""
# Programs that are a server's own, whoever they run as.
_OURS = {"nginx", "supervisord", "uwsgi", "gunicorn", "granian", "redis-server", "mariadbd", "mysqld", "sshd"}


@dataclass(frozen=True)
class Process:
    pid: int
    parent: int
    user: str
    name: str


class Machine:
    """A machine of a stack that is up. Commands run on it without SSH, so that they take no time.

    manager: the process manager of its sites. name: front, app-1 or db, "" for the only one.
    """

    def __init__(self, stack: Stack, manager: str, name: str = "") -> None:
        self.stack, self.manager, self.name = stack, manager, name
        self.address = ""

    @property
    def others(self) -> "list[Machine]":
        """All machines of its stack, this one too."""
        return [Machine(self.stack, self.manager, name) for name in sorted(self.stack.machines())]

    @property
    def instance(self) -> str:
        """Its name in LXD."""
        return str(self.stack.machines()[self.name]["id"])

    def lxc(self, *words: str) -> None:
        """Have LXD do something with it, such as `pause`."""
        line = [CLIENT, *words, self.instance, "--project", self.stack.project]
        subprocess.run(line, check=True, capture_output=True, timeout=120)

    def run(self, script: str, seconds: float = 60) -> str:
        command = [*entering(self.stack.project, self.instance), "sh", "-euc", script]
        done = subprocess.run(command, capture_output=True, text=True, timeout=seconds)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout.strip()

    def get(self, path: str, site: str = "app", timeout: float = 3) -> httpx.Response:
        trust, host = self.trust, f"{site}.test"
        url = f"http{'s' if trust else ''}://{self.address}{path}"
        with httpx.Client(trust_env=False, verify=trust or False, timeout=timeout) as client:
            return client.get(url, headers={"Host": host}, extensions={"sni_hostname": host})

    @property
    def trust(self) -> ssl.SSLContext | None:
        """Who must vouch for its certificate; None without TLS."""
        is_secure = any("tls" in own for own in self.stack.settings["sites"].values())
        return ssl.create_default_context(cafile=Pebble(self.stack.name).root) if is_secure else None

    def answers(self, site: str = "app") -> bool:
        with contextlib.suppress(httpx.HTTPError):
            return self.get("/healthz", site).status_code == 200
        return False

    def program(self, site: str = "app") -> str:
        """Name of the program that serves, as its process manager knows it."""
        return str(json.loads(self.run(f"cat /srv/wsgi-ecs/sites/{site}/current/state.json"))["program"])

    def pid(self, site: str = "app") -> str:
        """Shell words that print the process id of the program that serves, once it has one."""
        program = self.program(site)
        return {
            "supervisor": f"supervisorctl pid {program}",
            "systemd": f"systemctl show -p MainPID {program} | cut -d= -f2",
            "emperor": f"pgrep -o -f -- '^[^ ]*uwsgi .*{program}'",
        }[self.manager]

    def processes(self) -> list[Process]:
        """The processes of nginx, of the process manager and of the sites."""
        found = [Process(*each) for each in json.loads(self.run(python(_PROCESSES)))]
        children = {process.parent for process in found if process.name == "sshd"}
        return [
            process
            for process in found
            if (process.name in _OURS or process.user.startswith("wsgi-"))
            # A session of SSH is somebody's, and SSH itself has no parent but systemd.
            and not (process.name == "sshd" and (process.parent != 1 or process.pid in children))
        ]

    def lost_notes(self, acknowledged: set[str]) -> int:
        """How many of the notes that were answered are neither on a disk nor in the database."""
        kept = "cat /srv/wsgi-ecs/sites/app/data/notes 2>/dev/null || true"
        if self.has_database:
            kept += "; [ ! -d /var/lib/mysql ] || mysql -NBe 'SELECT text FROM app.notes'"
        return len(acknowledged.difference(*(machine.run(kept).split() for machine in self.others)))

    @property
    def has_database(self) -> bool:
        return "mysql" in self.stack.settings


@contextlib.contextmanager
def copy() -> Iterator[Path]:
    """A copy of this project, in a folder that is removed in the end."""
    folder = Path(tempfile.mkdtemp(prefix="wsgi-ecs-bench-"))
    tracked = subprocess.run(["git", "ls-files", "-co", "--exclude-standard"], cwd=PROJECT, capture_output=True)
    try:
        for file in tracked.stdout.decode().splitlines():
            if (PROJECT / file).is_file():
                (folder / "project" / file).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(PROJECT / file, folder / "project" / file)
        yield folder / "project"
    finally:
        shutil.rmtree(folder)


@contextlib.contextmanager
def machine_of(
    project: Path, manager: str, name: str = "", settings: dict[str, Any] | None = None
) -> Iterator[Machine]:
    """A machine with the sites, which is destroyed in the end.

    name: the one of several machines that is broken. settings: of the stack, beside the sites.
    """
    stack = broken_stack(project, manager, settings or {})
    try:
        machine = Machine(stack, manager, name)
        machine.address = stack.up().output("address")
        yield machine
    finally:
        stack.run("destroy")


def broken_stack(project: Path, manager: str, settings: dict[str, Any]) -> Stack:
    """A stack with the sites that is not up yet."""
    stack = new_stack(project, f"faults-{manager[:3]}")
    page = stack.folder / "app/app.py"
    page.write_text(page.read_text() + _PAGES)
    if "mysql" in settings:
        requirements = stack.folder / "app/requirements.txt"
        requirements.write_text(requirements.read_text() + _CLIENT)
    sites: dict[str, Any] = {
        site: {"site": {"server_name": f"{site}.test"}, "uwsgi": {"processes": 2}} for site in SITES
    }
    sites["port"]["uwsgi"] = {"processes": 1, "stats": STATS_PORT}
    stack.settings = {"serving": {"process_manager": manager}, "sites": sites, **settings}
    return stack


@dataclass
class Measured:
    """What became of the requests during a fault.

    seconds: from the end of the cause until the last request without an answer, None if the site did not come back.
    left: processes too many or too few, and lost writes, in words; "" for none. note: of a fault with several
    parts, in English and in Chinese.
    """

    tally: Tally
    seconds: float | None
    left: str
    note: tuple[str, str] | None = None


class Watch:
    """Asks a site ten times a second. failed: when it gave no good answer. answered: when it last gave a good one.

    path: of the page that keeps notes. acknowledged: notes that it has answered.
    """

    def __init__(self, machine: Machine, site: str, path: str) -> None:
        self.machine, self.site, self.path = machine, site, path
        self.failed: list[float] = []
        self.answered = 0.0
        self.acknowledged: set[str] = set()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._ask)

    def _ask(self) -> None:
        number, run = 0, secrets.token_hex(4)
        while not self._ended.is_set():
            began = time.monotonic()
            good = self.machine.answers(self.site)
            if good and self.site == "app":
                number += 1
                # A page of the database is asked for its own sake, one of the disk only beside the page of health.
                good = self._note(f"{run}-{number}") or self.path != "/row"
            if good:
                self.answered = began
            else:
                self.failed.append(began)
            time.sleep(max(0.0, began + 0.1 - time.monotonic()))

    def _note(self, text: str) -> bool:
        with contextlib.suppress(httpx.HTTPError):
            if self.machine.get(f"{self.path}/{text}").status_code == 200:
                self.acknowledged.add(text)
        return text in self.acknowledged

    def __enter__(self) -> "Watch":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def seconds_until_healthy(self, ended: float, patience: float = PATIENCE) -> float | None:
        """Wait until the site has answered for a while. Returns the seconds from `ended` to its last failure."""
        # A request that hangs has not failed yet, so only a later good answer ends this.
        while self.answered < max([ended, *self.failed]) + QUIET:
            if time.monotonic() > ended + patience + QUIET:
                return None
            time.sleep(0.05)
        return max(0.0, max([ended, *self.failed]) - ended)


@dataclass
class Ended:
    """How a fault has ended. at: when its cause ended, on the monotonic clock. The others as in Measured."""

    at: float = field(default_factory=time.monotonic)
    seconds: float | None = None
    left: str = ""
    note: tuple[str, str] | None = None


Act = Callable[[Machine], Ended | None]


def measure(machine: Machine, act: Act, site: str = "app", rate: float = 50) -> Measured:
    """Break something while a site is asked. rate: requests a second on 50 connections, half of them kept.

    A stack with a database is asked for a page that writes to it.
    """
    before = counted(machine)
    keeps, asked = ("/row", "/row/asked") if machine.has_database else ("/note", "/healthz")
    port = 443 if machine.trust else 80
    load = Load(machine.address, f"{site}.test", (asked,), port, connections=50, rate=rate, trust=machine.trust)
    with loaded(load), Watch(machine, site, keeps) as watch:
        time.sleep(2)
        began = time.monotonic()
        ended = act(machine) or Ended(began)
        seconds = watch.seconds_until_healthy(ended.at)
        time.sleep(1)
    left = [ended.left] if ended.left else []
    left += [different] if (different := left_over(machine, before)) else []
    if lost := machine.lost_notes(watch.acknowledged) if site == "app" else 0:
        left.append(f"{lost} of {len(watch.acknowledged)} acknowledged writes lost")
    if ended.seconds is not None and seconds is not None:
        seconds = ended.seconds
    return Measured(load.tally, seconds, ", ".join(left), ended.note)


def counted(machine: Machine) -> Counter[str]:
    """Name of a program → how many processes the machines of a stack have of it.

    `masters of` it are those that none of its own has started.
    """
    counted = Counter[str]()
    for found in (each.processes() for each in machine.others):
        names = {process.pid: process.name for process in found}
        counted.update(process.name for process in found)
        counted.update(f"masters of {p.name}" for p in found if names.get(p.parent) != p.name)
    return counted


def left_over(machine: Machine, before: Counter[str], seconds: float = 15) -> str:
    """The processes that are too many or too few after a while, in words, "" if all are as before."""
    deadline = time.monotonic() + seconds
    while (now := counted(machine)) != before and time.monotonic() < deadline:
        time.sleep(0.5)
    return ", ".join(
        f"{now[name] - before[name]:+} {name}" for name in sorted({*now, *before}) if now[name] != before[name]
    )


def kill_at_random(machine: Machine, seconds: float, seed: int, patience: float = 10) -> Ended:
    """Kill processes of the server at random: one, or several at once, with KILL or TERM. Prints what it killed.

    Whatever was killed, the site answers again within `patience`, and there is no second copy of anything.
    """
    chosen, kills, slowest, late = random.Random(seed), 0, 0.0, 0  # noqa: S311
    before, left = counted(machine), list[str]()
    print(f"{machine.manager}: kills at random, seed {seed}", flush=True)
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        victims = [process for process in machine.processes() if process.name != "sshd"]
        victims = chosen.sample(victims, min(len(victims), chosen.choice((1, 1, 1, 2, 3))))
        signal = chosen.choice(("KILL", "KILL", "KILL", "TERM"))
        pids = " ".join(str(process.pid) for process in victims)
        machine.run(f"kill -{signal} {pids} || true")
        kills += len(victims)
        began = healthy = time.monotonic()
        # Each site answers twenty times in turn, so that each worker has answered.
        while time.monotonic() < healthy + 0.5:
            if not all(map(machine.answers, SITES)):
                healthy = time.monotonic()
                if healthy > began + patience:
                    late += 1
                    break
        slowest = max(slowest, healthy - began)
        if different := left_over(machine, before, patience):
            left.append(different)
        names = ", ".join(f"{process.name} {process.pid}" for process in victims)
        print(f"  kill -{signal} of {names}: {healthy - began:.1f} s {different}", flush=True)
        time.sleep(chosen.uniform(0, 2))
    left += [f"{late} times not healthy within {patience:.0f} s"] if late else []
    return Ended(
        seconds=slowest, left=", ".join(left), note=(f"{kills} kills, seed {seed}", f"{kills} 次，种子 {seed}")
    )


# Holds the port as soon as it is free.
_HOLD = """
import os, socket, time
os.setuid(65534)
end = time.time() + 20
while True:
    holder = socket.socket()
    holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        holder.bind(("127.0.0.1", %d))
        holder.listen()
        break
    except OSError:
        holder.close()
        assert time.time() < end
time.sleep(%d)
print(time.time())
"""


def python(program: str) -> str:
    """Shell words that run a Python program."""
    return f"echo {base64.b64encode(program.encode()).decode()} | base64 -d | python3 -"


def hold_port(machine: Machine, seconds: float) -> Ended:
    """Kill the program of the site with the port, and hold its statistics' port as another user before it is back."""
    hold = python(_HOLD % (STATS_PORT, seconds))
    printed = machine.run(f"{hold} & holder=$!; sleep 1; kill -9 $({machine.pid('port')}); wait $holder", seconds + 60)
    # The clocks of the machine and of this host are the same.
    return Ended(time.monotonic() - (time.time() - float(printed)))


def fail_to_start(machine: Machine, seconds: float) -> Ended:
    """Kill the program whose environment is away for a while, so that it does not start."""
    env = "/etc/wsgi-ecs/app.env.json"
    machine.run(f"mv {env} {env}.away; kill -9 $({machine.pid()})")
    time.sleep(seconds)
    machine.run(f"mv {env}.away {env}")
    return Ended()


def kill_seven_times(machine: Machine) -> Ended:
    """Kill the master of the site's program as soon as there is a new one, seven times."""
    machine.run(
        f"""
        for _ in 1 2 3 4 5 6 7; do
            until pid=$({machine.pid()}) && [ "$pid" -gt 1 ] 2>/dev/null && [ "$pid" != "${{last:-}}" ]; do
                sleep 0.05
            done
            kill -9 "$pid"; last=$pid
        done
        """,
        120,
    )
    return Ended()


def ask_slowly(machine: Machine, seconds: int = 15, number: int = 4) -> Ended:
    """Ask for pages that take long, more than there are workers, and hang up after a second."""

    def ask() -> None:
        with contextlib.suppress(httpx.HTTPError):
            machine.get(f"/slow/{seconds}", timeout=1)

    threads = [threading.Thread(target=ask) for _ in range(number)]
    for thread in threads:
        thread.start()
    began = time.monotonic()
    for thread in threads:
        thread.join()
    return Ended(began)


def kill(words: str) -> Act:
    """Kill the processes that shell words name."""

    def act(machine: Machine) -> None:
        machine.run(f"kill -9 {words}")

    return act


def kill_program(machine: Machine) -> None:
    machine.run(f"kill -9 $({machine.pid()})")


def kill_manager(machine: Machine) -> None:
    unit = {"supervisor": "supervisor", "emperor": "wsgi-emperor"}[machine.manager]
    machine.run(f"kill -9 $(systemctl show -p MainPID {unit} | cut -d= -f2)")


def kill_all(machine: Machine) -> None:
    """Kill nginx, the process manager and all programs of the sites at once."""
    pids = " ".join(str(process.pid) for process in machine.processes() if process.name != "sshd")
    machine.run(f"kill -9 {pids} || true")


def terminate_nginx(machine: Machine) -> None:
    machine.run("systemctl kill nginx")


@contextlib.contextmanager
def small_disk(machine: Machine, folder: str, room: int = 2) -> Iterator[None]:
    """Meanwhile a folder is a disk of its own with so many MiB of room, and the programs that write there know it."""
    units = " ".join(_units(machine))
    use = f"systemctl start {units}; {'true' if machine.name == 'db' else _RESTARTED[machine.manager]}"
    machine.run(f"""
        mkdir /mnt/small
        systemctl stop {units}
        mount -t tmpfs -o size=$(( $(du -sm {folder} | cut -f1) + {room} ))m tmpfs /mnt/small
        # A sparse file would need room that nobody has counted.
        cp -a --sparse=never {folder}/. /mnt/small/
        chown --reference={folder} /mnt/small; chmod --reference={folder} /mnt/small
        mount --bind /mnt/small {folder}
        {use}
    """)
    until(machine.answers)
    try:
        yield
    finally:
        # What still runs uses it until it is started again.
        machine.run(f"""
            systemctl stop {units}
            umount -l {folder}
            find {folder} -mindepth 1 -delete
            cp -a /mnt/small/. {folder}/
            {use}
            umount -l /mnt/small
            rmdir /mnt/small
        """)
        until(machine.answers)


def _units(machine: Machine) -> list[str]:
    if machine.name == "db":
        return ["mariadb"]
    return ["nginx", *{"supervisor": ["supervisor"], "emperor": ["wsgi-emperor"]}.get(machine.manager, [])]


_RESTARTED = {
    "supervisor": "true",
    "emperor": "true",
    "systemd": "systemctl restart $(ls /etc/systemd/system | grep '^wsgi-[a-z]*-[ab].service')",
}


def fill(machine: Machine, folder: str) -> None:
    """Take all that is left on a disk."""
    machine.run(f"dd if=/dev/zero of={folder}/filler bs=64k 2>/dev/null || true; dd if=/dev/zero bs=1 "
                f"of={folder}/filler2 2>/dev/null count=70000 || true")  # fmt: skip


def free(machine: Machine, folder: str) -> None:
    machine.run(f"rm -f {folder}/filler {folder}/filler2")


def full_disk(machine: Machine, folder: str, seconds: float = 10) -> Ended:
    """Fill the disk of a folder for a while. The site goes on; what it says that it has written is there."""
    fill(machine, folder)
    time.sleep(seconds)
    free(machine, folder)
    return Ended()


def freeze(machine: Machine, seconds: float) -> Ended:
    """Stop all that runs on a machine for a while. Its kernel still takes connections."""
    machine.lxc("pause")
    time.sleep(seconds)
    machine.lxc("start")
    return Ended()


def cut_off(machine: Machine, seconds: float) -> Ended:
    """Take a machine off the network for a while."""
    machine.run("ip link set eth0 down")
    time.sleep(seconds)
    machine.run("ip link set eth0 up; systemctl restart systemd-networkd networking 2>/dev/null || true")
    return Ended()


def release(machine: Machine) -> Done:
    """Release a changed application."""
    change(machine)
    return machine.stack.run("up")


def change(machine: Machine) -> None:
    """Change the application, for the next release."""
    page = machine.stack.folder / "app/app.py"
    page.write_text(page.read_text().partition("\n# Release ")[0] + f"\n# Release {secrets.token_hex(4)}\n")


def refused_release(machine: Machine, expected: str) -> str:
    """Release under a fault, which must refuse it and name the reason. Returns what is wrong, "" for nothing."""
    done = release(machine)
    if done.code == 0:
        return "the release was not refused"
    return "" if expected in done.text else f"the refusal does not say {expected}"


def full_disk_of_releases(machine: Machine) -> Ended:
    """Release with a full disk, and again when there is room."""
    folder = "/srv/wsgi-ecs"
    began = time.monotonic()
    fill(machine, folder)
    wrong = refused_release(machine, "space")
    free(machine, folder)
    if release(machine).code:
        wrong = wrong or "no release once there is room"
    return Ended(began, left=wrong)


def without_package_index(machine: Machine) -> Ended:
    """Release another requirement while the server reaches nothing outside, and again when it does."""
    began = time.monotonic()
    requirements = machine.stack.folder / "app/requirements.txt"
    requirements.write_text(requirements.read_text() + "six==1.17.0\n")
    with without_a_way_out(machine):
        wrong = refused_release(machine, "No matching distribution")
    if release(machine).code:
        wrong = wrong or "no release once the index is back"
    return Ended(began, left=wrong)


@contextlib.contextmanager
def without_a_way_out(machine: Machine) -> Iterator[None]:
    """Meanwhile the machine reaches nothing but its own network."""
    machine.run("ip route show default >/root/route; ip route del default")
    try:
        yield
    finally:
        machine.run("ip route add $(cat /root/route)")


def first_boot_without_sources(machine: Machine, seconds: float = 60) -> Ended:
    """Meanwhile make another server, which reaches no package source for a while during its first boot."""
    began = time.monotonic()
    other = new_stack(machine.stack.folder, "first-boot")

    def act(booting: Machine) -> None:
        with without_a_way_out(booting):
            time.sleep(seconds)

    try:
        cut, code = in_an_update(Machine(other, machine.manager), "cloud-init, 5 s: ", act)
    finally:
        other.run("destroy")
    wrong = "the first boot failed" if code else ""
    return Ended(began, left=wrong if cut else "no such step")


def idle_connections(machine: Machine, number: int = 10_000, seconds: float = 20) -> Ended:
    """Connect many times and say nothing."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(hard, number + 5000)), hard))
    began = time.monotonic()
    sockets = []
    try:
        for _ in range(number):
            connection = socket.socket()
            connection.settimeout(5)
            sockets.append(connection)
            with contextlib.suppress(OSError):
                connection.connect((machine.address, 80))
        time.sleep(max(0.0, began + seconds - time.monotonic()))
    finally:
        for connection in sockets:
            connection.close()
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    return Ended(began)


def cut_power(machine: Machine) -> None:
    """End the machine as a power failure does, and switch it on again."""
    machine.lxc("stop", "--force")
    machine.lxc("start")


def expire(machine: Machine, seconds: float = 10) -> Ended:
    """Have the site's certificate from a CA end, as it does on a server that is off, and switch the server on."""
    old = Authority().sign("app.test", begins=datetime.now(UTC) - timedelta(days=100))
    for kind, text in {"crt": old.certificate, "key": old.private_key}.items():
        machine.run(f"cat >/etc/wsgi-ecs/tls/app.test.{kind} <<'E'\n{text}\nE")
    machine.run("touch -d '100 days ago' /var/lib/systemd/timers/stamp-wsgi-ecs-acme.timer; nginx -s reload")
    until(lambda: not machine.answers())
    time.sleep(seconds)
    cut_power(machine)
    return Ended()


def cut_power_in_an_update(machine: Machine, step: str) -> float | None:
    """Cut the power when `up` has printed a step. Returns when it was on again, None if there was no such step."""
    return in_an_update(machine, step, cut_power)[0]


def in_an_update(machine: Machine, step: str, act: Callable[[Machine], object]) -> tuple[float | None, int]:
    """Do something when `up` has printed a step. Returns when it was done, None without such a step, and up's code."""
    done = None
    machine.stack.write()
    with subprocess.Popen(
        machine.stack.command("up"),
        cwd=machine.stack.folder,
        env=machine.stack.environment("up"),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as run:
        assert run.stdout
        lines = list[str]()
        for line in run.stdout:
            lines.append(line)
            if step in line:
                act(machine)
                done = time.monotonic()
                break
        print("".join(lines) + run.stdout.read())
    return done, run.returncode


def kill_database(machine: Machine) -> None:
    machine.run("pkill -9 -x 'mariadbd|mysqld'")


def cut_power_in_a_release(machine: Machine, step: str) -> Ended:
    """Cut the power when a release has printed a step, and release again. Returns when the machine was on again."""
    change(machine)
    on = cut_power_in_an_update(machine, step)
    if on is None:
        return Ended(left=f"no step {step}")
    until(machine.answers)
    healthy = time.monotonic()
    left = "the next release is refused" if release(machine).code else ""
    return Ended(on, seconds=healthy - on, left=left)
