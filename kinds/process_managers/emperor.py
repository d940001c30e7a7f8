"""uWSGI's emperor: a folder of vassals, one ini file for each slot of a site.

Adding, touching or removing one vassal leaves the others alone. The emperor itself is a service of
systemd and runs as the application's user: https://uwsgi-docs.readthedocs.io/en/latest/Emperor.html
"""

from collections.abc import Iterator
from typing import ClassVar

from contract import paths
from kinds.app_servers import Process
from kinds.confinement import Confinement
from kinds.place import BOOTSTRAP_FACTS, Place
from kinds.process_managers.base import Program
from kinds.process_managers.systemd import Systemd
from kinds.systems import System
from schema.base import Rule
from templates import render

VASSALS = f"{paths.ETC}/vassals"
# The emperor outlives each release, so its wrapper is not part of one.
WRAPPER = "/usr/local/lib/wsgi-ecs/vassal.py"
SERVICE = "wsgi-emperor.service"


class Emperor(Systemd):
    """The emperor's unit has systemd's settings; a vassal's file is uWSGI's own ini."""

    name: ClassVar[str] = "emperor"
    is_one_user: ClassVar[bool] = True

    def rules(self, app_server: str) -> Iterator[Rule]:
        yield (
            "serving.process_manager",
            app_server != "uwsgi",
            "the emperor rules uWSGI alone",
            "supervisor or systemd, or serving.app_server: uwsgi",
        )
        yield (
            "systemd.restart_sec",
            "restart_sec" in self.model_fields_set,
            "the emperor itself starts its vassals again",
            "serving.process_manager: systemd",
        )

    @classmethod
    def services(cls, system: System) -> tuple[str, ...]:
        return (SERVICE,)

    @classmethod
    def confinement(cls, confinement: Confinement, system: System) -> dict[str, str]:
        return {SERVICE: confinement.of_emperor(system)}

    def program(self, process: Process, place: Place, system: System, confined: str) -> Program:
        # The name contains the release's id, because the emperor delays the next start of a name that has failed.
        name = f"{place.name}-@@slot@@-@@release@@.ini"
        return Program(self.name, name, "uwsgi.ini", f"{VASSALS}/{name}", {})

    def bootstrap_files(self, place: Place, group: str | None, system: System) -> dict[str, str]:
        values = {
            "etc": paths.ETC,
            "place": place,
            "vassals": VASSALS,
            "stats": paths.EMPEROR_STATS,
            "wrapper": WRAPPER,
            "facts": BOOTSTRAP_FACTS,
            "system": system,
        }
        return {
            f"{paths.ETC}/emperor.ini": render("templates/emperor/emperor.ini.j2", **values),
            f"/etc/systemd/system/{SERVICE}": render(
                "templates/emperor/emperor.service.j2", systemd=self, group=group, **values
            ),
        }

    @classmethod
    def scripts(cls) -> dict[str, str]:
        return {WRAPPER: "vassal"}

    @classmethod
    def folders(cls) -> tuple[str, ...]:
        return (VASSALS,)
