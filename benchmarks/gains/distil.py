"""How much of what an ensemble gains over its base does one network keep that it is distilled into?

Question: is at least 60 % of the ensemble's gain left, at one pass, and more than in the base trained on for as long by
the labels, and the base distilled from a copy of it that is trained on all classes? Each seed is a run of its own on
the same splits: `coterie fit`, the all-class copy that `coterie compare` trains, `coterie distil`.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from rich.console import Console

from benchmarks.shared import alone, command, markdown_table, write_result
from coterie.cli.terminal.progress import LineProgress
from coterie.config import FitSettings, PartitionSettings
from coterie.pipeline.distil import WEIGHT, DistilledRow, distil, distilled_rows
from coterie.pipeline.fit import fit
from coterie.run.folder import Run
from coterie.studies.comparison.controls import ALL_CLASSES, control_settings, controls_folder


def measure(
    settings: FitSettings, epochs: int, weight: float, controls: bool, folder: Path
) -> tuple[DistilledRow, ...]:
    """A run, its all-class copy, and what it is distilled into; what is there already is read."""
    progress = LineProgress(Console())
    fit(settings, folder / "run", gain=-100, progress=progress)  # no gain is too small to go on
    run = Run.open_complete(folder / "run")
    if controls:
        copy = control_settings(run).model_copy(update={"partition": PartitionSettings(clusters=(1,))})
        fit(copy, controls_folder(run.path) / ALL_CLASSES, base_run=run.path, progress=progress)
    place = folder / f"distilled-{weight:g}{'' if controls else '-alone'}"
    distil(run.path, place, epochs=epochs, weight=weight, controls=controls, progress=progress)
    return distilled_rows(place)


def main(
    cifar100: Path,
    runs: Path = Path("runs/distil"),
    base_epochs: int = 10,
    epochs: int = 5,
    weight: float = WEIGHT,
    controls: bool = True,
    seeds: int = 3,
) -> None:
    """Train what is not there yet, and tabulate it.

    Args:
        cifar100: folder with its parquet files.
        runs: folder of the runs.
        base_epochs: of the base.
        epochs: of what starts from the base's weights: the distilled network and its controls.
        weight: of the teacher's answers, beside the labels.
        controls: whether to train what it is compared with.
        seeds: number of them, from 0 on.
    """
    tables = []
    for seed in range(seeds):
        settings = FitSettings.from_values(
            {
                "data": {"source": f"parquet:{cifar100}", "label": "fine_label", "split_seed": 0},
                "backbone": "convnet-32",
                "base": {"epochs": base_epochs},
                "seed": seed,
            }
        )
        tables.append(alone(measure, settings, epochs, weight, controls, runs / f"seed-{seed}"))
    rows = [_row(tables, number) for number in range(min(map(len, tables)))]
    ensemble = np.array([table[1].gain.mean for table in tables])
    shares = ", ".join(f"{100 * table[0].gain.mean / table[1].gain.mean:.0f} %" for table in tables)
    said = (
        f"convnet-32 on all of CIFAR-100, {base_epochs} epochs, all else as `coterie fit` chooses; {seeds} seeds on "
        f"the same splits. Distilled network and controls: {epochs} epochs from the base's weights, of the target "
        f"{weight:g} from the teacher. Of the ensemble's gain, the distilled network keeps "
        f"{100 * np.mean([table[0].gain.mean for table in tables]) / ensemble.mean():.0f} % (by seed: {shares})."
    )
    titles = ["test, in %", "top-1", "gain over the base", "by seed", "distilled's lead", "passes", "storage"]
    write_result(__file__, f"{said}\n\n{markdown_table(titles, rows)}", f"distil_{weight:g}")


def _row(tables: Sequence[tuple[DistilledRow, ...]], number: int) -> list[str]:
    """A classifier's means over the seeds."""
    rows = [table[number] for table in tables]
    gains = [100 * row.gain.mean for row in rows]
    return [
        rows[0].name,
        f"{100 * np.mean([row.accuracy for row in rows]):.2f}",
        f"{np.mean(gains):+.2f}",
        ", ".join(f"{gain:+.2f}" for gain in gains),
        f"{100 * np.mean([row.lead.mean for row in rows]):+.2f}" if number else "",
        f"{np.mean([row.passes for row in rows]):.2f}",
        f"{np.mean([row.storage for row in rows]):.2f}",
    ]


if __name__ == "__main__":
    command(main)
