"""Drop-ins of systemd that make the services of a server come back by themselves, and others that confine them.

They travel with what the sites of a machine share, or with its service, so they reach a server that is already up.
https://www.freedesktop.org/software/systemd/man/latest/systemd.service.html
"""

from kinds.confinement import Confinement
from kinds.process_managers import ProcessManager
from kinds.systems import System
from templates import render


def texts(system: System, manager: ProcessManager | None, has_nginx: bool, stop_seconds: int) -> dict[str, str]:
    """Unit → text of its drop-in. manager: process manager of the sites, None where no application runs.

    stop_seconds: the longest that any process of the sites may take to stop, 0 for none.
    """
    units: dict[str, int | None] = {"nginx.service": None} if has_nginx else {}
    units |= manager.drop_ins(system, stop_seconds) if manager else {}
    shared = {unit: _text(system, is_shared=True, timeout_stop=seconds) for unit, seconds in units.items()}
    return {**shared, **of_others(system)}


def confinement(wanted: Confinement, system: System, manager: ProcessManager | None, has_nginx: bool) -> dict[str, str]:
    """Unit → text of the drop-in that confines it, for units of which nothing is confined by their own file."""
    found = {"nginx.service": wanted.of_nginx(system)} if has_nginx else {}
    found |= manager.confinement(wanted, system) if manager else {}
    return {unit: text for unit, text in found.items() if text}


def of_others(system: System, *units: str) -> dict[str, str]:
    """Unit → text of its drop-in, for SSH and for units that have one process and end it in their own way."""
    return {unit: _text(system) for unit in (system.ssh_service, *units)}


def _text(system: System, is_shared: bool = False, timeout_stop: int | None = None) -> str:
    return render("templates/systemd/drop_in.conf.j2", system=system, is_shared=is_shared, timeout_stop=timeout_stop)
