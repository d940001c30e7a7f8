"""Files of the user, whose shell may be in another folder than the project's."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from operations.errors import UserError

# The folder that the user's shell was in when the script changed to the project's.
FROM = "REHEARSE_FROM"


def local_path(file: str) -> Path:
    """A file as the user named it, relative to the folder of the user's shell."""
    return Path(os.environ.get(FROM, "."), Path(file).expanduser())


def give_to_user(*paths: Path) -> None:
    """Make the user who ran sudo the owner of these files and folders; paths that do not exist are skipped."""
    if "SUDO_UID" in os.environ and os.geteuid() == 0:
        owner = int(os.environ["SUDO_UID"]), int(os.environ.get("SUDO_GID", "-1"))
        for path in paths:
            if path.exists():
                os.chown(path, *owner, follow_symlinks=False)


def check_new(file: str, example: str) -> None:
    """Refuse a file that is there already. example: another name that the user may give. Raises UserError."""
    if local_path(file).exists():
        raise UserError(f"{file}: the file is there already; allowed: a new file, such as {example}")


@contextmanager
def new_file(file: str) -> Iterator[tuple[Path, IO[bytes]]]:
    """Write a new file that only its owner can read, which gets its name when the body has ended without an error.

    Yields the path that it has until then, and the open file. Raises UserError.
    """
    path = local_path(file)
    draft = path.with_name(f".{path.name}.part")
    try:
        draft.unlink(missing_ok=True)
        with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as out:
            give_to_user(draft)
            yield draft, out
        draft.rename(path)
    except OSError as error:
        raise UserError(f"{file}: {error.strerror}; allowed: a file in a folder that can be written") from None
    finally:
        draft.unlink(missing_ok=True)
