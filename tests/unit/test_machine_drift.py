"""What was edited by hand on a server is named, and put back by a raised release.generation."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from components.release import edited
from tests.unit.machine.server import Server

ENV = {"KEY": "s3cr3t"}
# Of a server's root, where {slot}, {release} and {program} are those that serve.
PLACES = {
    "site's config": "srv/sites/app/slots/{slot}/server.conf",
    "application server's config": "srv/sites/app/slots/{slot}/uwsgi.ini",
    "application": "srv/sites/app/releases/{release}/app/behaviour",
    "environment": "etc/app.env.json",
    "program": "programs/{program}",
    "nginx.conf": "srv/host/{host}/nginx.conf",
    "tool": "srv/host/{host}/tool/release.py",
    "logrotate": "etc/logrotate.conf",
    "command": "status",
}


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server()
    server.prepare()
    server.apply(server.archive(), ENV)
    yield server
    server.close()


def told(server: Server, wanted: int = 1) -> str:
    return server.run(Path(), "", verb="status", wanted=wanted)[1]


def path_of(server: Server, place: str) -> Path:
    state, host = server.state(), (server.root / "srv/host/current").resolve().name
    program = Path(state["program_link"]).name
    return server.root / PLACES[place].format(**{**state, "program": program}, host=host)


def test_nothing_is_named_where_nobody_has_edited(server: Server) -> None:
    release = server.state()["release"]
    assert told(server, wanted=0).startswith(f"site app: release {release} since 2")
    assert "edited" not in told(server, wanted=0)


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("what", ["changed", "missing"])
def test_what_was_edited_is_named_and_put_back(server: Server, place: str, what: str) -> None:
    path = path_of(server, place)
    if what == "missing":
        path.unlink()
    else:
        path.write_text(path.read_text() + "# by hand\n")
    text = told(server)
    assert f"edited by hand: {path} ({what})\n" in text
    assert text.endswith("next: raise release.generation and run up again, which puts back what was released\n")
    assert "s3cr3t" not in text
    printed = raised(server)
    told(server, wanted=0)
    # One that two names lead to is named twice.
    assert f"{path} was edited by hand ({what})" in edited(printed)
    assert edited(raised(server, 2)) == []


def raised(server: Server, generation: int = 1) -> str:
    """What `up` does when release.generation was raised. Returns what its commands print."""
    printed = server.prepare(server.host({**server.config, "release": {"generation": generation}}))
    return printed + server.apply(server.archive(generation=generation), ENV)


def test_a_file_that_somebody_has_added_to_a_release_is_named(server: Server) -> None:
    path = server.site / f"releases/{server.state()['release']}/app/debug.py"
    path.write_text("print()\n")
    assert f"edited by hand: {path} (added)\n" in told(server)


def test_a_site_without_a_release_waits() -> None:
    server = Server()
    try:
        server.prepare()
        shown = told(server, wanted=0)
        assert "site app: waits for its first release" in shown and "edited" not in shown
    finally:
        server.close()
