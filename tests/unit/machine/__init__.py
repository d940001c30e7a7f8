"""A server that needs no root: a fake root with a process manager, nginx and applications of threads."""

import importlib
import sys
from pathlib import Path
from types import ModuleType

PROJECT = Path(__file__).parents[3]


def module(name: str) -> ModuleType:
    """A module of machine/, which are no package: on a server they lie side by side."""
    sys.path.insert(0, str(PROJECT / "machine"))
    try:
        return importlib.import_module(name)
    finally:
        sys.path.pop(0)
