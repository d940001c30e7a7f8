"""What a site keeps in its data folder: paths in it, and what nginx serves of it."""

from typing import Annotated

from pydantic import AfterValidator, Field

from schema import text
from schema.base import Model

PersistentPath = Annotated[
    str,
    AfterValidator(
        text.matching(
            r"(?=.{1,200}$)(?!\.{1,2}(/|$))[A-Za-z0-9_.+-]+(/(?!\.{1,2}(/|$))[A-Za-z0-9_.+-]+)*/?",
            "a path inside app.source, such as instance, media/uploads or db.sqlite3",
        )
    ),
]
DataPath = Annotated[
    str,
    AfterValidator(
        text.matching(
            r"(?=.{1,200}$)(?!\.{1,2}(/|$))[A-Za-z0-9_.+-]+(/(?!\.{1,2}(/|$))[A-Za-z0-9_.+-]+)*",
            "a folder in the site's data folder, such as media",
        )
    ),
]


class Data(Model):
    disk_gib: int | None = Field(
        None,
        ge=20,
        le=32768,
        description="Size of a data disk for the data of all sites, GiB; it outlives the server. None: the server's "
        "own disk. It can grow; a smaller size is refused.",
    )
    shared: bool = Field(
        False,
        description="Whether the data of all sites are in a file system (NAS, encrypted) that every machine with the "
        "application mounts; it outlives the servers. Not for SQLite.",
    )
    protect: bool | None = Field(
        None,
        description="Refuse to delete or replace the sites' data disk, or the shared file system. None: true with "
        "data.shared, else false.",
    )
    served: dict[text.Location, DataPath] = Field(
        default_factory=dict,
        description="URL path below site.location to folder of the site's data that nginx serves, such as uploads.",
    )
    limit_rate: text.Size | None = Field(
        None, description="Bytes a second of one download from data.served, such as 2m; none: unlimited."
    )

    @property
    def is_protected(self) -> bool:
        """Whether what has the data cannot be deleted or replaced."""
        return self.shared if self.protect is None else self.protect
