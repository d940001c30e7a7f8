"""A site that stands still while its data are replaced. Python 3.6, standard library only."""

import contextlib
import os
import signal
import time
from typing import Iterator, Optional

import data
import files
import processes
import schedule
from commands import SIGNALS
from contract import paths
from contract.documents import SlotState
from managers import MANAGERS, RUNNING

# Seconds until the site's program runs again; a program that does not is no reason to undo anything.
_PATIENCE = 30.0


@contextlib.contextmanager
def paused(site: str) -> Iterator[Optional[SlotState]]:
    """End all programs of a site, and start them again at the end. Yields the slot that serves, None for no slot."""
    state = files.slot_state(os.path.join(paths.site_root(site), "current"))
    if state is None:
        yield None
        return
    folder, user = os.path.join(paths.site_root(site), "slots", state.slot), data.owner(site)
    manager = MANAGERS[state.manager]() if state.endpoint else None
    try:
        schedule.stop(state)
        processes.stop(state, folder)
        if manager:
            manager.remove(state, state.stop_seconds)
        yield state
    finally:
        # A second signal must not leave the site as it is.
        handlers = {number: signal.signal(number, signal.SIG_IGN) for number in SIGNALS}
        try:
            if manager:
                manager.add(state, folder)
                deadline = time.monotonic() + _PATIENCE
                while manager.state(state) != RUNNING and time.monotonic() < deadline:
                    time.sleep(0.2)
        finally:
            processes.ensure_running(state, folder)
            schedule.place(site, user, state, folder)
            for number, handler in handlers.items():
                signal.signal(number, handler)
