"""What a fleet is made of."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from components.archive import Archives
from components.managed_lookup import Zones
from components.network import NetworkArgs
from serving import Machine
from settings import StackSettings
from settings.certificates import Given


@dataclass(frozen=True)
class FleetArgs:
    """machines: the servers, the public one first. image_id: all boot it. user_data, archives: by a machine's name.

    origins: site's name → origin of its application. certificates: domain → its given certificate and private key.
    authority: certificates by which the applications recognise a managed database, None without them. zones: of what
    the cloud runs. members: what the members of a scaling group have in common, nothing without one.
    """

    machines: Sequence[Machine]
    stack: StackSettings
    network: NetworkArgs
    image_id: str
    user_data: Mapping[str, str]
    archives: Mapping[str, Archives]
    origins: Mapping[str, Mapping[str, str]]
    certificates: Mapping[str, Given]
    authority: str | None
    tags: Mapping[str, str]
    zones: Zones
    members: Sequence[Machine] = ()

    @property
    def serving(self) -> Machine:
        """The machine whose plan has the sites' ways of serving, or what the members of a scaling group have."""
        return (*self.members, self.machines[0])[0]

    @property
    def cidrs(self) -> dict[str, str]:
        """Name → CIDR of each network that servers are in."""
        standby = self.network.standby
        return {"network": self.network.cidr, **({"standby": standby[0]} if self.members and standby else {})}
