"""Placeholders of facts that only the running machine knows."""

import re
from typing import Any, Callable, Dict, List, TypeVar

T = TypeVar("T")
Filler = Callable[[str, Dict[str, str]], str]

# Facts of the running machine, written @@fact@@ in a config and filled in by the release tool.
FACTS = (
    "slot", "release", "release_dir", "slot_dir", "view_dir", "venv", "cpus", "workers", "somaxconn", "stats_port",
    "app_host", "app_port", "nginx_group", "half_memory", "quarter_memory", "address", "if_max_headers",
    "if_ssl_reject_handshake",
)  # fmt: skip
ADDRESS = "address"
APP_HOST = "app_host"
APP_PORT = "app_port"
VIEW_DIR = "view_dir"
STATS_PORT = "stats_port"
# Some nginx do not know every directive. Each of these facts begins a line with such a directive: fact → the directive.
NGINX_DIRECTIVES = {"if_max_headers": "max_headers 1;", "if_ssl_reject_handshake": "ssl_reject_handshake on;"}
_PLACEHOLDER = re.compile("@@([a-z_]+)@@")


def facts_in(text: str) -> List[str]:
    """Names of the facts that a text has placeholders of, sorted."""
    return sorted(set(_PLACEHOLDER.findall(text)))


class UnfilledError(ValueError):
    """A text names a fact that is not known. lines: the lines of the text with such a fact."""

    def __init__(self, lines: List[str]) -> None:
        super().__init__("no fact fills {}".format(lines[0][lines[0].index("@@") :].strip()))
        self.lines = lines


def fill(text: str, facts: Dict[str, str]) -> str:
    """Replace every @@fact@@ of a text. Raises UnfilledError if a placeholder is left."""
    filled = fill_known(text, facts)
    if "@@" in filled:
        raise UnfilledError([line for line in filled.splitlines() if "@@" in line])
    return filled


def fill_known(text: str, facts: Dict[str, str]) -> str:
    """Replace the placeholders of known facts in a text, and leave all other placeholders."""
    return _PLACEHOLDER.sub(lambda match: facts.get(match.group(1), match.group(0)), text)


def filled(value: T, facts: Dict[str, str], filler: Filler = fill) -> T:
    """A document, or a part of one, with facts in place of the placeholders in its texts."""
    return _filled(value, facts, filler)  # type: ignore[no-any-return]


def _filled(value: Any, facts: Dict[str, str], filler: Filler) -> Any:
    if isinstance(value, str):
        return filler(value, facts)
    if hasattr(value, "_fields"):
        return type(value)(*[_filled(part, facts, filler) for part in value])
    if isinstance(value, dict):
        return {key: _filled(part, facts, filler) for key, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [_filled(part, facts, filler) for part in value]
    return value
