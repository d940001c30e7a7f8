"""One stack from its first `up` to its last `destroy`. The tests run in this order, on one machine."""

import contextlib
import json
import os
import signal
import subprocess
import time
from pathlib import Path

import httpx
import pytest

from kinds.systems import SYSTEMS
from serving import bootstrap
from serving import machines as plans
from settings.loader import parse
from tests.builders.encrypted import PASSPHRASE, encrypt
from tests.rehearsal.builders.machine import boot_id, listens, ssh_faults, ways_in
from tests.rehearsal.builders.stack import TAG, Stack, lxd, traces

SECRET = "correct-horse-battery-staple"
ENCRYPTED = "attack-at-dawn"
# Of an encrypted value that the application itself tells its log.
TOLD = "open-sesame"
BROKEN = "    raise RuntimeError('not today: ' + os.environ['TOLD'])\n"


def machines(stack: Stack) -> list[str]:
    return [path.rsplit("/", 1)[1].split("?")[0] for path in lxd(f"/1.0/instances?project=wsgi-ecs-{stack.name}")]


@pytest.mark.parametrize(
    ("settings", "line"),
    [
        (
            {"server": {"os": "centos8"}},
            "server.os: got centos8; allowed: centos7, alinux3, debian12, debian13 or ubuntu2204",
        ),
        ({"sever": {}}, "sever: unknown key; allowed: server, app, "),
        ({"app": {"source": "./nowhere"}}, "app.source: ./nowhere is no folder"),
        ({"app": {"module": "nowhere"}}, "app.module: ./app has neither nowhere.py"),
        ({"site": {"server_name": "a;b"}}, "site.server_name: got a;b; allowed: a domain"),
    ],
)
def test_a_wrong_setting_is_one_line_and_creates_nothing(stack: Stack, settings: dict[str, object], line: str) -> None:
    stack.settings = settings
    done = stack.run("up")
    stack.settings = {}
    assert done.code == 2
    assert done.err.startswith(f"rehearse: stacks/Pulumi.{stack.name}.yaml: {line}")
    assert done.err.count("\n") == 1
    assert traces(stack) == set()


@pytest.mark.parametrize(
    ("phrase", "line"),
    [(None, "encrypted, and no passphrase is set"), ("other", "encrypted with another passphrase")],
)
def test_an_encrypted_value_without_its_passphrase_creates_nothing(stack: Stack, phrase: str | None, line: str) -> None:
    stack.settings, stack.passphrase = {"app": {"env": {"TOKEN": {"secure": encrypt(ENCRYPTED)}}}}, phrase
    done = stack.run("up")
    stack.settings, stack.passphrase = {}, None
    assert done.code == 2
    assert done.err.startswith(f"rehearse: stacks/Pulumi.{stack.name}.yaml: wsgi-ecs:app.env.TOKEN: {line}")
    assert done.err.count("\n") == 1
    assert traces(stack) == set()


def test_an_unknown_stack_names_those_that_exist(stack: Stack) -> None:
    done = subprocess.run(
        [*stack.command("up")[:-1], "nowhere"], cwd=stack.folder, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 2
    assert "nowhere" in done.stderr
    assert "local" in done.stderr
    assert done.stderr.count("\n") == 1


def test_a_killed_up_is_completed_by_the_next(stack: Stack) -> None:
    # The first release is a broken one, so that the next test sees the server as cloud-init alone leaves it.
    stack.edit("app/app.py", "def healthz():\n", f"def healthz():\n{BROKEN}")
    encrypted = {"TOKEN": {"secure": encrypt(ENCRYPTED)}, "TOLD": {"secure": encrypt(TOLD)}}
    stack.settings = {"app": {"env": {"GREETING": SECRET, **encrypted}}}
    stack.passphrase = PASSPHRASE
    stack.write()
    with subprocess.Popen(
        stack.command("up"),
        cwd=stack.folder,
        env=stack.environment("up"),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as run:
        deadline = time.monotonic() + 240
        while True:
            assert time.monotonic() < deadline
            with contextlib.suppress(subprocess.CalledProcessError):
                if machines(stack):
                    break
            time.sleep(0.2)
        second = stack.run("up")
        assert second.code == 2, "one run at a time"
        assert str(run.pid) in second.err
        os.kill(run.pid, signal.SIGKILL)
    done = stack.run("up")
    assert done.code == 1, done.text
    assert len(machines(stack)) == 1


def test_a_broken_first_release_shows_the_applications_own_last_lines(stack: Stack) -> None:
    done = stack.run("up")
    assert done.code == 1
    assert "RuntimeError: not today: ***" in done.text
    assert not [secret for secret in (SECRET, ENCRYPTED, TOLD) if secret in done.text]
    stack.known["address"] = lxd_address(stack)


def lxd_address(stack: Stack) -> str:
    """The public address: the listen address of the stack's forward."""
    networks = lxd("/1.0/networks?recursion=1")
    owned = [network["name"] for network in networks if network["config"].get(TAG) == stack.name]
    forwards = [f for name in owned for f in lxd(f"/1.0/networks/{name}/forwards?recursion=1")]
    assert len(forwards) == 1
    return str(forwards[0]["listen_address"])


def test_cloud_init_alone_serves_the_built_in_page(stack: Stack) -> None:
    for path in ("/", "/healthz"):
        answer = stack.get(stack.known["address"], path)
        assert answer.status_code == 503
        assert answer.headers["retry-after"] == "30"
        assert answer.headers["server"] == "nginx"
        assert "waiting for its first release" in answer.text
    programs = stack.shell("supervisorctl status")
    assert programs.split()[:2] == ["app-a", "RUNNING"]
    assert len(programs.splitlines()) == 1


def test_cloud_init_takes_the_user_data_of_every_os(stack: Stack) -> None:
    kinds: tuple[dict[str, object], ...] = (
        {"serving": {"process_manager": "emperor"}},
        {"topology": {"app_servers": 1}, "mysql": {"password": "x"}},
    )
    texts = {}
    for system in SYSTEMS:
        for kind in kinds:
            settings = parse({"server": {"os": system}, **kind}, "stacks/Pulumi.test.yaml")
            for machine in plans(settings):
                texts[f"{system}-{machine.name or 'whole'}"] = bootstrap.user_data(machine.plan, settings)
    # That it can refuse one.
    texts["wrong"] = texts["centos7-whole"].replace('permissions: "0700"', "permissions: [0700]")
    assert len(texts) == 4 * len(SYSTEMS) + 1
    for name, text in texts.items():
        done = stack.run(
            "ssh", "--", f"cat >/tmp/user-data <<'END OF IT'\n{text}\nEND OF IT\ncloud-init schema -c /tmp/user-data"
        )
        assert (done.code == 0) == (name != "wrong"), name + done.text
        assert ("Valid cloud-config" in done.out) == (name != "wrong"), name + done.text


def test_up_serves_the_sample_application_through_nginx_and_uwsgi(stack: Stack) -> None:
    stack.edit("app/app.py", BROKEN, "")
    done = stack.up()
    stack.known["release"] = done.output("release")
    assert done.output("address") == stack.known["address"]
    assert done.output("url") == f"http://{stack.known['address']}/"
    assert "200" in done.out, "the request it made as proof"
    page = stack.get(stack.known["address"])
    assert page.status_code == 200
    assert page.headers["server"] == "nginx"
    assert "uWSGI" in page.text
    assert "Debian GNU/Linux 12" in page.text
    assert stack.known["release"] in page.text
    assert stack.get(stack.known["address"], "/healthz").json() == {"status": "ok", "release": stack.known["release"]}
    assert "Ada" in stack.get(stack.known["address"], "/Ada").text
    stack.known["boot"] = boot_id(stack)


def test_a_static_file_is_served_by_nginx_itself(stack: Stack) -> None:
    answer = stack.get(stack.known["address"], "/static/style.css")
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/css")
    assert answer.text == (stack.folder / "app/static/style.css").read_text()
    # nginx's tags of a file are <time>-<size> in hexadecimal; Flask's are another form.
    assert answer.headers["etag"].strip('"').split("-")[1] == f"{len(answer.content):x}"


def test_the_security_group_holds(stack: Stack) -> None:
    inside = stack.shell("hostname -I").split()[0]
    stack.shell(
        "systemd-run -q --unit=other python3 -m http.server 8000 --bind 0.0.0.0; sleep 1; ss -Hltn | grep -q :8000"
    )
    for address in (stack.known["address"], inside):
        assert listens(address, 80)
        assert listens(address, 22), "the rehearsal's own rule for SSH"
        assert not listens(address, 9191)
        assert not listens(address, 9192)
        assert not listens(address, 8000)
    listening = stack.shell("ss -Hltn | awk '{print $4}'").split()
    statistics = stack.shell("stat -c '%U %a' /run/wsgi-ecs/app/*.stats").splitlines()
    assert set(statistics) == {"wsgi-app 660"}
    assert sorted(one for one in listening if not one.startswith("127.")) == [
        "0.0.0.0:22",
        "0.0.0.0:80",
        "0.0.0.0:8000",
        "[::]:22",
    ]
    stack.shell("systemctl stop other")


def test_nothing_that_handles_a_request_runs_as_root(stack: Stack) -> None:
    processes = stack.shell("ps -eo user:20,args").splitlines()
    uwsgi = [line.split()[0] for line in processes if "/bin/uwsgi" in line]
    workers = [line.split()[0] for line in processes if "nginx: worker" in line]
    assert set(uwsgi) == {"wsgi-app"}
    assert set(workers) == {"www-data"}
    stack.shell("cd /srv/wsgi-ecs/sites/app && ! runuser -u wsgi-app -- touch current/x releases/x 2>/dev/null")
    writable = stack.shell("runuser -u wsgi-app -- find /srv/wsgi-ecs -writable -not -type l 2>/dev/null || true")
    assert writable.split() == ["/srv/wsgi-ecs/sites/app/data"]


def test_a_second_up_with_nothing_changed_does_nothing(stack: Stack) -> None:
    started = stack.shell("supervisorctl status | awk '{print $4}'")
    done = stack.up()
    assert done.output("release") == stack.known["release"]
    assert stack.shell("supervisorctl status | awk '{print $4}'") == started
    assert boot_id(stack) == stack.known["boot"]
    assert len(done.out.splitlines()) < 20


def test_changed_code_is_a_new_release_on_the_same_running_machine(stack: Stack) -> None:
    stack.edit("app/app.py", 'response = flask.jsonify(status="ok"', 'response = flask.jsonify(status="fine"')
    done = stack.up()
    assert done.output("release") != stack.known["release"]
    stack.known["release"] = done.output("release")
    assert stack.get(stack.known["address"], "/healthz").json()["status"] == "fine"
    assert boot_id(stack) == stack.known["boot"]


def test_changed_settings_of_nginx_and_uwsgi_are_a_new_release_too(stack: Stack) -> None:
    stack.settings = {**stack.settings, "nginx": {"client_max_body_size": "1k"}, "uwsgi": {"processes": 3}}
    done = stack.up()
    assert done.output("release") != stack.known["release"]
    stack.known["release"] = done.output("release")
    assert len(stack.shell("pgrep -f bin/uwsgi").split()) == 4
    assert httpx.post(f"http://{stack.known['address']}/", content=b"x" * 2048, trust_env=False).status_code == 413
    assert boot_id(stack) == stack.known["boot"]


@pytest.mark.parametrize(
    ("old", "new", "line"),
    [
        (
            "import flask\n",
            "import flask\nimport no_such_module\n",
            "ModuleNotFoundError: No module named 'no_such_module'",
        ),
        (
            "def healthz():\n",
            "def healthz():\n    raise ValueError('broken on purpose')\n",
            "ValueError: broken on purpose",
        ),
        ("app = flask.Flask(__name__)\n", "app = None\n", "callable not found"),
    ],
    ids=["import", "probe", "callable"],
)
def test_a_broken_release_leaves_the_old_one_serving(stack: Stack, old: str, new: str, line: str) -> None:
    kept = (stack.folder / "app/app.py").read_text()
    stack.edit("app/app.py", old, new)
    done = stack.run("up")
    (stack.folder / "app/app.py").write_text(kept)
    assert done.code == 1
    assert line in done.text
    assert stack.get(stack.known["address"], "/healthz").json() == {"status": "fine", "release": stack.known["release"]}


def test_a_rotated_secret_goes_live_with_the_next_up(stack: Stack) -> None:
    rotated = {"GREETING": "tr0ub4dor", "TOKEN": "attack-at-dusk"}
    settings = {"GREETING": rotated["GREETING"], "TOKEN": {"secure": encrypt(rotated["TOKEN"])}}
    stack.settings = {**stack.settings, "app": {"env": settings}}
    done = stack.up()
    assert done.output("release") == stack.known["release"]
    pid = stack.shell("pgrep -o -f bin/uwsgi")
    environment = stack.shell(f"tr '\\0' '\\n' </proc/{pid}/environ").splitlines()
    assert json.loads(stack.shell("cat /etc/wsgi-ecs/app.env.json")).items() >= rotated.items()
    assert {f"{name}={secret}" for name, secret in rotated.items()} <= set(environment)
    assert ENCRYPTED not in "\n".join(environment)


def test_a_rebooted_machine_serves_again(stack: Stack) -> None:
    stack.run("ssh", "--", "systemctl reboot")
    deadline = time.monotonic() + 60
    while True:
        with contextlib.suppress(Exception):
            if (
                stack.get(stack.known["address"], "/healthz").status_code == 200
                and boot_id(stack) != stack.known["boot"]
            ):
                break
        assert time.monotonic() < deadline
        time.sleep(0.5)


def test_ssh_lets_in_keys_alone_and_offers_no_old_algorithm(stack: Stack) -> None:
    address = stack.known["address"]
    assert ways_in(address) == "(publickey)."
    assert ssh_faults(address) == set()
    # A configuration that sshd refuses is taken back, and sshd goes on.
    broken = "/etc/ssh/sshd_config.d/99-broken.conf"
    stack.shell(f"echo 'Prot 22' >{broken}; rm /etc/ssh/sshd_config.d/10-wsgi-ecs.conf")
    stack.settings = {**stack.settings, "release": {"generation": 7}}
    assert "the settings of sshd stay as they were, because sshd refuses" in stack.up().text
    assert stack.shell(f"test ! -e /etc/ssh/sshd_config.d/10-wsgi-ecs.conf && rm {broken} && echo still") == "still"
    stack.settings = {**stack.settings, "release": {"generation": 8}}
    stack.up()
    assert stack.shell("sshd -T | grep ^maxauthtries") == "maxauthtries 4"


def test_a_file_that_was_edited_by_hand_is_named_and_put_back(stack: Stack) -> None:
    stack.shell("echo '# by hand' >>/srv/wsgi-ecs/sites/app/current/server.conf")
    path = stack.shell("readlink -f /srv/wsgi-ecs/sites/app/current/server.conf")
    assert f"edited by hand: {path} (changed)" in stack.run("status").out
    stack.settings = {**stack.settings, "release": {"generation": 1}}
    stack.shell("echo '# by hand' >>/etc/nginx/nginx.conf")
    done = stack.up()
    assert f"{path} was edited by hand (changed)" in done.output("edited_by_hand")
    assert "/etc/nginx/nginx.conf was edited by hand (changed)" in done.output("edited_by_hand")
    assert "edited by hand: " not in stack.run("status").out
    assert stack.shell("wsgi-ecs-status").startswith("site app: release ")


def test_status_and_logs_tell(stack: Stack) -> None:
    status = stack.run("status")
    assert status.code == 0
    assert stack.known["address"] in status.out
    logs = stack.run("logs")
    assert logs.code == 0
    assert "ready for its first release" in logs.out
    assert "spawned uWSGI worker 1" in logs.out


def test_destroy_leaves_no_trace_and_may_be_run_twice(stack: Stack) -> None:
    kinds = {path.split("/")[2] + ("/forwards" if "/forwards/" in path else "") for path in traces(stack)}
    assert kinds == {"projects", "instances", "networks", "networks/forwards", "network-acls", "dnsmasq"}
    for _ in range(2):
        assert stack.run("destroy").code == 0
        assert traces(stack) == set()


def test_the_rehearsal_keeps_its_key_to_itself(stack: Stack) -> None:
    keys = list(Path(stack.folder / ".rehearsal").rglob("id_ed25519"))
    assert [oct(key.stat().st_mode & 0o777) for key in keys] in ([], ["0o600"])
