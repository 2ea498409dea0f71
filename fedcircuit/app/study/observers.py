"""What looks at the rounds of a study, while it runs or later."""

from __future__ import annotations

from collections.abc import Callable

from torch import nn

from fedcircuit.analysis.information import logarithmic_rounds, stratified_pool
from fedcircuit.app.study.parts import Study, circuit_settings
from fedcircuit.learning import Weights
from fedcircuit.observers import EvaluationObserver, InertiaObserver, InformationObserver
from fedcircuit.observers.circuits import CircuitObserver
from fedcircuit.records.rounds import Observer

WeightsAfter = Callable[[int], Weights | None]


def study_observers(study: Study, weights_after: WeightsAfter) -> list[Observer]:
    """Accuracy, inertia, information and circuits, as far as the study asks for them.

    Parameters
    ----------
    study
        The parts of the federation.
    weights_after
        Global weights after a recorded round, None where it is not recorded: a run that goes on,
        or is looked at again, takes the snapshot of inertia from there.
    """
    config, model = study.config, study.model()
    observers: list[Observer] = [EvaluationObserver(model, study.test, study.class_names)]
    if config.inertia.enabled:
        after = config.inertia.snapshot
        observers.append(InertiaObserver(weights_after(after), snapshot_round=after))
    if config.information.enabled:
        observers.append(_information_observer(study, model))
    if config.circuits.enabled:
        observers.append(
            CircuitObserver(
                model,
                study.probe,
                circuit_settings(config),
                seed=config.seed,
                every=config.circuits.every,
                max_clients=config.circuits.max_clients,
                time_budget=config.circuits.time_budget,
                discover_on=config.circuits.discover_on,
                scores=config.storage.scores,
                ceiling=config.circuits.ceiling,
            )
        )
    return observers


def _information_observer(study: Study, model: nn.Module) -> InformationObserver:
    config = study.config.information
    rounds = config.rounds
    if rounds == "logarithmic":  # without an end, as a run may be resumed for more rounds
        rounds = (*logarithmic_rounds(10**9), study.config.training.rounds)
    return InformationObserver(
        model,
        stratified_pool(study.test, config.pool, seed=study.config.seed),
        config.settings(),
        every=config.every,
        rounds=rounds,
        max_clients=config.max_clients,
        seed=study.config.seed,
        spatial=config.spatial,
        output=config.output,
    )
