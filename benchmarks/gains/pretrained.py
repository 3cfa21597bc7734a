"""What do specialists bring on a base that was fine-tuned from pretrained weights?

Question: on photographs (CIFAR-100 at SIZE pixels, efficientnet-lite0) and on texts (CLINC150 with 20 texts a class,
MiniLM), fine-tuned by the defaults of `--init pretrained`: what do whole specialists, tails and adapters gain, against
an all-class copy, a second fine-tuned base and flips, at equal training and at equal passes? Each seed has a base, a
run for each way, and the controls of `coterie compare`. Runs and trainings that are there are read, and one that was
stopped goes on.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from benchmarks.gains.fine_tuned import subset
from benchmarks.shared import command, plain, write_result
from coterie.backbones.packages import LITE0, MINILM
from coterie.cli.terminal.progress import LineProgress
from coterie.measures.significance import Interval, over_seeds
from coterie.pipeline.fit import fit, fit_base
from coterie.pipeline.prepare import load_splits
from coterie.run.folder import Run
from coterie.studies.comparison.study import compare_run
from coterie.studies.comparison.tables import Comparison

TEXTS_PER_CLASS = 20
# Two partitions side by side, as gained most from scratch; whole specialists of both would cost twice the training.
PAIR = {"clusters": [9, 3], "together": True}
IMAGE_WAYS: dict[str, dict[str, Any]] = {
    "whole": {},
    "tails of blocks.5": {"specialist": {"trainable": "blocks.5"}, "partition": PAIR},
    "adapters of rank 8": {"specialist": {"trainable": "lora-8"}},
}
TEXT_WAYS: dict[str, dict[str, Any]] = {
    "whole": {},
    "the last three parts": {"specialist": {"trainable": "last-3"}, "partition": PAIR},
    "adapters of rank 8": {"specialist": {"trainable": "lora-8"}},
}


def images(cifar100: Path, runs: Path, seeds: int = 3, size: int = 96, epochs: int = 10, n_train: int = 0) -> None:
    """CIFAR-100, enlarged.

    Args:
        cifar100: folder with its parquet files.
        runs: folder of the runs.
        seeds: how many, from 0 on.
        size: side in pixels.
        epochs: of the base.
        n_train: training images, for a trial; 0: all.
    """
    source = subset(cifar100, runs / "data", "fine_label", n_train) if n_train else cifar100
    data = {"source": f"parquet:{source}", "label": "fine_label", "image_size": size, "split_seed": 0}
    _study("images", {"data": data, "backbone": LITE0, "base": {"epochs": epochs}}, IMAGE_WAYS, runs, seeds)


def texts(clinc150: Path, runs: Path, seeds: int = 3, epochs: int = 20, per_class: int = TEXTS_PER_CLASS) -> None:
    """CLINC150 with few texts a class.

    Args:
        clinc150: folder with its parquet files.
        runs: folder of the runs.
        seeds: how many, from 0 on.
        epochs: of the base.
        per_class: training texts of each class.
    """
    source = subset(clinc150, runs / "data", "intent", 150 * per_class)
    data = {"source": f"parquet:{source}", "text": "text", "label": "intent", "split_seed": 0}
    _study("texts", {"data": data, "backbone": MINILM, "base": {"epochs": epochs}}, TEXT_WAYS, runs, seeds)


def _study(name: str, values: dict[str, Any], ways: dict[str, dict[str, Any]], runs: Path, seeds: int) -> None:
    """Train what is missing, and write the table."""
    progress = LineProgress(Console())
    found: dict[str, list[Comparison]] = {way: [] for way in ways}
    seconds: list[float] = []
    for seed in range(seeds):
        base = runs / f"seed-{seed}" / "base"
        settings = plain({**values, "init": "pretrained", "seed": seed})
        base.parent.mkdir(parents=True, exist_ok=True)
        fit_base(settings, base, progress=progress)
        seconds.append(Run.open(base).manifest.seconds["base.safetensors"])
        splits = load_splits(settings, Run.open(base))
        for way, more in ways.items():
            place = base.with_name(way.replace(" ", "-"))
            ours = plain(
                {**settings.given(), **{key: {**settings.given().get(key, {}), **value} for key, value in more.items()}}
            )
            fit(ours, place, splits=splits, base_run=base, progress=progress)
            # The second base is the same for all ways: it is trained once.
            run = Run.open_complete(place)
            found[way].append(compare_run(run, splits, members=int(way == next(iter(ways))), progress=progress))
            # Training takes hours: what is known by now is written.
            known = {way: comparisons for way, comparisons in found.items() if comparisons}
            write_result(__file__, "\n".join(_lines(known, seconds)), f"pretrained_{name}")


def _lines(found: dict[str, list[Comparison]], seconds: list[float]) -> Iterable[str]:
    first = next(iter(found.values()))
    accuracies = ", ".join(f"{100 * comparison.rows[0].scores.top1:.2f}" for comparison in first)
    yield f"Bases, top-1 on test: {accuracies} %; trained in {', '.join(f'{s / 60:.0f}' for s in seconds)} minutes."
    yield ""
    yield "| specialists | contender | training | passes | top-1, % | gain, points |"
    yield "|---|---|---|---|---|---|"
    for way, comparisons in found.items():
        for row in comparisons[0].rows:
            same = [again for each in comparisons if (again := each.row(row.name, row.flips)) is not None]
            top1 = 100 * np.array([each.scores.top1 for each in same])
            base = 100 * np.array([each.rows[0].scores.top1 for each in comparisons[: len(same)]])
            title = row.name + (", flips" if row.flips else "")
            yield (
                f"| {way} | {title} | {row.cost.training:.2f} | {row.cost.inference:.2f} | {top1.mean():.2f} | "
                f"{_show(over_seeds(top1 - base)) if len(same) > 1 else f'{(top1 - base)[0]:+.2f}'} |"
            )


def _show(gain: Interval) -> str:
    return f"{gain.mean:+.2f} ({gain.low:+.2f} to {gain.high:+.2f})"


if __name__ == "__main__":
    command(images, texts)
