"""What a release's JSON files hold, what the tool remembers of them, and what an archive is made of.

codec.py reads and writes them. A field that came later than the first version of a document has a default.
"""

from typing import Dict, List, NamedTuple, Optional

from contract.placeholders import Filler, fill, filled
from contract.processes import Job, Processes
from contract.service_documents import ManagedDatabase, Packages, Redis

# An archive holds these files, and folders of the application, configs with placeholders, this tool and sources.
MANIFEST_FILE = "manifest.json"
RELEASE_FILE = "release.json"
HOST_FILE = "host.json"
STATE_FILE = "state.json"
COMMANDS_FILE = "commands.json"
APP_FOLDER = "app/"
CONFIG_FOLDER = "config/"
TOOL_FOLDER = "tool/"
SOURCE_FOLDER = "source/"
SCHEMA_FOLDER = "schema/"
ACME_FILE = "acme.json"
ACME_CA_FILE = "acme-ca.pem"
MYSQL_CONFIG_FILE = "mysql.cnf"
SSHD_FILE = "sshd.conf"
JOURNALD_FILE = "journald.conf"
# A unit of systemd, and the script that it runs.
METADATA_UNIT, METADATA_SCRIPT = "wsgi-ecs-metadata.service", "metadata.sh"


class Manifest(NamedTuple):
    """manifest.json. id: hash of `files`. files: name → [octal mode, SHA-256 of the content]."""

    id: str
    files: Dict[str, List[str]]


class Endpoint(NamedTuple):
    """Where an application server answers. protocol: uwsgi or http. address: unix:<path> or <IPv4>:<port>."""

    protocol: str
    address: str


class Entrance(NamedTuple):
    """Where a site is reached on its own machine.

    host: of the Host header, "" for the server's address. tls: whether the port speaks TLS.
    """

    host: str
    port: int
    tls: bool


class Probe(NamedTuple):
    """The request that decides whether a release is healthy.

    uwsgi_params: for a uWSGI in dynamic mode. https: whether clients come by HTTPS, which ends before this machine.
    """

    path: str
    host: str
    port: int
    tls: bool
    uwsgi_params: Dict[str, str] = {}
    https: bool = False


class Build(NamedTuple):
    """A program to build once on a server.

    folder: where it is installed. link: what points to the version in use. archive: a URL, or the archive's name in
    the release. options: of ./configure. python: which is built into uWSGI. modules: of a Python, each with the package
    of the OS that it needs. openssl: folders of the headers and libraries of the OpenSSL that Python is built with, if
    they are not the compiler's own. seconds: that the build may take beside what every run may take.
    """

    name: str
    version: str
    folder: str
    link: str
    archive: str
    sha256: str
    options: List[str]
    python: Optional[str] = None
    modules: Dict[str, str] = {}
    openssl: List[str] = []
    seconds: int = 0


class Release(NamedTuple):
    """release.json: what the tool needs to know of a site's release; texts have placeholders of FACTS.

    requirements: pip's file in the application's folder, None where the application does not run. ports: fact → the
    ports of which a release takes the first that is free. command: path of the program that the emperor starts for a
    vassal. locked: requirements that were read from another file, which `requirements` names then. has_project: whether
    pip installs the application, too. computed: what the machine computes, in words for the user, "" for nothing.
    sized_by: the facts that it is
    computed from. front: nginx, none, or apart (nginx on another machine). handover_seconds: until that nginx finds
    the new release's port. redis_port: where the Redis of the machine listens, None where it has none. generation:
    raised by the user to apply the same release again. before, after: commands that run before and after the switch,
    each a list of arguments, and the seconds that one of them may take. start_seconds: that a release may take to
    answer. persistent: paths of the application's folder that lead into the site's data folder; an absent path without
    a suffix, or with / at its end, is a folder. served: folders of the data folder that nginx reads. uv: the pin of uv,
    with its hashes, which installs the requirements; "" for pip. maintenance: whether the settings close the site.
    managed: variables of the environment with credentials of the stack's own services. irreversible: no older release
    may serve after this one without --force. pair: id of the release on the app servers, on the server with nginx in
    front of them, or on the first of several servers behind a load balancer; "" on any other server.
    closes_connections: whether the app server closes each connection after the
    answer.
    """

    site: str
    user: str
    group: str
    web_group: str
    env_file: str
    system: str
    python: str
    build_pins: List[str]
    server_pins: List[str]
    requirements: Optional[str]
    ports: Dict[str, List[int]]
    manager: str
    program: str
    program_config: str
    program_link: str
    endpoint: Optional[Endpoint]
    pidfile: str
    command: str
    computed: str
    builds: List[Build]
    log: str
    front: str
    handover_seconds: int
    probe: Probe
    stop_seconds: int
    keep: int
    generation: int
    sized_by: List[str] = []
    locked: Optional[str] = None
    has_project: bool = False
    before: List[List[str]] = []
    before_seconds: int = 300
    after: List[List[str]] = []
    after_seconds: int = 300
    redis_port: Optional[int] = None
    processes: Optional[Processes] = None
    schedule: List[Job] = []
    start_seconds: int = 60
    persistent: List[str] = []
    served: List[str] = []
    uv: str = ""
    maintenance: bool = False
    managed: List[str] = []
    irreversible: bool = False
    pair: str = ""
    closes_connections: bool = False


class SlotState(NamedTuple):
    """state.json of a slot: what of its release the tool needs again, with the slot's own names filled in.

    release: id, None for an empty slot. trial: whether the site's entrance has yet to answer from this slot. env: keyed
    digest of the secrets. sizes: fact → value by which the programs were sized. files: names of the secret files beside
    the configs. written: path → keyed digest of each file that the run has written. rolled_back: id of the release that
    was applied last, when an older one serves in its place after a rollback; rolled_back_env: its keyed digest.
    sent: id of the archive that was applied last, None if it is the release's own.
    """

    release: Optional[str]
    slot: str
    facts: Dict[str, str]
    site: str
    manager: str
    program: str
    program_config: str
    program_link: str
    endpoint: Optional[Endpoint]
    pidfile: str
    log: str
    command: str
    env_file: str
    stop_seconds: int = 30
    probe: Optional[Probe] = None
    computed: str = ""
    sizes: Dict[str, str] = {}
    env: Optional[str] = None
    trial: bool = False
    files: List[str] = []
    written: Dict[str, str] = {}
    processes: Optional[Processes] = None
    schedule: List[Job] = []
    rolled_back: Optional[str] = None
    rolled_back_env: Optional[str] = None
    sent: Optional[str] = None
    closes_connections: bool = False


class CommandsState(NamedTuple):
    """commands.json of a release. before, after: how many of its commands have run.

    is_open: the site's user may write to the application's folder. made: name as in the manifest → SHA-256 of each file
    that is not as it was sent, None for a file that is gone.
    """

    before: int = 0
    after: int = 0
    is_open: bool = False
    made: Dict[str, Optional[str]] = {}


class HostSite(NamedTuple):
    """A site of host.json. run_group: a group that it runs as, if not its user's. waiting: file name → text.

    has_data: whether its application runs on this machine, which then has a data folder.
    """

    name: str
    user: str
    group: str
    web_group: str
    run_group: Optional[str]
    waiting: Dict[str, str]
    entrance: Entrance
    has_data: bool = False


class Shared(NamedTuple):
    """The file system with the data of all sites. units: of their programs, which start after it is mounted.

    is_several: whether other machines have it, too, so that accounts must have the same numbers on all of them.
    """

    units: List[str]
    is_several: bool


class Host(NamedTuple):
    """host.json: what the sites of a machine share.

    given: domains whose certificates come on standard input. acme: domains whose certificates the machine requests
    from a CA. drop_ins: systemd unit → text of the drop-in that restarts the unit whatever has ended it. disk_gib: size
    of the data disk for the sites' data, None without such a disk. confinement: systemd unit → text of the drop-in that
    confines the unit. database: that this machine brings its schema, None for any other machine. shared: where the
    sites' data are if they are in a file system that machines share, None if they are not.
    """

    has_nginx: bool
    nginx_user: str
    builds: List[Build]
    stop_seconds: int
    sites: List[HostSite]
    generation: int
    given: List[str]
    acme: List[str]
    drop_ins: Dict[str, str] = {}
    redis: Optional[Redis] = None
    packages: Optional[Packages] = None
    disk_gib: Optional[int] = None
    confinement: Dict[str, str] = {}
    database: Optional[ManagedDatabase] = None
    shared: Optional[Shared] = None


class OwnNginx(NamedTuple):
    """An nginx that was built on the machine. folder: where this version is. link: path that leads to that folder."""

    folder: str
    link: str


class HostState(NamedTuple):
    """state.json of what the sites share. before: the slot that served before, until this slot has passed its check.

    hosts: name → IPv4 address of the stack's other machines. tls: keyed digest of the given certificates.
    """

    release: Optional[str] = None
    hosts: Dict[str, str] = {}
    tls: Optional[str] = None
    nginx: Optional[OwnNginx] = None
    builds: List[Build] = []
    written: Dict[str, str] = {}
    before: Optional[str] = None


class Acme(NamedTuple):
    """acme.json. directory: URL of the CA's ACME directory. client: the pinned requirement of the ACME client.

    ca: name of the file with the CA's root certificate, None for a CA that the operating system trusts.
    """

    domains: List[str]
    directory: str
    ca: Optional[str]
    client: str


def slot_state(
    release: Release, identifier: Optional[str], slot: str, facts: Dict[str, str], filler: Filler = fill
) -> SlotState:
    """What a slot holds of a release whose placeholders these facts fill.

    filler: function of placeholders.py; `fill` raises UnfilledError for a fact that is not known.
    """
    return SlotState(
        release=identifier,
        slot=slot,
        facts=facts,
        site=release.site,
        manager=release.manager,
        program=filler(release.program, facts),
        program_config=filler(release.program_config, facts),
        program_link=filler(release.program_link, facts),
        endpoint=filled(release.endpoint, facts, filler),
        pidfile=filler(release.pidfile, facts),
        log=filler(release.log, facts),
        command=filler(release.command, facts),
        env_file=release.env_file,
        processes=filled(release.processes, facts, filler),
        schedule=filled(release.schedule, facts, filler),
    )
