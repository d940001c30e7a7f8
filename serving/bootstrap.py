"""ServingPlan → cloud-init user data: what a new server does once, alone, before any SSH.

It ends with nginx→uWSGI under supervisor answering the built-in page. The text is plain
#cloud-config so that a preview shows a readable difference, holds no secret, and stays
under the 16 KB that the older pages of ECS allow. Where it would not, its largest file is packed.
https://cloudinit.readthedocs.io/en/latest/reference/modules.html
"""

import gzip
import json
import re
from base64 import b64encode
from collections.abc import Iterable
from itertools import groupby
from typing import Any

from contract import paths
from contract.codec import plain
from contract.documents import STATE_FILE, Host, slot_state
from contract.placeholders import fill
from contract.resources import USER_DATA_LIMIT
from kinds.place import BOOTSTRAP_FACTS
from kinds.service import Service
from kinds.systems import Rpm, System
from serving import nginx, store
from serving.plan import File, ServingPlan, SitePlan
from serving.planning import make_plan
from settings import StackSettings
from settings.server import INDEX, VPC_INDEX
from templates import render, source


def user_data(plan: ServingPlan, stack: StackSettings) -> str:
    """Plan → #cloud-config text, which must stay under USER_DATA_LIMIT bytes."""
    found = files(plan, stack)
    text = _cloud_config(found, {})
    if len(store.longest(text).encode()) > USER_DATA_LIMIT:
        # It fits before it is easy to read: cloud-init unpacks the largest file.
        largest = max(found, key=lambda file: len(file.text))
        text = _cloud_config(found, {largest.path: b64encode(gzip.compress(largest.text.encode(), mtime=0)).decode()})
    return text


def _cloud_config(found: Iterable[File], packed: dict[str, str]) -> str:
    """packed: path of a file → its text in gzip and Base64."""
    return render("cloud-init/cloud-config.yaml.j2", files=found, packed=packed, script=paths.BOOTSTRAP_COMMAND)


def version(plan: ServingPlan, stack: StackSettings) -> str:
    """Changes when, and only when, the server must be built anew: not for mirrors or configs."""
    image = stack.server.image
    # Another network cannot take over a running server, and neither can another way of paying.
    return " ".join(
        filter(None, (plan.bootstrap_version, image, stack.network.cidr, "spot" if stack.server.spot else ""))
    )


_CONTROL = "/usr/local/sbin/wsgi-ecs-app"


def files(plan: ServingPlan, stack: StackSettings) -> tuple[File, ...]:
    """What cloud-init writes: the script, and what answers until the first release."""
    if plan.service:
        return (
            *_repositories(plan.system, stack),
            File(paths.BOOTSTRAP_COMMAND, _service_script(plan, plan.service, stack), "0700"),
        )
    if plan.role == "release":
        return (
            *_repositories(plan.system, stack),
            *(File(path, text) for path, text in plan.bootstrap_files.items()),
            File(paths.BOOTSTRAP_COMMAND, _release_script(plan, stack), "0700"),
        )
    manager = stack.process_manager
    names = dict.fromkeys(("app", *(site.server for site in plan.sites)))
    has_app = plan.role != "front"
    return (
        *_repositories(plan.system, stack),
        *_page(plan, stack),
        *(File(path, text) for path, text in plan.bootstrap_files.items()),
        *(File(path, _code(name), "0755") for path, name in (manager.scripts() if has_app else {}).items()),
        File("/etc/sysctl.d/90-wsgi-ecs.conf", "net.core.somaxconn = 4096\n"),
        *(_short_commands(manager.name, names) if has_app else ()),
        File(paths.BOOTSTRAP_COMMAND, script(plan, stack), "0700"),
    )


def _page(plan: ServingPlan, stack: StackSettings) -> tuple[File, ...]:
    """What answers until the first release: an application of one page, nginx alone, or nothing."""
    if plan.role == "app":
        return ()
    alone = stack.with_builtin_page()
    page = make_plan(alone, plan.role)
    (site,) = page.sites
    group = {"nginx_group": plan.system.nginx_user}
    configs = nginx.host_files(alone) if plan.has_nginx else {}
    host = tuple(File(f"{paths.host_root()}/a/{name}", fill(text, group)) for name, text in configs.items())
    if plan.role == "front":
        assert isinstance(page.host, Host)  # noqa: S101  Only a service's server has another document.
        waiting = page.host.sites[0].waiting
        folder = f"{site.place.root}/{paths.WAITING}"
        return (*host, *(File(f"{folder}/{name}", text, "0640") for name, text in waiting.items()))
    facts = _facts(site)
    slot, release, place = facts["slot_dir"], facts["release_dir"], site.place
    configs = {**site.configs, **(nginx.builtin_files(site.release, place) if plan.has_nginx else {})}
    return (
        *host,
        *(File(f"{slot}/{name}", fill(text, facts), "0640") for name, text in configs.items()),
        File(f"{slot}/{STATE_FILE}", _first_state(site, facts), "0640"),
        File(f"{release}/app/builtin.py", _code("builtin"), "0640"),
        File(f"{release}/tool/with_env.py", _code("with_env"), "0750"),
        File(place.env_file, "{}\n", "0640"),
        File(
            f"/etc/tmpfiles.d/wsgi-ecs-{place.name}.conf",
            f"d {paths.RUN} 0755 root root -\nd {place.run} 2750 {place.user} {place.web_group} -\n",
        ),
    )


def _short_commands(manager: str, names: Iterable[str]) -> tuple[File, ...]:
    aliases = (
        f"for name in {' '.join(names)}; do for word in start reload stop; do\n"
        f'alias "$name-$word={_CONTROL} $word"\ndone; done\nunset name word\n'
    )
    return (
        File(_CONTROL, render("cloud-init/app.sh.j2", paths=paths, manager=manager), "0755"),
        File("/etc/profile.d/wsgi-ecs.sh", aliases),
    )


def _facts(site: SitePlan) -> dict[str, str]:
    return {**BOOTSTRAP_FACTS, **{name: str(ports[0]) for name, ports in site.release.ports.items()}}


# A function's docstring, a comment on a line of its own, and one for the linter.
_REMARK = re.compile(r'^ +""".*"""\n|^ *# .*\n|  # noqa: .*', re.MULTILINE)


def _code(name: str) -> str:
    """A program of machine/ without its remarks: every byte of user data counts."""
    text = source(f"machine/{name}.py")
    first = "#!/usr/bin/python3\n" if text.startswith("#!") else ""
    return first + _REMARK.sub("", text.split('"""', 2)[2].lstrip())


def script(plan: ServingPlan, stack: StackSettings) -> str:
    """The one `set -eu` script that installs and starts everything."""
    (site,) = make_plan(stack.with_builtin_page(), plan.role).sites
    facts = _facts(site)
    # nginx's machine needs only pip, for the ACME client.
    server_pins = site.release.server_pins if plan.role != "front" else []
    # A server without a public address has no way out of the VPC, whose mirror speaks HTTP alone.
    is_inside = plan.role == "app" or stack.topology.is_balanced
    text = render(
        "cloud-init/bootstrap.sh.j2",
        **_common(plan, stack),
        place=site.place,
        build_pins=site.release.build_pins,
        server_pins=server_pins,
        names=[pin.split()[0] for pin in server_pins or site.release.build_pins],
        port=site.ports[0],
        facts=facts,
        indexes=stack.server.mirrors.index or [VPC_INDEX if is_inside else INDEX],
        manager=site.program.manager,
        program=fill(site.program.name, facts),
        program_config=site.program.config,
        program_link=fill(site.program.link, facts),
        log=fill(site.place.log, facts),
    )
    return _narrow(text)


def _narrow(text: str) -> str:
    """A script with one space for each step of its indent: every byte of user data counts."""
    return re.sub("^(?: {4})+", lambda found: " " * (len(found.group()) // 4), text, flags=re.MULTILINE)


def _service_script(plan: ServingPlan, service: Service, stack: StackSettings) -> str:
    unit = service.os_unit(plan.system)
    return render("cloud-init/service.sh.j2", unit=unit, what=service.verb, **_common(plan, stack))


def _release_script(plan: ServingPlan, stack: StackSettings) -> str:
    return _narrow(render("cloud-init/release.sh.j2", **_common(plan, stack)))


def _common(plan: ServingPlan, stack: StackSettings) -> dict[str, Any]:
    """The values that the scripts of all roles contain."""
    return {
        "plan": plan,
        # One command makes all directories of an owner and mode, because every byte of user data counts.
        "directories": [
            (*key, [directory.path for directory in group])
            for key, group in groupby(plan.directories, lambda directory: (*directory.owner.split(":"), directory.mode))
        ],
        "system": plan.system,
        "packaging": plan.system.packaging,
        "paths": paths,
        "mirrors": stack.server.mirrors,
        # The first release installs what cannot be installed here, or says why.
        "own_packages": stack.server.own_packages if plan.role in ("whole", "app") else (),
        "epel": _epel(plan.system.packaging, stack) if isinstance(plan.system.packaging, Rpm) else (),
    }


def _first_state(site: SitePlan, facts: dict[str, str]) -> str:
    """What machine/release.py wants to know of the slot that serves."""
    state = slot_state(site.release, paths.BOOTSTRAP, facts["slot"], facts)
    known = {name: facts[name] for name in ("release_dir", "venv")}
    # Each byte of user data counts, so the text has no indent.
    return json.dumps(plain(state._replace(facts=known))) + "\n"


def _repositories(system: System, stack: StackSettings) -> tuple[File, ...]:
    rpm = system.packaging
    if not isinstance(rpm, Rpm):
        return ()
    # The file has a name of its own, because Alibaba's cloud-init rewrites the stock files at the first boot.
    text = render(
        "cloud-init/yum.repo.j2",
        rpm=rpm,
        sources=stack.server.mirrors.packages or rpm.sources,
        epel=_epel(rpm, stack),
    )
    return (File("/etc/yum.repos.d/wsgi-ecs.repo", text),)


def _epel(rpm: Rpm, stack: StackSettings) -> tuple[str, ...]:
    return stack.server.mirrors.epel or rpm.epel
