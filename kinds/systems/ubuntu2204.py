"""Ubuntu 22.04."""

from dataclasses import replace

from kinds.systems.base import Apt
from kinds.systems.debian12 import DEBIAN12

UBUNTU2204 = replace(
    DEBIAN12,
    name="ubuntu2204",
    image_pattern="^ubuntu_22_04_x64",
    packaging=Apt(
        suites=("jammy", "jammy-updates", "jammy-security"),
        # supervisor, MariaDB and uWSGI are in universe: https://packages.ubuntu.com/jammy/supervisor
        components="main universe",
    ),
    python_version=(3, 10),
)
