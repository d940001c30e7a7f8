"""Commands of the application that run at their times."""

import re
from typing import Annotated
from zoneinfo import available_timezones

from pydantic import AfterValidator, Field

from schema.base import Model
from schema.command import Command
from schema.cron import on_calendar


def _at(value: str) -> str:
    on_calendar(value)
    return " ".join(value.split())


def _timezone(value: str) -> str:
    # Without a database of time zones here only the form can be checked.
    known = available_timezones()
    if not re.fullmatch(r"[A-Za-z0-9_+-]+(/[A-Za-z0-9_+-]+)*", value) or (known and value not in known):
        raise ValueError("allowed: a time zone such as Asia/Shanghai or UTC")
    return value


class Job(Model):
    """A command that runs at its times on one machine."""

    command: Command = Field(description="What runs, in the application's folder.")
    at: Annotated[str, AfterValidator(_at)] = Field(
        description="When it runs, in cron's form: minute, hour, day, month, day of the week; or @daily and the like."
    )
    timezone: Annotated[str, AfterValidator(_timezone)] | None = Field(
        None, description="Time zone of `at`; none: the server's."
    )
    catch_up: bool = Field(False, description="Run once after the start of a server that was off at the time.")
