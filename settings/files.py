"""The application's files, looked at before anything is created."""

import ast
import hashlib
import re
from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from packaging.utils import canonicalize_name

from inspection.entry import made_in
from inspection.project import Project
from schema.base import READABLE, SettingsError, printable
from settings.dependencies import FOUND, read
from settings.requirements import Installed, installed
from settings.server import Access
from settings.site import SiteSettings
from settings.stack import StackSettings

# The kinds of keys that SSH logs in with.
_Key = EllipticCurvePrivateKey | Ed25519PrivateKey | RSAPrivateKey


def check(stack: StackSettings, folder: Path, file: str) -> None:
    """Refuse files that are missing or would not do, of all sites and of what their machines share.

    folder: the project's. file: the stack's, for the message. Raises SettingsError.
    """
    for site in stack.sites:
        try:
            check_site(site, folder, file)
        except OSError as error:
            named, own = printable(error.filename), stack.key_of(site)
            raise SettingsError(f"{file}: {own}app.source: {named}: {error.strerror}; allowed: {READABLE}") from None
        except SettingsError as error:
            # With several sites, the key says whose application it is.
            raise SettingsError(str(error).replace(f"{file}: ", f"{file}: {stack.key_of(site)}", 1)) from None
    for key, name in stack.database.local_files if stack.database else ():
        if not (folder / name).is_file():
            raise SettingsError(f"{file}: {key}: {name} is no file; allowed: files of SQL")
    private_key_of(stack.access, file)


def check_site(site: SiteSettings, folder: Path, file: str) -> None:
    """Refuse what would not start: a missing folder, module or file, and a module that serves itself."""
    app, source = site.app, folder / site.app.source
    if not source.is_dir():
        raise SettingsError(f"{file}: app.source: {app.source} is no folder; allowed: the app's folder")
    key, paths = _entry(site, source, file, _installed(site, source, file))
    for path in paths[:1]:
        if line := _serves_itself(path, app.callable.removesuffix("()")):
            raise SettingsError(
                f"{file}: {key}: {path.name} line {line} starts Flask's own server when it is imported; "
                'allowed: that call under if __name__ == "__main__"'
            )
        _check_interface(site, source, path, f"{file}: {key}")
    if not (source / app.requirements).is_file():
        raise SettingsError(
            f"{file}: app.requirements: {app.source} has no {app.requirements}; "
            "allowed: a file in app.source (it may be empty)"
        )
    for setting, page in site.nginx.pages.items():
        if not (source / page).is_file():
            raise SettingsError(f"{file}: {setting}: {app.source} has no {page}; allowed: a file in app.source")
    for server in (site.app_server, site.python, site.nginx):
        for name in server.archives.values():
            _check_archive(f"{file}: {server.key}", folder / name, name, server.checksum)


def private_key_of(access: Access, file: str) -> _Key | None:
    """The key of access.private_key_file; None without one, or of an unknown kind. Raises SettingsError."""
    key_file = access.private_key_file
    if not key_file:
        return None
    text = _text(key_file).encode()
    # Try OpenSSH's own format, and then the older PEM format.
    for load in (serialization.load_ssh_private_key, serialization.load_pem_private_key):
        try:
            key = load(text, None)
            if isinstance(key, _Key):
                return key
        except TypeError:
            raise SettingsError(
                f"{file}: access.private_key_file: {key_file} wants a passphrase, and nobody is there to type it; "
                "allowed: a key without one, or no such setting and the key in the SSH agent"
            ) from None
        except (ValueError, UnsupportedAlgorithm):
            continue
    if b"PRIVATE KEY" not in text:
        raise SettingsError(f"{file}: access.private_key_file: {key_file} is no private key; allowed: a file with one")
    return None


def other_key(access: Access, file: str) -> str | None:
    """A warning of a private key that is not access.public_key's, which alone the server gets from here."""
    key, form = private_key_of(access, file), (serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH)
    public = (access.public_key or "").encode().split()[:2]
    if key is None or key.public_key().public_bytes(*form).split() == public:
        return None
    return (
        f"access.private_key_file: {access.private_key_file} is another key than access.public_key; "
        "a new server lets in who has the latter; allowed: the private key of access.public_key"
    )


def loaded(site: SiteSettings, folder: Path, file: str) -> dict[str, tuple[str, ...]]:
    """Setting → the files in the application's folder that it names: one of them must be there when it starts."""
    source = folder / site.app.source
    key, paths = _entry(site, source, file, _installed(site, source, file))
    named = {"app.requirements": site.app.requirements, **site.nginx.pages}
    return {
        # A module that pip installs has no file here.
        **({key: tuple(path.relative_to(source).as_posix() for path in paths)} if paths else {}),
        **{key: (Path(name).as_posix(),) for key, name in named.items()},
    }


def _check_archive(key: str, path: Path, name: str, sha256: str | None) -> None:
    if not path.is_file():
        raise SettingsError(f"{key}.archive: {name} is no file; allowed: a file here, or a URL that starts with http")
    found = hashlib.sha256(path.read_bytes()).hexdigest()
    if found != sha256:
        raise SettingsError(
            f"{key}.sha256: {name} has {found}; allowed: the checksum that its makers publish, of that very file"
        )


def _text(path: str) -> str:
    try:
        file = Path(path).expanduser()
        return file.read_text(encoding="utf-8") if file.is_file() else ""
    except (OSError, RuntimeError, UnicodeDecodeError):
        return ""


def _installed(site: SiteSettings, source: Path, file: str) -> Installed:
    name = site.app.requirements
    if not (source / name).is_file():
        return Installed()
    if Path(name).name in FOUND:
        own = read(source / name, f"{file}: app.requirements")
        lines = [line.split(";")[0].split("==")[0] for line in own.text.splitlines() if not line.startswith((" ", "."))]
        names = frozenset(canonicalize_name(re.split(r"[\s\[<>=!~@]", line)[0]) for line in lines)
        projects = (source,) if own.has_project or own.text == ".\n" else ()
        return Installed(projects, names, "://" in own.text)
    return installed(source / name, source, f"{file}: app.requirements: {name}")


def _entry(site: SiteSettings, source: Path, file: str, packages: Installed) -> tuple[str, list[Path]]:
    """The setting that names what the server loads, and the files that it is in, the one that is found first first.

    There is no file when the module may be part of what pip installs.
    """
    app = site.app
    if app.wsgi_file:
        if not (source / app.wsgi_file).is_file():
            raise SettingsError(
                f"{file}: app.wsgi_file: {app.source} has no {app.wsgi_file}; allowed: a file in app.source"
            )
        return "app.wsgi_file", [source / app.wsgi_file]
    roots = [source, *(source / path for path in (*app.pythonpath, *site.app_server.import_folders))]
    roots += [root for folder in packages.folders for root in (folder, folder / "src")]
    name = app.module.replace(".", "/")
    # Python prefers a package to a module of the same name.
    paths = [path for root in roots for path in (root / name / "__init__.py", root / f"{name}.py") if path.is_file()]
    if paths or packages.may_have(app.module):
        return "app.module", list(dict.fromkeys(paths))
    raise SettingsError(
        f"{file}: app.module: {app.source} has neither {name}.py nor {name}/__init__.py; "
        "allowed: a module in app.source"
    )


def _name(node: object) -> str:
    return node.id if isinstance(node, ast.Name) else ""


def _check_interface(site: SiteSettings, source: Path, path: Path, first: str) -> None:
    """Refuse an application of the other interface, as far as its module shows it. first: start of the message."""
    made = made_in(Project(source), path.relative_to(source).as_posix(), site.app.callable.removesuffix("()"))
    if made is None or made[1] == site.app_server.serves:
        return
    framework, interface = made
    way = "serving.app_server: granian with granian.interface: asgi, or a2wsgi's ASGIMiddleware around it"
    raise SettingsError(
        f"{first}: {site.app.callable} in {path.name} is {framework} ({interface.upper()}), and "
        f"{site.app_server.key} serves {site.app_server.serves.upper()} here; "
        f"allowed: {way if interface == 'asgi' else 'granian.interface: wsgi'}"
    )


def _serves_itself(path: Path, application: str) -> int | None:
    """Line of a call such as app.run() that an import would make, None when there is none."""
    try:
        tree = ast.parse(path.read_bytes())
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        # Only the server can check whether the code runs on its Python.
        return None
    for node in tree.body:
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Call):
            function = node.value.func
            called = f"{_name(getattr(function, 'value', None))}.{getattr(function, 'attr', '')}"
            if called in ("app.run", "application.run", f"{application}.run"):
                return node.lineno
    return None
