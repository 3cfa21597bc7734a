"""Which method keeps most of the confusion of a trained network inside its clusters?

Question: of a finished run's validation errors, what share falls inside clusters, for each method and S, how well is
the cluster chosen by the base's mass, and what gain is forecast? Half of the validation samples make the partitions
that look at confusion, the other half judges all.
"""

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
from scipy.stats import spearmanr

import record
from coterie.forecast import BaseAnswers, Outlook, forecast
from coterie.partition import METHODS, Wish, confusion_counts, make_partition
from coterie.partition.quality import agreement, confusion_kept, router_accuracy
from coterie.partition_study import read_labels

SIZES = (3, 6, 8, 9, 12, 20, 33)


def main(run: str) -> None:
    """Judge all methods on the head of a run."""
    data = read_labels(Path(run))
    if data.proba_NC is None or data.label_N is None:
        sys.exit(f"{run} has no validation logits")
    first_N = np.random.default_rng(0).permutation(len(data.label_N)) < len(data.label_N) // 2
    seen_CC = confusion_counts(data.proba_NC[first_N], data.label_N[first_N], soft=True)
    judge = replace(data, proba_NC=data.proba_NC[~first_N], label_N=data.label_N[~first_N])
    answers = BaseAnswers(np.log(judge.proba_NC), judge.label_N)
    lines = [
        "| method | S | confusion kept | by chance, same sizes | router | gain forecast | largest | ARI, spectral |",
        "|---|---|---|---|---|---|---|---|",
    ]
    kept_all, forecast_all = [], []
    for n_clusters in SIZES:
        paper = make_partition(Wish("spectral", n_clusters), data.vectors_CD)
        for method in (m for m in METHODS if m != "given"):
            partition = make_partition(Wish(method, n_clusters), data.vectors_CD, seen_CC)
            kept, chance = confusion_kept(judge.confusion_CC, partition) or (0.0, 0.0)
            routed = router_accuracy(judge.proba_NC, judge.label_N, partition)
            gain = forecast(answers, Outlook.of(answers, partition)).gain
            kept_all.append(kept)
            forecast_all.append(gain)
            rand, _ = agreement(partition, paper.cluster_of_class_C)
            lines.append(
                f"| {method} | {n_clusters} | {kept:.1%} | {chance:.1%} | {routed:.1%} | {gain:+.2%} "
                f"| {partition.size_S.max()} | {rand:.2f} |"
            )
    rank = spearmanr(kept_all, forecast_all).statistic
    errors = float((judge.proba_NC.argmax(axis=1) != judge.label_N).mean())
    record.write(
        __file__,
        f"{__doc__}\n{data.about} {len(judge.label_N):,} judging samples, base error {errors:.1%}.\n\n"
        + "\n".join(lines)
        + f"\n\nRank correlation of confusion kept with gain forecast, over methods and S: {rank:+.2f}. The "
        "correlation with the gain of trained ensembles needs trained runs for each, and is open.",
    )


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python benchmarks/partition_heads.py RUN")
    main(sys.argv[1])
