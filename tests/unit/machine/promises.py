"""What holds after every run of the release tool."""

from pathlib import Path

from tests.unit.machine.nginx import load
from tests.unit.machine.server import Server
from tests.unit.machine.stand_ins import key_of


def only_slot(server: Server, release: str, site: str = "app") -> None:
    """One release serves, and of any other no program, no file of the process manager, no socket is left."""
    state = server.state(site=site)
    slot = state["slot"]
    key = f"{site}-{slot}"
    assert server.serves(site) == state["release"] == release
    # A program that follows links comes to an end.
    for link in (server.folder(site) / "slots").rglob("*"):
        assert not (link.is_symlink() and link.parent.resolve().is_relative_to(link.resolve())), link
    # nginx has loaded what is in place.
    assert server.alone or server.loaded == load(server.root / "etc/nginx.conf")
    assert "trial" not in state
    assert {name for name in server.programs if name.startswith(f"{site}-")} == {key}
    assert not server.programs[key].found
    links = [path for path in (server.root / "programs").iterdir() if key_of(path.name).startswith(f"{site}-")]
    assert links == [Path(state["program_link"])]
    address = state["endpoint"]["address"]
    sockets = [Path(address[5:])] if address.startswith("unix:") else []
    assert list((server.root / "run" / site).iterdir()) == sockets
