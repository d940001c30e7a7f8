"""Which servers stand on the machine, by name."""

from typing import Literal

from pydantic import Field

from kinds.app_servers import Name as AppServerName
from kinds.process_managers import Name as ProcessManagerName
from schema.base import Model


class Serving(Model):
    """Which servers stand on the machine."""

    app_server: AppServerName = Field("uwsgi", description="What runs the application.")
    process_manager: ProcessManagerName = Field(
        "supervisor", description="What starts and restarts the application server; emperor is uWSGI's own."
    )
    front: Literal["nginx", "none"] = Field(
        "nginx", description="What receives the requests from outside; none: the app server itself."
    )
