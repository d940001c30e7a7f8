"""Settings of a server that can be built from source on the machine, and their rules."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from contract.documents import SOURCE_FOLDER, Build
from schema import text
from schema.base import Model, Rule


class FromSource(Model):
    """Where the sources of a server come from."""

    # Key of the settings, which is the server's name too.
    key: ClassVar[str]
    if TYPE_CHECKING:
        # Each server declares both, with defaults of its own.
        install: str
        prefix: str
    # Each server declares it again, with an example of its own; the settings' page has it in this place.
    version: str | None
    archive: text.Archive | None = Field(
        None,
        description="Archive of the sources, for install: source. A local file travels with the release; "
        "a URL is downloaded by the server.",
    )
    sha256: text.Sha256 | None = Field(
        None, description="SHA-256 of the archive; an archive with another checksum is rejected."
    )

    @property
    def is_remote(self) -> bool:
        """Whether the server downloads the archive itself."""
        return "://" in (self.archive or "")

    @property
    def folder(self) -> str:
        """Where a version is installed; another version is installed beside it."""
        return f"{self.prefix}-{self.version}"

    @property
    def archives(self) -> dict[str, str]:
        """Name in the release → path on this machine, of the archive that travels with it."""
        travels = self.install == "source" and not self.is_remote
        return {self._archive_name: self.archive or ""} if travels else {}

    @property
    def checksum(self) -> str | None:
        """SHA-256 that the archive must have."""
        return self.sha256

    def build(self, options: tuple[str, ...] = (), python: str | None = None) -> Build:
        """The build that the release tool is asked for. options: of ./configure. python: which is built in."""
        return Build(
            name=self.key,
            version=self.version or "",
            folder=self.folder,
            link=self.prefix,
            archive=(self.archive or "") if self.is_remote else self._archive_name,
            sha256=self.sha256 or "",
            options=list(options),
            python=python,
        )

    @property
    def _archive_name(self) -> str:
        # The file's own name is not used because two archives may have the same. tar detects the compression.
        return f"{SOURCE_FOLDER}{self.key}-{self.version}"

    def source_rules(self) -> Iterator[Rule]:
        """Rules between install and what only a build from source needs."""
        from_source = self.install == "source"
        for name in ("version", "archive", "sha256"):
            yield (
                f"{self.key}.{name}",
                from_source and getattr(self, name) is None,
                f"required with {self.key}.install: source, which builds one version from one archive",
                "version, archive and sha256 together",
            )
        for name in ("prefix", "archive", "sha256"):
            yield (
                f"{self.key}.{name}",
                not from_source and name in self.model_fields_set,
                f"set, but {self.key}.install is {self.install}",
                f"{self.key}.install: source",
            )
        yield (
            f"{self.key}.version",
            self.install == "os" and self.version is not None,
            f"the OS decides it with {self.key}.install: os",
            f"{self.key}.install: source",
        )
