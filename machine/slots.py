"""A site's two slots: one serves, the other starts the next release; one link says which.

slots/a, slots/b  configs of a release with this machine's facts, and state.json
current           link to the slot that serves, the one switch

A slot's state says "trial" until the site's entrance has proved it, so that a run which
was killed in between is undone by the next. Python 3.6, standard library only.
"""

import json
import os
import re
import time

import facts
import files
import probe
from managers import RUNNING, STARTING
from servers import ReleaseError, printed, size, tail

SLOTS = ("a", "b")
# The page of a site before its first release; host.py makes it.
WAITING = "slots/waiting"
START_SECONDS = 60.0
# An application may answer 503 for a moment while it warms up.
SETTLE_SECONDS = 3.0
# What the application prints reaches its log a moment later.
LOG_SECONDS = 0.3

_NAMES = (
    "site",
    "manager",
    "program",
    "program_config",
    "program_link",
    "endpoint",
    "pidfile",
    "log",
    "command",
    "env_file",
    "stop_seconds",
)


class Site:
    """The site of a release (its release.json) on this machine, with its process manager and nginx."""

    def __init__(self, release, manager, nginx):
        self.release = release
        self.request = release["probe"]
        self.folder = files.site_root(release["site"])
        self.releases = os.path.join(self.folder, "releases")
        self.link = os.path.join(self.folder, "current")
        self.env_file = files.env_file(release["site"])
        self.group = release["group"]
        self.web_group = release["web_group"]
        self.manager = manager
        # Without nginx the port is the site's own: one program at a time can have it.
        self.alone = release["front"] == "none"
        # Where the release is asked once it has the traffic: nginx may stand on another machine.
        self.is_apart = release["front"] == "apart"
        self.has_nginx = release["front"] == "nginx"
        self.entrance = "nginx" if self.has_nginx else "port {}".format(release["probe"]["port"])
        self.nginx = nginx

    def slot_dir(self, slot):
        return os.path.join(self.folder, "slots", slot)

    def state(self, slot):
        """What a slot holds: release (None for nothing known), env, trial, and the names of _NAMES."""
        state = {"slot": slot, "release": None}
        for name in _NAMES:
            state[name] = json.loads(json.dumps(self.release[name]).replace("@@slot@@", slot))
        try:
            state.update(files.read_json(os.path.join(self.slot_dir(slot), "state.json")))
        except (OSError, ValueError, TypeError):
            pass
        return state

    def save(self, state):
        path = os.path.join(self.slot_dir(state["slot"]), "state.json")
        files.write(path, json.dumps(state, indent=1), 0o640, self.web_group)

    def current(self):
        """State of the slot that has the traffic, None before there is one."""
        slot = self.target().rpartition("/")[2]
        return self.state(slot) if slot in SLOTS else None

    def target(self):
        """What `current` points to: a slot, or the page of a site that waits for its first release."""
        try:
            return os.readlink(self.link)
        except OSError:
            return ""

    def settle(self, say):
        """Undo what a killed run left, or end it. Returns the state of the slot that serves, or None."""
        old = self.current()
        if old is None or (old.get("trial") and self.state(other_slot(old))["release"] is None):
            # A first release that was killed before its proof.
            if old and self.alone:
                files.remove(self.link)
            elif old:
                self.nginx.drain(self.give_traffic(WAITING), self.release["stop_seconds"])
            for slot in SLOTS:
                self.clear(self.state(slot))
            return None
        other = self.state(other_slot(old))
        running = self.manager.state(other)
        if old.get("trial") and not other.get("trial") and running == RUNNING:
            say("the run that brought release {} was ended before its proof: going back".format(old["release"]))
            old, other = other, old
        elif running is None and not os.path.lexists(other["program_link"]):
            self.clear(other)
            return self.awake(old)
        # Which of the two nginx has loaded is not known: neither may stop before it has loaded this one.
        self.nginx.drain(self.give_traffic("slots/" + old["slot"]), self.release["stop_seconds"])
        self.clear(other)
        return self.awake(old)

    def awake(self, state):
        """Start a slot again that a killed run had put aside for the next one. Returns its state."""
        if self.alone and self.manager.state(state) != RUNNING:
            self.clear(state)
            self.manager.add(state, self.slot_dir(state["slot"]))
        return state

    def clear(self, state):
        """Stop a slot's program and forget it; its socket must not answer for the next one."""
        self.manager.remove(state, self.release["stop_seconds"])
        files.remove(state["pidfile"])
        if state["endpoint"] and state["endpoint"]["address"].startswith("unix:"):
            files.remove(state["endpoint"]["address"][len("unix:") :])
        # nginx's, which has another slot: one that starts again is without nginx.
        for name in state.get("files", ()):
            files.remove(os.path.join(self.slot_dir(state["slot"]), name))

    def env(self):
        """The environment in place, None when there is none that can be read."""
        try:
            return files.read_json(self.env_file)
        except (FileNotFoundError, ValueError):
            return None

    def write_env(self, env):
        files.write(self.env_file, json.dumps(env, sort_keys=True), 0o640, self.group)

    def secret_files(self, state):
        """File name → text of what a slot has beside its configs. state: of the slot, None for none."""
        found = {}
        for name in state.get("files", ()) if state else ():
            with open(os.path.join(self.slot_dir(state["slot"]), name), encoding="utf-8") as file:
                found[name] = file.read()
        return found

    def fill(self, target, identifier, slot, venv, secret_files, app_host):
        """Write a slot: the release's configs with this machine's facts. Returns the slot's state.

        secret_files: file name → text of what goes beside them as it is. app_host: IPv4 address at which a program
        listens that nginx on another machine asks.
        """
        folder = self.slot_dir(slot)
        known = {
            "slot": slot,
            "release": identifier,
            "release_dir": target,
            "slot_dir": folder,
            "venv": venv,
            "app_host": app_host,
        }
        known.update(facts.of_programs())
        others = ports_of_others(self.release["site"])
        for name, ports in self.release["ports"].items():
            known[name] = str(facts.free_port(ports, others))

        files.remove(folder)
        os.makedirs(folder)
        files.own(folder, self.web_group, 0o750)
        configs = os.path.join(target, "config")
        for name in sorted(os.listdir(configs)):
            with open(os.path.join(configs, name), encoding="utf-8") as file:
                files.write(os.path.join(folder, name), filled(file.read(), known), 0o640, self.web_group)
        for name, text in secret_files.items():
            files.write(os.path.join(folder, name), text, 0o640, self.web_group)
        state = {"release": identifier, "slot": slot, "facts": known, "files": sorted(secret_files)}
        for name in _NAMES:
            state[name] = json.loads(filled(json.dumps(self.release[name]), known))
        state["computed"] = filled(self.release["computed"], known)
        state["probe"] = json.loads(filled(json.dumps(self.request), known))
        return state

    def fits(self, state):
        """Whether a slot has what this machine computes now: it may have got other CPUs since."""
        return state.get("computed") == filled(self.release["computed"], facts.of_programs())

    def written(self, state):
        """What of the slot is to be found unedited: its configs, the environment, its program's own file."""
        folder = self.slot_dir(state["slot"])
        paths = [os.path.join(folder, name) for name in sorted(os.listdir(folder)) if name != "state.json"]
        return files.noted([*paths, self.env_file, *([state["program_link"]] if state["endpoint"] else ())])

    def check(self, state):
        """nginx's own check of its configuration with the slot's part in it. Raises ReleaseError."""
        if not self.has_nginx:
            return
        folder = self.slot_dir(state["slot"])
        with open(os.path.join(files.host_root(), "current", "nginx.conf"), encoding="utf-8") as file:
            text = file.read().replace(self.link + "/", folder + "/")
        path = os.path.join(folder, "check.conf")
        files.write(path, text, 0o640)
        self.nginx.check(path)
        files.remove(path)

    def start(self, state):
        """Start the slot's program, if it has one, and wait until it is healthy. Raises ReleaseError."""
        if not state["endpoint"]:
            return
        files.log(state["log"], self.release["user"])
        offset = size(state["log"])
        self.manager.add(state, self.slot_dir(state["slot"]))
        deadline = time.monotonic() + START_SECONDS
        settled = None
        ran = False
        while True:
            try:
                answer = probe.through_endpoint(state["endpoint"], state["probe"])
                if answer.good:
                    return
                problem = "the application answers {} with {}".format(self.request["path"], answer)
                settled = settled or time.monotonic() + SETTLE_SECONDS
            except OSError as error:
                problem = "the application does not answer: {}".format(error)
            condition = self.manager.state(state)
            if condition not in (STARTING, RUNNING) or (ran and condition != RUNNING):
                problem = "the application does not start ({}: {})".format(
                    self.release["manager"], self.manager.status(state) or "does not know it"
                )
            elif time.monotonic() < (settled or deadline):
                ran = ran or condition == RUNNING
                time.sleep(0.1)
                continue
            # The log is written a moment later.
            time.sleep(LOG_SECONDS)
            raise ReleaseError(problem, printed(state["log"], offset), self.mend(state))

    def give_traffic(self, target):
        """The one switch. Returns nginx's old workers, which finish their requests."""
        files.link(target, self.link)
        return self.nginx.reload()

    def switch(self, state):
        """Give the traffic to the slot and ask through the entrance. Returns nginx's old workers."""
        nginx_log = os.path.join(files.logs(self.release["site"]), "error.log")
        offset, nginx_offset = size(state["log"]), size(nginx_log)
        old = self.give_traffic("slots/" + state["slot"])
        lines = ""
        try:
            answer = self.ask(state)
            if answer.good:
                return old
            problem = "{} through {} gives {}".format(self.request["path"], self.entrance, answer)
            time.sleep(LOG_SECONDS)
            lines = tail(state["log"], offset)
        except OSError as error:
            problem = "{} does not answer: {}".format(self.entrance, error)
        raise ReleaseError(problem, lines + "\n" + tail(nginx_log, nginx_offset, lines=10), self.mend(state))

    def mend(self, state):
        return "mend the application or app.health ({}) and run up again; all it printed is in {}".format(
            self.request["path"], state["log"]
        )

    def ask(self, state):
        """The answer of the release that has the traffic, by the way that requests come. Raises OSError."""
        if self.is_apart:
            return probe.through_endpoint(state["endpoint"], state["probe"])
        return probe.through_entrance(self.request)

    def serves(self, state):
        """Whether the slot's program runs and the site answers with health."""
        try:
            return self.manager.state(state) == RUNNING and self.ask(state).good
        except OSError:
            return False

    def undo(self, target, old, state):
        """Back to where `current` pointed, and stop the new slot. Raises what fails on the way."""
        if self.alone:
            self.clear(state)
        if target and self.target() != target:
            self.give_traffic(target)
        if self.alone and old:
            self.manager.add(old, self.slot_dir(old["slot"]))
        elif not self.alone:
            self.clear(state)


def filled(text, known):
    """A text of a release with this machine's facts in it. Raises ReleaseError."""
    text = re.sub("@@([a-z_]+)@@", lambda match: known.get(match.group(1), match.group(0)), text)
    if "@@" in text:
        left = [line for line in text.splitlines() if "@@" in line]
        raise ReleaseError("the release names a fact that this machine does not have", "\n".join(left))
    return text


def put_back(site, group):
    """Write what somebody has removed of nginx's part of a site: it takes no configuration while that is missing.

    Returns (path, what became of it) of each, as drift.of_site does.
    """
    root = files.site_root(site)
    found = []
    try:
        state = files.read_json(os.path.join(root, "current", "state.json"))
        configs = os.path.join(root, "releases", state["release"], "config")
        for name in ("http.conf", "server.conf"):
            path = os.path.join(root, "slots", state["slot"], name)
            if not os.path.exists(path):
                with open(os.path.join(configs, name), encoding="utf-8") as file:
                    files.write(path, filled(file.read(), state["facts"]), 0o640, group)
                found.append((path, "missing"))
    except (OSError, ValueError, KeyError):
        # It has no release yet, or one that is damaged further: nginx will tell.
        pass
    return found


def other_slot(state):
    return "b" if state and state["slot"] == "a" else "a"


def ports_of_others(site):
    """The ports that the slots of other sites have, whether their programs run just now or not."""
    found = set()
    for name in files.sites():
        for slot in SLOTS if name != site else ():
            try:
                known = files.read_json(os.path.join(files.site_root(name), "slots", slot, "state.json"))["facts"]
            except (OSError, ValueError, KeyError):
                continue
            found.update(int(value) for fact, value in known.items() if fact.endswith("_port"))
    return found
