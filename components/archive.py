"""Application folder + rendered texts → one release archive, the same bytes for the same content.

The id is a hash of the content manifest (paths, modes, bytes), not of the compressed file.
"""

import gzip
import hashlib
import io
import json
import os
import tarfile
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType

from components.application import NOTHING_ELSE, Rules, collect, contents, rules_of, why
from contract.codec import plain
from contract.documents import APP_FOLDER, MANIFEST_FILE, TOOL_FOLDER, Manifest
from contract.resources import FRONT_MACHINE
from serving import Machine, ServingPlan, SitePlan, host_files, release_files
from settings import SiteSettings, StackSettings, refused
from settings.files import loaded

# Archives kept in the project's folder, and seconds for which any is: a run has one for each site and machine.
_KEEP, _FRESH = 20, 3600


@dataclass(frozen=True)
class Archive:
    """A release archive. `path` is relative to the project's folder, so that no state names this machine."""

    id: str
    path: str


@dataclass(frozen=True)
class Archives:
    """What a server gets: its own part, and one for each site by its name."""

    host: Archive
    sites: Mapping[str, Archive]


def build_fleet(machines: Iterable[Machine], stack: StackSettings, folder: Path) -> dict[str, Archives]:
    """The archives of each machine, by its name. Raises like build.

    A release of the server with the public address names that of the others, so that all are rolled back together.
    """
    found: dict[str, Archives] = {}
    is_balanced, names = stack.topology.is_balanced, stack.app_servers
    # That server, and one of the others.
    leader, other = (names[:1], names[1:2]) if is_balanced else ((FRONT_MACHINE,), names[:1])
    for machine in sorted(machines, key=lambda machine: machine.name in leader):
        pairs = found[other[0]].sites if other and machine.name in leader else {}
        found[machine.name] = build_all(machine.plan, stack, folder, {site: pair.id for site, pair in pairs.items()})
    return found


def build_all(
    plan: ServingPlan, stack: StackSettings, folder: Path, pairs: Mapping[str, str] = MappingProxyType({})
) -> Archives:
    """The archives of a plan, written into `folder`. pairs: site → id of its release elsewhere. Raises like build."""
    return Archives(
        build(host_files(plan), plan.sources, folder),
        {
            site.place.name: build(
                release_files(_paired(site, pairs)),
                site.sources,
                folder,
                Path(own.app.source),
                rules_of(stack, own),
                _needed(own, stack.key_of(own)),
            )
            for site, own in zip(plan.sites, stack.sites if plan.sites else (), strict=True)
        },
    )


def _paired(site: SitePlan, pairs: Mapping[str, str]) -> SitePlan:
    return replace(site, release=site.release._replace(pair=pairs.get(site.place.name, "")))


def _needed(own: SiteSettings, where: str) -> dict[str, Sequence[str]]:
    return {f"{where}{key}": paths for key, paths in loaded(own, Path(), "").items()}


def build(
    texts: Mapping[str, str],
    sources: Mapping[str, str],
    folder: Path,
    source: Path | None = None,
    rules: Rules = NOTHING_ELSE,
    needed: Mapping[str, Sequence[str]] = MappingProxyType({}),
) -> Archive:
    """Write `folder`/<id>.tar.gz and return it.

    texts: relative path → text. sources: relative path → file of this machine, as it is. source: the
    application's folder, which becomes app/, if there is one. rules: which of its files stay behind. needed: setting →
    paths inside it, of which one must come along. Raises pulumi.RunError for what is needed and left out, and as
    components.application.collect does.
    """
    application = contents(collect(source, rules), rules.where) if source else {}
    for key, paths in needed.items():
        if not application.keys() & set(paths):
            reason = why(source or Path(), paths[0], rules)
            raise refused(f"{key}: {paths[0]} stays behind {reason}; allowed: a file that comes along")
    files = {f"{APP_FOLDER}{name}": content for name, content in application.items()}
    files |= {name: (0o644, text.encode()) for name, text in texts.items()}
    files |= {name: (0o644, Path(path).read_bytes()) for name, path in sources.items()}
    listed = {name: [f"{mode:o}", hashlib.sha256(data).hexdigest()] for name, (mode, data) in sorted(files.items())}
    identifier = hashlib.sha256(json.dumps(listed).encode()).hexdigest()[:12]
    files[MANIFEST_FILE] = (0o644, json.dumps(plain(Manifest(identifier, listed)), indent=0).encode())
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{identifier}.tar.gz"
    if path.exists():
        # Renew the file's time, because another run may delete old archives. A file of another user keeps its time.
        with suppress(PermissionError):
            path.touch()
    else:
        draft = folder / f"{identifier}.{os.getpid()}.new"
        draft.write_bytes(_packed(files))
        draft.rename(path)
        _forget_old(folder)
    return Archive(identifier, path.as_posix())


def _forget_old(folder: Path) -> None:
    """Keep the newest archives: an earlier release is packed again when it is wanted."""
    ages = {path: time.time() - path.stat().st_mtime for path in folder.glob("*.tar.gz")}
    for path in sorted(ages, key=lambda path: ages[path])[_KEEP:]:
        if ages[path] > _FRESH:
            path.unlink()


def _packed(files: Mapping[str, tuple[int, bytes]]) -> bytes:
    packed = io.BytesIO()
    with (
        gzip.GzipFile(fileobj=packed, mode="wb", mtime=0, filename="", compresslevel=6) as stream,
        tarfile.open(fileobj=stream, mode="w", format=tarfile.PAX_FORMAT) as tar,
    ):
        # The tool comes first, because a server reads its run.sh before it unpacks the rest.
        for name in sorted(files, key=lambda name: (not name.startswith(TOOL_FOLDER), name)):
            mode, data = files[name]
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(data), mode
            tar.addfile(entry, io.BytesIO(data))
    return packed.getvalue()
