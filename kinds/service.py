"""What a server has that serves the applications alone: where it is, what they are told, and how it is released.

A database is one (databases/), and Redis on a server of its own (redis.py).
"""

from abc import abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from pydantic import SecretStr

from contract.service_documents import Database, Packages, Redis
from kinds.systems import System
from schema.base import Model


@dataclass(frozen=True)
class Surroundings:
    """What a service may know beside its own settings.

    network: CIDR that its clients are in. packages: of the service, as the release tool installs them. generation: of
    what is released, raised by the user to release it again.
    """

    system: System
    network: str
    instance_type: str
    packages: Packages
    generation: int


class Service(Model):
    """The settings of a service, and all that follows from them."""

    # The key of its settings.
    key: ClassVar[str]
    # Its server's name, which the servers of the application know, and the name of the security group.
    machine: ClassVar[str]
    # The release tool's word for it, and the name of the stack's output with the server's address.
    verb: ClassVar[str]
    # Units of the OS's packages that must come back by themselves.
    restarted: ClassVar[tuple[str, ...]] = ()

    if TYPE_CHECKING:
        # Each service declares these, with defaults of its own.
        port: int
        instance_type: str | None

    @property
    @abstractmethod
    def env(self) -> dict[str, SecretStr]:
        """Return what the application finds in its environment."""

    @property
    @abstractmethod
    def secrets(self) -> dict[str, SecretStr]:
        """Return what the release tool reads from standard input on the service's server."""

    @property
    def is_managed(self) -> bool:
        """Whether it is an engine of the cloud, so that it has no server of the stack's own."""
        return False

    @property
    def tells_certificate(self) -> bool:
        """Say whether its server makes a certificate, which the applications need to reach it."""
        return False

    @abstractmethod
    def packages(self, system: System) -> tuple[str, ...]:
        """Return the packages of the OS that the server has."""

    @abstractmethod
    def os_unit(self, system: System) -> str:
        """Return the unit of systemd that comes with the packages."""

    @abstractmethod
    def document(self, around: Surroundings) -> Database | Redis:
        """Return what the release tool needs to know."""

    def configs(self, system: System) -> dict[str, str]:
        """File name → text of its configuration and commands."""
        return {}

    def sources(self) -> dict[str, str]:
        """Name in the archive → file of this machine that travels with its release."""
        return {}
