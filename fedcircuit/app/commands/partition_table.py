"""Who holds what, as a table for the terminal."""

from __future__ import annotations

from rich.box import SIMPLE
from rich.table import Table

from fedcircuit.app.config import StudyConfig
from fedcircuit.app.study import dataset_of, partition_of, source_of
from fedcircuit.learning.partitions import summary

_MOST_CLASSES = 20


def partition_table(config: StudyConfig) -> tuple[Table, tuple[str, ...]]:
    """Counts, label entropy and distance to the global label mix of every client; and notes."""
    source = source_of(config)
    dataset = dataset_of(source, config.seed)
    partition = partition_of(source, config.partition, config.seed)
    names = dataset.class_names
    described = summary(partition, dataset.train.labels.numpy(), n_classes=len(names))
    shown = names if len(names) <= _MOST_CLASSES else ()
    table = Table(
        title=f"{config.name}: {partition.kind} over {len(partition.indices)} clients",
        box=SIMPLE,
        padding=(0, 1, 0, 0),
    )
    named = ("name",) if partition.names else ()
    for heading in ("client", *named, *shown, "samples", "entropy", "distance"):
        table.add_column(heading, justify="right", no_wrap=True)
    for client, counts in enumerate(described.counts):
        cells = [str(n) if n else "." for n in counts] if shown else []
        table.add_row(
            str(client),
            *partition.names[client : client + 1],
            *cells,
            str(described.sizes[client]),
            f"{described.entropy[client]:.2f}",
            f"{described.distance[client]:.2f}",
        )
    explained = (
        "entropy: of the client's labels, in bits; "
        "distance: total variation between a client's label mix and that of all data"
    )
    return table, (*partition.notes, explained)
