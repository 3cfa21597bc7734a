"""Specialists' weights in few bits: what they weigh, and what the ensemble still gains.

Question: of finished runs whose specialists are tails, how much of the gain stays when each difference from the base's
weights is kept in so many bits on average, and what do base and specialists then weigh? Of several partitions side by
side, the first is looked at.
"""

from dataclasses import replace
from pathlib import Path

import numpy as np
import safetensors.torch

from benchmarks.shared import command, first_of, markdown_table, splits_of, write_result
from coterie.backbones.adapters import weights_of
from coterie.backbones.deltas import decode, encode
from coterie.backbones.specialist import as_asked, make_specialist
from coterie.config import EXACT_BITS
from coterie.data.splits import Splits
from coterie.ensemble.panel import Panel
from coterie.routing.evaluation import Outputs, evaluate
from coterie.routing.gate import Budget
from coterie.routing.tune import TuningRequest, tune
from coterie.run.folder import FinishedRun, Run
from coterie.run.load import load_ensemble
from coterie.run.names import BASE_FILE, specialist_files
from coterie.run.reporting import read_outputs
from coterie.run.values import partition_of
from coterie.training.fabric import configure_process

TRIED = (EXACT_BITS, 3, 2.4, 2)
WITHIN = 1.25  # passes


def in_bits(run: FinishedRun, splits: Splits, bits: float) -> tuple[dict[str, Outputs], np.ndarray]:
    """What base and specialists say of validation and test, and what each specialist weighs over the base."""
    ensemble, partition = load_ensemble(run.path), partition_of(run.manifest)
    configure_process(ensemble.hardware)
    assert run.manifest.head is not None
    head, known = run.manifest.head, weights_of(ensemble.base)
    specialists, size_S = {}, np.zeros(partition.n_clusters)
    base_bytes = run.manifest.files[BASE_FILE].bytes
    for cluster, file in enumerate(specialist_files(partition)):
        network = make_specialist(ensemble.base, head, partition.classes(cluster))
        run.read_weights(file, network, ensemble.base)
        kept = encode(weights_of(network), known, bits)
        size_S[cluster] = len(safetensors.torch.save({n: t.contiguous() for n, t in kept.items()})) / base_bytes
        network.load_state_dict({**weights_of(network), **decode(kept, known)})
        specialists[cluster] = as_asked(network, ensemble.cut, splits.preprocessing.example())
    panel = Panel(ensemble.fabric, ensemble.base, specialists, splits.preprocessing, ensemble.cut)
    outputs = {}
    for split in ("validation", "test"):
        packed_NM = panel.ask_all(getattr(splits, split).samples, partition)[1]
        outputs[split] = replace(read_outputs(run, split), packed_NM=packed_NM)
    return outputs, size_S


def main(runs: tuple[Path, ...]) -> None:
    """All numbers of bits, on all runs.

    Args:
        runs: finished runs whose specialists are tails.
    """
    found: dict[float, list[list[float]]] = {bits: [] for bits in TRIED}
    for path in runs:
        run = Run.open_complete(path)
        partition = partition_of(run.manifest)
        first = first_of(partition)
        splits = splits_of(run)
        for bits in TRIED:
            outputs, size_S = in_bits(run, splits, bits)
            some = {
                name: replace(one, packed_NM=one.packed_NM[:, : len(first.packed_class_M)])
                for name, one in outputs.items()
            }
            row = [1 + float(size_S[partition.layers[0]].sum())]
            for budget in (Budget(passes=WITHIN), Budget()):
                report = evaluate(
                    some["test"], first, tune(some["validation"], first, TuningRequest(budget=budget)).rule
                )
                row += [100 * report.gain, report.mean_passes]
            found[bits].append(row)
            print(path, bits, row, flush=True)
    titles = ("bits", "storage, of the base's", f"gain within {WITHIN} passes", "passes", "gain, no limit", "passes")
    table = []
    for bits, rows in found.items():
        size, cheap, cheap_passes, gain, passes = np.mean(rows, axis=0)
        each_cheap, each = (", ".join(f"{row[column]:+.2f}" for row in rows) for column in (1, 3))
        cells = ["as they are" if bits == EXACT_BITS else f"{bits:g}", f"{size:.2f}"]
        cells += [f"{cheap:+.2f} ({each_cheap})", f"{cheap_passes:.2f}", f"{gain:+.2f} ({each})", f"{passes:.2f}"]
        table.append(cells)
    about = f"Means over {len(runs)} runs, on test; in brackets each run's. Gains in points over the base."
    write_result(__file__, f"{about}\n\n{markdown_table(titles, table)}")


if __name__ == "__main__":
    command(main)
