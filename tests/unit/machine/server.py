"""The fake server: supervisorctl, nginx and systemctl are scripts that ask this process.

An application does what its file `behaviour` says: ok, crash, silent (never answers), 500,
or nginx (good in itself, 500 through nginx).
"""

import contextlib
import functools
import http.server
import json
import os
import re
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tarfile
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from components.archive import Archive, build
from serving import layout, make_plan, release_files
from settings.loader import parse
from tests.unit.machine import PROJECT

_SCRIPT = """#!/bin/sh
mkfifo ROOT/answer.$$
printf '%s\\n' "$$ ${0##*/} $*" >ROOT/ask
{ read -r status; cat; } <ROOT/answer.$$
exit "$status"
"""

_MASTER = """
import os, signal, sys
signal.signal(signal.SIGCHLD, signal.SIG_IGN)
while sys.stdin.readline():
    worker = os.fork()
    if not worker:
        signal.pause()
    print(worker, flush=True)
"""


@functools.cache
def _driver(python: str) -> "subprocess.Popen[str]":
    """The process that runs the tool under a Python; it ends with this one."""
    return subprocess.Popen(
        [python, "-B", "-S", "-E", str(PROJECT / "tests/unit/machine/drive.py")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        # No locale, as SSH may bring none.
        env={"LC_ALL": "C"},
    )


class Application(threading.Thread):
    """Answers uWSGI's protocol on a unix socket as its release's behaviour says."""

    def __init__(self, release: str, behaviour: str, path: str, env: str) -> None:
        super().__init__(daemon=True)
        self.release, self.behaviour, self.env = release, behaviour, env
        self.asked: list[dict[str, str]] = []
        self.listener = socket.socket(socket.AF_UNIX)
        self.path = path
        if behaviour not in ("crash", "silent"):
            Path(path).unlink(missing_ok=True)
            self.listener.bind(path)
            self.listener.listen()
            self.start()

    @property
    def status(self) -> int:
        return {"503": 503, "500": 500}.get(self.behaviour, 200)

    def run(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self.listener.accept()
                with client:
                    size = struct.unpack("<BHB", client.recv(4))[1]
                    self.asked.append(variables(client.recv(size)))
                    client.sendall(f"HTTP/1.1 {self.status} Some\r\nX: y\r\n\r\nthe answer".encode())

    def stop(self) -> None:
        with contextlib.suppress(OSError):
            self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()


def variables(packet: bytes) -> dict[str, str]:
    """The variables of a uWSGI packet's body."""
    texts = []
    while packet:
        (size,) = struct.unpack("<H", packet[:2])
        texts.append(packet[2 : 2 + size].decode())
        packet = packet[2 + size :]
    return dict(zip(texts[::2], texts[1::2], strict=True))


class Server:
    """A server after its bootstrap: slot a serves the built-in page."""

    def __init__(self) -> None:
        # pytest's own folders are too deep for the path of a unix socket.
        self.root = Path(tempfile.mkdtemp(prefix="we-"))
        for name in ("bin", "run", "log", "sources", "etc/conf.d", "srv/incoming", "srv/venvs/bootstrap"):
            (self.root / name).mkdir(parents=True)
        self.site = self.root / "srv/app"
        self.env_file = self.root / "etc/app.env.json"
        self.commands: list[str] = []
        self.served: list[str | None] = []
        self.programs: dict[str, Application] = {}
        self.refuses: set[str] = set()
        self.signal_at: tuple[int, signal.Signals, bool] | None = None
        self.tool: int | None = None
        self._handlers: dict[str, Callable[..., tuple[int, str]]] = {
            "supervisorctl": self._supervisorctl,
            "nginx": self._nginx_command,
            "systemctl": lambda *_: (1, "Job for nginx.service failed"),
        }
        self._nginx()
        self._bootstrap()
        self.faults()
        self._busy = threading.Lock()
        os.mkfifo(self.root / "ask")
        for name in ("supervisorctl", "nginx", "systemctl"):
            script = self.root / "bin" / name
            script.write_text(_SCRIPT.replace("ROOT", str(self.root)))
            script.chmod(0o755)
        self._commands = threading.Thread(target=self._listen, daemon=True)
        self._commands.start()

    def _bootstrap(self) -> None:
        (self.site / "releases/bootstrap/app").mkdir(parents=True)
        (self.site / "releases/bootstrap/app/behaviour").write_text("503")
        slot = self.site / "slots/a"
        slot.mkdir(parents=True)
        slot.joinpath("nginx.conf").write_text(f"include {slot}/site.conf;")
        slot.joinpath("supervisor.conf").write_text(f"directory={self.site}/releases/bootstrap/app\n")
        supervisor_file = self.root / "etc/conf.d/app-a.conf"
        state = {"release": "bootstrap", "slot": "a", "program": "app-a", "supervisor_file": str(supervisor_file)}
        slot.joinpath("state.json").write_text(json.dumps(state))
        self.site.joinpath("current").symlink_to("slots/a")
        self.root.joinpath("etc/nginx.conf").symlink_to(self.site / "current/nginx.conf")
        supervisor_file.symlink_to(slot / "supervisor.conf")
        self.env_file.write_text("{}\n")
        self._supervisorctl("add", "app-a")
        self.loaded = "a"

    def _nginx(self) -> None:
        """A master that starts a worker for each line; a worker that ends is gone at once."""
        self.master = subprocess.Popen(
            [sys.executable, "-S", "-E", "-c", _MASTER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        (self.root / "nginx.pid").write_text(f"{self.master.pid}\n")
        self.worker = self._worker()
        server = self

        class Entrance(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                program = server.programs.get(f"app-{server.loaded}")
                status = 502 if program is None else program.status
                if program and program.behaviour == "nginx":
                    status = 500
                    with (server.root / f"log/app-{server.loaded}.log").open("a") as log:
                        log.write("KeyError: what it prints as nginx asks\n")
                self.send_response(status)
                self.end_headers()

            def log_message(self, format: str, *args: object) -> None:
                pass

        self.entrance = http.server.HTTPServer(("127.0.0.1", 0), Entrance)
        threading.Thread(target=self.entrance.serve_forever, args=(0.01,), daemon=True).start()

    def _worker(self) -> int:
        assert self.master.stdin
        assert self.master.stdout
        self.master.stdin.write("\n")
        self.master.stdin.flush()
        return int(self.master.stdout.readline())

    def close(self) -> None:
        (self.root / "ask").write_text("quit\n")
        self._commands.join()
        self.entrance.shutdown()
        self.entrance.server_close()
        for program in self.programs.values():
            program.stop()
        os.kill(self.worker, signal.SIGKILL)
        assert self.master.stdin
        assert self.master.stdout
        self.master.stdin.close()
        self.master.wait()
        self.master.stdout.close()
        shutil.rmtree(self.root)

    @property
    def serving(self) -> str | None:
        """The release that a request from outside reaches, None when there is nothing behind nginx."""
        program = self.programs.get(f"app-{self.loaded}")
        return program.release if program else None

    def faults(self, *names: str) -> None:
        (self.root / "faults.json").write_text(json.dumps(names))

    def state(self, slot: str = "") -> Any:
        folder = self.site / "slots" / slot if slot else self.site / "current"
        return json.loads((folder / "state.json").read_text())

    def _listen(self) -> None:
        with os.fdopen(os.open(self.root / "ask", os.O_RDWR)) as stream:
            for line in stream:
                if line == "quit\n":
                    return
                self._busy.acquire()
                asker, name, *arguments = line.split()
                at, number, effect = self.signal_at or (-1, signal.SIGKILL, False)
                strikes = len(self.commands) == at
                if strikes:
                    while self.tool is None:
                        time.sleep(0.001)
                    os.kill(self.tool, number)
                self.commands.append(" ".join([name, *arguments]))
                answer = self._handlers[name](*arguments) if effect or not strikes else (1, "")
                self.served.append(self.serving)
                self._answer(asker, *answer)
                self._busy.release()

    def _answer(self, asker: str, status: int, text: str) -> None:
        # The asker may have been killed, or may not read yet.
        while Path("/proc", asker).exists():
            try:
                answer = os.open(f"{self.root}/answer.{asker}", os.O_WRONLY | os.O_NONBLOCK)
            except OSError:
                time.sleep(0.0005)
                continue
            with os.fdopen(answer, "w", errors="surrogateescape") as stream:
                stream.write(f"{status}\n{text}\n")
            return

    def _supervisorctl(self, what: str, name: str = "") -> tuple[int, str]:
        program = self.programs.get(name)
        if what == "status":
            if program is None:
                return 4, f"{name}: ERROR (no such process)"
            crashed = program.behaviour == "crash"
            return 0, f"{name}   " + ("BACKOFF   Exited too quickly" if crashed else "RUNNING   pid 9, uptime 0:00:01")
        if what == "reread":
            return (2, "ERROR: CANT_REREAD") if "reread" in self.refuses else (0, "No config updates to processes")
        if what == "add":
            # As supervisor 3 does: an error in words, and the status of success.
            if program or not (self.root / f"etc/conf.d/{name}.conf").exists():
                return 0, f"ERROR: no such process/group: {name}"
            if "add" in self.refuses:
                return 0, f"ERROR: process group already active: {name}"
            self.programs[name] = self._start(name)
            return 0, f"{name}: added process group"
        if what == "remove":
            del self.programs[name]
        elif program:
            program.stop()
        return 0, ""

    def _start(self, name: str) -> Application:
        text = (self.root / f"etc/conf.d/{name}.conf").read_text()
        found = re.search("directory=(.*)/app\n", text)
        assert found
        folder = Path(found[1])
        behaviour = (folder / "app/behaviour").read_text()
        with (self.root / f"log/{name}.log").open("a") as log:
            if behaviour != "ok":
                log.write(f"ImportError: {behaviour} – 没有这个模块\n")
        return Application(folder.name, behaviour, f"{self.root}/run/{name}.sock", self.env_file.read_text())

    def _nginx_command(self, *arguments: str) -> tuple[int, str]:
        if arguments[0] == "-t":
            bad = "no_such_directive" in Path(arguments[-1]).read_text()
            # A configuration may hold any byte, and nginx repeats it.
            return (1, "nginx: [emerg] unknown directive \udcff") if bad else (0, "")
        if "reload" in self.refuses:
            return 1, "nginx: [emerg] cannot load"
        found = re.search("slots/([ab])/", (self.root / "etc/nginx.conf").read_text())
        assert found
        new = self._worker()
        self.loaded = found[1]
        os.kill(self.worker, signal.SIGKILL)
        while Path(f"/proc/{self.worker}").exists():
            time.sleep(0.0005)
        self.worker = new
        return 0, ""

    def archive(self, behaviour: str = "ok", requirements: str = "flask\n", nginx: str = "", **release: Any) -> Archive:
        """A release as the program builds it, with this root's paths."""
        plan = make_plan(
            parse(
                {
                    "server": {"os": "debian12"},
                    "nginx": {"listen": self.entrance.server_port},
                    "uwsgi": {"stats": 21000 + os.getpid() % 9000},
                    "release": release,
                    "supervisor": {"stopwaitsecs": 2},
                },
                "stacks/Pulumi.test.yaml",
            )
        )
        source = Path(tempfile.mkdtemp(dir=self.root / "sources"))
        (source / "behaviour").write_text(behaviour)
        (source / "requirements.txt").write_text(requirements)
        (source / "静态.css").write_text("body {}\n")
        (source / "run.sh").write_text("#!/bin/sh\n")
        (source / "run.sh").chmod(0o755)
        texts = {
            name: text
            if name.startswith("tool/")
            else text.replace(layout.RUN, f"{self.root}/run")
            .replace(layout.LOG, f"{self.root}/log")
            .replace("/etc/supervisor", f"{self.root}/etc")
            for name, text in release_files(plan).items()
        }
        texts["config/nginx.conf"] += nginx
        return build(source, (), texts, self.root / "sources")

    def unpack(self, archive: Archive) -> Path:
        """What templates/release/apply.sh.j2 does before it runs the tool."""
        folder = self.root / "srv/incoming" / archive.id
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(0o700)
        shutil.copy(archive.path, f"{folder}.tar.gz")
        with tarfile.open(archive.path) as tar:
            tar.extractall(folder, filter="tar")
        return folder

    def run(self, folder: Path, stdin: str, python: str = sys.executable, wanted: int = 0) -> tuple[int, str]:
        """Run the tool. Returns its exit status and what it printed, which never holds a traceback."""
        self.commands.clear()
        self.served.clear()
        (self.root / "stdin").write_text(stdin)
        driver = _driver(python)
        assert driver.stdin
        assert driver.stdout
        driver.stdin.write(json.dumps([str(self.root), str(folder)]) + "\n")
        driver.stdin.flush()
        self.tool = int(driver.stdout.readline())
        status = os.waitstatus_to_exitcode(int(driver.stdout.readline()))
        with self._busy:  # A killed tool's last command has ended before another asks.
            self.tool = None
        (self.root / "stdin").unlink()
        text = (self.root / "output").read_text()
        assert "Traceback" not in text, text
        assert status == wanted, text
        return status, text

    def apply(self, archive: Archive, env: dict[str, str] | None = None, **options: Any) -> str:
        """Unpack a release and run its tool with an environment. Returns what it printed."""
        return self.run(self.unpack(archive), json.dumps({"env": env or {}}), **options)[1]
