"""The packages and images by which a rehearsal has CentOS 7 and its family."""

import gzip
import json
import re
from base64 import b64encode
from dataclasses import asdict
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from inspection.needs import LIBRARIES
from kinds.systems import SYSTEMS, Rpm
from rehearsal.cloud import machine, trust
from rehearsal.cloud.family import closure as debian
from rehearsal.cloud.family import rpm
from rehearsal.cloud.image import BaseImage
from rehearsal.cloud.images import RECIPES
from serving import bootstrap, machines
from settings.loader import parse

FAMILY = {name: recipe for name, recipe in RECIPES.items() if recipe.family}
EACH = pytest.mark.parametrize("name", FAMILY)


def test_each_system_of_the_family_is_rehearsed_as_itself() -> None:
    assert set(FAMILY) == {name for name, system in SYSTEMS.items() if isinstance(system.packaging, Rpm)}


@EACH
def test_the_repository_has_every_package_that_a_server_asks_for(name: str) -> None:
    system, family = SYSTEMS[name], FAMILY[name].family
    assert family
    asked = {
        *system.packages, *system.compiler_packages, *system.uwsgi_packages, *system.nginx_build_packages,
        *system.mysql_packages, *system.redis_packages, *system.python_build.packages,
        *dict(system.python_build.modules).values(), "nginx", "logrotate", "supervisor", "git", "gcc-c++",
        *LIBRARIES["mysqlclient"][1], *LIBRARIES["psycopg2"][1],
    }  # fmt: skip
    assert asked <= {package.name for package in family.repository.packages}


@EACH
def test_the_repository_is_where_the_user_data_looks(name: str) -> None:
    packaging, family = SYSTEMS[name].packaging, FAMILY[name].family
    assert family and isinstance(packaging, Rpm)
    repositories = family.repository
    root = "https://mirrors.aliyun.com/"
    folders = {key: folder.replace("@arch@", "$basearch") for key, folder in repositories.folders.items()}
    assert root + folders["epel"] in packaging.epel
    if packaging.sources:
        for source in packaging.repositories:
            assert root + folders[source] in [f"{url}/{source}/$basearch" for url in packaging.sources]
    assert {package.repository for package in repositories.packages} <= set(folders)
    assert set(packaging.repositories) | {"epel"} == set(folders)
    assert family.epel_key == packaging.epel_key
    assert any(key.endswith(f"/RPM-GPG-KEY-EPEL-{packaging.epel_release}") for key in repositories.keys)


@EACH
def test_a_package_requires_what_the_repository_has(name: str) -> None:
    family = FAMILY[name].family
    assert family
    names = [package.name for package in family.repository.packages]
    assert len(names) == len(set(names))
    assert {other for package in family.repository.packages for other in package.requires} <= set(names)


@EACH
def test_a_recipe_has_a_hash_and_scripts_that_a_shell_takes(name: str) -> None:
    recipe = FAMILY[name]
    assert json.dumps(asdict(recipe), sort_keys=True)
    assert "'" not in recipe.setup


def test_services_have_the_names_and_programs_the_folders_that_the_plans_use() -> None:
    for name, recipe in FAMILY.items():
        system = SYSTEMS[name]
        assert recipe.family
        packages = {package.name: package for package in recipe.family.repository.packages}
        supervisor, nginx = packages["supervisor"], packages["nginx"]
        assert f"/usr/lib/systemd/system/{system.supervisor_service}.service" in supervisor.files
        assert system.supervisor_programs in supervisor.folders
        assert f"*{system.supervisor_suffix}" in supervisor.files["/etc/supervisord.conf"]
        assert nginx.user == system.nginx_user
        assert system.nginx_modules.rpartition("/")[0] in nginx.folders
        assert f"/usr/lib/systemd/system/{system.redis_service}" in packages["redis"].files
        assert system.mysql_config.startswith("/etc/my.cnf.d/")
        assert "!includedir /etc/my.cnf.d\n" in packages["mariadb"].files["/etc/my.cnf"]


@pytest.mark.parametrize(
    ("debian", "expected"),
    [
        ("1:10.11.18-0+deb12u1", "10.11.18"),
        ("2.40-2", "2.40"),
        ("1.2.13.dfsg-1", "1.2.13.dfsg"),
        ("2023.4", "2023.4"),
        ("5:7.0.15-1~deb12u3", "7.0.15"),
    ],
)
def test_a_version_of_debian_is_one_that_rpm_takes(debian: str, expected: str) -> None:
    assert rpm.version_of(debian) == expected


def test_a_spec_makes_the_user_before_its_files_and_looks_for_no_libraries() -> None:
    package = rpm.Rpm("nginx", "epel", ("nginx",), requires=("other",), user="nginx", home="/var/lib/nginx")
    text = rpm.spec(package, "1.22.1", [("/usr/sbin/nginx", ""), ("/var/lib/nginx", "%attr(0770,nginx,root) %dir ")])
    assert "AutoReqProv: no\nRequires: other\n" in text
    assert "useradd -r -g nginx -d /var/lib/nginx -s /sbin/nologin nginx\n" in text
    assert re.search(r'%files\n.*\n"/usr/sbin/nginx"\n%attr\(0770,nginx,root\) %dir "/var/lib/nginx"\n$', text)
    assert "%pre" not in rpm.spec(rpm.Rpm("make", "os", ("make",)), "4.3", [])


def test_a_closure_has_what_the_image_lacks_and_one_of_several_alternatives() -> None:
    fields = [
        {"Package": "app", "Version": "1", "Depends": "libc6 (>= 2.3), awk | mawk, liba:any (= 1), virtual"},
        {"Package": "liba", "Version": "1", "Pre-Depends": "libb"},
        {"Package": "libb", "Version": "1", "Depends": "app"},
        {"Package": "mawk", "Version": "1"},
        {"Package": "real", "Version": "1", "Provides": "virtual (= 1), another"},
        {"Package": "apart", "Version": "1"},
    ]
    debs = {deb.name: deb for deb in map(debian.parse, fields)}
    assert debian.closure(["app"], debs) == {"app", "liba", "libb", "mawk", "real"}
    assert debian.closure(["in-the-image"], debs) == set()


def test_no_proxy_is_asked_for_what_the_machine_serves_itself() -> None:
    found = trust.proxy_settings({"https_proxy": "http://proxy:1", "no_proxy": "a.example"}, ["mirror.rehearsal.test"])
    assert found["no_proxy"] == "localhost,127.0.0.1,mirror.rehearsal.test,a.example"
    assert trust.proxy_settings({}, ["mirror.rehearsal.test"]) == {}


@EACH
def test_a_machine_gets_its_user_data_with_another_key_of_epel_and_another_mirror(name: str, tmp_path: Path) -> None:
    family = FAMILY[name].family
    assert family
    settings = parse({"server": {"os": name}}, "stacks/Pulumi.test.yaml")
    (server,) = machines(settings)
    text = bootstrap.user_data(server.plan, settings)
    own = "0123456789" * 4
    (tmp_path / "fingerprint").write_text(own)
    base = BaseImage(name, "", "", Path(), replaced=family.replaced(tmp_path))
    context: Any = SimpleNamespace(images={"m-1": base}, keys=SimpleNamespace(public="ssh-ed25519 A"))
    inputs = {"imageId": "m-1", "instanceType": "ecs.e-c1m1.large", "userData": text}
    given = machine.config(context, inputs)["user.user-data"]
    assert text.count(family.epel_key) == 1
    assert given != text
    mirror = f"https://{family.mirror}:{family.port}/"
    assert given.replace(own, family.epel_key).replace(mirror, "https://mirrors.aliyun.com/") == text
    # Packages of Python still come from there.
    assert "https://mirrors.aliyun.com/pypi/" in given
    assert f"{mirror}epel" in given


def test_texts_are_replaced_in_the_packed_file_of_user_data_too() -> None:
    def user_data(key: str) -> str:
        packed = b64encode(gzip.compress(f"epel_key {key}\n".encode(), mtime=0)).decode()
        return f"#cloud-config\nwrite_files:\n- path: /a\n  encoding: gz+b64\n  content: {packed}\n- path: /{key}\n"

    assert machine.put_in_place(user_data("theirs"), {"theirs": "own"}) == user_data("own")
