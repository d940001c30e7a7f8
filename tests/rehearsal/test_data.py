"""What an application writes, on real machines: kept across releases and reboots, closed to others, and served."""

import random
import re
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.rehearsal.builders.stack import Stack, new_stack, tried, until

APPLICATION = """
import os
import sqlite3

from flask import Flask, request

app = Flask(__name__, instance_relative_config=True)
HERE = os.path.dirname(os.path.abspath(__file__))
# This module makes its folder at start, as Flask's documentation shows it.
os.makedirs(os.path.join(app.instance_path, "notes"), exist_ok=True)


def rows():
    database = sqlite3.connect(os.path.join(HERE, "db.sqlite3"), timeout=60)
    database.execute("create table if not exists visit (at text)")
    return database


@app.post("/visit")
def visit():
    with rows() as database:
        database.execute("insert into visit values (datetime('now'))")
    return "ok"


@app.get("/count")
def count():
    return str(rows().execute("select count(*) from visit").fetchone()[0])


@app.post("/upload/<name>")
def upload(name):
    with open(os.path.join(HERE, "media", name), "wb") as file:
        file.write(request.get_data())
    return "ok"


@app.get("/places")
def places():
    return {"data": os.environ["DATA_DIR"], "home": os.path.expanduser("~"), "pid": os.getpid()}


@app.get("/healthz")
def healthz():
    return "ok"
"""
KEPT = {"source": "kept", "persistent": ["instance", "media", "db.sqlite3"]}
KINDS: dict[str, dict[str, Any]] = {
    name: {
        "serving": {"process_manager": name},
        "uwsgi": {"processes": 2},
        "sites": {
            "kept": {
                "site": {"server_name": "kept.example.test"},
                "app": KEPT,
                "data": {"served": {"/media/": "media"}},
            },
            "other": {"site": {"server_name": "other.example.test"}},
        },
    }
    for name in ("supervisor", "systemd", "emperor")
}
DATA = "/srv/wsgi-ecs/sites/kept/data"


class Kept:
    """A stack of two sites that is up, of which one writes."""

    def __init__(self, kind: str, stack: Stack) -> None:
        self.kind, self.stack = kind, stack
        self.address = stack.up().output("address")

    def ask(self, method: str, path: str, **options: Any) -> httpx.Response:
        headers = {"Host": "kept.example.test"}
        url = f"http://{self.address}{path}"
        return httpx.request(method, url, headers=headers, trust_env=False, timeout=60, **options)

    def count(self) -> int:
        return int(self.ask("GET", "/count").text)


@pytest.fixture(scope="module", params=tried(KINDS, "emperor"))
def kept(request: pytest.FixtureRequest, project_copy: Path) -> Iterator[Kept]:
    stack = new_stack(project_copy, f"data-{request.param}")
    folder = stack.folder / "kept"
    (folder / "instance").mkdir(parents=True)
    (folder / "instance/first.txt").write_text("of the release")
    (folder / "app.py").write_text(APPLICATION)
    (folder / "requirements.txt").write_text((stack.folder / "app/requirements.txt").read_text())
    stack.settings = KINDS[request.param]
    try:
        yield Kept(request.param, stack)
    finally:
        stack.run("destroy")


def test_the_application_finds_its_folder_and_no_other_site_reads_it(kept: Kept) -> None:
    found = kept.ask("GET", "/places").json()
    assert (found["data"], found["home"]) == (DATA, DATA)
    user = "wsgi-app" if kept.kind == "emperor" else "wsgi-kept"
    assert kept.stack.shell(f"stat -c '%U %a' {DATA} {DATA}/media").splitlines() == [f"{user} 710", f"{user} 2750"]
    assert kept.stack.shell("stat -c %a /srv/wsgi-ecs/sites/other/data") == "750"
    assert kept.stack.shell(f"cat {DATA}/instance/first.txt") == "of the release"
    # With the emperor all sites are one user.
    for name in ("www-data", *(("wsgi-other",) if kept.kind != "emperor" else ())):
        assert kept.stack.shell(f"runuser -u {name} -- cat {DATA}/instance/first.txt 2>&1 || true").endswith("denied")


def test_two_processes_write_to_sqlite_and_lose_nothing(kept: Kept) -> None:
    before, statuses = kept.count(), []

    def write() -> None:
        for _ in range(25):
            statuses.append(kept.ask("POST", "/visit").status_code)

    writers = [threading.Thread(target=write) for _ in range(4)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert statuses.count(200) > 90
    assert kept.count() - before == statuses.count(200)


def test_releases_and_a_reboot_keep_what_was_written(kept: Kept) -> None:
    kept.ask("POST", "/visit")
    count = kept.count()
    for remark in ("# one\n", "# two\n"):
        kept.stack.edit("kept/app.py", "\nimport os\n", f"\n{remark}import os\n")
        kept.stack.up()
        assert kept.count() == count
    started = kept.stack.shell("ps -o lstart= -p 1")
    kept.stack.run("ssh", "--", "reboot")
    until(lambda: kept.stack.shell("ps -o lstart= -p 1") != started and kept.count() == count, 180)
    assert "edited by hand" not in kept.stack.run("ssh", "--", "wsgi-ecs-status").text


def test_a_refused_release_keeps_what_was_written_and_names_the_setting(kept: Kept) -> None:
    count = kept.count()
    kept.stack.edit("kept/app.py", "app.instance_path", "HERE + '/elsewhere'")
    done = kept.stack.run("up")
    kept.stack.edit("kept/app.py", "HERE + '/elsewhere'", "app.instance_path")
    assert done.code == 1
    assert "Permission denied" in done.text
    assert "app.persistent" in done.text
    assert "DATA_DIR" in done.text
    assert kept.count() == count


def test_nginx_serves_uploads_that_cannot_run(kept: Kept) -> None:
    for name in ("a.png", "page.html", "drawing.svg"):
        assert kept.ask("POST", f"/upload/{name}", content=b"<script>1</script>").status_code == 200
    picture, page, drawing = (kept.ask("GET", f"/media/{name}") for name in ("a.png", "page.html", "drawing.svg"))
    assert [answer.headers["X-Content-Type-Options"] for answer in (picture, page, drawing)] == ["nosniff"] * 3
    assert "Content-Disposition" not in picture.headers
    for answer in (page, drawing):
        assert answer.headers["Content-Disposition"] == "attachment"
        assert "sandbox" in answer.headers["Content-Security-Policy"]
    kept.stack.shell(f"ln -sfn /etc/hostname {DATA}/media/link.txt; ln -sfn ../instance {DATA}/media/inside")
    statuses = [kept.ask("GET", f"/media/{path}").status_code for path in ("", "link.txt", "inside/x", "../db.sqlite3")]
    assert statuses[:2] == [403, 403]
    assert statuses[2] in (403, 404)
    assert statuses[3] in (400, 404)
    assert kept.ask("POST", "/media/a.png").status_code == 405


def test_a_copy_of_the_data_comes_back(kept: Kept, tmp_path: Path) -> None:
    file = tmp_path / "kept.tar.gz"
    kept.ask("POST", "/upload/kept.png", content=b"of the copy")
    count = kept.count()
    done = kept.stack.run("backup", "--site", "kept", str(file))
    assert done.code == 0, done.text
    assert file.stat().st_mode & 0o777 == 0o600
    kept.ask("POST", "/visit")
    kept.stack.shell(f"rm {DATA}/media/kept.png; touch {DATA}/later")
    done = kept.stack.run("restore", "--site", "kept", str(file))
    assert done.code == 0, done.text
    until(lambda: kept.count() == count)
    assert kept.ask("GET", "/media/kept.png").content == b"of the copy"
    assert kept.stack.shell(f"ls -A {DATA}").split() == ["db.sqlite3", "instance", "media"]
    kept.ask("POST", "/visit")
    assert kept.count() == count + 1
    file.write_bytes(file.read_bytes()[:-100])
    done = kept.stack.run("restore", "--site", "kept", str(file))
    assert done.code == 1
    assert "not a whole archive" in done.text
    assert kept.count() == count + 1
    assert kept.stack.run("backup", "--site", "nobody", str(tmp_path / "none")).code == 2


@pytest.mark.parametrize("kept", ["systemd"], indirect=True)
def test_the_data_move_to_a_disk_that_outlives_the_server_and_back(kept: Kept) -> None:
    stack, before = kept.stack, kept.stack.settings
    kept.ask("POST", "/upload/moved.png", content=b"moved")
    kept.ask("POST", "/visit")
    count = kept.count()
    other = {"server": {"os": "debian12", "image": "m-other"}}
    stack.settings = {**before, **other}
    preview = stack.run("preview").text
    assert re.search(r"instance takes the data of its sites \(kept: [\d.]+ \w+ in \d+ files.*\) with it", preview)
    assert "data.disk_gib" in preview

    def is_whole(folder: str) -> None:
        assert kept.count() == count
        assert kept.ask("GET", "/media/moved.png").content == b"moved"
        assert kept.ask("GET", "/media/").status_code == 403
        assert stack.shell(f"readlink -f {DATA}") == folder
        assert stack.shell(f"stat -Lc '%U %a' {DATA}") == "wsgi-kept 710"

    stack.settings = {**before, "data": {"disk_gib": 20}}
    assert "to its new data disk; each site stands still" in stack.run("preview").text
    done = stack.up()
    assert "the data of site kept are on the data disk now" in done.text
    is_whole("/srv/data/sites/kept")
    machine = stack.shell("hostname")

    stack.settings = {**before, **other, "data": {"disk_gib": 20}}
    assert "takes the data" not in stack.run("preview").text
    stack.up()
    assert stack.shell("hostname") != machine
    is_whole("/srv/data/sites/kept")
    kept.ask("POST", "/visit")
    count += 1

    stack.settings = {**before, **other}
    assert "to its own disk before its data disk is deleted" in stack.run("preview").text
    stack.up()
    is_whole(DATA)
    assert stack.shell("ls -A /srv/data 2>/dev/null || true") == ""


@pytest.mark.parametrize("kept", ["supervisor"], indirect=True)
def test_commands_and_processes_that_may_not_write_are_told_where_they_may(kept: Kept) -> None:
    before = kept.stack.settings
    mine = before["sites"]["kept"]
    for own in (
        {"release": {"before": ["touch /srv/wsgi-ecs/here"]}},
        {"processes": {"worker": {"command": "touch here", "start_seconds": 1}}},
    ):
        kept.stack.settings = {**before, "sites": {**before["sites"], "kept": {**mine, **own}}}
        done = kept.stack.run("up")
        assert done.code == 1
        assert "Permission denied" in done.text
        assert "next: a release is read-only: have the application write to DATA_DIR" in done.text
    kept.stack.settings = before
    kept.stack.up()


# Has all that this program keeps on a small disk of its own, with as many bytes left as $1 says.
FILL = """set -e
if ! mountpoint -q /srv/wsgi-ecs; then
    mkdir -p /small
    mount -t tmpfs -o mode=755,size=$(($(du -sm /srv/wsgi-ecs | cut -f1) + 60))m tmpfs /small
    cp -a /srv/wsgi-ecs/. /small
    mount --bind /small /srv/wsgi-ecs
fi
rm -f /srv/wsgi-ecs/sites/kept/data/filler
left=$(df -B1 --output=avail /srv/wsgi-ecs | tail -1)
head -c $((left - $1)) /dev/zero >/srv/wsgi-ecs/sites/kept/data/filler
df -B1 --output=avail /srv/wsgi-ecs | tail -1
"""
STATES = (
    "import json, os; [json.load(open(os.path.join(folder, name))) for folder, _, names in os.walk('/srv/wsgi-ecs')"
    " for name in names if name.endswith('.json')]"
)


@pytest.mark.parametrize("kept", ["supervisor"], indirect=True)
def test_a_full_disk_refuses_a_release_and_what_serves_goes_on(kept: Kept) -> None:
    stack, count = kept.stack, kept.count()

    def is_refused(room: int, *said: str) -> None:
        """With so much room left for a new release, what serves goes on and no file of the tool is cut."""
        (stack.folder / "kept/large").write_bytes(random.Random(room).randbytes(6 << 20))  # noqa: S311
        stack.shell(f"sh -c '{FILL}' sh {room}")
        done = stack.run("up")
        assert done.code == 1
        for text in said:
            assert text in done.text
        assert kept.count() == count
        stack.shell(f'python3 -c "{STATES}"')

    # The archive has room and is unpacked, but a second time there is none.
    says = ("No space left on device", "the server's disk has ", "data of site kept (")
    remedy = "next: free space on the server's disk, or raise server.disk_gib"
    is_refused(16 << 20, *says, "release refused, the one before it still serves", remedy)
    is_refused(9 << 20, *says, "its archive cannot be unpacked; what served before still does")
    is_refused(0)
    # The application meets the same disk. What it has written before stays.
    assert kept.ask("POST", "/visit").status_code == 500
    assert kept.ask("POST", "/upload/none.png", content=bytes(1 << 20)).status_code == 500
    assert kept.count() == count
    stack.shell(f"rm {DATA}/filler")
    assert kept.ask("POST", "/visit").status_code == 200
    stack.up()
    assert kept.count() == count + 1
