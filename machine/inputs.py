"""What the release tool reads on standard input: its parts, and what each of them must be.

Python 3.6, standard library only.
"""

import json
import re
from typing import IO, Any, Callable, Dict, Optional

from commands import ReleaseError

# Secret files have plain names; the other files of a slot have a dot in theirs.
_FILE_NAME = re.compile(r"[a-z]+\Z")


def _are_texts(found: Any) -> bool:
    return all(isinstance(value, str) for value in found.values())


def _are_certificates(found: Any) -> bool:
    names = ["certificate", "private_key"]
    return all(sorted(pair) == names and _are_texts(pair) for pair in found.values())


def _are_files(found: Any) -> bool:
    return _are_texts(found) and all(map(_FILE_NAME.match, found))


def _is_address(found: Any) -> bool:
    return isinstance(found, str) and re.match(r"[0-9.]+\Z", found) is not None


def _is_name(found: Any) -> bool:
    return isinstance(found, str) and re.match(r"[A-Za-z0-9.-]+\Z", found) is not None


def _is_certificate(found: Any) -> bool:
    return isinstance(found, str) and re.match(r"[A-Za-z0-9+/=,]+\Z", found) is not None


def _is_id(found: Any) -> bool:
    return isinstance(found, str) and re.match(r"[0-9a-f]+\Z", found) is not None


def _is_count(found: Any) -> bool:
    return isinstance(found, int) and found > 0


def _is_prepare(found: Any) -> bool:
    return _are_parts("prepare", found)


def _is_apply(found: Any) -> bool:
    return all(_are_parts("apply", parts) for parts in found.values())


def _are_ids(found: Any) -> bool:
    return all(map(_is_id, found.values()))


def _are_parts(verb: str, parts: Any) -> bool:
    checks = INPUTS[verb]
    is_whole = set(checks) - _OPTIONAL <= set(parts) <= set(checks)
    return is_whole and all(checks[name](part) for name, part in parts.items())


# Parts of standard input that may be absent.
_OPTIONAL = {"address", "authority", "database", "origin", "pin", "pip", "redis", "store"}
_SITE_INPUTS: Dict[str, Callable[[Any], bool]] = {
    "env": _are_texts,
    "files": _are_files,
    "pip": _are_texts,
    "address": _is_address,
    "origin": _are_texts,
    "pin": _is_id,
}
# Parts of standard input → whether each is what it must be.
INPUTS: Dict[str, Dict[str, Callable[[Any], bool]]] = {
    "apply": _SITE_INPUTS,
    "follow": _SITE_INPUTS,
    "prepare": {
        "hosts": _are_texts,
        "tls": _are_certificates,
        "authority": _is_certificate,
        "database": _are_texts,
        "store": _is_name,
    },
    "database": {"database": _are_texts},
    "redis": {"redis": _are_texts},
    "settle": {"database": _are_texts, "redis": _are_texts},
    # components/rollout.py sends it to the release host of a scaling group.
    "roll": {
        "prepare": _is_prepare,
        "apply": _is_apply,
        "archives": _are_ids,
        "version": _is_id,
        "at_once": _is_count,
    },
}


def read(stream: IO[bytes], verb: str) -> Optional[Dict[str, Any]]:
    """The parts of standard input, None when nothing is there. Raises ReleaseError."""
    text = stream.read().decode("utf-8", "surrogateescape")
    if not text.strip():
        return None
    try:
        parts = json.loads(text)
        if _are_parts(verb, parts):
            return dict(parts)
    except (ValueError, TypeError, AttributeError):
        pass
    # The message repeats nothing of the text, because it holds secrets.
    raise ReleaseError("standard input is not JSON as {{{}}}".format(", ".join(sorted(INPUTS[verb]))))
