"""What nginx is told of a site, read as nginx reads it; and what a user may not say."""

import re
from pathlib import Path
from typing import Any

import crossplane
import pytest

from serving import make_plan, nginx
from settings import SettingsError
from settings.loader import parse
from settings.models import Settings
from settings.servers import HEADERS
from settings.sources import check_files
from tests.conftest import PROJECT

FILE = "stacks/Pulumi.test.yaml"
HASH = "$6$saltsalt$" + "a" * 86
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

Tree = tuple[Any, ...]


def tree(texts: dict[str, str], folder: Path) -> Tree:
    """The directives of a site's part as crossplane reads them: (name, arguments, block)."""
    (folder / "uwsgi_params").write_text("")
    file = folder / "nginx.conf"
    text = f"events {{}}\nhttp {{\n{texts['http.conf']}\nserver {{\n{texts['server.conf']}\n}}\n}}\n"
    file.write_text(text.replace("/etc/nginx/uwsgi_params", str(folder / "uwsgi_params")), encoding="utf-8")
    read = crossplane.parse(str(file), single=True, comments=False)
    assert read["status"] == "ok", read["errors"]
    return nested(read["config"][0]["parsed"])


def nested(directives: list[dict[str, Any]]) -> Tree:
    return tuple((one["directive"], tuple(one["args"]), nested(one.get("block", []))) for one in directives)


def of(config: dict[str, Any]) -> Settings:
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
    assert all(name.startswith("wsgi-app-") and name.endswith(f"-{size}") for name, size in zones)


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
    (text,) = nginx.secret_files(found).values()
    assert text.get_secret_value() == f"ada:{HASH}\nbob:{HASH}\n"
    assert nginx.secret_files(of({})) == {}


# What makes no sense together; test_settings.py holds every rule against it.
COMBINATIONS: tuple[tuple[dict[str, Any], str], ...] = (
    (
        {"auth_basic_users": {"ada": HASH}},
        "nginx.auth_basic: required with nginx.auth_basic_users; allowed: what the password is for, such as Staff",
    ),
    (
        {"auth_basic": "Staff"},
        "nginx.auth_basic_users: required with nginx.auth_basic, or nobody gets in; allowed: user to hash of the "
        "password",
    ),
    (
        {**AUTH, "cache": {}},
        "nginx.cache: an answer to somebody with a password is nobody else's; allowed: one of nginx.cache and "
        "nginx.auth_basic",
    ),
    (
        {"cache": {}, "buffering": False},
        "nginx.cache: what is not buffered cannot be kept; allowed: nginx.buffering: true",
    ),
    ({"methods": ["POST"]}, "nginx.methods: app.health is asked by GET; allowed: GET and others"),
    (
        {"gzip": False, "gzip_types": ["text/css"]},
        "nginx.gzip_types: set, but nginx.gzip is false; allowed: nginx.gzip: true",
    ),
    (
        {"gzip": False, "gzip_min_length": 1},
        "nginx.gzip_min_length: set, but nginx.gzip is false; allowed: nginx.gzip: true",
    ),
    (
        {"gzip": False, "gzip_comp_level": 1},
        "nginx.gzip_comp_level: set, but nginx.gzip is false; allowed: nginx.gzip: true",
    ),
    (
        {"static": {}, "static_expires": "1d"},
        "nginx.static_expires: set, but nginx.static is empty; allowed: folders in it",
    ),
    (
        {"static": {}, "static_immutable": True},
        "nginx.static_immutable: set, but nginx.static is empty; allowed: folders in it",
    ),
    (
        {"static_expires": "off", "static_immutable": True},
        "nginx.static_immutable: nginx.static_expires is off; allowed: a time such as 365d, or max",
    ),
    (
        {"intercept_errors": True},
        "nginx.intercept_errors: there is no page to send instead; allowed: nginx.error_page with one",
    ),
    (
        {"error_page": {"499": "a.html"}},
        "nginx.error_page: 499 is for clients that have gone; allowed: any other status",
    ),
    ({"deny": "0.0.0.0/0"}, "nginx.deny: it shuts everybody out; allowed: nginx.allow alone, which denies all others"),
    (
        {"deny": "10.0.0.0/8", "allow": "10.1.0.0/16"},
        "nginx.allow: 10.1.0.0/16 lies in nginx.deny's 10.0.0.0/8, which goes before; allowed: what it leaves",
    ),
    (
        {"set_real_ip_from": "0.0.0.0/0"},
        "nginx.set_real_ip_from: 0.0.0.0/0 holds the machine itself, whose probe is let through; allowed: the "
        "proxies' own networks",
    ),
    (
        {"set_real_ip_from": "127.0.0.1/32"},
        "nginx.set_real_ip_from: 127.0.0.1/32 holds the machine itself, whose probe is let through; allowed: the "
        "proxies' own networks",
    ),
    ({"add_header": {"X-A": "1", "x-a": "2"}}, "nginx.add_header: X-A stands there twice; allowed: each header once"),
)  # fmt: skip
VALUES: tuple[tuple[dict[str, Any], str], ...] = (
    (
        {"auth_basic_users": {"ada": "sesame"}},
        "nginx.auth_basic_users.ada: allowed: a hash of the password, starting with $6$, $5$ or $apr1$, as "
        "`openssl passwd -6` asks for it and prints",
    ),
    (
        {"auth_basic_users": {"ada": "$2y$05$" + "a" * 53}},
        "nginx.auth_basic_users.ada: allowed: a hash of the password, starting with $6$, $5$ or $apr1$, as "
        "`openssl passwd -6` asks for it and prints",
    ),
    ({"auth_basic": "off"}, "nginx.auth_basic: allowed: letters, digits, spaces and . _ -, not off"),
    (
        {"add_header": {"Content-Length": "1"}},
        "nginx.add_header.Content-Length: allowed: any other header; this one is nginx's own to write",
    ),
    ({"add_header": {"X-A": '";'}}, 'nginx.add_header.X-A: allowed: printable ASCII without ", $, \\ and @@'),
    (
        {"limit_req": {"rate": "fast"}},
        "nginx.limit_req.rate: allowed: requests in a second or a minute, such as 10r/s or 30r/m",
    ),
    ({"limit_req": {"rat": 1}}, "nginx.limit_req.rat: unknown key; allowed: rate, burst, nodelay"),
    ({"cache": 5}, "nginx.cache: allowed: a map of keys"),
    ({"static_expires": "soon"}, "nginx.static_expires: allowed: a time such as 30s, 1h or 7d, or max, epoch, off"),
    ({"error_page": {"302": "a.html"}}, "nginx.error_page.302: allowed: 400 or more"),
    ({"methods": ["BREW"]}, "nginx.methods.0: allowed: GET, HEAD, POST, PUT, PATCH, DELETE or OPTIONS"),
)  # fmt: skip


def refusal(config: dict[str, Any]) -> str:
    with pytest.raises(SettingsError) as error:
        of(config)
    return str(error.value).removeprefix(f"{FILE}: ")


REFUSED = (*COMBINATIONS, *VALUES)


@pytest.mark.parametrize(("nginx", "line"), REFUSED, ids=[line for _, line in REFUSED])
def test_what_makes_no_sense_is_refused_with_the_reason(nginx: dict[str, Any], line: str) -> None:
    assert refusal({"nginx": nginx}) == line


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
        check_files(of({"nginx": {"error_page": {"404": "no.html"}}}), PROJECT, FILE)


def test_extra_stands_beside_the_location_as_it_is(tmp_path: Path) -> None:
    extra = "location = /extra { return 204; }\nrewrite ^/old$ /new;"
    http = next(block for name, _, block in tree(texts({"nginx": {"extra": extra}}), tmp_path) if name == "http")
    server = next(block for name, _, block in http if name == "server")
    assert [(name, arguments) for name, arguments, _ in server] == [
        ("location", ("/",)),
        ("location", ("=", "/extra")),
        ("rewrite", ("^/old$", "/new")),
    ]
