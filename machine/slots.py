"""A site's two slots: one serves, the other starts the next release; one link says which.

slots/a, slots/b  configs of a release with this machine's facts, and state.json
current           link to the slot that serves, the only switch

A slot's state says "trial" until the site's entrance has proved it, so that the next run undoes a run that was
killed in between. Python 3.6, standard library only.
"""

import json
import os
from collections import OrderedDict
from typing import Dict, List, Optional, Set, Tuple

import facts
import files
import view
from contract import paths
from contract.documents import CONFIG_FOLDER, STATE_FILE, Release, SlotState, slot_state
from contract.placeholders import VIEW_DIR, fill_known, filled


class Slots:
    """The files of a site: its releases, its two slots and its environment."""

    def __init__(self, release: Release) -> None:
        self.release = release
        self.folder = paths.site_root(release.site)
        self.releases = os.path.join(self.folder, "releases")
        self.link = os.path.join(self.folder, "current")
        self.env_file = paths.env_file(release.site)
        # The server's address in the world, which is the Host of the probe of a site without a domain.
        self.address = "localhost"

    def slot_dir(self, slot: str) -> str:
        return os.path.join(self.folder, "slots", slot)

    def state(self, slot: str) -> SlotState:
        """What a slot holds. Its release is None for an empty slot, whose names are those of the release."""
        found = files.slot_state(self.slot_dir(slot))
        return found or slot_state(self.release, None, slot, {"slot": slot}, fill_known)

    def save(self, state: SlotState) -> None:
        path = os.path.join(self.slot_dir(state.slot), STATE_FILE)
        files.write_document(path, state, 0o640, self.release.web_group)

    def current(self) -> Optional[SlotState]:
        """State of the slot that has the traffic, None before there is one."""
        slot = self.target().rpartition("/")[2]
        return self.state(slot) if slot in paths.SLOTS else None

    def is_proved(self, state: SlotState) -> bool:
        """Return whether the run that began a slot's trial has noted, after the check, that the release serves."""
        began = os.stat(os.path.join(self.slot_dir(state.slot), STATE_FILE)).st_mtime
        return served_at(self.releases, str(state.release)) > began

    def target(self) -> str:
        """What `current` points to: a slot, or the page of a site that waits for its first release."""
        try:
            return os.readlink(self.link)
        except OSError:
            return ""

    def env(self) -> Optional[Dict[str, str]]:
        """The environment in place, None when there is none that can be read."""
        try:
            with open(self.env_file, encoding="utf-8") as file:
                return dict(json.load(file))
        except (FileNotFoundError, ValueError, TypeError):
            return None

    def write_env(self, env: Dict[str, str]) -> None:
        files.write(self.env_file, json.dumps(env, sort_keys=True), 0o640, self.release.group)

    def secret_files(self, state: Optional[SlotState]) -> Dict[str, str]:
        """File name → text of the secret files beside a slot's configs. state: of the slot, None for no slot."""
        found = {}
        if state:
            for name in state.files:
                with open(os.path.join(self.slot_dir(state.slot), name), encoding="utf-8") as file:
                    found[name] = file.read()
        return found

    def fill(
        self, target: str, identifier: str, slot: str, venv: str, secret_files: Dict[str, str], app_host: str
    ) -> SlotState:
        """Write a slot: the configs of the release in `target` with this machine's facts. Returns the slot's state.

        secret_files: file name → text, written as it is beside the configs. app_host: IPv4 address on which a program
        listens for nginx on another machine.
        """
        known = self._facts(target, identifier, slot, venv, app_host)
        folder, group = self.slot_dir(slot), self.release.web_group
        files.remove(folder)
        os.makedirs(folder)
        files.own(folder, group, 0o750)
        configs = os.path.join(target, CONFIG_FOLDER)
        if self.release.front == "nginx":
            known[VIEW_DIR] = view.directory(self.link, configs, known)
        for name in sorted(os.listdir(configs)):
            with open(os.path.join(configs, name), encoding="utf-8") as file:
                files.write(os.path.join(folder, name), facts.fill(file.read(), known), 0o640, group)
        for name, text in secret_files.items():
            files.write(os.path.join(folder, name), text, 0o640, group)
        state = slot_state(self.release, identifier, slot, known, facts.fill)._replace(files=sorted(secret_files))
        serving = self.current()
        if VIEW_DIR in known:
            view.place(state, folder)
            view.keep(state, folder, self.releases, self._earlier(identifier, serving))
            if serving and serving.slot != slot:
                view.cross(state, serving, os.path.dirname(folder))
        return state._replace(
            stop_seconds=self.release.stop_seconds,
            closes_connections=self.release.closes_connections,
            probe=filled(self.release.probe, known, facts.fill),
            computed=facts.fill(self.release.computed, known),
            sizes=self._sizes(known),
        )

    def _earlier(self, identifier: str, serving: Optional[SlotState]) -> List[str]:
        """The releases that are kept beside this one, the last one that served first."""
        names = [name for name in os.listdir(self.releases) if served_at(self.releases, name) and "." not in name]
        names.sort(key=lambda name: served_at(self.releases, name), reverse=True)
        if serving and serving.release:
            # A run that was killed has not noted that it serves.
            names.insert(0, serving.release)
        names = [name for name in names if name not in (identifier, paths.BOOTSTRAP)]
        return list(OrderedDict.fromkeys(names))[: self.release.keep - 1]

    def _facts(self, target: str, identifier: str, slot: str, venv: str, app_host: str) -> Dict[str, str]:
        known = {
            "slot": slot,
            "release": identifier,
            "release_dir": target,
            "slot_dir": self.slot_dir(slot),
            "venv": venv,
            "app_host": app_host,
            "address": self.address,
        }
        known.update(facts.of_programs())
        others = ports_of_others(self.release.site)
        known.update({name: str(facts.free_port(ports, others)) for name, ports in self.release.ports.items()})
        return known

    def _sizes(self, known: Dict[str, str]) -> Dict[str, str]:
        return {name: known[name] for name in self.release.sized_by}

    def fits(self, state: SlotState) -> bool:
        """Whether a slot's programs have the size that this machine needs now: its CPUs may have changed."""
        return state.sizes == self._sizes(facts.of_programs())

    def written(self, state: SlotState) -> Dict[str, str]:
        """Path → digest of the files that nobody should edit: configs, environment, the program's own file."""
        folder = self.slot_dir(state.slot)
        names = [os.path.join(folder, name) for name in sorted(os.listdir(folder)) if name != STATE_FILE]
        names = [name for name in names if os.path.isfile(name) and not os.path.islink(name)]
        links = [state.program_link] if state.endpoint else []
        links += list(state.processes.links.values()) if state.processes else []
        links += [link for job in state.schedule for link in job.links.values()]
        return files.digests([*names, self.env_file, *links])


def served_at(releases: str, name: str) -> float:
    """When a release began to serve, in seconds since the epoch, 0 for one that never has."""
    try:
        return os.stat(os.path.join(releases, name, "served")).st_mtime
    except OSError:
        return 0


def other_slot(state: Optional[SlotState]) -> str:
    return "b" if state and state.slot == "a" else "a"


def restore_nginx_files(site: str, group: str) -> List[Tuple[str, str]]:
    """Write the files of a site that nginx includes and that somebody has removed: nginx loads nothing without them.

    Returns them as drift.of_site does.
    """
    root = paths.site_root(site)
    found: List[Tuple[str, str]] = []
    state = files.slot_state(os.path.join(root, "current"))
    if state is None:
        return found
    configs = os.path.join(root, "releases", str(state.release), CONFIG_FOLDER)
    try:
        for name in view.TEXTS:
            path = os.path.join(root, "slots", state.slot, name)
            if not os.path.exists(path):
                with open(os.path.join(configs, name), encoding="utf-8") as file:
                    files.write(path, facts.fill(file.read(), state.facts), 0o640, group)
                found.append((path, "missing"))
        found += [(path, "missing") for path in view.place(state, os.path.join(root, "slots", state.slot))]
    except OSError:
        # The release is damaged too; nginx's check names what is missing.
        pass
    return found


def ports_of_others(site: str) -> Set[int]:
    """The ports that the slots of other sites have, whether their programs run just now or not."""
    found: Set[int] = set()
    for name in files.site_names():
        for slot in paths.SLOTS if name != site else ():
            state = files.slot_state(os.path.join(paths.site_root(name), "slots", slot))
            if state:
                found.update(int(value) for fact, value in state.facts.items() if fact.endswith("_port"))
    return found
