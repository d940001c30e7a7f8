"""The proof that a rehearsed site serves: one request to its address, under its own name."""

import time
from dataclasses import dataclass
from urllib.parse import urlsplit

import httpx


@dataclass(frozen=True)
class Answer:
    """line: one line for the user. body: the first lines of what came. status: None without an answer."""

    line: str
    body: str
    status: int | None

    @property
    def good(self) -> bool:
        # A login or another page to begin with is an answer; app.health has decided on the release.
        return self.status is not None and self.status < 500


def prove(url: str, address: str, patience: float = 10) -> Answer:
    """Like request, but `patience` seconds long for a machine that has just restarted: 502 to 504, or silence."""
    deadline = time.monotonic() + patience
    while True:
        answer = request(url, address)
        if answer.status not in (None, 502, 503, 504) or time.monotonic() > deadline:
            return answer
        time.sleep(0.5)


def request(url: str, address: str, timeout: float = 10) -> Answer:
    """GET `url` from `address` (IPv4), with the Host header of the URL. `timeout` in seconds."""
    parts = urlsplit(url)
    port = parts.port or (443 if parts.scheme == "https" else 80)
    target = f"{parts.scheme}://{address}:{port}{parts.path or '/'}"
    started = time.monotonic()
    try:
        # trust_env: a proxy of the host knows nothing of addresses on this machine.
        with httpx.Client(trust_env=False, timeout=timeout) as client:
            answer = client.get(target, headers={"Host": parts.netloc})
    except httpx.HTTPError as error:
        return Answer(f"GET {url} → no answer from {address}:{port}: {error or type(error).__name__}", "", None)
    phrase = answer.reason_phrase
    took = (time.monotonic() - started) * 1000
    line = f"GET {url} → {answer.status_code} {phrase}, {len(answer.content)} bytes, {took:.0f} ms"
    if "server" in answer.headers:
        line += f", Server: {answer.headers['server']}"
    body = "\n".join(answer.text.splitlines()[:10])
    return Answer(line, body, answer.status_code)
