"""Servers from the index, the OS, or built from source: settings, texts, and the build itself on scratch folders."""

import hashlib
import io
import json
import re
import shutil
import subprocess
import tarfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from components import archive
from contract import paths
from contract.codec import encode
from contract.documents import Build, Host, HostState
from serving import bootstrap, make_plan
from settings import SettingsError
from settings.files import check
from settings.loader import parse
from tests.builders.stack import PROJECT
from tests.unit.machine import module
from tests.unit.machine.build_user import builds_as_tests

SHA = "ab" * 32
UWSGI = {"install": "source", "version": "2.0.31", "archive": "uwsgi.tar.gz", "sha256": SHA}
NGINX = {"install": "source", "version": "1.22.1", "archive": "https://example.com/nginx.tar.gz", "sha256": SHA}
FILE = "stacks/Pulumi.test.yaml"


def plan_of(**config: Any) -> Any:
    return make_plan(parse({"server": {"os": "debian12"}, **config}, FILE))


@pytest.mark.parametrize("missing", ["version", "archive", "sha256"])
@pytest.mark.parametrize(("name", "whole"), [("uwsgi", UWSGI), ("nginx", NGINX)])
def test_a_source_is_named_whole(name: str, whole: dict[str, str], missing: str) -> None:
    part = {key: value for key, value in whole.items() if key != missing}
    with pytest.raises(SettingsError, match=rf"^{FILE}: {name}.{missing}: required with {name}.install: source"):
        plan_of(**{name: part})


@pytest.mark.parametrize(
    ("config", "line"),
    [
        ({"uwsgi": {"sha256": SHA}}, "uwsgi.sha256: set, but uwsgi.install is index; allowed: uwsgi.install: source"),
        ({"uwsgi": {"install": "os", "version": "2.0.31"}}, "uwsgi.version: the OS decides it"),
        ({"uwsgi": {"install": "os", "http": "127.0.0.1:8080"}}, "uwsgi.http: the OS's uWSGI has no router"),
        ({"nginx": {"prefix": "/opt/nginx"}}, "nginx.prefix: set, but nginx.install is os"),
        ({"nginx": {**NGINX, "prefix": "/usr/local/uwsgi"}, "uwsgi": UWSGI}, "nginx.prefix: uwsgi.prefix is the same"),
        ({"nginx": {**NGINX, "prefix": "/etc"}}, "nginx.prefix: got /etc; allowed: a folder of /usr/local or /opt"),
        ({"nginx": {**NGINX, "prefix": "/opt/../etc"}}, "nginx.prefix: got /opt/../etc; allowed: a folder of"),
        ({"nginx": {**NGINX, "archive": "ftp://example.com/x"}}, "nginx.archive: got ftp://example.com/x; allowed"),
        ({"nginx": {**NGINX, "sha256": "AB"}}, "nginx.sha256: got AB; allowed: 64 digits of lower-case hexadecimal"),
        ({"nginx": {**NGINX, "version": "../1"}}, "nginx.version: got ../1; allowed: a version such as"),
    ],
)
def test_what_makes_no_sense_is_refused(config: dict[str, Any], line: str) -> None:
    with pytest.raises(SettingsError) as refused:
        plan_of(**config)
    assert str(refused.value).startswith(f"{FILE}: {line}")


def test_a_local_archive_is_held_against_its_checksum_before_anything_is_created(tmp_path: Path) -> None:
    file = tmp_path / "uwsgi.tar.gz"
    settings = parse({"uwsgi": {**UWSGI, "archive": str(file)}}, FILE)
    with pytest.raises(SettingsError, match=r"uwsgi\.archive: .* is no file"):
        check(settings, PROJECT, FILE)
    file.write_bytes(b"anything")
    with pytest.raises(SettingsError, match=rf"uwsgi\.sha256: .* has {hashlib.sha256(b'anything').hexdigest()}"):
        check(settings, PROJECT, FILE)
    right = {**UWSGI, "archive": str(file), "sha256": hashlib.sha256(b"anything").hexdigest()}
    check(parse({"uwsgi": right}, FILE), PROJECT, FILE)


def test_a_local_archive_travels_with_the_release_and_a_url_does_not(tmp_path: Path) -> None:
    file = tmp_path / "a.tar.gz"
    file.write_bytes(b"the archive")
    app = {"source": str(PROJECT / "app")}
    config = {"server": {"os": "debian12"}, "app": app, "uwsgi": {**UWSGI, "archive": str(file)}, "nginx": NGINX}
    settings = parse(config, FILE)
    plan = make_plan(settings)
    packed = archive.build_all(plan, settings, tmp_path / "out")
    held = {}
    for name, each in (("host", packed.host), ("site", packed.sites["app"])):
        with tarfile.open(each.path) as tar:
            held[name] = [name for name in tar.getnames() if name.startswith("source/")]
    assert held == {"host": [], "site": ["source/uwsgi-2.0.31"]}
    (site,) = plan.sites
    assert [build.archive for build in site.release.builds] == ["source/uwsgi-2.0.31"]
    assert isinstance(plan.host, Host)
    assert [build.archive for build in plan.host.builds] == [NGINX["archive"]]
    # nginx is the machine's: its archive travels with what the sites share.
    plan = plan_of(nginx={**NGINX, "archive": str(file)})
    assert plan.sources == {"source/nginx-1.22.1": str(file)}
    assert plan.sites[0].sources == {}


@pytest.mark.parametrize(
    ("uwsgi", "program", "pins", "plugin"),
    [
        ({}, "@@venv@@/bin/uwsgi", ["uWSGI==2.0.31"], False),
        ({"version": "2.0.28"}, "@@venv@@/bin/uwsgi", ["uWSGI==2.0.28"], False),
        ({"install": "os"}, "/usr/bin/uwsgi", [], True),
        ({**UWSGI, "prefix": "/opt/uwsgi"}, "/opt/uwsgi-2.0.31/bin/uwsgi", [], False),
    ],
)
def test_a_release_starts_the_uwsgi_that_is_chosen(
    uwsgi: dict[str, str], program: str, pins: list[str], plugin: bool
) -> None:
    plan = plan_of(uwsgi=uwsgi)
    (site,) = plan.sites
    assert site.release.command == program
    assert f"app.env.json - {program} --ini" in site.configs["supervisor.conf"]
    assert [pin.split()[0] for pin in site.release.server_pins] == pins
    assert ("\nplugin = python3\n" in site.configs["uwsgi.ini"]) == plugin
    assert "\nvirtualenv = @@venv@@\n" in site.configs["uwsgi.ini"]
    assert ("uwsgi-plugin-python3" in plan.packages) == plugin


def test_the_uwsgi_of_epel_is_where_its_package_has_it() -> None:
    plan = make_plan(parse({"server": {"os": "centos7"}, "uwsgi": {"install": "os"}}, FILE))
    assert plan.sites[0].release.command == "/usr/sbin/uwsgi"


def test_a_new_server_begins_with_what_is_there_without_a_release() -> None:
    settings = parse({"server": {"os": "debian12"}, "uwsgi": UWSGI, "nginx": NGINX}, FILE)
    plan = make_plan(settings)
    files = {file.path: file.text for file in bootstrap.files(plan, settings)}
    state = json.loads(files["/srv/wsgi-ecs/sites/app/slots/a/state.json"])
    # The OS's nginx, with the OS's modules.
    assert "modules-enabled" in files["/srv/wsgi-ecs/host/a/nginx.conf"]
    assert state["command"] == "/srv/wsgi-ecs/venvs/bootstrap/bin/uwsgi"
    assert "-f /var/lib/wsgi-build/pinned uWSGI==2.0.31\n" in bootstrap.script(plan, settings)
    assert {"make", "libpcre2-dev", "zlib1g-dev", "libssl-dev"} <= set(plan.packages)
    centos = make_plan(parse({"server": {"os": "centos7"}, "nginx": NGINX}, FILE))
    assert {"gcc", "make", "pcre-devel", "zlib-devel", "openssl-devel"} <= set(centos.packages)
    assert "/usr/local/uwsgi-" not in "".join(files.values())
    # Another version is a release, not another server.
    other = parse({"server": {"os": "debian12"}, "uwsgi": {**UWSGI, "version": "2.0.30"}, "nginx": NGINX}, FILE)
    assert bootstrap.version(make_plan(other), other) == bootstrap.version(plan, settings)


def test_nginx_from_source_takes_the_places_of_the_oss() -> None:
    plan = plan_of(nginx=NGINX)
    assert isinstance(plan.host, Host)
    (build,) = plan.host.builds
    assert (build.folder, build.link) == ("/usr/local/nginx-1.22.1", "/usr/local/nginx")
    assert build.options[:3] == ["--prefix=/usr/local/nginx-1.22.1", "--user=www-data", "--group=www-data"]
    assert {"--conf-path=/etc/nginx/nginx.conf", "--pid-path=/run/nginx.pid"} <= set(build.options)
    assert {"--with-http_ssl_module", "--with-http_v2_module"} <= set(build.options)
    # Modules of the OS's package are made for the OS's nginx alone.
    assert "modules-enabled" not in plan.configs["nginx.conf"]
    assert "modules-enabled" in plan_of().configs["nginx.conf"]


@pytest.fixture
def builds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    return builds_as_tests(tmp_path, monkeypatch)


def sdist(script: str) -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as tar:
        entry = tarfile.TarInfo("uwsgi-1/uwsgiconfig.py")
        entry.size = len(script)
        tar.addfile(entry, io.BytesIO(script.encode()))
    return packed.getvalue()


def wanted(parent: Path, data: bytes, **changes: Any) -> Build:
    build = Build(
        name="uwsgi",
        version="1",
        folder=str(parent / "uwsgi-1"),
        link=str(parent / "uwsgi"),
        archive="source/uwsgi-1",
        sha256=hashlib.sha256(data).hexdigest(),
        options=[],
        python="/usr/bin/python3",
    )
    return build._replace(**changes)


WORKS = "open('uwsgi', 'w').write('a program')\n"


def make(tool: Any, build: Build, data: bytes) -> list[str]:
    said: list[str] = []
    tool.make(build, SimpleNamespace(read=lambda name: data), said.append)
    return said


def test_a_source_is_built_once(builds: Any, tmp_path: Path) -> None:
    # Of a run that was killed.
    (tmp_path / "home/build-old/source").mkdir(parents=True)
    data = sdist(WORKS)
    build = wanted(tmp_path, data)
    building, done = make(builds, build, data)
    assert building == "building uwsgi 1 from source, once"
    assert re.fullmatch(r"uwsgi 1 is built \(\d+ s\)", done)
    assert (tmp_path / "uwsgi-1/bin/uwsgi").read_text() == "a program"
    assert (tmp_path / "uwsgi-1/bin/uwsgi").stat().st_mode & 0o777 == 0o755
    assert make(builds, build, data) == []
    other = sdist(WORKS.replace("a program", "another"))
    assert len(make(builds, wanted(tmp_path, other), other)) == 2
    assert (tmp_path / "uwsgi-1/bin/uwsgi").read_text() == "another"
    assert {path.name for path in tmp_path.iterdir()} == {"home", "uwsgi-1"}
    assert not list((tmp_path / "home").iterdir())


@pytest.mark.parametrize(
    ("script", "changes", "what", "lines"),
    [
        ("raise SystemExit('x.c:1: error: broken')", {}, "uwsgi 1 does not build: /usr/bin/python3", "error: broken"),
        (WORKS, {"sha256": SHA}, f"allowed: {SHA}", ""),
    ],
)
def test_what_does_not_build_leaves_what_is_there(
    builds: Any, tmp_path: Path, script: str, changes: dict[str, str], what: str, lines: str
) -> None:
    good, bad = sdist(WORKS), sdist(script)
    make(builds, wanted(tmp_path, good), good)
    with pytest.raises(builds.ReleaseError, match=what) as refused:
        make(builds, wanted(tmp_path, bad, **changes), bad)
    assert lines in refused.value.lines
    assert refused.value.then
    assert (tmp_path / "uwsgi-1/bin/uwsgi").read_text() == "a program"
    assert {path.name for path in tmp_path.iterdir()} == {"home", "uwsgi-1"}
    assert not list((tmp_path / "home").iterdir())


def test_a_folder_of_somebody_else_is_left_alone(builds: Any, tmp_path: Path) -> None:
    (tmp_path / "uwsgi-1").mkdir()
    data = sdist(WORKS)
    with pytest.raises(builds.ReleaseError, match="exists already and was not made by this tool"):
        make(builds, wanted(tmp_path, data), data)


@pytest.fixture
def built(builds: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The versions 1, 2 and 3 in their folders; a function that says which ones the kept releases need."""
    monkeypatch.setattr(paths, "BUILD_FOLDERS", (str(tmp_path / "local"),))
    monkeypatch.setattr(paths, "ROOT", str(tmp_path / "srv"))
    (tmp_path / "local").mkdir()
    data = sdist(WORKS)
    for version in "123":
        make(
            builds, wanted(tmp_path / "local", data, version=version, folder=f"{tmp_path}/local/uwsgi-{version}"), data
        )
    (own,) = plan_of().sites

    def need(site: str, *versions: str) -> None:
        for version in versions:
            release = tmp_path / f"srv/sites/{site}/releases/r{version}"
            release.mkdir(parents=True, exist_ok=True)
            folder = str(tmp_path / f"local/uwsgi-{version}")
            (release / "release.json").write_text(
                encode(own.release._replace(builds=[wanted(tmp_path, b"", folder=folder)]))
            )

    return need


def left(tmp_path: Path) -> set[str]:
    return {path.name for path in (tmp_path / "local").iterdir()}


def test_what_a_kept_release_of_any_site_needs_stays(builds: Any, built: Any, tmp_path: Path) -> None:
    built("app", "1")
    built("blog", "3")
    (tmp_path / "local/uwsgi").symlink_to(tmp_path / "local/uwsgi-1")
    builds.prune()
    assert left(tmp_path) == {"uwsgi", "uwsgi-1", "uwsgi-3"}


def test_wheels_go_with_the_python_that_they_belong_to(
    builds: Any, built: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(paths, "BUILD_HOME", str(tmp_path))
    built("app", "1")
    of = [Path(module("venvs").wheels(wanted(tmp_path, b"", folder=f"{tmp_path}/local/uwsgi-{n}"))) for n in (1, 2)]
    for folder in of:
        folder.mkdir()
    builds.prune()
    assert [folder.exists() for folder in of] == [True, False]


def test_the_nginx_of_the_machines_last_two_configurations_stays(builds: Any, built: Any, tmp_path: Path) -> None:
    for slot, version in (("a", "1"), ("b", "3")):
        (tmp_path / "srv/host" / slot).mkdir(parents=True)
        state = HostState(builds=[wanted(tmp_path, b"", folder=str(tmp_path / f"local/uwsgi-{version}"))])
        (tmp_path / "srv/host" / slot / "state.json").write_text(encode(state))
    builds.prune()
    assert left(tmp_path) == {"uwsgi-1", "uwsgi-3"}


def test_a_link_to_what_is_removed_goes_with_it(builds: Any, built: Any, tmp_path: Path) -> None:
    built("app", "1", "2")
    (tmp_path / "local/uwsgi").symlink_to(tmp_path / "local/uwsgi-3")
    builds.prune()
    assert left(tmp_path) == {"uwsgi-1", "uwsgi-2"}


def test_a_release_that_cannot_be_read_may_need_all(builds: Any, built: Any, tmp_path: Path) -> None:
    built("app", "1")
    (tmp_path / "srv/sites/app/releases/r1/release.json").write_text('{"builds": [')
    builds.prune()
    assert left(tmp_path) == {"uwsgi-1", "uwsgi-2", "uwsgi-3"}


def test_what_a_process_runs_stays_until_it_ends(builds: Any, built: Any, tmp_path: Path) -> None:
    program = tmp_path / "local/uwsgi-2/bin/uwsgi"
    shutil.copy("/bin/sleep", program)
    process = subprocess.Popen([program, "60"])
    try:
        builds.prune()
        assert left(tmp_path) == {"uwsgi-2"}
    finally:
        process.kill()
        process.wait()
    builds.prune()
    assert left(tmp_path) == set()


@pytest.mark.parametrize("mark", [None, "[]", "{}", "no JSON", '{"version": "2"}', "another version", "a link"])
def test_what_is_not_ours_is_never_removed(builds: Any, built: Any, tmp_path: Path, mark: str | None) -> None:
    folder = tmp_path / "local/uwsgi-2"
    if mark == "another version":
        folder.rename(tmp_path / "local/uwsgi-5")
    elif mark == "a link":
        folder.rename(tmp_path / "elsewhere-2")
        folder.symlink_to(tmp_path / "elsewhere-2")
    elif mark is None:
        (folder / "built.json").unlink()
    else:
        (folder / "built.json").write_text(mark)
    builds.prune()
    assert left(tmp_path) == {"uwsgi-5" if mark == "another version" else "uwsgi-2"}
    assert (tmp_path / "local" / left(tmp_path).pop() / "bin/uwsgi").exists()


def test_nothing_but_plain_files_is_installed(builds: Any, tmp_path: Path) -> None:
    staged = tmp_path / "staged"
    (staged / "sbin").mkdir(parents=True)
    (staged / "sbin/nginx").write_text("a program")
    (staged / "sbin/nginx").chmod(0o4777)
    (staged / "shadow").symlink_to("/etc/shadow")
    (staged / "etc").symlink_to("/etc")
    builds.install(str(staged), str(tmp_path / "target"))
    assert {str(path.relative_to(tmp_path / "target")) for path in (tmp_path / "target").rglob("*")} == {
        "sbin",
        "sbin/nginx",
    }
    assert (tmp_path / "target/sbin/nginx").stat().st_mode & 0o7777 == 0o755
    # A build may have put a link in the place of what it should have made, or of a folder above it.
    (tmp_path / "link").symlink_to(tmp_path / "staged")
    for elsewhere in ("link", "link/sbin"):
        with pytest.raises(module("commands").ReleaseError, match="leads elsewhere"):
            builds.install(str(tmp_path / elsewhere), str(tmp_path / "second"))
