"""What holds after every run of the release tool."""

from pathlib import Path

from tests.unit.machine.server import Server
from tests.unit.machine.stand_ins import key_of


def only_slot(server: Server, release: str, site: str = "app") -> None:
    """One release serves, and of any other no program, no file of the process manager, no socket is left."""
    state = server.state(site=site)
    slot = state["slot"]
    key = f"{site}-{slot}"
    assert server.serves(site) == state["release"] == release
    parts = [part for block in server.loaded for part in block.parts if part.site == site]
    assert [part.slot for part in parts] == ([] if server.alone else [slot])
    assert "trial" not in state
    assert {name for name in server.programs if name.startswith(f"{site}-")} == {key}
    assert not server.programs[key].found
    links = [path for path in (server.root / "programs").iterdir() if key_of(path.name).startswith(f"{site}-")]
    assert links == [Path(state["program_link"])]
    address = state["endpoint"]["address"]
    sockets = [Path(address[5:])] if address.startswith("unix:") else []
    assert list((server.root / "run" / site).iterdir()) == sockets
