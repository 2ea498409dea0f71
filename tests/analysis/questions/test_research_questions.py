import math
from itertools import combinations, permutations

import pytest
import torch

from fedcircuit.analysis.questions.answers import Answer, over_rounds, research_questions
from fedcircuit.circuits.circuit import Circuit, CircuitStack, Site, split_by_site
from fedcircuit.circuits.overlap.jaccard import iou

SITES = (Site("a", 5, 1, "a"), Site("b", 9, -1, "b"))
N_UNITS, N_CLASSES = 14, 3


def stack(seed: int, models: tuple[str, ...], *, found: float = 1.0) -> CircuitStack:
    random = torch.Generator().manual_seed(seed)
    return CircuitStack(
        SITES,
        models,
        torch.rand(len(models), N_CLASSES, N_UNITS, generator=random) < 0.5,
        torch.rand(len(models), N_CLASSES, generator=random) < found,
    )


def answers(stacks, **options) -> dict[tuple, Answer]:
    found = research_questions(stacks, **options)
    by_key = {(one.question, one.scope, one.layer, one.round): one for one in found}
    assert len(by_key) == len(found)
    return by_key


def mean_iou(pairs) -> float:
    """Mean by the pairwise function, one pair after the other."""
    return sum(iou(a, b).iou for a, b in pairs) / len(pairs)


MODELS = ("global", "x", "y", "z")
STACKS = {10: stack(10, MODELS), 2: stack(2, MODELS), 9: stack(9, ("y", "global", "x"))}


def circuit(t: int, model: str, c: int) -> Circuit:
    found = STACKS[t].circuit(model, c)
    assert found is not None
    return found


def test_rq1_compares_classes_of_the_same_model() -> None:
    result = answers(STACKS)
    pairs = [
        (circuit(2, m, a), circuit(2, m, b)) for m in "xyz" for a, b in combinations(range(3), 2)
    ]
    one = result["RQ1", "local", "all", 2]
    assert one.mean_iou == pytest.approx(mean_iou(pairs))
    assert one.chance == pytest.approx(sum(iou(a, b).chance for a, b in pairs) / 9)
    assert one.adjusted == pytest.approx(sum(iou(a, b).adjusted for a, b in pairs) / 9)
    assert one.significant == sum(iou(a, b).p_value < 0.05 for a, b in pairs) / 9
    assert (one.n, one.n_undefined) == (9, 0)
    assert result["RQ1", "global", "all", 2].n == 3


def test_rq2_compares_a_round_with_the_next_in_integer_order() -> None:
    result = answers(STACKS)
    # rounds as text would be 10, 2, 9; models change rows and z is not there in round 9
    pairs = [(circuit(2, m, c), circuit(9, m, c)) for m in "xy" for c in range(3)]
    assert result["RQ2", "local", "all", 2].mean_iou == pytest.approx(mean_iou(pairs))
    assert result["RQ2", "local", "all", 2].n == 6
    later = [(circuit(9, m, c), circuit(10, m, c)) for m in "xy" for c in range(3)]
    assert result["RQ2", "local", "all", 9].mean_iou == pytest.approx(mean_iou(later))
    own = [(circuit(9, "global", c), circuit(10, "global", c)) for c in range(3)]
    assert result["RQ2", "global", "all", 9].mean_iou == pytest.approx(mean_iou(own))
    assert ("RQ2", "local", "all", 10) not in result


def test_rq3_compares_clients_and_its_null_swaps_the_classes() -> None:
    result = answers(STACKS)
    clients = list(combinations("xyz", 2))
    pairs = [(circuit(2, m, c), circuit(2, k, c)) for m, k in clients for c in range(3)]
    assert result["RQ3", "local", "all", 2].mean_iou == pytest.approx(mean_iou(pairs))
    swapped = [
        (circuit(2, m, a), circuit(2, k, b))
        for m, k in clients
        for a, b in permutations(range(3), 2)
    ]
    assert result["RQ3-swap", "local", "all", 2].mean_iou == pytest.approx(mean_iou(swapped))
    # one global model has nobody to be compared with
    assert ("RQ3", "global", "all", 2) not in result


def test_rq4_compares_clients_with_the_global_model() -> None:
    result = answers(STACKS)
    pairs = [(circuit(9, m, c), circuit(9, "global", c)) for m in "xy" for c in range(3)]
    assert result["RQ4", "local", "all", 9].mean_iou == pytest.approx(mean_iou(pairs))
    swapped = [
        (circuit(9, m, a), circuit(9, "global", b))
        for m in "xy"
        for a, b in permutations(range(3), 2)
    ]
    assert result["RQ4-swap", "local", "all", 9].mean_iou == pytest.approx(mean_iou(swapped))
    assert ("RQ4", "global", "all", 9) not in result


def test_distinctness_compares_unions_over_the_classes() -> None:
    result = answers(STACKS)

    def union(model: str) -> Circuit:
        row = STACKS[9].models.index(model)
        return Circuit(split_by_site(STACKS[9].masks[row].any(0), SITES))

    expected = iou(union("x"), union("y")).iou
    assert result["distinctness", "local", "all", 9].mean_iou == pytest.approx(expected)
    assert result["distinctness", "local", "all", 9].n == 1


def test_every_layer_has_its_answer() -> None:
    result = answers(STACKS)
    layer = {m: STACKS[9].masks[STACKS[9].models.index(m), :, :5] for m in ("x", "y")}
    pairs = [(Circuit({"a": layer["x"][c]}), Circuit({"a": layer["y"][c]})) for c in range(3)]
    assert result["RQ3", "local", "a", 9].mean_iou == pytest.approx(mean_iou(pairs))
    assert {key[2] for key in result} == {"a", "b", "all"}


def test_versions_of_the_global_model_are_its_noise_ceiling() -> None:
    models = ("global:x", "x", "global", "y")
    one = stack(3, models)
    result = answers({1: one})
    ceiling = [(one.circuit("global:x", c), one.circuit("global", c)) for c in range(3)]
    assert result["RQ3", "global", "all", 1].mean_iou == pytest.approx(mean_iou(ceiling))
    pairs = [(one.circuit("x", c), one.circuit("global:x", c)) for c in range(3)]
    pairs += [(one.circuit("y", c), one.circuit("global", c)) for c in range(3)]
    assert result["RQ4", "local", "all", 1].mean_iou == pytest.approx(mean_iou(pairs))


def test_a_stack_without_a_global_model_has_no_rq4() -> None:
    questions = {key[0] for key in answers({1: stack(0, ("x", "y"))})}
    assert questions == {"RQ1", "RQ3", "RQ3-swap", "distinctness"}


def test_circuits_that_were_not_found_are_counted_apart() -> None:
    found = torch.tensor([[True, True, False], [True, False, False]])
    one = CircuitStack(SITES, ("x", "global"), stack(0, ("x", "global")).masks, found)
    row = answers({1: one})["RQ4", "local", "all", 1]
    assert (row.n, row.n_undefined) == (1, 2)
    assert row.mean_iou == pytest.approx(iou(one.circuit("x", 0), one.circuit("global", 0)).iou)
    none = CircuitStack(SITES, ("x", "global"), one.masks, torch.zeros_like(found))
    row = answers({1: none})["RQ4", "local", "all", 1]
    assert (row.n, row.n_undefined) == (0, 3)
    assert math.isnan(row.mean_iou)
    assert math.isnan(row.significant)


def test_the_two_conventions_differ_on_empty_circuits_and_the_pool() -> None:
    masks = torch.zeros(2, N_CLASSES, N_UNITS, dtype=torch.bool)
    masks[:, 1, :2] = True
    found = torch.tensor([[True, True, False]] * 2)
    stacks = {1: CircuitStack(SITES, ("x", "global"), masks, found)}
    live = {1: torch.ones(2, N_UNITS, dtype=torch.bool)}
    live[1][:, 3:5] = False
    honest = answers(stacks, live=live)["RQ4", "local", "a", 1]
    # class 1 alone has an IoU; two units of the three live ones: E[J] = (2 * 1/3 + 1) / 3
    assert (honest.mean_iou, honest.n, honest.n_undefined) == (1.0, 1, 2)
    assert honest.chance == pytest.approx((2 / 3 + 1) / 3)
    published = answers(stacks, live=live, convention="published")["RQ4", "local", "a", 1]
    # classes 0 and 2 count as IoU 1 with chance 1; two units of all five: 3 of 10 pairs share
    # none, 6 share one (IoU 1/3), 1 shares both
    assert (published.mean_iou, published.n, published.n_undefined) == (1.0, 3, 0)
    assert published.chance == pytest.approx((1 + 1 + (6 / 3 + 1) / 10) / 3)
    assert published.significant == 0.0


def test_the_published_convention_takes_a_missing_circuit_for_an_empty_one() -> None:
    masks = torch.zeros(2, N_CLASSES, N_UNITS, dtype=torch.bool)
    masks[:, 0, :2] = True
    found = torch.tensor([[True, False, False], [False, False, False]])
    stacks = {1: CircuitStack(SITES, ("x", "global"), masks, found)}
    published = answers(stacks, convention="published")["RQ4", "local", "all", 1]
    assert published.mean_iou == pytest.approx((0 + 1 + 1) / 3)
    assert math.isnan(answers(stacks)["RQ4", "local", "all", 1].mean_iou)


def test_the_pool_is_what_is_live_in_either_model() -> None:
    masks = torch.zeros(2, N_CLASSES, N_UNITS, dtype=torch.bool)
    masks[:, :, 0] = True
    one = CircuitStack(SITES, ("x", "global"), masks, torch.ones(2, 3, dtype=torch.bool))
    live = torch.zeros(2, N_UNITS, dtype=torch.bool)
    live[0, :2] = live[1, [0, 2, 3]] = True
    row = answers({1: one}, live={1: live})["RQ4", "local", "a", 1]
    assert row.chance == pytest.approx(1 / 4)


def test_too_many_pairs_are_thinned_evenly() -> None:
    models = tuple(f"client {i}" for i in range(20))
    stacks = {1: stack(0, models)}
    everything = answers(stacks)["RQ3", "local", "all", 1]
    some = answers(stacks, max_pairs=100)["RQ3", "local", "all", 1]
    assert (everything.n, some.n) == (190 * 3, 100)
    assert some.mean_iou == pytest.approx(everything.mean_iou, abs=0.03)
    exact = answers(stacks, max_pairs=570)["RQ3", "local", "all", 1]
    assert exact == everything


def test_all_rounds_together_are_weighted_by_their_pairs() -> None:
    first = Answer("RQ4", "local", "all", 1, 0.5, 0.1, 0.4, 1.0, 3, 1)
    second = Answer("RQ4", "local", "all", 2, 0.9, 0.2, math.nan, 0.5, 1, 0)
    empty = Answer("RQ4", "local", "all", 3, math.nan, math.nan, math.nan, math.nan, 0, 4)
    (together,) = over_rounds([first, second, empty])
    assert together.round is None
    assert together.mean_iou == pytest.approx((3 * 0.5 + 0.9) / 4)
    assert together.adjusted == pytest.approx(0.4)
    assert together.significant == pytest.approx((3 + 0.5) / 4)
    assert (together.n, together.n_undefined) == (4, 5)


def test_all_rounds_together_count_every_pair() -> None:
    each = research_questions(STACKS)
    for one in over_rounds(each):
        key = (one.question, one.scope, one.layer)
        assert one.n == sum(a.n for a in each if (a.question, a.scope, a.layer) == key)


def test_what_cannot_be_compared_is_refused() -> None:
    with pytest.raises(ValueError, match="convention must be one of"):
        research_questions(STACKS, convention="usual")
    other = CircuitStack(SITES[:1], ("x",), torch.zeros(1, 3, 5) > 0, torch.ones(1, 3) > 0)
    with pytest.raises(ValueError, match="same sites"):
        research_questions({1: STACKS[2], 2: other})


def test_no_rounds_give_no_answers() -> None:
    assert research_questions({}) == ()
