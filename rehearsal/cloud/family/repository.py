"""The family's package repository: made once of Debian's packages, inside the base image that is being built.

    apt (of the host, for the image) ─▶ .deb ─▶ family's paths ─▶ rpmbuild, rpmsign, createrepo_c (in the image)
                                                                     └─▶ folder of the host's cache

The image lacks nothing but createrepo_c, which is unpacked beside it and goes with the build. The private key is
forgotten as soon as the packages are signed.
"""

import os
import platform
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from rehearsal.cloud import trust
from rehearsal.cloud.family.closure import Deb, closure, parse
from rehearsal.cloud.family.rpm import Rpm, spec, version_of
from rehearsal.engine.errors import RehearsalError, UserError

# Folder of the cache that has the repositories, each under the hash of its image.
FOLDER = "repositories"
# A machine sees the cache there.
_ON_MACHINE = "/var/cache/rehearsal"
_KEY, _FINGERPRINT = "key.asc", "fingerprint"
_WORK = "build"
# Nobody reads these on a rehearsed machine, or they are Debian's own way of starting and keeping things.
_DROPPED = (
    "/usr/share/doc", "/usr/share/man", "/usr/share/info", "/usr/share/locale", "/usr/share/lintian", "/usr/share/bug",
    "/usr/share/doc-base", "/usr/share/menu", "/usr/share/apport", "/usr/share/bash-completion", "/etc/init.d",
    "/etc/default", "/etc/apparmor.d", "/usr/share/python3/runtime.d", "/usr/share/mysql-common",
)  # fmt: skip
_MERGED = ("bin", "sbin", "lib", "lib64")
_DEFINES = {
    "_topdir": f"/{_WORK}/top",
    "_rpmdir": f"/{_WORK}/out",
    "_binary_payload": "w3.zstdio",
    "__os_install_post": "%{nil}",
    "__gpg": "/usr/bin/gpg",
    "_gpg_name": "rehearsal",
}
# The last source of each repository in user data; the others lead into Alibaba's network.
_PUBLIC_MIRROR = "https://mirrors.aliyun.com"
PLATFORM_PYTHON = "/usr/libexec/platform-python"


@dataclass(frozen=True)
class Repository:
    """packages: what it has. folders: repository → its folder below the server's root. keys: where its key is, too.

    release: the one package that is in the image from the beginning.
    """

    packages: tuple[Rpm, ...]
    folders: Mapping[str, str]
    release: str
    keys: tuple[str, ...]

    @property
    def names(self) -> frozenset[str]:
        """The names by which its packages can be installed."""
        return frozenset(name.split()[0] for each in self.packages for name in (each.name, *each.provides))


@dataclass(frozen=True)
class Family:
    """What a system of CentOS 7's family needs beside Debian's packages.

    finish: shell script that runs in the root when the repository is made. key: path of the repository's public key in
    the image. epel_key: fingerprint of EPEL's key as user data has it; the repository's comes in its place, since only
    Fedora can sign with the other. mirror, port: where the machine serves the repository itself, so no proxy is asked.
    """

    repository: Repository
    finish: str
    key: str
    epel_key: str
    mirror: str
    port: int

    def replaced(self, folder: Path) -> dict[str, str]:
        """Texts of user data → what a machine gets in their place. folder: of the repository."""
        paths = (*self.repository.folders.values(), *self.repository.keys)
        tops = sorted({path.partition("/")[0] for path in paths})
        own = f"https://{self.mirror}:{self.port}"
        return {
            self.epel_key: fingerprint(folder),
            **{f"{_PUBLIC_MIRROR}/{top}/": f"{own}/{top}/" for top in tops},
        }


def is_complete(folder: Path) -> bool:
    return (folder / _FINGERPRINT).is_file()


def fingerprint(folder: Path) -> str:
    """Fingerprint of a repository's key, 40 digits."""
    return (folder / _FINGERPRINT).read_text().strip()


def finish(family: Family, rootfs: Path, folder: Path) -> None:
    """Make Debian's root the family's, and its repository unless the folder has it. Raises RehearsalError."""
    if not is_complete(folder):
        build(family.repository, rootfs, folder)
    key = rootfs / family.key.lstrip("/")
    key.parent.mkdir(parents=True)
    shutil.copy(folder / _KEY, key)
    (release,) = folder.rglob(f"{family.repository.release}-[0-9]*.rpm")
    shutil.copy(release, rootfs / release.name)
    _chroot(rootfs, "rpm", "--force-debian", "--install", "--replacefiles", "--nodeps", f"/{release.name}")
    (rootfs / release.name).unlink()
    link = rootfs / "usr/local/lib/rehearsal/repository"
    link.symlink_to(f"{_ON_MACHINE}/{FOLDER}/{folder.name}")
    _chroot(rootfs, "sh", "-euc", family.finish)


def build(repository: Repository, rootfs: Path, target: Path) -> None:
    """Make the repository in a new folder. rootfs: a Debian with rpm, gpg and apt's lists. Raises RehearsalError."""
    work = rootfs / _WORK
    work.mkdir()
    debs = _download(repository, rootfs)
    _unpack(closure(["createrepo-c"], debs), rootfs, work / "tools")
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        list(pool.map(lambda package: _package(package, repository, debs, rootfs), repository.packages))
    draft = work / "repository"
    public = _sign(rootfs)
    for name, folder in repository.folders.items():
        place = draft / folder.replace("@arch@", platform.machine())
        place.mkdir(parents=True)
        for package in repository.packages:
            if package.repository == name:
                (built,) = (work / "out").glob(f"*/{package.name}-[0-9]*.rpm")
                built.rename(place / built.name)
        _chroot(rootfs, "createrepo_c", "--quiet", f"/{place.relative_to(rootfs)}")
    for path in (_KEY, *repository.keys):
        (draft / path).write_text(public)
    listed = _chroot(rootfs, "gpg", "--with-colons", "--list-keys")
    (draft / _FINGERPRINT).write_text(
        next(line for line in listed.splitlines() if line.startswith("fpr:")).split(":")[9]
    )
    _chroot(rootfs, "gpgconf", "--kill", "gpg-agent")
    _let_read(draft)
    target.parent.mkdir(exist_ok=True)
    new = target.with_name(f".{target.name}.new")
    for left in (new, target):
        shutil.rmtree(left, ignore_errors=True)
    # The cache may be another file system than the root.
    shutil.move(draft, new)
    new.rename(target)
    shutil.rmtree(work)


def _let_read(folder: Path) -> None:
    """Let everybody read, because a machine's users have no privileges on the host."""
    for path in (folder, *folder.rglob("*")):
        path.chmod(0o755 if path.is_dir() else 0o644)


def _download(repository: Repository, rootfs: Path) -> dict[str, Deb]:
    names = dict.fromkeys(("createrepo-c", *(name for package in repository.packages for name in package.debian)))
    places = {"": rootfs, "::State::status": rootfs / "var/lib/dpkg/status", "::Log": rootfs / "var/log"}
    apt = ["apt-get", "-q", "-oAPT::Sandbox::User=root", *(f"-oDir{key}={path}" for key, path in places.items())]
    try:
        _run([*apt, "install", "--download-only", "--yes", "--no-install-recommends", *names], "apt-get")
    except RehearsalError as error:
        reason = trust.reason(str(error))
        raise UserError(f"no package repository: apt-get fails: {reason}; {trust.SOURCES}") from None
    found = {}
    for file in (rootfs / "var/cache/apt/archives").glob("*.deb"):
        fields = ("Package", "Version", "Depends", "Pre-Depends", "Provides")
        lines = _run(["dpkg-deb", "--field", str(file), *fields], "dpkg-deb").splitlines()
        deb = parse({key: value.strip() for key, _, value in (line.partition(":") for line in lines)})
        found[deb.name] = deb
    return found


def _unpack(names: set[str], rootfs: Path, root: Path) -> None:
    root.mkdir(parents=True, exist_ok=True)
    for name in sorted(names):
        (file,) = (rootfs / "var/cache/apt/archives").glob(f"{name}_*.deb")
        _run(["dpkg-deb", "--extract", str(file), str(root)], "dpkg-deb")
        for merged in _MERGED:
            if (root / merged).is_dir() and not (root / merged).is_symlink():
                _merge(root / merged, root / "usr" / merged)


def _merge(old: Path, new: Path) -> None:
    """Move a file, or all that is in a folder, into a folder that may be there already."""
    if old.is_symlink() or not old.is_dir():
        new.parent.mkdir(parents=True, exist_ok=True)
        old.rename(new)
        return
    new.mkdir(parents=True, exist_ok=True)
    for path in old.iterdir():
        _merge(path, new / path.name)
    old.rmdir()


def _all_requires(package: Rpm, packages: Sequence[Rpm]) -> list[Rpm]:
    direct = [each for each in packages if each.name in package.requires]
    return [*direct, *(more for each in direct for more in _all_requires(each, packages))]


def _package(package: Rpm, repository: Repository, debs: Mapping[str, Deb], rootfs: Path) -> None:
    """Build one package below /build/out of the image."""
    root = rootfs / _WORK / "roots" / package.name
    root.mkdir(parents=True)
    names = closure(package.debian, debs)
    # What C programs are compiled with is in one package, which gcc brings.
    shared = [] if package.name == "glibc-devel" else ["libc6-dev"]
    for each in _all_requires(package, repository.packages):
        shared += each.debian
    _unpack(names - closure(shared, debs), rootfs, root)
    _lay_out(package, rootfs, root)
    # A few of them are in the image: then the package is a name only.
    version = next((version_of(debs[name].version) for name in package.debian if name in debs), "1")
    file = rootfs / _WORK / f"{package.name}.spec"
    file.write_text(spec(package, version, _paths(package, rootfs, root)))
    defines = [word for key, value in _DEFINES.items() for word in ("--define", f"{key} {value}")]
    buildroot = f"/{root.relative_to(rootfs)}"
    _chroot(rootfs, "rpmbuild", "-bb", "--quiet", *defines, "--buildroot", buildroot, f"/{_WORK}/{file.name}")


def _lay_out(package: Rpm, rootfs: Path, root: Path) -> None:
    """Bring what was unpacked to the family's paths."""

    def at(path: str) -> Path:
        return root / _with_triplet(path).lstrip("/")

    for old, new in package.taken.items():
        at(new).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(rootfs / old.lstrip("/"), at(new))
    for old, new in package.moves.items():
        _merge(at(old), at(new))
    for path in (*_DROPPED, *package.dropped):
        if at(path).is_dir() and not at(path).is_symlink():
            shutil.rmtree(at(path))
        else:
            at(path).unlink(missing_ok=True)
    for path, text in package.files.items():
        at(path).parent.mkdir(parents=True, exist_ok=True)
        at(path).write_text(text)
    for path, target in package.links.items():
        at(path).parent.mkdir(parents=True, exist_ok=True)
        at(path).unlink(missing_ok=True)
        at(path).symlink_to(_with_triplet(target))
    for path in package.folders:
        if path not in package.files:
            at(path).mkdir(parents=True, exist_ok=True)
    if not package.taken:
        _run_on_platform_python(root)


def _run_on_platform_python(root: Path) -> None:
    """Let programs of Debian's Python run without the family's package python3, as the family's own programs do."""
    for folder in ("usr/bin", "usr/sbin"):
        for path in (root / folder).glob("*"):
            if path.is_file() and not path.is_symlink():
                first, separator, rest = path.read_bytes().partition(b"\n")
                if first.startswith(b"#!") and b"python3" in first:
                    path.write_bytes(f"#!{PLATFORM_PYTHON}".encode() + separator + rest)


def _with_triplet(path: str) -> str:
    return path.replace("@triplet@", f"{platform.machine()}-linux-gnu")


def _paths(package: Rpm, rootfs: Path, root: Path) -> list[tuple[str, str]]:
    """What %files names: files, links, and folders that the image lacks or that have an owner of their own."""
    found = []
    for path in sorted(root.rglob("*")):
        name = f"/{path.relative_to(root)}"
        is_folder = path.is_dir() and not path.is_symlink()
        owner = package.folders.get(name)
        if is_folder and not owner and (rootfs / name.lstrip("/")).is_dir():
            continue
        before = "%dir " if is_folder else ""
        if owner:
            user, group, mode = owner.split()
            before = f"%attr({mode},{user},{group}) {before}"
        found.append((name, before))
    return found


def _sign(rootfs: Path) -> str:
    """Make a key, sign all packages. Returns the public key."""
    (rootfs / _WORK / "gpg").mkdir(mode=0o700)
    gpg = ("gpg", "--batch", "--quiet", "--pinentry-mode", "loopback", "--passphrase", "")
    _chroot(rootfs, *gpg, "--quick-gen-key", "rehearsal", "rsa3072", "sign", "never")
    defines = [word for key, value in _DEFINES.items() for word in ("--define", f"{key} {value}")]
    packages = [f"/{path.relative_to(rootfs)}" for path in (rootfs / _WORK / "out").glob("*/*.rpm")]
    _chroot(rootfs, "rpmsign", "--addsign", *defines, *packages)
    return _chroot(rootfs, "gpg", "--armor", "--export")


def _chroot(rootfs: Path, *command: str) -> str:
    tools = f"/{_WORK}/tools/usr"
    environment = {
        "PATH": f"/usr/sbin:/usr/bin:/sbin:/bin:{tools}/bin",
        "LD_LIBRARY_PATH": f"{tools}/lib/{platform.machine()}-linux-gnu",
        "GNUPGHOME": f"/{_WORK}/gpg",
        "HOME": f"/{_WORK}",
        "LC_ALL": "C",
    }
    return _run(["chroot", str(rootfs), *command], command[0], environment)


def _run(command: list[str], what: str, environment: Mapping[str, str] | None = None) -> str:
    done = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL, env=environment)
    if done.returncode:
        last = "\n".join((done.stderr or done.stdout).strip().splitlines()[-12:])
        raise RehearsalError(f"{what} exited {done.returncode} while making the package repository:\n{last}")
    return done.stdout
