"""What a user may say, and the one line that anything else gets."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from reference.rows import model_of
from reference.samples import PUBLIC_KEY
from rehearsal.commands import stack_file as stacks
from rehearsal.commands.passphrase import VARIABLE
from schema.base import Model
from settings import SettingsError, data
from settings.files import check
from settings.loader import parse
from settings.stack import Document
from tests.builders.encrypted import PASSPHRASE
from tests.builders.stack import PROJECT

FILE = "stacks/Pulumi.dev.yaml"


def refusal(config: Any) -> str:
    with pytest.raises(SettingsError) as error:
        parse(config, FILE)
    line = str(error.value)
    assert "\n" not in line
    assert line.startswith(f"{FILE}: ")
    return line.removeprefix(f"{FILE}: ")


def test_every_setting_has_a_default_and_a_description() -> None:
    assert Document() == Document.model_validate({})
    *models, sites = Document.model_fields.values()
    assert sites.description
    for model in (model_of(field.annotation) for field in models):
        assert model is not None
        assert issubclass(model, Model)
        for name, field in model.model_fields.items():
            assert field.description, f"{model.__name__}.{name}"


def test_numbers_and_booleans_given_as_text_are_taken() -> None:
    settings = parse({"uwsgi": {"processes": "4"}, "server": {"protect": "true"}, "nginx": {"listen": "8080"}}, FILE)
    assert (settings.sites[0].uwsgi.processes, settings.server.protect, settings.nginx.listen) == (4, True, 8080)


def test_an_environment_takes_numbers_and_booleans_as_text() -> None:
    env = parse({"app": {"env": {"PORT": 8080, "DEBUG": True, "RATIO": 0.5}}}, FILE).sites[0].app.env
    assert {name: value.get_secret_value() for name, value in env.items()} == {
        "PORT": "8080",
        "DEBUG": "true",
        "RATIO": "0.5",
    }


def test_a_single_cidr_is_a_list_of_one() -> None:
    assert parse({"access": {"ssh": "203.0.113.0/24"}}, FILE).access.ssh == ("203.0.113.0/24",)


def test_the_comment_of_a_public_key_goes_no_further() -> None:
    assert parse({"access": {"public_key": f"{PUBLIC_KEY} me@laptop\n"}}, FILE).access.public_key == PUBLIC_KEY


GUNICORN = {"app_server": "gunicorn"}
EMPEROR = {"process_manager": "emperor"}
SYSTEMD = {"process_manager": "systemd"}
DIRECT = {"front": "none"}


def loose(config: dict[str, Any]) -> dict[str, Any]:
    """The parts of a stack's file, each checked by itself, without the rules over all of them."""
    parts = {name: field.annotation for name, field in Document.model_fields.items() if name != "sites"}
    return {name: part.model_validate(config.get(name, {})) for name, part in parts.items()} | {"sites": {}}  # type: ignore[union-attr]


@pytest.mark.parametrize(
    "config",
    [
        {"serving": {**GUNICORN, **SYSTEMD}, "gunicorn": {"worker_class": "gthread", "threads": 4}},
        {"serving": GUNICORN, "gunicorn": {"bind": "127.0.0.1:9191"}},
        {"serving": {**GUNICORN, **DIRECT}, "gunicorn": {"bind": "0.0.0.0:8000"}},
        {"serving": {**EMPEROR, **DIRECT}, "uwsgi": {"http": "0.0.0.0:8080"}, "systemd": {"timeout_stop_sec": 5}},
        {"serving": SYSTEMD, "uwsgi": {"daemonize": True, "pidfile": True}},
        {"serving": EMPEROR, "app": {"wsgi_file": "site.wsgi", "callable": "application"}},
        {"uwsgi": {"config": "command_line", "socket": "127.0.0.1:8080", "pythonpath": ["lib"], "listen": 1024}},
        {"uwsgi": {"chmod_socket": "600"}, "nginx": {"user": "wsgi-app"}},
        {"uwsgi": {"chmod_socket": "600", "uid": "www"}, "nginx": {"user": "www"}},
        {"uwsgi": {"dynamic": True, "socket": "unix"}},
        {"uwsgi": {"cheaper": 1, "processes": 2, "thunder_lock": True}},
        # On other machines than nginx.
        {
            "topology": {"app_servers": 1},
            "serving": GUNICORN,
            "gunicorn": {"bind": "0.0.0.0:8000"},
            "nginx": {"listen": 8000},
        },
        {"topology": {"app_servers": 1}, "nginx": {"listen": 9200}},
        {"access": {"http": "203.0.113.0/24"}, "nginx": {"allow": ["203.0.113.7/32", "127.0.0.0/8"]}},
        {"access": {"http": "203.0.113.0/24"}, "nginx": {"allow": ["203.0.112.0/20"], "deny": ["203.0.113.7/32"]}},
        {
            "access": {"http": "100.64.0.0/10"},
            "nginx": {"set_real_ip_from": "100.64.0.0/10", "allow": "203.0.113.0/24", "deny": "100.64.0.0/10"},
        },
    ],
)
def test_what_makes_sense_together_is_taken(config: dict[str, Any]) -> None:
    parse(config, FILE)


SHOP, BLOG = {"site": {"server_name": "shop.example.com"}}, {"site": {"location": "/blog/"}}


def test_a_site_has_the_shared_settings_with_its_own_before_them() -> None:
    config = {
        "app": {"env": {"A": "shared", "B": "shared"}, "exclude": ["*.log"]},
        "uwsgi": {"processes": 2, "threads": 2},
        "nginx": {"static": {"/static/": "static"}},
        "sites": {
            "shop": {
                **SHOP,
                "app": {"env": {"B": "its own"}, "exclude": ["notes"]},
                "uwsgi": {"threads": 4},
                "nginx": {"static": {"/media/": "media"}},
            },
            "blog": {**BLOG, "serving": GUNICORN, "app": {"module": "blog"}},
        },
    }
    # What is set for uWSGI is nothing for a site with gunicorn.
    assert refusal(config).startswith("sites.blog.uwsgi: set, but serving.app_server is gunicorn; ")
    del config["sites"]["blog"]["serving"]  # type: ignore[index]
    shop, blog = parse(config, FILE).sites
    assert (shop.site.name, blog.site.name) == ("shop", "blog")
    assert {name: value.get_secret_value() for name, value in shop.app.env.items()} == {"A": "shared", "B": "its own"}
    assert set(blog.app.env) == {"A", "B"}
    assert (shop.app.exclude, blog.app.exclude) == (("notes",), ("*.log",))
    assert (shop.uwsgi.processes, shop.uwsgi.threads, blog.uwsgi.threads) == (2, 4, 2)
    assert shop.nginx.static == {"/static/": "static", "/media/": "media"}
    assert (shop.app.module, blog.app.module) == ("app", "blog")
    assert [site.site.name for site in parse({}, FILE).sites] == ["app"]


@pytest.mark.parametrize("stack", sorted((PROJECT / "stacks").glob("*.yaml")), ids=lambda path: path.stem)
def test_every_stack_of_the_project_is_taken(stack: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # That of the samples; a stack of one's own has another.
    monkeypatch.setenv(VARIABLE, PASSPHRASE)
    config = stacks.load(PROJECT, stack.stem.removeprefix("Pulumi.")).config
    settings = parse({k.partition(":")[2]: json.loads(v) for k, v in config.items() if "wsgi-ecs:" in k}, FILE)
    check(settings, PROJECT, FILE)


@pytest.mark.parametrize(
    "key", ["ssh-rsa", "AAAA", f"{PUBLIC_KEY}\nssh-rsa AAAA", "ssh-ed25519 !!!!", "ssh-rsa " + PUBLIC_KEY.split()[1]]
)
def test_a_public_key_that_is_none_is_refused(key: str) -> None:
    line = refusal({"access": {"public_key": key}})
    assert line.startswith("access.public_key: ")
    assert "allowed: one line of a public key" in line


@pytest.mark.parametrize("name", ["a b.com", 'a".com', "a;b", "a{b}", "a\nb", "a'b", "-a.com", "a..b", "$host", ""])
def test_a_domain_cannot_break_out_of_its_place(name: str) -> None:
    shown = f"got {name}; " if name.isprintable() and name else ""
    assert refusal({"site": {"server_name": name}}).startswith(f"site.server_name: {shown}allowed: a domain")


def test_a_wrong_secret_is_not_printed() -> None:
    assert "hunter2" not in refusal({"app": {"env": {"A": ["hunter2"]}}})
    assert "hunter2" not in refusal({"app": {"env": {"A": "hunter2\0"}}})


def in_folder(tmp_path: Path, files: dict[str, str], **app: Any) -> str:
    """What check says of an application with these files; nothing when it is taken."""
    for name, text in {"requirements.txt": "", **files}.items():
        (tmp_path / "app" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "app" / name).write_text(text)
    uwsgi = {"pythonpath": app.pop("pythonpath", [])}
    try:
        check(parse({"app": app, "uwsgi": uwsgi}, FILE), tmp_path, FILE)
    except SettingsError as error:
        return str(error).removeprefix(f"{FILE}: ")
    return ""


@pytest.mark.parametrize("call", ["app.run()", 'application.run("0.0.0.0")'])
def test_an_application_that_serves_itself_when_it_is_imported_is_refused(tmp_path: Path, call: str) -> None:
    line = in_folder(tmp_path, {"app.py": f"from flask import Flask\n\n{call}\n"})
    assert line == (
        "app.module: app.py line 3 starts Flask's own server when it is imported; "
        'allowed: that call under if __name__ == "__main__"'
    )
    line = in_folder(tmp_path, {"site.wsgi": call}, wsgi_file="site.wsgi")
    assert line.startswith("app.wsgi_file: site.wsgi line 1 starts Flask's own server")


@pytest.mark.parametrize(
    "text",
    [
        'if __name__ == "__main__":\n    app.run()\n',
        "def main():\n    app.run()\n",
        "worker.run()\n",
        "# app.run()\n",
        "print 'for another Python'\n",
    ],
)
def test_an_application_that_serves_itself_by_hand_alone_is_taken(tmp_path: Path, text: str) -> None:
    assert in_folder(tmp_path, {"app.py": text}) == ""


def test_the_module_may_be_a_package_or_in_a_folder_of_pythonpath(tmp_path: Path) -> None:
    assert in_folder(tmp_path, {"lib/mysite/__init__.py": ""}, module="mysite", pythonpath=["lib"]) == ""
    assert in_folder(tmp_path, {"lib/mysite/wsgi.py": ""}, module="mysite.wsgi", pythonpath=["lib"]) == ""
    line = in_folder(tmp_path, {}, module="mysite")
    assert line == ("app.module: ./app has neither mysite.py nor mysite/__init__.py; allowed: a module in app.source")


def test_a_missing_wsgi_file(tmp_path: Path) -> None:
    assert in_folder(tmp_path, {"app.py": ""}, wsgi_file="site.wsgi") == (
        "app.wsgi_file: ./app has no site.wsgi; allowed: a file in app.source"
    )
    assert in_folder(tmp_path, {"site.wsgi": ""}, wsgi_file="site.wsgi") == ""


def test_missing_files_of_the_application(tmp_path: Path) -> None:
    def line() -> str:
        with pytest.raises(SettingsError) as error:
            check(parse({}, FILE), tmp_path, FILE)
        return str(error.value).removeprefix(f"{FILE}: ")

    assert line().startswith("app.source: ./app is no folder; allowed:")
    (tmp_path / "app").mkdir()
    assert line().startswith("app.module: ./app has neither app.py nor app/__init__.py; allowed:")
    (tmp_path / "app" / "app.py").touch()
    assert line().startswith("app.requirements: ./app has no requirements.txt; allowed:")
    (tmp_path / "app" / "requirements.txt").touch()
    check(parse({}, FILE), tmp_path, FILE)
    key = parse({"access": {"private_key_file": "nowhere"}}, FILE)
    with pytest.raises(SettingsError, match=r"access\.private_key_file: nowhere is no private key; allowed"):
        check(key, tmp_path, FILE)


def test_the_sample_application_is_where_the_defaults_say() -> None:
    check(parse({}, FILE), PROJECT, FILE)


def test_the_environments_have_the_same_keys_in_the_same_order() -> None:
    def keys(value: Any) -> Any:
        return {key: keys(inner) for key, inner in value.items()} if isinstance(value, dict) else None

    texts = [(PROJECT / f"stacks/Pulumi.{name}.yaml").read_text() for name in ("dev", "staging", "prod")]
    shapes = [json.dumps(keys(yaml.safe_load(text))) for text in texts]
    assert shapes == shapes[:1] * 3


@pytest.mark.parametrize(
    ("module", "meant"),
    [
        ("app.py", "app"),
        ("shop/web.py", "shop.web"),
        ("./shop/web", "shop.web"),
        ("shop.web:create_app", "shop.web, with app.callable: create_app"),
    ],
)
def test_a_modules_file_gets_the_name_that_is_meant(module: str, meant: str) -> None:
    line = refusal({"app": {"module": module}})
    assert line == f"app.module: got {module}, a module has its name in Python; allowed: {meant}"


@pytest.mark.parametrize(("name", "meant"), [("My_Site", "my-site"), ("-", "shop or blog-2"), ("Ä", "shop or blog-2")])
def test_a_sites_name_gets_the_one_that_is_meant(name: str, meant: str) -> None:
    allowed = f"allowed: lower-case letters, digits and -, 20 at most, such as {meant}"
    assert refusal({"sites": {name: {}}}) == f"sites.{name}: {allowed}"
    assert refusal({"site": {"name": name}}) == f"site.name: got {name}; {allowed}"


@pytest.mark.parametrize(
    "config",
    [
        {"app": {"env": "hunter2"}},
        {"app": {"env": {"A": ["hunter2"]}}},
        {"mysql": "hunter2"},
        {"mysql": {"password": ["hunter2"]}},
        {"mysql": {"pasword": "hunter2"}},
        {"tls": "hunter2"},
        {"sites": {"shop": {"tls": "hunter2"}}},
        {"sites": "hunter2"},
        {"nginx": {"auth_basic_users": {"ada": "hunter2"}}},
        {"app": {"module": "a\nhunter2"}},
        {"app": {"module": "hunter2 " * 10}},
    ],
)
def test_what_may_be_a_secret_is_not_repeated(config: dict[str, Any]) -> None:
    assert "hunter2" not in refusal(config)


def test_data_that_go_with_their_server_are_named_once() -> None:
    def note(config: dict[str, Any]) -> str | None:
        settings = parse(config, FILE)
        return data.note(settings.sites, settings.data_gib is not None, settings.server.protect)

    kept = {"app": {"persistent": ["instance"]}}
    assert note({}) is None
    assert (note(kept) or "").startswith("app.persistent: these data are on the server's own disk")
    assert "app.persistent and data.served: " in (note({**kept, "data": {"served": {"/media/": "media"}}}) or "")
    assert "app.persistent: " in (
        note({"sites": {"one": {}, "two": {**kept, "site": {"server_name": "two.test"}}}}) or ""
    )
    assert note({**kept, "data": {"disk_gib": 20}}) is None
    assert note({**kept, "server": {"protect": True}}) is None
