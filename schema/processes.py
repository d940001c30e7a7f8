"""The programs beside the application server that run the application's own code."""

import re
from typing import Annotated

from pydantic import AfterValidator, Field

from schema.base import Model
from schema.command import Command


def _name(value: str) -> str:
    if not re.fullmatch(r"[A-Za-z][A-Za-z0-9_-]{0,30}", value):
        raise ValueError("allowed: a name of 31 letters, digits and _ - at most, such as worker")
    return value


# It stands in the names of units, programs and logs.
ProcessName = Annotated[str, AfterValidator(_name)]


class Process(Model):
    """A program that runs all the time, such as a queue's worker."""

    command: Command | None = Field(
        None, description="What runs, in the application's folder. Without one, the Procfile's line of that name."
    )
    count: int = Field(1, ge=0, le=64, description="How many of it run on each app server; 0 turns it off.")
    start_seconds: int = Field(
        5, ge=1, le=600, description="Seconds that it must stay up before a release counts as healthy."
    )
    stop_seconds: int = Field(30, ge=1, le=3600, description="Seconds between TERM and KILL when it is stopped.")
