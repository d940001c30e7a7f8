"""The engines that the cloud runs for the applications: RDS and Tair."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import pulumi

from components.managed_mysql import ManagedMysql, ManagedMysqlArgs
from components.managed_redis import ManagedRedis, ManagedRedisArgs
from components.network import Network
from settings import StackSettings


class Managed(NamedTuple):
    """What the stack has of them, None for what it does not have."""

    mysql: ManagedMysql | None
    redis: ManagedRedis | None

    @property
    def all(self) -> tuple[ManagedMysql | ManagedRedis, ...]:
        """Those that the stack has."""
        return tuple(engine for engine in self if engine)


def make(
    name: str,
    stack: StackSettings,
    network: Network,
    redis_zone: str | None,
    cidrs: Sequence[str],
    tags: Mapping[str, str],
    opts: pulumi.ResourceOptions,
) -> Managed:
    """Make what the settings name. redis_zone: of the standby of Redis, None without one. cidrs: of all servers."""
    zone, vswitch_id = network.zone, network.vswitch_id
    mysql = redis = None
    if stack.managed:
        # A database without a standby may be in a stack that has something else in a second zone.
        standby = network.standby if stack.managed.high_availability else None
        mysql = ManagedMysql(name, ManagedMysqlArgs(stack.managed, zone, vswitch_id, standby, cidrs, tags), opts)
    if stack.managed_redis:
        redis = ManagedRedis(
            name, ManagedRedisArgs(stack.managed_redis, zone, vswitch_id, redis_zone, cidrs, tags), opts
        )
    return Managed(mysql, redis)
