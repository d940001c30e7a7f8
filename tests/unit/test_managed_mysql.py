"""RDS in place of a database's own server: what is refused, what is registered, and what its machine does."""

import json
import subprocess
from pathlib import Path
from typing import Any

import pulumi
import pytest

from components.managed_lookup import standby_zone
from contract import paths
from contract.codec import decode
from contract.documents import Host
from kinds import managed
from kinds.systems import SYSTEMS
from operations import dump
from operations.connection import Way
from operations.machines import Machine, Stack
from reference.samples import CLOUD
from serving import host_files, machines
from settings import SettingsError
from settings.loader import parse
from tests.builders.program import Cloud, Recorder, Run, secret
from tests.unit.machine import module

database, files, managed_database, certificates = (
    module(name) for name in ("database", "files", "managed_database", "certificates")
)
FILE = "stacks/Pulumi.dev.yaml"
PASSWORD = "Hunter2-hunter2"
MANAGED = {"mysql": {"managed": True, "password": PASSWORD}}
TAGS = {"project": "wsgi-ecs", "stack": "dev", "managed-by": "pulumi"}
OF_RDS = ("rds/", "ipv4CidrBlock")


def mysql(**values: Any) -> dict[str, Any]:
    return {"mysql": {**MANAGED["mysql"], **values}}


@pytest.mark.parametrize(
    ("config", "line"),
    [
        (
            mysql(disk_gib=40),
            "mysql.disk_gib: set, but mysql.managed has no server of the stack's own; allowed: mysql.st",
        ),
        (
            mysql(dumps=3),
            "mysql.dumps: set, but mysql.managed has no server of the stack's own; allowed: mysql.backup_d",
        ),
        (mysql(dump_at="0 4 * * *"), "mysql.dump_at: set, but"),
        (mysql(instance_type="ecs.c6.large"), "mysql.instance_type: set, but mysql.managed has no server"),
        (mysql(max_connections=20), "mysql.max_connections: set, but mysql.managed has no server"),
        (mysql(innodb_buffer_pool_size="1G"), "mysql.innodb_buffer_pool_size: set, but mysql.managed has no server"),
        (mysql(port=3307), "mysql.port: RDS answers on another port; allowed: 3306, or none"),
        (mysql(storage_gib=22), "mysql.storage_gib: 22 is no size of RDS; allowed: a multiple of 5"),
        (mysql(instance_class="ecs.c6.large"), "mysql.instance_class: got ecs.c6.large; allowed: an instance class of"),
        (mysql(engine_version="5.5"), "mysql.engine_version: got 5.5; allowed: "),
        (mysql(backup_days=3), "mysql.backup_days: got 3; allowed: 7 or more"),
        (mysql(user="App"), "mysql.user: App is no name of RDS; allowed: small letters"),
        (mysql(database="app_"), "mysql.database: app_ is no name of RDS"),
        (mysql(password="hunter2"), "mysql.password: RDS refuses it; allowed: 8 to 32 characters of three kinds"),
        (mysql(password="hunterhunter2"), "mysql.password: RDS refuses it"),
        (mysql(password="Hunter2 hunter2"), "mysql.password: RDS refuses it"),
        (mysql(tls="offered"), "mysql.ca: required with mysql.tls: offered; allowed: the file with RDS's CA"),
        (mysql(ca="ca.pem"), "mysql.ca: set, but mysql.tls is none; allowed: mysql.tls: offered, or required"),
        ({"mysql": {"password": "x", "backup_days": 9}}, "mysql.backup_days: set, but the database is a server of the"),
        (
            {"mysql": {"password": "x", "high_availability": True}},
            "mysql.high_availability: set, but the database is a",
        ),
        ({"network": {"standby_cidr": "10.80.0.0/24"}}, "network.standby_cidr: set, but nothing is in a second zone"),
        (
            {**mysql(high_availability=False), "network": {"standby_cidr": "10.80.0.0/24"}},
            "network.standby_cidr: set, but nothing is in a second zone; allowed: mysql.managed: true or topol",
        ),
        ({**MANAGED, "network": {"standby_cidr": "10.76.4.0/24"}}, "network.standby_cidr: 10.76.4.0/24 overlaps"),
        ({**MANAGED, "network": {"standby_cidr": "8.8.8.0/24"}}, "network.standby_cidr: allowed: a private IPv4"),
        ({**MANAGED, "app": {"env": {"MYSQL_HOST": "h"}}}, "app.env.MYSQL_HOST: mysql sets it"),
    ],
)
def test_a_setting_that_makes_no_sense_is_one_line(config: dict[str, Any], line: str) -> None:
    with pytest.raises(SettingsError) as error:
        parse(config, FILE)
    assert str(error.value).removeprefix(f"{FILE}: ").startswith(line)
    assert PASSWORD not in str(error.value)


@pytest.mark.parametrize(
    ("cidr", "second"),
    [
        ("10.76.0.0/20", "10.76.16.0/24"),
        ("10.255.240.0/20", "10.255.239.0/24"),
        ("192.168.0.0/16", "10.77.0.0/24"),
        ("172.16.0.0/16", "172.17.0.0/24"),
    ],
)
def test_the_standby_is_beside_the_network(cidr: str, second: str) -> None:
    assert parse({"network": {"cidr": cidr}}, FILE).network.second_cidr == second


def registered(program: Recorder) -> set[tuple[str, str]]:
    return {(request.type, request.name) for request in program.requests.values()}


def test_a_stack_without_it_registers_nothing_of_rds(run_program: Run) -> None:
    for config in ({}, {"mysql": {"password": "x"}}, {"topology": {"app_servers": 2}, "mysql": {"password": "x"}}):
        found = registered(run_program({**CLOUD, **config}))
        assert not [name for type_, name in found if any(part in type_ for part in OF_RDS) or "standby" in name]


def test_the_instance_has_what_the_provider_reads_back(run_program: Run) -> None:
    program = run_program({**CLOUD, **mysql(storage_gib=50)})
    inputs = program.inputs("rds/instance:Instance")
    assert inputs == {
        "instanceName": "wsgi-ecs-dev",
        "engine": "MySQL",
        "engineVersion": "8.0",
        "instanceType": "mysql.n2.medium.2c",
        "instanceStorage": 50,
        "dbInstanceStorageType": "cloud_essd",
        "instanceChargeType": "Postpaid",
        "category": "HighAvailability",
        "zoneId": "cn-hangzhou-i",
        "zoneIdSlaveA": "cn-hangzhou-j",
        "vswitchId": "wsgi-ecs-dev-switch-id,wsgi-ecs-dev-standby-switch-id",
        # The servers' network alone, and not the standby's.
        "securityIps": ["10.76.0.0/20"],
        "tags": TAGS,
    }
    request = program.request("rds/instance:Instance")
    # After a switch of roles, each of them would replace the database by an empty one.
    assert sorted(request.ignoreChanges) == ["vswitchId", "zoneId", "zoneIdSlaveA"]
    assert not request.protect


def test_the_second_zone_has_addresses_of_its_own_and_no_server_is_built_anew(run_program: Run) -> None:
    program = run_program({**CLOUD, **MANAGED})
    assert program.inputs("Ipv4CidrBlock") == {
        "vpcId": "wsgi-ecs-dev-vpc-id",
        "secondaryCidrBlock": "10.76.16.0/24",
    }
    assert program.inputs("switch:Switch", "standby-switch") == {
        "vswitchName": "wsgi-ecs-dev-standby",
        "vpcId": "wsgi-ecs-dev-vpc-id",
        "cidrBlock": "10.76.16.0/24",
        "zoneId": "cn-hangzhou-j",
        "tags": TAGS,
    }
    request = program.request("switch:Switch", "standby-switch")
    assert list(request.ignoreChanges) == ["zoneId"]
    assert [urn for urn in request.dependencies if urn.endswith("standby-cidr")]
    first = program.inputs("switch:Switch", "dev-switch")
    assert first == run_program(CLOUD).inputs("switch:Switch", "dev-switch")


def test_without_high_availability_there_is_one_zone(run_program: Run) -> None:
    program = run_program({**CLOUD, **mysql(high_availability=False)})
    inputs = program.inputs("rds/instance:Instance")
    assert (inputs["category"], inputs["instanceType"]) == ("Basic", "mysql.n2.medium.1")
    assert inputs["vswitchId"] == "wsgi-ecs-dev-switch-id"
    assert "zoneIdSlaveA" not in inputs
    assert not [name for _, name in registered(program) if "standby" in name]


def test_protection_covers_the_instance_and_its_database(run_program: Run) -> None:
    program = run_program({**CLOUD, **mysql(protect=True)})
    protected = {request.type for request in program.requests.values() if request.protect}
    assert protected == {"alicloud:rds/instance:Instance", "alicloud:rds/database:Database"}
    # Deletion protection would let a replacement do everything and then fail.
    assert "deletionProtection" not in program.inputs("rds/instance:Instance")


def test_a_database_of_another_name_does_not_delete_the_one_before(run_program: Run) -> None:
    program = run_program({**CLOUD, **MANAGED})
    assert program.inputs("rds/database:Database") == {
        "instanceId": "wsgi-ecs-dev-mysql-id",
        "dataBaseName": "app",
        "characterSet": "utf8mb4",
    }
    assert program.request("rds/database:Database").retainOnDelete
    others = [request for request in program.requests.values() if request.retainOnDelete]
    assert len(others) == 1


def test_backups_are_kept_as_long_as_they_are_wanted(run_program: Run) -> None:
    inputs = run_program({**CLOUD, **mysql(backup_days=30)}).inputs("BackupPolicy")
    assert len(inputs.pop("preferredBackupPeriods")) == 7
    assert inputs == {
        "instanceId": "wsgi-ecs-dev-mysql-id",
        "preferredBackupTime": "19:00Z-20:00Z",
        "backupRetentionPeriod": 30,
        "enableBackupLog": True,
        "logBackupRetentionPeriod": 30,
    }


def test_another_password_or_database_is_another_account_before_the_releases(run_program: Run) -> None:
    changes: tuple[dict[str, str], ...] = ({}, {"password": "Other-password-2"}, {"database": "shop"}, {"user": "shop"})
    names = []
    for change in changes:
        program = run_program({**CLOUD, **mysql(**change)})
        accounts = [r for r in program.requests.values() if r.type.endswith(":RdsAccount")]
        assert [r.name for r in accounts if r.name.endswith("-owner")] == ["wsgi-ecs-dev-mysql-owner"]
        (own,) = (r.name for r in accounts if not r.name.endswith("-owner"))
        inputs = program.inputs(":RdsAccount", own)
        assert own == f"wsgi-ecs-dev-mysql-account-{inputs['accountName']}"
        assert (inputs["accountType"], inputs["dbInstanceId"]) == ("Normal", "wsgi-ecs-dev-mysql-id")
        assert secret(inputs["accountPassword"])
        privilege = program.inputs(":AccountPrivilege", f"{own}-privilege")
        assert privilege == {
            "instanceId": "wsgi-ecs-dev-mysql-id",
            "accountName": inputs["accountName"],
            "privilege": "ReadWrite",
            "dbNames": [change.get("database", "app")],
        }
        # What RDS has made for the release tool belongs to an account that never changes.
        assert program.inputs(":RdsAccount", "-owner")["accountName"] == "wsgi_ecs_owner"
        names.append(inputs["accountName"])
    # Both exist until the end of the run: what is registered no longer is deleted last.
    assert len(set(names)) == len(changes)
    assert PASSWORD not in names[0]


@pytest.mark.parametrize("servers", [0, 2])
def test_the_application_has_the_same_variables_and_one_machine_brings_the_schema(
    run_program: Run, servers: int
) -> None:
    program = run_program({**CLOUD, **MANAGED, "topology": {"app_servers": servers}})
    leader = "app-1" if servers else "dev"
    stdin = json.loads(secret(program.inputs("remote:Command", f"{leader}-site-app-apply")["stdin"]))
    env = {name: value for name, value in stdin["env"].items() if name.startswith("MYSQL_")}
    assert env == {
        "MYSQL_HOST": "rm-1.mysql.rds.aliyuncs.com",
        "MYSQL_PORT": "3306",
        "MYSQL_DATABASE": "app",
        "MYSQL_USER": managed.account("app", PASSWORD, "app"),
        "MYSQL_PASSWORD": PASSWORD,
    }
    prepared = program.request("remote:Command", f"{leader}-host-apply")
    stdin = json.loads(secret(program.inputs("remote:Command", f"{leader}-host-apply")["stdin"]))
    assert stdin["database"] == {
        "host": "rm-1.mysql.rds.aliyuncs.com",
        "port": "3306",
        "user": "wsgi_ecs_owner",
        "password": PASSWORD,
    }
    for needed in ("mysql-owner-privilege", f"account-{env['MYSQL_USER']}-privilege", "mysql-backups"):
        assert [urn for urn in prepared.dependencies if urn.endswith(needed)], needed
    for other in ("front", "app-2") if servers else ():
        told = json.loads(secret(program.inputs("remote:Command", f"{other}-host-apply")["stdin"]))
        assert "database" not in told
    if servers:
        front = json.loads(secret(program.inputs("remote:Command", "front-site-app-apply")["stdin"]))
        assert front["env"] == {}
    assert program.outputs["database"] == "rm-1.mysql.rds.aliyuncs.com"
    assert "db" not in [machine["name"] for machine in program.outputs["machines"]]


def test_tls_gives_the_applications_the_cas_of_rds(run_program: Run, tmp_path: Path) -> None:
    for name in ("one", "two"):
        command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", f"/CN={name}"]
        files_of = ["-keyout", str(tmp_path / "key"), "-out", str(tmp_path / name)]
        subprocess.run([*command, *files_of], check=True, capture_output=True)
    text = "".join((tmp_path / name).read_text() for name in ("one", "two"))
    (tmp_path / "ca.pem").write_text(text)
    program = run_program({**CLOUD, **mysql(tls="required", ca=str(tmp_path / "ca.pem"))})
    inputs = program.inputs("rds/instance:Instance")
    assert (inputs["sslAction"], inputs["forceEncryption"]) == ("Open", 1)
    told = json.loads(secret(program.inputs("remote:Command", "dev-host-apply")["stdin"]))
    assert certificates._pem(told["authority"]) == text
    (tmp_path / "ca.pem").write_text("none")
    with pytest.raises(pulumi.RunError, match=r"mysql\.ca: no certificate in PEM"):
        run_program({**CLOUD, **mysql(tls="offered", ca=str(tmp_path / "ca.pem"))})


KEPT = {
    **{"id": "rm-1", "name": "wsgi-ecs-dev", "engineVersion": "8.0", "instanceStorage": 50},
    "zoneIdSlaveA": "cn-hangzhou-k",
}


@pytest.mark.parametrize(
    ("config", "line"),
    [
        (mysql(storage_gib=40), "mysql.storage_gib: 40 GiB, and the database has 50, which never becomes smaller"),
        (
            mysql(storage_gib=50, engine_version="5.7"),
            "mysql.engine_version: 5.7, and the database has 8.0; allowed: 8.0",
        ),
        (
            mysql(storage_gib=50, high_availability=False),
            "mysql.high_availability: the database was made with a standby; allowed: true, or a backup",
        ),
        (
            {**mysql(storage_gib=50), "network": {"cidr": "10.90.0.0/20"}},
            "network.cidr: the managed database cannot leave 10.76.0.0/20; allowed: 10.76.0.0/20, or a backup",
        ),
    ],
)
def test_what_an_existing_database_cannot_become_is_refused_before_the_first_resource(
    run_program: Run, monkeypatch: pytest.MonkeyPatch, config: dict[str, Any], line: str
) -> None:
    monkeypatch.setattr(Cloud, "databases", (KEPT, {**KEPT, "name": "wsgi-ecs-dev-2", "instanceStorage": 900}))
    monkeypatch.setattr(Cloud, "networks", ({"vpcName": "wsgi-ecs-dev", "cidrBlock": "10.76.0.0/20"},))
    with pytest.raises(pulumi.RunError) as error:
        run_program({**CLOUD, **config})
    assert str(error.value).startswith(f"stacks/Pulumi.dev.yaml: {line}")
    program = run_program({**CLOUD, **mysql(storage_gib=60)})
    # Its zone is not looked up again.
    assert program.inputs("switch:Switch", "standby-switch")["zoneId"] == "cn-hangzhou-k"


@pytest.mark.parametrize(
    ("classes", "line"),
    [
        ({}, "mysql.instance_class: cn-hangzhou-i does not offer mysql.n2.medium.2c; allowed: a class that the region"),
        ({"cn-hangzhou-j": ["mysql.n2.medium.2c"]}, "mysql.instance_class: cn-hangzhou-i does not offer mysql.n2.med"),
        ({"cn-hangzhou-i": ["mysql.n2.medium.2c"]}, "mysql.high_availability: no second zone of this region offers"),
    ],
)
def test_a_class_that_the_zones_do_not_offer_is_one_line(
    run_program: Run, monkeypatch: pytest.MonkeyPatch, classes: dict[str, list[str]], line: str
) -> None:
    monkeypatch.setattr(Cloud, "classes", classes)
    with pytest.raises(pulumi.RunError) as error:
        run_program({**CLOUD, **MANAGED})
    assert str(error.value).startswith(f"stacks/Pulumi.dev.yaml: {line}")


def test_the_disk_of_a_server_of_the_stacks_own_is_not_given_up(
    run_program: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = Cloud.call
    disk = {"diskName": "wsgi-ecs-dev-db-data", "size": 20, "zoneId": "cn-hangzhou-i"}

    def call(self: Cloud, args: Any) -> Any:
        return ({"disks": [disk]}, []) if args.token.endswith(":getEcsDisks") else known(self, args)

    monkeypatch.setattr(Cloud, "call", call)
    with pytest.raises(
        pulumi.RunError, match=r"mysql\.managed: the database is on the disk wsgi-ecs-dev-db-data, which"
    ):
        run_program({**CLOUD, **MANAGED})


def test_no_question_is_asked_without_it() -> None:
    assert standby_zone("any", parse({"mysql": {"password": "x"}}, FILE), "cn-hangzhou-i") is None


@pytest.mark.parametrize("system", SYSTEMS)
def test_one_machine_of_the_application_has_the_client_and_the_schema(system: str, tmp_path: Path) -> None:
    (tmp_path / "a.sql").write_text("SELECT 1;\n")
    config = {**mysql(schema_files=[str(tmp_path / "a.sql")]), "server": {"os": system}}
    for topology, leader in ({}, ""), ({"topology": {"app_servers": 2}}, "app-1"):
        found = {machine.name: machine.plan for machine in machines(parse({**config, **topology}, FILE))}
        assert "db" not in found
        for name, plan in found.items():
            host = decode(Host, host_files(plan)["host.json"])
            carries = "tool/managed_database.py" in host_files(plan)
            has = (host.database is not None, "wsgi-ecs-database" in plan.configs, carries)
            assert has == (name == leader,) * 3, name
            assert ("schema/1/a.sql" in plan.sources) == (name == leader)
            client = SYSTEMS[system].mysql_client
            assert (host.packages is not None and client in host.packages.names) == (name == leader)
            assert PASSWORD not in json.dumps(host_files(plan))


def test_a_dump_of_rds_belongs_to_nobody(tmp_path: Path) -> None:
    command = machines(parse(MANAGED, FILE))[0].plan.configs["wsgi-ecs-database"]
    assert subprocess.run(["bash", "-n"], input=command, text=True).returncode == 0
    assert "nightly)" not in command
    fake = tmp_path / "bin"
    fake.mkdir()
    owner = " DEFINER=`app_owner`@`%`"
    dumped = (
        f"/*!50013{owner} SQL SECURITY DEFINER */\n"
        f"/*!50003 CREATE*/ /*!50017{owner}*/ /*!50003 TRIGGER t SET @a = ' DEFINER=`x`@`y`' */;;\n"
        f"/*!50106 CREATE*/ /*!50117{owner}*/ /*!50106 EVENT e */ ;;\n"
        f"CREATE{owner} PROCEDURE `p`()\nSELECT ' DEFINER=`x`@`y`' ;;\n"
        # MariaDB 10.11 writes each row on a line of its own, and older ones all rows on one line.
        "INSERT INTO `a` VALUES ('a DEFINER=`x`@`y`');\nINSERT INTO `a` VALUES\n('b DEFINER=`x`@`y`');\n"
        "-- Dump completed\n"
    )
    (tmp_path / "dumped").write_text(dumped)
    (fake / "mysqldump").write_text(f'#!/bin/sh\necho "$@" >{tmp_path}/said\ncat {tmp_path}/dumped\n')
    (fake / "mysqldump").chmod(0o755)
    script = command.replace(paths.DATA, str(tmp_path))
    path = {"PATH": f"{fake}:/usr/bin:/bin"}
    done = subprocess.run(
        ["bash", "-c", script.replace("mariadb-dump ||", "no-such-dump ||"), "-", "dump"], env=path, capture_output=True
    )
    text = subprocess.run(["gunzip"], input=done.stdout, capture_output=True, check=True).stdout.decode()
    assert text == dumped.replace(owner, "")
    assert (tmp_path / "said").read_text().startswith(f"--defaults-extra-file={paths.MYSQL_CLIENT} --no-tablespaces ")
    refused = subprocess.run(["bash", "-c", script, "-", "load", "latest"], env=path, capture_output=True, text=True)
    assert refused.returncode == 1
    assert "restore one of the backups of RDS" in refused.stderr


def test_the_tool_logs_in_to_rds_as_its_own_account(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("MYSQL_CLIENT", "MYSQL_CA", "DATABASE_COMMAND", "DATA"):
        monkeypatch.setattr(paths, name, str(tmp_path / name.lower()))
    ran: list[tuple[str, str]] = []

    def sql(text: str, name: str = "") -> str:
        ran.append((text, name))
        return ""

    monkeypatch.setattr(database, "sql", sql)
    plan = machines(parse(MANAGED, FILE))[0].plan

    class Release:
        def __init__(self, folder: str) -> None: ...

        def text(self, name: str) -> str:
            return host_files(plan)[name]

        def read(self, name: str) -> bytes:
            return b""

    monkeypatch.setattr(managed_database, "Unpacked", Release)
    account = {"host": "rm-1", "port": "3306", "user": "wsgi_ecs_owner", "password": PASSWORD}
    said: list[str] = []
    managed_database.bring("folder", account, said.append)
    client = tmp_path / "mysql_client"
    assert client.stat().st_mode & 0o777 == 0o600
    assert client.read_text().splitlines() == [
        "[client]",
        'host = "rm-1"',
        "port = 3306",
        'user = "wsgi_ecs_owner"',
        f'password = "{PASSWORD}"',
        "skip-ssl",
    ]
    assert [name for _, name in ran] == ["app", "app"]
    assert (tmp_path / "database_command").stat().st_mode & 0o777 == 0o755
    assert said == ["database app is ready"]
    (tmp_path / "mysql_ca").write_text("a certificate")
    managed_database.bring("folder", account, said.append)
    assert client.read_text().splitlines()[-2:] == [f"ssl-ca = {tmp_path}/mysql_ca", "ssl-verify-server-cert"]
    with pytest.raises(Exception, match="no account of the database"):
        managed_database.bring("folder", None, said.append)


def test_backup_and_restore_go_to_the_machine_that_has_the_command() -> None:
    def machine(name: str, *sites: str) -> Machine:
        return Machine(name, name, sites, Way("10.0.0.1", name, Path("k"), None, False))

    outputs = {"database": "rm-1.mysql.rds.aliyuncs.com"}
    apart = (machine("front", "app"), machine("app-1", "app"), machine("app-2", "app"))
    assert dump.database_machine(Stack("dev", apart, outputs)).name == "app-1"
    assert dump.database_machine(Stack("dev", (machine("server", "app"),), outputs)).name == "server"
    own = (*apart, machine("db"))
    assert dump.database_machine(Stack("dev", own, {"database": "10.0.0.9"})).name == "db"
    with pytest.raises(Exception, match="stack dev has no database"):
        dump.database_machine(Stack("dev", apart))
