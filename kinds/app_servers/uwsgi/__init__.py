"""uWSGI as the application server."""

from kinds.app_servers.uwsgi.server import VERSION, Uwsgi

__all__ = ["VERSION", "Uwsgi"]
