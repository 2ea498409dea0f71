import shutil
from pathlib import Path

import pytest
from command_line import fedcircuit

from fedcircuit.records.rounds.manifest import build_manifest
from fedcircuit.records.runs.store import RunStore

SMALL = [
    "--set", "data.train_limit=200", "--set", "data.test_limit=150",
    "--set", "training.rounds=2", "--set", "circuits.probe_per_class=6",
    "--set", "model.widths=[4,6]", "--set", "circuits.controls=1",
]  # fmt: skip


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a study and one finished run of it."""
    folder = tmp_path_factory.mktemp("cli")
    (folder / "study.yaml").write_text("name: tiny\npartition: {kind: iid, clients: 2}\n")
    result = fedcircuit("run", "study.yaml", *SMALL, "--out", "run", cwd=folder)
    assert result.returncode == 0, result.stderr
    assert "round 2/2  accuracy 0." in result.stdout
    assert "report: run/report.html" in result.stdout
    return folder


def test_reports_plots_and_comparisons_are_made_from_a_run(finished: Path) -> None:
    plot = fedcircuit("plot", "run", "--formats", "svg", cwd=finished)
    compare = fedcircuit("compare", "run", cwd=finished)

    assert plot.returncode == compare.returncode == 0, plot.stderr + compare.stderr
    assert (finished / "run/figures/accuracy.svg").exists()
    assert "accuracy" in compare.stdout
    assert (finished / "comparison.html").exists()


def test_a_run_is_looked_at_again_and_reported_on(finished: Path) -> None:
    asked = ("look", "run", "--set", "circuits.method=magnitude", "--name", "by-size")
    look = fedcircuit(*asked, "--rounds", "2", cwd=finished)
    again = fedcircuit(*asked, "--rounds", "2", cwd=finished)
    other = fedcircuit(*asked, "--rounds", "1,x", cwd=finished)
    report = fedcircuit("report", "run", "--look", "by-size", "-q", cwd=finished)

    assert look.returncode == 0, look.stderr
    assert "round 2/2  accuracy 0." in look.stdout
    assert "round 1/2" not in look.stdout
    assert look.stdout.endswith("report: run/looks/by-size/report.html\n")
    assert again.returncode == 0
    assert "round 2/2" not in again.stdout  # all of it is there
    assert (other.returncode, other.stderr) == (
        1, "error: --rounds expects numbers such as 1,4,8, got '1,x'\n",
    )  # fmt: skip
    assert report.stdout == "report: run/looks/by-size/report.html\n"


def test_a_finished_run_is_not_resumed_but_can_be_extended(finished: Path) -> None:
    refused = fedcircuit("resume", "run", cwd=finished)
    extended = fedcircuit("resume", "run", "--rounds", "3", cwd=finished)

    assert refused.returncode == 1
    assert "has all 2 rounds; ask for more with --rounds" in refused.stderr
    assert "round 3/3" in extended.stdout


@pytest.mark.parametrize("config", [None, {"num-rounds": 3}])
def test_a_run_of_another_program_is_resumed_there(tmp_path: Path, config: object) -> None:
    manifest = build_manifest("other", config, seed=0, class_names=[], thresholds={})  # type: ignore[arg-type]
    RunStore.create(tmp_path / "run", manifest).close()

    told = fedcircuit("resume", "run", cwd=tmp_path)

    assert told.returncode == 1
    assert "Traceback" not in told.stderr
    assert "was not recorded by 'fedcircuit run' but by a program of its own" in told.stderr
    assert f"-c run-dir={tmp_path / 'run'} -c resume=true" in told.stderr


def test_a_run_is_verified_and_damage_is_named_in_one_line(finished: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(finished / "run", tmp_path / ("a long name " * 9 + "x")))
    whole = fedcircuit("verify", copy, cwd=tmp_path)
    for number in (0, 1):
        with (copy / f"rounds/000{number}.safetensors").open("ab") as file:
            file.write(b"x")

    damaged = fedcircuit("verify", copy, cwd=tmp_path)

    assert (whole.returncode, whole.stdout) == (0, f"{copy} is whole\n")
    assert damaged.returncode == 1
    first, second, end = damaged.stdout.splitlines()
    assert first.startswith(f"damaged: {copy}/rounds/0000.safetensors (round 0) is damaged")
    assert second.startswith(f"damaged: {copy}/rounds/0001.safetensors (round 1) is damaged")
    assert end == "2 damaged"


def test_the_partition_is_shown_without_training(finished: Path) -> None:
    result = fedcircuit("partition", "study.yaml", cwd=finished)

    assert result.returncode == 0
    assert "tiny: iid over 2 clients" in result.stdout
    assert "719" in result.stdout  # half of the 1,437 training digits, rounded up


def test_the_doctor_looks_at_everything(tmp_path: Path) -> None:
    result = fedcircuit("doctor", "--root", str(tmp_path), cwd=tmp_path)

    for topic in ("versions", "processors", "disk", "memory", "torchvision", "SuperLink", "mnist"):
        assert topic in result.stdout
    assert f"not below {tmp_path}" in result.stdout.replace("\n", "")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["run", "none.yaml"], "error: cannot read the study none.yaml: No such file"),
        (["run", "study.yaml", "--set", "trainin.rounds=1"], "did you mean 'training'"),
        (["run", "study.yaml", "--out", "run"], "run exists"),
        (["run", "study.yaml", "--set", "data.name=mnist", "--set", "data.root=nowhere"],
         "nowhere/MNIST/raw/train-images-idx3-ubyte"),
        (["report", "nowhere"], "nowhere is not a run folder"),
        (["plot", "run", "--formats", "gif"], "unknown figure formats ['gif']"),
    ],
)  # fmt: skip
def test_expected_errors_are_one_message_and_exit_code_one(
    finished: Path, arguments: list[str], message: str
) -> None:
    result = fedcircuit(*arguments, cwd=finished)

    assert result.returncode == 1
    assert message in result.stderr
    assert "Traceback" not in result.stderr


def test_partitions_are_shown_whole_on_a_narrow_terminal(tmp_path: Path) -> None:
    (tmp_path / "study.yaml").write_text(
        "name: drawn\npartition: {kind: flwr-datasets, clients: 2, partitioner: SizePartitioner,"
        " options: {partition_sizes: [1000, 437]}}\n"
    )
    result = fedcircuit("partition", "study.yaml", cwd=tmp_path, columns=30)

    assert result.returncode == 0, result.stderr
    assert "…" not in result.stdout
    assert " 1000 " in result.stdout
    assert " 437 " in result.stdout


def test_partitioners_for_another_number_of_clients_are_refused(tmp_path: Path) -> None:
    (tmp_path / "study.yaml").write_text(
        "partition: {kind: flwr-datasets, clients: 3, partitioner: SizePartitioner,"
        " options: {partition_sizes: [1000, 437]}}\n"
    )
    result = fedcircuit("partition", "study.yaml", cwd=tmp_path)

    assert result.returncode == 1
    assert "SizePartitioner makes 2 partitions, partition.clients is 3" in result.stderr


def test_the_version_is_told(tmp_path: Path) -> None:
    assert fedcircuit("--version", cwd=tmp_path).stdout == "0.1.0\n"
