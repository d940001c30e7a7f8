"""Every file that the servers of a stack get."""

from typing import Any

from contract.service_documents import Database
from reference.samples import FILE
from serving import bootstrap, host_files, machines, nginx, release_files
from settings.loader import parse
from tests.unit.machine import module


def files(config: dict[str, Any]) -> list[tuple[str, str]]:
    """Name and text of every file that the servers of a stack get, and of the SQL that they run. Raises SettingsError.

    The names stand in one order, whatever the sites and files are called.
    """
    found = parse(config, FILE)
    texts: list[tuple[str, str]] = []
    for machine in machines(found):
        texts += [("user-data.yaml", bootstrap.user_data(machine.plan, found))]
        for own in (host_files(machine.plan), *map(release_files, machine.plan.sites)):
            texts += [(name, text) for name, text in own.items() if not name.startswith("tool/")]
        if isinstance(machine.plan.host, Database):
            texts += [("accounts.sql", module("database").accounts(machine.plan.host, "x", {}))]
    for site in found.sites:
        texts += [("htpasswd", text.get_secret_value()) for text in nginx.secret_files(site.nginx).values()]
    return texts
