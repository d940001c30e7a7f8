"""Which of uv and pip installs the application's requirements, and what uv is told of pip's configuration."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from kinds.systems import SYSTEMS
from serving import make_plan
from settings.loader import parse
from tests.unit.machine import module

uv, venvs, commands = (module(name) for name in ("uv", "venvs", "commands"))
PIN = "uv==0.13.9 --hash=sha256:00"
CONFIGURED = """\
:env:.disable-pip-version-check='1'
:env:.extra-index-url='http://a.example/ https://b.example/'
global.cert='/etc/ssl/certs/ca.crt'
global.find-links='/var/cache/wheels\\n/opt/wheels'
global.index-url='https://mirror.example/'
install.index-url='https://own.example/'
global.trusted-host='a.example'
"""


@pytest.mark.parametrize(
    ("text", "option"),
    [
        ("flask==3.1.3 \\\n    --hash=sha256:00\n-r more.txt\n-c pins.txt\n-e .\n.[web]\n", ""),
        ("flask  # not --pre\n# --pre\nmy-app-x @ https://example.com/a-b--c.zip\n", ""),
        ("--no-binary lxml\nlxml\n", "--no-binary"),
        ("-i https://example.com/\nlxml\n", "-i"),
        ("--extra-index-url=https://example.com/\n--pre\n", "--extra-index-url --pre"),
        ("lxml --config-settings=a=b\n", "--config-settings"),
        ("-rmore.txt\n", "-rmore"),
    ],
)
def test_an_option_that_uv_may_read_otherwise_is_left_to_pip(text: str, option: str) -> None:
    reason = f"uv does not take {option} from a requirements file" if option else ""
    assert uv.reason_for_pip(["six\n", text]) == reason


def test_uv_is_for_a_python_that_it_knows() -> None:
    for name in SYSTEMS:
        (site,) = make_plan(parse({"server": {"os": name}}, "test")).sites
        assert bool(site.release.uv) == (name != "centos7")


class Builder:
    """Notes what it is to run. fails: words of a command that does not succeed."""

    def __init__(self, home: Path, configured: str = CONFIGURED, fails: tuple[str, ...] = ()) -> None:
        self.user, self.configured, self.fails = SimpleNamespace(pw_dir=str(home)), configured, fails
        self.ran: list[tuple[list[str], dict[str, Any]]] = []

    def take(self, folder: str) -> None:
        # Root writes nothing any more into what is the build user's, whose processes could put a link there.
        assert self.has_ended
        assert [path.name for path in Path(folder).iterdir()] == ["pin.txt"]

    def end_leftovers(self) -> None:
        self.has_ended = True

    def run(self, *command: str, **options: Any) -> str:
        self.ran.append(([*command], options))
        if any(word in self.fails for word in command):
            raise commands.ReleaseError("ended with 1")
        if "--target" in command:
            (Path(command[command.index("--target") + 1]) / "bin").mkdir(parents=True)
            assert Path(command[-1]).read_text() == f"{PIN}\n"
        return self.configured if command[1:] == ("config", "list") else ""


def installed(builder: Builder, text: str, pin: str = PIN) -> list[str]:
    """What is said of an installation of requirements with this text, and of a project."""
    said: list[str] = []
    release = SimpleNamespace(uv=pin, system="debian12", builds=[])
    commands = [["-r", "r.txt"], ["--no-deps", "."]]
    venvs._install(builder, release, "/venv", "/app", commands, [text], {}, said.append)
    return said


def test_uv_is_installed_once_by_its_hashes_and_told_what_pip_is_told(tmp_path: Path) -> None:
    (tmp_path / "uv-0.1.0").mkdir()
    builder = Builder(tmp_path)
    assert installed(builder, "six\n") == ["uv 0.13.9 has installed the requirements (0 s)"]
    assert [path.name for path in tmp_path.iterdir()] == ["uv-0.13.9"]
    (tmp_path / "uv-0.13.9/bin/uv").touch()
    pinned, _, pages, (first, options), (second, _) = builder.ran
    assert pages[0][:2] == ["find", f"{tmp_path}/.cache/uv"]
    assert {"--require-hashes", "--target"} <= set(pinned[0])
    assert first[-2:] == ["-r", "r.txt"]
    assert second[-2:] == ["--no-deps", "."]
    assert options["cwd"] == "/app"
    assert (
        options["variables"].items()
        >= {
            "UV_DEFAULT_INDEX": "https://own.example/",
            "UV_INDEX": "http://a.example/ https://b.example/",
            "UV_INSECURE_HOST": "a.example",
            "UV_FIND_LINKS": "/var/cache/wheels,/opt/wheels",
            "SSL_CERT_FILE": "/etc/ssl/certs/ca.crt",
        }.items()
    )
    again = Builder(tmp_path)
    installed(again, "six==1.16.0 --hash=sha256:00\n")
    assert not any("--target" in command for command, _ in again.ran)
    assert ["--require-hashes" in command for command, _ in again.ran] == [False, False, True, False]


PIP = [["/venv/bin/pip", "-r", "r.txt"], ["/venv/bin/pip", "--no-deps", "."]]


@pytest.mark.parametrize(
    ("text", "pin", "builder", "reason"),
    [
        ("--pre\n", PIN, {}, "uv does not take --pre from a requirements file"),
        ("six\n", "", {}, "uv needs a newer Python"),
        ("six\n", PIN, {"fails": ("--target",)}, "uv cannot be installed from the package index"),
        ("six\n", PIN, {"fails": ("--system-certs",)}, "uv does not install them"),
        ("six\n", PIN, {"configured": "global.no-binary=':all:'\n"}, "pip has settings that uv does not know"),
        ("six\n", PIN, {"configured": "download.dest='/tmp'\n"}, "pip has settings that uv does not know"),
    ],
)
def test_what_uv_cannot_do_pip_does(text: str, pin: str, builder: dict[str, Any], reason: str, tmp_path: Path) -> None:
    own = Builder(tmp_path, **builder)
    assert installed(own, text, pin) == [
        f"pip installs the requirements: {reason}",
        "pip has installed the requirements (0 s)",
    ]
    assert [[command[0], *command[-2:]] for command, _ in own.ran[-2:]] == PIP
    assert not any("--require-hashes" in command for command, _ in own.ran[-2:])
