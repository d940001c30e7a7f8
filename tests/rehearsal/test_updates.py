"""Updates as the cloud does them, and who is let in, seen from other addresses than this host's.

The tests run in this order, on one machine, which is replaced in the middle.
"""

import json
import re
import secrets
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from ipaddress import IPv4Network
from itertools import groupby, islice
from pathlib import Path
from typing import Any

import httpx
import pytest

from rehearsal.cloud import image
from tests.rehearsal.builders.machine import boot_id, listens
from tests.rehearsal.builders.preview import foretold, machines, names, performed
from tests.rehearsal.builders.stack import Done, Stack, lxd, until

# Benchmarking addresses, as the rehearsal's own: others, even those for documentation, may lead to something here. A
# network of each run's own, since one that was killed leaves its route behind.
NETWORK = IPv4Network(f"198.19.{secrets.randbelow(256)}.{8 * secrets.randbelow(32)}/29")
OFFICE, HOTEL, ROUTER = map(str, islice(NETWORK.hosts(), 3))
# Tries ports one after the other, from one of its own addresses; prints those that take a connection.
TRY = """
import socket, sys
source, target, *ports = sys.argv[1:]
for port in map(int, ports):
    try:
        socket.create_connection((target, port), timeout=3, source_address=(source, 0)).close()
        print(port)
    except OSError:
        pass
"""
# Asks once for each line of its input, on one connection for as long as that lasts; prints status and own port.
ASK = """
import http.client, sys
source, target = sys.argv[1:]
connection = http.client.HTTPConnection(target, timeout=5, source_address=(source, 0))
for line in sys.stdin:
    try:
        connection.request("GET", "/healthz")
        port = connection.sock.getsockname()[1]
        answer = connection.getresponse()
        answer.read()
        print(answer.status, port, flush=True)
    except (OSError, http.client.HTTPException):
        print(0, 0, flush=True)
        connection.close()
"""
INDEX = "https://mirrors.aliyun.com/pypi/web/simple/"
USER_DATA = "cat /var/lib/cloud/instance/user-data.txt"


@dataclass(frozen=True)
class Elsewhere:
    """Addresses that are not this host's: a network namespace, which this host routes for."""

    name: str

    def run(self, *command: str) -> subprocess.CompletedProcess[str]:
        line = ["ip", "netns", "exec", self.name, *command]
        return subprocess.run(line, capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=120)

    def opened(self, source: str, target: str, *ports: int) -> list[int]:
        done = self.run(sys.executable, "-c", TRY, source, target, *map(str, ports))
        assert done.returncode == 0, done.stderr
        return [int(port) for port in done.stdout.split()]

    @contextmanager
    def client(self, source: str, target: str) -> Iterator["Client"]:
        line = ["ip", "netns", "exec", self.name, sys.executable, "-c", ASK, source, target]
        with subprocess.Popen(line, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
            yield Client(process)
            process.kill()


@dataclass(frozen=True)
class Client:
    """Asks for the site's health on a connection that it keeps."""

    process: "subprocess.Popen[str]"

    def ask(self) -> tuple[int, int]:
        """Status and the client's own port, which tells connections apart; zeros without an answer."""
        assert self.process.stdin
        assert self.process.stdout
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        status, port = map(int, self.process.stdout.readline().split())
        return status, port


@pytest.fixture(scope="module")
def elsewhere() -> Iterator[Elsewhere]:
    token = secrets.token_hex(3)
    name, inner, outer = f"wsgi-ecs-{token}", f"in{token}", f"out{token}"

    def ip(*words: str, check: bool = True) -> None:
        subprocess.run(["ip", *words], check=check, capture_output=True)

    try:
        ip("netns", "add", name)
        ip("link", "add", outer, "type", "veth", "peer", "name", inner, "netns", name)
        ip("address", "add", f"{ROUTER}/29", "dev", outer)
        ip("link", "set", outer, "up")
        for address in (OFFICE, HOTEL):
            ip("-n", name, "address", "add", f"{address}/29", "dev", inner)
        ip("-n", name, "link", "set", inner, "up")
        ip("-n", name, "route", "add", "default", "via", ROUTER)
        yield Elsewhere(name)
    finally:
        ip("link", "delete", outer, check=False)
        ip("netns", "delete", name, check=False)


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two private keys, each with its public key beside it."""
    folder = tmp_path_factory.mktemp("keys")
    made = [folder / "first", folder / "second"]
    for key in made:
        command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", key.name, "-f", str(key)]
        subprocess.run(command, check=True, stdin=subprocess.DEVNULL)
    return made


def public(key: Path) -> str:
    return key.with_suffix(".pub").read_text().strip()


def login(key: Path, address: str) -> list[str]:
    options = ("IdentitiesOnly=yes", "BatchMode=yes", "StrictHostKeyChecking=no", "UserKnownHostsFile=/dev/null")
    flags = [word for option in (*options, "ConnectTimeout=10") for word in ("-o", option)]
    return ["ssh", "-F", "/dev/null", "-i", str(key), *flags, f"root@{address}", "hostname"]


def said(stack: Stack, key: Path) -> str:
    """What SSH says to a key on the machine's public address: the machine's name, or why not."""
    line = login(key, stack.known["address"])
    done = subprocess.run(line, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    return done.stdout.strip() or done.stderr


def machine(stack: Stack) -> str:
    (path,) = machines(stack)
    return path.rsplit("/", 1)[1].split("?")[0]


def records(stack: Stack) -> list[dict[str, Any]]:
    config = lxd(f"/1.0/projects/wsgi-ecs-{stack.name}")["config"]
    return [json.loads(text) for key, text in config.items() if key.startswith("user.resource.")]


def forward(stack: Stack) -> tuple[str, str]:
    """The stack's public address and where it leads to."""
    (bridge,) = {
        record["outputs"]["rehearsalBridge"] for record in records(stack) if record["type"].endswith(":Instance")
    }
    (found,) = lxd(f"/1.0/networks/{bridge}/forwards?recursion=1")
    return found["listen_address"], found["config"]["target_address"]


def healthy(stack: Stack) -> bool:
    return stack.get(stack.known["address"], "/healthz").status_code == 200


def change(stack: Stack, section: str, **values: object) -> None:
    stack.settings = {**stack.settings, section: {**stack.settings.get(section, {}), **values}}


def assert_dependents_go_first(deleted: list[str], before: list[dict[str, Any]]) -> None:
    """deleted: names in the order of the run's lines. before: the records, of which these were some."""
    urns = {record["urn"]: record["name"] for record in before}
    for record in before:
        for urn in record["dependencies"]:
            if {record["name"], urns.get(urn)} <= set(deleted):
                assert deleted.index(record["name"]) < deleted.index(urns[urn]), (record["name"], urn)


def deletions(done: Done) -> list[str]:
    return re.findall(r"^ - \S+ +(\S+) [0-9.]+ s", done.out, re.MULTILINE)


def test_only_the_sites_port_is_open_to_the_world_and_ssh_to_its_own(
    stack: Stack, elsewhere: Elsewhere, keys: list[Path]
) -> None:
    stack.settings = {
        "server": {"os": "debian12", "instance_type": "ecs.e-c1m1.large"},
        "access": {"ssh": [f"{OFFICE}/32"], "public_key": public(keys[0])},
    }
    done = stack.up()
    stack.known.update(address=done.output("address"), release=done.output("release"), machine=machine(stack))
    listening = stack.shell("ss -Hltn | awk '{print $4}' | sed 's/.*://' | sort -nu")
    ports = sorted({*map(int, listening.split()), 21, 23, 443, 3031, 3306, 8000, 8080, 9001, 9191, 9192})
    assert elsewhere.opened(OFFICE, stack.known["address"], *ports) == [22, 80]
    assert elsewhere.opened(HOTEL, stack.known["address"], *ports) == [80]
    with elsewhere.client(OFFICE, stack.known["address"]) as client:
        assert client.ask()[0] == 200
    # Or the rules would be held against an address of this host's.
    assert OFFICE in stack.shell("cut -d ' ' -f 1 $(find /var/log -name '*access.log')").split()
    answer = elsewhere.run(*login(keys[0], stack.known["address"]))
    assert answer.stdout.strip() == stack.known["machine"], answer.stderr


def test_the_host_key_that_it_shows_is_the_servers(stack: Stack, elsewhere: Elsewhere) -> None:
    ask = f"from components import way_in; print(*way_in.host_keys({stack.known['address']!r}), sep='\\n')"
    answer = elsewhere.run(sys.executable, "-c", ask)
    own = stack.shell("cut -d ' ' -f 1,2 /etc/ssh/ssh_host_*_key.pub").splitlines()
    assert set(answer.stdout.splitlines()) <= set(own), answer.stderr
    assert any(key.startswith("ssh-ed25519 ") for key in answer.stdout.splitlines())


def test_a_server_refuses_a_key_that_it_does_not_know(stack: Stack, elsewhere: Elsewhere, keys: list[Path]) -> None:
    for number, refused in enumerate((False, True)):
        ask = f"from components import way_in; print(way_in.refuses({stack.known['address']!r}, {str(keys[number])!r}))"
        assert elsewhere.run(sys.executable, "-c", ask).stdout.strip() == str(refused)


@pytest.mark.parametrize(
    ("instance_type", "cpus", "mib"), [("ecs.t5-lc1m1.small", 1, 1024), ("ecs.e-c1m1.large", 2, 2048)]
)
def test_another_instance_type_is_the_same_machine_started_again(
    stack: Stack, instance_type: str, cpus: int, mib: int
) -> None:
    booted = boot_id(stack)
    target = forward(stack)
    change(stack, "server", instance_type=instance_type)
    preview = stack.run("preview")
    # The site is applied again, with as many programs as there are CPUs.
    applied = {("+-", name) for name in names(stack, "site-app-apply")}
    assert foretold(preview) == applied | {("~", name) for name in names(stack, "instance")}
    assert re.search(rf"-instance \[instanceType \(.* → {instance_type}\), restarts\]", preview.out)
    (told,) = names(stack, "instance")
    assert f"the site is away until {told} has booted: about 6 s" in preview.out
    done = stack.up()
    assert performed(done) == foretold(preview)
    assert (machine(stack), forward(stack)) == (stack.known["machine"], target)
    assert target[0] == stack.known["address"]
    assert boot_id(stack) != booted
    # Through SSH, because a process from outside has the CPUs of this host.
    assert stack.run("ssh", "--", "nproc").out.strip() == str(cpus)
    # One for each CPU, and the one that starts them.
    assert len(stack.shell("pgrep -f bin/uwsgi").split()) == cpus + 1
    limit = stack.shell("cd /sys/fs/cgroup; cat memory.max 2>/dev/null || cat memory/memory.limit_in_bytes")
    assert limit == str(mib * 2**20)
    until(lambda: healthy(stack))


def test_user_data_alone_is_ignored(stack: Stack) -> None:
    booted = boot_id(stack)
    # One that this machine cannot reach either, as with those that are asked by default.
    change(stack, "server", mirrors={"index": [INDEX]})
    for command in ("preview", "up"):
        done = stack.run(command)
        assert foretold(done) == set()
        assert "-instance" not in done.out
    assert boot_id(stack) == booted
    assert f"choose_index {INDEX}" not in stack.shell(USER_DATA)


def test_another_public_key_opens_ssh_and_the_one_before_does_not(stack: Stack, keys: list[Path]) -> None:
    booted = boot_id(stack)
    old, new = keys
    assert said(stack, old) == stack.known["machine"]
    assert "Permission denied" in said(stack, new)
    change(stack, "access", public_key=public(new))
    preview = stack.run("preview")
    (key,), (instance,), (ready,) = (names(stack, part) for part in ("key", "instance", "ready"))
    assert foretold(preview) == {("+-", key), ("~", instance), ("+-", ready)}
    assert re.search(r"-instance \[.*reboots\]", preview.out)
    assert f"the site is away until {instance} has booted: about 6 s" in preview.out
    before = {record["id"] for record in records(stack) if record["name"] == key}
    done = stack.up()
    # The server has restarted, and `up` has waited for it.
    assert healthy(stack)
    assert performed(done) == foretold(preview)
    after = {record["id"] for record in records(stack) if record["name"] == key}
    assert len(before) == len(after) == 1
    assert before != after
    # Made, handed to the server, and only then the one before deleted.
    order = re.findall(rf"^ ?([+~-]+) \S+ +(?:{key}|{instance}) ", done.performed, re.MULTILINE)
    assert order == ["+-", "~", "-"]
    assert (machine(stack), forward(stack)[0]) == (stack.known["machine"], stack.known["address"])
    assert boot_id(stack) != booted
    assert said(stack, new) == stack.known["machine"]
    assert "Permission denied" in said(stack, old)


@dataclass(frozen=True)
class Seen:
    """An answer to a request of the probe. at: seconds of time.monotonic when it was asked. status: 0 for none."""

    at: float
    status: int
    server: str = ""
    retry_after: str = ""
    text: str = field(default="", repr=False)


@contextmanager
def probing(address: str) -> Iterator[list[Seen]]:
    """Asks for the page all the time meanwhile, each time on a new connection."""
    seen: list[Seen] = []
    ended = threading.Event()

    def probe() -> None:
        while not ended.wait(0.1):
            at = time.monotonic()
            try:
                answer = httpx.get(f"http://{address}/", trust_env=False, timeout=2)
                headers = answer.headers
                retry_after = headers.get("retry-after", "")
                seen.append(Seen(at, answer.status_code, headers.get("server", ""), retry_after, answer.text))
            except httpx.HTTPError:
                seen.append(Seen(at, 0))

    thread = threading.Thread(target=probe)
    thread.start()
    try:
        yield seen
    finally:
        ended.set()
        thread.join()


def timed(stack: Stack) -> tuple[Done, list[tuple[float, str]]]:
    """`up`, with the time at which each line came."""
    stack.write()
    lines = []
    with subprocess.Popen(
        stack.command("up"), cwd=stack.folder, env=stack.environment("up"),
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    ) as run:  # fmt: skip
        assert run.stdout
        lines = [(time.monotonic(), line) for line in run.stdout]
    out = "".join(line for _, line in lines)
    print(out)
    return Done(run.returncode, out, ""), lines


def when(lines: list[tuple[float, str]], pattern: str) -> float:
    (found,) = (at for at, line in lines if re.search(pattern, line))
    return found


@pytest.fixture
def given_image(stack: Stack) -> Iterator[str]:
    """REMOTE:NAME of an image of this host, which machines of debian13 boot meanwhile."""
    name = f"local:{image.ensure('debian13', print).alias}"

    def setup(option: str) -> str:
        command = [sys.executable, "-m", "rehearsal", "setup", "--image", option]
        return subprocess.run(command, cwd=stack.folder, capture_output=True, text=True, check=True).stdout

    assert setup(f"debian13={name}") == f"new machines of debian13 boot {name}\n"
    yield name
    assert setup("debian13=") == "new machines of debian13 boot the base image of the rehearsal\n"


def test_a_replaced_server_is_away_as_long_as_foretold_and_never_looks_like_the_site(
    stack: Stack, given_image: str
) -> None:
    before, target = records(stack), forward(stack)
    change(stack, "serving", process_manager="systemd")
    change(stack, "server", os="debian13")
    preview = stack.run("preview")
    assert f"new machines of debian13 boot {given_image}, as setup --image has set" in preview.out
    assert re.search(r"-instance \[replaced for changed user data \(debian12-\w+ .* → debian13-", preview.out)
    found = re.search(r"^the site is away from when \S+-association goes until .*: about (\d+) s", preview.out, re.M)
    assert found, preview.text
    expected = int(found[1])
    with probing(stack.known["address"]) as seen:
        done, lines = timed(stack)
        time.sleep(1)
    assert performed(done) == foretold(done) == foretold(preview)
    release = done.output("release")
    before_it, stack.known["machine"] = stack.known["machine"], machine(stack)
    # The page, nothing, the built-in page, the page of the new release: no error, and nobody else's page.
    told = [(status, len(list(group))) for status, group in groupby(one.status for one in seen)]
    print(told, {one.retry_after for one in seen if one.status == 503})
    # nginx is started anew for its confinement, before there is a release.
    assert [status for status, _ in told] in ([200, 0, 503, 200], [200, 0, 503, 0, 503, 200])
    away = [one.at for one in seen if one.status != 200]
    pages = [(stack.known["release"] if one.at < away[0] else release, one.text) for one in seen if one.status == 200]
    assert [id for id, text in pages if id not in text] == []
    waiting = [one for one in seen if one.status == 503]
    assert {(one.server, one.retry_after) for one in waiting} == {("nginx", "30")}
    # nginx's own first, for the moment in which it is there alone.
    own = ("waiting for its first release", "<center>nginx</center>")
    assert all(any(text in one.text for text in own) for one in waiting)
    assert "waiting for its first release" in waiting[-1].text
    back = min(one.at for one in seen if one.at > away[-1])
    measured = back - away[0]
    print(f"away: foretold {expected} s, measured {measured:.1f} s")
    # A new server also makes the environment anew, which its last release may not have done, and another OS may have to
    # build uWSGI first.
    assert measured > 0.15 * expected
    # New server, address, release, and the old server last; the site is there before and behind that.
    made = when(lines, r"^\+- \S+ +\S+-instance [0-9.]+ s")
    bound = when(lines, r"^\+- \S+ +\S+-association [0-9.]+ s")
    applied = when(lines, r"^\+- \S+ +\S+-site-app-apply [0-9.]+ s")
    gone = when(lines, r"^ - \S+ +\S+-instance [0-9.]+ s +replaced")
    assert made < bound < applied < gone
    assert made - 1 < away[0] < bound + 1
    assert away[-1] < applied + 1
    order = [name.removeprefix(f"wsgi-ecs-{stack.name}-") for name in deletions(done)]
    assert order[-1] == "instance"
    assert_dependents_go_first(deletions(done), before)
    # The address is kept, and leads to the new server.
    assert stack.known["machine"] != before_it
    assert forward(stack)[0] == done.output("address") == stack.known["address"]
    assert forward(stack)[1] != target[1]
    assert stack.shell('. /etc/os-release; echo "$VERSION_ID"') == "13"
    # It has booted with the user data that was not worth it alone.
    assert f"choose_index {INDEX}" in stack.shell(USER_DATA)


def test_the_replaced_server_has_the_same_rules_and_keys(stack: Stack, elsewhere: Elsewhere, keys: list[Path]) -> None:
    assert elsewhere.opened(OFFICE, stack.known["address"], 22, 80, 9191, 9192) == [22, 80]
    assert elsewhere.opened(HOTEL, stack.known["address"], 22, 80, 9191, 9192) == [80]
    assert "Permission denied" in said(stack, keys[0])
    assert said(stack, keys[1]) == stack.known["machine"]


def test_who_is_not_named_is_refused_this_host_too(stack: Stack, elsewhere: Elsewhere) -> None:
    change(stack, "access", http=[f"{OFFICE}/32", f"{HOTEL}/32"])
    done = stack.up()
    assert "no answer from" in done.out
    assert "access.http does not let this host in" in done.out
    assert not listens(stack.known["address"], 80)
    for source in (OFFICE, HOTEL):
        with elsewhere.client(source, stack.known["address"]) as client:
            assert client.ask()[0] == 200


def test_what_is_taken_out_of_access_is_closed_by_the_next_up(stack: Stack, elsewhere: Elsewhere) -> None:
    with elsewhere.client(OFFICE, stack.known["address"]) as client:
        status, port = client.ask()
        assert status == 200
        change(stack, "access", http=[f"{HOTEL}/32"], ssh=[f"{HOTEL}/32"])
        stack.up()
        # Security groups are stateful, as those of the cloud: they decide on new connections.
        assert client.ask() == (200, port)
    assert elsewhere.opened(OFFICE, stack.known["address"], 22, 80) == []
    assert elsewhere.opened(HOTEL, stack.known["address"], 22, 80) == [22, 80]
    assert not listens(stack.known["address"], 80)
    # Releases come from this host.
    assert listens(stack.known["address"], 22)


def test_destroy_deletes_dependents_first(stack: Stack) -> None:
    before = records(stack)
    done = stack.run("destroy")
    assert done.code == 0
    deleted = deletions(done)
    assert sorted(deleted) == sorted(record["name"] for record in before)
    assert_dependents_go_first(deleted, before)
