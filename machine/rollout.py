"""The steps by which a site's release gets the traffic, or leaves the old release serving.

Python 3.6, standard library only.
"""

import os
import time
from typing import Callable, Dict, NamedTuple, Optional, Set

import builds
import credentials
import data
import drift
import files
import host
import processes
import redis_server
import schedule
import venvs
from commands import ReleaseError, Say, describe, roll_back
from contract import paths
from contract.codec import decode
from contract.documents import RELEASE_FILE, Release, SlotState
from managers import MANAGERS
from nginx import Nginx, NoNginx
from release_commands import Commands, recover
from slots import other_slot
from traffic import Site
from unpacked import Unpacked

# A younger archive may belong to a run that waits for this run to end.
_INCOMING_SECONDS = 7 * 86400


class Secrets(NamedTuple):
    """What does not travel in an archive.

    env: name → text. files: file name → text beside the release's configs. pip: what credentials.lent() takes.
    """

    env: Dict[str, str]
    files: Dict[str, str]
    pip: Dict[str, str] = {}


class Rollout:
    """A release that is being applied. Each step raises ReleaseError, OSError or ValueError.

    given: the new secrets, None for the secrets that are in place.
    address: the server's in the world, None for the one that is in place. leads: whether the site's commands run on
    this machine, and not on another one that has the release before it.
    old: state of the slot that served at the beginning, None before a first release. new: of the slot to fill.
    """

    def __init__(
        self, folder: str, given: Optional[Secrets], say: Say, address: Optional[str] = None, leads: bool = True
    ) -> None:
        self.say = say
        self.unpacked = Unpacked(folder)
        self.release = decode(Release, self.unpacked.text(RELEASE_FILE))
        self.site = Site(self.release, MANAGERS[self.release.manager](), _nginx(self.release))
        self.given, self.address = given, address
        self.leads = leads
        self.old: Optional[SlotState] = None
        self.old_env: Optional[Dict[str, str]] = None
        self.old_workers: Set[int] = set()

    def find_what_serves(self) -> None:
        """Recover from a run that was killed, and find the release and the secrets that serve."""
        recover(self.release, self.site.releases, self.say)
        self.old = self.site.recover_interrupted_release(self.say)
        self._place_timers(self.old)
        self.old_target = self.site.target()
        self.old_env = self.site.env()
        old_address = self.old.facts.get("address") if self.old else None
        self.site.address = self.address or old_address or self.site.address
        self.secrets = self.given or Secrets(self.old_env or {}, self.site.secret_files(self.old))
        if self.release.redis_port:
            # The password is only on this machine.
            self.secrets = self.secrets._replace(env=dict(self.secrets.env, REDIS_URL=redis_server.url()))
        served = {"env": self.secrets.env, "files": self.secrets.files}
        # A new password for the same index changes nothing of what serves.
        indexes = credentials.addresses(self.secrets.pip)
        self.digest = files.digest(dict(served, indexes=indexes) if indexes else served)

    def serves_already(self) -> bool:
        """Whether this release serves with these secrets and fits the machine. Nothing is to be done then."""
        old = self.old
        if old is None or (old.release, old.env) != (self.unpacked.id, self.digest):
            return False
        if old.facts.get("address") != self.site.address:
            return False
        if not (self.site.fits(old) and self.site.serves(old)):
            return False
        if self.old_env != self.secrets.env:
            # A run that was killed had put its own environment in place.
            self.site.write_env(self.secrets.env)
        return True

    def report_overwritten_files(self) -> None:
        """Name the files that somebody has edited by hand: this release has its own."""
        if self.old and self.old.written:
            drift.report_overwritten(drift.of_site(self.release.site, self.old), self.say)

    def install(self) -> None:
        """Copy the release to where it serves from."""
        self.target = self.unpacked.install(self.site.releases, self.release.web_group)

    def build(self) -> None:
        """Build servers from source and the virtual environment, unless they are there."""
        for build in self.release.builds:
            builds.make(build, self.unpacked, self.say)
        self.venv = venvs.make(self.release, self.target, self.say, self.secrets.pip)
        data.link(self.release, self.target)
        data.serve(self.release)

    def run_before(self) -> None:
        """Run release.before. The folder of the release that serves is never written to."""
        if self.leads and not (self.old and self.old.release == self.unpacked.id):
            self._commands().run_before(self.say)

    def run_after(self) -> None:
        """Run release.after, unless a run has done so. A failure is a warning."""
        if self.leads:
            self._commands().run_after(self.say)

    def _commands(self) -> Commands:
        target = os.path.join(self.site.releases, self.unpacked.id)
        return Commands(self.release, self.unpacked, target, self.secrets.env)

    def fill_other_slot(self) -> None:
        """Empty the slot that does not serve, and fill it with this release."""
        slot = other_slot(self.old)
        self.site.clear(self.site.state(slot))
        self._fill(slot, "127.0.0.1")

    def _fill(self, slot: str, app_host: str) -> None:
        filled = self.site.fill(self.target, self.unpacked.id, slot, self.venv, self.secrets.files, app_host)
        self.new = filled._replace(env=self.digest, trial=True)
        self.site.save(self.new)

    def check(self) -> None:
        """Have nginx check the new slot's configuration."""
        self.site.check(self.new)

    def start(self) -> None:
        """Start the new slot's program and wait until it is healthy."""
        where = " {} {}".format("in place of" if self.site.alone else "beside", self.old.release) if self.old else ""
        self.say("starting release {}{}".format(self.unpacked.id, where))
        if self.new.computed:
            self.say("{} runs {}".format(self.release.site, self.new.computed))
        if self.site.alone and self.old:
            # Its processes go on, because they need no port.
            self.site.stop_program(self.old)
        self.site.write_env(self.secrets.env)
        self.site.start(self.new)
        processes.start(self.new, self.site.slot_dir(self.new.slot), self.release.user, self.say)

    def switch(self) -> None:
        """Give the traffic to the new slot, and check its health through the site's entrance."""
        self.say("it is healthy; giving it the traffic")
        if self.site.is_apart:
            # nginx on the other machine asks every port that listens, so the program listened on loopback until now.
            self.site.stop_program(self.new)
            self._fill(self.new.slot, "0.0.0.0")  # noqa: S104
            self.site.start(self.new)
        self.old_workers = self.site.switch(self.new)

    def confirm(self) -> None:
        """Note that the new slot is the one that serves, and what it has written."""
        self._place_timers(self.new)
        self.new = self.new._replace(trial=False, written=self.site.written(self.new))
        self.site.save(self.new)

    def roll_back(self, error: BaseException) -> None:
        """Leave the old slot and its environment as they were. Raises ReleaseError when that fails."""
        roll_back(error, self._undo)

    def _undo(self) -> None:
        try:
            # Without nginx the old program starts again, and reads its environment then. A full disk, which may have
            # refused the new environment, would refuse the old one, too.
            if self.old_env is not None and self.site.env() != self.old_env:
                self.site.write_env(self.old_env)
        finally:
            self.site.undo(self.old_target, self.old, self.new)
            self._place_timers(self.old)

    def _place_timers(self, state: Optional[SlotState]) -> None:
        """Give the site the timers of a slot, None for no slot."""
        folder = self.site.slot_dir(state.slot) if state else ""
        schedule.place(self.release.site, self.release.user, state, folder)

    def tidy_up(self) -> None:
        """Stop the old slot and remove what nobody needs. A failure does not end the release."""
        self.say("release {} serves".format(self.unpacked.id))
        try:
            data.close(self.release)
            if self.old:
                self.site.nginx.drain(self.old_workers, self.release.stop_seconds)
                self.site.clear(self.old)
            redis_server.remove_unused(self.say)
            for build in self.release.builds:
                files.link(build.folder, build.link)
            files.write(os.path.join(self.target, "served"), "", 0o640, self.release.web_group)
            prune_releases(self.site.releases, self.unpacked.id, self.release.keep)
            venvs.prune(venvs.used())
            prune_archives(self.unpacked.id)
            builds.prune()
        except (ReleaseError, OSError) as error:
            self.say("tidying up failed, and the next release tries again: {}".format(describe(error)))


def _nginx(release: Release) -> Nginx:
    kinds: Dict[str, Callable[[], Nginx]] = {
        "nginx": lambda: Nginx(host.own_nginx()),
        "none": NoNginx,
        "apart": lambda: NoNginx(release.handover_seconds),
    }
    return kinds[release.front]()


def prune_releases(releases: str, identifier: str, keep: int) -> None:
    """Keep the `keep` releases of a site that served last, with `identifier` among them, and remove the others."""

    def served(name: str) -> float:
        try:
            return os.stat(os.path.join(releases, name, "served")).st_mtime
        except OSError:
            return 0

    names = sorted((name for name in os.listdir(releases) if name != identifier), key=served, reverse=True)
    # A killed run leaves a name with a dot. This run holds the lock, so no other run makes such a name now.
    kept = [name for name in names if "." not in name][: keep - 1] + [identifier]
    for name in names:
        if name not in kept:
            path = os.path.join(releases, name)
            if "." not in name:
                # A release that is half removed must not be found under its name.
                os.rename(path, path + ".old")
                path += ".old"
            files.remove(path)


def prune_archives(identifier: str) -> None:
    """Remove the old archives whose release does not serve."""
    incoming = paths.incoming()
    needed = ["{}.tar.gz".format(release) for release in files.current_releases()] + [identifier]
    for name in os.listdir(incoming):
        path = os.path.join(incoming, name)
        if name not in needed and os.lstat(path).st_mtime < time.time() - _INCOMING_SECONDS:
            files.remove(path)
