"""`preview`, `up` and `destroy`, from the first line to the last."""

import logging
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from ipaddress import IPv4Network, ip_network
from pathlib import Path
from urllib.parse import urlsplit

from rehearsal import addressing, archives, authority, firewall, image, lock, packages_cache, space
from rehearsal import stack as stacks
from rehearsal.compare import Op
from rehearsal.engine import Engine, Stopped
from rehearsal.errors import RehearsalError, UserError
from rehearsal.keys import NO_KEY, Keys
from rehearsal.lxd import Lxd, LxdError, data_folder, reachable
from rehearsal.pebble import Pebble
from rehearsal.preview import Preview, foresee
from rehearsal.preview_text import lines
from rehearsal.resources import Context, disk, machine, pairs
from rehearsal.show import Show, masked
from rehearsal.state import State
from settings.server import Network


def keys_of(root: Path, stack: str) -> Keys:
    return Keys(root / ".rehearsal" / stack)


def preview(root: Path, name: str, details: bool = False) -> int:
    """Show what `up` would do, without a machine and without root. Returns the exit code. Raises as up does.

    details: with all differences and inputs, however many.
    """
    started = time.monotonic()
    config = stacks.load(root, name)
    show = Show(secrets=config.secrets)
    with _masked(config):
        found = _foresee(root, config, show)
        _tell(found, show, details)
    show.line(f"{time.monotonic() - started:.1f} s")
    return 0


def up(root: Path, name: str, ask: bool = False, details: bool = False) -> int:
    """Bring a stack up. Returns the exit code. Raises UserError or RehearsalError.

    ask: whether what the preview shows is wanted, if there is anything to do. details: as of preview.
    """
    started = time.monotonic()
    config = stacks.load(root, name)
    with _masked(config):
        return _up(root, config, started, ask, details)


@contextmanager
def _masked(config: stacks.Stack) -> Iterator[None]:
    try:
        yield
    except (UserError, RehearsalError) as error:
        raise type(error)(masked(str(error), config.secrets)) from None


def _up(root: Path, config: stacks.Stack, started: float, ask: bool, details: bool) -> int:
    from rehearsal import host

    name = config.name
    show = Show(secrets=config.secrets)
    with lock.held(name):
        found = _foresee(root, config, show)
        _check_host(root, name, found)
        if found.anything:
            _tell(found, show, details)
            if ask and not _wanted(found, show):
                return 1
            show.line("Update", "bold")
            started = time.monotonic() if ask else started
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


def _foresee(root: Path, config: stacks.Stack, show: Show) -> Preview:
    """What an `up` would do: the same configuration over the same state, and nothing is installed, made or started."""
    keys = keys_of(root, config.name)
    public, unread = NO_KEY, []
    try:
        public = keys.public
    except FileNotFoundError:
        pass
    except OSError as error:
        unread = [f"{error.filename}: {error.strerror}; so another key than the rehearsal's is compared"]
    own, _ = stacks.overlay(config, public, dry=True)
    config, notes = stacks.overlay(config, public)
    if own.config != config.config:
        # What the cloud would refuse of the stack's own operating system.
        there = foresee(root, own, State(config.name, None), keys, logging.Logger("own", logging.ERROR))
        size = max((len(one.inputs["userData"].encode()) for one in there.records(pairs.INSTANCE)), default=0)
        system = stacks.section(own, "server").get("os")
        notes = [*notes, f"{system}'s own user data, in the cloud: {size} of {machine.USER_DATA_LIMIT} bytes"]
    config, more = archives.overlay(config, image.CACHE / "archives", fetch=False)
    config, asked = authority.foreseen(config, keys.folder / authority.ROOTS)
    try:
        state = State.load(config.name)
    except (LxdError, OSError) as error:
        state = State(config.name, None)
        why = str(error) if isinstance(error, LxdError) else f"{error.filename}: {error.strerror}"
        notes = [f"{why}; so nothing is compared, and every line is a create", *notes]
    if state.exists and state.folder != str(root) and _may_be(state.folder):
        raise UserError(f"stack {config.name} is rehearsed from {state.folder}; destroy it there first")
    found = foresee(root, config, state, keys, _logger(show))
    _check_routes(config)
    _hand_back(root)
    for text in (*unread, *notes, *more, *asked):
        show.note(text)
    return found


def _may_be(folder: str) -> bool:
    """Whether a folder is there, which some may not see."""
    try:
        return Path(folder).is_dir()
    except PermissionError:
        return True


def _check_host(root: Path, stack: str, found: Preview) -> None:
    """Refuse a host on which the machines would not come up, before anything is made. Raises UserError."""
    # The first bridge with machines; the one before it stands for the block.
    firewall.check(pairs.bridge(stack, 1))
    new = [change for change in found.changes if change.op in (Op.CREATE, Op.REPLACE)]
    machines = sum(change.record.type == pairs.INSTANCE for change in new)
    pool = data_folder() / "storage-pools"
    space.check({pool: machines * space.MACHINE, image.CACHE: space.CACHE, root: space.CHECKOUT})


def _tell(found: Preview, show: Show, details: bool) -> None:
    """Print a preview. Raises UserError when it is refused."""
    show.line("Preview", "bold")
    for text, style in lines(found, details):
        show.line(text, style)
    if found.refused:
        raise UserError("; ".join(found.refused))


def _wanted(found: Preview, show: Show) -> bool:
    """The user's answer to what was shown."""
    import click

    answers = ("yes", "no", "details")
    question = "Do you want to perform this update? [yes/no/details]"
    while True:
        try:
            answer = click.prompt(question, prompt_suffix=" ", default="no", show_default=False).strip().lower()
        except click.Abort:
            answer = "no"
        meant = [one for one in answers if answer and one.startswith(answer)]
        if meant == ["details"]:
            _tell(found, show, details=True)
        elif meant:
            return meant == ["yes"]


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
    rules = [record.inputs for record in context.state.records(pairs.RULE) if record.status == "done"]
    return any(
        gateway in ip_network(rule["cidrIp"])
        for rule in rules
        if rule.get("cidrIp") and rule.get("portRange") == f"{port}/{port}"
        for gateway in gateways
    )


def _hand_back(root: Path) -> None:
    """What sudo made in the user's checkout is the user's."""
    if "SUDO_UID" in os.environ and os.geteuid() == 0:
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
        for record in context.state.records(pairs.INSTANCE):
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
