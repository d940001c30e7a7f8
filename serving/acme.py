"""What asks a CA for certificates on the machine: a unit of systemd, its timer, and what they are told."""

from pathlib import Path

from contract import paths
from contract.codec import encode
from contract.documents import ACME_CA_FILE, ACME_FILE, CONFIG_FOLDER, Acme
from kinds.pins import hashed
from settings import StackSettings
from templates import render


def domains(stack: StackSettings) -> list[str]:
    """The domains whose certificates the machine asks for itself."""
    return sorted({site.site.server_name.lower() for site in stack.sites if site.tls.acme and site.site.server_name})


def given(stack: StackSettings) -> list[str]:
    """The domains whose certificates come on standard input."""
    found = {site.site.server_name for site in stack.sites if site.tls.enabled and not site.tls.acme}
    return sorted(name.lower() for name in found if name)


def host_files(stack: StackSettings) -> dict[str, str]:
    """File name → text; empty where no site wants it."""
    names = domains(stack)
    if not names:
        return {}
    document = Acme(
        domains=names,
        directory=stack.acme_directory,
        ca=ACME_CA_FILE if stack.acme_ca else None,
        client=hashed(stack.system.acme_client, stack.system.python_version),
    )
    unit = paths.ACME_UNIT
    values = {"tool": f"{paths.host_root()}/current/tool/release.py", "unit": unit}
    return {
        ACME_FILE: encode(document),
        **{f"{unit}.{kind}": render(f"templates/acme/acme.{kind}.j2", **values) for kind in ("service", "timer")},
    }


def sources(stack: StackSettings) -> dict[str, str]:
    """Name in the machine's release → path on this machine, of the root of the CA's own server."""
    ca = stack.acme_ca
    return {f"{CONFIG_FOLDER}{ACME_CA_FILE}": str(Path(ca).expanduser())} if ca and domains(stack) else {}
