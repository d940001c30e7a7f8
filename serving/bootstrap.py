"""ServingPlan → cloud-init user data: what a new server does once, alone, before any SSH.

It ends with nginx→uWSGI under supervisor answering the built-in page. The text is plain
#cloud-config so that a preview shows a readable difference, holds no secret, and stays
under the 16 KB that the older pages of ECS allow.
https://cloudinit.readthedocs.io/en/latest/reference/modules.html
"""

import json

from serving import layout
from serving.plan import STATE_NAMES, File, ServingPlan, make_plan
from serving.server import LOG
from serving.systems import System
from serving.templates import render, source
from settings import Settings

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
    """What cloud-init writes: the script, and a first slot that serves the built-in page."""
    builtin = make_plan(_builtin(settings))
    facts = {**layout.BOOTSTRAP_FACTS, **{name: str(pair[0]) for name, pair in plan.release["ports"].items()}}
    slot, release = facts["slot_dir"], facts["release_dir"]
    tools = ("with_env", "vassal") if plan.program.manager == "emperor" else ("with_env",)
    return (
        *_repositories(plan.system, settings),
        *(File(f"{slot}/{name}", layout.fill(text, facts), "0640") for name, text in builtin.configs.items()),
        *(File(path, text) for path, text in plan.bootstrap_files.items()),
        File(f"{slot}/state.json", _first_state(builtin, facts), "0640"),
        File(f"{release}/app/builtin.py", _code("builtin"), "0640"),
        *(File(f"{release}/tool/{name}.py", _code(name), "0750") for name in tools),
        File(layout.ENV_FILE, "{}\n", "0640"),
        File("/etc/tmpfiles.d/wsgi-ecs.conf", f"d {layout.RUN} 2750 {layout.APP_USER} {layout.SHARED_GROUP} -\n"),
        File("/etc/sysctl.d/90-wsgi-ecs.conf", "net.core.somaxconn = 4096\n"),
        File(_CONTROL, render("cloud-init/app.sh.j2", layout=layout, manager=plan.program.manager), "0755"),
        File(
            "/etc/profile.d/wsgi-ecs.sh",
            "".join(
                f"alias {name}-{word}='{_CONTROL} {word}'\n"
                for name in ("app", plan.server)
                for word in ("start", "reload", "stop")
            ),
        ),
        File(_SCRIPT, script(plan, settings), "0700"),
    )


def _code(name: str) -> str:
    """A program of machine/ without its docstring: every byte of user data counts."""
    text = source(f"machine/{name}.py")
    first = "#!/usr/bin/python3\n" if text.startswith("#!") else ""
    return first + text.split('"""', 2)[2].lstrip()


def _builtin(settings: Settings) -> Settings:
    """The same servers with the built-in page in place of the application."""
    app = settings.app.model_copy(update={"module": "builtin", "callable": "app", "wsgi_file": None})
    return settings.model_copy(
        update={
            "app": app,
            "uwsgi": settings.uwsgi.model_copy(
                update={
                    "pythonpath": (),
                    "static_map": {},
                    "processes": 1,
                    "cheaper": None,
                    "install": "index",
                    "version": settings.uwsgi.version if settings.uwsgi.install == "index" else None,
                }
            ),
            # Built-in: what is there without a release, which brings the archives.
            "nginx": settings.nginx.model_copy(update={"install": "os"}),
            "gunicorn": settings.gunicorn.model_copy(update={"workers": 1}),
        }
    )


def script(plan: ServingPlan, settings: Settings) -> str:
    """The one `set -eu` script that installs and starts everything."""
    return render(
        "cloud-init/bootstrap.sh.j2",
        plan=plan,
        server_pins=make_plan(_builtin(settings)).release["server_pins"],
        system=plan.system,
        layout=layout,
        facts=layout.BOOTSTRAP_FACTS,
        indexes=settings.server.mirrors.index or _INDEXES,
        packages_script=f"cloud-init/{plan.system.name}.sh.j2",
        mirrors=settings.server.mirrors,
        epel=settings.server.mirrors.epel or _EPEL[plan.system.name],
        program=layout.fill(plan.program.name, layout.BOOTSTRAP_FACTS),
        program_config=plan.program.config,
        program_link=layout.fill(plan.program.link, layout.BOOTSTRAP_FACTS),
        log=layout.fill(LOG, layout.BOOTSTRAP_FACTS),
    )


def _first_state(plan: ServingPlan, facts: dict[str, str]) -> str:
    """What machine/release.py wants to know of the slot that serves."""
    names = json.loads(layout.fill(json.dumps({name: plan.release[name] for name in STATE_NAMES}), facts))
    known = {name: facts[name] for name in ("release_dir", "venv")}
    return json.dumps({"release": layout.BOOTSTRAP, "slot": facts["slot"], "facts": known, **names}) + "\n"


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
