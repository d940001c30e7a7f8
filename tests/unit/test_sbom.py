"""The list of a virtual environment's packages (SBOM), as CycloneDX's own schema has it."""

import json
import sys
from pathlib import Path
from typing import Any

from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

from tests.unit.machine import module

sbom = module("sbom")


def distribution(venv: Path, name: str, version: str, *lines: str) -> Path:
    folder = venv / f"lib/python3.11/site-packages/{name}-{version}.dist-info"
    folder.mkdir(parents=True)
    text = "\n".join(("Metadata-Version: 2.1", f"Name: {name}", f"Version: {version}", *lines, "", "Its description"))
    (folder / "METADATA").write_text(text, encoding="utf-8")
    return folder


def document(venv: Path) -> dict[str, Any]:
    """The SBOM, which its schema takes."""
    text = sbom.text(str(venv), "3.11.2 (main)")
    problem = JsonStrictValidator(SchemaVersion.V1_6).validate_str(text)
    assert problem is None, problem
    return dict(json.loads(text))


def test_the_environment_of_these_tests_is_listed_as_the_schema_wants() -> None:
    found = {component["name"]: component for component in document(Path(sys.prefix))["components"]}
    assert found["pydantic"]["purl"].startswith("pkg:pypi/pydantic@2.")
    assert found["pydantic"]["licenses"]


def test_packages_have_their_versions_licenses_and_what_they_require(tmp_path: Path) -> None:
    distribution(tmp_path, "Flask", "3.1.0", "License-Expression: BSD-3-Clause", "Requires-Dist: Zope.Event>=1")
    distribution(tmp_path, "zope_event", "6.0+local.1", "Classifier: License :: OSI Approved :: Zope Public License")
    distribution(tmp_path, "old", "1", "License: MIT", "Requires-Dist: Flask ; extra == 'web'", "Requires-Dist: gone")
    distribution(tmp_path, "odd", "2", "License: UNKNOWN", "Summary: \u00e9\U0001f600")
    found = document(tmp_path)
    assert [(part["name"], part["version"], part.get("licenses")) for part in found["components"]] == [
        ("Flask", "3.1.0", [{"expression": "BSD-3-Clause"}]),
        ("odd", "2", None),
        ("old", "1", [{"license": {"name": "MIT"}}]),
        ("zope_event", "6.0+local.1", [{"license": {"name": "Zope Public License"}}]),
    ]
    event = "pkg:pypi/zope-event@6.0%2Blocal.1"
    requires = {row["ref"]: row["dependsOn"] for row in found["dependencies"]}
    assert requires.pop("environment") == sorted(requires)
    assert requires["pkg:pypi/flask@3.1.0"] == [event]
    # An extra that nobody asked for is no dependency.
    assert requires["pkg:pypi/old@1"] == []


def test_a_link_leads_root_to_no_file_of_another_user(tmp_path: Path, monkeypatch: Any) -> None:
    link = distribution(tmp_path, "sly", "1") / "METADATA"
    link.unlink()
    # A file of root's, where these tests have one of another owner than the environment.
    link.symlink_to("/etc/hostname" if tmp_path.stat().st_uid else "/proc/self/stat")
    distribution(tmp_path, "plain", "1")
    assert [component["name"] for component in document(tmp_path)["components"]] == ["plain"]
    secret = tmp_path / "secret"
    secret.write_text("Name: secret\nVersion: 1\n")
    link.unlink()
    link.symlink_to(secret)
    assert sbom._metadata(str(link.parent), tmp_path.stat().st_uid)["Name"] == "secret"
    # Whoever owns the environment does not own the file.
    assert sbom._metadata(str(link.parent), tmp_path.stat().st_uid + 1) is None


def test_the_same_packages_have_the_same_serial_number(tmp_path: Path) -> None:
    distribution(tmp_path, "Flask", "3.1.0")
    first = document(tmp_path)
    assert document(tmp_path)["serialNumber"] == first["serialNumber"]
    distribution(tmp_path, "click", "8")
    assert document(tmp_path)["serialNumber"] != first["serialNumber"]
