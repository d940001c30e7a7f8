"""The state of a stack is kept in LXD itself: in the config of the stack's own LXD project.

project wsgi-ecs-<stack>:  user.key, user.folder, user.outputs, user.resource.<n> = one record each
"""

from collections.abc import Mapping

from rehearsal.cloud import daemon
from rehearsal.cloud.lxd import Lxd
from rehearsal.engine.errors import UserError
from rehearsal.engine.state import KEY, Record, State, read_records

_PREFIX = "wsgi-ecs-"
_USER = "user."
# Images and networks belong to the host and are shared; only machines live in the project.
_FEATURES = {
    "features.images": "false",
    "features.networks": "false",
    "features.profiles": "false",
    "features.storage.volumes": "false",
}


def project_of(stack: str) -> str:
    """Name of a stack's LXD project."""
    return _PREFIX + stack


class ProjectStore:
    """A stack's LXD project, as the store of its state."""

    def __init__(self, stack: str) -> None:
        self.stack = stack
        self.project = project_of(stack)
        # Keys of the project's config that are not the state's.
        self._features: dict[str, str] = dict(_FEATURES)

    def load(self) -> dict[str, str] | None:
        project = Lxd().find(f"/1.0/projects/{self.project}")
        if project is None:
            return None
        config: dict[str, str] = project["config"]
        if _USER + KEY not in config:
            raise UserError(
                f"{daemon.name()}'s project {self.project} is not of a rehearsal, so it is left alone; "
                f"rename it ({daemon.current().client} project rename) or choose another stack name"
            )
        self._features = {key: value for key, value in config.items() if not key.startswith(_USER)}
        return values_of(config)

    def ensure(self, values: Mapping[str, str]) -> None:
        Lxd().post("/1.0/projects", {"name": self.project, **self._body(values)})

    def write(self, values: Mapping[str, str]) -> None:
        Lxd().put(f"/1.0/projects/{self.project}", self._body(values))

    def delete(self) -> None:
        """Remove the LXD project, which must hold no machine any more."""
        Lxd().delete(f"/1.0/projects/{self.project}")

    def place(self, key: str) -> str:
        return f"{daemon.name()}'s project {self.project}: {_USER}{key}"

    def removal(self, key: str) -> str:
        return f"{daemon.current().client} project unset {self.project} {_USER}{key}"

    def _body(self, values: Mapping[str, str]) -> dict[str, object]:
        config = {**self._features, **{_USER + key: value for key, value in values.items()}}
        return {"description": f"Rehearsal of stack {self.stack}", "config": config}


def values_of(config: Mapping[str, str]) -> dict[str, str]:
    """A project's config → the state's values."""
    return {key.removeprefix(_USER): value for key, value in config.items() if key.startswith(_USER)}


def load_state(stack: str) -> State:
    """The stack's state; an empty state when the stack has no LXD project. Raises UserError or LxdError."""
    return State.load(ProjectStore(stack))


def no_state(stack: str) -> State:
    """The state of a stack of which nothing is known."""
    return State(ProjectStore(stack), None)


def projects() -> dict[str, dict[str, str]]:
    """Every rehearsed stack of this host → its LXD project's config."""
    found = Lxd().get("/1.0/projects", recursion="1")
    return {
        item["name"].removeprefix(_PREFIX): item["config"]
        for item in found
        if item["name"].startswith(_PREFIX) and _USER + KEY in item["config"]
    }


def all_records(configs: Mapping[str, Mapping[str, str]]) -> list[Record]:
    """The records of every stack. configs: stack → its LXD project's config.

    Damaged ones are left out: the commands of their stack name them, and those of the others go on.
    """
    found = [record for config in configs.values() for record in read_records(values_of(config)).values()]
    return [record for record in found if record]
