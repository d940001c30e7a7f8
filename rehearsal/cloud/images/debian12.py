"""Debian 12, as it is."""

from rehearsal.cloud.images.debian import debian

DEBIAN12 = debian("debian12", "Debian 12 64bit", "bookworm")
