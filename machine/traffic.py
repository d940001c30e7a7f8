"""A site's programs and its traffic: a release starts in one slot, is proved healthy and gets the traffic.

Python 3.6, standard library only.
"""

import os
import time
from typing import Optional, Set

import causes
import files
import probe
import processes
from commands import ReleaseError, Say
from contract import paths
from contract.documents import Probe, Release, SlotState
from logs import printed, size, tail
from managers import RUNNING, STARTING, Manager
from nginx import Nginx
from slots import Slots, other_slot

# An application may answer 503 for a moment while it warms up.
SETTLE_SECONDS = 3.0
# The application's last lines reach its log a moment after its answer.
LOG_SECONDS = 0.3


class Site(Slots):
    """The site of a release on this machine, with its process manager and nginx."""

    def __init__(self, release: Release, manager: Manager, nginx: Nginx) -> None:
        super().__init__(release)
        self.manager = manager
        self.nginx = nginx
        self.has_nginx = release.front == "nginx"
        # Without nginx the port is the site's own, and only one program at a time can have it.
        self.alone = release.front == "none"
        # With nginx on another machine, the release is asked at its own port.
        self.is_apart = release.front == "apart"
        self.entrance = "nginx" if self.has_nginx else "port {}".format(release.probe.port)

    @property
    def start_seconds(self) -> float:
        """Seconds that a release may take until it answers."""
        return self.release.start_seconds

    def recover_interrupted_release(self, say: Say) -> Optional[SlotState]:
        """Finish or undo what a killed run left. Returns the state of the slot that serves, or None."""
        serving = self.current()
        if serving is None:
            self._clear_both()
            return None
        other = self.state(other_slot(serving))
        if serving.trial and other.release is None:
            self._undo_first_release()
            return None
        condition = self.manager.state(other)
        if serving.trial and not other.trial and condition == RUNNING:
            say(
                "the previous run was interrupted before the health check of release {}; rolling back".format(
                    serving.release
                )
            )
            serving, other = other, serving
        elif condition is None and not os.path.lexists(other.program_link):
            self.clear(other)
            return self.ensure_running(serving)
        # nginx may have loaded either slot, so no program stops before nginx has loaded this slot.
        self.nginx.drain(self.give_traffic("slots/" + serving.slot), self.release.stop_seconds)
        self.clear(other)
        return self.ensure_running(serving)

    def _undo_first_release(self) -> None:
        """Return to the page that waits: a first release was killed before its health check."""
        if self.alone:
            files.remove(self.link)
        else:
            self.nginx.drain(self.give_traffic(paths.WAITING), self.release.stop_seconds)
        self._clear_both()

    def _clear_both(self) -> None:
        for slot in paths.SLOTS:
            self.clear(self.state(slot))

    def ensure_running(self, state: SlotState) -> SlotState:
        """Start a slot again that a killed run had stopped to free its port. Returns its state."""
        if self.alone and self.manager.state(state) != RUNNING:
            self.stop_program(state)
            self.manager.add(state, self.slot_dir(state.slot))
        processes.ensure_running(state, self.slot_dir(state.slot))
        return state

    def clear(self, state: SlotState) -> None:
        """Stop a slot's program and its processes, and remove what they leave."""
        self.stop_program(state)
        processes.stop(state, self.slot_dir(state.slot))

    def stop_program(self, state: SlotState) -> None:
        """Stop a slot's program and remove what it leaves: its socket must not answer for the next program."""
        self.manager.remove(state, self.release.stop_seconds)
        files.remove(state.pidfile)
        if state.endpoint and state.endpoint.address.startswith("unix:"):
            files.remove(state.endpoint.address[len("unix:") :])
        # nginx reads the secret files of the other slot by now.
        for name in state.files:
            files.remove(os.path.join(self.slot_dir(state.slot), name))

    def check(self, state: SlotState) -> None:
        """Have nginx check its configuration with the slot's part in it. Raises ReleaseError."""
        if not self.has_nginx:
            return
        folder = self.slot_dir(state.slot)
        with open(os.path.join(paths.host_root(), "current", "nginx.conf"), encoding="utf-8") as file:
            text = file.read().replace(self.link + "/", folder + "/")
        path = os.path.join(folder, "check.conf")
        files.write(path, text, 0o640)
        self.nginx.check(path)
        files.remove(path)

    def start(self, state: SlotState) -> None:
        """Start the slot's program, if it has one, and wait until it is healthy. Raises ReleaseError."""
        if state.endpoint is None:
            return
        files.log(state.log, self.release.user)
        offset = size(state.log)
        self.manager.add(state, self.slot_dir(state.slot))
        started = time.monotonic()
        settled = None
        has_run = False
        request = self.probe_of(state)
        while True:
            answer = None
            try:
                answer = probe.through_endpoint(state.endpoint, request)
                if answer.good:
                    return
                problem = "the application answers {} with {}".format(probe.describe(request), answer)
                settled = settled or time.monotonic() + SETTLE_SECONDS
            except OSError as error:
                problem = "the application does not answer {} within {:.0f} s: {}".format(
                    probe.describe(request), time.monotonic() - started, error
                )
            condition = self.manager.state(state)
            if condition not in (STARTING, RUNNING) or (has_run and condition != RUNNING):
                status = self.manager.status(state) or "no such program"
                problem = "the application does not start ({}: {})".format(self.release.manager, status)
            elif time.monotonic() < (settled or started + self.start_seconds):
                has_run = has_run or condition == RUNNING
                time.sleep(0.1)
                continue
            time.sleep(LOG_SECONDS)
            is_late = answer is None and condition == RUNNING
            lines = printed(state.log, offset)
            raise ReleaseError(problem, lines, self._advice(state, lines, answer, is_late))

    def give_traffic(self, target: str) -> Set[int]:
        """Point `current` to a slot or the waiting page. Returns nginx's old workers, which finish their requests."""
        files.link(target, self.link)
        return self.nginx.reload()

    def switch(self, state: SlotState) -> Set[int]:
        """Give the traffic to the slot and send the probe through the entrance. Returns nginx's old workers.

        Raises ReleaseError when the answer is not healthy.
        """
        nginx_log = os.path.join(paths.logs(self.release.site), "error.log")
        offset, nginx_offset = size(state.log), size(nginx_log)
        old_workers = self.give_traffic("slots/" + state.slot)
        lines, answer = "", None
        request = self.probe_of(state)
        try:
            answer = self.ask(state)
            if answer.good:
                return old_workers
            problem = "{} through {} gives {}".format(probe.describe(request), self.entrance, answer)
            time.sleep(LOG_SECONDS)
            lines = tail(state.log, offset)
        except OSError as error:
            problem = "{} does not answer {}: {}".format(self.entrance, probe.describe(request), error)
        log = tail(nginx_log, nginx_offset, lines=10)
        raise ReleaseError(problem, lines + "\n" + log, self._advice(state, lines, answer))

    def _advice(self, state: SlotState, lines: str, answer: Optional[probe.Answer], is_late: bool = False) -> str:
        """What to do about an answer that is not good, or about none.

        lines: what the application printed. is_late: the program still runs without an answer.
        """
        request = self.probe_of(state)
        known = causes.advice(self.release.site, lines)
        if known:
            return "{}; all that it printed is in {}".format(known, state.log)
        advice = "fix the application"
        if answer or is_late:
            advice += " or app.health ({})".format(request.path)
        if is_late:
            advice = "raise app.start_seconds ({}) if the application needs longer to start, or {}".format(
                self.release.start_seconds, advice
            )
        elif answer and self._front_page_is_good(request, state):
            advice = "set app.health to /, which answers 2xx, or add a page at {} that does,".format(request.path)
        elif answer and answer.location:
            advice = "set app.health to a path that answers 2xx itself instead of redirecting, or " + advice
        elif answer and answer.status == 400:
            advice = (
                "if the application checks the Host header, allow {} in it (Django: ALLOWED_HOSTS) or set "
                "site.server_name to a name that it allows; otherwise {}".format(request.host, advice)
            )
        elif answer and answer.status in (401, 403, 404, 405):
            advice = (
                "add a page at {} that answers 2xx to anybody, or set app.health to one that does "
                "(./rehearse doctor looks for one),".format(request.path)
            )
        return "{} and run up again; all that it printed is in {}".format(advice, state.log)

    def probe_of(self, state: SlotState) -> Probe:
        """The request by which a slot's release is judged."""
        return state.probe or self.release.probe

    def _front_page_is_good(self, request: Probe, state: SlotState) -> bool:
        """Whether the application answers / with 2xx, so that app.health may be that path instead."""
        if state.endpoint is None or request.path == "/":
            return False
        try:
            return probe.through_endpoint(state.endpoint, request._replace(path="/"), timeout=3.0).good
        except OSError:
            return False

    def ask(self, state: SlotState) -> probe.Answer:
        """The answer of the release that has the traffic, the way that requests come. Raises OSError."""
        if self.is_apart and state.endpoint:
            return probe.through_endpoint(state.endpoint, self.probe_of(state))
        return probe.through_entrance(self.probe_of(state))

    def serves(self, state: SlotState) -> bool:
        """Whether the slot's program and processes run and the site is healthy."""
        try:
            is_up = self.manager.state(state) == RUNNING and self.ask(state).good
            return is_up and processes.are_up(state, self.slot_dir(state.slot))
        except OSError:
            return False

    def undo(self, target: str, old: Optional[SlotState], state: SlotState) -> None:
        """Return to where `current` pointed, and stop the new slot. Raises what fails on the way."""
        if self.alone:
            self.clear(state)
        if target and self.target() != target:
            self.give_traffic(target)
        if self.alone and old:
            self.manager.add(old, self.slot_dir(old.slot))
        elif not self.alone:
            self.clear(state)
