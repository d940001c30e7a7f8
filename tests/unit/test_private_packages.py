"""Private packages: the settings, and how the release tool lends the logins to pip and git."""

import base64
import os
import subprocess
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ed25519
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    KeySerializationEncryption,
    NoEncryption,
    PrivateFormat,
)

from schema.base import SettingsError
from settings.loader import parse
from settings.plain_secrets import warning
from tests.unit.machine import module

FILE = "stacks/Pulumi.test.yaml"
credentials, commands = module("credentials"), module("commands")
LOGIN = "machine git.example.com\n  login ada\n  password t0k%en+/=\n"


def given(**pip: Any) -> dict[str, str]:
    """What the release tool gets of app.pip."""
    secrets = parse({"app": {"pip": pip}}, FILE).sites[0].app.pip.secrets
    return {name: value.get_secret_value() for name, value in secrets.items()}


def key(cipher: KeySerializationEncryption, form: PrivateFormat) -> str:
    return ed25519.Ed25519PrivateKey.generate().private_bytes(Encoding.PEM, form, cipher).decode()


PLAIN = key(NoEncryption(), PrivateFormat.OpenSSH)
# As ssh-keygen begins a key with a passphrase.
SEALED = PLAIN.replace(
    base64.b64encode(b"openssh-key-v1\0\0\0\0\4none").decode()[:28],
    base64.b64encode(b"openssh-key-v1\0\0\0\0\12aes256-ctr").decode()[:28],
)


def test_a_login_of_a_url_goes_into_netrc() -> None:
    found = given(
        index_url="https://bob:p%40ss@Index.example.com:8443/simple/",
        extra_index_url=["https://mirror.example.com/simple/", "http://eve:x@other.example.com"],
        netrc=LOGIN,
    )
    assert found == {
        "index_url": "https://Index.example.com:8443/simple/",
        "extra_index_url": "https://mirror.example.com/simple/ http://other.example.com",
        "netrc": "machine git.example.com login ada password t0k%en+/=\n"
        "machine index.example.com login bob password p@ss\nmachine other.example.com login eve password x",
    }
    assert given() == {}


@pytest.mark.parametrize("text", [SEALED, key(BestAvailableEncryption(b"x"), PrivateFormat.PKCS8), PLAIN[:-40]])
def test_a_key_with_a_passphrase_or_without_its_end_is_refused(text: str) -> None:
    assert given(ssh_key=PLAIN) == {"ssh_key": PLAIN}
    assert given(ssh_key=key(NoEncryption(), PrivateFormat.PKCS8))
    assert text != PLAIN
    with pytest.raises(SettingsError, match="a private key file that has no passphrase"):
        given(ssh_key=text)


def test_what_is_secret_and_in_plain_text_is_warned_of() -> None:
    pip = {"index_url": "https://a:b@x.example.com/", "extra_index_url": "https://y.example.com/", "netrc": LOGIN}
    line = warning(parse({"app": {"pip": pip}}, FILE), lambda site, value: False)
    assert line is not None
    assert line.startswith("app.pip.index_url, app.pip.netrc look like secrets")


class Builder:
    """The build user is this one. seen: what a program of it would see."""

    def __init__(self, home: Path) -> None:
        self.user = SimpleNamespace(pw_dir=str(home))
        self.ended = 0

    def own(self, path: str) -> None:
        assert Path(path).exists()

    def end_leftovers(self) -> None:
        self.ended += 1

    def run(self, *command: str, check: bool = True) -> str:
        if command[1:] == ("config", "list"):
            return "global.index-url='http://mirror/'\nglobal.trusted-host='mirror\\nother'\n"
        return subprocess.run(command, capture_output=True, text=True, check=check).stdout


@pytest.fixture
def builder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Builder:
    (tmp_path / "home/.cache/pip").mkdir(parents=True)
    monkeypatch.setattr(credentials.paths, "RUN", str(tmp_path / "run"))
    return Builder(tmp_path / "home")


def test_the_logins_are_files_that_are_gone_afterwards(tmp_path: Path, builder: Builder) -> None:
    cached = tmp_path / "home/.cache/pip/answer"
    own = given(netrc=LOGIN, ssh_key=PLAIN, extra_index_url="http://x.example:80/")
    with credentials.lent(builder, own, "debian12", "pip") as variables:
        assert (tmp_path / "home/.netrc").read_text() == own["netrc"] + "\n"
        (folder,) = tmp_path.glob("run-pip-*")
        assert folder.stat().st_mode & 0o777 == 0o700
        assert {path.name: path.stat().st_mode & 0o777 for path in folder.iterdir()} == dict.fromkeys(
            ("netrc", "key", "ssh_config"), 0o600
        )
        ssh = variables.pop("GIT_SSH")
        assert f"ssh -F {folder}/ssh_config" in Path(ssh).read_text()
        assert os.access(ssh, os.X_OK)
        assert variables == {
            "PIP_NO_INPUT": "1",
            "GIT_TERMINAL_PROMPT": "0",
            "PIP_EXTRA_INDEX_URL": "http://x.example:80/",
            "PIP_TRUSTED_HOST": "mirror other x.example:80",
        }
        # base64 of ada:t0k%en+/=
        cached.write_bytes(b"\0vary Basic YWRhOnQwayVlbisvPQ==\0")
        (tmp_path / "home/.cache/pip/other").write_text("Basic")
    assert builder.ended == 2
    assert not cached.exists()
    assert sorted(path.name for path in (tmp_path / "home").rglob("*")) == [".cache", "other", "pip"]
    assert list(tmp_path.glob("run*")) == []


def test_a_password_that_is_a_word_takes_no_wheel_apart(tmp_path: Path, builder: Builder) -> None:
    cache = tmp_path / "home/.cache"
    wheel, answer = cache / "uv/archive-v0/x/requests/auth.py", cache / "pip/http-v2/a/b"
    for path in (wheel, answer):
        path.parent.mkdir(parents=True)
        path.write_text("the password is password")
    with credentials.lent(builder, given(netrc="machine a.example login ada password password"), "debian12", "pip"):
        pass
    assert wheel.exists()
    assert not answer.exists()


def test_what_a_killed_run_has_left_goes(tmp_path: Path, builder: Builder) -> None:
    (tmp_path / "run-pip-x").mkdir()
    (tmp_path / "home/.netrc").symlink_to(tmp_path / "run-pip-x/netrc")
    (tmp_path / "home/pip-ssh").mkdir()
    credentials.remove_leftovers(builder)
    assert sorted(path.name for path in (tmp_path / "home").iterdir()) == [".cache"]
    assert not (tmp_path / "run-pip-x").exists()


def test_the_logins_go_when_the_installation_fails(tmp_path: Path, builder: Builder) -> None:
    with pytest.raises(commands.ReleaseError), credentials.lent(builder, given(netrc=LOGIN), "debian12", "pip"):
        raise commands.ReleaseError("pip ended with 1")
    assert not os.path.lexists(tmp_path / "home/.netrc")


def test_without_logins_nothing_is_written(tmp_path: Path, builder: Builder) -> None:
    with credentials.lent(builder, given(index_url="https://x.example.com/"), "debian12", "pip") as variables:
        assert variables["PIP_INDEX_URL"] == "https://x.example.com/"
        assert list(tmp_path.glob("run*")) == []
    assert builder.ended == 0


def test_what_pip_prints_has_no_login() -> None:
    error = commands.ReleaseError("pip ended with 1", "for ada at t0k%en+/= and t0k%25en%2B%2F%3D", "")
    error.output = error.lines
    credentials.mask(error, given(netrc=LOGIN))
    assert error.lines == error.output == "for ada at *** and ***"
