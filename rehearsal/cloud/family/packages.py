"""The packages of CentOS 7 and Alibaba Cloud Linux 3 that a server may ask for, one row each.

What the packages contain, and where: their file lists at https://centos.pkgs.org/7/ (base, updates, extras and EPEL)
and https://almalinux.pkgs.org/8/, which has the packages that Alibaba Cloud Linux 3 is built from.
"""

from dataclasses import replace

from rehearsal.cloud.family import configs
from rehearsal.cloud.family.rpm import Rpm


def _release(name: str, version: str, words: str, os_release: str) -> Rpm:
    """What the image has of the family: its names and, for the scripts of all packages, a shell."""
    return Rpm(
        f"{name}-release",
        "os",
        provides=(f"system-release = {version}", f"system-release(releasever) = {version}", "/bin/sh"),
        files={f"/etc/{name}-release": f"{words}, rehearsed on Debian 12\n", "/etc/os-release": os_release},
        links={"/etc/redhat-release": f"{name}-release", "/etc/system-release": f"{name}-release"},
    )


# What gcc and the packages of libraries share is a package of the family, too.
_LIBC = Rpm("glibc-devel", "os", ("libc6-dev",))

_PYTHON = "/usr/bin/python3.11"
_PIP = ("python3-venv", "python3-pip")


def _library(name: str, *debian: str) -> Rpm:
    """A package that programs are compiled with."""
    return Rpm(name, "os", debian)


_NGINX = Rpm(
    "nginx",
    "epel",
    ("nginx",),
    user="nginx",
    home="/var/lib/nginx",
    dropped=(
        "/etc/nginx/sites-available", "/etc/nginx/sites-enabled", "/etc/nginx/snippets", "/etc/nginx/modules-enabled",
        "/etc/nginx/modules-available", "/etc/ufw", "/usr/share/nginx/modules", "/usr/share/vim", "/var/lib/nginx",
        "/usr/lib/systemd/system/nginx.service", "/usr/lib/nginx",
    ),
    files={
        "/usr/lib/systemd/system/nginx.service": configs.NGINX_UNIT,
        "/etc/nginx/nginx.conf": configs.NGINX,
        "/etc/logrotate.d/nginx": configs.NGINX_LOGROTATE,
    },
    folders={
        "/etc/nginx/conf.d": "root root 0755",
        "/etc/nginx/default.d": "root root 0755",
        "/usr/share/nginx/modules": "root root 0755",
        "/var/lib/nginx": "nginx root 0770",
        "/var/log/nginx": "root root 0711",
    },
)  # fmt: skip

_SUPERVISOR = Rpm(
    "supervisor",
    "epel",
    ("supervisor",),
    dropped=("/etc/supervisor", "/usr/lib/systemd/system/supervisor.service", "/var/log/supervisor"),
    files={
        "/etc/supervisord.conf": configs.SUPERVISOR,
        "/usr/lib/systemd/system/supervisord.service": configs.SUPERVISOR_UNIT,
        "/usr/lib/tmpfiles.d/supervisor.conf": "D /var/run/supervisor 0775 root root -\n",
    },
    folders={
        "/etc/supervisord.d": "root root 0755",
        "/var/log/supervisor": "root root 0770",
        "/run/supervisor": "root root 0755",
    },
)

_UWSGI = Rpm(
    "uwsgi",
    "epel",
    ("uwsgi-core",),
    user="uwsgi",
    home="/run/uwsgi",
    moves={"/usr/bin/uwsgi-core": "/usr/sbin/uwsgi", "/usr/lib/uwsgi/plugins": "/usr/lib64/uwsgi"},
    dropped=("/usr/lib/systemd/system",),
    files={
        "/usr/lib/systemd/system/uwsgi.service": configs.UWSGI_UNIT,
        "/etc/uwsgi.ini": configs.UWSGI,
    },
    # Debian's uWSGI looks for its plugins there.
    links={"/usr/lib/uwsgi/plugins": "../../lib64/uwsgi"},
    folders={"/etc/uwsgi.d": "uwsgi uwsgi 0775"},
)

_UWSGI_PYTHON = Rpm(
    "uwsgi-plugin-python36",
    "epel",
    ("uwsgi-plugin-python3",),
    requires=("uwsgi",),
    moves={"/usr/lib/uwsgi/plugins": "/usr/lib64/uwsgi"},
    dropped=("/usr/bin",),
    links={"/usr/lib64/uwsgi/python36_plugin.so": "python311_plugin.so"},
)

_MARIADB_DROPPED = ("/etc/mysql", "/etc/security", "/etc/logcheck", "/usr/lib/systemd/system", "/usr/lib/tmpfiles.d")
_MARIADB = Rpm(
    "mariadb",
    "os",
    ("mariadb-client",),
    dropped=_MARIADB_DROPPED,
    files={"/etc/my.cnf": configs.MY_CNF_55, "/etc/my.cnf.d/client.cnf": configs.MARIADB_CLIENT_CNF},
)
_MARIADB_SERVER = Rpm(
    "mariadb-server",
    "os",
    ("mariadb-server",),
    requires=("mariadb",),
    user="mysql",
    home="/var/lib/mysql",
    moves={"/usr/sbin/mariadbd": "/usr/libexec/mariadbd", "/usr/sbin/mysqld": "/usr/libexec/mysqld"},
    # The family's server is libexec/mysqld alone; Debian's scripts look for it here.
    links={"/usr/sbin/mariadbd": "../libexec/mariadbd"},
    dropped=(*_MARIADB_DROPPED, "/etc/logrotate.d/mariadb", "/var/lib/mysql"),
    files={
        "/usr/lib/systemd/system/mariadb.service": configs.MARIADB_55_UNIT,
        "/usr/libexec/mariadb-prepare-db-dir": configs.MARIADB_PREPARE,
        "/usr/libexec/mariadb-wait-ready": configs.MARIADB_WAIT,
        "/usr/lib/tmpfiles.d/mariadb.conf": "d /var/run/mariadb 0755 mysql root -\n",
    },
    folders={
        "/usr/libexec/mariadb-prepare-db-dir": "root root 0755",
        "/usr/libexec/mariadb-wait-ready": "root root 0755",
        "/var/lib/mysql": "mysql mysql 0755",
        "/var/log/mariadb": "mysql mysql 0750",
        "/run/mariadb": "mysql mysql 0755",
    },
)

_REDIS = Rpm(
    "redis",
    "epel",
    ("redis-server",),
    user="redis",
    home="/var/lib/redis",
    dropped=("/etc/redis", "/usr/lib/systemd/system", "/etc/logrotate.d", "/var/lib/redis", "/var/log/redis"),
    files={"/usr/lib/systemd/system/redis.service": configs.REDIS_UNIT, "/etc/redis.conf": configs.REDIS},
    folders={
        "/etc/redis.conf": "redis root 0640",
        "/var/lib/redis": "redis redis 0750",
        "/var/log/redis": "redis redis 0750",
    },
)

# It stands beside CentOS 7's own OpenSSL 1.0.2, in folders of its own.
_OPENSSL_11 = Rpm(
    "openssl11-devel",
    "epel",
    ("libssl-dev",),
    moves={
        "/usr/include/openssl": "/usr/include/openssl11/openssl",
        "/usr/include/@triplet@/openssl": "/usr/include/openssl11/openssl",
    },
    dropped=("/usr/lib/@triplet@",),
    files={"/usr/lib64/pkgconfig/openssl11.pc": configs.OPENSSL_11},
    links={f"/usr/lib64/openssl11/lib{name}.so": f"/usr/lib/@triplet@/lib{name}.so.3" for name in ("crypto", "ssl")},
)

# Neither has a timer: cron runs logrotate.
_LOGROTATE = Rpm("logrotate", "os", ("logrotate",), dropped=("/usr/lib/systemd",))

_COMMON = (
    _LIBC,
    # Debian makes these links when it installs; nginx's configure asks for cc.
    Rpm("gcc", "os", ("gcc",), requires=("glibc-devel",), links={"/usr/bin/cc": "gcc"}),
    Rpm("gcc-c++", "os", ("g++",), requires=("gcc",), links={"/usr/bin/c++": "g++"}),
    Rpm("make", "os", ("make",)),
    Rpm("cmake", "os", ("cmake",)),
    Rpm("git", "os", ("git",)),
    Rpm("patch", "os", ("patch",)),
    Rpm("bzip2", "os", ("bzip2",)),
    Rpm("xz", "os", ("xz-utils",)),
    Rpm("pkgconfig", "os", ("pkg-config",)),
    Rpm("openssh-clients", "os", ("openssh-client",)),
    Rpm("mariadb-devel", "os", ("libmariadb-dev", "libmariadb-dev-compat")),
    Rpm("postgresql-devel", "os", ("libpq-dev",)),
    _library("pcre-devel", "libpcre3-dev"),
    _library("pcre2-devel", "libpcre2-dev"),
    _library("zlib-devel", "zlib1g-dev"),
    _library("openssl-devel", "libssl-dev"),
    _library("libffi-devel", "libffi-dev"),
    _library("bzip2-devel", "libbz2-dev"),
    _library("xz-devel", "liblzma-dev"),
    _library("readline-devel", "libreadline-dev"),
    _library("ncurses-devel", "libncurses-dev"),
    _library("sqlite-devel", "libsqlite3-dev"),
    _library("gdbm-devel", "libgdbm-dev", "libgdbm-compat-dev"),
    _library("libuuid-devel", "uuid-dev"),
    _library("libyaml-devel", "libyaml-dev"),
    _library("libxml2-devel", "libxml2-dev"),
    _library("libxslt-devel", "libxslt1-dev"),
    _library("libjpeg-turbo-devel", "libjpeg-dev"),
    _library("libcurl-devel", "libcurl4-openssl-dev"),
    _library("openldap-devel", "libldap-dev"),
    _library("cyrus-sasl-devel", "libsasl2-dev"),
    _library("krb5-devel", "libkrb5-dev"),
    _library("gmp-devel", "libgmp-dev"),
    _LOGROTATE,
    _SUPERVISOR,
    # A rehearsal mounts nothing by NFS, so this has nothing else of the client.
    Rpm("nfs-utils", "os", folders={"/var/lib/nfs": "root root 0755"}),
)

CENTOS7 = (
    _release("centos", "7", "CentOS Linux release 7.9.2009 (Core)", configs.CENTOS7_OS_RELEASE),
    *_COMMON,
    Rpm(
        "python3",
        "updates",
        _PIP,
        taken={_PYTHON: _PYTHON},
        links={"/usr/bin/python3": "python3.11"},
    ),
    Rpm("python3-devel", "updates", ("python3-dev",), requires=("python3",), dropped=("/usr/share/javascript",)),
    _OPENSSL_11,
    _NGINX,
    _UWSGI,
    _UWSGI_PYTHON,
    _MARIADB,
    _MARIADB_SERVER,
    _REDIS,
)

ALINUX3 = (
    _release("alinux", "3", "Alibaba Cloud Linux release 3 (OpenAnolis Edition)", configs.ALINUX3_OS_RELEASE),
    *_COMMON,
    # The system's own Python, under its public name.
    Rpm("python3", "os", links={"/usr/bin/python3": "/usr/libexec/platform-python"}),
    Rpm("python3-devel", "os", ("python3-dev",), requires=("python3",), dropped=("/usr/share/javascript",)),
    Rpm("python3.11", "updates", _PIP, taken={_PYTHON: _PYTHON}, dropped=("/usr/bin/pip3", "/usr/bin/pip")),
    Rpm("python3.11-devel", "updates", ("python3-dev",), requires=("python3.11",), dropped=("/usr/share/javascript",)),
    replace(_NGINX, repository="updates"),
    replace(_MARIADB, files={"/etc/my.cnf": configs.MY_CNF, "/etc/my.cnf.d/client.cnf": configs.MARIADB_CLIENT_CNF}),
    replace(
        _MARIADB_SERVER,
        files={
            "/usr/lib/systemd/system/mariadb.service": configs.MARIADB_UNIT,
            "/usr/libexec/mysql-prepare-db-dir": configs.MARIADB_PREPARE,
            "/etc/my.cnf.d/mariadb-server.cnf": configs.MARIADB_SERVER_CNF,
            "/usr/lib/tmpfiles.d/mariadb.conf": "d /run/mariadb 0755 mysql root -\n",
        },
        folders={
            "/usr/libexec/mysql-prepare-db-dir": "root root 0755",
            "/var/lib/mysql": "mysql mysql 0755",
            "/var/log/mariadb": "mysql mysql 0750",
            "/run/mariadb": "mysql mysql 0755",
        },
    ),
    replace(_REDIS, repository="updates"),
)
