"""What do specialists bring to a fine-tuned base by `coterie fit`: those that are trained, and a probe?

Question: over the seeds of second_opinions.py's bases, what does a probe of all classes gain on test, which is the
network as it was before, with a fitted head; and on texts, what do five specialists that are the base's last three
parts, trained by the defaults of fine-tuning? On images the base first gets a fitted head, as `fit` gives it one. The
rule is chosen for at most 1.5 passes. Training and passes are multiples of the base's; the last column is the lead of
the specialists in the true cluster over the base restricted to its classes.
"""

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from benchmarks.gains.fine_tuned import DATA, base_run
from benchmarks.shared import command, markdown_table, over_runs, write_result
from coterie.cli.terminal.progress import LineProgress
from coterie.config import FitSettings, merged
from coterie.config.recipes import RECIPE_GROUPS
from coterie.pipeline.fit import fit, fit_base
from coterie.pipeline.prepare import load_splits
from coterie.run.folder import Run
from coterie.run.manifest import MANIFEST
from coterie.studies.comparison.costs import CostModel

PASSES = {"passes": 1.5}
TEXT_WAYS: dict[str, Mapping[str, Any]] = {
    "probe": {"specialist": {"trainable": "probe"}, "partition": {"clusters": [1]}, "gate": PASSES},
    "last three parts": {"specialist": {"trainable": "last-3"}, "partition": {"clusters": [5]}, "gate": PASSES},
}
IMAGE_WAYS: dict[str, Mapping[str, Any]] = {"probe": {"recipe": "probe"}}
HEAD = ("base", "specialists", "base, %", "gain, points", "by seed", "training", "passes", "over the restricted base")


def main(shared: Path, runs: Path = Path("runs/second-opinions"), seeds: int = 3) -> None:
    """Train what is missing, and write the table.

    Args:
        shared: folder of hwu64, clinc150 and cifar100, each with its parquet files.
        runs: folder of the bases, and of the runs on them.
        seeds: of each base, from 0 on.
    """
    rows, heads = [], []
    for name, data in DATA.items():
        bases, ways = [base_run(data, shared, runs, seed) for seed in range(seeds)], TEXT_WAYS
        if "text" not in data.data:
            bases, ways = list(map(_with_fitted_head, bases)), IMAGE_WAYS
            heads += [_of_head(name, number, base) for number, base in enumerate(bases)]
        for way, more in ways.items():
            found = np.array([_fitted(base, way, more) for base in bases])
            rows.append(
                (
                    name,
                    way,
                    f"{found[:, 0].mean():.2f}",
                    over_runs(found[:, 1]),
                    ", ".join(f"{gain:+.2f}" for gain in found[:, 1]),
                    f"{found[:, 2].mean():.2f}",
                    f"{found[:, 3].mean():.2f}",
                    f"{found[:, 4].mean():+.2f}",
                )
            )
            print(rows[-1], flush=True)
    write_result(__file__, "\n".join([markdown_table(HEAD, rows), "", *heads]))


def _with_fitted_head(base: Run) -> Run:
    """A copy of a run with a base, whose head is fitted if that is better."""
    place = base.path.with_name(f"{base.path.name}-head")
    if not (place / MANIFEST).exists():
        # Without the answers of the trained head.
        shutil.copytree(base.path, place, ignore=shutil.ignore_patterns("logits", "*.lock*"))
    settings = base.settings.model_copy(update={"refit_head": True})
    fit_base(settings, place, splits=load_splits(settings, base), progress=LineProgress(Console()))
    return Run.open(place)


def _of_head(name: str, seed: int, base: Run) -> str:
    found = base.manifest.refit
    assert found is not None
    return f"- {name}, seed {seed}: the fitted head gains {100 * found.gain:+.2f} points on validation."


def _fitted(base: Run, way: str, more: Mapping[str, Any]) -> tuple[float, ...]:
    """Of the base top-1 in %; of the run the gain, training and passes, and the specialists' lead in true clusters."""
    place = base.path.with_name(f"{base.path.name}-{way.replace(' ', '-')}")
    stored = base.settings.given() if "recipe" in more else base.settings.to_values()
    if "recipe" in more:
        stored = {name: value for name, value in stored.items() if name not in RECIPE_GROUPS}
    splits, settings = load_splits(base.settings, base), FitSettings.from_values(merged(stored, more))
    fit(settings, place, splits=splits, base_run=base.path, progress=LineProgress(Console()))
    run = Run.open_complete(place)
    test = run.read_json("metrics.json")["test"]
    return (
        100 * test["base_top1"],
        100 * test["gain"],
        CostModel.of(run, splits).training,
        test["mean_passes"],
        100 * (test["oracle_specialist"] - test["oracle_restricted"]),
    )


if __name__ == "__main__":
    command(main)
