"""The release tool: puts one release live on this machine, or leaves the old one serving.

    release.py prepare FOLDER < {"hosts": {...}, "tls": {...}}    what the machine's sites share (host.py)
    release.py apply FOLDER < {"env": {...}, "files": {...}, "pip": {...}, ...}    one site (rollout.py)
    release.py follow FOLDER < like apply                         one site, whose commands another machine has run
    release.py database FOLDER < {"database": {"password": ...}}  MySQL, on a machine of its own (database.py)
    release.py redis FOLDER < {"redis": {"password": ...}}        Redis, on a machine of its own (redis_server.py)
    release.py roll FOLDER < {"prepare": {...}, "apply": {...}}   what the members of a scaling group get (roll.py)
    release.py joined LEAST SECONDS                               waits for the members of a scaling group (joined.py)
    release.py settle FOLDER < like either                        ends the password that it had before
    release.py kept ARGUMENT...                                   the command wsgi-ecs-release (rollback.py)
    release.py status [--json]                                    what serves, and how the machine is (status.py)
    release.py metrics                                            the same for Prometheus, by HTTP (metrics.py)
    release.py maintenance on|off|status [--site S]               closes a site for a while (maintenance.py)
    release.py updates                                            installs the security updates (updates.py)
    release.py renew                                              asks for the certificates that are due (acme.py)

FOLDER holds an unpacked release: manifest.json, release.json, app/, config/, tool/. The new release starts beside the
old one in the other slot, is asked for its health, and only then gets the traffic by one switch. Whatever fails before
or after that ends with the old release serving. Applying the release that serves changes nothing, unless the
environment or the files on standard input changed; with nothing on standard input they stay as they are.
Run as root. Python 3.6, standard library only.
"""

import contextlib
import json
import os
import signal
import sys
from typing import Any, Callable, Dict, Iterator, List, Optional

import acme
import audit
import files
import host
import kept
import maintenance
import metadata
import metrics
import revive
import rollback
import space
import status
import updates
from commands import SIGNALS, Interrupted, ReleaseError, describe, say
from contract import paths
from contract.documents import RELEASE_FILE, Release
from contract.kept import Secrets
from inputs import INPUTS, read
from lock import LOCK_SECONDS, acquire_lock
from nginx import Nginx
from release_commands import hide
from rollout import Rollout
from unpacked import Unpacked, own_seconds


def apply(rollout: Rollout) -> None:
    """Put a release live. Raises ReleaseError, OSError or ValueError with the old release serving."""
    rollout.find_what_serves()
    try:
        _apply(rollout)
    except ReleaseError as error:
        # What programs print in their last lines goes into Pulumi's output.
        error.lines = hide(error.lines, rollout.secrets.env)
        raise


def _apply(rollout: Rollout) -> None:
    if rollout.serves_already():
        say("release {} serves already: nothing to do".format(rollout.unpacked.id))
        # A run that was killed after the switch has left them.
        _finish(rollout.run_after)
        return
    if rollout.is_rolled_back():
        text = "release {} was rolled back, and the one in its place goes on serving: nothing to do"
        say(text.format(rollout.unpacked.id))
        return
    rollout.report_overwritten_files()
    rollout.install()
    rollout.build()
    rollout.run_before()
    rollout.fill_other_slot()
    rollout.check()
    try:
        rollout.start()
        rollout.switch()
        rollout.confirm()
    except BaseException as error:
        rollout.roll_back(error)
        raise
    _finish(rollout.tidy_up, rollout.run_after)


def _finish(*steps: Callable[[], object]) -> None:
    """Take the steps after the switch."""
    try:
        for step in steps:
            step()
    except Interrupted as error:
        error.serves = True
        raise


def is_first(folder: str) -> bool:
    """Whether no release has served yet: of the site in `folder`, or of any site for what the sites share."""
    try:
        with open(os.path.join(folder, RELEASE_FILE), encoding="utf-8") as file:
            names = [str(json.load(file)["site"])]
    except (OSError, ValueError, TypeError, KeyError):
        names = files.site_names()
    folders = [os.path.join(paths.site_root(name), "slots", slot) for name in names for slot in paths.SLOTS]
    states = filter(None, map(files.slot_state, folders))
    return all(state.trial or state.release in (None, paths.BOOTSTRAP) for state in states)


def refuse(error: BaseException, outcome: Optional[str] = None, first: bool = False) -> None:
    """Print what is wrong, the lines that explain it, and what to do next.

    outcome: message prefix; default is a release. first: whether no release served before this one.
    """
    was_rolled_back = getattr(error, "was_rolled_back", True)
    if outcome is None:
        outcome = "release refused, the one before it still serves" if was_rolled_back else "release failed"
        if was_rolled_back and first:
            outcome = "release refused, the site waits for its first one"
        if getattr(error, "serves", False):
            outcome = "the release serves, but its run was cut short"
    lines = getattr(error, "lines", "").strip("\n")
    then = getattr(error, "then", "")
    if space.is_full(error):
        with contextlib.suppress(OSError):
            report, then = space.advice(error)
            lines = "\n".join(filter(None, (lines, report)))
    say("{}: {}{}".format(outcome, describe(error), "\n" + lines if lines.strip() else ""), sys.stderr)
    if then:
        say("next: " + then, sys.stderr)


# Message prefix of an error that is not a release's.
_OUTCOMES = {
    "database": "database not ready",
    "redis": "Redis not ready",
    "settle": "the old password is still valid",
    "roll": "release refused",
    "joined": "the members are not ready",
    "updates": "security updates failed",
}


def seconds(folder: str) -> int:
    """Seconds that the release in `folder` may take."""
    try:
        release = files.document(Release, os.path.join(folder, RELEASE_FILE))
    except (OSError, ValueError):
        # What the sites share has no such file.
        return LOCK_SECONDS
    return LOCK_SECONDS + own_seconds(release)


def renew() -> int:
    """Ask for certificates that are due. Returns the exit status."""
    try:
        return acme.renew(say, _renewal, lambda: Nginx(host.own_nginx()))
    except (Exception, Interrupted) as error:
        say("asking for certificates failed: {}".format(describe(error)), sys.stderr)
        return 1


def install_updates() -> int:
    """Install the security updates. Returns the exit status."""
    with audit.logged("updates") as entry:
        try:
            status = updates.command(say)
        except Interrupted as error:
            error.then = "systemctl start wsgi-ecs-updates installs the rest"
            raise
        if status:
            entry.outcome = "failed"
    return status


@contextlib.contextmanager
def _renewal() -> Iterator[None]:
    with acquire_lock(what="renewal of a certificate"), audit.logged("renew"):
        yield


def interrupted(number: int, _: Any) -> None:
    raise Interrupted("ended by signal {}".format(number))


def perform(verb: str, folder: str) -> None:
    """Do what a verb says with the release in `folder`. Raises ReleaseError, OSError or ValueError."""
    parts = read(sys.stdin.buffer, verb)
    if verb == "roll":
        # Only the members of a scaling group and their release host have this module.
        import roll

        roll.roll(folder, parts or {}, say)
        return
    with acquire_lock(seconds(folder), "{} of {}".format(verb, _name(folder))), audit.logged(verb) as entry:
        revive.revive_services(say)
        metadata.keep(say)
        if verb == "prepare":
            parts = parts or {"hosts": {}, "tls": None}
            texts = (parts.get(name, "") for name in ("authority", "store"))
            host.prepare(folder, parts["hosts"], parts["tls"], say, *texts)
            host.bring_database(folder, parts.get("database"), say)
        elif verb in ("apply", "follow"):
            _release(folder, parts or {}, verb == "apply", entry)
        else:
            # Only a service's server has this module.
            import service

            act = service.drop_old_credentials if verb == "settle" else service.prepare
            act(folder, parts or {}, say)
    if verb == "prepare":
        # A domain that does not point to this server yet is no reason to refuse anything.
        renew()


def _name(folder: str) -> str:
    """What the release in a folder is of, for the user."""
    try:
        return "site {}".format(files.document(Release, os.path.join(folder, RELEASE_FILE)).site)
    except (OSError, ValueError):
        return "the server"


def _release(folder: str, parts: Dict[str, Any], leads: bool, entry: audit.Entry) -> None:
    """Put the release of a site in `folder` live. parts: of standard input. leads: as in Rollout."""
    secrets = Secrets(parts["env"], parts["files"], parts.get("pip", {})) if parts else None
    unpacked = Unpacked(folder)
    rollout = Rollout(unpacked, secrets, say, parts.get("address"), leads)
    if "pin" in parts:
        rollout = rollback.pinned(rollout.release.site, parts["pin"], secrets, parts.get("address"))
    else:
        rollout.origin = kept.read_origin(parts.get("origin", {}))
    rollout.sent = unpacked.id
    entry.site, entry.release = rollout.release.site, rollout.unpacked.id
    entry.by = rollout.origin.by if rollout.origin else ""
    apply(rollout)


def wait_for_members(least: str, seconds: str) -> None:
    """Wait for the members of the store that this tool lies in. Raises ReleaseError or OSError."""
    # Only a scaling group's tool has these modules.
    import joined
    from store import Store

    root = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    joined.wait(Store(root), int(least), int(seconds), say)


def main(arguments: List[str]) -> int:
    """Returns the exit status: 0 the release serves, 1 it was refused or a certificate has not come, 2 wrong use.

    The status of `status` is 1 when a file was edited by hand.
    """
    if arguments[:1] == ["status"] and arguments[1:] in (
        [],
        ["--json"],
        ["--json", "--no-drift"],
        ["--revive"],
    ):
        return status.command(arguments[1:], print)
    if arguments == ["metrics"]:
        return metrics.command()
    if arguments[:1] == ["maintenance"]:
        return maintenance.command(arguments[1:])
    is_kept = arguments[:1] == ["kept"]
    is_joined = arguments[:1] == ["joined"] and len(arguments) == 3 and all(map(str.isdigit, arguments[1:]))
    takes_folder = arguments not in (["renew"], ["updates"]) and not is_kept and not is_joined
    if takes_folder and (len(arguments) != 2 or arguments[0] not in INPUTS):
        print(__doc__, file=sys.stderr)
        return 2
    os.umask(0o022)
    first = takes_folder and is_first(arguments[1])
    try:
        for number in SIGNALS:
            signal.signal(number, interrupted)
        if arguments == ["renew"]:
            return renew()
        if arguments == ["updates"]:
            return install_updates()
        if is_kept:
            return rollback.main(arguments[1:], apply)
        if is_joined:
            wait_for_members(*arguments[1:])
        else:
            perform(*arguments)
    except (Exception, Interrupted) as error:
        refuse(error, _OUTCOMES.get(arguments[0]), first)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
