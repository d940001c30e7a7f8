"""Names and sizes that MySQL and MariaDB take."""

from collections.abc import Callable
from typing import Annotated

from pydantic import AfterValidator

from schema.text import matching


def _not_mysqls_own(*names: str) -> Callable[[str], str]:
    def check(value: str) -> str:
        if value.lower() in names:
            raise ValueError(f"{value} is MySQL's own; allowed: any other")
        return value

    return check


SqlDatabase = Annotated[
    str,
    AfterValidator(matching(r"[A-Za-z][A-Za-z0-9_]{0,63}", "a name of letters, digits and _, such as app")),
    AfterValidator(_not_mysqls_own("mysql", "information_schema", "performance_schema", "sys", "test")),
]
SqlUser = Annotated[
    str,
    # MariaDB 5.5, CentOS 7's, ends a user's name there.
    AfterValidator(matching(r"[A-Za-z][A-Za-z0-9_]{0,15}", "a name of 16 letters, digits and _, such as app")),
    AfterValidator(_not_mysqls_own("root", "mysql")),
]
BytesSize = Annotated[str, AfterValidator(matching(r"[1-9][0-9]{0,4}[MG]", "a size such as 512M or 2G"))]
