"""The application servers, by the name that serving.app_server gives them."""

from typing import Literal

from kinds.app_servers.base import AppServer, Process, Surroundings, listening_rules
from kinds.app_servers.gunicorn import Gunicorn
from kinds.app_servers.uwsgi import Uwsgi

Name = Literal["uwsgi", "gunicorn"]

APP_SERVERS: dict[str, type[AppServer]] = {kind.key: kind for kind in (Uwsgi, Gunicorn)}

__all__ = ["APP_SERVERS", "AppServer", "Gunicorn", "Name", "Process", "Surroundings", "Uwsgi", "listening_rules"]
