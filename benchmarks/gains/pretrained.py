"""What do specialists bring on a base that was fine-tuned from pretrained weights?

Question: on photographs (CIFAR-100 at SIZE pixels, efficientnet-lite0) and on texts (CLINC150 with 20 texts a class,
MiniLM), fine-tuned by the defaults of `--init pretrained`: what do whole specialists, tails and adapters gain, against
an all-class copy, a second fine-tuned base and flips, at equal training and at equal passes? Each seed has a base, a
run for each way, and the controls of `coterie compare`; with several seeds, the second base is the next seed's. Runs
and trainings that are there are read, and one that was stopped goes on. What was measured of a seed is kept beside the
result, and is in the table also where its runs are gone.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from benchmarks.gains.fine_tuned import subset
from benchmarks.shared import command, keep, kept, markdown_table, measured_on, over_runs, plain, write_result
from coterie.backbones.packages import LITE0, MINILM
from coterie.cli.terminal.progress import LineProgress
from coterie.config import merged
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


def images(
    cifar100: Path,
    runs: Path,
    seeds: int = 3,
    size: int = 96,
    epochs: int = 6,
    n_train: int = 0,
    only: tuple[str, ...] = (),
    train: bool = True,
) -> None:
    """CIFAR-100, enlarged.

    Args:
        cifar100: folder with its parquet files.
        runs: folder of the runs.
        seeds: how many, from 0 on.
        size: side in pixels.
        epochs: of the base.
        n_train: training images, for a trial; 0: all.
        only: ways whose names hold one of these; default: all.
        train: train what is missing; else the table has what is there.
    """
    source = subset(cifar100, runs / "data", "fine_label", n_train) if n_train else cifar100
    data = {"source": f"parquet:{source}", "label": "fine_label", "image_size": size, "split_seed": 0}
    values = {"data": data, "backbone": LITE0, "base": {"epochs": epochs}}
    _study("images", values, _chosen(IMAGE_WAYS, only), runs, seeds, train)


def texts(
    clinc150: Path,
    runs: Path,
    seeds: int = 3,
    epochs: int = 10,
    per_class: int = TEXTS_PER_CLASS,
    only: tuple[str, ...] = (),
    train: bool = True,
) -> None:
    """CLINC150 with few texts a class.

    Args:
        clinc150: folder with its parquet files.
        runs: folder of the runs.
        seeds: how many, from 0 on.
        epochs: of the base.
        per_class: training texts of each class.
        only: ways whose names hold one of these; default: all.
        train: train what is missing; else the table has what is there.
    """
    source = subset(clinc150, runs / "data", "intent", 150 * per_class)
    data = {"source": f"parquet:{source}", "text": "text", "label": "intent", "split_seed": 0}
    values = {"data": data, "backbone": MINILM, "base": {"epochs": epochs}}
    _study("texts", values, _chosen(TEXT_WAYS, only), runs, seeds, train)


def _chosen(ways: dict[str, dict[str, Any]], only: tuple[str, ...]) -> dict[str, dict[str, Any]]:
    return {way: more for way, more in ways.items() if not only or any(word in way for word in only)}


def _study(
    name: str, values: dict[str, Any], ways: dict[str, dict[str, Any]], runs: Path, seeds: int, train: bool
) -> None:
    """Train what is missing, way by way, and write the table."""
    progress = LineProgress(Console())
    file = Path(__file__).with_name(f"pretrained_{name}.jsonl")
    settings_of = [plain({**values, "init": "pretrained", "seed": seed}) for seed in range(seeds)]
    bases = [runs / f"seed-{seed}" / "base" for seed in range(seeds)]
    for settings, base in zip(settings_of, bases, strict=True):
        base.parent.mkdir(parents=True, exist_ok=True)
        fit_base(settings, base, progress=progress)
    minutes = [Run.open(base).manifest.seconds["base.safetensors"] / 60 for base in bases]
    splits = load_splits(settings_of[0], Run.open(bases[0]))
    for way, more in ways.items():
        places = [base.with_name(way.replace(" ", "-")) for base in bases]
        for settings, base, place in zip(settings_of, bases, places, strict=True):
            fit(plain(merged(settings.given(), more)), place, splits=splits, base_run=base, progress=progress)
        finished = [Run.open_complete(place) for place in places]
        for seed, run in enumerate(finished):
            # The second base is the next seed's: all have the same splits. A single seed trains another.
            siblings = [] if seeds == 1 else [finished[(seed + 1) % seeds]]
            comparison = compare_run(
                run,
                splits,
                siblings=siblings,
                members=int(seeds == 1),
                train=train,
                allow_shared=True,  # CIFAR-100 has three images of validation in test, of 10,000
                progress=progress,
            )
            keep(file, _record(way, seed, minutes[seed], comparison), "way", "seed")
            # Training takes hours: what is known by now is written.
            write_result(__file__, "\n".join(_lines(kept(file))), file.stem)


# One seed of one way: of the base, its minutes, and of each contender its costs and its accuracy.
Record = dict[str, Any]


def _record(way: str, seed: int, minutes: float, comparison: Comparison) -> Record:
    rows = [
        {
            "name": row.name + (", flips" if row.flips else ""),
            "training": row.cost.training,
            "passes": row.cost.inference,
            "top1": row.scores.top1,
        }
        for row in comparison.rows
    ]
    return {"way": way, "seed": seed, "minutes": minutes, "rows": rows}


def _lines(records: list[Record]) -> Iterator[str]:
    by_seed = {record["seed"]: record for record in records}
    bases = [f"{100 * by_seed[seed]['rows'][0]['top1']:.2f}" for seed in sorted(by_seed)]
    minutes = [f"{by_seed[seed]['minutes']:.0f}" for seed in sorted(by_seed)]
    yield measured_on(records)
    yield ""
    yield f"Bases, top-1 on test: {', '.join(bases)} %; trained in {', '.join(minutes)} minutes."
    yield ""
    rows = []
    for way in dict.fromkeys(record["way"] for record in records):
        own = [{row["name"]: row for row in record["rows"]} for record in records if record["way"] == way]
        for title in dict.fromkeys(name for rows_of in own for name in rows_of):
            same = [(rows_of[title], rows_of["base"]) for rows_of in own if title in rows_of]
            gains = 100 * np.array([row["top1"] - base["top1"] for row, base in same])
            costs = [f"{np.mean([row[cost] for row, _ in same]):.2f}" for cost in ("training", "passes")]
            top1 = f"{100 * np.mean([row['top1'] for row, _ in same]):.2f}"
            rows.append([way, title, len(same), *costs, top1, over_runs(gains)])
    yield markdown_table(["specialists", "contender", "seeds", "training", "passes", "top-1, %", "gain, points"], rows)


if __name__ == "__main__":
    command(images, texts)
