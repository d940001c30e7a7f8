"""What nginx is told of a site, read as nginx reads it; and what a user may not say."""

import json
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
    assert [arguments for name, arguments, _ in found if name == "location"] == [
        ("/static/",),
        ("~", r"^/\.kept/static/(?<wsgi_kept_app>.+)$"),
        ("=", "/.maintenance"),
    ]


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

    assert check(location(config, tmp_path), []) == 3 + 4 + 4 + 4 + 4 + 5 + 6 * added


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
        assert next(found[:2] for found in health if found[0] in ("allow", "deny")) == ("allow", ("127.0.0.1",))
        assert values(health, "deny")


def test_no_header_makes_a_client_the_machine_itself(tmp_path: Path) -> None:
    config = {"nginx": {"set_real_ip_from": "10.0.0.0/8", "allow": "203.0.113.0/24"}}
    health = inner(location(config, tmp_path), "=", "/healthz")
    assert values(health, "set_real_ip_from") == [("255.255.255.255",)]
    for text in (texts({"nginx": {**AUTH, "limit_conn": 1}})["http.conf"],):
        assert text.count("map $realip_remote_addr ") == text.count("127.0.0.1") == 2


def test_each_way_into_a_site_is_closed_but_for_the_pages_that_nginx_sends_itself(tmp_path: Path) -> None:
    more = {"gunicorn": {"worker_class": "gthread"}, "data": {"served": {"/media/": "m"}}}
    nginx = {**EVERYTHING, **AUTH, "static": {"/s/": "s", "/icon": "i"}, "websocket": ["/ws/"]}

    def closed(block: Tree) -> dict[tuple[str, ...], bool]:
        looks = ("if", ("-f", "$wsgi_maintenance_app"))
        inside = {arguments: block for name, arguments, block in block if name == "location"}
        return {place: looks in [each[:2] for each in found] for place, found in inside.items()}

    config = {**PROTOCOLS["http"], **more, "nginx": {**nginx, "methods": []}}
    found = closed((("location", ("/",), location(config, tmp_path)),)) | closed(location(config, tmp_path))
    pages = {place: place[-1].startswith(("/.error/", "/.maintenance", r"^/\.kept/")) for place in found}
    assert {place for place, is_closed in found.items() if not is_closed} == {
        place for place, is_page in pages.items() if is_page
    }
    assert {"/", "/healthz", "/ws/", "/s/", "/icon", "/media/"} == {
        place[-1] for place, is_closed in found.items() if is_closed
    }
    # A page of the application has its style and pictures.
    config["nginx"]["maintenance"] = {"page": "closed.html"}
    assert {place[-1] for place, is_closed in closed(location(config, tmp_path)).items() if is_closed} == {
        "/healthz",
        "/ws/",
        "/media/",
    }


@pytest.mark.parametrize(
    ("own", "page"),
    [({}, ("return", "503")), ({"page": "closed.html"}, ("alias", "@@view_dir@@/release/app/closed.html"))],
    ids=["built in", "the application's"],
)
def test_a_closed_site_says_when_to_return_and_nobody_keeps_it(
    own: dict[str, Any], page: tuple[str, str], tmp_path: Path
) -> None:
    nginx = {**AUTH, "allow": "203.0.113.0/24", "error_page": {"503": "busy.html"}}
    config = {"nginx": {**nginx, "maintenance": {"retry_after": 60, **own}}}
    site = location(config, tmp_path)
    (block,) = (block for name, arguments, block in site if name == "if" and "$wsgi_maintenance_app" in arguments)
    place = "/.maintenance/closed.html" if own else "/.maintenance"
    assert values(block, "error_page") == [("503", place)], "not the site's own page of that status"
    found = inner(site, "=", place)
    assert [arguments[0] for name, arguments, _ in found if name == page[0]] == [page[1]]
    assert {("Retry-After", "60", "always"), ("Cache-Control", "no-store", "always")} <= set(
        values(found, "add_header")
    )
    assert values(found, "internal")
    if own:
        assert (values(found, "auth_basic"), values(found, "allow")) == ([("off",)], [("all",)])


def test_the_addresses_that_pass_are_those_of_the_clients(tmp_path: Path) -> None:
    def maps(config: dict[str, Any]) -> tuple[Tree, Tree]:
        http = next(block for name, _, block in tree(texts(config), tmp_path) if name == "http")
        found = {arguments[-1]: tuple(block) for name, arguments, block in http if name in ("geo", "map") and arguments}
        return found.get("$wsgi_passes_app", ()), found["$wsgi_maintenance_app"]

    networks = {"set_real_ip_from": "100.64.0.0/10", "maintenance": {"allow": "203.0.113.0/24"}}
    passes, looks = maps({"nginx": networks})
    names = [(name, *arguments) for name, arguments, _ in passes]
    assert names == [("default", "0"), ("proxy", "100.64.0.0/10"), ("proxy_recursive",), ("203.0.113.0/24", "1")]
    assert [(name, *arguments) for name, arguments, _ in looks] == [
        ("default", "/srv/wsgi-ecs/sites/app/maintenance"),
        ("~^0:[^:]*:/healthz([?]|$)", ""),
        ("~^1:", ""),
    ]
    passes, looks = maps({"site": {"location": "/blog/"}, "app": {"health": "/"}})
    assert not passes
    assert [name for name, _, _ in looks] == ["default", "~^0:127\\.0\\.0\\.1:/blog/([?]|$)"]


def test_the_log_is_json_and_has_the_release_without_naming_one(tmp_path: Path) -> None:
    config = {"nginx": {"access_log_format": "json"}}
    found = texts(config)
    place = location(config, tmp_path)
    assert values(place, "access_log") == [("/var/log/wsgi-ecs/app/access.log", "wsgi_json_app")]
    assert values(place, "root") == [("@@view_dir@@/release",)]
    (line,) = re.findall(r"log_format wsgi_json_app escape=json (.*?);\n", found["http.conf"], re.DOTALL)
    text = "".join(re.findall("'([^']*)'", line))
    numbers = {"$wsgi_status_app": "200", "$body_bytes_sent": "4", "$request_time": "0.005"}
    for name, number in numbers.items():
        text = text.replace(f":{name},", f":{number},")
    assert list(json.loads(text)) == [
        *("time", "remote_addr", "method", "uri", "protocol", "status", "bytes", "request_time", "upstream_time"),
        *("upstream_status", "host", "user_agent", "referer", "request_id", "release"),
    ]
    assert "@@release@@" not in "".join(found.values()), "a release alone changes no text"
    # The release is that of the request's beginning.
    assert ("$wsgi_began_app", "$wsgi_release_app") in values(place, "set")


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


def test_a_static_file_that_is_gone_is_looked_for_in_earlier_releases() -> None:
    static = {"/static/": "s", "/static/admin/": "t", "/favicon.ico": "s/favicon.ico"}
    settings = {"site": {"location": "/blog/"}, "nginx": {"static": static}}
    text = texts({**settings, "release": {"keep": 3}})["server.conf"]
    assert text.count("error_page 404 = /blog/.kept$uri;") == 2
    # The folder within another one comes first, because nginx takes the first expression that matches.
    assert re.findall(r'location ~ "(.*)" \{\n +internal;\n +root (.*);\n +try_files (.*);\n', text) == [
        (
            rf"^/blog/\.kept/blog/static/{inner}(?<wsgi_kept_app>.+)$",
            "@@view_dir@@",
            f"/kept-1/app/{folder}/$wsgi_kept_app /kept-2/app/{folder}/$wsgi_kept_app =404",
        )
        for inner, folder in (("admin/", "t"), ("", "s"))
    ]
    assert "recursive_error_pages" not in text
    assert ".kept" not in texts({**settings, "release": {"keep": 1}})["server.conf"]


def test_the_sites_own_error_pages_are_those_of_static_files_too() -> None:
    text = texts({"nginx": {"static": {"/static/": "s"}, "error_page": {404: "a.html", 500: "b.html"}}})["server.conf"]
    static = text.partition("location /static/ {")[2].partition("\n    }")[0]
    assert "error_page 404 = /.kept$uri;\n        error_page 500 /.error/b.html;" in static
    # Without it, a file that no release has would get nginx's own page.
    assert static.endswith("recursive_error_pages on;")


def test_what_a_regular_expression_finds_has_a_name_that_pcre_takes() -> None:
    """PCRE takes 32 letters, and a site's name has up to 20."""
    name = "a-site-of-20-letters"
    config = {
        "nginx": {"access_log_format": "json", "set_real_ip_from": ["10.0.0.0/8"]},
        "sites": {name: {}, "other": {"site": {"location": "/other/"}}},
    }
    (site,) = (site for site in make_plan(parse(config, "test")).sites if site.place.name == name)
    names = [found for text in site.configs.values() for found in re.findall(r"\(\?<(\w+)>", text)]
    assert len(names) >= 4
    assert max(map(len, names)) <= 32
