"""The fake server: what the tool's commands and the emperor answer is asked of this process, on unix sockets.

It begins as the bootstrap leaves it: slot a of site app serves the built-in page, with the very files that
cloud-init writes.
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
import subprocess
import sys
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

from components.archive import Archive, build
from contract import paths
from contract.documents import METADATA_UNIT, Host
from kinds.process_managers import emperor
from serving import bootstrap, host_files, make_plan, release_files
from settings import StackSettings
from settings.loader import parse
from tests.unit.machine import PROJECT
from tests.unit.machine.application import Application
from tests.unit.machine.nginx import Block, Part, Refused, load, part
from tests.unit.machine.ports import Ports
from tests.unit.machine.stand_ins import MANAGERS, Accounts, Answer, key_of

_MASTER = """
import os, signal, sys
signal.signal(signal.SIGCHLD, signal.SIG_IGN)
while sys.stdin.readline():
    worker = os.fork()
    if not worker:
        signal.pause()
    print(worker, flush=True)
"""


def _new_master() -> "subprocess.Popen[str]":
    """A master that starts a worker for each line; a worker that ends is gone at once."""
    return subprocess.Popen(
        [sys.executable, "-S", "-E", "-c", _MASTER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )


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


class Server:
    """A server after its bootstrap. config: the stack's settings, in which PORT is the first of two free ports.

    commands: what the tool ran last. running: programs during the last copy of data.
    down: units of systemd that do not run until they are started.
    history: site → the release that served it after each of the commands, None for none.
    """

    def __init__(self, config: dict[str, Any] | None = None) -> None:
        # pytest's own folders are too deep for the path of a unix socket; a disk may be slow to take small files.
        memory = "/dev/shm"
        self.root = Path(tempfile.mkdtemp(prefix="we-", dir=memory if os.access(memory, os.W_OK) else None))
        for name in ("run", "log", "sources", "etc", "programs", "tmpfiles", "srv/incoming"):
            (self.root / name).mkdir(parents=True)
        (self.root / "etc/hosts").write_text("127.0.0.1 localhost\n")
        self.site = self.folder("app")
        self.env_file = self.root / "etc/app.env.json"
        self.commands: list[str] = []
        self.running: list[str] = []
        self.history: dict[str, list[str | None]] = defaultdict(list)
        self.signal_at: tuple[int, signal.Signals, bool] | None = None
        self.tool: int | None = None
        self.down: set[str] = set()
        self.loaded: tuple[Block, ...] = ()
        # Directives that its nginx does not know.
        self.lacks: set[str] = set()
        self.config = config or {}
        self.alone = self.config.get("serving", {}).get("front") == "none"
        self._ports = Ports()
        self.port = self._ports.first
        self._handlers: dict[str, Callable[..., Answer]] = {}
        self._busy = threading.Lock()
        self._nginx()
        kind = self.config.get("serving", {}).get("process_manager", "supervisor")
        self.manager = MANAGERS[kind](self.root / "programs", self._program)
        self._bootstrap()
        self.faults()
        self._listeners()

    def settings(self, config: dict[str, Any] | None = None, **release: Any) -> StackSettings:
        """The stack's settings, with the ports of this test."""
        values = json.loads(json.dumps(self.config if config is None else config).replace("PORT", str(self.port)))
        values = {"server": {"os": "debian12"}, "release": release, **values}
        if not self.alone:
            values["nginx"] = {"listen": self.entrance.server_port, **values.get("nginx", {})}
        if values.get("serving", {}).get("app_server", "uwsgi") == "uwsgi" and not values.get("sites"):
            values["uwsgi"] = {"stats": self.port + 2, **values.get("uwsgi", {})}
        if values.get("serving", {}).get("process_manager", "supervisor") == "supervisor":
            values["supervisor"] = {"stopwaitsecs": 2}
        else:
            values["systemd"] = {"timeout_stop_sec": 2}
        return parse(values, "stacks/Pulumi.test.yaml")

    def _here(self, text: str) -> str:
        """A text of the plan with this root's paths."""
        for there, here in (
            ("/etc/tmpfiles.d", "tmpfiles"),
            (emperor.VASSALS, "programs"),
            ("/etc/supervisor/conf.d", "programs"),
            ("/etc/systemd/system", "programs"),
            (paths.RUN, "run"),
            (paths.LOG, "log"),
            (paths.ETC, "etc"),
            (paths.ROOT, "srv"),
        ):
            text = text.replace(there, f"{self.root}/{here}")
        return text

    def folder(self, site: str) -> Path:
        return self.root / "srv/sites" / site

    def _bootstrap(self) -> None:
        settings = self.settings()
        plan = make_plan(settings)
        for directory in plan.directories:
            if directory.path.startswith((paths.ROOT, paths.LOG)):
                Path(self._here(directory.path)).mkdir(parents=True, exist_ok=True)
        (self.root / "srv/venvs/bootstrap").mkdir()
        for file in bootstrap.files(plan, settings):
            if file.path.startswith((paths.ROOT, f"{paths.ETC}/app", "/etc/tmpfiles.d")):
                path = Path(self._here(file.path))
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(self._here(file.text))
        (self.site / "releases/bootstrap/app/behaviour").write_text("503")
        assert isinstance(plan.host, Host)
        users = {user.name: user.groups for user in plan.users} | {plan.host.nginx_user: plan.groups[1:]}
        groups = {group: [user for user, own in users.items() if group in own] for group in (*plan.groups, *users)}
        self.accounts = Accounts(self.root / "accounts.json", list(users), groups)
        self._tmpfiles("--create", str(self.root / "tmpfiles/wsgi-ecs-app.conf"))
        self.site.joinpath("current").symlink_to("slots/a")
        state = self.state()
        Path(state["program_link"]).symlink_to(self.site / "slots/a" / state["program_config"])
        if not self.alone:
            self.root.joinpath("srv/host/current").symlink_to("a")
            self.root.joinpath("etc/nginx.conf").symlink_to(self.root / "srv/host/current/nginx.conf")
            self.loaded = load(self.root / "etc/nginx.conf")
        self.manager.boot()

    def _listeners(self) -> None:
        """What the tool talks to: the commands, and the emperor's statistics."""
        self._handlers |= {
            "nginx": self._nginx_command,
            "systemd-tmpfiles": self._tmpfiles,
            # All packages of the OS are there.
            "dpkg-query": lambda *arguments: (0, "".join(f"{name} ii \n" for name in arguments[3:])),
            "cp": self._copy,
            "umount": lambda *_: (0, ""),
            # The rules that keep the metadata from applications are there.
            "sh": lambda *_: (0, ""),
            "journalctl": lambda *_: (0, "Failed to listen on sockets: Address already in use"),
            **{name: functools.partial(self.accounts.answer, name) for name in Accounts.COMMANDS},
        }
        self._handlers.setdefault("systemctl", self._systemctl)
        self._handlers[self.manager.command] = self.manager.answer
        self._sockets = [
            self._listen("ask", self._answer_a_command),
            self._listen("emperor.sock", self._answer_statistics),
        ]

    def _nginx(self) -> None:
        self.master = _new_master()
        (self.root / "nginx.pid").write_text(f"{self.master.pid}\n")
        self.worker = self._worker()
        server = self

        class Entrance(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                found = part(server.loaded, self.server.server_port, self.headers["Host"], self.path)  # type: ignore[attr-defined]
                program = server.passed(found)
                status = 404 if found is None else 503 if found.address is None else program.status if program else 502
                if found and program and program.behaviour == "nginx":
                    status = 500
                    with (server.root / f"log/{found.site}/{program.slot}.log").open("a") as log:
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

    def _end_worker(self) -> None:
        os.kill(self.worker, signal.SIGKILL)
        while Path(f"/proc/{self.worker}").exists():
            time.sleep(0.0005)

    def close(self) -> None:
        for listener in self._sockets:
            listener.shutdown(socket.SHUT_RDWR)
            listener.close()
        self.entrance.shutdown()
        self.entrance.server_close()
        for program in self.programs.values():
            program.stop()
        self._ports.close()
        self._end_worker()
        # The end of its standard input ends the master.
        self.master.communicate()
        shutil.rmtree(self.root)

    @property
    def programs(self) -> dict[str, Application]:
        """What the process manager runs, by site and slot such as app-a."""
        return self.manager.programs

    @property
    def refuses(self) -> set[str]:
        """What supervisor, systemd or nginx fails at."""
        return self.manager.refuses

    def passed(self, found: Part | None) -> Application | None:
        """The program that nginx passes a site's requests to."""
        if not found or not found.address:
            return None
        _, is_unix, path = found.address.rpartition("unix:")
        # nginx follows the links anew for each request.
        address = f"{is_unix}{os.path.realpath(path)}" if is_unix else found.address
        programs = [program for program in self.programs.values() if program.address == address]
        return programs[0] if programs else None

    def serves(self, site: str) -> str | None:
        """The release that a request to a site from outside reaches, None when there is none."""
        if self.alone:
            own = [program for key, program in self.programs.items() if key.startswith(site + "-")]
            # A program on trial listens on loopback, which nobody outside reaches.
            listening = [program for program in own if program.listens and program.address.startswith("0.")]
            assert len(listening) < 2 or all(program.shares_port for program in listening)
            return listening[0].release if listening else None
        parts = [part for block in self.loaded for part in block.parts if part.site == site]
        program = self.passed(parts[0] if parts else None)
        return program.release if program else None

    @property
    def serving(self) -> str | None:
        return self.serves("app")

    @property
    def served(self) -> list[str | None]:
        return self.history["app"]

    def faults(self, *names: str) -> None:
        (self.root / "faults.json").write_text(json.dumps(names))

    def state(self, slot: str = "", site: str = "app") -> Any:
        folder = self.folder(site) / (f"slots/{slot}" if slot else "current")
        return json.loads((folder / "state.json").read_text())

    def _listen(self, name: str, answer: Callable[[socket.socket], None]) -> socket.socket:
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(str(self.root / name))
        listener.listen()

        def serve() -> None:
            with contextlib.suppress(OSError):
                while True:
                    client, _ = listener.accept()
                    # The asker may have been killed.
                    with client, self._busy, contextlib.suppress(OSError):
                        answer(client)

        threading.Thread(target=serve, daemon=True).start()
        return listener

    def _answer_a_command(self, client: socket.socket) -> None:
        with client.makefile() as line:
            program, *arguments = json.loads(line.readline())
        status, text = self._ask(Path(program).name, *arguments)
        client.sendall(f"{status}\n{text}\n".encode(errors="surrogateescape"))

    def _answer_statistics(self, client: socket.socket) -> None:
        client.sendall(self._ask("emperor", "status")[1].encode())

    def _ask(self, name: str, *arguments: str) -> Answer:
        at, number, effect = self.signal_at or (-1, signal.SIGKILL, False)
        strikes = len(self.commands) == at
        if strikes:
            while self.tool is None:
                time.sleep(0.001)
            os.kill(self.tool, number)
        self.commands.append(" ".join([name, *arguments]))
        if (name, arguments[:1]) == ("systemctl", ("is-active",)):
            answer = 0, "\n".join("inactive" if unit in self.down else "active" for unit in arguments[1:])
        elif (name, arguments[:1]) == ("systemctl", ("start",)) and arguments[-1] in self.down:
            self.down.remove(arguments[-1])
            answer = 0, ""
        elif name == "systemctl" and arguments[-1] in ("nginx.service", "supervisor.service", METADATA_UNIT):
            answer = 0, ""
        elif name not in self._handlers:
            answer = 127, f"{name}: command not found"
        else:
            answer = self._handlers[name](*arguments) if effect or not strikes else (1, "")
        for site in [path.name for path in (self.root / "srv/sites").iterdir()]:
            self.history[site].append(self.serves(site))
        return answer

    def _program(self, file: Path) -> Application:
        """Start what a process manager's file names: where it listens stands there or in the server's own config."""
        site, _, slot = key_of(file.name).rpartition("-")
        text = file.read_text()
        for config in re.findall(r"/\S+/(?:uwsgi\.ini|gconf\.py)", text):
            text += Path(config).read_text()
        folder = Path(re.findall("(?m)^(?:directory=|WorkingDirectory=|chdir = )(/.*)/app$", text)[0])
        is_granian = "granian.py" in text
        if is_granian:
            text = re.sub(r"--host=(\S+) --port=", r"--uds=\1:", text).replace("--http=", "--version=")
        ((name, address),) = re.findall(
            r'(?:^|\s--)(socket|http-socket|http|bind|uds) ?= ?"?([^\s"]+)', text, re.MULTILINE
        )
        address = f"unix:{address}" if address.startswith("/") else address
        behaviour = (folder / "app/behaviour").read_text()
        with (self.root / f"log/{site}/{slot}.log").open("a") as log:
            if behaviour != "ok":
                log.write(f"ImportError: {behaviour} – 没有这个模块\n")
        protocol = "uwsgi" if name == "socket" else "http"
        env = (self.root / f"etc/{site}.env.json").read_text()
        # Granian does so without an option.
        shares_port = is_granian or re.search("(?m)^reuse[-_]port = ", text) is not None
        return Application(folder.name, behaviour, protocol, address, env, slot, shares_port)

    def _systemctl(self, *arguments: str) -> Answer:
        """systemd where it manages no application: it reads its units, no nginx is its own, and a socket listens."""
        if arguments[-1] == f"{paths.METRICS_UNIT}.socket":
            return (1, f"Job for {arguments[-1]} failed") if arguments[0] in self.refuses else (0, "")
        if arguments[-1] in ("wsgi-ecs-updates.timer", "wsgi-ecs-logs.timer", "srv-data.mount", "rpcbind.service"):
            return 0, ""
        return (0, "") if arguments == ("daemon-reload",) else (1, "Job for nginx.service failed")

    def _tmpfiles(self, *arguments: str) -> Answer:
        for _, path, *_ in map(str.split, Path(arguments[-1]).read_text().splitlines()):
            Path(path).mkdir(exist_ok=True)
        return 0, ""

    def _copy(self, *arguments: str) -> Answer:
        """A copy of a data folder, while which the site's programs stand still."""
        self.running = sorted(self.programs)
        if "cp" in self.refuses:
            said = self.root / "cp"
            return 1, said.read_text() if said.exists() else "cp: error writing 'x': No space left on device"
        done = subprocess.run(["cp", *arguments], capture_output=True, text=True)
        return done.returncode, done.stderr

    def _nginx_command(self, *arguments: str) -> Answer:
        if "reload" in self.refuses and arguments[0] != "-t":
            return 1, "nginx: [emerg] cannot load"
        file = Path(arguments[-1]) if arguments[0] == "-t" else self.root / "etc/nginx.conf"
        for name in self.lacks:
            if re.search(rf"(?m)^[^#\n]*\b{name} ", file.read_text()):
                return 1, f'nginx: [emerg] unknown directive "{name}"'
        try:
            loaded = load(file)
        except Refused as error:
            return 1, f"nginx: [emerg] {error}"
        if arguments[0] == "-t":
            return 0, ""
        new = self._worker()
        self.loaded = loaded
        self._end_worker()
        self.worker = new
        return 0, ""

    def archive(
        self,
        behaviour: str = "ok",
        requirements: str = "flask\n",
        nginx: str = "",
        config: dict[str, Any] | None = None,
        site: str = "app",
        **release: Any,
    ) -> Archive:
        """A site's release as the program builds it, with this root's paths. config: in place of the server's own."""
        plan = make_plan(self.settings(config, **release))
        (own,) = (each for each in plan.sites if each.place.name == site)
        source = Path(tempfile.mkdtemp(dir=self.root / "sources"))
        (source / "behaviour").write_text(behaviour)
        (source / "requirements.txt").write_text(requirements)
        (source / "静态.css").write_text("body {}\n")
        (source / "run.sh").write_text("#!/bin/sh\n")
        (source / "run.sh").chmod(0o755)
        texts = release_files(own)
        if nginx:
            texts["config/server.conf"] += nginx
        return self._built(texts, source)

    def host(self, config: dict[str, Any] | None = None, old: str = "", new: str = "", **release: Any) -> Archive:
        """What the sites share, as archive(). old, new: what is changed in nginx.conf."""
        texts = host_files(make_plan(self.settings(config, **release)))
        if old:
            assert old in texts["config/nginx.conf"]
            texts["config/nginx.conf"] = texts["config/nginx.conf"].replace(old, new)
        return self._built(texts, None)

    def _built(self, texts: dict[str, str], source: Path | None) -> Archive:
        texts = {name: text if name.startswith("tool/") else self._here(text) for name, text in texts.items()}
        # In a folder of its own: the program forgets all but the newest.
        return build(texts, {}, Path(tempfile.mkdtemp(dir=self.root / "sources")), source)

    def unpack(self, archive: Archive) -> Path:
        """What machine/run.sh does before it runs the tool."""
        folder = self.root / "srv/incoming" / archive.id
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(0o700)
        shutil.copy(archive.path, f"{folder}.tar.gz")
        subprocess.run(["tar", "-xzf", f"{folder}.tar.gz", "-C", folder, "--no-same-owner"], check=True)
        return folder

    def run(
        self, folder: Path, stdin: str, python: str = sys.executable, wanted: int = 0, verb: str = "apply"
    ) -> tuple[int, str]:
        """Run the tool. Returns its exit status and what it printed, which never holds a traceback."""
        self.manager.look()
        self.commands.clear()
        self.history.clear()
        (self.root / "stdin").write_text(stdin)
        driver = _driver(python)
        assert driver.stdin
        assert driver.stdout
        driver.stdin.write(json.dumps([str(self.root), verb, str(folder)]) + "\n")
        driver.stdin.flush()
        self.tool = int(driver.stdout.readline())
        status = os.waitstatus_to_exitcode(int(driver.stdout.readline()))
        with self._busy:  # A killed tool's last command has ended before another asks.
            self.tool = None
        self.manager.look()
        (self.root / "stdin").unlink()
        text = (self.root / "output").read_text()
        assert "Traceback" not in text, text
        assert status == wanted, text
        return status, text

    def apply(
        self, archive: Archive, env: dict[str, str] | None = None, address: str | None = None, **options: Any
    ) -> str:
        """Unpack a release and run its tool with an environment. Returns what it printed."""
        parts = {"env": env or {}, "files": {}, **({"address": address} if address else {})}
        return self.run(self.unpack(archive), json.dumps(parts), **options)[1]

    def kept(self, words: str, **options: Any) -> str:
        """Run the command wsgi-ecs-release with these words. Returns as apply()."""
        return self.run(self.root, "", verb=f"kept {words}", **options)[1]

    def prepare(self, archive: Archive | None = None, **options: Any) -> str:
        """Put what the sites share in place, by default what the server's own settings say. Returns as apply()."""
        return self.run(self.unpack(archive or self.host()), "", verb="prepare", **options)[1]
