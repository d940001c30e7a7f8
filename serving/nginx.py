"""nginx in front: what its sites share, and each site's own part.

    http {   include sites/shop/current/http.conf;          upstreams
             server { include sites/shop/current/server.conf;   one location, in it everything else }  }

A site's part comes with its releases; the rest is the machine's. https://nginx.org/en/docs/dirindex.html
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import SecretStr

from serving import layout
from serving.server import APP_PORT, AppServer
from serving.systems import System
from serving.templates import render
from settings import Settings
from settings.combinations import guards_health


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


@dataclass(frozen=True)
class Peer:
    """An app server of an upstream block: its address, and its share of the requests."""

    address: str
    weight: int


def peers(settings: Settings, server: AppServer) -> tuple[Peer, ...]:
    """The app servers on other machines that nginx passes a site's requests to."""
    weights = settings.nginx.upstream.weights
    # A release takes the port that the one before it has not, and nobody tells nginx which: it finds out.
    return tuple(
        Peer(f"{name}:{port}", weights.get(name, 1))
        for name in layout.app_servers(settings)
        for port in server.ports.get(APP_PORT, ())
    )


def site_files(settings: Settings, server: AppServer) -> dict[str, str]:
    """File name → text of a site's part, with placeholders of layout.FACTS."""
    place = layout.place(settings)
    values = {
        "peers": peers(settings, server),
        "is_apart": settings.is_apart,
        "nginx": settings.nginx,
        "place": place,
        # A variable's name has no hyphen, a site's has no underscore.
        "own": place.name.replace("-", "_"),
        "location": settings.site.location,
        "endpoint": server.endpoint,
        # What its directives begin with: of ngx_http_uwsgi_module or ngx_http_proxy_module.
        "pass": "uwsgi" if server.endpoint.protocol == "uwsgi" else "proxy",
        "uwsgi_params": uwsgi_params(settings),
        "past_cache": past_cache(settings),
        "guards_health": guards_health(settings),
        "health": (settings.site.location.rstrip("/") + settings.app.health).partition("?")[0],
        "on": lambda value: "on" if value else "off",
    }
    return {name: render(f"templates/nginx/{name}.j2", **values) for name in ("http.conf", "server.conf")}


def past_cache(settings: Settings) -> tuple[str, ...]:
    """What leads a request past the cache: variables, of which one is neither empty nor 0."""
    cache = settings.nginx.cache
    if not cache:
        return ()
    cookies = tuple(f"$cookie_{name}" for name in cache.bypass_cookies) or ("$http_cookie",)
    header = (f"$http_{cache.bypass_header.lower().replace('-', '_')}",) if cache.bypass_header else ()
    return ("$http_authorization", *cookies, *header)


def secret_files(settings: Settings) -> dict[str, SecretStr]:
    """File name → text of what goes into a site's slot beside its configs, and travels with its environment."""
    users = settings.nginx.auth_basic_users
    lines = "".join(f"{name}:{value.get_secret_value()}\n" for name, value in sorted(users.items()))
    return {"htpasswd": SecretStr(lines)} if users else {}


def builtin_files(release: Mapping[str, Any], place: layout.Place) -> dict[str, str]:
    """The same of the built-in page, whose every byte is user data. release: what the release tool knows of it."""
    return {
        "http.conf": render("templates/nginx/upstream.conf.j2", place=place, **release),
        "server.conf": render("templates/nginx/builtin.conf.j2", place=place, **release),
    }


def waiting_files(settings: Settings) -> dict[str, str]:
    """A site's part before its first release."""
    return {
        "http.conf": "# Waits for its first release.\n",
        "server.conf": render("templates/nginx/waiting.conf.j2", location=settings.site.location),
    }


def uwsgi_params(settings: Settings) -> dict[str, str]:
    """What names the application to a uWSGI in dynamic mode, request by request; empty in any other."""
    if not settings.uwsgi.dynamic:
        return {}
    return {
        "UWSGI_PYHOME": "@@venv@@",
        "UWSGI_CHDIR": "@@release_dir@@/app",
        "UWSGI_SCRIPT": f"{settings.app.module}:{settings.app.callable}",
    }
