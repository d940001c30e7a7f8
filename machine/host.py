"""What the sites of this machine share: their users and folders, its services, and nginx.

    host/a, host/b   nginx.conf, this tool and state.json; each includes the parts that the sites' own releases bring
    host/current     link to the slot that serves; the slot's state names the slot "before" until the check has passed
    /etc/nginx/nginx.conf → host/current/nginx.conf

A new site answers 503 until its first release. A site that is no longer named is removed with all that it had. The
other sites serve on: when a site that answered before does not answer after the switch, the old configuration comes
back. Python 3.6, standard library only.
"""

import glob
import os
from typing import Dict, List, Optional, Set

import accounts
import acme
import builds
import certificates
import data_disk
import drift
import drop_ins
import facts
import files
import hardening
import log_rotation
import metrics
import packages
import probe
import processes
import redis_server
import schedule
import shared_data
import updates
import venvs
from commands import ReleaseError, Say, roll_back
from contract import paths
from contract.codec import decode
from contract.documents import (
    CONFIG_FOLDER,
    HOST_FILE,
    STATE_FILE,
    TOOL_FOLDER,
    Entrance,
    Host,
    HostSite,
    HostState,
    OwnNginx,
)
from contract.placeholders import NGINX_DIRECTIVES
from logs import size, tail
from managers import MANAGERS
from nginx import NGINX_CONF, NGINX_LOG, Nginx, NoNginx
from slots import restore_nginx_files
from unpacked import Unpacked

HOSTS = "/etc/hosts"
_MARK = "# wsgi-ecs"
# A command for a person who has logged in. Written with the folder of this tool and one of its verbs.
_COMMAND = """#!/bin/sh
# {2}. Written by wsgi-ecs.
exec /usr/bin/python3 -B {0}/tool/release.py {1} "$@"
"""


def own_nginx() -> Optional[OwnNginx]:
    """The nginx from source that runs, None for the OS's."""
    return files.host_state().nginx


def prepare(
    folder: str,
    hosts: Dict[str, str],
    given: Optional[certificates.Given],
    say: Say,
    authority: str = "",
    store: str = "",
) -> None:
    """Put the release of the machine in `folder` in place. Raises ReleaseError with the old release in place.

    hosts: name → IPv4 address of the stack's other machines. given: certificates, None for those in place. authority:
    certificate of the database's server, "" for none. store: address of the file system that machines share.
    """
    unpacked = Unpacked(folder)
    host = decode(Host, unpacked.text(HOST_FILE))
    recover_interrupted_release(say)
    old, given = files.host_state(), given or {}
    digest = files.digest(given) if given else old.tls
    is_same = (old.release, old.hosts, old.tls) == (unpacked.id, hosts, digest)
    is_same = is_same and certificates.has_authority(authority, old.written)
    is_same = is_same and shared_data.is_in_place(host.shared, store)
    if is_same and certificates.are_in_place(given):
        say("what the sites share is in place: nothing to do")
        return
    drift.report_overwritten(drift.of_host(), say)
    if host.packages:
        packages.install(host.packages, say)
    services = certificates.place_authority(authority)
    services += drop_ins.place(host.drop_ins)
    services += drop_ins.place(host.confinement, drop_ins.CONFINEMENT)
    services += redis_server.prepare(host.redis, say)
    services += metrics.place(unpacked, say)
    services += hardening.place(unpacked, say)
    services += updates.place(unpacked, say)
    name_hosts(hosts)
    services += data_disk.place(host, say, store)
    # A list, because each site is made whatever has changed for another site.
    has_new_parts = any([make_site(site, host, say) for site in host.sites])
    services += log_rotation.place()
    for build in host.builds:
        builds.make(build, unpacked, say)
    if host.acme:
        acme.prepare(unpacked, say)
    nginx = OwnNginx(host.builds[0].folder, host.builds[0].link) if host.builds else None
    # Only a complete state of the last run says what nginx has loaded.
    is_known = old.release is not None and (old.hosts, old.tls, old.nginx) == (hosts, digest, nginx)
    written = place(unpacked, host, nginx, given, is_known and not has_new_parts)
    commands = write_commands(os.path.join(paths.host_root(), "current"))
    written.update(files.digests([*services, *commands, *((NGINX_CONF,) if host.has_nginx else ())]))
    certificates.remove_others(host.given + host.acme)
    acme.schedule()
    remove_others(host.sites, say)
    if old.release is None and not serves():
        # A server that serves something is confined from its next start on, because a restart would lose requests.
        drop_ins.restart(host.confinement, say)
    # The complete state is written last: without it the next run does all this again.
    save("current", HostState(unpacked.id, hosts, digest, nginx, host.builds, written))
    say("what the sites share is in place: {}".format(", ".join(site.name for site in host.sites)))


def bring_database(folder: str, account: Optional[Dict[str, str]], say: Say) -> None:
    """Bring a managed database its schema, if this machine is the one that does it. Raises ReleaseError or OSError.

    account: the tool's own, None if there is nothing on standard input.
    """
    if os.path.exists(os.path.join(folder, TOOL_FOLDER, "managed_database.py")):
        # No other release has this module.
        import managed_database

        managed_database.bring(folder, account, say)
    elif os.path.exists(paths.MYSQL_CLIENT):
        files.remove(paths.MYSQL_CLIENT)
        files.remove(paths.DATABASE_COMMAND)


def recover_interrupted_release(say: Say) -> None:
    """Roll back a release that was killed before it had proved itself."""
    before = files.host_state().before
    if before:
        say("the previous run was interrupted before its health check; rolling back")
        return_to(before)


def serves() -> bool:
    """Whether a release of a site serves on this machine."""
    found = [files.slot_state(os.path.join(paths.site_root(name), "current")) for name in files.site_names()]
    return any(state and state.release not in (None, paths.BOOTSTRAP) for state in found)


def save(slot: str, state: HostState) -> None:
    files.write_document(os.path.join(paths.host_root(), slot, STATE_FILE), state, 0o644)


def write_commands(folder: str) -> List[str]:
    """Write the commands of this server, which run the tool in `folder`. Returns their paths."""
    found = {
        paths.STATUS_COMMAND: ("status", "What serves here, and how the machine is; --json for programs"),
        paths.MAINTENANCE_COMMAND: ("maintenance", "Closes a site for a while: on, off or status [--site S]"),
        paths.RELEASE_COMMAND: ("kept", "Lists the kept releases of a site, and puts one of them live again"),
    }
    for path, (verb, meaning) in found.items():
        files.write(path, _COMMAND.format(folder, verb, meaning), 0o755)
    return list(found)


def place(
    unpacked: Unpacked, host: Host, own: Optional[OwnNginx], given: certificates.Given, is_known: bool
) -> Dict[str, str]:
    """Switch to the new configuration and the given certificates, or go back. Returns path → digest of its files.

    is_known: nginx has loaded what is in place, so that it is reloaded only if its configuration or a certificate
    changes.
    """
    nginx = Nginx(own) if host.has_nginx else NoNginx()
    link = os.path.join(paths.host_root(), "current")
    before = os.readlink(link) if os.path.lexists(link) else None
    slot = "b" if before == "a" else "a"
    written = fill(unpacked, host, slot, nginx)
    # A run that is killed before the switch is repeated as a whole, because only a part of the files may be new.
    old_certificates = certificates.put(given, host.given, host.acme)
    text = os.path.join(paths.host_root(), slot, "nginx.conf")
    is_loaded = is_known and files.text(text) == files.text(NGINX_CONF)
    is_loaded = is_loaded and all(files.text(path) == before for path, before in old_certificates.items())
    try:
        nginx.check(text)
    except BaseException:
        certificates.put_back(old_certificates)
        raise
    save(slot, HostState(before=before, nginx=own, builds=host.builds))
    try:
        old_workers = switch(host, nginx, slot, link, is_loaded)
    except BaseException as error:
        certificates.put_back(old_certificates)
        if before:
            old_slot = before
            roll_back(error, lambda: return_to(old_slot))
        raise
    save(slot, HostState(nginx=own, builds=host.builds))
    nginx.drain(old_workers, host.stop_seconds)
    return files.digests(written)


def fill(unpacked: Unpacked, host: Host, slot: str, nginx: Nginx) -> List[str]:
    """Write this tool and the configs that the sites share into a slot. Returns the paths."""
    folder = os.path.join(paths.host_root(), slot)
    files.remove(folder)
    os.mkdir(folder)
    files.own(folder, "root", 0o755)
    # The timer and the status command run this copy of the tool, because a site's release is pruned one day.
    written = unpacked.place_tool(folder)
    known = {}
    if host.has_nginx:
        known = {name: "" if nginx.knows(text) else "# " for name, text in NGINX_DIRECTIVES.items()}
        known["nginx_group"] = accounts.group(host.nginx_user)
    for name in unpacked.files:
        if name.startswith(CONFIG_FOLDER):
            written.append(os.path.join(folder, name[len(CONFIG_FOLDER) :]))
            files.write(written[-1], facts.fill(unpacked.text(name), known), 0o644)
    return written


def switch(host: Host, nginx: Nginx, slot: str, link: str, is_loaded: bool) -> Set[int]:
    """Have nginx load a slot's configuration, and check each site that answered before. Returns nginx's old workers.

    is_loaded: nginx has loaded the same configuration from the other slot. Raises ReleaseError when a site does not
    answer any more.
    """
    # Without nginx a site's program has the port, and nothing here changes it.
    answered = [site for site in host.sites if host.has_nginx and site_problem(site.name) is None]
    offset = size(NGINX_LOG)
    try:
        files.link(slot, link)
        if host.has_nginx:
            files.link(os.path.join(link, "nginx.conf"), NGINX_CONF)
        old_workers = set() if is_loaded and nginx.workers() else nginx.reload()
        for site in answered:
            problem = site_problem(site.name, site.entrance)
            if problem:
                raise ReleaseError("site {} does not answer any more: {}".format(site.name, problem))
    except ReleaseError as error:
        error.lines = "\n".join(filter(None, (error.lines, tail(NGINX_LOG, offset, lines=10))))
        raise
    return old_workers


def return_to(slot: str) -> None:
    """Return to a slot that served before, and have nginx load its configuration if it has one."""
    files.link(slot, os.path.join(paths.host_root(), "current"))
    if os.path.exists(os.path.join(paths.host_root(), slot, "nginx.conf")):
        Nginx(files.host_state(slot).nginx).reload()


def site_problem(site: str, entrance: Optional[Entrance] = None) -> Optional[str]:
    """Return None if the site is healthy, else the problem. entrance: overrides for the probe's host and port."""
    state = files.slot_state(os.path.join(paths.site_root(site), "current"))
    if state is None or state.probe is None:
        return "it has no release"
    request = state.probe
    if entrance:
        host = entrance.host or state.facts.get("address", "localhost")
        request = request._replace(host=host, port=entrance.port, tls=entrance.tls)
    try:
        answer = probe.through_entrance(request)
    except OSError as error:
        return str(error)
    return None if answer.good else str(answer)


def name_hosts(hosts: Dict[str, str]) -> None:
    """Give the stack's other machines their names on this machine, in /etc/hosts.

    A machine that is gone keeps its name while a site's release names it, because nginx refuses a name that it cannot
    resolve.
    """
    with open(HOSTS, encoding="utf-8") as file:
        lines = file.read().splitlines()
    ours = {line.split()[1]: line.split()[0] for line in lines if line.endswith(_MARK)}
    configs = glob.glob(os.path.join(paths.site_root("*"), "current", "http.conf"))
    named = "".join(files.text(path) or "" for path in configs)
    gone = {name: address for name, address in ours.items() if " {}:".format(name) in named}
    kept = [line for line in lines if not line.endswith(_MARK)]
    new = ["{} {} {}".format(address, name, _MARK) for name, address in sorted(dict(gone, **hosts).items())]
    if kept + new != lines:
        files.write(HOSTS, "\n".join(kept + new) + "\n", 0o644)


def make_site(site: HostSite, host: Host, say: Say) -> bool:
    """Make the user and the folders of a site, and what nginx needs of it before its first release.

    Returns whether nginx may have yet to load a file of the site.
    """
    is_shared = bool(host.shared and host.shared.is_several)
    accounts.make(site, host.nginx_user if host.has_nginx else None, bool(host.disk_gib or host.shared), is_shared)
    if not host.has_nginx:
        return False
    wait(site)
    restored = restore_nginx_files(site.name, site.web_group)
    drift.report_overwritten(restored, say)
    waits = os.readlink(os.path.join(paths.site_root(site.name), "current")) == paths.WAITING
    return waits or bool(restored)


def wait(site: HostSite) -> None:
    """Write the page that answers for a site until its first release."""
    root = paths.site_root(site.name)
    link = os.path.join(root, "current")
    folder = os.path.join(root, paths.WAITING)
    if not os.path.isdir(folder):
        os.mkdir(folder)
    files.own(folder, site.web_group, 0o750)
    for name, text in site.waiting.items():
        files.write(os.path.join(folder, name), text, 0o640, site.web_group)
    if not os.path.lexists(link):
        files.link(paths.WAITING, link)


def remove_others(sites: List[HostSite], say: Say) -> None:
    """End the programs of sites that are no longer named, and remove what they had."""
    for name in files.site_names():
        if name in [site.name for site in sites]:
            continue
        say("removing site {}".format(name))
        for slot in paths.SLOTS:
            folder = os.path.join(paths.site_root(name), "slots", slot)
            state = files.slot_state(folder)
            if state:
                MANAGERS[state.manager]().remove(state, state.stop_seconds)
                processes.stop(state, folder)
        schedule.remove(name, [])
        # The emperor's user stays, whatever its sites are called.
        accounts.remove(name, {site.user for site in sites} | {site.group for site in sites}, say)
        venvs.prune(venvs.used())
    builds.prune()
