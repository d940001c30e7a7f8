"""What every base image of Debian contains beside Debian's packages, as texts. They are part of the recipe's hash."""

from rehearsal.cloud.images.base import Recipe

# ifupdown and dhclient are in Debian's cloud images, too; without gpgv and apt-utils apt prints warnings.
INCLUDE = [
    "systemd", "systemd-sysv", "dbus", "cloud-init", "iproute2", "ca-certificates", "openssh-server", "sudo",
    "netbase", "ifupdown", "isc-dhcp-client", "gpgv", "apt-utils", "procps", "python3", "less",
]  # fmt: skip

# Leave documentation out, because nobody reads it on a rehearsed machine, and every new machine unpacks it.
EXCLUDE = ["/usr/share/doc/*", "/usr/share/man/*", "/usr/share/info/*", "/usr/share/locale/*"]

_CLOUD = """\
# An ECS Debian image has root as its default user and logs it in by key.
users: [default]
disable_root: false
ssh_pwauth: false
system_info:
  default_user: {name: root, lock_passwd: false}
datasource_list: [NoCloud, None]
# LXD brings the interface up; there are no locales in a minimal image.
network: {config: disabled}
locale: false
apt: {preserve_sources_list: true}
manage_etc_hosts: false
"""

_APT = """\
# Downloads come from what earlier machines have fetched; every step still runs.
Binary::apt-get::APT::Keep-Downloaded-Packages "true";
Acquire::Languages "none";
APT::Update::Pre-Invoke { "/usr/local/lib/rehearsal/offer-packages || true"; };
"""

_OFFER = """\
#!/bin/sh
# Links to packages: apt checks size and dpkg content, so a wrong one is fetched anew.
for deb in /var/cache/rehearsal/apt/*.deb; do
    [ -e "$deb" ] && [ ! -e "/var/cache/apt/archives/${deb##*/}" ] && ln -s "$deb" /var/cache/apt/archives/
done
exit 0
"""

ROOT_FILES = {
    "/etc/network/interfaces": "auto lo\niface lo inet loopback\nauto eth0\niface eth0 inet dhcp\n",
    "/etc/cloud/cloud.cfg.d/90_rehearsal.cfg": _CLOUD,
    "/etc/ssh/sshd_config.d/10-rehearsal.conf": "PermitRootLogin prohibit-password\nPasswordAuthentication no\n",
    # Speed dpkg up: after a power cut a rehearsed machine is replaced rather than repaired.
    "/etc/dpkg/dpkg.cfg.d/rehearsal": "force-unsafe-io\n",
    "/etc/apt/apt.conf.d/90rehearsal": _APT,
    "/usr/local/lib/rehearsal/offer-packages": _OFFER,
}

# This script must not contain single quotes, because it is passed inside single quotes.
SETUP = """
chmod 755 /usr/local/lib/rehearsal/offer-packages
update-ca-certificates >/dev/null
for unit in systemd-binfmt.service systemd-udevd.service systemd-udev-trigger.service sys-kernel-config.mount \
    sys-kernel-debug.mount sys-kernel-tracing.mount systemd-modules-load.service \
    systemd-resolved.service apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer e2scrub_all.timer; do
    ln -sf /dev/null "/etc/systemd/system/$unit"
done
rm -f /etc/ssh/ssh_host_* /etc/machine-id
: >/etc/machine-id
"""

METADATA = """\
architecture: @architecture@
creation_date: @created@
properties: {os: Debian, release: @suite@, description: @description@}
templates:
  /etc/hostname: {when: [create, copy], template: hostname.tpl}
  /etc/hosts: {when: [create, copy], template: hosts.tpl}
  /var/lib/cloud/seed/nocloud-net/meta-data: {when: [create, copy, start], template: meta-data.tpl}
  /var/lib/cloud/seed/nocloud-net/user-data: {when: [create, copy, start], template: user-data.tpl}
"""

TEMPLATES = {
    "hostname.tpl": "{{ container.name }}\n",
    "hosts.tpl": "127.0.0.1 localhost\n127.0.1.1 {{ container.name }}\n",
    "meta-data.tpl": (
        "instance-id: {{ container.name }}\n"
        "local-hostname: {{ container.name }}\n"
        'public-keys: {{ config_get("user.public-keys", "[]") }}\n'
    ),
    "user-data.tpl": '{{ config_get("user.user-data", "#cloud-config") }}\n',
}


def debian(name: str, os_name: str, suite: str) -> Recipe:
    """The recipe of a Debian as it is. name: as server.os has it. os_name: as the cloud shows it."""
    return Recipe(name, os_name, suite, INCLUDE, EXCLUDE, ROOT_FILES, SETUP, METADATA, TEMPLATES)
