"""The databases, by the key of their settings."""

from kinds.databases.base import Database
from kinds.databases.mysql import Mysql

DATABASES: dict[str, type[Database]] = {kind.key: kind for kind in (Mysql,)}

__all__ = ["DATABASES", "Database", "Mysql"]
