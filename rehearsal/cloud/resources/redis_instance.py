"""An instance of Tair (Redis OSS-compatible): Redis on a machine of its own, and the accounts of the applications.

    /etc/tair.conf              configuration
    /var/lib/redis/users.acl    passwords, as hashes: that of the instance, and one for each account
    /root/tair/password         password of the instance, by which the rehearsal logs in (root 0600)
    /root/tair/accounts/        a file for each account, with the hash of its password (root 0600)

Tair takes `account:password` for the password of a client. Redis knows no such form, and its only user has a password
of this form for each account.
"""

import hashlib
import re
from collections.abc import Mapping
from typing import Any

from rehearsal.cloud import tokens
from rehearsal.cloud.context import CloudContext
from rehearsal.cloud.engine_machine import Engine
from rehearsal.engine.compare import Schema
from rehearsal.engine.errors import RehearsalError
from rehearsal.engine.resource import Resource, only
from rehearsal.engine.state import Record

_CONFIG_FILE = "/etc/tair.conf"
_FOLDER = "/root/tair"
_ACCOUNTS = f"{_FOLDER}/accounts"
_DATA = "/var/lib/redis"
_UNIT_FILE = "/etc/systemd/system/tair.service"
_UNIT = f"""\
[Unit]
Description=Redis in place of Tair
After=network.target

[Service]
ExecStart=/usr/bin/redis-server {_CONFIG_FILE}
User=redis
Group=redis
UMask=0077
Restart=always
RestartSec=1

[Install]
WantedBy=multi-user.target
"""
# Words for redis-cli, the password not among them.
_ASK = f'REDISCLI_AUTH=$(cat {_FOLDER}/password); export REDISCLI_AUTH; ask() {{ redis-cli -e "$@" >/dev/null; }}; '
_START = (
    f"chown redis:redis {_DATA}/users.acl; systemctl daemon-reload; systemctl enable -q --now tair; "
    + _ASK
    + "for try in $(seq 300); do if ask PING 2>/dev/null; then exit 0; fi; sleep 0.1; done; "
    "journalctl -u tair -o cat -n 20 >&2; exit 1"
)
_NAME = re.compile("[a-z][a-z0-9_]{0,99}")


def config(inputs: Mapping[str, Any]) -> str:
    """Text of the configuration. The memory is that of the smallest class but one, whatever the instance class is."""
    directives = {
        "bind": "0.0.0.0",  # noqa: S104  The bridge says who reaches it.
        "port": "6379",
        "dir": _DATA,
        "aclfile": f"{_DATA}/users.acl",
        "appendonly": "yes",
        "save": '""',
        "maxmemory": "1gb",
        **inputs.get("config", {}),
    }
    return "".join(f"{name} {value}\n" for name, value in directives.items())


def hashed(password: str) -> str:
    """The hash by which Redis knows a password, so that the password itself is in no command line."""
    return hashlib.sha256(password.encode()).hexdigest()


def _ask(context: CloudContext, instance: str, script: str, *words: str) -> None:
    """Run a script with `ask`, which asks Redis, on the machine of an instance, unless the machine is gone."""
    if context.lxd.find(f"/1.0/instances/{instance}") is not None:
        context.lxd.exec(instance, ["sh", "-ec", _ASK + script, "tair", *words], 60)


class RedisInstance(Engine):
    package = "redis-server"
    prefix = "r-"
    schema = Schema(
        replaces=frozenset({"instanceType"}),
        updates={
            "engineVersion": "Redis is away for seconds",
            "instanceClass": "Redis is away for seconds",
            **dict.fromkeys(("securityIps", "dbInstanceName", "password", "config", "tags"), ""),
            **dict.fromkeys(("zoneId", "secondaryZoneId", "vswitchId"), "Redis moves to another zone"),
        },
        recorded=frozenset({"paymentType"}),
        away=tokens.REDIS,
    )

    def check(self, inputs: Mapping[str, Any]) -> None:
        only(inputs, "instanceType", "Redis")
        only(inputs, "paymentType", "PostPaid")
        if not inputs.get("password"):
            raise RehearsalError("Tair without a password is not rehearsed")
        super().check(inputs)

    def prepare(self, context: CloudContext, record: Record) -> None:
        # The package would start a Redis of its own, without a password, on the same port.
        context.lxd.exec(record.id, ["systemctl", "mask", "-q", "redis-server"])

    def start(self, context: CloudContext, record: Record, inputs: Mapping[str, Any]) -> None:
        context.lxd.exec(record.id, ["install", "-d", "-m", "0700", _FOLDER, _ACCOUNTS])
        context.lxd.write(record.id, f"{_FOLDER}/password", inputs["password"])
        users = f"user default on #{hashed(inputs['password'])} ~* &* +@all\n"
        context.lxd.write(record.id, f"{_DATA}/users.acl", users)
        context.lxd.write(record.id, _CONFIG_FILE, config(inputs), "0644")
        context.lxd.write(record.id, _UNIT_FILE, _UNIT, "0644")
        context.lxd.exec(record.id, ["sh", "-ec", _START], 120)

    def found(self, address: str) -> dict[str, Any]:
        return {"connectionDomain": address, "privateConnectionPort": "6379"}

    def update(
        self, context: CloudContext, record: Record, inputs: Mapping[str, Any], keys: tuple[str, ...]
    ) -> dict[str, Any]:
        if "config" in keys:
            context.lxd.write(record.id, _CONFIG_FILE, config(inputs), "0644")
            for name, value in inputs.get("config", {}).items():
                _ask(context, record.id, 'ask CONFIG SET "$1" "$2"', name, value)
        if "password" in keys:
            # Each question logs in with the password of the file, so both are valid while the file changes.
            keep_old = f"sha256sum <{_FOLDER}/password | cut -c1-64 >{_FOLDER}/old"
            _ask(context, record.id, f'{keep_old}; ask ACL SETUSER default "#$1"', hashed(inputs["password"]))
            context.lxd.write(record.id, f"{_FOLDER}/password", inputs["password"])
            _ask(context, record.id, f'ask ACL SETUSER default "!$(cat {_FOLDER}/old)"; ask ACL SAVE')
        return record.outputs


class RedisAccount(Resource[CloudContext]):
    schema = Schema(
        replaces=frozenset({"instanceId", "accountName", "accountType"}),
        updates={"accountPassword": "", "description": ""},
        recorded=frozenset({"accountPrivilege"}),
    )

    def id(self, name: str, inputs: Mapping[str, Any]) -> str:
        return f"{inputs['instanceId']}:{inputs['accountName']}"

    def check(self, inputs: Mapping[str, Any]) -> None:
        if not _NAME.fullmatch(inputs["accountName"]):
            raise RehearsalError(
                f"{inputs['accountName']} is no name that Tair takes; allowed: small letters, digits and _"
            )
        only(inputs, "accountType", "Normal")
        only(inputs, "accountPrivilege", "RoleReadWrite")

    def create(self, context: CloudContext, record: Record, inputs: Mapping[str, Any]) -> dict[str, Any]:
        self._set(context, inputs)
        return {"status": "Available"}

    def update(
        self, context: CloudContext, record: Record, inputs: Mapping[str, Any], keys: tuple[str, ...]
    ) -> dict[str, Any]:
        if "accountPassword" in keys:
            self.delete(context, record)
            self._set(context, inputs)
        return record.outputs

    def delete(self, context: CloudContext, record: Record) -> None:
        file = f"{_ACCOUNTS}/{record.inputs['accountName']}"
        script = f'if [ -e {file} ]; then ask ACL SETUSER default "!$(cat {file})"; ask ACL SAVE; rm {file}; fi'
        _ask(context, record.inputs["instanceId"], script)

    def _set(self, context: CloudContext, inputs: Mapping[str, Any]) -> None:
        name, password = inputs["accountName"], inputs["accountPassword"]
        script = f'umask 077; echo "$1" >{_ACCOUNTS}/{name}; ask ACL SETUSER default "#$1"; ask ACL SAVE'
        _ask(context, inputs["instanceId"], script, hashed(f"{name}:{password}"))
