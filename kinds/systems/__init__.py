"""The operating systems that a server may have, by the name that server.os gives them."""

from typing import Literal

from kinds.systems.alinux3 import ALINUX3
from kinds.systems.base import Apt, Rpm, System
from kinds.systems.centos7 import CENTOS7
from kinds.systems.debian12 import DEBIAN12
from kinds.systems.debian13 import DEBIAN13
from kinds.systems.ubuntu2204 import UBUNTU2204

Name = Literal["centos7", "alinux3", "debian12", "debian13", "ubuntu2204"]

SYSTEMS: dict[str, System] = {system.name: system for system in (CENTOS7, ALINUX3, DEBIAN12, DEBIAN13, UBUNTU2204)}

__all__ = ["SYSTEMS", "Apt", "Name", "Rpm", "System"]
