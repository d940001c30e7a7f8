"""A scaling group of Auto Scaling (ESS): machines that the rehearsal makes and takes.

record of the group        min and max, switches, the server groups of load balancers; facts: desired, made
record of a configuration  image, types, user data, security group, key
members                    what there is, in LXD itself (members.py)

Nothing here follows the load: `./rehearse scale` alone changes how many machines are desired.
"""

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

from rehearsal.cloud import haproxy, haproxy_socket, image, machine, members, server, tokens
from rehearsal.cloud.context import CloudContext
from rehearsal.cloud.haproxy_socket import Health
from rehearsal.cloud.instance_types import SIZES
from rehearsal.cloud.lxd import ADDRESS_TAG, LEAVING_TAG, SERVED_TAG
from rehearsal.cloud.members import Member
from rehearsal.cloud.server import Place
from rehearsal.engine.errors import RehearsalError
from rehearsal.engine.inputs import is_digest
from rehearsal.engine.state import Record

# Output of a configuration: the operating system whose base image its machines boot.
SYSTEM = "rehearsalSystem"
# Facts of a group: how many machines there should be, and the number of the last one that was made.
_DESIRED, _MADE = "desired", "made"
# Policies that ESS follows without removal_policies:
# https://www.alibabacloud.com/help/en/auto-scaling/developer-reference/api-ess-2014-08-28-createscalinggroup
_POLICIES = ("OldestScalingConfiguration", "OldestInstance")
POLICIES = (*_POLICIES, "NewestInstance")
# Machines that boot at the same time.
_AT_ONCE = 4
# Seconds for a new machine's bootstrap and release, until the load balancer finds it healthy.
_PATIENCE = 600
# Seconds for which a machine that was healthy has failed its health check when it is replaced.
_DOWN = 30


class Group:
    """A scaling group in a run, which holds the stack's lock."""

    def __init__(self, context: CloudContext, id_: str) -> None:
        self.context, self.id = context, id_

    @property
    def record(self) -> Record:
        found = self.context.state.by_id(tokens.SCALING_GROUP, self.id)
        if found is None:
            raise RehearsalError(f"scaling_group_id {self.id} is no scaling group of this stack")
        return found

    @property
    def configurations(self) -> list[Record]:
        """Its configurations, oldest first, without those that are to be deleted."""
        found = self.context.state.records(tokens.SCALING_CONFIGURATION)
        return [each for each in found if each.inputs["scalingGroupId"] == self.id and each.status != "doomed"]

    @property
    def members(self) -> list[Member]:
        return members.all_members(self.context.lxd, self.id)

    @property
    def limits(self) -> tuple[int, int]:
        """Fewest and most machines."""
        inputs = self.record.inputs
        return inputs["minSize"], inputs["maxSize"]

    @property
    def desired(self) -> int:
        """How many machines there should be."""
        fewest, most = self.limits
        return min(max(int(self.record.facts.get(_DESIRED, fewest)), fewest), most)

    def want(self, count: int) -> None:
        """Note how many machines there should be. `settle` makes and takes them."""
        self._note(_DESIRED, count)

    def _note(self, key: str, value: int) -> None:
        record = self.record
        self.context.state.put(replace(record, facts={**record.facts, key: value}))

    def settle(self) -> list[Member]:
        """Make and take machines until there are as many as there should be. Returns the new ones.

        Nothing is made without a configuration. Raises RehearsalError.
        """
        if not self.configurations:
            return []
        self.take([member for member in self.members if not (member.is_whole and member.runs)], is_drained=False)
        left = self.members
        surplus = len(left) - self.desired
        if surplus > 0:
            order = removal_order(left, self.record.inputs.get("removalPolicies") or _POLICIES, self._ages)
            self.take(order[:surplus])
        return self.make(-surplus)

    @property
    def _ages(self) -> list[str]:
        return [configuration.id for configuration in self.configurations]

    def make(self, count: int) -> list[Member]:
        """Make machines by the newest configuration, evenly over the switches, and put them behind the balancer."""
        if count <= 0:
            return []
        configuration = self.configurations[-1]
        maker = _Maker(self.context, configuration)
        first = max([self.record.facts.get(_MADE, 0), *(member.number for member in self.members)]) + 1
        # A number is given once, because a killed run may have left something under it.
        self._note(_MADE, first + count - 1)
        switches = spread(self.record.inputs["vswitchIds"], [member.switch for member in self.members], count)
        jobs = list(zip(range(first, first + count), switches, strict=True))
        with ThreadPoolExecutor(max_workers=_AT_ONCE) as pool:
            list(pool.map(lambda job: maker.make(self.id, *job), jobs))
        haproxy.write_all(self.context)
        return [member for member in self.members if member.number >= first]

    def take(self, leaving: Sequence[Member], is_drained: bool = True) -> None:
        """Delete machines. is_drained: let the requests of each end before, as long as the balancer's drain lasts."""
        if not leaving:
            return
        if is_drained:
            self._drain(leaving)
        for member in leaving:
            members.mark(self.context.lxd, member.id, LEAVING_TAG)
        haproxy.write_all(self.context)
        for member in leaving:
            machine.remove(self.context, member.id)
            self.context.say(f"{member.name} ({member.id}) is deleted")

    def _drain(self, leaving: Sequence[Member]) -> None:
        ids = {member.id for member in leaving}
        bound = [each["albServerGroupId"] for each in self.record.inputs.get("albServerGroups") or ()]
        groups = [each for each in self.context.state.records(tokens.SERVER_GROUP) if each.id in bound]
        drain = max((each.inputs["connectionDrainConfig"]["connectionDrainTimeout"] for each in groups), default=0)
        for balancer in self._balancers:
            for backend in bound:
                for id_ in sorted(ids):
                    haproxy_socket.ask(self.context, balancer, haproxy_socket.out_of_use(backend, id_))

        def requests() -> int:
            health = self.health()
            return sum(each.requests for id_ in ids for each in health.get(id_, ()))

        started = time.monotonic()
        while (under_way := requests()) and time.monotonic() < started + drain:
            time.sleep(0.2)
        if under_way:
            self.context.say(f"{under_way} requests have not ended in {drain} s")

    @property
    def _balancers(self) -> list[str]:
        found = self.context.state.records(tokens.LOAD_BALANCER)
        return [each.id for each in found if each.status != "doomed"]

    def health(self) -> dict[str, list[Health]]:
        """Member → what the load balancer has found of it, empty while the load balancer is stopped."""
        found: dict[str, list[Health]] = {}
        for balancer in self._balancers:
            answer = haproxy_socket.ask(self.context, balancer, haproxy_socket.SHOW_HEALTH)
            for name, healths in haproxy_socket.healths(answer).items():
                found.setdefault(name, []).extend(healths)
        return found

    def wait(self, new: Iterable[Member], seconds: float = _PATIENCE) -> None:
        """Wait until the load balancer finds new machines healthy. Raises RehearsalError when it does not."""
        waiting, started = {member.id: member for member in new}, time.monotonic()
        while waiting:
            health = self.health()
            for id_, member in list(waiting.items()):
                if is_up(health.get(id_, ())):
                    members.mark(self.context.lxd, id_, SERVED_TAG)
                    del waiting[id_]
                    self.context.say(f"{member.name} gets requests after {time.monotonic() - started:.0f} s")
            if waiting and time.monotonic() > started + seconds:
                names = ", ".join(member.name for member in waiting.values())
                raise RehearsalError(f"the load balancer has not found {names} healthy in {seconds:.0f} s")
            if waiting:
                time.sleep(0.5)

    def faults(self) -> dict[str, str]:
        """What is wrong with the group: id of a member, or of the group itself → words. Nothing is changed."""
        present, health = self.members, self.health()
        found = {}
        for member in present:
            if not member.is_whole:
                found[member.id] = f"{member.name} is left from a run that was ended"
            elif not member.runs:
                found[member.id] = f"{member.name} is {member.status.lower()}"
            elif member.has_served and (seconds := down(health.get(member.id, ()))) >= _DOWN:
                found[member.id] = f"{member.name} has failed its health check for {seconds} s"
        if len(present) != self.desired:
            found[self.id] = f"{len(present)} machines are there, and {self.desired} are desired"
        return found

    def newly_served(self) -> list[Member]:
        """Members that the load balancer finds healthy for the first time."""
        health = self.health()
        return [each for each in self.members if not each.has_served and is_up(health.get(each.id, ()))]

    def heal(self, faults: Mapping[str, str]) -> None:
        """Take the members of `faults`, and make as many as there should be. Raises RehearsalError."""
        self.take([member for member in self.members if member.id in faults], is_drained=False)
        self.settle()

    def serves(self) -> bool:
        """Whether the load balancer sends requests to a machine of the group."""
        health = self.health()
        return any(is_up(health.get(member.id, ())) for member in self.members)

    def refresh(self, most: int, skips_matching: bool) -> int:
        """Replace machines: new ones are made and get requests before as many old ones are taken. Returns how many.

        most: percentage of the desired machines that there may be meanwhile; there is always room for a new one.
        skips_matching: whether machines of the newest configuration stay. Raises RehearsalError; then the others stay.
        """
        newest = self.configurations[-1].id
        old = [member for member in self.members if not (skips_matching and member.configuration == newest)]
        step = max(1, self.desired * most // 100 - self.desired)
        for begin in range(0, len(old), step):
            leaving = old[begin : begin + step]
            serves = self.serves()
            new = self.make(len(leaving))
            try:
                # Before the first release no machine is healthy.
                self.wait(new if serves else [])
            except RehearsalError:
                self.take(new)
                raise
            self.take(leaving)
            self.context.say(f"{min(begin + step, len(old))} of {len(old)} machines are replaced")
        return len(old)


class _Maker:
    """Makes machines by a configuration."""

    def __init__(self, context: CloudContext, configuration: Record) -> None:
        self._configuration = configuration
        inputs = configuration.inputs
        if is_digest(inputs.get("userData")):
            raise RehearsalError("a scaling configuration with secret user data is not rehearsed")
        self._inputs: dict[str, Any] = {
            **{key: inputs[key] for key in ("imageId", "userData", "keyName") if key in inputs},
            "instanceType": next(name for name in inputs["instanceTypes"] if name in SIZES),
        }
        self._context = context
        if inputs["imageId"] not in context.images:
            # `up` has prepared the images that the program registers; others are those of an earlier run.
            base = image.ensure(configuration.outputs[SYSTEM], context.say)
            self._context = replace(context, images={**context.images, inputs["imageId"]: base})

    def make(self, group: str, number: int, switch: str) -> None:
        started = time.monotonic()
        id_, configuration = members.member_id(group, number), self._configuration
        place = Place(switch, configuration.inputs["securityGroupIds"][0])
        tags = members.tags(group, configuration.id, switch)
        booted = server.create(self._context, id_, self._inputs, place, tags)
        members.mark(self._context.lxd, id_, ADDRESS_TAG, booted.address)
        name = f"member-{number} ({id_})"
        self._context.say(f"{name} has booted at {booted.address}, in {time.monotonic() - started:.0f} s")


def is_up(health: Sequence[Health]) -> bool:
    """Whether a member is healthy in every backend that it is in."""
    return bool(health) and all(each.is_up for each in health)


def down(health: Sequence[Health]) -> int:
    """Seconds for which a member has been down in a backend; 0 if it is not."""
    return max((each.seconds for each in health if each.is_down), default=0)


def spread(switches: Sequence[str], taken: Iterable[str], count: int) -> list[str]:
    """The switches of so many new machines: each on the switch with the fewest. taken: those of the machines there."""
    numbers = dict.fromkeys(switches, 0)
    for switch in taken:
        if switch in numbers:
            numbers[switch] += 1
    found = []
    for _ in range(count):
        chosen = min(numbers, key=lambda switch: numbers[switch])
        numbers[chosen] += 1
        found.append(chosen)
    return found


def removal_order(present: Iterable[Member], policies: Sequence[str], configurations: Sequence[str]) -> list[Member]:
    """The members in the order in which they leave. configurations: ids, oldest first; others are older than all."""
    ages = {id_: age for age, id_ in enumerate(configurations)}
    keys: Mapping[str, Callable[[Member], int]] = {
        "OldestScalingConfiguration": lambda member: ages.get(member.configuration, -1),
        "OldestInstance": lambda member: member.number,
        "NewestInstance": lambda member: -member.number,
    }
    return sorted(present, key=lambda member: [keys[policy](member) for policy in policies])


def groups(context: CloudContext) -> list[Group]:
    """The stack's scaling groups, without those that another one has replaced."""
    found = context.state.records(tokens.SCALING_GROUP)
    return [Group(context, each.id) for each in found if each.status == "done"]
