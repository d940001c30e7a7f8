"""Settings in which a change of another does something, and changes that the models do not give."""

from typing import Any

from reference.samples import ACME, GRANIAN, MYSQL, PYTHON, RDS, REDIS, SOURCE, SYSTEMD
from settings.site import merged

GUNICORN = {"serving": {"app_server": "gunicorn"}}
# One server, two, and several with different tasks.
SERVERS: tuple[dict[str, Any], ...] = ({}, MYSQL, {"topology": {"app_servers": 2}})
# What else must be set for a setting to do something; the first in which it does is taken.
BESIDE: tuple[dict[str, Any], ...] = (
    {},
    MYSQL,
    {"serving": {"process_manager": "systemd"}},
    {**GUNICORN, "gunicorn": {"worker_class": "gthread", "max_requests": 9}},
    {**GUNICORN, "gunicorn": {"worker_class": "gevent"}},
    {**GUNICORN, "serving": {"app_server": "gunicorn", "process_manager": "systemd"}},
    GRANIAN,
    merged(GRANIAN, SYSTEMD),
    {"topology": {"app_servers": 2}},
    {"topology": {"app_servers": 2}, **GUNICORN, "gunicorn": {"worker_class": "gthread"}},
    {"uwsgi": {"socket": "127.0.0.1:8080"}},
    {"uwsgi": {"http_socket": "127.0.0.1:8080"}},
    {"uwsgi": {"processes": 4}},
    {"nginx": {"static_expires": "1d", "error_page": {"404": "404.html"}, "cache": {}, "limit_req": {}}},
    {"nginx": {"auth_basic": "Staff", "auth_basic_users": {"ada": "$6$a$" + "b" * 86}}},
    {"nginx": SOURCE},
    {"data": {"served": {"/media/": "media"}}},
    {"data": {"disk_gib": 40}},
    {"uwsgi": SOURCE},
    # Debian's compiler builds an optimised Python, too.
    {"python": PYTHON, "server": {"os": "debian12"}},
    ACME,
    {"site": ACME["site"], "tls": {"certificate": "c.pem", "private_key": "k.pem"}},
    {"sites": {"blog": {}}},
)
# Where the ordinary value is that of another stack already, or fits it alone.
OTHER: dict[str, dict[str, Any]] = {
    "app.source": {"app": {"source": "./other"}},
    "app.requirements": {"app": {"requirements": "other.txt"}},
    "app.health": {"app": {"health": "/status"}},
    "access.ssh": {"access": {"ssh": ["198.51.100.0/24"]}},
    "app.exclude": {"app": {"exclude": ["static"]}},
    "serving.front": {"serving": {"front": "none"}, "uwsgi": {"http": "0.0.0.0:8080"}},
    "tls.acme": ACME,
    "topology.app_servers": {"topology": {"app_servers": 2}},
    "uwsgi.install": {"uwsgi": SOURCE},
    "nginx.install": {"nginx": SOURCE},
    "python.install": {"python": PYTHON},
    "uwsgi.version": {"uwsgi": {"version": "2.0.30"}},
    "nginx.version": {"nginx": {"version": "1.22.1"}},
    "uwsgi.archive": {"uwsgi": {"archive": "https://example.com/b.tar.gz"}},
    "python.archive": {"python": {"archive": "https://example.com/b.tar.gz"}},
    "nginx.archive": {"nginx": {"archive": "https://example.com/b.tar.gz"}},
    "uwsgi.sha256": {"uwsgi": {"sha256": "cd" * 32}},
    "python.sha256": {"python": {"sha256": "cd" * 32}},
    "nginx.sha256": {"nginx": {"sha256": "cd" * 32}},
    "nginx.auth_basic": {"nginx": {"auth_basic": "All"}},
    "nginx.auth_basic_users": {"nginx": {"auth_basic_users": {"ada": "$6$a$" + "c" * 86}}},
    "nginx.cache": {"nginx": {"cache": {}}},
    "nginx.limit_req": {"nginx": {"limit_req": {}}},
    "nginx.methods": {"nginx": {"methods": ["GET"]}},
    "nginx.extra": {"nginx": {"extra": "# nothing"}},
    "tls.certificate": {"tls": {"certificate": "other.pem"}},
    "tls.private_key": {"tls": {"certificate": "d.pem", "private_key": "l.pem"}},
    "schedule.<name>.command": {"schedule": {"worker": {"command": ["python", "worker.py"]}}},
    "schedule.<name>.at": {"schedule": {"worker": {"at": "0 4 * * *"}}},
    "schedule.<name>.timezone": {"schedule": {"worker": {"timezone": "UTC"}}},
    "processes.<name>.command": {"processes": {"worker": {"command": ["python", "worker.py"]}}},
    "redis.own_server": REDIS,
    "redis.password": {"redis": {"password": "y" * 24}},
    "redis.instance_type": {"redis": {"instance_type": "ecs.c6.large"}},
    "mysql.managed": RDS,
    "mysql.storage_gib": {"mysql": {"storage_gib": 25}},
    "mysql.ca": {"mysql": {"ca": "other.pem"}},
    "network.standby_cidr": {"network": {"standby_cidr": "10.90.0.0/24"}},
    "mysql.password": {"mysql": {"password": "y"}},
    "mysql.database": {"mysql": {"database": "other"}},
    "mysql.user": {"mysql": {"user": "other"}},
    "sites": {"sites": {"blog": {"app": {"callable": "application"}}}},
    "server.mirrors.packages": {"server": {"mirrors": {"packages": ["https://mirror.example.com/centos"]}}},
    "access.private_key_file": {"access": {"private_key_file": "ssh"}},
    "mysql.instance_type": {"mysql": {"instance_type": "ecs.c6.large"}},
    "topology.instance_type": {"topology": {"instance_type": "ecs.c6.large"}},
    "server.instance_type": {"server": {"instance_type": "ecs.c6.large"}},
    "access.public_key": {"access": {"public_key": "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAI" + "A" * 43}},
}
