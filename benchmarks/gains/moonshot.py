"""Accuracy against training and against forward passes: cheap specialists of several partitions, deep ensembles, and
what else there is.

Question: can specialists give what a second base gives (a deep ensemble of two) for at most half of its extra
training? Several partitions lie side by side; each specialist is the last stage alone, on the base's trunk. The
bases, their whole specialists and the controls are those of a study (`coterie reproduce`) with so many seeds. Trained
in OUT, which resumes, are, for the first N_TAILS of them, tails of 9, 3 and 1 clusters, of which the last weights are
taken, and again with a running average of the weights, and tails of 9 and 3 clusters for as many epochs as half of
the base's training pays for; for the first N_SNAPSHOTS, snapshots; and for the first N_LONG a base of twice as many
epochs, with tails of as many epochs as before and of twice as many. Rules are chosen on validation. A second table
tells which of the three partitions bring the gain, from the same tails. The study's seeds count from FIRST; where
that is not 0, those of this file's first result, the tables lie in moonshot_fresh.md.
"""

from dataclasses import replace
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
from scipy.special import softmax

import coterie
from benchmarks.shared import (
    COPY_EPOCHS,
    FLIPS,
    PAIR,
    PAIR_EPOCHS,
    PAIR_TAILS,
    TWO_BASES,
    both_outputs,
    by_rule,
    command,
    routed,
    study_run,
    tail_settings,
    within,
    write_result,
)
from coterie.config import FitSettings
from coterie.data import load
from coterie.data.splits import Splits
from coterie.measures.metrics import score
from coterie.measures.significance import over_seeds
from coterie.partition import Partition
from coterie.progress import SILENT
from coterie.routing.evaluation import Outputs, evaluate
from coterie.routing.gate import Budget
from coterie.routing.tune import TuningRequest, tune
from coterie.run.folder import FinishedRun, Run
from coterie.run.reporting import read_outputs
from coterie.run.values import partition_of
from coterie.studies.comparison.contenders import outputs_of
from coterie.studies.comparison.controls import (
    ALL_CLASSES,
    WEIGHT_AVERAGE,
    add_flipped,
    controls_folder,
    train_weight_average,
)
from coterie.studies.comparison.costs import CostModel

DECAY = 0.99
THREE = (9, 3, 1)
LIMITS = (1.25, 1.5, 2.0, None)
AVERAGED = "whole specialists of 9 clusters, the mean of weights in the base's place, at most 2 passes"
TAILS_OF = "tails of 9, 3 and 1 clusters"
MEAN_TAILS_OF = f"{TAILS_OF}, averages of their weights"
LONGER = 2  # times the base's epochs
SNAPSHOTS = "mean of snapshots' probabilities"
LONG_BASE = "base trained twice as long"
LONG_TAILS = f"{LONG_BASE}, {TAILS_OF}"
LONGER_TAILS = f"{LONG_BASE}, {TAILS_OF} trained twice as long too"
LONG_ENSEMBLE = "deep ensemble of 2 bases trained twice as long"


class Seed:
    """One base, and what was trained from it."""

    tails: dict[str, tuple[FinishedRun, float]]  # runs on the base by their tails, and their training
    long: dict[str, tuple[FinishedRun, float]]  # the same on the long base
    snapshots: Run | None = None

    def __init__(self, study: Path, seed: int) -> None:
        self.seed = seed
        self.whole = study_run(study, seed)
        self.tails, self.long = {}, {}

    def train_tails(self, out: Path, splits: Splits) -> None:
        """From the base; read, where they are there."""
        asked = {
            TAILS_OF: ("seed", tail_settings(self.whole, THREE)),
            MEAN_TAILS_OF: ("averaged", tail_settings(self.whole, THREE, average_decay=DECAY)),
            PAIR_TAILS: ("pair", tail_settings(self.whole, PAIR, epochs=PAIR_EPOCHS)),
        }
        for title, (name, settings) in asked.items():
            run = self._fit(settings, out / f"{name}-{self.seed}", splits, self.whole.path)
            self.tails[title] = run, CostModel.of(run, splits).training
        add_flipped(self.tails[TAILS_OF][0], splits, SILENT)

    def train_snapshots(self, out: Path, splits: Splits) -> None:
        """The base trained on in cycles; the study's controls may be of before their probabilities were kept."""
        place = out / f"snapshots-{self.seed}"
        train_weight_average(self.whole, place, splits, SILENT)
        self.snapshots = Run.open(place)

    def train_long(self, out: Path, splits: Splits) -> None:
        """A base of more epochs, and its tails, of as many epochs as on the short one and of more."""
        settings = tail_settings(self.whole, THREE)
        settings = settings.model_copy(update={"base": _longer(settings.base)})
        longer = settings.model_copy(update={"specialist": _longer(settings.specialist)})
        place = out / f"long-{self.seed}"
        runs = {
            LONG_TAILS: self._fit(settings, place, splits),
            LONGER_TAILS: self._fit(longer, out / f"long-{self.seed}-longer-tails", splits, place),
        }
        self.long = {title: (run, LONGER * CostModel.of(run, splits).training) for title, run in runs.items()}

    def _fit(self, settings: FitSettings, place: Path, splits: Splits, base_run: Path | None = None) -> FinishedRun:
        coterie.fit(settings, place, splits=splits, base_run=base_run)
        return Run.open_complete(place)

    def base(self, flip: bool) -> np.ndarray:
        """Probabilities on test."""
        run = self.tails[TAILS_OF][0] if flip else self.whole
        return softmax(outputs_of(run, "test", flip).base_NC, axis=1)

    def control(self, name: str, key: str, split: str = "test") -> np.ndarray:
        """Logits of a control."""
        run = Run.open(controls_folder(self.whole.path) / name)
        return run.read_arrays(f"logits/{split}.safetensors")[key]

    def averaged(self, split: str) -> Outputs:
        """The mean of weights in the base's place, before whole specialists."""
        return replace(read_outputs(self.whole, split), base_NC=self.control(WEIGHT_AVERAGE, "logits", split))


def _longer(settings: Any) -> Any:
    return settings.model_copy(update={"epochs": LONGER * settings.epochs})


def rows_of(seeds: list[Seed], own: Seed, label_N: np.ndarray) -> dict[str, list[float]]:
    """Of one seed: accuracy, NLL, training, passes. The next seeds' bases are the others of a deep ensemble."""
    found: dict[str, list[float]] = {}

    def add(name: str, proba_NC: np.ndarray, training: float, passes: float) -> None:
        scores = score(proba_NC, label_N)
        found[name] = [100 * scores.top1, scores.nll, training, passes]

    def with_others(able: list[Seed]) -> list[Seed]:
        return able[able.index(own) :] + able[: able.index(own)]

    with_tails = [seed for seed in seeds if seed.tails]

    for flip, more in ((False, ""), (True, FLIPS)) if own.tails else ((False, ""),):
        views = 2 if flip else 1
        bases = [seed.base(flip) for seed in with_others(with_tails if flip else seeds)]
        add("base" + more, bases[0], 1, views)
        for size in (2, 4):
            if size <= len(bases):
                add(f"deep ensemble of {size}{more}", np.mean(bases[:size], axis=0), size, views * size)
    for title, (run, training) in own.tails.items():
        for limit in LIMITS:
            proba_NC, passes = routed(run.path, limit, False)
            add(f"{title}{within(limit)}", proba_NC, training, passes)
        pair = [routed(seed.tails[title][0].path, None, False) for seed in with_others(with_tails)[:2]]
        proba_NC, passes = np.mean([proba_NC for proba_NC, _ in pair], axis=0), sum(passes for _, passes in pair)
        add(f"{TWO_BASES} {title}", proba_NC, 2 * training, passes)
        if title == TAILS_OF:
            for limit in (2.0, None):
                proba_NC, passes = routed(run.path, limit, True)
                add(f"{title}{within(limit)}{FLIPS}", proba_NC, training, 2 * passes)
    for limit in (1.5, 2.0, None):
        proba_NC, passes = routed(own.whole.path, limit, False)
        add(f"whole specialists of 9 clusters{within(limit)}", proba_NC, COPY_EPOCHS, passes)
    if (controls_folder(own.whole.path) / WEIGHT_AVERAGE).exists():
        partition = partition_of(own.whole.manifest)
        rule = tune(own.averaged("validation"), partition, TuningRequest(budget=Budget(passes=2.0))).rule
        proba_NC, passes = by_rule(own.averaged("test"), partition, rule)
        add(AVERAGED, proba_NC, 2 * COPY_EPOCHS - 1, passes)
        add("mean of weights", softmax(own.control(WEIGHT_AVERAGE, "logits"), axis=1), COPY_EPOCHS, 1)
    if own.snapshots is not None:
        arrays = own.snapshots.read_arrays("logits/test.safetensors")
        n_snapshots = len(own.snapshots.read_json("history.json"))
        add(SNAPSHOTS, softmax(arrays["cycles"], axis=1), COPY_EPOCHS, n_snapshots)
    if own.long:
        longs = with_others([seed for seed in seeds if seed.long])
        bases = [softmax(read_outputs(seed.long[LONG_TAILS][0], "test").base_NC, axis=1) for seed in longs]
        add(LONG_BASE, bases[0], LONGER, 1)
        if len(bases) > 1:
            add(LONG_ENSEMBLE, np.mean(bases[:2], axis=0), 2 * LONGER, 2)
        for title, (run, training) in own.long.items():
            for limit in LIMITS:
                proba_NC, passes = routed(run.path, limit, False)
                add(f"{title}{within(limit)}", proba_NC, training, passes)
    copy = softmax(own.control(ALL_CLASSES, "packed_NM"), axis=1)
    add("base and all-class copy", (own.base(False) + copy) / 2, COPY_EPOCHS, 2)
    return found


def by_partitions(seeds: list[Seed]) -> list[str]:
    """A table: what some of the partitions of ``TAILS_OF`` give without the others, no limit."""
    lines = ["| partitions | gain, points | each seed |", "|---|---|---|"]
    for size in range(1, len(THREE) + 1):
        for some in combinations(range(len(THREE)), size):
            gains = [gain_of(seed.tails[TAILS_OF][0], some) for seed in seeds]
            each = ", ".join(f"{gain:+.2f}" for gain in gains)
            lines.append(f"| {', '.join(str(THREE[layer]) for layer in some)} | {np.mean(gains):+.2f} | {each} |")
    return lines


def gain_of(run: FinishedRun, layers: tuple[int, ...]) -> float:
    """Points over the base on test, where only some of a run's partitions have specialists."""
    partition = partition_of(run.manifest)
    clusters = [(layer, cluster) for layer in layers for cluster in partition.layers[layer]]
    members = [partition.classes(cluster).tolist() for _, cluster in clusters]
    fewer = Partition.from_members(members, partition.n_classes, tuple(layer for layer, _ in clusters))
    column_M = np.concatenate([np.r_[partition.columns(cluster)] for _, cluster in clusters])
    validation, test = (replace(outputs, packed_NM=outputs.packed_NM[:, column_M]) for outputs in both_outputs(run))
    report = evaluate(test, fewer, tune(validation, fewer, TuningRequest()).rule)
    return 100 * (report.ensemble_top1 - report.base_top1)


def draw(means: dict[str, np.ndarray], gains: dict[str, np.ndarray], file: Path) -> None:
    """Two curves: gain over the base against training, and against passes."""
    import matplotlib.pyplot as plt
    from matplotlib.lines import Line2D

    plt.rcParams["svg.hashsalt"] = "coterie"
    figure, axes = plt.subplots(1, 2, figsize=(11, 4.6), sharey=True, layout="constrained")
    kinds = {
        "tails": ("C1", "o"),
        TWO_BASES: ("C3", "D"),
        "whole": ("C0", "s"),
        "deep": ("C2", "^"),
        LONG_BASE: ("C4", "P"),
    }
    for axis, column, title in zip(axes, (2, 3), ("training, the base's = 1", "forward passes"), strict=True):
        for name, row in means.items():
            colour, marker = next((style for word, style in kinds.items() if name.startswith(word)), ("0.45", "v"))
            filled = "none" if name.endswith(FLIPS) else colour
            axis.plot(row[column], gains[name].mean(), marker, color=colour, markerfacecolor=filled, markersize=7)
        axis.set_xscale("log", base=2)
        axis.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
        axis.set_xlabel(title)
        axis.grid(alpha=0.3)
    axes[0].set_ylabel("points over the base, test")
    legend = {
        "tails of several partitions": "tails",
        "whole specialists": "whole",
        "deep ensemble": "deep",
        "two bases with tails": TWO_BASES,
        "base trained long, alone and with tails": LONG_BASE,
    }
    handles = [
        Line2D([], [], color=kinds[key][0], marker=kinds[key][1], linestyle="", label=label)
        for label, key in legend.items()
    ]
    handles.append(
        Line2D([], [], color="0.45", marker="v", linestyle="", label="base, copy, means of weights and of snapshots")
    )
    handles.append(Line2D([], [], color="0.2", marker="o", markerfacecolor="none", linestyle="", label="with flips"))
    axes[1].legend(handles=handles, fontsize=7, loc="center right")
    figure.savefig(file, metadata={"Date": None})


def main(study: Path, out: Path, n_seeds: int, n_tails: int, n_snapshots: int, n_long: int, first: int = 0) -> None:
    """The table, and the figure beside it.

    Args:
        study: folder of `coterie reproduce`.
        out: folder of what is trained.
        n_seeds: of the study.
        n_tails: how many of the seeds have tails.
        n_snapshots: how many have snapshots.
        n_long: how many have a base of twice as many epochs.
        first: the first seed.
    """
    seeds = [Seed(study, seed) for seed in range(first, first + n_seeds)]
    splits = load(seeds[0].whole.settings.data, 0)
    for seed in seeds[:n_tails]:
        seed.train_tails(out, splits)
    for seed in seeds[:n_snapshots]:
        seed.train_snapshots(out, splits)
    for seed in seeds[:n_long]:
        seed.train_long(out, splits)
    label_N = splits.test.labels_N.numpy()
    found = [rows_of(seeds, seed, label_N) for seed in seeds]
    gains = {name: np.array([rows[name][0] - rows["base"][0] for rows in found if name in rows]) for name in found[0]}
    means = {name: np.mean([rows[name] for rows in found if name in rows], axis=0) for name in found[0]}
    about = (
        f"{n_seeds} seeds from {first}, tails for the first {n_tails}, snapshots for the first {n_snapshots}, a base "
        f"trained long for the first {n_long}; means on test, gains with half of Student's 95 % interval over seeds. "
        "Training and passes in the base's, by operations; gains over the base, also where another was trained longer."
    )
    lines = [about, "", "| | training | passes | gain, points | each seed | NLL |", "|---|---|---|---|---|---|"]
    for name in sorted(gains, key=lambda name: gains[name].mean()):
        interval, (_, nll, training, passes) = over_seeds(gains[name]), means[name]
        each = ", ".join(f"{gain:+.2f}" for gain in gains[name])
        half = f" ±{interval.high - interval.mean:.2f}" if len(gains[name]) > 1 else ""
        lines.append(f"| {name} | {training:.2f} | {passes:.2f} | {interval.mean:+.2f}{half} | {each} | {nll:.3f} |")
    lines += ["", "Leads, in points, with Student's 95 % intervals over the seeds that have both:", ""]
    for ahead, behind in LEADS:
        if not {ahead, behind} <= gains.keys():
            continue
        n = min(len(gains[ahead]), len(gains[behind]))
        lead = over_seeds(gains[ahead][:n] - gains[behind][:n])
        spread = f" ({lead.low:+.2f} to {lead.high:+.2f}), {n} seeds" if n > 1 else ", 1 seed"
        lines.append(f"- {ahead} over {behind}: {lead.mean:+.2f}{spread}")
    lines += ["", "Of tails of 9, 3 and 1 clusters, those of some of the partitions, no limit, 8 epochs:", ""]
    lines += by_partitions(seeds[:n_tails])
    name = "moonshot_fresh" if first else "moonshot"
    draw(means, gains, Path(__file__).with_name(f"{name}.svg"))
    write_result(__file__, "\n".join([*lines, "", f"![Two curves]({name}.svg)"]), name)


LEADS = (
    ("whole specialists of 9 clusters, at most 1.5 passes", "base and all-class copy"),
    ("whole specialists of 9 clusters, at most 2 passes", "base and all-class copy"),
    ("whole specialists of 9 clusters, at most 2 passes", "mean of weights"),
    (f"{TAILS_OF}, at most 1.5 passes", "base and all-class copy"),
    (f"{PAIR_TAILS}, at most 1.5 passes", "base and all-class copy"),
    *((f"{title}{within(limit)}", "deep ensemble of 2") for title in (TAILS_OF, PAIR_TAILS) for limit in (2.0, None)),
    (MEAN_TAILS_OF, "deep ensemble of 2"),
    (PAIR_TAILS, TAILS_OF),
    (MEAN_TAILS_OF, TAILS_OF),
    (TAILS_OF + FLIPS, "deep ensemble of 2" + FLIPS),
    (f"{TWO_BASES} {TAILS_OF}", "deep ensemble of 4"),
    (f"{TWO_BASES} {PAIR_TAILS}", "deep ensemble of 4"),
    (f"{TAILS_OF}, at most 2 passes", SNAPSHOTS),
    *(
        (ahead, behind)
        for ahead in (LONG_TAILS, LONGER_TAILS, f"{LONGER_TAILS}, at most 2 passes")
        for behind in (LONG_BASE, LONG_ENSEMBLE, "deep ensemble of 2")
    ),
    (f"{TWO_BASES} {TAILS_OF}", LONGER_TAILS),
)


if __name__ == "__main__":
    command(main)
