"""ServingPlan → cloud-init user data: what a new server does once, alone, before any SSH.

It ends with nginx→uWSGI under supervisor answering the built-in page. The text is plain
#cloud-config so that a preview shows a readable difference, holds no secret, and stays
under the 16 KB that the older pages of ECS allow.
https://cloudinit.readthedocs.io/en/latest/reference/modules.html
"""

import json

from serving import layout
from serving.plan import File, ServingPlan
from serving.systems import System
from serving.templates import render, source
from settings import Settings

LIMIT = 16 * 1024

# In the VPC first (no traffic fee, reached before the public address is), then the public ones.
# https://developer.aliyun.com/mirror/
_INDEXES = ("http://mirrors.cloud.aliyuncs.com/pypi/simple/", "https://mirrors.aliyun.com/pypi/simple/")
_PACKAGES = {
    "centos7": (
        "http://mirrors.cloud.aliyuncs.com/centos/7",
        "http://mirrors.cloud.aliyuncs.com/centos-vault/7.9.2009",
        "https://mirrors.aliyun.com/centos-vault/7.9.2009",
    ),
    # Alibaba's Debian image names the mirror inside the VPC by itself.
    "debian12": (),
}
_EPEL = {
    "centos7": (
        "http://mirrors.cloud.aliyuncs.com/epel/7/$basearch",
        "http://mirrors.cloud.aliyuncs.com/epel-archive/7/$basearch",
        "https://mirrors.aliyun.com/epel-archive/7/$basearch",
    ),
    "debian12": (),
}


def user_data(plan: ServingPlan, settings: Settings) -> str:
    """Plan → #cloud-config text. Raises ValueError when it is over LIMIT bytes."""
    text = render("cloud-init/cloud-config.yaml.j2", files=files(plan, settings), script=_SCRIPT)
    size = len(text.encode())
    if size > LIMIT:
        raise ValueError(f"user data is {size} bytes; ECS takes {LIMIT}")
    return text


def version(plan: ServingPlan, settings: Settings) -> str:
    """Changes when, and only when, the server must be built anew: not for mirrors or configs."""
    return plan.bootstrap_version + (f" {settings.server.image}" if settings.server.image else "")


_SCRIPT = "/usr/local/sbin/wsgi-ecs-bootstrap"


def files(plan: ServingPlan, settings: Settings) -> tuple[File, ...]:
    """What cloud-init writes: the script, and a first slot that serves the built-in page."""
    facts = layout.BOOTSTRAP_FACTS
    facts = {**facts, **{name: str(pair[0]) for name, pair in plan.release["ports"].items()}}
    own = {
        "module = " + settings.app.module: "module = builtin",
        "callable = " + settings.app.callable: "callable = app",
    }
    configs = []
    for name, text in plan.configs.items():
        if name == "uwsgi.ini":
            text = "".join(own.get(line.rstrip("\n"), line.rstrip("\n")) + "\n" for line in text.splitlines(True))
        configs.append(File(f"{facts['slot_dir']}/{name}", layout.fill(text, facts), "0640"))
    return (
        *_repositories(plan.system, settings),
        *configs,
        File(f"{facts['slot_dir']}/state.json", _first_state(plan, facts), "0640"),
        File(f"{facts['release_dir']}/app/builtin.py", source("machine/builtin.py"), "0640"),
        File(f"{facts['release_dir']}/tool/with_env.py", source("machine/with_env.py"), "0640"),
        File(layout.ENV_FILE, "{}\n", "0640"),
        File("/etc/tmpfiles.d/wsgi-ecs.conf", f"d {layout.RUN} 2750 {layout.APP_USER} {layout.SHARED_GROUP} -\n"),
        File("/etc/sysctl.d/90-wsgi-ecs.conf", "net.core.somaxconn = 4096\n"),
        File(_SCRIPT, script(plan, settings), "0700"),
    )


def script(plan: ServingPlan, settings: Settings) -> str:
    """The one `set -eu` script that installs and starts everything."""
    return render(
        "cloud-init/bootstrap.sh.j2",
        plan=plan,
        system=plan.system,
        layout=layout,
        facts=layout.BOOTSTRAP_FACTS,
        indexes=settings.server.mirrors.index or _INDEXES,
        packages_script=f"cloud-init/{plan.system.name}.sh.j2",
        mirrors=settings.server.mirrors,
        epel=settings.server.mirrors.epel or _EPEL[plan.system.name],
        program=layout.fill(plan.release["program"], layout.BOOTSTRAP_FACTS),
        supervisor_file=layout.fill(plan.release["supervisor_file"], layout.BOOTSTRAP_FACTS),
    )


def _first_state(plan: ServingPlan, facts: dict[str, str]) -> str:
    """What machine/release.py wants to know of the slot that serves."""
    names = {name: layout.fill(plan.release[name], facts) for name in ("program", "supervisor_file")}
    return json.dumps({"release": layout.BOOTSTRAP, "slot": facts["slot"], **names}) + "\n"


def _repositories(system: System, settings: Settings) -> tuple[File, ...]:
    if system.name != "centos7":
        return ()
    # Under our own name: Alibaba's cloud-init rewrites the stock files at the first boot.
    text = render(
        "cloud-init/centos7.repo.j2",
        packages=settings.server.mirrors.packages or _PACKAGES[system.name],
        epel=settings.server.mirrors.epel or _EPEL[system.name],
    )
    return (File("/etc/yum.repos.d/wsgi-ecs.repo", text),)
