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
    protect: bool = Field(False, description="Refuse to delete or replace the sites' data disk.")
    served: dict[text.Location, DataPath] = Field(
        default_factory=dict,
        description="URL path below site.location to folder of the site's data that nginx serves, such as uploads.",
    )
    limit_rate: text.Size | None = Field(
        None, description="Bytes a second of one download from data.served, such as 2m; none: unlimited."
    )
