"""A site's programs and its traffic: a release starts in one slot, is proved healthy and gets the traffic.

Python 3.6, standard library only.
"""

import os
import time
from typing import Callable, Optional, Set

import causes
import connections
import files
import probe
import processes
import view
from commands import ReleaseError, Say
from contract import paths
from contract.documents import RELEASE_FILE, Probe, Release, SlotState
from contract.placeholders import APP_HOST, facts_in
from logs import printed, size, tail
from managers import RUNNING, STARTING, Manager
from nginx import Nginx
from shared_port import SharedPort, migrate
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
        # Without nginx, the old program and the new one may have the port at the same time.
        self.is_shared = False
        self.port: Optional[SharedPort] = None
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
        if serving.trial and not other.trial and condition == RUNNING and not self.is_proved(serving):
            say(
                "the previous run was interrupted before the health check of release {}; rolling back".format(
                    serving.release
                )
            )
            serving, other = other, serving
        elif not serving.trial and not self._is_left(other, condition):
            self.clear(other)
            return self.ensure_running(serving)
        elif other.release:
            text = "the previous run was interrupted: ending what it has left of release {}, while release {} serves"
            say(text.format(other.release, serving.release))
        # nginx may have loaded either slot, so no program stops before nginx has loaded this slot.
        self.drain(other, self.give_traffic("slots/" + serving.slot, always=True))
        self.clear(other)
        return self.ensure_running(serving)

    def _is_left(self, other: SlotState, condition: Optional[str]) -> bool:
        """Whether a killed run left something in the slot that does not serve. condition: of its program."""
        if other.endpoint is None:
            # A slot without a program is on trial until nginx has been asked.
            return other.trial
        return condition is not None or os.path.lexists(other.program_link)

    def share_port(self, old: Optional[SlotState]) -> None:
        """Let the new program have the port beside the old one, if both can share it.

        Linux lets only programs of the same user share a port.
        """
        if not (old and _shares_port(self.release)):
            return
        try:
            before = files.document(Release, os.path.join(self.releases, str(old.release), RELEASE_FILE))
        except (OSError, ValueError):
            return
        self.is_shared = _shares_port(before) and before.user == self.release.user
        self.alone = self.alone and not self.is_shared
        if self.is_shared:
            migrate()

    def _undo_first_release(self) -> None:
        """Return to the page that waits: a first release was killed before its health check."""
        if self.alone:
            files.remove(self.link)
        else:
            self.nginx.drain(self.give_traffic(paths.WAITING, always=True), self.release.stop_seconds)
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
        files.remove(view.socket(state))
        files.remove(paths.stats(state.site, state.slot))
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
        endpoint = state.endpoint
        if endpoint is None:
            return
        files.log(state.log, self.release.user)
        offset = size(state.log)
        if self.is_shared:
            self.port = SharedPort(endpoint.address)
            self.port.keep()
        self.manager.add(state, self.slot_dir(state.slot))
        started = time.monotonic()
        settled = None
        has_run = False
        request = self.probe_of(state)
        while True:
            answer = None
            try:
                answer = self._of_new(lambda: probe.through_endpoint(endpoint, request))
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

    def _of_new(self, ask: Callable[[], probe.Answer]) -> probe.Answer:
        """The answer to a request, of the new program if an old one shares its port. Raises OSError."""
        return self.port.answer(ask) if self.port else ask()

    def give_traffic(self, target: str, always: bool = False) -> Set[int]:
        """Point `current` to a slot or the waiting page. Returns nginx's old workers, which finish their requests.

        nginx is reloaded only if its texts differ. always: because nobody knows which texts nginx has loaded.
        """
        is_loaded = not always and view.are_same(self.link, os.path.join(self.folder, target))
        files.link(target, self.link)
        return set() if is_loaded and self.nginx.workers() else self.nginx.reload()

    def drain(self, state: SlotState, old_workers: Set[int]) -> None:
        """Wait until nobody needs the program of a slot that has lost the traffic, for stop_seconds at most."""
        deadline = time.monotonic() + self.release.stop_seconds
        self.nginx.drain(old_workers, self.release.stop_seconds)
        # Without a reload, nginx's workers still have the requests that they have passed to the program.
        if view.socket(state):
            connections.wait_for_end(view.socket(state), deadline)
        if self.port:
            self.port.drain(state.closes_connections, deadline)

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
            answer = self._of_new(lambda: self.ask(state))
            if answer.good:
                if self.port:
                    self.port.move()
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
        elif self.port:
            self.port.keep()
            self.drain(state, set())
        if target and self.target() != target:
            old_workers = self.give_traffic(target)
            if self.has_nginx:
                self.drain(state, old_workers)
        if self.alone and old:
            self.manager.add(old, self.slot_dir(old.slot))
        elif not self.alone:
            self.clear(state)
            self.free_port()

    def free_port(self) -> None:
        """Let the kernel choose again who gets a connection, after one of two programs on a port has ended."""
        if self.port:
            self.port.free()


def _shares_port(release: Release) -> bool:
    """Whether the program of a release without nginx shares its port, which it has at any address by SO_REUSEPORT.

    A release of an earlier version names the address itself.
    """
    address = release.endpoint.address if release.endpoint else ""
    return release.front == "none" and APP_HOST in facts_in(address)
