"""Values of app.env that look like secrets and are written in plain text into the stack's file."""

import re
from collections.abc import Callable

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
        for name, secret in site.app.env.items():
            value = secret.get_secret_value()
            if _looks_secret(name, value) and not is_encrypted(site, value):
                keys[f"{_owner(stack, site, name)}app.env.{name}"] = None
    if not keys:
        return None
    first, *others = keys
    words = "look like secrets and are" if others else "looks like a secret and is"
    what = "each" if others else "it"
    return f"{', '.join(keys)} {words} written in plain text; encrypt {what} with ./rehearse secret set {first}"


def _looks_secret(name: str, value: str) -> bool:
    if _PLAIN.fullmatch(value):
        return False
    return bool(_URL.search(value) or (_NAME.search(name) and not _NO_SECRET.search(name)))


def _owner(stack: StackSettings, site: SiteSettings, name: str) -> str:
    """What the value's key begins with: nothing for a value that all sites share."""
    values = {other.app.env.get(name) for other in stack.sites}
    return "" if len(values) == 1 and len(stack.sites) > 1 else stack.key_of(site)
