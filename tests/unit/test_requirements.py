"""Requirements as projects write them: encodings, projects of the application itself, modules that pip installs."""

import re
from pathlib import Path
from types import SimpleNamespace

import pytest

from schema.base import SettingsError
from settings.files import check, loaded
from settings.loader import parse
from tests.unit.machine import module

FILE = "stacks/Pulumi.test.yaml"
PROJECT = '[project]\nname = "little-shop"\nversion = "1.0"\n'
venvs = module("venvs")


def application(folder: Path, requirements: str | bytes, *files: str) -> Path:
    app = folder / "app"
    for name in files:
        (app / name).parent.mkdir(parents=True, exist_ok=True)
        (app / name).write_text(PROJECT if name.endswith(".toml") else "")
    app.mkdir(exist_ok=True)
    text = requirements if isinstance(requirements, bytes) else requirements.encode()
    (app / "requirements.txt").write_bytes(text)
    return folder


def checked(folder: Path, module: str = "app") -> tuple[str, ...]:
    """The files of app.module, none for a module that pip installs."""
    stack = parse({"app": {"module": module}}, FILE)
    check(stack, folder, FILE)
    return loaded(stack.sites[0], folder, FILE).get("app.module", ())


ENCODED = {
    "utf-16": "Flask==3.1.3\r\nWerkzeug==3.1.9\r\n".encode("utf-16"),
    "utf-16-be": b"\xfe\xff" + "Flask==3.1.3\r\n".encode("utf-16-be"),
    "utf-8-sig": "Flask==3.1.3\n".encode("utf-8-sig"),
    "coding comment": "# -*- coding: gbk -*-\nFlask==3.1.3  # 网站\n".encode("gbk"),
    "utf-8": "Flask==3.1.3  # 网站\n".encode(),
}


@pytest.mark.parametrize("name", ENCODED)
def test_an_encoding_that_pip_reads_is_read(name: str, tmp_path: Path) -> None:
    application(tmp_path, ENCODED[name], "app.py")
    assert checked(tmp_path) == ("app.py",)
    (text, *_) = venvs.requirement_texts(str(tmp_path / "app/requirements.txt"))
    assert "Flask==3.1.3" in text.splitlines()[name == "coding comment"]


@pytest.mark.parametrize("data", ["Flask  # 网站\n".encode("gbk"), b"# coding: no-such-thing\nFlask\n"])
def test_another_encoding_is_refused(data: bytes, tmp_path: Path) -> None:
    application(tmp_path, data, "app.py")
    with pytest.raises(SettingsError, match="not text in an encoding that pip reads; allowed: UTF-8"):
        checked(tmp_path)
    # The server leaves it to pip, which refuses it in its own words.
    assert "Flask" in venvs.requirement_texts(str(tmp_path / "app/requirements.txt"))[0]


@pytest.mark.parametrize("line", [".", "./", ".[web]", "-e .", "--editable=.", ". ; python_version > '3.6'"])
def test_a_project_that_requirements_install_has_its_module_in_src(line: str, tmp_path: Path) -> None:
    application(tmp_path, line + "\n", "pyproject.toml", "src/little_shop/web.py")
    assert checked(tmp_path, "little_shop.web") == ("src/little_shop/web.py",)


def test_a_module_may_come_from_what_pip_installs(tmp_path: Path) -> None:
    application(tmp_path, "django-little-shop==1.0\n")
    assert checked(tmp_path, "little_shop.wsgi") == ()
    with pytest.raises(SettingsError, match=r"app\.module: \./app has neither blog/web\.py nor"):
        checked(tmp_path, "blog.web")
    application(tmp_path, "-r base.txt\n")
    (tmp_path / "app/base.txt").write_text("git+https://git.example.com/blog.git\n")
    assert checked(tmp_path, "blog.web") == ()


def test_a_constraint_installs_nothing(tmp_path: Path) -> None:
    application(tmp_path, "-c pins.txt\n")
    (tmp_path / "app/pins.txt").write_text("blog==1.0\n")
    with pytest.raises(SettingsError, match=r"has neither blog/web\.py nor"):
        checked(tmp_path, "blog.web")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (
            ".",
            "requirements.txt line 1 names a folder that is no Python project; allowed: a folder with pyproject.toml",
        ),
        ("..", "requirements.txt line 1 names a folder outside app.source; allowed: a folder in it, such as ."),
    ],
)
def test_a_folder_that_pip_could_not_install_is_refused(line: str, message: str, tmp_path: Path) -> None:
    application(tmp_path, line, "app.py")
    with pytest.raises(SettingsError, match=re.escape(message)):
        checked(tmp_path)


def test_a_project_is_built_from_a_copy_and_no_link_leads_to_it(tmp_path: Path) -> None:
    """A build writes beside its sources, which in the release nobody may."""
    application(tmp_path, "-e .[web]\n-e git+https://git.example.com/a.git#egg=a\n-r more.txt\n", "pyproject.toml")
    more = tmp_path / "app/more.txt"
    more.write_bytes(b"# coding: gbk\n--editable=./lib  # " + "网站".encode("gbk") + b"\n")
    owned: list[str] = []
    builder = SimpleNamespace(user=SimpleNamespace(pw_dir=str(tmp_path)), take=owned.append)
    builder.end_leftovers = lambda: owned.append("ended")
    release = SimpleNamespace(requirements="requirements.txt", locked=None)
    with venvs._application(builder, str(tmp_path / "app"), True, release) as (copy, requirements):
        assert requirements == f"{copy}/requirements.txt"
        texts = venvs.requirement_texts(f"{copy}/requirements.txt")
        assert texts[0].splitlines()[:2] == [".[web]", "-e git+https://git.example.com/a.git#egg=a"]
        assert texts[1].splitlines()[1] == "./lib  # 网站"
        # Nobody exchanges the copy while root makes it, and it is the build user's as a whole.
        assert owned == ["ended", str(Path(copy).parent)]
    assert not Path(copy).exists()
    assert "--editable" in more.read_bytes().decode("gbk")
    with venvs._application(builder, str(tmp_path / "app"), False, release) as (same, _):
        assert same == str(tmp_path / "app")
