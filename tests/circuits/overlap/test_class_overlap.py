import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fedcircuit.circuits.circuit import Site
from fedcircuit.circuits.overlap.class_overlap import ModelMasks, class_swap
from fedcircuit.circuits.overlap.jaccard import Side, paired_overlaps

SITES = (Site("a", 4, 1, "a"), Site("b", 4, 1, "b"))


def masks(*texts: str) -> torch.Tensor:
    return torch.tensor([[c == "1" for c in text] for text in texts])


def drawn(seed: int, models: int, classes: int = 3) -> ModelMasks:
    random = torch.Generator().manual_seed(seed)
    return ModelMasks(
        torch.rand(models, classes, 8, generator=random) < 0.6,
        torch.rand(models, classes, generator=random) < 0.7,
        torch.rand(models, 8, generator=random) < 0.9,
    )


def test_two_classes_by_hand() -> None:
    # one layer of 4: class 0 is the same in both models, class 1 in A is class 0's in B
    site = (Site("x", 4, 1, "x"),)
    a = ModelMasks(masks("1100", "1100").unsqueeze(0))
    b = ModelMasks(masks("1100", "0011").unsqueeze(0))
    swap = class_swap(a, b, site)
    # two of four: overlap 0, 1, 2 with chance 1/6, 4/6, 1/6, so E = (4/3 + 1) / 6 = 7/18
    nothing = (0 - 7 / 18) / (11 / 18)
    assert swap.same[0, 0, :, -1] == pytest.approx([1.0, nothing])
    assert swap.swapped[0, 0, :, -1] == pytest.approx([nothing, 1.0])
    assert swap.swapped_max[0, 0, :, -1] == pytest.approx([nothing, 1.0])
    assert swap.n_swapped.shape == (1, 1, 2, 2)
    assert (swap.n_swapped == 1).all()


@settings(max_examples=15)
@given(st.integers(0, 1000))
def test_the_swap_is_mean_and_maximum_over_the_other_classes_pair_by_pair(seed) -> None:
    a, b = drawn(seed, 2), drawn(seed + 5000, 3)
    swap = class_swap(a, b, SITES)
    assert swap.same.shape == (2, 3, 3, 3)
    for i in range(2):
        for j in range(3):
            for c in range(3):
                values = [
                    paired_overlaps(
                        Side(a.masks[i, [c]], a.found[i, [c]], a.live[i]),
                        Side(b.masks[j, [d]], b.found[j, [d]], b.live[j]),
                        SITES,
                    ).adjusted[0]
                    for d in range(3)
                ]
                others = np.array([values[d] for d in range(3) if d != c])
                np.testing.assert_allclose(swap.same[i, j, c], values[c], atol=1e-12)
                counted = (~np.isnan(others)).sum(0)
                assert (swap.n_swapped[i, j, c] == counted).all()
                for column, n in enumerate(counted):
                    known = others[~np.isnan(others[:, column]), column]
                    expected = known.mean() if n else np.nan
                    np.testing.assert_allclose(swap.swapped[i, j, c, column], expected, atol=1e-12)
                    most = known.max() if n else np.nan
                    np.testing.assert_allclose(swap.swapped_max[i, j, c, column], most, atol=1e-12)


def test_the_closest_of_three_classes_is_told_beside_their_mean() -> None:
    # class 0 of A keeps {0, 1} of 4: it shares both units with class 1 of B, none with class 2
    site = (Site("x", 4, 1, "x"),)
    a = ModelMasks(masks("1100", "1111", "1111").unsqueeze(0))
    b = ModelMasks(masks("1010", "1100", "0011").unsqueeze(0))
    swap = class_swap(a, b, site)
    nothing = (0 - 7 / 18) / (11 / 18)  # chance of two of four, as above
    assert swap.swapped_max[0, 0, 0, -1] == pytest.approx(1.0)
    assert swap.swapped[0, 0, 0, -1] == pytest.approx((1.0 + nothing) / 2)
    assert swap.same[0, 0, 0, -1] == pytest.approx((1 / 3 - 7 / 18) / (11 / 18))


def test_one_class_has_no_swap() -> None:
    one = ModelMasks(masks("11000100").unsqueeze(0))
    swap = class_swap(one, one, SITES)
    assert np.isnan(swap.swapped).all()
    assert np.isnan(swap.swapped_max).all()
    assert (swap.n_swapped == 0).all()
    assert swap.same[0, 0, 0, -1] == pytest.approx(1.0)
