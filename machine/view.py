"""Make what nginx sees of a site: a folder of links in each slot, by which its texts name no slot and no release.

    current/<view>/release    the release's folder, with its static files and error pages
    current/<view>/app.sock   the socket of the application server, if it has one
    current/<view>/htpasswd   a secret file of the slot, under its own name
    current/<view>/kept-1     the folder of the release before, kept-2 of the one before that, for their static files
    slots/b/<other> -> ../a/<other>    the view of the other slot, while its texts name another one

No link leads to a folder above it, because many programs that follow links would never end.

A view is named by a digest of nginx's texts of the site. Two releases with the same texts have the same view, so that
renaming `current` moves all requests at once and nginx is not reloaded. With other texts, requests still see the slot
whose texts nginx has loaded until nginx has loaded the new ones. Python 3.6, standard library only.
"""

import hashlib
import os
from typing import Dict, List

import files
from contract.documents import SlotState
from contract.placeholders import VIEW_DIR, fill_known

# Files of a slot that nginx includes.
TEXTS = ("http.conf", "server.conf")
_UNIX = "unix:"


def directory(current: str, configs: str, known: Dict[str, str]) -> str:
    """Path of the view of a release. current: the site's link. configs: folder with the texts that `known` fills."""
    texts = "\0".join(fill_known(files.text(os.path.join(configs, name)) or "", known) for name in TEXTS)
    return os.path.join(current, hashlib.sha256(texts.encode()).hexdigest()[:8])


def place(state: SlotState, folder: str) -> List[str]:
    """Make the links of a slot's view that are not there. Returns their paths. folder: the slot's."""
    view = state.facts.get(VIEW_DIR)
    if view is None:
        return []
    links = {"release": state.facts["release_dir"]}
    links.update({name: "../" + name for name in state.files})
    address = socket(state)
    if address:
        links["app.sock"] = address
    within = os.path.join(folder, os.path.basename(view))
    os.makedirs(within, exist_ok=True)
    missing = [name for name in sorted(links) if not os.path.lexists(os.path.join(within, name))]
    for name in missing:
        files.link(links[name], os.path.join(within, name))
    return [os.path.join(within, name) for name in missing]


def keep(state: SlotState, folder: str, releases: str, names: List[str]) -> None:
    """Link the earlier releases of these names, the last one first, in the view of a slot. folder: the slot's."""
    within = os.path.join(folder, os.path.basename(state.facts[VIEW_DIR]))
    for number, name in enumerate(names, 1):
        files.link(os.path.join(releases, name), os.path.join(within, "kept-{}".format(number)))


def cross(one: SlotState, other: SlotState, slots: str) -> None:
    """Let each slot lead to the other one by the other's view. slots: the folder of both."""
    for here, there in ((one, other), (other, one)):
        view = there.facts.get(VIEW_DIR)
        if view is not None and view != here.facts.get(VIEW_DIR):
            name = os.path.basename(view)
            files.link("../{}/{}".format(there.slot, name), os.path.join(slots, here.slot, name))


def socket(state: SlotState) -> str:
    """Path of the unix socket of a slot's application server, "" where it has none."""
    address = state.endpoint.address if state.endpoint else ""
    return address[len(_UNIX) :] if address.startswith(_UNIX) else ""


def are_same(folder: str, other: str) -> bool:
    """Whether nginx reads the same texts in both folders."""
    return all(files.text(os.path.join(folder, name)) == files.text(os.path.join(other, name)) for name in TEXTS)
