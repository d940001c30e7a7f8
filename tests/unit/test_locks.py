"""Lock files of each tool → what pip is given: pins, markers and hashes, and nothing for development."""

import json
from pathlib import Path

import pytest

from schema.base import SettingsError
from settings import dependencies, server_python
from settings.files import check
from settings.loader import parse
from settings.locks import Dependencies

FILE = "stacks/Pulumi.test.yaml"
HASH = "sha256:" + "a" * 64
PINNED = f"flask==3.1.3 \\\n    --hash={HASH}\ntomli==2.0 ; python_version < '3.11' \\\n    --hash={HASH}\n"
VIRTUAL = '[project]\nname = "shop"\nversion = "1"\ndependencies = ["flask"]\n'
PACKAGE = VIRTUAL + '[build-system]\nrequires = ["setuptools"]\n'
UV = f"""
version = 1
[[package]]
name = "shop"
version = "1"
source = {{ virtual = "." }}
dependencies = [{{ name = "flask", extra = ["old"] }}]
[package.dev-dependencies]
dev = [{{ name = "pytest" }}]
[[package]]
name = "flask"
version = "3.1.3"
source = {{ registry = "https://index.example.com/simple" }}
sdist = {{ url = "https://files.example.com/f.tar.gz", hash = "{HASH}" }}
[package.optional-dependencies]
old = [{{ name = "tomli", marker = "python_version < '3.11'" }}]
[[package]]
name = "tomli"
version = "2.0"
source = {{ registry = "https://index.example.com/simple" }}
dependencies = [{{ name = "flask" }}]
wheels = [{{ url = "https://files.example.com/t.whl", hash = "{HASH}" }}]
[[package]]
name = "pytest"
version = "8.0"
source = {{ registry = "https://index.example.com/simple" }}
"""
POETRY = f"""
[[package]]
name = "flask"
version = "3.1.3"
groups = ["main", "dev"]
files = [{{ file = "f.whl", hash = "{HASH}" }}]
[[package]]
name = "tomli"
version = "2.0"
groups = ["main"]
markers = "python_version < '3.11'"
files = [{{ file = "t.whl", hash = "{HASH}" }}]
[[package]]
name = "pytest"
version = "8.0"
groups = ["dev"]
files = []
[metadata]
lock-version = "2.1"
"""
PDM = (
    POETRY.replace('"main"', '"default"')
    .replace("markers =", "marker =")
    .replace('lock-version = "2.1"', 'strategy = ["inherit_metadata"]')
)
PYLOCK = f"""
lock-version = "1.0"
[[packages]]
name = "flask"
version = "3.1.3"
sdist = {{ url = "https://files.example.com/f.tar.gz", hashes = {{ sha256 = "{"a" * 64}" }} }}
[[packages]]
name = "tomli"
version = "2.0"
marker = "python_version < '3.11'"
wheels = [{{ url = "https://files.example.com/t.whl", hashes = {{ sha256 = "{"a" * 64}" }} }}]
[[packages]]
name = "pytest"
version = "8.0"
marker = "'dev' in dependency_groups"
wheels = [{{ url = "https://files.example.com/p.whl", hashes = {{ sha256 = "{"a" * 64}" }} }}]
"""
PIPENV = json.dumps(
    {
        "default": {
            "flask": {"version": "==3.1.3", "hashes": [HASH]},
            "tomli": {"version": "==2.0", "markers": "python_version < '3.11'", "hashes": [HASH]},
        },
        "develop": {"pytest": {"version": "==8.0"}},
    }
)
LOCKS = {"uv.lock": UV, "poetry.lock": POETRY, "pdm.lock": PDM, "pylock.toml": PYLOCK, "Pipfile.lock": PIPENV}


def resolved(folder: Path, files: dict[str, str], **app: str) -> tuple[str, str | None, bool, list[str]]:
    """What app.requirements is then, the requirements in its place, whether the project comes too, and the notes."""
    source = folder / "app"
    source.mkdir(exist_ok=True)
    for name, text in {"app.py": "", **files}.items():
        (source / name).write_text(text)
    stack, notes = dependencies.resolve(parse({"app": app}, FILE), folder, FILE)
    check(stack, folder, FILE)
    # It reads requirements files, and leaves lock files alone.
    assert server_python.check(stack, "debian12", folder, FILE) == []
    own = stack.dependencies.get("app")
    return stack.sites[0].app.requirements, own.text if own else None, bool(own and own.has_project), notes


@pytest.mark.parametrize("name", LOCKS)
def test_a_lock_file_pins_what_the_application_needs(name: str, tmp_path: Path) -> None:
    found, text, has_project, notes = resolved(tmp_path, {name: LOCKS[name], "pyproject.toml": VIRTUAL})
    assert (found, has_project) == (name, False)
    assert text is not None
    assert text.replace("(python_version < '3.11')", "python_version < '3.11'") == PINNED
    assert notes == [f"app.requirements: the dependencies of ./app come from {name} (2 packages)"]


def test_a_project_with_a_build_system_is_installed_after_its_lock(tmp_path: Path) -> None:
    assert resolved(tmp_path, {"uv.lock": UV, "pyproject.toml": PACKAGE})[2]
    off = PACKAGE + "[tool.poetry]\npackage-mode = false\n"
    assert not resolved(tmp_path, {"uv.lock": UV, "pyproject.toml": off})[2]


def test_what_comes_first(tmp_path: Path) -> None:
    files = {"pyproject.toml": PACKAGE}
    assert resolved(tmp_path, files)[:2] == ("pyproject.toml", ".\n")
    assert resolved(tmp_path, {"pyproject.toml": VIRTUAL})[:2] == ("pyproject.toml", "flask\n")
    assert resolved(tmp_path, {"Pipfile.lock": PIPENV})[0] == "Pipfile.lock"
    assert resolved(tmp_path, {"uv.lock": UV})[0] == "uv.lock"
    assert resolved(tmp_path, {}, requirements="Pipfile.lock")[0] == "Pipfile.lock"
    assert resolved(tmp_path, {"requirements.txt": "flask\n"}) == ("requirements.txt", None, False, [])


def test_what_comes_from_git_has_no_hash_and_neither_have_the_others(tmp_path: Path) -> None:
    git = '[[package]]\nname = "lib"\nversion = "1"\nsource = { git = "https://git.example.com/lib?rev=v1#abc" }\n'
    lock = UV.replace('{ name = "flask", extra = ["old"] }', '{ name = "flask" }, { name = "lib" }') + git
    text = resolved(tmp_path, {"uv.lock": lock, "pyproject.toml": VIRTUAL})[1]
    assert text == "flask==3.1.3\nlib @ git+https://git.example.com/lib@abc\n"


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        (
            "poetry.lock",
            POETRY.replace("groups", "gone"),
            "its format 2.1 does not say what is for development; run",
        ),
        (
            "pdm.lock",
            PDM.replace("inherit_metadata", "x"),
            "without the strategy inherit_metadata; run pdm export",
        ),
        ("uv.lock", "version = 1\n", "it cannot be read (KeyError); allowed: requirements.txt, or pylock.toml"),
        ("Pipfile.lock", "{", "it cannot be read (JSONDecodeError)"),
    ],
)
def test_a_lock_file_that_cannot_be_read_says_what_to_run(
    name: str, text: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(SettingsError) as error:
        resolved(tmp_path, {name: text, "pyproject.toml": VIRTUAL})
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_a_tool_that_is_installed_exports_its_own_lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tool = tmp_path / "poetry"
    tool.write_text('#!/bin/sh\necho "$*"\n')
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    monkeypatch.setattr("settings.files.read", lambda *_: Dependencies("poetry.lock", "", False))
    text = resolved(tmp_path, {"poetry.lock": POETRY.replace("groups", "gone"), "pyproject.toml": VIRTUAL})[1]
    assert text == "export --only=main\n"


@pytest.mark.parametrize(
    ("script", "message"),
    [
        ("#!/bin/sh\nexec sleep 5\n", "poetry export --only=main takes longer than 0.2 seconds; run poetry export"),
        ("#!/nowhere/python\n", "poetry export --only=main cannot start: No such file or directory; run poetry export"),
        ("#!/bin/sh\nprintf '\\377'\n", "poetry export --only=main prints what is not UTF-8; run poetry export"),
        ("#!/bin/sh\necho no plugin >&2; exit 1\n", "poetry export --only=main fails: no plugin"),
    ],
)
def test_a_tool_that_does_not_export_is_one_line(
    script: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tool = tmp_path / "poetry"
    tool.write_text(script)
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    monkeypatch.setattr("settings.locks._SECONDS", 0.2 if "sleep" in script else 60)
    with pytest.raises(SettingsError) as error:
        resolved(tmp_path, {"poetry.lock": POETRY.replace("groups", "gone"), "pyproject.toml": VIRTUAL})
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def layers(number: int, first: str) -> str:
    """A uv.lock in which each layer needs the next one in two ways. first: marker of one, "" for none."""
    source = 'source = { registry = "https://index.example.com/simple" }'
    rows = ['[[package]]\nname = "shop"\nversion = "1"\nsource = { virtual = "." }\ndependencies = [{ name = "p0" }]\n']
    for layer in range(number):
        marker = f', marker = "{first.format(layer)}"' if first else ""
        below = f'{{ name = "p{layer + 1}"{marker} }}, {{ name = "q{layer}", marker = "sys_platform == \'m{layer}\'" }}'
        rows += [f'[[package]]\nname = "p{layer}"\nversion = "1"\n{source}\ndependencies = [{below}]\n']
        rows += [
            f'[[package]]\nname = "q{layer}"\nversion = "1"\n{source}\ndependencies = [{{ name = "p{layer + 1}" }}]\n'
        ]
    return "version = 1\n" + "".join(rows) + f'[[package]]\nname = "p{number}"\nversion = "1"\n{source}\n'


def test_what_is_needed_without_a_marker_needs_no_other(tmp_path: Path) -> None:
    text = resolved(tmp_path, {"uv.lock": layers(40, ""), "pyproject.toml": VIRTUAL})[1]
    assert text is not None
    found = dict(line.split("==1", 1) for line in text.splitlines())
    assert len(found) == 81
    assert {found[f"p{layer}"] for layer in range(41)} == {""}
    assert found["q7"] == " ; (sys_platform == 'm7')"


def test_too_many_combinations_of_markers_are_left_to_uv(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(SettingsError, match="under too many combinations of markers; run uv export") as error:
        resolved(tmp_path, {"uv.lock": layers(40, "os_name == 'n{}'"), "pyproject.toml": VIRTUAL})
    assert "\n" not in str(error.value)
