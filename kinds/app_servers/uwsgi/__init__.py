"""uWSGI as the application server."""

from kinds.app_servers.uwsgi.server import STATS_PORTS, VERSION, Uwsgi

__all__ = ["STATS_PORTS", "VERSION", "Uwsgi"]
