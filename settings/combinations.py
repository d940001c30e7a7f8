"""Settings that make no sense together, refused with the reason.

One rule is one `yield`: the key to name, whether it is broken, the reason, and what is allowed.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from ipaddress import IPv4Network, collapse_addresses
from typing import TYPE_CHECKING

from settings.servers import STATS_PORTS
from settings.tls import Tls

if TYPE_CHECKING:
    from settings.models import Settings


def check(settings: Settings) -> None:
    """Raise ValueError with `<key>: <reason>; allowed: …` for the first combination that makes no sense."""
    for key, broken, reason, allowed in (rule for part in PARTS for rule in part(settings)):
        if broken:
            raise ValueError(f"{key}: {reason}; allowed: {allowed}")


def check_sites(sites: Sequence[Settings]) -> None:
    """Raise ValueError, like check, for sites that cannot share a machine."""
    places: dict[tuple[int, str | None, str], str] = {}
    ports: dict[tuple[bool, int], tuple[str, str, bool]] = {}
    domains: dict[str, tuple[str, Tls]] = {}
    for settings in sites:
        site, name = settings.site, f"sites.{settings.site.name}"
        if settings.serving.front == "nginx":
            for port in (settings.nginx.listen, *([settings.tls.listen] if settings.tls.enabled else [])):
                place = (port, site.server_name, site.location)
                if place in places:
                    raise ValueError(
                        f"{name}.site: {places[place]} stands there already; "
                        "allowed: another server_name, location or port"
                    )
                places[place] = name
        for key, port in _wanted_ports(settings):
            # nginx has its ports for all sites; of those that nobody chose each site finds a free one.
            is_shared = key in ("nginx.listen", "tls.listen") or (
                key == "uwsgi.stats" and settings.uwsgi.stats == "auto"
            )
            place_of = (_is_apart(settings, key), port)
            owner, of_owner, shares = ports.setdefault(place_of, (name, key, is_shared))
            if owner != name and not (key == of_owner and is_shared and shares):
                raise ValueError(f"{name}.{key}: port {port} is taken by {owner}.{of_owner}; allowed: another port")
        if site.server_name:
            other, tls = domains.setdefault(site.server_name.lower(), (name, settings.tls))
            if tls != settings.tls:
                raise ValueError(
                    f"{name}.tls: not as in {other}.tls, of the same domain; allowed: one certificate for a domain"
                )
        for key in ("uid", "gid") if settings.serving.process_manager == "emperor" else ():
            if getattr(settings.uwsgi, key) != getattr(sites[0].uwsgi, key):
                raise ValueError(
                    f"{name}.uwsgi.{key}: the emperor runs all sites as one user; allowed: uwsgi.{key}, for all"
                )
    _check_tls_of_all(sites)


def _check_tls_of_all(sites: Sequence[Settings]) -> None:
    """What is set for all sites has one that it is for."""
    enabled, acme = any(site.tls.enabled for site in sites), any(site.tls.acme for site in sites)
    for site in sites:
        for key in Tls.model_fields:
            needed = acme if key == "directory" else enabled or key in ("acme", "certificate", "private_key")
            if key in site.tls.model_fields_set and not needed:
                way = "tls.acme: true" if key == "directory" else "tls.certificate, or tls.acme: true"
                raise ValueError(f"tls.{key}: set, but no site has a certificate by it; allowed: {way}")


Rule = tuple[str, bool, str, str]


def _serving(settings: Settings) -> Iterator[Rule]:
    serving = settings.serving
    is_uwsgi = serving.app_server == "uwsgi"
    yield (
        "serving.process_manager",
        serving.process_manager == "emperor" and not is_uwsgi,
        "the emperor rules uWSGI alone",
        "supervisor or systemd, or serving.app_server: uwsgi",
    )
    yield (
        "nginx",
        serving.front == "none" and bool(settings.nginx.model_fields_set),
        "set, but serving.front is none",
        "serving.front: nginx",
    )
    for key, unused in (("uwsgi", not is_uwsgi), ("gunicorn", is_uwsgi)):
        yield (
            key,
            unused and bool(getattr(settings, key).model_fields_set),
            f"set, but serving.app_server is {serving.app_server}",
            f"serving.app_server: {key}",
        )
    yield (
        "supervisor",
        serving.process_manager != "supervisor" and bool(settings.supervisor.model_fields_set),
        f"set, but serving.process_manager is {serving.process_manager}",
        "serving.process_manager: supervisor",
    )
    yield (
        "systemd",
        serving.process_manager == "supervisor" and bool(settings.systemd.model_fields_set),
        "set, but serving.process_manager is supervisor",
        "serving.process_manager: systemd or emperor",
    )
    yield (
        "systemd.restart_sec",
        serving.process_manager == "emperor" and "restart_sec" in settings.systemd.model_fields_set,
        "the emperor itself starts its vassals again",
        "serving.process_manager: systemd",
    )
    for key, group in (("uwsgi.gid", settings.uwsgi.gid), ("gunicorn.group", settings.gunicorn.group)):
        yield (
            key,
            group is not None and serving.process_manager == "supervisor",
            "supervisor takes the user's own group",
            "serving.process_manager: systemd or emperor",
        )
    yield (
        "site.location",
        settings.site.location != "/" and serving.front == "none",
        "without nginx a site has its port for itself",
        "/",
    )
    yield (
        "app.wsgi_file",
        settings.site.location != "/" and not (settings.app.wsgi_file or ".py").endswith((".py", ".wsgi")),
        "below a site.location uWSGI takes no other file",
        "one that ends in .py or .wsgi",
    )
    yield (
        "site.location",
        settings.site.location != "/" and settings.uwsgi.dynamic,
        "uWSGI in dynamic mode does not know it",
        "/",
    )
    yield (
        "app.module",
        settings.app.wsgi_file is not None and "module" in settings.app.model_fields_set,
        "set beside app.wsgi_file",
        "one of them",
    )
    yield (
        "app.wsgi_file",
        settings.app.wsgi_file is not None and not is_uwsgi,
        "gunicorn imports modules",
        "app.module, or serving.app_server: uwsgi",
    )


def _listening(settings: Settings) -> Iterator[Rule]:
    serving, uwsgi = settings.serving, settings.uwsgi
    is_uwsgi, behind_nginx = serving.app_server == "uwsgi", serving.front == "nginx"
    yield (
        "serving.front",
        not behind_nginx and is_uwsgi and not uwsgi.http,
        "without nginx the app server answers HTTP itself",
        "nginx, or uwsgi.http such as 0.0.0.0:8080",
    )
    yield (
        "serving.front",
        not behind_nginx and not is_uwsgi and settings.bind == "unix",
        "without nginx the app server answers HTTP itself",
        "nginx, or gunicorn.bind such as 0.0.0.0:8000",
    )
    ways = [name for name in ("socket", "http_socket", "http") if getattr(uwsgi, name)]
    yield (
        f"uwsgi.{ways[-1] if ways else 'socket'}",
        len(ways) > 1,
        f"set beside uwsgi.{ways[0] if ways else ''}",
        "one of them",
    )
    for key, listen in _listens(settings):
        yield (
            key,
            not behind_nginx and listen.startswith("127."),
            "without nginx the world would not reach it there",
            "0.0.0.0 and a port, or serving.front: nginx",
        )
        yield (
            key,
            behind_nginx and not settings.is_apart and listen.startswith("0."),
            "behind nginx only this machine needs it",
            # uWSGI's router has no unix socket.
            "127.0.0.1 and a port" if key == "uwsgi.http" else "unix, or 127.0.0.1 and a port",
        )
        yield (
            key,
            settings.is_apart and not listen.startswith("0."),
            "nginx stands on another machine and could not connect to it",
            "0.0.0.0 and a port",
        )
    yield (
        "uwsgi.chmod_socket",
        "chmod_socket" in uwsgi.model_fields_set and any(listen != "unix" for _, listen in _listens(settings)),
        "a TCP socket has no mode",
        "uwsgi.socket or uwsgi.http_socket: unix",
    )
    yield (
        "uwsgi.chmod_socket",
        uwsgi.chmod_socket[1] == "0" and settings.nginx.user != settings.user,
        "nginx could not connect to a socket of another user",
        f"660, or nginx.user: {settings.user}",
    )


def _nginx(settings: Settings) -> Iterator[Rule]:
    nginx, uwsgi = settings.nginx, settings.uwsgi
    speaks_http = settings.serving.app_server == "gunicorn" or bool(uwsgi.http or uwsgi.http_socket)
    for key, other, unused, protocol in (
        ("uwsgi_read_timeout", "proxy_read_timeout", speaks_http, "HTTP"),
        ("proxy_read_timeout", "uwsgi_read_timeout", not speaks_http, "uWSGI's own protocol"),
    ):
        yield (
            f"nginx.{key}",
            unused and key in nginx.model_fields_set,
            f"the app server speaks {protocol}",
            f"nginx.{other}",
        )


def _sources(settings: Settings) -> Iterator[Rule]:
    for name, server in (("uwsgi", settings.uwsgi), ("nginx", settings.nginx)):
        from_source = server.install == "source"
        for key in ("version", "archive", "sha256"):
            yield (
                f"{name}.{key}",
                from_source and getattr(server, key) is None,
                f"required with {name}.install: source, which builds one version from one archive",
                "version, archive and sha256 together",
            )
        for key in ("prefix", "archive", "sha256"):
            yield (
                f"{name}.{key}",
                not from_source and key in server.model_fields_set,
                f"set, but {name}.install is {server.install}",
                f"{name}.install: source",
            )
        yield (
            f"{name}.version",
            server.install == "os" and server.version is not None,
            f"the OS decides it with {name}.install: os",
            f"{name}.install: source",
        )
    yield (
        "nginx.prefix",
        settings.nginx.prefix == settings.uwsgi.prefix,
        "uwsgi.prefix is the same",
        "a folder for each",
    )
    yield (
        "uwsgi.http",
        settings.uwsgi.install == "os" and bool(settings.uwsgi.http),
        "the OS's uWSGI has no router",
        "uwsgi.http_socket, or uwsgi.install: index",
    )
    yield (
        "uwsgi.install",
        settings.uwsgi.install == "os" and settings.server.os == "alinux3",
        "its sites have Python 3.11, and the uWSGI of its packages 3.6",
        "index or source",
    )
    yield (
        "server.mirrors.epel",
        bool(settings.server.mirrors.epel) and settings.server.os in ("debian12", "ubuntu2204"),
        f"{settings.server.os} has no EPEL",
        "server.mirrors.packages",
    )


def _uwsgi(settings: Settings) -> Iterator[Rule]:
    serving, uwsgi = settings.serving, settings.uwsgi
    yield (
        "uwsgi.thunder_lock",
        uwsgi.thunder_lock and uwsgi.processes == 1,
        "one process has nobody to take turns with",
        "two processes or more",
    )
    yield (
        "uwsgi.cheaper",
        uwsgi.cheaper is not None and (uwsgi.processes == "auto" or uwsgi.cheaper >= uwsgi.processes),
        "it is the least number of processes",
        "less than uwsgi.processes, which must be a number",
    )
    yield (
        "uwsgi.daemonize",
        uwsgi.daemonize and serving.process_manager != "systemd",
        f"{serving.process_manager} would lose a program that goes into the background",
        "serving.process_manager: systemd, which gets a forking unit",
    )
    yield (
        "uwsgi.logto",
        uwsgi.logto and uwsgi.daemonize,
        "uwsgi.daemonize names the same log",
        "one of them",
    )
    yield (
        "uwsgi.config",
        uwsgi.config == "command_line" and serving.process_manager == "emperor",
        "a vassal is an ini file",
        "ini, or serving.process_manager: supervisor or systemd",
    )
    yield (
        "uwsgi.dynamic",
        uwsgi.dynamic and (serving.front != "nginx" or bool(uwsgi.http or uwsgi.http_socket)),
        "uwsgi_param travels by uWSGI's own protocol from nginx",
        "uwsgi.socket and serving.front: nginx",
    )
    yield (
        "uwsgi.dynamic",
        uwsgi.dynamic and settings.app.wsgi_file is not None,
        "UWSGI_SCRIPT names a module",
        "app.module",
    )


def _gunicorn(settings: Settings) -> Iterator[Rule]:
    gunicorn = settings.gunicorn
    yield (
        "gunicorn.threads",
        gunicorn.threads > 1 and gunicorn.worker_class != "gthread",
        f"a {gunicorn.worker_class} worker has no threads",
        "gunicorn.worker_class: gthread",
    )
    yield (
        "gunicorn.worker_connections",
        gunicorn.worker_connections is not None and gunicorn.worker_class == "sync",
        "a sync worker does not read it",
        "gunicorn.worker_class: gevent",
    )
    yield (
        "gunicorn.worker_connections",
        gunicorn.worker_connections is not None and gunicorn.worker_class == "gthread",
        "a gthread worker that has so many answers none of them",
        "gunicorn.worker_class: gevent",
    )
    yield (
        "gunicorn.keepalive",
        "keepalive" in gunicorn.model_fields_set and gunicorn.worker_class == "sync",
        "a sync worker closes each connection",
        "gunicorn.worker_class: gthread or gevent",
    )
    yield (
        "gunicorn.max_requests_jitter",
        gunicorn.max_requests_jitter > 0 and gunicorn.max_requests == 0,
        "without max_requests no worker is replaced",
        "gunicorn.max_requests above 0",
    )
    if settings.serving.process_manager == "supervisor":
        stop, seconds = "supervisor.stopwaitsecs", settings.supervisor.stopwaitsecs
    else:
        stop, seconds = "systemd.timeout_stop_sec", settings.systemd.timeout_stop_sec
    yield (
        "gunicorn.graceful_timeout",
        gunicorn.graceful_timeout is not None and gunicorn.graceful_timeout >= seconds,
        f"{stop} ends it after {seconds} seconds",
        f"less than {stop}",
    )


_LOOPBACK = IPv4Network("127.0.0.0/8")


def _front(settings: Settings) -> Iterator[Rule]:
    nginx = settings.nginx
    denied, allowed, trusted = (
        tuple(map(IPv4Network, cidrs)) for cidrs in (nginx.deny, nginx.allow, nginx.set_real_ip_from)
    )
    # Two halves are the whole.
    denied = tuple(collapse_addresses(denied))
    given = nginx.model_fields_set
    yield (
        "nginx.auth_basic",
        nginx.auth_basic is None and bool(nginx.auth_basic_users),
        "required with nginx.auth_basic_users",
        "what the password is for, such as Staff",
    )
    yield (
        "nginx.auth_basic_users",
        nginx.auth_basic is not None and not nginx.auth_basic_users,
        "required with nginx.auth_basic, or nobody gets in",
        "user to hash of the password",
    )
    yield (
        "nginx.cache",
        nginx.cache is not None and nginx.auth_basic is not None,
        "an answer to somebody with a password is nobody else's",
        "one of nginx.cache and nginx.auth_basic",
    )
    yield (
        "nginx.cache",
        nginx.cache is not None and not nginx.buffering,
        "what is not buffered cannot be kept",
        "nginx.buffering: true",
    )
    yield (
        "nginx.methods",
        bool(nginx.methods) and "GET" not in nginx.methods,
        "app.health is asked by GET",
        "GET and others",
    )
    yield (
        "app.health",
        "%" in settings.app.health and guards_health(settings),
        "what nginx.auth_basic, allow, deny and cache leave out is a plain path",
        "one without %",
    )
    for key in ("gzip_types", "gzip_min_length", "gzip_comp_level"):
        yield f"nginx.{key}", key in given and not nginx.gzip, "set, but nginx.gzip is false", "nginx.gzip: true"
    for key in ("static_expires", "static_immutable"):
        alone = key in given and not nginx.static
        yield f"nginx.{key}", alone, "set, but nginx.static is empty", "folders in it"
    yield (
        "nginx.static_immutable",
        nginx.static_immutable and nginx.static_expires in ("off", "epoch"),
        f"nginx.static_expires is {nginx.static_expires}",
        "a time such as 365d, or max",
    )
    yield (
        "nginx.intercept_errors",
        nginx.intercept_errors and not nginx.error_page,
        "there is no page to send instead",
        "nginx.error_page with one",
    )
    yield "nginx.error_page", 499 in nginx.error_page, "499 is for clients that have gone", "any other status"
    yield (
        "nginx.deny",
        any(network.prefixlen == 0 for network in denied),
        "it shuts everybody out",
        "nginx.allow alone, which denies all others",
    )
    for mine in allowed:
        for other in denied:
            reason = f"{mine} lies in nginx.deny's {other}, which goes before"
            yield "nginx.allow", mine.subnet_of(other), reason, "what it leaves"
    # Who stands behind a proxy is another than who reaches nginx.
    reached = () if trusted else tuple(map(IPv4Network, settings.access.http))
    yield (
        "nginx.deny",
        bool(reached) and all(any(network.subnet_of(other) for other in denied) for network in reached),
        "it shuts out all that access.http lets in",
        "a part of that, or nginx.allow alone",
    )
    for mine in allowed:
        yield (
            "nginx.allow",
            not trusted and not mine.overlaps(_LOOPBACK) and not any(map(mine.overlaps, reached)),
            f"access.http lets nobody from {mine} in",
            "networks that access.http has, too",
        )
    for network in trusted:
        yield (
            "nginx.set_real_ip_from",
            network.overlaps(_LOOPBACK),
            f"{network} holds the machine itself, whose probe is let through",
            "the proxies' own networks",
        )
    for header, sender, is_set in (
        ("Strict-Transport-Security", "tls.hsts", settings.tls.hsts is not None),
        ("X-Cache", "nginx.cache", nginx.cache is not None),
    ):
        twice = is_set and any(header.lower() == name.lower() for name in nginx.add_header)
        yield "nginx.add_header", twice, f"{sender} sends {header} already", f"one of them, or no {sender}"
    names = [name.lower() for name in nginx.add_header]
    for name in nginx.add_header:
        yield "nginx.add_header", names.count(name.lower()) > 1, f"{name} stands there twice", "each header once"


def guards_health(settings: Settings) -> bool:
    """Whether nginx keeps something from the site that the probe of a release must get past."""
    nginx = settings.nginx
    return bool(nginx.auth_basic or nginx.allow or nginx.deny or nginx.cache)


def _tls(settings: Settings) -> Iterator[Rule]:
    tls, name = settings.tls, settings.site.server_name
    yield (
        "tls",
        tls.enabled and settings.serving.front == "none",
        "set, but serving.front is none",
        "serving.front: nginx",
    )
    yield (
        "tls.private_key",
        tls.certificate is not None and tls.private_key is None,
        "required with tls.certificate",
        "PEM text, or a file with it",
    )
    yield (
        "tls.certificate",
        tls.certificate is None and tls.private_key is not None,
        "required with tls.private_key",
        "PEM text, or a file with it",
    )
    yield (
        "tls.acme",
        tls.acme and tls.certificate is not None,
        "set beside tls.certificate",
        "one of them",
    )
    yield (
        "site.server_name",
        tls.enabled and name is None,
        "required with tls, as a certificate is for a domain",
        "a domain such as www.example.com",
    )
    yield (
        "site.server_name",
        tls.acme and name is not None and (name.startswith("*.") or not any(map(str.isalpha, name))),
        f"a CA that asks on port 80 proves no {name}",
        "a domain such as www.example.com, or tls.certificate",
    )
    yield (
        "nginx.listen",
        tls.acme and settings.nginx.listen != 80,
        "the CA that tls.acme asks comes to port 80",
        "80, or tls.certificate",
    )


def _ports(settings: Settings) -> Iterator[Rule]:
    used: dict[tuple[bool, int], str] = {(False, 22): "SSH", (True, 22): "SSH"}
    for key, port in _wanted_ports(settings):
        place = (_is_apart(settings, key), port)
        yield key, place in used, f"port {port} is taken by {used.get(place)}", "another port"
        used[place] = key


def _is_apart(settings: Settings, key: str) -> bool:
    """Whether a port is on the app servers, which have other ports than nginx's machine."""
    return settings.is_apart and key not in ("nginx.listen", "tls.listen")


def _wanted_ports(settings: Settings) -> list[tuple[str, int]]:
    uwsgi, serving = settings.uwsgi, settings.serving
    wanted: list[tuple[str, int]] = []
    if serving.app_server == "uwsgi":
        stats = STATS_PORTS if uwsgi.stats == "auto" else (uwsgi.stats, uwsgi.stats + 1)
        wanted += [("uwsgi.stats", port) for port in stats]
    for key, listen in _listens(settings):
        wanted += _pair(key, listen, serving.front)
    if serving.front == "nginx":
        wanted.append(("nginx.listen", settings.nginx.listen))
        if settings.tls.enabled:
            wanted.append(("tls.listen", settings.tls.listen))
    return wanted


def _listens(settings: Settings) -> list[tuple[str, str]]:
    """Where the app server is told to listen: key → unix, or an address and port."""
    if settings.serving.app_server == "gunicorn":
        return [("gunicorn.bind", settings.bind)]
    uwsgi = settings.uwsgi
    values = {"uwsgi.socket": settings.socket, "uwsgi.http_socket": uwsgi.http_socket, "uwsgi.http": uwsgi.http}
    return [(key, listen) for key, listen in values.items() if listen]


def _pair(key: str, listen: str, front: str) -> list[tuple[str, int]]:
    """Behind nginx two releases take two ports in turn, the one that is set and the next."""
    if listen == "unix":
        return []
    port = int(listen.rsplit(":", 1)[1])
    return [(key, port), (key, port + 1)] if front == "nginx" else [(key, port)]


def _topology(settings: Settings) -> Iterator[Rule]:
    topology, upstream = settings.topology, settings.nginx.upstream
    yield (
        "topology.app_servers",
        settings.is_apart and settings.serving.front == "none",
        "they stand behind nginx",
        "serving.front: nginx",
    )
    yield (
        "topology.instance_type",
        topology.instance_type is not None and not settings.is_apart,
        "there is no machine of its own for the application",
        "topology.app_servers: 1 or more",
    )
    yield (
        "uwsgi.dynamic",
        settings.is_apart and settings.uwsgi.dynamic,
        "nginx would name paths of another machine",
        "topology.app_servers: 0",
    )
    uwsgi = settings.uwsgi
    yield (
        "uwsgi.archive",
        settings.is_apart and uwsgi.install == "source" and uwsgi.is_remote,
        "an app server has no way to the internet",
        "a file here, which travels with the release",
    )
    names = [f"app-{number}" for number in range(1, topology.app_servers + 1)]
    for name in upstream.weights:
        yield (
            "nginx.upstream.weights",
            name not in names,
            f"{name} is none of the app servers",
            ", ".join(names) or "topology.app_servers: 1 or more",
        )
    gunicorn = settings.gunicorn
    for broken, reason in (
        (settings.serving.app_server == "uwsgi", "uWSGI closes each connection"),
        (gunicorn.worker_class == "sync", "a sync worker closes each connection"),
        (gunicorn.keepalive == 0, "gunicorn.keepalive is 0, so it closes each connection"),
    ):
        allowed = "0, or serving.app_server: gunicorn with gunicorn.worker_class: gthread or gevent and its keepalive"
        yield "nginx.upstream.keepalive", upstream.keepalive > 0 and broken, reason, allowed
    yield (
        "nginx.upstream",
        bool(upstream.model_fields_set) and not settings.is_apart,
        "there is one app server",
        "topology.app_servers: 1 or more",
    )


def _database(settings: Settings) -> Iterator[Rule]:
    for name in settings.mysql.env if settings.has_database else ():
        yield (
            f"app.env.{name}",
            name in settings.app.env,
            "mysql sets it",
            "app.env without it, or no mysql",
        )


PARTS = (_database, _topology, _serving, _listening, _nginx, _front, _sources, _uwsgi, _gunicorn, _tls, _ports)
