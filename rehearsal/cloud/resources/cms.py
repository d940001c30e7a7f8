"""CloudMonitor: who would be told, and of what. A rehearsal records it, and nobody is told of anything."""

from collections.abc import Mapping
from typing import Any

from rehearsal.cloud.context import CloudContext
from rehearsal.engine.compare import Schema
from rehearsal.engine.resource import Resource, only


class AlarmContact(Resource[CloudContext]):
    schema = Schema(
        replaces=frozenset({"alarmContactName"}), updates=dict.fromkeys(("describe", "channelsMail", "lang"), "")
    )

    def id(self, name: str, inputs: Mapping[str, Any]) -> str:
        return str(inputs["alarmContactName"])


class AlarmContactGroup(Resource[CloudContext]):
    schema = Schema(replaces=frozenset({"alarmContactGroupName"}), updates={"contacts": "", "describe": ""})

    def id(self, name: str, inputs: Mapping[str, Any]) -> str:
        return str(inputs["alarmContactGroupName"])


class SiteMonitor(Resource[CloudContext]):
    schema = Schema(replaces=frozenset({"taskType"}), updates=dict.fromkeys(("address", "taskName", "interval"), ""))

    def check(self, inputs: Mapping[str, Any]) -> None:
        only(inputs, "taskType", "HTTP")


class Alarm(Resource[CloudContext]):
    schema = Schema(
        replaces=frozenset({"project", "metric"}),
        updates=dict.fromkeys(
            ("name", "metricDimensions", "period", "silenceTime", "contactGroups", "escalationsCritical"), ""
        ),
    )
