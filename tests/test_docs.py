"""The documentation says what the code says: names, defaults, dependencies, running examples."""

from __future__ import annotations

import doctest
import importlib
import importlib.util
import re
import tomllib
from dataclasses import asdict
from enum import StrEnum
from pathlib import Path
from types import ModuleType

import pytest
import source_rules as rules
import yaml
from command_line import script

import fedcircuit
from fedcircuit import messages
from fedcircuit.circuits.checks.validity import Status, ValidityThresholds
from fedcircuit.circuits.verdicts.judging import Verdict, VerdictThresholds

DOCS = rules.ROOT / "docs"
PROJECT = tomllib.loads((rules.ROOT / "pyproject.toml").read_text("utf-8"))["project"]
PAGES = sorted(path for path in DOCS.glob("*.md"))


def page(name: str) -> str:
    return (DOCS / name).read_text("utf-8")


def section(text: str, title: str) -> str:
    """What stands under a heading, up to the next heading of its level or above."""
    match = re.search(rf"^(#+) {re.escape(title)}\n(.*?)(?=^\1? ?#+ |\Z)", text, re.M | re.S)
    assert match, f"no section {title!r}"
    return match[2]


def table_rows(text: str) -> list[tuple[str, ...]]:
    """Cells of the rows of all tables in a text, headings left out."""
    lines = [line for line in text.splitlines() if line.startswith("|")]
    rows = [tuple(cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]) for line in lines]
    ruled = [index for index, row in enumerate(rows) if set("".join(row)) <= set("-:")]
    return [row for index, row in enumerate(rows) if index not in ruled and index + 1 not in ruled]


def names_in(cell: str) -> list[str]:
    return re.findall(r"`([^`]+)`", cell)


def test_the_table_reader_leaves_out_headings() -> None:
    text = "| a | b |\n|---|---|\n| `x` | 1 \\| 2 |\n\ntext\n\n| c |\n|---|\n| `y` |\n"
    assert table_rows(text) == [("`x`", "1 \\| 2"), ("`y`",)]


def distribution(requirement: str) -> str:
    return re.split(r"[\[><=!~; ]", requirement)[0]


@pytest.mark.parametrize(
    ("title", "extras"),
    [("Always installed", ()), ("Development", ("dev",)), ("Documentation", ("docs",))],
)
def test_the_dependency_page_names_every_dependency_and_no_other(
    title: str, extras: tuple[str, ...]
) -> None:
    requirements = [PROJECT["optional-dependencies"][extra] for extra in extras]
    wanted = requirements[0] if extras else PROJECT["dependencies"]
    rows = table_rows(section(page("dependencies.md"), title))
    assert [names_in(row[0])[0] for row in rows] == [distribution(name) for name in wanted]
    assert all(len(row[1]) > 5 for row in rows)


def test_the_dependency_page_names_every_extra_and_no_other() -> None:
    rows = table_rows(section(page("dependencies.md"), "Extras"))
    named = {(names_in(extra)[0], names_in(library)[0]) for library, extra, _ in rows}
    extras = PROJECT["optional-dependencies"].items()
    assert named == {
        (extra, distribution(name))
        for extra, wanted in extras
        if extra not in ("dev", "docs")
        for name in wanted
    }


def configuration_module() -> ModuleType:
    path = DOCS / "generate_configuration.py"
    spec = importlib.util.spec_from_file_location("generate_configuration", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_configuration_page_is_the_generated_one() -> None:
    assert page("configuration.md") == configuration_module().page(), (
        "run: python docs/generate_configuration.py"
    )


def test_the_page_of_data_is_the_generated_one() -> None:
    assert page("data.md") == configuration_module().data_page(), (
        "run: python docs/generate_configuration.py"
    )


def test_the_page_of_data_has_an_example_of_every_kind() -> None:
    from fedcircuit.app.config import EXAMPLES
    from fedcircuit.learning.sources.data_source import DATASET_NAMES

    named = [
        yaml.safe_load(block)["data"]["name"] for name, block in yaml_blocks() if name == "data.md"
    ]
    assert named == [example.name for example in EXAMPLES]
    assert sorted(named) == sorted(DATASET_NAMES)


def yaml_blocks() -> list[tuple[str, str]]:
    return [
        (path.name, block)
        for path in PAGES
        for block in re.findall(r"^```yaml\n(.*?)^```", path.read_text("utf-8"), re.M | re.S)
    ]


@pytest.mark.parametrize(("name", "block"), yaml_blocks())
def test_every_study_on_a_page_is_accepted(name: str, block: str, tmp_path: Path) -> None:
    from fedcircuit.app.config.files import load_study

    (tmp_path / "study.yaml").write_text(block, encoding="utf-8")
    assert load_study(tmp_path / "study.yaml").name, name


@pytest.mark.parametrize(
    ("title", "thresholds"),
    [
        ("Status of a class in a model", ValidityThresholds()),
        ("Verdict on a client's circuit of a class", VerdictThresholds()),
    ],
)
def test_thresholds_and_their_defaults_are_those_of_the_code(
    title: str, thresholds: ValidityThresholds | VerdictThresholds
) -> None:
    rows = table_rows(section(page("concepts.md"), title))
    shown = {names_in(row[0])[0]: float(row[1]) for row in rows if len(row) == 3}
    assert shown == asdict(thresholds)


@pytest.mark.parametrize(
    ("title", "words"),
    [
        ("Status of a class in a model", Status),
        ("Verdict on a client's circuit of a class", Verdict),
    ],
)
def test_statuses_and_verdicts_are_those_of_the_code(title: str, words: type[StrEnum]) -> None:
    rows = table_rows(section(page("concepts.md"), title))
    assert [names_in(row[0])[0] for row in rows if len(row) == 2] == list(words)


def test_the_keys_of_the_side_record_are_those_of_the_code() -> None:
    rows = table_rows(section(page("architecture.md"), "Messages"))
    shown = [name for row in rows for name in names_in(row[0])]
    no_keys = ("SIDE_CHANNEL", "IDENTITY_QUERY", "CLIENT_CIRCUIT_KEYS", "SIDE_KEYS", "RULE_KEYS")
    keys = {name: value for name, value in vars(messages).items() if name.isupper()}
    assert sorted(shown) == sorted(keys[name] for name in keys if name not in no_keys)


def test_the_house_is_described_in_the_order_of_its_layers() -> None:
    rows = table_rows(section(page("architecture.md"), "The house"))
    described = [Path(name).stem for row in rows for name in names_in(row[0])]
    assert described == list(rules.MAY_IMPORT)


def test_the_reference_describes_every_public_name_and_no_other() -> None:
    described = re.findall(r"^\.\. auto\w+:: fedcircuit\.(\w+)$", page("api.md"), re.M)
    assert sorted(described) == sorted(fedcircuit.__all__)


def test_the_way_in_names_files_that_are_there() -> None:
    text = (rules.ROOT / "CONTRIBUTING.md").read_text("utf-8")
    rows = table_rows(section(text, "What to add, and where"))
    assert len(rows) > 4
    for row in rows:
        for name in names_in(row[1]) + names_in(row[3]):
            assert (rules.ROOT / name).exists(), name
        for page_name, heading in re.findall(r"\(docs/([\w-]+\.md)(?:#([\w-]+))?\)", row[4]):
            headings = re.findall(r"^## (.*)$", page(page_name), re.M)
            assert not heading or heading in [h.lower().replace(" ", "-") for h in headings]


def test_the_citation_is_of_this_version() -> None:
    cited = yaml.safe_load((rules.ROOT / "CITATION.cff").read_text("utf-8"))
    assert cited["version"] == PROJECT["version"]
    assert cited["license"] in str(PROJECT["license"])


def test_every_command_on_a_page_exists() -> None:
    from fedcircuit.app.commands.cli import app

    known = {
        command.name or command.callback.__name__
        for command in app.registered_commands
        if command.callback
    }
    texts = [path.read_text("utf-8") for path in [*PAGES, rules.ROOT / "README.md"]]
    used = {
        name
        for text in texts
        for name in re.findall(r"^(?:\$ )?fedcircuit ([a-z][a-z-]*)", code_of(text), re.M)
    }
    assert used - known == set()


def code_of(text: str) -> str:
    """Console blocks and inline code of a page, one piece a line."""
    blocks = re.findall(r"^```console\n(.*?)^```", text, re.M | re.S)
    return "\n".join([*blocks, *re.findall(r"`([^`\n]+)`", text)]) + "\n"


def links(text: str) -> list[str]:
    pages = re.findall(r"\]\(([\w/-]+\.(?:md|ipynb))(?:#[\w-]+)?\)", text)
    for block in re.findall(r"```\{toctree\}\n(.*?)```", text, re.S):
        entries = [line for line in block.splitlines() if line and not line.startswith(":")]
        pages += [entry if "." in entry else f"{entry}.md" for entry in entries]
    return pages


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_every_link_between_pages_leads_somewhere(path: Path) -> None:
    missing = [name for name in links(path.read_text("utf-8")) if not (DOCS / name).is_file()]
    assert missing == []


def test_every_file_that_the_readme_names_is_there() -> None:
    text = (rules.ROOT / "README.md").read_text("utf-8")
    paths = re.findall(r"\]\((?!https?://)([^)#]+)", text)
    paths += re.findall(r"(?<![\w/])((?:experiments|docs)/[\w/.-]+\w)", text)
    assert paths
    assert [path for path in paths if not (rules.ROOT / path).exists()] == []


def test_every_page_is_in_the_table_of_contents() -> None:
    assert {path.name for path in PAGES} - {"index.md"} <= set(links(page("index.md")))


def test_make_bench_runs_every_benchmark() -> None:
    run = re.findall(r"\$\(BENCH\)/(\S+)", (rules.ROOT / "Makefile").read_text("utf-8"))
    assert sorted(run) == sorted(
        path.name for path in (rules.ROOT / "experiments/benchmarks").glob("*.py")
    )


def examples(text: str) -> str:
    """The Python of a page that a reader can run from top to bottom."""
    return "\n".join(re.findall(r"^```python\n(.*?)^```", text, re.M | re.S))


def modules_with_examples() -> list[str]:
    sources = rules.package_sources()
    return [name for name, text in sources.items() if re.search(r"^\s*>>> ", text, re.M)]


@pytest.mark.parametrize("name", modules_with_examples())
def test_the_examples_in_docstrings_are_true(name: str) -> None:
    result = doctest.testmod(importlib.import_module(name))
    assert result.attempted > 0
    assert result.failed == 0


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    [
        "quickstart.md",
        "flower-project.md",
        "add-a-method.md",
        "extend.md",
        "add-a-rule.md",
        "livar.md",
    ],
)
def test_the_examples_of_a_page_run(name: str, tmp_path: Path) -> None:
    (tmp_path / "example.py").write_text(examples(page(name)), encoding="utf-8")
    ran = script(tmp_path / "example.py", cwd=tmp_path)
    assert ran.returncode == 0, (ran.stdout + ran.stderr)[-3000:]
