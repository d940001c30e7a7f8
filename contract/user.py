"""Who runs a program, as user@host."""

import getpass
import os
import socket


def user_at_host() -> str:
    """The user and the computer on which this process runs; under sudo, the user who called sudo."""
    name = os.environ.get("SUDO_USER") if os.geteuid() == 0 else None
    try:
        name = name or getpass.getuser()
    except (KeyError, OSError):
        # A container may have no name for its user.
        name = str(os.getuid())
    return "{}@{}".format(name, socket.gethostname())
