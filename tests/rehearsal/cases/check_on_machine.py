"""Runs on the machine, as root: every file of every row through its server's own checker.

rows/<name>/   the filled-in configs of one row
release/app    the application that they name

Prints JSON: row → checker → what it said against the file, an empty text for nothing.
Nothing that serves is touched: sockets, logs and ports are scratch ones (uWSGI's HTTP router
binds its port even with --no-server), and so is supervisord.
"""

import configparser
import contextlib
import json
import os
import shlex
import shutil
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).parent
VENV = ROOT / "venv"
AS_APP = ("runuser", "-u", "wsgi-app", "--", "timeout", "20")
# What gunicorn --check-config passes over: names that it does not know, such as misspelled ones, and
# workers that it cannot import.
GUNICORN = """
import runpy, sys, types
from gunicorn.config import Config
config = Config()
for name, value in runpy.run_path(sys.argv[1]).items():
    if name in config.settings:
        config.set(name, value)
    elif not (name.startswith("_") or name in ("behind_nginx", "watched") or isinstance(value, types.ModuleType)):
        sys.exit("unknown: " + name)
config.worker_class
"""


def said(*command: str, quiet: bool = False) -> str:
    """What a command says when it fails; with `quiet` anything it says is a failure."""
    done = subprocess.run(
        command, cwd=ROOT / "release/app", stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    text = done.stdout.decode("utf-8", "replace").strip()
    if done.returncode or (quiet and text):
        return f"{text}\nended with {done.returncode}"
    return ""


def server_command(folder: Path) -> list[str]:
    """The application server's command, read back from the file that the process manager gets."""
    if (folder / "supervisor.conf").exists():
        parser = configparser.RawConfigParser()
        parser.read(folder / "supervisor.conf")
        (section,) = parser.sections()
        words = shlex.split(parser[section]["command"].replace("%%", "%"))
    elif (folder / "app.service").exists():
        lines = (folder / "app.service").read_text().splitlines()
        (line,) = [line for line in lines if line.startswith("ExecStart=")]
        words = shlex.split(line.partition("=")[2].replace("%%", "%").replace("$$", "$"))
    else:
        return [str(VENV / "bin/uwsgi"), "--ini", str(folder / "uwsgi.ini")]
    # Before it stand python3, with_env.py, the environment's file and the log.
    return words[4:]


def emperor(file: Path) -> str:
    """What an emperor without vassals says: --no-server does not hold it back, so it starts and is stopped."""
    done = subprocess.run(
        ["runuser", "-u", "wsgi-app", "--", "timeout", "1", str(VENV / "bin/uwsgi"), "--ini", str(file)],
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    text = done.stdout.decode("utf-8", "replace").strip()
    return "" if done.returncode == 124 and "*** starting uWSGI Emperor ***" in text else text or "said nothing"


def granian(command: list[str]) -> str:
    """What Granian says unless it answers: it has no check of its own, so it is started and stopped."""
    options = dict(word[2:].split("=", 1) for word in command if word.startswith("--") and "=" in word)
    family = socket.AF_INET
    address: tuple[str, int] | str = ("127.0.0.1", int(options.get("port", 0)))
    if "uds" in options:
        family, address = socket.AF_UNIX, options["uds"]
    with subprocess.Popen(
        [*AS_APP, *command], cwd=ROOT / "release/app", stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    ) as server:  # fmt: skip
        while server.poll() is None:
            with contextlib.suppress(OSError), socket.socket(family) as client:
                client.settimeout(10)
                client.connect(address)
                client.sendall(b"GET / HTTP/1.0\r\nHost: localhost\r\n\r\n")
                if client.recv(5) == b"HTTP/":
                    server.terminate()
                    return ""
            time.sleep(0.05)
        return server.communicate()[0].decode("utf-8", "replace").strip() or f"ended with {server.returncode}"


def check(folder: Path) -> dict[str, str]:
    """All checkers but supervisord, which is one for all rows."""
    found = {}
    if (folder / "nginx.conf").exists():
        found["nginx"] = said("nginx", "-t", "-q", "-c", str(folder / "nginx.conf"), quiet=True)
    for unit in folder.glob("*.service"):
        found["systemd"] = said("systemd-analyze", "verify", "--man=no", str(unit), quiet=True)
    if (folder / "emperor.ini").exists():
        found["uwsgi"] = emperor(folder / "emperor.ini")
        return found
    command = server_command(folder)
    if (folder / "gconf.py").exists():
        found["gunicorn"] = said(*AS_APP, *command, "--check-config") or said(
            *AS_APP, str(VENV / "bin/python"), "-c", GUNICORN, str(folder / "gconf.py")
        )
    elif (folder / "wsgi_ecs_granian.py").exists():
        found["granian"] = granian(command)
    else:
        found["uwsgi"] = said(*AS_APP, *command, "--strict", "--no-server")
    return found


def supervisor(folders: list[Path]) -> dict[str, str]:
    """Row → what a supervisord of its own says against the program's file. No program starts."""
    programs = ROOT / "programs"
    shutil.rmtree(programs, ignore_errors=True)
    programs.mkdir()
    config, socket = ROOT / "supervisord.conf", ROOT / "supervisor.sock"
    config.write_text(
        f"[supervisord]\nnodaemon=true\nuser=root\nlogfile=/dev/null\nlogfile_maxbytes=0\n"
        f"pidfile={ROOT}/supervisord.pid\n[unix_http_server]\nfile={socket}\n"
        f"[rpcinterface:supervisor]\nsupervisor.rpcinterface_factory=supervisor.rpcinterface:make_main_rpcinterface\n"
        f"[supervisorctl]\nserverurl=unix://{socket}\n[include]\nfiles={programs}/*.conf\n"
    )

    def ask(word: str) -> str:
        done = subprocess.run(["supervisorctl", "-c", config, word], capture_output=True, text=True)
        return (done.stdout + done.stderr).strip()

    found = {}
    with subprocess.Popen(
        ["supervisord", "-c", str(config)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as server:
        try:
            deadline = time.monotonic() + 20
            while not socket.exists() and time.monotonic() < deadline:
                time.sleep(0.05)
            for folder in folders:
                link = programs / f"{folder.name}.conf"
                link.symlink_to(folder / "supervisor.conf")
                answer = ask("reread")
                good = f"app-{folder.name}: available" in answer
                found[folder.name] = "" if good else answer or "no answer"
                if not good:
                    link.unlink()
            available = ask("avail")
            for name in [name for name, text in found.items() if not text]:
                if f"app-{name}" not in [line.split()[0] for line in available.splitlines() if " avail " in line]:
                    found[name] = f"not available: {available}"
        finally:
            server.terminate()
    return found


def main() -> None:
    folders = sorted((ROOT / "rows").iterdir())
    for name in ("run/app", "log/app", "vassals"):
        (ROOT / name).mkdir(parents=True, exist_ok=True)
        shutil.chown(ROOT / name, "wsgi-app", "wsgi-app-web")
    with ThreadPoolExecutor((os.cpu_count() or 1) + 1) as pool:
        programs = pool.submit(supervisor, [folder for folder in folders if (folder / "supervisor.conf").exists()])
        results = dict(zip([folder.name for folder in folders], pool.map(check, folders), strict=True))
    for name, text in programs.result().items():
        results[name]["supervisor"] = text
    json.dump(results, sys.stdout)


with contextlib.suppress(BrokenPipeError):
    main()
