"""The engines that the cloud runs for the applications: RDS and Tair."""

from collections.abc import Mapping
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
    tags: Mapping[str, str],
    opts: pulumi.ResourceOptions,
) -> Managed:
    """Make what the settings name. redis_zone: of the standby of Redis, None without one."""
    zone, vswitch_id, cidr = network.zone, network.vswitch_id, stack.network.cidr
    mysql = redis = None
    if stack.managed:
        mysql = ManagedMysql(name, ManagedMysqlArgs(stack.managed, zone, vswitch_id, network.standby, cidr, tags), opts)
    if stack.managed_redis:
        redis = ManagedRedis(
            name, ManagedRedisArgs(stack.managed_redis, zone, vswitch_id, redis_zone, cidr, tags), opts
        )
    return Managed(mysql, redis)
