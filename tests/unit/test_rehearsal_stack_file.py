"""A stack's file, read as Pulumi's engine reads it."""

import json
from pathlib import Path

import pytest

from rehearsal.commands.stack_file import load
from rehearsal.engine.errors import UserError

PROJECT = """\
name: site
stackConfigDir: stacks
config:
  app: {type: object, default: {}}
  plain: {type: string, default: text}
  none: {type: string}
"""


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "Pulumi.yaml").write_text(PROJECT)
    (tmp_path / "stacks").mkdir()
    return tmp_path


def write(root: Path, text: str, name: str = "dev") -> Path:
    (root / "stacks" / f"Pulumi.{name}.yaml").write_text(text)
    return root


def refusal(root: Path, name: str = "dev") -> str:
    with pytest.raises(UserError) as caught:
        load(root, name)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_structured_values_arrive_as_json_and_text_as_it_is(root: Path) -> None:
    write(root, "config:\n  alicloud:region: cn-hangzhou\n  site:app: {module: site, n: 2}\n")
    config = load(root, "dev").config
    assert json.loads(config["site:app"]) == {"module": "site", "n": 2}
    assert config["alicloud:region"] == "cn-hangzhou"


def test_the_projects_defaults_hold_where_the_stack_says_nothing(root: Path) -> None:
    assert load(write(root, "config: {}\n"), "dev").config == {"site:app": "{}", "site:plain": "text"}


def test_a_key_without_a_namespace_belongs_to_the_project(root: Path) -> None:
    assert load(write(root, "config: {plain: own}\n"), "dev").config["site:plain"] == "own"


def test_booleans_and_numbers_become_text(root: Path) -> None:
    config = load(write(root, "config: {plain: true, n: 3}\n"), "dev").config
    assert (config["site:plain"], config["site:n"]) == ("true", "3")


def test_an_empty_stack_file_is_a_stack(root: Path) -> None:
    assert load(write(root, ""), "dev").name == "dev"


def test_an_unknown_stack_is_refused_with_those_that_exist(root: Path) -> None:
    write(write(root, ""), "", "prod")
    assert refusal(root, "nope") == "stacks/Pulumi.nope.yaml: no such stack; allowed: dev, prod"


def test_what_is_not_yaml_is_refused_with_its_line(root: Path) -> None:
    assert refusal(write(root, "config:\n  a: [1\n  b: 2\n")).startswith("stacks/Pulumi.dev.yaml: line 3: not YAML")


def test_a_map_that_takes_over_another_may_say_a_key_again(root: Path) -> None:
    text = "config:\n  app: &shared {source: ./a, module: a}\n  plain: {<<: *shared, module: b}\n"
    config = load(write(root, text), "dev").config
    assert json.loads(config["site:plain"]) == {"source": "./a", "module": "b"}
    assert json.loads(config["site:app"]) == {"source": "./a", "module": "a"}


@pytest.mark.parametrize("text", ["config: [1]\n", "- 1\n"])
def test_a_config_that_is_no_map_is_refused(root: Path, text: str) -> None:
    assert "allowed: a map of keys" in refusal(write(root, text))


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("12:30", "12:30"),
        ("1.0", "1"),
        ("1e3", "1000"),
        ("0812345678", "812345678"),
        ("017", "15"),
        ("0o17", "15"),
        ("0x1F", "31"),
        ("1_000", "1000"),
        ("-1.5", "-1.5"),
        ("2020-01-01", "2020-01-01"),
        ("1_000.5", "1000.5"),
        ("0x_", "0x_"),
        ("1e400", "1e400"),
        ("18446744073709551616", "18446744073709551616"),
        ("y", "true"),
        ("'1.0'", "1.0"),
        ("'y'", "y"),
    ],
)
def test_a_scalar_is_what_pulumi_takes_it_for(root: Path, text: str, value: str) -> None:
    config = load(write(root, f"config: {{plain: {text}, app: {{a: {text}}}}}\n"), "dev").config
    assert config["site:plain"] == value
    inside = json.loads(config["site:app"])["a"]
    assert (inside if isinstance(inside, str) else json.dumps(inside)) == value


FOLDER = "allowed: a folder of the project, such as stacks"


@pytest.mark.parametrize(
    ("project", "line"),
    [
        ("name: site\nconfig: [a]\n", "Pulumi.yaml: config: allowed: a map of keys"),
        (
            "name: site\nstackConfigDir: [a]\n",
            f"Pulumi.yaml: stackConfigDir: {FOLDER}",
        ),
        (
            "name: site\nstackConfigDir: /etc\n",
            f"Pulumi.yaml: stackConfigDir: {FOLDER}",
        ),
    ],
)
def test_a_project_file_that_is_wrong_is_one_line(root: Path, project: str, line: str) -> None:
    (root / "Pulumi.yaml").write_text(project)
    (root / "Pulumi.dev.yaml").touch()
    assert refusal(root) == line


def test_what_is_no_file_of_text_is_one_line(root: Path) -> None:
    (root / "stacks/Pulumi.folder.yaml").mkdir()
    assert refusal(root, "folder") == "stacks/Pulumi.folder.yaml: no plain file; allowed: a file of YAML"
    write(root, "", "a\nb")
    assert refusal(root, "nope") == "stacks/Pulumi.nope.yaml: no such stack; allowed: 'a\\nb'"
    assert refusal(write(root, "config: {a: \x07}\n")).endswith("not YAML: special characters are not allowed")
    assert refusal(write(root, "config: " + "[" * 3000 + "]" * 3000)).endswith("allowed: plain YAML")
    assert "'a\\nb'" in refusal(write(root, 'config: {}\n"a\\nb": 1\n'))
