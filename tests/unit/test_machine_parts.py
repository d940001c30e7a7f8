"""The release tool's parts: facts of the machine, the probe, the environment, requirements."""

import hashlib
import json
import os
import socket
import subprocess
import sys
import threading
import venv
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from contract import paths
from contract.codec import encode
from contract.documents import Build, Endpoint, Manifest, Probe
from contract.tool import SERVICE_TOOL, STORE_TOOL
from kinds.place import BOOTSTRAP_FACTS
from kinds.process_managers import emperor
from serving import bootstrap, host_files, machines, make_plan, release_files
from settings.loader import parse
from tests.unit.machine import PROJECT, module, python36
from tests.unit.machine.application import Application
from tests.unit.machine.ports import Ports

commands, facts, probe, venvs = (module(name) for name in ("commands", "facts", "probe", "venvs"))


def test_a_release_carries_the_whole_tool() -> None:
    *others, database = machines(parse({"mysql": {"password": "x"}}, "test"))
    # The bootstrap brings these: the emperor's vassals outlive a release, the page comes before any.
    tool = {path.name for path in (PROJECT / "machine").glob("*.py")} - {"builtin.py", "vassal.py"}
    tool -= {f"{name}.py" for name in STORE_TOOL}
    tool |= {"run.sh"} | {f"contract/{path.name}" for path in (PROJECT / "contract").glob("*.py")}
    of_services = {f"{name}.py" for name in SERVICE_TOOL}
    for plan in (machine.plan for machine in others):
        for texts in (release_files(plan.sites[0]), host_files(plan)):
            assert {name[5:] for name in texts if name.startswith("tool/")} == tool - of_services
    assert {name[5:] for name in host_files(database.plan) if name.startswith("tool/")} == tool
    member = replace(make_plan(parse({}, "test")), store_units=("wsgi-ecs-store",))
    of_members = {f"{name}.py" for name in STORE_TOOL}
    carried = {name[5:] for name in host_files(member) if name.startswith("tool/")}
    assert carried == (tool - of_services) | of_members


def test_a_tool_takes_the_place_of_an_older_one(tmp_path: Path) -> None:
    (tmp_path / "sent/tool/contract").mkdir(parents=True)
    (tmp_path / "there/tool/older").mkdir(parents=True)
    (tmp_path / "there/tool/gone.py").touch()
    names = ("tool/a.py", "tool/contract/b.py")
    for name in names:
        (tmp_path / "sent" / name).write_text("new\n")
    digest = hashlib.sha256(b"new\n").hexdigest()
    files = {name: ["644", digest] for name in names}
    manifest = Manifest(hashlib.sha256(json.dumps(files).encode()).hexdigest()[:12], files)
    (tmp_path / "sent/manifest.json").write_text(encode(manifest))
    written = module("unpacked").Unpacked(str(tmp_path / "sent")).place_tool(str(tmp_path / "there"))
    assert written == [f"{tmp_path}/there/{name}" for name in names]
    assert {str(path) for path in (tmp_path / "there").rglob("*.py")} == set(written)


@pytest.mark.parametrize(
    ("files", "cpus"),
    [
        ({}, 8),
        ({"cpu.max": "max 100000\n"}, 8),
        ({"cpu.max": "200000 100000\n"}, 2),
        ({"cpu.max": "350000 100000\n"}, 3),
        ({"cpu.max": "50000 100000\n"}, 1),
        ({"cpu.max": "1600000 100000\n"}, 8),
        ({"cpu.max": "rubbish\n"}, 8),
        ({"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, 8),
        ({"cpu/cpu.cfs_quota_us": "300000\n", "cpu/cpu.cfs_period_us": "100000\n"}, 3),
        ({"cpu/cpu.cfs_quota_us": "20000\n", "cpu/cpu.cfs_period_us": "100000\n"}, 1),
    ],
)
def test_the_cpus_are_the_affinity_capped_by_the_quota(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, files: dict[str, str], cpus: int
) -> None:
    (tmp_path / "cpu").mkdir()
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    monkeypatch.setattr(facts, "CGROUP", str(tmp_path))
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)))
    assert facts.cpus() == cpus


def test_the_listen_queue_is_the_kernels_or_what_every_kernel_allows(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(facts, "SOMAXCONN", str(tmp_path / "somaxconn"))
    assert facts.somaxconn() == 128
    (tmp_path / "somaxconn").write_text("4096\n")
    assert facts.somaxconn() == 4096


def test_a_release_takes_the_port_that_is_free() -> None:
    with Ports() as port, socket.create_server(("127.0.0.1", port)):
        with pytest.raises(OSError, match=f"all of the ports {port} are in use"):
            facts.free_port([port])
        assert facts.free_port([port, port + 1]) == port + 1
        assert facts.free_port([port, port + 1, port + 2], others={port + 1}) == port + 2


@pytest.fixture
def port() -> Iterator[int]:
    """A port that nobody else takes."""
    with Ports() as first:
        yield first


REQUEST = Probe(path="/healthz?full=1", host="www.example.com", port=80, tls=False)


@pytest.mark.parametrize("protocol", ["uwsgi", "http"])
@pytest.mark.parametrize("listen", ["unix", "127.0.0.1", "0.0.0.0"])  # noqa: S104
def test_the_probe_asks_as_the_front_does(tmp_path: Path, protocol: str, listen: str, port: int) -> None:
    address = f"unix:{tmp_path}/s" if listen == "unix" else f"{listen}:{port}"
    application = Application("id", "ok", protocol, address)
    answer = probe.through_endpoint(Endpoint(protocol, address), REQUEST)
    application.stop()
    assert (answer.good, answer.status, answer.body) == (True, 200, "the answer")
    asked = application.asked[0]
    assert asked["PATH_INFO"] == "/healthz"
    assert asked["QUERY_STRING"] == "full=1"
    assert asked["REQUEST_URI"] == "/healthz?full=1"
    assert asked["HTTP_HOST"] == "www.example.com"
    assert asked["REQUEST_METHOD"] == "GET"
    assert "UWSGI_SCRIPT" not in asked


def test_the_probe_names_the_application_to_a_uwsgi_that_loads_it_by_request(tmp_path: Path) -> None:
    application = Application("id", "ok", "uwsgi", f"unix:{tmp_path}/s")
    request = REQUEST._replace(uwsgi_params={"UWSGI_SCRIPT": "app:app"})
    probe.through_endpoint(Endpoint("uwsgi", f"unix:{tmp_path}/s"), request)
    application.stop()
    assert application.asked[0]["UWSGI_SCRIPT"] == "app:app"


@pytest.mark.parametrize("address", ["unix:{}/s", "127.0.0.1:{}"])
def test_nobody_at_the_endpoint_is_an_error_and_no_answer(tmp_path: Path, address: str, port: int) -> None:
    place = address.format(tmp_path if "unix" in address else port)
    with pytest.raises(OSError, match=r"No such file|refused"):
        probe.through_endpoint(Endpoint("http", place), REQUEST)


def test_what_is_printed_is_utf_8_whatever_a_file_is_called(capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    commands.say("静态 \udcff.css")
    assert capfdbinary.readouterr().out == "wsgi-ecs: 静态 \\udcff.css\n".encode()


def listener(answer: bytes, *, hold: bool = False) -> tuple[socket.socket, int]:
    server = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        client, _ = server.accept()
        with client:
            client.recv(65536)
            while hold:
                try:
                    client.sendall(answer)
                except OSError:
                    return
                threading.Event().wait(0.02)
            client.sendall(answer)

    threading.Thread(target=serve, daemon=True).start()
    return server, server.getsockname()[1]


@pytest.mark.parametrize("answer", [b"", b"HTTP/1.1", b"no protocol at all\r\n\r\n"])
def test_what_is_no_answer_is_told_as_such(answer: bytes) -> None:
    server, port = listener(answer)
    with server, pytest.raises(OSError, match="closed without an answer"):
        probe.through_entrance(REQUEST._replace(port=port))


def test_an_answer_that_never_ends_does_not_hold_the_release() -> None:
    server, port = listener(b".", hold=True)
    with server, pytest.raises(OSError, match=r"no whole answer|timed out"):
        probe.through_entrance(REQUEST._replace(port=port), timeout=0.2)


PRINTED = r"""
import logs
print(logs.printed("log", 0))
"""


def printed(tmp_path: Path, *lines: str) -> list[str]:
    """What logs.printed shows of a log with these lines."""
    (tmp_path / "log").write_text("\n".join(lines))
    done = subprocess.run(
        [python36() or sys.executable, "-B", "-S", "-c", PRINTED],
        cwd=tmp_path,
        env={"PYTHONPATH": f"{PROJECT}:{PROJECT}/machine"},
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.splitlines()


def test_what_an_application_printed_has_its_error_however_much_came_after(tmp_path: Path) -> None:
    long = [f"  File worker.py, line {number}" for number in range(60)]
    error = "ModuleNotFoundError: No module named 'x'"
    assert printed(tmp_path, "before", error, *long) == [error, *long[-40:]]


def test_a_program_that_has_just_started_again_does_not_hide_why(tmp_path: Path) -> None:
    begins = ["*** Starting uWSGI 2.0.31 ***", "compiled with", "*** Operational MODE: single process ***"]
    said = ["Traceback", "ModuleNotFoundError: No module named 'x'"]
    for again in ([], begins[:1], begins, [*begins, "added /srv/app/lib to pythonpath."]):
        assert printed(tmp_path, *begins, *said, *again)[:2] == said
    assert printed(tmp_path, *begins, *said, *begins, "new") == ["new"]


RUN = r"""
import commands
print(ascii(commands.run("/bin/sh", "-c", "echo out; echo err >&2; cat; printf '\\303\\251\\377'")))
print(ascii(commands.run("/bin/sh", "-c", "echo no; exit 1", check=False)))
try:
    commands.run("/bin/sh", "-c", "seq 50; exit 3")
except commands.ReleaseError as error:
    print(str(error), error.lines.split())
"""


def test_a_command_is_run_with_nothing_to_read_and_all_that_it_prints_is_kept() -> None:
    """As a process, which the fake server has none of: under CentOS 7's Python and without a locale where it can."""
    done = subprocess.run(
        [python36() or sys.executable, "-B", "-S", "-c", RUN],
        cwd=PROJECT / "machine",
        capture_output=True,
        text=True,
        input="not for the command",
        env={"LC_ALL": "C", "PYTHONPATH": str(PROJECT)},
    )
    assert done.stderr == ""
    output, unchecked, error = done.stdout.splitlines()
    assert (output, unchecked) == (r"'out\nerr\n\xe9\ufffd'", r"'no\n'")
    assert error == f"/bin/sh -c seq 50; exit 3 ended with 3 {[str(number) for number in range(11, 51)]}"


def with_env(tmp_path: Path, env: str, *command: str, log: str = "-") -> "subprocess.CompletedProcess[str]":
    (tmp_path / "env.json").write_text(env)
    return subprocess.run(
        [
            python36() or sys.executable,
            "-S",
            "-E",
            str(PROJECT / "machine/with_env.py"),
            str(tmp_path / "env.json"),
            log,
            *command,
        ],
        capture_output=True,
        text=True,
        env={"PATH": "/usr/bin:/bin", "LC_ALL": "C", "KEY": "old"},
    )


def test_with_env_gives_the_program_its_environment_and_becomes_it(tmp_path: Path) -> None:
    done = with_env(tmp_path, json.dumps({"KEY": "密码 = 'x'\ny"}), "/bin/sh", "-c", 'printf "%s" "$KEY$1"', "sh", "!")
    assert (done.returncode, done.stdout, done.stderr) == (0, "密码 = 'x'\ny!", "")


def test_with_env_adds_what_the_program_prints_to_its_log(tmp_path: Path) -> None:
    log = tmp_path / "app.log"
    log.write_text("before\n")
    done = with_env(tmp_path, "{}", "/bin/sh", "-c", "echo out; echo err >&2", log=str(log))
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert log.read_text() == "before\nout\nerr\n"


def test_with_env_makes_a_log_that_others_cannot_read(tmp_path: Path) -> None:
    with_env(tmp_path, "{}", "/bin/true", log=str(tmp_path / "app.log"))
    assert (tmp_path / "app.log").stat().st_mode & 0o777 == 0o640


@pytest.mark.parametrize("env", ["{}", '{"KEY": "secret'])
def test_with_env_tells_in_one_line_why_the_program_cannot_start(tmp_path: Path, env: str) -> None:
    done = with_env(tmp_path, env, "/no/such/uwsgi")
    assert done.returncode == 1
    assert done.stderr.startswith("wsgi-ecs: cannot start /no/such/uwsgi with ")
    assert done.stderr.count("\n") == 1
    assert "secret" not in done.stderr


def test_a_vassal_is_the_uwsgi_of_its_own_release_with_the_environment(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """From the very files of the bootstrap: what the emperor starts on a new server."""
    settings = parse({"server": {"os": "debian12"}, "serving": {"process_manager": "emperor"}}, "test")
    written = {file.path: file.text for file in bootstrap.files(make_plan(settings), settings)}
    slot = BOOTSTRAP_FACTS["slot_dir"]
    (tmp_path / "state.json").write_text(written[f"{slot}/state.json"])
    (tmp_path / "uwsgi.ini").write_text(written[f"{slot}/uwsgi.ini"])
    (tmp_path / "vassal.ini").symlink_to(tmp_path / "uwsgi.ini")
    started: list[list[str]] = []
    vassal = module("vassal")
    monkeypatch.setattr(vassal.os, "environ", {})
    monkeypatch.setattr(vassal.os, "execv", lambda program, arguments: started.append([program, *arguments]))
    vassal.main(["--ini", str(tmp_path / "vassal.ini")])
    release, venv = BOOTSTRAP_FACTS["release_dir"], BOOTSTRAP_FACTS["venv"]
    assert started == [
        [
            "/usr/bin/python3",
            "/usr/bin/python3",
            f"{release}/tool/with_env.py",
            "/etc/wsgi-ecs/app.env.json",
            "-",
            f"{venv}/bin/uwsgi",
            "--ini",
            str(tmp_path / "vassal.ini"),
        ]
    ]
    assert vassal.os.environ == {"APP_RELEASE": "bootstrap"}
    assert f"{release}/tool/with_env.py" in written
    assert written[emperor.WRAPPER].startswith("#!/usr/bin/python3\n")


def test_the_requirements_are_all_the_files_that_decide_what_is_installed(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "requirements.txt").write_text("-r sub/base.txt\n-cpins.txt\n--requirement=missing.txt\nflask\n")
    (tmp_path / "sub/base.txt").write_text("--constraint ../pins.txt\n-r ../requirements.txt\n")
    (tmp_path / "pins.txt").write_bytes(b"flask==3.0.0 # \xff\n")
    texts = venvs.requirement_texts(str(tmp_path / "requirements.txt"))
    assert [text.splitlines()[0] for text in texts] == [
        "-r sub/base.txt",
        "--constraint ../pins.txt",
        r"flask==3.0.0 # \xff",
        r"flask==3.0.0 # \xff",
    ]
    with pytest.raises(commands.ReleaseError, match="no requirements file"):
        venvs.requirement_texts(str(tmp_path / "missing.txt"))


@pytest.mark.parametrize(
    ("line", "local"),
    [
        ("-e .", True),
        (".", True),
        ("./", True),
        (".[web]", True),
        ("./vendor/lib", True),
        ("wheels/lib-1-py3-none-any.whl", True),
        ("lib @ file:///srv/lib", True),
        ("--find-links wheels", True),
        ("--find-links https://example.com/wheels", False),
        ("-r sub/base.txt", False),
        ("lib @ https://example.com/lib.whl", False),
        ("flask==3.0.0 --hash=sha256:ab  # see a/b", False),
        ("# a/b", False),
    ],
)
def test_what_pip_takes_from_the_release_itself_gets_an_environment_of_its_own(line: str, local: bool) -> None:
    assert bool(venvs._LOCAL.search(f"flask\n{line}\n")) is local


def test_an_environment_begins_as_a_copy_of_the_bootstraps_that_has_its_python_and_pins(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(paths, "ROOT", str(tmp_path / "srv"))
    monkeypatch.setattr(module("files"), "own", lambda *_: None)
    bootstrap = Path(paths.venvs(), paths.BOOTSTRAP)
    venv.create(bootstrap, symlinks=True)
    (bootstrap / paths.BUILD_PINS).write_text("wheel==1\n")
    (bootstrap / paths.SERVER_PINS).write_text("server==2\n")
    program = bootstrap / "bin/program"
    program.write_text(f"#!{bootstrap}/bin/python\nimport sys\nprint(sys.prefix)\n")
    program.chmod(0o755)
    (bootstrap / "bin/binary").write_bytes(b"\0" + bytes(bootstrap))
    ran: list[tuple[str, ...]] = []

    class Builder:
        def own(self, path: str) -> None:
            pass

        def run(self, *command: str, **options: object) -> str:
            ran.append(command)
            return str(commands.run(*command)) if command[0] in ("cp", "grep", "sed") else ""

    (site,) = make_plan(parse({"server": {"os": "debian12"}}, "test")).sites
    python = os.path.realpath(bootstrap / "bin/python")
    release = site.release._replace(python=python, build_pins=["wheel==1"], server_pins=["server==2"])

    def begun(release: Any, version: str = sys.version) -> Path:
        ran.clear()
        folder = Path(paths.venvs(), str(len(list(Path(paths.venvs()).iterdir()))))
        folder.mkdir()
        venvs._begin(Builder(), release, version, str(folder))
        return folder

    made = begun(release)
    assert {command[0] for command in ran} == {"cp", "grep", "sed"}
    assert subprocess.check_output([made / "bin/program"], text=True) == f"{made}\n"
    assert (made / "bin/binary").read_bytes() == b"\0" + bytes(bootstrap)
    assert str(bootstrap) not in (made / "pyvenv.cfg").read_text() + (made / "bin/activate").read_text()
    # Anything else is made anew.
    for other, version in (
        (release, "3.6.8 (default)"),
        (release._replace(python="/opt/other/bin/python3"), sys.version),
        (release._replace(build_pins=["wheel==2"]), sys.version),
        (release._replace(server_pins=["server==2", "plugin==1"]), sys.version),
        (release._replace(server_pins=[]), sys.version),
    ):
        folder = begun(other, version)
        assert (other.python, "-m", "venv", str(folder)) in ran
        assert not (folder / "bin").exists()
        lines = (folder / paths.SERVER_PINS).read_text().splitlines()
        assert lines == other.server_pins
    # What the build user could have changed is no beginning.
    monkeypatch.setattr(os, "geteuid", lambda: bootstrap.stat().st_uid + 1)
    begun(release)
    assert not any("cp" in command for command in ran)


def test_an_environment_has_the_python_that_the_release_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ran: list[tuple[str, ...]] = []
    caches: set[str | None] = set()
    versions = {"/usr/bin/python3.11": "3.11.9", "/usr/bin/python3": "3.6.8"}

    class Builder:
        user = SimpleNamespace(pw_dir=str(tmp_path))

        def own(self, path: str) -> None:
            pass

        def end_leftovers(self) -> None:
            pass

        def run(self, *command: str, **options: Any) -> str:
            ran.append(command)
            if command[1] == "install":
                caches.add(options["variables"].get("PIP_CACHE_DIR"))
            return versions.get(command[0], "") if command[1] == "-c" else ""

    (site,) = make_plan(parse({"server": {"os": "debian12"}}, "test")).sites
    (tmp_path / "srv/venvs").mkdir(parents=True)
    (tmp_path / "app").mkdir()
    (tmp_path / "app/requirements.txt").touch()
    monkeypatch.setattr(venvs, "Builder", Builder)
    monkeypatch.setattr(paths, "ROOT", str(tmp_path / "srv"))
    monkeypatch.setattr(module("files"), "own", lambda *_: None)

    def made(python: str, *builds: Build) -> str:
        ran.clear()
        caches.clear()
        release = site.release._replace(python=python, build_pins=[], server_pins=[], uv="", builds=[*builds])
        path = str(venvs.make(release, str(tmp_path), print, {}))
        assert [command[0] for command in ran if command[1:3] == ("-m", "venv")] in ([python], [])
        assert caches in ({venvs.wheels(build) for build in builds} or {None}, set())
        return path

    first = made("/usr/bin/python3.11")
    assert ("/usr/bin/python3.11", "-m", "venv", first) in ran
    assert made("/usr/bin/python3.11") == first
    assert not any("venv" in command for command in ran)
    # Another Python is another environment, and so is what an update makes of the same one.
    assert made("/usr/bin/python3") != first
    versions["/usr/bin/python3.11"] = "3.11.11"
    assert made("/usr/bin/python3.11") != first
    # A Python from source says the same in two folders.
    assert made("/opt/a-3/bin/python3", Build("python", "3", "/opt/a-3", "/opt/a", "", "", [])) != made(
        "/opt/b-3/bin/python3", Build("python", "3", "/opt/b-3", "/opt/b", "", "", [])
    )


def test_a_file_that_has_no_room_leaves_the_old_one_whole(tmp_path: Path) -> None:
    path = tmp_path / "state.json"
    path.write_text("old")
    # A limit of a process stands in for the full disk.
    code = (
        "import resource, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096)); sys.path[:0] = sys.argv[2:]\n"
        "import files; files.write(sys.argv[1], 'new' * 4096, 0o644)"
    )
    command = [sys.executable, "-c", code, str(path), str(PROJECT / "machine"), str(PROJECT)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert "File too large" in done.stderr
    assert path.read_text() == "old"
    assert [found.name for found in tmp_path.iterdir()] == ["state.json"]
