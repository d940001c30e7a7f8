"""A file system that machines share: what is refused, what is registered, and how a machine mounts it."""

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pulumi
import pytest

from components.managed_lookup import store_zone
from contract.codec import decode
from contract.documents import Host, Shared
from contract.numbers import number
from kinds.systems import SYSTEMS
from operations import site_data
from operations.connection import Way
from operations.errors import UserError
from operations.machines import Machine as OperatedMachine
from operations.machines import Stack
from policies import POLICIES, Resource
from reference.samples import CLOUD
from serving import bootstrap, host_files, machines
from settings import SettingsError
from settings.loader import parse
from tests.builders.program import Cloud, Recorder, Run, secret
from tests.unit.machine import module
from tests.unit.machine.server import Server

data_disk, shared_data, space, status = (module(name) for name in ("data_disk", "shared_data", "space", "status"))
paths = module("contract.paths")
FILE = "stacks/Pulumi.dev.yaml"
SHARED: dict[str, Any] = {"data": {"shared": True}}
APART: dict[str, Any] = {**SHARED, "topology": {"app_servers": 2}}
TAGS = {"project": "wsgi-ecs", "stack": "dev", "managed-by": "pulumi"}
ADDRESS = "0a1b-x.cn-hangzhou.nas.aliyuncs.com"


@pytest.mark.parametrize("value", ["sqlite://", "sqlite:///:memory:", "postgresql://x/sqlite:"])
def test_what_sqlite_keeps_in_memory_is_allowed(value: str) -> None:
    parse({**SHARED, "app": {"env": {"DATABASE_URL": value}}}, FILE)


@pytest.mark.parametrize("value", ["sqlite:///db.sqlite3", "sqlite+aiosqlite:////srv/a.db", "sqlite3:a"])
def test_no_message_repeats_the_url_of_a_database(value: str) -> None:
    with pytest.raises(SettingsError) as error:
        parse({**SHARED, "app": {"env": {"DATABASE_URL": value}}}, FILE)
    assert str(error.value).startswith(f"{FILE}: app.env.DATABASE_URL: SQLite breaks in a file system")
    assert value not in str(error.value)


def test_two_users_do_not_get_the_same_number(monkeypatch: pytest.MonkeyPatch) -> None:
    ports = {"a": "0.0.0.0:3031", "b": "0.0.0.0:3041"}
    sites = {"sites": {n: {"site": {"location": f"/{n}/"}, "uwsgi": {"socket": port}} for n, port in ports.items()}}
    parse({**APART, **sites}, FILE)
    monkeypatch.setattr("settings.between_sites.number", lambda name: 20000 if name.endswith("-web") else hash(name))
    with pytest.raises(SettingsError, match=r"sites\.b: data.shared gives its users the numbers of those of site a"):
        parse({**APART, **sites}, FILE)
    # A single server shares them with no other.
    parse({**SHARED, "sites": {name: {"site": {"location": f"/{name}/"}} for name in ports}}, FILE)


def test_each_machine_gives_the_same_number_and_none_that_a_system_has() -> None:
    assert number("wsgi-app") == 29383
    assert all(20000 <= number(f"wsgi-{each}") < 60000 for each in range(999))


def registered(program: Recorder) -> set[tuple[str, str]]:
    return {(request.type, request.name) for request in program.requests.values()}


def test_a_stack_without_it_registers_nothing_of_nas(run_program: Run) -> None:
    for config in ({}, {"topology": {"app_servers": 2}}, {"data": {"disk_gib": 20}}):
        assert not [name for type_, name in registered(run_program({**CLOUD, **config})) if ":nas/" in type_]


def test_the_file_system_has_what_the_provider_reads_back(run_program: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Cloud, "call", offering("cn-hangzhou-i"))
    program = run_program({**CLOUD, **APART})
    assert program.inputs("nas/fileSystem:FileSystem") == {
        "description": "wsgi-ecs-dev",
        "protocolType": "NFS",
        "storageType": "Capacity",
        "encryptType": 1,
        "zoneId": "cn-hangzhou-i",
        "tags": TAGS,
    }
    request = program.request("nas/fileSystem:FileSystem")
    # Each of them would replace it by an empty one under another address.
    assert sorted(request.ignoreChanges) == ["encryptType", "protocolType", "storageType", "zoneId"]
    assert request.protect
    assert program.inputs("nas/accessGroup:AccessGroup") == {
        "accessGroupName": "wsgi-ecs-dev-data",
        "accessGroupType": "Vpc",
    }
    assert program.inputs("nas/mountTarget:MountTarget") == {
        "fileSystemId": "wsgi-ecs-dev-data-id",
        "accessGroupName": "wsgi-ecs-dev-data",
        "vswitchId": "wsgi-ecs-dev-switch-id",
    }


@pytest.mark.parametrize(("config", "protect"), [({}, True), ({"protect": True}, True), ({"protect": False}, False)])
def test_it_is_protected_unless_it_must_not_be(run_program: Run, config: dict[str, Any], protect: bool) -> None:
    program = run_program({**CLOUD, "data": {"shared": True, **config}})
    assert {r.type for r in program.requests.values() if r.protect} == (
        {"alicloud:nas/fileSystem:FileSystem"} if protect else set()
    )
    # A data disk stays as it was.
    assert not run_program({**CLOUD, "data": {"disk_gib": 20}}).request(":EcsDisk").protect


def test_the_applications_machines_alone_mount_it_before_their_release(run_program: Run) -> None:
    for config, names in ((SHARED, ["dev"]), ({**APART, "mysql": {"password": "x"}}, ["dev-app-1", "dev-app-2"])):
        program = run_program({**CLOUD, **config})
        rules = [r.name for r in program.requests.values() if r.type.endswith(":AccessRule")]
        assert sorted(rules) == [f"wsgi-ecs-{name}-data-rule" for name in names]
        for name, rule in zip(names, sorted(rules), strict=True):
            assert program.inputs(":AccessRule", rule) == {
                "accessGroupName": "wsgi-ecs-dev-data",
                "sourceCidrIp": "10.0.0.1",
                "rwAccessType": "RDWR",
                "userAccessType": "no_squash",
                "priority": 1,
            }
            request = program.request(":AccessRule", rule)
            # The old server keeps its data until the new one serves.
            assert list(request.replaceOnChanges) == ["sourceCidrIp"]
            assert not request.deleteBeforeReplace
            assert [urn for urn in request.dependencies if urn.endswith(f"{name}-instance")]
            assert [urn for urn in request.dependencies if urn.endswith("-data-target")]
            apply = program.request("remote:Command", f"{name}-host-apply")
            assert {urn.rpartition("::")[2] for urn in apply.dependencies} >= {rule, "wsgi-ecs-dev-data-target"}
            stdin = json.loads(secret(program.inputs("remote:Command", f"{name}-host-apply")["stdin"]))
            assert stdin["store"] == ADDRESS
    assert program.outputs["shared_data"] == ADDRESS
    assert "store" not in json.loads(secret(program.inputs("remote:Command", "front-host-apply")["stdin"]))


def offering(*zones: str, protocol: str = "nfs", disk: str = "") -> Any:
    """The cloud with zones that have NAS, and with a disk of this name."""
    known = Cloud.call

    def call(self: Cloud, args: Any) -> Any:
        if args.token.endswith("nas/getZones:getZones"):
            kinds = [{"protocolType": protocol, "storageType": "Capacity"}]
            return {"id": "", "zones": [{"zoneId": zone, "instanceTypes": kinds} for zone in zones]}, []
        if args.token.endswith(":getEcsDisks") and args.args["diskName"] == disk:
            return {"disks": [{"diskName": disk, "size": 20, "zoneId": "cn-hangzhou-i"}]}, []
        return known(self, args)

    return call


@pytest.mark.parametrize(
    "call", [offering("cn-hangzhou-j"), offering(), offering("cn-hangzhou-i", protocol="smb")], ids=["other", "", "smb"]
)
def test_the_cloud_chooses_a_zone_where_the_servers_zone_has_no_nas(
    run_program: Run, monkeypatch: pytest.MonkeyPatch, call: Any
) -> None:
    monkeypatch.setattr(Cloud, "call", call)
    assert "zoneId" not in run_program({**CLOUD, **SHARED}).inputs("nas/fileSystem:FileSystem")


@pytest.mark.parametrize(
    ("config", "disk"), [(SHARED, "wsgi-ecs-dev-data"), (APART, "wsgi-ecs-dev-app-2-data")], ids=["one", "two"]
)
def test_a_data_disk_is_not_given_up_in_the_same_update(
    run_program: Run, monkeypatch: pytest.MonkeyPatch, config: dict[str, Any], disk: str
) -> None:
    monkeypatch.setattr(Cloud, "call", offering("cn-hangzhou-i", disk=disk))
    with pytest.raises(pulumi.RunError) as error:
        run_program({**CLOUD, **config})
    line = f"{FILE}: data.shared: the data are on the disk {disk}, which would be deleted; allowed: first an update"
    assert str(error.value).startswith(line)


def test_no_question_is_asked_without_it() -> None:
    assert store_zone(parse({}, FILE), "cn-hangzhou-i", ["any"]) is None


def test_policies_want_it_encrypted_protected_tagged_and_private() -> None:
    def refused(type_: str, inputs: dict[str, Any], protect: bool) -> list[str]:
        resource = Resource(f"alicloud:nas/{type_}", "prod", inputs, protect)
        return [policy.name for policy in POLICIES if list(policy.check(resource))]

    good = {"encryptType": 1, "tags": TAGS}
    assert refused("fileSystem:FileSystem", good, True) == []
    assert refused("fileSystem:FileSystem", good, False) == ["protected-prod"]
    assert refused("fileSystem:FileSystem", {"tags": TAGS}, True) == ["encrypted-disks"]
    assert refused("fileSystem:FileSystem", {"encryptType": 1}, True) == ["tagged"]
    for source in ("10.76.0.3", "10.76.0.0/20"):
        assert refused("accessRule:AccessRule", {"sourceCidrIp": source}, False) == []
    for source in ("0.0.0.0/0", "47.96.0.1"):
        assert refused("accessRule:AccessRule", {"sourceCidrIp": source}, False) == ["no-public-statistics"]


@pytest.mark.parametrize("system", SYSTEMS)
def test_the_machines_of_the_application_have_the_client_and_no_other_has(system: str) -> None:
    for config, wanted in ((SHARED, {""}), (APART, {"app-1", "app-2"})):
        for machine in machines(parse({**config, "server": {"os": system}, "mysql": {"password": "x"}}, FILE)):
            if machine.name == "db":
                continue
            host = decode(Host, host_files(machine.plan)["host.json"])
            has = machine.name in wanted
            client = SYSTEMS[system].nfs_client
            assert (host.packages is not None and host.packages.asked_by.get(client) == "data.shared") == has
            assert (host.shared is not None) == has
            assert host.disk_gib is None


def test_one_server_needs_no_other_server_and_several_have_users_of_the_same_numbers() -> None:
    several = {"app_servers": 2}
    for config, changed in (
        ({}, set[str]()),
        ({"topology": several}, {"app-1", "app-2"}),
        ({"topology": {**several, "entrance": "alb"}}, {"app-1", "app-2"}),
    ):
        one, other = (parse({**config, **more}, FILE) for more in ({}, SHARED))
        for before, after in zip(machines(one), machines(other), strict=True):
            texts = [bootstrap.user_data(before.plan, one), bootstrap.user_data(after.plan, other)]
            is_new = bootstrap.version(before.plan, one) != bootstrap.version(after.plan, other)
            assert (texts[0] != texts[1], is_new) == ((after.name in changed),) * 2
            if is_new:
                own = str(number("wsgi-app"))
                assert f"groupadd -f --system --gid {own} wsgi-app\n" in texts[1]
                assert f"useradd --system --uid {own} --gid wsgi-app " in texts[1]
                assert f"--gid {number('wsgi-app-web')} wsgi-app-web\n" in texts[1]


def test_what_waits_for_the_mount_is_what_starts_the_sites() -> None:
    def units(manager: str) -> list[str]:
        sites = {"sites": {name: {"site": {"location": f"/{name}/"}} for name in ("a", "b")}}
        settings = parse({**SHARED, **sites, "serving": {"process_manager": manager}}, FILE)
        host = machines(settings)[0].plan.host
        assert isinstance(host, Host)
        assert host.shared
        return host.shared.units

    assert units("supervisor") == ["supervisord.service"]
    assert units("emperor") == ["wsgi-emperor.service"]
    assert units("systemd") == [f"wsgi-{each}.service" for each in ("a-a", "a-b", "b-a", "b-b")]


def test_a_backup_of_shared_data_is_of_any_machine() -> None:
    def stack(**outputs: str) -> Stack:
        names = ("front", "app-1", "app-2")
        machines = [
            OperatedMachine(name, name, ("app",), Way("10.0.0.1", name, Path("k"), None, False)) for name in names
        ]
        return Stack("dev", tuple(machines), outputs)

    assert site_data._machine(stack(shared_data=ADDRESS), "app", None).name == "app-1"
    assert site_data._machine(stack(shared_data=ADDRESS), "app", "app-2").name == "app-2"
    with pytest.raises(UserError, match="each app server has data of its own"):
        site_data._machine(stack(), "app", None)


# ---- on the machine


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server()
    server.prepare()
    (server.site / "data/note").write_text("kept")
    yield server
    server.close()


def prepare(server: Server, config: dict[str, Any], store: str = ADDRESS, **options: Any) -> str:
    server.config = config
    parts = {"hosts": {}, "tls": {}, **({"store": store} if store else {})}
    return server.run(server.unpack(server.host()), json.dumps(parts), verb="prepare", **options)[1]


def test_the_data_move_there_and_back_while_the_site_stands_still(server: Server) -> None:
    output = prepare(server, SHARED)
    assert "the data of site app are in the file system that machines share now" in output
    assert (server.site / "data").readlink() == server.root / "disk/sites/app"
    assert (server.site / "data/note").read_text() == "kept"
    assert server.running == []
    unit = (server.root / "units/srv-data.mount").read_text()
    assert f"\nWhat={ADDRESS}:/\n" in unit
    assert "\nBefore=supervisor.service\n" in unit
    assert "systemctl mask --now rpcbind.socket rpcbind.service" in server.commands
    assert "systemctl enable srv-data.mount" in server.commands
    assert "nothing to do" in prepare(server, SHARED)
    assert "the data of site app are on the server's own disk now" in prepare(server, {}, "")
    assert (server.site / "data/note").read_text() == "kept"
    assert not (server.site / "data").is_symlink()
    assert not [name for name in ("srv-data.mount", "wsgi-ecs-data.service") if (server.root / "units" / name).exists()]
    assert [line for line in server.commands if "umount" in line] == [f"umount -l {server.root}/disk"]


def test_another_address_of_it_is_mounted_in_place_of_the_old_one(server: Server) -> None:
    prepare(server, SHARED)
    prepare(server, SHARED, "other.nas.aliyuncs.com")
    assert "What=other.nas.aliyuncs.com:/" in (server.root / "units/srv-data.mount").read_text()
    umounted = server.commands.index(f"umount -l {server.root}/disk")
    assert server.commands.index("systemctl daemon-reload") < umounted
    # A run without standard input keeps it.
    assert "nothing to do" in server.prepare()


def test_while_it_does_not_answer_a_release_is_refused_and_waits_for_nothing(server: Server) -> None:
    prepare(server, SHARED)
    server.apply(server.archive())
    server.faults("away")
    output = server.apply(server.archive(behaviour="ok", requirements="flask\ngunicorn\n"), wanted=1)
    assert f"the shared data of {ADDRESS} do not answer within 20 s" in output
    assert "next: see in the console that the file system, its mount target and its access rules are there" in output
    assert server.serving is not None
    assert "do not answer" in prepare(server, {}, "", wanted=1)
    assert (server.site / "data").is_symlink()


def test_one_store_is_not_taken_for_the_other(server: Server) -> None:
    disk = {"data": {"disk_gib": 20}}
    (server.root / "fstab").write_text(f"UUID=1 / ext4 defaults 0 1\nUUID=2 {server.root}/disk ext4 nofail 0 2\n")
    output = prepare(server, SHARED, wanted=1)
    assert "the data are on the data disk, which leaves this machine after this run" in output
    assert "next: run up without data.disk_gib and data.shared first" in output
    (server.root / "fstab").unlink()
    prepare(server, SHARED)
    assert "the data are in the file system that machines share, which leaves" in prepare(server, disk, "", wanted=1)


@pytest.mark.parametrize("is_several", [True, False])
def test_a_machine_leaves_the_data_of_a_site_that_only_others_have(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_several: bool
) -> None:
    monkeypatch.setattr(paths, "ROOT", str(tmp_path / "srv"))
    monkeypatch.setattr(paths, "DATA", str(tmp_path / "store"))
    (tmp_path / "srv/sites").mkdir(parents=True)
    (tmp_path / "store/sites/shop").mkdir(parents=True)
    monkeypatch.setattr(shared_data, "mount", lambda shared, address, say: [address])
    monkeypatch.setattr(data_disk.files, "own", lambda path, group, mode: None)
    plan = machines(parse(SHARED, FILE))[0].plan
    host = decode(Host, host_files(plan)["host.json"])._replace(shared=Shared([], is_several))
    assert data_disk.place(host, print, ADDRESS) == [ADDRESS]
    assert (tmp_path / "store/sites/shop").is_dir() == is_several
    assert (tmp_path / "store/removed/shop").is_dir() != is_several


@pytest.mark.parametrize("is_shared", [True, False])
def test_a_new_sites_user_has_its_number_if_machines_share_its_data(
    monkeypatch: pytest.MonkeyPatch, is_shared: bool
) -> None:
    accounts, ran = module("accounts"), []
    monkeypatch.setattr(accounts, "run", lambda *command: ran.append(command))
    accounts.user("wsgi-no-such-site", "wsgi-no-such-site", is_shared)
    (command,) = ran
    assert ("--uid" in command) == is_shared
    assert (str(number("wsgi-no-such-site")) in command) == is_shared


class Machine:
    """systemd and the kernel's mounts. starts: at which attempt the mount succeeds."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, folder: Path, starts: int = 1) -> None:
        self.ran: list[str] = []
        self.mounted, self.starts, self.now = False, starts, 0.0
        monkeypatch.setattr(shared_data, "UNITS", str(folder))
        monkeypatch.setattr(paths, "DATA", str(folder / "data"))
        monkeypatch.setattr(shared_data, "run", self.run)
        monkeypatch.setattr(shared_data, "is_mounted", lambda: self.mounted)
        monkeypatch.setattr(shared_data, "answers", lambda *_: True)
        monkeypatch.setattr(shared_data.files, "own", lambda path, group, mode: None)
        monkeypatch.setattr(shared_data.time, "sleep", self.sleep)
        monkeypatch.setattr(shared_data.time, "monotonic", lambda: self.now)

    def sleep(self, seconds: float) -> None:
        self.now += seconds

    def run(self, *command: str, **_: Any) -> str:
        self.ran.append(" ".join(command))
        if command[:2] == ("systemctl", "start"):
            self.starts -= 1
            self.mounted = self.starts <= 0
        return "mount.nfs: Connection refused\n" if command[0] == "journalctl" else ""


def test_a_mount_target_that_is_new_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    machine, said = Machine(monkeypatch, tmp_path, starts=4), list[str]()
    written = shared_data.mount(Shared(["supervisor.service"], True), ADDRESS, said.append)
    assert written == [str(tmp_path / name) for name in ("srv-data.mount", "wsgi-ecs-data.service")]
    assert machine.ran.count("systemctl start srv-data.mount") == 4
    assert said == [f"the shared data of {ADDRESS} are mounted on {tmp_path}/data"]


def test_one_that_never_comes_is_one_line_with_what_mount_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    machine = Machine(monkeypatch, tmp_path, starts=999)
    with pytest.raises(shared_data.ReleaseError, match=f"the shared data of {ADDRESS} cannot be mounted") as error:
        shared_data.mount(Shared([], True), ADDRESS, print)
    assert error.value.lines == "mount.nfs: Connection refused\n"
    assert 180 <= machine.now < 200
    with pytest.raises(shared_data.ReleaseError, match="are not mounted"):
        shared_data.check()


def test_a_file_system_that_was_never_mounted_can_be_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    machine, said = Machine(monkeypatch, tmp_path, starts=999), list[str]()
    monkeypatch.setattr(paths, "ROOT", str(tmp_path / "srv"))
    (tmp_path / "srv/sites/app/data").mkdir(parents=True)
    with pytest.raises(shared_data.ReleaseError):
        shared_data.mount(Shared([], True), ADDRESS, said.append)
    host = decode(Host, host_files(machines(parse({}, FILE))[0].plan)["host.json"])
    machine.ran.clear()
    assert data_disk.place(host, said.append) == []
    assert not shared_data.is_set()
    assert "systemctl stop wsgi-ecs-data.service" in machine.ran
    assert said == ["the shared data are no longer mounted"]


def test_a_status_asks_no_server_for_long(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    machine = Machine(monkeypatch, tmp_path)
    assert shared_data.state() is None
    shared_data.mount(Shared([], True), ADDRESS, print)
    assert shared_data.state() == "mounted"
    asked: list[int] = []

    def silent(seconds: int = 20) -> bool:
        asked.append(seconds)
        return False

    monkeypatch.setattr(shared_data, "answers", silent)
    assert shared_data.state() == "mounted, and they do not answer"
    assert asked == [5]
    machine.mounted = False
    assert shared_data.state() == "not mounted (journalctl -u srv-data.mount)"
    # Neither its size nor its folders are looked at.
    monkeypatch.setattr(paths, "ROOT", str(tmp_path))
    assert [place.path for place in space.places()] == [str(tmp_path)]
    assert not [what for what, _ in space._folders() if what.startswith("data of ") and "Redis" not in what]


def test_who_waits_for_an_answer_is_another_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(paths, "DATA", str(tmp_path))
    assert shared_data.answers()
    monkeypatch.setattr(paths, "DATA", str(tmp_path / "none"))
    assert not shared_data.answers()
    asked: list[Any] = []
    monkeypatch.setattr(subprocess, "call", lambda command, **_: asked.extend(command))
    shared_data.answers(7)
    assert asked[:4] == ["timeout", "-s", "KILL", "7"]


def test_a_mount_is_hard_and_gives_no_rights() -> None:
    unit = shared_data.mount_unit(Shared(["a.service", "b.service"], True), ADDRESS)
    options = next(line for line in unit.splitlines() if line.startswith("Options=")).partition("=")[2].split(",")
    assert {"vers=4", "minorversion=0", "hard", "noresvport", "nosuid", "nodev", "lookupcache=positive"} <= {*options}
    assert "\nBefore=a.service b.service\n" in unit
    # Boot goes on without it, and it is tried again.
    assert "\nOnFailure=wsgi-ecs-data.service\n" in unit
    assert "\nTimeoutSec=60\n" in unit
    assert "systemctl start srv-data.mount" in shared_data.retry_unit()
