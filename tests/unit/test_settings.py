"""What a user may say, and the one line that anything else gets."""

import json
from pathlib import Path
from types import GeneratorType
from typing import Any

import pytest
import yaml

from rehearsal import stack as stacks
from rehearsal.passphrase import VARIABLE
from settings import SettingsError, combinations
from settings.base import Model
from settings.loader import parse
from settings.models import Settings
from settings.sources import check_files
from tests.conftest import PROJECT, PUBLIC_KEY
from tests.encrypted import PASSPHRASE
from tests.unit import test_nginx

FILE = "stacks/Pulumi.dev.yaml"


def refusal(config: Any) -> str:
    with pytest.raises(SettingsError) as error:
        parse(config, FILE)
    line = str(error.value)
    assert "\n" not in line
    assert line.startswith(f"{FILE}: ")
    return line.removeprefix(f"{FILE}: ")


def test_every_setting_has_a_default_and_a_description() -> None:
    assert parse({}, FILE) == Settings()
    *models, sites = Settings.model_fields.values()
    assert sites.description
    for model in (field.annotation for field in models):
        assert isinstance(model, type)
        assert issubclass(model, Model)
        for name, field in model.model_fields.items():
            assert field.description, f"{model.__name__}.{name}"


def test_numbers_and_booleans_given_as_text_are_taken() -> None:
    settings = parse({"uwsgi": {"processes": "4"}, "server": {"protect": "true"}, "nginx": {"listen": "8080"}}, FILE)
    assert (settings.uwsgi.processes, settings.server.protect, settings.nginx.listen) == (4, True, 8080)


def test_an_environment_takes_numbers_and_booleans_as_text() -> None:
    env = parse({"app": {"env": {"PORT": 8080, "DEBUG": True, "RATIO": 0.5}}}, FILE).app.env
    assert {name: value.get_secret_value() for name, value in env.items()} == {
        "PORT": "8080",
        "DEBUG": "true",
        "RATIO": "0.5",
    }


def test_a_single_cidr_is_a_list_of_one() -> None:
    assert parse({"access": {"ssh": "203.0.113.0/24"}}, FILE).access.ssh == ("203.0.113.0/24",)


def test_the_comment_of_a_public_key_goes_no_further() -> None:
    assert parse({"access": {"public_key": f"{PUBLIC_KEY} me@laptop\n"}}, FILE).access.public_key == PUBLIC_KEY


HOST_PORT = "allowed: an IPv4 address and a port from 1024 to 65534, such as 127.0.0.1:8080"
LISTEN = HOST_PORT.replace("allowed: ", "allowed: unix, or ")
INSIDE = "allowed: a path inside app.source, such as requirements.txt or static"
REFUSED: list[tuple[Any, str]] = [
    (
        {"sever": {}},
        "sever: unknown key; allowed: app, site, server, network, topology, access, serving, uwsgi, gunicorn, nginx, "
        "tls, supervisor, systemd, mysql, release, sites",
    ),
    ({"site": {"servername": "a"}}, "site.servername: unknown key; allowed: name, server_name, location"),
    ({"server": {"mirrors": {"pypi": "x"}}}, "server.mirrors.pypi: unknown key; allowed: packages, epel, index"),
    ({"app": "app"}, "app: allowed: a map of keys"),
    ({"server": {"os": "centos8"}}, "server.os: allowed: centos7 or debian12"),
    ({"server": {"disk_gib": "twenty"}}, "server.disk_gib: allowed: a whole number"),
    ({"server": {"disk_gib": 10}}, "server.disk_gib: allowed: 20 or more"),
    ({"server": {"protect": "perhaps"}}, "server.protect: allowed: true or false"),
    (
        {"server": {"instance_type": "t6"}},
        "server.instance_type: allowed: an instance type such as ecs.e-c1m1.large",
    ),
    ({"uwsgi": {"processes": "many"}}, "uwsgi.processes: allowed: auto, or a whole number"),
    ({"uwsgi": {"processes": 0}}, "uwsgi.processes: allowed: auto, or 1 or more"),
    (
        {"app": {"module": "uwsgi"}},
        "app.module: a module named uwsgi is shadowed by uWSGI's own; allowed: any other name",
    ),
    ({"app": {"module": "a b"}}, "app.module: allowed: a Python module name such as app or mysite.wsgi"),
    ({"app": {"module": True}}, "app.module: allowed: text"),
    (
        {"app": {"requirements": "../r.txt"}},
        "app.requirements: allowed: a path inside app.source, such as requirements.txt or static",
    ),
    ({"app": {"health": "healthz"}}, "app.health: allowed: a URL path such as /healthz"),
    ({"app": {"env": {"A-B": "x"}}}, "app.env.A-B: allowed: a name such as DATABASE_URL"),
    (
        {"app": {"env": {"UWSGI_X": "x"}}},
        "app.env.UWSGI_X: allowed: a name that does not start with UWSGI_, which uWSGI reads as options",
    ),
    ({"app": {"env": {"A": ["x"]}}}, "app.env.A: allowed: text"),
    ({"app": {"env": {"A": "\0"}}}, "app.env.A: allowed: any text without NUL characters"),
    (
        {"access": {"http": ["everyone"]}},
        "access.http.0: allowed: an IPv4 CIDR such as 203.0.113.0/24 or 203.0.113.7/32",
    ),
    ({"access": {"http": ["203.0.113.7"]}}, "access.http.0: allowed: the network itself, 203.0.113.7/32"),
    ({"access": {"http": ["203.0.113.7/24"]}}, "access.http.0: allowed: the network itself, 203.0.113.0/24"),
    (
        {"access": {"ssh": ["::/0"]}},
        "access.ssh.0: IPv6 is not supported yet; allowed: an IPv4 CIDR such as 203.0.113.0/24",
    ),
    (
        {"access": {"ssh": ["0.0.0.0/0"]}},
        "access.ssh: 0.0.0.0/0 opens SSH to the world; allowed only with access.ssh_open: true",
    ),
    ({"network": {"cidr": "10.0.0.0/8"}}, "network.cidr: allowed: a private IPv4 network from /16 to /24"),
    ({"network": {"cidr": "198.51.100.0/24"}}, "network.cidr: allowed: a private IPv4 network from /16 to /24"),
    (
        {"uwsgi": {"uid": "wsgi-acme"}},
        "uwsgi.uid: this user has the key of the CA's account, so it answers no requests; allowed: any other",
    ),
    ({"app": {"health": "//healthz"}}, "app.health: allowed: a URL path such as /healthz"),
    (
        {"mysql": {"password": "x", "schema_files": ["a.sql", "a.sql"]}},
        "mysql.schema_files: a.sql stands there twice; allowed: each file once",
    ),
    ({"nginx": {"listen": 22}}, "nginx.listen: port 22 is taken by SSH; allowed: another port"),
    ({"nginx": {"listen": 9191}}, "nginx.listen: port 9191 is taken by uwsgi.stats; allowed: another port"),
    (
        {"nginx": {"client_max_body_size": "16 MB"}},
        "nginx.client_max_body_size: allowed: a size as nginx writes it, such as 16m",
    ),
    (
        {"nginx": {"static": {"static": "s"}}},
        "nginx.static.static: allowed: a URL path that ends in /, such as /static/",
    ),
    ({"serving": {"app_server": "waitress"}}, "serving.app_server: allowed: uwsgi or gunicorn"),
    (
        {"serving": {"process_manager": "runit"}},
        "serving.process_manager: allowed: supervisor, systemd or emperor",
    ),
    ({"serving": {"front": "caddy"}}, "serving.front: allowed: nginx or none"),
    ({"uwsgi": {"config": "xml"}}, "uwsgi.config: allowed: ini or command_line"),
    ({"uwsgi": {"http": "unix"}}, f"uwsgi.http: {HOST_PORT}"),
    ({"uwsgi": {"socket": "8080"}}, f"uwsgi.socket: {LISTEN}"),
    ({"uwsgi": {"socket": "127.0.0.1:80"}}, f"uwsgi.socket: {LISTEN}"),
    ({"uwsgi": {"socket": "127.0.0.1:65535"}}, f"uwsgi.socket: {LISTEN}"),
    ({"uwsgi": {"socket": "127.0.0.1:08080"}}, f"uwsgi.socket: {LISTEN}"),
    ({"gunicorn": {"bind": "localhost:8000"}}, f"gunicorn.bind: {LISTEN}"),
    (
        {"gunicorn": {"bind": "10.0.0.1:8000"}},
        "gunicorn.bind: allowed: 127.0.0.1 or 0.0.0.0, since the machine's own address is not known beforehand",
    ),
    ({"uwsgi": {"chmod_socket": "066"}}, "uwsgi.chmod_socket: allowed: an octal mode such as 660 or 666"),
    ({"uwsgi": {"listen": "long"}}, "uwsgi.listen: allowed: auto, or a whole number"),
    ({"uwsgi": {"listen": 4097}}, "uwsgi.listen: allowed: auto, or 4096 or less"),
    ({"uwsgi": {"harakiri": 0}}, "uwsgi.harakiri: allowed: 1 or more"),
    ({"uwsgi": {"pythonpath": ["/usr"]}}, f"uwsgi.pythonpath.0: {INSIDE}"),
    ({"uwsgi": {"static_map": {"/s/": "../s"}}}, f"uwsgi.static_map./s/: {INSIDE}"),
    ({"app": {"wsgi_file": "/srv/site.wsgi"}}, f"app.wsgi_file: {INSIDE}"),
    ({"gunicorn": {"worker_class": "eventlet"}}, "gunicorn.worker_class: allowed: sync, gthread or gevent"),
    ({"gunicorn": {"backlog": 10}}, "gunicorn.backlog: allowed: 64 or more"),
    ({"gunicorn": {"timeout": 3601}}, "gunicorn.timeout: allowed: 3600 or less"),
    ({"systemd": {"timeout_stop_sec": 1}}, "systemd.timeout_stop_sec: allowed: 2 or more"),
    ({"nginx": {"user": "Root"}}, "nginx.user: allowed: a user's name such as nginx"),
    ({"app": {"module": "json.app"}}, "app.module: json is a module of Python itself; allowed: any other name"),
    (
        {"access": {"http": ["10.0.0.0/8", "10.0.0.0/8"]}},
        "access.http: 10.0.0.0/8 stands there twice; allowed: each CIDR once",
    ),
    (
        {"nginx": {"static": {"/s/": "/etc"}}},
        "nginx.static./s/: allowed: a path inside app.source, such as requirements.txt or static",
    ),
]


@pytest.mark.parametrize(("config", "line"), REFUSED, ids=lambda value: value if isinstance(value, str) else "")
def test_a_wrong_value_is_one_line_with_file_key_and_what_is_allowed(config: Any, line: str) -> None:
    assert refusal(config) == line


GUNICORN = {"app_server": "gunicorn"}
EMPEROR = {"process_manager": "emperor"}
SYSTEMD = {"process_manager": "systemd"}
DIRECT = {"front": "none"}
SOURCE = {"install": "source", "version": "1.0", "archive": "a.tar.gz", "sha256": "0" * 64}
ACME = {"site": {"server_name": "www.example.test"}, "tls": {"acme": True}}
COMBINATIONS: list[tuple[dict[str, Any], str]] = [
    (
        {"serving": {"front": "none"}, "uwsgi": {"http": "127.0.0.1:8080"}},
        "uwsgi.http: without nginx the world would not reach it there; "
        "allowed: 0.0.0.0 and a port, or serving.front: nginx",
    ),
    (
        {"serving": {"front": "none", "app_server": "gunicorn"}, "gunicorn": {"bind": "127.0.0.1:8000"}},
        "gunicorn.bind: without nginx the world would not reach it there; "
        "allowed: 0.0.0.0 and a port, or serving.front: nginx",
    ),
    (
        {"serving": {**GUNICORN, **EMPEROR}},
        "serving.process_manager: the emperor rules uWSGI alone; "
        "allowed: supervisor or systemd, or serving.app_server: uwsgi",
    ),
    (
        {"serving": DIRECT},
        "serving.front: without nginx the app server answers HTTP itself; "
        "allowed: nginx, or uwsgi.http such as 0.0.0.0:8080",
    ),
    (
        {"serving": {**DIRECT, **GUNICORN}},
        "serving.front: without nginx the app server answers HTTP itself; "
        "allowed: nginx, or gunicorn.bind such as 0.0.0.0:8000",
    ),
    (
        {"serving": DIRECT, "uwsgi": {"http": "0.0.0.0:8080"}, "nginx": {"listen": 80}},
        "nginx: set, but serving.front is none; allowed: serving.front: nginx",
    ),
    (
        {"serving": GUNICORN, "uwsgi": {"processes": 2}},
        "uwsgi: set, but serving.app_server is gunicorn; allowed: serving.app_server: uwsgi",
    ),
    (
        {"gunicorn": {"workers": 2}},
        "gunicorn: set, but serving.app_server is uwsgi; allowed: serving.app_server: gunicorn",
    ),
    (
        {"serving": EMPEROR, "supervisor": {"startsecs": 1}},
        "supervisor: set, but serving.process_manager is emperor; allowed: serving.process_manager: supervisor",
    ),
    (
        {"systemd": {"restart_sec": 1}},
        "systemd: set, but serving.process_manager is supervisor; allowed: serving.process_manager: systemd or emperor",
    ),
    (
        {"app": {"module": "app", "wsgi_file": "site.wsgi"}},
        "app.module: set beside app.wsgi_file; allowed: one of them",
    ),
    (
        {"serving": GUNICORN, "app": {"wsgi_file": "site.wsgi"}},
        "app.wsgi_file: gunicorn imports modules; allowed: app.module, or serving.app_server: uwsgi",
    ),
    (
        {"uwsgi": {"socket": "unix", "http_socket": "unix"}},
        "uwsgi.http_socket: set beside uwsgi.socket; allowed: one of them",
    ),
    (
        {"uwsgi": {"http_socket": "unix", "http": "127.0.0.1:8080"}},
        "uwsgi.http: set beside uwsgi.http_socket; allowed: one of them",
    ),
    (
        {"uwsgi": {"http": "0.0.0.0:8080"}},
        "uwsgi.http: behind nginx only this machine needs it; "
        "allowed: 127.0.0.1 and a port",
    ),
    (
        {"uwsgi": {"chmod_socket": "600"}},
        "uwsgi.chmod_socket: nginx could not connect to a socket of another user; "
        "allowed: 660, or nginx.user: wsgi-app",
    ),
    (
        {"uwsgi": {"thunder_lock": True, "processes": 1}},
        "uwsgi.thunder_lock: one process has nobody to take turns with; allowed: two processes or more",
    ),
    (
        {"uwsgi": {"cheaper": 1}},
        "uwsgi.cheaper: it is the least number of processes; "
        "allowed: less than uwsgi.processes, which must be a number",
    ),
    (
        {"uwsgi": {"cheaper": 2, "processes": 2}},
        "uwsgi.cheaper: it is the least number of processes; "
        "allowed: less than uwsgi.processes, which must be a number",
    ),
    (
        {"uwsgi": {"daemonize": True}},
        "uwsgi.daemonize: supervisor would lose a program that goes into the background; "
        "allowed: serving.process_manager: systemd, which gets a forking unit",
    ),
    (
        {"serving": SYSTEMD, "uwsgi": {"daemonize": True, "logto": True}},
        "uwsgi.logto: uwsgi.daemonize names the same log; allowed: one of them",
    ),
    (
        {"serving": EMPEROR, "uwsgi": {"config": "command_line"}},
        "uwsgi.config: a vassal is an ini file; "
        "allowed: ini, or serving.process_manager: supervisor or systemd",
    ),
    (
        {"uwsgi": {"dynamic": True, "http_socket": "unix"}},
        "uwsgi.dynamic: uwsgi_param travels by uWSGI's own protocol from nginx; "
        "allowed: uwsgi.socket and serving.front: nginx",
    ),
    (
        {"serving": DIRECT, "uwsgi": {"dynamic": True, "http": "0.0.0.0:8080"}},
        "uwsgi.dynamic: uwsgi_param travels by uWSGI's own protocol from nginx; "
        "allowed: uwsgi.socket and serving.front: nginx",
    ),
    (
        {"uwsgi": {"dynamic": True}, "app": {"wsgi_file": "site.wsgi"}},
        "uwsgi.dynamic: UWSGI_SCRIPT names a module; allowed: app.module",
    ),
    (
        {"serving": GUNICORN, "gunicorn": {"threads": 2}},
        "gunicorn.threads: a sync worker has no threads; allowed: gunicorn.worker_class: gthread",
    ),
    (
        {"serving": GUNICORN, "gunicorn": {"worker_connections": 9, "worker_class": "gthread"}},
        "gunicorn.worker_connections: a gthread worker that has so many answers none of them; "
        "allowed: gunicorn.worker_class: gevent",
    ),
    (
        {"serving": GUNICORN, "gunicorn": {"max_requests_jitter": 3}},
        "gunicorn.max_requests_jitter: without max_requests no worker is replaced; "
        "allowed: gunicorn.max_requests above 0",
    ),
    (
        {"uwsgi": {"socket": "0.0.0.0:8080"}},
        "uwsgi.socket: behind nginx only this machine needs it; allowed: unix, or 127.0.0.1 and a port",
    ),
    (
        {"uwsgi": {"http_socket": "0.0.0.0:8080"}},
        "uwsgi.http_socket: behind nginx only this machine needs it; allowed: unix, or 127.0.0.1 and a port",
    ),
    (
        {"serving": GUNICORN, "gunicorn": {"bind": "0.0.0.0:8000"}},
        "gunicorn.bind: behind nginx only this machine needs it; allowed: unix, or 127.0.0.1 and a port",
    ),
    (
        {"uwsgi": {"chmod_socket": "660", "socket": "127.0.0.1:8080"}},
        "uwsgi.chmod_socket: a TCP socket has no mode; allowed: uwsgi.socket or uwsgi.http_socket: unix",
    ),
    (
        {"serving": DIRECT, "uwsgi": {"chmod_socket": "666", "http": "0.0.0.0:8080"}},
        "uwsgi.chmod_socket: a TCP socket has no mode; allowed: uwsgi.socket or uwsgi.http_socket: unix",
    ),
    (
        {"serving": GUNICORN, "nginx": {"uwsgi_read_timeout": 60}},
        "nginx.uwsgi_read_timeout: the app server speaks HTTP; allowed: nginx.proxy_read_timeout",
    ),
    (
        {"uwsgi": {"http_socket": "unix"}, "nginx": {"uwsgi_read_timeout": 60}},
        "nginx.uwsgi_read_timeout: the app server speaks HTTP; allowed: nginx.proxy_read_timeout",
    ),
    (
        {"nginx": {"proxy_read_timeout": 120}},
        "nginx.proxy_read_timeout: the app server speaks uWSGI's own protocol; allowed: nginx.uwsgi_read_timeout",
    ),
    (
        {"serving": EMPEROR, "systemd": {"restart_sec": 5}},
        "systemd.restart_sec: the emperor itself starts its vassals again; allowed: serving.process_manager: systemd",
    ),
    (
        {"serving": GUNICORN, "gunicorn": {"worker_connections": 9}},
        "gunicorn.worker_connections: a sync worker does not read it; allowed: gunicorn.worker_class: gevent",
    ),
    (
        {"serving": GUNICORN, "gunicorn": {"keepalive": 5}},
        "gunicorn.keepalive: a sync worker closes each connection; "
        "allowed: gunicorn.worker_class: gthread or gevent",
    ),
    (
        {"serving": GUNICORN, "gunicorn": {"graceful_timeout": 30}},
        "gunicorn.graceful_timeout: supervisor.stopwaitsecs ends it after 30 seconds; "
        "allowed: less than supervisor.stopwaitsecs",
    ),
    (
        {"serving": {**GUNICORN, **SYSTEMD}, "gunicorn": {"graceful_timeout": 29}, "systemd": {"timeout_stop_sec": 9}},
        "gunicorn.graceful_timeout: systemd.timeout_stop_sec ends it after 9 seconds; "
        "allowed: less than systemd.timeout_stop_sec",
    ),
    (
        {"uwsgi": {"install": "source", "version": "2.0.31"}},
        "uwsgi.archive: required with uwsgi.install: source, which builds one version from one archive; "
        "allowed: version, archive and sha256 together",
    ),
    (
        {"nginx": {"prefix": "/opt/nginx"}},
        "nginx.prefix: set, but nginx.install is os; allowed: nginx.install: source",
    ),
    (
        {"uwsgi": {"install": "os", "version": "2.0.31"}},
        "uwsgi.version: the OS decides it with uwsgi.install: os; allowed: uwsgi.install: source",
    ),
    (
        {"nginx": {**SOURCE, "prefix": "/opt/one"}, "uwsgi": {**SOURCE, "prefix": "/opt/one"}},
        "nginx.prefix: uwsgi.prefix is the same; allowed: a folder for each",
    ),
    (
        {"uwsgi": {"install": "os", "http": "127.0.0.1:8080"}},
        "uwsgi.http: the OS's uWSGI has no router; allowed: uwsgi.http_socket, or uwsgi.install: index",
    ),
    ({"uwsgi": {"socket": "127.0.0.1:9191"}}, "uwsgi.socket: port 9191 is taken by uwsgi.stats; allowed: another port"),
    ({"uwsgi": {"socket": "127.0.0.1:9190"}}, "uwsgi.socket: port 9191 is taken by uwsgi.stats; allowed: another port"),
    (
        {"uwsgi": {"http_socket": "127.0.0.1:9192"}},
        "uwsgi.http_socket: port 9192 is taken by uwsgi.stats; allowed: another port",
    ),
    (
        {"topology": {"app_servers": 2}, "serving": DIRECT, "uwsgi": {"http": "0.0.0.0:8080"}},
        "topology.app_servers: they stand behind nginx; allowed: serving.front: nginx",
    ),
    (
        {"topology": {"instance_type": "ecs.e-c1m2.large"}},
        "topology.instance_type: there is no machine of its own for the application; "
        "allowed: topology.app_servers: 1 or more",
    ),
    (
        {"topology": {"app_servers": 1}, "uwsgi": {"dynamic": True}},
        "uwsgi.dynamic: nginx would name paths of another machine; allowed: topology.app_servers: 0",
    ),
    (
        {
            "topology": {"app_servers": 1},
            "uwsgi": {
                "install": "source",
                "version": "2.0.31",
                "archive": "https://example.com/uwsgi.tar.gz",
                "sha256": "0" * 64,
            },
        },
        "uwsgi.archive: an app server has no way to the internet; allowed: a file here, which travels with the release",
    ),
    (
        {
            "site": {"server_name": "www.example.com"},
            "tls": {"acme": True, "hsts": 300},
            "nginx": {"add_header": {"strict-transport-security": "max-age=1"}},
        },
        "nginx.add_header: tls.hsts sends Strict-Transport-Security already; allowed: one of them, or no tls.hsts",
    ),
    (
        {"nginx": {"cache": {}, "add_header": {"X-Cache": "mine"}}},
        "nginx.add_header: nginx.cache sends X-Cache already; allowed: one of them, or no nginx.cache",
    ),
    (
        {"topology": {"app_servers": 2}, "nginx": {"upstream": {"weights": {"app-3": 2}}}},
        "nginx.upstream.weights: app-3 is none of the app servers; allowed: app-1, app-2",
    ),
    *(
        (
            {**config, "topology": {"app_servers": 2}, "nginx": {"upstream": {"keepalive": 8}}},
            f"nginx.upstream.keepalive: {reason}; allowed: 0, or serving.app_server: gunicorn with "
            "gunicorn.worker_class: gthread or gevent and its keepalive",
        )
        for config, reason in (
            ({}, "uWSGI closes each connection"),
            ({"uwsgi": {"http_socket": "0.0.0.0:8080"}}, "uWSGI closes each connection"),
            ({"serving": {"app_server": "gunicorn"}}, "a sync worker closes each connection"),
            (
                {"serving": {"app_server": "gunicorn"}, "gunicorn": {"worker_class": "gevent", "keepalive": 0}},
                "gunicorn.keepalive is 0, so it closes each connection",
            ),
        )
    ),
    (
        {"nginx": {"upstream": {"method": "least_conn"}}},
        "nginx.upstream: there is one app server; allowed: topology.app_servers: 1 or more",
    ),
    (
        {"topology": {"app_servers": 2}, "uwsgi": {"socket": "127.0.0.1:3031"}},
        "uwsgi.socket: nginx stands on another machine and could not connect to it; allowed: 0.0.0.0 and a port",
    ),
    (
        {"topology": {"app_servers": 2}, "serving": GUNICORN, "gunicorn": {"bind": "unix"}},
        "gunicorn.bind: nginx stands on another machine and could not connect to it; allowed: 0.0.0.0 and a port",
    ),
    (
        {"site": {"location": "/blog/"}, "app": {"wsgi_file": "site.app"}},
        "app.wsgi_file: below a site.location uWSGI takes no other file; allowed: one that ends in .py or .wsgi",
    ),
    (
        {"uwsgi": {"gid": "www"}},
        "uwsgi.gid: supervisor takes the user's own group; allowed: serving.process_manager: systemd or emperor",
    ),
    (
        {"serving": GUNICORN, "gunicorn": {"group": "www"}},
        "gunicorn.group: supervisor takes the user's own group; allowed: serving.process_manager: systemd or emperor",
    ),
    (
        {"serving": DIRECT, "uwsgi": {"http": "0.0.0.0:8080"}, "site": {"location": "/blog/"}},
        "site.location: without nginx a site has its port for itself; allowed: /",
    ),
    (
        {"uwsgi": {"dynamic": True}, "site": {"location": "/blog/"}},
        "site.location: uWSGI in dynamic mode does not know it; allowed: /",
    ),
    (
        {"serving": DIRECT, "uwsgi": {"http": "0.0.0.0:9191"}},
        "uwsgi.http: port 9191 is taken by uwsgi.stats; allowed: another port",
    ),
    (
        {"uwsgi": {"http": "127.0.0.1:8080"}, "nginx": {"listen": 8081}},
        "nginx.listen: port 8081 is taken by uwsgi.http; allowed: another port",
    ),
    (
        {"serving": GUNICORN, "gunicorn": {"bind": "127.0.0.1:8000"}, "nginx": {"listen": 8000}},
        "nginx.listen: port 8000 is taken by gunicorn.bind; allowed: another port",
    ),
    (
        {**ACME, "serving": DIRECT, "uwsgi": {"http": "0.0.0.0:8080"}},
        "tls: set, but serving.front is none; allowed: serving.front: nginx",
    ),
    (
        {"tls": {"certificate": "x.pem"}},
        "tls.private_key: required with tls.certificate; allowed: PEM text, or a file with it",
    ),
    (
        {"tls": {"private_key": "x.pem"}},
        "tls.certificate: required with tls.private_key; allowed: PEM text, or a file with it",
    ),
    (
        {"tls": {"certificate": "x.pem", "private_key": "y.pem", "acme": True}},
        "tls.acme: set beside tls.certificate; allowed: one of them",
    ),
    *(
        (
            {"tls": tls},
            "site.server_name: required with tls, as a certificate is for a domain; "
            "allowed: a domain such as www.example.com",
        )
        for tls in ({"acme": True}, {"certificate": "x.pem", "private_key": "y.pem"})
    ),
    *(
        (
            {"site": {"server_name": name}, "tls": {"acme": True}},
            f"site.server_name: a CA that asks on port 80 proves no {name}; "
            "allowed: a domain such as www.example.com, or tls.certificate",
        )
        for name in ("*.example.test", "203.0.113.7")
    ),
    (
        {**ACME, "nginx": {"listen": 8000}},
        "nginx.listen: the CA that tls.acme asks comes to port 80; allowed: 80, or tls.certificate",
    ),
]  # fmt: skip


@pytest.mark.parametrize(("config", "line"), COMBINATIONS, ids=lambda value: value if isinstance(value, str) else "")
def test_what_makes_no_sense_together_is_refused_with_the_reason(config: dict[str, Any], line: str) -> None:
    assert refusal(config) == line


def test_every_rule_has_a_line_in_the_table() -> None:
    """A rule, known by its line in the source, that nobody breaks here is a rule that nobody tested."""
    whole: set[int] = set()
    broken: set[int] = set()
    health = {"app": {"health": "/up%7b"}, "nginx": {"allow": ("10.0.0.0/8",)}}
    front: list[dict[str, Any]] = [health, *({"nginx": nginx} for nginx, _ in test_nginx.COMBINATIONS)]
    for config in [config for config, _ in COMBINATIONS] + front:
        settings = Settings.model_construct(**loose(config))
        for part in combinations.PARTS:
            rules = part(settings)
            assert isinstance(rules, GeneratorType)
            for rule in rules:
                assert rules.gi_frame is not None
                line = rules.gi_frame.f_lineno
                (broken if rule[1] else whole).add(line)
    assert len(broken) > 30
    assert whole - broken == set()


def loose(config: dict[str, Any]) -> dict[str, Any]:
    """The parts of Settings, each checked by itself, without the rules over all of them."""
    parts = {name: field.annotation for name, field in Settings.model_fields.items() if name != "sites"}
    return {name: part(**config.get(name, {})) for name, part in parts.items()} | {"sites": {}}  # type: ignore[misc]


@pytest.mark.parametrize(
    "config",
    [
        {"serving": {**GUNICORN, **SYSTEMD}, "gunicorn": {"worker_class": "gthread", "threads": 4}},
        {"serving": GUNICORN, "gunicorn": {"bind": "127.0.0.1:9191"}},
        {"serving": {**GUNICORN, **DIRECT}, "gunicorn": {"bind": "0.0.0.0:8000"}},
        {"serving": {**EMPEROR, **DIRECT}, "uwsgi": {"http": "0.0.0.0:8080"}, "systemd": {"timeout_stop_sec": 5}},
        {"serving": SYSTEMD, "uwsgi": {"daemonize": True, "pidfile": True}},
        {"serving": EMPEROR, "app": {"wsgi_file": "site.wsgi", "callable": "application"}},
        {"uwsgi": {"config": "command_line", "socket": "127.0.0.1:8080", "pythonpath": ["lib"], "listen": 1024}},
        {"uwsgi": {"chmod_socket": "600"}, "nginx": {"user": "wsgi-app"}},
        {"uwsgi": {"chmod_socket": "600", "uid": "www"}, "nginx": {"user": "www"}},
        {"uwsgi": {"dynamic": True, "socket": "unix"}},
        {"uwsgi": {"cheaper": 1, "processes": 2, "thunder_lock": True}},
        # On other machines than nginx.
        {
            "topology": {"app_servers": 1},
            "serving": GUNICORN,
            "gunicorn": {"bind": "0.0.0.0:8000"},
            "nginx": {"listen": 8000},
        },
        {"topology": {"app_servers": 1}, "nginx": {"listen": 9200}},
    ],
)
def test_what_makes_sense_together_is_taken(config: dict[str, Any]) -> None:
    parse(config, FILE)


SHOP, BLOG = {"site": {"server_name": "shop.example.com"}}, {"site": {"location": "/blog/"}}
SITES: list[tuple[dict[str, Any], str]] = [
    (
        {"sites": {"shop": {"server": {"os": "debian12"}}}},
        "sites.shop.server: unknown key; allowed: app, site, serving, uwsgi, gunicorn, nginx, tls, supervisor, "
        "systemd, release",
    ),
    ({"sites": {"shop": {"uwsgi": "many"}}}, "sites.shop.uwsgi: allowed: a map of keys"),
    (
        {"sites": {"Shop": {}}},
        "sites.Shop: allowed: a name of 20 characters at most, such as shop or blog-2",
    ),
    (
        {"sites": {"shop": SHOP, "blog": {"site": {"path": "/"}}}},
        "sites.blog.site.path: unknown key; allowed: name, server_name, location",
    ),
    (
        {"sites": {"shop": SHOP, "blog": {"uwsgi": {"processes": 0}}}},
        "sites.blog.uwsgi.processes: allowed: auto, or 1 or more",
    ),
    (
        {"sites": {"shop": SHOP, "blog": {"app": {"env": {"A": ["hunter2"]}}}}},
        "sites.blog.app.env.A: allowed: text",
    ),
    # What is wrong with the shared keys is not a site's.
    ({"uwsgi": {"processes": 0}, "sites": {"shop": SHOP}}, "uwsgi.processes: allowed: auto, or 1 or more"),
    # A combination is looked at as the site has it, with the shared keys.
    (
        {"uwsgi": {"processes": 2}, "sites": {"shop": SHOP, "blog": {**BLOG, "uwsgi": {"cheaper": 2}}}},
        "sites.blog.uwsgi.cheaper: it is the least number of processes; "
        "allowed: less than uwsgi.processes, which must be a number",
    ),
    (
        {"sites": {"shop": {"uwsgi": {"chmod_socket": "600"}}}, "nginx": {"user": "wsgi-app"}},
        "sites.shop.uwsgi.chmod_socket: nginx could not connect to a socket of another user; "
        "allowed: 660, or nginx.user: wsgi-shop",
    ),
    (
        {"sites": {"shop": {"site": {"name": "other"}}}},
        "sites.shop.site.name: one for the machine; allowed: the site's key in sites",
    ),
    *(
        (
            {"sites": {"shop": {part: {key: value}}}},
            f"sites.shop.{part}.{key}: one for the machine; allowed: {part}.{key}, for all sites",
        )
        for part, key, value in (
            ("serving", "process_manager", "systemd"),
            ("serving", "front", "none"),
            ("nginx", "install", "source"),
            ("nginx", "user", "www"),
            ("nginx", "keepalive_timeout", 5),
        )
    ),
    (
        {"sites": {"shop": SHOP, "blog": SHOP}},
        "sites.blog.site: sites.shop stands there already; allowed: another server_name, location or port",
    ),
    (
        {"sites": {"shop": SHOP, "blog": {"site": {"server_name": "SHOP.example.com"}}}},
        "sites.blog.site: sites.shop stands there already; allowed: another server_name, location or port",
    ),
    (
        {"sites": {"shop": {**SHOP, "uwsgi": {"socket": "127.0.0.1:8000"}}, "blog": {"nginx": {"listen": 8001}}}},
        "sites.blog.nginx.listen: port 8001 is taken by sites.shop.uwsgi.socket; allowed: another port",
    ),
    (
        {"sites": {"shop": {"nginx": {"listen": 8001}}, "blog": {"uwsgi": {"socket": "127.0.0.1:8000"}}}},
        "sites.blog.uwsgi.socket: port 8001 is taken by sites.shop.nginx.listen; allowed: another port",
    ),
    (
        {"sites": {"shop": {**SHOP, "uwsgi": {"stats": 9000}}, "blog": {"uwsgi": {"stats": 9001}}}},
        "sites.blog.uwsgi.stats: port 9001 is taken by sites.shop.uwsgi.stats; allowed: another port",
    ),
    # The site that chose nothing may have that port already.
    (
        {"sites": {"shop": SHOP, "blog": {"uwsgi": {"stats": 9191}}}},
        "sites.blog.uwsgi.stats: port 9191 is taken by sites.shop.uwsgi.stats; allowed: another port",
    ),
    (
        {"sites": {"shop": SHOP, "blog": {"nginx": {"listen": 9200}}}},
        "sites.blog.nginx.listen: port 9200 is taken by uwsgi.stats; allowed: another port",
    ),
    (
        {
            "serving": DIRECT,
            "uwsgi": {"http": "0.0.0.0:8080"},
            "sites": {"shop": {}, "blog": {}},
        },
        "sites.blog.uwsgi.http: port 8080 is taken by sites.shop.uwsgi.http; allowed: another port",
    ),
    *(
        (
            {"serving": EMPEROR, "sites": {"shop": SHOP, "blog": {"uwsgi": {key: "www"}}}},
            f"sites.blog.uwsgi.{key}: the emperor runs all sites as one user; allowed: uwsgi.{key}, for all",
        )
        for key in ("uid", "gid")
    ),
]  # fmt: skip


@pytest.mark.parametrize(("config", "line"), SITES, ids=lambda value: value if isinstance(value, str) else "")
def test_what_sites_cannot_share_is_refused_with_the_key_of_the_site(config: dict[str, Any], line: str) -> None:
    assert refusal(config) == line


def test_a_site_has_the_shared_settings_with_its_own_before_them() -> None:
    config = {
        "app": {"env": {"A": "shared", "B": "shared"}, "exclude": ["*.log"]},
        "uwsgi": {"processes": 2, "threads": 2},
        "nginx": {"static": {"/static/": "static"}},
        "sites": {
            "shop": {
                **SHOP,
                "app": {"env": {"B": "its own"}, "exclude": ["notes"]},
                "uwsgi": {"threads": 4},
                "nginx": {"static": {"/media/": "media"}},
            },
            "blog": {**BLOG, "serving": GUNICORN, "app": {"module": "blog"}},
        },
    }
    # What is set for uWSGI is nothing for a site with gunicorn.
    assert refusal(config).startswith("sites.blog.uwsgi: set, but serving.app_server is gunicorn; ")
    del config["sites"]["blog"]["serving"]  # type: ignore[index]
    shop, blog = parse(config, FILE).each
    assert (shop.site.name, blog.site.name) == ("shop", "blog")
    assert {name: value.get_secret_value() for name, value in shop.app.env.items()} == {"A": "shared", "B": "its own"}
    assert set(blog.app.env) == {"A", "B"}
    assert (shop.app.exclude, blog.app.exclude) == (("notes",), ("*.log",))
    assert (shop.uwsgi.processes, shop.uwsgi.threads, blog.uwsgi.threads) == (2, 4, 2)
    assert shop.nginx.static == {"/static/": "static", "/media/": "media"}
    assert (shop.app.module, blog.app.module) == ("app", "blog")
    assert parse({}, FILE).each == (parse({}, FILE),)


@pytest.mark.parametrize("stack", sorted((PROJECT / "stacks").glob("*.yaml")), ids=lambda path: path.stem)
def test_every_stack_of_the_project_is_taken(stack: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # That of the samples; a stack of one's own has another.
    monkeypatch.setenv(VARIABLE, PASSPHRASE)
    config = stacks.load(PROJECT, stack.stem.removeprefix("Pulumi.")).config
    settings = parse({k.partition(":")[2]: json.loads(v) for k, v in config.items() if "wsgi-ecs:" in k}, FILE)
    check_files(settings, PROJECT, FILE)


@pytest.mark.parametrize(
    "key", ["ssh-rsa", "AAAA", f"{PUBLIC_KEY}\nssh-rsa AAAA", "ssh-ed25519 !!!!", "ssh-rsa " + PUBLIC_KEY.split()[1]]
)
def test_a_public_key_that_is_none_is_refused(key: str) -> None:
    assert refusal({"access": {"public_key": key}}).startswith("access.public_key: allowed: one line of a public key")


@pytest.mark.parametrize("name", ["a b.com", 'a".com', "a;b", "a{b}", "a\nb", "a'b", "-a.com", "a..b", "$host", ""])
def test_a_domain_cannot_break_out_of_its_place(name: str) -> None:
    assert refusal({"site": {"server_name": name}}).startswith("site.server_name: allowed: a domain")


def test_a_wrong_secret_is_not_printed() -> None:
    assert "hunter2" not in refusal({"app": {"env": {"A": ["hunter2"]}}})
    assert "hunter2" not in refusal({"app": {"env": {"A": "hunter2\0"}}})


def in_folder(tmp_path: Path, files: dict[str, str], **app: Any) -> str:
    """What check_files says of an application with these files; nothing when it is taken."""
    for name, text in {"requirements.txt": "", **files}.items():
        (tmp_path / "app" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "app" / name).write_text(text)
    uwsgi = {"pythonpath": app.pop("pythonpath", [])}
    try:
        check_files(parse({"app": app, "uwsgi": uwsgi}, FILE), tmp_path, FILE)
    except SettingsError as error:
        return str(error).removeprefix(f"{FILE}: ")
    return ""


@pytest.mark.parametrize("call", ["app.run()", 'application.run("0.0.0.0")'])
def test_an_application_that_serves_itself_when_it_is_imported_is_refused(tmp_path: Path, call: str) -> None:
    line = in_folder(tmp_path, {"app.py": f"from flask import Flask\n\n{call}\n"})
    assert line == (
        "app.module: app.py line 3 starts Flask's own server when it is imported; "
        'allowed: that call under if __name__ == "__main__"'
    )
    line = in_folder(tmp_path, {"site.wsgi": call}, wsgi_file="site.wsgi")
    assert line.startswith("app.wsgi_file: site.wsgi line 1 starts Flask's own server")


@pytest.mark.parametrize(
    "text",
    [
        'if __name__ == "__main__":\n    app.run()\n',
        "def main():\n    app.run()\n",
        "worker.run()\n",
        "# app.run()\n",
        "print 'for another Python'\n",
    ],
)
def test_an_application_that_serves_itself_by_hand_alone_is_taken(tmp_path: Path, text: str) -> None:
    assert in_folder(tmp_path, {"app.py": text}) == ""


def test_the_module_may_be_a_package_or_in_a_folder_of_pythonpath(tmp_path: Path) -> None:
    assert in_folder(tmp_path, {"lib/mysite/__init__.py": ""}, module="mysite", pythonpath=["lib"]) == ""
    assert in_folder(tmp_path, {"lib/mysite/wsgi.py": ""}, module="mysite.wsgi", pythonpath=["lib"]) == ""
    line = in_folder(tmp_path, {}, module="mysite")
    assert line == ("app.module: ./app has neither mysite.py nor mysite/__init__.py; allowed: a module in app.source")


def test_a_missing_wsgi_file(tmp_path: Path) -> None:
    assert in_folder(tmp_path, {"app.py": ""}, wsgi_file="site.wsgi") == (
        "app.wsgi_file: ./app has no site.wsgi; allowed: a file in app.source"
    )
    assert in_folder(tmp_path, {"site.wsgi": ""}, wsgi_file="site.wsgi") == ""


def test_missing_files_of_the_application(tmp_path: Path) -> None:
    def line() -> str:
        with pytest.raises(SettingsError) as error:
            check_files(Settings(), tmp_path, FILE)
        return str(error.value).removeprefix(f"{FILE}: ")

    assert line().startswith("app.source: ./app is no folder; allowed:")
    (tmp_path / "app").mkdir()
    assert line().startswith("app.module: ./app has neither app.py nor app/__init__.py; allowed:")
    (tmp_path / "app" / "app.py").touch()
    assert line().startswith("app.requirements: ./app has no requirements.txt; allowed:")
    (tmp_path / "app" / "requirements.txt").touch()
    check_files(Settings(), tmp_path, FILE)
    key = parse({"access": {"private_key_file": "nowhere"}}, FILE)
    with pytest.raises(SettingsError, match=r"access\.private_key_file: nowhere is no private key; allowed"):
        check_files(key, tmp_path, FILE)


def test_the_sample_application_is_where_the_defaults_say() -> None:
    check_files(Settings(), PROJECT, FILE)


def test_the_environments_have_the_same_keys_in_the_same_order() -> None:
    def keys(value: Any) -> Any:
        return {key: keys(inner) for key, inner in value.items()} if isinstance(value, dict) else None

    texts = [(PROJECT / f"stacks/Pulumi.{name}.yaml").read_text() for name in ("dev", "staging", "prod")]
    shapes = [json.dumps(keys(yaml.safe_load(text))) for text in texts]
    assert shapes == shapes[:1] * 3
