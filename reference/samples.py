"""An ordinary value for each text of the settings, and configurations in which it may stand."""

from collections.abc import Mapping
from typing import Any

from settings.site import merged

PUBLIC_KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIBc3ifE1ZTmCWcvqxHn0zdLPbtkKRqUpgAKQXNBlxmfK"
OFFICE = "203.0.113.0/24"
CLOUD = {"access": {"ssh": [OFFICE], "public_key": PUBLIC_KEY}}
PRIVATE_KEY = f"-----BEGIN PRIVATE KEY-----\n{'A' * 64}\n-----END PRIVATE KEY-----\n"
HASH = "$6$saltsalt$" + "a" * 86
FILE = "stacks/Pulumi.test.yaml"
SOURCE = {"install": "source", "version": "2.0.31", "archive": "https://example.com/a.tar.gz", "sha256": "ab" * 32}
PYTHON = {**SOURCE, "version": "3.11.2"}
AUTH = {"nginx": {"auth_basic": "Staff", "auth_basic_users": {"ada": HASH}}}
MYSQL = {"mysql": {"password": "x"}}
RDS = {"mysql": {"managed": True, "password": "Xx-0123456789"}}
RDS_TLS = {"mysql": {**RDS["mysql"], "tls": "offered", "ca": "c.pem"}}
ALB = {"topology": {"entrance": "alb", "app_servers": 2}}
SCALING = {"topology": {"entrance": "alb", "scaling": {}}}
REDIS = {"redis": {"own_server": True, "password": "x" * 24}}
TAIR = {"redis": {"managed": True, "password": "Xx-0123456789abcd"}}
ACME = {"site": {"server_name": "www.example.com"}, "tls": {"acme": True}}
GIVEN = {"site": {"server_name": "www.example.com"}, "tls": {"certificate": "c.pem", "private_key": "k.pem"}}
SYSTEMD = {"serving": {"process_manager": "systemd"}}
GRANIAN = {"serving": {"app_server": "granian"}, "server": {"os": "debian12"}}

# The name of an entry in a map of names to settings.
SAMPLE = "worker"
# An ordinary text for each place, and what else must be set there.
ORDINARY: dict[str, str | tuple[str, dict[str, Any]]] = {
    "app.source": "./app",
    "release.before[][]": "migrate",
    "release.pin": "0123456789ab",
    "release.after[][]": "notify",
    "app.module": "mysite.wsgi",
    "app.wsgi_file": "site.wsgi",
    "app.callable": "application",
    "app.requirements": "requirements.txt",
    "app.pythonpath[]": "src",
    "app.timezone": "Asia/Shanghai",
    "app.pip.index_url": "https://index.example.com/simple/",
    "app.pip.extra_index_url[]": "https://index.example.com/simple/",
    "app.pip.netrc": "machine git.example.com login ada password x",
    "app.pip.ssh_key": PRIVATE_KEY,
    "app.env{}": "TOKEN",
    "app.env{}:": "text",
    "app.health": "/healthz",
    "app.exclude[]": "*.log",
    "app.persistent[]": "instance",
    "data.served{}": "/a/",
    "data.served{}:": "b",
    "data.limit_rate": ("1m", {"data": {"served": {"/a/": "b"}}}),
    "site.name": "shop",
    "site.server_name": "www.example.com",
    "site.location": "/blog/",
    "server.instance_type": "ecs.e-c1m1.large",
    "server.image": "m-bp1",
    "server.zone": "cn-hangzhou-i",
    "server.mirrors.packages[]": "https://mirror.example.com/debian",
    "server.mirrors.epel[]": ("https://mirror.example.com/epel", {"server": {"os": "centos7"}}),
    "server.mirrors.index[]": "https://mirror.example.com/simple/",
    "server.security_updates": ("01:00-03:30", {"server": {"os": "debian12"}}),
    "server.packages[]": "libpq-dev",
    "server.packages_of{}:[]": ("libpq-dev", {"server": {"os": "debian12"}}),
    "network.cidr": ("10.0.0.0/16", MYSQL),
    "network.standby_cidr": ("10.90.0.0/24", RDS),
    "network.entrance_cidr": ("10.90.0.0/20", ALB),
    "topology.instance_type": ("ecs.e-c1m1.large", {"topology": {"app_servers": 1}}),
    "topology.scaling.instance_types[]": ("ecs.c6.large", SCALING),
    "access.http[]": "203.0.113.0/24",
    "access.ssh[]": "203.0.113.0/24",
    "alarms.email": "ops@example.com",
    "access.metrics[]": ("10.0.0.0/8", {"metrics": {"port": 9464}}),
    "access.public_key": PUBLIC_KEY,
    "access.private_key_file": "~/.ssh/id_ed25519",
    "access.host_key": PUBLIC_KEY,
    "python.version": ("3.11.9", {"python": PYTHON}),
    "python.archive": (SOURCE["archive"], {"python": PYTHON}),
    "python.sha256": (SOURCE["sha256"], {"python": PYTHON}),
    "python.prefix": ("/opt/python", {"python": PYTHON}),
    "uwsgi.version": "2.0.28",
    "uwsgi.archive": (SOURCE["archive"], {"uwsgi": SOURCE}),
    "uwsgi.sha256": (SOURCE["sha256"], {"uwsgi": SOURCE}),
    "uwsgi.prefix": ("/opt/uwsgi", {"uwsgi": SOURCE}),
    "uwsgi.socket": "127.0.0.1:8080",
    "uwsgi.http_socket": "127.0.0.1:8080",
    "uwsgi.http": "127.0.0.1:8080",
    "uwsgi.chmod_socket": "666",
    "uwsgi.pythonpath[]": "lib",
    "uwsgi.uid": "www",
    "uwsgi.gid": ("www", SYSTEMD),
    "uwsgi.static_map{}": "/s/",
    "uwsgi.static_map{}:": "static",
    "granian.bind": ("127.0.0.1:8080", GRANIAN),
    "granian.user": ("www", GRANIAN),
    "granian.group": ("www", merged(GRANIAN, SYSTEMD)),
    "gunicorn.bind": "127.0.0.1:8080",
    "gunicorn.user": "www",
    "gunicorn.group": ("www", SYSTEMD),
    "nginx.version": ("1.22.1", {"nginx": SOURCE}),
    "nginx.archive": (SOURCE["archive"], {"nginx": SOURCE}),
    "nginx.sha256": (SOURCE["sha256"], {"nginx": SOURCE}),
    "nginx.prefix": ("/opt/nginx", {"nginx": SOURCE}),
    "nginx.user": "www",
    "nginx.charset": "gbk",
    "nginx.client_max_body_size": "1m",
    "nginx.large_client_header_buffers": "4 4k",
    "nginx.websocket[]": ("/ws/", {"serving": {"app_server": "gunicorn"}, "gunicorn": {"worker_class": "gthread"}}),
    "nginx.upstream.weights{}": ("app-1", {"topology": {"app_servers": 2}}),
    "nginx.pools{}": "/a/",
    "nginx.static{}": "/a/",
    "nginx.static{}:": "b",
    "nginx.static_expires": "2h",
    "nginx.gzip_types[]": "text/css",
    "nginx.error_page{}:": "404.html",
    "nginx.maintenance.allow[]": "10.0.0.0/8",
    "nginx.maintenance.page": "closed.html",
    "nginx.cache.max_size": "1m",
    "nginx.cache.bypass_cookies[]": "session",
    "nginx.cache.bypass_header": "X-Fresh",
    "nginx.limit_req.rate": "1r/s",
    "nginx.set_real_ip_from[]": "10.0.0.0/8",
    "nginx.allow[]": "10.0.0.0/8",
    "nginx.deny[]": "10.0.0.0/8",
    "nginx.auth_basic": ("Staff", AUTH),
    "nginx.auth_basic_users{}": ("ada", {"nginx": {"auth_basic": "Staff"}}),
    "nginx.auth_basic_users{}:": (HASH, {"nginx": {"auth_basic": "Staff"}}),
    "nginx.add_header{}": "X-A",
    "nginx.add_header{}:": "default-src 'self'",
    "nginx.hide_header[]": "X-A",
    "tls.certificate": ("c.pem", GIVEN),
    "tls.private_key": ("k.pem", GIVEN),
    "tls.directory": ("https://ca.example.com/dir", ACME),
    "tls.ca": ("ca.pem", ACME),
    "redis.password": ("x" * 24, REDIS),
    "redis.instance_type": ("ecs.e-c1m1.large", REDIS),
    "redis.instance_class": ("redis.shard.mid.ce", TAIR),
    "redis.maxmemory": "64M",
    "mysql.database": ("app", MYSQL),
    "mysql.user": ("app", MYSQL),
    "mysql.password": ("x", MYSQL),
    "mysql.schema_files[]": ("schema.sql", MYSQL),
    "mysql.innodb_buffer_pool_size": ("512M", MYSQL),
    "mysql.instance_type": ("ecs.e-c1m1.large", MYSQL),
    "mysql.instance_class": ("mysql.n4.medium.2c", RDS),
    "mysql.ca": ("c.pem", RDS_TLS),
    "mysql.dump_at": ("0 4 * * *", MYSQL),
    "processes{}": "worker",
    "processes{}:.command[]": "python",
    "schedule{}": "nightly",
    "schedule{}:.command[]": ("python", {"schedule": {SAMPLE: {"at": "0 3 * * *"}}}),
    "schedule{}:.at": ("0 4 * * mon", {"schedule": {SAMPLE: {"command": ["python"]}}}),
    "schedule{}:.timezone": ("Asia/Shanghai", {"schedule": {SAMPLE: {"command": ["python"], "at": "0 3 * * *"}}}),
    "sites{}": "shop",
    "sites{}:{}": "app",
    "sites{}:{}:{}": "module",
}
# The name or value beside the one that is tried in a map.
BESIDE = {
    "app.env": ("TOKEN", "text"),
    "server.packages_of": ("debian12", []),
    "uwsgi.static_map": ("/s/", "static"),
    "nginx.upstream.weights": ("app-1", 2),
    "nginx.pools": ("/a/", 2),
    "nginx.static": ("/a/", "b"),
    "data.served": ("/a/", "b"),
    "nginx.error_page": ("404", "404.html"),
    "nginx.auth_basic_users": ("ada", HASH),
    "nginx.add_header": ("X-A", "b"),
    "processes": (SAMPLE, {"command": ["python"]}),
    "schedule": (SAMPLE, {"command": ["python"], "at": "0 3 * * *"}),
}


def key_of(place: str) -> str:
    """Key of the setting at a place, as a message names it."""
    name, _, rest = place.partition("{}:.")
    return f"{name}.{SAMPLE}.{key_of(rest)}" if rest else place.rstrip("{}[]:")


def placed(place: str, text: str, kind: Mapping[str, Any]) -> dict[str, Any]:
    """A configuration of a kind with a text at a place."""
    if place.startswith("sites"):
        own = {"sites{}": {text: {}}, "sites{}:{}": {"blog": {text: {}}}}.get(place, {"blog": {"app": {text: "blog"}}})
        return merged(kind, {"sites": own})
    key = key_of(place)
    value: Any = text
    if place.endswith(":[]"):
        value = {BESIDE[key][0]: [text]}
    elif place.endswith("[][]"):
        value = [[text]]
    elif place.endswith("[]"):
        value = [text]
    elif place.endswith("{}"):
        value = {text: BESIDE[key][1]}
    elif place.endswith(":"):
        value = {BESIDE[key][0]: text}
    for name in reversed(key.split(".")):
        value = {name: value}
    return merged(merged(kind, of(place)[1]), value)


def of(place: str) -> tuple[str, dict[str, Any]]:
    found = ORDINARY[place]
    return found if isinstance(found, tuple) else (found, {})
