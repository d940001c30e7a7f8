"""`status`: what serves on the machines of a stack, and how busy they are, as `wsgi-ecs-status` says on each."""

import json
import subprocess
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from contract import paths
from operations.connection import advice
from operations.log_view import harmless
from operations.machines import Machine, Stack
from operations.proof import request

# Seconds between two looks, and for the answer of a machine.
EVERY = 2.0
_PATIENCE = 30
_MISSING = "this machine's release is older than this command; run up first"
_TOOL = paths.STATUS_COMMAND
# An older command prints how it is used, and says nothing that is JSON.
_AS_JSON = f"[ -x {_TOOL} ] || exit 0; {_TOOL} --json%s || true"
_REVIVE = f"[ -x {_TOOL} ] || exit 0; {_TOOL} --revive 2>/dev/null || true"
_AS_LINES = f"[ -x {_TOOL} ] || exit 0; {_TOOL} || true"

Found = Mapping[str, Any]


def status(stack: Stack, as_json: bool) -> int:
    """Print the status of each machine, and whether the site answers. Returns the exit code, 1 if one does not."""
    if as_json:
        found = collect(stack)
        print(json.dumps(found, indent=1, sort_keys=True))
        return 1 if any("error" in machine for machine in found["machines"]) else 0
    code, is_closed = 0, False
    for machine in stack.machines:
        text, problem = lines(machine)
        print(f"machine {machine.name}, {machine.way.host}{': ' + problem if problem else ''}")
        for line in text.splitlines():
            print(f"  {line}")
        code = code or int(bool(problem))
        is_closed = is_closed or "in maintenance" in text
    if "url" in stack.outputs and stack.entrance:
        answer = request(str(stack.outputs["url"]), stack.entrance)
        print(answer.line)
        # A site in maintenance answers as it was told to.
        code = code or int(not answer.good and not (answer.status == 503 and is_closed))
    return code


def lines(machine: Machine) -> tuple[str, str]:
    """What the machine's own status command prints, and why it prints nothing; "" if it prints something."""
    return _ask(machine, _AS_LINES)


def revive(stack: Stack) -> list[str]:
    """Have each machine start what should run on it and does not. Returns lines that say what, and on which machine."""
    with ThreadPoolExecutor(max_workers=max(1, len(stack.machines))) as pool:
        found = pool.map(lambda machine: (machine.name, _ask(machine, _REVIVE)[0]), stack.machines)
        return [f"{name}: {line}" for name, text in found for line in text.splitlines()]


def collect(stack: Stack, often: bool = False) -> dict[str, Any]:
    """The status of all machines as JSON values. A machine that does not answer has `error`.

    often: without `edited`, for which a machine reads each file of its applications.
    """
    script = _AS_JSON % (" --no-drift" if often else "")
    with ThreadPoolExecutor(max_workers=max(1, len(stack.machines))) as pool:
        return {"stack": stack.name, "machines": list(pool.map(lambda machine: _of(machine, script), stack.machines))}


def sites(machine: Machine) -> list[Found]:
    """The status of each site of a machine. Empty if the machine does not answer, or is older than the command."""
    return list(_of(machine, _AS_JSON % " --no-drift").get("sites", []))


def since(site: Found) -> str:
    """Since when a site is in maintenance, in words, "" for a site that is open."""
    closed = site["maintenance"]
    return time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(closed["since"])) if closed else ""


def _of(machine: Machine, script: str) -> dict[str, Any]:
    named: dict[str, Any] = {"name": machine.name, "id": machine.id, "address": machine.way.host}
    text, problem = _ask(machine, script)
    try:
        return {**named, **({"error": problem} if problem else json.loads(text))}
    except ValueError:
        return {**named, "error": _MISSING}


def _ask(machine: Machine, script: str) -> tuple[str, str]:
    """What a script prints on a machine, and why there is nothing, "" if there is something."""
    if machine.missing:
        return "", machine.missing
    command = [*machine.way.command(), "--", script]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_PATIENCE, stdin=subprocess.DEVNULL)
    except subprocess.TimeoutExpired:
        return "", f"no answer within {_PATIENCE} seconds"
    if done.returncode:
        last = done.stderr.strip().splitlines()[-1:] or [f"ssh ended with {done.returncode}"]
        return "", advice(machine.way, done.stderr) or last[0]
    return done.stdout, "" if done.stdout.strip() else _MISSING


def watch(look: Callable[[], Found]) -> int:
    """Show a status on the terminal until Ctrl-C. look: collects it. Returns the exit code."""
    from rich.live import Live

    with Live(auto_refresh=False) as live:
        try:
            while True:
                live.update(table(look()), refresh=True)
                time.sleep(EVERY)
        except KeyboardInterrupt:
            return 0


def table(found: Found) -> Any:
    """A status as a table of rich: a row for each machine, and below it one for each of its sites."""
    from rich.table import Table
    from rich.text import Text

    shown = Table(title=f"stack {found['stack']} at {time.strftime('%H:%M:%S')}", title_justify="left")
    for name in ("", "release", "busy", "queue", "memory", "requests/s", "5xx", "p95", "remarks"):
        shown.add_column(name, justify="left" if name in ("", "release", "remarks") else "right")
    for machine in found["machines"]:
        if "error" in machine:
            shown.add_row(machine["name"], *[""] * 7, Text(harmless(machine["error"])), style="red")
            continue
        memory = machine["memory"]
        remarks = [f"load {machine['load']:.2f} on {machine['cpus']} CPUs"]
        remarks += [f"{_gib(disk['free'])} free on {disk['name']}" for disk in machine["disks"]]
        if database := machine.get("database"):
            remarks.append(f"backup: {_age(database['backup'])} ago" if database["backup"] else "no backup yet")
            remarks += [f"nightly dump: {_age(dump['time'])} ago" for dump in database.get("dumps", [])[:1]]
            remarks += ["the last nightly dump failed"] if database.get("dump_failed") else []
        used = _gib(memory["size"] - memory["free"])
        shown.add_row(machine["name"], "", "", "", used, "", "", "", ", ".join(remarks), style="bold")
        for site in machine["sites"]:
            shown.add_row(*_row(site), style="yellow" if site["maintenance"] else None)
    return shown


def _row(site: Found) -> tuple[str, ...]:
    busy, requests = site["workers"], site["requests"]
    work = queue = memory = rate = errors = p95 = ""
    if busy:
        work = str(busy["busy"]) + (f" of {busy['busy'] + busy['idle']}" if busy["idle"] is not None else "")
        queue, memory = str(busy["queue"]), f"{busy['memory'] / (1 << 20):.0f} MiB"
    if requests:
        rate, errors = f"{requests['rate']:.1f}", f"{100 * requests['errors']:.1f} %"
        p95 = "" if requests["p95"] is None else f"{requests['p95']:.3f} s"
    remarks = ["in maintenance"] if site["maintenance"] else []
    if site["certificate"]:
        remarks.append(f"certificate: {(site['certificate']['ends'] - time.time()) / 86400:.0f} days")
    if site["backup"]:
        remarks.append(f"backup: {_age(site['backup'])} ago")
    release = f"{site['release']} for {_age(site['since'])}" if site["release"] else "waits for its first release"
    return (f"  {site['name']}", release, work, queue, memory, rate, errors, p95, ", ".join(remarks))


def _gib(size: int) -> str:
    return f"{size / (1 << 30):.1f} GiB"


def _age(since: float) -> str:
    """How long ago a time was. since: seconds since 1970."""
    seconds = max(0, int(time.time() - since))
    for unit, factor in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= factor:
            return f"{seconds // factor} {unit}"
    return f"{seconds} s"
