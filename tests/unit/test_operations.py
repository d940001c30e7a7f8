"""The day-to-day commands: which machine they reach, how, and where a stack is."""

import json
import os
import shlex
import sys
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from operations import __main__ as stack_command
from operations import attached, backup, connection, dump, maintenance, site_data, status, where
from operations import run as running
from operations.connection import Way, advice
from operations.deployed import from_outputs
from operations.errors import OperationError, UserError
from operations.machines import Machine, Stack
from operations.proof import Answer
from rehearsal import cli

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"
OUTPUTS: dict[str, Any] = {
    "url": "http://198.51.100.7/",
    "address": "198.51.100.7",
    "machines": [
        {"name": "front", "id": "i-1", "private_address": "10.76.0.2", "sites": ["blog", "shop"]},
        {"name": "app-1", "id": "i-2", "private_address": "10.76.0.3", "sites": ["blog", "shop"]},
        {"name": "db", "id": "i-3", "private_address": "10.76.0.4", "sites": []},
    ],
}


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project with stack qa, in a home without anything. There is no Pulumi."""
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    (tmp_path / "stacks").mkdir()
    (tmp_path / "bin").mkdir()
    (tmp_path / "Pulumi.yaml").write_text("name: wsgi-ecs\nstackConfigDir: stacks\n")
    (tmp_path / "key").write_text("private")
    return tmp_path


def access(project: Path, **settings: str) -> None:
    file = project / "stacks" / "Pulumi.qa.yaml"
    file.write_text(json.dumps({"config": {"wsgi-ecs:access": settings}}))


def options(words: list[str]) -> dict[str, str]:
    return dict(word.split("=", 1) for flag, word in pairwise(words) if flag == "-o")


def test_the_first_machine_is_reached_directly_and_the_others_through_it(project: Path) -> None:
    access(project, private_key_file="key")
    stack = from_outputs(project, "qa", OUTPUTS)
    front, app = (stack.machine(name).way.command() for name in ("front", "app-1"))
    assert (front[-1], app[-1]) == ("root@198.51.100.7", "root@10.76.0.3")
    through = shlex.split(options(app)["ProxyCommand"])
    assert through[:-3] == front[:-1]
    assert through[-3:] == ["-W", "%h:%p", "root@198.51.100.7"]
    for words, alias in ((front, "i-1"), (app, "i-2")):
        assert words[words.index("-i") + 1] == str(project / "key")
        # A server that replaces another one has another id, so its key is new and not changed.
        assert options(words)["HostKeyAlias"] == alias
        assert options(words)["StrictHostKeyChecking"] == "accept-new"
        assert options(words)["UserKnownHostsFile"] == f"{project}/home/.ssh/wsgi-ecs/wsgi-ecs-qa/known_hosts"
    assert (project / "home/.ssh/wsgi-ecs/wsgi-ecs-qa").stat().st_mode & 0o777 == 0o700


def test_with_a_known_host_key_the_server_of_the_address_has_no_other(project: Path) -> None:
    access(project, host_key=f"{KEY} comment")
    stack = from_outputs(project, "qa", OUTPUTS)
    front, app = (options(stack.machine(name).way.command()) for name in ("front", "app-1"))
    assert front["StrictHostKeyChecking"] == "yes"
    assert Path(front["UserKnownHostsFile"]).read_text() == f"i-1 {KEY}\n"
    # A stack that an earlier version has deployed does not know the others' keys.
    assert app["StrictHostKeyChecking"] == "accept-new"
    assert "StrictHostKeyChecking=yes" in app["ProxyCommand"]
    # Without a key file, the agent and the user's own keys are tried.
    assert "-i" not in stack.machine().way.command()


def test_each_server_must_have_the_host_key_that_pulumi_has_found(project: Path) -> None:
    keys = [f"ssh-ed25519 {letter * 68}" for letter in "ABC"]
    found = [{**machine, "host_key": key} for machine, key in zip(OUTPUTS["machines"], keys, strict=True)]
    stack = from_outputs(project, "qa", {**OUTPUTS, "machines": found})
    for name in ("front", "app-1", "db"):
        words = options(stack.machine(name).way.command())
        assert words["StrictHostKeyChecking"] == "yes"
        known = Path(words["UserKnownHostsFile"]).read_text().splitlines()
        assert known == [f"i-{number} {key}" for number, key in enumerate(keys, 1)]
        assert "accept-new" not in words.get("ProxyCommand", "")
    # The setting wins.
    access(project, host_key=f"{KEY} comment")
    way = from_outputs(project, "qa", {**OUTPUTS, "machines": found}).machine().way
    assert way.known_hosts.read_text().splitlines() == [f"i-1 {KEY}", f"i-2 {keys[1]}", f"i-3 {keys[2]}"]


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"machines": None}, "output machines: Input should be a valid tuple"),
        ({"machines": []}, "output machines: .*at least 1 item"),
        ({"address": "-oProxyCommand=x"}, "output address: .*; allowed: what pulumi stack output --json prints"),
        ({"machines": [{**OUTPUTS["machines"][0], "id": "-x"}]}, "output machines.0.id: "),
        ({"machines": [{**OUTPUTS["machines"][0], "private_address": "a b"}]}, "output machines.0.private_address: "),
        ({"machines": [{**OUTPUTS["machines"][0], "host_key": f"{KEY}\n* {KEY}"}]}, "output machines.0.host_key: "),
    ],
)
def test_wrong_outputs_are_refused_in_one_line(project: Path, changed: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError, match=said) as error:
        from_outputs(project, "qa", {**OUTPUTS, **changed})
    assert "\n" not in str(error.value)


def test_outputs_of_an_earlier_version_say_so(project: Path) -> None:
    with pytest.raises(UserError, match="no output machines, so an earlier version has deployed it"):
        from_outputs(project, "qa", {"address": "198.51.100.7"})


def test_a_private_key_that_is_not_there_is_named(project: Path) -> None:
    access(project, private_key_file="nowhere")
    with pytest.raises(UserError, match=r"access\.private_key_file: .*nowhere: no such file"):
        from_outputs(project, "qa", OUTPUTS)


def pulumi(project: Path, script: str) -> None:
    program = project / "bin" / "pulumi"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)


@pytest.mark.parametrize(
    ("script", "said"),
    [
        ("echo \"error: no stack named 'qa' found\" >&2; exit 255", "no stack named 'qa' found; allowed: a stack of"),
        ("echo 'error: PULUMI_ACCESS_TOKEN must be set for login' >&2; exit 255", "log in with pulumi login"),
        ("echo 'error: passphrase must be set' >&2; exit 255", "set the passphrase of the stack, as for pulumi up"),
        ("exit 3", "pulumi: no reason; see pulumi stack output"),
        ("echo hello", "pulumi stack output --json: no map in JSON"),
        ("echo '{}'", "stack qa has no output machines"),
        ("", "pulumi stack output --json: no map in JSON"),
    ],
)
def test_what_pulumi_says_is_one_line(project: Path, script: str, said: str) -> None:
    pulumi(project, script)
    with pytest.raises(UserError, match=said) as error:
        where.find(project, "qa", False, False, None)
    assert "\n" not in str(error.value)


def test_pulumi_is_asked_in_the_project_for_the_stack(project: Path) -> None:
    (project / "out.json").write_text(json.dumps(OUTPUTS))
    pulumi(
        project,
        '[ "$*" = "stack output --json --stack qa --non-interactive" ] && /bin/cat out.json',
    )
    assert where.find(project, "qa", False, False, None).sites == ["blog", "shop"]


@pytest.fixture
def became(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """The command lines that this process would have become."""
    found: list[list[str]] = []

    def become(_: str, words: list[str]) -> None:
        found.append(words)
        raise SystemExit

    monkeypatch.setattr(os, "execvp", become)
    monkeypatch.setattr(sys, "argv", ["stack", "logs", "-s", "qa"])
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    return found


def test_a_rehearsed_stack_is_the_rehearsals(project: Path, became: list[list[str]]) -> None:
    (project / ".rehearsal" / "qa").mkdir(parents=True)
    for rehearsed in (True, False):
        with pytest.raises(SystemExit):
            where.find(project, "qa", rehearsed, False, None)
    # Pulumi knows nothing of the stack.
    pulumi(project, "echo \"error: no stack named 'qa' found\" >&2; exit 255")
    with pytest.raises(SystemExit):
        where.find(project, "qa", False, False, None)
    assert became == 3 * [["sudo", "-E", sys.executable, "-B", "-m", "rehearsal", "logs", "-s", "qa"]]


def test_a_stack_in_both_places_wants_to_be_told(project: Path) -> None:
    (project / ".rehearsal" / "qa").mkdir(parents=True)
    (project / "out.json").write_text(json.dumps(OUTPUTS))
    pulumi(project, "/bin/cat out.json")
    with pytest.raises(UserError, match="rehearsed here and deployed, too; allowed: --rehearsed or --deployed"):
        where.find(project, "qa", False, False, None)
    assert where.find(project, "qa", False, True, None).machine().way.host == "198.51.100.7"
    file = str(project / "out.json")
    assert where.find(project, "qa", False, False, file).machine().way.host == "198.51.100.7"
    with pytest.raises(UserError, match="--rehearsed with --deployed or --outputs"):
        where.find(project, "qa", True, False, file)


def test_a_stack_that_is_nowhere_is_one_line(project: Path) -> None:
    for stack, said in (("qa", "is not rehearsed here, and the Pulumi CLI is not installed"), ("local", "rehearse up")):
        with pytest.raises(UserError, match=said):
            where.find(project, stack, False, False, None)
    with pytest.raises(UserError, match="--outputs nowhere: No such file"):
        where.find(project, "qa", False, False, "nowhere")


def test_what_ssh_says_gets_an_advice() -> None:
    new = Way("198.51.100.7", "i-1", Path("/h/known hosts"), None, accepts_new=True)
    fixed = Way("198.51.100.7", "i-1", Path("/h/host_key"), None)
    changed = "@ WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED! @\nHost key verification failed."
    assert "ssh-keygen -R i-1 -f '/h/known hosts'" in (advice(new, changed) or "")
    assert "'Host keys' in docs/day-to-day.md" in (advice(fixed, changed) or "")
    assert "ssh-add -l" in (advice(new, "root@198.51.100.7: Permission denied (publickey).") or "")
    assert "access.ssh must allow" in (advice(new, "ssh: connect to host x port 22: Connection timed out") or "")
    assert advice(new, "bash: nothere: command not found") is None


def test_the_advice_is_of_the_server_in_front_if_ssh_does_not_get_through_it(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    front, behind = (each.way for each in from_outputs(project, "qa", OUTPUTS).machines[:2])
    refused = "root@198.51.100.7: Permission denied (publickey)."
    monkeypatch.setattr(Way, "command", lambda self, *flags: ["/bin/sh", "-c", f"echo '{refused}' >&2; exit 255"])
    assert "198.51.100.7 refuses" in (advice(behind, refused) or "")
    monkeypatch.setattr(Way, "command", lambda self, *flags: ["/bin/true"])
    assert "10.76.0.3 refuses" in (advice(behind, refused) or "")
    assert "198.51.100.7 refuses" in (advice(front, refused) or "")


def made(**missing: str) -> Stack:
    way = Way("198.51.100.7", "i-1", Path("known"), None)
    sites = {"front": ("blog", "shop"), "app-1": ("blog", "shop"), "app-2": ("blog", "shop"), "db": ()}
    return Stack("qa", tuple(Machine(n, f"i-{n}", s, way, missing.get(n.replace("-", ""))) for n, s in sites.items()))


def test_a_command_runs_where_the_application_does(monkeypatch: pytest.MonkeyPatch) -> None:
    found: list[Any] = []

    def attach(machine: Machine, words: list[str], terminal: bool) -> int:
        found.append((machine.name, *words))
        return 0

    monkeypatch.setattr(running, "attach", attach)
    running.run(made(), "shop", None, ("python", "-c", "print(1)"))
    running.run(made(), "blog", "i-app-2", ("env",))
    tool = "/usr/bin/python3 -B /srv/wsgi-ecs/host/current/tool/site_command.py"
    assert found == [("app-1", f"{tool} shop python -c 'print(1)'"), ("app-2", f"{tool} blog env")]
    for site, said in ((None, "several sites; allowed: --site with one of blog, shop"), ("x", "allowed: blog, shop")):
        with pytest.raises(UserError, match=said):
            running.run(made(), site, None, ("env",))


def test_a_machine_is_named_or_refused() -> None:
    assert made().machine().name == "front"
    with pytest.raises(UserError, match=r"--machine app-9: .*; allowed: front, app-1, app-2, db"):
        made().machine("app-9")
    with pytest.raises(UserError, match="it is stopped"):
        made(app1="it is stopped").machine("app-1")


@pytest.mark.parametrize("main", [cli.main, stack_command.main])
def test_without_a_command_it_is_one_line(main: Any) -> None:
    done = CliRunner().invoke(main, ["run"])
    assert done.exit_code == 2
    assert ": no command; allowed: a program and its arguments" in done.output
    assert done.output.count("\n") == 1


@pytest.mark.parametrize("main", [cli.main, stack_command.main])
@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["maintenance", "maybe"], "'maybe' is not one of 'on', 'off', 'status'"),
        (["maintenance"], "Missing argument 'on|off|status'"),
        (["rollback", "--bogus"], "No such option '--bogus'"),
        (["rollback", "a", "b"], "unexpected extra argument (b)"),
        (["rollback", ""], "the ID is empty; allowed: an id that releases lists"),
        (["releases", "--site"], "Option '--site' requires an argument"),
        (["bogus"], "No such command 'bogus'"),
    ],
)
def test_wrong_use_is_one_line(main: Any, words: list[str], said: str) -> None:
    done = CliRunner().invoke(main, words)
    assert (done.exit_code, done.output.count("\n")) == (2, 1), done.output
    assert said in done.output


def test_a_rehearsal_is_not_deployed() -> None:
    done = CliRunner().invoke(cli.main, ["ssh", "--deployed"])
    assert (done.exit_code, "allowed: ./stack with the same options" in done.output) == (2, True)


@pytest.mark.parametrize(("script", "code"), [("exit 7", 7), ("kill -9 $$", 137), ("kill -STOP $$; exit 5", 5)])
def test_the_exit_code_is_the_commands(script: str, code: int, monkeypatch: pytest.MonkeyPatch) -> None:
    stopped: list[int] = []
    kill = os.kill
    # This process would be suspended with its child.
    own = os.getpid()
    monkeypatch.setattr(os, "kill", lambda pid, number: stopped.append(number) if pid == own else kill(pid, number))
    assert attached._run(["sh", "-c", script]) == code
    assert len(stopped) == script.count("STOP")


@pytest.fixture
def ssh(project: Path) -> Stack:
    """A deployed stack whose ssh runs the remote command here, after it has noted where it leads."""
    (project / "bin" / "ssh").write_text(
        "#!/bin/sh\nPATH=/usr/bin:/bin\n"
        'while [ "$1" != -- ]; do case $1 in root@*) echo "$1" >>"$HOME/asked";; esac; shift; done\n'
        'shift\nexec sh -c "$*"\n'
    )
    (project / "bin" / "ssh").chmod(0o755)
    return from_outputs(project, "qa", OUTPUTS)


def asked(project: Path) -> list[str]:
    return (project / "home" / "asked").read_text().split()


def test_status_tells_of_each_machine_and_the_site(
    project: Path, ssh: Stack, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    answer = Answer("GET http://198.51.100.7/ → 200 OK", "", 200)
    monkeypatch.setattr(status, "request", lambda *_: answer)
    monkeypatch.setattr(status, "_AS_LINES", "echo site shop: release 0123456789ab")
    assert status.status(ssh, as_json=False) == 0
    printed = capsys.readouterr().out
    assert "machine app-1, 10.76.0.3\n  site shop: release 0123456789ab\n" in printed
    assert printed.endswith("200 OK\n")
    assert asked(project) == ["root@198.51.100.7", "root@10.76.0.3", "root@10.76.0.4"]
    answer = Answer("GET http://198.51.100.7/ → 502 Bad Gateway", "", 502)
    assert status.status(ssh, as_json=False) == 1


def test_a_dump_comes_from_the_database_and_data_from_the_application(
    project: Path, ssh: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dump, "DATABASE_COMMAND", "sh -c 'echo \"-- Dump completed\" | gzip' #")
    assert backup.backup(ssh, str(project / "app.sql.gz")) == 0
    assert asked(project) == ["root@10.76.0.4"]
    assert (project / "app.sql.gz").stat().st_mode & 0o777 == 0o600
    assert site_data._machine(ssh, "shop", None).name == "app-1"
    with pytest.raises(UserError, match="each app server has data of its own; allowed: --machine with one of app-1"):
        site_data._machine(made(), "shop", None)
    with pytest.raises(UserError, match="stack qa has no database; allowed: --site"):
        dump.database_machine(Stack("qa", ssh.machines[:1]))


@pytest.mark.parametrize(
    ("script", "said"),
    [
        ("seq 20 >&2; exit 3", ["backup on db failed:", *(f"  {n}" for n in range(11, 21)), "next: correct on the"]),
        ("exit 3", ["backup on db failed:", "  ssh ended with 3", "next: correct on the"]),
        ("printf 'x\\033[2J' >&2; exit 3", ["backup on db failed:", "  x\\x1b[2J", "next: correct on the"]),
        ("nothere", ["backup on db failed:", "*", "next: run up, which brings this command"]),
        (
            "echo \"Warning: Permanently added 'i-3'\" >&2; echo 'Connection refused' >&2; exit 255",
            ["backup on db failed:", "  Connection refused", "next: no SSH connection to 10.76.0.4; access.ssh must"],
        ),
    ],
)
def test_a_backup_that_fails_says_why_and_what_to_do(
    project: Path, ssh: Stack, monkeypatch: pytest.MonkeyPatch, script: str, said: list[str]
) -> None:
    monkeypatch.setattr(dump, "DATABASE_COMMAND", script + " #")
    monkeypatch.setattr(connection, "explain", lambda way: None)
    with pytest.raises(OperationError) as error:
        backup.backup(ssh, str(project / "app.sql.gz"))
    lines = str(error.value).splitlines()
    assert len(lines) == len(said)
    assert all(line.startswith(text) for line, text in zip(lines, said, strict=True) if text != "*")
    assert not list(project.glob("*.gz"))


def test_maintenance_is_of_the_machine_of_nginx(project: Path, ssh: Stack, capfd: Any) -> None:
    assert maintenance.maintenance(ssh, "on", None) == 2
    assert asked(project) == ["root@198.51.100.7"]
    assert "older than this command" in capfd.readouterr().err
