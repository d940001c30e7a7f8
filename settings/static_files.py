"""What nginx itself serves of an application: what the settings name, else what Flask or Django would serve."""

import ast
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from schema import text
from schema.base import SettingsError
from settings import data, django
from settings.site import SiteSettings
from settings.stack import StackSettings

_LOCATION: TypeAdapter[str] = TypeAdapter(text.StaticLocation)
_FOLDER: TypeAdapter[str] = TypeAdapter(text.InsidePath)


def resolve(stack: StackSettings, folder: Path, file: str) -> tuple[StackSettings, list[str]]:
    """The settings with nginx.static as nginx will serve it, with a note for each path found automatically; warnings.

    folder: the project's. file: the stack's, for a message. Raises SettingsError for a folder where a file is meant,
    and the other way round, and for files that only the first application server would have.
    """
    sites, warnings, found = [], [], []
    for site in stack.sites:
        if site.serving.front == "nginx" and "static" in site.nginx.model_fields_set:
            static, more = _named(site, folder, f"{stack.key_of(site)}nginx.static", file)
            warnings += more
        else:
            taken = {*site.data.served, *site.nginx.websocket, *site.nginx.pools}
            found_there = _automatic(site, folder / site.app.source)
            static = {url: path for url, path in found_there.items() if url not in taken}
            of = f"site {site.site.name}: " if stack.is_named else ""
            # nginx serves what a release has, and cannot enter the folder to which a persistent path leads.
            kept = {
                url: persistent
                for url, path in static.items()
                for persistent in _persistent(site)
                if data.overlap(path, persistent)
            }
            if site.serving.front == "nginx":
                found += [of + _said(site, url, path, kept.get(url)) for url, path in static.items()]
            static = {url: path for url, path in static.items() if url not in kept}
        _check_built(stack, site, static, folder, file)
        changed = static != site.nginx.static
        nginx = site.nginx.model_copy(update={"static": static}) if changed else site.nginx
        sites.append(site.model_copy(update={"nginx": nginx}))
    return replace(stack, sites=tuple(sites), notes=(*stack.notes, *found)), warnings


def _persistent(site: SiteSettings) -> Iterator[str]:
    return (path.rstrip("/") for path in site.app.persistent)


def _said(site: SiteSettings, url: str, path: str, persistent: str | None) -> str:
    """What a preview says of a folder that was found. persistent: the path of app.persistent that is in the way."""
    if persistent:
        return (
            f"{site.site.prefix}{url} is answered by the application and not by nginx, because app.persistent keeps "
            f"{persistent}; data.served can have nginx serve it"
        )
    return f"{site.site.prefix}{url} is served by nginx from {path}"


def _named(site: SiteSettings, folder: Path, key: str, file: str) -> tuple[dict[str, str], list[str]]:
    """What the user named, without what the application does not have: the application answers those paths."""
    source, kept, warnings = folder / site.app.source, {}, []
    for url, path in site.nginx.static.items():
        kind = "folder" if url.endswith("/") else "file"
        if (source / path).is_dir() if kind == "file" else (source / path).is_file():
            other, remedy = ("file", "without") if kind == "folder" else ("folder", "with")
            raise SettingsError(
                f"{file}: {key}.{url}: {path} is a {other}; allowed: a {kind}, or the URL path {remedy} / at its end"
            )
        if (source / path).exists() or _is_built(site):
            kept[url] = path
        else:
            warnings.append(
                f"{key}: {site.app.source} has no {kind} {path}, so nginx passes "
                f"{site.site.prefix}{url} on to the application"
            )
    return kept, warnings


def _check_built(stack: StackSettings, site: SiteSettings, static: dict[str, str], folder: Path, file: str) -> None:
    """Raise SettingsError for a folder that a command makes on another server than nginx's."""
    lacks = stack.is_apart or stack.topology.servers > 1 or stack.topology.scaling is not None
    others = "not on nginx's server" if stack.is_apart else "on no other server"
    first = stack.app_servers[0] if stack.app_servers else "the first member"
    for url, path in static.items():
        if lacks and not (folder / site.app.source / path).exists():
            raise SettingsError(
                f"{file}: {stack.key_of(site)}nginx.static.{url}: {path} would be made by release.before, which runs "
                f"on {first} and {others}; allowed: a folder of {site.app.source} that is "
                f"made before up, or topology without {'app_servers' if stack.app_servers else 'scaling'}"
            )


def _is_built(site: SiteSettings, *words: str) -> bool:
    """Whether commands of the release run on the server, which may make files. words: that one of them has."""
    commands = site.release.before
    return any(all(word in command for word in words) for command in commands)


def _automatic(site: SiteSettings, source: Path) -> dict[str, str]:
    """URL path → folder of the application that its framework would serve there."""
    # What pip installs of src/ has the files that are there.
    roots = (
        source,
        *(source / path for path in (*site.app.pythonpath, *site.app_server.import_folders)),
        source / "src",
    )
    entry = _entry(site, roots)
    tree = django.parsed(entry) if entry else None
    if entry and tree:
        named = site.app.env.get("DJANGO_SETTINGS_MODULE")
        settings = named.get_secret_value() if named else django.settings_module(tree)
        if settings and (collected := _of_django(site, source, django.settings_files(settings, roots))):
            return collected
        flask = None if settings else _of_flask(entry, tree, roots)
        if flask and (static := _existing(source, *flask)):
            return static
        folders = [source / "static", *([] if settings else [entry.parent / "static"])]
    else:
        folders = [source / "static"]
    return next((found for folder in folders if (found := _existing(source, "/static/", folder))), {})


def _entry(site: SiteSettings, roots: Sequence[Path]) -> Path | None:
    if site.app.wsgi_file:
        path = roots[0] / site.app.wsgi_file
        return path if path.is_file() else None
    name = site.app.module.replace(".", "/")
    return next((path for path in _module_files(name, roots) if path.is_file()), None)


def _module_files(name: str, roots: Sequence[Path]) -> Iterator[Path]:
    for root in roots:
        yield from (root / name / "__init__.py", root / f"{name}.py")


def _existing(source: Path, url: str, folder: Path, is_built: bool = False) -> dict[str, str]:
    """A folder of the application at its URL path; nothing for what nginx cannot serve."""
    try:
        inside = folder.resolve().relative_to(source.resolve()).as_posix()
        if (not folder.is_dir() and not is_built) or inside == ".":
            return {}
        return {_LOCATION.validate_python(url): _FOLDER.validate_python(inside)}
    except (ValueError, ValidationError):
        return {}


def _of_django(site: SiteSettings, source: Path, files: Sequence[Path]) -> dict[str, str]:
    """STATIC_ROOT at STATIC_URL, if the folder is there or a command of the release makes it."""
    values = django.read(files, ("STATIC_URL", "STATIC_ROOT"))
    url, root = values.get("STATIC_URL"), values.get("STATIC_ROOT")
    if not isinstance(url, str) or root is None:
        return {}
    # Django puts the site's own path in front of a relative URL.
    path = url if url.startswith("/") else f"/{url}"
    if site.site.prefix and url.startswith(f"{site.site.prefix}/"):
        path = url.removeprefix(site.site.prefix)
    return _existing(source, path, source / root, _is_built(site, "collectstatic"))


def _of_flask(entry: Path, tree: ast.Module, roots: Sequence[Path]) -> tuple[str, Path] | None:
    """URL path and folder of the first Flask(…) in the module that the server imports, or in what it imports."""
    for path in (entry, *_imported(entry, tree, roots)):
        found = tree if path == entry else django.parsed(path)
        for node in ast.walk(found) if found else ():
            if isinstance(node, ast.Call) and getattr(node.func, "attr", getattr(node.func, "id", "")) == "Flask":
                return _flask_static(node, path.parent)
    return None


def _flask_static(call: ast.Call, folder: Path) -> tuple[str, Path]:
    """Flask's own rules: https://flask.palletsprojects.com/en/stable/api/#flask.Flask"""
    given = {word.arg: getattr(word.value, "value", "") for word in call.keywords}
    static = given.get("static_folder", "static")
    url = given.get("static_url_path", f"/{Path(static).name}" if isinstance(static, str) else None)
    if not isinstance(static, str) or not isinstance(url, str):
        # Without a folder Flask serves no static files, and the empty URL path is not a place of its own.
        return "", folder
    return f"{url.rstrip('/')}/", folder / static


def _imported(entry: Path, tree: ast.Module, roots: Sequence[Path]) -> Iterator[Path]:
    """Files of the application that a module imports, such as the package of `from shop import create_app`."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            near = [entry.parents[node.level - 1]] if 0 < node.level <= len(entry.parents) else roots
            names = [node.module] if node.module else [alias.name for alias in node.names]
        elif isinstance(node, ast.Import):
            near, names = roots, [alias.name for alias in node.names]
        else:
            continue
        for name in names:
            path = next((path for path in _module_files(name.replace(".", "/"), near) if path.is_file()), None)
            if path and path != entry:
                yield path
