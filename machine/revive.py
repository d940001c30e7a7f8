"""Starts again what should run on this machine and does not. Python 3.6, standard library only.

systemd and supervisor start again what has ended by itself. This is for what somebody has stopped or disabled, and for
what waits for the next of its attempts.
"""

import os
import time
from typing import List

import audit
import drop_ins
import files
import lock
import metadata
import processes
import redis_server
from commands import ReleaseError, Say, describe, run
from contract import paths
from contract.documents import SlotState
from managers import MANAGERS

# Seconds that the run which starts something may take.
_SECONDS = 120
# Seconds until a process manager that was started has started its programs.
_SETTLE_SECONDS = 10.0


def revive(say: Say, stopped_too: bool) -> None:
    """Start what does not run, unless a run has the lock: what that run has stopped is its own matter.

    stopped_too: also the programs that somebody has stopped (wsgi-ecs-app stop), which are only named otherwise.
    """
    if os.geteuid() != 0 or lock.current() is not None:
        return
    metadata.keep(say)
    if not (_services_down() or any(map(_is_down, _sites()))):
        return
    with lock.acquire_lock(_SECONDS, "start of what does not run"), audit.logged("revive"):
        if revive_services(say):
            # A process manager starts its programs itself.
            deadline = time.monotonic() + _SETTLE_SECONDS
            while any(map(_is_down, _sites())) and time.monotonic() < deadline:
                time.sleep(0.2)
        for state in filter(_is_down, _sites()):
            try:
                if _is_stopped(state) and not stopped_too:
                    say("site {0} was stopped by hand: wsgi-ecs-app start {0}, or up, starts it".format(state.site))
                    continue
                _revive_site(state)
                text = "does not start: site {} (look at its logs)" if _is_down(state) else "started again: site {}"
                say(text.format(state.site))
            except ReleaseError as error:
                say("does not start: site {}: {}".format(state.site, describe(error)))


def revive_services(say: Say) -> bool:
    """Start the services of systemd that should run and do not. Returns whether there was one.

    The caller has the lock.
    """
    down = _services_down()
    for unit in down:
        run("systemctl", "reset-failed", unit, check=False)
        run("systemctl", "start", unit, check=False)
    still = _services_down() if down else []
    for unit in down:
        say(("does not start: {0} (journalctl -u {0})" if unit in still else "started again: {0}").format(unit))
    return bool(down)


def _services_down() -> List[str]:
    """The units that should run, do not run, and are not about to."""
    names = drop_ins.units()
    names += [redis_server.UNIT + ".service"] if os.path.exists(redis_server.UNIT_FILE) else []
    states = run("systemctl", "is-active", *names, check=False).split() if names else []
    found = dict(zip(names, states))  # noqa: B905
    return [name for name in names if found.get(name) in ("inactive", "failed")]


def _sites() -> List[SlotState]:
    """What serves of each site that has a program here."""
    found = [files.slot_state(os.path.join(paths.site_root(name), "current")) for name in files.site_names()]
    return [state for state in found if state and state.release and state.endpoint]


def _is_down(state: SlotState) -> bool:
    try:
        return MANAGERS[state.manager]().is_down(state) or not processes.are_up(state, _folder(state))
    except ReleaseError:
        # The process manager itself does not answer.
        return True


def _is_stopped(state: SlotState) -> bool:
    try:
        return MANAGERS[state.manager]().is_stopped(state)
    except ReleaseError:
        return False


def _revive_site(state: SlotState) -> None:
    manager = MANAGERS[state.manager]()
    if manager.is_down(state):
        manager.retry(state, _folder(state))
    if not processes.are_up(state, _folder(state)):
        processes.retry(state, _folder(state))


def _folder(state: SlotState) -> str:
    return os.path.join(paths.site_root(state.site), "slots", state.slot)
