"""From arms and seeds to the folder of a sweep: all that can be refused before anything runs."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from fedcircuit.app.config import ConfigError, StudyConfig, parse_study
from fedcircuit.app.study import checked_study
from fedcircuit.records.files import LOCK, RunError
from fedcircuit.records.rounds import plain
from fedcircuit.records.sweeps import SWEEP, Sweep, is_sweep, read_sweep

# What runs of one seed share only if the arms agree in it.
PAIRED: Mapping[str, str] = {
    "data": "the data",
    "partition": "who holds what",
    "model": "the initial weights",
    "circuits.probe_per_class": "the probe and the test samples",
    "strategy.fraction_train": "who trains in a round",
}


def plan_sweep(
    arms: Mapping[str, StudyConfig], seeds: Sequence[int], out: Path, *, unpaired: bool = False
) -> Sweep:
    """The sweep that a folder is to hold, with what it holds already; nothing is written.

    More seeds and further arms may come to a sweep that is there.

    Parameters
    ----------
    arms
        The study of each arm; seeds in them are ignored.
    seeds
        In ascending order.
    out
        The folder.
    unpaired
        Whether arms may differ in what runs of one seed should share.

    Raises
    ------
    ConfigError
        If arms differ so that their runs would not be paired, or a study does not fit its data.
    RunError
        If the folder holds another sweep, or something else.
    """
    if not arms or not seeds:
        raise ConfigError(f"a sweep needs arms and seeds, got {len(arms)} and {len(seeds)}")
    configs = {name: _without_seed(config) for name, config in arms.items()}
    differing = unpaired_keys(configs)
    if differing and not unpaired:
        raise ConfigError(_not_paired(configs, differing))
    sweep = Sweep(out, tuple(seeds), configs, tuple(differing))
    sweep = _with_known(sweep)
    for name, config in arms.items():
        try:
            checked_study(config.model_copy(update={"seed": seeds[0]}), out / name)
        except (ValueError, OSError, ImportError) as error:
            raise ConfigError(f"arm {name!r}: {error}") from error
    return sweep


def _without_seed(config: StudyConfig) -> dict[str, Any]:
    content: dict[str, Any] = plain(config.model_dump(mode="json", exclude={"seed"}), "config")
    return content


def _of_this_version(config: Mapping[str, Any]) -> Mapping[str, Any]:
    """A recorded configuration with the defaults of keys that came later, where it can be read."""
    try:
        return _without_seed(parse_study(config))
    except ConfigError:
        return config


def unpaired_keys(configs: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Those of `PAIRED` in which the arms differ."""
    return [
        key
        for key in PAIRED
        if len({json.dumps(_at(config, key), sort_keys=True) for config in configs.values()}) > 1
    ]


def _not_paired(configs: Mapping[str, Mapping[str, Any]], differing: Sequence[str]) -> str:
    first, *others = configs
    key = differing[0]
    other = next(name for name in others if _at(configs[name], key) != _at(configs[first], key))
    changed = changes({key: _at(configs[first], key)}, {key: _at(configs[other], key)})
    shared = " and ".join(PAIRED[key] for key in differing)
    return (
        f"arms {first!r} and {other!r} differ in {changed[0]}: their runs of one seed would not "
        f"share {shared}, so they would not be paired. Make the arms agree in "
        f"{', '.join(differing)}, or say --unpaired if this is what you compare"
    )


def changes(first: Mapping[str, Any], second: Mapping[str, Any], prefix: str = "") -> list[str]:
    """Where two configurations differ: ``key (one value, other value)``."""
    found = []
    for key in sorted({*first, *second}):
        one, other = first.get(key), second.get(key)
        if isinstance(one, Mapping) and isinstance(other, Mapping):
            found += changes(one, other, f"{prefix}{key}.")
        elif one != other:
            found.append(f"{prefix}{key} ({json.dumps(one)[:60]}, {json.dumps(other)[:60]})")
    return found


def _at(config: Mapping[str, Any], key: str) -> Any:
    value: Any = config
    for part in key.split("."):
        value = value[part]
    return value


def _with_known(sweep: Sweep) -> Sweep:
    """The sweep with the seeds that its folder has already."""
    path = sweep.path
    if path.exists() and not path.is_dir():
        raise RunError(f"{path} is a file; choose another folder with --out")
    if not is_sweep(path):
        if path.exists() and any(e.name not in (LOCK, f".{SWEEP}.tmp") for e in path.iterdir()):
            raise RunError(
                f"{path} is not empty and holds no sweep ({SWEEP}); choose another folder with "
                "--out"
            )
        return sweep
    known = read_sweep(path)
    for name, config in known.arms.items():
        if name not in sweep.arms:
            raise RunError(
                f"{path} holds a sweep with the arm {name!r}, which is not asked for; name all its "
                f"arms ({', '.join(known.arms)}), or choose another folder with --out"
            )
        changed = changes(_of_this_version(config), sweep.arms[name])
        if changed:
            raise RunError(
                f"{path} holds a sweep whose arm {name!r} differs from the one asked for (there, "
                f"now): {'; '.join(changed[:3])}; choose another folder with --out"
            )
    if next(iter(known.arms)) != next(iter(sweep.arms)):
        raise RunError(
            f"{path} holds a sweep that compares with {next(iter(known.arms))!r}, its first arm; "
            "name that one first"
        )
    return replace(sweep, seeds=tuple(sorted({*known.seeds, *sweep.seeds})))
