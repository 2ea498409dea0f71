"""Verdicts found against verdicts planted, in federations whose average is known.

Clients are built by hand, so that it is known which classes averaging preserves, relocates,
degrades or collapses. The table counts (client, class) pairs; "none" is no verdict, expected where
a client does not know the class.

    python experiments/benchmarks/planted_federation.py [--methods attribution] [--seeds 3]
"""

from __future__ import annotations

import argparse
import time
from collections import Counter

import torch

from fedcircuit.circuits.planted import PlantedFederation, planted_federation
from fedcircuit.circuits.probes import Probe
from fedcircuit.circuits.round import CircuitSettings, RoundTask, analyse_round
from fedcircuit.circuits.verdicts import Verdict

NAMES = (*(verdict.value for verdict in Verdict), "none")


def counts(federation: PlantedFederation, method: str, per_class: int, seed: int) -> Counter[str]:
    """How often each pair "expected found" occurs."""
    probe = Probe.split(federation.samples(per_class, 1000 + seed), federation.class_names, seed)
    result = analyse_round(
        federation.model,
        federation.global_weights,
        federation.client_weights,
        probe,
        RoundTask(CircuitSettings(method=method), seed=seed, round=1),
    )
    return Counter(
        f"{expected or 'none'} {found or 'none'}"
        for client, row in federation.expected.items()
        for expected, (found, _) in zip(row, result.comparisons[client].verdicts, strict=True)
    )


def main() -> None:
    """Print one table for each kind of network and method."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--methods", default="attribution", help="names, with commas between")
    parser.add_argument("--kinds", default="cnn,mlp")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--clients", type=int, default=5)
    parser.add_argument("--classes", type=int, default=10)
    parser.add_argument("--per-class", type=int, default=64, help="samples of the probe")
    parser.add_argument("--noise", type=float, default=0.05)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    for kind in arguments.kinds.split(","):
        for method in arguments.methods.split(","):
            start, total = time.process_time(), Counter[str]()
            for seed in range(arguments.seeds):
                federation = planted_federation(
                    kind,
                    n_clients=arguments.clients,
                    n_classes=arguments.classes,
                    seed=seed,
                    noise=arguments.noise,
                )
                total += counts(federation, method, arguments.per_class, seed)
            right = sum(total[f"{name} {name}"] for name in NAMES)
            print(f"{kind}, {method}: planted in rows, found in columns")
            print(" " * 11 + "".join(f"{name:>11}" for name in NAMES))
            for row in NAMES:
                print(f"{row:11}" + "".join(f"{total[f'{row} {name}']:11}" for name in NAMES))
            print(
                f"right {right / total.total():.3f} of {total.total()};  collapsed called "
                f"preserved: {total['collapsed preserved']};  "
                f"{(time.process_time() - start) / arguments.seeds:.1f} s a federation\n"
            )


if __name__ == "__main__":
    main()
