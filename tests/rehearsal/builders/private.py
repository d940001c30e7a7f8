"""Private packages on a machine itself: an index and a git server that want a login, and a git server over SSH."""

import base64
import io
import subprocess
import tarfile
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import ed25519
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from tests.builders.forms import Marks
from tests.rehearsal.builders.stack import Stack, entering, lxd

PORT = 8900
ROOT = "/srv/private"
# An answer that varies with the login is cached by pip together with the login.
SERVER = """
import base64, functools, http.server, sys

LOGIN = "Basic " + base64.b64encode(sys.stdin.buffer.readline().strip()).decode()

class Handler(http.server.SimpleHTTPRequestHandler):
    def do_GET(self):
        if self.headers.get("Authorization") == LOGIN:
            return super().do_GET()
        self.send_response(401)
        self.send_header("WWW-Authenticate", 'Basic realm="private"')
        self.send_header("Content-Length", "0")
        self.end_headers()

    def end_headers(self):
        self.send_header("Vary", "Authorization")
        self.send_header("Cache-Control", "max-age=600")
        super().end_headers()

handler = functools.partial(Handler, directory=sys.argv[1])
http.server.ThreadingHTTPServer(("127.0.0.1", int(sys.argv[2])), handler).serve_forever()
"""
PROJECT = """[project]
name = "{name}"
version = "1.0"
[build-system]
requires = ["setuptools>=61"]
build-backend = "setuptools.build_meta"
[tool.setuptools]
py-modules = ["{module}"]
"""


def files(name: str) -> dict[str, str]:
    """File → text of a package with one module."""
    module = name.replace("-", "_")
    return {"pyproject.toml": PROJECT.format(name=name, module=module), f"{module}.py": "ANSWER = 42\n"}


def sdist(name: str) -> bytes:
    """A package that pip has to build, for which it starts a pip of its own."""
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w:gz") as archive:
        for file, text in {**files(name), "PKG-INFO": f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n"}.items():
            entry = tarfile.TarInfo(f"{name}-1.0/{file}")
            entry.size = len(text)
            archive.addfile(entry, io.BytesIO(text.encode()))
    return data.getvalue()


def put(path: str, content: bytes) -> str:
    """Line of a script that writes a file on the machine."""
    return f"mkdir -p $(dirname {path}); echo {base64.b64encode(content).decode()} | base64 -d >{path}"


def repository(name: str, path: str) -> str:
    """Lines of a script that make a bare git repository of a package, readable without a git server, too."""
    made = [put(f"/root/{name}/{file}", text.encode()) for file, text in files(name).items()]
    git = f"git -C /root/{name} -c user.name=x -c user.email=x@example.test"
    return "\n".join(
        [
            *made,
            f"git init -q /root/{name} && {git} add . && {git} commit -qm first",
            f"git clone -q --bare /root/{name} {path} && git -C {path} update-server-info",
        ]
    )


def serve(stack: Stack, password: str) -> str:
    """Start the servers. Returns the private key that the one over SSH takes."""
    key = ed25519.Ed25519PrivateKey.generate()
    public = key.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH)
    page = b'<a href="private-tool-1.0.tar.gz">private-tool-1.0.tar.gz</a>'
    stack.shell(
        "\n".join(
            [
                "set -e",
                put(f"{ROOT}/simple/private-tool/index.html", page),
                put(f"{ROOT}/simple/private-tool/private-tool-1.0.tar.gz", sdist("private-tool")),
                repository("over-http", f"{ROOT}/over-http.git"),
                "useradd --create-home git",
                repository("over-ssh", "/home/git/over-ssh.git"),
                put("/home/git/.ssh/authorized_keys", public),
                "chown -R git:git /home/git; chmod 700 /home/git/.ssh; chmod 600 /home/git/.ssh/authorized_keys",
                put("/root/server.py", SERVER.encode()),
            ]
        )
    )
    # Not by ./rehearse ssh, whose command line would have the password.
    project = f"wsgi-ecs-{stack.name}"
    (machine,) = lxd(f"/1.0/instances?recursion=1&project={project}")
    command = ["setsid", "python3", "/root/server.py", ROOT, str(PORT)]
    server = subprocess.Popen([*entering(project, machine["name"]), *command], stdin=subprocess.PIPE)
    assert server.stdin
    server.stdin.write(f"ada:{password}\n".encode())
    server.stdin.close()
    return key.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption()).decode()


@contextmanager
def watched(marks: Marks) -> Iterator[set[str]]:
    """The command lines and environments, of any process of the host and its machines, that have a secret meanwhile."""
    ended, found = threading.Event(), set[str]()

    def look() -> None:
        while not ended.wait(0.02):
            for process in Path("/proc").glob("[0-9]*"):
                for name in ("cmdline", "environ"):
                    with suppress(OSError):
                        data = (process / name).read_bytes()
                        if marks.within(data):
                            found.add(f"{name}: {data!r}")

    with ThreadPoolExecutor(1) as pool:
        looking = pool.submit(look)
        try:
            yield found
        finally:
            ended.set()
        looking.result()
