"""supervisor as the process manager: http://supervisord.org/configuration.html#program-x-section-values"""

from serving import layout
from serving.systems import System
from serving.templates import render
from settings import Settings


def files(settings: Settings, system: System) -> dict[str, str]:
    """File name → text of supervisor's program, with placeholders of layout.FACTS."""
    return {
        "supervisor.conf": render(
            "templates/supervisor/program.conf.j2", supervisor=settings.supervisor, system=system, layout=layout
        )
    }


def program() -> str:
    """Name of the program, with the slot's placeholder."""
    return f"{layout.SITE}-@@slot@@"
