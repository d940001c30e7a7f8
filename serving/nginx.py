"""nginx in front: http://nginx.org/en/docs/http/ngx_http_uwsgi_module.html"""

from serving import layout
from serving.systems import System
from serving.templates import render
from settings import Settings


def files(settings: Settings, system: System) -> dict[str, str]:
    """File name → text of nginx's configuration, with placeholders of layout.FACTS."""
    values = {"nginx": settings.nginx, "server_name": settings.site.server_name or "_", "layout": layout}
    return {
        "nginx.conf": render("templates/nginx/nginx.conf.j2", system=system, **values),
        "site.conf": render("templates/nginx/site.conf.j2", **values),
    }
