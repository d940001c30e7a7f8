"""What an application behind nginx sees of its clients, if its server speaks HTTP with nginx.

nginx describes the client's connection in headers, and replaces those that a client sends under the same names. So
the application finds in its environ what uWSGI's own protocol would have brought. The text is Python 3.6.
"""

import json

from schema.app import App

BEHIND_NGINX = """

def behind_nginx(application):
    \"\"\"Describe the client's own connection, which nginx alone passes on.\"\"\"

    def with_client(environ, start_response):
        host = environ.get("HTTP_HOST", "")
        scheme = environ.get("HTTP_X_FORWARDED_PROTO", "http")
        environ.pop("REMOTE_PORT", None)
        environ["REMOTE_ADDR"] = environ.get("HTTP_X_FORWARDED_FOR", "")
        environ["wsgi.url_scheme"] = environ["REQUEST_SCHEME"] = scheme
        environ["SERVER_NAME"] = host if host.endswith("]") else host.rsplit(":", 1)[0]
        environ["SERVER_PORT"] = environ.get("HTTP_X_FORWARDED_PORT") or ("443" if scheme == "https" else "80")
        if scheme == "https":
            environ["HTTPS"] = "on"
        return application(environ, start_response)

    return with_client
"""
ASGI_BEHIND_NGINX = """

def behind_nginx(application):
    \"\"\"Describe the client's own connection, which nginx alone passes on.\"\"\"

    async def with_client(scope, receive, send):
        if scope["type"] in ("http", "websocket"):
            headers = {name: value.decode("latin-1") for name, value in scope["headers"]}
            host = headers.get(b"host", "")
            is_https = headers.get(b"x-forwarded-proto") == "https"
            port = headers.get(b"x-forwarded-port") or ("443" if is_https else "80")
            scope["client"] = (headers.get(b"x-forwarded-for", ""), 0)
            scope["scheme"] = ("http" if scope["type"] == "http" else "ws") + ("s" if is_https else "")
            scope["server"] = (host if host.endswith("]") else host.rsplit(":", 1)[0], int(port))
        await application(scope, receive, send)

    return with_client
"""
WRAPPED = f"{BEHIND_NGINX}\n\napp = behind_nginx(app)\n"
ASGI_WRAPPED = f"{ASGI_BEHIND_NGINX}\n\napp = behind_nginx(app)\n"
_FILE = """
import sys
from importlib.machinery import SourceFileLoader
from importlib.util import module_from_spec, spec_from_loader

_loader = SourceFileLoader("wsgi_ecs_file", {path})
_module = module_from_spec(spec_from_loader("wsgi_ecs_file", _loader))
sys.modules["wsgi_ecs_file"] = _module
_loader.exec_module(_module)
app = _module.{callable}
"""


def importing(app: App) -> str:
    """The statements that import the application as `app`, which may be what a function returns, or in a file."""
    folders = [f"@@release_dir@@/app/{path}" for path in app.pythonpath]
    path = f"import sys\n\nsys.path[:0] = {json.dumps(folders)}\n" if folders else ""
    if app.wsgi_file:
        # A file may have any name, such as site.wsgi, so no import statement finds it.
        file = json.dumps(f"@@release_dir@@/app/{app.wsgi_file}")
        return path + _FILE.format(path=file, callable=app.callable)
    call = "\napp = app()\n" if app.callable.endswith("()") else ""
    return f"{path}\nfrom {app.module} import {app.callable.removesuffix('()')} as app\n{call}"
