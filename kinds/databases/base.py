"""What a database is beside a service: its data disk, which outlives its server, and its dumps.

How it is dumped is the server's own command, contract.paths.DATABASE_COMMAND.
"""

from abc import abstractmethod
from typing import TYPE_CHECKING, ClassVar

from contract.resources import DATABASE_MACHINE
from kinds.service import Service
from kinds.systems import System


class Database(Service):
    """The settings of a database. A stack has it when anything of it but `protect` is set."""

    machine: ClassVar[str] = DATABASE_MACHINE
    verb: ClassVar[str] = "database"
    # The unit of systemd that runs it on its machine.
    unit: ClassVar[str]
    # Name of its configuration file in a release.
    config_file: ClassVar[str]
    # The last line of a complete dump begins with this.
    dump_end: ClassVar[str]

    if TYPE_CHECKING:
        # Each database declares these, with defaults of its own.
        disk_gib: int
        protect: bool

    @property
    @abstractmethod
    def local_files(self) -> tuple[tuple[str, str], ...]:
        """Return setting and path of each file of this machine that a release takes along."""

    @property
    def is_wanted(self) -> bool:
        """Say whether the stack has it. Its protection may be set before there is anything to protect."""
        return bool(self.model_fields_set - {"protect"})

    def os_unit(self, system: System) -> str:
        return self.unit
