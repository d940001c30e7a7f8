"""What a process manager is: how it is told of an application server, and what it needs on a machine."""

from abc import abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from kinds.app_servers import Process
from kinds.confinement import Confinement
from kinds.place import Place
from kinds.processes import Worker, Workers
from kinds.systems import System
from schema.base import Model, Rule


@dataclass(frozen=True)
class Program:
    """How a process manager is told of an application server.

    manager: its name. name: of the program, as the manager knows it. config: name of the file in the slot that
    describes it; link: where the manager looks for that file. configs: file name → text.
    """

    manager: str
    name: str
    config: str
    link: str
    configs: dict[str, str]


# The program of a site on a machine that has nginx alone.
NO_PROGRAM = Program("none", "", "", "", {})


class ProcessManager(Model):
    """The settings of a process manager, and all that follows from them."""

    # Its name in serving.process_manager, and the key of its settings, which two may share.
    name: ClassVar[str]
    key: ClassVar[str]
    # The setting of the seconds that a stopping program has.
    stop_key: ClassVar[str]
    # Whether it starts a program in another group than its user's.
    sets_group: ClassVar[bool] = True
    # Whether it is one process of one user, which cannot start a program as another.
    is_one_user: ClassVar[bool] = False

    @property
    @abstractmethod
    def stop_seconds(self) -> int:
        """Seconds a stopping program may take to finish its requests."""

    @abstractmethod
    def program(self, process: Process, place: Place, system: System, confined: str) -> Program:
        """Return the program's file, with placeholders of contract.placeholders.FACTS.

        confined: directives of a unit that confine the program.
        """

    @abstractmethod
    def processes(
        self, workers: tuple[Worker, ...], group: str | None, place: Place, system: System, confined: str
    ) -> Workers:
        """Return the files of at least one process. group: that they run in, None for their user's own.

        confined: as in program.
        """

    def rules(self, app_server: str) -> Iterator[Rule]:
        """Yield the rules between its own settings, and between them and the application server of that name."""
        yield from ()

    @classmethod
    def packages(cls, system: System) -> tuple[str, ...]:
        """Packages of the OS that it needs."""
        return ()

    @classmethod
    def services(cls, system: System) -> tuple[str, ...]:
        """Units of systemd that a new server starts for it, in this order."""
        return ()

    def drop_ins(self, system: System, stop_seconds: int) -> dict[str, int | None]:
        """Unit of systemd that must come back by itself → seconds it may take to stop, None for the unit's own.

        stop_seconds: the longest that any process of the sites may take, 0 for none.
        """
        return {f"{name.removesuffix('.service')}.service": None for name in self.services(system)}

    @classmethod
    def confinement(cls, confinement: Confinement, system: System) -> dict[str, str]:
        """Unit of systemd that runs the programs → text of the drop-in that confines them."""
        return {}

    def bootstrap_files(self, place: Place, group: str | None, system: System) -> dict[str, str]:
        """Path → text of files that a server gets once. place, group: what the programs run as."""
        return {}

    @classmethod
    def scripts(cls) -> dict[str, str]:
        """Path → name in machine/ of programs of its own that a server gets once."""
        return {}

    @classmethod
    def folders(cls) -> tuple[str, ...]:
        """Folders on a server that root writes and its programs' group reads."""
        return ()
