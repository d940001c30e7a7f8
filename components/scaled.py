"""What a fleet does for the members of a scaling group: their release, and the group behind the load balancer."""

from collections.abc import Sequence
from dataclasses import dataclass

import pulumi
import pulumi_alicloud as alicloud

from components.fleet_args import FleetArgs
from components.listeners import Listeners
from components.login import Login
from components.network import Network
from components.release import ReleaseArgs
from components.rollout import Rollout, RolloutArgs
from components.scaling import Members, MembersArgs
from components.shared_data import SharedData
from serving import Machine, bootstrap, store
from settings.scaling import Scaling


@dataclass(frozen=True)
class Scaled:
    """The members of a fleet. machine: what they have in common. parent: of the resources that are made for them."""

    name: str
    args: FleetArgs
    machine: Machine
    scaling: Scaling
    parent: pulumi.Resource

    @property
    def version(self) -> str:
        """What the members are made of."""
        stack = self.args.stack
        return store.version(bootstrap.version(self.machine.plan, stack), stack, self.scaling)

    def rollout(self, release: ReleaseArgs) -> Rollout:
        """Bring a release to the members, by way of the release host that it has the login of."""
        args = RolloutArgs(release, self.version, self.scaling.at_once)
        return Rollout(self.machine.named(self.name), args, pulumi.ResourceOptions(parent=self.parent))

    def members(
        self,
        network: Network,
        listeners: Listeners,
        shared: SharedData,
        key_pair: alicloud.ecs.EcsKeyPair,
        login: Login,
        after: Sequence[pulumi.Resource],
    ) -> Members:
        """Make the group. shared: with the store. login: to the release host. after: what the members take."""
        assert network.standby is not None  # noqa: S101  components/managed_lookup.py has found a second zone.
        stack = self.args.stack
        args = MembersArgs(
            stack=stack,
            scaling=self.scaling,
            version=self.version,
            image_id=self.args.image_id,
            user_data=user_data(self.args, self.machine, shared, self.version),
            key_name=key_pair.key_pair_name,
            vswitch_ids=[network.vswitch_id, network.standby[1]],
            security_group_id=network.group_ids[self.machine.group],
            ports=[(listeners.group_ids[site.site.name], site.nginx.listen) for site in stack.sites],
            login=login,
            tags=self.args.tags,
            after=[listeners, *after, *shared.all_ready],
        )
        return Members(self.machine.named(self.name), args, pulumi.ResourceOptions(parent=self.parent))


def of(name: str, args: FleetArgs, parent: pulumi.Resource) -> Scaled | None:
    """The members of a fleet, None for a fleet of fixed servers."""
    scaling = args.stack.topology.scaling
    return Scaled(name, args, args.members[0], scaling, parent) if scaling else None


def user_data(args: FleetArgs, machine: Machine, shared: SharedData | None, version: str = "") -> pulumi.Input[str]:
    """The user data of a machine, which may name the file system that it mounts. version: of members."""
    text = args.user_data[machine.name]
    if shared is None or not machine.plan.store_units:
        return text
    return shared.address.apply(lambda address: store.filled(text, address, version))
