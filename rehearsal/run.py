"""`up` and `destroy`, from the first line to the last."""

import logging
import os
import time
from ipaddress import IPv4Network, ip_network
from pathlib import Path
from urllib.parse import urlsplit

from rehearsal import addressing, archives, authority, image, lock, packages_cache
from rehearsal import stack as stacks
from rehearsal.engine import Dry, Engine, Stopped
from rehearsal.errors import RehearsalError, UserError
from rehearsal.keys import NO_KEY, Keys
from rehearsal.lxd import Lxd, reachable
from rehearsal.pebble import Pebble
from rehearsal.resources import Context, disk, machine, pairs
from rehearsal.show import Show, masked
from rehearsal.state import State
from settings.models import Network

_INSTANCE = "alicloud:ecs/instance:Instance"
_RULE = "alicloud:ecs/securityGroupRule:SecurityGroupRule"


def keys_of(root: Path, stack: str) -> Keys:
    return Keys(root / ".rehearsal" / stack)


def up(root: Path, name: str) -> int:
    """Bring a stack up. Returns the exit code. Raises UserError or RehearsalError."""
    started = time.monotonic()
    config = stacks.load(root, name)
    try:
        return _up(root, config, started)
    except (UserError, RehearsalError) as error:
        raise type(error)(masked(str(error), config.secrets)) from None


def _up(root: Path, config: stacks.Stack, started: float) -> int:
    from rehearsal import host

    name = config.name
    show = Show(secrets=config.secrets)
    with lock.held(name):
        check(root, config, Dry())
        _check_routes(config)
        host.prepare(show.note)
        alias = image.ensure(show.note)
        keys = keys_of(root, name)
        made = keys.ensure()
        config, notes = stacks.overlay(config, keys.public)
        config, more = archives.overlay(config, image.cache_folder() / "archives")
        config, point, asked = authority.overlay(config, keys.folder / authority.ROOTS, show.note)
        for text in (*notes, *more, *asked):
            show.note(text)
        state = State.load(name)
        if state.exists and state.folder != str(root) and Path(state.folder).is_dir():
            raise UserError(f"stack {name} is rehearsed from {state.folder}; destroy it there first")
        context = Context(root, state, keys, alias, image.cache_folder(), show.say, point)
        for record in state.records(pairs.ADDRESS):
            if "address" in record.facts:
                point(record.facts["address"])
        if made:
            machine.introduce(context)
        engine = Engine(context, show)
        with show:
            code, outputs = _run(root, config, engine, show)
        if code == 0:
            code = _prove(context, outputs, show, name, started, stacks.ca(config, root))
            _collect(context, engine)
        _hand_back(root)
    return code


def check(root: Path, config: stacks.Stack, registrar: Dry, preview: bool = True) -> None:
    """Run the program dry, so that what it refuses is refused before anything is installed or created.

    registrar: takes what it registers. preview: outputs stay unknown. Raises UserError.
    """
    from rehearsal import program
    from rehearsal.monitor import RehearsalMonitor

    refused: list[str] = []
    checked, _ = stacks.overlay(config, NO_KEY, dry=True)
    logger = logging.Logger("dry", logging.ERROR)
    try:
        program.run(root, checked, RehearsalMonitor(registrar, refused.append), logger, preview)
    except BaseException as error:
        text = refused[0] if refused else program.user_error(error)
        if text is None:
            raise
        raise UserError(text) from None


def _check_routes(config: stacks.Stack) -> None:
    """Refuse a network that this host has no room for, before LXD is asked. Raises UserError."""
    cidr = stacks.section(config, "network").get("cidr", Network().cidr)
    taken = [(network, device) for network, device in addressing.routes() if not pairs.BRIDGE.fullmatch(device)]
    if addressing.free_part(IPv4Network(cidr), addressing.BLOCK, [network for network, _ in taken]) is None:
        over = next(f"{network} by {device}" for network, device in taken if network.overlaps(IPv4Network(cidr)))
        raise UserError(
            f"stacks/Pulumi.{config.name}.yaml: network.cidr: this host has routes over all of {cidr}, "
            f"such as {over}; allowed in a rehearsal: a network with a free /{addressing.BLOCK}"
        )


def _run(root: Path, config: stacks.Stack, engine: Engine, show: Show) -> tuple[int, dict[str, object]]:
    from rehearsal import program
    from rehearsal.monitor import RehearsalMonitor

    refused: list[str] = []
    monitor = RehearsalMonitor(engine, refused.append)
    try:
        program.run(root, config, monitor, _logger(show))
    except BaseException as error:
        engine.failed = True
        engine.wait()
        text = program.user_error(error)
        if refused or text is not None:
            raise UserError(refused[0] if refused else str(text)) from None
        if engine.broken is not None:
            raise engine.broken from None
        if isinstance(error, (RehearsalError, UserError, Stopped)):
            show.close()
            show.line(
                f"failed: {show.summary()}; put it right and run ./rehearse up --stack {config.name} again", "red"
            )
            return 1, {}
        raise
    try:
        engine.delete_rest()
    except RehearsalError as error:
        show.close()
        show.line(f"failed: {error}", "red")
        return 1, {}
    shown = {key: value for key, value in monitor.outputs.items() if key not in monitor.secret_outputs}
    engine.context.state.outputs = shown
    return 0, {**shown, **dict.fromkeys(monitor.secret_outputs, "[secret]")}


class _ToShow(logging.Handler):
    def __init__(self, show: Show) -> None:
        super().__init__(logging.INFO)
        self.show = show

    def emit(self, record: logging.LogRecord) -> None:
        # Errors come again, as the failure they are.
        if record.levelno < logging.ERROR:
            self.show.note(record.getMessage())


def _logger(show: Show) -> logging.Logger:
    logger = logging.Logger("rehearsal", logging.INFO)
    logger.addHandler(_ToShow(show))
    return logger


def _admitted(context: Context, url: str) -> bool:
    """Whether a rule of the stack lets this host reach the site's port. Through NAT it comes from a gateway."""
    parts = urlsplit(url)
    port = parts.port or (443 if parts.scheme == "https" else 80)
    gateways = [pair.address.ip for pair in pairs.of_stack(context.host, context.stack)]
    rules = [record.inputs for record in context.state.records(_RULE) if record.status == "done"]
    return any(
        gateway in ip_network(rule["cidrIp"])
        for rule in rules
        if rule.get("cidrIp") and rule.get("portRange") == f"{port}/{port}"
        for gateway in gateways
    )


def _hand_back(root: Path) -> None:
    """What sudo made in the user's checkout is the user's."""
    if "SUDO_UID" in os.environ:
        owner = int(os.environ["SUDO_UID"]), int(os.environ.get("SUDO_GID", "-1"))
        for folder in (root / ".build", root / ".rehearsal"):
            for path in (folder, *folder.rglob("*")):
                if path.exists():
                    os.chown(path, *owner, follow_symlinks=False)


def _prove(context: Context, outputs: dict[str, object], show: Show, name: str, started: float, ca: Path | None) -> int:
    from rehearsal.proof import prove

    if "ssh" in outputs:
        outputs["ssh"] = f"./rehearse ssh --stack {name}"
    show.line(show.summary())
    show.outputs(_ordered(outputs))
    code = 0
    if outputs.get("url") and outputs.get("address"):
        answer = prove(str(outputs["url"]), str(outputs["address"]), ca)
        shut_out = answer.status is None and not _admitted(context, str(outputs["url"]))
        show.line(answer.line, "bold green" if answer.good else "yellow" if shut_out else "bold red")
        if shut_out:
            show.line("access.http does not let this host in; on the machine itself the release has answered")
        elif not answer.good:
            show.line(answer.body)
            code = 1
    show.line(f"{time.monotonic() - started:.1f} s")
    return code


def _ordered(outputs: dict[str, object]) -> dict[str, object]:
    """What one looks for first, then the others by name."""
    first = ("url", "address", "ssh", "release")
    return {key: outputs[key] for key in (*first, *sorted(set(outputs) - set(first))) if key in outputs}


def _collect(context: Context, engine: Engine) -> None:
    """Keep what new or changed machines have fetched."""
    if engine.changes:
        for record in context.state.records(_INSTANCE):
            packages_cache.collect(context.lxd, record.id, context.cache)


def destroy(root: Path, name: str, force: bool = False) -> int:
    """Remove a stack, whatever is left of it. Returns the exit code."""
    started = time.monotonic()
    if not reachable():
        raise UserError("LXD is not running, so no rehearsal is; ./rehearse setup starts it")
    show = Show()
    with lock.held(name):
        state = State.load(name)
        keys = keys_of(root, name)
        context = Context(root, state, keys, "", image.CACHE, show.say)
        engine = Engine(context, show)
        with show:
            engine.delete(state.records(), force)
            # What no record knows of, such as the rest of a run that was killed.
            for machine_name in _machines(context):
                machine.remove(context, machine_name)
            pairs.remove_all(Lxd(), name)
            disk.remove_all(Lxd(), name)
            existed = state.exists
            state.delete()
            Pebble(name).close()
        for file in (keys.known_hosts, keys.folder / authority.ROOTS):
            file.unlink(missing_ok=True)
        show.line(show.summary() if existed else f"stack {name}: nothing to destroy")
        show.line(f"{time.monotonic() - started:.1f} s")
    return 0


def _machines(context: Context) -> list[str]:
    if not context.state.exists:
        return []
    return [path.split("?")[0].rsplit("/", 1)[-1] for path in context.lxd.get("/1.0/instances")]
