"""Edge circuits of all classes of a model: found on one half of the probe, checked on the other."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from fedcircuit.circuits import class_row, site_slices
from fedcircuit.circuits.checks import Controls
from fedcircuit.circuits.edges.edge_checks import EdgeCheck, EdgeSubject, check_edge_circuits
from fedcircuit.circuits.edges.edge_circuit import EdgeCircuit, EdgeLayer, as_sites, split_by_layer
from fedcircuit.circuits.edges.edge_layers import existing_edges, find_edge_layers, layer_references
from fedcircuit.circuits.edges.edge_paths import on_path
from fedcircuit.circuits.edges.scoring import Against, edge_effects, scores_of_effects
from fedcircuit.circuits.masking import DEFAULT_BYTES, Ablation, Memory
from fedcircuit.circuits.models import searching
from fedcircuit.circuits.probes import ProbeLike, fitted
from fedcircuit.circuits.search import Cost, Meter, absent_reasons, mass_rule, reasons_for
from fedcircuit.circuits.sites import require_independent

NO_EDGE = "no edge separates the class from the others"
NO_PATH = "no path of chosen edges leads from the input to a logit"


@dataclass(frozen=True)
class EdgeDiscovery:
    """Edge circuits of every class of one model, with their checks.

    Parameters
    ----------
    layers
        Edge layers of the model, in order of execution.
    masks, found
        ``[classes, edges]`` bool over all layers, and ``[classes]`` bool; where not found the mask
        is all False and means nothing.
    scores
        ``[classes, edges]`` float, larger is more important; NaN for classes without samples.
    existing
        ``[edges]`` bool, edges with a weight that is not zero.
    reasons
        One for each class: why no circuit was found, empty where one was.
    checks
        One for each class.
    cost
        Of discovery, without the checks.
    """

    layers: tuple[EdgeLayer, ...]
    masks: Tensor
    found: Tensor
    scores: Tensor
    existing: Tensor
    reasons: tuple[str, ...]
    checks: tuple[EdgeCheck, ...]
    cost: Cost

    def circuit(self, class_index: int) -> EdgeCircuit | None:
        """The edge circuit of a class; None where none was found.

        Raises
        ------
        ValueError
            If there is no such class.
        """
        row = class_row(class_index, len(self.found))
        if not bool(self.found[row]):
            return None
        return EdgeCircuit(split_by_layer(self.masks[row], self.layers))

    @property
    def existing_circuit(self) -> EdgeCircuit:
        """All existing edges."""
        return EdgeCircuit(split_by_layer(self.existing, self.layers))


@searching()
def edge_circuits(
    model: nn.Module,
    probe: ProbeLike,
    *,
    ablation: Ablation = "mean",
    share: float = 0.9,
    seed: int = 0,
    against: Against = "both",
    controls: Controls | None = None,
    memory_bytes: int = DEFAULT_BYTES,
) -> EdgeDiscovery:
    """Edge circuits of every class: scored, cut, pruned and checked.

    A circuit is, in every layer, the fewest existing edges that hold a share of the layer's
    positive score mass (edge attribution patching: Syed et al. 2023, arXiv 2310.10348), less the
    edges that are on no path through kept edges. Layer by layer, because a threshold in a unit
    makes the effects of the edges before it larger than that of the edge behind it.

    Parameters
    ----------
    model, probe, memory_bytes
        As `fedcircuit.circuits.discovery.discover` takes them.
    ablation, share
        What a removed edge reads: the class-balanced mean input of its layer, or zero; share of
        the positive score mass, in (0, 1].
    seed, controls
        Of the random circuits; how many, and on how many samples, None takes the defaults.
    against
        As `fedcircuit.circuits.edges.scoring.scores_of_effects` takes it.

    Raises
    ------
    ValueError
        If share or ablation is out of range, or edges cannot be told apart (`find_edge_layers`).
    """
    if not 0.0 < share <= 1.0:
        raise ValueError(f"share of the score mass must lie in (0, 1], got {share}")
    model, known = fitted(model, probe, seed)
    meter = Meter()
    samples, n_classes = known.discovery, known.n_classes
    require_independent(model, samples.inputs)
    layers = find_edge_layers(model, samples.inputs)
    rows = Memory.of(model, (), samples.inputs, memory_bytes).rows(graph=True)
    references = layer_references(
        model, layers, samples, n_classes=n_classes, ablation=ablation, rows=rows
    )
    existing = existing_edges(model, layers)
    effects = edge_effects(
        model, layers, samples, references, n_classes=n_classes, meter=meter, rows=rows
    )
    scores = scores_of_effects(effects, samples, layers, n_classes=n_classes, against=against)
    chosen = edge_mass_rule(scores.nan_to_num(0.0), existing, layers, share=share)
    masks = on_path(model, layers, chosen, samples.inputs)
    found, cost = masks.any(1), meter.cost()
    subject = EdgeSubject(model, layers, references, existing, known.checking, n_classes, rows)
    generator = torch.Generator().manual_seed(seed)
    checks = check_edge_circuits(subject, masks, found, controls or Controls(), generator)
    why = [NO_PATH if some else NO_EDGE for some in chosen.any(1).tolist()]
    reasons = reasons_for(found, absent_reasons(samples.counts(n_classes)), why)
    return EdgeDiscovery(layers, masks, found, scores, existing, reasons, checks, cost)


def edge_mass_rule(
    scores: Tensor, existing: Tensor, layers: tuple[EdgeLayer, ...], *, share: float
) -> Tensor:
    """Fewest existing edges with a share of each layer's positive score, ``[classes, edges]`` bool.

    By `fedcircuit.circuits.search.mass_rule`; edges that do not exist are never taken.

    Parameters
    ----------
    scores, existing
        ``[classes, edges]`` and ``[edges]`` bool.
    layers, share
        The edge layers, each of which keeps its best edge, and the share in (0, 1].
    """
    only_existing = scores.masked_fill(~existing, -torch.inf)
    sites = as_sites(layers)
    chosen = [
        mass_rule(only_existing[:, part], (site,), share=share)
        for site, part in zip(sites, site_slices(sites), strict=True)
    ]
    return torch.cat(chosen, dim=1) & existing
