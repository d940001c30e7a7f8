"""Debian 12."""

from kinds.systems.base import BUILD, Apt, PythonBuild, System

DEBIAN12 = System(
    name="debian12",
    # The names of the images have the point release, and there are images for ARM.
    image_pattern="^debian_12.*_x64",
    packaging=Apt(suites=("bookworm", "bookworm-updates"), components="main"),
    packages=("python3", "python3-venv"),
    python="/usr/bin/python3",
    python_version=(3, 11),
    compiler_packages=("python3-dev", "gcc", "libc6-dev"),
    nginx_user="www-data",
    nginx_modules="/etc/nginx/modules-enabled/*.conf",
    supervisor_programs="/etc/supervisor/conf.d",
    supervisor_suffix=".conf",
    supervisor_service="supervisor",
    locale="C.UTF-8",
    build_pins=BUILD,
    uwsgi_packages=("uwsgi-core", "uwsgi-plugin-python3"),
    uwsgi_program="/usr/bin/uwsgi",
    uwsgi_plugin="python3",
    tls_curves="X25519:prime256v1:secp384r1",
    acme_client="acme-tiny==5.0.3",
    nginx_build_packages=("make", "libpcre2-dev", "zlib1g-dev", "libssl-dev"),
    mysql_packages=("mariadb-server",),
    mysql_client="mariadb-client",
    nfs_client="nfs-common",
    mysql_config="/etc/mysql/mariadb.conf.d/90-wsgi-ecs.cnf",
    redis_packages=("redis-server",),
    redis_service="redis-server.service",
    python_build=PythonBuild(
        packages=("make", "xz-utils"),
        modules=(
            ("bz2", "libbz2-dev"),
            ("ctypes", "libffi-dev"),
            ("lzma", "liblzma-dev"),
            ("readline", "libreadline-dev"),
            ("sqlite3", "libsqlite3-dev"),
            ("ssl", "libssl-dev"),
            ("zlib", "zlib1g-dev"),
        ),
    ),
)
