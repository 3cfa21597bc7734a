"""Which label embedding is there for those who have logits and no head?

Question: of the test errors of a finished run, what share is inside clusters made of the head's rows, and what share
inside clusters made of its validation logits? Excess is the share kept beyond what random clusters of the same sizes
keep, as a part of what they leave; all figures are means over the numbers of clusters.
"""

import sys
from pathlib import Path

import numpy as np
from scipy.special import softmax
from sklearn.metrics import adjusted_rand_score

import record
from coterie.partition import PartitionRequest, confusion_counts, make_partition
from coterie.partition.embedding import LabelEmbedding
from coterie.partition.quality import confusion_kept
from coterie.run.folder import Run
from coterie.run.reporting import read_outputs
from coterie.studies.headroom.forecast import BasePredictions, Outlook, forecast
from coterie.studies.partition.labels import read_labels

SIZES = (3, 4, 6, 8, 9, 12, 16, 20, 30)
METHODS = ("spectral", "average", "balanced")


def main(place: str) -> None:
    """Group by validation logits, judge on test."""
    run = Run.open_complete(Path(place))
    validation, test = read_outputs(run, "validation"), read_outputs(run, "test")
    proba_NC = softmax(validation.base_NC.astype(np.float64), axis=1)
    n_classes = proba_NC.shape[1]
    root_NC = np.sqrt(proba_NC)
    head_CD = read_labels(Path(place)).vectors_CD
    embeddings = {
        "rows of the head": head_CD,
        "correlation of logits": LabelEmbedding.from_logits(validation.base_NC).vectors_CD,
        "correlation of roots of probabilities": (root_NC - root_NC.mean(axis=0)).T,
        "class means of logits (needs labels)": LabelEmbedding.from_class_means(
            validation.base_NC, validation.label_N, n_classes
        ).vectors_CD,
        "soft confusion (needs labels)": LabelEmbedding.from_confusion(proba_NC, validation.label_N).vectors_CD,
    }
    answers = BasePredictions(test.base_NC, test.label_N)
    counts_CC = confusion_counts(answers.proba_NC, answers.label_N)
    lines = ["| method | embedding | excess kept | largest | gain forecast | ARI, head |", "|---|---|---|---|---|---|"]
    for method in METHODS:
        by_head = {size: make_partition(PartitionRequest(method, size), head_CD) for size in SIZES}
        for title, vectors_CD in embeddings.items():
            made = {size: make_partition(PartitionRequest(method, size), vectors_CD) for size in SIZES}
            kept = [confusion_kept(counts_CC, partition) or (0.0, 0.0) for partition in made.values()]
            excess = np.mean([(share - chance) / (1 - chance) for share, chance in kept])
            largest = np.mean([partition.size_S.max() for partition in made.values()])
            gain = np.mean([forecast(answers, Outlook.of(answers, partition)).gain for partition in made.values()])
            same = np.mean(
                [adjusted_rand_score(by_head[s].cluster_of_class_C, made[s].cluster_of_class_C) for s in SIZES]
            )
            lines.append(f"| {method} | {title} | {excess:.1%} | {largest:.0f} | {100 * gain:+.2f} | {same:.2f} |")
    record.write(__file__, f"{__doc__}\nRun {run.path.name}, {n_classes} classes, S of {SIZES}.\n\n" + "\n".join(lines))


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python benchmarks/gains/headroom_embedding.py RUN")
    main(sys.argv[1])
