"""Networks built by hand whose class circuits are known, and samples they are perfect on.

Input bits: two glyphs for each of sixteen classes, then noise. Hidden units of the first layer copy
glyphs, those of the second join the two of a class. Beside them: a unit that is loud and read by
nobody, a unit that adds the same to every logit, and one that nothing reaches.

The centred logit of a class falls when units of another class fire, so these hold a share of 1/16
of its separation: less than the mass rule leaves out.
"""

import torch
from torch import Tensor, nn

from fedcircuit.samples import Samples

N_CLASSES, N_NOISE = 16, 4
N_INPUTS = 2 * N_CLASSES + N_NOISE
FIRST_UNITS, SECOND_UNITS = 2 * N_CLASSES + 2, N_CLASSES + 2
LOUD, UNREACHED = 2 * N_CLASSES, FIRST_UNITS + N_CLASSES + 1  # units that no circuit needs


def planted_mlp() -> tuple[nn.Sequential, Tensor]:
    """The network, and its true circuits ``[classes, units]`` bool."""
    first, second = nn.Linear(N_INPUTS, FIRST_UNITS), nn.Linear(FIRST_UNITS, SECOND_UNITS)
    head = nn.Linear(SECOND_UNITS, N_CLASSES)
    with torch.no_grad():
        for layer in (first, second, head):
            layer.weight.zero_()
            layer.bias.zero_()
        for glyph in range(2 * N_CLASSES):
            first.weight[glyph, glyph] = 1.0
        first.weight[LOUD, 2 * N_CLASSES :] = 5.0  # loud: sums the noise, read by nobody
        first.weight[LOUD + 1, 2 * N_CLASSES] = 1.0  # common mode: read by every logit alike
        for index in range(N_CLASSES):
            second.weight[index, 2 * index : 2 * index + 2] = 1.0
            second.bias[index] = -1.0  # both glyphs must be there
            head.weight[index, index] = 4.0
        second.weight[N_CLASSES, LOUD + 1] = 1.0
        head.weight[:, N_CLASSES] = 2.0
    truth = torch.zeros(N_CLASSES, FIRST_UNITS + SECOND_UNITS, dtype=torch.bool)
    for index in range(N_CLASSES):
        truth[index, 2 * index : 2 * index + 2] = True
        truth[index, FIRST_UNITS + index] = True
    return nn.Sequential(first, nn.ReLU(), second, nn.ReLU(), head), truth


def planted_samples(n_per_class: int, seed: int) -> Samples:
    """Both glyphs of the class, at most one of any other, random noise."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(N_CLASSES).repeat_interleave(n_per_class)
    inputs = torch.zeros(len(labels), N_INPUTS)
    inputs[:, 2 * N_CLASSES :] = torch.rand(len(labels), N_NOISE, generator=generator)
    for row, label in enumerate(labels.tolist()):
        inputs[row, 2 * label : 2 * label + 2] = 1.0
        for other in range(N_CLASSES):
            if other != label:
                glyph = int(torch.randint(2, (1,), generator=generator))
                inputs[row, 2 * other + glyph] = 1.0
    return Samples(inputs, labels)
