"""The sample application: a page that tells what served it.

    GET /          the page
    GET /<name>    a greeting
    GET /healthz   {"status": "ok", "release": ...} for the probe

Runs unchanged on Python 3.6 with Flask 2.0 and on current Python with Flask 3.
`uwsgi --module app --callable app`, `gunicorn app:app` or `flask run` serve it.
"""

import os
import platform
import socket
import time

import flask

try:
    import uwsgi  # exists inside a uWSGI process only
except ImportError:
    uwsgi = None

LOADED = time.time()
RELEASE = os.environ.get("APP_RELEASE") or "none"
UNITS = (("day", "天", 86400), ("hour", "小时", 3600), ("minute", "分钟", 60), ("second", "秒", 1))

app = flask.Flask(__name__)


def os_name(path="/etc/os-release"):
    """PRETTY_NAME of os-release(5), or the kernel's name where the file has none."""
    try:
        with open(path, encoding="utf-8") as lines:
            for line in lines:
                key, _, value = line.strip().partition("=")
                if key == "PRETTY_NAME" and value:
                    return value.strip("\"'")
    except OSError:
        pass
    return "{} {}".format(platform.system(), platform.release())


def server(environ):
    """(name, version) of what runs this code; the version is "" where it is not known.

    WSGI has no variable for it: uWSGI offers a module, the others name themselves in SERVER_SOFTWARE.
    """
    if uwsgi is not None:
        return "uWSGI", uwsgi.version.decode()
    name, _, version = environ.get("SERVER_SOFTWARE", "").partition("/")
    return name or "WSGI", version.split(" ")[0]


def started():
    """Unix time at which this process began to serve.

    A uWSGI worker may be forked long after the master loaded the code, and respawned since.
    """
    if uwsgi is not None and uwsgi.worker_id() > 0:
        return uwsgi.workers()[uwsgi.worker_id() - 1]["last_spawn"]
    return LOADED


def age(seconds):
    """(count, English unit, Chinese unit) of a duration, in the largest unit that fits."""
    for unit, unit_zh, size in UNITS:
        if seconds >= size:
            count = int(seconds // size)
            return count, unit if count == 1 else unit + "s", unit_zh
    return 0, "seconds", "秒"


def origin(request):
    """How the request came here. To be shown only: a client can send these headers itself."""
    forwarded_for = request.headers.get("X-Forwarded-For", "")
    # nginx's uwsgi_params add no header, but a DOCUMENT_ROOT, which no application server sets.
    proxied = bool(forwarded_for or request.headers.get("X-Real-IP") or request.environ.get("DOCUMENT_ROOT"))
    return {
        "visitor": forwarded_for.split(",")[0].strip() or request.remote_addr or "unix socket",
        "forwarded_for": forwarded_for,
        "proxied": proxied,
        "scheme": request.headers.get("X-Forwarded-Proto") or request.scheme,
        "host": request.host,
    }


@app.context_processor
def shared():
    """What every template may use."""
    return {"release": RELEASE}


@app.route("/")
def index():
    name, version = server(flask.request.environ)
    since = started()
    return flask.render_template(
        "index.html",
        machine=socket.gethostname(),
        os_name=os_name(),
        python=platform.python_version(),
        server=name,
        server_version=version,
        worker=uwsgi.worker_id() if uwsgi is not None else None,
        pid=os.getpid(),
        since=time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(since)),
        age=age(time.time() - since),
        origin=origin(flask.request),
    )


@app.route("/healthz")
def healthz():
    response = flask.jsonify(status="ok", release=RELEASE)
    # An answer from a cache in front would vouch for an application that no longer runs.
    response.headers["Cache-Control"] = "no-store"
    return response


@app.route("/favicon.ico")
def favicon():
    return flask.redirect(flask.url_for("static", filename="logo.svg"))


@app.route("/<name>")
def greet(name):
    return flask.render_template("name.html", name=name)


@app.errorhandler(404)
def not_found(_error):
    return flask.render_template("not_found.html", path=flask.request.path), 404
