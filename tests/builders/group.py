"""A scaling group without machines: the real store, members and roll-outs on a folder, with clocks that tests move."""

import errno
import shutil
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from contract.store_documents import Member, Task
from tests.unit.machine import module

commands, release_host = (module(name) for name in ("commands", "release_host"))
member: Any = module("member")
store: Any = module("store")

# A folder in memory, where there is one: on a disk, each of the many small files would be waited for.
FAST = "/dev/shm" if Path("/dev/shm").is_dir() else None
# Seconds between two steps of everybody.
ROUND = 6.0


class Killed(BaseException):
    """The release host loses its power."""


class Store(store.Store):  # type: ignore[misc]
    """The store as one machine reaches it.

    refusals: how many of its next accesses fail. writes_left: after how many writes the machine is killed, None for
    never.
    """

    refusals = 0
    writes_left: int | None = None

    def _access(self) -> None:
        if self.refusals:
            self.refusals -= 1
            raise OSError(errno.ESTALE, "Stale file handle")

    def _write(self) -> None:
        if self.writes_left is not None:
            if self.writes_left <= 0:
                raise Killed
            self.writes_left -= 1

    def read(self, kind: Any, name: str) -> Any:
        try:
            self._access()
        except OSError as error:
            raise store.Unreadable(f"{name} cannot be read: {error.strerror}") from error
        return super().read(kind, name)

    def rename(self, path: str, target: str) -> None:
        self._access()
        self._write()
        super().rename(path, target)

    def remove(self, path: str) -> None:
        self._access()
        self._write()
        super().remove(path)


class Machine(member.Machine):  # type: ignore[misc]
    """A member's machine. bad: deliveries that no machine takes. is_sick: whether this machine takes none at all.

    history: tasks that it has begun, and times: when. impatient: those that it took by itself, although it served and
    an offer was open. accepted: deliveries that it has served.
    """

    def __init__(self, shared: Store, rounds: int, bad: Mapping[int, bool], clock: Callable[[], float]) -> None:
        self.store, self.rounds, self.bad, self.clock = shared, rounds, bad, clock
        self.number: int | None = None
        self.sites: dict[str, str] = {}
        self.is_sick = False
        self.task: Task | None = None
        self.left = 0
        self.history: list[Task] = []
        self.times: list[float] = []
        self.impatient: list[Task] = []
        self.accepted: list[int] = []

    def serves(self) -> tuple[int | None, dict[str, str]]:
        return self.number, self.sites

    def begun(self) -> None:
        return None

    def seconds(self) -> float:
        return self.clock()

    def begin(self, task: Task) -> None:
        self.task, self.left = task, self.rounds
        self.history.append(task)
        self.times.append(self.clock())
        if not task.turn and self.number is not None and self.store.offer().number is not None:
            self.impatient.append(task)

    def outcome(self) -> Any:
        assert self.task is not None
        if self.left:
            self.left -= 1
            return None
        number = self.task.number
        folder = tempfile.mkdtemp(dir=self.store.folder)
        try:
            delivery = self.store.fetch(number, folder)
        except commands.ReleaseError as error:
            return member.Outcome(False, [str(error)])
        finally:
            shutil.rmtree(folder)
        if self.bad.get(number) or self.is_sick:
            return member.Outcome(False, [f"delivery {number} has no application"])
        self.number, self.sites = number, delivery.sites
        self.accepted.append(number)
        return member.Outcome(True, [])


class Node:
    """A member of the group with its clock. speed: its seconds in a second. frozen: whether it does nothing now."""

    def __init__(self, world: "World", name: str, offset: float, speed: float, rounds: int) -> None:
        self.world, self.name, self.offset, self.speed = world, name, offset, speed
        self.store = Store(world.folder)
        self.machine = Machine(self.store, rounds, world.bad, lambda: world.time)
        self.lives, self.frozen = True, False
        # Times at which it was frozen or restarted: whoever watched may have taken it for dead.
        self.gaps: list[float] = []
        self.lines: list[str] = []
        self.start()

    def start(self) -> None:
        """Start the member's program, which remembers nothing but its file."""
        self.machine.task = None
        self.watcher = member.Watcher(self.name, self.store, self.machine, self.lines.append)

    def step(self) -> None:
        if self.lives and not self.frozen:
            self.watcher.step(self.offset + self.speed * self.world.time)

    def said(self) -> Member | None:
        return self.store.member(self.name)  # type: ignore[no-any-return]


class World:
    """A group, its release host and time. keep, at_once: as in RollOut."""

    def __init__(self, folder: Path, at_once: int = 1, keep: int = 1) -> None:
        self.folder, self.at_once, self.keep = str(folder), at_once, keep
        self.time = 0.0
        self.offset, self.speed = 5000.0, 1.0
        # Number → whether no machine takes it.
        self.bad: dict[int, bool] = {}
        self.nodes: dict[str, Node] = {}
        self.host = Store(self.folder)
        self.host.make()
        # What was asked of the release host, in order: each makes a roll-out when the one before has ended.
        self.asked: list[Callable[[], Any]] = []
        self.rollout: Any = None
        self.lines: list[str] = []
        self.errors: list[str] = []

    def join(self, name: str, offset: float = 0.0, speed: float = 1.0, rounds: int = 0) -> Node:
        node = self.nodes[name] = Node(self, name, offset, speed, rounds)
        return node

    def deliver(self, sites: Mapping[str, str], bad: bool = False, seconds: int = 120) -> int:
        number: int = release_host.next_number(self.host)
        self.bad[number] = bad
        self.host.deliver(number, dict(sites), seconds, {}, {"site.json": b"{}"})
        return number

    def ask(self, sites: Mapping[str, str] | None = None, bad: bool = False) -> None:
        """Ask for a release, as `up` does."""
        self.asked.append(lambda: self._roll_out(self.deliver(sites or {"app": f"r{len(self.bad) + 1}"}, bad)))

    def ask_back(self, number: int) -> None:
        """Ask for a rollback to a delivery."""
        self.asked.append(lambda: self._roll_out(number))

    def ask_end(self) -> None:
        """Ask for the end of what a killed roll-out has left."""
        self.asked.append(lambda: self._roll_out(0))

    def _roll_out(self, number: int) -> Any:
        now = self.offset + self.speed * self.time
        return release_host.RollOut(self.host, number, self.at_once, self.keep, self.lines.append, now)

    def step_host(self) -> None:
        """Let the release host take a step. A killed one forgets what was asked first."""
        try:
            if self.rollout is None and self.asked:
                self.rollout = self.asked[0]()
            if self.rollout and self.rollout.step(self.offset + self.speed * self.time):
                ended, self.rollout = self.rollout, None
                del self.asked[0]
                ended.check()
        except commands.ReleaseError as error:
            self.errors.append("\n".join([str(error), error.lines]))
            if self.rollout:
                self.kill_host()
        except (store.Unreadable, OSError):
            # It tries again with the next step.
            pass
        except Killed:
            self.kill_host()

    def kill_host(self) -> None:
        self.host.writes_left = None
        self.rollout = None
        self.asked = self.asked[1:]

    def pass_time(self, rounds: int = 1, order: Callable[[list[Node]], list[Node]] = list) -> None:
        for _ in range(rounds):
            self.time += ROUND
            for node in order(list(self.nodes.values())):
                node.step()
            self.step_host()

    def settle_down(self, rounds: int = 20) -> None:
        """Let time pass until the release host has nothing to do, and some rounds longer."""
        for _ in range(400):
            if not self.asked:
                break
            self.pass_time()
        self.pass_time(rounds)

    def serving(self) -> dict[str, int | None]:
        return {name: node.machine.number for name, node in self.nodes.items() if node.lives}
