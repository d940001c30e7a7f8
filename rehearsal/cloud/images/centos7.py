"""CentOS 7, made of Debian 12."""

from rehearsal.cloud.family.packages import CENTOS7 as PACKAGES
from rehearsal.cloud.family.repository import Repository
from rehearsal.cloud.images.family import family

# An ECS image has these: https://developer.aliyun.com/mirror/centos
_STOCK = """\
#!/bin/sh
for name in os updates extras; do
    printf "[%s]\\nname=CentOS-7 - %s\\nenabled=1\\nfailovermethod=priority\\n" "$name" "$name"
    printf "baseurl=http://mirrors.cloud.aliyuncs.com/centos/7/%s/\\$basearch/\\n" "$name"
    printf "gpgcheck=1\\ngpgkey=http://mirrors.cloud.aliyuncs.com/centos/RPM-GPG-KEY-CentOS-7\\n\\n"
done >/etc/yum.repos.d/CentOS-Base.repo
cat >/etc/yum.repos.d/epel.repo <<"EOF"
[epel]
name=Extra Packages for Enterprise Linux 7
baseurl=http://mirrors.cloud.aliyuncs.com/epel/7/$basearch
enabled=1
gpgcheck=0
EOF
"""

CENTOS7 = family(
    "centos7",
    "CentOS 7.9 64bit",
    Repository(
        packages=PACKAGES,
        folders={
            **{name: f"centos-vault/7.9.2009/{name}/@arch@" for name in ("os", "updates", "extras")},
            "epel": "epel-archive/7/@arch@",
        },
        release="centos-release",
        keys=("epel-archive/RPM-GPG-KEY-EPEL-7",),
    ),
    key="/etc/pki/rpm-gpg/RPM-GPG-KEY-CentOS-7",
    stock=_STOCK,
    epel_key="91E97D7C4A5E96F17F3E888F6A2FAEA2352C64E5",
    # glibc 2.17 has no C.UTF-8.
    last="rm -rf /usr/lib/locale/C.utf8\n",
)
