"""What a what-if costs beside the training of the round: one MNIST round of 10 clients, all rules.

    OMP_NUM_THREADS=1 python experiments/benchmarks/what_if_cost.py --data FOLDER [--full]

The federation is that of ``experiments/circuit_preservation/mnist-dirichlet.yaml`` with ten clients
in place of five: a SimpleCNN, Dirichlet(0.3), five local epochs, 15,000 images in all; ``--full``
takes all 60,000. The reference, in the same process on one thread, is the local training of the
ten clients. Then ``what_if(RUN)`` reads the recorded round and the data, aggregates under all rules
of the package, measures every new model and looks for its circuits; once more without verdicts.
Processor seconds; medians over the repeats. The exit code is 1 if the ratio with verdicts exceeds
0.1.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from pathlib import Path

import torch
from parts.recorded_round import recorded, trained_round

from fedcircuit.app.config import StudyConfig, load_study
from fedcircuit.app.mending import WhatIf, what_if

LIMIT = 0.1
STUDY = Path(__file__).parents[1] / "circuit_preservation/mnist-dirichlet.yaml"


def main() -> int:
    """Train, record, ask, and print the ratios."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", required=True, help="folder of torchvision's MNIST")
    parser.add_argument("--full", action="store_true", help="all 60,000 images")
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--clients", type=int, default=10)
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    torch.set_num_threads(1)
    config = study(options)
    round_ = trained_round(config)
    n = sum(client.num_examples for client in round_.clients)
    print(f"{config.model.name}, {options.clients} clients, {n} images, {options.epochs} epochs")
    with tempfile.TemporaryDirectory() as scratch:
        folder, accuracy, circuits = recorded(round_, Path(scratch) / "run")
        print(f"local training {round_.seconds:.1f} s, all circuits of the round {circuits:.1f} s; "
              f"accuracy of FedAvg {accuracy:.3f}")  # fmt: skip
        ratios = []
        for verdicts in (True, False):
            seconds, found = measured(folder, options.repeats, verdicts=verdicts)
            ratios.append(statistics.median(seconds) / round_.seconds)
            what = "with verdicts" if verdicts else "without"
            each = ", ".join(f"{value:.1f}" for value in seconds)
            print(f"what-if {what}: {each} s, ratio {ratios[-1]:.3f} (at most {LIMIT})")
            if verdicts:
                tell(found)
    return int(ratios[0] > LIMIT)


def study(options: argparse.Namespace) -> StudyConfig:
    """The study with the clients, images and epochs that are asked for."""
    keys = [f"data.root={options.data}", f"partition.clients={options.clients}",
            f"training.epochs={options.epochs}"]  # fmt: skip
    return load_study(STUDY, [*keys, "data.train_limit=null"] if options.full else keys)


def measured(folder: Path, repeats: int, *, verdicts: bool) -> tuple[list[float], WhatIf]:
    """Processor seconds of each repeat, and what came of the last."""
    seconds = []
    for _ in range(repeats):
        begin = time.process_time()
        found = what_if(folder, verdicts=verdicts)
        seconds.append(time.process_time() - begin)
    return seconds, found


def tell(found: WhatIf) -> None:
    """Rules that were used, and how many different models they gave."""
    used = [row for row in found.rows if not row.lacks]
    models = sum(not row.same for row in used)
    lacking = {row.rule: row.lacks for row in found.rows if row.lacks}
    print(f"  {len(used)} rows, {models} different models, {found.n_test} of {found.of_test} test "
          f"samples; not used: {lacking or 'none'}")  # fmt: skip


if __name__ == "__main__":
    sys.exit(main())
