"""Which method keeps most of the confusion of a trained network inside its clusters?

Question: of a trained base's errors, what share falls inside clusters, for each method and S, how well is the cluster
chosen by the base's mass, and what gain is forecast? Of a finished run, half of the validation samples make the
partitions that look at confusion, the other half judges all; of CLINC150 with the base of benchmarks/gains/clinc150.py,
the validation samples make them and the test samples judge.

    python benchmarks/partition/heads.py RUN|clinc150:FOLDER ...
"""

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import clinc150
import numpy as np
from scipy.special import softmax
from scipy.stats import spearmanr

import record
from coterie.partition import METHODS, PartitionRequest, confusion_counts, make_partition
from coterie.partition.quality import agreement, confusion_kept, router_accuracy
from coterie.studies.headroom.forecast import BasePredictions, Outlook, forecast
from coterie.studies.partition.labels import LabelData, read_labels

SIZES = (3, 6, 8, 9, 12, 20, 33)


def of_run(folder: Path) -> tuple[LabelData, Any]:
    """What judges, and the confusion that partitions may look at."""
    data = read_labels(folder)
    if data.proba_NC is None or data.label_N is None:
        sys.exit(f"{folder} has no validation logits")
    first_N = np.random.default_rng(0).permutation(len(data.label_N)) < len(data.label_N) // 2
    seen_CC = confusion_counts(data.proba_NC[first_N], data.label_N[first_N], soft=True)
    return replace(data, proba_NC=data.proba_NC[~first_N], label_N=data.label_N[~first_N]), seen_CC


def of_intents(folder: Path) -> tuple[LabelData, Any]:
    """The same of CLINC150."""
    data = clinc150.load_intents(folder)
    base = clinc150.train_base(data, 0)
    seen, judge = (
        (softmax(clinc150.logits(base, split).astype(np.float64), axis=1), split.label_N.numpy())
        for split in (data.validation, data.test)
    )
    about = f"{len(data.names)} intents of CLINC150, by head."
    vectors_CD = base[3].weight.detach().numpy()
    return LabelData(about, vectors_CD, data.names, None, *judge), confusion_counts(*seen, soft=True)


def judged(judge: LabelData, seen_CC: Any) -> str:
    """The table of a base."""
    assert judge.proba_NC is not None
    assert judge.label_N is not None
    answers = BasePredictions(np.log(judge.proba_NC), judge.label_N)
    lines = [
        "| method | S | confusion kept | by chance, same sizes | router | gain forecast | largest | ARI, spectral |",
        "|---|---|---|---|---|---|---|---|",
    ]
    kept_all, forecast_all = [], []
    for n_clusters in SIZES:
        paper = make_partition(PartitionRequest("spectral", n_clusters), judge.vectors_CD)
        for method in (m for m in METHODS if m != "given"):
            partition = make_partition(PartitionRequest(method, n_clusters), judge.vectors_CD, seen_CC)
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
    return (
        f"{judge.about} {len(judge.label_N):,} judging samples, base error {errors:.1%}.\n\n"
        + "\n".join(lines)
        + f"\n\nRank correlation of confusion kept with gain forecast, over methods and S: {rank:+.2f}."
    )


def main(sources: list[str]) -> None:
    """Judge all methods on the heads of all sources."""
    tables = []
    for source in sources:
        kind, _, folder = source.partition(":")
        tables.append(judged(*(of_intents(Path(folder)) if kind == "clinc150" else of_run(Path(source)))))
    record.write(
        __file__,
        f"{__doc__}\n" + "\n\n".join(tables) + "\n\nWhether these figures rank the gain of trained ensembles: "
        "[partition_gains](partition_gains.md).",
    )


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit("usage: python benchmarks/partition/heads.py RUN|clinc150:FOLDER ...")
    main(sys.argv[1:])
