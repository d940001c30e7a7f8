"""Files that are made with sudo in a user's folder are given to that user."""

import os
from pathlib import Path


def give_to_user(*paths: Path) -> None:
    """Make the user who ran sudo the owner of these files and folders; paths that do not exist are skipped."""
    if "SUDO_UID" in os.environ and os.geteuid() == 0:
        owner = int(os.environ["SUDO_UID"]), int(os.environ.get("SUDO_GID", "-1"))
        for path in paths:
            if path.exists():
                os.chown(path, *owner, follow_symlinks=False)


def give_project_to_user(root: Path) -> None:
    """Give what a run makes in the checkout to the user."""
    for folder in (root / ".build", root / ".rehearsal"):
        give_to_user(folder, *folder.rglob("*"))
