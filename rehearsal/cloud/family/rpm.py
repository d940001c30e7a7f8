"""An rpm package made of Debian's binaries, as a row of a table and as the text of its spec file."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Rpm:
    """A package of the family. Paths are absolute; the binaries have the family's paths, Debian's code and version.

    name: as the family names it. repository: folder that it comes from, such as `os` or `epel`. debian: Debian's
    packages that it contains, with the libraries that the base image lacks. requires: other packages of the family;
    what they contain is not in this one. provides: other names that packages may require. user: account that it makes,
    with a group of its own and this home. taken: path in the base image → path in the package, before the image loses
    its own. moves: old path → new path, of files or folders. dropped: paths, and all below them. files: path → text.
    links: path → target. folders: path → `owner group mode`, also of files.
    """

    name: str
    repository: str
    debian: tuple[str, ...] = ()
    requires: tuple[str, ...] = ()
    provides: tuple[str, ...] = ()
    user: str = ""
    home: str = ""
    taken: Mapping[str, str] = field(default_factory=dict)
    moves: Mapping[str, str] = field(default_factory=dict)
    dropped: tuple[str, ...] = ()
    files: Mapping[str, str] = field(default_factory=dict)
    links: Mapping[str, str] = field(default_factory=dict)
    folders: Mapping[str, str] = field(default_factory=dict)


def version_of(debian: str) -> str:
    """A version of Debian's as rpm takes it, without epoch and revision: `1:10.11.18-0+deb12u1` → `10.11.18`."""
    upstream = debian.split(":", 1)[-1]
    return re.sub(r"[^A-Za-z0-9.+~_]", ".", upstream.rpartition("-")[0] or upstream)


def spec(package: Rpm, version: str, paths: Iterable[tuple[str, str]]) -> str:
    """The spec file. paths: what the package contains, each with what stands before it in %files, such as `%dir`."""
    lines = [
        f"Name: {package.name}",
        f"Version: {version}",
        "Release: 1.rehearsal",
        f"Summary: {package.name} of a rehearsal, made of Debian's binaries",
        "License: as Debian's",
        # Debian's libraries are no packages of rpm's, so rpm must not look for them.
        "AutoReqProv: no",
        *(f"Requires: {name}" for name in package.requires),
        *(f"Provides: {name}" for name in package.provides),
        "%description",
        "A package of a rehearsal: the family's paths, users and services, and Debian's binaries.",
    ]
    if package.user:
        # As the family's packages do it.
        lines += [
            "%pre",
            f"getent group {package.user} >/dev/null || groupadd -r {package.user}",
            f"getent passwd {package.user} >/dev/null ||",
            f"    useradd -r -g {package.user} -d {package.home} -s /sbin/nologin {package.user}",
            "exit 0",
        ]
    if package.debian:
        lines += ["%post", "/sbin/ldconfig"]
    lines += ["%files", "%defattr(-,root,root)", *(f'{before}"{path}"' for path, before in paths)]
    return "".join(f"{line}\n" for line in lines)
