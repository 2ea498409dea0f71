"""Unit attributions against captum's: the same numbers, in how much less processor time?

What both sides give is, for every image and class, how much each unit adds to the raw logit of the
class: gradient times activation (reference zero), summed over the positions of a feature map. Ours
takes one forward pass and one backward pass for each class; captum's `LayerGradientXActivation`
(Kokhlikyan et al. 2020, arXiv 2009.07896) takes both for each class, for a list of layers at once
or for one layer after the other. SimpleCNN on MNIST images with 10 classes, trained, and with a
head of 100 classes, random weights. One thread; repeats are interleaved, so that a busy machine
slows all; the ratio of each repeat is taken, then the median.

    python experiments/benchmarks/captum_attribution.py --data FOLDER [--repeats 5]

The exit code is 1 if a number differs by more than 1e-5, relative to the largest of its image,
class and layer, and 2 if captum is missing (``pip install -e ".[bench]"``).
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from statistics import median

import torch
from torch import Tensor, nn

from fedcircuit.circuits import Site, site_slices
from fedcircuit.circuits.models import evaluating
from fedcircuit.circuits.search import frozen, summed_effects
from fedcircuit.circuits.sites import find_sites, site_graph
from fedcircuit.learning.data import Dataset, load_dataset
from fedcircuit.learning.networks import build_model
from fedcircuit.learning.sources import DataSource
from fedcircuit.learning.training import LocalTraining, evaluate, train_local

try:
    from captum.attr import LayerGradientXActivation
except ImportError:
    LayerGradientXActivation = None

LIMIT = 1e-5  # largest relative difference of a number
Route = Callable[[nn.Module, Sequence[Site], Tensor, int], Tensor]


def ours(model: nn.Module, sites: Sequence[Site], inputs: Tensor, n_classes: int) -> Tensor:
    """Attributions ``[classes, n, units]``: one forward pass, one backward pass a class."""
    with evaluating(model), frozen(model):
        logits, seen = site_graph(model, sites, inputs)
        activations = [seen[site.name] for site in sites]
        rows = []
        for c in range(n_classes):
            last = c + 1 == n_classes
            gradients = torch.autograd.grad(logits[:, c].sum(), activations, retain_graph=not last)
            rows.append(summed_effects(gradients, seen, sites, None))
    return torch.stack(rows)


def captum_list(model: nn.Module, sites: Sequence[Site], inputs: Tensor, n_classes: int) -> Tensor:
    """The same by captum, all layers in one call."""
    layers = [model.get_submodule(site.output) for site in sites]
    with evaluating(model):
        method = LayerGradientXActivation(model, layers)
        return torch.stack([by_unit(method.attribute(inputs, c)) for c in range(n_classes)])


def captum_each(model: nn.Module, sites: Sequence[Site], inputs: Tensor, n_classes: int) -> Tensor:
    """The same by captum, one call for every layer."""
    layers = [model.get_submodule(site.output) for site in sites]
    with evaluating(model):
        methods = [LayerGradientXActivation(model, layer) for layer in layers]
        return torch.stack(
            [by_unit([method.attribute(inputs, c) for method in methods]) for c in range(n_classes)]
        )


def by_unit(maps: Sequence[Tensor]) -> Tensor:
    """Attributions of all sites, summed over positions: ``[n, units]``."""
    return torch.cat([part.detach().flatten(2).sum(2) for part in maps], dim=1)


def difference(found: Tensor, wanted: Tensor, sites: Sequence[Site]) -> float:
    """Largest difference, relative to the largest number of its image, class and layer."""
    worst = 0.0
    for part in site_slices(sites):
        scale = wanted[..., part].abs().amax(-1, keepdim=True)
        apart = (found[..., part] - wanted[..., part]).abs()
        worst = max(worst, float(torch.where(scale > 0, apart / scale, apart).max()))
    return worst


def trained(data: Dataset, n_classes: int) -> nn.Module:
    """A SimpleCNN: trained if the head has the classes of the data, else with random weights."""
    model = build_model("simple-cnn", data.input_shape, n_classes, seed=0)
    if n_classes == len(data.class_names):
        training = LocalTraining(epochs=2, batch_size=64, optimizer="adam", lr=1e-3)
        train_local(model, data.train, training, n_classes=n_classes, seed=0)
    return model


def compared(model: nn.Module, inputs: Tensor, n_classes: int, repeats: int) -> bool:
    """Print difference and ratio of both of captum's ways; whether the numbers agree."""
    sites = find_sites(model, inputs)
    routes: dict[str, Route] = {
        "ours": ours,
        "captum, list of layers": captum_list,
        "captum, layer by layer": captum_each,
    }
    results = {name: route(model, sites, inputs, n_classes) for name, route in routes.items()}
    seconds: dict[str, list[float]] = {name: [] for name in routes}
    for repeat in range(repeats):
        for name in sorted(routes, reverse=bool(repeat % 2)):
            start = time.process_time()
            routes[name](model, sites, inputs, n_classes)
            seconds[name].append(time.process_time() - start)
    print(f"{n_classes} classes, {len(inputs)} images, {sum(s.n_units for s in sites)} units")
    print(f"  {'':24}{'s':>7}  {'ratio to ours [range]':24} largest relative difference")
    print(f"  {'ours':24}{median(seconds['ours']):7.3f}")
    agree = True
    for name in list(routes)[1:]:
        ratios = [a / b for a, b in zip(seconds[name], seconds["ours"], strict=True)]
        apart = difference(results["ours"], results[name], sites)
        agree &= apart <= LIMIT
        cell = f"{median(ratios):.2f} [{min(ratios):.2f}, {max(ratios):.2f}]"
        print(f"  {name:24}{median(seconds[name]):7.3f}  {cell:24} {apart:.1e} (limit {LIMIT:g})")
    return agree


def main() -> int:
    """Compare with both heads."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", help="root of MNIST, else FEDCIRCUIT_DATA")
    parser.add_argument("--images", type=int, default=160)
    parser.add_argument("--classes", type=int, nargs="+", default=[10, 100])
    parser.add_argument("--repeats", type=int, default=5)
    arguments = parser.parse_args()
    if LayerGradientXActivation is None:
        print('captum is not installed: nothing was compared; run pip install -e ".[bench]"')
        return 2
    torch.set_num_threads(1)
    source = DataSource("mnist", root=arguments.data, train_limit=3000, test_limit=1000)
    data = load_dataset(source, seed=0)
    inputs = data.test.inputs[: arguments.images]
    agree = True
    for n_classes in arguments.classes:
        model = trained(data, n_classes)
        if n_classes == len(data.class_names):
            accuracy = evaluate(model, data.test, n_classes=n_classes).accuracy
            print(f"accuracy {accuracy:.3f}")
        agree &= compared(model, inputs, n_classes, arguments.repeats)
    return int(not agree)


if __name__ == "__main__":
    sys.exit(main())
