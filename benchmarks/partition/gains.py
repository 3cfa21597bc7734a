"""Does what validation says of a partition predict what its trained ensemble gains?

Question: over methods and numbers of clusters, how do confusion kept inside, router accuracy and the gain forecast, all
read off the base's validation logits before a specialist is trained, rank the real gain of the trained ensemble over
its base on test data?

Each pair of method and S gets specialists of its own, from a base that all share. CLINC150: small networks, three
bases, figures averaged over them. Glyphs, if asked for: convnet-16. Finished runs of coterie that are named beside are
listed. The gain is that of the paper's rule (`hard`) and of `compose`, each with the threshold that is best on
validation. Method confusion is judged on the samples that made its clusters, which flatters its kept share. Results are
kept in the folder WORK; started again, the script goes on.

    python benchmarks/partition/gains.py WORK CLINC150-FOLDER [glyphs] [RUN ...]
"""

from __future__ import annotations

import json
import sys
from collections import defaultdict
from collections.abc import Callable, Iterable
from functools import cache, partial
from pathlib import Path
from typing import Any

import clinc150
import numpy as np
from scipy.special import softmax
from scipy.stats import rankdata, spearmanr
from torch import nn

import record
from coterie.config import FitSettings
from coterie.partition import METHODS, Partition, PartitionRequest, confusion_counts, make_partition
from coterie.partition.quality import confusion_kept, router_accuracy
from coterie.pipeline.fit import fit
from coterie.routing.evaluation import Outputs, evaluate
from coterie.routing.tune import TuningRequest, tune
from coterie.run.folder import Run
from coterie.run.names import BASE_FILE
from coterie.run.reporting import read_outputs
from coterie.run.values import partition_of
from coterie.studies.headroom.forecast import BasePredictions, Outlook, forecast
from coterie.vocabulary import CombinerName

METHODS_TRIED = tuple(method for method in METHODS if method != "given")
CLINC_SIZES = (3, 8, 15, 30)
CLINC_SEEDS = (0, 1, 2)
GLYPH_SIZES = (4, 12)
GLYPHS = {
    "data": {"source": "glyphs", "train_per_class": 40},
    "backbone": "convnet-16",
    "base": {"epochs": 10, "learning_rate": 0.2},
    "specialist": {"epochs": 6, "learning_rate": 0.05},
    "hardware": {"threads": 1},
}
PREDICTORS = ("kept", "kept over chance", "router", "forecast")
GAINS: tuple[CombinerName, ...] = ("hard", "compose")
DRAWS = 4000
Row = dict[str, Any]


def figures(validation: Outputs, test: Outputs, partition: Partition) -> dict[str, float]:
    """Predictors from the base on validation, and gains on test."""
    proba_NC = softmax(validation.base_NC.astype(np.float64), axis=1)
    label_N = validation.label_N
    answers = BasePredictions(validation.base_NC, label_N)
    kept, chance = confusion_kept(confusion_counts(proba_NC, label_N), partition) or (0.0, 0.0)
    found = {
        "kept": kept,
        "kept over chance": kept - chance,
        "router": router_accuracy(proba_NC, label_N, partition),
        "forecast": forecast(answers, Outlook.of(answers, partition)).gain,
        "largest": int(partition.size_S.max()),
    }
    for combiner in GAINS:
        request = TuningRequest((combiner,), ("entropy",), (1,))
        report = evaluate(test, partition, tune(validation, partition, request).rule)
        found[combiner], found["base"] = report.gain, report.base_top1
    return found


def clinc_rows(work: Path, folder: Path) -> list[Row]:
    """All pairs on CLINC150, for each base."""

    @cache  # not made at all where every row is kept from before
    def intents() -> clinc150.Intents:
        return clinc150.load_intents(folder)

    @cache
    def base(seed: int) -> nn.Module:
        return clinc150.train_base(intents(), seed)

    def judge(seed: int, method: str, n_clusters: int) -> Row:
        proba_NC = softmax(clinc150.logits(base(seed), intents().validation).astype(np.float64), axis=1)
        seen_CC = confusion_counts(proba_NC, intents().validation.label_N.numpy(), soft=True)
        partition = make_partition(
            PartitionRequest(method, n_clusters, seed=seed), base(seed)[3].weight.detach().numpy(), seen_CC
        )
        return figures(*clinc150.ensemble_outputs(intents(), base(seed), partition, seed), partition)

    kept = [(seed, work / f"clinc150-{seed}.json") for seed in CLINC_SEEDS]
    return [row for seed, file in kept for row in _each(file, CLINC_SIZES, partial(judge, seed))]


def glyph_rows(work: Path) -> list[Row]:
    """All pairs on glyphs, with runs of the pipeline that share their base."""
    first: list[Path] = []

    def judge(method: str, n_clusters: int) -> Row:
        settings = FitSettings.from_values({**GLYPHS, "partition": {"method": method, "clusters": [n_clusters]}})
        out = work / "glyphs" / f"{method}-{n_clusters}"
        fit(settings, out, base_run=first[0] if first else None)
        return run_row(out)

    trained = [run for run in sorted((work / "glyphs").glob("*")) if (run / BASE_FILE).exists()]
    first += trained[:1] or [work / "glyphs" / f"{METHODS_TRIED[0]}-{GLYPH_SIZES[0]}"]
    if not trained:
        fit(FitSettings.from_values({**GLYPHS, "partition": {"clusters": [GLYPH_SIZES[0]]}}), first[0])
    return _each(work / "glyphs.json", GLYPH_SIZES, judge)


def run_row(folder: Path) -> Row:
    """Of a finished run."""
    run = Run.open(folder)
    return figures(read_outputs(run, "validation"), read_outputs(run, "test"), partition_of(run.manifest))


def _each(kept: Path, sizes: Iterable[int], judge: Callable[[str, int], Row]) -> list[Row]:
    """The rows of all pairs; those in the file are not made again."""
    kept.parent.mkdir(parents=True, exist_ok=True)
    rows: list[Row] = json.loads(kept.read_text()) if kept.exists() else []
    done = {(row["method"], row["S"]) for row in rows}
    for n_clusters in sizes:
        for method in METHODS_TRIED:
            if (method, n_clusters) not in done:
                rows.append({"method": method, "S": n_clusters, **judge(method, n_clusters)})
                kept.write_text(json.dumps(rows))
                print(kept.stem, rows[-1], flush=True)
    return rows


def averaged(rows: list[Row]) -> list[Row]:
    """One row for each method and S: the mean over bases."""
    groups = defaultdict(list)
    for row in rows:
        groups[row["method"], row["S"]].append(row)
    return [
        {"method": method, "S": size}
        | {name: float(np.mean([row[name] for row in group])) for name in group[0] if name not in ("method", "S")}
        for (method, size), group in groups.items()
    ]


def correlation(x: np.ndarray, y: np.ndarray) -> str:
    """Spearman's rank correlation with its 95 % interval, over pairs drawn with replacement."""
    drawn = np.random.default_rng(0).integers(len(x), size=(DRAWS, len(x)))
    ranks = [rankdata(values[drawn], axis=1) for values in (x, y)]
    left, right = (rank - rank.mean(axis=1, keepdims=True) for rank in ranks)
    correlation_R = (left * right).sum(axis=1) / np.sqrt((left**2).sum(axis=1) * (right**2).sum(axis=1))
    low, high = np.quantile(correlation_R, [0.025, 0.975])
    return f"{spearmanr(x, y).statistic:+.2f} ({low:+.2f} to {high:+.2f})"


def correlations(title: str, rows: list[Row]) -> list[str]:
    """A line for each predictor: with all pairs, and without the control by chance."""
    lines = []
    chosen = [row for row in rows if row["method"] != "random"]
    for name in PREDICTORS:
        cells = [
            correlation(np.array([row[name] for row in part]), np.array([row[gain] for row in part]))
            for gain in GAINS
            for part in (rows, chosen)
        ]
        lines.append(f"| {title} | {name} | {len(rows)} | " + " | ".join(cells) + " |")
    return lines


def table(rows: list[Row]) -> str:
    """All pairs of a data set."""
    lines = [
        "| method | S | largest | kept | router | forecast | gain, hard | gain, compose |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        shares = f"{row['kept']:.1%} | {row['router']:.1%} | {row['forecast']:+.2%}"
        gains = f"{row['hard']:+.2%} | {row['compose']:+.2%}"
        lines.append(f"| {row['method']} | {row['S']} | {row['largest']:.0f} | {shares} | {gains} |")
    return "\n".join(lines)


def repeatability(rows: list[Row]) -> str:
    """How well the gains of one base rank those of another: no predictor can do much better than that."""
    by_seed = np.array(rows, dtype=object).reshape(len(CLINC_SEEDS), -1)
    values = {gain: [[row[gain] for row in part] for part in by_seed] for gain in GAINS}
    pairs = [(a, b) for a in range(len(CLINC_SEEDS)) for b in range(a)]
    return ", ".join(
        f"{gain} {np.mean([spearmanr(parts[a], parts[b]).statistic for a, b in pairs]):+.2f}"
        for gain, parts in values.items()
    )


def main(work: Path, folder: Path, runs: list[Path]) -> None:
    """Train, judge, write."""
    clinc = clinc_rows(work, folder)
    sets = {"CLINC150": averaged(clinc)}
    if Path("glyphs") in runs:
        sets["glyphs"] = glyph_rows(work)
    trained = list(sets)
    runs = [run for run in runs if run != Path("glyphs")]
    if runs:
        sets["runs"] = [
            {"method": run.name, "S": partition_of(Run.open(run).manifest).n_clusters, **run_row(run)} for run in runs
        ]
    lines = [
        "| data | predictor | pairs | hard, all | hard, without chance | compose, all | compose, without chance |",
        "|---|---|---|---|---|---|---|",
    ]
    for title in trained:
        lines += correlations(title, sets[title])
    tables = [
        f"{title}: base {np.mean([row['base'] for row in rows]):.2%} on test.\n\n{table(rows)}"
        for title, rows in sets.items()
    ]
    record.write(
        __file__,
        f"{__doc__}\nSpearman's rank correlation of predictor and gain over methods and S, with 95 % intervals over "
        "pairs drawn with replacement; with all pairs, and without the random clusters.\n\n"
        + "\n".join(lines)
        + "\n\nOn CLINC150 the gains of one base rank those of another by a correlation of "
        + f"{repeatability(clinc)} (all pairs; mean over pairs of bases).\n\n"
        + "\n\n".join(tables),
    )


if __name__ == "__main__":
    if len(sys.argv) < 3:
        sys.exit("usage: python benchmarks/partition/gains.py WORK CLINC150-FOLDER [glyphs] [RUN ...]")
    main(Path(sys.argv[1]), Path(sys.argv[2]), [Path(run) for run in sys.argv[3:]])
