"""Tair (Redis OSS-compatible): the instance, and the application's account.

instance ─ account      another account for another password, made before the release
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pulumi
import pulumi_alicloud as alicloud

from kinds.redis import Redis

# Tag of the instance that says which zone its standby is in: the provider's list of instances does not tell the zone.
STANDBY = "standby"
NO_STANDBY = "none"


@dataclass(frozen=True)
class ManagedRedisArgs:
    """zone, vswitch_id: of the primary. standby: zone of its standby, None for the same one.

    cidrs: the networks of the servers, which alone may connect.
    """

    redis: Redis
    zone: pulumi.Input[str]
    vswitch_id: pulumi.Input[str]
    standby: str | None
    cidrs: Sequence[str]
    tags: Mapping[str, str]


class ManagedRedis(pulumi.ComponentResource):
    """instance_id: of Tair. host: the name by which the applications reach it, whichever zone it is in.

    ready: what is there before a release. found: what only the cloud knows of the applications' environment.
    """

    instance_id: pulumi.Output[str]
    host: pulumi.Output[str]
    ready: list[pulumi.Resource]
    found: dict[str, pulumi.Output[str]]

    def __init__(self, name: str, args: ManagedRedisArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("wsgi:managed_redis:ManagedRedis", name, None, opts)
        redis = args.redis
        instance = self._instance(name, args)
        self.instance_id, self.host = instance.id, instance.connection_domain
        account = alicloud.kvstore.Account(
            f"{name}-redis-account-{redis.account}",
            instance_id=instance.id,
            account_name=redis.account,
            account_password=pulumi.Output.secret(redis.secret),
            account_type="Normal",
            account_privilege="RoleReadWrite",
            opts=pulumi.ResourceOptions(parent=self),
        )
        self.ready = [account]
        self.found = {redis.variable: self.host.apply(redis.url)}
        self.register_outputs({"host": self.host})

    def _instance(self, name: str, args: ManagedRedisArgs) -> alicloud.kvstore.Instance:
        redis = args.redis
        return alicloud.kvstore.Instance(
            f"{name}-redis",
            db_instance_name=name,
            instance_type="Redis",
            instance_class=redis.tair_class,
            engine_version=redis.engine_version,
            payment_type="PostPaid",
            zone_id=args.zone,
            secondary_zone_id=args.standby,
            vswitch_id=args.vswitch_id,
            security_ips=list(args.cidrs),
            # Of the account that Tair makes itself, which nobody uses: a new password locks nobody out.
            password=pulumi.Output.secret(redis.secret),
            # Tair's own choice would evict jobs from a full memory.
            config={"maxmemory-policy": redis.maxmemory_policy},
            tags={**args.tags, STANDBY: args.standby or NO_STANDBY},
            opts=pulumi.ResourceOptions(
                parent=self,
                protect=redis.protect,
                # Each of them would move the instance: the standby may have become the primary, and the zones are
                # looked up at each run.
                ignore_changes=["zone_id", "secondary_zone_id", "vswitch_id"],
            ),
        )
