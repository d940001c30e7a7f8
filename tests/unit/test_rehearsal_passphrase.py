"""Encrypted values of a stack's file, as Pulumi's passphrase provider writes them."""

import base64
import hashlib
import importlib
import io
import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pytest
import yaml
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

from rehearsal.cloud import lock
from rehearsal.cloud.registry import PROVIDER
from rehearsal.commands import passphrase
from rehearsal.commands.overlay import rehearsed
from rehearsal.commands.show import Show, masked
from rehearsal.commands.stack_file import load
from rehearsal.engine import program
from rehearsal.engine.compare import Op
from rehearsal.engine.errors import UserError
from rehearsal.engine.monitor import RehearsalMonitor
from rehearsal.engine.registration import Registrar
from tests.builders.encrypted import ENCRYPTION_SALT, KEY, PASSPHRASE, encrypt

# Written by Pulumi's CLI, as ENCRYPTION_SALT.
VALUE = "v1:sWXGC5PLc7EYYMRg:Fz999ltbayUFAVyt38iP8goFPLsIvg=="
PLAIN = "s3cr3t"


def salt_for(phrase: bytes) -> str:
    key = hashlib.pbkdf2_hmac("sha256", phrase, b"saltsalt", 1_000_000)
    return f"v1:{base64.b64encode(b'saltsalt').decode()}:{encrypt('pulumi', key)}"


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "Pulumi.yaml").write_text("name: site\nstackConfigDir: stacks\n")
    (tmp_path / "stacks").mkdir()
    monkeypatch.setenv(passphrase.VARIABLE, PASSPHRASE)
    monkeypatch.delenv(passphrase.FILE_VARIABLE, raising=False)
    return tmp_path


def write(root: Path, config: dict[str, Any], **top: Any) -> Path:
    content = {"encryptionsalt": ENCRYPTION_SALT, **top, "config": config}
    (root / "stacks/Pulumi.dev.yaml").write_text(yaml.safe_dump({k: v for k, v in content.items() if v is not None}))
    return root


def refusal(root: Path) -> str:
    with pytest.raises(UserError) as caught:
        load(root, "dev")
    message = str(caught.value)
    assert "\n" not in message
    assert "; allowed: " in message
    assert PLAIN not in message
    assert PASSPHRASE not in message
    return message


ENV = {"site:app": {"module": "wsgi", "env": {"PLAIN": "text", "TOKEN": {"secure": VALUE}}}}


def test_what_pulumi_encrypted_is_decrypted(root: Path) -> None:
    stack = load(write(root, {"site:token": {"secure": VALUE}, "site:plain": "text"}), "dev")
    assert stack.config == {"site:token": PLAIN, "site:plain": "text"}
    assert stack.secret_keys == {"site:token"}
    assert stack.secrets == {PLAIN}


def test_a_whole_object_may_be_encrypted_as_json(root: Path) -> None:
    text = '{"env": {"A": "b"}}'
    stack = load(write(root, {"site:app": {"secure": encrypt(text)}}), "dev")
    assert stack.config == {"site:app": text}


def test_values_are_decrypted_in_maps_and_lists_at_any_depth(root: Path) -> None:
    other = encrypt("other")
    value = {"env": {"A": {"secure": VALUE}, "B": 2}, "list": ["x", {"secure": other}, [{"deep": {"secure": VALUE}}]]}
    stack = load(write(root, {"app": value, "site:plain": {"n": 1}}), "dev")
    assert json.loads(stack.config["site:app"]) == {
        "env": {"A": PLAIN, "B": 2},
        "list": ["x", "other", [{"deep": PLAIN}]],
    }
    assert stack.secret_keys == {"site:app"}
    assert stack.secrets == {PLAIN, "other"}


@pytest.mark.parametrize("value", [{"secure": VALUE, "more": 1}, {"secure": 1}, {"secure": {"x": 1}}])
def test_only_a_map_of_secure_text_alone_is_encrypted(root: Path, value: dict[str, Any]) -> None:
    stack = load(write(root, {"site:app": {"x": value}}), "dev")
    assert json.loads(stack.config["site:app"]) == {"x": value}
    assert stack.secret_keys == frozenset()


def test_the_overlay_of_a_rehearsal_keeps_what_is_secret(root: Path) -> None:
    changed, _ = rehearsed(load(write(root, ENV), "dev"), "ssh-ed25519 AAAA own")
    assert changed.secret_keys == {"site:app"}
    assert changed.secrets == {PLAIN}


def test_a_stack_does_not_show_its_secrets(root: Path) -> None:
    assert PLAIN not in repr(load(write(root, ENV), "dev"))


def test_the_key_is_derived_once_and_only_when_something_is_encrypted(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    derived = []

    def counted(*arguments: Any) -> bytes:
        derived.append(arguments)
        return KEY

    monkeypatch.setattr(hashlib, "pbkdf2_hmac", counted)
    load(write(root, {"site:app": {"a": {"secure": VALUE}}, "site:b": {"secure": VALUE}}), "dev")
    assert len(derived) == 1
    monkeypatch.delenv(passphrase.VARIABLE)
    load(write(root, {"site:app": {"a": "b"}}, secretsprovider="awskms://alias/x"), "dev")
    assert len(derived) == 1


def test_an_empty_passphrase_is_a_passphrase(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(passphrase.VARIABLE, "")
    key = hashlib.pbkdf2_hmac("sha256", b"", b"saltsalt", 1_000_000)
    write(root, {"site:x": {"secure": encrypt("value", key)}}, encryptionsalt=salt_for(b""))
    assert load(root, "dev").config["site:x"] == "value"


def test_the_passphrase_of_a_file_is_taken_without_the_space_around_it(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(passphrase.VARIABLE)
    monkeypatch.setenv(passphrase.FILE_VARIABLE, str(root / "phrase"))
    (root / "phrase").write_text(f"\n {PASSPHRASE}\r\n\u3000")
    assert load(write(root, ENV), "dev").secrets == {PLAIN}


@pytest.mark.parametrize(
    ("environ", "file", "found"),
    [
        ({"PULUMI_CONFIG_PASSPHRASE": " a ", "PULUMI_CONFIG_PASSPHRASE_FILE": "f"}, b"b", b" a "),
        ({"PULUMI_CONFIG_PASSPHRASE": "", "PULUMI_CONFIG_PASSPHRASE_FILE": "f"}, b"b", b""),
        ({"PULUMI_CONFIG_PASSPHRASE": "\udcff"}, b"", b"\xff"),
        ({"PULUMI_CONFIG_PASSPHRASE_FILE": "f"}, b"\t\xc2\xa0b c\xff\x1c\xc2\x85\n", b"b c\xff\x1c"),
        ({"PULUMI_CONFIG_PASSPHRASE_FILE": ""}, b"b", None),
        ({}, b"b", None),
    ],
)
def test_the_passphrase_is_read_as_pulumi_reads_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, environ: dict[str, str], file: bytes, found: bytes | None
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "f").write_bytes(file)
    assert passphrase.from_environment(environ) == found


def test_without_a_passphrase_the_variables_are_named(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(passphrase.VARIABLE)
    assert refusal(write(root, ENV)) == (
        "stacks/Pulumi.dev.yaml: site:app.env.TOKEN: encrypted, and no passphrase is set; "
        "allowed: PULUMI_CONFIG_PASSPHRASE or PULUMI_CONFIG_PASSPHRASE_FILE in the environment"
    )


@pytest.mark.parametrize(("path", "reason"), [("nowhere", "No such file or directory"), (".", "Is a directory")])
def test_a_file_that_cannot_be_read_is_named(
    root: Path, monkeypatch: pytest.MonkeyPatch, path: str, reason: str
) -> None:
    monkeypatch.delenv(passphrase.VARIABLE)
    monkeypatch.setenv(passphrase.FILE_VARIABLE, str(root / path))
    assert refusal(write(root, ENV)) == (
        f"stacks/Pulumi.dev.yaml: site:app.env.TOKEN: encrypted, and PULUMI_CONFIG_PASSPHRASE_FILE cannot be read: "
        f"{root / path}: {reason}; allowed: a file that holds the passphrase"
    )


@pytest.mark.parametrize("variable", [passphrase.VARIABLE, passphrase.FILE_VARIABLE])
def test_a_wrong_passphrase_is_told_with_its_source(root: Path, monkeypatch: pytest.MonkeyPatch, variable: str) -> None:
    monkeypatch.delenv(passphrase.VARIABLE)
    (root / "phrase").write_text("hunter2")
    monkeypatch.setenv(variable, "hunter2" if variable == passphrase.VARIABLE else str(root / "phrase"))
    message = refusal(write(root, ENV))
    assert message == (
        f"stacks/Pulumi.dev.yaml: site:app.env.TOKEN: encrypted with another passphrase than {variable} gives; "
        "allowed: the stack's own passphrase"
    )


@pytest.mark.parametrize(
    "value",
    [
        "",
        "v1",
        "v1:" + VALUE,
        "v2" + VALUE[2:],
        VALUE[:-3],
        VALUE.replace("Fz99", "Fz98"),
        VALUE.replace("sWXG", ""),
        "v1:sWXGC5PLc7EYYMRg:",
        "v1:é:é",
        "AAABAKx",
    ],
)
def test_a_damaged_value_is_named_by_its_place(root: Path, value: str) -> None:
    settings = {"env": {"GOOD": {"secure": VALUE}, "A.B": {"secure": value}}}
    assert refusal(write(root, {"site:app": settings})) == (
        'stacks/Pulumi.dev.yaml: site:app.env["A.B"]: damaged; allowed: what pulumi config set --secret wrote'
    )


def test_a_value_that_is_no_text_is_damaged() -> None:
    sealed = base64.b64encode(AESGCM(KEY).encrypt(b"n" * 12, b"\xff", None)).decode()
    with pytest.raises(ValueError, match="utf-8"):
        passphrase.decrypt(KEY, f"v1:{base64.b64encode(b'n' * 12).decode()}:{sealed}")


@pytest.mark.parametrize("salt", ["v1", "v1:x", "v2" + ENCRYPTION_SALT[2:], ENCRYPTION_SALT[:-3], "v1:!:" + VALUE, 5])
def test_a_damaged_salt_is_told(root: Path, salt: Any) -> None:
    assert refusal(write(root, ENV, encryptionsalt=salt)) == (
        "stacks/Pulumi.dev.yaml: encryptionsalt: damaged; allowed: the line that Pulumi wrote"
    )


def test_a_salt_whose_check_value_says_something_else_is_another_passphrases(root: Path) -> None:
    salt = ":".join(ENCRYPTION_SALT.split(":")[:2]) + ":" + VALUE
    assert "encrypted with another passphrase" in refusal(write(root, ENV, encryptionsalt=salt))


@pytest.mark.parametrize("top", [{}, {"encryptedkey": "AAAB"}, {"secretsprovider": "default"}])
def test_values_without_a_salt_are_not_encrypted_with_a_passphrase(root: Path, top: dict[str, str]) -> None:
    message = refusal(write(root, {"site:app": {"list": [1, {"secure": "AAABAKx"}]}}, encryptionsalt=None, **top))
    assert message.startswith("stacks/Pulumi.dev.yaml: site:app.list[1]: encrypted, but not with a passphrase, since ")
    assert "encryptionsalt is missing; allowed: " in message


def test_another_provider_is_refused(root: Path) -> None:
    message = refusal(write(root, ENV, secretsprovider="awskms://alias/x", encryptedkey="AAAB"))
    assert message.startswith("stacks/Pulumi.dev.yaml: site:app.env.TOKEN: encrypted by another secrets provider; ")
    assert "awskms" not in message


@pytest.mark.parametrize("provider", ["", "default", "passphrase"])
def test_names_of_the_passphrase_provider_are_taken(root: Path, provider: str) -> None:
    assert load(write(root, ENV, secretsprovider=provider), "dev").secrets == {PLAIN}


TEXT = st.text(st.characters(exclude_categories=["Cs"]))
LEAF = st.none() | st.booleans() | st.integers() | TEXT
TREE = st.recursive(
    LEAF | TEXT.map(lambda text: ("secret", text)),
    lambda inner: st.lists(inner) | st.dictionaries(TEXT.filter(lambda key: key != "secure"), inner),
)


def sealed(tree: Any, leaf: Callable[[str], Any]) -> Any:
    if isinstance(tree, tuple):
        return leaf(tree[1])
    if isinstance(tree, dict):
        return {key: sealed(item, leaf) for key, item in tree.items()}
    return [sealed(item, leaf) for item in tree] if isinstance(tree, list) else tree


@settings(max_examples=60)
@given(TREE)
def test_any_value_comes_back_as_it_was(tree: Any) -> None:
    value = sealed(tree, lambda text: {"secure": encrypt(text)})
    found = list(passphrase.find(value, "x"))
    plain = {encrypted: passphrase.decrypt(KEY, encrypted) for _, encrypted in found}
    assert passphrase.with_plain_text(value, plain) == sealed(tree, lambda text: text)
    assert len({place for place, _ in found}) == len(found)


def test_the_program_learns_which_keys_are_secret(root: Path) -> None:
    (root / "__main__.py").write_text(
        "import json, pathlib\n"
        "from pulumi.runtime import is_config_secret\n"
        "from pulumi.runtime.config import CONFIG\n"
        "found = {key: [value, is_config_secret(key)] for key, value in CONFIG.get().items()}\n"
        f"pathlib.Path({str(root / 'found')!r}).write_text(json.dumps(found))\n"
    )
    for config, secret in ((ENV, True), ({"site:app": {"a": "b"}}, False)):
        monitor = RehearsalMonitor(cast(Registrar, None), PROVIDER, print)
        program.run(root, load(write(root, config), "dev"), monitor, logging.Logger("dry"))
        value, marked = json.loads((root / "found").read_text())["site:app"]
        assert marked is secret
        assert (PLAIN in value) is secret


@pytest.mark.parametrize(
    ("text", "secrets", "shown"),
    [
        ("a s3cr3t in s3cr3ts", {"s3cr3t"}, "a [secret] in [secret]s"),
        ("longer first: abcdef", {"abc", "abcdef"}, "longer first: [secret]"),
        ('{"a": "say \\"x\\""}', {'say "x"'}, '{"a": "[secret]"}'),
        ("ab is true, 1.5", {"ab", "true", "", ".5"}, "ab is true, 1.5"),
        ("a.c abc", {"a.c"}, "[secret] abc"),
        ("none", set(), "none"),
    ],
)
def test_secrets_are_masked_as_pulumi_masks_them(text: str, secrets: set[str], shown: str) -> None:
    assert masked(text, secrets) == shown


def test_nothing_that_is_shown_shows_a_secret() -> None:
    console = Console(file=io.StringIO(), width=200)
    show = Show(console, frozenset({PLAIN}))
    show.line(f"1 {PLAIN}")
    show.note(f"2 {PLAIN}")
    show.say(f"3 {PLAIN}")
    show.finished("urn", Op.UPDATE, "command:remote:Command", "name", 1.0, f"4 {PLAIN}")
    show.failed("urn", "command:remote:Command", "name", f"first line\n5 {PLAIN}")
    show.outputs({"x": f"6 {PLAIN}"})
    shown = console.file.getvalue()  # type: ignore[attr-defined]
    assert PLAIN not in shown
    assert [n for n in "123456" if f"{n} [secret]" in shown] == list("123456")


@pytest.mark.parametrize("command", ["up", "preview"])
def test_an_error_of_a_run_does_not_show_a_secret(root: Path, monkeypatch: pytest.MonkeyPatch, command: str) -> None:
    module = importlib.import_module(f"rehearsal.commands.{command}")

    def refuse(*_: object) -> int:
        raise UserError(f"app.source: {PLAIN} is no folder")

    monkeypatch.setattr(lock, "_FOLDER", root)
    monkeypatch.setattr(module, "predict", refuse)
    with pytest.raises(UserError, match=r"^app.source: \[secret\] is no folder$"):
        getattr(module, command)(write(root, ENV), "dev")
