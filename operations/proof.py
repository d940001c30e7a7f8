"""The proof that a rehearsed site serves: one request to its address with its own host name."""

import re
import ssl
import time
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import SplitResult, urlsplit

import httpx


@dataclass(frozen=True)
class Answer:
    """An answer of a site. line: for the user. body: its first lines. status: None when there was no answer."""

    line: str
    body: str
    status: int | None

    @property
    def good(self) -> bool:
        # Accept redirects and errors such as 401: app.health has already decided whether the release is good.
        return self.status is not None and self.status < 500


def prove(url: str, address: str, ca: Path | None = None, patience: float = 10) -> Answer:
    """Like request, but retry 502 to 504 and no answer for `patience` seconds: the machine may have just restarted."""
    deadline = time.monotonic() + patience
    while True:
        answer = request(url, address, ca)
        if answer.status not in (None, 502, 503, 504) or time.monotonic() > deadline:
            return answer
        time.sleep(0.5)


def request(url: str, address: str, ca: Path | None = None, timeout: float = 10) -> Answer:
    """GET `url` from `address` (IPv4), with the Host header of the URL. `timeout` in seconds.

    ca: file with the roots that vouch for the site, None for the roots of this host. A certificate that no root vouches
    for, such as a placeholder until the real one is issued, is reported and is no failure.
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
            # Retry without verification: the program has already checked a certificate from the settings.
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
    # Ignore the environment, because a proxy of this host cannot reach addresses on this host.
    with httpx.Client(trust_env=False, timeout=timeout, verify=context) as client:
        return client.get(target, headers={"Host": parts.netloc}, extensions={"sni_hostname": parts.hostname})
