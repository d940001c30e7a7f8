"""HAProxy in place of a load balancer: records of the load balancer's parts → HAProxy's configuration.

https://docs.haproxy.org/2.6/configuration.html
"""

import threading
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rehearsal.cloud import haproxy_socket, members, tokens
from rehearsal.cloud.context import CloudContext
from rehearsal.engine.state import Record

CONFIG = "/etc/haproxy/haproxy.cfg"
CERTIFICATES = "/etc/haproxy/certificates"
_STATES = "/var/lib/haproxy/states"
_MARK = "SERVERID"
# The policies of the cloud whose names end so have ciphers with forward secrecy alone.
_STRICT = "ECDHE+AESGCM:ECDHE+CHACHA20"
_LOCK = threading.Lock()


def write(context: CloudContext, balancer: str) -> None:
    """Make a load balancer's machine do what the records say, unless it is gone. balancer: id of the load balancer.

    A reload lets the process before it end its requests, as the cloud does for a server that leaves. The next process
    goes on with what that one has found of its servers.
    """
    record = context.state.by_id(tokens.LOAD_BALANCER, balancer)
    if record is None or context.lxd.find(f"/1.0/instances/{balancer}") is None:
        return
    with _LOCK:
        parts = {type_: [each for each in context.state.records(type_) if each.status != "doomed"] for type_ in _PARTS}
        listeners = [each for each in parts[tokens.LISTENER] if each.inputs["loadBalancerId"] == balancer]
        if not listeners:
            context.lxd.exec(balancer, ["systemctl", "stop", "haproxy"], 60)
            return
        for name in sorted(set(certificates(listeners, parts[tokens.LISTENER_CERTIFICATE]))):
            text = (context.keys.folder / f"{name}.pem").read_text()
            context.lxd.write(balancer, f"{CERTIFICATES}/{name}.pem", text)
        # A group that another one has replaced serves until it is deleted.
        groups = context.state.records(tokens.SCALING_GROUP)
        found = members.servers(groups, members.all_members(context.lxd)) if groups else {}
        text = config(listeners, parts, record.facts["source"], found)
        context.lxd.write(balancer, CONFIG, text, "0644")
        before = haproxy_socket.ask(context, balancer, haproxy_socket.SHOW_STATES)
        context.lxd.write(balancer, _STATES, haproxy_socket.states(before, found), "0644")
        context.lxd.exec(balancer, ["systemctl", "reload-or-restart", "haproxy"], 60)


_PARTS = (tokens.LISTENER, tokens.LISTENER_CERTIFICATE, tokens.LISTENER_RULE, tokens.SERVER_GROUP)
# Server group → its servers.
Servers = Mapping[str, Sequence[Mapping[str, Any]]]


def write_all(context: CloudContext) -> None:
    """Make the machines of all load balancers do what the records and the members of scaling groups say."""
    for balancer in context.state.records(tokens.LOAD_BALANCER):
        write(context, balancer.id)


def config(
    listeners: Sequence[Record], parts: Mapping[str, Sequence[Record]], source: str, scaled: Servers | None = None
) -> str:
    """The configuration.

    parts: type → records. source: address by which the servers see HAProxy. scaled: the members of scaling groups.
    """
    timeout = max(int(each.inputs.get("requestTimeout", 60)) for each in listeners)
    drains = [each.inputs["connectionDrainConfig"]["connectionDrainTimeout"] for each in parts[tokens.SERVER_GROUP]]
    lines = [
        "global",
        "    user haproxy",
        "    group haproxy",
        f"    hard-stop-after {max(drains, default=60)}s",
        f"    ssl-default-bind-ciphers {_STRICT}",
        f"    stats socket {haproxy_socket.SOCKET} mode 600 level admin",
        f"    server-state-file {_STATES}",
        "defaults",
        "    load-server-state-from-file global",
        "    mode http",
        "    timeout connect 5s",
        "    timeout check 5s",
        f"    timeout client {timeout}s",
        f"    timeout server {timeout}s",
        f"    timeout tunnel {timeout}s",
    ]
    for listener in sorted(listeners, key=lambda each: each.name):
        lines += _frontend(listener, parts)
    for group in sorted(parts[tokens.SERVER_GROUP], key=lambda each: each.name):
        lines += _backend(group, source, (scaled or {}).get(group.id, ()))
    return "\n".join(lines) + "\n"


def certificates(listeners: Sequence[Record], others: Sequence[Record]) -> Iterator[str]:
    """Yield the ids of the certificates of listeners, the first one's own first."""
    ids = {each.id for each in listeners}
    own = [each.inputs.get("certificates") or {} for each in listeners]
    names = [each["certificateId"] for each in own if each]
    names += [each.inputs["certificateId"] for each in others if each.inputs["listenerId"] in ids]
    # The cloud adds where CAS is.
    yield from (name.partition("-")[0] for name in names)


def _frontend(listener: Record, parts: Mapping[str, Sequence[Record]]) -> Iterator[str]:
    inputs, scheme = listener.inputs, listener.inputs["listenerProtocol"].lower()
    bind = f"    bind :{inputs['listenerPort']}"
    if scheme == "https":
        files = [
            f"crt {CERTIFICATES}/{name}.pem" for name in certificates([listener], parts[tokens.LISTENER_CERTIFICATE])
        ]
        protocols = "h2,http/1.1" if inputs.get("http2Enabled", True) else "http/1.1"
        bind += f" ssl {' '.join(files)} alpn {protocols} ssl-min-ver TLSv1.2"
        if not inputs["securityPolicyId"].endswith("1_3"):
            bind += " ssl-max-ver TLSv1.2"
    yield f"frontend {listener.id}"
    yield bind
    yield f"    timeout http-keep-alive {inputs.get('idleTimeout', 15)}s"
    # What a client says of itself goes first, and the client's own address last.
    yield "    acl is_forwarded req.fhdr(X-Forwarded-For) -m found"
    yield "    http-request set-header X-Forwarded-For %[req.fhdr(X-Forwarded-For)],\\ %[src] if is_forwarded"
    yield "    http-request set-header X-Forwarded-For %[src] unless is_forwarded"
    yield f"    http-request set-header X-Forwarded-Proto {scheme}"
    rules = [each for each in parts[tokens.LISTENER_RULE] if each.inputs["listenerId"] == listener.id]
    for number, rule in enumerate(sorted(rules, key=lambda each: int(each.inputs["priority"]))):
        name = f"rule{number}"
        yield from _conditions(name, rule.inputs["ruleConditions"])
        fits = f"if {' '.join(_names(name, rule))} !{{ var(txn.rule) -m found }}"
        yield f"    http-request set-var(txn.rule) str({name}) {fits}"
        (action,) = rule.inputs["ruleActions"]
        chosen = f"if {{ var(txn.rule) -m str {name} }}"
        if action["type"] == "Redirect":
            code = action["redirectConfig"]["httpCode"]
            yield f"    http-request redirect code {code} location {_location(action)} {chosen}"
        else:
            yield f"    use_backend {_group(action)} {chosen}"
    yield f"    default_backend {_group(inputs['defaultActions'][0])}"


def _names(name: str, rule: Record) -> list[str]:
    return [f"{name}_{condition['type'].lower()}" for condition in rule.inputs["ruleConditions"]]


def _conditions(name: str, conditions: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """Yield the lists that a rule's conditions are. Those of one name are alternatives."""
    for condition in conditions:
        is_path = condition["type"] == "Path"
        own = f"    acl {name}_{condition['type'].lower()}"
        for value in condition["pathConfig" if is_path else "hostConfig"]["values"]:
            if is_path:
                yield f"{own} path_beg {value[:-1]}" if value.endswith("*") else f"{own} path {value}"
            else:
                match = f"-m end {value[1:]}" if value.startswith("*") else f"-m str {value}"
                yield f"{own} req.hdr(host),field(1,:),lower {match}"


def _location(action: Mapping[str, Any]) -> str:
    redirect = action["redirectConfig"]
    host = "%[req.hdr(host),field(1,:)]" if redirect["host"] == "${host}" else redirect["host"]
    port = "" if redirect["port"] == "443" else f":{redirect['port']}"
    return f"{redirect['protocol'].lower()}://{host}{port}%[pathq]"


def _group(action: Mapping[str, Any]) -> str:
    (found,) = action["forwardGroupConfig"]["serverGroupTuples"]
    return str(found["serverGroupId"])


def _backend(group: Record, source: str, scaled: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    inputs, check = group.inputs, group.inputs["healthCheckConfig"]
    sticky = inputs["stickySessionConfig"]
    yield f"backend {group.id}"
    yield "    balance roundrobin"
    yield f"    source {source}"
    yield "    option redispatch"
    yield "    option httpchk"
    request = f"meth {check['healthCheckMethod']} uri {check['healthCheckPath']} ver HTTP/1.1"
    yield f"    http-check send {request} hdr Host {check.get('healthCheckHost', 'localhost')}"
    yield "    http-check expect status 200-299"
    if sticky["stickySessionEnabled"]:
        yield f"    cookie {_MARK} insert indirect nocache maxlife {sticky['cookieTimeout']}s"
    timing = (
        f"inter {check['healthCheckInterval']}s rise {check['healthyThreshold']} fall {check['unhealthyThreshold']}"
    )
    for server in (*(inputs.get("servers") or ()), *scaled):
        cookie = f" cookie {server['serverId']}" if sticky["stickySessionEnabled"] else ""
        yield f"    server {server['serverId']} {server['serverIp']}:{server['port']} check {timing}{cookie}"
