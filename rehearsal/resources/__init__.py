"""The resource types that a rehearsal has, and nothing else."""

from rehearsal.resources.address import EipAddress, EipAssociation
from rehearsal.resources.base import Context, Foreseen, Resource
from rehearsal.resources.command import CopyToRemote, LocalCommand, RemoteCommand
from rehearsal.resources.disk import EcsDisk, EcsDiskAttachment
from rehearsal.resources.machine import EcsKeyPair, Instance
from rehearsal.resources.network import Network, SecurityGroup, SecurityGroupRule, Switch

TYPES: dict[str, Resource] = {
    "alicloud:vpc/network:Network": Network(),
    "alicloud:vpc/switch:Switch": Switch(),
    "alicloud:ecs/securityGroup:SecurityGroup": SecurityGroup(),
    "alicloud:ecs/securityGroupRule:SecurityGroupRule": SecurityGroupRule(),
    "alicloud:ecs/ecsKeyPair:EcsKeyPair": EcsKeyPair(),
    "alicloud:ecs/instance:Instance": Instance(),
    "alicloud:ecs/eipAddress:EipAddress": EipAddress(),
    "alicloud:ecs/eipAssociation:EipAssociation": EipAssociation(),
    "alicloud:ecs/ecsDisk:EcsDisk": EcsDisk(),
    "alicloud:ecs/ecsDiskAttachment:EcsDiskAttachment": EcsDiskAttachment(),
    "command:remote:Command": RemoteCommand(),
    "command:remote:CopyToRemote": CopyToRemote(),
    "command:local:Command": LocalCommand(),
}

__all__ = ["TYPES", "Context", "Foreseen", "Resource"]
