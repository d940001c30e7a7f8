"""ServingPlan → cloud-init user data: what a new server does once, alone, before any SSH.

It ends with nginx→uWSGI under supervisor answering the built-in page. The text is plain
#cloud-config so that a preview shows a readable difference, holds no secret, and stays
under the 16 KB that the older pages of ECS allow.
https://cloudinit.readthedocs.io/en/latest/reference/modules.html
"""

import json
import re
from collections.abc import Iterable
from itertools import groupby
from typing import Any

from contract.documents import Host, plain, slot_state
from serving import emperor, layout, nginx
from serving.plan import File, ServingPlan, SitePlan, builtin_settings, make_plan
from serving.systems import Rpm, System
from serving.templates import render, source
from settings import Settings

# In the VPC first (no traffic fee, reached before the public address is), then the public ones.
# https://developer.aliyun.com/mirror/
_INDEXES = ("http://mirrors.cloud.aliyuncs.com/pypi/simple/", "https://mirrors.aliyun.com/pypi/simple/")


def user_data(plan: ServingPlan, settings: Settings) -> str:
    """Plan → #cloud-config text, which must stay under LIMIT bytes."""
    return render("cloud-init/cloud-config.yaml.j2", files=files(plan, settings), script=_SCRIPT)


def version(plan: ServingPlan, settings: Settings) -> str:
    """Changes when, and only when, the server must be built anew: not for mirrors or configs."""
    image = settings.server.image
    # Another network cannot take over a running server, and neither can another way of paying.
    return " ".join(
        filter(None, (plan.bootstrap_version, image, settings.network.cidr, "spot" if settings.server.spot else ""))
    )


_SCRIPT = "/usr/local/sbin/wsgi-ecs-bootstrap"
_CONTROL = "/usr/local/sbin/wsgi-ecs-app"


def files(plan: ServingPlan, settings: Settings) -> tuple[File, ...]:
    """What cloud-init writes: the script, and what answers until the first release."""
    if plan.role == "db":
        return (*_repositories(plan.system, settings), File(_SCRIPT, _database_script(plan, settings), "0700"))
    manager = settings.serving.process_manager
    names = dict.fromkeys(("app", *(each.server for each in plan.sites)))
    has_app = plan.role != "front"
    return (
        *_repositories(plan.system, settings),
        *_page(plan, settings),
        *(File(path, text) for path, text in plan.bootstrap_files.items()),
        *((File(emperor.WRAPPER, _code("vassal"), "0755"),) if has_app and manager == "emperor" else ()),
        File("/etc/sysctl.d/90-wsgi-ecs.conf", "net.core.somaxconn = 4096\n"),
        *(_short_commands(manager, names) if has_app else ()),
        File(_SCRIPT, script(plan, settings), "0700"),
    )


def _page(plan: ServingPlan, settings: Settings) -> tuple[File, ...]:
    """What answers until the first release: an application of one page, nginx alone, or nothing."""
    if plan.role == "app":
        return ()
    page = make_plan(builtin_settings(settings), plan.role)
    (site,) = page.sites
    group = {"nginx_group": plan.system.nginx_user}
    host = tuple(File(f"{layout.HOST}/a/{name}", layout.fill(text, group)) for name, text in page.configs.items())
    if plan.role == "front":
        assert isinstance(page.host, Host)  # noqa: S101 - a front has nginx
        waiting = page.host.sites[0].waiting
        return (*host, *(File(f"{site.place.root}/slots/waiting/{n}", text, "0640") for n, text in waiting.items()))
    facts = _facts(site)
    slot, release, place = facts["slot_dir"], facts["release_dir"], site.place
    configs = {**site.configs, **(nginx.builtin_files(site.release, place) if plan.has_nginx else {})}
    return (
        *host,
        *(File(f"{slot}/{name}", layout.fill(text, facts), "0640") for name, text in configs.items()),
        File(f"{slot}/state.json", _first_state(site, facts), "0640"),
        File(f"{release}/app/builtin.py", _code("builtin"), "0640"),
        File(f"{release}/tool/with_env.py", _code("with_env"), "0750"),
        File(place.env_file, "{}\n", "0640"),
        File(
            f"/etc/tmpfiles.d/wsgi-ecs-{place.name}.conf",
            f"d {layout.RUN} 0755 root root -\nd {place.run} 2750 {place.user} {place.web_group} -\n",
        ),
    )


def _short_commands(manager: str, names: Iterable[str]) -> tuple[File, ...]:
    aliases = (
        f"for name in {' '.join(names)}; do for word in start reload stop; do\n"
        f'alias "$name-$word={_CONTROL} $word"\ndone; done\nunset name word\n'
    )
    return (
        File(_CONTROL, render("cloud-init/app.sh.j2", layout=layout, manager=manager), "0755"),
        File("/etc/profile.d/wsgi-ecs.sh", aliases),
    )


def _facts(site: SitePlan) -> dict[str, str]:
    return {**layout.BOOTSTRAP_FACTS, **{name: str(ports[0]) for name, ports in site.release.ports.items()}}


# A function's docstring, a comment on a line of its own, and one for the linter.
_REMARK = re.compile(r'^ +""".*"""\n|^ *# .*\n|  # noqa: .*', re.MULTILINE)


def _code(name: str) -> str:
    """A program of machine/ without its remarks: every byte of user data counts."""
    text = source(f"machine/{name}.py")
    first = "#!/usr/bin/python3\n" if text.startswith("#!") else ""
    return first + _REMARK.sub("", text.split('"""', 2)[2].lstrip())


def script(plan: ServingPlan, settings: Settings) -> str:
    """The one `set -eu` script that installs and starts everything."""
    (site,) = make_plan(builtin_settings(settings), plan.role).sites
    facts = _facts(site)
    return render(
        "cloud-init/bootstrap.sh.j2",
        **_common(plan, settings),
        place=site.place,
        # nginx's machine needs pip alone, for what asks a CA.
        server_pins=site.release.server_pins if plan.role != "front" else (),
        port=site.ports[0],
        facts=facts,
        indexes=settings.server.mirrors.index or _INDEXES,
        manager=site.program.manager,
        program=layout.fill(site.program.name, facts),
        program_config=site.program.config,
        program_link=layout.fill(site.program.link, facts),
        log=layout.fill(site.place.log, facts),
    )


def _database_script(plan: ServingPlan, settings: Settings) -> str:
    return render("cloud-init/database.sh.j2", **_common(plan, settings))


def _common(plan: ServingPlan, settings: Settings) -> dict[str, Any]:
    """What the scripts of all roles are told."""
    return {
        "plan": plan,
        # One command for those of an owner and mode: every byte counts.
        "directories": [
            (*key, [directory.path for directory in group])
            for key, group in groupby(plan.directories, lambda directory: (*directory.owner.split(":"), directory.mode))
        ],
        "system": plan.system,
        "packaging": plan.system.packaging,
        "layout": layout,
        "mirrors": settings.server.mirrors,
        "epel": _epel(plan.system.packaging, settings) if isinstance(plan.system.packaging, Rpm) else (),
    }


def _first_state(site: SitePlan, facts: dict[str, str]) -> str:
    """What machine/release.py wants to know of the slot that serves."""
    state = slot_state(site.release, layout.BOOTSTRAP, facts["slot"], facts)
    known = {name: facts[name] for name in ("release_dir", "venv")}
    # Each byte of user data counts, so the text has no indent.
    return json.dumps(plain(state._replace(facts=known))) + "\n"


def _repositories(system: System, settings: Settings) -> tuple[File, ...]:
    rpm = system.packaging
    if not isinstance(rpm, Rpm):
        return ()
    # Under our own name: Alibaba's cloud-init rewrites the stock files at the first boot.
    text = render(
        "cloud-init/yum.repo.j2",
        rpm=rpm,
        sources=settings.server.mirrors.packages or rpm.sources,
        epel=_epel(rpm, settings),
    )
    return (File("/etc/yum.repos.d/wsgi-ecs.repo", text),)


def _epel(rpm: Rpm, settings: Settings) -> tuple[str, ...]:
    return settings.server.mirrors.epel or rpm.epel
