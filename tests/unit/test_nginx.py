"""What nginx is told of a site, read as nginx reads it; and what a user may not say."""

import re
from pathlib import Path
from typing import Any

import crossplane
import pytest

from reference.samples import HASH
from serving import make_plan, nginx
from settings import SettingsError, StackSettings
from settings.files import check
from settings.loader import parse
from settings.nginx import HEADERS
from tests.builders.stack import PROJECT
from tests.builders.structure import Tree, nested

FILE = "stacks/Pulumi.test.yaml"
AUTH = {"auth_basic": "Staff", "auth_basic_users": {"ada": HASH}}
PROTOCOLS: dict[str, dict[str, Any]] = {"uwsgi": {}, "http": {"serving": {"app_server": "gunicorn"}}}
EVERYTHING: dict[str, Any] = {
    "static_immutable": True,
    "error_page": {"404": "errors/404.html", "502": "errors/502.html"},
    "intercept_errors": True,
    "limit_req": {"rate": "5r/s"},
    "limit_conn": 9,
    "set_real_ip_from": ["100.64.0.0/10"],
    "allow": ["203.0.113.0/24"],
    "deny": ["203.0.113.7/32"],
    "add_header": {"X-Frame-Options": None, "X-Own": "yes"},
    "methods": ["GET", "POST"],
}


def tree(texts: dict[str, str], folder: Path) -> Tree:
    """The directives of a site's part as crossplane reads them: (name, arguments, block)."""
    (folder / "uwsgi_params").write_text("")
    file = folder / "nginx.conf"
    text = f"events {{}}\nhttp {{\n{texts['http.conf']}\nserver {{\n{texts['server.conf']}\n}}\n}}\n"
    file.write_text(text.replace("/etc/nginx/uwsgi_params", str(folder / "uwsgi_params")), encoding="utf-8")
    read = crossplane.parse(str(file), single=True, comments=False)
    assert read["status"] == "ok", read["errors"]
    return nested(read["config"][0]["parsed"])


def of(config: dict[str, Any]) -> StackSettings:
    return parse({"server": {"os": "debian12"}, **config}, FILE)


def texts(config: dict[str, Any]) -> dict[str, str]:
    (site,) = make_plan(of(config)).sites
    return {name: text for name, text in site.configs.items() if name in ("http.conf", "server.conf")}


def location(config: dict[str, Any], tmp_path: Path) -> Tree:
    http = next(block for name, _, block in tree(texts(config), tmp_path) if name == "http")
    server = next(block for name, _, block in http if name == "server")
    (found,) = (block for name, _, block in server if name == "location")
    return tuple(found)


def values(block: Tree, name: str) -> list[tuple[str, ...]]:
    return [arguments for other, arguments, _ in block if other == name]


def inner(block: Tree, *place: str) -> Tree:
    (found,) = (block for name, arguments, block in block if name == "location" and arguments == place)
    return tuple(found)


@pytest.mark.parametrize("kind", PROTOCOLS)
@pytest.mark.parametrize("more", [{}, AUTH, {"cache": {"bypass_header": "X-Fresh"}}], ids=["", "password", "cache"])
def test_everything_together_is_what_nginx_reads(kind: str, more: dict[str, Any], tmp_path: Path) -> None:
    found = location({**PROTOCOLS[kind], "nginx": {**EVERYTHING, **more}}, tmp_path)
    word = {"uwsgi": "uwsgi", "http": "proxy"}[kind]
    others = {"uwsgi": "proxy", "http": "uwsgi"}[kind]
    names = {name for name, *_ in found}
    assert {f"{word}_pass", f"{word}_buffering", f"{word}_intercept_errors"} <= names
    assert not [name for name in names if name.startswith(f"{others}_")]
    assert values(found, "allow") + values(found, "deny") == [("203.0.113.0/24",), ("203.0.113.7/32",), ("all",)]


def test_the_defaults_are_sound_and_nobody_is_kept_out(tmp_path: Path) -> None:
    found = location({}, tmp_path)
    assert [arguments[0] for arguments in values(found, "add_header")] == list(HEADERS)
    assert all(arguments[-1] == "always" for arguments in values(found, "add_header"))
    for name in ("allow", "deny", "auth_basic", "limit_req", "limit_conn", "set_real_ip_from", "uwsgi_cache"):
        assert not values(found, name), name
    assert [arguments for name, arguments, _ in found if name == "location"] == [("/static/",)]


@pytest.mark.parametrize(
    ("more", "added"),
    [
        ({}, 0),
        ({"site": {"server_name": "a.test"}, "tls": {"certificate": "x", "private_key": "y", "hsts": 60}}, 1),
    ],
    ids=["http", "https"],
)
def test_a_place_with_headers_of_its_own_has_the_sites_too(more: dict[str, Any], added: int, tmp_path: Path) -> None:
    """add_header takes the place of what stands further out, rather than adding to it."""
    config = {"nginx": {**EVERYTHING, **AUTH}, **more}

    def check(block: Tree, outer: list[tuple[str, ...]]) -> int:
        mine = values(block, "add_header")
        assert not mine or set(outer) <= set(mine)
        return len(mine) + sum(check(inside, mine or outer) for _, _, inside in block)

    assert check(location(config, tmp_path), []) == 3 + 4 + 4 + 4 + 4 * added


@pytest.mark.parametrize(
    ("nginx", "left_out"),
    [
        (AUTH, ("auth_basic", "$wsgi_realm_app")),
        ({"allow": "203.0.113.0/24"}, ("allow", "127.0.0.1")),
        ({"deny": "203.0.113.0/24"}, ("allow", "127.0.0.1")),
        ({"cache": {}}, ("uwsgi_cache", "off")),
    ],
)
def test_the_probe_of_a_release_gets_past_what_keeps_others_out(
    nginx: dict[str, Any], left_out: tuple[str, str], tmp_path: Path
) -> None:
    config = {"app": {"health": "/up?now=1"}, "site": {"location": "/blog/"}, "nginx": nginx}
    health = inner(location(config, tmp_path), "=", "/blog/up")
    assert left_out[1:] in values(health, left_out[0])
    if "allow" in left_out:
        assert health[0] == ("allow", ("127.0.0.1",), ())
        assert values(health, "deny")


def test_no_header_makes_a_client_the_machine_itself(tmp_path: Path) -> None:
    config = {"nginx": {"set_real_ip_from": "10.0.0.0/8", "allow": "203.0.113.0/24"}}
    health = inner(location(config, tmp_path), "=", "/healthz")
    assert values(health, "set_real_ip_from") == [("255.255.255.255",)]
    for text in (texts({"nginx": {**AUTH, "limit_conn": 1}})["http.conf"],):
        assert text.count("map $realip_remote_addr ") == text.count("127.0.0.1") == 2


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_believed_proxy_says_which_scheme_a_request_has(protocol: str, tmp_path: Path) -> None:
    config = {**PROTOCOLS[protocol], "nginx": {"set_real_ip_from": ["100.64.0.0/10", "10.0.0.1/32"], "cache": {}}}
    found = texts(config)
    assert "geo $realip_remote_addr $wsgi_believed_app {\n    default 0;\n    100.64.0.0/10 1;\n" in found["http.conf"]
    assert "    default $scheme;\n    1:http http;\n    1:https https;\n" in found["http.conf"]
    place = location(config, tmp_path)
    scheme = "$wsgi_scheme_app"
    if protocol == "http":
        assert ("X-Forwarded-Proto", scheme) in values(place, "proxy_set_header")
    else:
        names = ("HTTP_X_FORWARDED_PROTO", "REQUEST_SCHEME", "UWSGI_SCHEME")
        assert {(name, scheme) for name in names} <= set(values(place, "uwsgi_param"))
        assert ("HTTPS", "$wsgi_https_app", "if_not_empty") in values(place, "uwsgi_param")
    # An answer to HTTP, such as a redirect, is not kept for HTTPS.
    ((key,),) = values(place, f"{'uwsgi' if protocol == 'uwsgi' else 'proxy'}_cache_key")
    assert f" {scheme} " in key
    assert "$wsgi_scheme" not in str(texts({**PROTOCOLS[protocol], "nginx": {"cache": {}}}))


def test_an_error_page_is_there_for_those_who_are_kept_out(tmp_path: Path) -> None:
    config = {"nginx": {**AUTH, "allow": "203.0.113.0/24", "error_page": {"401": "no.html", "403": "no.html"}}}
    page = inner(location(config, tmp_path), "=", "/.error/no.html")
    assert {name for name, *_ in page} == {"internal", "alias", "allow", "auth_basic"}
    assert values(page, "auth_basic") == [("off",)]


@pytest.mark.parametrize(
    ("cache", "past"),
    [
        ({}, ("$http_authorization", "$http_cookie")),
        ({"bypass_cookies": ["session", "sid"]}, ("$http_authorization", "$cookie_session", "$cookie_sid")),
        ({"bypass_header": "X-Fresh"}, ("$http_authorization", "$http_cookie", "$http_x_fresh")),
    ],
)
def test_what_leads_past_the_cache_is_not_kept_either(
    cache: dict[str, Any], past: tuple[str, ...], tmp_path: Path
) -> None:
    found = location({"nginx": {"cache": cache}}, tmp_path)
    assert values(found, "uwsgi_cache_bypass") == values(found, "uwsgi_no_cache") == [past]


def test_zones_say_what_a_reload_may_not_change() -> None:
    text = texts({"nginx": {"limit_req": {}, "limit_conn": 1, "cache": {}}})["http.conf"]
    zones = re.findall(r"zone=(\S+):(\w+)", text)
    assert len(zones) == len({name for name, _ in zones}) == 3
    assert all(name.startswith(("wsgi-app-", "wsgi-app.")) and name.endswith(f"-{size}") for name, size in zones)


def test_what_sites_define_for_the_machine_has_their_names() -> None:
    nginx = {**EVERYTHING, **AUTH}
    plan = make_plan(of({"sites": {"a-b": {"nginx": nginx}, "a": {"site": {"location": "/a/"}, "nginx": nginx}}}))
    one, two = (
        set(re.findall(r"\$wsgi_\w+|zone=[^:]+|upstream \S+", site.configs["http.conf"])) for site in plan.sites
    )
    assert one and two
    assert not one & two


def test_the_hashes_travel_apart_from_what_the_plan_says() -> None:
    found = of({"nginx": {"auth_basic": "Staff", "auth_basic_users": {"bob": HASH, "ada": HASH}}})
    assert HASH not in repr(make_plan(found))
    assert HASH not in repr(found)
    (text,) = nginx.secret_files(found.nginx).values()
    assert text.get_secret_value() == f"ada:{HASH}\nbob:{HASH}\n"
    assert nginx.secret_files(of({}).nginx) == {}


def refusal(config: dict[str, Any]) -> str:
    with pytest.raises(SettingsError) as error:
        of(config)
    return str(error.value).removeprefix(f"{FILE}: ")


@pytest.mark.parametrize("nginx", [AUTH, {"allow": "10.0.0.0/8"}, {"deny": "10.0.0.0/8"}, {"cache": {}}])
def test_a_guarded_site_has_a_plain_path_for_its_health(nginx: dict[str, Any]) -> None:
    assert refusal({"app": {"health": "/up%7b"}, "nginx": nginx}).startswith("app.health: ")
    of({"app": {"health": "/up%7b"}})


def test_clients_headers_have_one_timeout_for_the_machine() -> None:
    assert "one for the machine" in refusal({"sites": {"a": {"nginx": {"client_header_timeout": 5}}}})


def test_a_page_that_is_not_in_the_application_is_refused() -> None:
    with pytest.raises(
        SettingsError, match=r"nginx\.error_page\.404: \./app has no no\.html; allowed: a file in app\.s"
    ):
        check(of({"nginx": {"error_page": {"404": "no.html"}}}), PROJECT, FILE)


def test_extra_stands_beside_the_location_as_it_is(tmp_path: Path) -> None:
    extra = "location = /extra { return 204; }\nrewrite ^/old$ /new;"
    http = next(block for name, _, block in tree(texts({"nginx": {"extra": extra}}), tmp_path) if name == "http")
    server = next(block for name, _, block in http if name == "server")
    assert [(name, arguments) for name, arguments, _ in server] == [
        ("location", ("/",)),
        ("location", ("=", "/extra")),
        ("rewrite", ("^/old$", "/new")),
    ]
