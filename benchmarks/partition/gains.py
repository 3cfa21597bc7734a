"""Does what validation says of a partition predict what its trained ensemble gains?

Question: over methods and numbers of clusters, how do confusion kept inside, router accuracy and the gain forecast, all
read off the base's validation logits before a specialist is trained, rank the real gain of the trained ensemble over
its base on test data?

Each pair of method and S gets specialists of its own, from a base that all share. CLINC150: small networks, three
bases, figures averaged over them. Glyphs, if asked for: convnet-16. Finished runs of coterie that are named beside are
listed. The gain is that of the paper's rule (`hard`) and of `compose`, each with the threshold that is best on
validation. Method confusion is judged on the samples that made its clusters, which flatters its kept share. Results are
kept in the folder WORK; started again, the script goes on.

Of a study (`coterie reproduce`) on CIFAR-100, finished runs are judged alone: gains_runs.md.
"""

import json
import sys
from collections import defaultdict
from collections.abc import Callable, Iterable
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
from scipy.special import softmax
from scipy.stats import rankdata, spearmanr
from torch import nn

from benchmarks.partition import clinc150 as clinc
from benchmarks.shared import both_outputs, command, markdown_table, plain, write_result
from coterie.errors import CoterieError
from coterie.partition import METHODS, Partition, PartitionRequest, confusion_counts, make_partition
from coterie.partition.quality import confusion_kept, router_accuracy
from coterie.pipeline.fit import fit
from coterie.routing.evaluation import Outputs, evaluate
from coterie.routing.forecast import BasePredictions, Outlook, forecast
from coterie.routing.tune import TuningRequest, tune
from coterie.run.folder import Run
from coterie.run.names import BASE_FILE
from coterie.run.values import partition_of
from coterie.vocabulary import CombinerName, PartitionMethod

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
COLUMNS = ("predictor", "pairs", "hard, all", "hard, without chance", "compose, all", "compose, without chance")
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
    def intents() -> clinc.Intents:
        return clinc.load_intents(folder)

    @cache
    def base(seed: int) -> nn.Sequential:
        return clinc.train_base(intents(), seed)

    def judge(seed: int, method: PartitionMethod, n_clusters: int) -> Row:
        proba_NC = softmax(clinc.logits(base(seed), intents().validation).astype(np.float64), axis=1)
        seen_CC = confusion_counts(proba_NC, intents().validation.label_N.numpy(), soft=True)
        partition = make_partition(PartitionRequest(method, n_clusters, seed=seed), clinc.vectors(base(seed)), seen_CC)
        return figures(*clinc.ensemble_outputs(intents(), base(seed), partition, seed), partition)

    kept = [(seed, work / f"clinc150-{seed}.json") for seed in CLINC_SEEDS]
    return [row for seed, file in kept for row in _each(file, CLINC_SIZES, partial(judge, seed))]


def glyph_rows(work: Path) -> list[Row]:
    """All pairs on glyphs, with runs of the pipeline that share their base."""
    first: list[Path] = []

    def judge(method: PartitionMethod, n_clusters: int) -> Row:
        settings = plain({**GLYPHS, "partition": {"method": method, "clusters": [n_clusters]}})
        out = work / "glyphs" / f"{method}-{n_clusters}"
        fit(settings, out, base_run=first[0] if first else None)
        return run_row(out)

    trained = [run for run in sorted((work / "glyphs").glob("*")) if (run / BASE_FILE).exists()]
    first += trained[:1] or [work / "glyphs" / f"{METHODS_TRIED[0]}-{GLYPH_SIZES[0]}"]
    if not trained:
        fit(plain({**GLYPHS, "partition": {"clusters": [GLYPH_SIZES[0]]}}), first[0])
    return _each(work / "glyphs.json", GLYPH_SIZES, judge)


def run_row(folder: Path) -> Row:
    """Of a finished run."""
    run = Run.open_complete(folder)
    return figures(*both_outputs(run), partition_of(run.manifest))


def _each(kept: Path, sizes: Iterable[int], judge: Callable[[PartitionMethod, int], Row]) -> list[Row]:
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


def correlations(title: str, rows: list[Row]) -> list[list[str]]:
    """A row for each predictor: with all pairs, and without the control by chance."""
    lines = []
    chosen = [row for row in rows if row["method"] != "random"]
    for name in PREDICTORS:
        cells = [
            correlation(np.array([row[name] for row in part]), np.array([row[gain] for row in part]))
            for gain in GAINS
            for part in (rows, chosen)
        ]
        lines.append([title, name, str(len(rows)), *cells])
    return lines


def table(rows: list[Row]) -> str:
    """All pairs of a data set."""
    titles = ("method", "S", "largest", "kept", "router", "forecast", "gain, hard", "gain, compose")
    cells = []
    for row in rows:
        shares = (f"{row['kept']:.1%}", f"{row['router']:.1%}", f"{row['forecast']:+.2%}")
        gains = (f"{row['hard']:+.2%}", f"{row['compose']:+.2%}")
        cells.append((row["method"], row["S"], f"{row['largest']:.0f}", *shares, *gains))
    return markdown_table(titles, cells)


def repeatability(rows: list[Row]) -> str:
    """How well the gains of one base rank those of another: no predictor can do much better than that."""
    by_seed = np.array(rows, dtype=object).reshape(len(CLINC_SEEDS), -1)
    values = {gain: [[row[gain] for row in part] for part in by_seed] for gain in GAINS}
    pairs = [(a, b) for a in range(len(CLINC_SEEDS)) for b in range(a)]
    return ", ".join(
        f"{gain} {np.mean([spearmanr(parts[a], parts[b]).statistic for a, b in pairs]):+.2f}"
        for gain, parts in values.items()
    )


def trained(work: Path, clinc150: Path, glyphs: bool = False, runs: tuple[Path, ...] = ()) -> None:
    """Train ensembles of many partitions, judge them, write gains.md.

    Args:
        work: folder of what is trained; started again, the script goes on.
        clinc150: folder with the parquet files of CLINC150.
        glyphs: train on the embedded data set too.
        runs: finished runs to list beside.
    """
    intents = clinc_rows(work, clinc150)
    sets = {"CLINC150": averaged(intents)}
    if glyphs:
        sets["glyphs"] = glyph_rows(work)
    ranked = list(sets)
    if runs:
        sets["runs"] = [
            {"method": run.name, "S": partition_of(Run.open(run).manifest).n_clusters, **run_row(run)} for run in runs
        ]
    lines = []
    for title in ranked:
        lines += correlations(title, sets[title])
    tables = [
        f"{title}: base {np.mean([row['base'] for row in rows]):.2%} on test.\n\n{table(rows)}"
        for title, rows in sets.items()
    ]
    write_result(
        __file__,
        f"{__doc__}\nSpearman's rank correlation of predictor and gain over methods and S, with 95 % intervals over "
        "pairs drawn with replacement; with all pairs, and without the random clusters.\n\n"
        + markdown_table(("data", *COLUMNS), lines)
        + "\n\nOn CLINC150 the gains of one base rank those of another by a correlation of "
        + f"{repeatability(intents)} (all pairs; mean over pairs of bases).\n\n"
        + "\n\n".join(tables),
    )


def of_study(folder: Path) -> list[Row]:
    """One row for each finished run with several clusters."""
    rows = []
    for manifest in sorted(folder.rglob("manifest.json")):
        try:
            run = Run.open_complete(manifest.parent)
            n_clusters = partition_of(run.manifest).n_clusters
        except CoterieError as error:  # a control that is no partition, or one that is unfinished
            print(f"left out: {error}", file=sys.stderr)
            continue
        if n_clusters > 1:
            name = run.path.name if "controls" in run.path.parts else "spectral"
            rows.append({"method": name, "S": n_clusters, **run_row(run.path)})
            print(run.path, rows[-1], flush=True)
    return rows


def study(folder: Path) -> None:
    """Judge the finished runs of a study, write gains_runs.md.

    Args:
        folder: of the study: three numbers of clusters, clusters of the confusion matrix, superclasses and random
            clusters, as far as each of its seeds has them.
    """
    rows = of_study(folder)
    about = (
        "Spearman's rank correlation of predictor and gain over all runs, with 95 % intervals over pairs drawn with "
        f"replacement. Base {np.mean([row['base'] for row in rows]):.2%} on test. The second table: means over the "
        "seeds that have a row."
    )
    ranks = markdown_table(("over", *COLUMNS), correlations("runs", rows))
    write_result(__file__, "\n\n".join([about, ranks, table(averaged(rows))]), "gains_runs")


if __name__ == "__main__":
    command(trained, study)
