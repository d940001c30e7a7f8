"""ApsaraDB RDS for MySQL in place of a server of the stack's own: what it needs to know, and what it has no use for.

https://www.alibabacloud.com/help/en/rds/apsaradb-rds-for-mysql/ has the rules of names, passwords and sizes.
"""

import hashlib
import re
from collections.abc import Iterator
from functools import cache
from typing import TYPE_CHECKING

from schema.base import Rule

if TYPE_CHECKING:
    from kinds.databases.mysql import Mysql

# The account that the release tool has. It stays whatever the settings are: views and triggers belong to who made them.
OWNER = "wsgi_ecs_owner"
# RDS answers on this port.
PORT = 3306
# What only a server of the stack's own has → what RDS has in its place.
_OWN = {
    "instance_type": "mysql.instance_class",
    "disk_gib": "mysql.storage_gib",
    "dumps": "mysql.backup_days",
    "dump_at": "mysql.backup_days",
    "max_connections": "mysql.instance_class, which decides it",
    "innodb_buffer_pool_size": "mysql.instance_class, which decides it",
}
# What only RDS has.
_MANAGED = ("engine_version", "instance_class", "storage_gib", "high_availability", "backup_days", "ca")
_NAME = r"[a-z][a-z0-9_]*[a-z0-9]"
_ALLOWED = "8 to 32 characters of three kinds: A-Z, a-z, 0-9 and ! @ # $ % ^ & * ( ) _ + - ="
_KINDS = ("[A-Z]", "[a-z]", "[0-9]", "[!@#$%^&*()_+=-]")


def rules(mysql: "Mysql") -> Iterator[Rule]:
    """Yield the rules of a database that may be RDS. A rule's key is one of the section."""
    given = mysql.model_fields_set
    for key in _MANAGED:
        reason = "set, but the database is a server of the stack's own"
        yield key, key in given and not mysql.managed, reason, "mysql.managed: true"
    if not mysql.managed:
        return
    for key, other in _OWN.items():
        yield key, key in given, "set, but mysql.managed has no server of the stack's own", other
    yield "port", mysql.port != PORT, "RDS answers on another port", f"{PORT}, or none"
    yield "storage_gib", mysql.storage_gib % 5 > 0, f"{mysql.storage_gib} is no size of RDS", "a multiple of 5"
    for key, name in (("database", mysql.database), ("user", mysql.user)):
        allowed = "small letters, digits and _, from a letter to a letter or digit"
        yield key, not re.fullmatch(_NAME, name), f"{name} is no name of RDS", allowed
    yield "password", not is_allowed(mysql.secret), "RDS refuses it", _ALLOWED
    encrypts = mysql.tls != "none"
    own = "the file with RDS's CA certificates, in PEM, from the console or ApsaraDB's documentation"
    yield "ca", encrypts and not mysql.ca, f"required with mysql.tls: {mysql.tls}", own
    yield "ca", bool(mysql.ca) and not encrypts, "set, but mysql.tls is none", "mysql.tls: offered, or required"


def is_allowed(password: str) -> bool:
    """Whether RDS takes a password."""
    kinds = sum(re.search(kind, password) is not None for kind in _KINDS)
    return re.fullmatch(r"[A-Za-z0-9!@#$%^&*()_+=-]{8,32}", password) is not None and kinds >= 3


@cache
def account(user: str, password: str, database: str) -> str:
    """The account that the application has: another one for another password or database.

    An account of RDS has one password, so that a new one would lock out the release that still serves. The digits say
    nothing that helps to guess: there are few of them, and each guess takes the time of scrypt.
    """
    salt = f"{user} {database}".encode()
    return f"{user}_{hashlib.scrypt(password.encode(), salt=salt, n=2**14, r=8, p=1, dklen=2).hex()}"
