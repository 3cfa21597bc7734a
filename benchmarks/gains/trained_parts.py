"""Specialists of which only a part is trained: what they gain, take to train, weigh, and cost to ask.

Question: from the bases of finished runs, do specialists on a shared trunk give 85 % of the gain of whole ones, in 40 %
of the training time, with 1.6 times the base's storage and 1.25 passes?

Whole specialists are those of the runs, of which outputs are enough: what they weigh is what networks like them weigh.
The others are trained in OUT, which resumes. For the time, one specialist is trained once more each way, one after the
other, and the processor's seconds are counted.
"""

from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch

import coterie
from benchmarks.shared import (
    changed,
    command,
    gains_and_passes,
    markdown_table,
    splits_of,
    training_seconds,
    write_result,
)
from coterie.backbones.specialist import make_specialist
from coterie.data.splits import Splits
from coterie.pipeline.prepare import prepare
from coterie.run.folder import FinishedRun, Run
from coterie.run.names import BASE_FILE
from coterie.run.values import partition_of
from coterie.studies.comparison.costs import CostModel

# Tails take a higher learning rate than whole specialists, whose first layers it would wreck.
TAIL = {"learning_rate": 0.2, "epochs": 8, "views": 4}
VARIANTS: dict[str, dict[str, Any]] = {
    "all (the paper's)": {},
    "the last stage": {**TAIL, "trainable": "stage3"},
    "the last stage, in 2.4 bits": {**TAIL, "trainable": "stage3", "bits": 2.4},
    "the last two convolutions, in 3 bits": {**TAIL, "trainable": "last-2", "bits": 3},
}
WITHIN = 1.25  # passes


def storage_of_whole(run: FinishedRun, splits: Splits) -> float:
    """Base and specialists over the base, also where the files of these are gone."""
    base = prepare(changed(run, {}), splits=splits, base_run=run.path).base
    partition, base_bytes = partition_of(run.manifest), run.manifest.files[BASE_FILE].bytes
    whole = (
        make_specialist(base.network, base.head, partition.classes(cluster)) for cluster in range(partition.n_clusters)
    )
    return 1 + sum(len(safetensors.torch.save(network.state_dict())) for network in whole) / base_bytes


def main(out: Path, runs: tuple[Path, ...]) -> None:
    """All variants from the bases of all runs; means over the runs.

    Args:
        out: folder of the runs of tails.
        runs: finished runs of whole specialists.
    """
    opened = [Run.open_complete(path) for path in runs]
    splits = {run.path: splits_of(run) for run in opened}
    seconds = {name: training_seconds(opened[0], values, splits[opened[0].path]) for name, values in VARIANTS.items()}
    found: dict[str, np.ndarray] = {}
    for name, values in VARIANTS.items():
        rows = []
        for number, run in enumerate(opened):
            place = out / f"{number}-{name.replace(' ', '-').replace(',', '').replace('.', '-')}"
            if values:
                coterie.fit(changed(run, values), place, splits=splits[run.path], base_run=run.path)
            asked = Run.open_complete(place) if values else run
            weight = (
                CostModel.of(asked, splits[run.path]).storage if values else storage_of_whole(run, splits[run.path])
            )
            rows.append([*gains_and_passes(asked, (None, WITHIN)), weight])
        found[name] = np.array(rows)
    write(found, seconds, len(runs))


def write(found: dict[str, np.ndarray], seconds: dict[str, float], n_runs: int) -> None:
    """The table."""
    whole, whole_seconds = next(iter(found.values())).mean(axis=0), next(iter(seconds.values()))
    about = (
        f"Means over {n_runs} runs, on test; in brackets each run's. Gains in points over the base, rules chosen "
        f"on validation. Tails: {TAIL['epochs']} epochs at a learning rate of {TAIL['learning_rate']}, on "
        f"{TAIL['views']} augmented views. Training: processor time of one specialist."
    )
    cells = []
    for name, rows_RF in found.items():
        gain, passes, cheap, cheap_passes, storage = rows_RF.mean(axis=0)
        each, each_cheap = (", ".join(f"{value:+.2f}" for value in rows_RF[:, column]) for column in (0, 2))
        row = (name, f"{gain:+.2f} ({each})", f"{gain / whole[0]:.0%}", f"{passes:.2f}", f"{cheap:+.2f} ({each_cheap})")
        cells.append((*row, f"{cheap_passes:.2f}", f"{seconds[name] / whole_seconds:.0%}", f"{storage:.2f}"))
    titles = ("trained", "gain", "of the whole's", "passes", f"gain within {WITHIN} passes", "passes")
    more = ("training, of the whole's", "storage, of the base's")
    write_result(__file__, f"{about}\n\n{markdown_table((*titles, *more), cells)}")


if __name__ == "__main__":
    command(main)
