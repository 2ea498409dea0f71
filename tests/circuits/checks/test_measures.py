import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import confusion_matrix, roc_auc_score

from fedcircuit.circuits.checks.measures import OneVsRest, one_vs_rest


def test_measures_by_hand() -> None:
    # class 0 against the rest; assigned: 0, 1, 0 / centred logit of class 0: 1, -0.5, 0.5
    logits = torch.tensor([[[2.0, 0.0], [1.0, 2.0], [3.0, 2.0]]])
    result = one_vs_rest(logits, torch.tensor([0, 0, 1]), torch.tensor([0]))
    assert result.recall.tolist() == [0.5]
    assert result.fpr.tolist() == [1.0]
    assert result.balanced_accuracy.tolist() == [0.25]
    assert result.auroc.tolist() == [0.5]  # 1 > 0.5 > -0.5
    assert result.separation.tolist() == pytest.approx([0.25 - 0.5])
    assert result.variance.tolist() == pytest.approx([(1 + 0.25 + 0.25) / 3 - (1 / 3) ** 2])


@given(st.integers(0, 10**6), st.booleans())
def test_measures_agree_with_scikit_learn(seed, ties) -> None:
    random = torch.Generator().manual_seed(seed)
    logits = torch.randn(3, 12, 3, generator=random)
    if ties:
        logits = logits.round()
    labels = torch.arange(12) % 3
    classes = torch.tensor([2, 0, 1])
    result = one_vs_rest(logits, labels, classes)
    for row, c in enumerate(classes.tolist()):
        table = confusion_matrix(labels == c, logits[row].argmax(1) == c)
        assert float(result.recall[row]) == pytest.approx(table[1, 1] / table[1].sum())
        assert float(result.fpr[row]) == pytest.approx(table[0, 1] / table[0].sum())
        # in float64, as the measure: a rounding of t_c must not break ties
        score = (logits[row] - logits[row].mean(1, keepdim=True))[:, c]
        assert float(result.auroc[row]) == pytest.approx(roc_auc_score(labels == c, score))


def test_one_varying_logit_is_enough_not_to_be_constant() -> None:
    logits = torch.tensor([[[1.0, -1.0, 0.0], [-1.0, 1.0, 0.0]]])
    result = one_vs_rest(logits, torch.tensor([0, 1]), torch.tensor([2]))
    assert result.variance.tolist() == [1.0]


def test_a_constant_function_has_no_variance_and_no_preference() -> None:
    logits = torch.tensor([3.0, 1.0]).expand(1, 5, 2)
    result = one_vs_rest(logits, torch.tensor([0, 1, 0, 1, 1]), torch.tensor([0]))
    assert (result.recall, result.fpr) == (1, 1)
    assert (result.balanced_accuracy, result.auroc) == (0.5, 0.5)
    assert (result.separation, result.variance) == (0, 0)


@pytest.mark.parametrize(("label", "undefined"), [(0, "fpr"), (1, "recall")])
def test_without_samples_of_a_kind_a_rate_is_undefined(label, undefined) -> None:
    logits = torch.randn(1, 4, 2)
    result = one_vs_rest(logits, torch.full((4,), label), torch.tensor([0]))
    assert math.isnan(getattr(result, undefined))
    for name in ("auroc", "separation", "balanced_accuracy"):
        assert math.isnan(getattr(result, name))


def test_rows_are_replaced_one_by_one() -> None:
    random = torch.Generator().manual_seed(0)
    labels = torch.tensor([0, 1, 2, 0, 1, 2])
    logits, classes = torch.randn(3, 6, 3, generator=random), torch.tensor([2, 0, 1])
    whole = one_vs_rest(logits, labels, classes)
    found = OneVsRest.undefined(3)
    for row in (1, 0):
        part = one_vs_rest(logits[row : row + 1], labels, classes[row : row + 1])
        found = found.replaced(torch.tensor([row]), part)
    for name in ("recall", "fpr", "auroc", "separation", "variance"):
        assert torch.equal(getattr(found, name)[:2], getattr(whole, name)[:2])
        assert getattr(found, name)[2].isnan()


def test_rows_may_have_samples_of_their_own() -> None:
    random = torch.Generator().manual_seed(1)
    logits, classes = torch.randn(2, 4, 3, generator=random), torch.tensor([2, 0])
    labels = torch.tensor([[2, 0, 1, 2], [0, 1, 2, 0]])
    rest = torch.tensor([[True, True, False, True], [True, True, True, True]])
    both = one_vs_rest(logits, labels, classes, rest)
    for row in range(2):
        part = slice(row, row + 1)
        alone = one_vs_rest(logits[part], labels[row], classes[part], rest[row])
        for name in ("recall", "fpr", "auroc", "separation", "variance"):
            assert torch.equal(getattr(both, name)[part], getattr(alone, name))
