"""A machine that has a database or Redis alone: what it gets beside the service itself.

Python 3.6, standard library only.
"""

import json
import os
from typing import Callable, Dict, List, NamedTuple, Tuple

import database
import drift
import drop_ins
import files
import hardening
import host
import metrics
import redis_server
import updates
from commands import ReleaseError, Say
from contract import paths
from contract.documents import HOST_FILE, STATE_FILE
from contract.service_documents import ServiceState
from unpacked import Unpacked


class Service(NamedTuple):
    """How a service is brought to what a release says, and how the passwords before the last one end.

    prepare: returns the paths of the files that it has written.
    """

    name: str
    prepare: Callable[[Unpacked, str, Say], List[str]]
    drop_old_credentials: Callable[[Unpacked, str, Say], None]


# Key of standard input → service.
SERVICES: Dict[str, Service] = {
    "database": Service("database", database.prepare, database.drop_old_credentials),
    "redis": Service("Redis", redis_server.prepare_alone, redis_server.drop_old_credentials),
}
_STATE = os.path.join(paths.ROOT, STATE_FILE)


def prepare(folder: str, secrets: Dict[str, Dict[str, str]], say: Say) -> None:
    """Bring the machine to what the release in `folder` says, which changes nothing when it is there already.

    The password before is valid until drop_old_credentials: the machines of the application get the new password one
    by one, or refuse their release. Raises ReleaseError or OSError.
    """
    unpacked = Unpacked(folder)
    drift.report_overwritten(drift.of_service(), say)
    service, password = _of(secrets)
    written = list(service.prepare(unpacked, password, say))
    # Last: what has drop-ins is started again wherever it does not run, and must be what the release says first.
    written += drop_ins.place(json.loads(unpacked.text(HOST_FILE)).get("drop_ins", {}))
    written += [*unpacked.place_tool(paths.ROOT), *host.write_commands(paths.ROOT), *metrics.place(unpacked, say)]
    written += hardening.place(unpacked, say)
    written += updates.place(unpacked, say)
    _save(written)
    remove_other_archives(unpacked.id)


def drop_old_credentials(folder: str, secrets: Dict[str, Dict[str, str]], say: Say) -> None:
    """End what the applications had before as an account or a password. Raises ReleaseError or OSError."""
    service, password = _of(secrets)
    service.drop_old_credentials(Unpacked(folder), password, say)
    say("{} accepts only the application's current password".format(service.name))
    # The password may be in one of the files.
    _save(sorted(files.document(ServiceState, _STATE).written))


def _of(secrets: Dict[str, Dict[str, str]]) -> Tuple[Service, str]:
    """The service that standard input names, and its password. Raises ReleaseError."""
    for key, secret in secrets.items():
        password = secret.get("password")
        if password:
            return SERVICES[key], password
    raise ReleaseError("no password on standard input", then="run up again, which sends it")


def _save(written: List[str]) -> None:
    files.write_document(_STATE, ServiceState(files.digests(written)), 0o644)


def remove_other_archives(identifier: str) -> None:
    """Remove the archives of other releases."""
    incoming = paths.incoming()
    for name in os.listdir(incoming):
        if not name.startswith(identifier):
            files.remove(os.path.join(incoming, name))
