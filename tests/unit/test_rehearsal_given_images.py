"""`setup --image`: what it takes, and which image machines boot then."""

from pathlib import Path
from typing import Any

import pytest

from rehearsal.cloud import given_images, host, image
from rehearsal.cloud.lxd import Lxd
from rehearsal.commands.setup import setup
from rehearsal.engine.errors import UserError


class Images:
    """An LXD with images. aliases: name → its alias. images: fingerprint → properties."""

    def __init__(self, **images: str) -> None:
        self.images: dict[str, dict[str, str]] = {fingerprint: {"os": "Debian"} for fingerprint in images.values()}
        self.aliases = {name: {"target": fingerprint} for name, fingerprint in images.items()}

    def find(self, path: str) -> Any:
        name = path.rsplit("/", 1)[1]
        return self.aliases.get(name) if "/aliases/" in path else self.images.get(name)

    def get(self, path: str) -> Any:
        aliases = [name for name, alias in self.aliases.items() if path.endswith(alias["target"])]
        return {"aliases": aliases, "properties": self.images[path.rsplit("/", 1)[1]]}

    def post(self, path: str, body: Any) -> None:
        self.aliases[body["name"]] = body

    def patch(self, path: str, body: Any) -> None:
        self.images[path.rsplit("/", 1)[1]].update(body["properties"])

    def delete(self, path: str) -> None:
        name = path.rsplit("/", 1)[1]
        del (self.aliases if "/aliases/" in path else self.images)[name]


@pytest.fixture
def images(monkeypatch: pytest.MonkeyPatch) -> Images:
    made = Images(ours="a" * 64, theirs="b" * 64)
    for name in ("find", "get", "post", "patch", "delete"):
        monkeypatch.setattr(Lxd, name, lambda self, *args, name=name: getattr(made, name)(*args))
    copied = {"local:ours": "a" * 64, "images:theirs": "c" * 64}

    def run(command: list[str], source: str) -> str:
        if command[2] == "copy":
            made.images[copied[source]] = {"os": "Debian"}
        return f"Fingerprint: {copied[source]}\n"

    monkeypatch.setattr(given_images, "_run", run)
    return made


@pytest.mark.parametrize(
    "text", ["debian13", "debian14=local:x", "debian13=local", "debian13=:x", "debian13=local:", "debian13=-a:b"]
)
def test_what_names_no_image_is_refused(text: str) -> None:
    with pytest.raises(UserError, match=r"^--image '.*': allowed: SYSTEM=REMOTE:NAME, or SYSTEM= for "):
        given_images.parsed(text)


def test_an_image_is_taken_exchanged_and_given_back(
    images: Images, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(image, "CACHE", tmp_path)
    assert given_images.parsed("debian13=images:debian/13/cloud") == ("debian13", "images:debian/13/cloud")
    assert given_images.origin("debian13") is None
    given_images.take("debian13", "images:theirs", print)
    assert given_images.origin("debian13") == "images:theirs"
    found = image.ensure("debian13", print)
    assert (found.alias, found.is_given) == ("wsgi-ecs-given-debian13", True)
    given_images.take("debian13", "local:ours", print)
    assert given_images.origin("debian13") == "local:ours"
    assert "c" * 64 not in images.images, "nothing uses the copy any more"
    given_images.take(*given_images.parsed("debian13="), print)
    assert given_images.origin("debian13") is None
    assert set(images.images) == {"a" * 64, "b" * 64}, "an image that has another name stays"


def test_a_system_without_a_base_image_is_refused_before_anything_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    prepared: list[bool] = []
    monkeypatch.setattr(host, "prepare", lambda say: prepared.append(True))
    with pytest.raises(UserError, match="there is no base image of ubuntu2204; allowed: centos7, "):
        setup(print, ["ubuntu2204"])
    assert prepared == []


def test_the_users_own_image_stays_though_it_has_no_name_any_more(images: Images) -> None:
    given_images.take("debian13", "local:ours", print)
    images.delete("/1.0/images/aliases/ours")
    given_images.take("debian13", "", print)
    assert images.images["a" * 64] == {"os": "Debian"}


def test_a_copy_stays_while_another_system_boots_it(images: Images) -> None:
    for system in ("debian13", "debian12"):
        given_images.take(system, "images:theirs", print)
    given_images.take("debian13", "", print)
    assert "c" * 64 in images.images
    given_images.take("debian12", "", print)
    assert "c" * 64 not in images.images
