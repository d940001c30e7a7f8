"""What is in an instance of RDS: databases, accounts and their privileges, which are MariaDB's own."""

import hashlib
import re
from collections.abc import Mapping
from typing import Any

from rehearsal.cloud.context import CloudContext
from rehearsal.engine.compare import Schema
from rehearsal.engine.errors import RehearsalError
from rehearsal.engine.resource import Resource, only
from rehearsal.engine.state import Record

_NAME = re.compile("[a-z][a-z0-9_]*[a-z0-9]")


def _run(context: CloudContext, instance: str, *statements: str) -> None:
    """Run SQL as root of the instance, unless the instance is gone."""
    if context.lxd.find(f"/1.0/instances/{instance}") is not None:
        context.lxd.exec(instance, ["mariadb", "-e", "; ".join(statements)], 120)


def _check_names(*names: str) -> None:
    for name in names:
        if not _NAME.fullmatch(name):
            raise RehearsalError(f"{name} is no name that RDS takes; allowed: small letters, digits and _")


class RdsDatabase(Resource[CloudContext]):
    schema = Schema(replaces=frozenset({"instanceId", "dataBaseName", "characterSet"}), updates={"description": ""})

    def id(self, name: str, inputs: Mapping[str, Any]) -> str:
        return f"{inputs['instanceId']}:{inputs['dataBaseName']}"

    def check(self, inputs: Mapping[str, Any]) -> None:
        _check_names(inputs["dataBaseName"])
        only(inputs, "characterSet", "utf8mb4")

    def create(self, context: CloudContext, record: Record, inputs: Mapping[str, Any]) -> dict[str, Any]:
        _run(context, inputs["instanceId"], f"CREATE DATABASE `{inputs['dataBaseName']}` CHARACTER SET utf8mb4")
        return {"status": "Running"}

    def delete(self, context: CloudContext, record: Record) -> None:
        _run(context, record.inputs["instanceId"], f"DROP DATABASE IF EXISTS `{record.inputs['dataBaseName']}`")


class RdsAccount(Resource[CloudContext]):
    schema = Schema(
        replaces=frozenset({"dbInstanceId", "accountName", "accountType"}),
        updates={"accountPassword": "", "accountDescription": ""},
    )

    def id(self, name: str, inputs: Mapping[str, Any]) -> str:
        return f"{inputs['dbInstanceId']}:{inputs['accountName']}"

    def check(self, inputs: Mapping[str, Any]) -> None:
        _check_names(inputs["accountName"])
        only(inputs, "accountType", "Normal")

    def create(self, context: CloudContext, record: Record, inputs: Mapping[str, Any]) -> dict[str, Any]:
        account = f"'{inputs['accountName']}'@'%'"
        identified = f"IDENTIFIED BY PASSWORD '{_hashed(inputs['accountPassword'])}'"
        _run(context, inputs["dbInstanceId"], f"CREATE USER {account} {identified}")
        return {"status": "Available"}

    def update(
        self, context: CloudContext, record: Record, inputs: Mapping[str, Any], keys: tuple[str, ...]
    ) -> dict[str, Any]:
        if "accountPassword" in keys:
            change = f"SET PASSWORD FOR '{inputs['accountName']}'@'%' = '{_hashed(inputs['accountPassword'])}'"
            _run(context, inputs["dbInstanceId"], change)
        return record.outputs

    def delete(self, context: CloudContext, record: Record) -> None:
        _run(context, record.inputs["dbInstanceId"], f"DROP USER IF EXISTS '{record.inputs['accountName']}'@'%'")


class RdsAccountPrivilege(Resource[CloudContext]):
    schema = Schema(replaces=frozenset({"instanceId", "accountName", "privilege"}), updates={"dbNames": ""})

    def id(self, name: str, inputs: Mapping[str, Any]) -> str:
        return f"{inputs['instanceId']}:{inputs['accountName']}:{inputs['privilege']}"

    def check(self, inputs: Mapping[str, Any]) -> None:
        only(inputs, "privilege", "ReadWrite")

    def create(self, context: CloudContext, record: Record, inputs: Mapping[str, Any]) -> dict[str, Any]:
        _run(context, inputs["instanceId"], *self._statements("GRANT", "TO", inputs))
        return {}

    def update(
        self, context: CloudContext, record: Record, inputs: Mapping[str, Any], keys: tuple[str, ...]
    ) -> dict[str, Any]:
        # What was granted before is taken away last, so that nobody is without a privilege in between.
        gone = set(record.inputs["dbNames"]) - set(inputs["dbNames"])
        statements = self._statements("GRANT", "TO", inputs)
        _run(
            context, inputs["instanceId"], *statements, *self._statements("REVOKE", "FROM", {**inputs, "dbNames": gone})
        )
        return record.outputs

    def delete(self, context: CloudContext, record: Record) -> None:
        _run(context, record.inputs["instanceId"], *self._statements("REVOKE", "FROM", record.inputs))

    def _statements(self, verb: str, word: str, inputs: Mapping[str, Any]) -> list[str]:
        # _ stands for any character in the name of a GRANT.
        patterns = [name.replace("_", "\\_") for name in sorted(inputs["dbNames"])]
        return [f"{verb} ALL PRIVILEGES ON `{name}`.* {word} '{inputs['accountName']}'@'%'" for name in patterns]


def _hashed(password: str) -> str:
    """The hash that MySQL stores (mysql_native_password), so that the password itself is in no command line."""
    once = hashlib.sha1(password.encode()).digest()  # noqa: S324
    return "*" + hashlib.sha1(once).hexdigest().upper()  # noqa: S324
