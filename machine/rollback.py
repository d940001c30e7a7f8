"""The command wsgi-ecs-release: lists the kept releases of a site, and puts one of them live again.

    wsgi-ecs-release list [--site SITE] [--json]
    wsgi-ecs-release rollback [--site SITE] [--force] [ID]    without ID to the release that served before
    wsgi-ecs-release unlock [--force]                         who keeps other runs waiting; --force ends that run

ID may be the beginning of an id. A rollback is a rollout of a kept release, with the environment that it had: it starts
beside the one that serves, is asked for its health and gets the traffic by the same switch. Its commands
(release.before, release.after) do not run. Python 3.6, standard library only.
"""

import argparse
import json
import os
import sys
import time
from typing import Any, Callable, Dict, List, NoReturn, Optional

import audit
import files
import kept
import lock
import maintenance
import space
from commands import say
from contract import paths
from contract.documents import CONFIG_FOLDER
from contract.kept import Secrets
from kept import Kept, Refused
from rollout import Rollout
from unpacked import KeptRelease


def main(arguments: List[str], apply: Callable[[Rollout], None]) -> int:
    """Returns the exit status: 0, 1 for a lock that is held, 2 for what cannot be done. Raises what a rollout raises.

    apply: puts a rollout live, or leaves the old release serving.
    """
    try:
        options = _parser().parse_args(arguments)
        if options.verb == "unlock":
            return 0 if lock.unlock(options.force, say) else 1
        site = _site(options.site)
        if options.verb == "list":
            _list(site, options.json)
        elif options.verb == "find":
            target = _target(site, options.id, options.force)
            found = {"id": target.id, "pair": target.release.pair, "serving": kept.serving(site).release}
            print(json.dumps(found))
        else:
            _roll_back(site, options.id, options.force, apply)
    except Refused as error:
        say(str(error), sys.stderr)
        return 2
    return 0


def _roll_back(site: str, prefix: str, force: bool, apply: Callable[[Rollout], None]) -> None:
    # A refusal need not wait for the lock.
    _target(site, prefix, force)
    if force:
        lock.end_overdue(say)
    with lock.acquire_lock(what="rollback of site {}".format(site)), audit.logged("rollback") as entry:
        entry.site = site
        target = _target(site, prefix, force)
        entry.release, entry.by = target.id, target.origin.by
        apply(rollout(target, kept.plain_env(site), by_hand=True))


def pinned(site: str, pin: str, given: Optional[Secrets], address: Optional[str]) -> Rollout:
    """The rollout of the kept release that release.pin names. given, address: as in Rollout. Raises Refused."""
    try:
        target = kept.find(site, pin)
    except Refused as error:
        error.then = "set release.pin to one that is kept, or remove it, and run up again"
        raise
    _check_maintenance(site, target)
    for later in kept.irreversible_after(site, target):
        # components/release.py reads this line.
        say(
            "warning: site {}: release.pin: {} is older than {}, which is release.irreversible: the database may be "
            "too new for it".format(site, target.id, later)
        )
    current = given.env if given else kept.plain_env(site)
    return rollout(target, current, address=address, otherwise=given)


def rollout(
    target: Kept,
    current: Dict[str, str],
    by_hand: bool = False,
    address: Optional[str] = None,
    otherwise: Optional[Secrets] = None,
) -> Rollout:
    """The rollout of a kept release. current: environment from which managed credentials are taken.

    otherwise: secrets for a release that has none of its own, None for those in place.
    """
    own = kept.secrets(target, current) or otherwise
    return Rollout(KeptRelease(target.folder), own, say, address, False, by_hand)


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise Refused("{}; {} --help says more".format(message, self.prog))


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="wsgi-ecs-release", description="The kept releases of a site.")
    verbs = parser.add_subparsers(dest="verb", metavar="list|rollback|unlock")
    # Python 3.6 has no argument for it.
    verbs.required = True
    verb = verbs.add_parser("list", help="list the releases that are kept here")
    verb.add_argument("--json", action="store_true", help="print JSON")
    verb.add_argument("--site")
    verb = verbs.add_parser("unlock", help="say which run keeps the others waiting")
    verb.add_argument("--force", action="store_true", help="end that run")
    for name, words in (
        ("rollback", "put a kept release live again"),
        ("find", "print the id that rollback would take"),
    ):
        verb = verbs.add_parser(name, help=words)
        verb.add_argument("--site")
        verb.add_argument("--force", action="store_true", help="even if a later release is irreversible")
        verb.add_argument("id", nargs="?", default="", metavar="ID", help="default: the release that served before")
    return parser


def _site(name: Optional[str]) -> str:
    """The site of this name, or the only one. Raises Refused."""
    names = files.site_names()
    if name in names:
        return str(name)
    if name is None and len(names) == 1:
        return names[0]
    shown = ", ".join(names) or "none"
    raise Refused(
        "no site {}; allowed: {}".format(name, shown)
        if name
        else "this machine has several sites; allowed: --site with one of {}".format(shown)
        if names
        else "this machine has no site"
    )


def _target(site: str, prefix: str, force: bool) -> Kept:
    """The release to roll back to. Raises Refused."""
    kept.serving(site)
    target = kept.find(site, prefix)
    _check_maintenance(site, target)
    later = kept.irreversible_after(site, target)
    if later and not force:
        what = "site {}: the database may be too new for release {}, because {} after it is release.irreversible"
        raise Refused(what.format(site, target.id, ", ".join(later)) + "; allowed: --force, if you know that it is not")
    return target


def _check_maintenance(site: str, target: Kept) -> None:
    """Raise Refused for a release that would open a closed site."""
    configs = os.path.join(target.folder, CONFIG_FOLDER)
    closes = target.release.front == "nginx" and maintenance.knows(configs)
    if maintenance.of(site) and not closes:
        opening = "{} off --site {}".format(os.path.basename(paths.MAINTENANCE_COMMAND), site)
        raise Refused(
            "site {} is in maintenance, and release {} would open it, because its nginx has no maintenance yet; "
            "allowed: {} before it, or a later release".format(site, target.id, opening)
        )


def rows(site: str) -> List[Dict[str, Any]]:
    """A dict for each kept release, in the order of kept.releases()."""
    state = files.slot_state(os.path.join(paths.site_root(site), "current"))
    return [
        {
            "id": each.id,
            "pair": each.release.pair,
            "since": each.served or each.installed,
            "by": each.origin.by,
            "commit": each.origin.commit,
            "clean": each.origin.clean,
            "state": _state(each, state.release if state else None),
            "rolled_back_from": state.rolled_back if state and state.release == each.id else None,
            "irreversible": each.release.irreversible,
            "bytes": space.used(each.folder),
        }
        for each in kept.releases(site)
    ]


def _state(release: Kept, serving: Optional[str]) -> str:
    if release.id == serving:
        return "serves"
    return "kept" if release.served else "refused"


def _list(site: str, as_json: bool) -> None:
    found = rows(site)
    if as_json:
        print(json.dumps(found))
        return
    if not found:
        print("site {} waits for its first release".format(site))
        return
    table = [("RELEASE", "SINCE", "STATE", "BY", "COMMIT", "SIZE")]
    for row in found:
        since = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(row["since"]))
        state = row["state"]
        if row["rolled_back_from"]:
            state += ", rolled back from {}".format(row["rolled_back_from"])
        if row["irreversible"]:
            state += ", irreversible"
        commit = row["commit"][:12] + ("" if row["clean"] is not False else " and changes")
        table.append((row["id"], since, state, row["by"], commit, space.size_text(row["bytes"])))
    widths = [max(len(line[at]) for line in table) for at in range(len(table[0]))]
    for line in table:
        print("  ".join(line[at].ljust(width) for at, width in enumerate(widths)).rstrip())
