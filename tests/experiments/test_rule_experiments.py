"""The experiments on LIVAR and LoRA: cells, controls, bytes, and the tables made of runs."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import livar_reference
import lora_setting
import lora_table
import numpy as np
import pytest
import torch
from rule_helpers import round_of_clients

from fedcircuit.aggregation import Setting, Updates
from fedcircuit.aggregation.lora import FactorPair, merge_product
from fedcircuit.samples import Samples

A, B = "fc.parametrizations.weight.0.lora_A", "fc.parametrizations.weight.0.lora_B"


def pool(n: int = 5000) -> Samples:
    return Samples(torch.arange(float(n)).reshape(n, 1), torch.arange(n) % 10)


def test_clients_of_cell_b_have_half_of_each_of_their_two_classes_and_share_no_sample() -> None:
    clients = livar_reference.partition(pool(), "B", 3)
    for samples, pair in zip(clients, livar_reference.PAIRS, strict=True):
        assert {c: n for c, n in enumerate(samples.counts(10).tolist()) if n} == {
            pair[0]: 150,
            pair[1]: 150,
        }
    drawn = torch.cat([samples.inputs for samples in clients])
    assert len(drawn.unique()) == 3000


def test_clients_of_cell_a_have_300_samples_each() -> None:
    clients = livar_reference.partition(pool(40_000), "A", 3)
    assert [len(samples) for samples in clients] == [300] * 10
    assert len(torch.cat([samples.inputs for samples in clients]).unique()) == 3000


def two_clients() -> Updates:
    def weights(seed: int) -> dict[str, np.ndarray]:
        rng = np.random.default_rng(seed)
        sizes = {A: (2, 5), B: (4, 2), "head.weight": (3, 4), "head.bias": (3,)}
        return {n: rng.normal(size=size).astype(np.float32) for n, size in sizes.items()}

    return round_of_clients(weights(0), [weights(1), weights(2)], [{}, {}], [10, 30])


def test_the_product_arm_merges_products_by_samples_alone() -> None:
    updates = lora_table.with_equal_importance(two_clients())
    rules = lora_table.ARMS["product"].rules
    made, lost = lora_setting.averaged(updates, rules, Setting(n_classes=3))
    pairs = [FactorPair(one.weights[A], one.weights[B]) for one in updates.clients]
    expected = merge_product(pairs, [0.25, 0.75])
    product = made[B].astype(float) @ made[A].astype(float)
    np.testing.assert_allclose(product, expected.pair.product, atol=1e-6)
    assert lost == pytest.approx(expected.lost_energy)
    heads = [one.weights["head.weight"].astype(float) for one in updates.clients]
    np.testing.assert_allclose(made["head.weight"], 0.25 * heads[0] + 0.75 * heads[1], rtol=1e-6)


def test_factors_of_clients_that_agree_lose_nothing_and_of_others_something() -> None:
    updates = two_clients()
    assert lora_table.energy_lost_by_factors(updates) > 0.01
    same = tuple(replace(one, weights=updates.clients[0].weights) for one in updates.clients)
    alike = replace(updates, clients=same)
    assert lora_table.energy_lost_by_factors(alike) == pytest.approx(0.0, abs=1e-12)


def test_bytes_are_those_of_tensors_numbers_and_names() -> None:
    assert lora_setting.size({"w": np.zeros((3, 2), np.float32), "n": np.zeros((), np.int64)}) == 32
    assert lora_setting.size([1.0, 2.0, 3]) == 24
    assert lora_setting.size(["ab", "c"]) == 3


def test_the_table_has_means_paired_differences_and_controls(tmp_path: Path) -> None:
    figures = {
        "fedavg": [0.50, 0.60, 0.70], "livar-head": [0.55, 0.60, 0.68], "livar": [0.52, 0.58, 0.7],
    }  # fmt: skip
    for arm, values in figures.items():
        for seed, value in enumerate(values):
            run = {"accuracies": [0.1, value], "lost_energy": None, "down": 1000, "up": 1234,
                   "cpu_seconds": 1.0, "lr": 0.1}  # fmt: skip
            (tmp_path / f"{arm}-{seed}.json").write_text(json.dumps(run), encoding="utf-8")
    rates = {"full": 0.001, "lora": 0.003}
    lines = lora_table.table(tmp_path, list(figures), 3, rates).splitlines()
    assert "| fedavg | 0.001 | 0.600 (0.100) |  |  | 1,000, 1,234 |  |" in lines
    assert lines[-2].startswith("| livar-head | 0.003 | 0.610 (0.066) | +1.0 (")
    assert "| livar-head: -1.0 (" in lines[-1]  # -3, -2 and +2 points
    rows = (tmp_path / "runs.csv").read_text("utf-8").splitlines()
    assert len(rows) == 10
    assert rows[1].startswith("fedavg,0,0.5,1000,1234,,1.0,")


def test_the_table_of_the_cells_has_a_column_a_rule_and_the_known_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for cell in livar_reference.CELLS:
        for place, rule in enumerate(livar_reference.TRAINED):
            for seed in range(3):
                last = 0.5 + 0.01 * place * (seed + 1)
                run = {"accuracies": [0.0, last], "ccvr": [last + 0.1]}
                path = livar_reference.file_of(tmp_path, cell, rule, seed, "he-first")
                path.write_text(json.dumps(run), encoding="utf-8")
    livar_reference.print_table(tmp_path, 3, "he-first", list(livar_reference.TRAINED))
    text = capsys.readouterr().out
    assert "| A-0.01 | 0.500 (0.000) [0.767] | 0.520 (0.010) [0.784] | 0.540 (0.020)" in text
    assert "| B-0.03 | livar-head + ccvr | +0.120 | +0.1" in text
