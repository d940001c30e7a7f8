"""What the engines of the cloud, RDS and Tair, have in common: settings of their own, passwords and accounts.

https://www.alibabacloud.com/help/en/redis/user-guide/create-and-manage-database-accounts says it of Tair.
"""

import hashlib
import re
from collections.abc import Collection, Iterator, Mapping
from functools import cache

from kinds.service import Service
from schema.base import Rule

PASSWORDS = "8 to 32 characters of three kinds: A-Z, a-z, 0-9 and ! @ # $ % ^ & * ( ) _ + - ="
_KINDS = ("[A-Z]", "[a-z]", "[0-9]", "[!@#$%^&*()_+=-]")


def rules(service: Service, choice: str, own: Mapping[str, str], managed: Collection[str]) -> Iterator[Rule]:
    """Yield the rules of settings that only one of both has. A rule's key is one of the service's section.

    choice: what a stack without the cloud's engine has, in words. own: setting of a server of the stack's own → what is
    allowed in its place. managed: settings of the cloud's engine.
    """
    given, key_of_choice = service.model_fields_set, f"{service.key}.managed"
    for key in managed:
        is_alone = key in given and not service.is_managed
        yield key, is_alone, f"set, but {choice}", f"{key_of_choice}: true"
    for key, other in own.items():
        is_alone = key in given and service.is_managed
        yield key, is_alone, f"set, but {key_of_choice} has no server of the stack's own", other


def is_allowed(password: str) -> bool:
    """Whether the engines take a password."""
    kinds = sum(re.search(kind, password) is not None for kind in _KINDS)
    return re.fullmatch(r"[A-Za-z0-9!@#$%^&*()_+=-]{8,32}", password) is not None and kinds >= 3


@cache
def account(user: str, password: str, *of: str) -> str:
    """The account that the application has: another one for another password. of: what else makes it another one.

    An account of the engines has one password, so that a new one would lock out the release that still serves. The
    digits say nothing that helps to guess: there are few of them, and each guess takes the time of scrypt.
    """
    salt = " ".join((user, *of)).encode()
    return f"{user}_{hashlib.scrypt(password.encode(), salt=salt, n=2**14, r=8, p=1, dklen=2).hex()}"
