"""MySQL on a machine of its own: what a user may say, what is registered, and what reaches SQL and disks."""

import json
import re
import ssl
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from pydantic import SecretStr

from components.network import Rule, groups
from components.release import certificate
from contract import paths
from contract.service_documents import Account, Packages
from kinds.databases import Mysql
from kinds.service import Surroundings
from kinds.systems import SYSTEMS
from operations.backup import backup
from operations.errors import UserError
from operations.local_files import FROM
from operations.machines import Stack
from operations.restore import restore
from reference.samples import CLOUD, OFFICE
from serving import bootstrap, host_files, machines
from settings import SettingsError
from settings.files import check
from settings.loader import parse
from tests.builders.program import Recorder, secret
from tests.builders.stack import PROJECT
from tests.unit.machine import module

commands, database, database_tls, disk, certificates = (
    module(name) for name in ("commands", "database", "database_tls", "disk", "certificates")
)
FILE = "stacks/Pulumi.dev.yaml"
MYSQL = {"mysql": {"password": "hunter2"}}
Run = Callable[..., Recorder]


def refusal(config: dict[str, Any]) -> str:
    with pytest.raises(SettingsError) as error:
        check(parse(config, FILE), PROJECT, FILE)
    return str(error.value).removeprefix(f"{FILE}: ")


@pytest.mark.parametrize(
    ("config", "line"),
    [
        ({"mysql": {"port": 3306}}, "mysql.password: required; allowed: any text without NUL"),
        ({"mysql": {"password": ""}}, "mysql.password: required"),
        ({"mysql": {"password": "a\0b"}}, "mysql.password: required"),
        ({"mysql": {"password": "x", "database": "a`b"}}, "mysql.database: got a`b; allowed: a name of letters"),
        ({"mysql": {"password": "x", "database": "mysql"}}, "mysql.database: mysql is MySQL's own"),
        ({"mysql": {"password": "x", "user": "root"}}, "mysql.user: root is MySQL's own"),
        ({"mysql": {"password": "x", "user": "a" * 17}}, "mysql.user: got aaaaaaaaaaaaaaaaa; allowed: a name of 16"),
        ({"mysql": {"password": "x", "disk_gib": 10}}, "mysql.disk_gib: got 10; allowed: 20 or more"),
        (
            {"mysql": {"password": "x", "innodb_buffer_pool_size": "12"}},
            "mysql.innodb_buffer_pool_size: got 12; allowed: auto",
        ),
        ({"mysql": {"password": "x", "schema_files": "nowhere.sql"}}, "mysql.schema_files: nowhere.sql is no file"),
        ({**MYSQL, "app": {"env": {"MYSQL_HOST": "h"}}}, "app.env.MYSQL_HOST: mysql sets it"),
        ({**MYSQL, "sites": {"a": {"app": {"env": {"MYSQL_USER": "x"}}}}}, "sites.a.app.env.MYSQL_USER: mysql sets it"),
        ({"sites": {"a": {"mysql": {"user": "x"}}}}, "sites.a.mysql: unknown key"),
    ],
)
def test_a_wrong_setting_is_one_line(config: dict[str, Any], line: str) -> None:
    assert refusal(config).startswith(line)


@pytest.mark.parametrize("mysql", [{}, {"protect": True}])
def test_without_a_password_there_is_no_database(mysql: dict[str, Any]) -> None:
    settings = parse({"mysql": mysql}, FILE)
    assert [machine.name for machine in machines(settings)] == [""]
    assert set(settings.env(settings.sites[0])) == {"DATA_DIR", "HOME", "PYTHONUNBUFFERED"}


def _places(site: str) -> dict[str, str]:
    return dict.fromkeys(("DATA_DIR", "HOME"), f"/srv/wsgi-ecs/sites/{site}/data")


def test_every_site_finds_it_in_its_environment() -> None:
    settings = parse(
        {**MYSQL, "sites": {"shop": {"app": {"env": {"A": "1"}}}, "blog": {"site": {"location": "/b/"}}}}, FILE
    )
    shop, blog = (
        {name: value.get_secret_value() for name, value in settings.env(site).items()} for site in settings.sites
    )
    own = {
        "PYTHONUNBUFFERED": "1",
        "MYSQL_HOST": "db",
        "MYSQL_PORT": "3306",
        "MYSQL_DATABASE": "app",
        "MYSQL_USER": "app",
    }
    assert blog == {**own, "MYSQL_PASSWORD": "hunter2", **_places("blog")}
    assert shop == {**blog, "A": "1", **_places("shop")}


@pytest.mark.parametrize("servers", [0, 2])
def test_the_application_alone_reaches_it(servers: int) -> None:
    settings = parse(
        {**CLOUD, **MYSQL, "topology": {"app_servers": servers}, "mysql": {"password": "x", "port": 3307}}, FILE
    )
    found = groups(machines(settings), settings.access)
    app, first = ("app", "front") if servers else ("", "")
    assert [(rule.port, rule.source) for rule in found["db"]] == [(3307, app), (22, first)]
    assert all(rule.port != 3307 for name, rules in found.items() if name != "db" for rule in rules)
    assert Rule(22, OFFICE, f"SSH for releases, from {OFFICE}") in found[first]


@pytest.mark.parametrize("system", SYSTEMS)
def test_its_machine_has_nothing_else(system: str) -> None:
    settings = parse({**MYSQL, "server": {"os": system}}, FILE)
    plan = machines(settings)[-1].plan
    assert (plan.packages, plan.users, plan.groups, plan.sites) == (
        (*plan.system.packages, "mariadb-server"),
        (),
        (),
        (),
    )
    text = bootstrap.user_data(plan, settings)
    assert "nginx\n" not in text.split("write_files")[1]
    assert "hunter2" not in text + json.dumps(host_files(plan))
    script = next(file.text for file in bootstrap.files(plan, settings) if file.path.endswith("bootstrap"))
    assert subprocess.run(["sh", "-n"], input=script, text=True).returncode == 0
    command = plan.configs["wsgi-ecs-database"]
    assert subprocess.run(["bash", "-n"], input=command, text=True).returncode == 0


def test_only_what_its_bootstrap_needs_builds_it_anew() -> None:
    def version(config: dict[str, Any]) -> str:
        settings = parse({**MYSQL, **config}, FILE)
        return bootstrap.version(machines(settings)[-1].plan, settings)

    assert version({}) == version({"mysql": {"password": "other", "port": 3307, "max_connections": 10, "disk_gib": 40}})
    assert version({}) == version({"nginx": {"listen": 8080}, "uwsgi": {"threads": 2}})
    assert version({}) != version({"server": {"image": "another"}})


def test_it_is_ready_before_any_release(run_program: Run) -> None:
    program = run_program({**CLOUD, **MYSQL, "topology": {"app_servers": 1}})
    done = "db-host-apply"
    command = program.inputs("remote:Command", done)
    assert " wsgi-ecs database " in command["create"]
    assert secret(command["connection"])["proxy"]["host"] == "198.51.100.7"
    for later in ("app-1-host-apply", "front-host-apply"):
        urns = program.request("remote:Command", later).dependencies
        assert [urn for urn in urns if urn.endswith(done)], later
    attached = [urn for urn in program.request("remote:Command", done).dependencies if urn.endswith("data-attachment")]
    assert attached, "its disk is there first"
    ready = [urn for urn in program.request(":EcsDiskAttachment").dependencies if urn.endswith("db-ready")]
    assert ready, "until a new machine is ready the old one has the disk"
    settle = program.inputs("remote:Command", "db-settle")
    assert settle["create"] == command["create"].replace(" wsgi-ecs database ", " wsgi-ecs settle ")
    before = program.request("remote:Command", "db-settle").dependencies
    for earlier in ("db-host-apply", "app-1-site-app-apply", "front-site-app-apply"):
        assert [urn for urn in before if urn.endswith(earlier)], earlier


def test_each_machine_knows_those_that_it_calls(run_program: Run) -> None:
    program = run_program({**CLOUD, **MYSQL, "topology": {"app_servers": 1}})
    hosts = {
        name: set(json.loads(secret(program.inputs("remote:Command", f"{name}-host-apply")["stdin"]))["hosts"])
        for name in ("front", "app-1")
    }
    assert hosts == {"front": {"app-1"}, "app-1": {"db"}}
    alone = run_program({**CLOUD, **MYSQL})
    stdin = secret(alone.inputs("remote:Command", "dev-host-apply")["stdin"])
    assert set(json.loads(stdin)["hosts"]) == {"db"}


def test_the_disk_stands_in_the_switchs_zone_and_outlives_its_machine(run_program: Run) -> None:
    program = run_program({**CLOUD, "mysql": {"password": "x", "disk_gib": 40, "protect": True}})
    inputs = program.inputs(":EcsDisk")
    assert (inputs["zoneId"], inputs["size"], inputs["category"]) == ("cn-hangzhou-i", 40, "cloud_essd")
    assert (inputs["deleteWithInstance"], inputs["type"]) == (False, "online")
    assert program.request(":EcsDisk").protect
    # What a new network stands in is looked up again, and a disk elsewhere would be an empty one.
    assert list(program.request(":EcsDisk").ignoreChanges) == ["zoneId", "encrypted"]
    attachment = program.request(":EcsDiskAttachment")
    assert attachment.deleteBeforeReplace
    assert not attachment.protect
    # An application on the only machine is not built anew when it gets a database.
    assert program.inputs(":Instance", "dev-instance")["instanceName"] == "wsgi-ecs-dev"


def test_an_application_that_speaks_tls_gets_the_certificate_that_the_server_has_made(run_program: Run) -> None:
    config = {**CLOUD, "topology": {"app_servers": 1}, "mysql": {"password": "x", "tls": "offered"}}
    settings = parse(config, FILE)
    assert settings.env(settings.sites[0])["MYSQL_SSL_CA"].get_secret_value() == paths.MYSQL_CA
    assert f"ssl_cert = {database_tls.path('crt')}\n" in machines(settings)[-1].plan.configs["mysql.cnf"]
    program = run_program(config)
    told = {
        name: set(json.loads(secret(program.inputs("remote:Command", f"{name}-host-apply")["stdin"])))
        for name in ("front", "app-1")
    }
    assert told == {"front": {"hosts", "tls"}, "app-1": {"hosts", "tls", "authority"}}
    assert certificate("wsgi-ecs: a\nwsgi-ecs: certificate of the database: MIIC+/==\nwsgi-ecs: b\n") == "MIIC+/=="
    assert certificate(None) == ""


def test_the_database_s_certificate_is_made_once_and_trusted_for_its_name_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database_tls, "FOLDER", str(tmp_path / "tls"))
    monkeypatch.setattr(database_tls.os, "geteuid", lambda: 1)
    monkeypatch.setattr(paths, "MYSQL_CA", str(tmp_path / "ca.pem"))
    said: list[str] = []
    for _ in range(2):
        database_tls.prepare()
        database_tls.tell(said.append)
    assert said[0] == said[1]
    assert {file.name: file.stat().st_mode & 0o777 for file in (tmp_path / "tls").iterdir()} == {
        "mysql.crt": 0o644,
        "mysql.key": 0o400,
    }
    certificates.place_authority(certificate(f"wsgi-ecs: {said[0]}\n"))
    assert (tmp_path / "ca.pem").read_text() == Path(database_tls.path("crt")).read_text()
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(database_tls.path("crt"), database_tls.path("key"))
    client = ssl.create_default_context(cafile=str(tmp_path / "ca.pem"))
    # Python 3.13's own flag, with which it wants all that a certificate should have.
    client.verify_flags |= ssl.VERIFY_X509_STRICT
    for name, trusted in (("db", True), ("other", False)):
        assert handshake(server, client, name) == trusted


def handshake(server: ssl.SSLContext, client: ssl.SSLContext, name: str) -> bool:
    """Whether a client accepts a server under this name."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = (
        client.wrap_bio(to_client, to_server, server_hostname=name),
        server.wrap_bio(to_server, to_client, server_side=True),
    )
    for _ in range(4):
        for end in ends:
            try:
                end.do_handshake()
            except ssl.SSLWantReadError:
                continue
            except ssl.SSLError:
                return False
    return True


DATABASE = (
    Mysql(password=SecretStr("hunter2"))
    .document(
        Surroundings(
            SYSTEMS["debian12"], "10.76.0.0/20", "ecs.e-c1m1.large", Packages("debian12", "apt-get", [], []), 0
        )
    )
    ._replace(database="my_app", user="app", network="10.76.0.0/255.255.240.0")
)


@given(st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1))
@example("'; DROP DATABASE mysql; -- ")
@example("\\")
@example("密码 \U0001f511")
def test_nothing_of_a_password_gets_into_sql(password: str) -> None:
    text, other = (database.accounts(DATABASE, database.hashed(each), None) for each in (password, "x"))
    assert re.fullmatch(r"[*][0-9A-F]{40}", database.hashed(password))
    assert text.replace(database.hashed(password), "") == other.replace(database.hashed("x"), "")


def test_the_hash_is_the_one_of_mysqls_manual() -> None:
    assert database.hashed("mypass") == "*6C8989366EAF75BB670AD8EA7A7FC1176A95CEF4"


def test_the_account_may_do_all_in_its_own_database_and_from_the_network_alone() -> None:
    text = database.accounts(DATABASE, "*X", None)
    # _ alone would be any character: my_app would be myXapp too.
    assert r"GRANT ALL PRIVILEGES ON `my\_app`.* TO 'app'@'10.76.0.0/255.255.240.0' IDENTIFIED BY PASSWORD '*X'" in text
    assert "IDENTIFIED BY PASSWORD '*X' REQUIRE NONE;" in text
    assert "IDENTIFIED BY PASSWORD '*X' REQUIRE SSL;" in database.accounts(DATABASE, "*X", None, needs_tls=True)
    # MariaDB 5.5, CentOS 7's, does not have it.
    assert "CREATE USER" not in text


@pytest.mark.parametrize(
    ("before", "identified"),
    [
        (None, "BY PASSWORD '*NEW'"),
        (
            Account("app", "*OLD"),
            "VIA mysql_native_password USING '*NEW' OR mysql_native_password USING '*OLD'",
        ),
        (Account("app", "*NEW"), "BY PASSWORD '*NEW'"),
        (Account("another", "*OLD"), "BY PASSWORD '*NEW'"),
    ],
)
def test_the_password_that_the_application_still_has_is_good_too(before: Account | None, identified: str) -> None:
    assert f" IDENTIFIED {identified} REQUIRE NONE;" in database.accounts(DATABASE, "*NEW", before)


@pytest.mark.parametrize(
    ("version", "several"),
    [("5.5.68-MariaDB\n", False), ("10.3.39-MariaDB", False), ("10.4.0-MariaDB", True), ("11.8.2-MariaDB-deb13", True)],
)
def test_old_versions_have_one_password(version: str, several: bool) -> None:
    assert database.has_several_passwords(version) == several


@pytest.fixture
def image(tmp_path: Path) -> str:
    path = tmp_path / "vdb"
    with path.open("wb") as file:
        file.truncate(16 << 20)
    return str(path)


@pytest.fixture(autouse=True)
def sbin(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/sbin:/usr/sbin", prepend=":")


def test_a_blank_disk_is_formatted_once_and_then_kept(image: str) -> None:
    said: list[str] = []
    first = disk.file_system(image, said.append)
    assert said == [f"making a file system on {image}"]
    assert disk.file_system(image, said.append) == first
    assert len(said) == 1


def test_a_disk_with_anything_else_is_left_alone(image: str) -> None:
    subprocess.run(["mkswap", image], check=True, capture_output=True)
    before = Path(image).read_bytes()
    with pytest.raises(commands.ReleaseError, match="only ext4 is mounted"):
        disk.file_system(image, print)
    assert Path(image).read_bytes() == before


def test_the_disk_is_mounted_at_each_boot_until_it_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ran: list[tuple[str, ...]] = []
    fstab, order = tmp_path / "fstab", tmp_path / "units/order.conf"
    fstab.write_text("UUID=1 / ext4 defaults 0 1\nUUID=2 /srv/data ext4 defaults,nofail 0 2\n")
    monkeypatch.setattr(paths, "DATA", "/srv/data")
    for name, value in {
        "FSTAB": str(fstab),
        "ORDER": str(order),
        "find": lambda seconds: "/dev/vdb",
        "file_system": lambda device, say: "3",
        "run": lambda *command: ran.append(command),
    }.items():
        monkeypatch.setattr(disk, name, value)
    monkeypatch.setattr(disk.subprocess, "call", lambda command: 0 if ("mount", "/srv/data") in ran else 1)
    monkeypatch.setattr(disk.os, "makedirs", lambda path, exist_ok: Path(path).mkdir() if "units" in path else None)
    for _ in range(2):
        disk.mount(print)
        assert fstab.read_text() == "UUID=1 / ext4 defaults 0 1\nUUID=3 /srv/data ext4 defaults,nofail 0 2\n"
        # With nofail alone, programs would start before the disk is there.
        assert order.read_text() == "[Unit]\nAfter=srv-data.mount\n"
    grown = ("resize2fs", "/dev/vdb")
    assert ran == [("systemctl", "daemon-reload"), ("mount", "/srv/data"), grown, grown]
    ran.clear()
    for _ in range(2):
        disk.unmount(print)
        assert fstab.read_text() == "UUID=1 / ext4 defaults 0 1\n"
        assert not order.exists()
    assert ran == [("systemctl", "daemon-reload"), ("umount", "-l", "/srv/data")]


def test_data_of_another_system_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(paths, "DATA", str(tmp_path))
    database.check_system("centos7")
    database.check_system("centos7")
    with pytest.raises(commands.ReleaseError, match="the data of centos7, which MariaDB of debian12 may not read"):
        database.check_system("debian12")


@pytest.mark.parametrize("content", [b"", b"no gzip", b"\x1f\x8b\x08\x00"])
def test_what_is_no_whole_dump_is_not_restored(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "app.sql.gz"
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"app\.sql\.gz: .*allowed: "):
        restore(Stack("dev", ()), str(path))
    with pytest.raises(UserError, match=r"none: no such file"):
        restore(Stack("dev", ()), str(tmp_path / "none"))


def test_a_backup_does_not_overwrite(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "app.sql.gz").write_text("the only one")
    # A relative file is of the folder that the user stands in, wherever ./rehearse goes.
    monkeypatch.setenv(FROM, str(tmp_path))
    with pytest.raises(UserError, match="is there already"):
        backup(Stack("dev", ()), "app.sql.gz")
    assert (tmp_path / "app.sql.gz").read_text() == "the only one"
