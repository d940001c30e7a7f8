"""What differs between operating systems: packages, paths, names, pins."""

from dataclasses import dataclass


@dataclass(frozen=True)
class System:
    """Facts of one operating system. Paths are absolute, packages as its package manager names them."""

    name: str
    image_pattern: str
    packages: tuple[str, ...]
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
# and these are the last releases that run on it.
_PYTHON_36_BUILD = ("pip==21.3.1", "setuptools==59.6.0", "wheel==0.37.1")
_PYTHON_3_BUILD = ("setuptools==80.9.0", "wheel==0.45.1")

CENTOS7 = System(
    name="centos7",
    image_pattern="^centos_7_9_x64",
    packages=("python3",),
    compiler_packages=("python3-devel", "gcc"),
    nginx_user="nginx",
    nginx_modules="/usr/share/nginx/modules/*.conf",
    supervisor_programs="/etc/supervisord.d",
    supervisor_suffix=".ini",
    supervisor_service="supervisord",
    locale="en_US.UTF-8",
    build_pins=_PYTHON_36_BUILD,
    uwsgi_packages=("uwsgi", "uwsgi-plugin-python36"),
    uwsgi_plugin="python36",
    # OpenSSL 1.0.2 has no X25519.
    tls_curves="prime256v1:secp384r1",
    # The last release for Python 3.6.
    acme_client="acme-tiny==5.0.1",
    nginx_build_packages=("make", "pcre-devel", "zlib-devel", "openssl-devel"),
    mysql_packages=("mariadb-server",),
    mysql_config="/etc/my.cnf.d/wsgi-ecs.cnf",
    warnings=(
        "CentOS 7 is past its end of life (June 2024): no security fixes, archived repositories; "
        "server.os: debian12 is one setting away",
    ),
)

DEBIAN12 = System(
    name="debian12",
    image_pattern="^debian_12",
    packages=("python3", "python3-venv"),
    compiler_packages=("python3-dev", "gcc", "libc6-dev"),
    nginx_user="www-data",
    nginx_modules="/etc/nginx/modules-enabled/*.conf",
    supervisor_programs="/etc/supervisor/conf.d",
    supervisor_suffix=".conf",
    supervisor_service="supervisor",
    locale="C.UTF-8",
    build_pins=_PYTHON_3_BUILD,
    uwsgi_packages=("uwsgi-core", "uwsgi-plugin-python3"),
    uwsgi_plugin="python3",
    tls_curves="X25519:prime256v1:secp384r1",
    acme_client="acme-tiny==5.0.3",
    nginx_build_packages=("make", "libpcre2-dev", "zlib1g-dev", "libssl-dev"),
    mysql_packages=("mariadb-server",),
    mysql_config="/etc/mysql/mariadb.conf.d/90-wsgi-ecs.cnf",
)

SYSTEMS = {system.name: system for system in (CENTOS7, DEBIAN12)}
