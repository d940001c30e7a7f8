"""The pages that describe every setting, made of the models, of a file of Chinese texts, and of the program itself.

models (keys, defaults, descriptions, refusals) ─┐
docs/settings.zh-CN.yaml ────────────────────────┼─▶ docs/settings.md, docs/settings.zh-CN.md
the program run dry with one value changed ──────┘   (what a change does)
"""

import json
import logging
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import yaml
from annotated_types import Ge, Le
from pydantic import BaseModel, SecretStr, TypeAdapter, ValidationError
from pydantic.fields import FieldInfo

from rehearsal.cloud.registry import PROVIDER, TYPES
from rehearsal.commands.graph import Registered
from rehearsal.engine import program
from rehearsal.engine.compare import Op, Options, Recorded, compare
from rehearsal.engine.inputs import comparable
from rehearsal.engine.monitor import RehearsalMonitor
from rehearsal.engine.registration import Registration
from rehearsal.engine.stack import Stack
from rehearsal.engine.state import Record
from settings import SettingsError
from settings.loader import parse
from settings.stack import MACHINE_KEYS, SITE_KEYS, Document
from tests.conftest import CLOUD, PROJECT
from tests.unit.test_hostile_text import ACME, MYSQL, ORDINARY, SOURCE, merged, of, placed

CHINESE = PROJECT / "docs/settings.zh-CN.yaml"
FILE = "stacks/Pulumi.test.yaml"
# What no setting of text takes.
NOTHING = "../\0://"


@dataclass(frozen=True)
class Row:
    """A setting. kind: its type, with all that checks it. default: as YAML would have it, None for none."""

    key: str
    kind: Any
    default: Any
    description: str

    @property
    def is_map(self) -> bool:
        """Whether its own keys come as rows of their own."""
        return model_of(self.kind) is not None

    @property
    def is_secret(self) -> bool:
        return SecretStr in leaves(self.kind)

    @property
    def of_site(self) -> bool:
        """Whether each of several sites may have its own."""
        part, _, rest = self.key.partition(".")
        return part in SITE_KEYS and rest.split(".")[0] not in MACHINE_KEYS.get(part, ())


def rows(model: type[BaseModel] = Document, prefix: str = "") -> Iterator[Row]:
    """Every setting, in the order of the models."""
    for name, field in model.model_fields.items():
        key = f"{prefix}{name}"
        kind = Annotated[(field.annotation, *field.metadata)] if field.metadata else field.annotation
        inner = model_of(kind)
        if inner is None or field.description:
            yield Row(key, kind, field.get_default(call_default_factory=True), field.description or "")
        if inner is not None:
            yield from rows(inner, f"{key}.")


def model_of(kind: Any) -> type[BaseModel] | None:
    """The model of a map with known keys, which may be absent."""
    return next((one for one in leaves(kind) if issubclass(one, BaseModel)), None)


def leaves(kind: Any) -> list[type]:
    """The plain types in a type."""
    if get_origin(kind) is Literal:
        return []
    if get_origin(kind) is Annotated:
        return leaves(get_args(kind)[0])
    inner = [leaf for one in get_args(kind) for leaf in leaves(one)]
    return inner if get_origin(kind) else [kind] if isinstance(kind, type) else []


@dataclass(frozen=True)
class Words:
    """A language. texts: English phrase → its own, empty for English itself. The others are patterns."""

    texts: Mapping[str, str]
    choice: str
    between: str
    at_least: str
    either: str
    listed: str
    mapped: str
    secret: str
    number: str

    def of(self, text: str) -> str:
        return self.texts[text] if self.texts else text


ENGLISH = Words(
    {}, ", ", "{} to {}", "{} or more", ", or ", "list; each: {}", "map: {} → {}", "{}. **Secret**", "a whole number"
)


def allowed(kind: Any, words: Words) -> str:
    """What a setting of this type may be."""
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        return words.of("a map of the keys below")
    origin, arguments = get_origin(kind), get_args(kind)
    if origin in (Union, UnionType):
        return words.either.join(allowed(one, words) for one in arguments if one is not NoneType)
    if origin is Literal:
        return words.choice.join(f"`{one}`" for one in arguments)
    if origin is Annotated:
        inner = arguments[0]
        if inner is int:
            return _number(arguments[1:], words)
        if inner in (str, SecretStr):
            return words.of(_refusal(kind))
        if get_origin(inner) in (Union, UnionType):
            # What a field says of a number that may be absent.
            checked = (Annotated[(one, *arguments[1:])] for one in get_args(inner) if one is not NoneType)
            return words.either.join(allowed(one, words) for one in checked)
        return allowed(inner, words)
    if origin is tuple:
        return words.listed.format(allowed(arguments[0], words))
    if origin is dict and Any in leaves(arguments[1]):
        return words.mapped.format(
            allowed(arguments[0], words), words.of("settings of its own, as in the sections above")
        )
    if origin is dict:
        return words.mapped.format(*(allowed(one, words) for one in arguments))
    if kind is int:
        return words.number
    if kind is bool:
        return words.choice.join(("`true`", "`false`"))
    assert kind in (str, SecretStr), kind
    return words.of("text")


def _number(checks: Sequence[Any], words: Words) -> str:
    flat = [one for check in checks for one in (check.metadata if isinstance(check, FieldInfo) else [check])]
    least = next(one.ge for one in flat if isinstance(one, Ge))
    most = next((one.le for one in flat if isinstance(one, Le)), None)
    return words.at_least.format(least) if most is None else words.between.format(least, most)


def _refusal(kind: Any) -> str:
    """What is allowed, in the words of the refusal of what is not."""
    try:
        TypeAdapter(kind).validate_python(NOTHING)
    except ValidationError as error:
        return str(error.errors()[0]["ctx"]["error"]).partition("allowed: ")[2]
    return "text"


def shown(value: Any) -> str:
    """A default, as a cell."""
    if value is None or isinstance(value, BaseModel) or value in ((), {}):
        return "—"
    if isinstance(value, dict):
        text = "{" + ", ".join(f"{name}: {one}" for name, one in value.items()) + "}"
    elif isinstance(value, tuple):
        text = f"[{', '.join(map(str, value))}]"
    else:
        text = str(value).lower() if isinstance(value, bool) else str(value)
    return f"`{text}`"


class Kept(Registered):
    """Keeps what is compared of each registration, too, while the files that it names are there."""

    def __init__(self) -> None:
        super().__init__()
        self.inputs: dict[str, tuple[Registration, dict[str, Any]]] = {}

    def register(self, registration: Registration) -> Record:
        inputs = comparable(registration.inputs, registration.secret, "00")
        self.inputs[registration.urn] = registration, inputs
        return super().register(registration)


Found = dict[str, tuple[Registration, dict[str, Any]]]


def registered(config: Mapping[str, Any]) -> Found:
    """What the program registers with these settings: urn → registration and comparable inputs."""
    values = {f"wsgi-ecs:{key}": json.dumps(value) for key, value in merged(CLOUD, config).items()}
    kept = Kept()
    stack = Stack("wsgi-ecs", "test", {**values, "rehearsal:active": "true"})
    program.run(PROJECT, stack, RehearsalMonitor(kept, PROVIDER, lambda text: None), logging.Logger("dry", "CRITICAL"))
    return kept.inputs


# From the most to the least that a change can do.
EFFECTS = ("new server", "restart", "release", "in place", "next server", "—")


def effect(before: Found, after: Found) -> str:
    """What it takes to come from one to the other, by the rules that `up` has."""
    found = {"—", *(_whole((before | after)[urn][0]) for urn in before.keys() ^ after.keys())}
    for urn in before.keys() & after.keys():
        (old, recorded), (new, inputs) = before[urn], after[urn]
        step = compare(Recorded(recorded, old.options.trigger), inputs, _unprotected(new), TYPES[new.type].schema)
        is_server = new.type.endswith(":Instance")
        if is_server and step.op is Op.REPLACE:
            found.add("new server")
        elif is_server and step.reason:
            found.add("restart")
        elif new.type.endswith(":CopyToRemote") and "-site-" in new.name and step.op is Op.REPLACE:
            found.add("release")
        elif step.op is not Op.SAME or old.options.protect != new.options.protect:
            found.add("in place")
        elif is_server and recorded != inputs:
            found.add("next server")
    return min(found, key=EFFECTS.index)


def _whole(wanted: Registration) -> str:
    """What it means that a resource comes or goes."""
    if wanted.type.endswith(":Instance"):
        return "new server"
    return "release" if "-site-" in wanted.name else "in place"


def _unprotected(wanted: Registration) -> Options:
    return replace(wanted.options, protect=False)


GUNICORN = {"serving": {"app_server": "gunicorn"}}
# What else must be set for a setting to do something; the first in which it does is taken.
BESIDE: tuple[dict[str, Any], ...] = (
    {},
    MYSQL,
    {"serving": {"process_manager": "systemd"}},
    {**GUNICORN, "gunicorn": {"worker_class": "gthread", "max_requests": 9}},
    {**GUNICORN, "gunicorn": {"worker_class": "gevent"}},
    {**GUNICORN, "serving": {"app_server": "gunicorn", "process_manager": "systemd"}},
    {"topology": {"app_servers": 2}},
    {"topology": {"app_servers": 2}, **GUNICORN, "gunicorn": {"worker_class": "gthread"}},
    {"uwsgi": {"socket": "127.0.0.1:8080"}},
    {"uwsgi": {"http_socket": "127.0.0.1:8080"}},
    {"uwsgi": {"processes": 4}},
    {"nginx": {"static_expires": "1d", "error_page": {"404": "404.html"}, "cache": {}, "limit_req": {}}},
    {"nginx": {"auth_basic": "Staff", "auth_basic_users": {"ada": "$6$a$" + "b" * 86}}},
    {"nginx": SOURCE},
    {"uwsgi": SOURCE},
    ACME,
    {"site": ACME["site"], "tls": {"certificate": "c.pem", "private_key": "k.pem"}},
    {"sites": {"blog": {}}},
)
# Where the ordinary value is that of another stack already, or fits it alone.
OTHER: dict[str, dict[str, Any]] = {
    "app.source": {"app": {"source": "./other"}},
    "app.requirements": {"app": {"requirements": "other.txt"}},
    "app.health": {"app": {"health": "/status"}},
    "access.ssh": {"access": {"ssh": ["198.51.100.0/24"]}},
    "app.exclude": {"app": {"exclude": ["static"]}},
    "serving.front": {"serving": {"front": "none"}, "uwsgi": {"http": "0.0.0.0:8080"}},
    "tls.acme": ACME,
    "topology.app_servers": {"topology": {"app_servers": 2}},
    "uwsgi.install": {"uwsgi": SOURCE},
    "nginx.install": {"nginx": SOURCE},
    "uwsgi.version": {"uwsgi": {"version": "2.0.30"}},
    "nginx.version": {"nginx": {"version": "1.22.1"}},
    "uwsgi.archive": {"uwsgi": {"archive": "https://example.com/b.tar.gz"}},
    "nginx.archive": {"nginx": {"archive": "https://example.com/b.tar.gz"}},
    "uwsgi.sha256": {"uwsgi": {"sha256": "cd" * 32}},
    "nginx.sha256": {"nginx": {"sha256": "cd" * 32}},
    "nginx.auth_basic": {"nginx": {"auth_basic": "All"}},
    "nginx.auth_basic_users": {"nginx": {"auth_basic_users": {"ada": "$6$a$" + "c" * 86}}},
    "nginx.cache": {"nginx": {"cache": {}}},
    "nginx.limit_req": {"nginx": {"limit_req": {}}},
    "nginx.methods": {"nginx": {"methods": ["GET"]}},
    "nginx.extra": {"nginx": {"extra": "# nothing"}},
    "tls.certificate": {"tls": {"certificate": "other.pem"}},
    "tls.private_key": {"tls": {"certificate": "d.pem", "private_key": "l.pem"}},
    "mysql.password": {"mysql": {"password": "y"}},
    "mysql.database": {"mysql": {"database": "other"}},
    "mysql.user": {"mysql": {"user": "other"}},
    "sites": {"sites": {"blog": {"app": {"callable": "application"}}}},
    "server.mirrors.packages": {"server": {"mirrors": {"packages": ["https://mirror.example.com/centos"]}}},
    "access.private_key_file": {"access": {"private_key_file": "ssh"}},
    "mysql.instance_type": {"mysql": {"instance_type": "ecs.c6.large"}},
    "topology.instance_type": {"topology": {"instance_type": "ecs.c6.large"}},
    "server.instance_type": {"server": {"instance_type": "ecs.c6.large"}},
    "access.public_key": {"access": {"public_key": "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAI" + "A" * 43}},
}


def changes(row: Row) -> Iterator[dict[str, Any]]:
    """Settings that each change this one."""
    if row.key in OTHER:
        yield OTHER[row.key]
        return
    for place in (row.key, f"{row.key}[]", f"{row.key}{{}}"):
        if place in ORDINARY:
            yield placed(place, of(place)[0], {})
    for value in _values(row.kind, row.default):
        change: Any = value
        for name in reversed(row.key.split(".")):
            change = {name: change}
        yield change


def _values(kind: Any, default: Any) -> list[Any]:
    if kind is bool:
        return [not default]
    if kind is int:
        return [404]
    origin, arguments = get_origin(kind), get_args(kind)
    if origin is Literal:
        return [one for one in arguments if one != default]
    if origin in (Union, UnionType):
        return [value for one in arguments for value in _values(one, default)]
    if origin is Annotated and arguments[0] is int:
        low, high = re.findall("[0-9]+", f"{_number(arguments[1:], ENGLISH)} 70000")[:2]
        wanted = default + 1 if isinstance(default, int) else 3
        return [min(max(wanted, int(low)), int(high))]
    if origin is Annotated:
        return _values(arguments[0], default)
    if origin is dict and int in leaves(arguments[0]):
        return [{"404": "404.html"}]
    return []


def _needed(row: Row) -> dict[str, Any]:
    """What the ordinary value of a setting wants beside it."""
    places = [place for place in (row.key, f"{row.key}[]", f"{row.key}{{}}") if place in ORDINARY]
    return of(places[0])[1] if places and row.key not in OTHER else {}


def is_taken(config: Mapping[str, Any]) -> bool:
    try:
        parse(merged(CLOUD, config), FILE)
    except SettingsError:
        return False
    return True


def effects() -> dict[str, str]:
    """Key → what a change of it does. In a folder with what the samples name."""
    known: dict[str, Found] = {}

    def with_settings(config: Mapping[str, Any]) -> Found:
        text = json.dumps(config, sort_keys=True)
        if text not in known:
            known[text] = registered(config)
        return known[text]

    def best(row: Row) -> str:
        for beside in BESIDE if not row.key.startswith("mysql.") else [MYSQL]:
            for change in changes(row):
                before, after = merged(beside, _needed(row)), merged(beside, change)
                if not is_taken(before) or not is_taken(after):
                    continue
                found = effect(with_settings(before), with_settings(after))
                if found != "—":
                    return found
        return "—"

    return {row.key: best(row) for row in rows()}


@dataclass(frozen=True)
class Language:
    """suffix: of the files' names. head: the page's beginning. columns: of its tables. effects: in EFFECTS' order."""

    suffix: str
    head: str
    columns: tuple[str, ...]
    owners: tuple[str, str]
    effects: tuple[str, ...]
    manual: str
    words: Words
    # Key → description; None: the model's own.
    descriptions: Mapping[str, str] | None


_CHINESE = yaml.safe_load(CHINESE.read_text(encoding="utf-8"))
LANGUAGES = (
    Language(
        "",
        """# Settings

[中文](settings.zh-CN.md) · [Back to the README](../README.md)

Every setting of `stacks/Pulumi.<stack>.yaml`. There a key stands as `wsgi-ecs:app` with a map below it; on the command
line it is `pulumi config set --path 'wsgi-ecs:app.module' mysite.wsgi`, and `--secret` encrypts what is secret. What is
wrong is refused in one line before anything is created. [Recipes](recipes.md) show settings at work.

- **for**: `machine`, one for all; `site`, each of several [sites](#sites) may have its own.
- **a change**: what the next `up` does on a running stack. `release`: a new release starts beside the old one;
  `in place`: without one; `restart`: the server restarts; `new server`: it is replaced, and its address stays;
  `next server`: nothing until a server is built anew for another reason; —: nothing. Where it takes several, the first
  of these is named: new server, restart, release, in place.
""",
        ("key", "allowed", "default", "what it is", "for", "a change"),
        ("machine", "site"),
        EFFECTS,
        "Directives and options are explained in {}.",
        ENGLISH,
        None,
    ),
    Language(
        ".zh-CN",
        """# 配置项

[English](settings.md) · [返回 README](../README.zh-CN.md)

这里列出 `stacks/Pulumi.<stack>.yaml` 的全部配置项。在文件里，每个大项写成 `wsgi-ecs:app`，下面是一个映射；在命令行里写成 `pulumi config set --path 'wsgi-ecs:app.module' mysite.wsgi`，敏感配置加上 `--secret` 即可加密保存。配置写错时，会在创建任何资源之前报错，只有一行。实际用法见[常用配置](recipes.zh-CN.md)。

- **范围**：“机器”表示整台机器共用；“站点”表示有多个[站点](#sites)时，每个站点可以各有自己的值。
- **改动**：在已经运行的 stack 上修改后，下一次 `up` 会做什么。“发布”：新版本在旧版本旁边启动；“就地生效”：不产生新的发布；“重启”：服务器重启；“重建”：重建服务器，公网地址不变；“下次重建”：等到因为别的原因重建服务器时才起作用；“—”：什么也不做。同时需要几种时，只写影响最大的一种，从大到小依次为：重建、重启、发布、就地生效。
""",  # noqa: E501
        ("配置项", "允许的取值", "默认值", "含义", "范围", "改动"),
        ("机器", "站点"),
        ("重建", "重启", "发布", "就地生效", "下次重建", "—"),
        "指令和选项的详细说明见 {}。",
        Words(
            _CHINESE["types"],
            "、",
            "{} 到 {}",
            "不小于 {}",
            "，或 ",
            "列表，每一项是：{}",
            "映射：{} → {}",
            "{}。**敏感配置**",
            "整数",
        ),
        {key: texts["zh"] for key, texts in _CHINESE["keys"].items()},
    ),
)


def page(language: Language, found: Mapping[str, str]) -> str:
    """The page of a language. found: what effects() gives."""
    parts: dict[str, list[Row]] = {}
    for row in rows():
        parts.setdefault(row.key.split(".")[0], []).append(row)
    links = " · ".join(f"[{part}](#{part})" for part in parts)
    return "\n".join([language.head, links, *(_section(language, part, parts[part], found) for part in parts)])


def _section(language: Language, part: str, members: Sequence[Row], found: Mapping[str, str]) -> str:
    manual = re.search(r"http\S+", (model_of(Document.model_fields[part].annotation) or Document).__doc__ or "")
    lines = ["", f"## {part}", ""]
    if manual:
        lines += [language.manual.format(f"<{manual[0]}>"), ""]
    lines += [_line(language.columns), _line(["---"] * len(language.columns))]
    for row in members:
        what = allowed(row.kind, language.words)
        own = row.description if language.descriptions is None else language.descriptions[row.key]
        is_group = row.is_map and found[row.key] == "—"
        lines.append(
            _line(
                [
                    f"`{row.key}`",
                    language.words.secret.format(what) if row.is_secret else what,
                    shown(row.default),
                    own,
                    language.owners[row.of_site],
                    "" if is_group else language.effects[EFFECTS.index(found[row.key])],
                ]
            )
        )
    return "\n".join(lines)


def _line(cells: Sequence[str]) -> str:
    """A table's row; what would end a cell, or be HTML or emphasis in one, is escaped outside code."""
    return f"| {' | '.join(map(_cell, cells))} |"


def _cell(text: str) -> str:
    return "".join(
        piece.replace("|", "\\|") if number % 2 else re.sub(r"(?<!\*)([|<$\\_]|\*(?!\*))", r"\\\1", piece)
        for number, piece in enumerate(re.split(r"(`[^`]*`)", text))
    )
