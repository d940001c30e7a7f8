"""Faults under load, for the table of docs/faults.md: what each did, and whether the site came back by itself.

make faults                                         all rows, about an hour on two cores
make faults FAULTS="--managers systemd"             the rows of one process manager; the other rows of the table stay
make faults FAULTS="--only random --seed 7"         the row of that name, with that seed
make faults FAULTS="--seconds 60"                   kill at random for a minute in place of ten

A row of an earlier run is replaced.
"""

import argparse
import random
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial

from tests.bench import tables
from tests.builders.stack import PROJECT
from tests.rehearsal.builders import faults
from tests.rehearsal.builders.faults import MANAGERS, Act, Machine, Measured

ENGLISH, CHINESE = PROJECT / "docs/faults.md", PROJECT / "docs/faults.zh-CN.md"
LOGS, DATA, RELEASES = "/var/log/wsgi-ecs", "/srv/wsgi-ecs/sites/app/data", "/srv/wsgi-ecs"
DATABASE_DATA = "/srv/data"
# Steps of a release: in English, in Chinese, and what `up` prints as it begins.
STEPS = (
    ("as the archive is copied", "复制归档", "archive"),
    ("as the new program starts", "启动新程序", "starting release"),
    ("as the traffic is given to it", "切换流量", "giving it the traffic"),
    ("as the old program ends", "结束旧程序", " serves"),
)
# What does not depend on the process manager is measured with this one.
ONE = ("supervisor",)
# nginx on one machine, the application on two others.
APART = "supervisor, two app servers"
# nginx and the application on one machine, MariaDB on another, to which each request writes a row.
DATABASE = "supervisor, MySQL"
# One site, whose certificate comes from a CA.
SECURE = "supervisor, TLS"
# What is broken, and the settings of its stack: everything on one machine unless it is named here.
STACKS: dict[str, tuple[str, dict[str, object]]] = {
    # Two sites would want two ports.
    APART: ("app-1", {"topology": {"app_servers": 2}, "sites": {"app": {"site": {"server_name": "app.test"}}}}),
    DATABASE: ("db", {"mysql": {"password": "of-a-rehearsal"}}),
    SECURE: ("", {"sites": {"app": {"site": {"server_name": "app.test"}, "tls": {"acme": True}}}}),
}
KINDS = (*MANAGERS, *STACKS)
WITHOUT_SYSTEMD = ("supervisor", "emperor")


@dataclass(frozen=True)
class Fault:
    """A row. english, chinese: what the fault is, and what is done. site: the one that is asked.

    managers: in the first column, each a stack of its own. around: what is so before and after, and does not belong to
    the fault.
    """

    english: tuple[str, str]
    chinese: tuple[str, str]
    act: Act
    managers: tuple[str, ...] = MANAGERS
    site: str = "app"
    around: Callable[[Machine], AbstractContextManager[None]] = lambda _: nullcontext()


def rows(seconds: float, seed: int) -> dict[str, Fault]:
    """Name → fault. seconds: of the kills at random. seed: of them."""
    return {
        "nginx-killed": Fault(
            ("nginx's master is killed", "`kill -9`"),
            ("nginx 主进程被杀", "`kill -9`"),
            faults.kill("$(cat /run/nginx.pid)"),
        ),
        "nginx-stopped": Fault(
            ("nginx is terminated", "`systemctl kill nginx`"),
            ("nginx 被终止", "`systemctl kill nginx`"),
            faults.terminate_nginx,
        ),
        "manager-killed": Fault(
            ("the process manager is killed", "`kill -9` of supervisord or the emperor"),
            ("进程管理器被杀", "对 supervisord 或 emperor `kill -9`"),
            faults.kill_manager,
            WITHOUT_SYSTEMD,
        ),
        "program-killed": Fault(
            ("uWSGI's master is killed", "`kill -9`"),
            ("uWSGI 主进程被杀", "`kill -9`"),
            faults.kill_program,
        ),
        "all-killed": Fault(
            ("everything is killed at once", "`kill -9` of nginx, process manager, masters and workers"),
            ("所有进程同时被杀", "对 nginx、进程管理器、主进程和工作进程 `kill -9`"),
            faults.kill_all,
        ),
        "seven-kills": Fault(
            ("uWSGI's master is killed seven times", "`kill -9` as soon as a new one runs"),
            ("uWSGI 主进程被杀七次", "新的主进程一出现就 `kill -9`"),
            faults.kill_seven_times,
        ),
        "start-fails": Fault(
            ("the start fails for 12 s", "master killed, environment file away"),
            ("启动失败 12 秒", "杀主进程，移走环境文件"),
            partial(faults.fail_to_start, seconds=12),
        ),
        "start-fails-long": Fault(
            ("the start fails for 5 minutes", "master killed, environment file away"),
            ("启动失败 5 分钟", "杀主进程，移走环境文件"),
            partial(faults.fail_to_start, seconds=300),
        ),
        "port-held": Fault(
            ("another user holds the stats port for 14 s", "`uwsgi.stats: 9300`, master killed"),
            ("其他用户占用统计端口 14 秒", "`uwsgi.stats: 9300`，杀主进程"),
            partial(faults.hold_port, seconds=14),
            site="port",
        ),
        "slow-requests": Fault(
            ("4 slow requests of 15 s, two workers", "the clients hang up after a second"),
            ("4 个 15 秒的慢请求，两个工作进程", "客户端一秒后断开"),
            faults.ask_slowly,
        ),
        "random": Fault(
            ("kills at random", f"for {seconds / 60:g} min: one to three processes, `KILL` or `TERM`"),
            ("随机杀进程", f"{seconds / 60:g} 分钟：每次一到三个进程，`KILL` 或 `TERM`"),
            partial(faults.kill_at_random, seconds=seconds, seed=seed),
        ),
        "logs-full": Fault(
            ("the disk of the logs is full for 10 s", "a disk of its own, filled"),
            ("日志磁盘满 10 秒", "单独的磁盘，写满"),
            partial(faults.full_disk, folder=LOGS),
            ONE,
            around=partial(faults.small_disk, folder=LOGS),
        ),
        "data-full": Fault(
            ("the disk of the data is full for 10 s", "a disk of its own, filled; the application writes there"),
            ("数据磁盘满 10 秒", "单独的磁盘，写满；应用在上面写数据"),
            partial(faults.full_disk, folder=DATA),
            ONE,
            around=partial(faults.small_disk, folder=DATA),
        ),
        "tmp-full": Fault(
            ("the disk of /tmp is full for 10 s", "a disk of its own, filled"),
            ("/tmp 磁盘满 10 秒", "单独的磁盘，写满"),
            partial(faults.full_disk, folder="/tmp"),
            ONE,
            around=partial(faults.small_disk, folder="/tmp"),
        ),
        "releases-full": Fault(
            ("a release finds the disk full", "refused; released when there is room"),
            ("发布时磁盘已满", "发布被拒绝；有空间后再发布"),
            faults.full_disk_of_releases,
            ONE,
            around=partial(faults.small_disk, folder=RELEASES),
        ),
        "idle-connections": Fault(
            ("10,000 idle connections for 20 s", "connected, nothing sent"),
            ("10,000 个空闲连接 20 秒", "只连接，不发送"),
            faults.idle_connections,
            ONE,
        ),
        "index-away": Fault(
            (
                "the package index is away during a release",
                "another requirement, no route to the outside; refused, then released",
            ),
            ("发布时软件包源不可达", "依赖有改动，没有外部路由；发布被拒绝，恢复后再发布"),
            faults.without_package_index,
            ONE,
        ),
        "sources-away": Fault(
            ("another server finds no package source in its first boot", "no route to the outside for 60 s; one `up`"),
            ("另一台服务器首次启动时软件包源不可达", "60 秒没有外部路由；一次 `up`"),
            faults.first_boot_without_sources,
            ONE,
        ),
        "database-away": Fault(
            ("the database is unreachable for 30 s", "its network interface is down"),
            ("数据库 30 秒不可达", "网络接口关闭"),
            partial(faults.cut_off, seconds=30),
            (DATABASE,),
        ),
        "database-killed": Fault(
            ("the database is killed", "`kill -9`"), ("数据库被杀", "`kill -9`"), faults.kill_database, (DATABASE,)
        ),
        "database-power": Fault(
            ("the database's server loses its power", "`stop --force`, `start`"),
            ("数据库服务器断电", "`stop --force`、`start`"),
            faults.cut_power,
            (DATABASE,),
        ),
        "database-full": Fault(
            ("the database's disk is full for 10 s", "a disk of its own, filled"),
            ("数据库磁盘满 10 秒", "单独的磁盘，写满"),
            partial(faults.full_disk, folder=DATABASE_DATA),
            (DATABASE,),
            around=partial(faults.small_disk, folder=DATABASE_DATA, room=24),
        ),
        "certificate-ended": Fault(
            ("the certificate has ended while the server was off", "an old one in its place; `stop --force`, `start`"),
            ("关机期间证书到期", "换成已到期的证书；`stop --force`、`start`"),
            faults.expire,
            (SECURE,),
        ),
        "frozen": Fault(
            ("one of two app servers is frozen for 20 s", "`pause`, `start`"),
            ("两台应用服务器之一冻结 20 秒", "`pause`、`start`"),
            partial(faults.freeze, seconds=20),
            (APART,),
        ),
        "unreachable": Fault(
            ("one of two app servers is unreachable for 20 s", "its network interface is down"),
            ("两台应用服务器之一 20 秒不可达", "网络接口关闭"),
            partial(faults.cut_off, seconds=20),
            (APART,),
        ),
        "app-server-power": Fault(
            ("one of two app servers loses its power", "`stop --force`, `start`"),
            ("两台应用服务器之一断电", "`stop --force`、`start`"),
            faults.cut_power,
            (APART,),
        ),
        **{
            f"power-{number}": Fault(
                (f"power cut in a release: {step[0]}", "`stop --force`, `start`; then `up` again"),
                (f"发布时断电：{step[1]}", "`stop --force`、`start`；然后再次 `up`"),
                partial(faults.cut_power_in_a_release, step=step[2]),
                ONE,
            )
            for number, step in enumerate(STEPS, 1)
        },
    }


def cells(manager: str, words: tuple[str, str], measured: Measured, note: str, none: str, never: str) -> list[str]:
    """A row of the table. note, none, never: words of its language."""
    tally = measured.tally
    done = words[1] + note
    healthy = never if measured.seconds is None else f"{measured.seconds:.1f} s"
    return [manager, words[0], done, f"{tally.requests:,}", str(tally.failed), healthy, measured.left or none]


def write(manager: str, fault: Fault, measured: Measured, known: Iterable[Fault]) -> None:
    """Put a row into the tables of both pages."""
    known = list(known)
    noted = (f" ({measured.note[0]})", f"（{measured.note[1]}）") if measured.note else ("", "")
    english = cells(manager, fault.english, measured, noted[0], "nothing", "never")
    print("|", " | ".join(english), "|", flush=True)
    tables.put(ENGLISH, [english], [(each, one.english[0]) for each in KINDS for one in known])
    chinese = cells(manager, fault.chinese, measured, noted[1], "无", "没有恢复")
    tables.put(CHINESE, [chinese], [(each, one.chinese[0]) for each in KINDS for one in known])


def main() -> None:
    parser = argparse.ArgumentParser(description="Faults under load, for the table of docs/faults.md.")
    names = list(rows(0, 0))
    parser.add_argument("--managers", nargs="*", default=KINDS, choices=KINDS)
    parser.add_argument("--only", nargs="*", default=names, choices=names)
    parser.add_argument("--seconds", type=float, default=600, help="of the kills at random")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1 << 32), help="of them")
    options = parser.parse_args()
    known = rows(options.seconds, options.seed)
    for manager in options.managers:
        chosen = [known[name] for name in options.only if manager in known[name].managers]
        if not chosen:
            continue
        name, settings = STACKS.get(manager, ("", {}))
        with faults.copy() as project, faults.machine_of(project, manager.split(",")[0], name, settings) as machine:
            for fault in chosen:
                with fault.around(machine):
                    measured = faults.measure(machine, fault.act, fault.site)
                write(manager, fault, measured, known.values())


if __name__ == "__main__":
    main()
