"""Tair (Redis OSS-compatible), formerly ApsaraDB for Redis, in place of Redis on a server of the stack's own.

https://www.alibabacloud.com/help/en/redis/ has the rules of versions, classes and passwords.
"""

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

from pydantic import AfterValidator

from kinds import managed
from schema import text
from schema.base import Rule

if TYPE_CHECKING:
    from kinds.redis import Redis

# The other architectures have several shards or read-only nodes, or no second node.
InstanceClass = Annotated[
    str,
    AfterValidator(
        text.matching(
            r"redis\.(?:master|shard(?!\.with))\.[a-z0-9]{1,20}\.[a-z0-9.]{1,40}",
            "an instance class of Tair's standard architecture such as redis.shard.small.ce",
        )
    ),
]
# Tair answers on this port.
PORT = 6379
# What the names of the application's accounts begin with.
USER = "app"
# What Tair takes and what means nothing in a URL.
_PASSWORDS = "16 to 32 letters, digits and - _, of three kinds: A-Z, a-z, 0-9, and - or _"
# What only Redis of the stack's own has → what is allowed in its place.
_OWN = {
    "own_server": "redis.managed alone",
    "instance_type": "redis.instance_class",
    "maxmemory": "redis.instance_class, which decides it",
    "persistence": "redis.managed alone, because Tair always keeps its data",
}
# What only Tair has.
_MANAGED = ("engine_version", "instance_class", "high_availability", "protect")


def rules(redis: "Redis") -> Iterator[Rule]:
    """Yield the rules of a Redis that may be Tair. A rule's key is one of the section."""
    yield from managed.rules(redis, "Redis is on a server of the stack's own", _OWN, _MANAGED)
    if not redis.managed:
        return
    yield "port", redis.port != PORT, "Tair answers on another port", f"{PORT}, or none"
    secret = redis.secret
    set_by = "set by pulumi config set --path --secret 'wsgi-ecs:redis.password'"
    yield "password", not secret, "required with redis.managed", f"{_PASSWORDS}, {set_by}"
    is_plain = re.fullmatch(r"[A-Za-z0-9_-]{16,32}", secret) is not None
    yield "password", not (is_plain and managed.is_allowed(secret)), "Tair refuses it", _PASSWORDS
