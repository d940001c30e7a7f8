"""Text that names what a server installs for an application."""

from typing import Annotated

from pydantic import AfterValidator

from schema.text import matching

PackageName = Annotated[
    str,
    # apt-get removes a package whose name is followed by -.
    AfterValidator(
        matching(r"[A-Za-z0-9][A-Za-z0-9+._-]{0,98}[A-Za-z0-9+]", "a package of the OS such as git or libpq-dev")
    ),
]
