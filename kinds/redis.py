"""Redis for the sites' jobs and caches: on the server that runs the application, on a server of its own, or Tair.

kinds/managed_redis.py has the rules of Tair.
"""

import re
from collections.abc import Iterable, Iterator
from typing import Annotated, ClassVar, Literal, Self

from pydantic import AfterValidator, Field, SecretStr, model_validator

from contract import paths
from contract.resources import REDIS_MACHINE
from contract.service_documents import Redis as Document
from kinds import managed, managed_redis
from kinds.service import Service, Surroundings
from kinds.systems import System
from schema import sql, text
from schema.base import AppPort, Rule, check_rules
from templates import render

# How the data survive the end of Redis: what redis.conf says of it.
_PERSISTENCE = {
    "aof": {"save": "", "appendonly": "yes"},
    "rdb": {"save": "60 1", "appendonly": "no"},
    "none": {"save": "", "appendonly": "no"},
}
# Characters that mean nothing in a URL, in redis.conf and in a command of Redis.
_ALLOWED = "16 to 256 letters, digits and - . _ ~"


def _password(value: SecretStr) -> SecretStr:
    if not re.fullmatch(r"[A-Za-z0-9._~-]{16,256}", value.get_secret_value()):
        raise ValueError(f"allowed: {_ALLOWED}")
    return value


class Redis(Service):
    """https://redis.io/docs/latest/operate/oss_and_stack/management/config/ for what has a directive's name.

    A stack has it when its section is there, even an empty one.
    """

    key: ClassVar[str] = "redis"
    machine: ClassVar[str] = REDIS_MACHINE
    verb: ClassVar[str] = "redis"
    # What the application finds in its environment.
    variable: ClassVar[str] = "REDIS_URL"

    own_server: bool | None = Field(
        None,
        description="Whether Redis has a server of its own; none: only if topology.app_servers is 1 or more, or with "
        "topology.scaling.",
    )
    password: Annotated[SecretStr, AfterValidator(_password)] | None = Field(
        None,
        description="Password of Redis on a server of its own, or of Tair. Required there, and a secret. "
        "Redis on the application's server makes its own.",
    )
    instance_type: text.InstanceType | None = Field(
        None, description="ECS instance type of the server of its own; none: server.instance_type."
    )
    port: AppPort = Field(6379, description="Port of Redis; only the application's servers reach it.")
    persistence: Literal["aof", "rdb", "none"] = Field(
        "aof",
        description="What a restart keeps: aof all but the last second, rdb all but the last minute, none nothing.",
    )
    maxmemory: Literal["auto"] | sql.BytesSize = Field(
        "auto", description="Memory for data; auto: a quarter of the machine's, and half on a server of its own."
    )
    maxmemory_policy: Literal["noeviction", "allkeys-lru", "allkeys-random", "volatile-lru", "volatile-ttl"] = Field(
        "noeviction",
        description="What happens when the memory is full: noeviction refuses writes, so that no job is lost.",
    )
    managed: bool = Field(
        False,
        description="Use Tair, Alibaba Cloud's Redis, in place of a server of the stack's own (docs/redis.md).",
    )
    engine_version: Literal["5.0", "6.0", "7.0"] = Field(
        "7.0", description="Version of Redis in Tair. A higher one upgrades it, which interrupts it for seconds."
    )
    instance_class: managed_redis.InstanceClass | None = Field(
        None,
        description="Instance class of Tair, which decides its memory; none: redis.shard.small.ce, which has 1 GB. "
        "A change interrupts Redis for seconds.",
    )
    high_availability: bool = Field(
        True,
        description="Whether the standby of Tair is in a second zone; without it, both nodes are in one zone. It is "
        "decided when Tair is made.",
    )
    protect: bool = Field(False, description="Refuse to delete or replace Tair.")

    @model_validator(mode="after")
    def _managed(self) -> Self:
        check_rules(managed_redis.rules(self))
        return self

    @property
    def is_managed(self) -> bool:
        return self.managed

    def is_beside(self, is_apart: bool) -> bool:
        """Whether it is on the application's server. is_apart: the application runs on other servers than nginx."""
        has_own = is_apart if self.own_server is None else self.own_server
        return not self.managed and not has_own

    def rules(self, ports: Iterable[tuple[str, int]], is_apart: bool) -> Iterator[Rule]:
        """Yield the rules between Redis and the machines. ports: setting and number of each port of the sites."""
        is_beside = self.is_beside(is_apart)
        own = "redis.own_server: true"
        yield (
            "redis.own_server",
            is_apart and is_beside,
            "the application has servers of its own, which all need the same Redis",
            "true, or none",
        )
        yield (
            "redis.password",
            not is_beside and not self.password,
            "required for a Redis on a server of its own",
            f"{_ALLOWED}, set by pulumi config set --path --secret 'wsgi-ecs:redis.password'",
        )
        for key in ("password", "instance_type"):
            yield (
                f"redis.{key}",
                getattr(self, key) is not None and is_beside,
                "set, but Redis is on the application's server",
                own,
            )
        for key, number in ports if is_beside else ():
            yield "redis.port", number == self.port, f"port {number} is taken by {key}", "another port"

    @property
    def secret(self) -> str:
        """The password as text."""
        return self.password.get_secret_value() if self.password else ""

    @property
    def account(self) -> str:
        """The application's account in Tair."""
        return managed.account(managed_redis.USER, self.secret)

    @property
    def tair_class(self) -> str:
        """The instance class of Tair."""
        return self.instance_class or "redis.shard.small.ce"

    def url(self, host: str) -> str:
        """Where the applications reach it on a host."""
        # Tair takes account:password for a password, and a colon of a URL stands for itself as %3A alone.
        login = f"{self.account}%3A{self.secret}" if self.managed else self.secret
        return f"redis://:{login}@{host}:{self.port}/0"

    @property
    def env(self) -> dict[str, SecretStr]:
        # Only the cloud knows the name of Tair: components/managed_redis.py says it.
        return {self.variable: SecretStr(self.url("" if self.managed else self.machine))}

    @property
    def secrets(self) -> dict[str, SecretStr]:
        return {"password": self.password or SecretStr("")}

    def packages(self, system: System) -> tuple[str, ...]:
        return system.redis_packages

    def os_unit(self, system: System) -> str:
        return system.redis_service

    def document(self, around: Surroundings) -> Document:
        return self._document(around, "0.0.0.0", "half_memory")._replace(generation=around.generation)  # noqa: S104

    def beside(self, around: Surroundings) -> Document:
        """Return what the release tool needs to know of a Redis on the application's server."""
        return self._document(around, "127.0.0.1", "quarter_memory")

    def _document(self, around: Surroundings, bind: str, memory: str) -> Document:
        return Document(
            packages=around.packages,
            os_service=self.os_unit(around.system),
            unit=render("templates/systemd/redis.service.j2", config=paths.REDIS_CONFIG),
            directives={
                "bind": bind,
                "port": str(self.port),
                "protected-mode": "yes",
                "daemonize": "no",
                "dir": paths.REDIS_DATA,
                "maxmemory": f"@@{memory}@@mb" if self.maxmemory == "auto" else f"{self.maxmemory.lower()}b",
                "maxmemory-policy": self.maxmemory_policy,
                **_PERSISTENCE[self.persistence],
            },
            instance_type=around.instance_type,
        )
