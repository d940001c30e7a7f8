"""The documents that the program and the release tool share, and those that the version before has left on servers."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from contract import documents
from contract.codec import decode, encode
from contract.documents import (
    Build,
    Endpoint,
    HostState,
    OwnNginx,
    Probe,
    Release,
    SlotState,
    slot_state,
)
from contract.placeholders import FACTS, UnfilledError, facts_in, fill, fill_known, filled
from contract.service_documents import Account, ServiceState
from serving import make_plan
from settings.loader import parse
from tests.unit.machine import PROJECT, python36

# state.json, release.json and account.json as the version before the contract has written them.
BEFORE = Path(__file__).parent / "before"


def before(kind: Any, name: str) -> Any:
    return decode(kind, (BEFORE / name).read_text())


def test_a_slot_that_the_version_before_has_written_is_read() -> None:
    state = before(SlotState, "slot-state.json")
    assert (state.release, state.slot, state.trial, state.sizes) == ("571932736ee0", "a", False, {})
    assert state.endpoint == Endpoint("uwsgi", "unix:/run/wsgi-ecs/shop/a.sock")
    assert state.probe == Probe("/healthz", "shop.test", 80, tls=False)
    assert state.facts["stats_port"] == "9191"
    assert (state.computed, state.stop_seconds, len(state.written)) == ("2 processes: one per CPU", 30, 2)
    built_in = before(SlotState, "slot-state-of-the-bootstrap.json")
    assert (built_in.release, built_in.probe, built_in.env, built_in.files) == ("bootstrap", None, None, [])


def test_what_the_sites_share_is_read_as_the_version_before_has_written_it() -> None:
    state = before(HostState, "host-state.json")
    assert state.nginx == OwnNginx("/usr/local/nginx-1.26.3", "/usr/local/nginx")
    (build,) = state.builds
    assert isinstance(build, Build)
    assert (build.folder, build.python) == (state.nginx.folder, None)
    assert (state.hosts, state.before) == ({"app-1": "10.76.0.3"}, None)
    trial = before(HostState, "host-state-on-trial.json")
    assert (trial.release, trial.before, trial.nginx) == (None, "a", state.nginx)


def test_a_release_and_a_database_of_the_version_before_are_read() -> None:
    release = before(Release, "release.json")
    assert [build.folder for build in release.builds] == ["/usr/local/uwsgi-2.0.31"]
    assert (release.ports, release.sized_by) == ({"stats_port": [9191, 9192]}, [])
    assert before(ServiceState, "database-state.json").written
    assert before(Account, "account.json").user == "app"


def test_a_document_is_read_as_it_was_written() -> None:
    (site,) = make_plan(parse({"server": {"os": "debian12"}, "uwsgi": {"dynamic": True}}, "test")).sites
    assert decode(Release, encode(site.release)) == site.release
    state = slot_state(site.release, "0123", "a", dict.fromkeys(FACTS, "1"))._replace(sizes={"cpus": "2"}, trial=True)
    assert decode(SlotState, encode(state)) == state


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("[]", "no SlotState: list"),
        ("1", "no SlotState: int"),
        ('{"release": "x"}', "SlotState without slot, facts"),
        ('{"release": ', "Expecting value"),
    ],
)
def test_what_is_no_document_is_refused(text: str, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        decode(SlotState, text)


def test_a_key_of_a_later_version_is_ignored() -> None:
    assert decode(OwnNginx, '{"folder": "a", "link": "b", "later": 1}') == OwnNginx("a", "b")


def test_a_placeholder_without_its_fact_is_named() -> None:
    text = "a @@slot@@\nb @@venv@@\n"
    with pytest.raises(UnfilledError) as error:
        fill(text, {"slot": "a"})
    assert error.value.lines == ["b @@venv@@"]
    assert fill_known(text, {"slot": "a"}) == "a a\nb @@venv@@\n"
    assert facts_in(text) == ["slot", "venv"]


def test_a_document_is_filled_wherever_it_has_a_text() -> None:
    probe = Probe("/@@slot@@", "h", 80, tls=False, uwsgi_params={"A": "@@venv@@/b"})
    assert filled(probe, {"slot": "a", "venv": "/v"}) == Probe("/a", "h", 80, tls=False, uwsgi_params={"A": "/v/b"})


def test_documents_are_read_under_python_3_6() -> None:
    python = python36()
    if python is None:
        pytest.skip("no python3.6 here: the contract was not read under CentOS 7's Python")
    kinds = {"slot-state.json": "SlotState", "host-state.json": "HostState", "release.json": "Release"}
    script = "import sys; from contract.codec import decode, encode; import contract.documents as d\n"
    script += "for kind, name in zip(sys.argv[1::2], sys.argv[2::2]):\n"
    script += "    print(encode(decode(getattr(d, kind), open(name).read())), end='')\n"
    arguments = [word for name, kind in kinds.items() for word in (kind, str(BEFORE / name))]
    printed = [
        subprocess.run([each, "-B", "-c", script, *arguments], cwd=PROJECT, capture_output=True, text=True, check=True)
        for each in (python, sys.executable)
    ]
    assert (
        printed[0].stdout
        == printed[1].stdout
        == "".join(encode(before(getattr(documents, kind), name)) for name, kind in kinds.items())
    )
