"""LXD or Incus: which of them has this host's rehearsals, which one a new host gets, and how messages name it."""

import errno
import os
import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import pytest

from rehearsal.cloud import daemon, given_images, host, lxd
from rehearsal.cloud.daemon import Daemon
from rehearsal.engine.errors import UserError

Host = Callable[..., None]


@pytest.fixture
def a_host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Host]:
    """Makes a host by the names of the daemons that are installed on it, that run, and that have rehearsals.

    removed: names of those whose package was removed, which leaves the folder and the file of the socket.
    """
    both = [replace(each, folders=(str(tmp_path / each.name),)) for each in (daemon.LXD, daemon.INCUS)]
    monkeypatch.setattr(daemon, "_ALL", tuple(both))
    monkeypatch.setattr(daemon, "PATH", str(tmp_path / "bin"))
    (tmp_path / "bin").mkdir()
    for each in both:
        monkeypatch.delenv(each.variable, raising=False)
    with ExitStack() as open_sockets:

        def make(installed: str = "", running: str = "", rehearsing: str = "", removed: str = "") -> None:
            for each in both:
                if each.name in installed.split():
                    each.folder.mkdir()
                    (tmp_path / "bin" / each.program).touch(mode=0o755)
            for name in removed.split():
                (tmp_path / name).mkdir()
                with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as left:
                    left.bind(str(tmp_path / name / "unix.socket"))
            for name in running.split():
                listening = open_sockets.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM))
                listening.bind(str(tmp_path / name / "unix.socket"))
                listening.listen()
            for name in rehearsing.split():
                (tmp_path / name / "storage-pools/wsgi-ecs").mkdir(parents=True)

        yield make


def test_a_host_with_neither_is_named_by_both(a_host: Host) -> None:
    a_host()
    assert daemon.installed() is None
    with pytest.raises(lxd.LxdError, match=r"^LXD or Incus is not running here; \./rehearse setup installs and starts"):
        lxd.Lxd().get("/1.0")


@pytest.mark.parametrize(
    ("installed", "running", "rehearsing", "expected"),
    [
        ("LXD", "", "", "LXD"),
        ("Incus", "", "", "Incus"),
        ("LXD Incus", "", "", "LXD"),
        ("LXD Incus", "Incus", "", "Incus"),
        ("LXD Incus", "LXD Incus", "Incus", "Incus"),
        ("LXD Incus", "LXD", "Incus", "Incus"),
        ("LXD Incus", "Incus", "LXD Incus", "LXD"),
    ],
)
def test_the_one_that_has_rehearsals_comes_first_then_the_one_that_runs(
    a_host: Host, installed: str, running: str, rehearsing: str, expected: str
) -> None:
    a_host(installed, running, rehearsing)
    assert daemon.current().name == daemon.name() == expected


def test_the_socket_of_a_daemon_that_was_killed_does_not_run(a_host: Host, tmp_path: Path) -> None:
    a_host("LXD Incus", "Incus")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as killed:
        killed.bind(str(tmp_path / "LXD/unix.socket"))
    assert daemon.current().name == "Incus"


@pytest.mark.parametrize(
    ("installed", "running", "rehearsing", "expected"),
    [("Incus", "Incus", "LXD", "Incus"), ("Incus", "", "LXD", "Incus"), ("", "", "LXD", None)],
)
def test_what_a_removed_package_leaves_is_no_daemon(
    a_host: Host, installed: str, running: str, rehearsing: str, expected: str | None
) -> None:
    a_host(installed, running, rehearsing, removed="LXD")
    found = daemon.installed()
    assert (found.name if found else None) == expected


def test_which_image_is_given_is_known_unless_the_daemon_does_not_answer(a_host: Host) -> None:
    a_host()
    assert given_images.is_known()
    a_host("LXD")
    assert not given_images.is_known()


def test_a_snap_that_this_user_may_not_use_is_there(a_host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    a_host(rehearsing="LXD")
    assert daemon.installed() is None
    monkeypatch.setattr(socket.socket, "connect_ex", lambda self, path: errno.EACCES)
    assert daemon.current().has_rehearsals


def test_a_daemon_that_apt_lacks_is_refused_with_the_variable_that_chooses_the_other(
    a_host: Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise UserError("apt-get install fails")

    a_host("LXD Incus", "Incus", "LXD")
    monkeypatch.setattr(host, "_get", fail)
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    for packaged, said in ((False, f"; INCUS_DIR={tmp_path}/Incus in the environment chooses Incus"), (True, "")):
        monkeypatch.setattr(host, "_packaged", lambda package, packaged=packaged: packaged)
        with pytest.raises(UserError, match=f"^apt-get install fails{said}$"):
            host.prepare(print)


@pytest.mark.parametrize("each", [daemon.LXD, daemon.INCUS])
def test_a_folder_that_this_user_may_not_enter_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, each: Daemon
) -> None:
    for other in (daemon.LXD, daemon.INCUS):
        monkeypatch.delenv(other.variable, raising=False)
    closed = tmp_path / "closed"
    (closed / "lxd").mkdir(parents=True)
    monkeypatch.setenv(each.variable, str(closed / "lxd"))
    said = f"^{each.name} does not answer on {closed}/lxd/unix.socket: Permission denied$"
    user = os.geteuid()
    closed.chmod(0)
    if user == 0:
        os.seteuid(65534)
    try:
        assert not each.is_installed
        assert not each.has_rehearsals
        with pytest.raises(lxd.LxdError, match=said):
            lxd.Lxd().get("/1.0")
    finally:
        os.seteuid(user)
        closed.chmod(0o700)


def test_the_variable_of_their_own_clients_decides(
    a_host: Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    a_host("LXD Incus", "LXD", "LXD")
    monkeypatch.setenv("INCUS_DIR", str(tmp_path / "elsewhere"))
    assert daemon.current().name == "Incus"
    assert daemon.current().folder == tmp_path / "elsewhere"


@pytest.mark.parametrize(
    ("installed", "packaged", "expected"),
    [
        ("", "lxd lxd-client incus incus-base incus-client", "incus-base incus-client"),
        ("", "incus incus-client", "incus incus-client"),
        ("", "lxd lxd-client", "lxd lxd-client"),
        ("", "", "lxd lxd-client"),
        ("LXD", "lxd lxd-client incus incus-base incus-client", "lxd lxd-client"),
        ("Incus", "lxd lxd-client incus incus-client", "incus incus-client"),
    ],
)
def test_a_new_host_gets_incus_where_apt_has_it(
    a_host: Host, monkeypatch: pytest.MonkeyPatch, installed: str, packaged: str, expected: str
) -> None:
    a_host(installed)
    monkeypatch.setattr(host, "_packaged", lambda package: package in packaged.split())
    assert list(host._daemon_packages()) == expected.split()


@pytest.mark.parametrize(
    ("each", "said"),
    [
        (daemon.LXD, "LXD doesn't have a uid/gid allocation. In this mode, only privileged containers are supported"),
        (daemon.INCUS, "Failed initializing instance: System doesn't have a functional idmap setup"),
    ],
)
def test_a_daemon_without_users_to_map_says_which_to_add(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, each: Daemon, said: str
) -> None:
    monkeypatch.delenv("LXD_DIR", raising=False)
    monkeypatch.setenv(each.variable, str(tmp_path))
    text = str(lxd.LxdError(f"Failed creating instance record: {said}"))
    assert "; run: echo root:1000000:1000000000 | sudo tee -a /etc/subuid /etc/subgid, " in text
    assert text.endswith(f"restart {each.name} ({each.restart}) and run the same again")
