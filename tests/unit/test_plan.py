"""Settings → serving plan → user data, compared with golden files.

The releases of `default`, `sites` and `everything` are kept whole, every other release as its difference to `default`.
`GOLDEN=write pytest tests/unit/test_plan.py` writes them again; read the difference before you commit it.
"""

import configparser
import difflib
import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from components import first_contact
from components.release import run_tool
from contract import paths
from contract.documents import Host
from contract.placeholders import FACTS, NGINX_DIRECTIVES, fill
from contract.resources import USER_DATA_LIMIT
from kinds.place import BOOTSTRAP_FACTS
from kinds.systems import SYSTEMS
from serving import bootstrap, host_files, machines, make_plan, release_files
from settings.loader import parse
from templates import render, source
from tests.unit.machine.nginx import Block, load, part

GOLDEN = Path(__file__).parent / "golden"
EVERYTHING: dict[str, Any] = {
    "app": {"module": "mysite.wsgi", "callable": "application", "health": "/status?full=1"},
    "site": {"server_name": "www.example.com"},
    "uwsgi": {
        "processes": 3,
        "threads": 2,
        "enable_threads": True,
        "harakiri": 30,
        "max_requests": 1000,
        "stats": 9300,
    },
    "nginx": {"listen": 8080, "charset": "off", "static": {"/s/": "public/static", "/media/": "media"}},
    "supervisor": {"stopwaitsecs": 10},
    "release": {"generation": 2, "keep": 3},
}


GUNICORN = {"app_server": "gunicorn"}
SYSTEMD = {"process_manager": "systemd"}
GEVENT = {"worker_class": "gevent", "worker_connections": 1000, "max_requests": 1000, "max_requests_jitter": 3}
KINDS: dict[str, dict[str, Any]] = {
    "uwsgi-tcp": {"uwsgi": {"socket": "127.0.0.1:8080", "pythonpath": ["lib"]}, "app": {"wsgi_file": "site.wsgi"}},
    "uwsgi-command-line": {"uwsgi": {"config": "command_line", "logto": True, "static_map": {"/s/": "static"}}},
    "uwsgi-dynamic": {"uwsgi": {"dynamic": True, "socket": "127.0.0.1:8080"}},
    "gunicorn-gevent": {"serving": GUNICORN, "gunicorn": {**GEVENT, "accesslog": True, "pidfile": True}},
    "systemd": {"serving": {**GUNICORN, **SYSTEMD}, "gunicorn": {"bind": "127.0.0.1:8000"}},
    "systemd-forking": {"serving": SYSTEMD, "uwsgi": {"daemonize": True, "cheaper": 1, "processes": 2}},
    "emperor": {"serving": {"process_manager": "emperor"}, "systemd": {"timeout_stop_sec": 10}},
    "direct-uwsgi-http": {"serving": {"front": "none"}, "uwsgi": {"http": "0.0.0.0:8080"}},
    "direct-gunicorn": {"serving": {**GUNICORN, "front": "none"}, "gunicorn": {"bind": "0.0.0.0:8000"}},
}
SITES: dict[str, Any] = {
    "uwsgi": {"threads": 2},
    "sites": {
        "shop": {"site": {"server_name": "shop.example.com"}, "nginx": {"static": {"/media/": "media"}}},
        "blog": {"site": {"server_name": "shop.example.com", "location": "/blog/"}, "app": {"wsgi_file": "blog.wsgi"}},
        "wiki": {"site": {"location": "/wiki/"}, "app": {"module": "wiki", "health": "/ok"}},
        "news": {"site": {"server_name": "*.example.org"}, "nginx": {"listen": 8080}},
        "chat": {"site": {"server_name": "chat.example.org"}, "nginx": {"listen": 8080}},
        "solo": {"site": {"server_name": "solo.example.com"}, "nginx": {"listen": 8081}},
    },
}
ALL_KINDS: dict[str, dict[str, Any]] = {"default": {}, "everything": EVERYTHING, **KINDS, "sites": SITES}
WHOLE = ("default", "sites", "everything")
# CentOS 7's Python is too old for the last one.
RELEASED = {**ALL_KINDS, "granian": {"serving": {"app_server": "granian"}}}
EACH = pytest.mark.parametrize(("system", "kind"), [(system, kind) for system in SYSTEMS for kind in ALL_KINDS])


SHELLS = ("#!/bin/sh\n", "#!/bin/bash\n")


def plan_of(config: dict[str, Any]) -> tuple[Any, Any]:
    settings = parse(config, "stacks/Pulumi.test.yaml")
    return make_plan(settings), settings


def held(name: str, text: str) -> None:
    path = GOLDEN / name
    if os.environ.get("GOLDEN") == "write":
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    assert text == path.read_text()


@pytest.mark.parametrize("system", SYSTEMS)
def test_the_user_data_of_an_os(system: str) -> None:
    plan, settings = plan_of({"server": {"os": system}})
    held(f"user-data-{system}.yaml", bootstrap.user_data(plan, settings))


def release_texts(config: dict[str, Any]) -> dict[str, str]:
    """Return the text of each file of a release, by its path in the archive, without the release tool."""
    plan, _ = plan_of({**config, "server": {"os": "debian12"}})
    folders = {"host": host_files(plan), **{f"sites/{site.place.name}": release_files(site) for site in plan.sites}}
    texts = {f"{folder}/{path}": text for folder, files in folders.items() for path, text in files.items()}
    return {path: text for path, text in sorted(texts.items()) if "/tool/" not in path}


def difference(default: dict[str, str], texts: dict[str, str]) -> str:
    """Return what differs between two releases: unified diffs with a line of context, and names of absent files."""
    parts = []
    for path in sorted(default.keys() | texts.keys()):
        if path not in texts:
            parts.append(f"=== {path} is absent\n")
            continue
        before, after = (found.get(path, "").splitlines(keepends=True) for found in (default, texts))
        lines = list(difflib.unified_diff(before, after, n=1))[2:]
        parts += [f"=== {path}\n", *lines] if lines else []
    return "".join(parts)


@pytest.mark.parametrize(
    ("name", "config"), RELEASED.items(), ids=lambda value: value if isinstance(value, str) else ""
)
def test_the_configs_of_a_release(name: str, config: dict[str, Any]) -> None:
    texts = release_texts(config)
    if name in WHOLE:
        held(f"release-{name}.txt", "".join(f"=== {path}\n{text}" for path, text in texts.items()))
    else:
        held(f"release-{name}.diff", difference(release_texts(ALL_KINDS["default"]), texts))


@EACH
def test_user_data_is_plain_cloud_config_that_reads_back_as_the_files_it_writes(system: str, kind: str) -> None:
    plan, settings = plan_of({**ALL_KINDS[kind], "server": {"os": system}})
    text = bootstrap.user_data(plan, settings)
    assert text.startswith("#cloud-config\n")
    assert len(text.encode()) < USER_DATA_LIMIT
    read = yaml.safe_load(text)
    assert set(read) == {"write_files", "runcmd"}
    # What cloud-init gives a file of which nothing is said.
    assert [(f["path"], f["content"], f.get("permissions", "0644")) for f in read["write_files"]] == [
        (f.path, f.text, f.mode) for f in bootstrap.files(plan, settings)
    ]


@EACH
def test_the_scripts_of_the_bootstrap_are_sound_shell(system: str, kind: str) -> None:
    mirrors = {"packages": ["http://mirror.example/debian"]}
    plan, settings = plan_of({**ALL_KINDS[kind], "server": {"os": system, "mirrors": mirrors}})
    scripts = [file.text for file in bootstrap.files(plan, settings) if file.text.startswith("#!/bin/sh")]
    script = bootstrap.script(plan, settings)
    assert script in scripts
    for text in scripts:
        assert subprocess.run(["sh", "-n"], input=text, text=True).returncode == 0
    assert "\nset -eu\n" in script
    # The marker is its last act but a word to the log.
    assert script.rstrip().splitlines()[-2].endswith(paths.MARKER)


@pytest.mark.parametrize("system", SYSTEMS)
def test_the_scripts_of_a_server_pass_shellcheck(system: str, tmp_path: Path) -> None:
    indexes, packages = (
        ["http://one.example/", "http://two.example/"],
        ["http://one.example/$basearch", "http://b.example"],
    )
    mirrors = {"packages": packages, "index": indexes}
    # What SSH hands to root's own shell.
    ready = render("templates/release/ready.sh.j2", paths=paths)
    handed = (run_tool("apply", "abc"), source("machine/run.sh"), first_contact.command(), ready)
    texts = dict.fromkeys(f"#!/bin/sh\n{text}" for text in handed)
    for config in (*ALL_KINDS.values(), {"topology": {"app_servers": 1}, "mysql": {"password": "x"}}):
        for server in ({"os": system}, {"os": system, "mirrors": mirrors}):
            settings = parse({**config, "server": server}, "stacks/Pulumi.test.yaml")
            for machine in machines(settings):
                own = host_files(machine.plan).values()
                written = {file.path: file.text for file in bootstrap.files(machine.plan, settings)}
                texts |= dict.fromkeys(text for text in (*own, *written.values()) if text.startswith(SHELLS))
    for number, text in enumerate(texts):
        (tmp_path / str(number)).write_text(text)
    assert len(texts) > 10
    shellcheck = Path(sys.executable).with_name("shellcheck")
    done = subprocess.run([shellcheck, *tmp_path.iterdir()], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("shell", ["sh", "bash"])
def test_the_short_commands_are_aliases_of_each_shell(shell: str) -> None:
    plan, settings = plan_of(SITES)
    text = next(file.text for file in bootstrap.files(plan, settings) if file.path.startswith("/etc/profile.d/"))
    script = f'set -e\n{text}\nalias\necho "${{name-}}${{word-}}"'
    done = subprocess.run([shell, "-c", script], capture_output=True, text=True, check=True)
    lines = {line.removeprefix("alias ") for line in done.stdout.splitlines()}
    assert lines == {
        "",
        *(f"{n}-{w}='/usr/local/sbin/wsgi-ecs-app {w}'" for n in ("app", "uwsgi") for w in ("start", "reload", "stop")),
    }


@EACH
def test_the_bootstrap_serves_the_built_in_page_by_the_same_servers(system: str, kind: str) -> None:
    plan, settings = plan_of({**ALL_KINDS[kind], "server": {"os": system}})
    files = {file.path: file.text for file in bootstrap.files(plan, settings)}
    slot = BOOTSTRAP_FACTS["slot_dir"]
    # Nothing watches the page's requests.
    names = set(plan.sites[0].configs) - {"wsgi_ecs_application.py"}
    configs = {name: files[f"{slot}/{name}"] for name in names}
    # The first release brings what else is in the machine's configs.
    assert (f"{paths.host_root()}/a/nginx.conf" in files) == plan.has_nginx
    everything = "".join(configs.values())
    assert "@@" not in everything
    assert "builtin" in everything
    assert f"{BOOTSTRAP_FACTS['release_dir']}/app" in everything
    assert f"{BOOTSTRAP_FACTS['release_dir']}/app/builtin.py" in files
    # Neither the application nor what it brings is there yet.
    for own in ("site.wsgi", "site:app", "mysite", "/app/lib", "static-map", "cheaper"):
        assert own not in everything, own
    script = bootstrap.script(plan, settings)
    state = json.loads(files[f"{slot}/state.json"])
    # CentOS 7's systemd takes a unit's file alone, and no link to one.
    put = "install -m 0644" if state["manager"] == "systemd" else "ln -sfn"
    assert f"{put} {slot}/{state['program_config']} {state['program_link']}\n" in script
    assert state["program_config"] in configs


def test_centos7_uses_the_archives_and_nothing_of_its_own() -> None:
    plan, settings = plan_of({"server": {"os": "centos7"}})
    files = {file.path: file.text for file in bootstrap.files(plan, settings)}
    repositories = configparser.ConfigParser()
    repositories.read_string(files["/etc/yum.repos.d/wsgi-ecs.repo"])
    assert repositories.sections() == ["wsgi-ecs-os", "wsgi-ecs-updates", "wsgi-ecs-extras", "wsgi-ecs-epel"]
    for name in repositories.sections():
        urls = repositories[name]["baseurl"].split()
        assert urls[0].startswith("http://mirrors.cloud.aliyuncs.com/"), "inside the VPC first"
        assert urls[-1].startswith("https://mirrors.aliyun.com/"), "then the public archive"
        assert repositories[name]["gpgcheck"] == "1"
        assert repositories[name]["enabled"] == "0", "only our own runs of yum use it"
        assert repositories[name]["failovermethod"] == "priority", "yum tries them in any order by itself"


def test_centos7_pins_what_runs_on_python_3_6() -> None:
    plan, _ = plan_of({"server": {"os": "centos7"}})
    assert plan.sites[0].pins == ("pip==21.3.1", "setuptools==59.6.0", "wheel==0.37.1", "uWSGI==2.0.31")
    assert "past its end of life" in plan.system.warnings[0]


def test_alinux3_runs_its_sites_on_a_python_that_is_supported() -> None:
    plan, settings = plan_of({"server": {"os": "alinux3"}, "serving": GUNICORN})
    (site,) = plan.sites
    assert {"python3.11", "python3.11-devel"} <= set(plan.packages)
    assert site.release.python == "/usr/bin/python3.11"
    assert "gunicorn==23.0.0" in site.pins
    # The tool and what asks a CA run on the system's, whose last client this is.
    assert plan.system.acme_client == "acme-tiny==5.0.1"
    files = {file.path: file.text for file in bootstrap.files(plan, settings)}
    repositories = configparser.ConfigParser()
    repositories.read_string(files["/etc/yum.repos.d/wsgi-ecs.repo"])
    assert repositories.sections() == ["wsgi-ecs-epel"]
    sources = {"install": "source", "version": "2.0.31", "archive": "http://x.example/u", "sha256": "0" * 64}
    plan, _ = plan_of({"server": {"os": "alinux3"}, "uwsgi": sources})
    assert [build.python for build in plan.sites[0].release.builds] == ["/usr/bin/python3.11"]


def test_mirrors_of_the_user_come_in_place_of_the_built_in_ones() -> None:
    mirrors = {
        "packages": ["http://mirror.example/centos/7.9.2009"],
        "epel": ["http://mirror.example/epel/7/$basearch"],
        "index": ["https://pypi.example/simple/"],
    }
    plan, settings = plan_of({"server": {"os": "centos7", "mirrors": mirrors}})
    text = bootstrap.user_data(plan, settings)
    assert "aliyun" not in text
    assert all(url in text for urls in mirrors.values() for url in urls)


def test_a_server_has_the_packages_and_services_of_its_kind_and_no_others() -> None:
    def of(kind: str) -> tuple[set[str], tuple[str, ...]]:
        plan, _ = plan_of({**ALL_KINDS[kind], "server": {"os": "debian12"}})
        return {"nginx", "supervisor"} & set(plan.packages), plan.services

    assert of("default") == ({"nginx", "supervisor"}, ("supervisor", "nginx"))
    assert of("systemd") == ({"nginx"}, ("nginx",))
    assert of("emperor") == ({"nginx"}, ("wsgi-emperor.service", "nginx"))
    assert of("direct-gunicorn") == ({"supervisor"}, ("supervisor",))


@pytest.mark.parametrize("kind", ALL_KINDS)
def test_a_release_has_its_servers_pins_and_no_others(kind: str) -> None:
    for system in SYSTEMS:
        plan, settings = plan_of({**ALL_KINDS[kind], "server": {"os": system}})
        names = {pin.partition("==")[0] for pin in plan.sites[0].release.server_pins}
        assert settings.sites[0].serving.app_server in {name.lower() for name in names}
        assert ("gevent" in names) == (kind == "gunicorn-gevent")
        assert all("==" in pin for pin in plan.sites[0].pins)


@pytest.mark.parametrize("kind", KINDS)
def test_the_port_that_the_world_may_reach_is_the_fronts(kind: str) -> None:
    plan, _ = plan_of(KINDS[kind])
    port = {"direct-uwsgi-http": 8080, "direct-gunicorn": 8000}.get(kind, 80)
    assert plan.ports == (port,)
    (site,) = plan.sites
    assert site.release.probe.port == site.ports[0] == port
    assert site.url("198.51.100.7") == "http://198.51.100.7/".replace("7/", "7/" if port == 80 else f"7:{port}/")
    # A port of its own cannot alternate between two releases, one behind nginx must.
    assert ("app_port" in site.release.ports) == (kind in ("uwsgi-tcp", "uwsgi-dynamic", "systemd"))


def test_the_command_line_has_the_options_of_the_ini_file() -> None:
    config = {"processes": 2, "threads": 2, "thunder_lock": True, "static_map": {"/s/": "static"}, "harakiri": 9}
    by_ini, _ = plan_of({"uwsgi": config})
    by_command, _ = plan_of({"uwsgi": {**config, "config": "command_line"}})
    options = [
        line.replace(" = true", "").replace(" = ", "=")
        for line in by_ini.sites[0].configs["uwsgi.ini"].splitlines()[1:]
    ]
    assert "uwsgi.ini" not in by_command.sites[0].configs
    program = configparser.RawConfigParser()
    program.read_string(by_command.sites[0].configs["supervisor.conf"])
    command = shlex.split(program["program:app-@@slot@@"]["command"].replace("%%", "%"))
    assert command[4:] == ["@@venv@@/bin/uwsgi", *(f"--{option}" for option in options)]


@pytest.mark.parametrize("kind", KINDS)
def test_a_process_manager_starts_the_server_with_its_environment_as_the_applications_user(kind: str) -> None:
    plan, _ = plan_of({**KINDS[kind], "server": {"os": "debian12"}})
    started = "/usr/bin/python3 @@release_dir@@/tool/with_env.py /etc/wsgi-ecs/app.env.json "
    (site,) = plan.sites
    manager = site.program.manager
    if manager == "emperor":
        text = plan.bootstrap_files["/etc/systemd/system/wsgi-emperor.service"]
        assert "\nUser=wsgi-app\n" in text
        assert site.program.config == "uwsgi.ini"
    else:
        text = site.configs[site.program.config]
        assert (f"{started}-" if manager == "supervisor" else f"{started}/var/log") in text
        assert ("\nuser=wsgi-app\n" if manager == "supervisor" else "\nUser=wsgi-app\n") in text
    assert ("\nType=forking\nPIDFile=/run/wsgi-ecs/app/@@slot@@.pid\n" in text) == (kind == "systemd-forking")


def test_a_server_is_built_anew_for_its_bootstrap_and_nothing_else() -> None:
    def version(**config: Any) -> str:
        plan, settings = plan_of(config)
        return bootstrap.version(plan, settings)

    same = version()
    assert version(nginx={"listen": 8080}, uwsgi={"processes": 2}) == same
    assert version(server={"mirrors": {"index": ["https://pypi.example/simple/"]}}) == same
    assert version(uwsgi={"socket": "127.0.0.1:8080"}) == same
    # gunicorn's pins come with the release: only what the bootstrap installs makes a new server.
    assert version(serving={"app_server": "gunicorn"}) == same
    assert version(serving={"process_manager": "systemd"}) != same
    assert version(serving={"process_manager": "emperor"}) != same
    assert version(serving={"front": "none"}, uwsgi={"http": "0.0.0.0:8080"}) != same
    assert version(server={"os": "debian12"}) != same
    assert version(server={"image": "m-1"}) != same


def test_every_placeholder_is_a_fact_that_the_machine_knows() -> None:
    named: set[str] = set()
    for config in ALL_KINDS.values():
        plan, _ = plan_of(config)
        named |= set(re.findall("@@(.+?)@@", json.dumps([[site.configs, site.release] for site in plan.sites])))
        assert set(re.findall("@@(.+?)@@", json.dumps(plan.configs))) <= {"nginx_group", *NGINX_DIRECTIVES}
        assert not re.search("@@(.+?)@@", json.dumps([plan.bootstrap_files, plan.host]))
    assert named <= set(FACTS)
    assert {"app_port", "slot_dir", "cpus"} <= named
    assert {"slot", "release_dir", "venv", "somaxconn"} <= named


def test_a_placeholder_that_nothing_fills_is_an_error() -> None:
    assert fill("a @@slot@@ b", {"slot": "a"}) == "a a b"
    with pytest.raises(ValueError, match="no fact fills @@cpus@@"):
        fill("@@slot@@ @@cpus@@\n", {"slot": "a"})


def test_nothing_that_handles_a_request_is_root() -> None:
    plan, _ = plan_of({})
    program = configparser.RawConfigParser()
    (site,) = plan.sites
    program.read_string(site.configs["supervisor.conf"])
    assert program["program:app-@@slot@@"]["user"] == site.place.user == "wsgi-app"
    assert re.search(r"^user nginx @@nginx_group@@;$", plan.configs["nginx.conf"], re.MULTILINE)
    assert "uid" not in site.configs["uwsgi.ini"]


def test_uwsgi_ends_before_supervisor_loses_its_patience() -> None:
    plan, _ = plan_of({"supervisor": {"stopwaitsecs": 10}})
    configs = plan.sites[0].configs
    assert "\nworker-reload-mercy = 9\n" in configs["uwsgi.ini"]
    assert "\nhook-master-start = unix_signal:15 gracefully_kill_them_all\n" in configs["uwsgi.ini"]
    assert "\nstopwaitsecs=10\n" in configs["supervisor.conf"]


@pytest.mark.parametrize("kind", ALL_KINDS)
def test_every_ini_begins_with_its_section(kind: str) -> None:
    """Without it uWSGI takes no line and says nothing."""
    plan, _ = plan_of(ALL_KINDS[kind])
    texts = {**plan.sites[0].configs, **plan.bootstrap_files}
    for name, text in texts.items():
        assert not name.endswith(".ini") or text.startswith("[uwsgi]\n"), name


def test_statistics_are_on_loopback_only() -> None:
    plan, _ = plan_of(EVERYTHING)
    (site,) = plan.sites
    assert "\nstats = 127.0.0.1:@@stats_port@@\n" in site.configs["uwsgi.ini"]
    assert site.release.ports == {"stats_port": [9300, 9301]}
    assert plan.ports == (8080,)


@pytest.mark.parametrize(
    ("config", "units"),
    [
        ({}, ["nginx", "supervisor"]),
        ({"server": {"os": "centos7"}}, ["nginx", "supervisord"]),
        ({"serving": {"process_manager": "systemd"}}, ["nginx"]),
        ({"serving": {"process_manager": "emperor"}}, ["nginx", "wsgi-emperor"]),
        (KINDS["direct-gunicorn"], ["supervisor"]),
        ({"topology": {"app_servers": 1}}, ["nginx"]),
    ],
)
def test_the_services_of_a_server_come_back_by_themselves(config: dict[str, Any], units: list[str]) -> None:
    plan = machines(parse({"server": {"os": "debian12"}, **config}, "test"))[0].plan
    assert isinstance(plan.host, Host)
    ssh = "sshd" if config.get("server") else "ssh"
    assert sorted(plan.host.drop_ins) == sorted(f"{unit}.service" for unit in (*units, ssh))
    for unit, text in plan.host.drop_ins.items():
        wanted = {} if unit == f"{ssh}.service" else {"KillMode": "mixed"}
        if wanted and not config.get("server"):
            wanted["OOMPolicy"] = "continue"
        assert restart_of(text) == {**RESTARTS, **wanted}, unit


RESTARTS = {"Restart": "always", "RestartSec": "1", "StartLimitInterval": "0", "RestartPreventExitStatus": ""}


def restart_of(text: str) -> dict[str, str]:
    """The directives of a drop-in, without the time to stop."""
    read = configparser.ConfigParser()
    read.optionxform = str  # type: ignore[method-assign,assignment]
    read.read_string(text)
    return {name: value for name, value in read["Service"].items() if name != "TimeoutStopSec"}


def test_a_database_and_ssh_come_back_by_themselves_on_a_server_of_their_own() -> None:
    settings = {"server": {"os": "debian12"}, "mysql": {"password": "x"}, "redis": REDIS_ALONE}
    found = {machine.name: machine.plan.host.drop_ins for machine in machines(parse(settings, "test"))}
    assert {name: sorted(texts) for name, texts in found.items() if name} == {
        "db": ["mariadb.service", "ssh.service"],
        "redis": ["ssh.service"],
    }
    # The package's own way of ending the database stays.
    assert restart_of(found["db"]["mariadb.service"]) == RESTARTS


REDIS_ALONE = {"own_server": True, "password": "0123456789abcdef"}


def test_supervisor_has_the_time_that_its_programs_may_take_to_stop() -> None:
    for seconds, given in ((30, 90), (600, 610)):
        plan, _ = plan_of({"server": {"os": "debian12"}, "supervisor": {"stopwaitsecs": seconds}})
        assert isinstance(plan.host, Host)
        assert f"\nTimeoutStopSec={given}\n" in plan.host.drop_ins["supervisor.service"]


def nginx_of(config: dict[str, Any], tmp_path: Path) -> tuple[Block, ...]:
    """The server blocks of a machine whose sites wait for their first release."""
    plan, _ = plan_of(config)
    text = plan.configs["nginx.conf"]
    assert isinstance(plan.host, Host)
    for site in plan.host.sites:
        folder = tmp_path / "sites" / site.name / "slots/waiting"
        folder.mkdir(parents=True)
        for name, waiting in site.waiting.items():
            (folder / name).write_text(waiting)
        text = text.replace(f"{paths.sites()}/{site.name}/current", str(folder))
    (tmp_path / "nginx.conf").write_text(text)
    return load(tmp_path / "nginx.conf")


def test_the_sites_of_a_port_and_domain_are_the_locations_of_a_server_block(tmp_path: Path) -> None:
    blocks = nginx_of(SITES, tmp_path)
    assert [(block.listen, block.name, block.default, [part.site for part in block.parts]) for block in blocks] == [
        (80, "shop.example.com", False, ["shop", "blog"]),
        # A site without a domain answers for any that nobody has.
        (80, "_", True, ["wiki"]),
        (8080, "*.example.org", False, ["news"]),
        (8080, "chat.example.org", False, ["chat"]),
        (8081, "solo.example.com", False, ["solo"]),
        # Where each site has a domain, also a single one, a name that nobody has is nobody's.
        (8080, "_", True, []),
        (8081, "_", True, []),
    ]

    def site(port: int, host: str, path: str) -> str | None:
        found = part(blocks, port, host, path)
        return found.site if found else None

    assert site(80, "shop.example.com", "/blog/1") == "blog"
    assert site(80, "shop.example.com", "/other") == "shop"
    assert site(80, "unknown.example.com", "/wiki/") == "wiki"
    assert site(80, "unknown.example.com", "/") is None
    assert site(8080, "unknown.example.com", "/") is None
    assert site(8081, "unknown.example.com", "/") is None
    assert site(8081, "solo.example.com", "/") == "solo"
    text = plan_of(SITES)[0].configs["nginx.conf"]
    # Without a folder of its own such a path would be a file of the OS's nginx.
    (alone,) = (block for block in text.split("server {") if "root /nonexistent;" in block)
    assert "include /srv/wsgi-ecs/sites/wiki/current/server.conf;" in alone


def test_a_site_below_a_location_gets_its_own_paths_and_that_one_as_script_name() -> None:
    plan, _ = plan_of({"site": {"location": "/blog/"}, "nginx": {"static": {"/static/": "s"}}})
    (site,) = plan.sites
    ini = site.configs["uwsgi.ini"].splitlines()
    assert {"manage-script-name = true", "mount = /blog=wsgi_ecs_application:app"} <= set(ini)
    assert not any(line.startswith("module =") for line in ini)
    assert "\nlocation /blog/ {\n" in site.configs["server.conf"]
    assert "location /blog/static/ {\n" in site.configs["server.conf"]
    assert "        alias @@view_dir@@/release/app/s/;" in site.configs["server.conf"]
    assert site.release.probe.path == "/blog/healthz"
    assert site.url("198.51.100.7") == "http://198.51.100.7/blog/"
    plan, _ = plan_of({"site": {"location": "/blog/"}, "app": {"wsgi_file": "site.wsgi"}})
    assert "\nmount = /blog=@@slot_dir@@/wsgi_ecs_application.py\n" in plan.sites[0].configs["uwsgi.ini"]
    plan, _ = plan_of({"site": {"location": "/blog/"}, "serving": GUNICORN})
    assert '\nraw_env = ["SCRIPT_NAME=/blog"]\n' in plan.sites[0].configs["gconf.py"]
    plan, _ = plan_of({"serving": GUNICORN})
    assert "SCRIPT_NAME" not in plan.sites[0].configs["gconf.py"]


def test_sites_beside_each_other_leave_a_sites_release_and_the_server_as_they_are() -> None:
    def of(**sites: Any) -> tuple[Any, str]:
        plan, settings = plan_of({"sites": sites})
        (shop,) = (release_files(site) for site in plan.sites if site.place.name == "shop")
        return shop, bootstrap.version(plan, settings)

    shop, blog = SITES["sites"]["shop"], SITES["sites"]["blog"]
    assert of(shop=shop) == of(shop=shop, blog=blog) == of(blog=blog, shop=shop)


def test_the_emperor_and_its_vassals_run_as_what_the_sites_say() -> None:
    sites = {name: {**SITES["sites"][name], "uwsgi": {"uid": "www"}} for name in ("shop", "blog")}
    plan, _ = plan_of({"serving": {"process_manager": "emperor"}, "sites": sites})
    assert "\nUser=www\n" in plan.bootstrap_files["/etc/systemd/system/wsgi-emperor.service"]
    assert {(site.place.user, site.place.group) for site in plan.sites} == {("www", "wsgi-app")}


@pytest.mark.parametrize("system", SYSTEMS)
def test_an_os_is_found_by_the_name_of_its_image(system: str) -> None:
    names = {
        "centos7": "centos_7_9_x64_20G_alibase_20240628.vhd",
        "alinux3": "aliyun_3_x64_20G_alibase_20250117.vhd",
        "debian12": "debian_12_11_x64_20G_alibase_20250614.vhd",
        "debian13": "debian_13_4_x64_20G_alibase_20260414.vhd",
        "ubuntu2204": "ubuntu_22_04_x64_20G_alibase_20250722.vhd",
    }
    others = (
        *(name.replace("x64", "arm64") for name in names.values()),
        "aliyun_3_x64_20G_container_optimized_20250117.vhd",
        "debian_14_0_x64_20G_alibase_20270414.vhd",
        "ubuntu_24_04_x64_20G_alibase_20250722.vhd",
    )
    found = [name for name in (*names.values(), *others) if re.search(SYSTEMS[system].image_pattern, name)]
    assert found == [names[system]]
