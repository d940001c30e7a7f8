"""The Python of a site: the OS's, or one that is built on the server."""

import re
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from contract.documents import Build
from kinds.systems import System
from kinds.systems.base import BUILD, NEWEST_PYTHON, OLDEST_PYTHON
from schema import text
from schema.base import Rule
from schema.from_source import FromSource

# Seconds that a build may take on a small server, by python.optimise.
_SECONDS = {False: 1800, True: 7200}


class Python(FromSource):
    """https://docs.python.org/3/using/configure.html"""

    key: ClassVar[str] = "python"

    install: Literal["os", "source"] = Field(
        "os", description="Whether the site runs on the OS's Python or on one that is built on the server."
    )
    version: Annotated[str, text.version("3.11.9")] | None = Field(None, description="Version to install.")
    prefix: text.Prefix = Field(
        "/usr/local/python",
        description="A build from source is installed in <prefix>-<version>, for all sites that name it; <prefix> "
        "becomes a link to it.",
    )
    optimise: bool = Field(
        False,
        description="Build with profile-guided optimisation: Python 3.11 takes 7 minutes of one CPU instead of 3, in "
        "part on one CPU alone.",
    )

    @property
    def folder(self) -> str:
        """Where a version is installed; the optimised build stands beside the plain build, which may still serve."""
        return f"{super().folder}{'-optimised' if self.optimise else ''}"

    @property
    def is_built(self) -> bool:
        """Whether the site has a Python of its own."""
        return self.install == "source" and self._minor is not None

    @property
    def _minor(self) -> int | None:
        """N of a version 3.N.P, None for another text."""
        found = re.fullmatch(r"3\.([0-9]{1,2})\.[0-9]{1,2}([abr]c?[0-9]{1,2})?", self.version or "")
        return int(found[1]) if found else None

    def on(self, system: System) -> System:
        """The operating system as the site sees it: with the Python that the site runs on."""
        if not self.is_built:
            return system
        version = (3, self._minor or 0)
        return replace(
            system,
            python=f"{self.folder}/bin/python{'.'.join(map(str, version))}",
            python_version=version,
            rehearsed_python=None,
            python_folder=self.folder,
            build_pins=BUILD,
            no_os_uwsgi="python.install is source, and the OS's uWSGI runs the OS's Python",
        )

    def builds(self, system: System) -> tuple[Build, ...]:
        """What the release tool builds for the site: its Python, or nothing."""
        if not self.is_built:
            return ()
        options = (
            f"--prefix={self.folder}",
            # venv has a pip of its own.
            "--with-ensurepip=no",
            "--disable-test-modules",
            *(("--enable-optimizations",) if self.optimise else ()),
        )
        needed = system.python_build
        build = self.build(options)
        return (
            build._replace(
                modules=dict(needed.modules), openssl=list(needed.openssl or ()), seconds=_SECONDS[self.optimise]
            ),
        )

    def packages(self, system: System) -> tuple[str, ...]:
        """Packages of the OS that build it."""
        needed = system.python_build
        return (*needed.packages, *(package for _, package in needed.modules)) if self.is_built else ()

    def rules(self, system: System, is_apart: bool) -> Iterator[Rule]:
        """Yield the rules of a site's Python. is_apart: the application runs on other machines than nginx."""
        yield from self.source_rules()
        from_source, minor, needed = self.install == "source", self._minor, system.python_build
        allowed = f"3.{OLDEST_PYTHON} to 3.{needed.newest}, with its last number, such as 3.{needed.newest}.1"
        yield (
            "python.version",
            from_source and minor is None,
            f"{self.version} is no whole version of Python 3",
            allowed,
        )
        number = minor if from_source and minor is not None else OLDEST_PYTHON
        too_old = f"the pinned setuptools and app servers do not run on Python 3.{number}"
        yield "python.version", number < OLDEST_PYTHON, too_old, allowed
        unknown = f"the pinned app servers are not known to run on Python 3.{number}"
        yield "python.version", number > NEWEST_PYTHON, unknown, allowed
        too_new = number > needed.newest
        yield "python.version", too_new, needed.too_new, f"{allowed}, or another server.os"
        unused = not from_source and "optimise" in self.model_fields_set
        yield "python.optimise", unused, f"set, but python.install is {self.install}", "python.install: source"
        yield "python.optimise", self.optimise and bool(needed.no_optimise), needed.no_optimise, "false"
        remote = is_apart and from_source and self.is_remote
        file_here = "a file here, which travels with the release"
        yield "python.archive", remote, "an app server has no way to the internet", file_here


def shared_rules(pythons: Iterable[tuple[str, Python]]) -> Iterator[Rule]:
    """Yield the rules of sites that share a machine. pythons: what its key is in a message, and a site's Python."""
    owners: dict[str, tuple[str, Python]] = {}
    for key, python in pythons:
        if python.is_built:
            owner, first = owners.setdefault(python.folder, (key, python))
            reason = f"{owner} builds {python.folder} from another archive"
            yield key, python.sha256 != first.sha256, reason, "the same archive and sha256, or another python.prefix"
