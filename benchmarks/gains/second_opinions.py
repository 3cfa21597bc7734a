"""What helps a base that was fine-tuned from pretrained weights, at little or no training?

Question: such a base knows its training samples by heart, so specialists that continue from it have little to learn.
Who says something else? Asked are the mirror image, nearest neighbours and a new head on the base's own features,
class offsets, a probe (logistic regression on the features of the network as it was before it was fine-tuned), and a
second base; and the probe in the place of specialists: asked for some samples only, with a head for all classes or a
head of each cluster. Each adds its probabilities to the base's, with a temperature and a weight that fit the validation
labels best; test labels are seen once. Runs that are finished bases on the same data with other seeds are each other's
second bases.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from scipy.special import softmax
from sklearn.linear_model import LogisticRegression

from benchmarks.gains.fine_tuned import DATA, base_run
from benchmarks.gains.fine_tuned_arrays import CLUSTERS, SPLITS, Pair, Scores, mixed
from benchmarks.shared import command, markdown_table, over_runs, write_result
from coterie.arrays import IntArray
from coterie.partition import Partition
from coterie.routing.calibration import temperature
from coterie.routing.evaluation import Outputs, Routing
from coterie.routing.gate import Budget
from coterie.routing.tune import TuningRequest, tune
from coterie.studies.comparison.untrained import class_offsets, neighbour_logits

PROBE_STRENGTHS = (0.1, 1.0, 10.0)  # inverse strengths of the penalty, as scikit-learn counts; chosen on validation


def probe(features: Scores, label: Mapping[str, IntArray], classes: IntArray | None = None) -> Scores:
    """Logits of logistic regression on features; only on some classes, where they are named."""
    mean_D, std_D = features["train"].mean(axis=0), features["train"].std(axis=0) + 1e-6
    scaled = {split: (features[split] - mean_D) / std_D for split in SPLITS}
    rows = {s: slice(None) if classes is None else np.flatnonzero(np.isin(label[s], classes)) for s in SPLITS}
    taken, known = ({s: array[s][rows[s]] for s in SPLITS} for array in (scaled, label))
    fitted = [
        LogisticRegression(C=strength / 100, max_iter=200).fit(taken["train"], known["train"])
        for strength in PROBE_STRENGTHS
    ]
    best = max(fitted, key=lambda one: one.score(taken["validation"], known["validation"]))
    return {split: best.decision_function(scaled[split]) for split in ("validation", "test")}


def neighbours(features: Scores, label: Mapping[str, IntArray], n_classes: int) -> Scores:
    """Logarithms of the shares of the nearest training samples, by cosine."""
    return {
        split: neighbour_logits(features["train"], label["train"], features[split], n_classes)
        for split in ("validation", "test")
    }


def offsets(pair: Pair) -> Scores:
    """The base's logits with a number for each class added, which brings its calibrated predictions into balance."""
    scale = temperature(pair.base["validation"], pair.label["validation"])
    offset_C = class_offsets(pair.base["validation"] / scale, pair.label["validation"])
    return {split: pair.base[split] + offset_C for split in ("validation", "test")}


def routed(pair: Pair, partition: Partition, packed: Scores, passes: float) -> tuple[Scores, float]:
    """Specialists of a pass each, asked by the best rule within a limit; the answers, and the passes that they take."""
    outputs = {s: Outputs(pair.base[s], packed[s].astype(np.float32), pair.label[s]) for s in ("validation", "test")}
    tuned = tune(outputs["validation"], partition, TuningRequest(budget=Budget(passes=passes)))
    routing = {split: Routing.of(outputs[split], partition, tuned.rule) for split in outputs}
    _, chosen = zip(*(routing[split].answers() for split in ("validation", "test")), strict=True)
    hot = {
        split: np.eye(pair.base[split].shape[1])[answer_N]
        for split, answer_N in zip(("validation", "test"), chosen, strict=True)
    }
    return hot, routing["test"].mean_passes()


def in_cluster(pair: Pair, partition: Partition, packed: Scores) -> tuple[int, int]:
    """In how many true clusters the specialist beats the base restricted to its classes, on test."""
    won = total = 0
    for cluster in range(partition.n_clusters):
        classes = partition.classes(cluster)
        rows = np.isin(pair.label["test"], classes)
        truth = pair.label["test"][rows]
        ours = (classes[packed["test"][rows][:, partition.columns(cluster)].argmax(axis=1)] == truth).mean()
        base = (classes[pair.base["test"][rows][:, classes].argmax(axis=1)] == truth).mean()
        won, total = won + int(ours > base), total + 1
    return won, total


def opinions(pair: Pair, second: Pair | None) -> dict[str, tuple[float, float, float]]:
    """Of each: top-1 on test, training and passes in the base's."""
    n_classes = pair.base["test"].shape[1]
    label, share = pair.label, pair.train_share
    before = probe(pair.before, label)
    found = {
        "the base": (pair.top1(pair.base), 1.0, 1.0),
        "class offsets": (pair.top1(offsets(pair)), 1.0, 1.0),
        "a new head on the base's features": (pair.top1(mixed(pair, [probe(pair.own, label)])), 1 + share, 1.0),
        "nearest neighbours in the base's features": (
            pair.top1(mixed(pair, [neighbours(pair.own, label, n_classes)])),
            1 + share,
            1.0,
        ),
        "the probe alone": (pair.top1(before), share, 1.0),
        "the probe": (pair.top1(mixed(pair, [before])), 1 + share, 2.0),
        "nearest neighbours in the probe's features": (
            pair.top1(mixed(pair, [neighbours(pair.before, label, n_classes)])),
            1 + share,
            2.0,
        ),
    }
    alone = Partition.from_members([list(range(n_classes))], n_classes)
    hot, passes = routed(pair, alone, before, 1.5)
    found["the probe, asked within 1.5 passes"] = (pair.top1(hot), 1 + share, passes)
    packed = {s: np.zeros((len(label[s]), len(pair.partition.packed_class_M))) for s in ("validation", "test")}
    for cluster in range(pair.partition.n_clusters):
        logits = probe(pair.before, label, pair.partition.classes(cluster))
        for split, array in packed.items():
            array[:, pair.partition.columns(cluster)] = logits[split]
    hot, passes = routed(pair, pair.partition, packed, 1.5)
    pair.won[:] = in_cluster(pair, pair.partition, packed)
    found[f"probes of {CLUSTERS} clusters, asked within 1.5 passes"] = (pair.top1(hot), 1 + share, passes)
    if pair.mirrored is not None:
        found["the mirror image"] = (pair.top1(mixed(pair, [pair.mirrored])), 1.0, 2.0)
        found["the mirror image and the probe"] = (pair.top1(mixed(pair, [pair.mirrored, before])), 1 + share, 3.0)
    if second is not None:
        mean = {s: np.log(softmax(pair.base[s], 1) + softmax(second.base[s], 1)) for s in ("validation", "test")}
        found["a second base"] = (pair.top1(mean), 2.0, 2.0)
        found["a second base and the probe"] = (
            pair.top1(mixed(pair, [{s: second.base[s] for s in mean}, before])),
            2 + share,
            3.0,
        )
    return found


def main(shared: Path, runs: Path = Path("runs/second-opinions"), seeds: int = 3) -> None:
    """Fine-tune the bases that are missing, judge, and write the table.

    Args:
        shared: folder of hwu64, clinc150 and cifar100, each with its parquet files.
        runs: folder of the bases, and of what they say.
        seeds: of each base, from 0 on.
    """
    lines = []
    for name, data in DATA.items():
        pairs = [Pair.of(base_run(data, shared, runs, seed), runs / "kept") for seed in range(seeds)]
        found = []
        for number, pair in enumerate(pairs):
            found.append(opinions(pair, pairs[(number + 1) % seeds] if seeds > 1 else None))
            print(name, {what: f"{top1:.2f}" for what, (top1, *_) in found[-1].items()}, flush=True)
        clusters = ", ".join(f"{pair.won[0]} of {pair.won[1]}" for pair in pairs)
        lines += [f"**{name}**, fine-tuned for {data.epochs} epochs, {seeds} seeds:", "", _table(found), ""]
        lines += [f"Probes of clusters beat the base restricted to the true cluster in {clusters} clusters.", ""]
    write_result(__file__, "\n".join(lines).rstrip())


def _table(found: Sequence[Mapping[str, tuple[float, float, float]]]) -> str:
    rows = []
    for what in found[0]:
        top1_S, training_S, passes_S = np.array([one[what] for one in found]).T
        gain_S = top1_S - [one["the base"][0] for one in found]
        each = ", ".join(f"{one:+.2f}" for one in gain_S)
        rows.append(
            (
                what,
                f"{top1_S.mean():.2f}",
                over_runs(gain_S),
                each,
                f"{training_S.mean():.2f}",
                f"{passes_S.mean():.2f}",
            )
        )
    return markdown_table(("what", "top-1, %", "gain, points", "by seed", "training", "passes"), rows)


if __name__ == "__main__":
    command(main)
