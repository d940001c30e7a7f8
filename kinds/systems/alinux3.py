"""Alibaba Cloud Linux 3, of RHEL 8's family: nginx 1.20, and Python 3.11 beside the system's 3.6.

https://www.alibabacloud.com/help/en/alinux/support/differences-between-alibaba-cloud-linux-3-and-centos-7
"""

from dataclasses import replace

from kinds.systems.base import BUILD, PythonBuild, Rpm
from kinds.systems.centos7 import CENTOS7

ALINUX3 = replace(
    CENTOS7,
    name="alinux3",
    # Other images of this system are for containers or certain instance types.
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
    has_updates=True,
    python="/usr/bin/python3.11",
    python_version=(3, 11),
    compiler_packages=("python3.11-devel", "gcc"),
    locale="C.UTF-8",
    build_pins=BUILD,
    has_call_groups=True,
    uwsgi_packages=(),
    uwsgi_plugin="",
    no_os_uwsgi="its sites have Python 3.11, and the uWSGI of its packages 3.6",
    tls_curves="X25519:prime256v1:secp384r1",
    warnings=(),
    # Its OpenSSL is 1.1.1, its gcc 10 and its SQLite 3.26.
    python_build=PythonBuild(
        packages=CENTOS7.python_build.packages,
        modules=tuple(
            (module, "openssl-devel" if module == "ssl" else package)
            for module, package in CENTOS7.python_build.modules
        ),
    ),
)
