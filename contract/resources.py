"""Logical names of resources that the rehearsal recognises, and limits of the cloud."""

import re
from typing import Optional

# Part of a release: what the sites share, or one site.
HOST_PART = "host"
_SITE_PART = "site-"
# Suffixes of the names of the resources that copy an archive to a server and apply the archive.
_ARCHIVE = "-archive"
_APPLY = "-apply"
_ROLL = "-roll"
_INSTANCE = "-instance"
_DATA = "-data"
_SERVERS = "-servers"
# Output of the program that says how the machines are reached.
MACHINES = "machines"
# Output with the address of the file system that the machines of the application share.
SHARED_DATA = "shared_data"
# Name of the machine of nginx, where the application runs on others; and of a machine that is the stack's only one.
FRONT_MACHINE = "front"
ONLY_MACHINE = "server"
# Name of the machine that brings releases to the servers that come and go, and of these servers together.
RELEASE_MACHINE, MEMBERS = "release", "members"
# Name of the machine that has the database, also in /etc/hosts of the application's machines.
DATABASE_MACHINE = "db"
# The same for a Redis that has a machine of its own.
REDIS_MACHINE = "redis"

# Limit of user data in bytes, according to the older pages of ECS; newer pages say 32 KB.
# https://www.alibabacloud.com/help/en/ecs/user-guide/customize-the-initialization-configuration-for-an-instance
# The program adds a line of less than 64 bytes, which FIRST_CONTACT begins.
USER_DATA_LIMIT = 16 * 1024 - 64
# Begins the line with the secret by which a new server proves its host key. cloud-init passes over comments.
FIRST_CONTACT = "# first contact: "


def site_part(site: str) -> str:
    """Name of the part of a release that belongs to one site."""
    return _SITE_PART + site


def site_of_part(part: str) -> Optional[str]:
    """Site whose part of a release this is; None for what the sites share."""
    return part[len(_SITE_PART) :] if part.startswith(_SITE_PART) else None


def archive_resource(server: str, part: str) -> str:
    """Logical name of the resource that copies an archive to a server."""
    return "{}-{}{}".format(server, part, _ARCHIVE)


def apply_resource(server: str, part: str) -> str:
    """Logical name of the resource that applies an archive on a server."""
    return "{}-{}{}".format(server, part, _APPLY)


def roll_resource(members: str) -> str:
    """Logical name of the resource that brings a release to all members of a scaling group."""
    return members + _ROLL


def instance_resource(server: str) -> str:
    """Logical name of a server's instance."""
    return server + _INSTANCE


def server_of_instance(resource: str) -> str:
    """Server whose instance a resource is; the whole name of any other resource."""
    return resource[: -len(_INSTANCE)] if resource.endswith(_INSTANCE) else resource


def data_name(server: str) -> str:
    """Name of a server's data disk as a component."""
    return server + _DATA


def disk_resource(component: str) -> str:
    """Logical name of the disk of a component."""
    return component + "-disk"


def server_of_disk(resource: str) -> Optional[str]:
    """Server whose data disk, or whose attachment of one, a resource is; None for any other resource."""
    found = re.match("(.+){}-(disk|attachment)$".format(_DATA), resource)
    return found.group(1) if found else None


def server_rule(server: str) -> str:
    """Logical name of the rule by which a server may mount the file system that machines share."""
    return server + _DATA + "-rule"


def servers_resource(deployment: str, site: str) -> str:
    """Logical name of the group of servers that a load balancer sends a site's requests to. deployment: as below."""
    return "{}-{}{}".format(deployment, site, _SERVERS)


def site_of_servers(deployment: str, resource: str) -> str:
    """Site whose group of servers a resource is."""
    return resource[len(deployment) + 1 : -len(_SERVERS)]


def machine_of(deployment: str, resource: str) -> str:
    """Machine whose instance a resource is, such as app-1; "" for the only machine of a deployment.

    deployment: project and stack, joined by a hyphen, with which the names of its servers begin.
    """
    server = server_of_instance(resource)
    if server == deployment:
        return ""
    return server[len(deployment) + 1 :] if server.startswith(deployment + "-") else server


def is_apply(resource: str) -> bool:
    """Whether a resource applies an archive on a server."""
    return resource.endswith(_APPLY)


def receiver_of(resource: str) -> str:
    """Server and part, as one name, that a resource copies an archive to; the whole name of any other resource."""
    return resource[: -len(_ARCHIVE)] if resource.endswith(_ARCHIVE) else resource


def part_of(server: str, resource: str) -> Optional[str]:
    """Part of a release that a resource copies to or applies on a server; None for any other resource."""
    for suffix in (_ARCHIVE, _APPLY):
        if resource.startswith(server + "-") and resource.endswith(suffix):
            return resource[len(server) + 1 : -len(suffix)]
    return None


def site_of(resource: str) -> Optional[str]:
    """Site whose release a resource applies; None for any other resource."""
    found = re.match(".*-{}(.+){}$".format(_SITE_PART, _APPLY), resource)
    return found.group(1) if found else None


def is_of_site(resource: str) -> bool:
    """Whether a resource copies or applies a site's part of a release."""
    return "-" + _SITE_PART in resource


def readies_database(resource: str) -> bool:
    """Whether a resource is the one that makes a database ready."""
    return resource.endswith(apply_resource("-" + DATABASE_MACHINE, HOST_PART))
