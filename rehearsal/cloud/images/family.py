"""What makes a Debian 12 look like CentOS 7 or Alibaba Cloud Linux 3 to a program, as texts.

Debian's Python moves out of the way, as RHEL 8 does it with its own, so /usr/bin/python3 is there when the package
python3 has brought it. apt and dpkg go. dnf and rpm are Debian's, and yum is dnf under its old name. A small server of
the machine itself hands out the rehearsal's package repository over HTTPS, in place of mirrors.aliyun.com. It has
another name, because the host's pip may take its packages from Alibaba's mirror.
"""

from rehearsal.cloud.family.repository import PLATFORM_PYTHON, Family, Repository
from rehearsal.cloud.images import debian
from rehearsal.cloud.images.base import Recipe

INCLUDE = [
    *(name for name in debian.INCLUDE if name not in ("gpgv", "apt-utils")), "curl", "dnf", "gnupg", "locales", "rpm",
]  # fmt: skip

MIRROR = "mirror.rehearsal.test"
# nginx takes port 443 of all addresses.
_PORT = 14443
# Outside ECS nothing answers under this name.
_VPC_MIRROR = "mirrors.cloud.aliyuncs.com"

_CLOUD = """\
users: [default]
disable_root: false
ssh_pwauth: false
system_info:
  distro: centos
  default_user: {name: root, lock_passwd: false}
datasource_list: [NoCloud, None]
network: {config: disabled}
locale: false
# LXD names the machine.
preserve_hostname: true
manage_etc_hosts: false
# Alibaba's cloud-init writes the stock repositories anew at the first boot.
bootcmd: [[/usr/local/lib/rehearsal/write-stock-repositories]]
"""

_SERVER = f"""\
#!{PLATFORM_PYTHON}
import functools, http.server, socket, ssl

Handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory="/usr/local/lib/rehearsal/repository")
server = http.server.ThreadingHTTPServer(("", 0), Handler, bind_and_activate=False)
tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
tls.load_cert_chain("/usr/local/lib/rehearsal/mirror.crt", "/usr/local/lib/rehearsal/mirror.key")
# A client that says nothing must not keep the others waiting, so each shakes hands in its own thread.
server.socket = tls.wrap_socket(socket.socket(fileno=3), server_side=True, do_handshake_on_connect=False)
server.serve_forever()
"""

_SOCKET = f"""\
[Unit]
Description={MIRROR} of the rehearsal

[Socket]
ListenStream=127.0.0.1:{_PORT}

[Install]
WantedBy=sockets.target
"""

_SERVICE = f"""\
[Unit]
Description={MIRROR} of the rehearsal

[Service]
User=nobody
Group=nogroup
ExecStart=/usr/local/lib/rehearsal/mirror
"""

_DNF = """\
[main]
gpgcheck=1
installonly_limit=3
clean_requirements_on_remove=True
best=True
skip_if_unavailable=False
"""

_OWN_FILES = {
    "/etc/network/interfaces": debian.ROOT_FILES["/etc/network/interfaces"],
    "/etc/ssh/sshd_config.d/10-rehearsal.conf": debian.ROOT_FILES["/etc/ssh/sshd_config.d/10-rehearsal.conf"],
    "/etc/cloud/cloud.cfg.d/90_rehearsal.cfg": _CLOUD,
    "/etc/dnf/dnf.conf": _DNF,
    # Debian's rpm has its database in the home of whoever runs it.
    "/etc/rpm/macros": "%_dbpath /var/lib/rpm\n",
    "/etc/systemd/system/rehearsal-mirror.socket": _SOCKET,
    "/etc/systemd/system/rehearsal-mirror.service": _SERVICE,
    "/usr/local/lib/rehearsal/mirror": _SERVER,
}

# Debian's part, which mmdebstrap runs before the repository is made.
_SETUP = debian.SETUP.replace("chmod 755 /usr/local/lib/rehearsal/offer-packages\n", "")

# The family's part, after the repository was made.
_FINISH = f"""
chmod 755 /usr/local/lib/rehearsal/mirror /usr/local/lib/rehearsal/write-stock-repositories
ln -s dnf-3 /usr/bin/yum
ln -s dnf/dnf.conf /etc/yum.conf
mkdir -p /etc/yum.repos.d
systemctl enable -q rehearsal-mirror.socket

localedef -i en_US -f UTF-8 en_US.UTF-8
rm -rf /usr/share/i18n /etc/default/locale
echo LANG=en_US.UTF-8 >/etc/locale.conf

cd /usr/local/lib/rehearsal
openssl req -x509 -newkey rsa:2048 -nodes -days 7300 -keyout mirror.key -out mirror.crt -subj /CN={MIRROR} \\
    -addext subjectAltName=DNS:{MIRROR} 2>/dev/null
chown root:nogroup mirror.key
chmod 640 mirror.key
cp mirror.crt /usr/local/share/ca-certificates/rehearsal-mirror.crt
update-ca-certificates >/dev/null
mkdir -p /etc/pki/tls/certs
ln -s /etc/ssl/certs/ca-certificates.crt /etc/pki/tls/certs/ca-bundle.crt

mkdir -p /usr/libexec
# The family's cloud-init has its helpers there.
ln -s /usr/lib/cloud-init /usr/libexec/cloud-init
for folder in /usr/bin /usr/sbin /usr/lib /usr/share /etc; do
    grep -rIlE "^#! ?/usr/bin/(env )?python3" $folder || true
done | while read -r file; do
    sed -i "1s|^#! */usr/bin/.*python3[0-9.]*|#!{PLATFORM_PYTHON}|" "$file"
done
mv "$(readlink -f /usr/bin/python3)" {PLATFORM_PYTHON}
rm -f /usr/bin/python3* /usr/bin/pydoc3* /usr/bin/pygettext3* /usr/bin/py3* /usr/lib/python3*/EXTERNALLY-MANAGED

rm -rf /usr/bin/apt /usr/bin/apt-* /usr/bin/dpkg /usr/bin/dpkg-* /usr/lib/apt /usr/lib/dpkg /var/lib/apt \\
    /var/lib/dpkg /var/cache/apt /etc/apt /etc/dpkg /etc/debian_version /etc/cron.daily/apt-compat /etc/cron.daily/dpkg
rm -f /usr/lib/systemd/system/apt-* /usr/lib/systemd/system/dpkg-*
"""


def family(
    name: str, os_name: str, repository: Repository, key: str, stock: str, epel_key: str, last: str = ""
) -> Recipe:
    """The recipe of a system of the family.

    key: path of the repository's public key. stock: script that writes the stock repositories. epel_key: fingerprint
    that user data demands of EPEL's key. last: shell commands that end its making.
    """
    script = stock.replace("@mirror@", f"https://{MIRROR}:{_PORT}")
    files = {**_OWN_FILES, "/usr/local/lib/rehearsal/write-stock-repositories": script}
    templates = {
        **debian.TEMPLATES,
        # Nothing listens on port 80 of ::1, so the mirror of the VPC refuses at once.
        "hosts.tpl": f"{debian.TEMPLATES['hosts.tpl']}127.0.0.1 {MIRROR}\n::1 {_VPC_MIRROR}\n",
    }
    metadata = debian.METADATA.replace("os: Debian", f"os: {name}")
    own = Family(repository, _FINISH + last, key, epel_key, MIRROR, _PORT)
    return Recipe(name, os_name, "bookworm", INCLUDE, debian.EXCLUDE, files, _SETUP, metadata, templates, own)
