"""What an ensemble would gain with a partition, told from validation logits before a specialist is trained."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from coterie.combine import route
from coterie.gate import entropy
from coterie.partition import Partition

FloatArray = NDArray[np.floating[Any]]
IntArray = NDArray[np.integer[Any]]

# Share of the restricted base's errors that a specialist for a small part of the classes puts right. Nine specialists
# on CIFAR-100 won 0.056 of them (75.69 to 77.06 % in the true cluster, benchmarks/cifar100.md); less is promised than
# one run gave.
SPECIALIST_SKILL = 0.04


def gain_forecast(
    base_proba_NC: FloatArray, label_N: IntArray, partition: Partition, skill: float = SPECIALIST_SKILL
) -> float:
    """Forecast gain in accuracy of the paper's rule with its best threshold, as a share of 1.

    A routed sample whose cluster lacks its class is lost. In the right cluster it is won where the base restricted to
    the cluster's classes is right; else a specialist wins a share of them that grows as its task gets smaller than the
    base's: ``skill`` x (1 - classes in the cluster / C). One cluster of all classes so gains nothing, as the same
    training could be spent without a partition; nor do clusters of one class.

    Args:
        base_proba_NC: the base's probabilities on validation.
        label_N: true classes.
        partition: the clusters.
        skill: see ``SPECIALIST_SKILL``.
    """
    cluster_N = route(base_proba_NC, partition)
    right_N = (base_proba_NC.argmax(axis=1) == label_N).astype(np.float64)
    routed_N = np.zeros(len(label_N))
    for cluster in range(partition.n_clusters):
        rows = np.flatnonzero(cluster_N == cluster)
        classes = partition.classes(cluster)
        if not rows.size:
            continue
        answer = classes[base_proba_NC[np.ix_(rows, classes)].argmax(axis=1)]
        hope = skill * (1 - len(classes) / partition.n_classes) if len(classes) > 1 else 0.0
        held = np.isin(label_N[rows], classes)
        routed_N[rows] = np.where(answer == label_N[rows], 1.0, np.where(held, hope, 0.0))
    # The gate routes the most uncertain first: the best threshold is the best start of this order.
    order = np.argsort(-entropy(base_proba_NC), kind="stable")
    total = np.cumsum((routed_N - right_N)[order])
    return max(0.0, float(total.max())) / len(label_N)
