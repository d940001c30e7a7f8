"""A site's user, groups and folders on this machine. Python 3.6, standard library only.

group      may read the site's environment: its user
web_group  may read its code and use its sockets: its user, nginx, and who builds virtual environments
"""

import grp
import os
import pwd
from typing import Callable, Collection, Dict, List, Optional

import data
import files
from commands import Say, run
from contract import paths
from contract.documents import HostSite
from contract.numbers import number


def make(site: HostSite, nginx_user: Optional[str], has_disk: bool, is_shared: bool = False) -> None:
    """Make the user, groups and folders of a site, unless they are there.

    nginx_user: None without nginx. has_disk: whether the sites' data are on a data disk, or in a file system of their
    own. is_shared: whether other machines have that file system, too.
    """
    for group in filter(None, (site.group, site.web_group, site.run_group)):
        if not _has(grp.getgrnam, group):
            run("groupadd", "--system", *(["--gid", str(number(group))] if is_shared else []), group)
    user(site.user, site.group, is_shared)
    if nginx_user:
        user(nginx_user)
        # nginx makes the site's own folder in it.
        os.makedirs(paths.CACHE, exist_ok=True)
    members: Dict[str, List[Optional[str]]] = {
        site.group: [site.user],
        site.web_group: [site.user, paths.BUILD_USER, nginx_user],
    }
    for group, names in members.items():
        for name in filter(None, names):
            if name not in grp.getgrnam(group).gr_mem:
                run("usermod", "-a", "-G", group, name)
    root = paths.site_root(site.name)
    for folder in (root, root + "/releases", root + "/slots", paths.logs(site.name)):
        if not os.path.isdir(folder):
            os.mkdir(folder)
        files.own(folder, site.web_group, 0o750)
    if site.has_data:
        # On another machine, a restore may be about to bring these data back.
        data.make(site, has_disk, recovers=not is_shared)
    rule = "d {0} 0755 root root -\nd {0}/{1} 2750 {2} {3} -\n".format(paths.RUN, site.name, site.user, site.web_group)
    files.write(_rule(site.name), rule, 0o644)
    run("systemd-tmpfiles", "--create", _rule(site.name))


def user(name: str, group: Optional[str] = None, is_shared: bool = False) -> None:
    """Make a user that nobody logs in as, unless there is a user of that name. is_shared: with the same number as on
    other machines."""
    if _has(pwd.getpwnam, name):
        return
    own = ["--gid", group] if group == name else ["--user-group"]
    own += ["--uid", str(number(name))] if is_shared else []
    run(
        "useradd",
        "--system",
        *(own + ["--no-create-home", "--home-dir", "/nonexistent"] + ["--shell", "/usr/sbin/nologin", name]),
    )


def group(user: str) -> str:
    """Name of a user's own group, which need not be the user's name: nobody's may be nogroup."""
    return grp.getgrgid(pwd.getpwnam(user).pw_gid).gr_name


def remove(name: str, users: Collection[str], say: Say) -> None:
    """Remove all that a site has but its data, once its programs have ended. users: of other sites, which stay."""
    for path in (paths.env_file(name), paths.logs(name), os.path.join(paths.RUN, name), _rule(name)):
        files.remove(path)
    files.remove(os.path.join(paths.CACHE, name))
    owner = "wsgi-" + name
    if owner not in users:
        for command, account in (("userdel", owner), ("groupdel", owner), ("groupdel", owner + "-web")):
            # userdel may have taken the group with it.
            run(command, account, check=False)
    data.keep(name, say)
    # This folder goes last: by it the next run finds a site that this run has only begun to remove.
    files.remove(paths.site_root(name))


def _rule(name: str) -> str:
    return os.path.join(files.TMPFILES, "wsgi-ecs-{}.conf".format(name))


def _has(look_up: Callable[[str], object], name: str) -> bool:
    try:
        look_up(name)
    except KeyError:
        return False
    return True
