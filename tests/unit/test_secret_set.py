"""`./rehearse secret set`, and edits of a stack's file that leave the rest of its text alone."""

import io
import sys
from pathlib import Path
from typing import Any

import click
import pytest
import yaml
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st

from rehearsal import cli
from rehearsal.commands import passphrase, secret
from rehearsal.commands.stack_edit import Change, edited
from rehearsal.commands.stack_file import load
from rehearsal.commands.yaml_edit import with_value
from rehearsal.engine.errors import UserError
from tests.builders.encrypted import ENCRYPTION_SALT, PASSPHRASE, encrypt

VALUE = "correct horse: battery #1"
FILE = """\
# The stack of the shop.
config:
  alicloud:region: cn-hangzhou   # near its customers

  wsgi-ecs:app:                  # the shop
    source: ../shop
    env:
      # Shown on every page.
      TITLE: 'The "Shop"'
  # Small.
  server: {os: debian12}
"""


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "Pulumi.yaml").write_text("name: wsgi-ecs\nstackConfigDir: stacks\n")
    (tmp_path / "stacks").mkdir()
    (tmp_path / "stacks/Pulumi.shop.yaml").write_text(FILE)
    monkeypatch.setattr(cli, "ROOT", tmp_path)
    monkeypatch.setenv(passphrase.VARIABLE, PASSPHRASE)
    monkeypatch.delenv(passphrase.FILE_VARIABLE, raising=False)
    return tmp_path


def content(root: Path) -> str:
    return (root / "stacks/Pulumi.shop.yaml").read_text()


def test_what_is_set_is_listed_without_its_value(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    listed = CliRunner().invoke(cli.main, ["secret", "list", "--stack", "shop"])
    assert (listed.exit_code, listed.output) == (0, "stacks/Pulumi.shop.yaml: no encrypted value\n")
    for key in ("app.env.TOKEN", "mysql.password", 'nginx.auth_basic_users["ada l"]'):
        run(root, key)
    monkeypatch.delenv(passphrase.VARIABLE)
    listed = CliRunner().invoke(cli.main, ["secret", "list", "--stack", "shop"])
    assert listed.output == "app.env.TOKEN\nmysql.password\n"


def run(root: Path, key: str, value: str | bytes = f"{VALUE}\n") -> str:
    done = CliRunner().invoke(cli.main, ["secret", "set", key, "--stack", "shop"], input=value)
    assert VALUE not in done.output + content(root)
    assert done.exit_code in (0, 2), done.output
    return done.output


def refusal(root: Path, key: str, value: str | bytes = f"{VALUE}\n") -> str:
    before = content(root)
    (line,) = run(root, key, value).splitlines()
    assert content(root) == before
    assert list((root / "stacks").iterdir()) == [root / "stacks/Pulumi.shop.yaml"]
    return line.removeprefix("rehearse: stacks/Pulumi.shop.yaml: ")


def test_a_value_is_written_as_pulumi_writes_it_and_every_line_stays(root: Path) -> None:
    assert run(root, "app.env.TOKEN") == (
        "stacks/Pulumi.shop.yaml: app.env.TOKEN is set, encrypted; the next up brings it to the servers\n"
    )
    stack = load(root, "shop")
    assert stack.config["wsgi-ecs:app"] == (
        '{"source": "../shop", "env": {"TITLE": "The \\"Shop\\"", "TOKEN": "correct horse: battery #1"}}'
    )
    assert stack.secrets == {VALUE}
    added = [line for line in content(root).splitlines() if line not in FILE.splitlines()]
    assert [line.split(":")[0] for line in added] == ["      TOKEN", "        secure", "encryptionsalt"]
    assert [line for line in content(root).splitlines() if line not in added] == FILE.splitlines()


def test_a_second_value_and_a_new_one_are_encrypted_by_the_same_salt(root: Path) -> None:
    run(root, "app.env.TOKEN", "old")
    salt = yaml.safe_load(content(root))["encryptionsalt"]
    for key in ("wsgi-ecs:app.env.TOKEN", "app.env.TITLE", 'nginx.auth_basic_users["ada.b"]'):
        run(root, key, "$6$saltsalt$" + "a" * 86 if "nginx" in key else f"{VALUE}\r\n")
    assert yaml.safe_load(content(root))["encryptionsalt"] == salt
    assert load(root, "shop").secrets == {VALUE, "$6$saltsalt$" + "a" * 86}
    assert content(root).count("TOKEN") == content(root).count("TITLE") == 1


def test_a_site_has_secrets_of_its_own(root: Path) -> None:
    assert refusal(root, "sites.blog.app.env.A") == (
        "sites.blog: no such site; allowed: none yet; for a stack without sites, app.env.TOKEN"
    )
    (root / "stacks/Pulumi.shop.yaml").write_text("config:\n  wsgi-ecs:sites:\n    shop: {}\n    blog:\n")
    assert refusal(root, "sites.blgo.app.env.A") == "sites.blgo: no such site; allowed: shop, blog"
    run(root, "sites.shop.app.env.A")
    run(root, "sites.blog.app.env.B", "b: 2\nand a line")
    assert load(root, "shop").secrets == {VALUE, "b: 2\nand a line"}


def test_a_multi_line_key_keeps_its_lines(root: Path) -> None:
    run(root, "app.env.PEM", "-----BEGIN\nabc\n-----END\n")
    assert load(root, "shop").secrets == {"-----BEGIN\nabc\n-----END"}


def test_the_logins_for_private_packages_are_set_like_any_secret(root: Path) -> None:
    netrc = "machine git.example.com\n  login ada\n  password t0ken"
    index = "https://ada:t0ken@index.example.com/simple/"
    run(root, "app.pip.netrc", netrc + "\n")
    run(root, "app.pip.extra_index_url", index)
    assert load(root, "shop").secrets == {netrc, index}
    assert refusal(root, "app.pip.ssh_key", "~/.ssh/id_ed25519") == (
        "app.pip.ssh_key: allowed: the text of a private key file that has no passphrase"
    )


@pytest.mark.parametrize(
    ("key", "message"),
    [
        ("app", "app: no setting; allowed: a key such as app.env.TOKEN or sites.shop.app.env.TOKEN"),
        ("app..x", "app..x: no setting; allowed: a key such as app.env.TOKEN or sites.shop.app.env.TOKEN"),
        (
            "app.env.A\nB",
            "'app.env.A\\nB': no setting; allowed: a key such as app.env.TOKEN or sites.shop.app.env.TOKEN",
        ),
        ("app.env.1A", "app.env.1A: allowed: a name such as DATABASE_URL"),
        ("app.evn.A", "app.evn: unknown key; allowed: env, source, module, "),
        ("apps.env.A", "apps: unknown key; allowed: app, "),
        ("app.env", "app.env: allowed: a map of keys"),
        ("app.source.x", "app.source: encrypted or plain as a whole; allowed: a map of keys"),
        ("server.os", "server.os: got [secret]; allowed: "),
    ],
)
def test_a_wrong_key_is_refused_in_one_line(root: Path, key: str, message: str) -> None:
    assert refusal(root, key).startswith(message)


def test_a_whole_section_that_is_encrypted_is_not_edited(root: Path) -> None:
    text = f"encryptionsalt: {ENCRYPTION_SALT}\nconfig:\n  app:\n    secure: {encrypt('{}')}\n"
    (root / "stacks/Pulumi.shop.yaml").write_text(text)
    assert refusal(root, "app.env.A") == "app: encrypted or plain as a whole; allowed: a map of keys"


def test_what_another_setting_lacks_is_no_reason_to_refuse_this_one(root: Path) -> None:
    (root / "stacks/Pulumi.shop.yaml").write_text("config:\n  wsgi-ecs:mysql: {port: 3307}\n")
    run(root, "app.env.A")
    run(root, "mysql.password")
    assert load(root, "shop").secrets == {VALUE}


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ("", "app.env.A: empty; allowed: a value on standard input, or typed at the prompt"),
        (b"\xff\xfe", "app.env.A: not UTF-8; allowed: text on standard input"),
        ("a\0b", "app.env.A: allowed: any text without NUL characters"),
    ],
)
def test_a_wrong_value_is_refused(root: Path, value: str | bytes, reason: str) -> None:
    assert refusal(root, "app.env.A", value) == reason


@pytest.mark.parametrize(
    ("text", "phrase", "reason"),
    [
        (
            FILE,
            None,
            "no passphrase is set; allowed: PULUMI_CONFIG_PASSPHRASE or PULUMI_CONFIG_PASSPHRASE_FILE in the ",
        ),
        (
            f"encryptionsalt: {ENCRYPTION_SALT}\n",
            "another",
            "its secrets are encrypted with another passphrase than PULUMI_CONFIG_PASSPHRASE; allowed: the stack's own",
        ),
        ("encryptionsalt: v1:x\n", "x", "encryptionsalt: damaged; allowed: the line that Pulumi wrote"),
        (
            "secretsprovider: awskms://x\n",
            "x",
            "its secrets are encrypted by another secrets provider; allowed: passphrase",
        ),
        (
            "config: {a: {secure: v1:x}}\n",
            "x",
            "its secrets are encrypted, but not with a passphrase, since encryption",
        ),
        ("? config\n: ? wsgi-ecs:app\n  : module: x\n? x\n", "x", "x: unknown key; allowed: config, "),
    ],
)
def test_a_file_or_a_passphrase_that_does_not_fit_is_refused(
    root: Path, monkeypatch: pytest.MonkeyPatch, text: str, phrase: str | None, reason: str
) -> None:
    (root / "stacks/Pulumi.shop.yaml").write_text(text)
    monkeypatch.delenv(passphrase.VARIABLE)
    if phrase:
        monkeypatch.setenv(passphrase.VARIABLE, phrase)
    assert refusal(root, "app.env.A").startswith(reason)


def test_on_a_terminal_value_and_passphrase_are_asked_for(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, Any]] = []

    def prompt(text: str, *, hide_input: bool, confirmation_prompt: Any, err: bool) -> str:
        assert hide_input and err
        asked.append((text, confirmation_prompt))
        return VALUE if text == "value" else PASSPHRASE

    terminal = io.StringIO()
    monkeypatch.setattr(terminal, "isatty", lambda: True)
    monkeypatch.setattr(sys, "stdin", terminal)
    monkeypatch.setattr(click, "prompt", prompt)
    monkeypatch.delenv(passphrase.VARIABLE)
    for name in ("A", "B"):
        assert secret.set_secret(root, "shop", f"app.env.{name}") == 0
    assert asked == [
        ("value", False),
        ("new passphrase, which encrypts this stack's secrets", "the same passphrase again"),
        ("value", False),
        ("passphrase of this stack", False),
    ]
    monkeypatch.setenv(passphrase.VARIABLE, PASSPHRASE)
    assert load(root, "shop").secrets == {VALUE}


def test_the_mode_of_the_file_stays_and_a_link_stays_a_link(root: Path) -> None:
    file = root / "stacks/Pulumi.shop.yaml"
    file.rename(root / "elsewhere.yaml")
    (root / "elsewhere.yaml").chmod(0o640)
    file.symlink_to("../elsewhere.yaml")
    run(root, "app.env.A")
    assert file.is_symlink()
    assert (root / "elsewhere.yaml").stat().st_mode & 0o777 == 0o640
    assert load(root, "shop").secrets == {VALUE}


EDITS = [
    ("", "a: 1", "# why\na: 1\n"),
    ("a: 0  # old\n", "a: 1", "a: 1  # old\n"),
    ("a: |\n  x\n\n# c\nb: 2", "a: 1", "a: 1\n# c\nb: 2"),
    ("a:  # c\nb: 2", "a.b: 1", "a:\n  # why\n  b: 1  # c\nb: 2"),
    ("a: {}  # c\n", "a.b.c: 1", "a:\n  b:\n    # why\n    c: 1  # c\n"),
    ("a: {b: 1} # c\n", "a.c.d: [x, y]", "a: {b: 1, c: {d: [x, y]}} # c\n"),
    (
        "a:\n    b:\n    - x   # c\n\n# d\nc: 3\n",
        "a.e: true",
        "a:\n    b:\n    - x   # c\n    # why\n    e: true\n\n# d\nc: 3\n",
    ),
    ("a:\r\n  b: 1\r\n", "a.c: 1", "a:\r\n  b: 1\r\n  # why\r\n  c: 1\r\n"),
    ("a:\n  b: 1", "a.c: 1", "a:\n  b: 1\n  # why\n  c: 1\n"),
    ("a: {b: 1}\n", "a: {secure: x}", "a:\n  secure: x\n"),
]


@pytest.mark.parametrize(("text", "change", "result"), EDITS)
def test_an_edit_changes_its_own_lines_only(text: str, change: str, result: str) -> None:
    ((path, value),) = yaml.safe_load(change).items()
    assert with_value(text, path.split("."), value, ["why"]) == result


@pytest.mark.parametrize("text", ["a: &x {b: 1}\nc: *x\n", "a: [1]\n", "- a\n", "a: text\n", "? a\n"])
def test_a_form_that_would_change_more_is_not_edited(text: str) -> None:
    with pytest.raises(UserError, match="allowed: "):
        edited(text.encode(), [Change(("a", "c"), 1)], Path("f"))


KEY = st.sampled_from(["a", "b", "wsgi-ecs:c", "12", "y", "a b", "#", "é"])
LEAF = (
    st.none() | st.booleans() | st.integers() | st.text("ab:# '\"\n-{}é,\t&*") | st.lists(st.text("ab:#"), max_size=3)
)
TREE = st.recursive(LEAF, lambda inner: st.dictionaries(KEY, inner, max_size=3))


# How long an example takes says nothing.
@settings(deadline=None)
@given(
    st.dictionaries(KEY, TREE, min_size=1),
    st.lists(KEY, min_size=1, max_size=3),
    TREE,
    st.sampled_from([None, False, True]),
)
def test_any_edit_either_means_what_it_says_or_is_refused(
    before: dict[str, Any], path: list[str], value: Any, flow: bool | None
) -> None:
    text = yaml.safe_dump(before, default_flow_style=flow, allow_unicode=True, sort_keys=False)
    change = Change(tuple(path), value, ("why",))
    below: Any = before
    for key in path[:-1]:
        below = {} if below is None else below
        below = below.get(key) if isinstance(below, dict) else "text"
    if below is None or isinstance(below, dict):
        edited(text.encode(), [change], Path("f"))
    else:
        with pytest.raises(UserError):
            edited(text.encode(), [change], Path("f"))
