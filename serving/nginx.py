"""nginx in front: what its sites share, and each site's own part.

    http {   include sites/shop/current/http.conf;          upstreams
             server { include sites/shop/current/server.conf;   one location, in it everything else }  }

A site's part comes with its releases; the rest is the machine's. https://nginx.org/en/docs/dirindex.html
"""

from collections.abc import Sequence
from dataclasses import dataclass

from serving import layout
from serving.server import AppServer
from serving.systems import System
from serving.templates import render
from settings import Settings


@dataclass(frozen=True)
class Block:
    """A server block: port and name of its sites.

    default: also answers for names that nobody has. whole: a site stands at /, so that no path is nobody's.
    """

    listen: int
    server_name: str | None
    default: bool
    whole: bool
    places: tuple[layout.Place, ...]


def blocks(sites: Sequence[Settings]) -> tuple[Block, ...]:
    """The server blocks of a machine's sites: one for each port and domain."""
    grouped: dict[tuple[int, str | None], list[Settings]] = {}
    for settings in sites:
        grouped.setdefault((settings.nginx.listen, settings.site.server_name), []).append(settings)
    ports = [port for port, _ in grouped]
    return tuple(
        Block(
            listen=port,
            server_name=name,
            default=name is None or ports.count(port) == 1,
            whole=any(member.site.location == "/" for member in members),
            places=tuple(map(layout.place, members)),
        )
        for (port, name), members in grouped.items()
    )


def host_files(settings: Settings, system: System) -> dict[str, str]:
    """File name → text of what the sites share."""
    found = blocks(settings.each)
    defaults = {block.listen for block in found if block.default}
    text = render(
        "templates/nginx/nginx.conf.j2",
        nginx=settings.nginx,
        user=settings.nginx.user or system.nginx_user,
        system=system,
        blocks=found,
        # A name that nobody has is nobody's site.
        nobodys=sorted({block.listen for block in found} - defaults),
        places=tuple(map(layout.place, settings.each)),
    )
    return {"nginx.conf": text}


def site_files(settings: Settings, server: AppServer) -> dict[str, str]:
    """File name → text of a site's part, with placeholders of layout.FACTS."""
    values = {
        "nginx": settings.nginx,
        "place": layout.place(settings),
        "location": settings.site.location,
        "endpoint": server.endpoint,
        "uwsgi_params": uwsgi_params(settings),
    }
    return {name: render(f"templates/nginx/{name}.j2", **values) for name in ("http.conf", "server.conf")}


def waiting_files(settings: Settings) -> dict[str, str]:
    """A site's part before its first release."""
    return {"http.conf": "", "server.conf": render("templates/nginx/waiting.conf.j2", location=settings.site.location)}


def uwsgi_params(settings: Settings) -> dict[str, str]:
    """What names the application to a uWSGI in dynamic mode, request by request; empty in any other."""
    if not settings.uwsgi.dynamic:
        return {}
    return {
        "UWSGI_PYHOME": "@@venv@@",
        "UWSGI_CHDIR": "@@release_dir@@/app",
        "UWSGI_SCRIPT": f"{settings.app.module}:{settings.app.callable}",
    }
