"""Headers, cookies and passwords of HTTP, as text that is safe in nginx's files."""

from typing import Annotated

from pydantic import AfterValidator, SecretStr

from schema.text import matching

Realm = Annotated[
    str,
    # nginx reads `off` as no password at all.
    AfterValidator(matching(r"(?!off$)[A-Za-z0-9][A-Za-z0-9 ._-]{0,59}", "letters, digits, spaces and . _ -, not off")),
]
WebUser = Annotated[
    str, AfterValidator(matching(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,63}", "a user's name such as ada or ada@example.com"))
]
# crypt(5) of CentOS 7's C library, and Apache's own, which nginx computes itself.
_HASHES = (
    r"\$5\$(rounds=[0-9]{4,6}\$)?[./A-Za-z0-9]{1,16}\$[./A-Za-z0-9]{43}"
    r"|\$6\$(rounds=[0-9]{4,6}\$)?[./A-Za-z0-9]{1,16}\$[./A-Za-z0-9]{86}"
    r"|\$apr1\$[./A-Za-z0-9]{1,8}\$[./A-Za-z0-9]{22}"
)
_password_hash = matching(
    _HASHES, "a hash of the password, starting with $6$, $5$ or $apr1$, as `openssl passwd -6` asks for it and prints"
)


def _secret_hash(value: SecretStr) -> SecretStr:
    _password_hash(value.get_secret_value())
    return value


PasswordHash = Annotated[SecretStr, AfterValidator(_secret_hash)]
HeaderName = Annotated[str, AfterValidator(matching(r"[A-Za-z][A-Za-z0-9-]{0,59}", "a header's name such as X-Fresh"))]
_FRAMING = "connection|content-(encoding|length|type)|date|keep-alive|server|trailer|transfer-encoding|upgrade"
AddedHeader = Annotated[
    HeaderName,
    AfterValidator(matching(f"(?i:(?!({_FRAMING})$).*)", "any other header; this one is nginx's own to write")),
]
HeaderValue = Annotated[
    str,
    # What stands between two @@ is a fact that the server fills in.
    AfterValidator(matching(r"""(?!.*@@)[ !#%-\[\]-~]{1,1000}""", 'printable ASCII without ", $, \\ and @@')),
]
Cookie = Annotated[
    str, AfterValidator(matching(r"[A-Za-z0-9_]{1,64}", "a cookie's name of letters, digits and _, such as session"))
]
