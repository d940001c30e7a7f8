"""What asks a CA for certificates on the machine: a unit of systemd, its timer, and what they are told."""

from pathlib import Path

from contract import paths
from contract.documents import ACME_CA_FILE, ACME_FILE, CONFIG_FOLDER, Acme, encode
from serving import layout
from serving.systems import System
from serving.templates import render
from settings import Settings


def domains(settings: Settings) -> list[str]:
    """The domains whose certificates the machine asks for itself."""
    return sorted({site.site.server_name.lower() for site in settings.each if site.tls.acme and site.site.server_name})


def given(settings: Settings) -> list[str]:
    """The domains whose certificates come on standard input."""
    found = {site.site.server_name for site in settings.each if site.tls.enabled and not site.tls.acme}
    return sorted(name.lower() for name in found if name)


def host_files(settings: Settings, system: System) -> dict[str, str]:
    """File name → text; empty where no site wants it."""
    names = domains(settings)
    if not names:
        return {}
    tls = settings.tls
    document = Acme(names, tls.directory, ACME_CA_FILE if tls.ca else None, system.acme_client)
    unit = paths.ACME_UNIT
    values = {"tool": f"{layout.HOST}/current/tool/release.py", "unit": unit}
    return {
        ACME_FILE: encode(document),
        **{
            f"{paths.ACME_UNIT}.{kind}": render(f"templates/acme/acme.{kind}.j2", **values)
            for kind in ("service", "timer")
        },
    }


def sources(settings: Settings) -> dict[str, str]:
    """Name in the machine's release → path on this machine, of the root of the CA's own server."""
    ca = settings.tls.ca
    return {f"{CONFIG_FOLDER}{ACME_CA_FILE}": str(Path(ca).expanduser())} if ca and domains(settings) else {}
