"""What nginx makes of its configuration: server blocks, and the part of each site in them."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple


class Refused(Exception):
    """What nginx says of a configuration that it does not take."""


class Directive(NamedTuple):
    """words: name and arguments. block: what stands in its braces. folder: of the file that it stands in."""

    words: list[str]
    block: "list[Directive]"
    folder: Path


@dataclass(frozen=True)
class Part:
    """A site's location, and the address that its requests go to; None for the page that says 503."""

    site: str
    location: str
    address: str | None


@dataclass(frozen=True)
class Block:
    listen: int
    name: str
    default: bool
    parts: tuple[Part, ...]


def load(file: Path) -> tuple[Block, ...]:
    """The server blocks of nginx.conf with all that it includes. Raises Refused."""
    (http,) = (each for each in _read(file) if each.words == ["http"])
    upstreams = {each.words[1]: each.block[0].words[1] for each in http.block if each.words[0] == "upstream"}
    blocks = tuple(_block(each.block, upstreams) for each in http.block if each.words == ["server"])
    defaults = [block.listen for block in blocks if block.default]
    if len(set(defaults)) < len(defaults):
        raise Refused(f"a duplicate default server for 0.0.0.0:{defaults[0]}")
    return blocks


def part(blocks: tuple[Block, ...], port: int, host: str, path: str) -> Part | None:
    """Where a request goes, None for what is nobody's."""
    here = [block for block in blocks if block.listen == port]
    block = [block for block in here if block.name == host] or [block for block in here if block.default]
    found = [part for part in block[0].parts if path.startswith(part.location)] if block else []
    return max(found, key=lambda part: len(part.location), default=None)


def _block(directives: list[Directive], upstreams: dict[str, str]) -> Block:
    words = {each.words[0]: each.words[1:] for each in directives}
    locations = [each for each in directives if each.words[0] == "location"]
    paths = [each.words[1] for each in locations]
    for path in paths:
        if paths.count(path) > 1:
            raise Refused(f'duplicate location "{path}"')
    parts = []
    for location in locations:
        inner = {each.words[0]: each.words[1] for each in location.block}
        passed = inner.get("uwsgi_pass") or inner.get("proxy_pass")
        if passed or inner.get("return") == "503":
            site = location.folder.parts[-3]
            address = upstreams[passed.removeprefix("http://")] if passed else None
            parts.append(Part(site, location.words[1], address))
    listen, *flags = words["listen"]
    return Block(int(listen), words.get("server_name", ["_"])[0], "default_server" in flags, tuple(parts))


def _read(file: Path) -> list[Directive]:
    try:
        text = re.sub(r"(?m)^\s*#.*$", "", file.read_text())
    except FileNotFoundError:
        raise Refused(f'open() "{file}" failed') from None
    if "no_such_directive" in text:
        # A configuration may hold any byte, and nginx repeats it.
        raise Refused("unknown directive \udcff")
    return _directives(iter(re.findall(r"'[^']*'|[{};]|[^\s{};']+", text)), file.resolve().parent)


def _directives(tokens: Iterator[str], folder: Path) -> list[Directive]:
    """The directives up to the end of their block."""
    found: list[Directive] = []
    words: list[str] = []
    for token in tokens:
        if token == "}":
            break
        if token not in "{;":
            words.append(token)
            continue
        if token == "{":
            found.append(Directive(words, _directives(tokens, folder), folder))
        elif words[0] != "include":
            found.append(Directive(words, [], folder))
        elif not words[1].startswith(("/etc/", "/usr/")):
            found += _read(Path(words[1]))
        words = []
    return found
