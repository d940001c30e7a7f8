"""A stack that every policy allows, and what makes a stack that one of them refuses."""

from typing import Any

from reference.samples import CLOUD

SECURE: dict[str, Any] = {
    **CLOUD,
    "server": {"encrypted": True, "protect": True},
    "data": {"disk_gib": 20, "protect": True},
    "topology": {"app_servers": 2},
    "mysql": {"password": "x" * 12, "protect": True},
    "metrics": {"port": 9100},
    "access": {**CLOUD["access"], "metrics": ["10.76.0.0/20"]},
}
# Policy → settings of a stack that it refuses, and the ends of the names of what it names.
WRONG: dict[str, tuple[dict[str, Any], list[str]]] = {
    "no-ssh-from-the-world": (
        {"access": {**SECURE["access"], "ssh": ["0.0.0.0/1", "128.0.0.0/1"], "ssh_open": True}},
        ["-front-22-from-0.0.0.0-1", "-front-22-from-128.0.0.0-1"],
    ),
    "no-public-statistics": ({"nginx": {"listen": 9191}}, ["-front-9191-from-0.0.0.0-0"]),
    "encrypted-disks": (
        {"server": {"protect": True}},
        [
            *("-app-1-data-disk", "-app-1-instance", "-app-2-data-disk", "-app-2-instance"),
            *("-db-data-disk", "-db-instance", "-front-instance"),
        ],
    ),
    "protected-prod": (
        {"server": {"encrypted": True}, "mysql": {"password": "x" * 12}},
        ["-address", "-app-1-instance", "-app-2-instance", "-db-data-disk", "-db-instance", "-front-instance"],
    ),
}
