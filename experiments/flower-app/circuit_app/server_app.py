"""The server: FedAvg that looks for circuits after every aggregation."""

import time
from pathlib import Path

from flwr.app import ArrayRecord, Context
from flwr.serverapp import Grid, ServerApp

from circuit_app.task import model, probe
from fedcircuit import CircuitFedAvg, RecorderOptions, Run

app = ServerApp()


def wait_for_clients(grid: Grid, wanted: int, seconds: float) -> None:
    """Until enough clients are there; a simulation never gets more than it began with."""
    end = time.monotonic() + seconds
    while (here := len(list(grid.get_node_ids()))) < wanted:
        if time.monotonic() > end:
            raise TimeoutError(
                f"{here} of {wanted} clients came in {seconds:g} s; start as many: flwr run "
                f"experiments/flower-app --stream --federation-config num-supernodes={wanted}"
            )
        time.sleep(0.5)


@app.main()
def main(grid: Grid, context: Context) -> None:
    """Run the rounds; say what averaging did."""
    from fedcircuit.report.page import write_report
    from fedcircuit.report.tables import headline

    config = context.run_config
    wanted = int(config["min-clients"])
    wait_for_clients(grid, wanted, float(config["wait-seconds"]))
    # the working directory is that of the SuperLink: name an absolute folder with run-dir
    folder = Path(str(config["run-dir"]) or f"runs/circuit-app-{context.run_id}").absolute()
    strategy = CircuitFedAvg(
        fraction_evaluate=0.0,
        min_available_nodes=wanted,
        model=model(),
        probe=probe(),
        run_dir=folder,
        options=RecorderOptions(seed=int(config["seed"])),
    )
    initial = ArrayRecord(model().state_dict())
    strategy.start(grid, initial, num_rounds=int(config["num-rounds"]))
    run = Run.load(folder)
    print(headline(run), flush=True)
    print(f"report: {write_report(run)}", flush=True)
