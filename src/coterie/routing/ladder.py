"""Where the gain of an ensemble comes from: a ladder of accuracies on the same samples. Arrays only."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from coterie.arrays import FloatArray
from coterie.partition import Partition
from coterie.routing.evaluation import Outputs, Routing
from coterie.routing.rule import Rule


@dataclass(frozen=True)
class Ladder:
    """Accuracies as shares of 1, each of all samples.

    ``base``: over all classes. ``routing``: the base's best class of the chosen cluster. ``restricted``: its best
    class of the true cluster, were it known. ``oracle_specialist``: the specialist of the true cluster. ``routed``: the
    ensemble with every sample routed. ``gated``: the ensemble with its gate. ``best_gate``: with a gate that always
    knows which of the two is right, an upper bound for gates.
    """

    base: float
    routing: float
    restricted: float
    oracle_specialist: float
    routed: float
    gated: float
    best_gate: float


def ladder_of(outputs: Outputs, partition: Partition, rule: Rule) -> Ladder:
    """The ladder of a rule on labelled samples."""
    routing, label_N = Routing.of(outputs, partition, rule), outputs.label_N
    base_N, routed_N = routing.right(label_N)
    true_N = partition.cluster_of_class_C[label_N]
    class_M = partition.packed_class_M
    return Ladder(
        base=float(base_N.mean()),
        routing=_right_within(outputs.base_NC[:, class_M], partition, routing.cluster_N, label_N),
        restricted=_right_within(outputs.base_NC[:, class_M], partition, true_N, label_N),
        oracle_specialist=_right_within(outputs.packed_NM, partition, true_N, label_N),
        routed=float(routed_N.mean()),
        gated=float(np.where(routing.routed_N, routed_N, base_N).mean()),
        best_gate=float((base_N | routed_N).mean()),
    )


def _right_within(packed_NM: FloatArray, partition: Partition, cluster_N: np.ndarray, label_N: np.ndarray) -> float:
    """Share of samples whose best class of a cluster, by packed scores, is the true one."""
    right = 0
    for cluster in range(partition.n_clusters):
        rows = np.flatnonzero(cluster_N == cluster)
        best = packed_NM[rows, partition.columns(cluster)].argmax(axis=1)
        right += int((partition.classes(cluster)[best] == label_N[rows]).sum())
    return right / len(label_N)
