"""A host that has nothing: `./rehearse up` as an ordinary user with sudo, the page, `destroy`, nothing left."""

import os
from pathlib import Path

import pytest

from tests.rehearsal.builders.fresh_host import fresh_host, settled
from tests.rehearsal.builders.stack import in_whole_runs

pytestmark = in_whole_runs

# Suite → what it gets. Another than Debian 13 is tried by FRESH_HOSTS="trixie bookworm".
DAEMONS = {"trixie": "Incus", "bookworm": "LXD"}


@pytest.mark.parametrize("suite", os.environ.get("FRESH_HOSTS", "trixie").split())
def test_from_nothing_to_a_page_and_back(project_copy: Path, suite: str) -> None:
    with fresh_host(suite, project_copy) as host:
        try:
            up = host.run("cd wsgi-ecs && ./rehearse up")
            assert up.code == 0, up.text
            assert f"starting {DAEMONS[suite]}\n" in up.out
            page = host.run(f"curl --silent --show-error --include {up.output('url')}")
            assert page.out.startswith("HTTP/1.1 200 OK"), page.text
        finally:
            gone = host.run("cd wsgi-ecs && ./rehearse destroy")
        assert gone.code == 0, gone.text
        links = host.run("ip -brief link").out.splitlines()
        assert [link.split("@")[0].split()[0] for link in links] == ["lo", "eth0"]
        assert host.run("sudo sh -c 'ls /var/lib/*/storage-pools/wsgi-ecs/containers'").out == ""
        assert host.run("find wsgi-ecs ! -user ada").out == "", "what sudo made in the project is the user's"
    assert settled(host) == []
