"""A Python of one's choice: settings, plan, and the build itself on scratch folders with stand-ins for make's work."""

import hashlib
import io
import json
import os
import tarfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from contract import paths
from contract.codec import encode
from contract.documents import Build, Host
from kinds.systems import SYSTEMS
from serving import bootstrap, make_plan, release_files
from settings.loader import parse
from tests.unit.machine import module
from tests.unit.machine.build_user import builds_as_tests

SHA = "ab" * 32
PYTHON = {"install": "source", "version": "3.11.9", "archive": "https://example.com/Python.tgz", "sha256": SHA}
FOLDER = "/usr/local/python-3.11.9"
FILE = "stacks/Pulumi.test.yaml"


def stack_of(system: str = "centos7", **config: Any) -> Any:
    return parse({"server": {"os": system}, **config}, FILE)


def release_of(system: str = "centos7", **config: Any) -> Any:
    (site,) = make_plan(stack_of(system, **config)).sites
    return site.release


def test_a_site_gets_its_python_its_pins_and_uv() -> None:
    release = release_of(python=PYTHON)
    assert release.python == f"{FOLDER}/bin/python3.11"
    assert [pin.split()[0] for pin in release.build_pins] == list(SYSTEMS["debian12"].build_pins)
    assert release.uv.startswith("uv==")
    (build,) = release.builds
    assert (build.name, build.folder, build.link) == ("python", FOLDER, "/usr/local/python")
    assert build.options == [f"--prefix={FOLDER}", "--with-ensurepip=no", "--disable-test-modules"]
    own = release_of()
    assert (own.python, own.uv, own.builds) == ("/usr/bin/python3", "", [])


def test_the_app_servers_follow_the_python() -> None:
    gunicorn: dict[str, Any] = {"serving": {"app_server": "gunicorn"}}
    assert release_of(python=PYTHON, **gunicorn).server_pins[0].startswith("gunicorn==23.0.0 ")
    assert release_of(**gunicorn).server_pins[0].startswith("gunicorn==21.2.0 ")
    # Without its own Python, centos7 refuses Granian.
    assert release_of(python=PYTHON, serving={"app_server": "granian"}).server_pins


def test_each_python_has_a_uwsgi_of_its_own() -> None:
    uwsgi = {"install": "source", "version": "2.0.31", "archive": "https://example.com/uwsgi.tgz", "sha256": SHA}
    release = release_of(python=PYTHON, uwsgi=uwsgi)
    python, build = release.builds
    assert python.name == "python"
    assert build.folder == "/usr/local/uwsgi-2.0.31-usr-local-python-3.11.9"
    assert (build.link, build.python) == ("/usr/local/uwsgi", release.python)
    assert release.command == f"{build.folder}/bin/uwsgi"
    assert release_of(uwsgi=uwsgi).command == "/usr/local/uwsgi-2.0.31/bin/uwsgi"


def test_an_optimised_python_stands_beside_the_plain_one() -> None:
    optimised = release_of("debian12", python={**PYTHON, "optimise": True})
    (build,) = optimised.builds
    assert build.folder == f"{FOLDER}-optimised"
    assert "--enable-optimizations" in build.options
    assert build.seconds > release_of(python=PYTHON).builds[0].seconds


@pytest.mark.parametrize("app_server", ["uwsgi", "gunicorn"])
@pytest.mark.parametrize("system", list(SYSTEMS))
def test_the_release_tool_installs_what_builds_it_and_the_bootstrap_is_the_same(system: str, app_server: str) -> None:
    serving = {"serving": {"app_server": app_server}}
    settings, plain = (stack_of(system, **own, **serving) for own in ({"python": PYTHON}, {}))
    plan = make_plan(settings)
    assert isinstance(plan.host, Host)
    assert plan.host.packages
    names = set(plan.host.packages.names)
    (build,) = plan.sites[0].release.builds
    assert set(build.modules) == {"bz2", "ctypes", "lzma", "readline", "sqlite3", "ssl", "zlib"}
    assert {"make", *build.modules.values()} <= names
    assert bootstrap.user_data(plan, settings) == bootstrap.user_data(make_plan(plain), plain)
    assert bootstrap.version(plan, settings) == bootstrap.version(make_plan(plain), plain)


def test_a_package_that_the_sources_lack_names_the_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    plan = make_plan(stack_of(python=PYTHON))
    assert isinstance(plan.host, Host)
    tool = module("packages")
    monkeypatch.setattr(tool, "run", lambda *command, **_: "is not installed")
    with pytest.raises(
        module("commands").ReleaseError, match=r"openssl11-devel, .*, which python\.install needs"
    ) as refused:
        tool.install(plan.host.packages, lambda text: None)
    assert refused.value.then.startswith("set server.mirrors.packages, or epel, ")


def test_centos7_builds_it_with_the_openssl_of_epel() -> None:
    (build,) = release_of(python=PYTHON).builds
    assert build.modules["ssl"] == "openssl11-devel"
    assert build.openssl == ["/usr/include/openssl11", "/usr/lib64/openssl11"]
    (build,) = release_of("alinux3", python=PYTHON).builds
    assert (build.modules["ssl"], build.openssl) == ("openssl-devel", [])


def test_a_site_of_several_has_its_own() -> None:
    sites = {"shop": {"python": PYTHON}, "blog": {"site": {"location": "/blog/"}}}
    plan = make_plan(stack_of(sites=sites))
    assert [site.release.python for site in plan.sites] == [f"{FOLDER}/bin/python3.11", "/usr/bin/python3"]
    # nginx's machine builds none.
    front = make_plan(stack_of(python={**PYTHON, "archive": "a.tgz"}, topology={"app_servers": 1}), "front")
    assert isinstance(front.host, Host)
    assert (front.host.packages, front.sites[0].release.builds, front.sites[0].sources) == (None, [], {})


def test_the_others_wait_while_it_is_built(tmp_path: Path) -> None:
    tool = module("release")
    plan = make_plan(stack_of(python=PYTHON))
    (tmp_path / "release.json").write_text(release_files(plan.sites[0])["release.json"])
    assert tool.seconds(str(tmp_path)) == tool.LOCK_SECONDS + 1800


# What `make altinstall` leaves: an interpreter that says its version and imports what is there.
PROGRAM = """#!/bin/sh
case "$2" in
*python_version*) echo {version} ;;
"import {lacking}") echo "ModuleNotFoundError: No module named '{lacking}'"; exit 1 ;;
esac
"""
CONFIGURE = """#!/bin/sh
for word; do
    case "$word" in
    --prefix=*) prefix=${word#*=} ;;
    --with-openssl=*) ls -l ${word#*=} >openssl.txt ;;
    esac
done
printf 'all:\\n\\t%s\\naltinstall:\\n\\tmkdir -p $(DESTDIR)%s/bin\\n' '$ALL' $prefix >Makefile
printf '\\tcp program $(DESTDIR)%s/bin/python3.11\\n\\t%s\\n' $prefix '$THEN' >>Makefile
"""


def archive(version: str = "3.11.9", lacking: str = "nothing", make: str = "true", then: str = "true") -> bytes:
    configure = CONFIGURE.replace("$ALL", make).replace("$THEN", then)
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as tar:
        for name, text in (("configure", configure), ("program", PROGRAM.format(version=version, lacking=lacking))):
            entry = tarfile.TarInfo(f"Python-3.11.9/{name}")
            entry.size, entry.mode = len(text), 0o755
            tar.addfile(entry, io.BytesIO(text.encode()))
    return packed.getvalue()


@pytest.fixture
def builds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    tool = builds_as_tests(tmp_path, monkeypatch)
    monkeypatch.setattr(paths, "ROOT", str(tmp_path / "srv"))
    return tool


def wanted(tmp_path: Path, data: bytes, **changes: Any) -> Build:
    folder = str(tmp_path / "python-3.11.9")
    build = Build(
        name="python",
        version="3.11.9",
        folder=folder,
        link=str(tmp_path / "python"),
        archive="source/python-3.11.9",
        sha256=hashlib.sha256(data).hexdigest(),
        options=[f"--prefix={folder}"],
        modules={"ssl": "libssl-dev", "zlib": "zlib1g-dev"},
    )
    return build._replace(**changes)


def make(tool: Any, build: Build, data: bytes) -> list[str]:
    said: list[str] = []
    tool.make(build, SimpleNamespace(read=lambda name: data), said.append)
    return said


def test_it_is_built_once(builds: Any, tmp_path: Path) -> None:
    data = archive()
    building, done = make(builds, wanted(tmp_path, data), data)
    assert building == "building python 3.11.9 from source, once"
    assert done.startswith("python 3.11.9 is built (")
    assert (tmp_path / "python-3.11.9/bin/python3.11").exists()
    assert make(builds, wanted(tmp_path, data), data) == []
    # A later version of the program may build with other options.
    assert make(builds, wanted(tmp_path, data, options=["--other"]), data) == []


@pytest.mark.parametrize(
    ("made", "what", "lines"),
    [
        ({"make": "echo x.c:1: error: broken; exit 1"}, "make -s -j", "x.c:1: error: broken"),
        ({"version": "3.11.2"}, "the archive holds 3.11.2", ""),
        (
            {"lacking": "ssl"},
            "the module ssl is missing, which needs the package libssl-dev of the OS",
            "No module named 'ssl'",
        ),
    ],
)
def test_one_that_does_not_build_or_lacks_a_module_is_no_python(
    builds: Any, tmp_path: Path, made: dict[str, str], what: str, lines: str
) -> None:
    data = archive(**made)
    with pytest.raises(builds.ReleaseError, match=f"python 3.11.9 does not build: {what}") as refused:
        make(builds, wanted(tmp_path, data), data)
    assert lines in refused.value.lines
    assert refused.value.then == "choose another python.version, or fix its archive, and run up again"
    assert {path.name for path in tmp_path.iterdir()} == {"home"}
    assert not list((tmp_path / "home").iterdir())


def test_one_whose_archive_holds_another_minor_version_is_refused(builds: Any, tmp_path: Path) -> None:
    data = archive()
    with pytest.raises(builds.ReleaseError, match="the archive holds another version"):
        make(builds, wanted(tmp_path, data, version="3.12.1"), data)


def test_it_is_configured_with_the_openssl_that_the_system_has_elsewhere(builds: Any, tmp_path: Path) -> None:
    data = archive(then=f"cp openssl.txt $(DESTDIR){tmp_path}/python-3.11.9")
    make(builds, wanted(tmp_path, data, openssl=["/usr/include/openssl11", "/usr/lib64/openssl11"]), data)
    listed = (tmp_path / "python-3.11.9/openssl.txt").read_text()
    assert "include -> /usr/include/openssl11" in listed
    assert "lib -> /usr/lib64/openssl11" in listed


def test_one_that_a_kept_release_runs_on_is_not_replaced(builds: Any, tmp_path: Path) -> None:
    first, second = archive(), archive(make="true second")
    old = wanted(tmp_path, first)
    make(builds, old, first)
    kept = tmp_path / "srv/sites/app/releases/1"
    kept.mkdir(parents=True)
    (kept / "release.json").write_text(encode(release_of()._replace(builds=[old])))
    with pytest.raises(builds.ReleaseError, match="another archive, and a kept release runs on it") as refused:
        make(builds, wanted(tmp_path, second), second)
    assert refused.value.then == "set python.prefix to another folder, and run up again"
    (kept / "release.json").unlink()
    assert len(make(builds, wanted(tmp_path, second), second)) == 2


def test_a_long_build_says_that_it_goes_on(builds: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(builds, "_SILENCE", 0.1)
    data = archive(make="sleep 0.5")
    said = make(builds, wanted(tmp_path, data), data)
    assert said[1].startswith("still building python 3.11.9 (")


def test_compiled_modules_stay_valid(builds: Any, tmp_path: Path) -> None:
    """Python compares a module's time with the time in its compiled file."""
    staged = tmp_path / "staged"
    staged.mkdir()
    (staged / "a.py").write_text("")
    os.utime(staged / "a.py", (1000, 1000))
    builds.install(str(staged), str(tmp_path / "target"))
    assert (tmp_path / "target/a.py").stat().st_mtime == 1000


def test_a_build_with_another_folder_is_pruned_as_the_others(builds: Any, tmp_path: Path) -> None:
    """The folder of an optimised Python, and of a uWSGI for one, has more than the version in its name."""
    data = archive()
    build = wanted(tmp_path, data, folder=str(tmp_path / "python-3.11.9-optimised"), options=[])
    build = build._replace(options=[f"--prefix={build.folder}"])
    make(builds, build, data)
    assert json.loads((Path(build.folder) / "built.json").read_text())["version"] == "3.11.9-optimised"
    assert builds.is_ours(build.folder)
