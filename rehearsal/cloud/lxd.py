"""A thin adapter to LXD, or to Incus: the REST API on the local socket.

The socket costs about 2 ms a request, where a process of `lxc query` costs about 50 ms.
https://documentation.ubuntu.com/lxd/en/latest/rest-api/
"""

import http.client
import json
import socket
import time
from collections.abc import Callable, Sequence
from typing import Any, TypeVar
from urllib.parse import quote, urlencode

from pydantic import TypeAdapter

from rehearsal.cloud import daemon
from rehearsal.engine.errors import RehearsalError

# Keys in the config of networks, ACLs, machines and volumes: which stack, switch and security group they belong to.
_TAG = "user.wsgi-ecs."
STACK_TAG, SWITCH_TAG, GROUP_TAG = f"{_TAG}stack", f"{_TAG}switch", f"{_TAG}group"
# Keys in the config of the machines of a scaling group; see members.
SCALING_TAG, CONFIGURATION_TAG = f"{_TAG}scaling-group", f"{_TAG}configuration"
ADDRESS_TAG, SERVED_TAG, LEAVING_TAG = f"{_TAG}address", f"{_TAG}served", f"{_TAG}leaving"
T = TypeVar("T")
_ANSWER = TypeAdapter(dict[str, Any])
# Seconds for the answer to a GET or a written file. Other requests and operations have no limit.
_PATIENCE: float = 60
# What LXD and Incus say without users for machines, and what helps:
# https://linuxcontainers.org/incus/docs/main/userns-idmap/
_NO_RANGE = ("doesn't have a uid/gid allocation", "doesn't have a functional idmap setup")
_RANGE = "root:1000000:1000000000"


class LxdError(RehearsalError):
    """LXD refused or failed; the text is LXD's own, and what helps if that is known. `code` is the HTTP status."""

    def __init__(self, message: str, code: int = 0) -> None:
        if any(text in message for text in _NO_RANGE):
            message += (
                f"; run: echo {_RANGE} | sudo tee -a /etc/subuid /etc/subgid, "
                f"restart {daemon.name()} ({daemon.current().restart}) and run the same again"
            )
        super().__init__(message)
        self.code = code


class _Connection(http.client.HTTPConnection):
    def __init__(self, path: str, timeout: float | None) -> None:
        super().__init__("lxd", timeout=timeout)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


def reachable() -> bool:
    """Whether an LXD daemon answers."""
    try:
        Lxd().get("/1.0")
    except (LxdError, OSError):
        return False
    return True


def retry_busy(action: Callable[[], T], seconds: float = 60) -> T:
    """Do something that LXD may refuse while it is busy with what a killed run began.

    The action is retried for `seconds`; then LXD's last LxdError is raised.
    """
    deadline = time.monotonic() + seconds
    while True:
        try:
            return action()
        except LxdError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.5)


class Lxd:
    """LXD seen from one project. Safe to use from several threads."""

    def __init__(self, project: str = "default") -> None:
        self.project = project

    def get(self, path: str, **query: str) -> Any:
        return self.request("GET", path, None, query)

    def find(self, path: str, **query: str) -> Any | None:
        """Like get; None when there is no such object."""
        try:
            return self.get(path, **query)
        except LxdError as error:
            if error.code == 404:
                return None
            raise

    def post(self, path: str, body: Any, **query: str) -> Any:
        return self.request("POST", path, body, query)

    def put(self, path: str, body: Any, **query: str) -> Any:
        return self.request("PUT", path, body, query)

    def patch(self, path: str, body: Any, **query: str) -> Any:
        return self.request("PATCH", path, body, query)

    def delete(self, path: str, **query: str) -> bool:
        """Delete an object. Returns whether it existed."""
        try:
            self.request("DELETE", path, None, query)
        except LxdError as error:
            if error.code == 404:
                return False
            raise
        return True

    def request(self, method: str, path: str, body: Any, query: dict[str, str]) -> Any:
        """One request; an operation is awaited. Returns its metadata. Raises LxdError."""
        deadline = time.monotonic() + 10
        while True:
            try:
                return self._request(method, path, body, query)
            except LxdError as error:
                # Retry, because LXD asks every network whether it uses an ACL and fails with a 404 when a network, even
                # one of another stack, is deleted at that moment. The 404 is not about the requested object.
                if "ACL usage" not in str(error) or time.monotonic() > deadline:
                    raise
            time.sleep(0.1)

    def _request(self, method: str, path: str, body: Any, query: dict[str, str]) -> Any:
        patience = _PATIENCE if method == "GET" else None
        answer = self._send(method, path, body, {"project": self.project, **query}, patience)
        if answer.get("type") == "async":
            wait = answer["operation"].split("?")[0] + "/wait"
            answer = self._send("GET", wait, None, {"project": self.project}, None)
            operation = answer.get("metadata") or {}
            if operation.get("status_code", 200) >= 400:
                # LXD may notice a missing object only when the operation runs.
                message = operation.get("err") or "the operation failed"
                raise LxdError(message, 404 if "not found" in message.lower() else 0)
            return operation
        return answer.get("metadata")

    def _send(self, method: str, path: str, body: Any, query: dict[str, str], patience: float | None) -> dict[str, Any]:
        text = None if body is None else json.dumps(body).encode()
        headers = {"Content-Type": "application/json"}
        return self._exchange(method, f"{path}?{urlencode(query)}", text, headers, patience)

    def _exchange(
        self, method: str, target: str, body: bytes | None, headers: dict[str, str], patience: float | None
    ) -> dict[str, Any]:
        answer = self._answer(_ANSWER.validate_json, method, target, body, headers, patience)
        if answer.get("type") == "error":
            raise LxdError(str(answer.get("error")), int(answer.get("error_code", 0)))
        return answer

    def _answer(
        self,
        read: Callable[[bytes], T],
        method: str,
        target: str,
        body: bytes | None,
        headers: dict[str, str],
        patience: float | None,
    ) -> T:
        """What `read` makes of an answer; its ValueError and broken HTTP are an LxdError."""
        used = daemon.current()
        where = used.socket
        connection = _Connection(str(where), patience)
        try:
            connection.request(method, target, body, headers)
            return read(connection.getresponse().read())
        except (FileNotFoundError, NotADirectoryError):
            raise LxdError(f"{daemon.name()} is not running here; ./rehearse setup installs and starts it") from None
        except OSError as error:
            raise LxdError(f"{used.name} does not answer on {where}: {error.strerror or error}") from None
        except (http.client.HTTPException, ValueError):
            raise LxdError(
                f"{where}: what answers is not {used.name}, or is broken; "
                f"restart {used.name} ({used.restart}) and run the same again"
            ) from None
        finally:
            connection.close()

    def exec(self, instance: str, command: Sequence[str], timeout: float = 30) -> str:
        """Run a command in a machine, return its stdout. `timeout` in seconds. Raises LxdError."""
        code, out, err = self._exec(instance, command, timeout)
        if code:
            text = (err or out).decode(errors="replace").strip()
            raise LxdError(f"{instance}: {' '.join(command)} exited {code}: {text}")
        return out.decode(errors="replace")

    def exec_bytes(self, instance: str, command: Sequence[str], timeout: float = 120) -> bytes | None:
        """Like exec, for binary output; None when the command failed."""
        code, out, _ = self._exec(instance, command, timeout)
        return None if code else out

    def _exec(self, instance: str, command: Sequence[str], timeout: float) -> tuple[int, bytes, bytes]:
        """Exit code, stdout and stderr. LXD records both in files, because `lxc exec` loses output at times."""
        project = {"project": self.project}
        body = {"command": list(command), "record-output": True, "wait-for-websocket": False, "interactive": False}
        begun = self._send("POST", f"/1.0/instances/{quote(instance)}/exec", body, project, _PATIENCE)
        wait = {**project, "timeout": str(int(timeout))}
        operation = self._send("GET", f"{begun['operation'].split('?')[0]}/wait", None, wait, timeout + _PATIENCE)
        ended = operation.get("metadata") or {}
        if ended.get("status_code") != 200:
            why = ended.get("err") or f"took more than {timeout:.0f} s"
            raise LxdError(f"{instance}: {' '.join(command)} {why}")
        files = ended["metadata"]["output"]
        out, err = (self._recorded(files[number]) for number in ("1", "2"))
        return int(ended["metadata"]["return"]), out, err

    def _recorded(self, path: str) -> bytes:
        """The text of a file with recorded output, which is removed."""
        content = self._answer(bytes, "GET", f"{path}?{urlencode({'project': self.project})}", None, {}, _PATIENCE)
        self.delete(path)
        return content

    def write(self, instance: str, path: str, text: str, mode: str = "0600") -> None:
        """Put a text file, owned by root, into a machine."""
        target = f"/1.0/instances/{quote(instance)}/files?{urlencode({'project': self.project, 'path': path})}"
        values = {"uid": "0", "gid": "0", "mode": mode, "type": "file"}
        headers = {daemon.current().header + key: value for key, value in values.items()}
        self._exchange("POST", target, text.encode(), headers, _PATIENCE)
