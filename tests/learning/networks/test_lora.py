"""LoRA: what is trained and exchanged, peft as an independent route, and a federation of it."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from flwr.app import Context
from flwr.serverapp.strategy import FedAvg
from torch import nn
from toy_federation import SortedGrid, arrays_of, bits, weights_of

from fedcircuit import Probe, Run, observe
from fedcircuit.circuits.sites.finding import find_sites
from fedcircuit.clients.app import client_app
from fedcircuit.learning.networks.lora import (
    LoRA,
    LowRank,
    adapter_pairs,
    peft_names,
    small_vit,
    with_lora,
)
from fedcircuit.learning.training.evaluation import evaluate
from fedcircuit.learning.training.local_training import LocalTraining, train_local
from fedcircuit.learning.weights import Weights, get_weights, set_weights
from fedcircuit.logits import logits_of
from fedcircuit.records.runs.store import RunStore
from fedcircuit.report.page.page import write_report
from fedcircuit.samples import Samples
from fedcircuit.strategies.recording.options import RecorderOptions

N_CLASSES = 3


class AttentionNet(nn.Module):
    """Tokens, one attention of two heads, an MLP: what a transformer is made of."""

    def __init__(self) -> None:
        super().__init__()
        self.tokens = nn.Linear(4, 8)
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)
        self.norm, self.up, self.act = nn.LayerNorm(8), nn.Linear(8, 12), nn.GELU()
        self.down, self.head = nn.Linear(12, 8), nn.Linear(8, N_CLASSES)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """``[n, 1, 4, 4]`` to logits."""
        x = self.tokens(x.flatten(1, 2))
        x = x + self.attention(x, x, x, need_weights=False)[0]
        x = x + self.down(self.act(self.up(self.norm(x))))
        return self.head(x.mean(1))


def plain_net() -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        return AttentionNet()


def attention_net(lora: LoRA | None = None) -> nn.Module:
    return with_lora(plain_net(), LoRA(rank=2) if lora is None else lora, seed=4)


def tiny_vit(*, adapted: bool = True) -> nn.Module:
    model = small_vit(
        (1, 4, 4), N_CLASSES, seed=1, hidden_size=8, num_hidden_layers=1, num_attention_heads=2,
        intermediate_size=12, patch_size=2,
    )  # fmt: skip
    return with_lora(model, LoRA(rank=2), seed=4) if adapted else model


def samples_of(client: int, n: int = 36) -> Samples:
    generator = torch.Generator().manual_seed(client)
    labels = torch.arange(n) % N_CLASSES
    inputs = 0.3 * torch.randn(n, 1, 4, 4, generator=generator)
    inputs[torch.arange(n), 0, 0, labels] += 3.0
    return Samples(inputs, labels)


INPUTS = samples_of(9).inputs[:5]


def test_new_factors_change_nothing() -> None:
    assert torch.equal(plain_net().eval()(INPUTS), attention_net().eval()(INPUTS))


def test_factors_norms_and_head_alone_are_in_the_state_dict_and_are_trained() -> None:
    model = attention_net()
    names = list(model.state_dict())
    assert names == [name for name, p in model.named_parameters()]
    layers = ["tokens.weight", "attention.in_proj_weight", "attention.out_proj.weight",
              "up.weight", "down.weight"]  # fmt: skip
    assert sorted(adapter_pairs(names)) == sorted(layers)
    factors = {name for pair in adapter_pairs(names).values() for name in pair}
    assert set(names) - factors == {"norm.weight", "norm.bias", "head.weight", "head.bias"}
    without = list(attention_net(LoRA(rank=2, norms=False)).state_dict())
    assert set(without) - factors == {"head.weight", "head.bias"}


def test_the_adapted_weight_is_the_frozen_one_and_the_scaled_product() -> None:
    model, plain = attention_net(LoRA(rank=2, alpha=6.0)), plain_net()
    adapter = model.up.parametrizations.weight[0]  # type: ignore[union-attr, index]
    with torch.no_grad():
        adapter.lora_B.copy_(torch.arange(24.0).reshape(12, 2))
    product = adapter.lora_B @ adapter.lora_A
    assert torch.allclose(model.up.weight, plain.up.weight + 3.0 * product)  # type: ignore[union-attr, operator]


def test_training_leaves_the_frozen_weights_bit_identical() -> None:
    model, start = attention_net(), attention_net()
    train_local(
        model, samples_of(0), LocalTraining(epochs=3, lr=0.2, weight_decay=0.1),
        n_classes=N_CLASSES, seed=0,
    )  # fmt: skip
    frozen, was = dict(model.named_buffers()), dict(start.named_buffers())
    assert len(frozen) == 10
    assert all(torch.equal(values, was[name]) for name, values in frozen.items())
    assert all(not torch.equal(v, start.state_dict()[n]) for n, v in model.state_dict().items())


def test_the_units_of_an_adapted_network_are_those_of_the_plain_one_heads_too() -> None:
    adapted, plain = attention_net(), plain_net()
    sites = find_sites(adapted, INPUTS)
    assert sites == find_sites(plain, INPUTS)
    assert {site.name: site.n_units for site in sites} == {
        "tokens": 8, "attention": 2, "up": 12, "down": 8,
    }  # fmt: skip


def test_the_seed_decides_the_factors_and_weights_go_there_and_back() -> None:
    first, again, other = (with_lora(plain_net(), LoRA(), seed=seed) for seed in (1, 1, 2))
    assert bits(get_weights(first)) == bits(get_weights(again)) != bits(get_weights(other))
    set_weights(other, get_weights(first))
    assert bits(get_weights(other)) == bits(get_weights(first))
    assert bits(get_weights(copy.deepcopy(first))) == bits(get_weights(first))


def test_names_of_peft_are_read_and_written() -> None:
    ours = "encoder.0.fc1.parametrizations.weight.0.lora_"
    theirs = "base_model.model.encoder.0.fc1.lora_"
    assert peft_names([f"{ours}A", "head.bias"]) == {
        f"{ours}A": f"{theirs}A.weight", "head.bias": "base_model.model.head.bias",
    }  # fmt: skip
    for names in (
        (f"{ours}A", f"{ours}B"),
        (f"{theirs}A.weight", f"{theirs}B.weight"),
        (f"{theirs}A.default.weight", f"{theirs}B.default.weight"),
    ):
        assert adapter_pairs([*names, "head.bias"]) == {"encoder.0.fc1.weight": names}


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: LoRA(rank=0), "rank of LoRA must be >= 1, got 0"),
        (lambda: LoRA(alpha=0.0), "alpha of LoRA must be > 0, got 0"),
        (lambda: with_lora(nn.Sequential(nn.Linear(2, 2)), LoRA(), seed=0), "before the head"),
        (lambda: with_lora(nn.Sequential(nn.ReLU()), LoRA(), seed=0), "needs linear layers"),
        (lambda: with_lora(attention_net(), LoRA(), seed=0), "has adapters of LoRA already"),
        (lambda: adapter_pairs(["a.lora_A.weight"]), r"'a.weight' has \['lora_A'\] alone"),
        (lambda: small_vit((1, 8, 6), 3, seed=0), "square images .*, got 8x6"),
        (lambda: small_vit((1, 8, 8), 3, seed=0, patch_size=3), "patches of 3 cut evenly"),
    ],
)
def test_what_does_not_fit_is_refused_in_words(make: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        make()


def test_the_vit_is_found_by_type_and_runs_as_without_adapters() -> None:
    pytest.importorskip("transformers", reason="the extra 'lora' is not installed")
    adapted, plain = tiny_vit(), tiny_vit(adapted=False)
    assert torch.equal(logits_of(adapted.eval(), INPUTS), logits_of(plain.eval(), INPUTS))
    n_linear = sum(isinstance(module, nn.Linear) for module in plain.modules())
    assert len(adapter_pairs(adapted.state_dict())) == n_linear - 1 == 6
    assert {site.n_units for site in find_sites(adapted, INPUTS)} >= {12}  # neurons of the MLP


def test_a_checkpoint_is_read_from_a_folder(tmp_path: Path) -> None:
    pytest.importorskip("transformers", reason="the extra 'lora' is not installed")
    tiny_vit(adapted=False).save_pretrained(tmp_path)  # type: ignore[operator]
    loaded = small_vit((1, 4, 4), N_CLASSES, seed=7, patch_size=2, checkpoint=tmp_path)
    assert bits(get_weights(loaded)) == bits(get_weights(tiny_vit(adapted=False)))


@pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning")
def test_an_adapter_gives_in_peft_the_same_logits() -> None:
    peft = pytest.importorskip("peft", reason="the extra 'lora' is not installed")
    pytest.importorskip("transformers", reason="the extra 'lora' is not installed")
    ours, plain = with_lora(
        tiny_vit(adapted=False), LoRA(rank=2, alpha=3.0, norms=False), seed=4
    ), tiny_vit(adapted=False)  # fmt: skip
    train_local(ours, samples_of(0), LocalTraining(epochs=2, lr=0.3), n_classes=N_CLASSES, seed=0)
    head = [n for n, m in plain.named_modules() if isinstance(m, nn.Linear)][-1]
    targets = [n for n, m in plain.named_modules() if isinstance(m, nn.Linear) and n != head]
    theirs = peft.get_peft_model(
        plain,
        peft.LoraConfig(
            r=2, lora_alpha=3, lora_dropout=0.0, target_modules=targets, modules_to_save=[head]
        ),
    )
    assert sorted(peft.get_peft_model_state_dict(theirs)) == sorted(
        peft_names(ours.state_dict()).values()
    )
    names = peft_names(ours.state_dict())
    state = {names[name]: values for name, values in ours.state_dict().items()}
    peft.set_peft_model_state_dict(theirs, state)
    with torch.no_grad():
        expected = logits_of(theirs.eval(), INPUTS)
        found = logits_of(ours.eval(), INPUTS)
    assert torch.allclose(found, expected, atol=1e-5)
    assert not torch.allclose(found, logits_of(tiny_vit(adapted=False).eval(), INPUTS), atol=1e-2)


def data_of(context: Context) -> Samples:
    return samples_of(int(context.node_config["partition-id"]))


@pytest.mark.parametrize("build", [attention_net, tiny_vit])
def test_an_observed_federation_exchanges_and_records_adapter_and_head_alone(
    build: Any, tmp_path: Path
) -> None:
    if build is tiny_vit:
        pytest.importorskip("transformers", reason="the extra 'lora' is not installed")
    training = LocalTraining(epochs=4, batch_size=9, optimizer="adam", lr=0.03)
    app = client_app(build, data_of, training, n_classes=N_CLASSES)
    probe = Probe.split(samples_of(20, 60), ("a", "b", "c"), 0)
    start = get_weights(build())

    def go_on(store: RunStore, rounds: int, weights: Weights, offset: int = 0) -> None:
        options = RecorderOptions(strict=True, round_offset=offset)
        strategy = observe(FedAvg(), model=build(), probe=probe, store=store, options=options)
        strategy.start(SortedGrid(app, 3), arrays_of(weights), num_rounds=rounds)
        store.close()

    go_on(RunStore.create(tmp_path / "run", {"class_names": ["a", "b", "c"]}), 2, start)
    run = Run.load(tmp_path / "run")
    assert run.rounds == (1, 2)
    assert len(run.observer_errors) == len(run.failures) == 0
    for weights in (run.weights(2), run.client_weights(2, "1")):
        assert sorted(weights) == sorted(start)
    whole = AttentionNet() if build is attention_net else tiny_vit(adapted=False)
    n_sent = sum(values.size for values in start.values())
    assert n_sent < sum(parameter.numel() for parameter in whole.parameters())

    masks = run.masks(2)
    assert masks is not None
    assert bool(masks.masks.any())
    sites = {site.name: site.n_units for site in masks.sites}
    assert 12 in sites.values()  # the neurons of the MLP
    if build is attention_net:
        assert sites["attention"] == 2  # heads
    assert write_report(run, tmp_path / "report.html").stat().st_size > 10_000

    go_on(RunStore.create(tmp_path / "parts", {}), 1, start)
    stopped = RunStore.open(tmp_path / "parts")
    go_on(stopped, 1, stopped.read(1).weights, offset=1)
    assert bits(Run.load(tmp_path / "parts").weights(2)) == bits(run.weights(2))


def test_a_federation_of_adapters_learns() -> None:
    app = client_app(
        attention_net, data_of, LocalTraining(epochs=4, batch_size=9, optimizer="adam", lr=0.03),
        n_classes=N_CLASSES,
    )  # fmt: skip
    model, test = attention_net(), samples_of(30, 90)
    before = evaluate(model, test, n_classes=N_CLASSES).accuracy
    result = FedAvg().start(SortedGrid(app, 3), arrays_of(get_weights(model)), num_rounds=4)
    set_weights(model, weights_of(result.arrays))
    assert evaluate(model, test, n_classes=N_CLASSES).accuracy > max(0.8, before)


def test_a_low_rank_module_starts_at_zero() -> None:
    weight = torch.randn(5, 3)
    assert torch.equal(LowRank(weight, LoRA(rank=2))(weight), weight)
