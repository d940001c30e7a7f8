"""nginx in front: what its sites share, and each site's own part.

    http {   include sites/shop/current/http.conf;          upstreams
             server { include sites/shop/current/server.conf;   one location, in it everything else }  }

    server { listen 80;   the CA's challenges; app.health; everything else is sent to HTTPS }
    server { listen 443 ssl;   the site }

A site's part comes with its releases; the rest is the machine's. https://nginx.org/en/docs/dirindex.html
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import SecretStr

from contract.documents import Release
from serving import layout
from serving.server import APP_PORT, AppServer
from serving.systems import System
from serving.templates import render
from settings import Settings
from settings.combinations import guards_health
from settings.tls import Tls

# RFC 8555, 8.3
CHALLENGES = "/.well-known/acme-challenge/"


@dataclass(frozen=True)
class Block:
    """A server block: port and name of its sites.

    default: also answers for names that nobody has. whole: a site stands at /, so that no path is nobody's.
    certificate: layout.certificate, None where it speaks no TLS. hsts: seconds. to_https: URL that requests are
    sent to. not_sent: regular expression of the paths that are not. challenges: a CA asks here.
    """

    listen: int
    server_name: str | None
    default: bool
    whole: bool
    places: tuple[layout.Place, ...]
    certificate: str | None = None
    hsts: int | None = None
    to_https: str | None = None
    not_sent: str = ""
    challenges: bool = False


def blocks(sites: Sequence[Settings]) -> tuple[Block, ...]:
    """The server blocks of a machine's sites: one for each port and domain."""
    grouped: dict[tuple[int, bool, str | None], list[Settings]] = {}
    for settings in sites:
        for port in ports(settings):
            secure = port != settings.nginx.listen
            grouped.setdefault((port, secure, settings.site.server_name), []).append(settings)
    taken = [port for port, _, _ in grouped]
    return tuple(
        Block(
            listen=port,
            server_name=name,
            default=name is None or taken.count(port) == 1,
            whole=any(member.site.location == "/" for member in members),
            places=tuple(map(layout.place, members)),
            **_secure(members[0].tls, name) if secure and name else _plain(members),
        )
        for (port, secure, name), members in grouped.items()
    )


def ports(settings: Settings) -> tuple[int, ...]:
    """The ports of a site; at the second, if there is one, it speaks TLS."""
    return (settings.nginx.listen, *((settings.tls.listen,) if settings.tls.enabled else ()))


def _secure(tls: Tls, name: str) -> dict[str, Any]:
    return {"certificate": layout.certificate(name), "hsts": tls.hsts}


def _plain(members: Sequence[Settings]) -> dict[str, Any]:
    """Of one domain, whose sites agree on TLS. What asks for health may know no HTTPS, such as a load balancer."""
    tls, name = members[0].tls, members[0].site.server_name or ""
    if not tls.enabled:
        return {}
    port = "" if tls.listen == 443 else f":{tls.listen}"
    # Of a domain's own name, as a Host header may say anything.
    host = "$host" if name.startswith("*.") else name
    paths = [re.escape(layout.health(member).partition("?")[0]) for member in members]
    if tls.acme:
        paths.append(re.escape(CHALLENGES) + "[A-Za-z0-9_-]*")
    return {
        "to_https": f"https://{host}{port}$request_uri" if tls.redirect else None,
        "not_sent": f"^({'|'.join(paths)})([?]|$)",
        "challenges": tls.acme,
    }


def host_files(settings: Settings, system: System) -> dict[str, str]:
    """File name → text of what the sites share."""
    found = blocks(settings.each)
    defaults = {block.listen for block in found if block.default}
    nobodys = {block.listen: block for block in reversed(found) if block.listen not in defaults}
    text = render(
        "templates/nginx/nginx.conf.j2",
        nginx=settings.nginx,
        user=settings.nginx.user or system.nginx_user,
        system=system,
        blocks=found,
        # A name that nobody has is nobody's site. Over TLS it gets some certificate, which is not for it.
        nobodys=[nobodys[port] for port in sorted(nobodys)],
        challenges=CHALLENGES,
        acme=layout.ACME,
        # https://nginx.org/en/docs/http/ngx_http_v2_module.html#http2
        http2_directive=_version(settings) >= (1, 25, 1),
        places=tuple(map(layout.place, settings.each)),
    )
    return {"nginx.conf": text}


def _version(settings: Settings) -> tuple[int, ...]:
    """The version of nginx that is built here; the OS's is older than any that matters."""
    return tuple(map(int, re.findall("[0-9]+", settings.nginx.version or "0")))


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


def next_upstream_timeout(settings: Settings, is_http: bool) -> int:
    """Seconds after which a request goes to no other app server.

    Two may be stuck: a third would be so too, by the page that is asked for. Of one alone nothing is asked twice.
    All but one may be down, each with two ports that do not even refuse.
    """
    nginx, count = settings.nginx, settings.topology.app_servers
    read = nginx.proxy_read_timeout if is_http else nginx.uwsgi_read_timeout
    return max(min(count, 2) * read, 2 * (count - 1) * nginx.upstream.connect_timeout + 1)


def keepalive_timeout(settings: Settings) -> int | None:
    """Milliseconds that nginx keeps an idle connection: it must not send a request on one that gunicorn just closes.

    None for an nginx that is older than the directive.
    https://nginx.org/en/docs/http/ngx_http_upstream_module.html#keepalive_timeout
    """
    if settings.nginx.install == "source" and _version(settings) < (1, 15, 3):
        return None
    return settings.gunicorn.keepalive * 500


def site_files(settings: Settings, server: AppServer) -> dict[str, str]:
    """File name → text of a site's part, with placeholders of layout.FACTS."""
    place = layout.place(settings)
    values = {
        "peers": peers(settings, server),
        "is_apart": settings.is_apart,
        "next_upstream_timeout": next_upstream_timeout(settings, server.endpoint.protocol == "http"),
        "keepalive_timeout": keepalive_timeout(settings),
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
        "hsts": settings.tls.hsts if settings.tls.enabled else None,
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


def builtin_files(release: Release, place: layout.Place) -> dict[str, str]:
    """The same of the built-in page, whose every byte is user data. release: what the release tool knows of it."""
    return {
        "http.conf": render("templates/nginx/upstream.conf.j2", place=place, endpoint=release.endpoint),
        "server.conf": render(
            "templates/nginx/builtin.conf.j2", place=place, endpoint=release.endpoint, probe=release.probe
        ),
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
