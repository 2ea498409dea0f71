"""What is known beside the record: the network, samples to fit and to measure on, settings."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from fedcircuit.analysis.information import stratified_pool
from fedcircuit.app.study import build_study, circuit_settings, study_of
from fedcircuit.circuits.models import workable
from fedcircuit.circuits.probes import Probe
from fedcircuit.circuits.round import CircuitSettings
from fedcircuit.records.files import RunError
from fedcircuit.records.runs import Run
from fedcircuit.samples import Samples

MOST_SAMPLES = 2000  # a standard error of an accuracy of at most 1.1 points


@dataclass(frozen=True)
class Known:
    """What is known beside the record.

    Parameters
    ----------
    model
        The network whose weights were recorded.
    probe
        Rules fit on its discovery half; verdicts, and what clients recognise, are of the other.
    test
        What accuracy and recall are measured on.
    n_test
        Test samples there are, of which ``test`` may be a part.
    class_names, seed
        Of the run.
    circuits
        How the run found circuits; None where verdicts are not wanted.
    """

    model: nn.Module
    probe: Probe | None
    test: Samples
    n_test: int
    class_names: tuple[str, ...]
    seed: int
    circuits: CircuitSettings | None


@dataclass(frozen=True)
class Given:
    """What a program gives, which a study brings itself; None is not given."""

    model: nn.Module | None = None
    probe: Probe | None = None
    test: Samples | None = None
    circuits: CircuitSettings | None = None


def known_of(run: Run, given: Given, samples: int | None, *, verdicts: bool) -> Known:
    """What a study brings with it, or a program has given.

    Parameters
    ----------
    run, given
        The run, and what was given with it.
    samples
        Most test samples to measure on, classes in the same shares; None is all.
    verdicts
        Whether circuits are to be judged.

    Raises
    ------
    ValueError
        If what is given does not fit the run, or is not enough.
    RunError
        If a program recorded the run and no model is given.
    """
    if samples is not None and samples < 1:
        raise ValueError(f"samples must be >= 1, or None for all, got {samples}")
    known = _of_study(run, given) if given.model is None else _of_program(run, given, given.model)
    if not len(known.test):
        raise ValueError("there are no test samples to measure the new models on; give test")
    test = known.test if samples is None else stratified_pool(known.test, samples, seed=known.seed)
    circuits = known.circuits if verdicts and known.probe is not None else None
    return Known(
        known.model, known.probe, test, len(known.test), known.class_names, known.seed, circuits
    )


def _of_study(run: Run, given: Given) -> Known:
    if any(part is not None for part in (given.probe, given.test, given.circuits)):
        raise ValueError("give the model as well: a study brings its own probe and test samples")
    if not run.manifest.get("config"):
        raise RunError(
            f"{run.path} was recorded by a program of its own, which alone knows the network and "
            "the samples. Ask in Python: 'from fedcircuit.app.mending import what_if', then give "
            "what_if(RUN, model=..., probe=...) the model and the probe of that program's observe()"
        )
    study = build_study(study_of(run.manifest, run.path))
    seed, settings = study.config.seed, circuit_settings(study.config)
    return Known(
        study.model(), study.probe, study.test, len(study.test), study.class_names, seed, settings
    )


def _of_program(run: Run, given: Given, model: nn.Module) -> Known:
    probe = given.probe
    test = probe.checking if given.test is None and probe is not None else given.test
    if test is None:
        raise ValueError("give test samples, or a probe, to measure the new models on")
    names = run.class_names or (() if probe is None else probe.class_names)
    if not names:
        names = tuple(str(c) for c in range(int(test.labels.max()) + 1 if len(test) else 0))
    if probe is not None and probe.n_classes != len(names):
        raise ValueError(
            f"{run.path} has {len(names)} classes, the probe has {probe.n_classes}: give the probe "
            "that the run was observed with"
        )
    own = set(model.state_dict())
    if wrong := sorted(own.symmetric_difference(run.weights(0))):
        raise ValueError(
            f"the model does not fit the weights of {run.path}: they differ in "
            f"{', '.join(wrong[:5])}"
        )
    settings = given.circuits or CircuitSettings()
    seed = int(run.manifest.get("seed") or 0)
    return Known(workable(model), probe, test, len(test), names, seed, settings)
