"""MySQL (MariaDB) on this machine: its disk, configuration, account and schema, as the release of it says.

The data are on the data disk, made there when it is empty and kept otherwise, so that another machine goes on
with them. Python 3.6, standard library only.
"""

import hashlib
import json
import os
import re
import subprocess
import time

import disk
import drift
import facts
import files
import host
from servers import ReleaseError, go_back, run, size, tail
from unpacked import Unpacked

UNIT = "mariadb"
# Without its disk MySQL must not start on an empty folder.
DROP_IN = "/etc/systemd/system/mariadb.service.d/wsgi-ecs.conf"
# CentOS 7's; Debian's is the journal.
LOG = "/var/log/mariadb/mariadb.log"
COMMAND = "/usr/local/sbin/wsgi-ecs-database"
# {"user": name, "password": hash} of the account that the application has; with the data, whatever machine has them.
_SETTLED = os.path.join(disk.FOLDER, "account.json")


def prepare(folder, password, say):
    """Bring MySQL to what the release in `folder` says, which changes nothing when it is there already.

    password: of the application's account. What the application had before is good until `settle`: it gets the new
    one machine by machine, or refuses the release. Raises ReleaseError or OSError.
    """
    unpacked, told = _read(folder, password)
    drift.replaced(drift.of_database(), say)
    disk.mount(say)
    same_system(told["system"])
    initialise(told["datadir"], say)
    configure(told, unpacked.read("config/mysql.cnf").decode(), say)
    files.write(COMMAND, unpacked.read("config/wsgi-ecs-database").decode(), 0o755)
    before = settled()
    sql(accounts(told, hashed(password), before if takes_several(sql("SELECT VERSION()")) else {}))
    sql(dropped(told, {told["user"], before.get("user", told["user"])}))
    apply_schema(told["database"], told["applied"], [(name, unpacked.read(name)) for name in told["schema"]], say)
    tool = unpacked.place_tool(files.ROOT)
    paths = [*tool, host.write_status(files.ROOT), COMMAND, told["config"], DROP_IN]
    files.write(os.path.join(files.ROOT, "state.json"), json.dumps({"written": files.noted(paths)}), 0o644)
    forget(unpacked.id)
    say("database {} is ready".format(told["database"]))


def settle(folder, password, say):
    """End the account or the password that the application had before. Raises ReleaseError or OSError."""
    _, told = _read(folder, password)
    wanted = {"user": told["user"], "password": hashed(password)}
    sql(accounts(told, wanted["password"], {}))
    sql(dropped(told, {told["user"]}))
    files.write(_SETTLED, json.dumps(wanted), 0o600)
    say("database {} takes no other password than the application's".format(told["database"]))


def _read(folder, password):
    """The unpacked release and what it says. Raises ReleaseError."""
    if not password:
        raise ReleaseError("no password on standard input")
    unpacked = Unpacked(folder)
    return unpacked, json.loads(unpacked.read("host.json").decode())


def settled():
    """The account that the application had last, an empty dict when no release has reached it yet."""
    try:
        return files.read_json(_SETTLED)
    except (FileNotFoundError, ValueError):
        # A disk that was taken away while this was written has it empty.
        return {}


def same_system(name):
    """Refuse data of another operating system's MariaDB, whose version may be years away."""
    path = os.path.join(disk.FOLDER, "system")
    if not os.path.exists(path):
        files.write(path, name + "\n", 0o644)
    with open(path) as file:
        known = file.read().strip()
    if known != name:
        raise ReleaseError(
            "the data disk holds the data of {}, which MariaDB of {} may not read".format(known, name),
            then="set server.os back to {}; to move, back up there and restore in a new stack".format(known),
        )


def initialise(datadir, say):
    """Make the system tables of a new disk: under another name until they are whole."""
    if os.path.isdir(datadir):
        return
    say("initialising the database in " + datadir)
    draft = datadir + ".new"
    files.remove(draft)
    run("mysql_install_db", "--user=mysql", "--datadir=" + draft)
    files.remove(os.path.join(draft, "test"))
    # A disk may be taken from a machine at any time: under its name the folder is whole.
    os.sync()
    os.rename(draft, datadir)


def configure(told, text, say):
    """Have MySQL run with this configuration; one that it does not start with is taken back. Raises ReleaseError."""
    text = text.replace("@@half_memory@@", "{}M".format(max(64, facts.memory() // 2)))
    path, unit = told["config"], "[Unit]\nRequiresMountsFor={}\n".format(told["datadir"])
    before = _text(path)
    is_same = (text, unit) == (before, _text(DROP_IN))
    if is_same and run("systemctl", "is-active", UNIT, check=False).strip() == "active":
        return
    os.makedirs(os.path.dirname(DROP_IN), exist_ok=True)
    files.write(DROP_IN, unit, 0o644)
    run("systemctl", "daemon-reload")
    run("systemctl", "enable", "-q", UNIT)

    def start(config):
        began, offset = time.time(), size(LOG)
        files.write(path, config, 0o644)
        try:
            run("systemctl", "restart", UNIT)
        except ReleaseError as error:
            said = tail(LOG, offset) or run("journalctl", "-u", UNIT, "-o", "cat", "--since=@%d" % began, check=False)
            lines = [line for line in said.splitlines() if "ERROR" in line] or said.splitlines()[-20:]
            raise ReleaseError("MySQL does not start", "\n".join(lines) or error.lines) from None

    say("starting MySQL")
    try:
        start(text)
    except BaseException as error:
        if before is not None:
            go_back(error, lambda: start(before))
        raise


def _text(path):
    """Text of a file, None when there is none."""
    try:
        with open(path, encoding="utf-8") as file:
            return file.read()
    except FileNotFoundError:
        return None


def dropped(told, users):
    """SQL that ends the accounts that may not be: those that come with the package, and ours but those of `users`."""
    kept = ", ".join("'{}'".format(user) for user in sorted(users))
    unwanted = sql(
        "SELECT CONCAT(QUOTE(user), '@', QUOTE(host)) FROM mysql.user WHERE user = '' "
        "OR (user = 'root' AND host <> 'localhost') "
        # No other account is of a network with its mask: they are this tool's.
        "OR (host LIKE '%/%' AND NOT (user IN ({}) AND host = '{}'))".format(kept, told["network"])
    ).splitlines()
    return "".join("DROP USER {};\n".format(account) for account in unwanted)


def takes_several(version):
    """Whether MariaDB of this version lets an account have several passwords."""
    # https://mariadb.com/kb/en/authentication-from-mariadb-10-4/
    return tuple(map(int, re.match(r"(\d+)\.(\d+)", version).groups())) >= (10, 4)


def accounts(told, password, before):
    """SQL that makes the database and the application's account.

    password: its hash. before: the account that the application has, whose password is good beside it.
    """
    # _ stands for any character in the name of a GRANT.
    pattern, account = told["database"].replace("_", "\\_"), "'{user}'@'{network}'".format(**told)
    # It takes the form of MariaDB 5.5 in all versions.
    identified = "BY PASSWORD '{}'".format(password)
    if before.get("user") == told["user"] and before["password"] != password:
        either = ("mysql_native_password USING '{}'".format(each) for each in (password, before["password"]))
        identified = "VIA " + " OR ".join(either)
    statements = [
        "CREATE DATABASE IF NOT EXISTS `{}` CHARACTER SET utf8mb4 COLLATE utf8mb4_unicode_ci".format(told["database"]),
        # Opened to every account by the package.
        "DELETE FROM mysql.db WHERE db IN ('test', 'test\\\\_%')",
        "FLUSH PRIVILEGES",
        "GRANT ALL PRIVILEGES ON `{}`.* TO {} IDENTIFIED {}".format(pattern, account, identified),
    ]
    return ";\n".join(statements) + ";\n"


def hashed(password):
    """What MySQL stores of a password (mysql_native_password); nothing of the text itself gets into SQL or a log."""
    # https://mariadb.com/kb/en/authentication-plugin-mysql_native_password/
    once = hashlib.sha1(password.encode("utf-8", "surrogateescape")).digest()  # noqa: S324
    return "*" + hashlib.sha1(once).hexdigest().upper()  # noqa: S324


def apply_schema(database, table, schema, say):
    """Bring the database to its schema: each file once, in order. schema: (name, content) of each. table: knows them.

    Raises ReleaseError for a file that is another than the one that was applied.
    """
    columns = "file INT PRIMARY KEY, sha256 CHAR(64) NOT NULL, applied TIMESTAMP NOT NULL DEFAULT CURRENT_TIMESTAMP"
    sql("CREATE TABLE IF NOT EXISTS {} ({})".format(table, columns), database)
    rows = sql("SELECT file, sha256 FROM " + table, database).splitlines()
    applied = {int(number): digest for number, digest in (row.split("\t") for row in rows)}
    digests = [hashlib.sha256(content).hexdigest() for _, content in schema]
    for number, (name, _) in enumerate(schema):
        if applied.get(number, digests[number]) != digests[number]:
            raise ReleaseError(
                "mysql.schema_files: {} is not what was applied as file {}".format(os.path.basename(name), number + 1),
                then="put it back as it was, and what is to change into a file after it",
            )
    for number, (name, content) in enumerate(schema):
        if number not in applied:
            say("applying " + os.path.basename(name))
            sql(content, database)
            sql("INSERT INTO {} (file, sha256) VALUES ({}, '{}')".format(table, number, digests[number]), database)


def sql(statements, database=""):
    """Run SQL, text or bytes, as MySQL's root. Returns its rows, columns between tabs. Raises ReleaseError."""
    command = ["mysql", "--batch", "--skip-column-names", "--default-character-set=utf8mb4"]
    done = subprocess.run(
        command + [database] if database else command,
        input=statements if isinstance(statements, bytes) else statements.encode(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    if done.returncode:
        # Without the statement itself, which may hold a password's hash.
        lines = [line for line in done.stderr.decode("utf-8", "replace").splitlines() if line.startswith("ERROR")]
        raise ReleaseError("MySQL refused it", "\n".join(lines))
    return done.stdout.decode("utf-8", "replace")


def forget(identifier):
    """Remove the archives that came before this one."""
    incoming = os.path.join(files.ROOT, "incoming")
    for name in os.listdir(incoming):
        if not name.startswith(identifier):
            files.remove(os.path.join(incoming, name))
