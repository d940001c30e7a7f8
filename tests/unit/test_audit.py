"""`make lint` asks the advisory database, and is never red because the database cannot be reached."""

import subprocess
from pathlib import Path

import pytest

from tests.builders.stack import PROJECT

# What pip-audit does, at its end: prints, writes its report, ends with a status.
OUTCOMES = {
    "nothing": ("", '{"dependencies": []}', 0),
    "a vulnerability": (
        "Found 1 known vulnerability in 1 package",
        '{"dependencies": [{"name": "old", "version": "1.0", "vulns": [{"id": "PYSEC-1", "fix_versions": ["1.1"]}]}]}',
        1,
    ),
    "no network": ("requests.exceptions.ConnectionError: HTTPSConnectionPool(host='db.example'): no route", "", 1),
    "a wrong file": ("ERROR:pip_audit._cli:requirement x is not pinned", "", 1),
}


def audit(outcome: str, folder: Path) -> "subprocess.CompletedProcess[str]":
    printed, report, status = OUTCOMES[outcome]
    (folder / "report").write_text(report)
    program = folder / "pip-audit"
    program.write_text(
        f"""#!/bin/sh
echo "{printed}" >&2
while [ "$1" != --output ]; do shift; done
[ ! -s {folder}/report ] || cp {folder}/report "$2"
exit {status}
"""
    )
    program.chmod(0o755)
    return subprocess.run([PROJECT / ".ci/audit", program], capture_output=True, text=True, timeout=60)


def test_no_vulnerability_is_silent(tmp_path: Path) -> None:
    done = audit("nothing", tmp_path)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_vulnerability_is_named_and_fails(tmp_path: Path) -> None:
    done = audit("a vulnerability", tmp_path)
    assert done.returncode == 1
    assert (
        "audit: requirements.txt has packages with known vulnerabilities; raise them in requirements.in" in done.stderr
    )
    assert "  old 1.0: PYSEC-1, fixed in 1.1\n" in done.stderr


def test_a_database_that_cannot_be_reached_is_one_line_and_no_failure(tmp_path: Path) -> None:
    done = audit("no network", tmp_path)
    assert done.returncode == 0
    assert done.stderr == "audit: the advisory database cannot be reached, so the pinned packages were not checked\n"


@pytest.mark.parametrize("file", ["requirements.txt", "requirements-dev.txt", "policy/requirements.txt"])
def test_a_file_that_cannot_be_read_fails(file: str, tmp_path: Path) -> None:
    done = audit("a wrong file", tmp_path)
    assert done.returncode == 1
    assert f"audit: pip-audit cannot read {file}: ERROR:pip_audit._cli:requirement x is not pinned\n" in done.stderr
