"""The module that uWSGI loads in place of the application, which it imports and watches."""

import re

from contract.documents import Endpoint
from kinds import watched
from kinds.app_servers.base import Surroundings
from kinds.behind_nginx import WRAPPED, importing

MODULE = "wsgi_ecs_application"
# The first version that takes a signal to send before harakiri's SIGKILL. Older ones send SIGUSR2.
_SIGNALS = (2, 0, 22)


def wrapper(around: Surroundings, where: Endpoint, harakiri: str | int | None) -> str:
    """Text of the module. harakiri: the setting."""
    text = importing(around.app)
    if where.protocol == "http" and around.behind_nginx:
        # uWSGI's own protocol brings what nginx tells an HTTP server in headers.
        text += WRAPPED
    text += watched.in_uwsgi(
        around.read_timeout if harakiri == "auto" else None,
        notices_gone=around.behind_nginx,
        # With post-buffering uWSGI reads a body before it asks the application.
        reads_slowly=not around.request_buffering,
    )
    name = around.app.callable.removesuffix("()")
    return text if name == "app" else f"{text}{name} = app\n"


def signals_harakiri(version: str) -> bool:
    """Return whether that version of uWSGI takes a signal to send before it kills a worker."""
    return tuple(map(int, re.findall("[0-9]+", version))) >= _SIGNALS
