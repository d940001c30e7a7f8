"""What a machine takes over from the host, the keys of a stack, and the command line."""

import http.server
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

import pytest
from click.testing import CliRunner

from operations import proof
from rehearsal.cli import main
from rehearsal.cloud import lock, processes, trust
from rehearsal.cloud.keys import Keys
from rehearsal.commands.passphrase import VARIABLE
from rehearsal.commands.show import short
from rehearsal.engine.errors import UserError
from tests.builders.stack import PROJECT

DEB822 = """\
# the distribution
Types: deb
URIs: http://mirror.example/debian
Suites: trixie trixie-updates
Components: main contrib
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg

Types: deb
URIs: http://mirror.example/old
Suites: trixie
Components: main
Enabled: no

Types: deb-src
URIs: http://mirror.example/source
Suites: trixie
Components: main
"""


def test_the_hosts_mirrors_serve_the_machines_suite() -> None:
    texts = {
        "debian.sources": DEB822,
        "sources.list": "deb [signed-by=/k.gpg arch=amd64] http://sec.example/ trixie-security main # note\n",
    }
    assert trust.sources_of(texts, "trixie", "bookworm").splitlines() == [
        "deb http://mirror.example/debian bookworm main",
        "deb http://mirror.example/debian bookworm-updates main",
        "deb http://sec.example/ bookworm-security main",
    ]


@pytest.mark.parametrize(
    "line",
    [
        "deb https://other.example/apt stable main",
        "deb https://other.example/docker trixie stable",
        "# deb http://a trixie main",
    ],
)
def test_other_distributors_are_left_out(line: str) -> None:
    assert trust.sources_of({"sources.list": line}, "trixie", "bookworm") == ""


def test_pips_index_is_passed_on_and_its_folder_of_wheels_is_not() -> None:
    text = trust.pip_conf({"index-url": "https://index.example/simple", "find-links": "/opt/wheels"})
    assert "index-url = https://index.example/simple" in text
    assert "/opt/wheels" not in text
    assert "find-links = /var/cache/rehearsal/wheels" in text


def test_proxies_leave_the_machine_itself_out() -> None:
    assert trust.proxy_settings({}) == {}
    found = trust.proxy_settings({"HTTPS_PROXY": "http://proxy.example:3128", "no_proxy": "intern.example"})
    assert found["https_proxy"] == found["HTTPS_PROXY"] == "http://proxy.example:3128"
    assert found["no_proxy"] == "localhost,127.0.0.1,intern.example"


def test_keys_are_made_once_and_private(tmp_path: Path) -> None:
    keys = Keys(tmp_path / ".rehearsal" / "dev")
    assert keys.ensure()
    first = keys.public
    assert not keys.ensure()
    assert keys.public == first
    assert keys.folder.stat().st_mode & 0o777 == 0o700
    assert keys.private.stat().st_mode & 0o777 == 0o600


def test_a_machines_host_keys_take_the_place_of_those_it_had(tmp_path: Path) -> None:
    keys = Keys(tmp_path)
    keys.know("i-1", ["ssh-ed25519 AAAA root@i-1", "ssh-rsa BBBB"])
    keys.know("i-2", ["ssh-ed25519 CCCC"])
    keys.know("i-1", ["ssh-ed25519 DDDD"])
    assert keys.known_hosts.read_text().splitlines() == ["i-2 ssh-ed25519 CCCC", "i-1 ssh-ed25519 DDDD"]
    keys.forget("i-2")
    assert keys.known_hosts.read_text() == "i-1 ssh-ed25519 DDDD\n"


def test_a_pinned_host_key_is_the_only_one_and_goes_with_its_machine(tmp_path: Path) -> None:
    keys = Keys(tmp_path)
    keys.know("i-1", ["ssh-ed25519 AAAA"])
    for key in ("BBBB", "CCCC"):
        assert keys.pin("i-1", f"ssh-ed25519 {key} comment").read_text() == f"i-1 ssh-ed25519 {key}\n"
    keys.forget("i-1")
    assert [path.name for path in tmp_path.iterdir()] == ["known_hosts"]


def test_ssh_checks_the_host_key_and_uses_no_other_identity(tmp_path: Path) -> None:
    line = Keys(tmp_path).ssh("i-1", "198.18.0.1")
    assert {"StrictHostKeyChecking=yes", "HostKeyAlias=i-1", "IdentitiesOnly=yes", "BatchMode=yes"} < set(line)
    assert line[-1] == "root@198.18.0.1"


def test_a_second_run_of_a_stack_is_refused_with_who_holds_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lock, "_FOLDER", tmp_path)
    monkeypatch.setattr(sys, "argv", ["rehearsal", "up", "--stack", "dev"])
    holder = r"dev is in use by process \d+ \(rehearse up --stack dev\)"
    with (
        lock.stack_lock("dev"),
        lock.stack_lock("other"),
        pytest.raises(UserError, match=holder),
        lock.stack_lock("dev"),
    ):
        pass
    with lock.stack_lock("dev"):
        pass


def test_a_run_waits_for_the_keeper_and_the_keeper_for_no_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lock, "_FOLDER", tmp_path)
    has_begun, order = threading.Event(), []

    def keep() -> None:
        with lock.stack_lock("dev", is_keeper=True):
            has_begun.set()
            time.sleep(0.5)
            order.append("keeper")

    keeper = threading.Thread(target=keep)
    keeper.start()
    assert has_begun.wait(10)
    with lock.stack_lock("dev"):
        order.append("run")
        with pytest.raises(UserError, match="dev is in use"), lock.stack_lock("dev", is_keeper=True):
            pass
    keeper.join()
    assert order == ["keeper", "run"]


def test_the_lock_of_another_user_is_refused_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    with tempfile.TemporaryDirectory() as folder:
        monkeypatch.setattr(lock, "_FOLDER", Path(folder))
        path = Path(folder, "wsgi-ecs-rehearsal-dev.lock")
        path.touch(0o400)
        Path(folder).chmod(0o755)
        user = os.geteuid()
        try:
            if user == 0:
                os.seteuid(65534)
            with pytest.raises(UserError, match=rf"{path} belongs to .*; run ./rehearse"), lock.stack_lock("dev"):
                pass
        finally:
            os.seteuid(user)


def test_type_names_are_shown_short() -> None:
    assert short("alicloud:ecs/eipAddress:EipAddress") == "alicloud:EipAddress"
    assert short("command:remote:Command") == "command:remote:Command"


def test_help_names_every_command_without_lxd_or_root() -> None:
    text = CliRunner().invoke(main, ["--help"]).output
    for command in ("preview", "up", "destroy", "status", "ssh", "logs", "graph", "setup"):
        assert f"\n  {command} " in text


def test_help_imports_nothing_heavy() -> None:
    script = "import sys, rehearsal.cli; print(sorted({'pulumi', 'rich', 'httpx'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


DRY = """
import logging, sys
from pathlib import Path
from rehearsal.cloud import keys, store
from rehearsal.commands import foresee, overlay, stack_file
from rehearsal.engine.stack import Stack
for server in sys.argv[1:]:
    config = dict(stack_file.load(Path.cwd(), "local").config)
    config["wsgi-ecs:server"] = server
    stack, _ = overlay.rehearsed(Stack("wsgi-ecs", "local", config), keys.NO_KEY)
    logger = logging.Logger("dry")
    foresee.foresee(Path.cwd(), stack, store.no_state("local"), keys.Keys(Path("/nonexistent")), logger)
    print("taken")
"""


def test_the_program_runs_dry_without_lxd_and_refuses_what_it_refuses() -> None:
    """The project's own program, run dry in a process of its own with two settings of its server."""
    servers = ('{"os": "debian12"}', '{"os": "plan9"}')
    done = subprocess.run([sys.executable, "-c", DRY, *servers], cwd=PROJECT, capture_output=True, text=True)
    assert done.stdout == "taken\n"
    assert "UserError: stacks/Pulumi.local.yaml: server.os: got " in done.stderr


class _Site(http.server.BaseHTTPRequestHandler):
    statuses: ClassVar[list[int]] = []
    hosts: ClassVar[list[str]] = []

    def do_GET(self) -> None:
        self.hosts.append(self.headers["Host"])
        self.send_response(self.statuses.pop(0))
        self.end_headers()
        self.wfile.write(b"one\ntwo\n")

    def log_message(self, *_: object) -> None: ...


@pytest.fixture
def site() -> Iterator[int]:
    """A site on a free port of this host; its answers are taken from _Site.statuses."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Site)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    _Site.hosts.clear()
    yield server.server_port
    server.shutdown()
    server.server_close()


def test_the_proof_asks_the_address_for_the_urls_host(site: int) -> None:
    _Site.statuses[:] = [200]
    answer = proof.prove(f"http://www.example.org:{site}/", "127.0.0.1")
    assert answer.good
    assert "→ 200 OK, 8 bytes" in answer.line
    assert _Site.hosts == [f"www.example.org:{site}"]


def test_the_proof_waits_for_a_machine_that_restarts_but_not_for_an_error(
    site: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("operations.proof.time.sleep", lambda _: None)
    _Site.statuses[:] = [502, 200]
    assert proof.prove(f"http://a:{site}/", "127.0.0.1").good
    _Site.statuses[:] = [500, 200]
    assert proof.prove(f"http://a:{site}/", "127.0.0.1").status == 500


def test_no_answer_is_no_proof(site: int) -> None:
    answer = proof.prove("http://a:1/", "127.0.0.1", patience=0)
    assert not answer.good
    assert "no answer from 127.0.0.1:1" in answer.line


def test_a_daemon_has_nothing_of_the_environment_that_it_does_not_need(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in (VARIABLE, "ALICLOUD_SECRET_KEY", "ANY_TOKEN"):
        monkeypatch.setenv(name, "correct-horse")
    monkeypatch.setenv("HOME", "/root")
    log = tmp_path / "log"
    assert processes.detach(["env"], log, PEBBLE_X="1").wait(timeout=10) == 0
    found = dict(line.split("=", 1) for line in log.read_text().splitlines())
    assert found.items() >= {"HOME": "/root", "PATH": os.environ["PATH"], "PEBBLE_X": "1"}.items()
    assert "correct-horse" not in found.values()
