"""A Procfile: its lines as processes, what the settings add, and what is said of `web`."""

from pathlib import Path
from typing import Any

import pytest

from reference.samples import FILE
from settings import SettingsError, StackSettings
from settings.loader import parse
from settings.procfile import resolve

LINES = """
# Comments and blank lines are nothing.
web: gunicorn site.wsgi --workers 4 -t 60 --bind 0.0.0.0:$PORT --preload

worker:   celery -A site worker -n 'w@%h'
clock: python clock.py
"""


@pytest.fixture
def resolved(tmp_path: Path) -> Any:
    """Settings and the text of a Procfile → what comes of them."""

    def of(config: dict[str, Any], text: str | bytes) -> StackSettings:
        (tmp_path / "app").mkdir(exist_ok=True)
        (tmp_path / "app/Procfile").write_bytes(text.encode() if isinstance(text, str) else text)
        return resolve(parse({"server": {"os": "debian12"}, **config}, FILE), tmp_path, FILE)

    return of


def test_its_lines_are_processes_and_the_settings_scale_them(resolved: Any) -> None:
    stack = resolved(
        {"processes": {"worker": {"count": 3}, "clock": {"count": 0}, "rq": {"command": "rq worker"}}}, LINES
    )
    found = {name: (process.command, process.count) for name, process in stack.sites[0].processes.items()}
    assert found == {
        "worker": (("celery", "-A", "site", "worker", "-n", "w@%h"), 3),
        "clock": (("python", "clock.py"), 0),
        "rq": (("rq", "worker"), 1),
    }
    assert "Procfile: worker x 3, clock x 0 of it run as processes" in stack.notes


def test_a_command_of_the_settings_wins(resolved: Any) -> None:
    stack = resolved({"processes": {"worker": {"command": "other"}}}, LINES)
    assert stack.sites[0].processes["worker"].command == ("other",)


def test_web_is_compared_with_the_settings(resolved: Any) -> None:
    (note,) = (note for note in resolved({}, LINES).notes if "web" in note)
    assert note == (
        "Procfile: web is the site itself, so gunicorn site.wsgi --workers 4 -t 60 --bind 0.0.0.0:$PORT --preload is "
        "not run; to have what it says, set serving.app_server: gunicorn, app.module: site.wsgi, "
        "app.callable: application, gunicorn.workers: 4, gunicorn.timeout: 60"
    )
    same: dict[str, Any] = {
        "serving": {"app_server": "gunicorn"},
        "app": {"module": "shop.wsgi", "callable": "application"},
        "gunicorn": {"workers": 4, "timeout": 60},
    }
    (note,) = (note for note in resolved(same, LINES.replace("site.wsgi", "shop.wsgi")).notes if "web" in note)
    assert note.endswith("is not run")
    line = "gunicorn --config gunicorn.conf.py shop.wsgi --log-file - --workers $WEB_CONCURRENCY -t 60"
    (note,) = resolved({}, f"web: {line}\n").notes
    assert note.endswith(
        "set serving.app_server: gunicorn, app.module: shop.wsgi, app.callable: application, gunicorn.timeout: 60"
    )
    (note,) = resolved({}, "web: uwsgi uwsgi.ini\n").notes
    assert note == "Procfile: web is the site itself, so uwsgi uwsgi.ini is not run"
    (note,) = resolved({}, "web: bundle exec 'puma\n").notes
    assert note == "Procfile: web is the site itself, so bundle exec 'puma is not run"


def test_a_release_line_is_one_command_or_several(resolved: Any) -> None:
    stack = resolved({}, "release: python manage.py migrate && echo 'a && b' && ./last\n")
    assert stack.sites[0].release.before == (("python", "manage.py", "migrate"), ("echo", "a && b"), ("./last",))


def test_each_site_has_its_own_and_it_can_be_left_alone(resolved: Any) -> None:
    sites = {"shop": {}, "blog": {"app": {"procfile": False}, "site": {"location": "/blog/"}}}
    stack = resolved({"sites": sites}, "worker: rq worker\n")
    assert [sorted(site.processes) for site in stack.sites] == [["worker"], []]
    assert stack.notes == ("site shop: Procfile: worker x 1 of it run as processes",)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("worker rq\n", "Procfile line 1 is not `name: command`; allowed: lines such as worker: rq worker"),
        ("a: x\n\n b: y\n", "Procfile line 3 is not"),
        ("a: x\na: y\n", "Procfile line 2: a stands there twice"),
        ("1st: x\n", "Procfile line 1 (1st): allowed: a name of 31 letters"),
        ("w: VAR=x rq worker\n", "Procfile line 1 (w): VAR= before a command is a shell's; allowed: app.env with the"),
        ("w: rq worker --port $PORT\n", "Procfile line 1 (w): $PORT is not expanded"),
        ("w: rq worker && x\n", "Procfile line 1 (w): && is a shell's"),
        ("release: a &&\n", "Procfile line 1 (release): allowed: a program and its arguments"),
        ("release: a && b || c\n", "Procfile line 1 (release): || is a shell's"),
        ("w: rq 'worker\n", "Procfile line 1 (w): a quote is not closed"),
        (b"w: \xff\n", "Procfile is no text in UTF-8"),
    ],
)
def test_a_wrong_line_is_one_error_with_file_and_line(resolved: Any, text: str | bytes, said: str) -> None:
    with pytest.raises(SettingsError) as refused:
        resolved({}, text)
    assert str(refused.value).startswith(f"{FILE}: app.procfile: {said}")
    assert "allowed: " in str(refused.value)
    assert str(refused.value).isprintable()


def test_a_process_without_a_command_anywhere_is_refused(resolved: Any) -> None:
    with pytest.raises(
        SettingsError, match=r"processes.worker.command: missing, and ./app has no Procfile with a line"
    ):
        resolved({"processes": {"worker": {"count": 2}}}, "clock: python clock.py\n")
