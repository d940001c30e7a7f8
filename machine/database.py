"""MySQL (MariaDB) on this machine: its disk, configuration, account and schema, as the release says.

The data are on the data disk. An empty disk gets new data; existing data are kept, so that a replaced machine goes on
with them. Python 3.6, standard library only.
"""

import hashlib
import os
import re
import shutil
import subprocess
import time
from typing import List, Optional, Set, Tuple, Union

import database_tls
import disk
import dumps
import facts
import files
from commands import ReleaseError, Say, roll_back, run
from contract import paths
from contract.codec import decode
from contract.documents import CONFIG_FOLDER, HOST_FILE, MYSQL_CONFIG_FILE
from contract.service_documents import Account, Database
from logs import size, tail
from unpacked import Unpacked

UNIT = "mariadb"
# Without its disk MySQL must not start on an empty folder.
DROP_IN = "/etc/systemd/system/mariadb.service.d/wsgi-ecs.conf"
# CentOS 7 has this log; Debian has the journal.
LOG = "/var/log/mariadb/mariadb.log"
# The account that the application has is kept with the data, because the disk may move to another machine.
_ACCOUNT = os.path.join(paths.DATA, "account.json")


def prepare(unpacked: Unpacked, password: str, say: Say) -> List[str]:
    """Bring MySQL to what the release says. Returns the paths of its files.

    password: of the application's account. Raises ReleaseError or OSError.
    """
    database = decode(Database, unpacked.text(HOST_FILE))
    disk.mount(say)
    check_system(database.system)
    # First: its time may come at any moment, and the rest may be refused.
    dumps.end_unwanted(unpacked)
    initialise(database.datadir, say)
    config = unpacked.text(CONFIG_FOLDER + MYSQL_CONFIG_FILE)
    if database.tls != "none":
        database_tls.prepare()
        configure(database, database_tls.with_certificate(config), say)
    else:
        # An application that verifies the server is answered until drop_old_credentials.
        configure(database, database_tls.kept(config, files.text(database.config)), say)
    command = unpacked.text(CONFIG_FOLDER + os.path.basename(paths.DATABASE_COMMAND))
    files.write(paths.DATABASE_COMMAND, command, 0o755)
    old = old_account()
    # An application that does not speak TLS yet is let in until drop_old_credentials.
    needs_tls = database.tls == "required" and old is not None and old.needs_tls
    either = old if has_several_passwords(sql("SELECT VERSION()")) else None
    sql(accounts(database, hashed(password), either, needs_tls))
    sql(dropped(database, {database.user, old.user if old else database.user}))
    schema = [(name, unpacked.read(name)) for name in database.schema]
    apply_schema(database.database, database.applied, schema, say)
    if database.tls != "none":
        database_tls.tell(say)
    say("database {} is ready".format(database.database))
    return [paths.DATABASE_COMMAND, database.config, DROP_IN, *dumps.place(unpacked)]


def drop_old_credentials(unpacked: Unpacked, password: str, say: Say) -> None:
    """End the account, the password or the TLS that the application had before. Raises ReleaseError or OSError."""
    database = decode(Database, unpacked.text(HOST_FILE))
    if database.tls == "none":
        configure(database, unpacked.text(CONFIG_FOLDER + MYSQL_CONFIG_FILE), say)
    account = Account(database.user, hashed(password), database.tls == "required")
    sql(accounts(database, account.password, None, account.needs_tls))
    sql(dropped(database, {database.user}))
    files.write_document(_ACCOUNT, account, 0o600)


def old_account() -> Optional[Account]:
    """The account that the application had last, None before a first release."""
    try:
        return files.document(Account, _ACCOUNT)
    except (FileNotFoundError, ValueError):
        # The file is empty when the disk was taken away while the file was written.
        return None


def check_system(name: str) -> None:
    """Refuse data of another operating system's MariaDB, whose version may be years older or newer."""
    path = os.path.join(paths.DATA, "system")
    if not os.path.exists(path):
        files.write(path, name + "\n", 0o644)
    with open(path) as file:
        known = file.read().strip()
    if known != name:
        raise ReleaseError(
            "the data disk holds the data of {}, which MariaDB of {} may not read".format(known, name),
            then="set server.os back to {}; to move, back up there and restore in a new stack".format(known),
        )


def initialise(datadir: str, say: Say) -> None:
    """Make the system tables of a new disk, under another name until they are complete."""
    if os.path.isdir(datadir):
        return
    say("initialising the database in " + datadir)
    draft = datadir + ".new"
    files.remove(draft)
    run("mysql_install_db", "--user=mysql", "--datadir=" + draft)
    files.remove(os.path.join(draft, "test"))
    # A disk may be taken from a machine at any time, and under this name the folder must be complete.
    os.sync()
    os.rename(draft, datadir)


def configure(database: Database, text: str, say: Say) -> None:
    """Have MySQL run with this configuration, or with the old one if it does not start. Raises ReleaseError then."""
    text = facts.fill(text, {"half_memory": "{}M".format(max(64, facts.memory() // 2))})
    path, unit = database.config, "[Unit]\nRequiresMountsFor={}\n".format(database.datadir)
    before = files.text(path)
    is_same = (text, unit) == (before, files.text(DROP_IN))
    if is_same and run("systemctl", "is-active", UNIT, check=False).strip() == "active":
        return
    os.makedirs(os.path.dirname(DROP_IN), exist_ok=True)
    files.write(DROP_IN, unit, 0o644)
    run("systemctl", "daemon-reload")
    run("systemctl", "enable", "-q", UNIT)

    def start(config: str) -> None:
        began, offset = time.time(), size(LOG)
        # A run that is killed before the restart leaves a text that the next run does not take for what MySQL has.
        files.write(path, config + "# MySQL starts with this.\n", 0o644)
        try:
            run("systemctl", "restart", UNIT)
            files.write(path, config, 0o644)
        except ReleaseError as error:
            said = tail(LOG, offset) or run("journalctl", "-u", UNIT, "-o", "cat", "--since=@%d" % began, check=False)
            lines = [line for line in said.splitlines() if "ERROR" in line] or said.splitlines()[-20:]
            raise ReleaseError("MySQL does not start", "\n".join(lines) or error.lines) from None

    say("starting MySQL")
    try:
        start(text)
    except BaseException as error:
        if before is not None:
            old = before
            roll_back(error, lambda: start(old))
        raise


def dropped(database: Database, users: Set[str]) -> str:
    """SQL that drops the accounts that come with the package, and those of this tool except `users`."""
    kept = ", ".join("'{}'".format(user) for user in sorted(users))
    unwanted = sql(
        "SELECT CONCAT(QUOTE(user), '@', QUOTE(host)) FROM mysql.user WHERE user = '' "
        "OR (user = 'root' AND host <> 'localhost') "
        # Only this tool makes accounts of a network with its mask.
        "OR (host LIKE '%/%' AND NOT (user IN ({}) AND host = '{}'))".format(kept, database.network)
    ).splitlines()
    return "".join("DROP USER {};\n".format(account) for account in unwanted)


def has_several_passwords(version: str) -> bool:
    """Whether MariaDB of this version lets an account have several passwords."""
    # https://mariadb.com/kb/en/authentication-from-mariadb-10-4/
    major, minor = version.split(".")[:2]
    return (int(major), int(re.sub(r"\D.*", "", minor, flags=re.DOTALL))) >= (10, 4)


def accounts(database: Database, password: str, old: Optional[Account], needs_tls: bool = False) -> str:
    """SQL that makes the database and the application's account.

    password: its hash. old: the account that the application has, whose password stays valid too. needs_tls: whether it
    is let in over TLS alone.
    """
    # _ stands for any character in the name of a GRANT.
    pattern = database.database.replace("_", "\\_")
    account = "'{}'@'{}'".format(database.user, database.network)
    # All versions of MariaDB accept the form of 5.5.
    identified = "BY PASSWORD '{}'".format(password)
    if old and old.user == database.user and old.password != password:
        either = ("mysql_native_password USING '{}'".format(each) for each in (password, old.password))
        identified = "VIA " + " OR ".join(either)
    statements = [
        "CREATE DATABASE IF NOT EXISTS `{}` CHARACTER SET utf8mb4 COLLATE utf8mb4_unicode_ci".format(database.database),
        # The package opens these to every account.
        "DELETE FROM mysql.db WHERE db IN ('test', 'test\\\\_%')",
        "FLUSH PRIVILEGES",
        "GRANT ALL PRIVILEGES ON `{}`.* TO {} IDENTIFIED {} REQUIRE {}".format(
            pattern, account, identified, "SSL" if needs_tls else "NONE"
        ),
    ]
    return ";\n".join(statements) + ";\n"


def hashed(password: str) -> str:
    """The hash that MySQL stores (mysql_native_password), so that the password itself is in no SQL and no log."""
    # https://mariadb.com/kb/en/authentication-plugin-mysql_native_password/
    once = hashlib.sha1(password.encode("utf-8", "surrogateescape")).digest()  # noqa: S324
    return "*" + hashlib.sha1(once).hexdigest().upper()  # noqa: S324


def apply_schema(name_of_database: str, table: str, schema: List[Tuple[str, bytes]], say: Say) -> None:
    """Bring the database to its schema: each file once, in order. schema: (name, content) of each.

    table: of what was applied, in the database itself.

    Raises ReleaseError for a file that was changed after it was applied.
    """
    columns = "file INT PRIMARY KEY, sha256 CHAR(64) NOT NULL, applied TIMESTAMP NOT NULL DEFAULT CURRENT_TIMESTAMP"
    sql("CREATE TABLE IF NOT EXISTS {} ({})".format(table, columns), name_of_database)
    rows = sql("SELECT file, sha256 FROM " + table, name_of_database).splitlines()
    applied = {int(number): digest for number, digest in (row.split("\t") for row in rows)}
    digests = [hashlib.sha256(content).hexdigest() for _, content in schema]
    for number, (name, _) in enumerate(schema):
        if applied.get(number, digests[number]) != digests[number]:
            raise ReleaseError(
                "mysql.schema_files: {} was changed after it was applied as file {}".format(
                    os.path.basename(name), number + 1
                ),
                then="restore the file as it was, and put the change into a new file after it",
            )
    for number, (name, content) in enumerate(schema):
        if number not in applied:
            say("applying " + os.path.basename(name))
            sql(content, name_of_database)
            sql(
                "INSERT INTO {} (file, sha256) VALUES ({}, '{}')".format(table, number, digests[number]),
                name_of_database,
            )


def sql(statements: Union[str, bytes], database: str = "") -> str:
    """Run SQL, text or bytes, as MySQL's root. Returns its rows, columns between tabs. Raises ReleaseError.

    On a machine with a managed database, as the tool's own account there.
    """
    # MariaDB 11 has dropped the names of MySQL, and CentOS 7's 5.5 has no others.
    client = "mariadb" if shutil.which("mariadb") else "mysql"
    login = ["--defaults-extra-file=" + paths.MYSQL_CLIENT] if os.path.exists(paths.MYSQL_CLIENT) else []
    # MySQL takes the file of an account first.
    command = [client, *login, "--batch", "--skip-column-names", "--default-character-set=utf8mb4"]
    done = subprocess.run(
        command + [database] if database else command,
        input=statements if isinstance(statements, bytes) else statements.encode(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    if done.returncode:
        # Only MySQL's errors are shown, because the statement may hold a password's hash.
        lines = [line for line in done.stderr.decode("utf-8", "replace").splitlines() if line.startswith("ERROR")]
        raise ReleaseError("MySQL refused a statement", "\n".join(lines))
    return done.stdout.decode("utf-8", "replace")
