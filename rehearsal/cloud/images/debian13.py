"""Debian 13, as it is."""

from rehearsal.cloud.images.debian import debian

DEBIAN13 = debian("debian13", "Debian 13 64bit", "trixie")
