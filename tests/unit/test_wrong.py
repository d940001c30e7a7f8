"""Stacks that are wrong: a file of wrong/ each, and the one line that it gets before anything is created.

The first line of a file is what `./rehearse up` says, <n> in it for a number that the program decides. A second
line, `# with: …`, names what must be there, of THERE. GOLDEN=write writes the first lines again.
"""

import os
import re
import subprocess
import sys
from collections.abc import Callable
from ipaddress import IPv4Network
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner

from reference.rows import rows
from rehearsal import cli
from rehearsal.cloud import addressing, host, lock, tokens
from rehearsal.commands.foresee import Change, Preview
from rehearsal.commands.host_checks import check_routes
from rehearsal.commands.passphrase import FILE_VARIABLE, VARIABLE
from rehearsal.engine.compare import Op
from rehearsal.engine.errors import UserError
from rehearsal.engine.state import Record
from settings.files import check
from settings.loader import parse
from settings.stack import MACHINE_KEYS, SITE_KEYS
from tests.builders.encrypted import PASSPHRASE
from tests.builders.stack import PROJECT

CASES = sorted((Path(__file__).parent / "wrong").glob("*.yaml"))


def _folder(project: Path, name: str, requirements: str = "") -> Path:
    folder = project / name
    folder.mkdir()
    (folder / "app.py").touch()
    (folder / "requirements.txt").write_text(requirements)
    return folder


def _chat(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (project / "chat").symlink_to(PROJECT / "tests/rehearsal/projects/chat")


def _big(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with (_folder(project, "big") / "data.bin").open("wb") as file:
        # All of it is a hole.
        file.truncate(2 * 2**30)


def _linked(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (_folder(project, "linked") / "out").symlink_to("../app")


def _newer(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (_folder(project, "newer") / "app.py").write_text("import rows\n")
    (project / "newer/rows.py").write_text("first = 1\nprint(second := first)\n")


def _declares(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (_folder(project, "newer") / "pyproject.toml").write_text('[project]\nname = "a"\nrequires-python = ">=3.12"\n')


NEEDS = """\
# What pip reads: an option, a hash that goes on, what is fetched, an environment marker, and then a slip.
-r more.txt
Flask[async]>=3,<4 ; python_version >= "3.9"  # a remark
Jinja2=3.1
"""


def _needy(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (_folder(project, "needy", NEEDS) / "more.txt").touch()


def _wordy(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _folder(project, "wordy", "Flask\n- Jinja2\n")


def _hidden(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (_folder(project, "hidden") / ".env.txt").touch()


def _far(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _folder(project, "far", "--requirement=../requirements.txt\n")
    (project / "requirements.txt").touch()


def _gbk(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (_folder(project, "gbk") / "requirements.txt").write_bytes("Flask  # 网站\n".encode("gbk"))


def _bare(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _folder(project, "bare", ".\n")


def _route(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(addressing, "routes", lambda: [(IPv4Network("10.96.0.0/12"), "tun0")])


THERE: dict[str, Callable[[Path, pytest.MonkeyPatch], None]] = {
    "code for a newer Python": _newer,
    "a project for a newer Python": _declares,
    "the passphrase": lambda project, monkeypatch: monkeypatch.setenv(VARIABLE, PASSPHRASE),
    "another passphrase": lambda project, monkeypatch: monkeypatch.setenv(VARIABLE, "hearse"),
    "a folder chat with an ASGI application": _chat,
    "a folder big with a file of 2 GiB": _big,
    "a folder linked with a link that leaves it": _linked,
    "a folder needy with requirements that do not parse": _needy,
    "a folder wordy with an option that pip does not have": _wordy,
    "a folder hidden with requirements that stay behind": _hidden,
    "a folder far with requirements that leave it": _far,
    "a folder gbk with requirements in an encoding that they do not name": _gbk,
    "a folder bare with requirements that install it": _bare,
    "a route to 10.96.0.0/12": _route,
}


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project of one's own that runs the program of this one, on a host that nothing is done to."""
    (tmp_path / "stacks").mkdir()
    for name in ("Pulumi.yaml", "__main__.py", "app", "samples"):
        (tmp_path / name).symlink_to(PROJECT / name)
    monkeypatch.chdir(tmp_path)
    for variable in (VARIABLE, FILE_VARIABLE):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setattr(cli, "ROOT", tmp_path)
    monkeypatch.setattr(cli, "_on_interrupt", lambda text: None)
    monkeypatch.setattr(lock, "_FOLDER", tmp_path)
    monkeypatch.setattr(host, "prepare", lambda say: pytest.fail("taken: it goes on to the host"))
    return tmp_path


def expected(case: Path) -> str:
    return case.read_text(encoding="utf-8").splitlines()[0].removeprefix("# ")


def config_of(case: Path) -> dict[str, Any]:
    """The product's own keys of a case, as they stand there."""
    config = yaml.safe_load(case.read_text(encoding="utf-8")).get("config", {})
    return {key.removeprefix("wsgi-ecs:"): value for key, value in config.items()}


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.stem)
def test_a_wrong_stack_is_refused_in_one_line(case: Path, project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = case.read_text(encoding="utf-8")
    (project / f"stacks/Pulumi.{case.stem}.yaml").write_text(text, encoding="utf-8")
    second = text.splitlines()[1]
    if second.startswith("# with: "):
        THERE[second.removeprefix("# with: ")](project, monkeypatch)
    done = CliRunner().invoke(cli.main, ["up", "--stack", case.stem])
    said = done.output.rstrip("\n")
    if os.environ.get("GOLDEN") == "write" and "\n" not in said and "<n>" not in expected(case):
        text = text.replace(expected(case), said, 1)
        case.write_text(text, encoding="utf-8")
    assert re.fullmatch(re.escape(f"{expected(case)}\n").replace("<n>", "[0-9]+"), done.output), done.output
    assert done.exit_code == 2
    assert not (project / ".rehearsal").exists()


def _as_second_site(config: dict[str, Any]) -> dict[str, Any]:
    """A stack with two sites, of which the second has what the stack of a case has for its only site."""
    shared: dict[str, Any] = {}
    two: dict[str, Any] = {}
    for section, values in config.items():
        if section not in SITE_KEYS:
            shared[section] = {}
        for key, value in values.items():
            of_machine = section not in SITE_KEYS or key in MACHINE_KEYS.get(section, ())
            (shared if of_machine else two).setdefault(section, {})[key] = value
    one: dict[str, Any] = {"site": {"server_name": "one.example.com"}}
    if shared.get("serving", {}).get("front") == "none":
        one = {"uwsgi": {"http": "0.0.0.0:9001"}}
    return {**shared, "sites": {"one": one, "two": two}}


def _is_of_a_site(case: Path) -> bool:
    """Whether a case is about a key that each site has: its line names the key, and its sections are maps of keys."""
    key = expected(case).removeprefix(f"rehearse: stacks/Pulumi.{case.stem}.yaml: ").partition(": ")[0]
    section, _, below = key.partition(".")
    try:
        config = config_of(case)
    except (yaml.YAMLError, AttributeError, KeyError, ValueError):
        # No map of keys at all.
        return False
    maps = all(isinstance(values, dict) for values in config.values()) and "sites" not in config
    return maps and section in SITE_KEYS and below.split(".")[0] not in MACHINE_KEYS.get(section, ())


@pytest.mark.parametrize("case", [case for case in CASES if _is_of_a_site(case)], ids=lambda case: case.stem)
def test_with_several_sites_the_line_names_the_site(case: Path, project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = case.read_text(encoding="utf-8")
    config = {f"wsgi-ecs:{key}": value for key, value in _as_second_site(config_of(case)).items()}
    (project / "stacks/Pulumi.two.yaml").write_text(yaml.safe_dump({"config": config}), encoding="utf-8")
    second = text.splitlines()[1]
    if second.startswith("# with: "):
        THERE[second.removeprefix("# with: ")](project, monkeypatch)
    done = CliRunner().invoke(cli.main, ["up", "--stack", "two"])
    assert done.output.startswith("rehearse: stacks/Pulumi.two.yaml: sites.two."), done.output
    assert done.exit_code == 2


def test_there_are_many_and_each_says_what_is_allowed() -> None:
    assert len(CASES) >= 60
    assert len({expected(case) for case in CASES}) == len(CASES)
    for case in CASES:
        assert expected(case).startswith(f"rehearse: stacks/Pulumi.{case.stem}.yaml: ")
        assert "allowed" in expected(case)


SECRET = "hunter2"


@pytest.mark.parametrize("key", [row.key for row in rows() if row.is_secret])
def test_a_wrong_secret_is_not_repeated(key: str) -> None:
    """Each kind of them stands among the cases with one that is wrong."""
    cases = [case for case in CASES if SECRET in case.read_text(encoding="utf-8")]
    assert not [case.name for case in cases if SECRET in expected(case)]
    assert len([case for case in cases if f"{key}." in expected(case) or f"{key}:" in expected(case)]) >= 2


@pytest.mark.parametrize("name", ["set-without-path", "key-twice", "app-of-2-gib", "provider-key-mistyped"])
def test_the_command_itself_says_it_on_stderr_alone(name: str, project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    case = PROJECT / f"tests/unit/wrong/{name}.yaml"
    text = case.read_text(encoding="utf-8")
    (project / f"stacks/Pulumi.{name}.yaml").write_text(text, encoding="utf-8")
    if name == "app-of-2-gib":
        _big(project, monkeypatch)
    # `up` would take the stack's lock, which belongs to the user who has taken it first.
    command = [sys.executable, "-m", "rehearsal", "preview", "--stack", name]
    environment = {**os.environ, "PYTHONPATH": str(PROJECT)}
    done = subprocess.run(command, cwd=project, env=environment, capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (2, "", f"{expected(case)}\n")


def test_what_pip_reads_is_taken(tmp_path: Path) -> None:
    """Whatever the lines of requirements are beside names with versions."""
    lines = (
        "--index-url https://mirror.example.com/simple/",
        "-e ./lib",
        "./wheels/shop-1.0-py3-none-any.whl",
        "shop-1.0.tar.gz",
        "git+https://example.com/shop.git@v1#egg=shop",
        "shop @ https://example.com/shop-1.0.zip",
        "https://example.com/shop.whl",
        "${HOME}/shop",
        "Flask==3.1.3 \\",
        "    --hash=sha256:" + "0" * 64,
        "gevent>=23 ; python_version > '3.9'",
        "uwsgi~=2.0  # a remark",
    )
    folder = _folder(tmp_path, "app", "\n".join(lines))
    check(parse({}, "stacks/Pulumi.test.yaml"), folder.parent, "stacks/Pulumi.test.yaml")


def test_a_rehearsals_own_bridges_are_in_nobodys_way(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = IPv4Network("10.99.0.0/16")
    vpc = Record("1", "urn", tokens.VPC, "vpc", "vpc-1", {"cidrBlock": str(whole)})
    preview = Preview([Change(Op.CREATE, "", None, vpc)], (), (), Path())
    monkeypatch.setattr(addressing, "routes", lambda: [(whole, "we0a1b2c3d-1")])
    check_routes("one", preview)
    # A part that is free is enough.
    monkeypatch.setattr(addressing, "routes", lambda: [(IPv4Network("10.99.0.0/17"), "tun0")])
    check_routes("one", preview)
    monkeypatch.setattr(addressing, "routes", lambda: [(whole, "web0")])
    with pytest.raises(UserError, match=r"network\.cidr: this host has routes over all of 10\.99\.0\.0/16"):
        check_routes("one", preview)
