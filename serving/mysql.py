"""MySQL: its part of a database machine's plan."""

from ipaddress import IPv4Network
from pathlib import Path

from contract.documents import Database
from serving.systems import System
from serving.templates import render
from settings import Settings

# On the data disk, which machine/disk.py mounts on /srv/data.
_FOLDER = "/srv/data"
_DATADIR = f"{_FOLDER}/mysql"
# In the application's own database, so that a dump knows what shape it has.
_APPLIED = "wsgi_ecs_schema"


def configs(settings: Settings, system: System) -> dict[str, str]:
    """MySQL's own configuration, and the command that dumps the database and loads a dump."""
    mysql = settings.mysql
    return {
        "mysql.cnf": render("templates/mysql/mysql.cnf.j2", mysql=mysql, datadir=_DATADIR),
        "wsgi-ecs-database": render(
            "templates/mysql/wsgi-ecs-database.sh.j2",
            database=mysql.database,
            folder=_FOLDER,
            applied=_APPLIED,
            files=len(mysql.schema_files),
        ),
    }


def schema(settings: Settings) -> dict[str, str]:
    """Name in the archive → file of this machine, in the order in which they are applied."""
    files = settings.mysql.schema_files
    return {f"schema/{number}/{Path(file).name}": file for number, file in enumerate(files, 1)}


def document(settings: Settings, system: System) -> Database:
    """What machine/database.py needs to know."""
    return Database(
        system=system.name,
        datadir=_DATADIR,
        config=system.mysql_config,
        database=settings.mysql.database,
        user=settings.mysql.user,
        # MySQL writes the network of an account as address/mask.
        network=IPv4Network(settings.network.cidr).with_netmask,
        schema=list(schema(settings)),
        applied=_APPLIED,
        # A change of one of these makes the tool look again: a file system may grow, memory is shared out anew.
        instance_type=settings.mysql.instance_type or settings.server.instance_type,
        disk_gib=settings.mysql.disk_gib,
        generation=settings.release.generation,
    )
