"""The logs of this machine's sites and nginx, which are rotated before they take the disk.

    /etc/logrotate.d/wsgi-ecs                           what is rotated daily, and how much is kept
    /etc/wsgi-ecs/logrotate.conf                        the same and nginx's own logs, with a size
    /etc/systemd/system/wsgi-ecs-logs.timer, .service   looks at the sizes every 10 minutes

The OS's logrotate runs once a day, and a log of a busy day, or of a flood, may fill the disk before it does.
Python 3.6, standard library only.
"""

import os
from typing import List

import drop_ins
import files
from commands import run
from contract import paths
from nginx import NGINX_PID

DAILY = "/etc/logrotate.d/wsgi-ecs"
SIZES = "/etc/wsgi-ecs/logrotate.conf"
OF_NGINX = "/etc/logrotate.d/nginx"
_UNIT = "wsgi-ecs-logs"
# nginx makes each file again as its own user, and writes into the old file until it gets the signal. Names with dates,
# as some systems have them, would allow one rotation a day.
_DAILY = """# Written by wsgi-ecs.
{0}/*/access.log {0}/*/error.log {{
    daily
    rotate 14
    nodateext
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
{0}/*/a.log {0}/*/b.log {0}/*/[ab].*.log {0}/*/schedule.*.log {{
    size 10M
    rotate 3
    nodateext
    missingok
    compress
    copytruncate
}}
{0}/audit.log {{
    monthly
    rotate 24
    nodateext
    missingok
    notifempty
    nocreate
    compress
}}
"""
_SIZES = """# Written by wsgi-ecs. wsgi-ecs-logs.timer runs logrotate with it.
maxsize 100M
include {}
"""
_SERVICE = """# Written by wsgi-ecs.
[Unit]
Description=Rotate logs that have grown large

[Service]
Type=oneshot
ExecStart=/usr/sbin/logrotate {}
Nice=10
"""
_TIMER = """# Written by wsgi-ecs.
[Unit]
Description=Look every 10 minutes whether logs have grown large

[Timer]
OnCalendar=*:0/10
AccuracySec=1min

[Install]
WantedBy=timers.target
"""


def place() -> List[str]:
    """Have the logs rotated. Returns the paths of the files."""
    timer, service = (os.path.join(drop_ins.UNITS, _UNIT + suffix) for suffix in (".timer", ".service"))
    sizes = _SIZES.format(DAILY) + ("include {}\n".format(OF_NGINX) if os.path.exists(OF_NGINX) else "")
    new = {
        DAILY: _DAILY.format(paths.LOG, NGINX_PID),
        SIZES: sizes,
        service: _SERVICE.format(SIZES),
        timer: _TIMER,
    }
    changed = [path for path, text in new.items() if files.text(path) != text]
    for path in changed:
        files.write(path, new[path], 0o644)
    if changed:
        run("systemctl", "daemon-reload")
    run("systemctl", "enable", "-q", _UNIT + ".timer")
    run("systemctl", "start", _UNIT + ".timer")
    return sorted(new)
