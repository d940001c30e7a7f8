"""The steps by which a site's release gets the traffic, or leaves the old release serving.

Python 3.6, standard library only.
"""

import os
import time
from typing import Callable, Dict, Optional, Set

import builds
import credentials
import data
import drift
import files
import host
import kept
import lock
import maintenance
import processes
import redis_server
import schedule
import shared_data
import venvs
from commands import ReleaseError, Say, describe, roll_back
from contract import paths
from contract.codec import decode
from contract.documents import RELEASE_FILE, Release, SlotState
from contract.kept import Origin, Secrets
from managers import MANAGERS
from nginx import Nginx, NoNginx
from release_commands import Commands, recover
from slots import other_slot, served_at
from traffic import Site
from unpacked import Unpacked

# A younger archive may belong to a run that waits for this run to end.
_INCOMING_SECONDS = 7 * 86400


class Rollout:
    """A release that is being applied. Each step raises ReleaseError, OSError or ValueError.

    given: the new secrets, None for the secrets that are in place. address: the server's in the world, None for the
    one that is in place. leads: whether the site's commands run here and now: another machine may have run them, and no
    command runs for a release that is kept. by_hand: whether this is a rollback and not what the program wants.
    origin: of a release that is sent, None when nobody has said so.
    old: state of the slot that served at the beginning, None before a first release. new: of the slot to fill.
    """

    def __init__(
        self,
        unpacked: Unpacked,
        given: Optional[Secrets],
        say: Say,
        address: Optional[str] = None,
        leads: bool = True,
        by_hand: bool = False,
    ) -> None:
        self.say = say
        self.unpacked = unpacked
        self.release = decode(Release, self.unpacked.text(RELEASE_FILE))
        self.site = Site(self.release, MANAGERS[self.release.manager](), _nginx(self.release))
        self.given, self.address = given, address
        self.leads = leads and not unpacked.is_kept
        self.by_hand = by_hand
        self.origin: Optional[Origin] = None
        # The id of the archive that the program has sent, None for a rollback by hand.
        self.sent: Optional[str] = None
        self.old: Optional[SlotState] = None
        self.old_env: Optional[Dict[str, str]] = None
        self.old_workers: Set[int] = set()
        self.old_maintenance: maintenance.Snapshot = {}
        self.own_maintenance: maintenance.Snapshot = {}
        self.old_note: Optional[kept.Note] = None

    def find_what_serves(self) -> None:
        """Recover from a run that was killed, and find the release and the secrets that serve."""
        recover(self.release, self.site.releases, self.say)
        self.old = self.site.recover_interrupted_release(self.say)
        self.site.share_port(self.old)
        self._place_timers(self.old)
        self.old_target = self.site.target()
        self.old_env = self.site.env()
        if self.old and self.old.trial:
            self._confirm_kept_trial(self.old)
        old_address = self.old.facts.get("address") if self.old else None
        self.site.address = self.address or old_address or self.site.address
        self.secrets = self.given or Secrets(self.old_env or {}, self.site.secret_files(self.old))
        if self.release.redis_port:
            # The password is only on this machine.
            self.secrets = self.secrets._replace(
                env=dict(self.secrets.env, **{redis_server.VARIABLE: redis_server.url()})
            )
        served = {"env": self.secrets.env, "files": self.secrets.files}
        # A new password for the same index changes nothing of what serves.
        indexes = credentials.addresses(self.secrets.pip)
        self.digest = files.digest(dict(served, indexes=indexes) if indexes else served)

    def _confirm_kept_trial(self, state: SlotState) -> None:
        """Note what a killed run has not noted of its release, which was healthy and has nothing to go back to."""
        target = os.path.join(self.site.releases, str(state.release))
        if os.path.isdir(target):
            secrets = Secrets(self.old_env or {}, self.site.secret_files(state))
            kept.note(target, secrets, self.release)
        self.old = state._replace(trial=False, written=self.site.written(state))
        self.site.save(self.old)

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
        self._note_origin()
        if not self.by_hand and (old.rolled_back or old.sent != self.sent):
            self.site.save(old._replace(rolled_back=None, rolled_back_env=None, sent=self.sent))
        return True

    def is_rolled_back(self) -> bool:
        """Whether a rollback has ended just this release, with these secrets: who applies it again changed nothing."""
        old = self.old
        if old is None or self.by_hand or self.unpacked.is_kept:
            return False
        if (old.rolled_back, old.rolled_back_env) != (self.unpacked.id, self.digest):
            return False
        self._note_origin()
        return True

    def _note_origin(self) -> None:
        folder = os.path.join(self.site.releases, self.unpacked.id)
        if self.origin and os.path.isdir(folder):
            kept.note_origin(folder, self.origin, self.release.web_group)

    def report_overwritten_files(self) -> None:
        """Name the files that somebody has edited by hand: this release has its own."""
        if self.old and self.old.written:
            drift.report_overwritten(drift.of_site(self.release.site, self.old), self.say)

    def install(self) -> None:
        """Copy the release to where it serves from."""
        shared_data.check()
        self.target = self.unpacked.install(self.site.releases, self.release.web_group)
        if not self.unpacked.is_kept:
            origin = self.origin or Origin()
            # Who releases what no commit has is who has made it.
            own = origin._replace(by=origin.by or lock.who())
            kept.note_origin(self.target, own, self.release.web_group)

    def build(self) -> None:
        """Build servers from source and the virtual environment, unless they are there."""
        for build in self.release.builds:
            builds.make(build, self.unpacked, self.say)
        # A kept release needs no package index as long as its environment is there.
        there = venvs.kept(self.target) if self.unpacked.is_kept else ""
        self.venv = there or venvs.make(self.release, self.target, self.say, self.secrets.pip)
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
        self._fill(slot, "0.0.0.0" if self.site.alone else "127.0.0.1")  # noqa: S104

    def _fill(self, slot: str, app_host: str) -> None:
        filled = self.site.fill(self.target, self.unpacked.id, slot, self.venv, self.secrets.files, app_host)
        self.new = filled._replace(env=self.digest, trial=True, sent=self.sent)
        if self.by_hand and self.old:
            self._note_rollback(self.old)
        self.site.save(self.new)

    def _note_rollback(self, old: SlotState) -> None:
        """Note what was applied last: several rollbacks in a row are one from that release."""
        applied, env = (old.rolled_back, old.rolled_back_env) if old.rolled_back else (old.release, old.env)
        self.new = self.new._replace(sent=old.sent or old.release)
        if applied != self.unpacked.id:
            self.new = self.new._replace(rolled_back=applied, rolled_back_env=env)

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
        if self.site.is_apart or self.site.is_shared:
            # Whoever is elsewhere asks every port that listens, so the program listened on loopback until now.
            self.site.stop_program(self.new)
            self._fill(self.new.slot, "0.0.0.0")  # noqa: S104
            self.site.start(self.new)
        self.old_maintenance = maintenance.snapshot(self.release.site)
        self._maintain(maintenance.begin)
        self.old_workers = self.site.switch(self.new)

    def confirm(self) -> None:
        """Note that the new slot is the one that serves, and what it has written."""
        self._maintain(maintenance.follow)
        self._place_timers(self.new)
        self.old_note = kept.noted(self.target)
        kept.note(self.target, self.secrets, self.release)
        self.new = self.new._replace(trial=False, written=self.site.written(self.new))
        self.site.save(self.new)

    def _maintain(self, step: Callable[[Release], None]) -> None:
        """Close or open the site as the release says. Note what it has made of the files, if it fails too."""
        try:
            # A kept release has an old setting, and who goes back to it opens or closes nothing.
            if not self.unpacked.is_kept:
                step(self.release)
        finally:
            self.own_maintenance = maintenance.snapshot(self.release.site)

    def roll_back(self, error: BaseException) -> None:
        """Leave the old slot and its environment as they were. Raises ReleaseError when that fails."""
        roll_back(error, self._undo)

    def _undo(self) -> None:
        try:
            if self.old_note:
                kept.restore(self.target, self.old_note)
            # Without nginx the old program starts again, and reads its environment then. A full disk, which may have
            # refused the new environment, would refuse the old one, too.
            if self.old_env is not None and self.site.env() != self.old_env:
                self.site.write_env(self.old_env)
        finally:
            try:
                self.site.undo(self.old_target, self.old, self.new)
                maintenance.restore(self.old_maintenance, self.own_maintenance)
            finally:
                self._place_timers(self.old)

    def _place_timers(self, state: Optional[SlotState]) -> None:
        """Give the site the timers of a slot, None for no slot."""
        folder = self.site.slot_dir(state.slot) if state else ""
        schedule.place(self.release.site, self.release.user, state, folder)

    def tidy_up(self) -> None:
        """Stop the old slot and remove what nobody needs. A failure does not end the release."""
        closed = maintenance.describe(self.release.site)
        self.say("release {} serves{}".format(self.unpacked.id, closed and "; the site is " + closed))
        try:
            data.close(self.release)
            if self.old:
                self.site.drain(self.old, self.old_workers)
                self.site.clear(self.old)
                self.site.free_port()
            redis_server.remove_unused(self.say)
            for build in self.release.builds:
                files.link(build.folder, build.link)
            # A kept release may have been released with another number of them.
            if not self.unpacked.is_kept:
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
    names = [name for name in os.listdir(releases) if name != identifier]
    names.sort(key=lambda name: served_at(releases, name), reverse=True)
    # A killed run leaves a name with a dot. This run holds the lock, so no other run makes such a name now.
    staying = [name for name in names if "." not in name][: keep - 1] + [identifier]
    for name in names:
        if name not in staying:
            path = os.path.join(releases, name)
            if "." not in name:
                # A release that is half removed must not be found under its name.
                os.rename(path, path + ".old")
                path += ".old"
            files.remove(path)


def prune_archives(*identifiers: str) -> None:
    """Remove the old archives whose release does not serve. identifiers: of releases that have just come."""
    incoming = paths.incoming()
    needed = ["{}.tar.gz".format(release) for release in files.current_releases()] + list(identifiers)
    for name in os.listdir(incoming):
        path = os.path.join(incoming, name)
        if name not in needed and os.lstat(path).st_mtime < time.time() - _INCOMING_SECONDS:
            files.remove(path)
