"""Servers that come and go: a scaling group over two zones, what its members are made of, and when there are more.

listeners, roll-out ─▶ group ─┬─ hooks: before a member joins the balancer, and after it has left
                              └─ configuration ─┬─ rule: how busy the members are
                                                └─ joined: enough members serve

Another version of the members is another group. It is made first and fills up, and the one before it is deleted last:
the instance refresh of Auto Scaling knows neither zones that are filled evenly nor spot instances, and begins as soon
as it is registered. https://www.alibabacloud.com/help/en/auto-scaling/developer-reference/api-startinstancerefresh
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pulumi
import pulumi_alicloud as alicloud
import pulumi_command as command

from components.login import Login
from contract import paths
from settings import StackSettings
from settings.scaling import Scaling

# Seconds after a change of the group in which its rule makes no other one.
_COOLDOWN = 60
# Seconds that a hook waits at least, and characters of a group's name.
_SHORTEST, _NAME = 30, 64
# Mbit/s, which a member without a public address does not use.
_INTERNET = 200


@dataclass(frozen=True)
class MembersArgs:
    """What the members are.

    version: another one is another group. user_data: cloud-init's, without a secret. vswitch_ids: of two zones.
    ports: id of each site's servers behind the balancer → the port that its requests reach on a member. login: to the
    release host. after: what must be there before the first member, and as long as the last one.
    """

    stack: StackSettings
    scaling: Scaling
    version: str
    image_id: str
    user_data: pulumi.Input[str]
    key_name: pulumi.Input[str]
    vswitch_ids: Sequence[pulumi.Input[str]]
    security_group_id: pulumi.Input[str]
    ports: Sequence[tuple[pulumi.Input[str], int]]
    login: Login
    tags: Mapping[str, str]
    after: Sequence[pulumi.Resource]


class Members(pulumi.ComponentResource):
    """group_id: of the scaling group."""

    group_id: pulumi.Output[str]

    def __init__(self, name: str, args: MembersArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("wsgi:scaling:Members", name, None, opts)
        group = self._group(name, args)
        self.group_id = group.id
        # The balancer would ask a member that is still installed, and Auto Scaling would replace it.
        hooks = [self._hook(f"{name}-joins", group, "SCALE_OUT", args.scaling.warmup_seconds)]
        # A member that has left the balancer ends its requests.
        hooks.append(self._hook(f"{name}-leaves", group, "SCALE_IN", args.stack.topology.alb.drain_seconds))
        configuration = self._configuration(name, args, group, hooks)
        rule = alicloud.ess.ScalingRule(
            f"{name}-rule",
            scaling_group_id=group.id,
            scaling_rule_name=f"{name[: _NAME - 4]}-cpu",
            scaling_rule_type="TargetTrackingScalingRule",
            metric_name="CpuUtilization",
            target_value=args.scaling.cpu,
            estimated_instance_warmup=args.scaling.warmup_seconds,
            opts=pulumi.ResourceOptions(parent=self, depends_on=[configuration]),
        )
        self._joined(name, args, [configuration, rule])
        self.register_outputs({"group_id": self.group_id})

    def _group(self, name: str, args: MembersArgs) -> alicloud.ess.ScalingGroup:
        scaling = args.scaling
        spot: dict[str, Any] = {"multi_az_policy": "BALANCE"}
        if scaling.spot_percent:
            spot = {
                "multi_az_policy": "COMPOSABLE",
                "az_balance": True,
                "capacity_options_on_demand_base_capacity": scaling.min,
                "capacity_options_on_demand_percentage_above_base_capacity": 100 - scaling.spot_percent,
            }
        return alicloud.ess.ScalingGroup(
            f"{name}-scaling",
            # Two groups have different names, and both are there while one takes the place of the other.
            scaling_group_name=f"{name[: _NAME - 1 - len(args.version)]}-{args.version}",
            min_size=scaling.min,
            max_size=scaling.max,
            vswitch_ids=list(args.vswitch_ids),
            **spot,
            health_check_types=["ECS", "LOAD_BALANCER"],
            removal_policies=["OldestScalingConfiguration", "OldestInstance"],
            default_cooldown=_COOLDOWN,
            alb_server_groups=[{"alb_server_group_id": id, "port": port, "weight": 100} for id, port in args.ports],
            tags=args.tags,
            opts=pulumi.ResourceOptions(
                parent=self,
                # Without the listener, the group could not be enabled.
                depends_on=args.after,
                # A run would take back what the rule has done, or empty the group.
                ignore_changes=["desired_capacity"],
                replacement_trigger=args.version,
            ),
        )

    def _hook(
        self, name: str, group: alicloud.ess.ScalingGroup, transition: str, seconds: int
    ) -> alicloud.ess.LifecycleHook:
        return alicloud.ess.LifecycleHook(
            f"{name}-hook",
            # A name is one of its group.
            name=name.rpartition("-")[2],
            scaling_group_id=group.id,
            lifecycle_transition=transition,
            heartbeat_timeout=max(seconds, _SHORTEST),
            default_result="CONTINUE",
            opts=pulumi.ResourceOptions(parent=self),
        )

    def _configuration(
        self, name: str, args: MembersArgs, group: alicloud.ess.ScalingGroup, after: Sequence[pulumi.Resource]
    ) -> alicloud.ess.ScalingConfiguration:
        server = args.stack.server
        return alicloud.ess.ScalingConfiguration(
            f"{name}-configuration",
            scaling_configuration_name=f"{name[: _NAME - 1 - len(args.version)]}-{args.version}",
            scaling_group_id=group.id,
            # Members that are made later have the newest image: an old one is deleted one day.
            image_id=args.image_id,
            instance_types=list(args.scaling.types(server.instance_type)),
            instance_name=name,
            security_group_ids=[args.security_group_id],
            user_data=args.user_data,
            key_name=args.key_name,
            # These are named although some are what the cloud takes anyway: it reads them back, and one that is unset
            # would differ for ever or be another configuration.
            system_disk_category="cloud_essd",
            system_disk_size=server.disk_gib,
            spot_strategy="SpotAsPriceGo" if args.scaling.spot_percent else "NoSpot",
            security_enhancement_strategy="Deactive",
            internet_max_bandwidth_in=_INTERNET,
            # A member has no public address.
            internet_max_bandwidth_out=0,
            system_disk_encrypted=server.encrypted,
            active=True,
            enable=True,
            # The last configuration of a group cannot be deleted otherwise.
            force_delete=True,
            tags=args.tags,
            # The first member is made as soon as this is active.
            opts=pulumi.ResourceOptions(parent=self, depends_on=after),
        )

    def _joined(self, name: str, args: MembersArgs, after: Sequence[pulumi.Resource]) -> None:
        """Wait until enough members serve what is settled: until then, the group before this one stays."""
        tool = f"{paths.STORE}/{args.version}/tool/release.py"
        command.remote.Command(
            f"{name}-joined",
            connection=args.login.connection,
            create=f"exec /usr/bin/python3 -B {tool} joined {args.scaling.min} {args.scaling.warmup_seconds}",
            triggers=[self.group_id],
            add_previous_output_in_env=False,
            opts=pulumi.ResourceOptions(parent=self, depends_on=after),
        )
