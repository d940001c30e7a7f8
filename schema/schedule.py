"""Commands of the application that run at their times."""

from typing import Annotated

from pydantic import AfterValidator, Field

from schema import text
from schema.base import Model
from schema.command import Command
from schema.cron import on_calendar


def _at(value: str) -> str:
    on_calendar(value)
    return " ".join(value.split())


# When something runs, in cron's form.
At = Annotated[str, AfterValidator(_at)]


class Job(Model):
    """A command that runs at its times on one machine."""

    command: Command = Field(description="What runs, in the application's folder.")
    at: At = Field(
        description="When it runs, in cron's form: minute, hour, day, month, day of the week; or @daily and the like."
    )
    timezone: text.Timezone | None = Field(None, description="Time zone of `at`; none: the server's.")
    catch_up: bool = Field(False, description="Run once after the start of a server that was off at the time.")
