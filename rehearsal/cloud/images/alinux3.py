"""Alibaba Cloud Linux 3, made of Debian 12."""

from rehearsal.cloud.family.packages import ALINUX3 as PACKAGES
from rehearsal.cloud.family.repository import Repository
from rehearsal.cloud.images.family import family

# Outside ECS they lead to the public mirror:
# https://www.alibabacloud.com/help/en/alinux/user-guide/use-alibaba-cloud-linux-3-images-in-an-on-premises-environment
_STOCK = """\
#!/bin/sh
for name in os updates module plus powertools; do
    printf "[alinux3-%s]\\nname=alinux3-%s\\nenabled=1\\n" "$name" "$name"
    printf "baseurl=@mirror@/alinux/3/%s/\\$basearch/\\n" "$name"
    printf "gpgcheck=1\\ngpgkey=@mirror@/alinux/3/RPM-GPG-KEY-ALINUX-3\\n\\n"
done >/etc/yum.repos.d/AliYun.repo
"""

ALINUX3 = family(
    "alinux3",
    "Alibaba Cloud Linux 3.2104 LTS 64bit",
    Repository(
        packages=PACKAGES,
        folders={
            **{name: f"alinux/3/{name}/@arch@" for name in ("os", "updates", "module", "plus", "powertools")},
            "epel": "epel/8/Everything/@arch@",
        },
        release="alinux-release",
        keys=("alinux/3/RPM-GPG-KEY-ALINUX-3", "epel/RPM-GPG-KEY-EPEL-8"),
    ),
    key="/etc/pki/rpm-gpg/RPM-GPG-KEY-ALINUX-3",
    stock=_STOCK,
    epel_key="94E279EB8D8F25B21810ADF121EA45AB2F86D6A1",
)
