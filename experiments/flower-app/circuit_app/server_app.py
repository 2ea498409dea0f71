"""The server: FedAvg that looks for circuits after every aggregation."""

from pathlib import Path

from flwr.app import ArrayRecord, Context
from flwr.serverapp import Grid, ServerApp

from circuit_app.task import model, probe
from fedcircuit import CircuitFedAvg, RecorderOptions, Run

app = ServerApp()


@app.main()
def main(grid: Grid, context: Context) -> None:
    """Run the rounds; say what averaging did."""
    from fedcircuit.report.page import write_report
    from fedcircuit.report.verdict_text import headline

    config = context.run_config
    # the working directory is that of the SuperLink: name an absolute folder with run-dir
    folder = Path(str(config["run-dir"]) or f"runs/circuit-app-{context.run_id}").absolute()
    strategy = CircuitFedAvg(
        fraction_evaluate=0.0,
        min_available_nodes=int(config["num-clients"]),
        model=model(),
        probe=probe(),
        run_dir=folder,
        options=RecorderOptions(seed=int(config["seed"]), identify=True, fail_when_all_fail=True),
    )
    initial = ArrayRecord(model().state_dict())
    strategy.start(grid, initial, num_rounds=int(config["num-rounds"]))
    run = Run.load(folder)
    print(headline(run), flush=True)
    print(f"report: {write_report(run)}", flush=True)
