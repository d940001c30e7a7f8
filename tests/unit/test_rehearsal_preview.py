"""What a preview says: the project's own program, run dry over states that were recorded of it."""

import hashlib
import io
import json
import logging
import re
import shutil
import tarfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from rich.console import Console

from rehearsal import cli
from rehearsal.cloud import tokens
from rehearsal.cloud.context import CloudContext
from rehearsal.cloud.images import CLOUD_IMAGES
from rehearsal.cloud.instance_types import answer
from rehearsal.cloud.keys import NO_KEY, Keys
from rehearsal.cloud.registry import TYPES
from rehearsal.cloud.store import ProjectStore, no_state
from rehearsal.commands import database_data, redis_data, site_data
from rehearsal.commands import foresee as foreseeing
from rehearsal.commands import up as updating
from rehearsal.commands.foresee import Preview, foresee
from rehearsal.commands.interruptions import away
from rehearsal.commands.overlay import rehearsed
from rehearsal.commands.preview import predict, print_preview
from rehearsal.commands.preview_text import counted, lines
from rehearsal.commands.rendered_files import CODE
from rehearsal.commands.show import Show
from rehearsal.commands.up import confirm
from rehearsal.engine import program
from rehearsal.engine.compare import Op
from rehearsal.engine.engine import Engine
from rehearsal.engine.errors import UserError
from rehearsal.engine.monitor import RehearsalMonitor
from rehearsal.engine.resource import Foreseen, Provider
from rehearsal.engine.stack import Stack
from rehearsal.engine.state import KEY, Record, State
from tests.builders.stack import PROJECT

KEYS = Keys(Path("/nonexistent"))
SILENT = logging.Logger("silent")
Settings = dict[str, Any]


@dataclass
class Here(Foreseen[CloudContext]):
    """A type whose objects are made on paper, with the outputs that others want. gone, stopped: names of some."""

    def __init__(self, type_: str) -> None:
        super().__init__(TYPES[type_])
        self.type = type_
        self.gone: set[str] = set()
        self.stopped: set[str] = set()

    def id(self, name: str, inputs: Mapping[str, Any]) -> str:
        return str(inputs.get("keyPairName", f"{name}-id"))

    def create(self, context: CloudContext, record: Record, inputs: Mapping[str, Any]) -> dict[str, Any]:
        printed = {"stdout": NO_KEY} if record.name.endswith("-host-key") else {}
        return {"ipAddress": "198.18.0.1", "primaryIpAddress": f"10.0.0.{record.serial}", **printed}

    def exists(self, context: CloudContext, record: Record) -> bool:
        return record.name not in self.gone

    def drift(self, context: CloudContext, record: Record) -> str:
        return "it is stopped, and is started" if record.name in self.stopped else ""


class Ignored:
    def started(self, *_: Any) -> None: ...
    def finished(self, *_: Any) -> None: ...
    def failed(self, *_: Any) -> None: ...


class Site:
    """A stack whose `up` is on paper."""

    def __init__(self, root: Path, types: dict[str, Here]) -> None:
        self.root = root
        self.types = types
        self.state = no_state("dev")
        self.provider = Provider(types, answer)

    def stack(self, settings: Settings) -> Stack:
        values = {"server": {"os": "debian12"}, **settings}
        config = {f"wsgi-ecs:{key}": json.dumps(value) for key, value in values.items()}
        return rehearsed(Stack("wsgi-ecs", "dev", config), NO_KEY)[0]

    def up(self, seconds: Mapping[str, float] | None = None, **settings: Any) -> None:
        """Record a run. seconds: end of a name → how long it is said to have taken; 1 s for the others."""
        state = self.state.imagined()
        runs = Engine(CloudContext(self.root, state, KEYS, {}, print), self.provider, Ignored())
        program.run(self.root, self.stack(settings), RehearsalMonitor(runs, self.provider, print), SILENT)
        runs.delete_rest()
        for record in state.records():
            took = next((took for end, took in (seconds or {}).items() if record.name.endswith(end)), 1.0)
            state.put(replace(record, seconds=took))
        self.keep(state)

    def keep(self, state: State) -> None:
        """Take an imagined state for the recorded one."""
        self.state = State(ProjectStore("dev"), state._values)

    def preview(self, **settings: Any) -> Preview:
        return foresee(self.root, self.stack(settings), self.state, KEYS, SILENT)


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Site:
    shutil.copytree(PROJECT / "app", tmp_path / "app")
    for name in ("stacks", "__main__.py"):
        (tmp_path / name).symlink_to(PROJECT / name)
    monkeypatch.chdir(tmp_path)
    types = {type_: Here(type_) for type_ in TYPES}
    site = Site(tmp_path, types)
    monkeypatch.setattr(foreseeing, "PROVIDER", site.provider)

    def write(self: ProjectStore, values: Mapping[str, str]) -> None:
        raise AssertionError("a preview writes")

    for method in ("ensure", "write", "delete"):
        monkeypatch.setattr(ProjectStore, method, write)
    return site


def short(name: str) -> str:
    return name.removeprefix("wsgi-ecs-dev-")


def ops(found: Preview) -> dict[str, Op]:
    return {short(change.record.name): change.op for change in found.changes if change.op is not Op.SAME}


def notes(found: Preview) -> dict[str, str]:
    return {short(change.record.name): change.note for change in found.changes}


def text(found: Preview, details: bool = False) -> str:
    return "\n".join(line for line, _ in lines(found, details))


SYSTEMD: Settings = {"serving": {"process_manager": "systemd"}}
REPLACED = [
    "instance", "association", "host-key", "ready", "host-archive", "site-app-archive", "host-apply", "site-app-apply",
]  # fmt: skip


def test_where_nothing_is_recorded_all_is_created(site: Site) -> None:
    found = site.preview()
    assert set(ops(found).values()) == {Op.CREATE}
    assert counted(found.changes) == "14 to create"
    assert list(away(found)) == []
    size = len(next(one for one in found.files if "boots" in one.title).new["user data"].encode())
    assert f"{size} of 16320 bytes" in text(found)
    assert "+ config/uwsgi.ini: " in text(found)
    assert "client_max_body_size" not in text(found)
    assert "    +    client_max_body_size 16m;" in text(found, details=True)


@pytest.mark.parametrize(
    "settings",
    [
        {"mysql": {"managed": True, "password": "Hunter2-hunter2#"}},
        {"topology": {"entrance": "alb", "app_servers": 2}},
        {"data": {"shared": True}, "topology": {"app_servers": 2}, "alarms": {"email": "ops@example.com"}},
    ],
    ids=["RDS", "ALB", "NAS"],
)
def test_engines_of_the_cloud_are_previewed_before_anything_is_there(site: Site, settings: Settings) -> None:
    assert set(ops(site.preview(**settings)).values()) == {Op.CREATE}


def test_what_is_as_recorded_is_neither_shown_nor_anything_to_do(site: Site) -> None:
    site.up()
    found = site.preview()
    assert not found.anything
    assert text(found) == text(found, details=True) == "14 unchanged"


def test_a_changed_setting_is_a_release_with_its_difference_and_no_interruption(site: Site) -> None:
    site.up()
    found = site.preview(nginx={"client_max_body_size": "2m"})
    assert ops(found) == {"site-app-archive": Op.REPLACE, "site-app-apply": Op.REPLACE}
    copy = next(change for change in found.changes if change.record.name.endswith("-site-app-archive"))
    ids = [record.inputs["triggers"][0] for record in (copy.old, copy.new) if record]
    assert notes(found)["site-app-apply"] == f"replaced for a new release ({ids[0]} → {ids[1]})"
    shown = text(found).splitlines()
    assert "  ~ config/server.conf: +1 -1 lines" in shown
    assert "    -    client_max_body_size 16m;" in shown
    assert "    +    client_max_body_size 2m;" in shown
    assert shown[-2:] == ["the site goes on answering", "2 to replace, 12 unchanged"]


def test_changed_code_is_named_and_not_shown(site: Site) -> None:
    site.up()
    (site.root / "app/app.py").write_text("app = 'told to nobody'\n")
    shown = text(site.preview(), details=True)
    assert "  ~ app/: app.py" in shown
    assert "told to nobody" not in shown


def test_new_changed_and_deleted_files_are_marked_apart_and_come_before_the_tools_own(site: Site) -> None:
    for name in ("gone.py", "kept.py"):
        (site.root / "app" / name).write_text("")
    site.up()
    (site.root / "app/gone.py").unlink()
    (site.root / "app/kept.py").write_text("x = 1\n")
    (site.root / "app/new.py").write_text("")
    shown = text(site.preview(nginx={"client_max_body_size": "2m"})).splitlines()
    assert shown.index("  ~ app/: - gone.py, ~ kept.py, + new.py") < shown.index("  ~ config/server.conf: +1 -1 lines")


def test_a_sites_files_come_before_what_all_sites_share(site: Site) -> None:
    titles = [line for line in text(site.preview()).splitlines() if line.endswith(" gets")]
    assert titles == ["wsgi-ecs-dev-site-app gets", "wsgi-ecs-dev-host gets"]


def test_a_step_to_several_sites_says_how_to_keep_the_one_that_runs(site: Site) -> None:
    site.up()
    lines = list(away(site.preview(sites={"a": TWO["a"]})))
    assert "site app will be deleted; to keep it, name it app in sites" in lines
    assert not any("app will" in line for line in away(site.preview(sites={"app": {}, "b": TWO["b"]})))


def test_a_long_difference_is_shown_when_asked_for(site: Site) -> None:
    site.up()
    found = site.preview(nginx={"extra": "\n".join(f"# {number}" for number in range(50))})
    assert "    +# 7" not in text(found)
    assert "--diff" in text(found)
    assert "    +# 7" in text(found, details=True)
    assert "--diff" not in text(found, details=True)


def test_an_update_in_place_names_what_changes_and_what_it_interrupts(site: Site) -> None:
    site.up()
    found = site.preview(server={"os": "debian12", "instance_type": "ecs.t6-c1m1.large", "bandwidth_mbps": 7})
    assert ops(found) == {"instance": Op.UPDATE, "address": Op.UPDATE, "site-app-apply": Op.REPLACE}
    assert notes(found)["address"] == "bandwidth (5 → 7)"
    assert notes(found)["instance"] == "instanceType (ecs.e-c1m1.large → ecs.t6-c1m1.large), restarts"
    assert list(away(found)) == ["the site is away until wsgi-ecs-dev-instance has booted: about 6 s"]


def test_another_bootstrap_replaces_the_server_and_tells_why_in_which_order_and_how_long(site: Site) -> None:
    site.up({"-association": 0.5, "-ready": 20, "-site-app-archive": 3, "-site-app-apply": 7, "-instance": 99})
    found = site.preview(**SYSTEMD)
    assert list(ops(found)) == REPLACED
    assert set(ops(found).values()) == {Op.REPLACE}
    assert notes(found)["instance"].startswith("replaced for changed user data (debian12-")
    assert notes(found)["association"] == (
        "replaced for a new server (wsgi-ecs-dev-instance-id → known later), the old one goes first"
    )
    # The way through the site's archive is longer than the one through what the sites share.
    assert list(away(found)) == [
        "the site is away from when wsgi-ecs-dev-association goes until wsgi-ecs-dev-site-app-apply is done: "
        "about 32 s, as it took the last time"
    ]
    assert "~ user data: +" in text(found)
    assert "\n    -apt-get" not in text(found)
    assert "supervisor" in text(found, details=True)
    assert "userData: " not in text(found, details=True)


def test_a_key_that_is_damaged_is_told_once(site: Site) -> None:
    """However many resources are under way that ask for it."""
    site.state = State(ProjectStore("dev"), {KEY: "no hex"})
    with pytest.raises(UserError, match=r"user\.key: damaged"):
        site.preview()


def test_what_was_never_measured_is_said_to_be(site: Site) -> None:
    site.up()
    kept = site.state.imagined()
    for record in kept.records():
        kept.put(replace(record, seconds=None if record.name.endswith("-ready") else 4))
    site.keep(kept)
    (line,) = away(site.preview(**SYSTEMD))
    assert line.endswith(": more than 20 s, as it took the last time")
    for record in kept.records():
        kept.put(replace(record, seconds=None))
    site.keep(kept)
    (line,) = away(site.preview(**SYSTEMD))
    assert line.endswith(": not measured yet")


def test_what_depends_on_something_new_is_known_later(site: Site) -> None:
    site.up()
    found = site.preview(network={"cidr": "10.80.0.0/20"})
    assert notes(found)["vpc"] == "replaced for cidrBlock (10.76.0.0/20 → 10.80.0.0/20)"
    assert notes(found)["group"] == "replaced for a new network (wsgi-ecs-dev-vpc-id → known later)"
    assert set(ops(found)) == {*REPLACED, "vpc", "group", "switch", "80-from-0.0.0.0-0"}
    assert "vpcId: wsgi-ecs-dev-vpc-id → known later" in text(found, details=True)


TWO = {"a": {"site": {"server_name": "a.example"}}, "b": {"site": {"server_name": "b.example"}}}


def test_what_is_taken_away_is_deleted_dependents_first_and_after_all_else(site: Site) -> None:
    site.up(sites=TWO)
    found = site.preview(sites={"a": TWO["a"]})
    deleted = [short(change.record.name) for change in found.changes if change.op is Op.DELETE]
    assert deleted == ["site-b-apply", "site-b-archive"]
    assert [change.op for change in found.changes][-2:] == [Op.DELETE] * 2
    assert counted(found.changes).endswith("2 to delete, 12 unchanged")


PROTECTED: Settings = {"server": {"os": "debian12", "protect": True}}


def test_a_protected_server_is_not_replaced_and_all_of_it_is_shown(site: Site) -> None:
    site.up(**PROTECTED)
    found = site.preview(**PROTECTED, **SYSTEMD)
    (refused,) = found.refused
    assert refused.startswith("wsgi-ecs-dev-instance: it is protected, and this replaces it for changed user data")
    assert refused.endswith(
        "; in two steps: 1. `server.protect: false` (`mysql.protect: false` or `data.protect: false` for a data disk, "
        "`redis.protect: false` for Tair) "
        "and nothing else, and up; 2. this change, and up"
    )
    assert list(ops(found)) == REPLACED
    with pytest.raises(UserError, match="two steps"):
        print_preview(found, Show(Console(file=io.StringIO())), False)


@pytest.mark.parametrize(("before", "after"), [("debian12", "debian13"), ("debian12", "ubuntu2204")])
def test_another_operating_system_makes_another_server(site: Site, before: str, after: str) -> None:
    """Also where both are rehearsed on the same base image."""
    systems: list[Settings] = [{"server": {"os": system}} for system in (before, after)]
    site.up(**systems[0])
    found = site.preview(**systems[1])
    assert list(ops(found)) == REPLACED
    assert notes(found)["instance"].startswith("replaced for changed user data")
    (server,) = found.records(tokens.INSTANCE)
    assert CLOUD_IMAGES[server.inputs["imageId"]] == after
    protected: Settings = {"server": {"os": before, "protect": True}}
    site.up(**protected)
    (refused,) = site.preview(server={"os": after, "protect": True}).refused
    assert refused.startswith("wsgi-ecs-dev-instance: it is protected, and this replaces it for changed user data")


def test_a_database_that_another_operating_system_refuses_is_named_beforehand(site: Site) -> None:
    mysql: Settings = {"mysql": {"password": "secret-1"}}
    site.up(**mysql)
    assert list(database_data.refused("dev", site.preview(**mysql, **SYSTEMD))) == []
    (line,) = database_data.refused("dev", site.preview(**mysql, server={"os": "debian13"}))
    assert line.startswith("the new database server of debian13 refuses the data of debian12, when the old server is")


def test_a_protected_disk_is_not_deleted(site: Site) -> None:
    mysql: Settings = {"mysql": {"password": "secret-1", "protect": True}}
    site.up(**mysql)
    found = site.preview()
    assert [line.split(";")[0] for line in found.refused] == [
        "protected, and no longer wanted: wsgi-ecs-dev-db-data-disk"
    ]
    assert ops(found)["db-data-disk"] is Op.DELETE


def test_the_database_is_away_while_its_disk_moves(site: Site) -> None:
    mysql: Settings = {"mysql": {"password": "secret-1"}}
    site.up(**mysql)
    disk = "wsgi-ecs-dev-db-data-attachment"
    found = [line for line in away(site.preview(**mysql, network={"cidr": "10.80.0.0/20"})) if "database" in line]
    assert len(found) == 1
    assert found[0].startswith(f"the database is away from when {disk} goes until ")


def test_the_data_of_redis_are_lost_with_its_server_and_stay_without_it(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    amounts = {None: "2.0 KB in 3 files", "redis": "1.0 MB in 2 files"}
    monkeypatch.setattr(redis_data, "_amount", lambda root, stack, machine: amounts.get(machine, ""))

    def lost(**config: Any) -> list[str]:
        return list(redis_data.lost(site.root, "dev", site.preview(**config)))

    beside: Settings = {"redis": {}}
    alone: Settings = {"redis": {"own_server": True, "password": "hunter2-hunter2-hunter2"}}
    stay = "wsgi-ecs-dev-host: Redis goes when no site uses it; its data stay in /var/lib/wsgi-ecs/redis"
    site.up(**beside)
    assert lost(**beside) == []
    assert lost() == lost(**alone) == [stay]
    assert (
        lost(**beside, **SYSTEMD)
        == lost(**SYSTEMD)
        == ["wsgi-ecs-dev-instance takes the data of Redis with it (2.0 KB in 3 files)"]
    )
    site.up(**alone)
    taken = "wsgi-ecs-dev-redis-instance takes the data of Redis with it"
    assert lost() == [f"{taken} (1.0 MB in 2 files)"]
    monkeypatch.setattr(redis_data, "_amount", lambda *_: None)
    assert lost(**beside) == [f"{taken} (how much cannot be seen from here)"]
    assert lost(**alone, **SYSTEMD) == []


DISK: Settings = {"data": {"disk_gib": 20}}
LARGER: Settings = {"data": {"disk_gib": 40}}
SHARED: Settings = {"data": {"shared": True, "protect": False}}
APART: Settings = {"topology": {"app_servers": 1}}


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        ({}, {}, []),
        ({}, SYSTEMD, ["instance takes the data of its sites (app: 1.0 MB in 2 files) with it"]),
        ({}, DISK, [" moves the data of its sites (app: 1.0 MB in 2 files) to its new data disk"]),
        ({}, {**SYSTEMD, **DISK}, ["instance takes the data"]),
        (DISK, SYSTEMD, ["data-disk takes the data"]),
        (DISK, {**SYSTEMD, **DISK}, []),
        (DISK, LARGER, []),
        (DISK, {}, [" moves the data of its sites (app: 1.0 MB in 2 files) to its own disk before its data disk is"]),
        (DISK, {**DISK, "topology": {"app_servers": 1}}, ["data-disk takes the data"]),
        ({"topology": {"app_servers": 2}}, {"topology": {"app_servers": 1}}, ["app-2-instance takes the data"]),
        ({**DISK, "topology": {"app_servers": 2}}, {**DISK, **SYSTEMD, "topology": {"app_servers": 2}}, []),
        ({"mysql": {"password": "secret-1"}}, {}, []),
        ({}, SHARED, [" moves the data of its sites (app: 1.0 MB in 2 files) to the file system that machines share"]),
        (SHARED, {**SHARED, **SYSTEMD}, []),
        (SHARED, {}, [" to its own disk before the shared file system is deleted; each site stands still"]),
        (SHARED, SYSTEMD, ["the shared file system takes the data of its sites"]),
        (APART, {**APART, **SHARED}, ["app-1-instance takes the data of its sites"]),
    ],
)
def test_what_becomes_of_the_data_of_sites_is_said_with_its_amount(
    site: Site, monkeypatch: pytest.MonkeyPatch, before: Settings, after: Settings, said: list[str]
) -> None:
    monkeypatch.setattr(site_data, "_amounts", lambda *_: "app: 1.0 MB in 2 files")
    site.up(**before)
    found = [short(line) for line in site_data.lost(site.root, "dev", site.preview(**after))]
    assert len(found) == len(said), found
    for line, part in zip(found, said, strict=True):
        assert part in line


def test_a_server_that_keeps_no_data_loses_none(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(site_data, "_amounts", lambda *_: "")
    site.up()
    assert not list(site_data.lost(site.root, "dev", site.preview(**SYSTEMD)))


@pytest.mark.parametrize(
    ("before", "after", "away_from"),
    [
        (DISK, {**SYSTEMD, **DISK}, ["the site is away from when wsgi-ecs-dev-association goes"]),
        (DISK, {}, []),
        ({}, DISK, []),
    ],
)
def test_the_site_is_away_while_its_data_disk_is_exchanged(
    site: Site, before: Settings, after: Settings, away_from: list[str]
) -> None:
    site.up(**before)
    found = [line for line in away(site.preview(**after)) if "is away" in line]
    assert len(found) == len(away_from), found
    for line, begin in zip(found, away_from, strict=True):
        assert line.startswith(begin)


def fleet(app_servers: int) -> Settings:
    return {"topology": {"app_servers": app_servers}} if app_servers else {}


@pytest.mark.parametrize(("before", "after", "end"), [(0, 3, "front-site-app-apply"), (3, 0, "site-app-apply")])
def test_the_site_is_away_until_what_comes_in_place_of_it(site: Site, before: int, after: int, end: str) -> None:
    site.up(**fleet(before))
    (line,) = away(site.preview(**fleet(after)))
    assert line.startswith("the site is away from when wsgi-ecs-dev-association goes until wsgi-ecs-dev-" + end)
    # What is made for the first time was never measured.
    assert ": more than " in line


def test_the_sites_time_away_ends_with_its_release_and_the_databases_with_its_own(site: Site) -> None:
    mysql: Settings = {"mysql": {"password": "secret-1"}}
    site.up({"-settle": 500}, **mysql)
    (line,) = away(site.preview(**mysql, **SYSTEMD))
    assert " until wsgi-ecs-dev-site-app-apply is done: " in line
    found = [line for line in away(site.preview(**mysql, network={"cidr": "10.80.0.0/20"})) if "database" in line]
    assert " until wsgi-ecs-dev-db-host-apply is done: " in found[0]


def test_sites_that_come_and_go_are_told(site: Site) -> None:
    site.up(sites=TWO)
    assert list(away(site.preview(sites={"a": TWO["a"]}))) == ["site b will be deleted"]
    # A run that failed after the machine had deleted the site leaves the site's records to the next run.
    left = [record for record in site.state.records() if "-site-b-" in record.name]
    site.up(sites={"a": TWO["a"]})
    state = site.state.imagined()
    state.put(*left)
    site.keep(state)
    assert set(ops(site.preview(sites={"a": TWO["a"]})).values()) == {Op.DELETE}
    assert list(away(site.preview(sites={"a": TWO["a"]}))) == ["the site goes on answering"]
    assert list(away(site.preview(sites={**TWO, "c": {"site": {"server_name": "c.example"}}}))) == [
        "site c is new: 503 until its first release"
    ]


@pytest.mark.parametrize(("serving", "line"), [({}, "the site answers 503"), ({"front": "none"}, "nothing answers")])
def test_a_site_whose_first_release_was_refused_is_not_said_to_answer(site: Site, serving: Settings, line: str) -> None:
    config: Settings = {"serving": serving, "uwsgi": {"http": "0.0.0.0:8001"} if serving else {}}
    site.up(**config)
    state = site.state.imagined()
    state.remove(*(record for record in state.records() if record.name.endswith("-site-app-apply")))
    site.keep(state)
    (site.root / "app/app.py").write_text("app = None\n")
    assert list(away(site.preview(**config))) == [f"{line} until the first release"]


def test_a_new_site_without_nginx_does_not_answer_yet(site: Site) -> None:
    one = {"front": "none"}
    sites = {"a": {"uwsgi": {"http": "0.0.0.0:8001"}}, "b": {"uwsgi": {"http": "0.0.0.0:8101"}}}
    site.up(serving=one, sites={"a": sites["a"]})
    assert list(away(site.preview(serving=one, sites=sites))) == [
        "site b is new: nothing answers until its first release"
    ]


def test_a_port_that_closes_hides_no_absence(site: Site) -> None:
    alone: Settings = {"serving": {"front": "none"}, "uwsgi": {"http": "0.0.0.0:8001"}}
    site.up(**alone)
    (site.root / "app/app.py").write_text("app = None\n")
    assert list(away(site.preview(**alone, access={"http": ["10.9.0.0/16"]}))) == [
        "without nginx the site is away while its program is started anew: some seconds",
        "port 8001 closes to 0.0.0.0/0",
    ]


@pytest.mark.parametrize("wider", ["0.0.0.0/0", "10.8.0.0/15"])
def test_a_port_that_opens_further_closes_to_nobody(site: Site, wider: str) -> None:
    site.up(access={"http": ["10.9.0.0/16"]})
    assert list(away(site.preview(access={"http": [wider]}))) == ["the site goes on answering"]


def test_ports_that_close_are_told(site: Site) -> None:
    site.up()
    assert list(away(site.preview(nginx={"listen": 8080}))) == ["port 80 closes to 0.0.0.0/0"]
    assert list(away(site.preview(access={"http": ["10.9.0.0/16"]}))) == ["port 80 closes to 0.0.0.0/0"]


def test_another_configuration_of_the_database_starts_it_anew(site: Site) -> None:
    mysql: Settings = {"password": "secret-1"}
    site.up(mysql=mysql)
    assert list(away(site.preview(mysql={**mysql, "max_connections": 99}))) == [
        "the database is away while it starts with another mysql.cnf: some seconds"
    ]
    moved = away(site.preview(mysql={**mysql, "max_connections": 99}, network={"cidr": "10.80.0.0/20"}, **SYSTEMD))
    assert len([line for line in moved if line.startswith("the database")]) == 1
    shutil.rmtree(".build")
    assert list(away(site.preview(mysql={**mysql, "max_connections": 99}))) == [
        "the database is perhaps away while it starts with another mysql.cnf: some seconds"
    ]


@pytest.mark.parametrize("manifest", ['{"files": {"app/x": "d"}}', '{"files": null}', "[]", "x"])
def test_an_archive_with_another_manifest_is_not_read(site: Site, manifest: str) -> None:
    site.up()
    (site.root / "app/app.py").write_text("app = None\n")
    for path in (site.root / ".build").iterdir():
        with tarfile.open(path, "w:gz") as tar:
            member = tarfile.TarInfo("manifest.json")
            member.size = len(manifest)
            tar.addfile(member, io.BytesIO(manifest.encode()))
    assert "gets, after a release that .build no longer has" in text(site.preview())


def test_an_update_of_what_is_known_later_is_said_to_be_perhaps(site: Site) -> None:
    mysql: Settings = {"mysql": {"password": "secret-1"}}
    site.up(**mysql)
    assert (
        notes(site.preview(**mysql, **SYSTEMD))["db-ready"] == "another way to log in (known later), perhaps runs again"
    )


def test_what_comes_and_goes_of_a_trigger_is_told(site: Site) -> None:
    site.up(**fleet(2))
    note = notes(site.preview(**fleet(1)))["front-host-apply"]
    assert re.fullmatch(r"replaced for other servers \(10\.0\.0\.\d+ → none\)", note)


def test_files_that_are_only_named_are_not_read(site: Site) -> None:
    site.up()
    (site.root / "app/large.bin").write_bytes(b"\xff\n" * 2**16)
    found = site.preview()
    texts = [text for files in found.files for name, text in files.new.items() if name.startswith(CODE)]
    assert max(map(len, texts)) == 64
    assert "  + app/: large.bin\n" in text(found)


def test_an_archive_of_sources_is_named_and_not_compared(site: Site) -> None:
    (site.root / "python.tgz").write_bytes(b"\xff\n" * 2**16)
    sha256 = hashlib.sha256((site.root / "python.tgz").read_bytes()).hexdigest()
    site.up()
    python = {"install": "source", "version": "3.11.9", "archive": "python.tgz", "sha256": sha256}
    found = site.preview(python=python)
    texts = [text for files in found.files for name, text in files.new.items() if name.startswith(CODE)]
    assert max(map(len, texts)) == 64
    assert "  + source/: python-3.11.9\n" in text(found)


def test_a_secret_that_changes_is_named_and_not_shown(site: Site) -> None:
    site.up(app={"env": {"TOKEN": "open sesame"}})
    found = site.preview(app={"env": {"TOKEN": "closed sesame"}})
    assert notes(found)["site-app-apply"] == "a changed environment, secret or origin, runs again"
    shown = text(found, details=True)
    assert "stdin: [secret] → [secret]" in shown
    assert "sesame" not in shown


def test_a_secret_in_a_file_is_masked(site: Site) -> None:
    site.up()
    found = site.preview(nginx={"extra": "# open sesame"})
    shown = io.StringIO()
    print_preview(found, Show(Console(file=shown, width=200), ["open sesame"]), False)
    assert "    +# [secret]\n" in shown.getvalue()
    assert "sesame" not in shown.getvalue()


def test_what_lxd_no_longer_has_is_created_and_what_stopped_is_started(site: Site) -> None:
    site.up()
    instance = site.types[tokens.INSTANCE]
    instance.stopped.add("wsgi-ecs-dev-instance")
    found = site.preview()
    assert ops(found) == {"instance": Op.UPDATE}
    assert notes(found)["instance"] == "it is stopped, and is started"
    assert "goes on answering" not in text(found)
    instance.gone.add("wsgi-ecs-dev-instance")
    found = site.preview()
    assert ops(found)["instance"] is Op.CREATE
    assert notes(found)["instance"] == "it no longer existed"
    assert ops(found)["association"] is Op.REPLACE
    assert "goes on answering" not in text(found)


def test_what_a_killed_run_left_is_told(site: Site) -> None:
    site.up()
    kept = site.state.imagined()
    begun, replaced = (kept.records(type_)[0] for type_ in (tokens.VPC, tokens.COMMAND))
    kept.put(replace(begun, status="pending"), replace(replaced, serial="99", status="doomed"))
    site.keep(kept)
    found = site.preview()
    assert ops(found)["vpc"] is Op.CREATE
    left = [change for change in found.changes if change.op is Op.DELETE]
    assert [(change.record.serial, change.note) for change in left] == [("99", "replaced")]


def test_without_nginx_a_release_interrupts(site: Site) -> None:
    bare: Settings = {"serving": {"front": "none"}, "uwsgi": {"http": "0.0.0.0:8080"}}
    site.up(**bare)
    (site.root / "app/app.py").write_text("app = None\n")
    assert list(away(site.preview(**bare))) == [
        "without nginx the site is away while its program is started anew: some seconds"
    ]


def test_a_release_that_is_no_longer_at_hand_is_said_to_be(site: Site) -> None:
    site.up()
    shutil.rmtree(site.root / ".build")
    found = site.preview(nginx={"client_max_body_size": "2m"})
    assert "wsgi-ecs-dev-site-app gets, after a release that .build no longer has" in text(found)


def test_the_same_preview_has_the_same_lines(site: Site) -> None:
    site.up()
    assert text(site.preview(**SYSTEMD)) == text(site.preview(**SYSTEMD))


def test_what_the_program_refuses_is_one_error(site: Site) -> None:
    with pytest.raises(UserError, match=r"^stacks/Pulumi\.dev\.yaml: site\.server_name: got a;b; allowed: "):
        site.preview(site={"server_name": "a;b"})


def test_what_is_not_rehearsed_is_refused_before_anything_is_made(site: Site) -> None:
    site.up()
    with pytest.raises(UserError, match=r"^wsgi-ecs-dev-instance \(alicloud:ecs/instance:Instance\): .*ecs\.nope"):
        site.preview(server={"os": "debian12", "instance_type": "ecs.nope.large", "zone": "cn-hangzhou-h"})


@pytest.mark.parametrize(
    ("typed", "confirmed", "asked"),
    [
        ("yes\n", True, 1),
        ("y\n", True, 1),
        ("no\n", False, 1),
        ("\nyes\n", False, 1),
        ("", False, 0),
        ("what\nyes\n", True, 2),
    ],
)
def test_the_question_takes_yes_and_no(typed: str, confirmed: bool, asked: int) -> None:
    with CliRunner().isolation(input=typed) as (out, *_):
        assert confirm(Preview((), (), (), Path()), Show(Console(file=io.StringIO()))) is confirmed
        assert out.getvalue().decode().count("Do you want to perform this update? [yes/no/details]") == asked


def test_details_are_shown_and_asked_after(site: Site) -> None:
    shown = io.StringIO()
    with CliRunner().isolation(input="details\nno\n"):
        assert confirm(site.preview(), Show(Console(file=shown))) is False
    assert "client_max_body_size" in shown.getvalue()


def test_nothing_is_asked_without_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[bool] = []

    def up(root: Path, name: str, ask: bool, details: bool) -> int:
        asked.append(ask)
        return 0

    monkeypatch.setattr(updating, "up", up)
    CliRunner().invoke(cli.main, ["up"])
    assert asked == [False]


def test_what_the_stacks_own_system_refuses_is_refused_though_another_is_rehearsed(site: Site) -> None:
    config = {"wsgi-ecs:server": '{"os": "alinux3"}', "wsgi-ecs:uwsgi": '{"install": "os"}'}
    with pytest.raises(UserError, match=r"^stacks/Pulumi\.dev\.yaml: uwsgi\.install: .*Python 3\.11"):
        predict(site.root, Stack("wsgi-ecs", "dev", config), Show(Console(file=io.StringIO())))


def test_secrets_in_plain_text_are_told_though_others_are_encrypted(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown = io.StringIO()
    monkeypatch.setattr("rehearsal.commands.preview._state", lambda root, name: (no_state(name), []))
    monkeypatch.setattr("rehearsal.commands.preview.check_routes", lambda *_: None)
    env = {"TOKEN": "abc", "SECRET_KEY": "encrypted"}
    config = {"wsgi-ecs:server": '{"os": "debian12"}', "wsgi-ecs:app": json.dumps({"env": env})}
    stack = Stack("wsgi-ecs", "dev", config, secrets=frozenset({"encrypted"}))
    predict(site.root, stack, Show(Console(file=shown, width=1000)))
    assert "app.env.TOKEN looks like a secret and is written in plain text" in shown.getvalue()
