"""The logs of this machine's sites and nginx, which are rotated before they take the disk.

    /etc/wsgi-ecs/logrotate.conf                        what is rotated daily or by its size, and how much is kept
    /etc/systemd/system/wsgi-ecs-logs.timer, .service   runs logrotate with it every 10 minutes

The OS's logrotate runs once a day, and a log of a busy day, or of a flood, may fill the disk before it does. It knows
nothing of the sites' logs: two runs at midnight with one state file would make the second of them give up, and that day
no other log would be rotated. Python 3.6, standard library only.
"""

from typing import List

import files
import timers
from contract import paths
from nginx import NGINX_PID

CONFIG = "/etc/wsgi-ecs/logrotate.conf"
# Tools before this one have had the OS's logrotate read it.
FORMER = "/etc/logrotate.d/wsgi-ecs"
_TIMER_UNIT, _SERVICE_UNIT = "wsgi-ecs-logs.timer", "wsgi-ecs-logs.service"
# nginx writes into the old file until it gets the signal.
_REOPENED = """    delaycompress
    sharedscripts
    postrotate
        [ ! -f {0} ] || kill -USR1 "$(cat {0})"
    endscript
"""
# nginx makes each file of a site again as its own user. Names with dates, as some systems have them, would allow one
# rotation a day. The OS rotates nginx's own logs daily.
_CONFIG = """# Written by wsgi-ecs. wsgi-ecs-logs.timer runs logrotate with it.
maxsize 100M
{0}/*/access.log {0}/*/error.log {{
    daily
    rotate 14
    nodateext
    missingok
    notifempty
    nocreate
    compress
{1}}}
{0}/*/a.log {0}/*/b.log {0}/*/[ab].*.log {0}/*/schedule.*.log {{
    size 10M
    rotate 30
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
/var/log/nginx/*.log {{
    size 100M
    rotate 14
    nodateext
    missingok
    create
    compress
{1}}}
"""
_SERVICE = """# Written by wsgi-ecs.
[Unit]
Description=Rotate logs that have grown large
# Both rotate nginx's own logs.
After=logrotate.service

[Service]
Type=oneshot
ExecStart=/usr/sbin/logrotate --state /var/lib/logrotate/wsgi-ecs.status {}
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
    text = _CONFIG.format(paths.LOG, _REOPENED.format(NGINX_PID))
    if files.text(CONFIG) != text:
        files.write(CONFIG, text, 0o644)
    files.remove(FORMER)
    units = {_TIMER_UNIT: _TIMER, _SERVICE_UNIT: _SERVICE.format(CONFIG)}
    return sorted([CONFIG, *timers.place(_TIMER_UNIT, _SERVICE_UNIT, units)])
