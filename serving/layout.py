"""Where things are on a server, and the placeholders that only a running machine can fill.

/srv/wsgi-ecs/host/a, b, current          what the sites share: nginx.conf; one serves
/srv/wsgi-ecs/sites/<site>/releases/<id>/ a release as it was sent: app/, config/, tool/  (not writable by the site)
/srv/wsgi-ecs/sites/<site>/slots/a, b     its configs filled in; one slot serves, the other starts the next release
/srv/wsgi-ecs/sites/<site>/current        link to the slot that serves: the one switch
/srv/wsgi-ecs/venvs/<hash>/               virtual environments (wsgi-build)
/etc/wsgi-ecs/tls/<domain>.crt, .key      certificates (0644) and their private keys (root 0600)
/var/lib/wsgi-acme/                       what the ACME client sees: account key, challenges (wsgi-acme)
/etc/wsgi-ecs/<site>.env.json             environment of the application (root:<group> 0640)
/run/wsgi-ecs/<site>/<slot>.sock          sockets (<user>:<web group> 0660)
/var/log/wsgi-ecs/<site>/<slot>.log       what the application prints
/var/log/wsgi-ecs/<site>/access.log       nginx's, as error.log is
/var/cache/nginx/<site>/                  answers that nginx keeps
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from settings import Settings
from settings.models import BUILTIN

ROOT = "/srv/wsgi-ecs"
SITES = f"{ROOT}/sites"
HOST = f"{ROOT}/host"
ETC = "/etc/wsgi-ecs"
TLS = f"{ETC}/tls"
ACME = "/var/lib/wsgi-acme"
RUN = "/run/wsgi-ecs"
LOG = "/var/log/wsgi-ecs"
CACHE = "/var/cache/nginx"
INCOMING = f"{ROOT}/incoming"
MARKER = "/var/lib/wsgi-ecs/bootstrapped"

BUILD_USER = "wsgi-build"
BUILD_HOME = "/var/lib/wsgi-build"


@dataclass(frozen=True)
class Place:
    """A site's own names on its server, with placeholders of FACTS.

    user: that it runs as. group: may read its environment. web_group: may read its code and use its
    sockets: the user, nginx, and who builds virtual environments.
    """

    name: str
    user: str
    group: str
    web_group: str

    @property
    def root(self) -> str:
        return f"{SITES}/{self.name}"

    @property
    def env_file(self) -> str:
        return f"{ETC}/{self.name}.env.json"

    @property
    def run(self) -> str:
        return f"{RUN}/{self.name}"

    @property
    def socket(self) -> str:
        return f"{self.run}/@@slot@@.sock"

    @property
    def pidfile(self) -> str:
        return f"{self.run}/@@slot@@.pid"

    @property
    def logs(self) -> str:
        return f"{LOG}/{self.name}"

    @property
    def access_log(self) -> str:
        return f"{self.logs}/access.log"

    @property
    def error_log(self) -> str:
        return f"{self.logs}/error.log"

    @property
    def cache(self) -> str:
        return f"{CACHE}/{self.name}"

    @property
    def log(self) -> str:
        return f"{self.logs}/@@slot@@.log"


def place(settings: Settings) -> Place:
    """Where the site of these settings is."""
    return Place(settings.site.name, settings.user, group=settings.owner, web_group=f"{settings.owner}-web")


def app_servers(settings: Settings) -> list[str]:
    """Names of the machines that run the application apart from nginx."""
    return [f"app-{number}" for number in range(1, settings.topology.app_servers + 1)]


def health(settings: Settings) -> str:
    """URL path of a site's probe, perhaps with a query."""
    return settings.site.location.rstrip("/") + settings.app.health


# Facts of the running machine, written @@fact@@ in a config and filled in by machine/release.py.
FACTS = (
    "slot",
    "release",
    "release_dir",
    "slot_dir",
    "venv",
    "cpus",
    "workers",
    "somaxconn",
    "stats_port",
    "app_host",
    "app_port",
)

BOOTSTRAP = "bootstrap"
BOOTSTRAP_FACTS = {
    "slot": "a",
    "release": BOOTSTRAP,
    "release_dir": f"{SITES}/{BUILTIN}/releases/{BOOTSTRAP}",
    "slot_dir": f"{SITES}/{BUILTIN}/slots/a",
    "venv": f"{ROOT}/venvs/{BOOTSTRAP}",
    "cpus": "1",
    "workers": "3",
    "somaxconn": "100",
}


def with_env(place: Place, command: Sequence[str], log: str = "-") -> list[str]:
    """A command that gets the application's environment from its file, and from nowhere else.

    log: file that it writes what it prints into, `-` when the process manager does.
    """
    return ["/usr/bin/python3", "@@release_dir@@/tool/with_env.py", place.env_file, log, *command]


def certificate(domain: str) -> str:
    """Path of a domain's certificate and of its private key, without .crt or .key."""
    return f"{TLS}/{domain.lower().replace('*', '_')}"


def fill(text: str, facts: Mapping[str, str]) -> str:
    """Replace every @@fact@@. Raises ValueError when one is left."""
    for name, value in facts.items():
        text = text.replace(f"@@{name}@@", value)
    if "@@" in text:
        raise ValueError(f"no fact fills {text[text.index('@@') :].splitlines()[0]}")
    return text
