"""Files that are made with sudo in a user's folder are given to that user."""

from pathlib import Path

from operations.local_files import give_to_user


def give_project_to_user(root: Path) -> None:
    """Give what a run makes in the checkout to the user."""
    for folder in (root / ".build", root / ".rehearsal"):
        give_to_user(folder, *folder.rglob("*"))
