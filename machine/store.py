"""The store: a folder on a shared file system (NFS 4.0) through which a release host reaches the members of a group.

    deliveries/<number>/   what one `up` asked for: delivery.json, archives, secrets; whole as soon as it has this name
    deliveries/<number>/accepted.json   a member has served it
    settled.json           what a member that serves nothing takes by itself
    offer.json             who takes which delivery now
    silent.json            members that the last roll-outs have seen, and that wrote nothing
    members/<id>.json      what a member serves and does
    lease/<number>         which member runs what must run once (lease.py)

The release host writes the first five under a lock of its own machine, and each member writes its own file. All files
are replaced by a rename, so a reader finds the old or the new text. Whoever needs to know what another machine has just
done opens a file by its name, because an NFS client asks the server at each open, and may answer a look at attributes
from its cache. Root alone reads the store, because it holds secrets. Python 3.6, standard library only.
"""

import hashlib
import os
import re
import shutil
from typing import IO, Any, Dict, Iterable, List, Mapping, NamedTuple, Optional, Set, Type, TypeVar

import files
from commands import ReleaseError
from contract.codec import decode, encode
from contract.store_documents import (
    ACCEPTED_FILE,
    DELIVERY_FILE,
    OFFER_FILE,
    SETTLED_FILE,
    SILENT_FILE,
    Accepted,
    Delivery,
    Member,
    Offer,
    Settled,
    Silent,
)

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*\Z")
_MEMBER = re.compile(r"([A-Za-z0-9][A-Za-z0-9-]*)\.json\Z")

T = TypeVar("T")


class Unreadable(Exception):
    """A file of the store that cannot be read now: the file system has refused it (ESTALE, EIO)."""


class Damaged(Unreadable):
    """A file of the store whose text is no document, and will be none until its writer replaces it."""


class Members(NamedTuple):
    """The members' files. unreadable: member → why its file cannot be read."""

    known: Dict[str, Member]
    unreadable: Dict[str, Unreadable] = {}


class Store:
    """The files of a store. Writing raises OSError."""

    def __init__(self, folder: str) -> None:
        self.folder = folder

    def make(self) -> None:
        """Make the folders of a new store."""
        for name in ("deliveries", "members", "lease"):
            os.makedirs(self._path(name), mode=0o700, exist_ok=True)

    def _path(self, *names: str) -> str:
        return os.path.join(self.folder, *names)

    def lease_folder(self) -> str:
        return self._path("lease")

    # What the release host writes.

    def settled(self) -> Optional[Settled]:
        """What is settled, None before the first time. Raises Unreadable."""
        return self.read(Settled, SETTLED_FILE)

    def settle(self, settled: Settled) -> None:
        self.write(SETTLED_FILE, settled)

    def offer(self) -> Offer:
        """The offer. Raises Unreadable."""
        return self.read(Offer, OFFER_FILE) or Offer()

    def make_offer(self, offer: Offer) -> None:
        self.write(OFFER_FILE, offer)

    def silent(self) -> Silent:
        """The members that were silent. Raises Unreadable."""
        return self.read(Silent, SILENT_FILE) or Silent()

    def note_silent(self, silent: Silent) -> None:
        self.write(SILENT_FILE, silent)

    def delivery(self, number: int) -> Optional[Delivery]:
        """What belongs to a delivery, None when there is none of this number. Raises Unreadable."""
        return self.read(Delivery, os.path.join("deliveries", str(number), DELIVERY_FILE))

    def is_accepted(self, number: int) -> bool:
        """Whether a member has served a delivery. Raises Unreadable."""
        name = os.path.join("deliveries", str(number), ACCEPTED_FILE)
        try:
            return self.read(Accepted, name) is not None
        except Damaged:
            # Only a delivery that was accepted has this file.
            return True

    def accept(self, number: int, member: str) -> None:
        """Note that a member has served a delivery."""
        self.write(os.path.join("deliveries", str(number), ACCEPTED_FILE), Accepted(member))

    def numbers(self) -> List[int]:
        """The numbers of the deliveries, in order. Raises Unreadable."""
        return sorted(int(name) for name in self._names("deliveries") if name.isdigit())

    def deliver(
        self,
        number: int,
        sites: Dict[str, str],
        seconds: int,
        archives: Mapping[str, str],
        secrets: Mapping[str, bytes],
    ) -> None:
        """Put a delivery into the store; it has its name when it is whole. sites, seconds: as in Delivery.

        archives: name → path on this machine. secrets: name → content.
        """
        if not all(map(_NAME.match, [*archives, *secrets])):
            raise ValueError("no names of files: {}".format(", ".join([*archives, *secrets])))
        target = self._path("deliveries", str(number))
        draft = target + ".new"
        self.remove(draft)
        os.mkdir(draft, 0o700)
        for name, path in archives.items():
            with open(path, "rb") as source, open(os.path.join(draft, name), "wb") as copy:
                shutil.copyfileobj(source, copy)
                _flush(copy)
        for name, content in secrets.items():
            self.place(os.path.join(draft, name), content)
        copies = {name: os.path.join(draft, name) for name in archives}
        text = encode(Delivery(sites, sums(copies, secrets), seconds))
        self.place(os.path.join(draft, DELIVERY_FILE), text.encode())
        flush_folder(draft)
        self.rename(draft, target)

    def prune(self, staying: Iterable[int]) -> None:
        """Remove the deliveries that have none of these numbers, and what killed runs have left."""
        kept = set(map(str, staying))
        for name in self._names("deliveries"):
            if name not in kept:
                path = self._path("deliveries", name)
                if name.isdigit():
                    # What is half removed must not be found under its number.
                    self.rename(path, path + ".old")
                    path += ".old"
                self.remove(path)

    def forget(self, member: str) -> None:
        """Remove the file of a member that is gone. A member that was only away writes it again."""
        self.remove(self._path("members", member + ".json"))

    # What a member writes.

    def member(self, name: str) -> Optional[Member]:
        """What a member has written last. Raises Unreadable."""
        return self.read(Member, os.path.join("members", name + ".json"))

    def report(self, name: str, member: Member) -> None:
        self.write(os.path.join("members", name + ".json"), member)

    def members(self) -> Members:
        """What the members have written last. Raises Unreadable when their folder cannot be listed."""
        known, unreadable = {}, {}
        for found in filter(None, map(_MEMBER.match, self._names("members"))):
            try:
                member = self.member(found.group(1))
            except Unreadable as error:
                unreadable[found.group(1)] = error
            else:
                # A file that has just been removed is none.
                if member is not None:
                    known[found.group(1)] = member
        return Members(known, unreadable)

    def fetch(self, number: int, folder: str) -> Delivery:
        """Copy a delivery into an empty folder of this machine. Raises ReleaseError for one that is not whole."""
        try:
            delivery = self.delivery(number)
            if delivery is None:
                raise ReleaseError("delivery {} is not in the store".format(number), then="run up again")
            for name, digest in delivery.files.items():
                path = os.path.join(folder, name)
                descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
                with open(self._path("deliveries", str(number), name), "rb") as source:
                    with os.fdopen(descriptor, "wb") as copy:
                        shutil.copyfileobj(source, copy)
                if _sum(path) != digest:
                    what = "{} of delivery {} is not what was delivered".format(name, number)
                    raise ReleaseError(what, then="run up again")
        except (OSError, Unreadable) as error:
            raise ReleaseError("delivery {} cannot be read: {}".format(number, error), then="run up again") from error
        return delivery

    # How files are read and replaced.

    def read(self, kind: Type[T], name: str) -> Optional[T]:
        """The document in a file, None when there is no such file. Raises Unreadable or Damaged."""
        try:
            with open(self._path(name), "rb") as file:
                data = file.read()
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise Unreadable("{} cannot be read: {}".format(name, error.strerror)) from error
        return parsed(kind, name, data)

    def write(self, name: str, document: object) -> None:
        """Replace a file by a document."""
        path = self._path(name)
        self.place(path + ".new", encode(document).encode())
        self.rename(path + ".new", path)

    def _names(self, folder: str) -> List[str]:
        try:
            return sorted(os.listdir(self._path(folder)))
        except FileNotFoundError:
            return []
        except OSError as error:
            raise Unreadable("{} cannot be listed: {}".format(folder, error.strerror)) from error

    def place(self, path: str, content: bytes) -> None:
        """Write a file, and wait until it is on the disk."""
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            _flush(file)

    def rename(self, path: str, target: str) -> None:
        os.rename(path, target)
        flush_folder(os.path.dirname(target))

    def remove(self, path: str) -> None:
        files.remove(path)


def staying(
    numbers: List[int],
    accepted: Set[int],
    settled: Optional[Settled],
    offer: Offer,
    members: Iterable[Member],
    keep: int,
) -> Set[int]:
    """The numbers of the deliveries that stay: those that anybody needs, and the last `keep` that were accepted."""
    # Numbers only grow, so the highest one stays even if it was refused.
    found = set(numbers[-1:]) | set(sorted(accepted)[-keep:] if keep else [])
    found |= {settled.number, settled.previous or settled.number} if settled else set()
    found |= {offer.number} if offer.number is not None else set()
    for member in members:
        found |= {member.number} if member.number is not None else set()
        found |= {member.doing.number} if member.doing else set()
    return found


def parsed(kind: Type[T], name: str, data: bytes) -> T:
    """The document that a file's content is. Raises Damaged, which names the file, when it is none."""
    try:
        document = decode(kind, data.decode())
    except (ValueError, TypeError, AttributeError) as error:
        raise Damaged("{} is damaged: {}".format(name, error)) from error
    if not _fits(kind, document):
        raise Damaged("{} is damaged: a value is of another type".format(name))
    return document


def _fits(kind: Any, value: Any) -> bool:
    """Whether a value of a document has the type that the document says."""
    if hasattr(kind, "_fields"):
        return isinstance(value, kind) and all(
            _fits(kind.__annotations__[name], getattr(value, name)) for name in kind._fields
        )
    types = list(getattr(kind, "__args__", None) or [])
    if type(None) in types:
        return value is None or _fits(types[0], value)
    if len(types) == 2:
        return isinstance(value, dict) and all(_fits(types[1], part) for part in value.values())
    if types:
        return isinstance(value, list) and all(_fits(types[0], part) for part in value)
    return isinstance(value, kind)


def sums(archives: Mapping[str, str], secrets: Mapping[str, bytes]) -> Dict[str, str]:
    """Name → SHA-256 of what belongs to a delivery. archives, secrets: as in Store.deliver. Raises OSError."""
    found = {name: _sum(path) for name, path in archives.items()}
    found.update({name: hashlib.sha256(content).hexdigest() for name, content in secrets.items()})
    return found


def _sum(path: str) -> str:
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        for block in iter(lambda: file.read(1 << 20), b""):
            digest.update(block)
    return digest.hexdigest()


def _flush(file: IO[bytes]) -> None:
    file.flush()
    os.fsync(file.fileno())


def flush_folder(folder: str) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
