"""What differs between operating systems: packages, paths, names, versions."""

from dataclasses import dataclass

# Minor versions of Python 3 from source: those that BUILD and the pins of the application servers run on.
OLDEST_PYTHON, NEWEST_PYTHON = 9, 14


@dataclass(frozen=True)
class Apt:
    """suites, components: what each of server.mirrors.packages has; without any, the image's own sources serve."""

    suites: tuple[str, ...]
    components: str
    steps: str = "cloud-init/apt.sh.j2"


@dataclass(frozen=True)
class Rpm:
    """command: yum or dnf. repositories: their names, which are folders of each source too.

    prefix: of their names in the configuration, where the image has them; empty where ours come in their place.
    sources: URLs, tried in order; none: where the image's own lead to. epel: the same of EPEL `epel_release`, whose
    key has the fingerprint `epel_key`.
    """

    command: str
    repositories: tuple[str, ...]
    prefix: str
    sources: tuple[str, ...]
    epel: tuple[str, ...]
    epel_release: str
    epel_key: str
    steps: str = "cloud-init/rpm.sh.j2"


@dataclass(frozen=True)
class PythonBuild:
    """What a Python that is built from source needs of an operating system.

    packages: that build any version, beside compiler_packages. modules: module of the standard library, and the package
    with the headers without which Python is built without that module. openssl: folders of the headers and of the
    libraries of OpenSSL, where they are not in the compiler's own. newest: minor version of Python 3 that still builds.
    too_new: why later versions do not build. no_optimise: why python.optimise cannot be used, "" where it can.
    """

    packages: tuple[str, ...]
    modules: tuple[tuple[str, str], ...]
    openssl: tuple[str, str] | None = None
    newest: int = NEWEST_PYTHON
    too_new: str = ""
    no_optimise: str = ""


@dataclass(frozen=True)
class System:
    """Facts of one operating system. Paths are absolute, packages as its package manager names them."""

    name: str
    image_pattern: str
    packaging: Apt | Rpm
    packages: tuple[str, ...]
    # The interpreter of the sites; the machine's own tools run on /usr/bin/python3.
    python: str
    # Major and minor version of that interpreter, the oldest that the image may have.
    python_version: tuple[int, int]
    # Packages that compile uWSGI and whatever else comes as source.
    compiler_packages: tuple[str, ...]
    nginx_user: str
    nginx_modules: str
    supervisor_programs: str
    supervisor_suffix: str
    supervisor_service: str
    # CentOS 7 has no C.UTF-8, and without a UTF-8 locale Python 3.6 reads files as ASCII.
    locale: str
    # pip installs exactly these versions into every virtual environment before anything else.
    build_pins: tuple[str, ...]
    # Packages, program and plugin of the OS's own uWSGI, or why its sites cannot use it.
    uwsgi_packages: tuple[str, ...]
    uwsgi_program: str
    uwsgi_plugin: str
    # Elliptic curves that every OpenSSL of it knows: nginx does not start with one that is unknown.
    tls_curves: str
    acme_client: str
    # Packages that compile nginx, beside compiler_packages.
    nginx_build_packages: tuple[str, ...]
    mysql_packages: tuple[str, ...]
    # The package of MySQL's client alone.
    mysql_client: str
    # The package that mounts NFS.
    nfs_client: str
    # MySQL reads this file after the package's own files.
    mysql_config: str
    redis_packages: tuple[str, ...]
    # The unit of systemd that comes with them.
    redis_service: str
    python_build: PythonBuild
    # Folder of the sites' Python if it is built from source.
    python_folder: str = ""
    no_os_uwsgi: str = ""
    # This says whether that uWSGI is 2.0.22 or newer, which takes a signal to send before harakiri's SIGKILL.
    uwsgi_signals_harakiri: bool = False
    warnings: tuple[str, ...] = ()
    # This says whether the system still gets security updates.
    has_updates: bool = True
    # Whether OnCalendar= of its systemd takes a time zone other than UTC.
    timers_know_zones: bool = True
    # Whether its systemd (243 and later) would end a whole service for one process that the kernel kills for memory.
    has_oom_policy: bool = True
    # Whether its systemd (231 and later) knows groups of system calls, such as @mount.
    has_call_groups: bool = True
    # Whether the cloud-init of each of its images (23.1 and later) fetches a token before it reads the metadata.
    fetches_tokens: bool = False
    # Version of that interpreter on a rehearsal's machine, where it is another one.
    rehearsed_python: tuple[int, int] | None = None

    @property
    def pythons(self) -> tuple[tuple[int, int], ...]:
        """The versions of Python whose packages it installs, in the cloud and in a rehearsal."""
        return (self.python_version, *([self.rehearsed_python] if self.rehearsed_python else []))

    @property
    def ssh_service(self) -> str:
        """The unit of systemd that lets SSH in."""
        return "ssh.service" if isinstance(self.packaging, Apt) else "sshd.service"

    @property
    def has_epel(self) -> bool:
        """Whether packages come from EPEL, too."""
        return isinstance(self.packaging, Rpm)


# Pins that run on Python 3.6, the last Python that CentOS 7 packages.
PYTHON_36_BUILD = ("pip==21.3.1", "setuptools==59.6.0", "wheel==0.37.1")
# Pins for Python 3.9 and later.
BUILD = ("setuptools==80.9.0", "wheel==0.45.1")
# What installs the application's requirements.
UV = "uv==0.13.9"
# The oldest Python whose environments uv fills.
UV_PYTHON = (3, 8)
