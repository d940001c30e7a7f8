"""Every value, every pair of values and every refused pair of the servers' settings.

cases/<setting>-<value>.yaml     one value: settings in, directives expected, or the line that refuses it
cases/refused-pairs.yaml         the values and pairs that go together in no stack, with the reason that comes first
                                 when all other settings have the values that stand first below
cases/check_on_machine.py        the servers' own checkers, run over all rows on one rehearsed machine

`GOLDEN=write pytest tests/rehearsal/test_pairwise.py -k refused_pairs` writes the list again; read the difference.
"""

import io
import json
import os
import re
import shlex
import subprocess
import tarfile
import time
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from itertools import combinations, permutations, product
from pathlib import Path
from typing import Any

import pytest
import yaml

from contract import paths
from contract.placeholders import fill
from serving import ServingPlan, make_plan
from settings import SettingsError
from settings.loader import parse
from tests.builders.stack import PROJECT
from tests.rehearsal.builders.stack import Stack, new_stack
from tests.rehearsal.pairwise import Cover, Part, Row, cover, has, parts

CASES = Path(__file__).parent / "cases"
REFUSED = CASES / "refused-pairs.yaml"
FILE = "stacks/Pulumi.pairs.yaml"
SCRATCH = "/var/tmp/pairs"
UNSET = "unset"
SWITCH = ("false", "true")

# Values are YAML. A key in brackets stands for several settings: its values are maps of them.
# The defaults, which stand first, are those beside which most other values make sense.
COMMON: dict[str, Sequence[str]] = {
    "serving.process_manager": ("systemd", "supervisor", "emperor"),
    "serving.front": ("nginx", "none"),
    "[site]": (UNSET, "site.server_name: '*.example.com'", "site.location: /blog/"),
    "[starts]": (UNSET, "supervisor.startsecs: 3", "supervisor.startretries: 5", "systemd.restart_sec: 5"),
    "[stop]": (UNSET, "supervisor.stopwaitsecs: 10", "systemd.timeout_stop_sec: 10"),
    "nginx.listen": (UNSET, "8090"),
    "nginx.charset": (UNSET, "'off'"),
    "nginx.client_max_body_size": (UNSET, "75M"),
    "nginx.keepalive_timeout": (UNSET, "0"),
    "[read_timeout]": (UNSET, "nginx.uwsgi_read_timeout: 120", "nginx.proxy_read_timeout: 120"),
    "nginx.static": (UNSET, "{}", "{/static/: static, /media/files/: static/media}"),
}
UWSGI: dict[str, Sequence[str]] = {
    **COMMON,
    "[app]": (UNSET, "app.module: wsgi", "{app.wsgi_file: SKY.wsgi, app.callable: application}"),
    "[listening]": (
        "uwsgi.http: 127.0.0.1:8080",
        UNSET,
        "uwsgi.socket: unix",
        "uwsgi.socket: 127.0.0.1:8080",
        "uwsgi.http_socket: unix",
        "uwsgi.http_socket: 127.0.0.1:8080",
        "uwsgi.http: 0.0.0.0:8080",
        "uwsgi.socket: 0.0.0.0:8080",
        "uwsgi.http_socket: 0.0.0.0:8080",
    ),
    "[mode]": (
        UNSET,
        "uwsgi.chmod_socket: '666'",
        "uwsgi.chmod_socket: '600'",
        "{uwsgi.chmod_socket: '600', nginx.user: wsgi-app}",
    ),
    "[who]": (UNSET, "uwsgi.uid: daemon", "uwsgi.gid: daemon"),
    "uwsgi.stats": (UNSET, "9300"),
    "uwsgi.config": ("ini", "command_line"),
    "uwsgi.processes": ("4", "1", "auto"),
    "uwsgi.threads": (UNSET, "2"),
    "uwsgi.enable_threads": SWITCH,
    "uwsgi.thunder_lock": SWITCH,
    "uwsgi.cheaper": (UNSET, "2"),
    "uwsgi.listen": ("auto", "100"),
    "uwsgi.buffer_size": (UNSET, "65535"),
    "uwsgi.harakiri": (UNSET, "30"),
    "uwsgi.max_requests": (UNSET, "1000"),
    "uwsgi.reload_on_rss": (UNSET, "256"),
    "uwsgi.vacuum": ("true", "false"),
    "uwsgi.pidfile": SWITCH,
    "uwsgi.stats_http": SWITCH,
    "uwsgi.static_map": (UNSET, "{/static/: static}"),
    "uwsgi.logto": SWITCH,
    "uwsgi.daemonize": SWITCH,
    "uwsgi.dynamic": SWITCH,
    "uwsgi.pythonpath": (UNSET, "[lib, lib/more]"),
}
GUNICORN: dict[str, Sequence[str]] = {
    **COMMON,
    "nginx.user": (UNSET, "wsgi-app"),
    "[app]": (UNSET, "app.module: wsgi", "app.wsgi_file: SKY.wsgi"),
    "gunicorn.bind": ("unix", "127.0.0.1:8000", "0.0.0.0:8000"),
    "gunicorn.worker_class": ("sync", "gthread", "gevent"),
    "gunicorn.workers": ("auto", "3"),
    "gunicorn.threads": (UNSET, "4"),
    "gunicorn.worker_connections": (UNSET, "10240"),
    "gunicorn.backlog": (UNSET, "5000"),
    "[who]": (UNSET, "gunicorn.user: daemon", "gunicorn.group: daemon"),
    "gunicorn.timeout": (UNSET, "60"),
    "gunicorn.graceful_timeout": (UNSET, "5"),
    "gunicorn.keepalive": (UNSET, "0"),
    "gunicorn.max_requests": ("3000", "0"),
    "gunicorn.max_requests_jitter": (UNSET, "100"),
    "gunicorn.accesslog": SWITCH,
    "gunicorn.loglevel": ("info", "debug", "warning", "error", "critical"),
    "gunicorn.pidfile": SWITCH,
}
GRANIAN: dict[str, Sequence[str]] = {
    **COMMON,
    "nginx.user": (UNSET, "wsgi-app"),
    "[app]": (UNSET, "app.module: wsgi", "app.wsgi_file: SKY.wsgi"),
    "granian.bind": ("unix", "127.0.0.1:8000", "0.0.0.0:8000"),
    "granian.workers": ("auto", "3"),
    "granian.blocking_threads": (UNSET, "4"),
    "granian.backlog": (UNSET, "5000"),
    "[who]": (UNSET, "granian.user: daemon", "granian.group: daemon"),
    "granian.http1_keep_alive": ("true", "false"),
    "granian.workers_lifetime": (UNSET, "3600"),
    "granian.workers_max_rss": (UNSET, "256"),
    "granian.workers_kill_timeout": (UNSET, "5"),
    "granian.access_log": SWITCH,
    "granian.log_level": ("info", "debug", "warning", "error", "critical"),
    "granian.pid_file": SWITCH,
}
FACTORS = {"uwsgi": UWSGI, "gunicorn": GUNICORN, "granian": GRANIAN}


def nested(chosen: Mapping[str, str]) -> dict[str, Any]:
    """Factor → value, as a stack's config."""
    config: dict[str, Any] = {}
    for key, text in chosen.items():
        if text == UNSET:
            continue
        value = yaml.safe_load(text)
        for path, one in value.items() if key.startswith("[") else ((key, value),):
            model, _, name = path.partition(".")
            config.setdefault(model, {})[name] = one
    return config


def config_of(app_server: str, row: Mapping[str, str]) -> dict[str, Any]:
    config = nested(row)
    return {
        **config,
        "server": {"os": "debian12"},
        "serving": {"app_server": app_server, **config.get("serving", {})},
    }


def refusal(config: Mapping[str, Any]) -> str | None:
    """The line that refuses a stack's config, without the file's name; None when it is taken."""
    try:
        parse(config, FILE)
    except SettingsError as error:
        return str(error).removeprefix(f"{FILE}: ")
    return None


@cache
def covered(app_server: str) -> Cover:
    return cover(FACTORS[app_server], lambda row: refusal(config_of(app_server, row)))


def plan_of(config: Mapping[str, Any]) -> ServingPlan:
    return make_plan(parse(config, FILE))


# The generator


TOY = {"a": ("0", "1", "2"), "b": ("0", "1"), "c": ("0", "1", "2"), "d": ("0", "1"), "e": ("0", "1", "x")}


def toy_refusal(row: Row) -> str | None:
    """a=2 wants both b=1 and c=2; d=1 and a=1 exclude each other; e=x is never taken."""
    if row["e"] == "x":
        return "e"
    if row["a"] == "2" and row["b"] != "1":
        return "b"
    if row["a"] == "2" and row["c"] != "2":
        return "c"
    return "d" if row["a"] == row["d"] == "1" else None


def test_the_generator_covers_every_pair_that_some_row_can_have_and_names_the_others() -> None:
    made = cover(TOY, toy_refusal)
    every = [dict(zip(TOY, values, strict=True)) for values in product(*TOY.values())]
    valid = [row for row in every if toy_refusal(row) is None]
    assert all(row in valid for row in made.rows)
    possible = {pair for row in valid for pair in combinations(row.items(), 2)}
    assert {pair for row in made.rows for pair in combinations(row.items(), 2)} == possible
    assert made.refused.pop((("e", "x"),)) == "e"
    assert set(made.refused) == {pair for pair in parts({**TOY, "e": "01"}, 2) if pair not in possible}
    assert len(made.rows) <= len(valid) // 2, "fewer rows than all of them"
    assert cover(TOY, toy_refusal).rows == made.rows, "the same each time"


def test_the_generator_wants_defaults_that_are_taken() -> None:
    with pytest.raises(ValueError, match="the defaults are refused: no"):
        cover({"a": "01"}, lambda row: "no")


# Settings in, directives expected


def lines(text: str) -> list[str]:
    return [line.strip() for line in text.splitlines()]


def command(plan: ServingPlan) -> list[str]:
    """Words of the application server's command, as its process manager is told."""
    (site,) = plan.sites
    text = site.configs.get(site.program.config, "")
    found = re.search(r"^(?:command|ExecStart)=(.+)$", text, re.MULTILINE)
    return shlex.split(found.group(1)) if found else []


@pytest.mark.parametrize("file", sorted(set(CASES.glob("*.yaml")) - {REFUSED}), ids=lambda file: file.stem)
def test_a_setting_gives_the_directives_of_its_case(file: Path) -> None:
    case = yaml.safe_load(file.read_text())
    assert set(case) <= {"settings", "expect", "absent", "refused"}
    config = {"server": {"os": "debian12"}, **case["settings"]}
    assert refusal(config) == case.get("refused")
    if "refused" in case:
        assert set(case) == {"settings", "refused"}
        return
    plan = plan_of(config)
    texts = {name: lines(text) for name, text in plan.sites[0].configs.items()} | {"command": command(plan)}
    if plan.has_nginx:
        texts["nginx"] = lines(plan.configs["nginx.conf"])
        for name in ("http.conf", "server.conf"):
            texts["nginx"] += texts[name]
    assert case.get("expect") or case.get("absent"), "a case that expects nothing cannot fail"
    for name, expected in case.get("expect", {}).items():
        assert [line for line in expected if line not in texts[name]] == [], texts[name]
    for name, patterns in case.get("absent", {}).items():
        # A file that must not be there at all has no patterns.
        assert patterns or name not in texts
        assert [line for line in texts.get(name, ()) if any(re.search(one, line) for one in patterns)] == []


@pytest.mark.parametrize("app_server", FACTORS)
def test_every_value_is_in_a_row_or_on_the_list_of_refused_ones(app_server: str) -> None:
    made = covered(app_server)
    for part in (*parts(FACTORS[app_server], 1), *parts(FACTORS[app_server], 2)):
        refused = any(set(one) <= set(part) for one in made.refused)
        assert refused != any(has(row, part) for row in made.rows), part


def written(refused: Mapping[Part, str]) -> dict[str, str]:
    return {" + ".join(f"{key}={value}" for key, value in part): reason for part, reason in refused.items()}


def test_the_refused_pairs_are_those_of_the_list_each_with_its_reason() -> None:
    found = {app_server: written(covered(app_server).refused) for app_server in FACTORS}
    if os.environ.get("GOLDEN") == "write":
        REFUSED.write_text(yaml.safe_dump(found, sort_keys=False, width=1000))
    assert found == yaml.safe_load(REFUSED.read_text())
    reasons = [reason for of_server in found.values() for reason in of_server.values()]
    assert [reason for reason in reasons if "; allowed" not in reason] == []


@pytest.mark.parametrize(("app_server", "other"), permutations(FACTORS, 2))
def test_the_settings_of_the_other_app_server_are_refused_each_by_itself(app_server: str, other: str) -> None:
    keys = [(key, value) for key, values in FACTORS[other].items() for value in values if key.startswith(f"{other}.")]
    assert len(keys) > 20
    for key, value in keys:
        if value != UNSET:
            assert refusal(config_of(app_server, {key: value})) == (
                f"{other}: set, but serving.app_server is {app_server}; allowed: serving.app_server: {other}"
            ), key


# The servers' own checkers, on one machine


def filled(plan: ServingPlan, name: str, number: int) -> dict[str, str]:
    """File name → text with plausible facts, where nothing names a path or port of the machine's own site."""
    facts = {
        "slot": name,
        "release": "0123456789ab",
        "release_dir": f"{SCRATCH}/release",
        "slot_dir": f"{SCRATCH}/rows/{name}",
        "view_dir": f"{SCRATCH}/rows/{name}",
        "app_host": "127.0.0.1",
        "venv": f"{SCRATCH}/venv",
        "nginx_group": "www-data",
        "cpus": "2",
        "workers": "5",
        "somaxconn": "4096",
        "stats_port": str(20000 + 2 * number),
        "app_port": str(20001 + 2 * number),
    }
    (site,) = plan.sites
    texts = {**plan.configs, **site.configs, **{Path(path).name: text for path, text in plan.bootstrap_files.items()}}
    return {
        file: fill(text, facts)
        .replace(f"{site.place.root}/current", facts["slot_dir"])
        .replace(paths.RUN, f"{SCRATCH}/run")
        .replace(paths.LOG, f"{SCRATCH}/log")
        .replace(f"{paths.ETC}/vassals", f"{SCRATCH}/vassals")
        .replace(f"{paths.ROOT}/venvs/{paths.BOOTSTRAP}", f"{SCRATCH}/venv")
        .replace(":8080", f":{facts['app_port']}")
        .replace(":8000", f":{facts['app_port']}")
        for file, text in texts.items()
    }


EMPEROR = ("emperor.ini", "wsgi-emperor.service")


def rendered() -> dict[str, dict[str, str]]:
    """Row → file name → text."""
    rows = [(server, row) for server in FACTORS for row in covered(server).rows]
    named = {f"{server}{number}": (config_of(server, row), number) for number, (server, row) in enumerate(rows)}
    texts = {name: filled(plan_of(config), name, number) for name, (config, number) in named.items()}
    # The emperor's own files make a row of their own: a row has one program.
    for name, files in list(texts.items()):
        if "emperor.ini" in files:
            texts[f"emperor-{name}"] = {file: files.pop(file) for file in EMPEROR}
    return texts


# What is broken: name → app server and its settings, file, good text, bad text, and the checker that must say so.
BROKEN: dict[str, tuple[str, dict[str, str], str, str, str, str]] = {
    "broken-nginx": ("uwsgi", {}, "server.conf", "client_max_body_size", "client_max_bodysize", "nginx"),
    "broken-nginx-value": ("gunicorn", {}, "server.conf", "max_body_size 16m", "max_body_size 16x", "nginx"),
    "broken-ini": ("uwsgi", {}, "uwsgi.ini", "buffer-size =", "bufer-size =", "uwsgi"),
    "broken-app": ("uwsgi", {}, "uwsgi.ini", "callable = app", "callable = nowhere", "uwsgi"),
    "broken-arguments": (
        "uwsgi", {"uwsgi.config": "command_line"}, "app.service", "--buffer-size=", "--bufer-size=", "uwsgi",
    ),
    "broken-workers": ("gunicorn", {}, "gconf.py", "workers = 5", 'workers = "some"', "gunicorn"),
    "broken-class": ("gunicorn", {}, "gconf.py", 'worker_class = "sync"', 'worker_class = "sink"', "gunicorn"),
    "broken-name": ("gunicorn", {}, "gconf.py", "backlog =", "backlogs =", "gunicorn"),
    "broken-module": (
        "granian", {}, "wsgi_ecs_application.py", "from app import", "from nowhere import", "granian",
    ),
    "broken-option": ("granian", {}, "app.service", "--backlog=", "--baklog=", "granian"),
    "broken-unit": ("uwsgi", {}, "app.service", "RestartSec=", "RestartSek=", "systemd"),
    "broken-start": ("gunicorn", {}, "app.service", "ExecStart=/usr/bin/", "ExecStart=/usr/nowhere/", "systemd"),
    "broken-emperor": (
        "uwsgi", {"serving.process_manager": "emperor"}, "emperor.ini", "emperor-freq", "emperor-frek", "uwsgi",
    ),
    "broken-supervisor": (
        "uwsgi", {"serving.process_manager": "supervisor"}, "supervisor.conf", "stopsignal=TERM", "stopsignal=TURM",
        "supervisor",
    ),
}  # fmt: skip


def broken() -> dict[str, dict[str, str]]:
    texts = {}
    for number, (name, (server, chosen, file, good, bad, _)) in enumerate(BROKEN.items(), start=1000):
        config = config_of(server, {"serving.process_manager": "systemd", **chosen})
        files = filled(plan_of(config), name, number)
        files = {one: text for one, text in files.items() if (one in EMPEROR) == (file in EMPEROR)}
        assert good in files[file], name
        texts[name] = {**files, file: files[file].replace(good, bad)}
    return texts


def packed(rows: Mapping[str, Mapping[str, str]]) -> bytes:
    """One tar.gz with the rows, the application and the script that checks them."""
    memory = io.BytesIO()
    with tarfile.open(fileobj=memory, mode="w:gz") as archive:
        for folder, files in rows.items():
            for name, text in files.items():
                entry = tarfile.TarInfo(f"rows/{folder}/{name}")
                entry.size, entry.mode = len(text.encode()), 0o644
                archive.addfile(entry, io.BytesIO(text.encode()))
        archive.add(PROJECT / "app", "release/app", filter=lambda entry: None if "__pycache__" in entry.name else entry)
        archive.add(PROJECT / "machine/with_env.py", "release/tool/with_env.py")
        archive.add(CASES / "check_on_machine.py", "check.py")
    return memory.getvalue()


# The environment is built as a user who is not root, like every other on the machine.
PREPARE = f"""
set -eu
umask 022
rm -rf {SCRATCH}
mkdir {SCRATCH}
cd {SCRATCH}
tar -xzf - --no-same-owner
chmod -R a+rX .
install -d -o {paths.BUILD_USER} venv
as_build() {{ runuser -u {paths.BUILD_USER} -- env HOME={paths.BUILD_HOME} "$@"; }}
as_build python3 -m venv venv
as_build venv/bin/pip install -q --disable-pip-version-check -r release/app/requirements.txt @build@
as_build venv/bin/pip install -q --disable-pip-version-check --no-build-isolation @pins@
exec python3 -B check.py
"""


@pytest.fixture(scope="module")
def machine(project_copy: Path) -> Iterator[Stack]:
    """A stack of default settings on debian12, with nginx, supervisor and the release's users on its machine."""
    stack = new_stack(project_copy, "pairs")
    try:
        stack.up()
        yield stack
    finally:
        stack.run("destroy")


@pytest.fixture(scope="module")
def answers(machine: Stack) -> dict[str, dict[str, str]]:
    """Row → checker → what it says against it; all rows in one go."""
    chosen = {"uwsgi": {}, "gunicorn": {"gunicorn.worker_class": "gevent"}, "granian": {}}
    plans = [plan_of(config_of(server, row)) for server, row in chosen.items()]
    build = plans[0].system.build_pins
    pins = dict.fromkeys(pin for plan in plans for pin in plan.sites[0].pins if pin not in build)
    script = PREPARE.replace("@build@", shlex.join(build)).replace("@pins@", shlex.join(pins))
    started = time.monotonic()
    done = subprocess.run(
        machine.command("ssh", "--", script),
        cwd=machine.folder, input=packed({**rendered(), **broken()}), capture_output=True, timeout=1500,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr.decode()
    print(f"checked in {time.monotonic() - started:.0f} s")
    found: dict[str, dict[str, str]] = json.loads(done.stdout)
    return found


def test_the_checkers_of_the_servers_take_every_pair(answers: dict[str, dict[str, str]]) -> None:
    rows = {name: said for name, said in answers.items() if name not in BROKEN}
    against = {name: {who: text for who, text in said.items() if text} for name, said in rows.items()}
    assert {name: said for name, said in against.items() if said} == {}


def test_every_file_met_its_checker(answers: dict[str, dict[str, str]]) -> None:
    checker = {
        "nginx.conf": "nginx",
        "uwsgi.ini": "uwsgi",
        "emperor.ini": "uwsgi",
        "gconf.py": "gunicorn",
        "wsgi_ecs_granian.py": "granian",
        "supervisor.conf": "supervisor",
        "app.service": "systemd",
        "wsgi-emperor.service": "systemd",
    }
    rows = rendered()
    assert set(answers) == {*rows, *BROKEN}
    for name, files in rows.items():
        wanted = {checker[file] for file in files if file in checker}
        server = name.removeprefix("emperor-").rstrip("0123456789")
        assert set(answers[name]) == {*wanted, server}, name


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_file_is_refused_by_its_checker_alone(answers: dict[str, dict[str, str]], name: str) -> None:
    assert [who for who, text in answers[name].items() if text] == [BROKEN[name][-1]], answers[name]
