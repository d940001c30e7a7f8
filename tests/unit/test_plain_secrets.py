"""Which values of app.env are warned of."""

import pytest

from settings.loader import parse
from settings.plain_secrets import warning

FILE = "stacks/Pulumi.test.yaml"


@pytest.mark.parametrize(
    ("name", "value", "is_told"),
    [
        ("SECRET_KEY", "dev", True),
        ("API_TOKEN", "abc", True),
        ("DB_PASSWORD", "x", True),
        ("STRIPE_APIKEY", "sk", True),
        ("DATABASE_URL", "mysql://shop:hunter2@db/shop", True),
        ("DATABASE_URL", "sqlite:///app.db", False),
        ("TOKEN_SECONDS", "3600", False),
        ("SESSION_TOKENS", "true", False),
        ("SECRET_FILE", "/run/x", False),
        ("FLASK_ENV", "production", False),
        ("KEYBOARD", "qwerty", False),
        ("SECRET_KEY", "", False),
    ],
)
def test_what_looks_like_a_secret_is_told_without_its_value(name: str, value: str, is_told: bool) -> None:
    line = warning(parse({"app": {"env": {name: value}}}, FILE), lambda site, value: False)
    assert line == (
        f"app.env.{name} looks like a secret and is written in plain text; "
        f"encrypt it with ./rehearse secret set app.env.{name}"
        if is_told
        else None
    )


def test_an_encrypted_value_is_no_reason_for_a_warning() -> None:
    stack = parse({"app": {"env": {"SECRET_KEY": "abc", "TOKEN": "d"}}}, FILE)
    assert warning(stack, lambda site, value: True) is None
    line = warning(stack, lambda site, value: value == "abc")
    assert line is not None
    assert line.startswith("app.env.TOKEN looks")


def test_several_are_one_line_and_name_their_site() -> None:
    sites = {"one": {"app": {"env": {"TOKEN": "a"}}}, "two": {"site": {"location": "/two/"}}}
    line = warning(parse({"app": {"env": {"SECRET_KEY": "abc"}}, "sites": sites}, FILE), lambda site, value: False)
    assert line == (
        "app.env.SECRET_KEY, sites.one.app.env.TOKEN look like secrets and are written in plain text; "
        "encrypt each with ./rehearse secret set app.env.SECRET_KEY"
    )
