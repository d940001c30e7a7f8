"""Which stacks have a test CA in place of Let's Encrypt in their rehearsal."""

import json
from typing import Any

import pytest

from rehearsal.authority import wanted
from rehearsal.stack import Stack

# As the program takes a boolean.
YES: tuple[Any, ...] = ("yes", "on", "1", 1, "t", "y", 1.0)
NO: tuple[Any, ...] = (False, "false", "no", "off", 0, None, "maybe", [])


@pytest.mark.parametrize(
    ("tls", "sites", "asks"),
    [
        ({}, {}, False),
        ({"acme": True}, {}, True),
        ({"acme": "true"}, {}, True),
        *(({"acme": value}, {}, True) for value in YES),
        *(({"acme": value}, {}, False) for value in NO),
        ({"acme": True, "directory": "https://acme-v02.api.letsencrypt.org/directory"}, {}, True),
        ({"acme": True, "directory": "https://acme-staging-v02.api.letsencrypt.org/directory"}, {}, True),
        ({"acme": True, "directory": "https://letsencrypt.org.example.test/directory"}, {}, False),
        ({}, {"www": {"tls": {"acme": True}}, "other": {}}, True),
        ({"certificate": "cert.pem"}, {"www": {"nginx": {}}}, False),
        ({"acme": True, "directory": "https://ca.example.test/directory"}, {}, False),
        # The program's to refuse.
        ("yes", {"www": "no map"}, False),
        ({}, {"www": {"tls": "no map"}}, False),
    ],
)
def test_a_stack_that_asks_a_ca_and_names_none(tls: Any, sites: Any, asks: bool) -> None:
    config = {"wsgi-ecs:tls": json.dumps(tls), "wsgi-ecs:sites": json.dumps(sites)}
    assert wanted(Stack("wsgi-ecs", "dev", config)) is asks
