"""What a change of a setting does on a running stack: the program run dry, before and after."""

import functools
import json
import logging
import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from contract.resources import is_of_site
from reference import PROJECT
from reference.allowed import ENGLISH, number_range
from reference.beside import BESIDE, OTHER, SERVERS
from reference.rows import NAME, Row, leaves, rows
from reference.samples import (
    ALB,
    CLOUD,
    FILE,
    GIVEN,
    MYSQL,
    ORDINARY,
    RDS,
    RDS_TLS,
    REDIS,
    SAMPLE,
    SCALING,
    TAIR,
    of,
    placed,
)
from reference.samples import BESIDE as SAMPLES
from rehearsal.cloud import tokens
from rehearsal.cloud.registry import PROVIDER, TYPES
from rehearsal.commands.graph import Registered
from rehearsal.engine import program
from rehearsal.engine.compare import Op, Options, Recorded, compare
from rehearsal.engine.inputs import comparable
from rehearsal.engine.monitor import RehearsalMonitor
from rehearsal.engine.registration import Registration
from rehearsal.engine.stack import Stack
from rehearsal.engine.state import Record
from serving import bootstrap, machines, release_files
from settings import SettingsError
from settings.loader import parse
from settings.site import merged


class Kept(Registered):
    """Keeps what is compared of each registration, too, while the files that it names are there."""

    def __init__(self) -> None:
        super().__init__()
        self.inputs: dict[str, tuple[Registration, dict[str, Any]]] = {}

    def register(self, registration: Registration) -> Record:
        schema = TYPES[registration.type].schema
        inputs = comparable(registration.inputs, registration.secret, "00", schema.without_secret)
        self.inputs[registration.urn] = registration, inputs
        return super().register(registration)


Found = dict[str, tuple[Registration, dict[str, Any]]]


def registered(config: Mapping[str, Any]) -> Found:
    """What the program registers with these settings: urn → registration and comparable inputs."""
    values = {f"wsgi-ecs:{key}": json.dumps(value) for key, value in merged(CLOUD, config).items()}
    kept = Kept()
    stack = Stack("wsgi-ecs", "test", {**values, "rehearsal:active": "true"})
    program.run(PROJECT, stack, RehearsalMonitor(kept, PROVIDER, lambda text: None), logging.Logger("dry", "CRITICAL"))
    return kept.inputs


# From the most to the least that a change can do.
EFFECTS = ("new server", "restart", "release", "in place", "next server", "—")


def effect(before: Found, after: Found) -> str:
    """What it takes to come from one to the other, by the rules that `up` has."""
    found = {"—", *(_whole((before | after)[urn][0]) for urn in before.keys() ^ after.keys())}
    for urn in before.keys() & after.keys():
        (old, recorded), (new, inputs) = before[urn], after[urn]
        step = compare(Recorded(recorded, old.options.trigger), inputs, _unprotected(new), TYPES[new.type].schema)
        is_server = new.type == tokens.INSTANCE
        if is_server and step.op is Op.REPLACE:
            found.add("new server")
        elif is_server and step.reason:
            found.add("restart")
        elif new.type == tokens.COPY_TO_REMOTE and is_of_site(new.name) and step.op is Op.REPLACE:
            found.add("release")
        elif step.op is not Op.SAME or old.options.protect != new.options.protect:
            found.add("in place")
        elif is_server and recorded != inputs:
            found.add("next server")
    return min(found, key=EFFECTS.index)


def _whole(registration: Registration) -> str:
    """What it means that a resource comes or goes."""
    if registration.type == tokens.INSTANCE:
        return "new server"
    return "release" if is_of_site(registration.name) else "in place"


def _unprotected(registration: Registration) -> Options:
    return replace(registration.options, protect=False)


def changes(row: Row) -> Iterator[dict[str, Any]]:
    """Settings that each change this one."""
    if row.key in OTHER:
        yield OTHER[row.key]
        return
    for place in (row.key, f"{row.key}[]", f"{row.key}{{}}"):
        if place in ORDINARY:
            yield placed(place, of(place)[0], {})
    for value in _values(row.kind, row.default):
        change: Any = value
        for name in reversed(row.key.replace(NAME, SAMPLE).split(".")):
            change = {name: change}
        yield change


def _values(kind: Any, default: Any) -> list[Any]:
    if kind is bool:
        return [not default]
    if kind is int:
        return [404]
    origin, arguments = get_origin(kind), get_args(kind)
    if origin is Literal:
        return [one for one in arguments if one != default]
    if origin in (Union, UnionType):
        return [value for one in arguments for value in _values(one, default)]
    if origin is Annotated and arguments[0] is int:
        low, high = re.findall("[0-9]+", f"{number_range(arguments[1:], ENGLISH)} 70000")[:2]
        wanted = default + 1 if isinstance(default, int) else 3
        return [min(max(wanted, int(low)), int(high))]
    if origin is Annotated:
        return _values(arguments[0], default)
    if origin is dict and int in leaves(arguments[0]):
        return [{"404": "404.html"}]
    return []


def _besides(row: Row) -> tuple[dict[str, Any], ...]:
    """Return what else to set, in this order, until a change of the setting does something.

    What a server is and who reaches it does not depend on what runs on it, so a setting of these that does nothing
    need not be tried beside every kind of site.
    """
    part = row.key.split(".")[0]
    if part == "mysql":
        return (MYSQL, RDS, RDS_TLS)
    if part == "redis":
        return ({}, REDIS, TAIR)
    if part in ("processes", "schedule"):
        return ({part: {SAMPLE: SAMPLES[part][1]}},)
    if row.key == "network.standby_cidr":
        return (RDS,)
    if row.key == "network.entrance_cidr" or row.key.startswith("topology.alb."):
        return (ALB, merged(ALB, GIVEN))
    if row.key.startswith("topology.scaling"):
        return (SCALING if row.key.count(".") > 1 else ALB,)
    return SERVERS if part in ("server", "network", "access") else BESIDE


def _needed(row: Row) -> dict[str, Any]:
    """What the ordinary value of a setting wants beside it."""
    places = [place for place in (row.key, f"{row.key}[]", f"{row.key}{{}}") if place in ORDINARY]
    return of(places[0])[1] if places and row.key not in OTHER else {}


def is_taken(config: Mapping[str, Any]) -> bool:
    try:
        parse(merged(CLOUD, config), FILE)
    except SettingsError:
        return False
    return True


def is_release(before: Mapping[str, Any], after: Mapping[str, Any]) -> bool:
    """Return whether a change of a site's settings is a release, as its plans alone show.

    Such a change reaches a server in two ways: by the bootstrap, whose version replaces the server, and by the site's
    files. With the same bootstrap and other files, a run of the program, which takes 40 times as long, can only say
    the same.
    """
    (old, old_files), (new, new_files) = (_planned(json.dumps(merged(CLOUD, each))) for each in (before, after))
    return old == new and old_files != new_files


@functools.cache
def _planned(config: str) -> tuple[list[tuple[str, str]], list[dict[str, str]]]:
    """Return the name and the bootstrap's version of each server, and the files of each site on each of them."""
    settings = parse(json.loads(config), FILE)
    servers = machines(settings)
    versions = [(server.name, bootstrap.version(server.plan, settings)) for server in servers]
    return versions, [release_files(site) for server in servers for site in server.plan.sites]


def effects() -> dict[str, str]:
    """Key → what a change of it does. In a folder with what the samples name."""
    known: dict[str, Found] = {}

    def with_settings(config: Mapping[str, Any]) -> Found:
        text = json.dumps(config, sort_keys=True)
        if text not in known:
            known[text] = registered(config)
        return known[text]

    def best(row: Row) -> str:
        for beside in _besides(row):
            for change in changes(row):
                before, after = merged(beside, _needed(row)), merged(beside, change)
                if not is_taken(before) or not is_taken(after):
                    continue
                if row.of_site and is_release(before, after):
                    return "release"
                found = effect(with_settings(before), with_settings(after))
                if found != "—":
                    return found
        return "—"

    return {row.key: best(row) for row in rows()}
