"""Values of app.env that look like secrets, and logins of app.pip, in plain text in the stack's file."""

import re
from collections.abc import Callable, Iterator

from pydantic import SecretStr

from settings.site import SiteSettings
from settings.stack import StackSettings

_NAME = re.compile(
    r"SECRET|TOKEN|PASSW(OR)?D|PASSPHRASE|CREDENTIAL|(API|PRIVATE|ACCESS|ENCRYPTION|SIGNING)_?KEY|_DSN$", re.IGNORECASE
)
# A name with such an end tells where the secret is, or how it is handled.
_NO_SECRET = re.compile(r"_(FILE|PATH|DIR|NAME|HEADER|ALGORITHM)$", re.IGNORECASE)
# A password in a URL, such as that of a database.
_URL = re.compile(r"[a-z][a-z0-9+.-]*://[^/@\s:]*:[^/@\s]+@")
# Numbers and switches are settings about secrets, such as how long a token is valid.
_PLAIN = re.compile(r"\s*|[0-9.]+|true|false|yes|no|on|off", re.IGNORECASE)


def warning(stack: StackSettings, is_encrypted: Callable[[SiteSettings, str], bool]) -> str | None:
    """One line that names the keys and the command that encrypts them; None without such a value.

    is_encrypted: whether a value of a site is encrypted in the stack's file.
    """
    keys: dict[str, None] = {}
    for site in stack.sites:
        for key, secret in _found(site):
            if not is_encrypted(site, secret.get_secret_value()):
                keys[f"{_owner(stack, site, key, secret)}{key}"] = None
    if not keys:
        return None
    first, *others = keys
    words = "look like secrets and are" if others else "looks like a secret and is"
    what = "each" if others else "it"
    return f"{', '.join(keys)} {words} written in plain text; encrypt {what} with ./rehearse secret set {first}"


def _found(site: SiteSettings) -> Iterator[tuple[str, SecretStr]]:
    """Key and value of what looks like a secret."""
    for name, secret in site.app.env.items():
        if _looks_secret(name, secret.get_secret_value()):
            yield f"app.env.{name}", secret
    pip = site.app.pip
    indexes = [("index_url", pip.index_url), *(("extra_index_url", url) for url in pip.extra_index_url)]
    logins = [(key, url) for key, url in indexes if url and "@" in url.get_secret_value()]
    for key, value in [*logins, ("netrc", pip.netrc), ("ssh_key", pip.ssh_key)]:
        if value:
            yield f"app.pip.{key}", value


def _looks_secret(name: str, value: str) -> bool:
    if _PLAIN.fullmatch(value):
        return False
    return bool(_URL.search(value) or (_NAME.search(name) and not _NO_SECRET.search(name)))


def _owner(stack: StackSettings, site: SiteSettings, key: str, secret: SecretStr) -> str:
    """What the value's key begins with: nothing for a value that all sites share."""
    is_shared = all((key, secret) in _found(other) for other in stack.sites)
    return "" if is_shared and len(stack.sites) > 1 else stack.key_of(site)
