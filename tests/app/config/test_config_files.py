from pathlib import Path

import pytest

from fedcircuit.app.config.files import ConfigError, load_study, parse_study
from fedcircuit.app.config.study import StudyConfig
from fedcircuit.app.study.parts import circuit_settings
from fedcircuit.circuits.methods.named import METHOD_NAMES

STUDIES = sorted(Path(__file__).parents[3].glob("experiments/*/*.yaml"))
STUDIES = [path for path in STUDIES if path.name != "compose.yaml"]


@pytest.mark.parametrize("path", STUDIES, ids=lambda path: path.stem)
def test_every_study_of_the_repository_is_valid_and_named_after_its_file(path: Path) -> None:
    assert load_study(path).name == path.stem


def test_there_are_studies_to_check() -> None:
    assert {"mnist-iid", "mnist-3-classes", "mnist-dirichlet", "cifar10-resnet8"} <= {
        p.stem for p in STUDIES
    }


def test_overrides_replace_single_keys_and_may_make_sections() -> None:
    raw = {"training": {"rounds": 3, "lr": 0.5}}

    config = parse_study(
        raw, ["training.rounds=7", "training.sparsity.target=0.5", "seed=0", "data.name=digits"]
    )

    assert (config.training.rounds, config.training.lr, config.seed) == (7, 0.5, 0)
    assert config.training.sparsity is not None
    assert config.training.sparsity.target == 0.5
    assert raw == {"training": {"rounds": 3, "lr": 0.5}}


def test_the_number_of_clients_follows_from_a_class_map() -> None:
    config = parse_study({"partition": {"kind": "classes", "classes": [[0], [1, 2]]}})

    assert config.n_clients == 2


@pytest.mark.parametrize(
    ("raw", "overrides", "message"),
    [
        ({"trainig": {}}, [], "trainig: unknown key; did you mean 'training'"),
        ({"training": {"epoch": 3}}, [], "training.epoch: unknown key; did you mean 'epochs'"),
        ({"training": {"zzz": 3}}, [], "training.zzz: unknown key; known keys: batch_norm"),
        ({"partition": {"kind": "dirichlet", "clients": 3, "alpha": -0.5}}, [],
         "partition.alpha: .*greater than 0, got -0.5"),
        ({"partition": {"kind": "dirichlet", "clients": 3}}, [], "needs alpha > 0"),
        ({"partition": {"kind": "classes"}}, [], "needs classes, such as"),
        ({"partition": {"kind": "iid", "clients": 2, "classes": [[1]]}}, [],
         "classes belongs to kind 'classes'"),
        ({"partition": {"kind": "iid"}}, [], "needs clients"),
        ({"partition": {"kind": "flwr-datasets", "clients": 2}}, [], "needs partitioner, such as"),
        ({"partition": {"kind": "iid", "clients": 2, "options": {"a": 1}}}, [],
         "belong to kind 'flwr-datasets'"),
        ({"partition": {"kind": "classes", "classes": [[1]], "clients": 3}}, [],
         "clients is 3, but classes lists 1"),
        ({"seed": -1}, [], "seed: .*greater than or equal to 0, got -1"),
        ({"name": "../x"}, [], "name: "),
        ({}, ["training.rounds"], "--set expects key.path=value, got 'training.rounds'"),
        ({"seed": 1}, ["seed.x=1"], "'seed' holds a value, not further keys"),
        ({}, ["training.rounds=[1"], "the value is not YAML"),
    ],
)  # fmt: skip
def test_what_cannot_be_used_is_named_with_its_key(
    raw: dict[str, object], overrides: list[str], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        parse_study(raw, overrides)


def test_files_that_are_missing_or_no_mapping_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot read the study .*No such file"):
        load_study(tmp_path / "none.yaml")
    (tmp_path / "list.yaml").write_text("- 1\n")
    with pytest.raises(ConfigError, match="must hold keys and values, it holds a list"):
        load_study(tmp_path / "list.yaml")
    (tmp_path / "bad.yaml").write_text("a: [\n")
    with pytest.raises(ConfigError, match="is not YAML"):
        load_study(tmp_path / "bad.yaml")


def test_the_options_of_the_checks_reach_the_search_for_circuits(tmp_path: Path) -> None:
    path = tmp_path / "study.yaml"
    path.write_text("circuits: {ablation: resample, minimality: true, stability: true}\n")
    settings = circuit_settings(load_study(path))
    assert (settings.ablation, settings.minimality, settings.stability) == ("resample", True, True)
    assert settings.checks().minimality
    plain = circuit_settings(StudyConfig())
    assert (plain.ablation, plain.minimality, plain.stability) == ("mean", False, False)


@pytest.mark.parametrize("method", METHOD_NAMES)
def test_every_discovery_method_can_be_asked_for(method: str) -> None:
    config = StudyConfig.model_validate({"circuits": {"method": method}})
    assert circuit_settings(config).discovery().name == method
