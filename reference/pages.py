"""The page of settings in each language."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import yaml

from reference import PROJECT
from reference.allowed import ENGLISH, Words, allowed, shown
from reference.effects import EFFECTS
from reference.rows import Row, model_of, rows
from settings.stack import Document

CHINESE = PROJECT / "docs/settings.zh-CN.yaml"


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

This page lists every setting of `stacks/Pulumi.<stack>.yaml`. In that file a section is written as `wsgi-ecs:app` with
a map below it. On the command line it is `pulumi config set --path 'wsgi-ecs:app.module' mysite.wsgi`, with
`--secret` to encrypt the value. A wrong value is rejected in one line before anything is created.
[Recipes](recipes.md) show settings in use.

- **for**: a `machine` setting is shared by the whole machine; with several [sites](#sites), each site may have its own
  value of a `site` setting.
- **a change**: what the next `up` does on a running stack. `release`: a new release starts beside the old one;
  `in place`: the change applies without a release; `restart`: the server restarts; `new server`: the server is replaced
  and keeps its public address; `next server`: the change waits until the server is replaced for another reason;
  —: nothing happens. If a change has several effects, the most disruptive one is listed.
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
