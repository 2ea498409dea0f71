"""What people call the places of a model: their own names, else type and order (conv1, fc1).

A module has a name of its own where the last part of its path is not a number:
``features.conv1``, ``layer1.0.conv2`` and ``head`` are called so. A module that is only numbered,
as in ``nn.Sequential`` and ``nn.ModuleList``, is called after its type and its place among all
modules of that type, in order of execution: ``conv1``, ``conv2``, ``fc1``, ``attn1``. Names that
are taken are passed over, so no two places share one.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from fedcircuit.circuits import Site

CONVOLUTION, LINEAR, ATTENTION, NORM, EMBEDDING = "conv", "fc", "attn", "norm", "emb"
KINDS = (CONVOLUTION, LINEAR, ATTENTION, NORM, EMBEDDING)
UNIT_WORDS: Mapping[str, str] = {CONVOLUTION: "channel", LINEAR: "unit", ATTENTION: "head"}
# What else stands where a layer's name does (figures over all layers, the logits): no module's.
RESERVED = ("all", "output")
_OF_ATTENTION = ("in_proj_weight", "q_proj_weight")

Place = tuple[str, str]  # path and kind; the kind is empty where it is not known


def has_own_name(path: str) -> bool:
    """Whether the last part of a module's path is a name and not a number."""
    last = path.rpartition(".")[2]
    return bool(last) and not last.isdecimal() and path not in RESERVED


def layer_title(name: str, path: str = "") -> str:
    """A layer's name as a heading, the module path beside it: ``conv1 (module 0)``.

    Where nothing but a number is known it is ``layer 3``.
    """
    if name.isdecimal():
        return f"layer {name}"
    return f"{name} (module {path})" if path and path != name else name


def place_names(places: Iterable[Place], taken: Iterable[str] = ()) -> dict[str, str]:
    """Names by path, each of them once.

    Parameters
    ----------
    places
        Path and kind of each, in order of execution. One that is only numbered and of no known
        kind keeps its path.
    taken
        Further names that are in use.

    >>> place_names([("0", "conv"), ("2", "conv"), ("head.4", "fc"), ("head.out", "fc")])
    {'0': 'conv1', '2': 'conv2', 'head.4': 'fc1', 'head.out': 'head.out'}
    """
    listed = list(places)
    used = {*RESERVED, *taken, *(path for path, _ in listed if has_own_name(path))}
    counts: Counter[str] = Counter()
    names: dict[str, str] = {}
    for path, kind in listed:
        counts[kind] += 1
        if has_own_name(path) or not kind:
            names[path] = path
            continue
        while f"{kind}{counts[kind]}" in used:
            counts[kind] += 1
        names[path] = f"{kind}{counts[kind]}"
        used.add(names[path])
    return names


def layers_of(axes: Mapping[str, int]) -> list[Place]:
    """Modules that own tensors, in the order of the state dict, with the kind as far as it shows.

    Parameters
    ----------
    axes
        By name of every tensor, as in a state dict, how many axes it has. Weights of three axes
        and more are taken for convolutions, of two for linear layers; modules with running
        statistics, or with a vector of weights and one of biases, for normalisations.
    """
    attentions = {name.rpartition(".")[0] for name in axes if name.endswith(_OF_ATTENTION)}
    modules: dict[str, dict[str, int]] = {}
    for name, n_axes in axes.items():
        path, _, tensor = name.rpartition(".")
        owner = path.removesuffix(".out_proj")
        path, tensor = (owner, name) if owner in attentions else (path, tensor)
        path, inside, _ = path.partition(".parametrizations.")
        path = path.removesuffix(".parametrizations")
        modules.setdefault(path, {})[name if inside else tensor] = n_axes
    return [
        (path, ATTENTION if path in attentions else _kind(tensors))
        for path, tensors in modules.items()
        if path
    ]


def _kind(tensors: Mapping[str, int]) -> str:
    most = max(tensors.values())
    if most >= 3:
        return CONVOLUTION
    if most == 2:
        return LINEAR
    return NORM if "running_mean" in tensors or {"weight", "bias"} <= set(tensors) else ""


def _site_kind(path: str, axes: Mapping[str, int]) -> str:
    """Kind of a module that makes units, from the tensors in it; empty where it has none here."""
    inside = {name: n for name, n in axes.items() if name.startswith(f"{path}.")}
    if any(name.endswith(_OF_ATTENTION) for name in inside):
        return ATTENTION
    most = max(inside.values(), default=0)
    return CONVOLUTION if most >= 3 else LINEAR if most == 2 else ""


@dataclass(frozen=True)
class Names:
    """Names of a model's sites, and of its other layers, by path.

    Parameters
    ----------
    by_path
        Name of every module that is known.
    kinds
        By path, one of `KINDS`, empty where it is not known.
    """

    by_path: Mapping[str, str]
    kinds: Mapping[str, str]

    def __call__(self, path: str) -> str:
        """Name of a module, or of a tensor in one (``0.weight`` is ``conv1.weight``).

        What is not known keeps its path.
        """
        owner = path
        while owner not in self.by_path:
            owner, dot, _ = owner.rpartition(".")
            if not dot:
                return path
        return f"{self.by_path[owner]}{path[len(owner) :]}"

    def units(self, path: str, n: int = 2) -> str:
        """What the units of a site are called: channels, units or heads."""
        word = UNIT_WORDS.get(self.kinds.get(path, ""), "unit")
        return word if n == 1 else f"{word}s"


def model_names(
    sites: Sequence[Place],
    axes: Mapping[str, int] | None = None,
    recorded: Mapping[str, str] | None = None,
) -> Names:
    """Names of all that is known of a model.

    Parameters
    ----------
    sites
        Path and kind of each, in order of execution; where the kind is empty it is read from the
        weights.
    axes
        By name of every tensor, how many axes it has; None where weights are not known. Layers
        that are no site, such as the last one, are numbered after the sites of their kind. What
        looks linear but comes before the first site is an embedding: it would be a site itself.
    recorded
        Names of sites, by path, that were found before; they stay.

    >>> names = model_names([("0", ""), ("2", "")], {"0.weight": 4, "2.weight": 2, "2.bias": 1})
    >>> names("0"), names("2.bias"), names.units("0")
    ('conv1', 'fc1.bias', 'channels')
    """
    axes = axes or {}
    known = {path: kind or _site_kind(path, axes) for path, kind in sites}
    layers = layers_of(axes)
    first = next((i for i, (path, _) in enumerate(layers) if path in known), 0)
    others = [
        (path, EMBEDDING if kind == LINEAR and i < first else kind)
        for i, (path, kind) in enumerate(layers)
        if path not in known
    ]
    places = [*known.items(), *others]
    kept = {path: name for path, name in (recorded or {}).items() if path in known and name}
    found = place_names(places, kept.values())
    return Names({**found, **kept}, dict(places))


def named_sites(sites: Sequence[Site], axes: Mapping[str, int]) -> tuple[Site, ...]:
    """The sites with what people call them.

    Parameters
    ----------
    sites
        In order of execution, each with its kind.
    axes
        By name of every tensor of the model, how many axes it has.
    """
    names = model_names([(site.name, site.kind) for site in sites], axes)
    return tuple(replace(site, called=names(site.name)) for site in sites)
