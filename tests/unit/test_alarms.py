"""Alarms of CloudMonitor: what is refused, and what is registered."""

import json
from typing import Any

import pytest

from reference.samples import CLOUD, RDS, TAIR
from settings import SettingsError
from settings.loader import parse
from tests.builders.program import Recorder, Run

FILE = "stacks/Pulumi.dev.yaml"
EMAIL = "ops@example.com"


def alarms(**values: Any) -> dict[str, Any]:
    return {"alarms": {"email": EMAIL, **values}}


@pytest.mark.parametrize(
    ("config", "line"),
    [
        ({"alarms": {"cpu": 80}}, "alarms.cpu: set, but nobody gets the alarms; allowed: alarms.email with it"),
        (alarms(email="ops"), "alarms.email: got ops; allowed: an address such as ops@example.com"),
        (alarms(email="a@b.com,c@d.com"), "alarms.email: got a@b.com,c@d.com; allowed: "),
        (alarms(cpu=101), "alarms.cpu: got 101; allowed: 100 or less"),
        (alarms(response_ms=3), "alarms.response_ms: got 3; allowed: 50 or more"),
        (
            alarms(connections=70),
            "alarms.connections: set, but the stack has neither RDS nor Tair; allowed: mysql.managed or redis",
        ),
        (alarms(storage=70), "alarms.storage: set, but the database is not RDS; allowed: mysql.managed: true with it"),
        ({**alarms(storage=70), **TAIR}, "alarms.storage: set, but the database is not RDS"),
        (
            {**alarms(), "access": {"http": ["203.0.113.0/24"]}},
            "alarms.email: access.http lets nobody in who asks from outside; allowed: access.http with 0.0.0.0/0, or",
        ),
    ],
)
def test_a_setting_that_makes_no_sense_is_one_line(config: dict[str, Any], line: str) -> None:
    with pytest.raises(SettingsError) as error:
        parse(config, FILE)
    assert str(error.value).removeprefix(f"{FILE}: ").startswith(line)


def test_a_site_that_nobody_outside_reaches_may_have_alarms_of_its_servers() -> None:
    inside = {"access": {"http": ["203.0.113.0/24"]}}
    assert not parse({**alarms(unavailable=None, response_ms=None), **inside}, FILE).alarms.looks_from_outside


def registered(program: Recorder, type_: str) -> list[str]:
    return sorted(request.name for request in program.requests.values() if request.type.endswith(type_))


def test_a_stack_without_an_address_registers_nothing_of_cloudmonitor(run_program: Run) -> None:
    program = run_program({**CLOUD, **RDS})
    assert not [request.type for request in program.requests.values() if ":cms/" in request.type]


def test_each_has_its_threshold_and_tells_the_group(run_program: Run) -> None:
    program = run_program({**CLOUD, **RDS, **alarms(cpu=70, storage=60), "topology": {"app_servers": 2}})
    assert program.inputs("AlarmContactGroup") == {
        "alarmContactGroupName": "wsgi-ecs-dev",
        "contacts": [program.inputs(":AlarmContact")["alarmContactName"]],
    }
    found = {}
    for name in registered(program, ":Alarm"):
        inputs = program.inputs(":Alarm", name)
        critical = inputs["escalationsCritical"]
        found[name.removeprefix("wsgi-ecs-dev-")] = (
            inputs["project"],
            inputs["metric"],
            critical["comparisonOperator"],
            critical["threshold"],
        )
        assert inputs["contactGroups"] == ["wsgi-ecs-dev"]
        assert (inputs["period"], inputs["silenceTime"]) == (300, 3600)
        # The cloud tells it with a time zone, which would be a difference that never ends.
        assert list(program.request(":Alarm", name).ignoreChanges) == ["effectiveInterval"]
    assert found == {
        "cpu-alarm": ("acs_ecs_dashboard", "CPUUtilization", ">=", "70"),
        "memory-alarm": ("acs_ecs_dashboard", "memory_usedutilization", ">=", "90"),
        "disk-alarm": ("acs_ecs_dashboard", "diskusage_utilization", ">=", "85"),
        "database-cpu-alarm": ("acs_rds_dashboard", "CpuUsage", ">=", "70"),
        "database-connections-alarm": ("acs_rds_dashboard", "ConnectionUsage", ">=", "80"),
        "database-storage-alarm": ("acs_rds_dashboard", "DiskUsage", ">=", "60"),
        "site-app-unavailable-alarm": ("acs_networkmonitor", "Availability", "<=", "90"),
        "site-app-slow-alarm": ("acs_networkmonitor", "ResponseTime", ">=", "3000"),
    }
    servers = json.loads(program.inputs(":Alarm", "dev-cpu-alarm")["metricDimensions"])
    names = ("front", "app-1", "app-2")
    assert servers == [{"instanceId": f"wsgi-ecs-dev-{name}-instance-id"} for name in names]
    database = json.loads(program.inputs(":Alarm", "-storage-alarm")["metricDimensions"])
    assert database == [{"instanceId": "wsgi-ecs-dev-mysql-id"}]


def test_tair_has_alarms_of_its_own(run_program: Run) -> None:
    program = run_program({**CLOUD, **TAIR, **alarms(memory=70, connections=None)})
    found = {}
    for name in registered(program, ":Alarm"):
        if "-redis-" in name:
            inputs = program.inputs(":Alarm", name)
            found[inputs["metric"]] = (inputs["project"], inputs["escalationsCritical"]["threshold"])
            assert json.loads(inputs["metricDimensions"]) == [{"instanceId": "wsgi-ecs-dev-redis-id"}]
    assert found == {"StandardCpuUsage": ("acs_kvstore", "90"), "StandardMemoryUsage": ("acs_kvstore", "70")}
    assert not [name for name in registered(program, ":Alarm") if "database" in name]


def test_null_is_no_alarm(run_program: Run) -> None:
    none = dict.fromkeys(("unavailable", "response_ms", "memory", "disk"))
    program = run_program({**CLOUD, **alarms(**none)})
    assert registered(program, ":Alarm") == ["wsgi-ecs-dev-cpu-alarm"]
    assert not registered(program, ":SiteMonitor")


def test_a_monitor_asks_each_site_by_its_url(run_program: Run) -> None:
    sites = {"shop": {"site": {"server_name": "shop.example.com"}}, "blog": {"site": {"location": "/blog/"}}}
    program = run_program({**CLOUD, **alarms(response_ms=None), "sites": sites})
    monitors = {name: program.inputs(":SiteMonitor", f"-site-{name}-monitor") for name in ("shop", "blog")}
    assert monitors["shop"] == {
        "address": "http://shop.example.com/",
        "taskName": "wsgi_ecs_dev_shop",
        "taskType": "HTTP",
        "interval": "1",
    }
    assert monitors["blog"]["address"] == "http://198.51.100.7/blog/"
    request = program.request(":SiteMonitor", "-site-shop-monitor")
    assert sorted(request.ignoreChanges) == ["ispCities", "optionJson", "optionsJson"]
    alarm = program.inputs(":Alarm", "-site-shop-unavailable-alarm")
    assert json.loads(alarm["metricDimensions"]) == [{"taskId": "wsgi-ecs-dev-site-shop-monitor-id"}]
    assert alarm["escalationsCritical"]["statistics"] == "Availability"
    assert [name for name in registered(program, ":Alarm") if "slow" in name] == []


def test_another_address_is_another_contact(run_program: Run) -> None:
    names = []
    for email in (EMAIL, "other@example.com"):
        program = run_program({**CLOUD, **alarms(email=email)})
        inputs = program.inputs(":AlarmContact")
        assert (inputs["channelsMail"], inputs["lang"]) == (email, "en")
        # Until it is confirmed, the cloud tells of no address.
        assert list(program.request(":AlarmContact").ignoreChanges) == ["channelsMail"]
        assert len(inputs["alarmContactName"]) <= 40
        names.append(inputs["alarmContactName"])
    assert len(set(names)) == 2
