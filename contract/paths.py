"""Paths and names on a server.

/srv/wsgi-ecs/host/a, b, current          what the sites share: nginx.conf; current leads to the slot that serves
/srv/wsgi-ecs/sites/<site>/releases/<id>/ a release as it was sent: app/, config/, tool/  (not writable by the site)
/srv/wsgi-ecs/sites/<site>/slots/a, b     filled-in configs; one slot serves, and the other starts the next release
/srv/wsgi-ecs/sites/<site>/current        link to the slot that serves: the only switch
/srv/wsgi-ecs/sites/<site>/current/<view>/ links by which nginx names release, socket, ... (machine/view.py)
/srv/wsgi-ecs/sites/<site>/maintenance    nginx closes the site while this file is there (machine/maintenance.py)
/srv/wsgi-ecs/sites/<site>/data/         what the application writes, kept across releases (<user>:<group> 0750)
/srv/wsgi-ecs/removed/<site>/             data of a site that the settings no longer name (root 0700)
/srv/data/sites/<site>/, removed/<site>/  both of them where the server has a data disk; links lead there
/srv/wsgi-ecs-store/                      store of releases (root 0700): a folder of the file system that machines share
/srv/wsgi-ecs/venvs/<hash>/               virtual environments (wsgi-build)
/etc/wsgi-ecs/tls/<domain>.crt, .key      certificates (0644) and their private keys (root 0600)
/var/lib/wsgi-acme/                       what the ACME client sees: account key, challenges (wsgi-acme)
/etc/wsgi-ecs/<site>.env.json             environment of the application (root:<group> 0640)
/run/wsgi-ecs/<site>/<slot>.sock          sockets (<user>:<web group> 0660); <slot>.stats: uWSGI's statistics
/var/log/wsgi-ecs/<site>/<slot>.log       what the application prints
/var/log/wsgi-ecs/<site>/access.log       nginx's log of requests, with error.log beside it
/var/cache/nginx/<site>/                  answers that nginx has cached
"""

ROOT = "/srv/wsgi-ecs"
ETC = "/etc/wsgi-ecs"
RUN = "/run/wsgi-ecs"
LOG = "/var/log/wsgi-ecs"
CACHE = "/var/cache/nginx"
ACME = "/var/lib/wsgi-acme"
DATA = "/srv/data"
# The store of releases for servers that come and go.
STORE = "/srv/wsgi-ecs-store"
MARKER = "/var/lib/wsgi-ecs/bootstrapped"
BOOTSTRAP_COMMAND = "/usr/local/sbin/wsgi-ecs-bootstrap"
STATUS_COMMAND = "/usr/local/sbin/wsgi-ecs-status"
MAINTENANCE_COMMAND = "/usr/local/sbin/wsgi-ecs-maintenance"
RELEASE_COMMAND = "/usr/local/sbin/wsgi-ecs-release"
# The file holds the password of this machine's Redis.
REDIS_CONFIG = "/etc/wsgi-ecs/redis.conf"
REDIS_DATA = "/var/lib/wsgi-ecs/redis"
DATABASE_COMMAND = "/usr/local/sbin/wsgi-ecs-database"

# Socket on which uWSGI's emperor reports on its vassals.
EMPEROR_STATS = "/run/wsgi-emperor/stats.sock"
# Socket on which a member of a scaling group says whether it runs what runs on one member at a time.
LEASE_SOCKET = "/run/wsgi-ecs-lease.sock"
# The certificate by which the applications recognise the server of their database, where they reach it over TLS.
MYSQL_CA = "/etc/wsgi-ecs/mysql-ca.pem"
# How the tool and the database's command log in to a managed database (root 0600).
MYSQL_CLIENT = "/etc/wsgi-ecs/mysql.cnf"

# Names of the service that mounts the store, and of the one that takes releases from it.
STORE_UNIT, MEMBER_UNIT = "wsgi-ecs-store", "wsgi-ecs-member"
# Name of the service and the timer that ask for certificates.
ACME_UNIT = "wsgi-ecs-acme"
# Name of the service and the timer that dump the database.
DUMP_UNIT = "wsgi-ecs-dump"
# Name of the socket and of the services, one for each request, that answer with metrics.
METRICS_UNIT = "wsgi-ecs-metrics"

BUILD_USER = "wsgi-build"
BUILD_HOME = "/var/lib/wsgi-build"
# Files of the package index whose hashes were checked, and in each virtual environment the lists of the pins with them.
PINNED = BUILD_HOME + "/pinned"
BUILD_PINS, SERVER_PINS = "build-pins.txt", "server-pins.txt"
# What is built from source is installed in folders of these: schema/text.py allows no other prefix.
BUILD_FOLDERS = ("/usr/local", "/opt")
ACME_USER = "wsgi-acme"

# The slots of a site; `current` leads to the one that serves, or to the page that waits for a first release.
SLOTS = ("a", "b")
WAITING = "slots/waiting"
# The release that cloud-init brings, which serves the built-in page.
BOOTSTRAP = "bootstrap"
# The site that a server has before its first release.
BUILTIN = "app"


def sites() -> str:
    """Folder that holds a folder for each site."""
    return ROOT + "/sites"


def site_root(name: str) -> str:
    """Folder of a site: releases/, slots/ and the link current."""
    return "{}/{}".format(sites(), name)


def data(name: str) -> str:
    """Folder that a site's application may write to: its DATA_DIR and its HOME."""
    return site_root(name) + "/data"


def backup(name: str) -> str:
    """File whose time is that of the last copy of a site's data."""
    return site_root(name) + "/backup"


def stats(name: str, slot: str) -> str:
    """Socket on which the uWSGI of a slot tells its statistics, which hold the requests in work."""
    return "{}/{}/{}.stats".format(RUN, name, slot)


def database_backup() -> str:
    """File whose time is that of the newest dump of the database that has left its machine, beside its data."""
    return DATA + "/backup"


def database_dumps() -> str:
    """Folder of the nightly dumps of the database, on its data disk."""
    return DATA + "/dumps"


def maintenance(name: str) -> str:
    """File that closes a site while it is there."""
    return site_root(name) + "/maintenance"


def removed() -> str:
    """Folder that holds a folder for each site that was removed."""
    return ROOT + "/removed"


def removed_data(name: str) -> str:
    """Folder that keeps the data of a site that was removed, until a site of that name returns."""
    return "{}/{}".format(removed(), name)


def disk_sites() -> str:
    """Folder of the data disk that holds the data folder of each site."""
    return DATA + "/sites"


def disk_data(name: str) -> str:
    """Folder of the data disk to which data(name) leads."""
    return "{}/{}".format(disk_sites(), name)


def disk_removed() -> str:
    """Folder of the data disk to which removed() leads."""
    return DATA + "/removed"


def host_root() -> str:
    """Folder of what the sites share."""
    return ROOT + "/host"


def venvs() -> str:
    """Folder of the virtual environments."""
    return ROOT + "/venvs"


def incoming() -> str:
    """Folder that archives are copied to."""
    return ROOT + "/incoming"


def env_file(name: str) -> str:
    """File with the environment of a site's application."""
    return "{}/{}.env.json".format(ETC, name)


def logs(name: str) -> str:
    """Folder of a site's logs."""
    return "{}/{}".format(LOG, name)


def certificate(domain: str) -> str:
    """Path of a domain's certificate and of its private key, without .crt or .key."""
    return "{}/tls/{}".format(ETC, domain.lower().replace("*", "_"))
