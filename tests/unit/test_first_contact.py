"""The host key of each server: how the program comes to know it, and that nothing is sent to another server."""

import re
import subprocess
from pathlib import Path
from typing import Any

import pulumi
import pytest
from pulumi.runtime import mocks

from components import first_contact, way_in
from components.server import checked
from contract.resources import FIRST_CONTACT, USER_DATA_LIMIT
from reference.samples import CLOUD, PUBLIC_KEY
from tests.builders.program import HOST_KEY, Cloud, Recorder, Run, secret

OVER_SSH = (":CopyToRemote", "remote:Command")
SEVERAL = {**CLOUD, "topology": {"app_servers": 2}, "mysql": {"password": "x"}}
OTHER_KEY = f"ssh-ed25519 {'B' * 68}"


@pytest.fixture
def registered(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of what is registered."""
    seen: list[str] = []
    known = Cloud.new_resource

    def record(cloud: Cloud, args: mocks.MockResourceArgs) -> tuple[str | None, dict[str, Any]]:
        seen.append(args.name)
        return known(cloud, args)

    monkeypatch.setattr(Cloud, "new_resource", record)
    return seen


def connections(program: Recorder) -> dict[str, dict[str, Any]]:
    """Name of each resource over SSH → its connection."""
    found = [request for request in program.requests.values() if request.type.endswith(OVER_SSH)]
    return {each.name: secret(program.inputs(each.type, each.name)["connection"]) for each in found}


def secrets_of(program: Recorder) -> list[str]:
    """The secret in the user data of each server."""
    texts = [
        secret(program.inputs(r.type, r.name)["userData"]) for r in program.requests.values() if "userData" in r.object
    ]
    return [re.findall(f"^{FIRST_CONTACT}(.+)$", text, re.MULTILINE)[0] for text in texts]


@pytest.mark.parametrize("types", [("ed25519", "ecdsa"), ("ecdsa",)], ids=str)
@pytest.mark.parametrize("is_new", [True, False], ids=["new", "of an earlier version"])
def test_what_a_server_prints_proves_its_key(
    tmp_path: Path, types: tuple[str, ...], is_new: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    ssh, instance = tmp_path / "etc/ssh", tmp_path / "var/lib/cloud/instance"
    for folder in (ssh, instance / "sem"):
        folder.mkdir(parents=True)
    (instance / "sem/config_ssh").touch()
    line = f"{FIRST_CONTACT}{'s3cret-_' * 5}\n" if is_new else ""
    user_data = f"#cloud-config\nwrite_files: []\n{line}"
    (instance / "user-data.txt").write_text(user_data)
    for type_ in types:
        make = [
            "ssh-keygen",
            "-q",
            "-t",
            type_,
            "-N",
            "",
            "-C",
            "root@server",
            "-f",
            str(ssh / f"ssh_host_{type_}_key"),
        ]
        subprocess.run(make, check=True, stdin=subprocess.DEVNULL)
    script = re.sub(r"/(?:etc/ssh|var/lib/cloud)/", lambda found: f"{tmp_path}{found[0]}", first_contact.command())
    done = subprocess.run(["sh", "-c", script], capture_output=True, text=True, stdin=subprocess.DEVNULL)
    if "ed25519" not in types:
        assert (done.returncode, done.stdout) == (1, "")
        assert "this server has no Ed25519 host key; next: " in done.stderr
        return
    assert (done.returncode, done.stderr) == (0, "")
    shown = (ssh / f"ssh_host_{types[0]}_key.pub").read_text().rpartition(" ")[0]
    assert first_contact.host_key(done.stdout, user_data, "198.51.100.7", "urn") == shown
    assert len(done.stdout.splitlines()) == (2 if is_new else 1)
    said: list[str] = []
    monkeypatch.setattr(pulumi, "info", said.append)
    # The state of a rehearsal keeps no secret, and a server of an earlier version has no proof.
    assert first_contact.host_key(done.stdout, None, "198.51.100.7", "urn") == shown
    assert [text for text in said if "without proof" in text] == said
    assert len(said) == (0 if is_new else 1)
    if is_new:
        with pytest.raises(pulumi.RunError, match="is not the server that was made"):
            first_contact.host_key(done.stdout, user_data.replace("s3cret", "s4cret"), "198.51.100.7", "urn")


@pytest.mark.parametrize("config", [CLOUD, SEVERAL], ids=["one server", "several"])
def test_every_connection_but_the_first_one_to_a_server_checks_its_host_key(
    run_program: Run, config: dict[str, Any]
) -> None:
    program = run_program(config)
    found = connections(program)
    first = {name for name, connection in found.items() if "hostKey" not in connection}
    servers = [r.name.removesuffix("-instance") for r in program.requests.values() if r.type.endswith(":Instance")]
    assert first == {f"{server}-host-key" for server in servers}
    assert {connection["hostKey"] for name, connection in found.items() if name not in first} == {HOST_KEY}
    # The first session with a server behind the front goes through a server that is known.
    through = [connection["proxy"] for connection in found.values() if "proxy" in connection]
    assert {each.get("hostKey") for each in through} <= {HOST_KEY}
    assert len(through) == len([name for name in found if not name.startswith(servers[0])])
    assert [machine["host_key"] for machine in program.outputs["machines"]] == [HOST_KEY] * len(servers)


def test_the_first_session_runs_once_in_a_servers_life(run_program: Run) -> None:
    program = run_program(SEVERAL)
    for server in ("front", "app-1", "app-2", "db"):
        request = program.request("remote:Command", f"-{server}-host-key")
        # A changed address, private key or text of the command accepts no other key.
        assert sorted(request.ignoreChanges) == ["connection", "create"]
        inputs = program.inputs("remote:Command", f"-{server}-host-key")
        assert inputs["triggers"] == [f"wsgi-ecs-dev-{server}-instance-id"]
        assert not {"stdin", "environment", "update", "delete"} & set(inputs)


def test_each_server_proves_itself_by_a_secret_of_its_own_that_only_its_user_data_has(run_program: Run) -> None:
    programs = [run_program(SEVERAL) for _ in range(2)]
    found = [each for program in programs for each in secrets_of(program)]
    assert len(set(found)) == 8
    assert min(map(len, found)) >= 43
    for program in programs:
        sent = [
            (r.name, key, str(value))
            for r in program.requests.values()
            for key, value in program.inputs(r.type, r.name).items()
        ]
        for mine in secrets_of(program):
            assert [key for _, key, text in sent if mine in text] == ["userData"]
        assert not any(mine in str(program.outputs) for mine in found)
    # What cloud-init does is the same as without it, and the limit has room for it.
    text = checked("#cloud-config".ljust(USER_DATA_LIMIT, "x"))
    assert len(f"{text}{FIRST_CONTACT}{found[0]}\n") <= 16 * 1024


@pytest.mark.parametrize(
    "answer",
    [
        # Who is in between knows the real server's key, but not the secret.
        f"{OTHER_KEY}\n{first_contact.proof('guessed', OTHER_KEY)}",
        f"{HOST_KEY}\n{'0' * 64}",
        OTHER_KEY,
    ],
)
def test_what_does_not_prove_that_it_is_the_new_server_gets_nothing(
    run_program: Run, monkeypatch: pytest.MonkeyPatch, registered: list[str], answer: str
) -> None:
    monkeypatch.setattr(Cloud, "first_session", lambda self, user_data: answer)
    with pytest.raises(pulumi.RunError) as error:
        run_program(CLOUD)
    urn = "urn:pulumi:dev::wsgi-ecs::wsgi:login:Login$command:remote:Command::wsgi-ecs-dev-host-key"
    assert str(error.value) == (
        "what answers at 198.51.100.7 is not the server that was made, so somebody may be in between; run the first "
        f"session again, from a network that you trust: pulumi up --replace '{urn}'"
    )
    assert [name for name in registered if name.endswith(("-ready", "-archive", "-apply"))] == []


@pytest.mark.parametrize(
    "answer", ["", "ssh-rsa AAAA", f"{HOST_KEY} comment", f"{HOST_KEY}\n{HOST_KEY}", f"{HOST_KEY}\nx"]
)
def test_an_answer_without_one_usable_host_key_is_refused(
    run_program: Run, monkeypatch: pytest.MonkeyPatch, answer: str
) -> None:
    monkeypatch.setattr(Cloud, "first_session", lambda self, user_data: answer)
    with pytest.raises(pulumi.RunError, match="has printed no host key that can be checked"):
        run_program(CLOUD)


def test_a_server_that_an_earlier_version_has_made_is_trusted_once(
    run_program: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = Cloud.new_resource

    def earlier(self: Cloud, args: mocks.MockResourceArgs) -> tuple[str | None, dict[str, Any]]:
        """The engine answers with the user data that the server was made with, as those of the program are ignored."""
        id_, outputs = made(self, args)
        return id_, {**outputs, "userData": "#cloud-config\n"} if args.typ.endswith(":Instance") else outputs

    monkeypatch.setattr(Cloud, "new_resource", earlier)
    monkeypatch.setattr(Cloud, "first_session", lambda self, user_data: f"{HOST_KEY}\n")
    found = connections(run_program(CLOUD))
    assert {name: each.get("hostKey") for name, each in found.items() if name.endswith(("-host-key", "-ready"))} == {
        "wsgi-ecs-dev-host-key": None,
        "wsgi-ecs-dev-ready": HOST_KEY,
    }


def test_the_setting_wins_for_the_server_that_the_world_reaches(run_program: Run) -> None:
    program = run_program({**SEVERAL, "access": {**CLOUD["access"], "host_key": f"{PUBLIC_KEY} of-mine"}})
    found = connections(program)
    assert "wsgi-ecs-dev-front-host-key" not in found
    assert {each["hostKey"].split()[1] for name, each in found.items() if "-front-" in name} == {PUBLIC_KEY.split()[1]}
    assert found["wsgi-ecs-dev-app-1-ready"]["hostKey"] == HOST_KEY
    assert found["wsgi-ecs-dev-app-1-host-key"]["proxy"]["hostKey"].split()[1] == PUBLIC_KEY.split()[1]
    keys = {machine["name"]: machine["host_key"] for machine in program.outputs["machines"]}
    assert keys["front"] == " ".join(PUBLIC_KEY.split()[:2])
    assert keys["db"] == HOST_KEY


def test_a_server_whose_host_key_has_changed_is_refused_before_a_command_tries_it(
    run_program: Run, monkeypatch: pytest.MonkeyPatch, registered: list[str]
) -> None:
    shown = [OTHER_KEY, "ecdsa-sha2-nistp256 CCCC"]
    monkeypatch.setattr(way_in, "host_keys", lambda address: shown if address == "198.51.100.7" else [])
    with pytest.raises(pulumi.RunError) as error:
        run_program(CLOUD)
    assert str(error.value) == (
        "the server at 198.51.100.7 shows another host key than at its first contact, so somebody may be in between; "
        "if you know why the key has changed: pulumi up --replace "
        "'urn:pulumi:dev::wsgi-ecs::wsgi:login:Login$command:remote:Command::wsgi-ecs-dev-host-key'"
    )
    assert [name for name in registered if name.endswith(("-ready", "-archive", "-apply"))] == []


def test_a_server_with_its_host_key_or_without_an_answer_gets_its_release(
    run_program: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    for shown in ([OTHER_KEY, HOST_KEY], []):
        monkeypatch.setattr(way_in, "host_keys", lambda address, shown=shown: shown)
        assert run_program(CLOUD).outputs["release"]
    # A rehearsal's commands say themselves what is wrong.
    monkeypatch.setattr(way_in, "host_keys", lambda address: [OTHER_KEY])
    assert run_program(CLOUD, rehearsed=True).outputs["release"]
