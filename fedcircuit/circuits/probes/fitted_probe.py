"""What is looked at, made to fit the model: one way from whatever people give to a probe."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from fedcircuit.circuits.models import require_readable, searching, trying, workable
from fedcircuit.circuits.probes.labelled_samples import SamplesLike, labelled, whole_labels
from fedcircuit.circuits.probes.probe import Probe, require_finite_inputs
from fedcircuit.logits import LogitsError, inputs_for, logits_of
from fedcircuit.samples import Samples

ProbeLike = Probe | SamplesLike


@searching()
def as_probe(source: object, model: nn.Module, seed: int = 0) -> Probe:
    """A probe in the types that the model takes, whatever it is made of.

    Floating inputs take the model's type. Integers (tokens) stay integers, unless the model takes
    none. Of all but a `Probe` the classes are numbered, one for each of the model's logits, and
    every class needs two samples, which are halved at random.

    Parameters
    ----------
    source
        A `Probe`, or what `fedcircuit.circuits.probes.labelled_samples.labelled` makes samples of.
    model
        Gives logits ``[n, classes]``; one logit stands for two classes.
    seed
        Of the split in two halves.

    Raises
    ------
    ValueError
        If there are no samples, an input is not finite, or they do not fit the model.
    """
    require_readable(model)
    if isinstance(source, Probe):
        return _fitted(source, model)
    samples = labelled(source)
    inputs, n_classes = taken(model, samples.inputs, "probe")
    labels = checked_labels(samples.labels, len(inputs), n_classes)
    names = [str(index) for index in range(n_classes)]
    return Probe.split(Samples(inputs, labels), names, seed)


def fitted(model: nn.Module, source: object, seed: int = 0) -> tuple[nn.Module, Probe]:
    """The model as circuits can be searched for in it, and a probe that fits it.

    Takes and raises what `as_probe` does, and `workable` says when the model is a copy.
    """
    require_readable(model)
    model = workable(model)
    return model, as_probe(source, model, seed)


def taken(model: nn.Module, inputs: Tensor, what: str) -> tuple[Tensor, int]:
    """Inputs ``[n, ...]`` in a type that the model takes, and how many classes it tells apart.

    Parameters
    ----------
    model, inputs
        The model, which runs on the first two, and the inputs.
    what
        What they are, for messages.

    Raises
    ------
    ValueError
        If there are none, they are not finite, or the model does not take them or gives no logits
        for them.
    """
    if len(inputs) == 0:
        raise ValueError(f"the {what} has no samples; give some of every class")
    require_finite_inputs(inputs, what)
    problem: Exception | None = None
    for kind in _kinds(inputs):
        few = inputs[:2] if kind is None else inputs[:2].to(kind)
        try:
            with trying(model):
                n_classes = logits_of(model, few).shape[1]
        except LogitsError:
            raise
        except Exception as error:  # noqa: BLE001  # a user's forward may raise anything
            problem = problem or error
            continue
        return inputs.to(inputs_for(model, few[:1]).dtype), n_classes
    said = str(problem).strip() or type(problem).__name__
    raise ValueError(
        f"the model does not take inputs of shape {tuple(inputs.shape)} ({what}): "
        f"{' '.join(said.split())[:300]}"
        + (
            "; they are complex: for a model of real numbers give real and imaginary parts as "
            "features of their own"
            if inputs.is_complex()
            else ""
        )
    ) from problem


def checked_labels(labels: Tensor, n_inputs: int, n_classes: int) -> Tensor:
    """Labels ``[n]`` int64 of a probe: whole numbers below the number of classes, each twice.

    Raises
    ------
    ValueError
        If they are anything else.
    """
    whole = whole_labels(labels, n_inputs)
    low, high = int(whole.min()), int(whole.max())
    if low < 0 or high >= n_classes:
        raise ValueError(
            f"labels must lie in 0..{n_classes - 1} (the model gives {n_classes} logits), got "
            f"{low}..{high}"
        )
    counts = torch.bincount(whole, minlength=n_classes)
    few = ", ".join(map(str, (counts < 2).nonzero().flatten().tolist()))
    if few:
        raise ValueError(
            f"the probe has fewer than 2 samples of class {few[:200]}: one half finds circuits, "
            "the other checks them. Give more of these, or a Probe of your own to leave classes "
            "out on purpose"
        )
    return whole


def _fitted(probe: Probe, model: nn.Module) -> Probe:
    """A probe that was split already may lack classes, and a checking half."""
    halves = []
    for half in (probe.discovery, probe.checking):
        if half is probe.checking and not len(half):
            halves.append(half)
            continue
        inputs, n_classes = taken(model, half.inputs, "probe")
        if n_classes != probe.n_classes:
            raise ValueError(
                f"the model gives {n_classes} logits, the probe has {probe.n_classes} class names"
            )
        halves.append(half if inputs is half.inputs else Samples(inputs, half.labels))
    same = halves[0] is probe.discovery and halves[1] is probe.checking
    return probe if same else Probe(halves[0], halves[1], probe.class_names)


def _kinds(inputs: Tensor) -> tuple[torch.dtype | None, ...]:
    """In which types inputs are tried, in order; None is as they are."""
    if inputs.is_floating_point() or inputs.is_complex():  # which no other type holds
        return (None,)
    return (None, torch.int64, torch.float32)
