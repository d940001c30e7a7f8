"""Jinja2 over templates/ and cloud-init/: an undefined name is an error, never an empty text."""

from functools import cache
from pathlib import Path
from typing import Any

import jinja2

PROJECT = Path(__file__).parent.parent


@cache
def _environment() -> jinja2.Environment:
    return jinja2.Environment(
        loader=jinja2.FileSystemLoader(PROJECT),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        # The texts are configs and scripts, where HTML escapes would be damage. What a user may
        # set is checked for its place in schema/text.py.
        autoescape=False,  # noqa: S701
    )


def render(template: str, **values: Any) -> str:
    """Render a template, named from the project's folder, such as templates/nginx/server.conf.j2."""
    return _environment().get_template(template).render(**values)


@cache
def source(path: str) -> str:
    """Text of a file of the project, as it is."""
    return (PROJECT / path).read_text(encoding="utf-8")
