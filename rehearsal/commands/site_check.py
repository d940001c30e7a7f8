"""The end of an update: the outputs, and whether the site answers."""

from ipaddress import ip_network
from pathlib import Path
from urllib.parse import urlsplit

from operations import status
from operations.machines import entrance
from operations.proof import prove, request
from rehearsal.cloud import group_bridge, tokens
from rehearsal.cloud.context import CloudContext
from rehearsal.commands.machines import rehearsed
from rehearsal.commands.maintenance import closed_sites, closes
from rehearsal.commands.show import Show
from rehearsal.engine.errors import UserError

# Outputs that are shown first.
_FIRST = ("url", "address", "ssh", "release")


def check_site(context: CloudContext, outputs: dict[str, object], show: Show, ca: Path | None) -> int:
    """Show the outputs and the site's answer. Returns the exit code.

    ca: file with the roots that vouch for the site, None for the well-known roots.
    """
    if "ssh" in outputs:
        outputs["ssh"] = f"./rehearse ssh --stack {context.stack}"
    show.line(show.summary())
    show.outputs(_ordered(outputs))
    address = entrance(outputs)
    if not outputs.get("url") or not address:
        return 0
    for line in _revived(context):
        show.line(line, "yellow")
    closed = closed_sites(context.root, context.stack)
    is_closed = closes(closed, outputs)
    answer = prove(str(outputs["url"]), address, ca, 0 if is_closed else 10)
    shut_out = answer.status is None and not _lets_in_host(context, str(outputs["url"]))
    is_closed = is_closed and answer.status == 503
    show.line(answer.line, "bold green" if answer.good else "yellow" if shut_out or is_closed else "bold red")
    for name, since in closed.items():
        opening = f"./rehearse maintenance off --stack {context.stack} --site {name}"
        show.line(f"site {name} is in maintenance since {since}; {opening}", "yellow")
    if shut_out:
        show.line("access.http does not let this host in; on the machine itself the release has answered")
    elif is_closed:
        # The release has answered its probe.
        return 0
    elif not answer.good:
        show.line(answer.body)
        return 1
    elif names := _names_alone(outputs):
        show.line(f"the server answers to {names} only; a request to {address} itself gets 404")
    return 0


def _revived(context: CloudContext) -> list[str]:
    """What the machines have started again: an update that changes nothing runs nothing else on them."""
    try:
        return status.revive(rehearsed(context.root, context.stack))
    except UserError:
        return []


def _names_alone(outputs: dict[str, object]) -> str:
    """The domains of a stack that answers 404 to its bare address; "" where a site answers there."""
    url, address, urls = urlsplit(str(outputs["url"])), entrance(outputs), outputs.get("urls")
    bare = url._replace(netloc=address if url.port is None else f"{address}:{url.port}").geturl()
    if url.hostname == address or request(bare, address).status != 404:
        return ""
    found = urls.values() if isinstance(urls, dict) else [outputs["url"]]
    return ", ".join(sorted({urlsplit(str(one)).hostname or "" for one in found}))


def _lets_in_host(context: CloudContext, url: str) -> bool:
    """Whether a rule of the stack lets this host reach the site's port. Through NAT it comes from a gateway."""
    if context.state.records(tokens.LISTENER):
        return True
    parts = urlsplit(url)
    port = parts.port or (443 if parts.scheme == "https" else 80)
    gateways = [bridge.address.ip for bridge in group_bridge.of_stack(context.host, context.stack)]
    records = context.state.records(tokens.SECURITY_GROUP_RULE)
    rules = [record.inputs for record in records if record.status == "done"]
    return any(
        gateway in ip_network(rule["cidrIp"])
        for rule in rules
        if rule.get("cidrIp") and rule.get("portRange") == f"{port}/{port}"
        for gateway in gateways
    )


def _ordered(outputs: dict[str, object]) -> dict[str, object]:
    """The outputs of _FIRST, then the others by name."""
    return {key: outputs[key] for key in (*_FIRST, *sorted(set(outputs) - set(_FIRST))) if key in outputs}
