"""What led to an answer: as arrays, and sample by sample for people."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from coterie.arrays import BoolArray, FloatArray, IntArray
from coterie.labels import LabelSpace
from coterie.partition import Partition
from coterie.routing.rule import Rule

# Names of classes with their probabilities, the likeliest first.
Top = tuple[tuple[str, float], ...]
# Rows whose classes are put in order at once: their numbers take twice the memory of the probabilities.
ROWS = 1024


@dataclass(frozen=True, eq=False)
class Decision:
    """Probabilities of N samples, and what led to them.

    ``base_logits_NC``: of the network, before any temperature; ``score_N``: the gate's; ``routed_N``: whether the score
    reached the threshold; ``cluster_N``: the most likely cluster; ``asked_NS``: the clusters that
    were asked; ``packed_logits_NM``: the specialists' logits (see Partition), NaN where none was asked.
    """

    proba_NC: FloatArray
    base_logits_NC: FloatArray
    score_N: FloatArray
    routed_N: BoolArray
    cluster_N: IntArray
    asked_NS: BoolArray
    packed_logits_NM: FloatArray


@dataclass(frozen=True)
class SpecialistAnswer:
    """The answer of one specialist: its cluster, its weight beside the base, and its top classes with their
    probabilities within the cluster.
    """

    cluster: int
    weight: float
    top: Top


@dataclass(frozen=True)
class Explanation:
    """Why a sample got its class: the top classes of the base and of the specialists, with their probabilities.

    ``specialists``: those that were asked, of the most likely cluster first; none where the base was sure, or where the
    specialists of the likely clusters have no weight. ``score``: the gate's, named ``score_name``. ``threshold``: None
    routes nothing. ``cluster``: the most likely one, and its classes, none if these are all that there are.
    """

    predicted: str
    probability: float
    routed: bool
    score_name: str
    score: float
    threshold: float | None
    cluster: int
    cluster_classes: tuple[str, ...]
    base_top: Top
    specialists: tuple[SpecialistAnswer, ...]


def explain(decision: Decision, rule: Rule, partition: Partition, labels: LabelSpace, top: int) -> list[Explanation]:
    """One explanation per sample, with so many classes of base and specialists."""
    base_NC = _softmax(rule.base_logits(decision.base_logits_NC))
    best_N = decision.proba_NC.argmax(axis=1)
    members = [partition.classes(cluster).tolist() for cluster in range(partition.n_clusters)]
    cluster_classes = [labels.of(classes) if len(classes) < len(labels) else () for classes in members]
    threshold = rule.gate.threshold if np.isfinite(rule.gate.threshold) else None
    columns = zip(
        best_N.tolist(),
        np.take_along_axis(decision.proba_NC, best_N[:, None], axis=1)[:, 0].tolist(),
        decision.routed_N.tolist(),
        decision.score_N.tolist(),
        decision.cluster_N.tolist(),
        _likeliest(base_NC, np.arange(len(labels)), labels, top),
        _specialists(decision, base_NC, rule, partition, labels, top),
        strict=True,
    )
    return [
        Explanation(
            predicted=labels.names[best],
            probability=probability,
            routed=routed,
            score_name=rule.gate.score,
            score=score,
            threshold=threshold,
            cluster=cluster,
            cluster_classes=cluster_classes[cluster],
            base_top=base_top,
            specialists=specialists,
        )
        for best, probability, routed, score, cluster, base_top, specialists in columns
    ]


def _specialists(
    decision: Decision, base_NC: FloatArray, rule: Rule, partition: Partition, labels: LabelSpace, top: int
) -> list[tuple[SpecialistAnswer, ...]]:
    """Of each sample the answers of the specialists that were asked, of the likeliest cluster first."""
    # A cluster may be asked without a specialist: its other classes then get 0, and there is no answer to show.
    asked_NS = decision.asked_NS & rule.combiner.needs_specialist(partition)
    calibrated_NM = decision.packed_logits_NM / rule.temperatures.of_columns(partition)
    weight_S = rule.combiner.weights(partition).tolist()
    said: list[list[tuple[float, SpecialistAnswer]]] = [[] for _ in base_NC]
    for cluster in np.flatnonzero(asked_NS.any(axis=0)).tolist():
        classes, row_R = partition.classes(cluster), np.flatnonzero(asked_NS[:, cluster])
        mass_R = base_NC[np.ix_(row_R, classes)].sum(axis=1)
        tops = _likeliest(_softmax(calibrated_NM[row_R, partition.columns(cluster)]), classes, labels, top)
        for row, mass, likeliest in zip(row_R.tolist(), mass_R.tolist(), tops, strict=True):
            said[row].append((mass, SpecialistAnswer(cluster, weight_S[cluster], likeliest)))
    return [tuple(answer for _, answer in sorted(answers, key=lambda each: -each[0])) for answers in said]


def _likeliest(proba_NK: FloatArray, class_K: IntArray, labels: LabelSpace, top: int) -> list[Top]:
    """The names of each row's likeliest classes, of equals the first, with their probabilities."""
    found: list[Top] = []
    for start in range(0, len(proba_NK), ROWS):
        proba_RK = proba_NK[start : start + ROWS]
        order_RT = np.argsort(-proba_RK, axis=1, kind="stable")[:, :top]
        rows = zip(class_K[order_RT].tolist(), np.take_along_axis(proba_RK, order_RT, axis=1).tolist(), strict=True)
        found += (tuple(zip(labels.of(class_T), proba_T, strict=True)) for class_T, proba_T in rows)
    return found


def _softmax(logits: FloatArray) -> FloatArray:
    """Along the last axis. SciPy's takes longer to find out which library's array it has than to compute one sample."""
    raised: FloatArray = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return raised / raised.sum(axis=-1, keepdims=True)
