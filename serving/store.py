"""The store of releases: how the release host and the members of a scaling group mount it, and who takes from it.

The user data of these machines have placeholders of what is known later (filled).
"""

import hashlib

from contract import paths
from contract.nfs import OPTIONS
from contract.placeholders import fill_known
from settings import StackSettings
from settings.scaling import Scaling
from templates import render

# Placeholders: the name of the file system's mount target, and what the members of a group are made of.
_ADDRESS, _VERSION = "store_address", "store_version"
# Both as long as they may be. A mount target's name begins with a label of its own.
_LONGEST = (f"{'a' * 63}.ap-southeast-1.extreme.nas.aliyuncs.com", "0" * 12)
_UNITS = "/etc/systemd/system"


def release_files() -> dict[str, str]:
    """Path → text of what mounts the store."""
    script = f"/usr/local/sbin/{paths.STORE_UNIT}"
    mount = render("templates/store/mount.sh.j2", store=paths.STORE, options=OPTIONS, address=_ADDRESS)
    unit = render("templates/store/store.service.j2", store=paths.STORE, script=script)
    return {script: mount, f"{_UNITS}/{paths.STORE_UNIT}.service": unit}


def member_files() -> dict[str, str]:
    """Path → text of what mounts the store, and of what takes releases from the part of a version."""
    values = {"store": paths.STORE, "store_unit": paths.STORE_UNIT, "version": _VERSION}
    unit = render("templates/store/member.service.j2", **values)
    return {**release_files(), f"{_UNITS}/{paths.MEMBER_UNIT}.service": unit}


def filled(user_data: str, address: str, version: str) -> str:
    """User data for a file system with this mount target, and for members of this version."""
    return fill_known(user_data, {_ADDRESS: address, _VERSION: version})


def longest(user_data: str) -> str:
    """User data that are as long as they may become."""
    return filled(user_data, *_LONGEST)


def version(bootstrap_version: str, stack: StackSettings, scaling: Scaling) -> str:
    """What the members of a group are made of: another version is another group, with a part of the store of its own.

    So members are never asked to take a release that is made for another operating system.
    """
    # A group cannot leave its switches, and cannot become one with spot instances.
    parts = (bootstrap_version, stack.network.second_cidr, "spot" if scaling.spot_percent else "")
    return hashlib.sha256(" ".join(parts).encode()).hexdigest()[:12]
