"""A host that has nothing, of an ordinary user with sudo: `./rehearse up`, a page, a release, `destroy`, nothing left.

Debian 13 gets Incus: what the other modules show at length on this host's daemon is here in its short form.
"""

from pathlib import Path

import pytest

from tests.rehearsal.builders.fresh_host import FreshHost, fresh_host, settled
from tests.rehearsal.builders.stack import Done, tried

# Suite → what it gets.
DAEMONS = {"trixie": "Incus", "bookworm": "LXD"}
# A port that no security group opens.
CLOSED = 8000
# It ends when something listens there.
LISTEN = (
    f"systemd-run --quiet python3 -m http.server {CLOSED}; "
    f'timeout 20 bash -c "until echo >/dev/tcp/127.0.0.1/{CLOSED}; do sleep 0.2; done"'
)


@pytest.mark.parametrize("suite", tried(DAEMONS, "trixie"))
def test_from_nothing_to_a_page_and_back(project_copy: Path, suite: str) -> None:
    with fresh_host(suite, project_copy) as host:
        try:
            up = typed(host, "./rehearse up")
            assert f"starting {DAEMONS[suite]}\n" in up.out
            assert served(host, up)
            typed(host, f"./rehearse ssh -- '{LISTEN}'")
            # 7 is a refused connection, and 28 one that is not answered.
            assert host.run(f"curl --max-time 5 {up.output('address')}:{CLOSED}").code in (7, 28)
            again = typed(host, "echo '# Another release.' >>app/app.py && ./rehearse up")
            assert again.output("release") != up.output("release")
            assert served(host, again)
            assert "unchanged" in typed(host, "./rehearse up").out
        finally:
            typed(host, "./rehearse destroy")
        links = host.run("ip -brief link").out.splitlines()
        assert [link.split("@")[0].split()[0] for link in links] == ["lo", "eth0"]
        assert host.run("sudo sh -c 'ls /var/lib/*/storage-pools/wsgi-ecs/containers'").out == ""
        assert host.run("find wsgi-ecs ! -user ada").out == "", "what sudo made in the project is the user's"
    assert settled(host) == []


def typed(host: FreshHost, command: str) -> Done:
    done = host.run(f"cd wsgi-ecs && {command}")
    assert done.code == 0, done.text
    return done


def served(host: FreshHost, up: Done) -> bool:
    """Whether the page comes with 200."""
    return host.run(f"curl --silent --show-error --include {up.output('url')}").out.startswith("HTTP/1.1 200 OK")
