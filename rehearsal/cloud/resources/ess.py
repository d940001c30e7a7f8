"""Auto Scaling (ESS): a group of machines, by which configuration they are made, and their replacement.

Schemas: https://github.com/aliyun/terraform-provider-alicloud, alicloud/resource_alicloud_ess_*.go (ForceNew).
"""

from collections.abc import Mapping
from typing import Any

from rehearsal.cloud import group_bridge, haproxy
from rehearsal.cloud.context import CloudContext
from rehearsal.cloud.instance_types import SIZES, size
from rehearsal.cloud.scaling import POLICIES, SYSTEM, Group, groups
from rehearsal.engine.compare import Schema
from rehearsal.engine.errors import RehearsalError
from rehearsal.engine.resource import Resource, only
from rehearsal.engine.state import Record

# What the cloud takes for percentages that are not set: docs of StartInstanceRefresh.
_MOST = 120


def _needs(inputs: Mapping[str, Any], what: str, *keys: str) -> None:
    for key in keys:
        if not inputs.get(key):
            raise RehearsalError(f"{what} without {key} is not rehearsed")


class ScalingGroup(Resource[CloudContext]):
    """Nothing by itself: its machines are made when it has a configuration, which enables it."""

    prefix = "asg-"
    schema = Schema(
        words={"vswitchIds": "a new network"},
        replaces=frozenset({"scalingGroupName", "multiAzPolicy", "groupType", "instanceId", "containerGroupId"}),
        updates=dict.fromkeys(("minSize", "maxSize", "vswitchIds", "removalPolicies", "albServerGroups", "tags"), ""),
        recorded=frozenset(
            {
                "defaultCooldown", "healthCheckType", "healthCheckTypes", "scalingPolicy", "resourceGroupId",
                "onDemandBaseCapacity", "onDemandPercentageAboveBaseCapacity", "spotInstancePools",
                "spotInstanceRemedy", "compensateWithOnDemand", "azBalance", "allocationStrategy",
                "spotAllocationStrategy", "capacityOptionsOnDemandBaseCapacity",
                "capacityOptionsOnDemandPercentageAboveBaseCapacity", "balanceMode", "autoRebalance",
                "stopInstanceTimeout", "maxInstanceLifetime", "groupDeletionProtection",
            }
        ),
    )  # fmt: skip

    def check(self, inputs: Mapping[str, Any]) -> None:
        _needs(inputs, "a scaling group", "vswitchIds", "albServerGroups")
        if "desiredCapacity" in inputs:
            raise RehearsalError("a scaling group with desired_capacity is not rehearsed: it would undo all scaling")
        if not 0 <= inputs["minSize"] <= inputs["maxSize"]:
            raise RehearsalError(f"min_size {inputs['minSize']} is above max_size {inputs['maxSize']}")
        for policy in inputs.get("removalPolicies") or ():
            only({"removalPolicies": policy}, "removalPolicies", *POLICIES)

    def drift(self, context: CloudContext, record: Record) -> str:
        group = Group(context, record.id)
        running = sum(member.is_whole and member.runs for member in group.members)
        if not group.configurations or running == group.desired:
            return ""
        return f"{running} of its {group.desired} machines run, and the others are made"

    def repair(self, context: CloudContext, record: Record) -> None:
        Group(context, record.id).settle()

    def updated(self, context: CloudContext) -> None:
        for group in groups(context):
            group.settle()
        haproxy.write_all(context)

    def delete(self, context: CloudContext, record: Record) -> None:
        _remove_all(context, record.id)


class ScalingConfiguration(Resource[CloudContext]):
    """The newest one of a group makes its machines, and is the one that is active."""

    prefix = "asc-"
    schema = Schema(
        words={"replacement_trigger": "changed user data"},
        replaces=frozenset({"scalingGroupId", "securityEnhancementStrategy", "password", "kmsEncryptedPassword"}),
        updates={
            **dict.fromkeys(("userData", "imageId", "instanceTypes", "securityGroupIds", "keyName"), ""),
            **dict.fromkeys(("active", "enable", "forceDelete", "scalingConfigurationName", "tags"), ""),
        },
        recorded=frozenset(
            {
                "systemDiskCategory", "systemDiskSize", "systemDiskEncrypted", "systemDiskName",
                "systemDiskPerformanceLevel", "systemDiskDescription", "spotStrategy", "spotDuration",
                "spotPriceLimits", "internetMaxBandwidthIn", "internetMaxBandwidthOut", "internetChargeType",
                "instanceName", "instanceDescription", "hostName", "httpTokens", "httpEndpoint",
                "creditSpecification", "resourceGroupId",
            }
        ),
    )  # fmt: skip

    def check(self, inputs: Mapping[str, Any]) -> None:
        _needs(inputs, "a scaling configuration", "imageId", "instanceTypes", "active", "enable")
        only(inputs, "internetMaxBandwidthOut", 0)
        security_groups = inputs.get("securityGroupIds") or []
        if len(security_groups) != 1:
            raise RehearsalError(
                f"a scaling configuration with {len(security_groups)} security groups is not rehearsed; allowed: one"
            )
        if not any(name in SIZES for name in inputs["instanceTypes"]):
            size(inputs["instanceTypes"][0])

    def create(self, context: CloudContext, record: Record, inputs: Mapping[str, Any]) -> dict[str, Any]:
        Group(context, inputs["scalingGroupId"]).settle()
        return self._outputs(context, inputs)

    def _outputs(self, context: CloudContext, inputs: Mapping[str, Any]) -> dict[str, Any]:
        # Machines are made later, too, by runs that prepare no image.
        return {SYSTEM: context.images[inputs["imageId"]].name}

    def update(
        self, context: CloudContext, record: Record, inputs: Mapping[str, Any], keys: tuple[str, ...]
    ) -> dict[str, Any]:
        return self._outputs(context, inputs) if "imageId" in keys else record.outputs

    def delete(self, context: CloudContext, record: Record) -> None:
        id_ = record.inputs["scalingGroupId"]
        if any(other.serial != record.serial for other in Group(context, id_).configurations):
            # The machines that it has made stay.
            return
        if not record.inputs.get("forceDelete"):
            raise RehearsalError("the last configuration of a scaling group is not deleted without force_delete")
        _remove_all(context, id_)
        group_bridge.leave(context, record)


def _remove_all(context: CloudContext, id_: str) -> None:
    """Delete the machines of a group. Their requests end before, because another group may have replaced this one."""
    group = Group(context, id_)
    group.take(group.members)


class ScalingRule(Resource[CloudContext]):
    """Is recorded: no rehearsal scales by the load."""

    prefix = "asr-"
    schema = Schema(
        replaces=frozenset({"scalingGroupId", "scalingRuleType", "alarmDimension"}),
        updates=dict.fromkeys(
            (
                "metricName", "targetValue", "estimatedInstanceWarmup", "scalingRuleName", "disableScaleIn", "cooldown",
                "scaleInEvaluationCount", "scaleOutEvaluationCount",
            ),
            "",
        ),
    )  # fmt: skip

    def check(self, inputs: Mapping[str, Any]) -> None:
        only(inputs, "scalingRuleType", "TargetTrackingScalingRule")


class LifecycleHook(Resource[CloudContext]):
    """Is recorded: a member joins when the load balancer finds it healthy, and leaves when its requests have ended."""

    prefix = "ash-"
    schema = Schema(
        replaces=frozenset({"scalingGroupId", "name"}),
        updates=dict.fromkeys(("lifecycleTransition", "heartbeatTimeout", "defaultResult"), ""),
    )

    def check(self, inputs: Mapping[str, Any]) -> None:
        only(inputs, "lifecycleTransition", "SCALE_OUT", "SCALE_IN")
        only(inputs, "defaultResult", "CONTINUE")


class InstanceRefresh(Resource[CloudContext]):
    """Replaces the machines of a group, and waits for it. In the cloud it only begins, and nothing tells its end."""

    prefix = "ir-"
    schema = Schema(
        words={"replacement_trigger": "a new configuration"},
        replaces=frozenset(
            {
                "scalingGroupId", "minHealthyPercentage", "maxHealthyPercentage", "skipMatching", "checkpoints",
                "checkpointPauseTime", "desiredConfigurationImageId",
            }
        ),
        updates={"status": ""},
    )  # fmt: skip

    def check(self, inputs: Mapping[str, Any]) -> None:
        for key in ("checkpoints", "desiredConfigurationImageId"):
            if inputs.get(key):
                raise RehearsalError(f"an instance refresh with {key} is not rehearsed")

    def create(self, context: CloudContext, record: Record, inputs: Mapping[str, Any]) -> dict[str, Any]:
        # The provider sends false where skip_matching is unset.
        skips = bool(inputs.get("skipMatching"))
        group = Group(context, inputs["scalingGroupId"])
        if not group.refresh(inputs.get("maxHealthyPercentage", _MOST), skips):
            # The provider tries for 5 minutes before it says so.
            raise RehearsalError("InvalidInstance.NoInstanceNeedBeRefreshed: no machine has another configuration")
        return {"status": "Successful"}
