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
READING_BODIES = """
import shutil
import tempfile


def reading_bodies(application):
    \"\"\"Read all of a body before the application is asked: nginx makes 502 of an answer that leaves some of it.\"\"\"

    def with_body(environ, start_response):
        if environ.get("CONTENT_LENGTH", "0") in ("", "0"):
            return application(environ, start_response)
        body = tempfile.SpooledTemporaryFile(65536)
        shutil.copyfileobj(environ["wsgi.input"], body)
        body.seek(0)
        environ["wsgi.input"] = body
        return application(environ, start_response)

    return with_body


app = reading_bodies(app)
"""
ASGI_READING_BODIES = """
import asyncio


def reading_bodies(application):
    \"\"\"Read what the application leaves of a body, because nginx makes 502 of its answer otherwise.\"\"\"

    async def with_body(scope, receive, send):
        is_left = scope["type"] == "http"
        # The application may wait for the client's end at the same time, and then takes the last part itself.
        turn = asyncio.Lock()

        async def receive_part():
            nonlocal is_left
            async with turn:
                message = await receive()
                is_left = is_left and message.get("more_body", False)
                return message

        async def send_part(message):
            nonlocal is_left
            # Granian brings no more of a body once a part of the answer has gone.
            while is_left and message["type"] == "http.response.body":
                async with turn:
                    if is_left:
                        is_left = (await receive()).get("more_body", False)
            await send(message)

        await application(scope, receive_part, send_part)

    return with_body


app = reading_bodies(app)
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
