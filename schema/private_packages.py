"""Where private packages come from, and the logins for them."""

import base64
import binascii
import re
from collections.abc import Callable, Iterator
from typing import Annotated, Self
from urllib.parse import SplitResult, unquote, urlsplit

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr, model_validator

from schema.base import Model, Rule, check_rules, sequence

# Quotes, backslashes and # mean something in a netrc file, and not the same to pip and to git.
_TOKEN = r"[!$-&(-\[\]-~]+"  # noqa: S105  A pattern.
_ENTRY = re.compile(rf"\s*machine\s+([A-Za-z0-9.-]+)\s+login\s+({_TOKEN})\s+password\s+({_TOKEN})(?=\s|$)")
_KEY = re.compile(
    r"-----BEGIN (?P<kind>(?!ENCRYPTED)[A-Z ]{0,30}PRIVATE KEY)-----\r?\n"
    r"(?P<body>[A-Za-z0-9+/=\r\n]{50,20000})-----END (?P=kind)-----\s*"
)
_URL = re.compile(r"https?://([^\s@/]+@)?[A-Za-z0-9.-]+(:[0-9]{1,5})?(/[A-Za-z0-9._~%+/-]*)?")
_LONGEST = 10000


def _secret(check: Callable[[str], bool], allowed: str) -> AfterValidator:
    def checked(value: SecretStr) -> SecretStr:
        text = value.get_secret_value()
        if len(text) > _LONGEST or not check(text):
            raise ValueError(f"allowed: {allowed}")
        return value

    return AfterValidator(checked)


def _is_netrc(text: str) -> bool:
    return bool(text.strip()) and not _ENTRY.sub("", text).strip()


def _is_key(text: str) -> bool:
    """Whether a text is a private key that is not encrypted by a passphrase."""
    match = _KEY.fullmatch(text)
    if match is None:
        return False
    try:
        data = base64.b64decode("".join(match["body"].split()), validate=True)
    except binascii.Error:
        return False
    # https://github.com/openssh/openssh-portable/blob/master/PROTOCOL.key
    magic = b"openssh-key-v1\0"
    return not data.startswith(magic) or data[len(magic) :].startswith(b"\0\0\0\4none")


def _is_index(text: str) -> bool:
    if not _URL.fullmatch(text):
        return False
    try:
        url = urlsplit(text)
    except ValueError:
        return False
    name, password = _login(url)
    return "@" not in url.netloc or all(re.fullmatch(_TOKEN, part) for part in (name, password))


def _login(url: SplitResult) -> tuple[str, str]:
    return unquote(url.username or ""), unquote(url.password or "")


Netrc = Annotated[
    SecretStr,
    _secret(_is_netrc, "lines such as machine git.example.com login NAME password TOKEN, without quotes or #"),
]
SshKey = Annotated[SecretStr, _secret(_is_key, "the text of a private key file that has no passphrase")]
Index = Annotated[
    SecretStr,
    _secret(
        _is_index, "a URL such as https://index.example.com/simple/ or https://NAME:TOKEN@index.example.com/simple/"
    ),
]


class Pip(Model):
    """https://pip.pypa.io/en/stable/topics/authentication/"""

    index_url: Index | None = Field(
        None,
        description="Package index of the application's requirements, in place of the server's; may hold a login.",
    )
    extra_index_url: Annotated[tuple[Index, ...], BeforeValidator(sequence)] = Field(
        (), description="Further package indexes, such as the one with your own packages; may hold logins."
    )
    netrc: Netrc | None = Field(
        None, description="Logins by which pip and git download over HTTP and HTTPS, in the form of a netrc file."
    )
    ssh_key: SshKey | None = Field(
        None, description="Private key by which git downloads requirements such as git+ssh://, a deploy key."
    )

    @model_validator(mode="after")
    def _one_login_for_a_host(self) -> Self:
        check_rules(self._rules())
        return self

    def _rules(self) -> Iterator[Rule]:
        known: dict[str, tuple[str, str]] = {}
        for key, host, login in self._logins():
            # A netrc file has a host's first login only, and no ports.
            is_other = known.setdefault(host, login) != login
            yield key, is_other, f"a second, different login for {host}", "one login for each host"

    def _logins(self) -> Iterator[tuple[str, str, tuple[str, str]]]:
        """Yield the key, the host, and name and password of each login."""
        for machine, name, password in _ENTRY.findall(self.netrc.get_secret_value() if self.netrc else ""):
            yield "netrc", machine.lower(), (name, password)
        for key, values in (("index_url", (self.index_url,)), ("extra_index_url", self.extra_index_url)):
            for value in filter(None, values):
                url = urlsplit(value.get_secret_value())
                if url.username:
                    yield key, url.hostname or "", _login(url)

    @property
    def has_indexes(self) -> bool:
        return bool(self.index_url or self.extra_index_url)

    @property
    def secrets(self) -> dict[str, SecretStr]:
        """What machine/credentials.py gets: the URLs without their logins, which are in netrc."""
        logins = {host: login for _, host, login in self._logins()}
        entries = [f"machine {host} login {name} password {password}" for host, (name, password) in logins.items()]
        found = {
            "index_url": _without_login(self.index_url) if self.index_url else "",
            "extra_index_url": " ".join(map(_without_login, self.extra_index_url)),
            "netrc": "\n".join(entries),
            "ssh_key": self.ssh_key.get_secret_value() if self.ssh_key else "",
        }
        return {name: SecretStr(text) for name, text in found.items() if text}


def _without_login(value: SecretStr) -> str:
    url = urlsplit(value.get_secret_value())
    return url._replace(netloc=url.netloc.rpartition("@")[2]).geturl()
