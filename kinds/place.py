"""A site's own names on its server, and the facts of a server that has no release yet."""

from collections.abc import Sequence
from dataclasses import dataclass

from contract import paths


@dataclass(frozen=True)
class Place:
    """Where a site is, with placeholders of contract.placeholders.FACTS.

    user: that it runs as. group: may read its environment. web_group: may read its code and use its
    sockets: the user, nginx, and the user that builds virtual environments.
    """

    name: str
    user: str
    group: str
    web_group: str

    @property
    def root(self) -> str:
        return paths.site_root(self.name)

    @property
    def env_file(self) -> str:
        return paths.env_file(self.name)

    @property
    def data(self) -> str:
        return paths.data(self.name)

    @property
    def run(self) -> str:
        return f"{paths.RUN}/{self.name}"

    @property
    def socket(self) -> str:
        return f"{self.run}/@@slot@@.sock"

    @property
    def pidfile(self) -> str:
        return f"{self.run}/@@slot@@.pid"

    @property
    def stats(self) -> str:
        return paths.stats(self.name, "@@slot@@")

    @property
    def logs(self) -> str:
        return paths.logs(self.name)

    @property
    def access_log(self) -> str:
        return f"{self.logs}/access.log"

    @property
    def error_log(self) -> str:
        return f"{self.logs}/error.log"

    @property
    def cache(self) -> str:
        return f"{paths.CACHE}/{self.name}"

    @property
    def log(self) -> str:
        return f"{self.logs}/@@slot@@.log"

    def with_env(self, command: Sequence[str], log: str = "-") -> list[str]:
        """Return a command that gets the application's environment from its file, and from nowhere else.

        log: file that it writes what it prints into, `-` when the process manager does.
        """
        return ["/usr/bin/python3", "@@release_dir@@/tool/with_env.py", self.env_file, log, *command]


BOOTSTRAP_FACTS = {
    "slot": "a",
    "release": paths.BOOTSTRAP,
    "release_dir": f"{paths.site_root(paths.BUILTIN)}/releases/{paths.BOOTSTRAP}",
    "slot_dir": f"{paths.site_root(paths.BUILTIN)}/slots/a",
    "venv": f"{paths.venvs()}/{paths.BOOTSTRAP}",
    "cpus": "1",
    "workers": "3",
    "somaxconn": "100",
    "address": "localhost",
}
