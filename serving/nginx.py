"""nginx in front: what its sites share, and each site's own part.

    http {   include sites/shop/current/http.conf;          upstreams
             server { include sites/shop/current/server.conf;   one location, in it everything else }  }

    server { listen 80;   the CA's challenges; app.health; everything else is sent to HTTPS }
    server { listen 443 ssl;   the site }

A site's part comes with its releases; the rest is the machine's. https://nginx.org/en/docs/dirindex.html
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from pydantic import SecretStr

from contract import paths
from contract.documents import Build, Release
from contract.placeholders import APP_PORT
from kinds.app_servers import Process
from kinds.place import Place
from settings import SiteSettings, StackSettings
from settings.nginx import Nginx
from templates import render

# RFC 8555, 8.3
CHALLENGES = "/.well-known/acme-challenge/"
# Lines of headers in a request. Granian takes 100, and nginx adds up to 7: Connection, and what it says of a client.
MAX_HEADERS = 90


@dataclass(frozen=True)
class Block:
    """A server block: port and name of its sites.

    default: answers for every name. whole: a site stands at /, so that no path is nobody's.
    certificate: contract.paths.certificate, None where it speaks no TLS. hsts: seconds. to_https: URL that requests are
    sent to. not_sent: regular expression of the paths that are not. challenges: a CA asks here.
    rejects: ends a TLS handshake for an unknown name.
    """

    listen: int
    server_name: str | None
    default: bool
    whole: bool
    places: tuple[Place, ...]
    certificate: str | None = None
    hsts: int | None = None
    to_https: str | None = None
    not_sent: str = ""
    challenges: bool = False
    rejects: bool = False


def blocks(sites: Sequence[SiteSettings]) -> tuple[Block, ...]:
    """The server blocks of a machine's sites: one for each port and domain."""
    grouped: dict[tuple[int, bool, str | None], list[SiteSettings]] = {}
    for site in sites:
        for port in ports(site):
            secure = port != site.nginx.listen
            grouped.setdefault((port, secure, site.site.server_name), []).append(site)
    return tuple(_block(members, port, secure) for (port, secure, _), members in grouped.items())


def _block(members: Sequence[SiteSettings], port: int, secure: bool) -> Block:
    """The server block of sites that share a port and a domain."""
    tls, name = members[0].tls, members[0].site.server_name
    block = Block(
        listen=port,
        server_name=name,
        default=name is None,
        whole=any(member.site.location == "/" for member in members),
        places=tuple(member.place for member in members),
    )
    if secure and name:
        return replace(block, certificate=paths.certificate(name), hsts=tls.hsts)
    return _beside_tls(block, members) if tls.enabled else block


def ports(site: SiteSettings) -> tuple[int, ...]:
    """The ports of a site; at the second, if there is one, it speaks TLS."""
    return (site.nginx.listen, *((site.tls.listen,) if site.tls.enabled else ()))


def _beside_tls(block: Block, members: Sequence[SiteSettings]) -> Block:
    """A domain's server block without TLS, beside its block with TLS. All sites of the domain have the same TLS.

    The health path is answered without TLS, because a load balancer that asks for it may know no HTTPS.
    """
    tls, name = members[0].tls, block.server_name or ""
    port = "" if tls.listen == 443 else f":{tls.listen}"
    # Redirect to the domain itself where the settings name it, because a Host header may hold anything.
    host = "$host" if name.startswith("*.") else name
    open_paths = [re.escape(member.health.partition("?")[0]) for member in members]
    if tls.acme:
        open_paths.append(re.escape(CHALLENGES) + "[A-Za-z0-9_-]*")
    return replace(
        block,
        to_https=f"https://{host}{port}$request_uri" if tls.redirect else None,
        not_sent=f"^({'|'.join(open_paths)})([?]|$)",
        challenges=tls.acme,
    )


def host_files(stack: StackSettings) -> dict[str, str]:
    """File name → text of what the sites share."""
    found = blocks(stack.sites)
    defaults = {block.listen for block in found if block.default}
    nobodys = {block.listen: block for block in reversed(found) if block.listen not in defaults}
    text = render(
        "templates/nginx/nginx.conf.j2",
        nginx=stack.nginx,
        user=stack.nginx.user or stack.system.nginx_user,
        system=stack.system,
        blocks=found,
        # A request for an unknown name reaches no site.
        nobodys=[replace(nobodys[port], rejects=_rejects(stack.sites, port)) for port in sorted(nobodys)],
        tls_names=sorted({block.server_name for block in found if block.certificate and block.server_name}),
        escape=re.escape,
        # The page before the first release has none, because every byte of user data counts.
        max_headers=None if stack.is_page else MAX_HEADERS,
        challenges=CHALLENGES,
        acme=paths.ACME,
        # https://nginx.org/en/docs/http/ngx_http_v2_module.html#http2
        http2_directive=stack.nginx.built_version >= (1, 25, 1),
        places=tuple(site.place for site in stack.sites),
    )
    return {"nginx.conf": text}


def _rejects(sites: Sequence[SiteSettings], port: int) -> bool:
    """Whether a TLS handshake at a port must name a site.

    A client that asks for an IPv4 address names none (RFC 6066, 3), and a trusted proxy may name none.
    """
    here = [site for site in sites if site.tls.enabled and site.tls.listen == port]
    return bool(here) and not any(
        site.nginx.set_real_ip_from or not any(map(str.isalpha, site.site.server_name or "")) for site in here
    )


@dataclass(frozen=True)
class Peer:
    """An app server of an upstream block: its address, and its share of the requests."""

    address: str
    weight: int


def peers(stack: StackSettings, site: SiteSettings, process: Process) -> tuple[Peer, ...]:
    """The app servers on other machines that nginx passes a site's requests to."""
    weights = site.nginx.upstream.weights
    # Both ports are listed, because a release takes the port that its predecessor leaves free, and nginx is not told.
    return tuple(
        Peer(f"{name}:{port}", weights.get(name, 1))
        for name in stack.app_servers
        for port in process.ports.get(APP_PORT, ())
    )


def next_upstream_timeout(nginx: Nginx, is_http: bool, app_servers: int) -> int:
    """Seconds after which a request goes to no other app server.

    At most two stuck servers are tried: a third would be stuck too, by the page that is asked for. With one app server
    nothing is asked twice. All but one may be down, each with two ports that do not even refuse.
    """
    return max(
        min(app_servers, 2) * nginx.read_timeout(is_http), 2 * (app_servers - 1) * nginx.upstream.connect_timeout + 1
    )


def keepalive_timeout(site: SiteSettings) -> int | None:
    """Milliseconds that nginx keeps an idle connection: it must not send a request on one that is just being closed.

    None for an nginx that is older than the directive, and for an app server that closes each connection.
    https://nginx.org/en/docs/http/ngx_http_upstream_module.html#keepalive_timeout
    """
    seconds = site.app_server.keepalive_seconds
    if seconds is None or (site.nginx.install == "source" and site.nginx.built_version < (1, 15, 3)):
        return None
    return seconds * 500


# For each thread of a worker of the app server. At 20 ms each, two workers need 10 seconds for so many.
_WAITING = 1024


def max_conns(site: SiteSettings) -> int | None:
    """Requests that a worker of nginx has with an app server at once, None for any number.

    `auto` is never less than all workers and threads that the settings allow. Where nginx and the application share a
    machine, each worker of nginx counts its own: counts in shared memory would keep those of a worker that was killed.
    None for an nginx that has the directive in its commercial version alone.
    https://nginx.org/en/docs/http/ngx_http_upstream_module.html#max_conns
    """
    if not site.nginx.counts_requests:
        return None
    if site.nginx.max_conns != "auto":
        return site.nginx.max_conns
    threads = site.app_server.threads_of_a_worker
    return _WAITING * threads if threads else None


def upstream_address(site: SiteSettings, process: Process) -> str:
    """Where nginx passes a site's requests to on its own machine.

    A socket is named by its link, whose text is the same for each release. nginx keeps idle connections by this text,
    so with nginx.upstream.keepalive the text names the slot's own socket.
    """
    address = process.endpoint.address
    if address.startswith("unix:") and not site.nginx.upstream.keepalive:
        return "unix:@@view_dir@@/app.sock"
    return address


def site_files(stack: StackSettings, site: SiteSettings, process: Process) -> dict[str, str]:
    """File name → text of a site's part, with placeholders of contract.placeholders.FACTS."""
    is_http = process.endpoint.protocol == "http"
    most = max_conns(site)
    # A variable's name has no hyphen, a site's has no underscore.
    own = site.place.name.replace("-", "_")
    pools = {path: f"wsgi-{site.place.name}.pool-{number}" for number, path in enumerate(site.nginx.pools, 1)}
    values = {
        "peers": peers(stack, site, process),
        "is_apart": stack.is_apart,
        "next_upstream_timeout": next_upstream_timeout(site.nginx, is_http, len(stack.app_servers)),
        "keepalive_timeout": keepalive_timeout(site),
        "groups": {f"wsgi-{site.place.name}": most, **{pools[path]: size for path, size in site.nginx.pools.items()}},
        "is_limited": bool(most or pools),
        "pools": pools,
        "nginx": site.nginx,
        "place": site.place,
        "served": site.data.served,
        "limit_rate": site.data.limit_rate,
        "own": own,
        # The name by which nginx has chosen the server block.
        "matched": "$host" if site.site.server_name else f"$wsgi_named_{own}",
        "location": site.site.location,
        "endpoint": process.endpoint,
        "address": upstream_address(site, process),
        # The directives of ngx_http_uwsgi_module or ngx_http_proxy_module begin with this.
        "pass": "proxy" if is_http else "uwsgi",
        "uwsgi_params": process.uwsgi_params or {},
        "past_cache": past_cache(site.nginx),
        "hsts": site.tls.hsts if site.tls.enabled or stack.balancer else None,
        "https": site.tls.listen if stack.balancer and site.site.name in stack.balancer.https else None,
        "balancer": stack.balancer.cidr if stack.balancer else None,
        # The address of whoever has connected; this machine's own for the balancer's health check, too.
        "peer": f"$wsgi_peer_{own}" if stack.balancer else "$realip_remote_addr",
        "guards_health": site.nginx.guards_health,
        "health": site.health.partition("?")[0],
        # Earlier releases whose static files are served, too.
        "kept": range(1, site.release.keep),
        "escape": re.escape,
        "health_pattern": re.escape(site.health.partition("?")[0]),
        "maintenance": paths.maintenance(site.place.name),
        "on": lambda value: "on" if value else "off",
    }
    return {name: render(f"templates/nginx/{name}.j2", **values) for name in ("http.conf", "server.conf")}


def past_cache(nginx: Nginx) -> tuple[str, ...]:
    """What leads a request past the cache: variables, of which one is neither empty nor 0."""
    cache = nginx.cache
    if not cache:
        return ()
    cookies = tuple(f"$cookie_{name}" for name in cache.bypass_cookies) or ("$http_cookie",)
    header = (f"$http_{cache.bypass_header.lower().replace('-', '_')}",) if cache.bypass_header else ()
    return ("$http_authorization", *cookies, *header)


def secret_files(nginx: Nginx) -> dict[str, SecretStr]:
    """File name → text of what goes into a site's slot beside its configs, and travels with its environment."""
    users = nginx.auth_basic_users
    lines = "".join(f"{name}:{value.get_secret_value()}\n" for name, value in sorted(users.items()))
    return {"htpasswd": SecretStr(lines)} if users else {}


def builtin_files(release: Release, place: Place) -> dict[str, str]:
    """Like site_files, of the built-in page, whose every byte is user data."""
    address = release.endpoint.address if release.endpoint else ""
    values = {"place": place, "endpoint": release.endpoint, "address": address, "probe": release.probe}
    return {
        "http.conf": render("templates/nginx/upstream.conf.j2", group=f"wsgi-{place.name}", address=address, most=None),
        "server.conf": render("templates/nginx/builtin.conf.j2", **values),
    }


def waiting_files(site: SiteSettings) -> dict[str, str]:
    """A site's part before its first release."""
    return {
        "http.conf": "# Waits for its first release.\n",
        "server.conf": render("templates/nginx/waiting.conf.j2", location=site.site.location),
    }


# Modules beyond nginx's own defaults that a site here may want, as the OS's package has them: TLS, HTTP/2, compressed
# files beside the plain ones, the client's address from a load balancer, counters.
_MODULES = ("http_ssl", "http_v2", "http_gzip_static", "http_realip", "http_stub_status")
# nginx makes the last folder of each path itself, owned by its workers' user.
_TEMPORARY = "/var/lib/nginx/wsgi-ecs"


def builds(stack: StackSettings) -> list[Build]:
    """What the machine has built for its sites: nginx, or nothing.

    The places are those of the OS's nginx, so that its service, log rotation and configuration fit this one, too.
    https://nginx.org/en/docs/configure.html
    """
    nginx = stack.nginx
    if nginx.install != "source":
        return []
    user = nginx.user or stack.system.nginx_user
    options = (
        f"--prefix={nginx.folder}",
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
    return [nginx.build(options)]
