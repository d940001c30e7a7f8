"""What the sites of this machine share: their users and folders, and nginx.

    host/a, host/b   nginx.conf, this tool and state.json; each includes the parts that the sites' own releases bring
    host/current     link to the one that serves; its state says "before" until it has proved itself
    /etc/nginx/nginx.conf → host/current/nginx.conf

A site that is new answers 503 until its first release; one that is no longer named is removed, with all that
it had. The other sites serve on: one that answered before and does not after ends with the old configuration
back. Python 3.6, standard library only.
"""

import glob
import json
import os

import accounts
import acme
import builds
import certificates
import drift
import drop_ins
import files
import probe
import venvs
from managers import MANAGERS
from servers import NGINX_CONF, NGINX_LOG, NGINX_PID, Nginx, NoNginx, ReleaseError, go_back, size, tail
from slots import SLOTS, WAITING, put_back
from unpacked import Unpacked

HOSTS = "/etc/hosts"
_MARK = "# wsgi-ecs"


def state(folder="current"):
    """What was prepared last, an empty dict before that."""
    return files.state(os.path.join(files.host_root(), folder))


def own_nginx():
    """Which nginx runs: {"folder", "link"} of one from source, None for the OS's."""
    return state().get("nginx")


STATUS = "/usr/local/sbin/wsgi-ecs-status"
_STATUS = """#!/bin/sh
# What serves here, and which files were edited by hand. Written by wsgi-ecs.
exec /usr/bin/python3 -B {}/tool/release.py status
"""
LOGROTATE = "/etc/logrotate.d/wsgi-ecs"
# nginx makes each file again, its own, and may write into the old one until it has heard of it.
_ROTATED = """# Written by wsgi-ecs.
{0}/*/access.log {0}/*/error.log {{
    daily
    rotate 14
    missingok
    notifempty
    nocreate
    compress
    delaycompress
    sharedscripts
    postrotate
        [ ! -f {1} ] || kill -USR1 "$(cat {1})"
    endscript
}}
{0}/*/a.log {0}/*/b.log {{
    size 10M
    rotate 3
    missingok
    compress
    copytruncate
}}
"""


def prepare(folder, hosts, given, say):
    """Put the release of the machine in `folder` in place. Raises ReleaseError with the old one in place.

    hosts: name → IPv4 address of the stack's other machines. given: domain → certificate and private_key, None for
    those in place.
    """
    unpacked = Unpacked(folder)
    host = json.loads(unpacked.read("host.json").decode())
    before = state().get("before")
    if before:
        say("the run before was ended before its proof: going back")
        return_to(before)
    old, given = state(), given or {}
    digest = files.digest(given) if given else old.get("tls")
    wanted = (unpacked.id, hosts, digest)
    if (old.get("release"), old.get("hosts", {}), old.get("tls")) == wanted and certificates.same(given):
        say("what the sites share is in place: nothing to do")
        return
    drift.replaced(drift.of_host(), say)
    has_nginx = host["has_nginx"]
    services = drop_ins.place(host.get("drop_ins", {}))
    name_hosts(hosts)
    for site in host["sites"]:
        accounts.make(site, host["nginx_user"] if has_nginx else None)
        if has_nginx:
            wait(site)
            drift.replaced(put_back(site["name"], site["web_group"]), say)
    if has_nginx:
        files.write(LOGROTATE, _ROTATED.format(files.LOG, NGINX_PID), 0o644)
    for build in host["builds"]:
        builds.make(build, unpacked, say)
    own = [{"folder": build["folder"], "link": build["link"]} for build in host["builds"]]
    if host["acme"]:
        acme.prepare(unpacked, say)
    written = place(unpacked, host, own[0] if own else None, given)
    written.update(files.noted([*services, write_status(os.path.join(files.host_root(), "current"))]))
    if has_nginx:
        written.update(files.noted([LOGROTATE, NGINX_CONF]))
    certificates.remove_others(host["given"] + host["acme"])
    acme.schedule()
    remove_others({site["name"]: site for site in host["sites"]}, say)
    # Last: without it the next run does all this again.
    save(
        "current",
        release=unpacked.id,
        hosts=hosts,
        tls=digest,
        nginx=own[0] if own else None,
        builds=host["builds"],
        written=written,
    )
    say("what the sites share is in place: {}".format(", ".join(site["name"] for site in host["sites"])))


def save(folder, **state):
    files.write(os.path.join(files.host_root(), folder, "state.json"), json.dumps(state, indent=1), 0o644)


def write_status(folder):
    """The command that people ask; the tool is in `folder`. Returns its path."""
    files.write(STATUS, _STATUS.format(folder), 0o755)
    return STATUS


def place(unpacked, host, own_nginx, given):
    """The switch to a new configuration and to given certificates, or back. Returns files.noted of it."""
    has_nginx = host["has_nginx"]
    nginx = Nginx(own_nginx) if has_nginx else NoNginx()
    link = os.path.join(files.host_root(), "current")
    before = os.readlink(link) if os.path.lexists(link) else None
    name = "b" if before == "a" else "a"
    folder = os.path.join(files.host_root(), name)
    files.remove(folder)
    os.mkdir(folder)
    files.own(folder, "root", 0o755)
    # For the timer: what a release brought is gone with the next.
    paths = unpacked.place_tool(folder)
    for file in unpacked.files:
        if file.startswith("config/"):
            text = unpacked.read(file).decode().replace("@@nginx_group@@", accounts.group(host["nginx_user"]))
            paths.append(os.path.join(folder, file[len("config/") :]))
            files.write(paths[-1], text, 0o644)
    # A run that is killed before the switch is done again as a whole: its pairs may not be.
    stood = certificates.put(given, host["given"], host["acme"])
    try:
        nginx.check(os.path.join(folder, "nginx.conf"))
    except BaseException:
        certificates.give_back(stood)
        raise
    save(name, before=before, nginx=own_nginx, builds=host["builds"])
    # Without nginx a site's port is its own program's: nothing here changes it.
    answered = [site for site in host["sites"] if has_nginx and answers(site, {}) is None]
    offset = size(NGINX_LOG)
    try:
        files.link(name, link)
        if has_nginx:
            files.link(os.path.join(link, "nginx.conf"), NGINX_CONF)
        workers = nginx.reload()
        for site in answered:
            problem = answers(site, site["entrance"])
            if problem:
                raise ReleaseError("site {} does not answer any more: {}".format(site["name"], problem))
    except BaseException as error:
        if isinstance(error, ReleaseError):
            error.lines = "\n".join(filter(None, (error.lines, tail(NGINX_LOG, offset, lines=10))))
        certificates.give_back(stood)
        if before:
            go_back(error, lambda: return_to(before))
        raise
    save(name, nginx=own_nginx, builds=host["builds"])
    nginx.drain(workers, host["stop_seconds"])
    return files.noted(paths)


def return_to(before):
    """Give the configuration that served before back to nginx, if it had one."""
    files.link(before, os.path.join(files.host_root(), "current"))
    if os.path.exists(os.path.join(files.host_root(), before, "nginx.conf")):
        Nginx(state(before).get("nginx")).reload()


def answers(site, entrance):
    """None when a site's release answers with health, else what is wrong. entrance: what is new of host and port."""
    root = files.site_root(site["name"])
    try:
        request = dict(files.read_json(os.path.join(root, "current", "state.json"))["probe"], **entrance)
    except (OSError, ValueError, KeyError):
        return "it has no release"
    try:
        answer = probe.through_entrance(request)
    except OSError as error:
        return str(error)
    return None if answer.good else str(answer)


def name_hosts(hosts):
    """Give the stack's other machines their names on this one, in /etc/hosts.

    A machine that is gone keeps its name for as long as a site's release asks for it: nginx takes no other.
    """
    with open(HOSTS, encoding="utf-8") as file:
        lines = file.read().splitlines()
    ours = {line.split()[1]: line.split()[0] for line in lines if line.endswith(_MARK)}
    asked = "".join(map(read_text, glob.glob(os.path.join(files.site_root("*"), "current", "http.conf"))))
    gone = {name: address for name, address in ours.items() if " {}:".format(name) in asked}
    kept = [line for line in lines if not line.endswith(_MARK)]
    named = ["{} {} {}".format(address, name, _MARK) for name, address in sorted(dict(gone, **hosts).items())]
    if kept + named != lines:
        files.write(HOSTS, "\n".join(kept + named) + "\n", 0o644)


def read_text(path):
    with open(path, encoding="utf-8") as file:
        return file.read()


def wait(site):
    """Give a site that has no release yet a page that says so."""
    root = files.site_root(site["name"])
    link = os.path.join(root, "current")
    folder = os.path.join(root, WAITING)
    if not os.path.isdir(folder):
        os.mkdir(folder)
    files.own(folder, site["web_group"], 0o750)
    for name, text in site["waiting"].items():
        files.write(os.path.join(folder, name), text, 0o640, site["web_group"])
    if not os.path.lexists(link):
        files.link(WAITING, link)


def remove_others(wanted, say):
    """End the programs of sites that are no longer named, and remove what they had."""
    for name in files.sites():
        if name in wanted:
            continue
        say("removing site {}".format(name))
        for slot in SLOTS:
            try:
                state = files.read_json(os.path.join(files.site_root(name), "slots", slot, "state.json"))
            except (OSError, ValueError):
                continue
            MANAGERS[state["manager"]]().remove(state, state.get("stop_seconds", 30))
        # The emperor's own user stays, whatever its sites are called.
        kept = {site["user"] for site in wanted.values()} | {site["group"] for site in wanted.values()}
        accounts.remove(name, kept)
        venvs.prune(venvs.used())
    builds.prune()
