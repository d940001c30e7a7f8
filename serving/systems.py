"""What differs between operating systems: packages, paths, names, pins."""

from dataclasses import dataclass, replace


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
class System:
    """Facts of one operating system. Paths are absolute, packages as its package manager names them."""

    name: str
    image_pattern: str
    packaging: Apt | Rpm
    packages: tuple[str, ...]
    # What the sites run on; what runs the machine's own tools is /usr/bin/python3.
    python: str
    # What compiles uWSGI and what else comes as source.
    compiler_packages: tuple[str, ...]
    nginx_user: str
    nginx_modules: str
    supervisor_programs: str
    supervisor_suffix: str
    supervisor_service: str
    # CentOS 7 has no C.UTF-8, and without a UTF-8 locale Python 3.6 reads files as ASCII.
    locale: str
    # Installed into every virtual environment before anything else, exactly these versions.
    build_pins: tuple[str, ...]
    gunicorn_pins: tuple[str, ...]
    # Beside them, with gevent workers.
    gevent_pins: tuple[str, ...]
    uwsgi_packages: tuple[str, ...]
    uwsgi_plugin: str
    # Elliptic curves that every OpenSSL of it knows: nginx does not start with one that is unknown.
    tls_curves: str
    acme_client: str
    # What compiles nginx; the rest compiles uWSGI and is on every server.
    nginx_build_packages: tuple[str, ...]
    mysql_packages: tuple[str, ...]
    # Read after the package's own files.
    mysql_config: str
    warnings: tuple[str, ...] = ()

    def packages_for(
        self,
        *,
        nginx: bool,
        supervisor: bool,
        uwsgi: bool = False,
        nginx_from_source: bool = False,
        compiler: bool = True,
    ) -> tuple[str, ...]:
        """The packages of a server with or without these; the OS's nginx serves until the first release."""
        chosen = (
            (self.compiler_packages, compiler or nginx_from_source),
            (("nginx", "logrotate"), nginx),
            (("supervisor",), supervisor),
            (self.uwsgi_packages, uwsgi),
            (self.nginx_build_packages, nginx_from_source),
        )
        return (*self.packages, *(name for names, wanted in chosen if wanted for name in names))


# What reads a source distribution on the server. 3.6 is the last Python that CentOS 7 packages,
# and these are the last releases that run on it. gunicorn's gevent worker imports packaging.
_PYTHON_36_BUILD = ("pip==21.3.1", "setuptools==59.6.0", "wheel==0.37.1")
_PYTHON_36_GUNICORN = ("gunicorn==21.2.0", "packaging==21.3", "pyparsing==3.0.7")
_PYTHON_36_GEVENT = ("gevent==22.10.2", "greenlet==2.0.2", "zope.event==4.6", "zope.interface==5.5.2")
_PYTHON_36_ACME_CLIENT = "acme-tiny==5.0.1"
# Of Python 3.10 and later.
_BUILD = ("setuptools==80.9.0", "wheel==0.45.1")
_GUNICORN = ("gunicorn==23.0.0", "packaging==25.0")
_GEVENT = ("gevent==25.9.1", "greenlet==3.2.4", "zope.event==6.0", "zope.interface==8.0.1")

CENTOS7 = System(
    name="centos7",
    image_pattern="^centos_7_9_x64",
    packaging=Rpm(
        command="yum",
        repositories=("os", "updates", "extras"),
        prefix="",
        # In the VPC first (no traffic fee, reached before the public address is), then the public archive.
        # https://developer.aliyun.com/mirror/
        sources=(
            "http://mirrors.cloud.aliyuncs.com/centos/7",
            "http://mirrors.cloud.aliyuncs.com/centos-vault/7.9.2009",
            "https://mirrors.aliyun.com/centos-vault/7.9.2009",
        ),
        epel=(
            "http://mirrors.cloud.aliyuncs.com/epel/7/$basearch",
            "http://mirrors.cloud.aliyuncs.com/epel-archive/7/$basearch",
            "https://mirrors.aliyun.com/epel-archive/7/$basearch",
        ),
        epel_release="7",
        epel_key="91E97D7C4A5E96F17F3E888F6A2FAEA2352C64E5",
    ),
    packages=("python3",),
    python="/usr/bin/python3",
    compiler_packages=("python3-devel", "gcc"),
    nginx_user="nginx",
    nginx_modules="/usr/share/nginx/modules/*.conf",
    supervisor_programs="/etc/supervisord.d",
    supervisor_suffix=".ini",
    supervisor_service="supervisord",
    locale="en_US.UTF-8",
    build_pins=_PYTHON_36_BUILD,
    gunicorn_pins=_PYTHON_36_GUNICORN,
    gevent_pins=_PYTHON_36_GEVENT,
    uwsgi_packages=("uwsgi", "uwsgi-plugin-python36"),
    uwsgi_plugin="python36",
    # OpenSSL 1.0.2 has no X25519.
    tls_curves="prime256v1:secp384r1",
    acme_client=_PYTHON_36_ACME_CLIENT,
    nginx_build_packages=("make", "pcre-devel", "zlib-devel", "openssl-devel"),
    mysql_packages=("mariadb-server",),
    mysql_config="/etc/my.cnf.d/wsgi-ecs.cnf",
    warnings=(
        "CentOS 7 is past its end of life (30 June 2024): its packages come from archives and get no security fixes; "
        "use server.os: alinux3, debian12 or ubuntu2204",
    ),
)

# Alibaba's own, of RHEL 8's family, with nginx 1.20 and Python 3.11 beside the system's 3.6.
# https://www.alibabacloud.com/help/en/alinux/support/differences-between-alibaba-cloud-linux-3-and-centos-7
ALINUX3 = replace(
    CENTOS7,
    name="alinux3",
    # Others of its images are for containers or certain instance types.
    image_pattern="^aliyun_3_x64_20G_alibase",
    packaging=Rpm(
        command="dnf",
        # https://www.alibabacloud.com/help/en/alinux/user-guide/use-alibaba-cloud-linux-3-images-in-an-on-premises-environment
        repositories=("os", "updates", "module", "plus", "powertools"),
        prefix="alinux3-",
        sources=(),
        epel=(
            "http://mirrors.cloud.aliyuncs.com/epel/8/Everything/$basearch",
            "https://mirrors.aliyun.com/epel/8/Everything/$basearch",
        ),
        epel_release="8",
        epel_key="94E279EB8D8F25B21810ADF121EA45AB2F86D6A1",
    ),
    packages=("python3", "python3.11"),
    python="/usr/bin/python3.11",
    compiler_packages=("python3.11-devel", "gcc"),
    locale="C.UTF-8",
    build_pins=_BUILD,
    gunicorn_pins=_GUNICORN,
    gevent_pins=_GEVENT,
    # EPEL's has the system's Python in it, which settings/combinations.py refuses.
    uwsgi_packages=(),
    uwsgi_plugin="",
    tls_curves="X25519:prime256v1:secp384r1",
    warnings=(),
)

DEBIAN12 = System(
    name="debian12",
    # Their names have the point release, and there are those for ARM.
    image_pattern="^debian_12.*_x64",
    packaging=Apt(suites=("bookworm", "bookworm-updates"), components="main"),
    packages=("python3", "python3-venv"),
    python="/usr/bin/python3",
    compiler_packages=("python3-dev", "gcc", "libc6-dev"),
    nginx_user="www-data",
    nginx_modules="/etc/nginx/modules-enabled/*.conf",
    supervisor_programs="/etc/supervisor/conf.d",
    supervisor_suffix=".conf",
    supervisor_service="supervisor",
    locale="C.UTF-8",
    build_pins=_BUILD,
    gunicorn_pins=_GUNICORN,
    gevent_pins=_GEVENT,
    uwsgi_packages=("uwsgi-core", "uwsgi-plugin-python3"),
    uwsgi_plugin="python3",
    tls_curves="X25519:prime256v1:secp384r1",
    acme_client="acme-tiny==5.0.3",
    nginx_build_packages=("make", "libpcre2-dev", "zlib1g-dev", "libssl-dev"),
    mysql_packages=("mariadb-server",),
    mysql_config="/etc/mysql/mariadb.conf.d/90-wsgi-ecs.cnf",
)

UBUNTU2204 = replace(
    DEBIAN12,
    name="ubuntu2204",
    image_pattern="^ubuntu_22_04_x64",
    packaging=Apt(
        suites=("jammy", "jammy-updates", "jammy-security"),
        # supervisor, MariaDB and uWSGI are in universe: https://packages.ubuntu.com/jammy/supervisor
        components="main universe",
    ),
)

SYSTEMS = {system.name: system for system in (CENTOS7, ALINUX3, DEBIAN12, UBUNTU2204)}
