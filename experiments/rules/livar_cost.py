"""What LIVAR's states cost in per cent of local training, and its rules in per cent of one FedAvg.

    OMP_NUM_THREADS=1 python experiments/rules/livar_cost.py

Seconds of processor time, the least of several tries taken in turns, on random images: the MLP of
livar_reference.py and the small transformer of lora_table.py with LoRA (not pretrained, which does
not matter here). Transformers need the extra ``lora``.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Mapping
from dataclasses import replace

import torch
from lora_setting import N_CLASSES, Client, averaged, one_round
from torch import nn

from fedcircuit.aggregation import Setting
from fedcircuit.aggregation.heads import ClassCountHead, LivarHead
from fedcircuit.aggregation.layers import LivarLayers
from fedcircuit.learning.networks import LoRA, build_model, small_vit, with_lora
from fedcircuit.learning.training import FeatureVariance, LocalTraining, train_local
from fedcircuit.samples import Samples

PLAIN = LocalTraining(epochs=5, batch_size=30, lr=0.01, momentum=0.9)
STATES = {
    "plain": PLAIN,
    "variance, last epoch": replace(PLAIN, feature_variance=FeatureVariance()),
    "variance, all epochs": replace(PLAIN, feature_variance=FeatureVariance(epoch="all")),
    "variance, post": replace(PLAIN, feature_variance=FeatureVariance(epoch="post")),
    "path importance": replace(PLAIN, path_importance=True),
}
RULES = {
    "livar-head": LivarHead(),
    "class-count-head": ClassCountHead(),
    "livar-layers": LivarLayers(),
    "livar-layers, product": LivarLayers(mode="product"),
}


def main() -> None:
    """Measure both networks and print their lines."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--tries", type=int, default=7)
    options = parser.parse_args()
    torch.set_num_threads(1)
    mlp = build_model("mlp", (1, 14, 14), N_CLASSES, seed=0, widths=(64, 64))
    vit = with_lora(small_vit((1, 28, 28), N_CLASSES, seed=0), LoRA(norms=False), seed=0)
    for name, model, side in (("MLP", mlp, 14), ("transformer with LoRA", vit, 28)):
        samples = Samples(torch.randn(300, 1, side, side), torch.arange(300) % N_CLASSES)
        training = least(
            {state: local(model, samples, own) for state, own in STATES.items()}, options.tries
        )
        tell(f"{name}: local training of 300 samples, 5 epochs", training)
        tell(f"{name}: aggregation of 10 clients", least(rules(model, samples), options.tries))


def local(model: nn.Module, samples: Samples, training: LocalTraining) -> Callable[[], object]:
    """One client's round."""
    return lambda: train_local(model, samples, training, n_classes=N_CLASSES, seed=0)


def rules(model: nn.Module, samples: Samples) -> dict[str, Callable[[], object]]:
    """FedAvg alone, and with each of the rules after it."""
    asked = replace(
        PLAIN, epochs=1, feature_variance=FeatureVariance(), path_importance=True, batch_size=100
    )
    clients = [Client(samples, {}) for _ in range(10)]
    updates = one_round(model, clients, asked, 1, 0).updates
    setting = Setting(N_CLASSES, model)
    found = {"plain": lambda: averaged(updates, (), setting)}
    found |= {n: lambda rule=rule: averaged(updates, (rule,), setting) for n, rule in RULES.items()}
    return dict(found)


def least(timed: Mapping[str, Callable[[], object]], tries: int) -> dict[str, float]:
    """The least seconds of each, tried in turns."""
    best = dict.fromkeys(timed, float("inf"))
    for _ in range(tries):
        for name, call in timed.items():
            start = time.process_time()
            call()
            best[name] = min(best[name], time.process_time() - start)
    return best


def tell(what: str, seconds: Mapping[str, float]) -> None:
    """A line each, in per cent of the first."""
    plain = seconds["plain"]
    print(f"{what}: {1e3 * plain:.2f} ms")
    for name, value in list(seconds.items())[1:]:
        print(f"  {name}: {100 * (value / plain - 1):+.0f} %")


if __name__ == "__main__":
    main()
