"""What is unavailable during an update, from when to when, and how long that took when it was measured."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from ipaddress import IPv4Network

from contract.documents import CONFIG_FOLDER
from contract.resources import (
    DATABASE_MACHINE,
    HOST_PART,
    apply_resource,
    readies_database,
    server_of_disk,
    site_of,
)
from kinds.databases import DATABASES
from rehearsal.cloud import tokens
from rehearsal.cloud.registry import TYPES
from rehearsal.commands.foresee import Change, Preview
from rehearsal.commands.rendered_files import Rendered
from rehearsal.engine.compare import Op
from rehearsal.engine.state import Record

# What is unavailable → whether a command of this name makes it available again.
_BACK: Mapping[str, Callable[[str], bool]] = {
    tokens.SITE: lambda name: site_of(name) is not None,
    tokens.DATABASE: readies_database,
    tokens.REDIS: lambda name: site_of(name) is not None,
}
# Seconds. Measured: 5 s for a rehearsed machine; in the cloud 6 s for another type and 3 s for another key.
_RESTART = 6


def away(preview: Preview) -> Iterator[str]:
    """A line for each thing that is unavailable for a while."""
    lines = list(_missing(preview.changes))
    # The line of a broken resource reports it.
    broken = any(_is_broken(change) for change in preview.changes)
    running = any(change.old for change in preview.changes)
    released = any(change.op in (Op.REPLACE, Op.UPDATE) and _site(change) for change in preview.changes)
    if released and not lines and not broken and not preview.has_nginx:
        lines.append("without nginx the site is away while its program is started anew: some seconds")
    if not any(line.startswith(tokens.DATABASE) for line in lines):
        lines += _restarted_database(preview.files)
    lines += [*_sites(preview), *_closed_ports(preview.changes)]
    yield from _refreshed(preview.changes)
    yield from lines
    if preview.anything and running and not lines and not broken:
        # Without a release that has been applied, nothing of the user's answers yet.
        served = any(change.old and _serves(change) for change in preview.changes)
        before = "the site answers 503" if preview.has_nginx else "nothing answers"
        yield "the site goes on answering" if served else f"{before} until the first release"


def _missing(changes: Sequence[Change]) -> Iterator[str]:
    """What is unavailable because a resource is deleted, replaced or restarted."""
    dependents: dict[str, list[Change]] = {}
    for change in changes:
        for urn in change.record.dependencies:
            dependents.setdefault(urn, []).append(change)
    # Behind a load balancer, the public address of a server is for SSH alone.
    is_balanced = any(change.record.type == tokens.LOAD_BALANCER for change in changes)
    is_moving = any(change.record.type == tokens.EIP_ASSOCIATION and change.op is not Op.SAME for change in changes)
    for change in changes:
        what, name = _without(change.record), change.record.name
        if _has_sites_data(change.record) and (is_moving or change.op is Op.DELETE):
            # The address is away for longer. Before the sites' disk is deleted, their data leave it.
            continue
        if is_balanced and change.record.type == tokens.EIP_ASSOCIATION:
            continue
        if change.op is Op.DELETE and what:
            yield f"{what} is away from when {name} is deleted"
        elif change.op is Op.REPLACE and what:
            steps = _path(change, _BACK[what], dependents)
            yield f"{what} is away from when {name} goes until {steps[-1].record.name} is done: {_duration(steps)}"
        elif _restarts(change):
            lost = [_without(other.record) for other in dependents.get(change.record.urn, [])]
            yield f"{next(filter(None, lost), name)} is away until {name} has booted: about {_RESTART} s"


def _without(record: Record) -> str:
    """What is unavailable without a resource; "" for nothing."""
    return tokens.SITE if _has_sites_data(record) else TYPES[record.type].schema.away


def _has_sites_data(record: Record) -> bool:
    """Whether a resource attaches the data disk of sites."""
    server = server_of_disk(record.name) if record.type == tokens.DISK_ATTACHMENT else None
    return server is not None and not server.endswith(f"-{DATABASE_MACHINE}")


def _path(change: Change, end: Callable[[str], bool], dependents: Mapping[str, list[Change]]) -> list[Change]:
    """Slowest dependency path, by recorded time, from the change to the last command that `end` accepts.

    If `end` accepts no command, the path goes to its end.
    """
    others = (other for other in dependents.get(change.record.urn, []) if other.op not in (Op.SAME, Op.DELETE))
    after = [_path(other, end, dependents) for other in others]
    ended = [steps for steps in after if end(steps[-1].record.name)]
    if end(change.record.name) and not ended:
        return [change]
    return [change, *max(ended or after, key=_seconds, default=[])]


def _site(change: Change) -> str:
    """The site whose release a command applies; "" for any other change."""
    return (site_of(change.record.name) or "") if change.record.type == tokens.COMMAND else ""


def _serves(change: Change) -> bool:
    """Whether a change is of something that is made with a release: of a site, or of the machines that take it."""
    return bool(_site(change)) or change.record.type == tokens.SCALING_CONFIGURATION


def _sites(preview: Preview) -> Iterator[str]:
    """Sites that are added to and removed from running machines."""
    ops: dict[str, set[Op]] = {}
    for change in preview.changes:
        if site := _site(change):
            ops.setdefault(site, set()).add(change.op)
    if set().union(*ops.values()) - {Op.CREATE}:
        new = [site for site in ops if ops[site] == {Op.CREATE}]
        for site in new:
            yield f"site {site} is new: {'503' if preview.has_nginx else 'nothing answers'} until its first release"
        if any(map(_changes_shared_part, preview.changes)):
            for site in ops:
                if ops[site] == {Op.DELETE}:
                    yield f"site {site} will be deleted{f'; to keep it, name it {site} in sites' if new else ''}"


def _changes_shared_part(change: Change) -> bool:
    """Whether a machine gets a new list of its sites: without one, it has deleted what the list does not name."""
    name = change.record.name
    return change.op is not Op.SAME and name.endswith(apply_resource("", HOST_PART)) and not site_of(name)


def _closed_ports(changes: Iterable[Change]) -> Iterator[str]:
    """Ports that no longer let somebody in."""
    rules = [
        (change.op, change.record.inputs) for change in changes if change.record.type == tokens.SECURITY_GROUP_RULE
    ]
    ports = [(op, rule["portRange"], IPv4Network(rule["cidrIp"])) for op, rule in rules if rule.get("cidrIp")]
    for removed, port, cidr in ports:
        kept = (other for op, same, other in ports if op is not Op.DELETE and same == port)
        if removed is Op.DELETE and not any(cidr.subnet_of(other) for other in kept):
            yield f"port {port.partition('/')[0]} closes to {cidr}"


def _refreshed(changes: Iterable[Change]) -> Iterator[str]:
    """How long the machines of a scaling group are replaced, which interrupts nothing."""
    for change in changes:
        if change.record.type == tokens.INSTANCE_REFRESH and change.op in (Op.CREATE, Op.REPLACE):
            yield f"the machines of the scaling group are replaced, some at a time: {_duration([change])}"


def _restarted_database(files: Iterable[Rendered]) -> Iterator[str]:
    for rendered in files:
        if rendered.old is not None:
            changed: Iterable[str] = rendered.differences
        else:
            changed = rendered.new if rendered.lost else ()
        perhaps = "perhaps " if rendered.lost else ""
        for name in (kind.config_file for kind in DATABASES.values()):
            if CONFIG_FOLDER + name in changed:
                yield f"{tokens.DATABASE} is {perhaps}away while it starts with another {name}: some seconds"


def _changed_inputs(change: Change) -> set[str]:
    old, new = (record.inputs if record else {} for record in (change.old, change.new))
    return {key for key in {*old, *new} if old.get(key) != new.get(key)}


def _restarts(change: Change) -> bool:
    """Whether a machine is changed in place in a way that interrupts it."""
    updates = TYPES[tokens.INSTANCE].schema.updates
    in_place = change.op is Op.UPDATE and change.record.type == tokens.INSTANCE
    return in_place and any(updates.get(key) for key in _changed_inputs(change))


def _is_broken(change: Change) -> bool:
    """Whether something does not exist or run although it is recorded."""
    if change.op is Op.CREATE:
        return change.old is not None
    return change.op is Op.UPDATE and not _changed_inputs(change)


def _seconds(steps: Iterable[Change]) -> float:
    return sum(step.old.seconds or 0 for step in steps if step.old)


def _duration(steps: Sequence[Change]) -> str:
    known = [step.old is not None and step.old.seconds is not None for step in steps]
    if not any(known):
        return "not measured yet"
    return f"{'about' if all(known) else 'more than'} {_seconds(steps):.0f} s, as it took the last time"
