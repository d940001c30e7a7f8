"""Take a delivery on a member: take.py STORE FOLDER LOG NUMBER TURN SITE... (own_machine.py)

fetch ─▶ prepare what the sites share ─▶ apply each SITE, follow the others ─▶ serving.json ─▶ outcome.json
                    └────────────────────────────┴─▶ refused: what had moved takes the delivery before again

Each part is taken as a server takes it over SSH: by run.sh of its archive, with its secrets on standard input. LOG has
what all of them print. Python 3.6, standard library only.
"""

import os
import subprocess
import sys
import tarfile
from typing import List, Optional

import files
import own_machine
from commands import ReleaseError, describe, say
from contract.documents import TOOL_FOLDER
from contract.resources import HOST_PART, site_part
from contract.store_documents import ARCHIVE, SECRETS, Delivery, Outcome, Serving, Task
from store import Store, Unreadable, flush_folder


class Taking:
    """A delivery that is being taken. store: of deliveries. folder: of the member's own files. log: what is printed."""

    def __init__(self, store: Store, folder: str, log: str) -> None:
        self.store, self.folder, self.log = store, folder, log
        self.moved = []  # type: List[str]

    def take(self, task: Task) -> None:
        """Raise ReleaseError, OSError or Unreadable with the delivery before in place, as far as that is possible."""
        before = own_machine.read(Serving, self.folder, own_machine.SERVING_FILE)
        is_whole = not os.path.exists(self._path(own_machine.MOVING_FILE))
        delivery = self._fetch(task.number)
        if is_whole:
            Store(self.folder).place(self._path(own_machine.MOVING_FILE), b"")
            flush_folder(self.folder)
        try:
            self._run(task.number, HOST_PART, "prepare")
            for site in sorted(delivery.sites):
                self._run(task.number, site_part(site), "apply" if site in task.commands else "follow")
        except (ReleaseError, OSError, tarfile.TarError) as error:
            self._go_back(before, delivery, error)
            if is_whole:
                files.remove(self._path(own_machine.MOVING_FILE))
            raise
        Store(self.folder).write(own_machine.SERVING_FILE, Serving(task.number, delivery.sites))
        files.remove(self._path(own_machine.MOVING_FILE))

    def _go_back(self, before: Optional[Serving], delivery: Delivery, error: Exception) -> None:
        """Apply the delivery before for what has moved. Raises ReleaseError with the lines of both errors."""
        moved, self.moved = self.moved, []
        if before is None or not moved:
            return
        # A site that only the delivery before has is removed with what the sites share.
        back = [site for site in sorted(before.sites) if site_part(site) in moved or site not in delivery.sites]
        say("what had moved takes delivery {} again".format(before.number))
        try:
            self._fetch(before.number)
            self._run(before.number, HOST_PART, "prepare")
            for site in back:
                self._run(before.number, site_part(site), "follow")
        except (ReleaseError, OSError, tarfile.TarError) as second:
            what = "{}; and going back to delivery {} failed: {}".format(
                describe(error), before.number, describe(second)
            )
            raise ReleaseError(what, "\n".join(getattr(each, "lines", "") for each in (error, second))) from error

    def _fetch(self, number: int) -> Delivery:
        folder = self._taking()
        files.remove(folder)
        os.mkdir(folder, 0o700)
        return self.store.fetch(number, folder)

    def _run(self, number: int, part: str, verb: str) -> None:
        """Do what the program's command does on a server (components/release.py). Raises ReleaseError."""
        archive = os.path.join(self._taking(), part + ARCHIVE)
        say("delivery {}: {} of {}".format(number, verb, part))
        offset = os.path.getsize(self.log)
        with tarfile.open(archive) as tar:
            member = tar.extractfile(TOOL_FOLDER + "run.sh")
            script = member.read().decode() if member else ""
        command = ["sh", "-c", script, "wsgi-ecs", verb, archive]
        with open(os.path.join(self._taking(), part + SECRETS), "rb") as secrets:
            # The lock that this process has inherited is the new one's, too (own_machine.py).
            status = subprocess.call(command, stdin=secrets, stderr=subprocess.STDOUT, close_fds=False)
        if status:
            lines = "\n".join(own_machine.last_lines(self.log, offset))
            raise ReleaseError("{} of {} ended with {}".format(verb, part, status), lines)
        self.moved.append(part)

    def _taking(self) -> str:
        return self._path("taking")

    def _path(self, name: str) -> str:
        return os.path.join(self.folder, name)


def main(arguments: List[str]) -> int:
    """Returns the exit status: 0 the delivery serves, 1 it was refused."""
    os.umask(0o022)
    store, folder, log, number, turn = arguments[:5]
    own = Store(folder)
    own.write(own_machine.TASK_FILE, Task(int(number), int(turn), arguments[5:]))
    taking = Taking(Store(store), folder, log)
    outcome = Outcome(True, [])
    try:
        taking.take(Task(int(number), int(turn), arguments[5:]))
    except Exception as error:
        # A refusal's own lines say all, and other errors have none.
        lines = getattr(error, "lines", "").splitlines()
        outcome = Outcome(False, [*lines, str(error) if isinstance(error, Unreadable) else describe(error)])
        say("refused: {}".format(outcome.lines[-1]))
    # They hold secrets.
    files.remove(os.path.join(folder, "taking"))
    own.write(own_machine.OUTCOME_FILE, outcome)
    return 0 if outcome.is_done else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
