"""Redis for the sites' jobs and caches, on the server that runs the application."""

from collections.abc import Iterable, Iterator
from typing import ClassVar, Literal

from pydantic import Field

from contract import paths
from contract.documents import Packages
from contract.documents import Redis as Document
from schema import sql
from schema.base import AppPort, Model, Rule
from templates import render

# How the data survive the end of Redis: what redis.conf says of it.
_PERSISTENCE = {
    "aof": {"save": "", "appendonly": "yes"},
    "rdb": {"save": "60 1", "appendonly": "no"},
    "none": {"save": "", "appendonly": "no"},
}


class Redis(Model):
    """https://redis.io/docs/latest/operate/oss_and_stack/management/config/ for what has a directive's name.

    A stack has it when its section is there, even an empty one.
    """

    key: ClassVar[str] = "redis"
    # What the application finds in its environment.
    variable: ClassVar[str] = "REDIS_URL"

    port: AppPort = Field(6379, description="Port of Redis, on the loopback address only.")
    persistence: Literal["aof", "rdb", "none"] = Field(
        "aof",
        description="What a restart keeps: aof all but the last second, rdb all but the last minute, none nothing.",
    )
    maxmemory: Literal["auto"] | sql.BytesSize = Field(
        "auto", description="Memory for data; auto: a quarter of the machine's."
    )
    maxmemory_policy: Literal["noeviction", "allkeys-lru", "allkeys-random", "volatile-lru", "volatile-ttl"] = Field(
        "noeviction",
        description="What happens when the memory is full: noeviction refuses writes, so that no job is lost.",
    )

    def rules(self, ports: Iterable[tuple[str, int]], is_apart: bool) -> Iterator[Rule]:
        """Yield the rules between Redis and the machines. ports: setting and number of each port of the sites."""
        yield (
            "redis",
            is_apart,
            "it runs on the server of the application, and there are several",
            "topology without it",
        )
        for key, number in ports:
            yield "redis.port", number == self.port, f"port {number} is taken by {key}", "another port"

    def document(self, instance_type: str, packages: Packages, os_service: str) -> Document:
        """Return what the release tool needs to know. os_service: the unit of systemd that comes with the packages."""
        return Document(
            packages=packages,
            os_service=os_service,
            unit=render("templates/systemd/redis.service.j2", config=paths.REDIS_CONFIG),
            directives={
                "bind": "127.0.0.1",
                "port": str(self.port),
                "protected-mode": "yes",
                "daemonize": "no",
                "dir": paths.REDIS_DATA,
                "maxmemory": "@@quarter_memory@@mb" if self.maxmemory == "auto" else f"{self.maxmemory.lower()}b",
                "maxmemory-policy": self.maxmemory_policy,
                **_PERSISTENCE[self.persistence],
            },
            instance_type=instance_type,
        )
