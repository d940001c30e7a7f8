"""A site's user, groups and folders on this machine. Python 3.6, standard library only.

group      may read the site's environment: its user
web_group  may read its code and use its sockets: its user, nginx, and who builds virtual environments
"""

import grp
import os
import pwd

import files
from servers import run

BUILD_USER = "wsgi-build"


def make(site, nginx_user):
    """Make what a site needs, unless it is there. site: an entry of host.json. nginx_user: None without nginx."""
    for group in filter(None, (site["group"], site["web_group"], site["run_group"])):
        if not _has(grp.getgrnam, group):
            run("groupadd", "--system", group)
    user(site["user"], site["group"])
    if nginx_user:
        user(nginx_user)
        # nginx makes the site's own folder in it.
        os.makedirs(files.CACHE, exist_ok=True)
    members = {site["group"]: [site["user"]], site["web_group"]: [site["user"], BUILD_USER, nginx_user]}
    for group, names in members.items():
        for name in filter(None, names):
            if name not in grp.getgrnam(group).gr_mem:
                run("usermod", "-a", "-G", group, name)
    root = files.site_root(site["name"])
    for folder in (root, root + "/releases", root + "/slots", files.logs(site["name"])):
        if not os.path.isdir(folder):
            os.mkdir(folder)
        files.own(folder, site["web_group"], 0o750)
    rule = "d {0} 0755 root root -\nd {0}/{1} 2750 {2} {3} -\n".format(
        files.RUN, site["name"], site["user"], site["web_group"]
    )
    files.write(_rule(site["name"]), rule, 0o644)
    run("systemd-tmpfiles", "--create", _rule(site["name"]))


def user(name, group=None):
    """Make a user that nobody logs in as, unless there is one of that name."""
    if _has(pwd.getpwnam, name):
        return
    own = ["--gid", group] if group == name else ["--user-group"]
    run(
        "useradd",
        "--system",
        *(own + ["--no-create-home", "--home-dir", "/nonexistent"] + ["--shell", "/usr/sbin/nologin", name]),
    )


def group(user):
    """Name of a user's own group, which need not be the user's name: nobody's may be nogroup."""
    return grp.getgrgid(pwd.getpwnam(user).pw_gid).gr_name


def remove(name, users):
    """Leave nothing of a site whose programs have ended. users: those that other sites run as."""
    for path in (files.env_file(name), files.logs(name), os.path.join(files.RUN, name), _rule(name)):
        files.remove(path)
    files.remove(os.path.join(files.CACHE, name))
    owner = "wsgi-" + name
    if owner not in users:
        for command, account in (("userdel", owner), ("groupdel", owner), ("groupdel", owner + "-web")):
            # userdel may have taken the group with it.
            run(command, account, check=False)
    # Last: by it the next run finds a site that this one has only begun to remove.
    files.remove(files.site_root(name))


def _rule(name):
    return os.path.join(files.TMPFILES, "wsgi-ecs-{}.conf".format(name))


def _has(look, name):
    try:
        look(name)
    except KeyError:
        return False
    return True
