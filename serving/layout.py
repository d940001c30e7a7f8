"""Where things are on a server, and the placeholders that only a running machine can fill.

/srv/wsgi-ecs/app/releases/<id>/   a release as it was sent: app/, config/, tool/  (root:wsgi, not writable)
/srv/wsgi-ecs/app/slots/a, slots/b its configs filled in; one slot serves, the other starts the next release
/srv/wsgi-ecs/app/current          link to the slot that serves: the one switch
/srv/wsgi-ecs/venvs/<hash>/        virtual environments (wsgi-build)
/etc/wsgi-ecs/app.env.json         environment of the application (root:wsgi-app 0640)
/run/wsgi-ecs/app-<slot>.sock      sockets (wsgi-app:wsgi 0660)
/var/log/wsgi-ecs/app-<slot>.log   what the application prints
"""

from collections.abc import Mapping, Sequence

ROOT = "/srv/wsgi-ecs"
SITE = "app"
SITE_ROOT = f"{ROOT}/{SITE}"
ETC = "/etc/wsgi-ecs"
ENV_FILE = f"{ETC}/{SITE}.env.json"
RUN = "/run/wsgi-ecs"
LOG = "/var/log/wsgi-ecs"
INCOMING = f"{ROOT}/incoming"
MARKER = "/var/lib/wsgi-ecs/bootstrapped"

APP_USER = "wsgi-app"
BUILD_USER = "wsgi-build"
BUILD_HOME = "/var/lib/wsgi-build"
# nginx, the application and the build user share this group: it may read code and use sockets.
SHARED_GROUP = "wsgi"

# Facts of the running machine, written @@fact@@ in a config and filled in by machine/release.py.
FACTS = ("slot", "release", "release_dir", "slot_dir", "venv", "cpus", "somaxconn", "stats_port", "app_port")

BOOTSTRAP = "bootstrap"
BOOTSTRAP_FACTS = {
    "slot": "a",
    "release": BOOTSTRAP,
    "release_dir": f"{SITE_ROOT}/releases/{BOOTSTRAP}",
    "slot_dir": f"{SITE_ROOT}/slots/a",
    "venv": f"{ROOT}/venvs/{BOOTSTRAP}",
    "cpus": "1",
    "somaxconn": "100",
}


def with_env(command: Sequence[str], log: str = "-") -> list[str]:
    """A command that gets the application's environment from its file, and from nowhere else.

    log: file that it writes what it prints into, `-` when the process manager does.
    """
    return ["/usr/bin/python3", "@@release_dir@@/tool/with_env.py", ENV_FILE, log, *command]


def fill(text: str, facts: Mapping[str, str]) -> str:
    """Replace every @@fact@@. Raises ValueError when one is left."""
    for name, value in facts.items():
        text = text.replace(f"@@{name}@@", value)
    if "@@" in text:
        raise ValueError(f"no fact fills {text[text.index('@@') :].splitlines()[0]}")
    return text
