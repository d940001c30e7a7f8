"""CentOS 7, past its end of life: packages come from archives, and Python is 3.6."""

from kinds.systems.base import PYTHON_36_BUILD, PythonBuild, Rpm, System

CENTOS7 = System(
    name="centos7",
    image_pattern="^centos_7_9_x64",
    packaging=Rpm(
        command="yum",
        repositories=("os", "updates", "extras"),
        prefix="",
        # The VPC's mirrors come first (no traffic fee, reached before the public address is), then the public archive.
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
    python_version=(3, 6),
    rehearsed_python=(3, 11),
    compiler_packages=("python3-devel", "gcc"),
    nginx_user="nginx",
    nginx_modules="/usr/share/nginx/modules/*.conf",
    supervisor_programs="/etc/supervisord.d",
    supervisor_suffix=".ini",
    supervisor_service="supervisord",
    locale="en_US.UTF-8",
    build_pins=PYTHON_36_BUILD,
    uwsgi_packages=("uwsgi", "uwsgi-plugin-python36"),
    uwsgi_program="/usr/sbin/uwsgi",
    uwsgi_plugin="python36",
    # OpenSSL 1.0.2 has no X25519.
    tls_curves="prime256v1:secp384r1",
    acme_client="acme-tiny==5.0.1",
    nginx_build_packages=("make", "pcre-devel", "zlib-devel", "openssl-devel"),
    mysql_packages=("mariadb-server",),
    mysql_client="mariadb",
    nfs_client="nfs-utils",
    mysql_config="/etc/my.cnf.d/wsgi-ecs.cnf",
    redis_packages=("redis",),
    redis_service="redis.service",
    python_build=PythonBuild(
        packages=("make", "xz"),
        modules=(
            ("bz2", "bzip2-devel"),
            ("ctypes", "libffi-devel"),
            ("lzma", "xz-devel"),
            ("readline", "readline-devel"),
            ("sqlite3", "sqlite-devel"),
            # Python 3.10 and later want OpenSSL 1.1.1, which EPEL has beside the OS's 1.0.2, in folders of its own:
            # https://github.com/pyenv/pyenv/issues/2416
            ("ssl", "openssl11-devel"),
            ("zlib", "zlib-devel"),
        ),
        openssl=("/usr/include/openssl11", "/usr/lib64/openssl11"),
        # https://docs.python.org/3.13/using/configure.html#build-requirements
        newest=12,
        too_new="Python 3.13 and later need SQLite 3.15.2 and a compiler with C11's atomics, and centos7 has SQLite "
        "3.7 and gcc 4.8",
        # https://github.com/python/cpython/issues/94825
        no_optimise="centos7's gcc 4.8 miscompiles an optimised Python",
    ),
    has_updates=False,
    timers_know_zones=False,
    has_oom_policy=False,
    has_call_groups=False,
    warnings=(
        "CentOS 7 is past its end of life (30 June 2024): its packages come from archives and get no security fixes; "
        "use server.os: debian13, or alinux3, debian12 or ubuntu2204",
    ),
)
