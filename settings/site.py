"""All settings of one site, those that it inherits included."""

from collections.abc import Iterator, Mapping
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, ValidationError

from contract.paths import BUILTIN
from kinds.app_servers import APP_SERVERS, AppServer, Granian, Gunicorn, Uwsgi
from kinds.place import Place
from kinds.process_managers import PROCESS_MANAGERS, ProcessManager, Supervisor, Systemd
from schema.app import App, Site
from schema.base import Model, Rule, Seconds, sequence
from schema.command import Command
from schema.data import Data
from schema.processes import Process, ProcessName
from schema.schedule import Job
from schema.text import ReleaseId
from settings.nginx import Nginx
from settings.python import Python
from settings.serving import Serving
from settings.tls import Tls

Commands = Annotated[tuple[Command, ...], BeforeValidator(sequence)]


class Release(Model):
    keep: int = Field(5, ge=1, le=100, description="Releases kept on the machine.")
    generation: int = Field(0, ge=0, description="Increase it to apply the same release again.")
    before: Commands = Field(
        (),
        description="Commands that run in a new release before it starts, such as flask db upgrade. "
        "One that fails refuses the release.",
    )
    before_seconds: Seconds = Field(300, description="Seconds that a command of release.before may take.")
    after: Commands = Field((), description="Commands that run when a new release serves. One that fails is a warning.")
    after_seconds: Seconds = Field(300, description="Seconds that a command of release.after may take.")
    pin: ReleaseId | None = Field(
        None, description="Id of a kept release (./rehearse releases) that up puts live in place of the sources."
    )
    irreversible: bool = Field(
        default=False,
        description="This release changes the database so that no older release can work with it: a rollback to one "
        "wants --force.",
    )


class SiteSettings(Model):
    """A site: its application, what runs it, and its part of nginx."""

    app: App = App()
    site: Site = Site()
    serving: Serving = Serving()
    python: Python = Python()
    uwsgi: Uwsgi = Uwsgi()
    gunicorn: Gunicorn = Gunicorn()
    granian: Granian = Granian()
    nginx: Nginx = Nginx()
    tls: Tls = Tls()
    supervisor: Supervisor = Supervisor()
    systemd: Systemd = Systemd()
    release: Release = Release()
    processes: dict[ProcessName, Process] = Field(
        default_factory=dict, description="Programs beside the application server, such as a queue's workers."
    )
    schedule: dict[ProcessName, Job] = Field(
        default_factory=dict, description="Commands that run at their times, on one machine; never twice at once."
    )
    data: Data = Data()

    @property
    def app_server(self) -> AppServer:
        """The application server that was chosen, with its settings."""
        found = getattr(self, self.serving.app_server)
        assert isinstance(found, AppServer)  # noqa: S101  The field of that name has this type.
        return found

    @property
    def process_manager(self) -> ProcessManager:
        """The process manager that was chosen, with its settings."""
        kind = PROCESS_MANAGERS[self.serving.process_manager]
        return kind.model_validate(getattr(self, kind.key).model_dump(exclude_unset=True))

    @property
    def place(self) -> Place:
        """The site's own names on its server."""
        # A process manager that is one user runs all sites as the same.
        owner = f"wsgi-{BUILTIN if PROCESS_MANAGERS[self.serving.process_manager].is_one_user else self.site.name}"
        return Place(self.site.name, self.app_server.runs_as or owner, group=owner, web_group=f"{owner}-web")

    @property
    def health(self) -> str:
        """URL path of the site's probe, perhaps with a query."""
        return self.site.prefix + self.app.health

    def rules(self) -> Iterator[Rule]:
        """Yield the rules between what was chosen and what is set, whatever the stack is."""
        server, manager, front = self.app_server, self.process_manager, self.serving.front
        yield from manager.rules(server.key)
        nginx_unused = front == "none" and bool(self.nginx.model_fields_set)
        yield "nginx", nginx_unused, "set, but serving.front is none", "serving.front: nginx"
        for key in APP_SERVERS:
            yield (
                key,
                key != server.key and bool(getattr(self, key).model_fields_set),
                f"set, but serving.app_server is {server.key}",
                f"serving.app_server: {key}",
            )
        for key in dict.fromkeys(kind.key for kind in PROCESS_MANAGERS.values()):
            names = [kind.name for kind in PROCESS_MANAGERS.values() if kind.key == key]
            yield (
                key,
                key != manager.key and bool(getattr(self, key).model_fields_set),
                f"set, but serving.process_manager is {manager.name}",
                f"serving.process_manager: {' or '.join(names)}",
            )
        groups = [name for name, kind in PROCESS_MANAGERS.items() if kind.sets_group]
        yield (
            server.group_key,
            server.runs_in_group is not None and not manager.sets_group,
            f"{manager.name} takes the user's own group",
            f"serving.process_manager: {' or '.join(groups)}",
        )
        twice = self.tls.hsts is not None and "strict-transport-security" in map(str.lower, self.nginx.add_header)
        reason = "tls.hsts sends Strict-Transport-Security already"
        yield "nginx.add_header", twice, reason, "one of them, or no tls.hsts"
        alone = self.site.location != "/" and front == "none"
        yield "site.location", alone, "without nginx a site has its port for itself", "/"
        yield (
            "app.module",
            self.app.wsgi_file is not None and "module" in self.app.model_fields_set,
            "set beside app.wsgi_file",
            "one of them",
        )
        loaders = [key for key, kind in APP_SERVERS.items() if kind.loads_files]
        yield (
            "app.wsgi_file",
            self.app.wsgi_file is not None and not server.loads_files,
            f"{server.key} imports modules",
            f"app.module, or serving.app_server: {' or '.join(loaders)}",
        )


class SiteValidationError(Exception):
    """A value of a site in `sites` that is not allowed. error: of that site's own settings."""

    def __init__(self, name: str, error: ValidationError) -> None:
        super().__init__(name)
        self.name = name
        self.error = error


def site_of(shared: dict[str, Any], name: str, own: dict[str, dict[str, Any]]) -> SiteSettings:
    """A site's own settings over those that it shares with the others. Raises SiteValidationError."""
    values = merged(shared, {**own, "site": {**own.get("site", {}), "name": name}})
    try:
        return SiteSettings.model_validate(values)
    except ValidationError as error:
        raise SiteValidationError(name, error) from None


def merged(shared: Mapping[str, Any], own: Mapping[str, Any]) -> dict[str, Any]:
    """Merge maps key by key; anything else is as `own` has it."""
    found = dict(shared)
    for key, value in own.items():
        both = isinstance(value, Mapping) and isinstance(found.get(key), Mapping)
        found[key] = merged(found[key], value) if both else value
    return found
