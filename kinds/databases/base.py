"""What a database is: where it is, what the application is told, what its machine gets, how it is kept.

The database has a machine of its own, whose data disk outlives it. How it is dumped is the machine's own command,
contract.paths.DATABASE_COMMAND.
"""

from abc import abstractmethod
from typing import TYPE_CHECKING, ClassVar

from pydantic import SecretStr

from contract.documents import Database as Document
from contract.resources import DATABASE_MACHINE
from kinds.systems import System
from schema.base import Model


class Database(Model):
    """The settings of a database, and all that follows from them. A stack has it when anything of it is set."""

    # The key of its settings.
    key: ClassVar[str]
    # The unit of systemd that runs it on its machine.
    unit: ClassVar[str]
    # Name of its configuration file in a release.
    config_file: ClassVar[str]
    # The last line of a complete dump begins with this.
    dump_end: ClassVar[str]
    # The machine's name, which the machines of the application know.
    machine: ClassVar[str] = DATABASE_MACHINE

    if TYPE_CHECKING:
        # Each database declares these, with defaults of its own.
        port: int
        instance_type: str | None
        disk_gib: int
        protect: bool

    @property
    @abstractmethod
    def env(self) -> dict[str, SecretStr]:
        """Return what the application finds in its environment."""

    @property
    @abstractmethod
    def secrets(self) -> dict[str, SecretStr]:
        """Return what the release tool reads from standard input on the database's machine."""

    @property
    @abstractmethod
    def local_files(self) -> tuple[tuple[str, str], ...]:
        """Return setting and path of each file of this machine that a release takes along."""

    @abstractmethod
    def packages(self, system: System) -> tuple[str, ...]:
        """Return the packages of the OS that its machine has."""

    @abstractmethod
    def configs(self, system: System) -> dict[str, str]:
        """File name → text of its configuration, and of the command that dumps and loads it."""

    @abstractmethod
    def sources(self) -> dict[str, str]:
        """Name in the archive → file of this machine that travels with its release."""

    @abstractmethod
    def document(self, system: System, network: str, instance_type: str, generation: int) -> Document:
        """Return what the release tool needs to know. network: CIDR that its clients are in."""
