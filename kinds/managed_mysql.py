"""ApsaraDB RDS for MySQL in place of a server of the stack's own: what it needs to know, and what it has no use for.

https://www.alibabacloud.com/help/en/rds/apsaradb-rds-for-mysql/ has the rules of names, passwords and sizes.
"""

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING

from kinds import managed
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


def rules(mysql: "Mysql") -> Iterator[Rule]:
    """Yield the rules of a database that may be RDS. A rule's key is one of the section."""
    yield from managed.rules(mysql, "the database is a server of the stack's own", _OWN, _MANAGED)
    if not mysql.managed:
        return
    yield "port", mysql.port != PORT, "RDS answers on another port", f"{PORT}, or none"
    yield "storage_gib", mysql.storage_gib % 5 > 0, f"{mysql.storage_gib} is no size of RDS", "a multiple of 5"
    for key, name in (("database", mysql.database), ("user", mysql.user)):
        allowed = "small letters, digits and _, from a letter to a letter or digit"
        yield key, not re.fullmatch(_NAME, name), f"{name} is no name of RDS", allowed
    yield "password", not managed.is_allowed(mysql.secret), "RDS refuses it", managed.PASSWORDS
    encrypts = mysql.tls != "none"
    own = "the file with RDS's CA certificates, in PEM, from the console or ApsaraDB's documentation"
    yield "ca", encrypts and not mysql.ca, f"required with mysql.tls: {mysql.tls}", own
    yield "ca", bool(mysql.ca) and not encrypts, "set, but mysql.tls is none", "mysql.tls: offered, or required"
