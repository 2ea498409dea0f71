"""Writes configuration.md and data.md from the code: ``python docs/generate_configuration.py``."""

from __future__ import annotations

import types
from collections.abc import Iterator
from dataclasses import MISSING, fields, is_dataclass
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin

import yaml
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from fedcircuit.app.config import EXAMPLES, StudyConfig
from fedcircuit.circuits.methods import METHOD_NAMES, discovery_method
from fedcircuit.circuits.search import size_options
from fedcircuit.learning.readers import pictures

PAGE = Path(__file__).with_name("configuration.md")
DATA_PAGE = Path(__file__).with_name("data.md")

INTRODUCTION = """\
<!-- Written by docs/generate_configuration.py from the schema in fedcircuit/app; do not edit. -->

# Configuration

A study is a YAML file. Every key has a default, so a file says only what differs:

```yaml
name: two-by-two
seed: 1
partition: {kind: classes, classes: [[0, 1], [2, 3], [4, 5], [6, 7], [8, 9]]}
training: {rounds: 5, epochs: 2, optimizer: adam, lr: 0.003, sparsity: {target: 0.9}}
circuits: {probe_per_class: 16}
```

```console
$ fedcircuit run two-by-two.yaml
$ fedcircuit run two-by-two.yaml --set training.lr=0.05 --set seed=2
```

`--set key.path=value` replaces one value, read as YAML, before anything is checked.
An unknown key is refused, and the nearest known one is named.
What a run really used, defaults included, is under `config` in its `manifest.json`.
"""

DATA_INTRODUCTION = """\
<!-- Written by docs/generate_configuration.py from the code; do not edit. -->

# Data

A study names its data under `data`; [Configuration](configuration.md) has every key.
`fedcircuit doctor` prints these examples too.
Nothing is downloaded unless `data.download` allows it, and nothing is guessed: a file that can be read in two ways is refused with the key that decides, and a row that cannot be used is named with its file.
Rows are counted from 0.

## Kinds
"""

DATA_RULES = """\
## What holds for all files

| question | answer |
|---|---|
| which split is tested on | `test`, else `testing`, `validation`, `valid`, `val`, `dev`; `data.test_split` names another. Where there is one split only, `data.test_share` holds a share of it out, in the mix of the classes |
| which classes, in which order | those of `data.classes`; else the names in the metadata of the label's own column; else whole numbers are the classes 0, 1, ... and text (dictionary-encoded or not, and names of folders) is sorted |
| labels that are no classes | refused: missing, negative (rows without a label are often marked -1), not whole, 2^62 or more, or absent from training |
| numbers that are inputs of a table | all columns but the label and `data.columns`, or those of `data.features`. Refused, with the row and the value or the name: cells that are no numbers (`NA`, `1,000`, `0x10`, a date), columns of one name, a column without a name such as the index that pandas writes, rows with more cells than names |
| their precision | float32. Columns that it rounds by more than a tenth of their standard deviation (identifiers, times in seconds) are refused, by more than a hundredth said in the log; LEAF's are not checked |
| links to folders | followed; one that leads back to a folder it lies in is refused |
| shards | read in the order of their numbers; a set that is not whole is refused |
| hidden files and folders | left out, and so are `__MACOSX` and `@eaDir` |
| sizes | all images must have one size; nothing is scaled |
| pixels | 8 and 16 bits as shares of their largest value, then (share - mean) / sd: 0.1307 and 0.3081 for MNIST, 0.2860 and 0.3530 for Fashion-MNIST, 0.305 and 0.376 for digits, else 0.5 and 0.5. Pictures of 12 bits in 16 use a sixteenth of the range |
| other numbers | by mean and sd of the training samples, a table column by column, images (floats in npz, LEAF) all pixels together; `data.standardise: false` leaves them |
| inputs that are not finite | refused, with row and column |
| rows that are images | `data.shape: [28, 28]`; 784 numbers of LEAF are 28x28 by themselves |
| clients that the data come with | `partition: {kind: natural, column: NAME}`: one client for each value, in the order of the values; with fewer `clients` so many of them are drawn by the seed. Rows of the tests need no such column. Image folders and the sets of torchvision have no columns |
"""

BOUNDS = {"ge": "≥ {}", "gt": "> {}", "le": "≤ {}", "lt": "< {}"}


def page() -> str:
    """The whole page."""
    parts = [INTRODUCTION, _section("The study", StudyConfig)]
    for path, model in _sections(StudyConfig):
        parts.append(_section(f"`{path}`", model))
    parts += ["## Options of the discovery methods\n", "Keys of `circuits.options`.\n"]
    parts += [_options(name) for name in METHOD_NAMES]
    defaults = yaml.safe_dump(_plain(StudyConfig().model_dump()), sort_keys=False)
    parts += ["## All defaults\n", f"```yaml\n{defaults}```\n"]
    return "\n".join(parts)


def data_page() -> str:
    """The page of the kinds of data."""
    kinds = [
        f"### `{kind.name}`\n\nFiles below `data.root`: {kind.files}.\n\n```yaml\n{kind.yaml}\n```\n"
        for kind in EXAMPLES
    ]
    modes = (pictures.__doc__ or "").split("\n\n", 1)[1]
    return "\n".join([DATA_INTRODUCTION, *kinds, DATA_RULES, "## Images\n", modes])


def _sections(model: type[BaseModel], prefix: str = "") -> Iterator[tuple[str, type[BaseModel]]]:
    """Every section below a model with its dotted path, outer before inner."""
    for name, field in model.model_fields.items():
        inner = _inner(field)
        if inner is not None:
            yield f"{prefix}{name}", inner
            yield from _sections(inner, f"{prefix}{name}.")


def _inner(field: FieldInfo) -> type[BaseModel] | None:
    for candidate in (field.annotation, *get_args(field.annotation)):
        if isinstance(candidate, type) and issubclass(candidate, BaseModel):
            return candidate
    return None


def _section(title: str, model: type[BaseModel]) -> str:
    rows = ["| key | value | default | meaning |", "|---|---|---|---|"]
    for name, field in model.model_fields.items():
        inner = _inner(field)
        meaning = field.description or (inner.__doc__ if inner else None)
        if meaning is None:
            raise ValueError(f"{model.__name__}.{name} has no description")
        listed = get_origin(field.annotation) is tuple
        value = ("list of sections" if listed else "section") if inner else _words(field)
        rows.append(f"| `{name}` | {value} | {_default(field)} | {_escaped(meaning)} |")
    return f"## {title}\n\n{model.__doc__}\n\n" + "\n".join(rows) + "\n"


def _words(field: FieldInfo) -> str:
    """Type and bounds of a field, for people."""
    bounds = [
        text.format(f"{getattr(limit, name):g}")
        for limit in field.metadata
        for name, text in BOUNDS.items()
        if getattr(limit, name, None) is not None
    ]
    pattern = [
        f"matches `{limit.pattern}`" for limit in field.metadata if getattr(limit, "pattern", None)
    ]
    return _escaped(", ".join([_type(field.annotation), *bounds, *pattern]))


def _type(annotation: Any) -> str:
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Literal:
        return " · ".join(f"`{choice}`" for choice in arguments)
    if origin in (Union, types.UnionType):  # "left out" in the next column says the rest
        return " or ".join(_type(choice) for choice in arguments if choice is not type(None))
    if origin is tuple:
        inner = _type(arguments[0])
        return f"list of {inner.replace('list', 'lists') if 'list' in inner else inner + 's'}"
    if origin is dict:
        return "mapping"
    return {str: "text", int: "integer", float: "number", bool: "true or false"}[annotation]


def _default(field: FieldInfo) -> str:
    if _inner(field) is not None and field.default != ():
        return "left out" if field.default is None else "see below"
    if field.is_required():
        return "none: must be given"
    value = field.get_default(call_default_factory=True)
    return "left out" if value is None else f"`{_scalar(value)}`"


def _scalar(value: object) -> str:
    """A value as YAML in one line."""
    text = yaml.safe_dump(_plain(value), default_flow_style=True, width=10_000)
    return text.removesuffix("\n").removesuffix("\n...").strip()


def _plain(value: object) -> object:
    if is_dataclass(value):  # a size rule, the only option that is a record
        return size_options(value)  # type: ignore[arg-type]
    if isinstance(value, dict):
        return {key: _plain(inner) for key, inner in value.items()}
    return [_plain(inner) for inner in value] if isinstance(value, (tuple, list)) else value


def _escaped(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def _options(name: str) -> str:
    """Options of one discovery method: the fields of its dataclass, explained in its docstring."""
    method = type(discovery_method(name))
    meanings = _parameters(method.__doc__ or "")
    rows = ["| option | default | meaning |", "|---|---|---|"]
    for field in fields(method):  # type: ignore[arg-type]
        factory = field.default_factory
        default = field.default if factory is MISSING else factory()
        shown = "all" if default is None else f"`{_scalar(default)}`"
        rows.append(f"| `{field.name}` | {shown} | {_escaped(meanings[field.name])} |")
    first = (method.__doc__ or "").strip().splitlines()[0]
    return f"### `{name}`\n\n{first}\n\n" + "\n".join(rows) + "\n"


def _parameters(docstring: str) -> dict[str, str]:
    """Meaning of each name in the Parameters section of a NumPy docstring."""
    lines = docstring.split("Parameters\n", 1)[-1].splitlines()[1:]
    rules = [index for index, line in enumerate(lines) if set(line.strip()) == {"-"}]
    lines = lines[: rules[0] - 1] if rules else lines  # the next section's heading and rule
    meanings: dict[str, list[str]] = {}
    names: list[str] = []
    margin = min(len(line) - len(line.lstrip()) for line in lines if line.strip())
    for line in lines:
        if line.strip() and len(line) - len(line.lstrip()) == margin:
            names = [name.strip() for name in line.split(",")]
        else:
            for name in names:
                meanings.setdefault(name, []).append(line.strip())
    return {name: " ".join(words).replace("``", "`") for name, words in meanings.items()}


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
    DATA_PAGE.write_text(data_page(), encoding="utf-8")
