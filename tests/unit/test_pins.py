"""What a server installs from the package index beside the application's own is known by its hash."""

import re
from typing import Any

import pytest

from kinds.pins import hashed
from kinds.systems import SYSTEMS
from reference.pins import FILE, wanted
from reference.samples import CLOUD
from serving import bootstrap, make_plan
from serving.plan import ServingPlan
from settings import StackSettings
from settings.loader import parse
from settings.server import INDEX, VPC_INDEX
from tests.builders.program import Run
from tests.builders.stack import PROJECT

HASH = re.compile(r" --hash=sha256:[0-9a-f]{64}")


def plan_of(config: dict[str, Any]) -> tuple[ServingPlan, StackSettings]:
    settings = parse(config, "stacks/Pulumi.test.yaml")
    return make_plan(settings), settings


def test_each_pin_has_the_hashes_of_its_files() -> None:
    without = {(pin, python) for pin, python in wanted() if not HASH.search(hashed(pin, python))}
    assert without == set()


def test_no_file_is_listed_that_no_server_installs() -> None:
    known = {sha256 for pin, python in wanted() for sha256 in re.findall("sha256:([0-9a-f]+)", hashed(pin, python))}
    assert {line.split()[0] for line in FILE.read_text().splitlines()} == known


def test_only_the_files_for_a_version_of_python_are_allowed() -> None:
    one, other = hashed("gevent==25.9.1", (3, 11)), hashed("gevent==25.9.1", (3, 12))
    assert len(HASH.findall(one)) == len(HASH.findall(other)) == 2
    assert not set(HASH.findall(one)) & set(HASH.findall(other))
    # One without a wheel is built from its sources.
    assert len(HASH.findall(hashed("zope.interface==8.0.1", (3, 14)))) == 1


def test_a_version_of_the_users_choice_has_no_hash_and_a_warning() -> None:
    config: dict[str, Any] = {"uwsgi": {"version": "2.0.30"}}
    plan, settings = plan_of(config)
    assert plan.sites[0].release.server_pins == ["uWSGI==2.0.30"]
    assert "uWSGI==2.0.30\n" in bootstrap.user_data(plan, settings)
    (warning,) = settings.sites[0].app_server.warnings
    assert warning.startswith("uwsgi.version: ") and "uwsgi.install: source" in warning
    plan, settings = plan_of({})
    assert settings.sites[0].app_server.warnings == ()


@pytest.mark.parametrize("system", SYSTEMS)
def test_the_first_boot_and_a_release_check_the_same_hashes(system: str) -> None:
    plan, settings = plan_of({"server": {"os": system}, "serving": {"app_server": "gunicorn"}})
    release = plan.sites[0].release
    listed = re.findall("<<E\n(.*?\n)E\n", bootstrap.script(plan, settings), re.DOTALL)
    assert [text.splitlines() for text in listed] == [release.build_pins, release.server_pins]
    assert all(HASH.search(pin) for pin in (*release.build_pins, *release.server_pins))
    assert not release.uv or HASH.search(release.uv)


def test_a_server_with_a_public_address_asks_the_index_by_https(run_program: Run) -> None:
    program = run_program({**CLOUD, "topology": {"app_servers": 1}, "mysql": {"password": "x" * 12}})
    told = {
        request.name.removeprefix("wsgi-ecs-dev-").removesuffix("instance").strip("-"): (
            INDEX in (text := request.object["userData"]),
            VPC_INDEX in text,
        )
        for request in program.requests.values()
        if request.type.endswith(":Instance")
    }
    # The app servers have no way out of the VPC, and a database's server installs nothing of Python.
    assert told == {"front": (True, False), "app-1": (False, True), "db": (False, False)}
    assert INDEX.startswith("https://")


def test_each_line_of_the_requirements_has_its_hash() -> None:
    for name in ("requirements.txt", "requirements-dev.txt"):
        lines = (PROJECT / name).read_text().replace("\\\n", " ").splitlines()
        pins = [line for line in lines if line.strip() and not line.lstrip().startswith("#")]
        assert len(pins) > 20
        assert [pin for pin in pins if "==" not in pin or not HASH.search(" " + " ".join(pin.split()))] == []
