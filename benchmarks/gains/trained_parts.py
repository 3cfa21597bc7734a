"""Specialists of which only a part is trained: what they gain, take to train, weigh, and cost to ask.

Question: from the bases of finished runs, do specialists on a shared trunk give 85 % of the gain of whole ones, in 40 %
of the training time, with 1.6 times the base's storage and 1.25 passes?

Whole specialists are those of the runs, of which outputs are enough: what they weigh is what networks like them weigh.
The others are trained in OUT, which resumes. For the time, one specialist is trained once more each way, one after the
other, and the processor's seconds are counted.
"""

import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch

import coterie
import record
from coterie.backbones.specialist import make_specialist
from coterie.config import FitSettings
from coterie.data import load
from coterie.data.splits import Splits
from coterie.engine import TaskContext
from coterie.pipeline.fit import prepare_base, specialist_inputs, specialist_tasks
from coterie.progress import SILENT
from coterie.routing.evaluation import evaluate
from coterie.routing.gate import Budget
from coterie.routing.tune import TuningRequest, tune
from coterie.run.folder import Run
from coterie.run.names import BASE_FILE
from coterie.run.reporting import read_outputs
from coterie.run.values import partition_of
from coterie.studies.comparison.contenders import CostModel

# Tails take a higher learning rate than whole specialists, whose first layers it would wreck.
TAIL = {"learning_rate": 0.2, "epochs": 8, "views": 4}
VARIANTS: dict[str, dict[str, Any]] = {
    "all (the paper's)": {},
    "the last stage": {**TAIL, "trainable": "stage3"},
    "the last stage, in 2.4 bits": {**TAIL, "trainable": "stage3", "bits": 2.4},
    "the last two convolutions, in 3 bits": {**TAIL, "trainable": "last-2", "bits": 3},
}
WITHIN = 1.25  # passes


def changed(run: Run, values: dict[str, Any]) -> FitSettings:
    """The run's settings with others for its specialists."""
    before = run.manifest.settings
    return FitSettings.from_values({**before, "specialist": {**before["specialist"], **values}})


def figures(run: Run) -> list[float]:
    """By the rule chosen without a limit, and by that within 1.25 passes, on test: gain in points, and passes, a tail's
    counted by its operations.
    """
    partition, found = partition_of(run.manifest), []
    for budget in (Budget(), Budget(passes=WITHIN)):
        rule = tune(read_outputs(run, "validation"), partition, TuningRequest(budget=budget)).rule
        report = evaluate(read_outputs(run, "test"), partition, rule)
        found += [100 * report.gain, report.mean_passes]
    return found


def storage_of_whole(run: Run, splits: Splits) -> float:
    """Base and specialists over the base, also where the files of these are gone."""
    prepared = prepare_base(changed(run, {}), splits, base_run=run.path)
    partition, base_bytes = partition_of(run.manifest), run.manifest.files[BASE_FILE].bytes
    whole = (
        make_specialist(prepared.network, prepared.head, partition.classes(cluster))
        for cluster in range(partition.n_clusters)
    )
    return 1 + sum(len(safetensors.torch.save(network.state_dict())) for network in whole) / base_bytes


def training_seconds(run: Run, values: dict[str, Any], splits: Splits) -> float:
    """Processor time of training the first cluster's specialist, on one thread."""
    settings = changed(run, values)
    prepared = prepare_base(settings, splits, base_run=run.path)
    run.read_weights(BASE_FILE, prepared.network)
    task = specialist_tasks(settings, [partition_of(run.manifest)])[0]
    materials = specialist_inputs(settings, splits, prepared.network, prepared.head, prepared.part)
    started = time.process_time()
    task.run(materials, TaskContext(SILENT))
    return time.process_time() - started


def main(out: str, *paths: str) -> None:
    """All variants from the bases of all runs; means over the runs."""
    runs = [Run.open_complete(Path(path)) for path in paths]
    splits = {run.path: load((s := run.settings).data, s.seed) for run in runs}
    seconds = {name: training_seconds(runs[0], values, splits[runs[0].path]) for name, values in VARIANTS.items()}
    found: dict[str, np.ndarray] = {}
    for name, values in VARIANTS.items():
        rows = []
        for number, run in enumerate(runs):
            place = Path(out) / f"{number}-{name.replace(' ', '-').replace(',', '').replace('.', '-')}"
            if values:
                coterie.fit(changed(run, values), place, splits=splits[run.path], base_run=run.path)
            asked = Run.open_complete(place) if values else run
            weight = (
                CostModel.of(asked, splits[run.path]).storage if values else storage_of_whole(run, splits[run.path])
            )
            rows.append([*figures(asked), weight])
        found[name] = np.array(rows)
    write(found, seconds, len(runs))


def write(found: dict[str, np.ndarray], seconds: dict[str, float], n_runs: int) -> None:
    """The table."""
    whole, whole_seconds = next(iter(found.values())).mean(axis=0), next(iter(seconds.values()))
    lines = [
        (
            f"Means over {n_runs} runs, on test; in brackets each run's. Gains in points over the base, rules chosen "
            f"on validation. Tails: {TAIL['epochs']} epochs at a learning rate of {TAIL['learning_rate']}, on "
            f"{TAIL['views']} augmented views. Training: processor time of one specialist."
        ),
        "",
        (
            f"| trained | gain | of the whole's | passes | gain within {WITHIN} passes | passes | training, of the "
            "whole's | storage, of the base's |"
        ),
        "|---" * 8 + "|",
    ]
    for name, rows_RF in found.items():
        gain, passes, cheap, cheap_passes, storage = rows_RF.mean(axis=0)
        each, each_cheap = (", ".join(f"{value:+.2f}" for value in rows_RF[:, column]) for column in (0, 2))
        lines.append(
            f"| {name} | {gain:+.2f} ({each}) | {gain / whole[0]:.0%} | {passes:.2f} | {cheap:+.2f} ({each_cheap}) | "
            f"{cheap_passes:.2f} | {seconds[name] / whole_seconds:.0%} | {storage:.2f} |"
        )
    record.write(__file__, "\n".join(lines))


if __name__ == "__main__":
    if len(sys.argv) < 3:
        sys.exit("usage: python benchmarks/gains/trained_parts.py OUT RUN [RUN ...]")
    main(*sys.argv[1:])
