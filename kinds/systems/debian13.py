"""Debian 13: Python 3.13, nginx 1.26, MariaDB 11.8."""

from dataclasses import replace

from kinds.systems.base import Apt
from kinds.systems.debian12 import DEBIAN12

DEBIAN13 = replace(
    DEBIAN12,
    name="debian13",
    image_pattern="^debian_13.*_x64",
    packaging=Apt(suites=("trixie", "trixie-updates"), components="main"),
    python_version=(3, 13),
    uwsgi_signals_harakiri=True,
    # It came with cloud-init 25.1.
    fetches_tokens=True,
)
