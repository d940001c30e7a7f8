"""The guide's stack with MySQL on a machine of its own: who reaches it, and what its data outlive.

The tests of a stack run in this order.
"""

import gzip
import json
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.rehearsal.builders.database import CONNECT, Databased, of_guide
from tests.rehearsal.builders.stack import entering, in_whole_runs, traces

# With all that SQL, a shell, JSON or PyMySQL does not leave as it is.
PASSWORDS = ('correct-horse it\'s "so" \\ `$HOME` %s;--\n\t{{}} 密码 \U0001f511', "' OR ''='", "\\")


DENIED = "1045"


@pytest.fixture(scope="module")
def site(project_copy: Path) -> Iterator[Databased]:
    """nginx, the application and MySQL on three machines."""
    stack = of_guide(project_copy, "guide-mysql")
    stack.secret(PASSWORDS[0])
    try:
        stack.address = stack.up().output("address")
        yield stack
    finally:
        stack.run("destroy", "--force")


def test_a_page_reads_rows_and_writes_them(site: Databased) -> None:
    assert site.names() == ["Ada", "Grace"]
    assert site.add("Zoë 🦉").text.splitlines() == ["Ada", "Grace", "Zoë 🦉"]
    # As the guide has it: by command line, on another machine than nginx.
    line = site.on("app-1", "pgrep", "-af", "uwsgi --strict").splitlines()[0]
    for option in ("--socket=0.0.0.0:3031", "--processes=4", "--threads=2", "--stats=127.0.0.1:919", "--callable=appl"):
        assert option in line


def test_nobody_but_the_application_reaches_it(site: Databased) -> None:
    address = site.machines()["db"]["outputs"]["primaryIpAddress"]
    reached = {name: site.on(name, "python3", "-c", CONNECT, address, "3306") for name in ("front", "app-1", "db")}
    assert reached == {"front": "closed", "app-1": "open", "db": "open"}
    here = subprocess.run(["python3", "-c", CONNECT, address, "3306"], capture_output=True, text=True, check=True)
    assert here.stdout.strip() == "closed"
    assert site.on("front", "python3", "-c", CONNECT, address, "22") == "open"
    assert site.on("app-1", "python3", "-c", CONNECT, address, "22") == "closed"
    # By name the application alone knows it, and nothing but its own account is there.
    assert "db" not in [line.split()[1] for line in site.on("front", "cat", "/etc/hosts").splitlines() if line]
    accounts = site.on("db", "mysql", "-NBe", "SELECT user, host FROM mysql.user WHERE host <> ''").splitlines()
    own = {"mariadb.sys\tlocalhost", "mysql\tlocalhost", "root\tlocalhost"}
    assert set(accounts) - own == {"app\t10.76.0.0/255.255.240.0"}
    assert site.on("db", "mysql", "-NBe", "SELECT db, user FROM mysql.db; SHOW DATABASES LIKE 'test%'") == "app\tapp"


def test_the_data_are_on_the_data_disk_and_wait_for_it(site: Databased) -> None:
    assert site.on("db", "mysql", "-NBe", "SELECT @@datadir, @@character_set_server") == "/srv/data/mysql/\tutf8mb4"
    assert "/srv/data" in site.on("db", "systemctl", "show", "-p", "RequiresMountsFor", "mariadb")
    memory = 1 << 20
    half = int(site.on("db", "mysql", "-NBe", "SELECT @@innodb_buffer_pool_size"))
    assert 900 * memory <= half <= 1100 * memory, "half of the machine's 2 GiB"


def test_nothing_is_done_when_nothing_has_changed(site: Databased) -> None:
    assert " unchanged" in site.up().out
    assert site.names() == ["Ada", "Grace", "Zoë 🦉"]


@pytest.mark.parametrize("password", PASSWORDS[1:])
def test_a_rotated_password_goes_live_and_the_old_one_does_not_work_any_more(site: Databased, password: str) -> None:
    before = site.on("db", "mysql", "-NBe", "SELECT authentication_string FROM mysql.user WHERE user = 'app'")
    started = site.on("db", "systemctl", "show", "-p", "MainPID", "mariadb")
    old = site.password
    site.secret(password)
    with site.asked() as answers:
        site.up()
    assert len(answers) > 20
    assert {status for _, status in answers} == {200}, "no request is lost"
    assert (site.login("app", password), site.login("app", old)) == ("in", DENIED)
    assert site.on("db", "mysql", "-NBe", "SELECT authentication_string FROM mysql.user WHERE user = 'app'") != before
    assert site.names() == ["Ada", "Grace", "Zoë 🦉"]
    assert site.on("db", "systemctl", "show", "-p", "MainPID", "mariadb") == started, "no restart"


def test_a_refused_release_leaves_the_password_before_good(site: Databased) -> None:
    old = site.password
    site.edit("samples/mysql-wsgi/app.py", "import pymysql", "import pymysql, nowhere")
    site.secret("abandoned")
    with site.asked() as answers:
        refused = site.run("up")
    assert refused.code == 1
    assert "No module named 'nowhere'" in refused.text
    assert {status for _, status in answers} == {200}
    assert [site.login("app", password) for password in (old, "abandoned")] == ["in", "in"]
    # Back to the one before, or on to another: what no application has is not good any more.
    site.secret("the next")
    assert site.run("up").code == 1
    assert [site.login("app", password) for password in (old, "abandoned", "the next")] == ["in", DENIED, "in"]
    site.edit("samples/mysql-wsgi/app.py", "import pymysql, nowhere", "import pymysql")
    site.secret(old)
    site.up()
    assert [site.login("app", password) for password in (old, "the next")] == ["in", DENIED]


def test_another_user_takes_over_without_a_lost_request(site: Databased) -> None:
    # The way of a MariaDB whose users have one password each.
    old = site.password
    site.secret("of the other user")
    site.settings["mysql"] = {**site.settings["mysql"], "user": "other"}
    with site.asked() as answers:
        site.up()
    assert len(answers) > 20
    assert {status for _, status in answers} == {200}
    assert (site.login("other", site.password), site.login("app", old)) == ("in", DENIED)


def test_rows_outlive_a_release_and_a_reboot(site: Databased) -> None:
    site.edit("samples/mysql-wsgi/app.py", "no such page", "no page of that name")
    site.up()
    assert site.get(site.address, "/nowhere").text == "no page of that name\n"
    site.on("db", "systemctl", "--no-block", "reboot")
    site.until(lambda: site.get(site.address, "/healthz").status_code != 200)
    site.until(lambda: site.names() == ["Ada", "Grace", "Zoë 🦉"])


def test_a_release_is_refused_while_the_database_is_down(site: Databased) -> None:
    site.on("db", "systemctl", "stop", "mariadb")
    site.edit("samples/mysql-wsgi/app.py", '{"status": "ok"}', '{"status": "good"}')
    refused = site.run("up")
    assert refused.code == 1
    assert "release refused, the one before it still serves" in refused.text
    assert "Can't connect to MySQL server on 'db'" in refused.text
    assert site.password not in refused.text
    site.on("db", "systemctl", "start", "mariadb")
    assert site.get(site.address, "/healthz").json() == {"status": "ok"}
    site.up()
    assert site.get(site.address, "/healthz").json() == {"status": "good"}


def test_a_dump_brings_back_what_was_lost(site: Databased) -> None:
    dump = site.folder / "app.sql.gz"
    done = site.run("backup", str(dump))
    assert done.code == 0, done.text
    assert dump.stat().st_mode & 0o777 == 0o600
    assert "Zoë 🦉" in gzip.decompress(dump.read_bytes()).decode()
    assert "is there already" in site.run("backup", str(dump)).err
    machines = json.loads(site.run("status", "--json").out)["machines"]
    (made,) = (machine["database"]["backup"] for machine in machines if machine["database"])
    assert abs(made - time.time()) < 120
    site.on("db", "mysql", "-e", "DELETE FROM app.people; INSERT INTO app.people (name) VALUES ('Mallory')")
    assert site.names() == ["Mallory"]
    part = site.folder / "part.sql.gz"
    part.write_bytes(dump.read_bytes()[:-100])
    assert site.run("restore", str(part)).code == 2
    assert site.names() == ["Mallory"]
    assert site.run("restore", str(dump)).code == 0
    assert site.names() == ["Ada", "Grace", "Zoë 🦉"]


def test_a_dump_does_not_disturb_those_who_write(site: Databased) -> None:
    dump = site.folder / "busy.sql.gz"
    with site.asked(write=True) as answers:
        site.until(lambda: len(answers) > 5)
        before = {name for name, _ in answers}
        assert site.run("backup", str(dump)).code == 0
    assert {status for _, status in answers} == {200}
    text = gzip.decompress(dump.read_bytes()).decode()
    assert all(f"'{name}'" in text for name in before)
    site.on("db", "mysql", "-e", "DELETE FROM app.people WHERE name LIKE 'asked %'")


def test_what_does_not_load_changes_nothing(site: Databased) -> None:
    whole = (site.folder / "app.sql.gz").read_bytes()
    text = gzip.decompress(whole)
    no_whole = "wsgi-ecs-database: no whole dump of mysqldump, nothing is changed"
    cases = {
        whole[:-100]: no_whole,
        gzip.compress(b"DROP TABLE people;"): no_whole,
        b"": no_whole,
        # Found out when a table has gone already.
        gzip.compress(text.replace(b"UNLOCK TABLES", b"UNLOCK", 1)): "the tables are as they were before",
    }
    site.on("db", "mysql", "-e", "INSERT INTO app.people (name) VALUES ('Olga')")
    # As the README has it for the cloud, without what ./rehearse looks at before.
    line = [*entering(site.project, site.machines()["db"]["id"]), "wsgi-ecs-database"]
    for content, said in cases.items():
        done = subprocess.run([*line, "load"], input=content, capture_output=True)
        assert (done.returncode, said in done.stderr.decode()) == (1, True), done.stderr
        assert site.names() == ["Ada", "Grace", "Zoë 🦉", "Olga"]
        assert site.on("db", "sh", "-c", "ls -d /srv/data/tmp.* 2>/dev/null || true") == ""
    site.on("db", "mysql", "-e", "DELETE FROM app.people WHERE name = 'Olga'")


def test_a_schema_file_is_applied_once_and_never_changed(site: Databased) -> None:
    first, mysql = "samples/mysql-wsgi/schema.sql", site.settings["mysql"]
    (site.folder / "second.sql").write_text("ALTER TABLE people ADD COLUMN town VARCHAR(50) NOT NULL DEFAULT 'Zürich';")
    site.settings["mysql"] = {**mysql, "schema_files": [first, "second.sql"]}
    done = site.up()
    assert "applying second.sql" in done.out
    assert "applying schema.sql" not in done.out
    utf8 = "--default-character-set=utf8mb4"
    assert site.on("db", "mysql", utf8, "-NBe", "SELECT DISTINCT town FROM app.people") == "Zürich"
    site.edit("second.sql", "Zürich", "Genf")
    refused = site.run("up")
    assert refused.code == 1
    assert "mysql.schema_files: second.sql was changed after it was applied as file 2" in refused.text
    assert site.names() == ["Ada", "Grace", "Zoë 🦉"]
    site.edit("second.sql", "Genf", "Zürich")
    older = site.run("restore", str(site.folder / "app.sql.gz"))
    assert older.code == 0
    assert "the dump has 1 of mysql.schema_files, this release has 2: raise release.generation" in older.err
    site.settings["release"] = {"generation": 1}
    assert "applying second.sql" in site.up().out
    utf8 = "--default-character-set=utf8mb4"
    assert site.on("db", "mysql", utf8, "-NBe", "SELECT DISTINCT town FROM app.people") == "Zürich"
    (site.folder / "third.sql").write_text("ALTER TABLE people\n  ADD town INT;")
    site.settings["mysql"] = {**mysql, "schema_files": [first, "second.sql", "third.sql"]}
    broken = site.run("up")
    assert broken.code == 1
    assert "ERROR 1060 (42S21) at line 1: Duplicate column name 'town'" in broken.text
    site.settings["mysql"] = {**mysql, "schema_files": [first, "second.sql"]}


def test_a_configuration_that_mysql_does_not_start_with_is_taken_back(site: Databased) -> None:
    mysql = site.settings["mysql"]
    site.settings["mysql"] = {**mysql, "innodb_buffer_pool_size": "99999G"}
    done = site.run("up")
    site.settings["mysql"] = mysql
    assert done.code == 1
    assert "database not ready: MySQL does not start" in done.text
    assert "[ERROR] InnoDB: " in done.text
    assert site.names() == ["Ada", "Grace", "Zoë 🦉"]


@in_whole_runs
def test_rows_outlive_every_machine(site: Databased) -> None:
    before, disks = site.machines(), {path for path in traces(site) if "/volumes/" in path}
    site.settings["server"] = {**site.settings["server"], "image": "centos_7_9_x64_another"}
    site.up()
    after = site.machines()
    assert {name for name in before if before[name]["id"] != after[name]["id"]} == {"front", "app-1", "db"}
    assert {path for path in traces(site) if "/volumes/" in path} == disks
    assert site.names() == ["Ada", "Grace", "Zoë 🦉"]
    assert site.add("Olga").text.splitlines()[-1] == "Olga"


def test_what_was_answered_outlives_a_new_database_server_under_requests(site: Databased) -> None:
    before = site.machines()
    site.edit("kinds/systems/centos7.py", '("mariadb-server",)', '("mariadb-server", "logrotate")')
    with site.asked(write=True) as answers:
        done = site.up()
        site.until(lambda: answers[-1][1] == 200)
    after = site.machines()
    assert {name for name in before if before[name]["id"] != after[name]["id"]} == {"db"}
    steps = [line.split()[2].rpartition("-")[2] for line in done.out.splitlines() if line.startswith("+- ")]
    assert steps.index("ready") < steps.index("attachment"), "the old one serves until the new one is ready"
    lost = [index for index, (_, status) in enumerate(answers) if status != 200]
    print(f"{len(answers)} requests, {len(lost)} without a database")
    assert {name for name, status in answers if status == 200} <= set(site.names())
    assert lost[0] > 0, "it was written to before"
