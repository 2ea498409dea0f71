"""Error rates of the verdicts: pairs of models for which the right answer is known.

SimpleCNNs on real MNIST, dense and weight-sparse, several training seeds. The "client" and the
"global model" of each pair are

* ``same``: one and the same model; should be `preserved`;
* ``data``: one initialisation, trained on two halves of the same data; reported only;
* ``average``: a model of five classes, and its average with one of the other five, from one
  initialisation; reported only;
* ``classes``: a model of five classes, and one of the other five; should not be `preserved`;
* ``init``: two initialisations, the same data; should not be `preserved`.

The client's circuits are always found on another half of the probe, with another seed, than the
global model's; both are checked on images neither saw. Verdicts need a valid one of the client.

    python experiments/benchmarks/verdict_calibration.py --data FOLDER [--out cases.json]
    python experiments/benchmarks/verdict_calibration.py --cases cases.json   # tables only
"""

from __future__ import annotations

import argparse
import json
import math
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import product
from pathlib import Path
from statistics import fmean

import torch
from torch import nn

from fedcircuit.circuits.checks import CheckedModel, Status, Validity
from fedcircuit.circuits.overlap import ALL_LAYERS, Overlap, Side, paired_overlaps
from fedcircuit.circuits.probes import Probe
from fedcircuit.circuits.round import (
    CircuitSettings,
    Clock,
    ModelCircuits,
    Search,
    circuit_functions,
)
from fedcircuit.circuits.verdicts import CircuitFunction, Verdict, VerdictThresholds, verdict
from fedcircuit.learning.data import Dataset, load_dataset
from fedcircuit.learning.networks import WeightSparsity, build_model
from fedcircuit.learning.sources import DataSource
from fedcircuit.learning.training import LocalTraining, evaluate, train_local
from fedcircuit.samples import Samples

SPARSITIES = (0.0, 0.95, 0.99)
SCENARIOS = ("same", "data", "average", "classes", "init")
OUTCOMES = (*Verdict, None)
WORKS = (0.0, 0.6, 0.7, 0.8, 0.9)
PARTLY = (0.2, 0.4, 0.6)
# in words, least adjusted IoU, p-value: 2 lets every defined overlap pass
SHARED = (
    ("any overlap", -2.0, 2.0),
    ("p < .05 alone", -2.0, 0.05),
    *((f"{least:g} and p < .05", least, 0.05) for least in (0.1, 0.2, 0.3, 0.5, 0.7)),
)
Wrong = Callable[[Verdict | None], bool]


@dataclass(frozen=True)
class Case:
    """One class of one pair of models: all that a verdict depends on."""

    sparsity: float
    scenario: str
    seed: int
    label: int
    local: Validity
    global_: Validity
    function: CircuitFunction
    overlap: Overlap | None

    def judged(self, thresholds: VerdictThresholds | None = None) -> Verdict | None:
        """The verdict under these thresholds; None takes the defaults."""
        return verdict(self.local, self.global_, self.function, self.overlap, thresholds)[0]


Examined = tuple[ModelCircuits, CheckedModel]


def trained(samples: Samples, shape: tuple[int, ...], sparsity: float, init: int) -> nn.Module:
    """A SimpleCNN trained on these samples, the order drawn from the same seed."""
    model = build_model("simple-cnn", shape, 10, seed=init)
    cut = WeightSparsity(sparsity) if sparsity else None
    training = LocalTraining(epochs=5, batch_size=32, optimizer="adam", lr=1e-3, sparsity=cut)
    train_local(model, samples, training, n_classes=10, seed=init)
    return model


def averaged(first: nn.Module, second: nn.Module, shape: tuple[int, ...]) -> nn.Module:
    """The mean of two models' weights."""
    model, other = build_model("simple-cnn", shape, 10, seed=0), second.state_dict()
    model.load_state_dict({k: (v + other[k]) / 2 for k, v in first.state_dict().items()})
    return model


def probes(samples: Samples, names: tuple[str, ...]) -> tuple[Probe, Probe]:
    """Two probes of 25 images a class to find circuits on; both check on the same 40 others."""
    of_class = [(samples.labels == c).nonzero().flatten() for c in range(len(names))]

    def part(start: int, stop: int) -> Samples:
        return samples.take(torch.cat([index[start:stop] for index in of_class]))

    checking = part(50, 90)
    return Probe(part(0, 25), checking, names), Probe(part(25, 50), checking, names)


def compared(
    sparsity: float, scenario: str, seed: int, pair: tuple[Examined, Examined]
) -> Iterable[Case]:
    """One case a class, from the client and the global model examined."""
    (local, _), (own, receiver) = pair
    valid = torch.tensor([one.status is Status.VALID for one in local.validity])
    functions = circuit_functions(receiver, local.masks, valid)
    table = paired_overlaps(
        Side(local.masks, local.found, local.live), Side(own.masks, own.found, own.live), own.sites
    )
    for label, function in enumerate(functions):
        layers = table.at(label)
        overlap = None if layers is None else layers[ALL_LAYERS]
        checks = local.validity[label], own.validity[label]
        yield Case(sparsity, scenario, seed, label, *checks, function, overlap)


def cases_of(data: Dataset, sparsity: float, seeds: Sequence[int]) -> Iterable[Case]:
    """All cases at one weight sparsity."""
    first, second = probes(data.test, data.class_names)
    blank = build_model("simple-cnn", data.input_shape, 10, seed=0)
    halves = [
        Search.of(blank, probe, CircuitSettings(), seed, 0, Clock())
        for seed, probe in enumerate((first, second))
    ]
    labels, even = data.train.labels, torch.arange(len(data.train)) % 2 == 0
    groups = {"all": labels >= 0, "even": even, "odd": ~even, "low": labels < 5, "high": labels > 4}
    of_all: dict[int, tuple[Examined, Examined]] = {}
    for seed in seeds:
        models = {
            name: trained(data.train.take(chosen), data.input_shape, sparsity, seed)
            for name, chosen in groups.items()
        }
        models["mean"] = averaged(models["low"], models["high"], data.input_shape)
        accuracy = evaluate(models["all"], data.test, n_classes=10).accuracy
        print(f"sparsity {sparsity:g}, seed {seed}: accuracy {accuracy:.3f}", flush=True)
        of_all[seed] = (
            halves[0].examine(models["all"], "all"),
            halves[1].examine(models["all"], "all"),
        )
        client = {name: halves[1].examine(models[name], name) for name in ("even", "low")}
        whole = {name: halves[0].examine(models[name], name) for name in ("odd", "high", "mean")}
        yield from compared(sparsity, "same", seed, (of_all[seed][1], of_all[seed][0]))
        yield from compared(sparsity, "data", seed, (client["even"], whole["odd"]))
        yield from compared(sparsity, "average", seed, (client["low"], whole["mean"]))
        yield from compared(sparsity, "classes", seed, (client["low"], whole["high"]))
    for seed in seeds:
        for other in seeds:
            if other != seed:
                yield from compared(sparsity, "init", seed, (of_all[seed][1], of_all[other][0]))


def saved(cases: Sequence[Case]) -> str:
    """The cases as JSON."""
    return json.dumps([asdict(case) for case in cases])


def loaded(text: str) -> list[Case]:
    """The cases of `saved`."""
    return [
        Case(
            **{
                **row,
                "local": Validity(**{**row["local"], "status": Status(row["local"]["status"])}),
                "global_": Validity(
                    **{**row["global_"], "status": Status(row["global_"]["status"])}
                ),
                "function": CircuitFunction(**row["function"]),
                "overlap": None if row["overlap"] is None else Overlap(**row["overlap"]),
            }
        )
        for row in json.loads(text)
    ]


def _number(values: Sequence[float]) -> str:
    known = [value for value in values if not math.isnan(value)]
    if not known:
        return f"{'none':>19}"
    return f"{fmean(known):5.2f} [{min(known):5.2f}, {max(known):5.2f}]"


def show_verdicts(cases: Sequence[Case]) -> None:
    """Verdict shares at the defaults, and what they rest on: mean and range over the classes."""
    print("\nverdicts at the defaults, where the client's circuit is valid (n of all)")
    print(
        f"{'sparsity':>8} {'pair':8}{'n':>4}{'of':>4}"
        + "".join(f"{one.value if one else 'none':>10}" for one in OUTCOMES)
        + f"{'size':>6}  {'share of function':19}  {'adjusted IoU':19}  p < .05"
    )
    for sparsity, scenario in product(sorted({case.sparsity for case in cases}), SCENARIOS):
        tried = [c for c in cases if (c.sparsity, c.scenario) == (sparsity, scenario)]
        group = [case for case in tried if case.local.status is Status.VALID]
        if not group:
            print(f"{sparsity:8g} {scenario:8}{0:4}{len(tried):4}")
            continue
        found = [case.judged() for case in group]
        overlaps = [case.overlap for case in group if case.overlap is not None]
        print(
            f"{sparsity:8g} {scenario:8}{len(group):4}{len(tried):4}"
            + "".join(f"{found.count(one) / len(found):10.3f}" for one in OUTCOMES)
            + f"{fmean(case.local.size or 0 for case in group):6.0f}"
            + f"  {_number([case.function.normalised for case in group])}"
            + f"  {_number([overlap.adjusted for overlap in overlaps])}"
            + f"  {fmean(overlap.p_value < 0.05 for overlap in overlaps):.3f}"
        )


def show_errors(cases: Sequence[Case]) -> None:
    """Error rates over a grid of thresholds, by sparsity."""
    sparsities = sorted({case.sparsity for case in cases})
    heads = "".join(f"   {f'sparsity {sparsity:g}':^21}" for sparsity in sparsities)

    def line(words: str, limits: VerdictThresholds, wrong: Mapping[str, Wrong]) -> str:
        cells = [
            " | ".join(_rate(cases, (sparsity, scenario), limits, wrong) for scenario in wrong)
            for sparsity in sparsities
        ]
        return words + "".join(f"   {cell:^21}" for cell in cells)

    print("\nerrors: 'same' not preserved | 'init' preserved | 'classes' preserved")
    print(f"{'works':>6} {'least adjusted IoU':>19}{heads}")
    kept: dict[str, Wrong] = {
        "same": lambda one: one is not Verdict.PRESERVED,
        "init": lambda one: one is Verdict.PRESERVED,
        "classes": lambda one: one is Verdict.PRESERVED,
    }
    for works, (words, adjusted, p_value) in product(WORKS, SHARED):
        limits = VerdictThresholds(
            works=works, partly=min(works, 0.4), adjusted_iou=adjusted, p_value=p_value
        )
        print(line(f"{works:6g} {words:>19}", limits, kept))
    print("\nerrors at the other defaults: 'same' relocated | 'init' degraded")
    print(f"{'partly':>26}{heads}")
    apart: dict[str, Wrong] = {
        "same": lambda one: one is Verdict.RELOCATED,
        "init": lambda one: one is Verdict.DEGRADED,
    }
    for partly in PARTLY:
        print(line(f"{partly:26g}", VerdictThresholds(partly=partly), apart))


def _rate(
    cases: Sequence[Case],
    group: tuple[float, str],
    limits: VerdictThresholds,
    wrong: Mapping[str, Wrong],
) -> str:
    found = [
        case.judged(limits)
        for case in cases
        if (case.sparsity, case.scenario) == group and case.local.status is Status.VALID
    ]
    return f"{fmean(wrong[group[1]](one) for one in found):.3f}" if found else "    -"


def main() -> None:
    """Train, compare and print, or print from cases on disk."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", help="root of MNIST, else FEDCIRCUIT_DATA")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--train", type=int, default=2000, help="training images")
    parser.add_argument("--sparsities", type=float, nargs="+", default=SPARSITIES)
    parser.add_argument("--out", type=Path, help="write the cases here")
    parser.add_argument("--cases", type=Path, help="read the cases from here, train nothing")
    arguments = parser.parse_args()
    if arguments.cases is not None:
        cases = loaded(arguments.cases.read_text("utf-8"))
        show_verdicts(cases)
        show_errors(cases)
        return
    torch.set_num_threads(1)
    start = time.process_time()
    source = DataSource("mnist", root=arguments.data, train_limit=arguments.train, test_limit=2000)
    data = load_dataset(source, seed=0)
    cases = []
    for sparsity in arguments.sparsities:
        cases += cases_of(data, sparsity, range(arguments.seeds))
        if arguments.out is not None:
            arguments.out.write_text(saved(cases), "utf-8")
    print(f"{time.process_time() - start:.0f} s of processor time")
    show_verdicts(cases)
    show_errors(cases)


if __name__ == "__main__":
    main()
