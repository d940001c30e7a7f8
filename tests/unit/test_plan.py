"""Settings → serving plan → user data, held against golden files.

`GOLDEN=write pytest tests/unit/test_plan.py` writes them again; read the difference before you commit it.
"""

import configparser
import json
import os
import re
import shlex
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from components.server import USER_DATA_LIMIT
from serving import bootstrap, layout, make_plan, release_files
from serving.systems import SYSTEMS
from settings.loader import parse

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
ALL_KINDS: dict[str, dict[str, Any]] = {"default": {}, "everything": EVERYTHING, **KINDS}
EACH = pytest.mark.parametrize(("system", "kind"), [(system, kind) for system in SYSTEMS for kind in ALL_KINDS])


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


@pytest.mark.parametrize(
    ("name", "config"), ALL_KINDS.items(), ids=lambda value: value if isinstance(value, str) else ""
)
def test_the_configs_of_a_release(name: str, config: dict[str, Any]) -> None:
    plan, _ = plan_of({**config, "server": {"os": "debian12"}})
    texts = {path: text for path, text in release_files(plan).items() if not path.startswith("tool/")}
    held(f"release-{name}.txt", "".join(f"=== {path}\n{text}" for path, text in sorted(texts.items())))


@EACH
def test_user_data_is_plain_cloud_config_that_reads_back_as_the_files_it_writes(system: str, kind: str) -> None:
    plan, settings = plan_of({**ALL_KINDS[kind], "server": {"os": system}})
    text = bootstrap.user_data(plan, settings)
    assert text.startswith("#cloud-config\n")
    assert len(text.encode()) < USER_DATA_LIMIT
    read = yaml.safe_load(text)
    assert set(read) == {"write_files", "runcmd"}
    assert [(f["path"], f["content"], f["permissions"]) for f in read["write_files"]] == [
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
    assert script.rstrip().splitlines()[-2].endswith(layout.MARKER)


@EACH
def test_the_bootstrap_serves_the_built_in_page_by_the_same_servers(system: str, kind: str) -> None:
    plan, settings = plan_of({**ALL_KINDS[kind], "server": {"os": system}})
    files = {file.path: file.text for file in bootstrap.files(plan, settings)}
    slot = layout.BOOTSTRAP_FACTS["slot_dir"]
    configs = {name: files[f"{slot}/{name}"] for name in plan.configs}
    everything = "".join(configs.values())
    assert "@@" not in everything
    assert "builtin" in everything
    assert f"{layout.BOOTSTRAP_FACTS['release_dir']}/app" in everything
    assert f"{layout.BOOTSTRAP_FACTS['release_dir']}/app/builtin.py" in files
    # Neither the application nor what it brings is there yet.
    for own in ("site.wsgi", "site:app", "mysite", "/app/lib", "static-map", "cheaper"):
        assert own not in everything, own
    script = bootstrap.script(plan, settings)
    state = json.loads(files[f"{slot}/state.json"])
    assert f"ln -sfn {slot}/{state['program_config']} {state['program_link']}\n" in script
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
    script = bootstrap.script(plan, settings)
    assert all(
        "--disablerepo='*' --enablerepo='wsgi-ecs-*'" in line for line in script.splitlines() if "yum -y" in line
    )
    assert script.index("epel_key\n") < script.index("own_yum makecache") < script.index("own_yum install")


def test_centos7_pins_what_runs_on_python_3_6() -> None:
    plan, _ = plan_of({"server": {"os": "centos7"}})
    assert plan.pins == ("pip==21.3.1", "setuptools==59.6.0", "wheel==0.37.1", "uWSGI==2.0.31")
    assert "past its end of life" in plan.system.warnings[0]


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


def test_no_secret_and_no_app_code_is_in_user_data() -> None:
    plan, settings = plan_of({"app": {"env": {"PASSWORD": "correct horse"}}})
    assert "correct horse" not in bootstrap.user_data(plan, settings)
    assert "correct horse" not in repr(plan)


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
        names = {pin.partition("==")[0] for pin in plan.release["server_pins"]}
        assert settings.serving.app_server.lower() in {name.lower() for name in names}
        assert ("gevent" in names) == (kind == "gunicorn-gevent")
        assert all("==" in pin for pin in plan.pins)


@pytest.mark.parametrize("kind", KINDS)
def test_the_port_that_the_world_may_reach_is_the_fronts(kind: str) -> None:
    plan, _ = plan_of(KINDS[kind])
    port = {"direct-uwsgi-http": 8080, "direct-gunicorn": 8000}.get(kind, 80)
    assert plan.ports == (port,)
    assert plan.release["probe"]["port"] == port
    assert plan.url("198.51.100.7") == "http://198.51.100.7/".replace("7/", "7/" if port == 80 else f"7:{port}/")
    # A port of its own cannot alternate between two releases, one behind nginx must.
    assert ("app_port" in plan.release["ports"]) == (kind in ("uwsgi-tcp", "uwsgi-dynamic", "systemd"))


def test_the_command_line_has_the_options_of_the_ini_file() -> None:
    config = {"processes": 2, "threads": 2, "thunder_lock": True, "static_map": {"/s/": "static"}, "harakiri": 9}
    by_ini, _ = plan_of({"uwsgi": config})
    by_command, _ = plan_of({"uwsgi": {**config, "config": "command_line"}})
    options = [line.replace(" = true", "").replace(" = ", "=") for line in by_ini.configs["uwsgi.ini"].splitlines()[1:]]
    assert "uwsgi.ini" not in by_command.configs
    program = configparser.RawConfigParser()
    program.read_string(by_command.configs["supervisor.conf"])
    command = shlex.split(program["program:app-@@slot@@"]["command"].replace("%%", "%"))
    assert command[4:] == ["@@venv@@/bin/uwsgi", *(f"--{option}" for option in options)]


@pytest.mark.parametrize("kind", KINDS)
def test_a_process_manager_starts_the_server_with_its_environment_as_the_applications_user(kind: str) -> None:
    plan, _ = plan_of({**KINDS[kind], "server": {"os": "debian12"}})
    started = f"/usr/bin/python3 @@release_dir@@/tool/with_env.py {layout.ENV_FILE} "
    manager = plan.program.manager
    if manager == "emperor":
        text = plan.bootstrap_files["/etc/systemd/system/wsgi-emperor.service"]
        assert "\nUser=wsgi-app\n" in text
        assert plan.program.config == "uwsgi.ini"
    else:
        text = plan.configs[plan.program.config]
        assert (f"{started}-" if manager == "supervisor" else f"{started}/var/log") in text
        assert ("\nuser=wsgi-app\n" if manager == "supervisor" else "\nUser=wsgi-app\n") in text
    assert ("\nType=forking\nPIDFile=/run/wsgi-ecs/app-@@slot@@.pid\n" in text) == (kind == "systemd-forking")


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
        named |= set(re.findall("@@(.+?)@@", json.dumps([plan.configs, plan.release])))
        assert not re.search("@@(.+?)@@", json.dumps(plan.bootstrap_files))
    assert named <= set(layout.FACTS)
    assert {"app_port", "slot_dir", "cpus"} <= named
    assert {"slot", "release_dir", "venv", "somaxconn", "stats_port"} <= named


def test_a_placeholder_that_nothing_fills_is_an_error() -> None:
    assert layout.fill("a @@slot@@ b", {"slot": "a"}) == "a a b"
    with pytest.raises(ValueError, match="no fact fills @@cpus@@"):
        layout.fill("@@slot@@ @@cpus@@\n", {"slot": "a"})


def test_nothing_that_handles_a_request_is_root() -> None:
    plan, _ = plan_of({})
    program = configparser.RawConfigParser()
    program.read_string(plan.configs["supervisor.conf"])
    assert program["program:app-@@slot@@"]["user"] == layout.APP_USER
    assert re.search(r"^user nginx;$", plan.configs["nginx.conf"], re.MULTILINE)
    assert "uid" not in plan.configs["uwsgi.ini"]


def test_uwsgi_ends_before_supervisor_loses_its_patience() -> None:
    plan, _ = plan_of({"supervisor": {"stopwaitsecs": 10}})
    assert "\nworker-reload-mercy = 9\n" in plan.configs["uwsgi.ini"]
    assert "\nhook-master-start = unix_signal:15 gracefully_kill_them_all\n" in plan.configs["uwsgi.ini"]
    assert "\nstopwaitsecs=10\n" in plan.configs["supervisor.conf"]


def test_statistics_are_on_loopback_only() -> None:
    plan, _ = plan_of(EVERYTHING)
    assert "\nstats = 127.0.0.1:@@stats_port@@\n" in plan.configs["uwsgi.ini"]
    assert plan.release["ports"] == {"stats_port": [9300, 9301]}
    assert plan.ports == (8080,)


@given(st.text(alphabet="abcz019.-", min_size=1, max_size=30))
def test_any_allowed_domain_stays_one_word_of_its_directive(name: str) -> None:
    try:
        plan, _ = plan_of({"site": {"server_name": name}})
    except Exception:
        return
    assert f"\n    server_name {name};\n" in plan.configs["site.conf"]
