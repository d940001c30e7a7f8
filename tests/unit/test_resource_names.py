"""Names of resources that the rehearsal recognises are those that the program registers."""

from collections.abc import Callable

from contract import resources
from reference.samples import CLOUD
from tests.builders.program import Recorder

SITES = {
    name: {"site": {"server_name": f"{name}.example"}, "uwsgi": {"socket": f"0.0.0.0:{port}", "stats": port + 5}}
    for name, port in (("blog", 3031), ("shop", 3051))
}
FLEET = {**CLOUD, "topology": {"app_servers": 2}, "mysql": {"password": "secret-1"}, "sites": SITES}
DEPLOYMENT = "wsgi-ecs-dev"
SERVERS = [f"{DEPLOYMENT}-{machine}" for machine in ("front", "app-1", "app-2", "db")]


def names(recorder: Recorder, type_: str) -> set[str]:
    return {request.name for request in recorder.requests.values() if request.type.endswith(type_)}


def test_servers_are_recognised_by_their_instances(run_program: Callable[..., Recorder]) -> None:
    found = names(run_program(FLEET), ":Instance")
    assert found == {resources.instance_resource(server) for server in SERVERS}
    assert {resources.machine_of(DEPLOYMENT, name) for name in found} == {"front", "app-1", "app-2", "db"}
    alone = names(run_program(CLOUD), ":Instance")
    assert [resources.machine_of(DEPLOYMENT, name) for name in alone] == [""]


def test_releases_are_recognised_by_what_copies_and_applies_them(run_program: Callable[..., Recorder]) -> None:
    recorder = run_program(FLEET)
    parts = [resources.HOST_PART, *map(resources.site_part, SITES)]
    every = {(server, part) for server in SERVERS[:3] for part in parts} | {(SERVERS[3], resources.HOST_PART)}
    assert names(recorder, ":CopyToRemote") == {resources.archive_resource(*each) for each in every}
    applied = {name for name in names(recorder, ":Command") if resources.is_apply(name)}
    assert applied == {resources.apply_resource(*each) for each in every}
    assert {resources.site_of(name) for name in applied} == {None, "blog", "shop"}
    assert [name for name in applied if resources.readies_database(name)] == [f"{DEPLOYMENT}-db-host-apply"]


def test_a_part_names_its_site_and_an_archive_its_receiver() -> None:
    name = resources.archive_resource("p-dev", resources.site_part("blog"))
    assert resources.receiver_of(name) == "p-dev-site-blog"
    part = resources.part_of("p-dev", name)
    assert part is not None
    assert resources.site_of_part(part) == "blog"
    assert resources.site_of_part(resources.HOST_PART) is None
    assert resources.part_of("p-dev", "p-dev-instance") is None
