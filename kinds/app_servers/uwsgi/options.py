"""uWSGI's options, as pure functions: https://uwsgi-docs.readthedocs.io/en/latest/Options.html"""

from kinds.app_servers.base import Surroundings
from kinds.app_servers.uwsgi.settings import UwsgiSettings
from schema.app import App

Option = tuple[str, str | bool]


def application(settings: UwsgiSettings, around: Surroundings, wrapper: str | None) -> list[Option]:
    """Return the options that load the application. wrapper: the module in the slot that imports it, if any."""
    app = around.app
    folders: list[Option] = [
        ("pythonpath", f"@@release_dir@@/app/{path}") for path in (*app.pythonpath, *settings.pythonpath)
    ]
    if settings.dynamic:
        # nginx names the application with each request: https://uwsgi-docs.readthedocs.io/en/latest/Nginx.html
        return folders
    function = app.callable.removesuffix("()")
    # The wrapper is loaded as the application would be, from a file or as a module.
    module = wrapper or app.module
    file = f"@@slot_dir@@/{wrapper}.py" if app.wsgi_file else ""
    if wrapper and not file:
        folders.append(("pythonpath", "@@slot_dir@@"))
    if around.site.prefix:
        # The application sees its own paths, and this one as SCRIPT_NAME.
        loaded: list[Option] = [
            ("manage-script-name", True),
            ("mount", f"{around.site.prefix}={file or f'{module}:{function}'}"),
        ]
    else:
        loaded = [("wsgi-file", file) if file else ("module", module)]
    return [
        ("need-app", True),
        ("single-interpreter", True),
        ("virtualenv", "@@venv@@"),
        ("chdir", "@@release_dir@@/app"),
        *folders,
        *loaded,
        ("callable", function),
    ]


def buffer_size(settings: UwsgiSettings, around: Surroundings) -> int:
    """Bytes of the request headers: all that nginx accepts, unless the setting says something else.

    uWSGI's own protocol has the request line three times, and more bytes for each header.
    """
    number, size = around.header_buffers
    times = 2 if around.behind_nginx and not around.is_page else 1
    wanted = 0 if "buffer_size" in settings.model_fields_set else min(times * number * size, 65535)
    return max(settings.buffer_size, wanted)


def params(app: App) -> dict[str, str]:
    """Return what nginx sends along with each request in dynamic mode."""
    script = f"{app.module}:{app.callable}"
    return {"UWSGI_PYHOME": "@@venv@@", "UWSGI_CHDIR": "@@release_dir@@/app", "UWSGI_SCRIPT": script}


def arguments(chosen: list[Option]) -> list[str]:
    """Return the options as those of a command."""
    # Join name and value by =, because some options, such as chmod-socket, accept a value only in this form.
    return [f"--{name}" if value is True else f"--{name}={value}" for name, value in chosen]
