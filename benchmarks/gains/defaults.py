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

from benchmarks.gains.pairs import figures_of, in_points
from benchmarks.shared import command, keep, kept, markdown_table, measured_on, over_runs, write_result
from coterie.backbones.packages import LITE0
from coterie.cli.terminal.progress import LineProgress
from coterie.config import FitSettings, merged
from coterie.pipeline.fit import fit, fit_base
from coterie.run.folder import FinishedRun, Run
from coterie.run.names import BASE_FILE
from coterie.run.reporting import read_reports

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
    """Train what is missing, and write a table of all that was ever measured for each base.

    Args:
        cifar100: folder with its parquet files.
        runs: folder of the runs.
        seeds: of each base, from 0 on.
        only: names of bases; default: all.
    """
    for name, (given, ways) in BASES.items():
        if only and name not in only:
            continue
        file = Path(__file__).with_name(f"defaults_{_slug(name)}.jsonl")
        done = {(one["way"], one["seed"]) for one in kept(file)}
        for seed in range(seeds):
            if all((way, seed) in done for way in ways):
                continue
            data = {"source": f"parquet:{cifar100}", "label": "fine_label"}
            values, place = merged({"data": data, "seed": seed}, given), runs / f"{_slug(name)}-{seed}"
            place.parent.mkdir(parents=True, exist_ok=True)
            fit_base(FitSettings.from_values(values), place, progress=LineProgress(Console()))
            for way, more in ways.items():
                there = place.with_name(f"{place.name}-{way.replace(' ', '-')}")
                run = _run(merged(values, more), there, place)
                keep(file, {"way": way, "seed": seed, **_figures(run), **_of_base(Run.open(place))}, "way", "seed")
        records = kept(file)
        rows = [_row(name, way, [one for one in records if one["way"] == way]) for way in ways]
        notes = [note for one in records if one["way"] == next(iter(ways)) for note in _notes(name, one)]
        result = "\n".join([__doc__ or "", measured_on(records), "", markdown_table(HEAD, rows), "", *notes])
        write_result(__file__, result, file.stem)


def _slug(name: str) -> str:
    return name.replace(",", "").replace(" ", "-")


def _run(values: Mapping[str, Any], place: Path, base_run: Path) -> FinishedRun:
    # No gain is too small to go on, and all are forecast.
    fit(FitSettings.from_values(dict(values)), place, base_run=base_run, gain=-100, progress=LineProgress(Console()))
    return Run.open_complete(place)


def _figures(run: FinishedRun) -> dict[str, Any]:
    report, settings = read_reports(run)["test"], run.settings
    return {
        **figures_of(run),
        "trainable": settings.specialist.trainable,
        "clusters": list(settings.partition.clusters),
        "lead": report.oracle_specialist - report.oracle_restricted,
    }


def _of_base(run: Run) -> dict[str, Any]:
    refit = run.manifest.refit
    return {
        "minutes": run.manifest.seconds[BASE_FILE] / 60,
        "refit": None if refit is None else {"gain": refit.gain, "error": refit.error, "taken": refit.taken},
    }


def _notes(name: str, one: dict[str, Any]) -> Iterator[str]:
    yield f"- {name}, seed {one['seed']}: the base took {one['minutes']:.0f} minutes of one core."
    if (refit := one["refit"]) is not None:
        yield (
            f"- {name}, seed {one['seed']}: the fitted head gains {100 * refit['gain']:+.2f} points on validation "
            f"(standard error {100 * refit['error']:.2f}), and is {'taken' if refit['taken'] else 'left'}."
        )


def _row(name: str, way: str, seeds: list[dict[str, Any]]) -> tuple[str, ...]:
    first = seeds[0]
    gains = [100 * one["gain"] for one in seeds]
    clusters = " and ".join(map(str, first["clusters"]))

    def mean(figure: str) -> float:
        return float(np.mean([one[figure] for one in seeds]))

    return (
        name,
        f"{way}: {first['recipe_found']}, {first['trainable']} of {clusters}, epochs: {first['epochs']}",
        f"{100 * mean('base'):.2f}",
        in_points((first["gain"], first["low"], first["high"])) if len(seeds) == 1 else over_runs(gains),
        ", ".join(f"{gain:+.2f}" for gain in gains),
        ", ".join(in_points(one["forecast"]) for one in seeds if one["forecast"] is not None),
        *(f"{mean(cost):.2f}" for cost in ("training", "passes", "storage")),
        f"{100 * mean('lead'):+.2f}",
    )


if __name__ == "__main__":
    command(main)
