"""CloudMonitor: who is told, and of what.

contact ─▶ contact group ─▶ alarms of servers, RDS and Tair
                        └─▶ alarms of what a site monitor sees, one monitor for each site
"""

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pulumi
import pulumi_alicloud as alicloud

from settings.alarms import Alarms as AlarmSettings

# Characters that the name of a contact may have.
_NAME_LIMIT = 40
# Seconds.
_MINUTE = 60
# CloudMonitor looks at these metrics of servers, RDS and Tair: setting → name of the metric.
# https://cms.console.aliyun.com/metric-meta/acs_ecs_dashboard/ecs
_ECS = {"cpu": "CPUUtilization", "memory": "memory_usedutilization", "disk": "diskusage_utilization"}
_RDS = {"cpu": "CpuUsage", "connections": "ConnectionUsage", "storage": "DiskUsage"}
# These metrics belong to instances of the standard architecture.
_TAIR = {"cpu": "StandardCpuUsage", "memory": "StandardMemoryUsage", "connections": "StandardConnectionUsage"}


# This says what a metric belongs to: the name of a dimension → id.
Resources = Sequence[Mapping[str, pulumi.Input[str]]]


@dataclass(frozen=True)
class _Critical:
    """When an alarm is raised: a statistic of so many periods in a row compares with the threshold."""

    statistics: str
    operator: str
    threshold: int
    times: int


@dataclass(frozen=True)
class AlarmsArgs:
    """urls: site's name → URL that is asked from outside. instances: ids of the servers. database: id of RDS.

    redis: id of Tair.
    """

    settings: AlarmSettings
    urls: Mapping[str, pulumi.Input[str]]
    instances: Sequence[pulumi.Input[str]]
    database: pulumi.Input[str] | None
    redis: pulumi.Input[str] | None


class Alarms(pulumi.ComponentResource):
    """Who is told, and when."""

    def __init__(self, name: str, args: AlarmsArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("wsgi:alarms:Alarms", name, None, opts)
        self._name, settings = name, args.settings
        email = settings.email or ""
        contact = alicloud.cms.AlarmContact(
            f"{name}-contact",
            # Another address is another contact: CloudMonitor tells of an address only when it is confirmed, so that
            # changes of it have to be ignored.
            alarm_contact_name=_short(name, hashlib.sha256(email.encode()).hexdigest()[:8]),
            describe=f"Alarms of {name}",
            channels_mail=email,
            lang="en",
            opts=pulumi.ResourceOptions(parent=self, ignore_changes=["channels_mail"]),
        )
        group = alicloud.cms.AlarmContactGroup(
            f"{name}-contacts",
            alarm_contact_group_name=_short(name),
            contacts=[contact.alarm_contact_name],
            opts=pulumi.ResourceOptions(parent=self),
        )
        self._group = group.alarm_contact_group_name
        if settings.looks_from_outside:
            for site, url in args.urls.items():
                self._site(site, url, settings)
        servers = [{"instanceId": instance} for instance in args.instances]
        for key, metric in _ECS.items():
            self._usage(key, "acs_ecs_dashboard", metric, servers, getattr(settings, key))
        engines = (
            ("database", "acs_rds_dashboard", _RDS, args.database),
            ("redis", "acs_kvstore", _TAIR, args.redis),
        )
        for engine, project, metrics, instance in engines:
            if instance is not None:
                for key, metric in metrics.items():
                    found = [{"instanceId": instance}]
                    self._usage(f"{engine}-{key}", project, metric, found, getattr(settings, key))
        self.register_outputs({})

    def _site(self, site: str, url: pulumi.Input[str], settings: AlarmSettings) -> None:
        monitor = alicloud.cms.SiteMonitor(
            f"{self._name}-site-{site}-monitor",
            address=url,
            # The provider finds the monitor that it has made by this name, which has no hyphens.
            task_name=re.sub("[^A-Za-z0-9_]", "_", f"{self._name}_{site}"),
            task_type="HTTP",
            interval="1",
            # The cloud chooses where it asks from, and how, and tells it as if it had been asked for.
            opts=pulumi.ResourceOptions(parent=self, ignore_changes=["isp_cities", "option_json", "options_json"]),
        )
        task = [{"taskId": monitor.id}]
        if settings.unavailable is not None:
            critical = _Critical("Availability", "<=", 100 - settings.unavailable, 1)
            self._alarm(f"site-{site}-unavailable", "acs_networkmonitor", "Availability", task, critical)
        if settings.response_ms is not None:
            critical = _Critical("Average", ">=", settings.response_ms, 1)
            self._alarm(f"site-{site}-slow", "acs_networkmonitor", "ResponseTime", task, critical)

    def _usage(self, key: str, project: str, metric: str, resources: Resources, threshold: int | None) -> None:
        if threshold is not None:
            self._alarm(key, project, metric, resources, _Critical("Average", ">=", threshold, 3))

    def _alarm(self, key: str, project: str, metric: str, resources: Resources, critical: _Critical) -> None:
        alicloud.cms.Alarm(
            f"{self._name}-{key}-alarm",
            name=f"{self._name}-{key}",
            project=project,
            metric=metric,
            metric_dimensions=pulumi.Output.json_dumps(list(resources)),
            period=5 * _MINUTE,
            silence_time=60 * _MINUTE,
            contact_groups=[self._group],
            escalations_critical={
                "statistics": critical.statistics,
                "comparison_operator": critical.operator,
                "threshold": str(critical.threshold),
                "times": critical.times,
            },
            # The cloud adds its time zone and the days.
            opts=pulumi.ResourceOptions(parent=self, ignore_changes=["effective_interval"]),
        )


def _short(name: str, end: str = "") -> str:
    """A name of a contact that is as long as one may be."""
    ends = f"-{end}" if end else ""
    return name[: _NAME_LIMIT - len(ends)] + ends
