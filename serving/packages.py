"""The packages of the OS that an application or Redis needs, and how the release tool installs them."""

from collections.abc import Iterable

from contract.service_documents import Packages
from kinds.systems import Rpm
from settings import StackSettings

# In seconds, as for the bootstrap's own packages.
_TIMEOUT = 10


def document(stack: StackSettings, names: Iterable[str]) -> Packages:
    """What machine/packages.py needs to know of packages with these names."""
    rpm = stack.system.packaging
    if isinstance(rpm, Rpm):
        return Packages(stack.system.name, rpm.command, _rpm_options(rpm, stack.server.mirrors.packages), [*names])
    return Packages(stack.system.name, "apt-get", [], [*names])


def _rpm_options(rpm: Rpm, sources: tuple[str, ...]) -> list[str]:
    """Options by which the package manager uses the sources that the bootstrap uses (cloud-init/rpm.sh.j2)."""
    replaced = bool(sources) and bool(rpm.prefix)
    options = ["--disablerepo=*"] if sources or not rpm.prefix else []
    if replaced:
        options.append(f"--enablerepo={rpm.prefix}*")
    options.append("--enablerepo=wsgi-ecs-*")
    for name in rpm.repositories if replaced else ():
        urls = ",".join(f"{url.rstrip('/')}/{name}/$basearch/" for url in sources)
        options.append(f"--setopt={rpm.prefix}{name}.baseurl={urls}")
    return [*options, f"--setopt=timeout={_TIMEOUT}", "--setopt=retries=2"]
