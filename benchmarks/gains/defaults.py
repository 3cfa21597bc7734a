"""What does `coterie fit` give on all of CIFAR-100 where no option says how?

Question: on a small network from scratch, trained for 25 epochs and for ten (asked: 2.7 points within 1.5 passes, half
of the base's training and 1.6 times its storage), and on efficientnet-lite0 with its pretrained weights, fine-tuned at
96 pixels for three epochs, what does the recipe that is found gain on test, at which cost, and what did its pilot
foretell? And what do tails gain on the fine-tuned base, in the budget that is the default? All specialists are trained,
whatever their pilot says. Training, passes and storage are multiples of the base's; the last column is the lead of the
specialists in the true cluster over the base restricted to its classes.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from benchmarks.shared import command, markdown_table, shown, write_result
from coterie.backbones.packages import LITE0
from coterie.cli.terminal.progress import LineProgress
from coterie.config import FitSettings, merged
from coterie.measures.significance import over_seeds
from coterie.pipeline.fit import fit, fit_base
from coterie.run.folder import FinishedRun, Run
from coterie.run.names import BASE_FILE
from coterie.run.reporting import read_reports
from coterie.run.values import weight_bytes

# Settings of the base; and beside them, of runs on it, of which the first has no others.
BASES: Mapping[str, tuple[dict[str, Any], Mapping[str, dict[str, Any]]]] = {
    "convnet-32": ({"backbone": "convnet-32"}, {"by itself": {}}),
    "convnet-32, ten epochs": ({"backbone": "convnet-32", "base": {"epochs": 10}}, {"by itself": {}}),
    "efficientnet-lite0, fine-tuned": (
        {"data": {"image_size": 96}, "backbone": LITE0, "init": "pretrained", "base": {"epochs": 3}},
        {"by itself": {}, "tails": {"recipe": "tails"}},
    ),
}
HEAD = (
    "base",
    "recipe",
    "base, %",
    "gain, points",
    "by seed",
    "forecast",
    "training",
    "passes",
    "storage",
    "over the restricted base",
)


def main(cifar100: Path, runs: Path = Path("runs/defaults"), seeds: int = 1, only: tuple[str, ...] = ()) -> None:
    """Train what is missing, and write a table for each base.

    Args:
        cifar100: folder with its parquet files.
        runs: folder of the runs.
        seeds: of each base, from 0 on.
        only: names of bases; default: all.
    """
    for name, (given, ways) in BASES.items():
        if only and name not in only:
            continue
        notes: list[str] = []
        found: dict[str, list[FinishedRun]] = {way: [] for way in ways}
        for seed in range(seeds):
            data = {"source": f"parquet:{cifar100}", "label": "fine_label"}
            values, place = merged({"data": data, "seed": seed}, given), runs / f"{_slug(name)}-{seed}"
            place.parent.mkdir(parents=True, exist_ok=True)
            fit_base(FitSettings.from_values(values), place, progress=LineProgress(Console()))
            notes += _about_base(name, seed, Run.open(place))
            for way, more in ways.items():
                there = place.with_name(f"{place.name}-{way.replace(' ', '-')}")
                found[way].append(_run(merged(values, more), there, place))
        rows = [_row(name, way, several) for way, several in found.items()]
        result = "\n".join([__doc__ or "", markdown_table(HEAD, rows), "", *notes])
        write_result(__file__, result, f"defaults_{_slug(name)}")


def _slug(name: str) -> str:
    return name.replace(",", "").replace(" ", "-")


def _run(values: Mapping[str, Any], place: Path, base_run: Path) -> FinishedRun:
    # No gain is too small to go on, and all are forecast.
    fit(FitSettings.from_values(dict(values)), place, base_run=base_run, gain=-100, progress=LineProgress(Console()))
    return Run.open_complete(place)


def _about_base(name: str, seed: int, run: Run) -> Iterator[str]:
    minutes = run.manifest.seconds[BASE_FILE] / 60
    yield f"- {name}, seed {seed}: the base took {minutes:.0f} minutes of one core."
    if (refit := run.manifest.refit) is not None:
        yield (
            f"- {name}, seed {seed}: the fitted head gains {100 * refit.gain:+.2f} points on validation (standard "
            f"error {100 * refit.error:.2f}), and is {'taken' if refit.taken else 'left'}."
        )


def _row(name: str, way: str, runs: list[FinishedRun]) -> tuple[str, ...]:
    reports = [read_reports(run)["test"] for run in runs]
    gain_R, first = np.array([100 * report.gain for report in reports]), reports[0]
    interval = (100 * first.gain_low, 100 * first.gain_high)
    if len(runs) > 1:
        over = over_seeds(gain_R)
        interval = (over.low, over.high)
    specialist, partition = runs[0].settings.specialist, runs[0].settings.partition
    clusters = " and ".join(map(str, partition.clusters))
    forecasts = [pilot for run in runs if (pilot := run.manifest.pilot) is not None]
    costs = np.array([_costs(run, report.mean_passes) for run, report in zip(runs, reports, strict=True)])
    leads = [100 * (report.oracle_specialist - report.oracle_restricted) for report in reports]
    return (
        name,
        f"{way}: {runs[0].settings.recipe}, {specialist.trainable} of {clusters}, epochs: {specialist.epochs}",
        f"{100 * np.mean([report.base_top1 for report in reports]):.2f}",
        shown(gain_R.mean(), *interval),
        ", ".join(f"{gain:+.2f}" for gain in gain_R),
        ", ".join(shown(100 * one.gain, 100 * one.low, 100 * one.high) for one in forecasts),
        *(f"{cost:.2f}" for cost in costs.mean(axis=0)),
        f"{np.mean(leads):+.2f}",
    )


def _costs(run: FinishedRun, passes: float) -> tuple[float, float, float]:
    """Training as seconds say, passes of a sample, and weights kept, all in those of the base."""
    seconds, files = run.manifest.seconds, run.manifest.files
    return sum(seconds.values()) / seconds[BASE_FILE], passes, weight_bytes(run.manifest) / files[BASE_FILE].bytes


if __name__ == "__main__":
    command(main)
