"""What a project runs beside its web server: commands of a release, processes, scheduled commands, services."""

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass

from inspection.entry import Entry
from inspection.project import Project, assigned, constant, dotted, imports

# Requirement that is built from source → packages of Debian and Ubuntu, and of Red Hat's family.
LIBRARIES: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "mysqlclient": (("default-libmysqlclient-dev", "pkg-config"), ("mariadb-devel", "pkgconfig")),
    "psycopg2": (("libpq-dev",), ("postgresql-devel",)),
    "psycopg-c": (("libpq-dev",), ("postgresql-devel",)),
    "python-ldap": (("libldap-dev", "libsasl2-dev"), ("openldap-devel", "cyrus-sasl-devel")),
    "pycairo": (("libcairo2-dev", "pkg-config"), ("cairo-devel", "pkgconfig")),
    "weasyprint": (("libpango-1.0-0", "libpangoft2-1.0-0"), ("pango",)),
    "xmlsec": (("libxmlsec1-dev", "pkg-config"), ("xmlsec1-devel", "pkgconfig")),
}
MYSQL = {"mysqlclient", "pymysql", "mysql-connector-python", "aiomysql", "asyncmy"}
POSTGRES = {"psycopg2", "psycopg2-binary", "psycopg", "asyncpg", "pg8000"}
# Variables that the machine sets, or that are none of the application's.
_KNOWN = re.compile(
    r"(MYSQL_(HOST|PORT|DATABASE|USER|PASSWORD)|REDIS_URL|DATA_DIR|HOME|PATH|USER|LANG|TZ|PORT|PYTHON\w*)"
)
_NIGHTLY = re.compile(r"\b(nightly|every night|daily|every day|cron)\b", re.IGNORECASE)


@dataclass(frozen=True)
class Command:
    """A command, and what in the project says that it is needed."""

    command: str
    why: str


def procfile(project: Project) -> dict[str, str]:
    """Name → command of a Procfile's lines."""
    lines = re.findall(r"(?m)^([A-Za-z0-9_-]+)\s*:[ \t]*(\S.*?)\s*$", project.text("Procfile"))
    return dict(lines)


def sequence(line: str) -> list[Command]:
    """The commands of a Procfile's `release:` line, which may be several with && between them."""
    parts = [line] if set("'\"") & set(line) else re.split(r"\s*&&\s*", line)
    return [Command(part, "release in the Procfile") for part in parts]


def release_commands(project: Project, entry: Entry, required: set[str]) -> list[Command]:
    """Commands that have to run before a release serves."""
    found = []
    if entry.framework == "Django" and project.has("manage.py"):
        found.append(Command("python manage.py migrate --noinput", "Django's migrations"))
        if any("STATIC_ROOT" in {name for name, _, _ in assigned(tree.body)} for _, tree in project.trees()):
            found.append(Command("python manage.py collectstatic --noinput", "STATIC_ROOT, which collectstatic fills"))
    elif "flask-migrate" in required and project.has("migrations/env.py"):
        application = f"{entry.module}:{entry.callable}"
        found.append(Command(f"flask --app {application} db upgrade", "Flask-Migrate's folder migrations"))
    elif project.has("alembic.ini"):
        found.append(Command("alembic upgrade head", "alembic.ini"))
    return found


def processes(project: Project, required: set[str]) -> dict[str, Command]:
    """Name → command of each process beside the web server, as far as the code shows them."""
    found: dict[str, Command] = {}
    for path, tree in project.trees():
        names = imports(tree, project.module(path), path.endswith("__init__.py"))
        for name, value, line in assigned(tree.body):
            if isinstance(value, ast.Call) and dotted(value.func, names) in ("celery.Celery", "celery.app.Celery"):
                application, why = f"{project.module(path)}:{name}", f"Celery in {path}:{line}"
                found.setdefault("worker", Command(f"celery -A {application} worker --loglevel info", why))
                if "beat_schedule" in project.text(path) or "django-celery-beat" in required:
                    found.setdefault("beat", Command(f"celery -A {application} beat --loglevel info", why))
    if not found and "django-rq" in required and project.has("manage.py"):
        found["worker"] = Command("python manage.py rqworker default", "django-rq in the requirements")
    elif not found and "rq" in required:
        found["worker"] = Command("sh -c 'RQ_REDIS_URL=\"$REDIS_URL\" exec rq worker'", "rq in the requirements")
    return found


def schedule(project: Project) -> dict[str, Command]:
    """Name → Django's own commands whose help says that they run each night."""
    found = {}
    for path, tree in project.trees():
        if "/management/commands/" in f"/{path}" and not path.endswith("__init__.py"):
            helps = [ast.get_docstring(tree) or ""]
            for node in ast.walk(tree):
                if isinstance(node, ast.ClassDef):
                    helps += [constant(value) for name, value, _ in assigned(node.body) if name == "help"]
            if said := next((match for text in helps if (match := _NIGHTLY.search(text))), None):
                name = path.rpartition("/")[2].removesuffix(".py")
                key = name.replace("_", "-").lower()
                found[key] = Command(f"python manage.py {name}", f'"{said[0]}" in the help of {path}')
    return found


def uses_redis(project: Project, required: set[str]) -> bool:
    """Whether the project connects to a Redis."""
    if not {"redis", "rq", "django-rq", "django-redis", "celery", "flask-session", "channels-redis"} & required:
        return False
    return any("REDIS" in (text := project.text(path)) or "redis://" in text for path in project.python) or bool(
        {"rq", "django-rq", "django-redis"} & required
    )


def libraries(required: set[str], is_red_hat: bool) -> tuple[list[str], list[str]]:
    """(requirements that need libraries of the OS, the OS's packages with them)."""
    wanted = [name for name in LIBRARIES if name in required]
    return wanted, sorted({package for name in wanted for package in LIBRARIES[name][is_red_hat]})


def environment(project: Project) -> dict[str, str]:
    """Variable without which the project does not start → where it is read."""
    found: dict[str, str] = {}
    for path, tree in project.trees():
        if path.endswith("manage.py"):
            continue
        guarded = {constant(node.left) for node in ast.walk(tree) if isinstance(node, ast.Compare)}
        for name, line in _required_variables(tree, imports(tree, project.module(path), False)):
            if not _KNOWN.fullmatch(name) and name not in guarded:
                found.setdefault(name, f"{path}:{line}")
    return found


def _required_variables(tree: ast.Module, names: dict[str, str]) -> Iterator[tuple[str, int]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Subscript) and dotted(node.value, names) == "os.environ":
            if isinstance(node.ctx, ast.Load) and constant(node.slice):
                yield constant(node.slice), node.lineno
        elif isinstance(node, ast.Call) and len(node.args) == 1 and not node.keywords:
            # django-environ and python-decouple.
            called = dotted(node.func, names)
            name = constant(node.args[0])
            if re.fullmatch(r"decouple\.config|(\w+\.)*env(\.(str|bool|int|db|url|list))?", called) and name.isupper():
                yield name, node.lineno


def websockets(project: Project, required: set[str]) -> list[str]:
    """URL paths of websockets, such as /ws, and /ws/ for /ws/{room}, as far as decorators show them."""
    found = {"/socket.io/"} if "flask-socketio" in required else set()
    for path, tree in project.trees():
        names = imports(tree, project.module(path), path.endswith("__init__.py"))
        # Flask-Sock's routes are websockets.
        socks = {
            f"{name}.route"
            for name, value, _ in assigned(tree.body)
            if isinstance(value, ast.Call) and dotted(value.func, names) == "flask_sock.Sock"
        }
        for node in ast.walk(tree):
            if not isinstance(node, ast.Call) or not node.args:
                continue
            if dotted(node.func).endswith((".websocket", ".websocket_route")) or dotted(node.func) in socks:
                found.add(re.sub(r"[^/]*[{<].*", "", constant(node.args[0])))
    return sorted(url for url in found if re.match("/.", url))
