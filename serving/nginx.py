"""nginx in front: https://nginx.org/en/docs/http/ngx_http_uwsgi_module.html, …/ngx_http_proxy_module.html"""

from serving import layout
from serving.server import AppServer
from serving.systems import System
from serving.templates import render
from settings import Settings


def files(settings: Settings, system: System, server: AppServer) -> dict[str, str]:
    """File name → text of nginx's configuration, with placeholders of layout.FACTS."""
    values = {
        "nginx": settings.nginx,
        "server_name": settings.site.server_name or "_",
        "layout": layout,
        "endpoint": server.endpoint,
        "uwsgi_params": uwsgi_params(settings),
    }
    user = settings.nginx.user or system.nginx_user
    return {
        "nginx.conf": render("templates/nginx/nginx.conf.j2", system=system, user=user, **values),
        "site.conf": render("templates/nginx/site.conf.j2", **values),
    }


def uwsgi_params(settings: Settings) -> dict[str, str]:
    """What names the application to a uWSGI in dynamic mode, request by request; empty in any other."""
    if not settings.uwsgi.dynamic:
        return {}
    return {
        "UWSGI_PYHOME": "@@venv@@",
        "UWSGI_CHDIR": "@@release_dir@@/app",
        "UWSGI_SCRIPT": f"{settings.app.module}:{settings.app.callable}",
    }
