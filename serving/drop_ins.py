"""Drop-ins of systemd that make the services of a server come back by themselves, whatever killed them.

They travel with what the sites of a machine share, so they reach a server that is already up.
https://www.freedesktop.org/software/systemd/man/latest/systemd.service.html
"""

from serving import emperor
from serving.systems import System
from serving.templates import render

# Seconds that systemd itself gives a service that stops.
_TIMEOUT_STOP = 90
# supervisor ends when its last program has ended.
_REST_SECONDS = 10


def texts(system: System, manager: str, has_nginx: bool, stop_seconds: int) -> dict[str, str]:
    """Unit → text of its drop-in. manager: process manager of the sites. stop_seconds: that a program may take."""
    found = {}
    if has_nginx:
        found["nginx.service"] = _text()
    if manager == "supervisor":
        found[f"{system.supervisor_service}.service"] = _text(max(_TIMEOUT_STOP, stop_seconds + _REST_SECONDS))
    if manager == "emperor":
        found[emperor.SERVICE] = _text()
    return found


def _text(timeout_stop: int | None = None) -> str:
    return render("templates/systemd/drop_in.conf.j2", timeout_stop=timeout_stop)
