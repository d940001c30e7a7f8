"""The list of what a virtual environment holds (SBOM), as CycloneDX 1.6 in JSON: https://cyclonedx.org/docs/1.6/json/

It names the packages of Python with their versions, licenses and what requires what. The OS's packages are not in it.

Python 3.6, standard library only.
"""

import email.parser
import glob
import json
import os
import re
import stat
import time
import uuid
from email.message import Message
from typing import Any, Dict, List, Optional
from urllib.parse import quote

# A file of metadata may have the whole description of a project, which nothing here needs.
_BYTES = 1 << 20
_NAME = re.compile(r"^[A-Za-z0-9][A-Za-z0-9._-]*")
_EXTRA = re.compile(r"\bextra\s*==")


def text(venv: str, python: str) -> str:
    """Return the SBOM of a virtual environment. python: what its `sys.version` says."""
    found = {}  # type: Dict[str, Message]
    for folder in sorted(glob.glob(os.path.join(glob.escape(venv), "lib/python3*/site-packages/*-info"))):
        metadata = _metadata(folder, os.stat(venv).st_uid)
        if metadata is not None and metadata["Name"] and metadata["Version"]:
            found[_plain(metadata["Name"])] = metadata
    references = {name: _purl(name, metadata["Version"]) for name, metadata in found.items()}
    components = [_component(references[name], found[name]) for name in sorted(found)]
    name = os.path.basename(venv)
    serial = uuid.uuid5(uuid.NAMESPACE_URL, " ".join([name] + sorted(references.values())))
    document = {
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": "urn:uuid:{}".format(serial),
        "version": 1,
        "metadata": {
            "timestamp": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            "component": {"type": "application", "bom-ref": "environment", "name": name},
            "properties": [{"name": "wsgi-ecs:python", "value": python}],
        },
        "components": components,
        "dependencies": [
            {"ref": "environment", "dependsOn": sorted(references.values())},
            *({"ref": references[name], "dependsOn": _required(found[name], references)} for name in sorted(found)),
        ],
    }
    return json.dumps(document, indent=1, sort_keys=True) + "\n"


def _metadata(folder: str, owner: int) -> Optional[Message]:
    """What a distribution says of itself, None for one that says nothing.

    owner: user id of what pip has written. A link of theirs must not lead root to a file that they cannot read.
    """
    for name in ("METADATA", "PKG-INFO"):
        try:
            with open(os.path.join(folder, name), "rb") as file:
                status = os.fstat(file.fileno())
                if not stat.S_ISREG(status.st_mode) or status.st_uid != owner:
                    continue
                data = file.read(_BYTES)
        except OSError:
            continue
        return email.parser.HeaderParser().parsestr(data.decode("utf-8", "replace"))
    return None


def _component(reference: str, metadata: Message) -> Dict[str, Any]:
    """One package of Python."""
    found = {
        "type": "library",
        "bom-ref": reference,
        "name": metadata["Name"],
        "version": metadata["Version"],
        "purl": reference,
    }  # type: Dict[str, Any]
    licenses = _licenses(metadata)
    if licenses:
        found["licenses"] = licenses
    return found


def _licenses(metadata: Message) -> List[Dict[str, Any]]:
    """Licenses in the package's own words. https://packaging.python.org/en/latest/specifications/core-metadata/"""
    expression = metadata["License-Expression"]
    if expression:
        return [{"expression": expression}]
    classifiers = metadata.get_all("Classifier") or []
    names = [line.rpartition(" :: ")[2] for line in classifiers if line.startswith("License :: ")]
    # Some packages have the whole text of the license in this field.
    first = (metadata["License"] or "").strip().splitlines()[:1]
    names = names or [line for line in first if line and line != "UNKNOWN"]
    return [{"license": {"name": name}} for name in dict.fromkeys(names)]


def _required(metadata: Message, references: Dict[str, str]) -> List[str]:
    """References of the installed packages that a package requires, those of its extras aside."""
    names = set()
    for line in metadata.get_all("Requires-Dist") or []:
        name = _NAME.match(line.strip())
        if name and not _EXTRA.search(line) and _plain(name.group()) in references:
            names.add(references[_plain(name.group())])
    return sorted(names)


def _purl(name: str, version: str) -> str:
    """https://github.com/package-url/purl-spec"""
    return "pkg:pypi/{}@{}".format(name, quote(version, safe=""))


def _plain(name: str) -> str:
    """A name as https://packaging.python.org/en/latest/specifications/name-normalization/ has it."""
    return re.sub("[-_.]+", "-", name).lower()
