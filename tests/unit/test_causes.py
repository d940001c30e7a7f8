"""What a release that fails printed, and what its owner is told to do."""

import pytest

from tests.unit.machine import module

FROZEN = """  File "/srv/app/site.py", line 3, in <module>
    KEY = os.environ["SECRET_KEY"]
          ~~~~~~~~~~^^^^^^^^^^^^^^
  File "<frozen os>", line 679, in __getitem__
KeyError: 'SECRET_KEY'
"""
OLD = """  File "/usr/lib64/python3.6/os.py", line 669, in __getitem__
    raise KeyError(key) from None
KeyError: 'TOKEN'
"""


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ("ModuleNotFoundError: No module named 'flask_login'", "brings the module flask_login to app.requirements"),
        ("ModuleNotFoundError: No module named 'yaml.x'\n", "the module yaml (PyYAML) to app.requirements"),
        (FROZEN, "set the variable app.env.SECRET_KEY (a secret: ./rehearse secret set app.env.SECRET_KEY"),
        (OLD, "set the variable app.env.TOKEN"),
        ("decouple.UndefinedValueError: KEY not found. Declare it as envvar", "set the variable app.env.KEY"),
        ("django.core.exceptions.ImproperlyConfigured: Set the KEY environment variable", "app.env.KEY"),
        ("PermissionError: [Errno 13] Permission denied: 'x'\n", "app.persistent"),
        ("KeyError: 'SECRET_KEY'\n", ""),
        ("ValueError: x\n", ""),
    ],
)
def test_a_known_reason_names_the_setting(lines: str, said: str) -> None:
    text = module("causes").advice("app", lines)
    assert said in text and bool(text) == bool(said)


def test_a_page_is_shown_without_its_tags() -> None:
    page = b"<!DOCTYPE html><html><head><title>No such host</title><style>p {}</style></head><p>x < 3 &amp; y<script>a"
    assert str(module("probe").Answer(400, page)) == "status 400: No such host x < 3 &amp; y"
