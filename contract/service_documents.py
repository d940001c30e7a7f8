"""The JSON documents of a server that has a database or Redis alone, of a managed database, and of packages."""

from typing import Dict, List, NamedTuple


class Packages(NamedTuple):
    """Packages of the OS. manager: apt-get, yum or dnf. options: before its command's name.

    asked_by: package → setting that needs it, unless server.packages names it.
    """

    system: str
    manager: str
    options: List[str]
    names: List[str]
    asked_by: Dict[str, str] = {}


class Redis(NamedTuple):
    """Redis on a machine. unit: text of its systemd unit.

    os_service: the package's own unit, which must not run. directives: of redis.conf, without the password.
    instance_type, generation: the tool does not read them; a change of them changes the archive, so that the tool runs
    again. It is host.json on a machine of its own, with drop_ins as in Host, and a part of Host beside the application.
    """

    packages: Packages
    os_service: str
    unit: str
    directives: Dict[str, str]
    instance_type: str
    generation: int = 0
    drop_ins: Dict[str, str] = {}


class Database(NamedTuple):
    """host.json of a database's server.

    datadir: on the data disk. config: path of MySQL's own configuration. network: address/mask, as MySQL writes it in
    an account. schema: names in the archive, in the order in which they are applied. applied: table that lists the
    files that were applied. drop_ins: as in Host. tls: none, offered, or required. instance_type, disk_gib, generation:
    the tool does not read these fields; a change of a field changes the archive, so that the tool runs again.
    """

    system: str
    datadir: str
    config: str
    database: str
    user: str
    network: str
    schema: List[str]
    applied: str
    instance_type: str
    disk_gib: int
    generation: int
    drop_ins: Dict[str, str] = {}
    tls: str = "none"


class ManagedDatabase(NamedTuple):
    """A database of the cloud, which a machine with the application brings its schema. Fields as in Database."""

    database: str
    schema: List[str]
    applied: str


class ServiceState(NamedTuple):
    """state.json of a server that has a database or Redis alone."""

    written: Dict[str, str] = {}


class Account(NamedTuple):
    """account.json on a database's data disk: the account that the application has. password: its hash.

    needs_tls: whether it is let in over TLS alone.
    """

    user: str
    password: str
    needs_tls: bool = False
