"""Numbers of users and groups whose files are in a file system that machines share.

NFS knows owners by their numbers, and useradd gives out what is free on its machine.
"""

import hashlib

# Beyond those that operating systems give out, and below those of systemd: https://systemd.io/UIDS-GIDS/
_FIRST, _COUNT = 20000, 40000


def number(name: str) -> int:
    """The number of a user or group, which is the same on each machine."""
    return _FIRST + int(hashlib.sha256(name.encode()).hexdigest(), 16) % _COUNT
