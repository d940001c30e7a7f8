"""Documents of the store that a release host shares with the members of a scaling group (machine/store.py).

Each file has one writer: the release host writes all but the files of members, and a member writes only its own.
"""

from typing import Dict, List, NamedTuple, Optional

DELIVERY_FILE = "delivery.json"
ACCEPTED_FILE = "accepted.json"
SETTLED_FILE = "settled.json"
OFFER_FILE = "offer.json"
SILENT_FILE = "silent.json"
# Endings of what a delivery has of each part: its archive, and what the release tool reads on standard input.
ARCHIVE, SECRETS = ".tar.gz", ".json"


class Delivery(NamedTuple):
    """delivery.json: what one `up` asked for. sites: site → id of its release. files: name → SHA-256 of the content.

    seconds: that a member may take to apply it.
    """

    sites: Dict[str, str]
    files: Dict[str, str]
    seconds: int


class Accepted(NamedTuple):
    """accepted.json, beside delivery.json. member: which was the first to serve this delivery."""

    member: str


class Settled(NamedTuple):
    """settled.json: the delivery that all members serve or are about to. previous: which was settled before it."""

    number: int
    previous: Optional[int] = None


class Offer(NamedTuple):
    """offer.json: who takes which delivery now. number: None while no roll-out is under way.

    members: member → its turn, which grows with each request, so that a member knows a new request for a number that it
    has refused. first: the member that runs the commands of these sites. turn: the highest that was given.
    """

    number: Optional[int] = None
    members: Dict[str, int] = {}
    first: str = ""
    commands: List[str] = []
    turn: int = 0


class Silence(NamedTuple):
    """For how many seconds roll-outs have looked at a member and seen no change of its counter."""

    counter: int
    seconds: float


class Silent(NamedTuple):
    """silent.json: what roll-outs have seen of members that write nothing. Most roll-outs are shorter than a life."""

    members: Dict[str, Silence] = {}


class Task(NamedTuple):
    """A delivery that a member takes. turn: of the offer, 0 when the member takes what is settled by itself.

    commands: sites whose commands this member runs.
    """

    number: int
    turn: int = 0
    commands: List[str] = []


class Refusal(NamedTuple):
    """A task that a member could not do. lines: the last ones that say why."""

    number: int
    turn: int
    lines: List[str]


class Member(NamedTuple):
    """members/<id>.json. counter: grows with each writing. number: the delivery that the member serves.

    sites: site → id of the release that serves. doing: None while the member is idle. seconds: since its machine
    started, by the machine's own clock.
    """

    counter: int
    number: Optional[int] = None
    sites: Dict[str, str] = {}
    doing: Optional[Task] = None
    refused: Optional[Refusal] = None
    seconds: int = 0


class Serving(NamedTuple):
    """serving.json, on a member's own machine. number, sites: as in Member."""

    number: int
    sites: Dict[str, str]


class Outcome(NamedTuple):
    """outcome.json, on a member's own machine: how a task has ended. lines: the last ones of one that was refused."""

    is_done: bool
    lines: List[str]
