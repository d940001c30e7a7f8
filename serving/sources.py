"""uWSGI and nginx built from source on the server: what is built, from which archive, to which place.

uwsgi.install: source ─▶ Build ─▶ release.json ─┐
nginx.install: source ─▶ Build ─▶ host.json ────┴─▶ machine/builds.py ─▶ <prefix>-<version>, linked at <prefix>
"""

from contract.documents import SOURCE_FOLDER, Build
from serving.systems import System
from settings import Settings
from settings.servers import Nginx, Uwsgi

# What the OS's nginx has built in, of what a site here may want: TLS, HTTP/2, compressed files beside the plain
# ones, the client's address from a load balancer, counters.
_MODULES = ("http_ssl", "http_v2", "http_gzip_static", "http_realip", "http_stub_status")
# nginx makes the last folder of each path itself, owned by its workers' user.
_TEMPORARY = "/var/lib/nginx/wsgi-ecs"


def uwsgi(settings: Settings, system: System) -> list[Build]:
    """What a site's release has built: its own uWSGI, or nothing."""
    build = _build("uwsgi", settings.uwsgi, [])
    return [build._replace(python=system.python)] if settings.uwsgi.install == "source" else []


def nginx(settings: Settings, system: System) -> list[Build]:
    """What the machine has built for its sites: nginx, or nothing."""
    if settings.nginx.install != "source":
        return []
    options = _nginx_options(settings.nginx.user or system.nginx_user)
    return [_build("nginx", settings.nginx, [f"--prefix={folder(settings.nginx)}", *options])]


def archives(name: str, server: Uwsgi | Nginx) -> dict[str, str]:
    """Name in the release → path on this machine, of the archive that travels with it."""
    travels = server.install == "source" and not server.is_remote
    return {_name(name, server): server.archive or ""} if travels else {}


def folder(server: Uwsgi | Nginx) -> str:
    """Where a version is installed; another version is installed beside it."""
    return f"{server.prefix}-{server.version}"


def _build(name: str, server: Uwsgi | Nginx, options: list[str]) -> Build:
    return Build(
        name=name,
        version=server.version or "",
        folder=folder(server),
        link=server.prefix,
        archive=(server.archive or "") if server.is_remote else _name(name, server),
        sha256=server.sha256 or "",
        options=options,
    )


def _name(name: str, server: Uwsgi | Nginx) -> str:
    # Not the file's own name: two archives may have the same. tar finds out how one is packed.
    return f"{SOURCE_FOLDER}{name}-{server.version}"


def _nginx_options(user: str) -> tuple[str, ...]:
    """The places of the OS's nginx, so that its service, log rotation and configuration fit this one too, and modules.

    https://nginx.org/en/docs/configure.html
    """
    return (
        f"--user={user}",
        f"--group={user}",
        "--conf-path=/etc/nginx/nginx.conf",
        "--pid-path=/run/nginx.pid",
        "--lock-path=/run/nginx.lock",
        "--error-log-path=/var/log/nginx/error.log",
        "--http-log-path=/var/log/nginx/access.log",
        *(f"--with-{name}_module" for name in _MODULES),
        *(
            f"--http-{name}-temp-path={_TEMPORARY}-{name}"
            for name in ("client-body", "proxy", "fastcgi", "uwsgi", "scgi")
        ),
    )
