"""Settings → serving plan → user data, held against golden files.

`GOLDEN=write pytest tests/unit/test_plan.py` writes them again; read the difference before you commit it.
"""

import configparser
import json
import os
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from serving import bootstrap, layout, make_plan, release_files
from serving.systems import SYSTEMS
from settings.loader import parse

GOLDEN = Path(__file__).parent / "golden"
EVERYTHING: dict[str, Any] = {
    "app": {"module": "site.wsgi", "callable": "application", "health": "/status?full=1"},
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


@pytest.mark.parametrize(("name", "config"), [("default", {}), ("everything", EVERYTHING)])
def test_the_configs_of_a_release(name: str, config: dict[str, Any]) -> None:
    plan, _ = plan_of({**config, "server": {"os": "debian12"}})
    texts = {path: text for path, text in release_files(plan).items() if not path.startswith("tool/")}
    held(f"release-{name}.txt", "".join(f"=== {path}\n{text}" for path, text in sorted(texts.items())))


@pytest.mark.parametrize("system", SYSTEMS)
def test_user_data_is_plain_cloud_config_that_reads_back_as_the_files_it_writes(system: str) -> None:
    plan, settings = plan_of({**EVERYTHING, "server": {"os": system}})
    text = bootstrap.user_data(plan, settings)
    assert text.startswith("#cloud-config\n")
    assert len(text.encode()) < bootstrap.LIMIT
    read = yaml.safe_load(text)
    assert set(read) == {"write_files", "runcmd"}
    assert [(f["path"], f["content"], f["permissions"]) for f in read["write_files"]] == [
        (f.path, f.text, f.mode) for f in bootstrap.files(plan, settings)
    ]


@pytest.mark.parametrize("system", SYSTEMS)
def test_the_bootstrap_script_is_sound_shell(system: str, tmp_path: Path) -> None:
    plan, settings = plan_of({"server": {"os": system, "mirrors": {"packages": ["http://mirror.example/debian"]}}})
    script = bootstrap.script(plan, settings)
    assert "\nset -eu\n" in script
    assert subprocess.run(["sh", "-n"], input=script, text=True).returncode == 0
    # The marker is its last act but a word to the log.
    assert script.rstrip().splitlines()[-2].endswith(layout.MARKER)


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


def test_a_server_is_built_anew_for_its_bootstrap_and_nothing_else() -> None:
    def version(**config: Any) -> str:
        plan, settings = plan_of(config)
        return bootstrap.version(plan, settings)

    same = version()
    assert version(nginx={"listen": 8080}, uwsgi={"processes": 2}) == same
    assert version(server={"mirrors": {"index": ["https://pypi.example/simple/"]}}) == same
    assert version(server={"os": "debian12"}) != same
    assert version(server={"image": "m-1"}) != same


def test_every_placeholder_is_a_fact_that_the_machine_knows() -> None:
    plan, _ = plan_of(EVERYTHING)
    named = set(re.findall("@@(.+?)@@", json.dumps([plan.configs, plan.release])))
    assert named <= set(layout.FACTS)
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
