"""What is told by e-mail: CloudMonitor looks at the sites from outside, and at the servers, the database and Redis."""

from collections.abc import Iterator, Sequence
from typing import Annotated

from pydantic import AfterValidator, Field

from schema import text
from schema.base import Model, Rule

Email = Annotated[
    str,
    AfterValidator(
        text.matching(
            r"(?=.{3,100}$)[A-Za-z0-9._+-]+@[A-Za-z0-9-]+(\.[A-Za-z0-9-]+)+", "an address such as ops@example.com"
        )
    ),
]
_OUTSIDE = ("unavailable", "response_ms")


class Alarms(Model):
    email: Email | None = Field(
        None,
        description="Address that gets the alarms of CloudMonitor, after its owner has followed the link that "
        "CloudMonitor sends there. None: there are no alarms.",
    )
    unavailable: int | None = Field(
        10,
        ge=1,
        le=99,
        description="Alarm at this percentage of failed requests of 5 minutes, to each site's URL from several places "
        "outside; a status of 400 or more is a failure. None: no such alarm.",
    )
    response_ms: int | None = Field(
        3000,
        ge=50,
        le=30000,
        description="Alarm at this mean time of these requests, milliseconds. None: no such alarm.",
    )
    cpu: int | None = Field(
        90,
        ge=1,
        le=100,
        description="Alarm at this percentage of a server's, RDS's or Tair's CPUs for 15 minutes; none: none.",
    )
    memory: int | None = Field(
        90,
        ge=1,
        le=100,
        description="Alarm at this percentage of a server's or Tair's memory for 15 minutes; none: none.",
    )
    disk: int | None = Field(
        85, ge=1, le=99, description="Alarm at this percentage of a disk of a server for 15 minutes; none: none."
    )
    connections: int | None = Field(
        80,
        ge=1,
        le=100,
        description="Alarm at this percentage of RDS's or Tair's connections for 15 minutes; none: none.",
    )
    storage: int | None = Field(
        85, ge=1, le=99, description="Alarm at this percentage of RDS's storage for 15 minutes; none: none."
    )

    @property
    def looks_from_outside(self) -> bool:
        """Whether sites are asked from outside."""
        return self.email is not None and any(getattr(self, key) is not None for key in _OUTSIDE)

    def rules(self, http: Sequence[str], has_rds: bool, has_tair: bool) -> Iterator[Rule]:
        """Yield the rules of the alarms. http: who may reach the sites. has_rds, has_tair: what the cloud runs."""
        for key in type(self).model_fields:
            is_alone = key in self.model_fields_set and key != "email" and self.email is None
            yield f"alarms.{key}", is_alone, "set, but nobody gets the alarms", "alarms.email with it"
        given = self.model_fields_set
        reason, allowed = "set, but the database is not RDS", "mysql.managed: true with it"
        yield "alarms.storage", "storage" in given and not has_rds, reason, allowed
        reason, allowed = "set, but the stack has neither RDS nor Tair", "mysql.managed or redis.managed: true with it"
        yield "alarms.connections", "connections" in given and not (has_rds or has_tair), reason, allowed
        reason = "access.http lets nobody in who asks from outside"
        allowed = "access.http with 0.0.0.0/0, or alarms.unavailable: null and alarms.response_ms: null"
        yield "alarms.email", self.looks_from_outside and "0.0.0.0/0" not in http, reason, allowed
