"""The application and the site that it is: what every app server is told."""

from typing import Annotated, Self

from pydantic import BeforeValidator, Field, SecretStr, model_validator

from schema import text
from schema.base import Model
from schema.data import PersistentPath
from schema.private_packages import Pip


def _as_text(value: object) -> object:
    return str(value).lower() if isinstance(value, bool) else value


class App(Model):
    source: text.LocalPath = Field("./app", description="Folder of the application, relative to the project's folder.")
    module: text.ModuleName = Field("app", description="Module that the server imports.")
    wsgi_file: text.InsidePath | None = Field(
        None, description="File that the server loads in place of a module, such as site.wsgi."
    )
    callable: text.CallableName = Field(
        "app",
        description="Name of the WSGI callable in the module or file, or a function that returns it, as create_app().",
    )
    pythonpath: tuple[text.InsidePath, ...] = Field(
        (), description="Folders of the application to import from, beside app.source itself."
    )
    requirements: text.InsidePath = Field("requirements.txt", description="pip's requirements file, inside app.source.")
    pip: Pip = Field(Pip(), description="Where private packages come from, and the logins for them.")
    env: dict[text.EnvName, Annotated[SecretStr, BeforeValidator(_as_text)]] = Field(
        default_factory=dict, description="Environment of the application. Every value is treated as a secret."
    )
    timezone: text.Timezone | None = Field(
        None, description="Time zone of the application (TZ), such as Asia/Shanghai; none: the server's."
    )
    health: text.UrlPath = Field(
        "/healthz", description="URL path of the probe: a release is accepted when this path answers 2xx."
    )
    procfile: bool = Field(
        True, description="Take processes from the Procfile of app.source, if there is one, and its release line."
    )
    start_seconds: int = Field(
        60, ge=1, le=600, description="Seconds that a new release may take until app.health answers."
    )
    exclude: tuple[text.Glob, ...] = Field(
        (),
        description="Files left out of a release, beside .git, .env*, virtual environments, caches and editors' files.",
    )
    persistent: tuple[PersistentPath, ...] = Field(
        (),
        description="Paths of the application's folder that lead into the site's data folder, such as instance or "
        "db.sqlite3; what a release has there is copied once.",
    )

    @model_validator(mode="after")
    def _env_values(self) -> Self:
        for name, value in self.env.items():
            if "\0" in value.get_secret_value():
                raise ValueError(f"env.{name}: allowed: any text without NUL characters")
        return self


class Site(Model):
    name: text.SiteName = Field(
        "app", description="Name of the site on the machine; its user, folders and program are named after it."
    )
    server_name: text.ServerName | None = Field(
        None,
        description="Domain of the site, which answers to no other name; without one, the site answers to every name.",
    )
    location: text.SiteLocation = Field(
        "/", description="URL path of the site; other paths of the domain may belong to another site."
    )

    @property
    def prefix(self) -> str:
        """The location without its last slash, "" for the whole domain."""
        return self.location.rstrip("/")

    @property
    def host(self) -> str | None:
        """A name that the site answers to: of *.example.com the first that one would try. None for any."""
        return self.server_name.replace("*.", "www.") if self.server_name else None
