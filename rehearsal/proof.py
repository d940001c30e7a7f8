"""The proof that a rehearsed site serves: one request to its address, under its own name."""

import re
import ssl
import time
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import SplitResult, urlsplit

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


def prove(url: str, address: str, ca: Path | None = None, patience: float = 10) -> Answer:
    """Like request, but `patience` seconds long for a machine that has just restarted: 502 to 504, or silence."""
    deadline = time.monotonic() + patience
    while True:
        answer = request(url, address, ca)
        if answer.status not in (None, 502, 503, 504) or time.monotonic() > deadline:
            return answer
        time.sleep(0.5)


def request(url: str, address: str, ca: Path | None = None, timeout: float = 10) -> Answer:
    """GET `url` from `address` (IPv4), with the Host header of the URL. `timeout` in seconds.

    ca: file with the roots that vouch for the site, None for those of this host. A certificate that nobody
    vouches for, such as one that is still to come, is told and no failure.
    """
    parts = urlsplit(url)
    port = parts.port or (443 if parts.scheme == "https" else 80)
    target = f"{parts.scheme}://{address}:{port}{parts.path or '/'}"
    started = time.monotonic()
    try:
        verified = ""
        try:
            answer = _get(target, parts, timeout, ssl.create_default_context(cafile=ca))
            if parts.scheme == "https":
                verified = ", certificate verified"
        except httpx.ConnectError as error:
            found = re.search(r"certificate verify failed: (.*?)(?: \(_ssl|$)", str(error))
            if not found:
                raise
            # The program's own settings have checked what is given.
            answer = _get(target, parts, timeout, ssl._create_unverified_context())  # noqa: S323
            verified = f", certificate not verified: {found[1]}"
    except httpx.HTTPError as error:
        return Answer(f"GET {url} → no answer from {address}:{port}: {error or type(error).__name__}", "", None)
    phrase = answer.reason_phrase
    took = (time.monotonic() - started) * 1000
    line = f"GET {url} → {answer.status_code} {phrase}, {len(answer.content)} bytes, {took:.0f} ms"
    if "server" in answer.headers:
        line += f", Server: {answer.headers['server']}"
    line += verified
    body = "\n".join(answer.text.splitlines()[:10])
    return Answer(line, body, answer.status_code)


def _get(target: str, parts: SplitResult, timeout: float, context: ssl.SSLContext) -> httpx.Response:
    # trust_env: a proxy of the host knows nothing of addresses on this machine.
    with httpx.Client(trust_env=False, timeout=timeout, verify=context) as client:
        return client.get(target, headers={"Host": parts.netloc}, extensions={"sni_hostname": parts.hostname})
