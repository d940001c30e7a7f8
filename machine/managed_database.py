"""A database of the cloud (ApsaraDB RDS), which this machine brings its schema, and dumps when it is told to.

    /etc/wsgi-ecs/mysql.cnf    how MySQL's client logs in (root 0600)

The cloud has made the database and the accounts. Python 3.6, standard library only.
"""

import os
from typing import Dict, Optional

import database
import files
from commands import ReleaseError, Say
from contract import paths
from contract.codec import decode
from contract.documents import CONFIG_FOLDER, HOST_FILE, Host
from unpacked import Unpacked

# A client of MariaDB 11.4 or newer refuses a server without TLS unless it is told not to.
_CLIENT = """\
[client]
host = "{host}"
port = {port}
user = "{user}"
password = "{password}"
{tls}
"""


def bring(folder: str, account: Optional[Dict[str, str]], say: Say) -> None:
    """Bring the database of the release in `folder` its schema. Raises ReleaseError or OSError.

    account: host, port, user and password of the tool's own account.
    """
    unpacked = Unpacked(folder)
    managed = decode(Host, unpacked.text(HOST_FILE)).database
    if managed is None or account is None:
        raise ReleaseError("no account of the database on standard input", then="run up again, which sends it")
    has_authority = os.path.exists(paths.MYSQL_CA)
    tls = "ssl-ca = {}\nssl-verify-server-cert".format(paths.MYSQL_CA) if has_authority else "skip-ssl"
    files.write(paths.MYSQL_CLIENT, _CLIENT.format(tls=tls, **account), 0o600)
    command = unpacked.text(CONFIG_FOLDER + os.path.basename(paths.DATABASE_COMMAND))
    files.write(paths.DATABASE_COMMAND, command, 0o755)
    # Where a dump is checked before it is loaded.
    os.makedirs(paths.DATA, exist_ok=True)
    schema = [(name, unpacked.read(name)) for name in managed.schema]
    database.apply_schema(managed.database, managed.applied, schema, say)
    say("database {} is ready".format(managed.database))
