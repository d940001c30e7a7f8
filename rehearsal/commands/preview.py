"""`preview`: what an update would do, without root and without a machine."""

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from contract.resources import USER_DATA_LIMIT
from rehearsal.cloud import given_images, image, tokens
from rehearsal.cloud.keys import NO_KEY, keys_of
from rehearsal.cloud.lxd import LxdError
from rehearsal.cloud.store import load_state, no_state
from rehearsal.commands import (
    authority,
    database_data,
    doctor,
    local_archives,
    overlay,
    redis_data,
    rolled_back,
    site_data,
    stack_file,
)
from rehearsal.commands.foresee import Preview, foresee
from rehearsal.commands.host_checks import check_routes
from rehearsal.commands.owner import give_project_to_user
from rehearsal.commands.preview_text import lines
from rehearsal.commands.show import Show, logger_of, masked
from rehearsal.engine.errors import RehearsalError, UserError
from rehearsal.engine.stack import Stack
from rehearsal.engine.state import State


def preview(root: Path, name: str, details: bool = False) -> int:
    """Show what `up` would do. Returns the exit code. Raises as `up` does.

    details: show all differences and inputs, however many.
    """
    started = time.monotonic()
    stack = stack_file.load(root, name)
    show = Show(secrets=stack.secrets)
    with masked_errors(stack):
        print_preview(predict(root, stack, show), show, details)
    show.line(f"{time.monotonic() - started:.1f} s")
    return 0


@contextmanager
def masked_errors(stack: Stack) -> Iterator[None]:
    """Mask the stack's secrets in the text of errors."""
    try:
        yield
    except (UserError, RehearsalError) as error:
        raise type(error)(masked(str(error), stack.secrets)) from None


def print_preview(preview: Preview, show: Show, details: bool) -> None:
    """Print a preview. Raises UserError for an update that is refused."""
    show.line("Preview", "bold")
    for text, style in lines(preview, details):
        show.line(text, style)
    if preview.refused:
        raise UserError("; ".join(preview.refused))


def predict(root: Path, stack: Stack, show: Show) -> Preview:
    """What `up` would do: the same settings and the same state, but nothing is installed, made or started."""
    keys = keys_of(root, stack.name)
    public_key, notes = NO_KEY, []
    try:
        public_key = keys.public
    except FileNotFoundError:
        pass
    except OSError as error:
        notes = [f"{error.filename}: {error.strerror}; so another key than the rehearsal's is compared"]
    state, unread = _state(root, stack.name)
    own, _ = overlay.with_key(stack, public_key)
    rehearsed, system_notes = overlay.rehearsed(stack, public_key)
    if own.config != rehearsed.config:
        system_notes.append(_own_user_data(root, own))
    rehearsed, archive_notes = local_archives.replace_urls(rehearsed, image.CACHE / "archives", download=False)
    rehearsed, authority_notes = authority.foresee(rehearsed, keys.folder / authority.ROOTS)
    program_notes: list[str] = []
    preview = foresee(root, rehearsed, state, keys, logger_of(program_notes.append))
    system = overlay.operating_system(rehearsed)
    if origin := given_images.origin(system):
        system_notes.append(f"new machines of {system} boot {origin}, as setup --image has set")
    check_routes(stack.name, preview)
    give_project_to_user(root)
    hints = [*overlay.plain_secrets(stack), *doctor.hints(root, stack)]
    lost = [*site_data.lost(root, stack.name, preview), *redis_data.lost(root, stack.name, preview)]
    lost += [*database_data.refused(stack.name, preview), *rolled_back.notes(root, state, preview)]
    for text in (*lost, *program_notes, *notes, *unread, *system_notes, *archive_notes, *authority_notes, *hints):
        show.note(text)
    return preview


def _own_user_data(root: Path, own: Stack) -> str:
    """A line about the user data of the stack's own operating system. Raises UserError for what the cloud refuses."""
    nothing = no_state(own.name)
    found = foresee(root, own, nothing, keys_of(root, own.name), logging.Logger("own", logging.ERROR))
    makers = (tokens.INSTANCE, tokens.SCALING_CONFIGURATION)
    texts = [record.inputs.get("userData") for type_ in makers for record in found.records(type_)]
    # User data that hold the address of a file system are known when that is there.
    size = max((len(text.encode()) for text in texts if isinstance(text, str)), default=0)
    return f"{overlay.operating_system(own)}'s own user data, in the cloud: {size} of {USER_DATA_LIMIT} bytes"


def _state(root: Path, name: str) -> tuple[State, list[str]]:
    """The stack's state, or an empty one and a line about the reason. Raises UserError."""
    try:
        state = load_state(name)
    except (LxdError, OSError) as error:
        why = str(error) if isinstance(error, LxdError) else f"{error.filename}: {error.strerror}"
        return no_state(name), [f"{why}; so nothing is compared, and every line is a create"]
    if state.exists and state.folder != str(root) and _may_exist(state.folder):
        raise UserError(f"stack {name} is rehearsed from {state.folder}; destroy it there first")
    return state, []


def _may_exist(folder: str) -> bool:
    """Whether a folder exists, or may exist in a place that this user cannot see."""
    try:
        return Path(folder).is_dir()
    except PermissionError:
        return True
